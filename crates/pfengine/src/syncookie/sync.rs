//! Atomics of what model checkers run, and the size of what they can run: they bring their own in the
//! place of this file (`tests/interleavings.rs`, `tests/memory_orders.rs`).

pub use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Bits of a place in a row of [`super::sketch::Sketch`].
pub const PLACE_BITS: u32 = 12;
