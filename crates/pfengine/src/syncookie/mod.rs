//! SYN cookies: what a cookie holds, with which keys, and for whom cookies are sent.

mod backlog;
mod baking;
pub mod cookie;
mod counters;
pub mod destination;
mod flight;
mod history;
pub mod keys;
pub mod layout;
mod meter;
pub mod mode;
pub mod ports;
mod replay;
mod ring;
pub mod servers;
mod sketch;
mod switch;
pub mod sync;
mod watch;

pub use backlog::Backlog;
pub use baking::Baking;
pub use cookie::{Tuple, announced_mss};
pub use destination::Destination;
pub use keys::Master;
pub use mode::{Asked, Baked, Content, Decoded, Syncookies};
pub use ports::{Advice, Allowance, Answer, PROBE_LIFE_S};
