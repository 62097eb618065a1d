//! Network namespaces: finding one, and doing something inside it.
//!
//! A namespace is a property of a thread. The work is done on a helper thread that enters the
//! namespace and ends there, so the caller's threads never leave theirs.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where the namespace lies: an absolute path as it is, a name below /run/netns.
#[must_use]
pub fn path_of(netns: &str) -> PathBuf {
    // Joining an absolute path replaces the folder.
    PathBuf::from("/run/netns").join(netns)
}

/// Runs `work` on a thread inside `namespace`, or in the caller's own namespace for `None`.
///
/// # Errors
/// `EINVAL` when the file is no network namespace, `EPERM` when it may not be entered.
pub fn inside<T: Send>(namespace: Option<&File>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let Some(namespace) = namespace else {
        return Ok(work());
    };
    thread::scope(|scope| {
        let helper = thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        })?;
        match helper.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
