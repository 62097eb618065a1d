//! Threads that answer: one per socket that accepts, one per connection.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use pfapi::control::{FRAME_MAX, FailureKind, Response};

use super::access::Peer;
use super::frame::{Frame, FrameReader, write_all};
use super::session::{Asker, Service, failed};
use super::sockets::{SocketError, Sockets};
use crate::log;

/// Connections per socket at most. With two sockets 32 in all, and those who may only ask cannot
/// keep those out who may change.
pub const CONNECTIONS_MAX: usize = 16;
/// Longest frame on the socket that only answers questions, in octets: none of its requests is
/// long, and its clients are trusted less.
pub const FRAME_MAX_READ_ONLY: usize = 64 * 1024;
/// Time for a client to send its next frame, waiting included.
const READ_PATIENCE: Duration = Duration::from_mins(1);
/// Time for a client to take one frame.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// The control sockets at work.
#[derive(Debug)]
pub struct Control {
    sockets: Arc<Sockets>,
    stop: Arc<AtomicBool>,
    acceptors: Vec<thread::JoinHandle<()>>,
}

/// What the threads of one socket share.
struct Door {
    service: Arc<Service>,
    read_only: bool,
    open: AtomicUsize,
    numbers: Arc<AtomicU64>,
}

impl Control {
    /// Begins to answer.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(sockets: Sockets, service: Service) -> io::Result<Self> {
        let sockets = Arc::new(sockets);
        let service = Arc::new(service);
        let stop = Arc::new(AtomicBool::new(false));
        let numbers = Arc::new(AtomicU64::new(0));
        let mut acceptors = Vec::new();
        for read_only in [false, true] {
            let door = Arc::new(Door {
                service: Arc::clone(&service),
                read_only,
                open: AtomicUsize::new(0),
                numbers: Arc::clone(&numbers),
            });
            let (sockets, stop) = (Arc::clone(&sockets), Arc::clone(&stop));
            let name = if read_only { "control-ro" } else { "control" };
            acceptors.push(thread::Builder::new().name(name.to_owned()).spawn(move || {
                let listener = if read_only { &sockets.read_only } else { &sockets.control };
                accept(listener, &door, &stop);
            })?);
        }
        Ok(Self { sockets, stop, acceptors })
    }

    /// Removes the sockets and accepts nobody any more; connections end with the process.
    ///
    /// # Errors
    /// When a socket could not be removed.
    pub fn stop(self) -> Result<(), SocketError> {
        self.stop.store(true, Ordering::Relaxed);
        let removed = self.sockets.remove();
        for listener in [&self.sockets.control, &self.sockets.read_only] {
            // Ends the accept; should it fail, the process ends it.
            let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
        }
        for acceptor in self.acceptors {
            if acceptor.join().is_err() {
                log::error("a control thread panicked");
            }
        }
        removed
    }
}

fn accept(listener: &UnixListener, door: &Arc<Door>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => admit(stream, door),
            Err(_) if stop.load(Ordering::Relaxed) => return,
            Err(error) => {
                // Out of descriptors, say: wait for some to come back.
                log::warn(&format!("control socket: {error}"));
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Gives a connection its thread, or refuses it.
fn admit(mut stream: UnixStream, door: &Arc<Door>) {
    if door.open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
        door.open.fetch_sub(1, Ordering::Relaxed);
        let message = format!("more than {CONNECTIONS_MAX} connections; try again later");
        // A refusal that cannot be delivered at once is dropped: nobody waits for it here.
        let _ = send(
            &mut stream,
            &failed(FailureKind::Limit, message),
            FRAME_MAX,
            Duration::from_millis(10),
        );
        return;
    }
    let own = Arc::clone(door);
    let spawned = thread::Builder::new().name("control-conn".to_owned()).spawn(move || {
        let leave = Leave(own);
        serve(&mut stream, &leave.0);
    });
    if let Err(error) = spawned {
        door.open.fetch_sub(1, Ordering::Relaxed);
        log::warn(&format!("control socket: no thread for a connection: {error}"));
    }
}

/// Frees the place of a connection, also when its thread panics.
struct Leave(Arc<Door>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection from its first to its last frame.
fn serve(stream: &mut UnixStream, door: &Door) {
    let Ok(peer) = Peer::of(stream) else { return };
    let connection = door.numbers.fetch_add(1, Ordering::Relaxed);
    let asker = Asker { peer, connection, read_only: door.read_only };
    // A connection that breaks needs no words: pfctl went away.
    let _ = converse(stream, door, asker);
    door.service.closed(connection);
}

fn converse(stream: &mut UnixStream, door: &Door, asker: Asker) -> io::Result<()> {
    let max = if door.read_only { FRAME_MAX_READ_ONLY } else { FRAME_MAX };
    let mut reader = FrameReader::new(max, READ_PATIENCE);
    loop {
        match reader.next(stream)? {
            Frame::Line(line) => door.service.answer_frame(asker, &line, &mut |response| {
                send(stream, response, FRAME_MAX, WRITE_PATIENCE)
            })?,
            Frame::TooLong => {
                // What follows is the rest of the frame, so the connection is of no more use.
                let message = format!("the frame exceeds {max} octets");
                let refusal = failed(FailureKind::Malformed, message);
                return send(stream, &refusal, FRAME_MAX, WRITE_PATIENCE);
            }
            Frame::Closed => return Ok(()),
        }
    }
}

/// Sends one answer as a frame.
fn send(
    stream: &mut UnixStream,
    response: &Response,
    max: usize,
    patience: Duration,
) -> io::Result<()> {
    let mut octets = serde_json::to_vec(response)?;
    octets.push(b'\n');
    if octets.len() > max {
        let message = format!("the answer exceeds {max} octets");
        octets = serde_json::to_vec(&failed(FailureKind::Limit, message))?;
        octets.push(b'\n');
    }
    write_all(stream, &octets, patience)
}
