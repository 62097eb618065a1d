//! What is done to a packet so that its receiver sees the same packet as the rules.

pub mod fragment;
pub mod tcp_flags;
