//! A stateful packet filter without I/O: packets, time and a seed in; verdicts and outputs out.
//!
//! [`Engine`] holds what all threads share; each thread has a [`Worker`]. The same inputs give
//! the same outputs, bit for bit, with one worker.
#![forbid(unsafe_code)]

mod addr;
mod engine;
mod environment;
pub mod fault;
mod filter;
mod harmonize;
mod interface_stats;
mod limiter;
mod nat;
mod normalize;
mod output;
mod overload;
mod packet;
mod packet_desc;
mod pflog;
mod purge;
pub mod queue;
mod quoted;
mod relay;
pub mod reply;
mod rewrite;
mod rng;
mod rules;
mod seq;
mod siphash;
mod source;
mod state;
mod stats;
mod syncookie;
mod table;
pub mod wire;
mod worker;

pub use engine::{Engine, EngineConfig, LoadError, Loader, TableError, TableName};
pub use environment::{Owner, Routes, Sockets, Way};
pub use limiter::LimiterError;
pub use normalize::fragment::cut::Refragment;
pub use output::{Event, Octets, Output, SmallPacket};
pub use packet::{
    Batch, Checksum, Gso, Marks, NextHop, Offload, Packet, PacketMeta, StateRef, Verdict,
};
pub use pflog::{LogRecord, PFLOG_HEADER};
pub use syncookie::Master as CookieSecret;
pub use worker::Worker;
