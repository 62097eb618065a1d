//! One state: a connection as the filter remembers it.

use core::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use pfapi::addr::Af;
use pfapi::control::{PeerReport, StateMarks, StateReport};
use pfapi::ruleset::RouteKind;
use pfapi::timeout::{Timeout, Timeouts};
use pfapi::units::{Direction, IfIndex, Uptime};

use super::expire::{Expiry, Population};
pub use super::half_open::HalfOpen;
use super::key::{Form, Key, Keys, Side};
use super::splice::Splice;
use super::tcp::{Level, TcpState};
use crate::fault::{self, Fault};
use crate::limiter::Places;
use crate::nat::Shares;
use crate::normalize::timestamps::{End, Timestamps};
use crate::packet::{Marks, NextHop, StateRef};
use crate::rules::{Actions, Decision, Live, LoadedRule, LoadedRules};
use crate::source::SourceHold;
use crate::syncookie::{Backlog, Destination, PROBE_LIFE_S};

/// A connection as the filter remembers it.
///
/// The fields lie in the order in which they are written here: with the lock of the slot in front,
/// a packet of a known connection meets the first three cache lines alone, and of the fourth one
/// that is translated. What few states have is behind [`State::rare`], and what states of one
/// decision have in common in its [`Decision`].
#[derive(Debug)]
#[repr(C)]
pub struct State {
    wire: Key,
    /// Unique in one run.
    pub id: u64,
    /// The only interface on which the state is met; `None` for floating states.
    pub interface: Option<IfIndex>,
    /// Direction of the first packet.
    pub direction: Direction,
    /// Ended; the purge collects it and no packet matches it.
    pub purge: bool,
    form: Form,
    /// Part of this state in the gauges of half-open connections.
    pub half_open: HalfOpen,
    // The second line.
    /// What depends on the protocol.
    pub body: Body,
    /// The state of the same flow on the other interface, when both are known.
    pub pair: Option<StateRef>,
    // The third line.
    /// Packets in the direction of the first packet, and back.
    pub packets: [u64; 2],
    /// Octets likewise.
    pub bytes: [u64; 2],
    /// When it was used last; moved by accepted packets only.
    pub last_used: Uptime,
    /// What the rules said of the first packet; it outlives a reload here, as in pf.
    pub decision: Arc<Decision>,
    /// What few states have.
    pub rare: Option<Box<Rare>>,
    /// Which timeout runs.
    pub timeout: Timeout,
    // The fourth line.
    stack: Key,
    /// When the state was made.
    pub created: Uptime,
    /// What of its counts the rules' counters no longer have, after `pfctl -z`.
    cleared: Option<Box<Live>>,
}

/// What few states have.
#[derive(Debug, Default)]
pub struct Rare {
    /// Its part in the source node of its initiator.
    pub source: Option<SourceHold>,
    /// Where `route-to`, `reply-to` or `dup-to` sends packets.
    pub route: Option<StateRoute>,
    /// Its parts in the loads of the addresses that it holds: they count for as long as the state
    /// lives.
    pub shares: Shares,
    /// What a connection needs whose ends have shaken hands with the filter.
    pub splice: Option<Box<Splice>>,
    /// `scrub (reassemble tcp)`.
    pub timestamps: Option<Timestamps>,
    /// Its places in limiters.
    pub places: Places,
    /// What of its counts the tables of its rules have already.
    pub posted: Live,
}

impl Rare {
    /// A box for these parts; `None` when there is nothing to keep.
    pub fn new(rare: Self) -> Option<Box<Self>> {
        let Self { source, route, shares, splice, timestamps, places, posted: _ } = &rare;
        let idle = source.is_none()
            && route.is_none()
            && shares.is_empty()
            && splice.is_none()
            && timestamps.is_none()
            && places.is_empty();
        (!idle).then(|| Box::new(rare))
    }
}

/// Another way for packets of a state.
#[derive(Clone, Copy, Debug)]
pub struct StateRoute {
    /// Which packets take it.
    pub kind: RouteKind,
    /// The next hop, chosen when the state was made.
    pub next_hop: IpAddr,
    /// The interface that leads there; `None` asks the routes.
    pub interface: Option<IfIndex>,
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
        takes.then_some(NextHop { addr: self.next_hop, interface: self.interface, copy })
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

impl State {
    /// A state for a first packet at `now`, without an id, not yet counted and not yet in the
    /// store.
    pub fn new(
        keys: &Keys,
        direction: Direction,
        decision: Arc<Decision>,
        (body, timeout): (Body, Timeout),
        now: Uptime,
    ) -> Self {
        Self {
            wire: keys.wire,
            id: 0,
            interface: None,
            direction,
            purge: false,
            form: keys.form,
            half_open: HalfOpen::new(true, false),
            body,
            pair: None,
            packets: [0; 2],
            bytes: [0; 2],
            last_used: now,
            decision,
            rare: None,
            timeout,
            stack: keys.stack,
            created: now,
            cleared: None,
        }
    }

    /// A copy of both keys.
    pub const fn keys(&self) -> Keys {
        Keys { wire: self.wire, stack: self.stack, form: self.form }
    }

    /// The key of one side.
    pub fn key(&self, side: Side) -> &Key {
        // Without translation the other line need not come near.
        if side == Side::Wire || self.form == Form::Same { &self.wire } else { &self.stack }
    }

    /// Whether the keys differ.
    pub fn is_translated(&self) -> bool {
        self.form != Form::Same
    }

    /// Whether the keys have two families (`af-to`).
    pub fn changes_family(&self) -> bool {
        self.form == Form::OtherFamily
    }

    /// Whether a packet that crosses in `direction` and builds `key` belongs to the state.
    pub fn meets(&self, direction: Direction, key: &Key) -> bool {
        match direction {
            Direction::In => self.wire == *key || self.changes_family() && self.stack == *key,
            Direction::Out => *self.key(Side::Stack) == *key && !self.changes_family(),
        }
    }

    /// Rule that made the state.
    pub fn rule(&self) -> &Arc<LoadedRule> {
        &self.decision.rule
    }

    /// What the state does to its packets besides passing them.
    pub fn actions(&self) -> &Actions {
        &self.decision.actions
    }

    /// What its rules write onto a packet without data, for what the filter sends in the name of
    /// one of its ends.
    pub fn marks(&self, is_ack: bool) -> Marks {
        let mut marks = Marks::NONE;
        self.actions().mark(&mut marks, || is_ack);
        marks
    }

    /// Another way for the packets of the state.
    pub fn route(&self) -> Option<StateRoute> {
        self.rare.as_ref().and_then(|rare| rare.route)
    }

    /// Another way for a packet that flows in the direction of the state, or back.
    pub fn next_hop(&self, forward: bool) -> Option<NextHop> {
        self.route().and_then(|route| route.of_packet(forward))
    }

    /// What is known of a connection whose ends have shaken hands with the filter.
    pub fn splice(&self) -> Option<&Splice> {
        self.rare.as_ref().and_then(|rare| rare.splice.as_deref())
    }

    /// Makes the connection one whose ends have shaken hands with the filter. What `reassemble tcp`
    /// knows of the client waits until both ends are joined.
    pub fn set_splice(&mut self, mut splice: Splice) {
        let rare = self.rare.get_or_insert_default();
        let client = rare.timestamps.as_ref().and_then(|timestamps| timestamps.src);
        splice.stamp_shift = client.map(|end| end.shift());
        rare.splice = Some(Box::new(splice));
    }

    /// What `reassemble tcp` knows of the end that sent the first packet.
    pub fn first_end(&mut self) -> Option<&mut End> {
        self.rare.as_mut()?.timestamps.as_mut()?.src.as_mut()
    }

    /// Its part in the source node of its initiator.
    pub fn source(&self) -> Option<&SourceHold> {
        self.rare.as_ref().and_then(|rare| rare.source.as_ref())
    }

    /// Moves the gauges to where the levels are now. Call after every change of TCP levels.
    pub fn update_half_open(&mut self, gauges: &HalfOpenGauges) {
        let Body::Tcp(tcp) = &self.body else { return };
        let pf_state = (Level::Listen..Level::Established).contains(&tcp.src.level);
        let counts = self.half_open.has(HalfOpen::COUNTS_CONNECTION);
        let connection = counts && tcp.is_half_open();
        self.half_open.step(&gauges.pf_states, HalfOpen::PF_STATE, pf_state);
        self.half_open.step(&gauges.connections, HalfOpen::CONNECTION, connection);
        self.follow_backlog(&gauges.backlog);
    }

    /// Takes the state out of the gauges for good.
    pub fn leave_half_open(&mut self, gauges: &HalfOpenGauges) {
        self.half_open.step(&gauges.pf_states, HalfOpen::PF_STATE, false);
        self.half_open.step(&gauges.connections, HalfOpen::CONNECTION, false);
        self.follow_backlog(&gauges.backlog);
    }

    /// Counts the connection for its destination, or takes the count back.
    fn follow_backlog(&mut self, backlog: &Backlog) {
        let (counted, open) =
            (self.half_open.has(HalfOpen::IN_BACKLOG), self.half_open.has(HalfOpen::CONNECTION));
        if open && !counted && backlog.is_counting() {
            backlog.add(&self.destination());
            self.half_open.0 |= HalfOpen::IN_BACKLOG;
        } else if counted && !open {
            backlog.remove(&self.destination());
            self.half_open.0 &= !HalfOpen::IN_BACKLOG;
        }
    }

    /// The destination as the initiator sees it, when that is a client outside.
    pub fn destination(&self) -> Destination {
        let key = self.key(Side::Wire);
        let end = usize::from(self.direction == Direction::In);
        Destination::new(key.af, key.addr[end], key.port[end])
    }

    /// Whether its SYN asked a port of which nothing was known.
    pub const fn asks_port(&self) -> bool {
        self.half_open.has(HalfOpen::IS_PROBE)
    }

    /// Address of the client, as it is on the wire where an inbound state was made.
    pub fn client(&self) -> IpAddr {
        let key = self.key(Side::Wire);
        key.addr[usize::from(self.direction == Direction::Out)].to_ip(key.af)
    }

    /// What this state adds to the gauges, for recounts: connections, pf's states.
    pub const fn half_open_counts(&self) -> (bool, bool) {
        (self.half_open.has(HalfOpen::CONNECTION), self.half_open.has(HalfOpen::PF_STATE))
    }

    /// The destination for which its connection is counted, for recounts.
    pub fn counted_destination(&self) -> Option<Destination> {
        self.half_open.has(HalfOpen::IN_BACKLOG).then(|| self.destination())
    }

    /// Counts a packet of `octets`.
    pub fn count(&mut self, forward: bool, octets: usize) {
        let side = usize::from(!forward);
        self.packets[side] += 1;
        self.bytes[side] += octets as u64;
    }

    /// What the rule has of this state since its counters were cleared: in, out.
    pub fn counted(&self) -> Live {
        self.counted_since(self.cleared.as_deref().unwrap_or(&Live::default()))
    }

    fn counted_since(&self, before: &Live) -> Live {
        let mut live = Live::default();
        for side in 0..2 {
            // Side 0 is the direction of the first packet.
            let at = if self.direction == Direction::In { side } else { 1 - side };
            live.packets[at] = self.packets[side] - before.packets[side];
            live.bytes[at] = self.bytes[side] - before.bytes[side];
        }
        live
    }

    /// Tells the tables of its rules what it has counted and they do not know.
    pub fn post_to_tables(&mut self) {
        if self.tell_tables() {
            let all = Live { packets: self.packets, bytes: self.bytes };
            self.rare.get_or_insert_default().posted = all;
        }
    }

    /// Whether there was a table to tell.
    fn tell_tables(&self) -> bool {
        // Anchor rules count in no table.
        let Decision { rule, matches, .. } = &*self.decision;
        let rules = [rule].into_iter().chain(matches).filter(|rule| rule.names_tables());
        let mut counted = None;
        for rule in rules {
            let counted = counted.get_or_insert_with(|| {
                let posted = self.rare.as_ref().map_or_else(Live::default, |rare| rare.posted);
                self.counted_since(&posted)
            });
            // pf looks for the addresses behind the translation; before it, rules may have met
            // others.
            let behind = if self.direction == Direction::In { Side::Stack } else { Side::Wire };
            let ends = [behind, behind.other()].map(|side| self.ends(side));
            rule.count_in_tables(|table, end, negated, used| {
                table.count_state(ends.map(|ends| ends[end].0), negated, used, counted);
            });
        }
        counted.is_some()
    }

    /// Forgets what the rule has of this state, for `pfctl -z`.
    pub fn clear_counted(&mut self) {
        self.cleared = Some(Box::new(Live { packets: self.packets, bytes: self.bytes }));
    }

    /// Rules that count the packets of the state: its own, the anchor rule around it, and match
    /// rules. Source: OpenBSD sys/net/pf.c `pf_counters_inc`, `STATE_INC_COUNTERS`.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<LoadedRule>> {
        self.decision.rules()
    }

    /// Tells its rules and limiters that it exists; once, when it is in the store. A rule with
    /// `max` has counted the state that it decides on before; see `RuleCounters::reserve`.
    pub fn begin(&mut self) {
        let decision = &*self.decision;
        for rule in decision.rules() {
            let is_reserved = rule.has_max() && Arc::ptr_eq(rule, &decision.rule);
            rule.counters.count_state(is_reserved);
        }
        if let Some(rare) = &mut self.rare {
            rare.places.begin();
        }
    }

    /// Takes back what [`Self::begin`] has told: no place was found for it after all. The place that
    /// was counted ahead is its owner's to give back.
    pub fn take_back(&self) {
        let decision = &*self.decision;
        for rule in decision.rules() {
            if !(rule.has_max() && Arc::ptr_eq(rule, &decision.rule)) {
                rule.counters.give_back();
            }
        }
    }

    /// Hands its counts to its rules; once, when the state has ended.
    pub fn retire(&self) {
        let counted = self.counted();
        self.rules().for_each(|rule| rule.counters.retire(&counted));
        self.tell_tables();
        if let Some(source) = self.source() {
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
        let mut life = Expiry { timeouts, population }.life(self.rule(), self.timeout);
        if self.asks_port()
            && matches!(&self.body, Body::Tcp(tcp) if tcp.is_half_open() || tcp.is_closed())
        {
            life = life.min(PROBE_LIFE_S);
        }
        u64::from(life).saturating_sub(now.secs_since(self.last_used))
    }

    /// Whether a packet of this state flows in the direction of the first one.
    pub fn is_forward(&self, direction: Direction, af: Af) -> bool {
        // Both sides of a state with two families are met by inbound packets.
        let side = || self.form.side(direction, af == self.wire.af);
        let reversed = self.changes_family() && side() == Side::Stack;
        (direction == self.direction) != (reversed ^ fault::is(Fault::EndsSwapped))
    }

    /// Whether two states cannot be told apart on one of their sides: the same key, direction and
    /// interface. Source: OpenBSD sys/net/pf.c `pf_state_key_attach`.
    pub fn clashes_with(&self, other: &Self) -> bool {
        let clash = |a: Side, b: Side| self.key(a) == other.key(b) && self.runs(a) == other.runs(b);
        self.interface == other.interface
            && (clash(Side::Wire, Side::Wire)
                || (self.is_translated() || other.is_translated())
                    && (clash(Side::Stack, Side::Stack)
                        || clash(Side::Wire, Side::Stack)
                        || clash(Side::Stack, Side::Wire)))
    }

    /// Direction of the first packet as its key on this side is built. Beyond `af-to` the
    /// initiator is on the own side, as for an outbound state.
    fn runs(&self, side: Side) -> Direction {
        if self.changes_family() && side == Side::Stack {
            self.direction.reversed()
        } else {
            self.direction
        }
    }

    /// Initiator and other end of the connection on one side: the wire side of an inbound state
    /// and the stack side of an outbound one have the packets before translation.
    pub fn ends(&self, side: Side) -> [(IpAddr, u16); 2] {
        let key = self.key(side);
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
        let (wire, stack) = (self.key(Side::Wire), self.key(Side::Stack));
        let ends = |key: &Key| [0, 1].map(|end| (key.addr[end].to_ip(key.af), key.port[end]));
        let number =
            |rule: &Arc<LoadedRule>| rules.is_current(rule).then_some(rule.listed).flatten();
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
            rule: number(self.rule()),
            anchor: self.decision.anchor.as_ref().and_then(number),
            next_hop: self.route().map(|route| route.next_hop),
            marks: StateMarks {
                sloppy: self.decision.sloppy,
                pflow: self.rule().rule.state_options.pflow,
                source_track: self.source().is_some(),
                sticky_address: self.rare.as_ref().is_some_and(|rare| rare.shares.is_sticky()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    /// Octets of the lock in front of a state; see `store`.
    const LOCK: usize = 8;
    const LINE: usize = 64;

    #[test]
    fn known_connections_touch_three_lines() {
        assert_eq!(offset_of!(State, body) + LOCK, LINE);
        assert_eq!(offset_of!(State, packets) + LOCK, 2 * LINE);
        assert_eq!(offset_of!(State, stack) + LOCK, 3 * LINE);
        assert!(size_of::<State>() + LOCK <= 4 * LINE);
        assert_eq!(size_of::<Option<State>>(), size_of::<State>());
    }
}
