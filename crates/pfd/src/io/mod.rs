//! Packet I/O of one engine thread over all its devices.

mod device;
mod event_loop;
mod exchange;
mod pool;
mod stats;
mod vnet;
mod waker;

pub use event_loop::{IoLoop, IoMethod, IoOptions};
pub use stats::{DeviceCounters, DeviceStats};
pub use waker::Waker;
