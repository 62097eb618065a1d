//! Text of pf.conf into drafts.
#![deny(unsafe_code)]

pub mod io;
pub mod tun;
