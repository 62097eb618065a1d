//! Statements that only the pf.conf of FreeBSD has, and where its rules differ.

mod af_to;
mod binat;
mod binat_to;
mod options;
mod order;
mod scrub;
mod translation;

pub(crate) use af_to::af_to;
pub(crate) use binat::binat;
pub(crate) use binat_to::check_binat_to;
pub(crate) use options::{complete_routing, complete_translation, option, route_hosts};
pub(crate) use order::{Order, Section};
pub(crate) use scrub::scrub;
pub(crate) use translation::{anchor, translation};
