//! FreeBSD's rules for Ethernet frames.

mod anchor;
mod read;
mod show;

pub(crate) use anchor::{EtherFrame, anchor, close};
pub(crate) use read::{dummynet, expand, spec};
pub(crate) use show::tree;
