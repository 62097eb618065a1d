//! What is done to a packet so that its receiver sees the same packet as the rules.

pub mod fragment;
pub mod scrub;
pub mod tcp_flags;
pub mod timestamps;
