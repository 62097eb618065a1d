//! Load for end-to-end tests, the demo and the benches.
//!
//! The binaries are thin: `pf-flood` sends forged packets as fast as a device takes them,
//! `pf-client` is an honest web client that counts what it did not get, `pf-serve` is a web
//! server small enough never to be the bottleneck. [`lab`] builds the three-namespace network
//! in which `pfd` is tried, inside a process, mount and network namespace of its own, so that
//! nothing can be left behind.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "packet fields are cut out of random words, and rates are for people to read"
)]

pub mod client;
pub mod flood;
pub mod histogram;
pub mod info;
pub mod lab;
pub mod median;
pub mod netns;
pub mod packet;
pub mod serve;
pub mod sys;
pub mod tcp;
