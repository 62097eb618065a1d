//! Translation of addresses and ports.
//!
//! `pool` and `port` choose, `rewrite` carries out. Which rules ask for it, and in which order, is
//! the business of the rule evaluation.

mod rewrite;

pub use rewrite::{Fields, Rewrite, low32, rewrite};
