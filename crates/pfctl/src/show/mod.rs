//! Printers of `-s` and `-T show`, in the formats of OpenBSD pfctl(8).
//!
//! Each takes reports and a writer and knows nothing of sockets or flags.

pub mod fingerprints;
pub mod info;
pub mod interfaces;
pub mod limiters;
pub mod lists;
pub mod names;
pub mod queues;
pub mod rules;
pub mod source_nodes;
pub mod states;
pub mod tables;
