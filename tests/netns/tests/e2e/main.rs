//! End to end: `pfd` and `pfctl` as they are installed, real TUN devices, the kernel's TCP on both
//! sides, and real programs where Debian has them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod admin;
mod block;
mod cookies;
mod demo;
mod icmp;
mod limits;
mod log;
mod nat;
mod peers;
mod queues;
mod reload;
mod start;
mod transfer;
mod world;
