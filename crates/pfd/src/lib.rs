//! The daemon: a router between TUN devices that asks the engine about every packet.
//!
//! This crate is the only place with devices, a clock, randomness and sockets. It moves octets and
//! knows nothing of rules.
#![deny(unsafe_code)]

pub mod compile;
pub mod config;
pub mod control;
pub mod daemon;
pub mod exit;
pub mod io;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod outlet;
pub mod pflog;
pub mod ports;
pub mod privdrop;
pub mod router;
pub mod run;
pub mod secret;
pub mod segment;
#[expect(unsafe_code, reason = "system calls that no safe crate offers")]
pub mod sys;
#[cfg(test)]
mod testing;
pub mod tun;
