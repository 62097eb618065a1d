//! What rules may ask of the machine around the engine.
//!
//! Routes and sockets belong to the embedder: it gives both as traits, once, and the engine asks
//! while it evaluates rules that need them.

use core::fmt::Debug;
use core::net::IpAddr;

use pfapi::units::IfIndex;

/// Where packets for an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Out by this interface.
    Interface(IfIndex),
    /// To this host itself.
    Here,
    /// Nowhere: there is no route.
    None,
}

/// The routing table, for `no-route` and `urpf-failed`.
pub trait Routes: Debug + Send + Sync {
    /// Where packets for `addr` go. Must not block.
    fn way_to(&self, addr: IpAddr) -> Way;

    /// Where packets from `addr` have to cross this host, as `urpf-failed` asks. As
    /// [`Self::way_to`], but an own address may be that of an interface: the route to it then
    /// carries this interface, as in OpenBSD. Must not block.
    fn way_back(&self, addr: IpAddr) -> Way {
        self.way_to(addr)
    }
}

/// Who owns a local socket, for `user` and `group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Sockets of this host, for `user` and `group`.
///
/// Without one, and for forwarded packets, owners are unknown: `user unknown` and
/// `user != unknown` are then the only conditions that say anything, as in pf.conf(5).
pub trait Sockets: Debug + Send + Sync {
    /// Owner of the socket that sends or gets packets of this protocol between the two ends;
    /// `None` when no socket does. Must not block.
    fn owner(&self, proto: u8, local: (IpAddr, u16), remote: (IpAddr, u16)) -> Option<Owner>;
}
