//! Text of pf.conf into drafts.
#![deny(unsafe_code)]

pub mod io;
pub mod segment;
#[expect(unsafe_code, reason = "system calls that no safe crate offers")]
pub mod sys;
pub mod tun;
