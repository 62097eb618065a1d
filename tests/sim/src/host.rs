//! A host: smoltcp with clients and servers on it.

use core::net::IpAddr;

use pfapi::units::Uptime;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpCidr, IpEndpoint};

use crate::app::{Client, Order, Outcome, Server};
use crate::device::Card;
use crate::link::Weather;
use crate::rng::Rng;
use crate::segment::{End, Segment};

/// Sockets that wait for connections on each port.
const BACKLOG: usize = 4;
/// Nanoseconds between two reads of a slow program.
const READ_PAUSE: u64 = 3_000_000;
/// Seconds after which a host on a line with losses gives a silent connection up. smoltcp doubles its
/// wait without end, so a few losses in a row take minutes.
const PATIENCE_S: u64 = 1_500;
/// Nanoseconds in which a host that still has its timer repeats itself: its waits are 1, 2, 4 to 1,024 s.
pub(crate) const FORGOTTEN: u64 = (PATIENCE_S - 100) * 1_000_000_000;

/// How a host behaves.
///
/// smoltcp 0.14 may forget its retransmission timer after a fast retransmit, or when a window
/// closes and opens again while data is in flight; a lost packet then stalls it for ever. So
/// links that lose or reorder packets get senders with too little in flight for either.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Octets of each receive buffer; above 65,535 windows are scaled.
    pub receive_buffer: usize,
    /// Octets of each send buffer.
    pub send_buffer: usize,
    /// Octets that a program reads at once.
    pub read: usize,
    /// Seconds after which a silent connection is given up.
    pub patience_s: u64,
    /// Seconds that a server waits for the end of a handshake; a flood fills it with such.
    pub handshake_s: u64,
    /// Largest packet.
    pub mtu: usize,
}

impl Habits {
    /// Any windows and slow programs, for links that lose and reorder nothing.
    #[must_use]
    pub fn without_loss(rng: &mut Rng) -> Self {
        Self {
            receive_buffer: rng.pick(&[600, 4_096, 65_535, 300_000, 1_000_000]),
            send_buffer: rng.pick(&[2_048, 32_768, 200_000]),
            read: rng.pick(&[usize::MAX, 1_000, 20_000]),
            patience_s: PATIENCE_S,
            handshake_s: PATIENCE_S,
            mtu: rng.pick(&[1_280, 1_500]),
        }
    }

    /// Windows that never fill, for links that lose and reorder packets.
    #[must_use]
    pub fn with_loss(rng: &mut Rng) -> Self {
        Self {
            receive_buffer: rng.pick(&[65_535, 262_144, 1_000_000]),
            send_buffer: rng.pick(&[700, 2_000]),
            read: usize::MAX,
            patience_s: PATIENCE_S,
            handshake_s: PATIENCE_S,
            mtu: rng.pick(&[1_280, 1_500]),
        }
    }
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            receive_buffer: 65_535,
            send_buffer: 32_768,
            read: usize::MAX,
            patience_s: 120,
            handshake_s: 40,
            mtu: 1_500,
        }
    }
}

/// A host on a link.
pub struct Host {
    /// Its address.
    pub addr: IpAddr,
    /// Its link to the router.
    pub weather: Weather,
    /// The client programs.
    pub clients: Vec<(SocketHandle, Client)>,
    /// Network card.
    pub card: Card,
    /// When it wants to be polled.
    pub due: Option<Uptime>,
    interface: Interface,
    sockets: SocketSet<'static>,
    servers: Vec<(SocketHandle, u16, Server)>,
    ports: Vec<u16>,
    habits: Habits,
}

/// Seed for smoltcp whose first connection has this initial sequence number.
///
/// smoltcp 0.14 takes the number from the second step of a generator that can be run backwards:
/// `state = state * M + A`, and the number is `state >> 22` while the top bits are set.
#[must_use]
pub fn seed_of_isn(isn: u32, noise: u64) -> u64 {
    const M: u64 = 0xbb2e_fcec_3c39_611d;
    const A: u64 = 0x7590_ef39;
    // With the three top bits set the shift is 29 - 7.
    let state = 7 << 61 | (noise & 0x7f) << 54 | u64::from(isn) << 22 | noise >> 8 & 0x3f_ffff;
    let mut inverse = M;
    for _ in 0..6 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(M.wrapping_mul(inverse)));
    }
    let back = |state: u64| state.wrapping_sub(A).wrapping_mul(inverse);
    back(back(state))
}

fn instant(now: Uptime) -> Instant {
    Instant::from_micros(i64::try_from(now.as_nanos() / 1_000).unwrap_or(i64::MAX))
}

impl Host {
    /// A host without programs. `seed` is smoltcp's.
    ///
    /// # Panics
    /// When smoltcp has no room for an address or route.
    #[must_use]
    pub fn new(addr: IpAddr, seed: u64, weather: Weather, habits: Habits, now: Uptime) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut card = Card::new(habits.mtu);
        let mut interface = Interface::new(config, &mut card, instant(now));
        interface.update_ip_addrs(|addrs| {
            let cidr = IpCidr::new(addr.into(), if addr.is_ipv4() { 24 } else { 64 });
            addrs.push(cidr).expect("room for an address");
        });
        let routes = interface.routes_mut();
        match addr {
            IpAddr::V4(_) => {
                let gateway = core::net::Ipv4Addr::new(10, 255, 255, 254);
                routes.add_default_ipv4_route(gateway).expect("room for a route");
            }
            IpAddr::V6(_) => {
                let gateway = core::net::Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0xffff);
                routes.add_default_ipv6_route(gateway).expect("room for a route");
            }
        }
        Self {
            addr,
            weather,
            clients: Vec::new(),
            card,
            due: None,
            interface,
            sockets: SocketSet::new(Vec::new()),
            servers: Vec::new(),
            ports: Vec::new(),
            habits,
        }
    }

    fn socket(&self) -> tcp::Socket<'static> {
        let buffer = |len| tcp::SocketBuffer::new(vec![0; len]);
        let (receive, send) = (self.habits.receive_buffer, self.habits.send_buffer);
        let mut socket = tcp::Socket::new(buffer(receive), buffer(send));
        socket.set_timeout(Some(Duration::from_secs(self.habits.patience_s)));
        socket.set_nagle_enabled(false);
        socket
    }

    /// Serves on a port from now on.
    pub fn listen(&mut self, port: u16) {
        self.ports.push(port);
        self.refill(port);
    }

    fn refill(&mut self, port: u16) {
        let waiting = self
            .servers
            .iter()
            .filter(|(handle, on, _)| {
                *on == port && self.sockets.get::<tcp::Socket>(*handle).is_listening()
            })
            .count();
        for _ in waiting..BACKLOG {
            let mut socket = self.socket();
            socket.set_timeout(Some(Duration::from_secs(self.habits.handshake_s)));
            socket.listen(port).expect("a port to listen on");
            let handle = self.sockets.add(socket);
            self.servers.push((handle, port, Server::default()));
        }
    }

    /// Opens a connection; gives the number of the client.
    ///
    /// # Panics
    /// When smoltcp refuses.
    pub fn connect(&mut self, local_port: u16, server: End, order: Order) -> usize {
        let handle = self.sockets.add(self.socket());
        let context = self.interface.context();
        self.sockets
            .get_mut::<tcp::Socket>(handle)
            .connect(context, server, local_port)
            .expect("a socket that can connect");
        self.clients.push((handle, Client::new(order)));
        self.clients.len() - 1
    }

    /// Lets the host do all that it can do now.
    pub fn poll(&mut self, now: Uptime) {
        self.drop_repeated_syns();
        for _ in 0..1_000 {
            self.run_programs();
            let result = self.interface.poll(instant(now), &mut self.card, &mut self.sockets);
            if result == PollResult::None {
                break;
            }
        }
        self.run_programs();
        self.due = self.next_poll(now);
    }

    /// Drops SYNs of connections that a socket has already: smoltcp gives a segment to the first
    /// socket that would take it, which may be one that listens.
    fn drop_repeated_syns(&mut self) {
        let (sockets, servers) = (&self.sockets, &self.servers);
        self.card.received.retain(|packet| {
            let Some(segment) = Segment::parse(packet).filter(Segment::opens) else { return true };
            let (addr, port) = segment.src;
            let peer = IpEndpoint::new(addr.into(), port);
            !servers.iter().any(|(handle, on, _)| {
                let socket = sockets.get::<tcp::Socket>(*handle);
                *on == segment.dst.1
                    && socket.remote_endpoint() == Some(peer)
                    && socket.state() != tcp::State::TimeWait
            })
        });
    }

    fn next_poll(&mut self, now: Uptime) -> Option<Uptime> {
        let at = self.interface.poll_at(instant(now), &self.sockets).map(|at| {
            let micros = u64::try_from(at.total_micros()).unwrap_or(0);
            let at = Uptime::from_nanos(micros * 1_000);
            // A socket may ask for a poll in which it then does nothing; the clock must move.
            if at <= now { now.plus_nanos(10_000_000) } else { at }
        });
        let handles = self.clients.iter().map(|(handle, _)| handle);
        let has_unread = handles
            .chain(self.servers.iter().map(|(handle, ..)| handle))
            .any(|handle| self.sockets.get::<tcp::Socket>(*handle).can_recv());
        let read = has_unread.then(|| now.plus_nanos(READ_PAUSE));
        [at, read].into_iter().flatten().min()
    }

    fn run_programs(&mut self) {
        for (handle, client) in &mut self.clients {
            client.run(self.sockets.get_mut(*handle), self.habits.read);
        }
        let mut ended = Vec::new();
        for (handle, _, server) in &mut self.servers {
            let socket = self.sockets.get_mut::<tcp::Socket>(*handle);
            if socket.state() == tcp::State::Established {
                socket.set_timeout(Some(Duration::from_secs(self.habits.patience_s)));
            }
            server.run(socket, self.habits.read);
            if socket.state() == tcp::State::Closed {
                ended.push(*handle);
            }
        }
        self.servers.retain(|(handle, ..)| !ended.contains(handle));
        for handle in ended {
            self.sockets.remove(handle);
        }
        for index in 0..self.ports.len() {
            self.refill(self.ports[index]);
        }
    }

    /// Whether some client has not ended.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.clients.iter().any(|(_, client)| client.outcome == Outcome::Pending)
    }
}
