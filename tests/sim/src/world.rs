//! A simulated network with one clock.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pfapi::timeout::Timeout;
use pfapi::units::{IfIndex, Uptime};

use crate::action::Action;
use crate::app::{Order, Outcome};
use crate::attack::Attack;
use crate::forgery::{Forger, Progress, is_forged};
use crate::host::{Habits, Host};
use crate::link::Weather;
use crate::log::Log;
use crate::misfortune::Misfortunes;
use crate::rng::Rng;
use crate::router::{CLIENTS, Departures, Router, SERVERS, translation};
use crate::rules::Policy;
use crate::segment::{End, Segment};

/// Address family of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both in turn.
    #[must_use]
    pub const fn of_seed(seed: u64) -> Self {
        if seed.is_multiple_of(2) { Self::V4 } else { Self::V6 }
    }
}

/// What a world begins with.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// Seed of everything.
    pub seed: u64,
    /// Address family.
    pub family: Family,
    /// Ruleset.
    pub policy: Policy,
}

/// Where a packet is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Router(u16),
    Client(usize),
    Server(usize),
}

/// A packet on a link; ordered by time, then by when it was sent.
type InFlight = Reverse<(Uptime, u64, Place, Vec<u8>)>;

/// A connection that a client will open.
#[derive(Clone, Copy, Debug)]
struct Start {
    at: Uptime,
    client: usize,
    server: End,
    order: Order,
}

/// The network.
pub struct World {
    /// What time it is.
    pub now: Uptime,
    /// Random numbers of the network.
    pub rng: Rng,
    /// The router.
    pub router: Router,
    /// Hosts on the side of the clients.
    pub clients: Vec<Host>,
    /// Hosts on the side of the servers.
    pub servers: Vec<Host>,
    /// Attacks.
    pub attacks: Vec<Attack>,
    /// Who forges segments into connections.
    pub forger: Option<Forger>,
    /// What happened.
    pub log: Log,
    /// Initial sequence number of the first connection, when a SYN was sent.
    pub first_isn: Option<u32>,
    /// Connections that were opened: client and server.
    pub flows: Vec<(End, End)>,
    seed: u64,
    family: Family,
    progress: Progress,
    in_flight: BinaryHeap<InFlight>,
    misfortunes: Misfortunes,
    /// Nanoseconds after which the filter forgets a client that has been silent since its handshake:
    /// `classic` takes it for connected with its next segment only, as pf does.
    patience: Option<u64>,
    sent: u64,
    starts: Vec<Start>,
    actions: Vec<(Uptime, Action)>,
    steps: u64,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.log.print();
            for (number, host) in self.clients.iter().enumerate() {
                for (_, client) in &host.clients {
                    eprintln!("client {number}: {}", client.progress());
                }
            }
            let seed = self.seed;
            eprintln!("seed {seed}, {:?}: run it alone with PF_SIM_SEED={seed}", self.family);
        }
    }
}

impl World {
    /// A network without hosts.
    #[must_use]
    pub fn new(config: &WorldConfig) -> Self {
        let now = Uptime::from_secs(1_000);
        let mut rng = Rng::new(config.seed);
        Self {
            now,
            router: Router::new(&config.policy, &mut rng.fork(), now),
            rng,
            clients: Vec::new(),
            servers: Vec::new(),
            attacks: Vec::new(),
            forger: None,
            progress: Progress::default(),
            log: Log::default(),
            first_isn: None,
            flows: Vec::new(),
            seed: config.seed,
            family: config.family,
            in_flight: BinaryHeap::new(),
            misfortunes: Misfortunes::new(now),
            patience: config
                .policy
                .syncookies
                .filter(|setting| setting.classic)
                .map(|_| u64::from(config.policy.timeouts.get(Timeout::TcpFirst)) * 1_000_000_000),
            sent: 0,
            starts: Vec::new(),
            actions: Vec::new(),
            steps: 0,
        }
    }

    /// The address of all addresses.
    #[must_use]
    pub const fn any_net(&self) -> IpAddr {
        match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    fn addr(&self, v4: [u8; 3], v6: u128, number: usize) -> IpAddr {
        let number = u8::try_from(number + 1).expect("few hosts");
        match self.family {
            Family::V4 => Ipv4Addr::new(v4[0], v4[1], v4[2], number).into(),
            Family::V6 => Ipv6Addr::from_bits(v6 << 64 | u128::from(number)).into(),
        }
    }

    /// An address among the servers that no host has.
    #[must_use]
    pub fn nobody(&self) -> IpAddr {
        self.addr([192, 0, 2], 0x2001_0db8_0002_0000, 199)
    }

    /// Adds a host for clients; gives its number. `seed` is smoltcp's.
    pub fn add_client(&mut self, seed: u64, weather: Weather, habits: Habits) -> usize {
        let addr = self.addr([10, 0, 0], 0xfd00_0001_0000_0000, self.clients.len());
        self.clients.push(Host::new(addr, seed, weather, habits, self.now));
        self.clients.len() - 1
    }

    /// Adds a host for servers that serves on `ports`; gives its number. `seed` is smoltcp's.
    pub fn add_server(
        &mut self,
        seed: u64,
        weather: Weather,
        habits: Habits,
        ports: &[u16],
    ) -> usize {
        let addr = self.addr([192, 0, 2], 0x2001_0db8_0002_0000, self.servers.len());
        let mut host = Host::new(addr, seed, weather, habits, self.now);
        for &port in ports {
            host.listen(port);
        }
        self.servers.push(host);
        self.servers.len() - 1
    }

    /// Lets a client connect `after` nanoseconds from now.
    pub fn connect(&mut self, after: u64, client: usize, server: usize, port: u16, order: Order) {
        self.connect_to(after, client, (self.servers[server].addr, port), order);
    }

    /// Lets a client connect to the address of the router that leads to the first server.
    pub fn connect_redirected(&mut self, after: u64, client: usize, order: Order) {
        let [v4, v6] = translation().redirected;
        let server = if self.family == Family::V4 { v4 } else { v6 };
        self.connect_to(after, client, server, order);
    }

    fn connect_to(&mut self, after: u64, client: usize, server: End, order: Order) {
        self.starts.push(Start { at: self.now.plus_nanos(after), client, server, order });
    }

    /// Does something `after` nanoseconds from now.
    pub fn plan(&mut self, after: u64, action: Action) {
        self.actions.push((self.now.plus_nanos(after), action));
    }

    /// How the connections have ended.
    #[must_use]
    pub fn outcomes(&self) -> Vec<Outcome> {
        let clients = self.clients.iter().flat_map(|host| &host.clients);
        clients.map(|(_, client)| client.outcome).collect()
    }

    /// Whether all connections ended well, or broke for a reason that no filter can help: see
    /// [`Misfortunes`].
    #[must_use]
    pub fn all_are_served(&self) -> bool {
        let misfortunes = &self.misfortunes;
        let mut broken = 0;
        for host in &self.clients {
            let ends = self.flows.iter().filter(|(client, _)| client.0 == host.addr);
            for ((_, client), (end, _)) in host.clients.iter().zip(ends) {
                match client.outcome {
                    Outcome::Done => {}
                    Outcome::Reset if misfortunes.came_too_late(end) => {}
                    Outcome::Reset
                        if self.patience.is_some_and(|patience| {
                            misfortunes.longest_silence(end) >= patience
                        }) => {}
                    Outcome::Reset => broken += 1,
                    Outcome::Pending => return false,
                }
            }
        }
        misfortunes.was_forgotten() || broken <= misfortunes.unheard()
    }

    /// Whether something is still to come from clients or attackers.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.starts.is_empty()
            || !self.actions.is_empty()
            || self.clients.iter().any(Host::is_busy)
            || self.attacks.iter().any(|attack| attack.next < attack.until)
    }

    /// Runs until nobody is busy, at most for `most_s` seconds.
    pub fn run(&mut self, most_s: u64) {
        let end = self.now.plus_secs(most_s);
        while self.is_busy() && self.now < end && self.step(end) {}
    }

    /// Runs for so many seconds.
    pub fn run_for(&mut self, seconds: u64) {
        let end = self.now.plus_secs(seconds);
        while self.now < end && self.step(end) {}
        self.now = self.now.max(end);
    }

    /// Compares the gauges of the filter with a recount.
    ///
    /// # Panics
    /// When they differ.
    pub fn check(&self) {
        self.check_after(self.router.engine.check_invariants());
    }

    fn check_after(&self, gauges: Result<(), String>) {
        if let Err(difference) = gauges {
            panic!("{difference}");
        }
        self.router.check_counters(self.now);
    }

    fn next_time(&self) -> Option<Uptime> {
        let hosts = self.clients.iter().chain(&self.servers).filter_map(|host| host.due);
        let attacks = self.attacks.iter().filter(|a| a.next < a.until).map(|attack| attack.next);
        hosts
            .chain(attacks)
            .chain(self.in_flight.peek().map(|Reverse((at, ..))| *at))
            .chain(self.starts.iter().map(|start| start.at))
            .chain(self.actions.iter().map(|(at, _)| *at))
            .chain(self.router.worker.poll_timeout())
            .chain(self.forger.filter(|forger| forger.next < forger.until).map(|f| f.next))
            .min()
    }

    /// Lets the next thing happen, if it happens before `end`.
    fn step(&mut self, end: Uptime) -> bool {
        let Some(next) = self.next_time().filter(|next| *next <= end) else { return false };
        self.now = self.now.max(next);
        let now = self.now;
        if self.router.worker.poll_timeout().is_some_and(|due| due <= now) {
            let departures = self.router.handle_timeout(now, &mut self.log);
            self.depart(departures);
        }
        self.start_connections();
        self.deliver();
        self.attack();
        self.forge();
        for number in 0..self.clients.len() {
            self.poll_host(Place::Client(number));
        }
        for number in 0..self.servers.len() {
            self.poll_host(Place::Server(number));
        }
        while let Some(at) = self.actions.iter().position(|(at, _)| *at <= now) {
            let (_, action) = self.actions.remove(at);
            self.act(&action);
        }
        self.steps += 1;
        assert!(self.steps < 4_000_000, "the clock does not move on");
        // A recount looks at every state, so a large table is not recounted at each step.
        if self.steps.is_multiple_of(1 + self.router.engine.half_open() / 16) {
            self.check_after(self.router.engine.check_gauges());
        }
        if self.steps.is_multiple_of(1_000) {
            self.check();
        }
        true
    }

    fn start_connections(&mut self) {
        while let Some(at) = self.starts.iter().position(|start| start.at <= self.now) {
            let start = self.starts.swap_remove(at);
            let host = &mut self.clients[start.client];
            let local = loop {
                let port = self.rng.next_u16() | 1_024;
                let end = (host.addr, port);
                if !self.flows.iter().any(|(client, _)| *client == end) {
                    break end;
                }
            };
            let number = host.connect(local.1, start.server, start.order);
            host.due = Some(self.now);
            self.flows.push((local, start.server));
            self.log.note(self.now, format!("client {number} of {} connects", local.0));
        }
    }

    /// Delivers what arrives now; packets for the router come as one batch.
    fn deliver(&mut self) {
        let now = self.now;
        let mut arrivals = Vec::new();
        while let Some(Reverse((at, ..))) = self.in_flight.peek()
            && *at <= now
            && let Some(Reverse((_, _, place, packet))) = self.in_flight.pop()
        {
            match place {
                Place::Router(interface) => arrivals.push((IfIndex(interface), packet)),
                Place::Client(_) | Place::Server(_) => {
                    let host = self.host(place);
                    host.card.received.push_back(packet);
                    host.due = Some(now);
                }
            }
        }
        if !arrivals.is_empty() {
            self.misfortunes.note_arrival(now);
        }
        for (_, packet) in &arrivals {
            if let Some(segment) = Segment::parse(packet) {
                self.progress.arrives(&segment);
                self.misfortunes.arrives(now, &segment);
            }
        }
        self.route(arrivals);
    }

    fn route(&mut self, arrivals: Vec<(IfIndex, Vec<u8>)>) {
        if arrivals.is_empty() {
            return;
        }
        let departures = self.router.forward(self.now, &mut self.log, arrivals);
        self.depart(departures);
    }

    fn attack(&mut self) {
        let now = self.now;
        for at in 0..self.attacks.len() {
            let attack = &mut self.attacks[at];
            if attack.next <= now && attack.next < attack.until {
                let packets = attack.burst(now, &mut self.rng, &self.flows);
                self.route(packets);
            }
        }
    }

    fn forge(&mut self) {
        let now = self.now;
        let Some(forger) = self.forger.as_mut().filter(|forger| forger.next <= now) else { return };
        if forger.next >= forger.until {
            return;
        }
        forger.next = now.plus_nanos(forger.every);
        if let Some((by_client, packet)) = self.progress.forge(&mut self.rng, &self.flows) {
            let interface = if by_client { CLIENTS } else { SERVERS };
            self.route(vec![(interface, packet)]);
        }
    }

    fn host(&mut self, place: Place) -> &mut Host {
        match place {
            Place::Client(number) => &mut self.clients[number],
            Place::Server(number) => &mut self.servers[number],
            Place::Router(_) => unreachable!("the router is no host"),
        }
    }

    fn poll_host(&mut self, place: Place) {
        let now = self.now;
        let host = self.host(place);
        if host.due.is_none_or(|due| due > now) {
            return;
        }
        host.poll(now);
        let weather = host.weather;
        let packets: Vec<_> = host.card.sent.drain(..).collect();
        let interface = if matches!(place, Place::Client(_)) { CLIENTS } else { SERVERS };
        for packet in packets {
            if self.first_isn.is_none() {
                let syn = Segment::parse(&packet).filter(Segment::opens);
                self.first_isn = syn.map(|segment| segment.seq);
            }
            self.send(weather, Place::Router(interface.0), &packet);
        }
    }

    fn depart(&mut self, departures: Departures) {
        for (interface, packet) in departures {
            assert!(!is_forged(&packet), "a forged segment leaves");
            let Some(dst) = crate::segment::destination(&packet) else { continue };
            let (hosts, place): (_, fn(usize) -> Place) = match interface {
                CLIENTS => (&self.clients, Place::Client),
                SERVERS => (&self.servers, Place::Server),
                // Nobody lives there.
                _ => continue,
            };
            if let Some(number) = hosts.iter().position(|host| host.addr == dst) {
                if interface == SERVERS
                    && let Some(segment) = Segment::parse(&packet)
                {
                    self.misfortunes.leaves(self.now, &segment);
                }
                self.send(hosts[number].weather, place(number), &packet);
            }
        }
    }

    fn send(&mut self, weather: Weather, place: Place, packet: &[u8]) {
        for delay in weather.copies(&mut self.rng) {
            self.sent += 1;
            let at = self.now.plus_nanos(delay);
            self.in_flight.push(Reverse((at, self.sent, place, packet.to_vec())));
        }
    }
}
