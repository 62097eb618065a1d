//! Web server that answers every request with the same body, and closes.
//!
//! One thread, edge-triggered epoll. Idle connections are closed after [`IDLE_MAX`], so that
//! clients that vanished cost nothing for long.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

/// Longest life of one connection.
pub const IDLE_MAX: Duration = Duration::from_secs(30);
/// Longest request head in octets.
const REQUEST_MAX: usize = 8192;
/// Length of the queue of connections that wait to be accepted; `net.core.somaxconn` caps it.
const BACKLOG: i32 = 65_535;

/// What the server did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: u64,
    /// Requests answered in full.
    pub answered: u64,
    /// Octets read by a sink.
    pub sunk_octets: u64,
}

/// What to do with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Answer a request with this many octets, and close.
    Web {
        /// Length of the body.
        body: usize,
    },
    /// Read everything and throw it away.
    Sink,
}

/// A server whose sockets listen already.
#[derive(Debug)]
pub struct Server {
    epoll: OwnedFd,
    listeners: Vec<OwnedFd>,
    role: Role,
    reply: Vec<u8>,
}

impl Server {
    /// Listens on all addresses.
    ///
    /// # Errors
    ///
    /// When an address is taken or not local.
    pub fn bind(addresses: &[SocketAddr], role: Role) -> io::Result<Self> {
        raise_descriptor_limit();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut listeners = Vec::new();
        for address in addresses {
            let listener = listen(address)
                .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
            let data = epoll::EventData::new_u64(listener.as_raw_fd().cast_unsigned().into());
            epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
            listeners.push(listener);
        }
        let reply = match role {
            Role::Web { body } => {
                let head = format!(
                    "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {body}\r\n\
                     Connection: close\r\n\r\n"
                );
                let mut reply = head.into_bytes();
                reply.extend(b"pf for Linux\n".iter().cycle().take(body));
                reply
            }
            Role::Sink => Vec::new(),
        };
        Ok(Self { epoll, listeners, role, reply })
    }

    /// Serves until `stop` is set or the time is over.
    ///
    /// # Errors
    ///
    /// When epoll fails, which does not happen to descriptors that are open.
    pub fn run(&self, stop: &AtomicBool, duration: Duration) -> io::Result<Counters> {
        let start = Instant::now();
        let mut counters = Counters::default();
        let mut connections: HashMap<u64, Connection> = HashMap::new();
        let mut deadlines: VecDeque<(Instant, u64)> = VecDeque::new();
        let mut events = Vec::with_capacity(256);
        let mut buffer = vec![0; 64 << 10];
        // Tokens above all descriptors are connections; they are never used twice.
        let mut next_token = 1_u64 << 32;
        while !stop.load(Ordering::Relaxed) && start.elapsed() < duration {
            events.clear();
            let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait))
            {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let now = Instant::now();
            for event in &events {
                let token = event.data.u64();
                if let Some(listener) = self.listener(token) {
                    while let Some(socket) = accept(listener) {
                        let flags =
                            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
                        let data = epoll::EventData::new_u64(next_token);
                        if epoll::add(&self.epoll, &socket, data, flags).is_ok() {
                            counters.accepted += 1;
                            connections.insert(next_token, Connection::new(socket));
                            deadlines.push_back((now + IDLE_MAX, next_token));
                            next_token += 1;
                        }
                    }
                } else if let Some(connection) = connections.get_mut(&token)
                    && connection
                        .go_on(self.role, &self.reply, &mut buffer, &mut counters)
                        .is_over()
                {
                    connections.remove(&token);
                }
            }
            while let Some(&(deadline, token)) = deadlines.front()
                && (deadline <= now || !connections.contains_key(&token))
            {
                deadlines.pop_front();
                if self.role != Role::Sink {
                    connections.remove(&token);
                }
            }
        }
        Ok(counters)
    }

    fn listener(&self, token: u64) -> Option<&OwnedFd> {
        self.listeners.iter().find(|fd| u64::from(fd.as_raw_fd().cast_unsigned()) == token)
    }
}

fn listen(address: &SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn accept(listener: &OwnedFd) -> Option<OwnedFd> {
    rustix::net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC).ok()
}

/// Raises the limit of open descriptors to the most that is allowed; what cannot be raised stays.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Waits,
    Over,
}

impl Progress {
    fn is_over(&self) -> bool {
        *self == Self::Over
    }
}

#[derive(Debug)]
enum Phase {
    /// The request head has not ended; holds what has come.
    Asked(Vec<u8>),
    /// This many octets of the reply are out.
    Answering(usize),
    /// The reply is out; waits for the client to close.
    Closing,
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    phase: Phase,
}

impl Connection {
    const fn new(socket: OwnedFd) -> Self {
        Self { socket, phase: Phase::Asked(Vec::new()) }
    }

    /// Does what can be done without waiting.
    fn go_on(
        &mut self,
        role: Role,
        reply: &[u8],
        buffer: &mut [u8],
        counters: &mut Counters,
    ) -> Progress {
        loop {
            match &mut self.phase {
                Phase::Answering(done) => {
                    match rustix::net::send(&self.socket, &reply[*done..], SendFlags::NOSIGNAL) {
                        Ok(length) => *done += length,
                        Err(Errno::AGAIN) => return Progress::Waits,
                        Err(Errno::INTR) => {}
                        Err(_) => return Progress::Over,
                    }
                    if *done == reply.len() {
                        counters.answered += 1;
                        let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
                        self.phase = Phase::Closing;
                    }
                }
                Phase::Asked(_) | Phase::Closing => {
                    let length = match rustix::io::read(&self.socket, &mut *buffer) {
                        Ok(0) => return Progress::Over,
                        Ok(length) => length,
                        Err(Errno::AGAIN) => return Progress::Waits,
                        Err(Errno::INTR) => continue,
                        Err(_) => return Progress::Over,
                    };
                    if role == Role::Sink {
                        counters.sunk_octets += length as u64;
                    } else if let Phase::Asked(head) = &mut self.phase {
                        head.extend_from_slice(&buffer[..length]);
                        if head.windows(4).any(|four| four == b"\r\n\r\n") {
                            self.phase = Phase::Answering(0);
                        } else if head.len() > REQUEST_MAX {
                            return Progress::Over;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::client;

    /// The client and the server of this package against each other over the loopback.
    #[test]
    fn every_request_is_answered() {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = probe.local_addr().unwrap();
        drop(probe);
        let server = Server::bind(&[address], Role::Web { body: 100_000 }).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let serving = {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || server.run(&stop, Duration::from_secs(20)).unwrap())
        };
        let options = client::Options {
            server: address,
            path: "/".to_owned(),
            sources: vec!["127.0.0.2".parse().unwrap(), "127.0.0.3".parse().unwrap()],
            concurrent: 8,
            rate: None,
            timeout: Duration::from_secs(5),
            duration: Duration::from_secs(10),
            count: Some(200),
            interval: Duration::from_millis(100),
        };
        let mut seen = 0;
        let report =
            client::run(&options, &AtomicBool::new(false), |part| seen += part.ok).unwrap();
        stop.store(true, Ordering::Relaxed);
        let counters = serving.join().unwrap();
        assert_eq!((report.ok, report.failures.total(), seen), (200, 0, 200));
        assert_eq!((counters.accepted, counters.answered), (200, 200));
    }

    #[test]
    fn closed_port_counts_as_refused() {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = probe.local_addr().unwrap();
        drop(probe);
        let options = client::Options {
            server,
            path: "/".to_owned(),
            sources: Vec::new(),
            concurrent: 2,
            rate: Some(1000.0),
            timeout: Duration::from_secs(2),
            duration: Duration::from_secs(2),
            count: Some(10),
            interval: Duration::from_secs(1),
        };
        let report = client::run(&options, &AtomicBool::new(false), |_| {}).unwrap();
        assert_eq!((report.ok, report.failures.refused), (0, 10));
    }
}
