//! SYN cookies: what a cookie holds, with which keys, and when cookies are sent.

pub mod cookie;
mod flight;
pub mod keys;
pub mod layout;
pub mod mode;
mod ring;
pub mod servers;

pub use cookie::{Tuple, announced_mss};
pub use keys::Master;
pub use mode::{Baked, Content, Decoded, Syncookies};
