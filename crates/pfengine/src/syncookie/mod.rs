//! SYN cookies: what a cookie holds, with which keys, and when cookies are sent.

pub mod cookie;
mod flight;
pub mod keys;
pub mod mode;
mod ring;

pub use cookie::{Tuple, announced_mss};
pub use keys::Master;
pub use mode::{Decoded, Syncookies};
