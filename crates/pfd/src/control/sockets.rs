//! The two sockets in the file system: made at start, removed at the end.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::{fs, io::ErrorKind};

/// Permissions of the control socket: its owner and its group.
const MODE: u32 = 0o660;
/// Permissions of the socket that only answers questions. Connecting takes write permission, so that
/// this, too, is for the group.
const MODE_READ_ONLY: u32 = 0o664;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon answers there.
    #[error(
        "{}: already running: another pfd answers on this socket; stop it, or set `socket` to another path",
        .0.display()
    )]
    Running(PathBuf),
    /// Something else has the name.
    #[error("{}: the file exists and is no socket; remove it, or set `socket` to another path", .0.display())]
    NoSocket(PathBuf),
    /// The kernel refused.
    #[error("{}: cannot {step}: {source}{}", path.display(), permission_hint(.source))]
    Step {
        /// The socket or its folder.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A socket is still there after the end. Nothing is wrong when its folder is another user's,
    /// because the daemon has given up root's rights.
    #[error("{}: the socket stays behind: {}; the next start takes it over", path.display(), cause(.path, .source))]
    Left {
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl SocketError {
    /// Whether the daemon's user may not do it, so that it was to be expected.
    #[must_use]
    pub fn is_expected(&self) -> bool {
        matches!(self, Self::Left { source, .. } if source.kind() == ErrorKind::PermissionDenied)
    }
}

/// Why a socket could not be removed.
fn cause(path: &Path, error: &io::Error) -> String {
    match (error.kind(), path.parent()) {
        (ErrorKind::PermissionDenied, Some(folder)) => {
            format!("the user that pfd has become may not remove it from {}", folder.display())
        }
        _ => error.to_string(),
    }
}

fn permission_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => "; start pfd as root, it gives up its rights itself",
        _ => "",
    }
}

/// Whose the sockets and a folder made for them are; `None` leaves them to who starts the daemon.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ownership {
    /// Owner of the folder, who may remove the sockets.
    pub folder_uid: Option<u32>,
    /// Group of the sockets, who may connect.
    pub socket_gid: Option<u32>,
}

/// Both sockets, bound but not yet answered. Dropping removes them from the file system.
#[derive(Debug)]
pub struct Sockets {
    pub(super) control: UnixListener,
    pub(super) read_only: UnixListener,
    paths: [PathBuf; 2],
}

impl Sockets {
    /// Makes both sockets, and their folder when it is missing. The sockets of a dead daemon are
    /// taken over.
    ///
    /// # Errors
    /// [`SocketError`], with the way out in its text.
    ///
    /// # Security
    /// Between bind and the change of permissions only the process's umask keeps others out; the
    /// daemon sets it to 077 at its start.
    pub fn bind(control: &Path, read_only: &Path, owner: Ownership) -> Result<Self, SocketError> {
        make_folder(control, owner)?;
        let first = bind_one(control, MODE, owner)?;
        match bind_one(read_only, MODE_READ_ONLY, owner) {
            Ok(second) => Ok(Self {
                control: first,
                read_only: second,
                paths: [control.to_owned(), read_only.to_owned()],
            }),
            Err(error) => {
                // The first socket must not stay behind; that it cannot be removed changes nothing.
                let _ = fs::remove_file(control);
                Err(error)
            }
        }
    }

    /// Removes both from the file system.
    ///
    /// # Errors
    /// [`SocketError::Left`] for the first that could not be removed: the folder is another user's,
    /// say.
    pub fn remove(&self) -> Result<(), SocketError> {
        for path in &self.paths {
            match fs::remove_file(path) {
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    return Err(SocketError::Left { path: path.clone(), source });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        // Who wants to know calls `remove`; a socket left behind is taken over by the next start.
        let _ = self.remove();
    }
}

fn make_folder(socket: &Path, owner: Ownership) -> Result<(), SocketError> {
    let Some(folder) = socket.parent().filter(|folder| !folder.exists()) else { return Ok(()) };
    fs::create_dir_all(folder).map_err(step(folder, "make the folder"))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
        .map_err(step(folder, "set permissions"))?;
    if owner.folder_uid.is_some() {
        chown(folder, owner.folder_uid, None).map_err(step(folder, "change the owner"))?;
    }
    Ok(())
}

fn bind_one(path: &Path, mode: u32, owner: Ownership) -> Result<UnixListener, SocketError> {
    remove_stale(path)?;
    let listener = UnixListener::bind(path).map_err(step(path, "make the socket"))?;
    if owner.socket_gid.is_some() {
        chown(path, None, owner.socket_gid).map_err(step(path, "change the group"))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(step(path, "set permissions"))?;
    Ok(listener)
}

/// Removes a socket on which nobody answers.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(step(path, "look for a socket")(error)),
    };
    if !found.file_type().is_socket() {
        return Err(SocketError::NoSocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::Running(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(step(path, "remove the socket of a dead daemon"))
        }
        // A full backlog: somebody is there, and busy.
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err(SocketError::Running(path.to_owned()))
        }
        Err(error) => Err(step(path, "find out whether a daemon answers")(error)),
    }
}

fn step(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_owned();
    move |source| SocketError::Step { path, step, source }
}
