//! System calls that no safe crate offers: the only place in the daemon that may hold unsafe code.

pub mod netlink;
pub mod netns;
pub mod poll;
pub mod tundev;
pub mod uring;
