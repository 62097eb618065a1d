//! States: what the filter remembers of a connection.

pub mod entry;
pub mod expire;
mod half_open;
pub mod icmp;
pub mod index;
pub mod key;
pub mod proxy;
pub mod splice;
pub mod store;
pub mod tcp;
