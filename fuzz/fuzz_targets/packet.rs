//! A session: a ruleset, then packets, cookies that come back, and time.
//!
//! The session and its checks are those of the property tests, so an input that fails here is
//! replayed by `cargo test` once it lies in `crates/pfengine/tests/regressions`.
#![no_main]

#[path = "../../crates/pfengine/tests/common/mod.rs"]
mod common;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some((setup, ops)) = common::session::decode(input) {
        common::session::run(setup, &ops);
    }
});
