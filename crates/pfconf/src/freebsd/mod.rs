//! Statements that only the pf.conf of FreeBSD has, and where its rules differ.

mod binat;
mod options;
mod order;
mod scrub;
mod translation;

pub(crate) use binat::binat;
pub(crate) use options::{complete_routing, option, route_hosts};
pub(crate) use order::{Order, Section};
pub(crate) use scrub::scrub;
pub(crate) use translation::{anchor, translation};
