//! The daemon: a router between TUN devices that asks the engine about every packet.
//!
//! This crate is the only place with devices, a clock, randomness and sockets. It moves octets and
//! knows nothing of rules.
#![deny(unsafe_code)]

pub mod config;
pub mod control;
pub mod io;
pub mod log;
pub mod ports;
pub mod router;
pub mod run;
#[cfg(test)]
mod testing;
pub mod tun;
