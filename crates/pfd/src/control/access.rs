//! Who is at the other end of a connection, and what they may do.

use std::ffi::CString;
use std::io;
use std::os::unix::net::UnixStream;

use nix::unistd::{Gid, Uid, User, getgrouplist};

/// Who may change the firewall besides root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The daemon's own user; `None` when it shares that user with others (`nobody`).
    pub uid: Option<u32>,
    /// Group of the control socket.
    pub gid: u32,
}

/// The process that connected, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id.
    pub pid: u32,
}

impl Peer {
    /// Asks the kernel who connected.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = rustix::net::sockopt::socket_peercred(stream)?;
        Ok(Self {
            uid: credentials.uid.as_raw(),
            gid: credentials.gid.as_raw(),
            pid: credentials.pid.as_raw_nonzero().get().unsigned_abs(),
        })
    }
}

impl Access {
    /// Whether `peer` may change the firewall.
    #[must_use]
    pub fn may_change(self, peer: Peer) -> bool {
        peer.uid == 0
            || Some(peer.uid) == self.uid
            || peer.gid == self.gid
            || is_member(peer.uid, self.gid)
    }
}

/// Whether the user database puts `uid` into the group.
fn is_member(uid: u32, gid: u32) -> bool {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return false };
    let Ok(name) = CString::new(user.name) else { return false };
    getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&Gid::from_raw(gid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_owner_and_group_may_change() {
        let access = Access { uid: Some(4_000_001), gid: 4_000_002 };
        let peer = |uid, gid| Peer { uid, gid, pid: 1 };
        assert!(access.may_change(peer(0, 5)));
        assert!(access.may_change(peer(4_000_001, 5)));
        assert!(access.may_change(peer(4_000_003, 4_000_002)));
        assert!(!access.may_change(peer(4_000_003, 4_000_001)));
        let shared = Access { uid: None, ..access };
        assert!(!shared.may_change(peer(4_000_001, 5)));
    }
}
