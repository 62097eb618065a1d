//! Giving up rights: after the start the daemon needs none of root's.
//!
//! Devices and sockets are open by then. What is left is the right to read the ruleset again at
//! SIGHUP, if its permissions let the new user do so.

use std::io;

use nix::unistd::{Gid, Uid, User, geteuid, setgroups, setresgid, setresuid};

/// Users in the order of preference when the configuration names none.
const USERS: [&str; 2] = ["_pfd", "nobody"];
/// User that other daemons share: it must not be trusted.
const SHARED: &str = "nobody";

/// Whose rights the daemon keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name in the user database.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
}

/// Why the user cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The configured user does not exist.
    #[error("user {0:?} does not exist; make it with `useradd --system {0}`, or remove the key")]
    Unknown(String),
    /// None of the usual users exists.
    #[error("neither user _pfd nor nobody exists; set `user` to one that does")]
    None,
    /// The user database cannot be read.
    #[error("user {name:?}: {source}")]
    Database {
        /// Who was looked for.
        name: String,
        /// Why not.
        source: io::Error,
    },
}

impl Identity {
    /// Whether other daemons may run as this user, so that it gets no rights over this one.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.name == SHARED
    }

    /// The user of children that compile rulesets while the daemon still is root.
    #[must_use]
    pub fn ids(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }
}

/// Whether the process has root's rights to give up.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Finds the user to become; `None` when the process is not root and stays who it is.
///
/// # Errors
/// [`UserError`].
pub fn choose(configured: Option<&str>) -> Result<Option<Identity>, UserError> {
    if !is_root() {
        return Ok(None);
    }
    if let Some(name) = configured {
        return find(name)?.map(Some).ok_or_else(|| UserError::Unknown(name.to_owned()));
    }
    for name in USERS {
        if let Some(identity) = find(name)? {
            return Ok(Some(identity));
        }
    }
    Err(UserError::None)
}

fn find(name: &str) -> Result<Option<Identity>, UserError> {
    let user = User::from_name(name)
        .map_err(|error| UserError::Database { name: name.to_owned(), source: error.into() })?;
    Ok(user.map(|user| Identity {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
    }))
}

/// Becomes `identity` for good: groups, group and user of the whole process, and no program that
/// it runs gets more rights than it has. Capabilities go with the user id.
///
/// To be called while the process has one thread: the last step holds for it and its descendants.
///
/// # Errors
/// What the kernel says. The process may have lost part of its rights then and should end.
pub fn become_user(identity: &Identity) -> io::Result<()> {
    if identity.uid != 0 {
        let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
        setgroups(&[gid])?;
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
        if setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
            return Err(io::Error::other("root's rights came back"));
        }
    }
    no_new_rights()
}

/// No program that the process runs gets more rights than it has.
///
/// # Errors
/// What the kernel says.
pub fn no_new_rights() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_user_is_named() {
        if !is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let error = choose(Some("no-such-user-here")).unwrap_err();
        assert!(error.to_string().starts_with("user \"no-such-user-here\" does not exist; make"));
    }

    #[test]
    fn root_becomes_somebody() {
        if !is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let identity = choose(None).unwrap().unwrap();
        assert_ne!(identity.uid, 0);
        assert_eq!(identity.is_shared(), identity.name == "nobody");
    }
}
