//! Conformance of pfctl to reference data, which lies in a folder outside of the repository.
//!
//! A [`Case`] is one file of a suite with what pfctl must write for it. `suites` knows how each
//! suite is laid out and run, `run` calls pfctl in this process, `expected.txt` lists the cases
//! that are known to pass: a listed case that fails is a regression. Without the folder there is
//! nothing to compare, and everything says so and succeeds.
#![forbid(unsafe_code)]

mod case;
mod corpus;
mod diff;
mod env;
mod known;
mod run;
mod suites;

pub use case::{Case, Outcome};
pub use corpus::{corpus, repository};
pub use known::Known;
pub use suites::cases;
