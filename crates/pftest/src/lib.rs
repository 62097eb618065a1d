//! Scenario files: what a ruleset does to packets, told in packets and virtual seconds.
//!
//! A scenario (`*.pft`) loads rulesets, sends packets at moments of a virtual clock, and says what
//! must come out, which states exist and what was counted. [`Scenario::parse`] reads one, [`run`]
//! plays it against [`pfengine`] with a small router around it: no root, no network, no waiting.
//! The format is described in `docs/scenarios.md`.
//!
//! ```
//! let text = "\
//! config   block all
//! config   pass in proto tcp to port 80
//! in em0   tcp 198.51.100.1:4000 > 192.0.2.1:22 S   -> drop match
//! ";
//! let scenario = pftest::Scenario::parse("ssh.pft", text).unwrap();
//! pftest::run(&scenario, &pftest::NoFiles).unwrap();
//! ```
#![forbid(unsafe_code)]

mod check;
mod files;
pub mod packet;
mod run;
mod scenario;
mod script;
mod text;
mod world;

pub use files::{Files, NoFiles};
pub use run::{Failure, run};
pub use scenario::{Scenario, ScriptError};
pub use text::Fault;
