//! Atomics of what a model checker runs: it brings its own in the place of this file
//! (`tests/model`).

pub use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
