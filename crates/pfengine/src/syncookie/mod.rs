//! SYN cookies: what a cookie holds, and when cookies are sent.

pub mod cookie;
mod keys;
pub mod mode;

pub use cookie::{Tuple, announced_mss};
pub use mode::{Decoded, Syncookies};
