//! Connection to the daemon: one request, then responses until one is final.
//!
//! Sources: `pfapi::control` for the frames.
//!
//! # Security
//! The daemon is trusted with the firewall, not with pfctl's memory: a frame is never longer than
//! [`FRAME_MAX`], and whatever it holds ends in an error, not a panic.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use pfapi::control::{FRAME_MAX, Request, Response};

use crate::console::{os_text, printable};

/// How long a daemon that does not accept connections is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a daemon may be silent in the middle of an answer. A commit of a large ruleset is the
/// longest work between two frames.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// Why the daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("{}: {}", .path.display(), os_text(.source))]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The connection broke.
    #[error("connection to the daemon: {}", os_text(.0))]
    Transport(io::Error),
    /// The daemon closed the connection without a final answer.
    #[error("the daemon closed the connection before its answer was complete")]
    Closed,
    /// A frame that no daemon of this version sends.
    #[error("the daemon sent a frame of more than {FRAME_MAX} octets")]
    TooLong,
    /// A request that the daemon would refuse unread.
    #[error("the request has {0} octets, and the daemon takes {FRAME_MAX} at most")]
    RequestTooLong(usize),
    /// A frame that is no response.
    #[error("the daemon sent a frame that is no answer: {0}")]
    Garbage(String),
}

impl ClientError {
    /// What to try next, when there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Connect { source, .. } => match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    Some("no daemon listens there: start pfd, or name its socket with -p")
                }
                io::ErrorKind::PermissionDenied => {
                    Some("the socket belongs to another user: run pfctl as root")
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// An open connection.
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    /// [`ClientError::Connect`]
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let failed = |source| ClientError::Connect { path: path.to_owned(), source };
        let stream = connect_in_time(path).map_err(failed)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a request whose answer is one frame.
    ///
    /// # Errors
    /// A broken connection or a wrong frame. A refusal is an answer, not an error.
    pub fn call(&mut self, request: &Request) -> Result<Response, ClientError> {
        self.send(request)?;
        self.receive()
    }

    /// Sends a request whose answer is a list; `each` gets every part, and the final frame is
    /// returned. When `each` fails, the rest is not read.
    ///
    /// # Errors
    /// As [`Client::call`], or what `each` returns.
    pub fn list<E: From<ClientError>>(
        &mut self,
        request: &Request,
        mut each: impl FnMut(Response) -> Result<(), E>,
    ) -> Result<Response, E> {
        self.send(request)?;
        loop {
            let response = self.receive()?;
            if response.is_final() {
                return Ok(response);
            }
            each(response)?;
        }
    }

    fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let mut frame = serde_json::to_vec(request)
            .map_err(|error| ClientError::Transport(io::Error::other(error)))?;
        frame.push(b'\n');
        if frame.len() > FRAME_MAX {
            return Err(ClientError::RequestTooLong(frame.len()));
        }
        match self.stream.get_mut().write_all(&frame) {
            // The daemon may have refused already and closed: its words are then still to be read.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(ClientError::Transport(error))
            }
            _ => Ok(()),
        }
    }

    fn receive(&mut self) -> Result<Response, ClientError> {
        let mut frame = Vec::new();
        let bound = u64::try_from(FRAME_MAX).unwrap_or(u64::MAX);
        (&mut self.stream).take(bound).read_until(b'\n', &mut frame).map_err(
            |error| match error.kind() {
                io::ErrorKind::WouldBlock => ClientError::Transport(io::ErrorKind::TimedOut.into()),
                io::ErrorKind::ConnectionReset => ClientError::Closed,
                _ => ClientError::Transport(error),
            },
        )?;
        if frame.last() != Some(&b'\n') {
            let full = frame.len() >= FRAME_MAX;
            return Err(if full { ClientError::TooLong } else { ClientError::Closed });
        }
        serde_json::from_slice(&frame)
            .map_err(|error| ClientError::Garbage(printable(&error.to_string())))
    }
}

/// Connects, but gives up on a daemon whose queue of connections is full.
///
/// `std` has no timeout for Unix sockets, so a thread waits; it is left behind when it is late,
/// and pfctl ends soon after.
fn connect_in_time(path: &Path) -> io::Result<UnixStream> {
    let (sender, receiver) = mpsc::channel();
    let path = path.to_owned();
    std::thread::Builder::new().spawn(move || sender.send(UnixStream::connect(path)))?;
    receiver
        .recv_timeout(CONNECT_TIMEOUT)
        .unwrap_or_else(|_| Err(io::Error::from_raw_os_error(ETIMEDOUT)))
}

/// Number of the system error "Connection timed out" on Linux.
const ETIMEDOUT: i32 = 110;

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Client, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        (Client { stream: BufReader::new(here) }, there)
    }

    #[test]
    fn too_long_requests_are_not_sent() {
        let (mut client, there) = pair();
        let request = Request::TableShow { anchor: String::new(), table: "x".repeat(FRAME_MAX) };
        assert!(matches!(client.call(&request), Err(ClientError::RequestTooLong(_))));
        there.set_nonblocking(true).unwrap();
        assert!((&there).read(&mut [0]).is_err());
    }

    #[test]
    fn refusal_is_read_though_the_daemon_is_gone() {
        let (mut client, mut there) = pair();
        let refusal = r#"{"response":"failed","kind":"busy","message":"too many connections"}"#;
        writeln!(there, "{refusal}").unwrap();
        drop(there);
        assert!(matches!(client.call(&Request::Enable), Ok(Response::Failed { .. })));
    }
}
