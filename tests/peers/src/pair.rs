//! One connection, seen from both ends.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use pf_load::lab::{CLIENT, Place, SERVER};
use pf_load::{sys, tcp};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use serde::Serialize;

use crate::place::{at, named};

/// Waiting connections of a listener; more than a flood brings before cookies begin.
const BACKLOG: i32 = 65_535;
/// `TCP_MAXSEG`.
const MAXSEG: i32 = 2;
/// `TCP_WINDOW_CLAMP`.
const WINDOW_CLAMP: i32 = 10;
/// SOL_TCP.
const TCP: i32 = 6;

/// How to connect.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Where the client is.
    pub from: Place,
    /// The client's own address, where it matters.
    pub source: Option<IpAddr>,
    /// Where the client connects to.
    pub to: SocketAddr,
    /// Where the server listens; differs from `to` behind a translation.
    pub listen: SocketAddr,
    /// Largest segment that the client asks for (`TCP_MAXSEG`), in octets.
    pub client_mss: Option<u16>,
    /// Largest segment that the server asks for, in octets.
    pub server_mss: Option<u16>,
    /// Largest window of the client (`TCP_WINDOW_CLAMP`), in octets; its shift follows from it.
    pub client_clamp: Option<u16>,
    /// As [`Call::client_clamp`], of the server.
    pub server_clamp: Option<u16>,
    /// First sequence number of the client.
    pub begin_at: Option<u32>,
    /// What the client says before it waits for anything; not measured.
    pub greeting: &'static [u8],
    /// How long connecting may take.
    pub patience: Duration,
}

impl Call {
    /// From the client straight to this address of the server.
    #[must_use]
    pub const fn to(address: SocketAddr) -> Self {
        Self {
            from: CLIENT,
            source: None,
            to: address,
            listen: address,
            client_mss: None,
            server_mss: None,
            client_clamp: None,
            server_clamp: None,
            begin_at: None,
            greeting: &[],
            patience: Duration::from_secs(5),
        }
    }
}

/// Both ends of a connection.
#[derive(Debug)]
pub struct Pair {
    /// The client's socket.
    pub client: TcpStream,
    /// The server's socket.
    pub server: TcpStream,
    /// How long the client's `connect` took.
    pub connecting: Duration,
}

/// A listener of the server.
///
/// # Errors
///
/// When the address is taken or not local.
pub fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    listen_as(&Call::to(address))
}

/// A listener of the server that is as the call says.
///
/// # Errors
///
/// When the address is taken or not local.
pub fn listen_as(call: &Call) -> Result<TcpListener, String> {
    let address = call.listen;
    at(SERVER, || {
        let open = || -> io::Result<TcpListener> {
            let socket = socket(address)?;
            sockopt::set_socket_reuseaddr(&socket, true)?;
            limit(&socket, call.server_mss, call.server_clamp)?;
            rustix::net::bind(&socket, &address)?;
            rustix::net::listen(&socket, BACKLOG)?;
            Ok(socket.into())
        };
        open().map_err(named(&format!("listening on {address}")))
    })
}

/// Connects the client to a server that listens for this connection alone.
///
/// # Errors
///
/// When either end does not see the connection in time.
pub fn connect(call: &Call) -> Result<Pair, String> {
    let listener = listen_as(call)?;
    connect_to(&listener, call)
}

/// As [`connect`], with a listener that is there already.
///
/// # Errors
///
/// When either end does not see the connection in time.
pub fn connect_to(listener: &TcpListener, call: &Call) -> Result<Pair, String> {
    let start = Instant::now();
    let client = at(call.from, || {
        let open = || -> io::Result<OwnedFd> {
            let socket = socket(call.to)?;
            limit(&socket, call.client_mss, call.client_clamp)?;
            if let Some(sequence) = call.begin_at {
                tcp::begin_at(&socket, sequence)?;
            }
            if let Some(source) = call.source {
                sys::bind_address_no_port(&socket)?;
                rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
            }
            rustix::io::ioctl_fionbio(&socket, true)?;
            match rustix::net::connect(&socket, &call.to) {
                Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
                Err(error) => return Err(error.into()),
            }
            if !ready(&socket, PollFlags::OUT, call.patience)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            sockopt::socket_error(&socket)??;
            rustix::io::ioctl_fionbio(&socket, false)?;
            Ok(socket)
        };
        open().map_err(named("connect"))
    })?;
    let connecting = start.elapsed();
    let mut client = TcpStream::from(client);
    client.write_all(call.greeting).map_err(named("greeting"))?;
    let patience = call.patience.saturating_sub(connecting).max(Duration::from_secs(1));
    if !ready(listener, PollFlags::IN, patience).map_err(named("accept"))? {
        return Err("the client believes that it is connected, the server knows nothing".into());
    }
    let (server, _) = listener.accept().map_err(named("accept"))?;
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(call.patience)).map_err(named("timeout"))?;
        socket.set_write_timeout(Some(call.patience)).map_err(named("timeout"))?;
        socket.set_nodelay(true).map_err(named("nodelay"))?;
    }
    Ok(Pair { client, server, connecting })
}

fn limit(socket: &OwnedFd, mss: Option<u16>, clamp: Option<u16>) -> io::Result<()> {
    for (option, value) in [(MAXSEG, mss), (WINDOW_CLAMP, clamp)] {
        if let Some(value) = value {
            sys::set_int(socket, TCP, option, value.into())?;
        }
    }
    Ok(())
}

fn socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

fn ready(
    socket: &impl std::os::fd::AsFd,
    flags: PollFlags,
    patience: Duration,
) -> io::Result<bool> {
    let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
    Ok(rustix::event::poll(&mut [PollFd::new(socket, flags)], Some(&patience))? > 0)
}

/// What both ends know about a connection over which something was sent in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Seen {
    /// The client's end.
    pub client: tcp::End,
    /// The server's end.
    pub server: tcp::End,
    /// Milliseconds until the client was connected.
    pub connecting_ms: f64,
    /// Milliseconds for the octets to the server.
    pub up_ms: f64,
    /// Milliseconds for the octets to the client.
    pub down_ms: f64,
}

/// Octets that are sent in each direction before looking.
pub const OCTETS: usize = 256 << 10;

/// Connects, sends [`OCTETS`] there and back, and asks both ends.
///
/// # Errors
///
/// When the connection does not come about, or what arrives is not what was sent.
pub fn observe(call: &Call) -> Result<Seen, String> {
    observe_at(&listen_as(call)?, call)
}

/// As [`observe`], with a listener that is there already.
///
/// # Errors
///
/// When the connection does not come about, or what arrives is not what was sent.
pub fn observe_at(listener: &TcpListener, call: &Call) -> Result<Seen, String> {
    let Pair { mut client, mut server, connecting } = connect_to(listener, call)?;
    let up = send(&mut client, &mut server).map_err(named("client to server"))?;
    let down = send(&mut server, &mut client).map_err(named("server to client"))?;
    let seen = Seen {
        client: tcp::End::of(&client).map_err(named("TCP_INFO"))?,
        server: tcp::End::of(&server).map_err(named("TCP_INFO"))?,
        connecting_ms: millis(connecting),
        up_ms: millis(up),
        down_ms: millis(down),
    };
    Ok(seen)
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}

fn send(from: &mut TcpStream, to: &mut TcpStream) -> io::Result<Duration> {
    let sent: Vec<u8> = (0..OCTETS).map(|index| ((index * 31) >> 3) as u8).collect();
    let mut received = vec![0; OCTETS];
    let start = Instant::now();
    thread::scope(|scope| {
        let writing = scope.spawn(|| from.write_all(&sent));
        let read = to.read_exact(&mut received);
        let written = writing.join().unwrap_or_else(|_| Err(io::Error::other("writer died")));
        written.and(read)
    })?;
    if received == sent {
        Ok(start.elapsed())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "other octets arrived than were sent"))
    }
}
