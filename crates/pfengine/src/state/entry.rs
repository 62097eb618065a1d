//! One state: a connection as the filter remembers it.

use core::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pfapi::addr::Af;
use pfapi::control::{PeerReport, StateReport};
use pfapi::ruleset::RouteKind;
use pfapi::timeout::{Timeout, Timeouts};
use pfapi::units::{Direction, IfIndex, Uptime};

use super::expire::{Expiry, Population};
use super::key::{Key, Keys, Side};
use super::tcp::{Level, TcpState};
use crate::fault::{self, Fault};
use crate::nat::Shares;
use crate::normalize::timestamps::Timestamps;
use crate::packet::{NextHop, StateRef};
use crate::rules::{Actions, Live, LoadedRule, LoadedRules, MatchList};
use crate::source::SourceHold;
use crate::syncookie::{Backlog, Destination, PROBE_LIFE_S};

/// A connection as the filter remembers it.
#[derive(Debug)]
pub struct State {
    /// Unique in one run.
    pub id: u64,
    /// Keys of both sides.
    pub keys: Keys,
    /// Direction of the first packet.
    pub direction: Direction,
    /// The only interface on which the state is met; `None` for floating states.
    pub interface: Option<IfIndex>,
    /// Rule that made the state; it outlives a reload here, as in pf.
    pub rule: Arc<LoadedRule>,
    /// Anchor rule around it.
    pub anchor: Option<Arc<LoadedRule>>,
    /// Match rules that the first packet met; they count the packets of the state too.
    pub matches: Option<MatchList>,
    /// What these rules ask to be done to the packets of the state.
    pub actions: Actions,
    /// Its part in the source node of its initiator.
    pub source: Option<SourceHold>,
    /// When the state was made.
    pub created: Uptime,
    /// When it was used last; moved by accepted packets only.
    pub last_used: Uptime,
    /// Which timeout runs.
    pub timeout: Timeout,
    /// Packets in the direction of the first packet, and back.
    pub packets: [u64; 2],
    /// Octets likewise.
    pub bytes: [u64; 2],
    /// What of these the rule's counters no longer have, after `pfctl -z`.
    pub cleared: Live,
    /// The state of the same flow on the other interface, when both are known.
    pub pair: Option<StateRef>,
    /// Ended; the purge collects it and no packet matches it.
    pub purge: bool,
    /// Where `route-to`, `reply-to` or `dup-to` sends packets.
    pub route: Option<StateRoute>,
    /// Its parts in the loads of the addresses that it holds.
    #[expect(dead_code, reason = "nobody reads them: they count for as long as the state lives")]
    pub shares: Shares,
    /// What depends on the protocol.
    pub body: Body,
    /// `scrub (reassemble tcp)`; apart, because few connections have it.
    pub timestamps: Option<Box<Timestamps>>,
    /// Part of this state in the gauges of half-open connections.
    pub half_open: HalfOpen,
}

/// Another way for packets of a state.
#[derive(Clone, Copy, Debug)]
pub struct StateRoute {
    /// Which packets take it.
    pub kind: RouteKind,
    /// The next hop, chosen when the state was made.
    pub next_hop: IpAddr,
}

impl StateRoute {
    /// The way of a packet that flows in the direction of the state, or back.
    pub fn of_packet(self, forward: bool) -> Option<NextHop> {
        let takes = match self.kind {
            RouteKind::RouteTo => forward,
            RouteKind::ReplyTo => !forward,
            RouteKind::DupTo => true,
        };
        let copy = self.kind == RouteKind::DupTo;
        takes.then_some(NextHop { addr: self.next_hop, copy })
    }
}

/// What depends on the protocol.
#[derive(Debug)]
pub enum Body {
    /// TCP.
    Tcp(TcpState),
    /// UDP, and protocols that the filter does not know.
    Datagram(DatagramState),
    /// An ICMP query.
    Icmp,
}

/// Levels of the two ends of a flow without connections.
#[derive(Clone, Copy, Debug)]
pub struct DatagramState {
    /// The end that sent the first packet.
    pub src: DatagramLevel,
    /// The other end.
    pub dst: DatagramLevel,
    /// Whether the timeouts are those of UDP.
    pub udp: bool,
}

/// How much one end has said.
///
/// Source: OpenBSD sys/net/pfvar.h `PFUDPS_*`, `PFOTHERS_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DatagramLevel {
    /// Nothing.
    NoTraffic = 0,
    /// Something, unanswered.
    Single = 1,
    /// Something that the other end answered.
    Multiple = 2,
}

impl DatagramState {
    /// After the first packet.
    pub const fn new(udp: bool) -> Self {
        Self { src: DatagramLevel::Single, dst: DatagramLevel::NoTraffic, udp }
    }

    /// Notes a packet; `forward` when it flows in the direction of the first one. Gives the
    /// timeout that runs now. Source: OpenBSD sys/net/pf.c `pf_test_state`.
    pub fn track(&mut self, forward: bool) -> Timeout {
        let (sender, receiver) =
            if forward { (&mut self.src, &mut self.dst) } else { (&mut self.dst, &mut self.src) };
        *sender = (*sender).max(DatagramLevel::Single);
        if *receiver == DatagramLevel::Single {
            *receiver = DatagramLevel::Multiple;
        }
        let both = self.src == DatagramLevel::Multiple && self.dst == DatagramLevel::Multiple;
        match (self.udp, both) {
            (true, true) => Timeout::UdpMultiple,
            (true, false) => Timeout::UdpSingle,
            (false, true) => Timeout::OtherMultiple,
            (false, false) => Timeout::OtherSingle,
        }
    }
}

/// Half-open TCP connections, counted in two ways.
#[derive(Debug, Default)]
pub struct HalfOpenGauges {
    /// Connections whose third packet has not come; each counts once, whatever its states.
    pub connections: AtomicU64,
    /// States without a SYN|ACK, as pf counts them.
    pub pf_states: AtomicU64,
    /// The connections by destination.
    pub backlog: Backlog,
}

/// What one state adds to the gauges. The gauges change only in [`State::update_half_open`] and
/// [`State::leave_half_open`], so they cannot drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfOpen {
    connection: bool,
    pf_state: bool,
    /// The first state of its connection; the one behind it does not count again.
    counts_connection: bool,
    /// Whether the connection is counted for its destination.
    in_backlog: bool,
    /// Whether the connection asks an unknown port, and is given up soon when nobody answers.
    pub is_probe: bool,
}

impl HalfOpen {
    /// For a state that counts for its connection, or one that does not because the inbound
    /// state of the same packet does. `is_probe` is whether it asks an unknown port.
    pub const fn new(counts_connection: bool, is_probe: bool) -> Self {
        Self { connection: false, pf_state: false, counts_connection, in_backlog: false, is_probe }
    }
}

fn step(gauge: &AtomicU64, counted: &mut bool, now: bool) {
    match (*counted, now) {
        (false, true) => {
            gauge.fetch_add(1, Ordering::Relaxed);
        }
        (true, false) if !fault::is(Fault::HalfOpenStays) => {
            gauge.fetch_sub(1, Ordering::Relaxed);
        }
        _ => {}
    }
    *counted = now;
}

impl State {
    /// Moves the gauges to where the levels are now. Call after every change of TCP levels.
    pub fn update_half_open(&mut self, gauges: &HalfOpenGauges) {
        let Body::Tcp(tcp) = &self.body else { return };
        let pf_state = (Level::Listen..Level::Established).contains(&tcp.src.level);
        let connection = self.half_open.counts_connection && tcp.is_half_open();
        step(&gauges.pf_states, &mut self.half_open.pf_state, pf_state);
        step(&gauges.connections, &mut self.half_open.connection, connection);
        self.follow_backlog(&gauges.backlog);
    }

    /// Takes the state out of the gauges for good.
    pub fn leave_half_open(&mut self, gauges: &HalfOpenGauges) {
        step(&gauges.pf_states, &mut self.half_open.pf_state, false);
        step(&gauges.connections, &mut self.half_open.connection, false);
        self.follow_backlog(&gauges.backlog);
    }

    /// Counts the connection for its destination, or takes the count back.
    fn follow_backlog(&mut self, backlog: &Backlog) {
        let counted = self.half_open.in_backlog;
        if self.half_open.connection && !counted && backlog.is_counting() {
            backlog.add(&self.destination());
            self.half_open.in_backlog = true;
        } else if counted && !self.half_open.connection {
            backlog.remove(&self.destination());
            self.half_open.in_backlog = false;
        }
    }

    /// The destination as the initiator sees it, when that is a client outside.
    pub fn destination(&self) -> Destination {
        let key = self.keys.get(Side::Wire);
        let end = usize::from(self.direction == Direction::In);
        Destination::new(key.af, key.addr[end], key.port[end])
    }

    /// What this state adds to the gauges, for recounts: connections, pf's states.
    pub const fn half_open_counts(&self) -> (bool, bool) {
        (self.half_open.connection, self.half_open.pf_state)
    }

    /// Counts a packet of `octets`.
    pub fn count(&mut self, forward: bool, octets: usize) {
        let side = usize::from(!forward);
        self.packets[side] += 1;
        self.bytes[side] += octets as u64;
    }

    /// What the rule has of this state since its counters were cleared: in, out.
    pub fn counted(&self) -> Live {
        let mut live = Live::default();
        for side in 0..2 {
            // Side 0 is the direction of the first packet.
            let at = if self.direction == Direction::In { side } else { 1 - side };
            live.packets[at] = self.packets[side] - self.cleared.packets[side];
            live.bytes[at] = self.bytes[side] - self.cleared.bytes[side];
        }
        live
    }

    /// Forgets what the rule has of this state, for `pfctl -z`.
    pub const fn clear_counted(&mut self) {
        self.cleared = Live { packets: self.packets, bytes: self.bytes };
    }

    /// Rules that count the packets of the state: its own, the anchor rule around it, and match
    /// rules. Source: OpenBSD sys/net/pf.c `pf_counters_inc`, `STATE_INC_COUNTERS`.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<LoadedRule>> {
        let matches = self.matches.iter().flat_map(|list| list.iter());
        [&self.rule].into_iter().chain(&self.anchor).chain(matches)
    }

    /// Tells its rules that it exists; once, when it is in the store.
    pub fn begin(&self) {
        self.rules().for_each(|rule| rule.counters.count_state());
    }

    /// Hands its counts to its rules; once, when the state has ended.
    pub fn retire(&self) {
        let counted = self.counted();
        self.rules().for_each(|rule| rule.counters.retire(&counted));
        if let Some(source) = &self.source {
            source.retire(&counted);
        }
    }

    /// Seconds until the state may be purged; zero when it is due.
    pub fn expires_in(&self, now: Uptime, timeouts: &Timeouts, population: Population) -> u64 {
        if self.purge {
            return 0;
        }
        if fault::is(Fault::NothingExpires) {
            return 1;
        }
        let mut life = Expiry { timeouts, population }.life(&self.rule, self.timeout);
        if self.half_open.is_probe && matches!(&self.body, Body::Tcp(tcp) if tcp.is_half_open()) {
            life = life.min(PROBE_LIFE_S);
        }
        u64::from(life).saturating_sub(now.secs_since(self.last_used))
    }

    /// Whether a packet of this state flows in the direction of the first one.
    pub fn is_forward(&self, direction: Direction, af: Af) -> bool {
        // Both sides of a state with two families are met by inbound packets.
        let reversed = self.keys.changes_family() && self.keys.side(direction, af) == Side::Stack;
        (direction == self.direction) != (reversed ^ fault::is(Fault::EndsSwapped))
    }

    /// Whether two states cannot be told apart on one of their sides: the same key, direction and
    /// interface. Source: OpenBSD sys/net/pf.c `pf_state_key_attach`.
    pub fn clashes_with(&self, other: &Self) -> bool {
        let clash = |a: Side, b: Side| {
            self.keys.get(a) == other.keys.get(b) && self.runs(a) == other.runs(b)
        };
        self.interface == other.interface
            && (clash(Side::Wire, Side::Wire)
                || (self.keys.is_translated() || other.keys.is_translated())
                    && (clash(Side::Stack, Side::Stack)
                        || clash(Side::Wire, Side::Stack)
                        || clash(Side::Stack, Side::Wire)))
    }

    /// Direction of the first packet as its key on this side is built. Beyond `af-to` the
    /// initiator is on the own side, as for an outbound state.
    fn runs(&self, side: Side) -> Direction {
        if self.keys.changes_family() && side == Side::Stack {
            self.direction.reversed()
        } else {
            self.direction
        }
    }

    /// Initiator and other end of the connection on one side: the wire side of an inbound state
    /// and the stack side of an outbound one have the packets before translation.
    pub fn ends(&self, side: Side) -> [(IpAddr, u16); 2] {
        let key = self.keys.get(side);
        let end = |end: usize| (key.addr[end].to_ip(key.af), key.port[end]);
        match self.runs(side) {
            Direction::In => [end(0), end(1)],
            Direction::Out => [end(1), end(0)],
        }
    }

    /// The state as pfctl prints it; `interface` is the one that it is bound to, or `all`.
    pub fn report(
        &self,
        interface: &str,
        now: Uptime,
        timeouts: &Timeouts,
        population: Population,
        creator: u32,
        rules: &LoadedRules,
    ) -> StateReport {
        let peer = |level: u8| PeerReport { level, seqlo: 0, seqhi: 0, seqdiff: 0, wscale: None };
        let (src, dst) = match &self.body {
            Body::Tcp(tcp) => (tcp.src.report(), tcp.dst.report()),
            Body::Datagram(datagram) => (peer(datagram.src as u8), peer(datagram.dst as u8)),
            Body::Icmp => (peer(0), peer(0)),
        };
        let (wire, stack) = (self.keys.get(Side::Wire), self.keys.get(Side::Stack));
        let ends = |key: &Key| {
            [0, 1].map(|side| (key.addr[side].to_ip(key.af), self.shown_port(key, side)))
        };
        StateReport {
            id: self.id,
            creator,
            interface: interface.to_owned(),
            af: wire.af,
            proto: wire.proto,
            direction: self.direction,
            wire: ends(wire),
            stack: ends(stack),
            src,
            dst,
            age_s: now.secs_since(self.created),
            expires_s: self.expires_in(now, timeouts, population),
            packets: self.packets,
            bytes: self.bytes,
            rule: rules.is_current(&self.rule).then_some(self.rule.number).flatten(),
        }
    }

    /// Ports as pfctl shows them: an ICMP state shows its id on both sides.
    fn shown_port(&self, key: &Key, side: usize) -> u16 {
        match self.body {
            Body::Icmp => {
                // The id stands at the initiator's end.
                let side =
                    if key.af == self.keys.get(Side::Wire).af { Side::Wire } else { Side::Stack };
                key.port[usize::from(self.runs(side) == Direction::Out)]
            }
            _ => key.port[side],
        }
    }
}
