//! The program as its users run it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;
mod daemon;
mod docs;
mod env;
mod filters;
mod fmt;
mod formats;
mod program;
mod tables;
