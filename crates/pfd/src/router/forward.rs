//! One packet between the inbound and the outbound pass.

use core::cell::Cell;
use core::hash::BuildHasher as _;
use core::net::IpAddr;
use std::hash::RandomState;
use std::sync::Arc;

use pfapi::addr::{Af, Prefix};
use pfapi::facts::Facts;
use pfapi::ruleset::proto;
use pfapi::units::{Direction, IfIndex, Uptime};
use pfengine::reply::{self, IcmpError};
use pfengine::wire::build::TTL_DEFAULT;
use pfengine::wire::ip::{Fragment, Layout};
use pfengine::{NextHop, Packet};

use super::counters::{Counters, Event};
use super::header;
use super::table::{Table, Target};
use crate::config;

/// ICMP errors per second at most. Source: OpenBSD `icmperrppslim`, `icmp6errppslim`.
const ERRORS_PER_S: u32 = 100;

/// ICMP and ICMPv6 type of an echo request.
const ECHO: u8 = 8;
const ECHO_V6: u8 = 128;

/// What a router must know when it is made.
#[derive(Debug)]
pub struct RouterOptions<'a> {
    /// Interfaces; an [`IfIndex`] is a position in this list.
    pub facts: &'a Facts,
    /// Routes besides those to the networks of the interfaces.
    pub routes: &'a [config::Route],
}

/// Routing table, own addresses and the limit on errors; one per engine thread.
#[derive(Debug)]
pub struct Router {
    table: Table,
    links: Vec<Link>,
    /// What is not longer fits every link.
    pub(super) smallest_mtu: usize,
    errors: ErrorBudget,
    counters: Arc<Counters>,
    /// Last identification given out by [`Router::next_id`].
    fragment_id: Cell<u32>,
}

/// What becomes of a packet after a pass of the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// It goes on by the interface that it now names: to the outbound rules, and after those to
    /// the device.
    Forwarded,
    /// It has become an answer of this host, and has to go through the rules of its direction: the
    /// outbound ones, or for errors about what `af-to` has made the inbound ones once more.
    Answer,
    /// Nothing is to be sent.
    Nothing,
}

/// What the router knows of an interface.
#[derive(Debug)]
struct Link {
    mtu: usize,
    /// Where errors about packets from here are sent from.
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
}

/// Counts errors per second of uptime.
#[derive(Debug, Default)]
struct ErrorBudget {
    second: u64,
    used: u32,
}

impl Router {
    /// A router with connected routes for all addresses.
    #[must_use]
    pub fn new(options: &RouterOptions<'_>) -> Self {
        let facts = options.facts;
        let any = |af: Af| {
            let mut own = facts.interfaces.iter().flat_map(|interface| &interface.addresses);
            own.find(|own| Af::of(own.addr) == af).map(|own| own.addr)
        };
        let links: Vec<Link> = facts
            .interfaces
            .iter()
            .map(|interface| {
                let own = |af: Af| {
                    let first = interface.addresses.iter().find(|own| Af::of(own.addr) == af);
                    first.map(|own| own.addr).or_else(|| any(af))
                };
                let mtu = usize::try_from(interface.mtu).unwrap_or(usize::MAX);
                Link { mtu, v4: own(Af::Inet), v6: own(Af::Inet6) }
            })
            .collect();
        Self {
            table: Table::new(all_routes(options)),
            smallest_mtu: links.iter().map(|link| link.mtu).min().unwrap_or(usize::MAX),
            links,
            errors: ErrorBudget::default(),
            counters: Arc::default(),
            fragment_id: Cell::new(first_id()),
        }
    }

    /// The routing table, for rules that ask for it.
    #[must_use]
    pub fn routes(&self) -> Table {
        self.table.clone()
    }

    /// What happened so far; may be read from other threads.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Whether a packet may reach the filter: martians and the noise of link-local protocols do
    /// not. Packets that are no IP do: the filter counts them.
    #[must_use]
    pub fn admit(&self, packet: &Packet) -> bool {
        let Some((src, dst)) = header::addresses(packet.data()) else { return true };
        let event = match (judge_source(src), self.table.lookup(dst)) {
            (Some(event), _) => event,
            (None, Target::Martian) if is_link_local(dst) => Event::Noise,
            (None, Target::Martian) => Event::Martian,
            (None, Target::Multicast | Target::Broadcast) => Event::Noise,
            (None, Target::Link(_) | Target::Local(_) | Target::Unreachable) => return true,
        };
        self.counters.count(event);
        false
    }

    /// Finds the way out of a packet that passed the inbound rules, or turns it into the answer
    /// that its sender gets. Whether it fits there is known after the outbound rules only, see
    /// [`Self::depart`].
    #[must_use]
    pub fn forward(&mut self, now: Uptime, packet: &mut Packet) -> Onward {
        let Some((_, dst)) = header::addresses(packet.data()) else {
            self.counters.count(Event::Malformed);
            return Onward::Nothing;
        };
        let way = match packet.meta.next_hop.filter(|hop| !hop.copy) {
            Some(hop) => self.by_hop(now, packet, hop),
            None => self.by_destination(now, packet, dst),
        };
        let interface = match way {
            Ok(interface) => interface,
            Err(end) => return end,
        };
        if header::time_to_live(packet.data()) <= 1 {
            self.counters.count(Event::Expired);
            return self.error(now, packet, IcmpError::TimeExceeded);
        }
        header::count_down(packet.data_mut());
        packet.meta.interface = interface;
        packet.meta.direction = Direction::Out;
        self.counters.count(Event::Forwarded);
        Onward::Forwarded
    }

    /// Interface of the way that rules have chosen.
    ///
    /// # Errors
    /// What becomes of the packet when there is no such way.
    pub(super) fn by_hop(
        &mut self,
        now: Uptime,
        packet: &mut Packet,
        hop: NextHop,
    ) -> Result<IfIndex, Onward> {
        self.route_of(hop).ok_or_else(|| {
            self.counters.count(Event::NoRoute);
            self.error(now, packet, IcmpError::HostUnreachable)
        })
    }

    /// Interface behind which the destination of a packet lies.
    ///
    /// # Errors
    /// What becomes of the packet when it is for this host, or has no way.
    pub(super) fn by_destination(
        &mut self,
        now: Uptime,
        packet: &mut Packet,
        dst: IpAddr,
    ) -> Result<IfIndex, Onward> {
        match self.table.lookup(dst) {
            Target::Link(interface) => Ok(interface),
            Target::Local(_) => {
                self.counters.count(Event::Local);
                Err(self.answer_as_host(now, packet))
            }
            Target::Unreachable => {
                self.counters.count(Event::NoRoute);
                Err(self.error(now, packet, IcmpError::NetUnreachable))
            }
            // The filter may have translated to such an address.
            Target::Broadcast | Target::Multicast | Target::Martian => {
                self.counters.count(Event::Martian);
                Err(Onward::Nothing)
            }
        }
    }

    /// Interface by which a packet of this host leaves; `None` when there is no way.
    #[must_use]
    pub fn route(&self, packet: &Packet) -> Option<IfIndex> {
        let target = header::destination(packet.data()).map(|dst| self.table.lookup(dst));
        if let Some(Target::Link(interface)) = target {
            return Some(interface);
        }
        self.counters.count(Event::NoRoute);
        None
    }

    /// Likewise, but rules may have given the packet another way.
    #[must_use]
    pub fn way_out(&self, packet: &Packet) -> Option<IfIndex> {
        let Some(hop) = packet.meta.next_hop.filter(|hop| !hop.copy) else {
            return self.route(packet);
        };
        let interface = self.route_of(hop);
        if interface.is_none() {
            self.counters.count(Event::NoRoute);
        }
        interface
    }

    /// MTU of the link when a packet has to be cut before it is sent there.
    #[must_use]
    pub fn fragment_size(&self, packet: &Packet) -> Option<usize> {
        let mtu = self.mtu(packet.meta.interface);
        (packet.len() > mtu && header::wire_len(packet) > mtu).then_some(mtu)
    }

    pub(super) fn mtu(&self, interface: IfIndex) -> usize {
        self.links.get(usize::from(interface.0)).map_or(usize::MAX, |link| link.mtu)
    }

    /// Interface of a next hop; `None` when there is no way.
    #[must_use]
    pub fn route_of(&self, hop: NextHop) -> Option<IfIndex> {
        match self.table.lookup(hop.addr) {
            _ if hop.interface.is_some() => hop.interface,
            Target::Link(interface) => Some(interface),
            _ => None,
        }
    }

    /// A host without listeners: answers echo requests, refuses TCP and UDP.
    fn answer_as_host(&mut self, now: Uptime, packet: &mut Packet) -> Onward {
        let Some(layout) = Layout::of(packet.data()) else { return Onward::Nothing };
        if layout.fragment != Fragment::Whole {
            return Onward::Nothing;
        }
        let icmp_type = packet.data().get(layout.transport).copied();
        let answered = match (layout.protocol, layout.dst, icmp_type) {
            (proto::ICMP, IpAddr::V4(_), Some(ECHO))
            | (proto::ICMPV6, IpAddr::V6(_), Some(ECHO_V6)) => reply::echo_reply(packet),
            (proto::TCP, ..) => reply::tcp_reset(packet, TTL_DEFAULT),
            (proto::UDP, ..) => return self.error(now, packet, IcmpError::PortUnreachable),
            _ => false,
        };
        if answered { self.leave(packet) } else { Onward::Nothing }
    }

    /// Turns a packet into the error that its sender gets.
    pub(super) fn error(&mut self, now: Uptime, packet: &mut Packet, kind: IcmpError) -> Onward {
        let is_v4 = packet.data().first().is_some_and(|first| first >> 4 == 4);
        let link = self.links.get(usize::from(packet.meta.interface.0));
        let Some(source) = link.and_then(|link| if is_v4 { link.v4 } else { link.v6 }) else {
            return Onward::Nothing;
        };
        if !self.errors.has_room(now) {
            self.counters.count(Event::ErrorLimited);
            return Onward::Nothing;
        }
        if !reply::icmp_error(packet, kind, source) {
            return Onward::Nothing;
        }
        let onward = if packet.meta.changed_family() {
            // Its receiver is an address of the translation. What comes in for that finds the
            // state and with it the way back.
            packet.meta.direction = Direction::In;
            Onward::Answer
        } else {
            self.leave(packet)
        };
        // One that nobody gets keeps no other from being sent.
        if onward == Onward::Answer {
            self.errors.used += 1;
        }
        onward
    }

    /// Sends an answer of this host on its way.
    fn leave(&self, packet: &mut Packet) -> Onward {
        let Some(interface) = self.route(packet) else { return Onward::Nothing };
        packet.meta.interface = interface;
        packet.meta.direction = Direction::Out;
        // A new packet: no state has let it in, and nobody but its sender cuts it.
        let id = packet.meta.refragment.map(|refragment| refragment.id());
        packet.meta.start();
        self.cut_for_link(packet, id);
        Onward::Answer
    }

    /// An identification for the fragments of a packet of this host that was not itself put
    /// together from fragments (those have a random one).
    pub(super) fn next_id(&self) -> u32 {
        let id = self.fragment_id.get().wrapping_add(1);
        self.fragment_id.set(id);
        id
    }

    /// Counts from the outside: fragments and lost buffers.
    pub(crate) fn count(&self, event: Event) {
        self.counters.count(event);
    }
}

/// The identification before the first one; not to be known outside (RFC 7739 section 5).
fn first_id() -> u32 {
    let [_, _, _, _, octets @ ..] = RandomState::new().hash_one(()).to_ne_bytes();
    u32::from_ne_bytes(octets)
}

impl ErrorBudget {
    fn has_room(&mut self, now: Uptime) -> bool {
        if now.as_secs() != self.second {
            *self = Self { second: now.as_secs(), used: 0 };
        }
        self.used < ERRORS_PER_S
    }
}

/// Special networks, configured routes, networks and addresses of the interfaces; later routes
/// replace earlier ones to the same prefix.
fn all_routes(options: &RouterOptions<'_>) -> Vec<(Prefix, Target)> {
    let special = [
        ("0.0.0.0/8", Target::Martian),
        ("127.0.0.0/8", Target::Martian),
        ("224.0.0.0/4", Target::Multicast),
        ("240.0.0.0/4", Target::Martian),
        ("255.255.255.255", Target::Broadcast),
        ("::", Target::Martian),
        ("::1", Target::Martian),
        ("::ffff:0:0/96", Target::Martian),
        ("fe80::/10", Target::Martian),
        ("ff00::/8", Target::Multicast),
    ];
    let mut routes: Vec<(Prefix, Target)> = special
        .into_iter()
        .map(|(text, target)| (text.parse().expect("these prefixes are well formed"), target))
        .collect();
    routes.extend(options.routes.iter().map(|route| (route.to, Target::Link(route.dev))));
    for (interface, index) in options.facts.interfaces.iter().zip(0_u16..) {
        for own in &interface.addresses {
            routes.push((own.network(), Target::Link(IfIndex(index))));
        }
    }
    for (interface, index) in options.facts.interfaces.iter().zip(0_u16..) {
        for own in &interface.addresses {
            if let Some(broadcast) = config::broadcast(own.network()) {
                routes.push((Prefix::host(broadcast), Target::Broadcast));
            }
            routes.push((Prefix::host(own.addr), Target::Local(IfIndex(index))));
        }
    }
    routes
}

/// What is wrong with a source address.
fn judge_source(src: IpAddr) -> Option<Event> {
    match src {
        IpAddr::V4(v4) => {
            let first = v4.octets()[0];
            (first == 0 || first == 127 || first >= 224).then_some(Event::Martian)
        }
        // An unspecified source is what a host sends before it has an address.
        IpAddr::V6(v6) if v6.is_unspecified() || is_link_local(src) => Some(Event::Noise),
        IpAddr::V6(v6) => {
            let mapped = v6.to_ipv4_mapped().is_some();
            (v6.is_loopback() || v6.is_multicast() || mapped).then_some(Event::Martian)
        }
    }
}

fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
