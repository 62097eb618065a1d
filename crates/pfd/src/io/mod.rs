//! Packet I/O of one engine thread over all its devices.

mod event_loop;
mod stats;
mod waker;

pub use event_loop::{IoLoop, IoMethod, IoOptions};
pub use stats::{DeviceCounters, DeviceStats};
pub use waker::Waker;
