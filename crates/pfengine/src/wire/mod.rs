//! Octets of packets: where headers lie, checksums, TCP options, and packets that the filter makes.
//!
//! Nothing here knows states or rules, allocates, or panics on any input octets.

pub mod build;
pub mod bytes;
pub mod checksum;
pub mod ip;
pub mod tcp_options;
