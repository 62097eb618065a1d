//! The ruleset optimizer: fewer rules, and an order in which evaluation can skip more of them.
//!
//! Rules next to each other of which only the conditions differ form a superblock: whichever of
//! them matches, the same happens, so within one they may go, be combined and change places.
//! Each file below is one step, in the order in which they run. The result equals that of pfctl,
//! also where that is not the best one. Source: pf.conf(5) "set ruleset-optimization"; OpenBSD
//! sbin/pfctl/pfctl_optimize.c (revision 1.50), FreeBSD 12.1 sbin/pfctl/pfctl_optimize.c.

mod address;
mod class;
mod combine;
mod covered;
mod hash;
mod key;
mod profile;
mod reorder;
mod run;
mod superblock;
#[cfg(test)]
mod tests;

pub use profile::Counted;
pub(crate) use run::Optimizer;
pub use run::{Level, Optimization};
