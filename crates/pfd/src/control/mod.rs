//! The control socket: pfctl asks, the daemon answers.
//!
//! Life-cycle: [`Sockets::bind`] before the daemon gives up its rights, [`Control::start`] when the
//! ruleset is in, [`Control::stop`] at the end.
//! Invariants: a frame is bounded before it is stored; every connection has a thread of its own and
//! a deadline for every frame in both directions, so that none holds up another or the packet path;
//! who asks is known from the socket, not from what it says.
//! Sources: pfapi `control`; OpenBSD sys/net/pf_ioctl.c (DIOCX*).

mod access;
mod frame;
mod keep;
mod load;
mod server;
mod session;
mod sockets;

pub use access::Access;
pub use load::DraftBuilder;
pub use server::Control;
pub use session::Service;
pub use sockets::{Ownership, SocketError, Sockets};

#[cfg(test)]
mod tests;
