//! A stateful packet filter without I/O: packets, time and a seed in; verdicts and outputs out.
//!
//! [`Engine`] holds what all threads share; each thread has a [`Worker`]. The same inputs give
//! the same outputs, bit for bit, with one worker.
#![forbid(unsafe_code)]

mod engine;
mod packet;
pub mod reply;
pub mod wire;

pub use engine::{
    Engine, EngineConfig, LoadError, Loader, Output, SmallPacket, TableError, Worker,
};
pub use packet::{Batch, Checksum, Gso, Offload, Packet, PacketMeta, StateRef, Verdict};
