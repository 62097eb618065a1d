//! SYN cookies: what a cookie holds, and when cookies are sent.

pub mod cookie;
mod keys;
pub mod mode;

pub use cookie::{Code, Parity, Tuple, WscaleCoding, announced_mss};
pub use mode::{Decoded, Events, Status, Syncookies};
