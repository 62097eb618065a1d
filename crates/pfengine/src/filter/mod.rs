//! What happens to one packet, stage by stage.
//!
//! [`Filter::decide`] is the list of stages; each stage is a file: `guard` (which SYNs get cookies),
//! `handshake` (the cookies and the proxy phase), `known` (packets of a state), `error` (ICMP errors), `fresh` (packets that
//! only rules can decide). Fragments are put together before, when a packet is received
//! (`fragment`). Source: OpenBSD sys/net/pf.c `pf_test`.

mod clean;
mod error;
mod fragment;
mod fresh;
mod guard;
mod handshake;
mod known;
mod limits;
mod log;
mod splice;

use pfapi::addr::Af;
use pfapi::reason::{Reason, TableCounter};
use pfapi::units::{Direction, IfIndex, Uptime};

use crate::engine::{Engine, Snapshot};
use crate::fault::{self, Fault};
use crate::interface_stats::Crossing;
use crate::normalize::{scrub, tcp_flags};
use crate::packet::{Packet, Verdict};
use crate::packet_desc::{PacketDesc, TcpDesc, Transport};
use crate::reply;
use crate::rules::{Actions, PacketView};
use crate::state::icmp::{self, IcmpClass};
use crate::state::key::{Hashed, Key};
use crate::state::store::{Held, View};
use crate::syncookie::Baking;
use crate::wire::build::flags::{ACK, SYN};
use crate::wire::build::{TCP_HEADER, TcpSegment};
use crate::wire::tcp_options::{self, SynOptions};
use crate::worker::{Parsed, Parts};

pub use guard::MacBudget;

/// Filter of one batch: one moment, one snapshot of the rules, one hold on the index.
pub struct Filter<'a> {
    pub(super) engine: &'a Engine,
    pub(super) snapshot: &'a Snapshot,
    pub(super) view: View<'a>,
    pub(super) parts: &'a mut Parts,
    pub(super) now: Uptime,
    /// Cookies of this batch.
    pub(super) baking: Baking,
    /// Whether syncookies behave exactly as in pf.
    pub(super) classic: bool,
}

/// A packet after parsing.
#[derive(Clone, Copy, Debug)]
pub enum Arrival {
    /// The interface is skipped.
    Skipped,
    /// Malformed.
    Refused(Reason),
    /// A fragment whose end is known already; no reason is counted.
    Settled(Verdict),
    /// To be decided.
    Parsed(Flow),
}

/// A parsed packet and the state key that it builds, when it can have one.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub desc: PacketDesc,
    pub key: Option<Hashed>,
    /// For ICMP queries: whether the message is the answer.
    pub is_reply: bool,
    /// A SYN that was re-created from a cookie: the client has completed its handshake already.
    pub from_cookie: bool,
    /// A `scrub` rule asks for `reassemble tcp`.
    pub reassemble_tcp: bool,
}

/// Where a packet crosses the filter.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub interface: IfIndex,
    pub direction: Direction,
}

/// Where a SYN comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the wire, or from this host.
    Real,
    /// Re-created from a cookie: it lets the cookie stage by.
    Cookie,
}

impl<'a> Filter<'a> {
    pub fn new(
        engine: &'a Engine,
        snapshot: &'a Snapshot,
        parts: &'a mut Parts,
        now: Uptime,
    ) -> Self {
        let classic = engine.classic.load(std::sync::atomic::Ordering::Relaxed);
        Self {
            engine,
            snapshot,
            view: engine.store.open(),
            parts,
            now,
            classic,
            baking: Baking::default(),
        }
    }

    /// Counts what was put off to the end of the batch.
    pub fn finish(mut self) {
        if self.baking.is_pending() {
            self.engine.syncookies.settle(&mut self.baking);
        }
    }

    /// Parses a packet, cleans it, and finds its key.
    pub fn receive(&mut self, packet: &mut Packet) -> Arrival {
        let mut arrival = self.parse(packet);
        if let Arrival::Parsed(flow) = &mut arrival
            && self.snapshot.rules.cleans()
        {
            self.clean(packet, flow);
        }
        arrival
    }

    fn parse(&mut self, packet: &mut Packet) -> Arrival {
        if packet.meta.direction == Direction::In {
            packet.meta.start();
            packet.meta.received_on = Some(packet.meta.interface);
        }
        packet.meta.next_hop = None;
        if packet.meta.unfiltered || self.snapshot.rules.skip.contains(packet.meta.interface.0) {
            return Arrival::Skipped;
        }
        let parsed: Parsed = PacketDesc::parse(packet.data());
        match parsed {
            Ok(desc) => {
                // Octets behind the IP packet are padding.
                let fits = packet.resize(desc.total);
                debug_assert!(fits, "a parsed packet fits its buffer");
                if desc.transport == Transport::Fragment {
                    return self.receive_fragment(packet, &desc);
                }
                fragment::clear_reserved_bit(packet, &desc);
                Arrival::Parsed(self.flow(desc, packet.meta.direction))
            }
            Err(reason) => Arrival::Refused(reason),
        }
    }

    fn flow(&self, desc: PacketDesc, direction: Direction) -> Flow {
        let mut is_reply = false;
        let ports = match desc.transport {
            Transport::Fragment => None,
            Transport::Icmp { icmp_type, id, .. } => match icmp::classify(desc.af, icmp_type) {
                IcmpClass::Error => None,
                IcmpClass::Query { virtual_type, has_id, reply } => {
                    is_reply = reply;
                    let id = if has_id { id } else { 0 };
                    Some(if reply { (virtual_type, id) } else { (id, virtual_type) })
                }
            },
            _ => Some(desc.ports()),
        };
        let key = ports.map(|(sport, dport)| {
            let key = Key::of_packet(
                direction,
                (desc.af, desc.proto),
                (desc.src, sport),
                (desc.dst, dport),
            );
            (key, self.engine.store.hash(&key))
        });
        Flow { desc, key, is_reply, from_cookie: false, reassemble_tcp: false }
    }

    /// Brings the index lines that the packet will need near.
    pub fn touch(&self, arrival: &Arrival) -> u64 {
        match arrival {
            Arrival::Parsed(Flow { key: Some((_, hash)), .. }) => self.view.touch(*hash),
            _ => 0,
        }
    }

    /// Decides one packet.
    pub fn decide(&mut self, packet: &mut Packet, arrival: &mut Arrival) -> Verdict {
        let crossing = Self::crossing(packet, arrival);
        let verdict = self.decide_arrival(packet, arrival);
        if let Some(crossing) = crossing {
            // As in pf, what changes its family or is answered has not plainly passed.
            let passed = verdict == Verdict::Pass && !packet.meta.changed_family();
            self.parts.stats.interfaces.count(&crossing, passed);
        }
        verdict
    }

    /// What counts as crossing an interface; packets of skipped interfaces and fragments that are
    /// kept do not. Source: OpenBSD sys/net/pf.c `pf_test`, `pf_counters_inc`.
    fn crossing(packet: &Packet, arrival: &Arrival) -> Option<Crossing> {
        let (af, octets) = match arrival {
            Arrival::Skipped | Arrival::Settled(Verdict::Held) => return None,
            Arrival::Parsed(flow) => (flow.desc.af, flow.desc.total),
            Arrival::Refused(_) | Arrival::Settled(_) => {
                let is_v6 = packet.data().first().is_some_and(|first| first >> 4 == 6);
                (if is_v6 { Af::Inet6 } else { Af::Inet }, packet.len())
            }
        };
        let Place { interface, direction } = Self::place(packet);
        Some(Crossing { interface, direction, af, octets })
    }

    fn decide_arrival(&mut self, packet: &mut Packet, arrival: &mut Arrival) -> Verdict {
        let verdict = match arrival {
            Arrival::Skipped => Ok(Verdict::Pass),
            Arrival::Refused(reason) => {
                self.log_refused(packet, *reason);
                Err(*reason)
            }
            Arrival::Settled(verdict) => return *verdict,
            Arrival::Parsed(flow) => self.decide_flow(packet, flow, Origin::Real),
        };
        if let Ok(Verdict::Answer) = verdict {
            // The answer is a packet of its own, shorter than any link.
            packet.meta.refragment = None;
        }
        verdict.unwrap_or_else(|reason| {
            // Packets that rules decided were counted as "match" when that happened.
            if reason != Reason::Match && !fault::is(Fault::DropsUncounted) {
                self.parts.stats.reason(reason);
            }
            Verdict::Drop(reason)
        })
    }

    /// The stages. `Err` drops the packet.
    pub(super) fn decide_flow(
        &mut self,
        packet: &mut Packet,
        flow: &mut Flow,
        origin: Origin,
    ) -> Result<Verdict, Reason> {
        match flow.desc.transport {
            Transport::Tcp(tcp) => self.decide_tcp(packet, flow, tcp, origin),
            Transport::Icmp { icmp_type, .. }
                if icmp::classify(flow.desc.af, icmp_type) == IcmpClass::Error =>
            {
                match self.match_icmp_error(packet, &flow.desc)? {
                    Some(verdict) => Ok(verdict),
                    None => self.decide_by_rules(packet, flow),
                }
            }
            _ => match self.find(packet, flow) {
                Some(state) => self.pass_datagram(packet, flow, state),
                None => self.decide_by_rules(packet, flow),
            },
        }
    }

    fn decide_tcp(
        &mut self,
        packet: &mut Packet,
        flow: &mut Flow,
        mut tcp: TcpDesc,
        origin: Origin,
    ) -> Result<Verdict, Reason> {
        if origin == Origin::Real
            && tcp.has(SYN)
            && let Some(outcome) = self.guard_syn(packet, flow, &tcp)
        {
            return outcome;
        }
        tcp_flags::normalize(packet, flow.desc.l4, &mut tcp)?;
        flow.desc.transport = Transport::Tcp(tcp);
        let mut state = self.find(packet, flow);
        if Self::may_return_cookie(packet, &tcp, state.as_deref()) && self.may_check_cookie() {
            drop(state);
            if let Some(outcome) = self.accept_cookie(packet, flow, &tcp) {
                return outcome;
            }
            state = self.find(packet, flow);
        }
        match state {
            Some(state) => self.pass_tcp(packet, flow, &tcp, state),
            None => self.decide_by_rules(packet, flow),
        }
    }

    /// The state of a packet, by the link that the inbound pass left, else by its key.
    fn find(&mut self, packet: &Packet, flow: &Flow) -> Option<Held<'a>> {
        let key = flow.key.as_ref()?;
        self.parts.stats.state_table(TableCounter::Searches, 1);
        let Place { direction, interface } = Self::place(packet);
        let linked = (direction == Direction::Out)
            .then_some(packet.meta.pair)
            .flatten()
            .and_then(|pair| self.engine.store.follow(pair))
            .filter(|state| {
                let there = state.interface.is_none_or(|only| only == interface);
                there && !state.purge && state.meets(direction, &key.0)
            });
        linked.or_else(|| self.view.find(key, direction, interface))
    }

    /// Where the packet is now.
    pub(super) const fn place(packet: &Packet) -> Place {
        Place { interface: packet.meta.interface, direction: packet.meta.direction }
    }

    /// The packet as conditions of rules look at it, where it is now.
    fn view<'p>(packet: &'p Packet, desc: &'p PacketDesc) -> PacketView<'p> {
        PacketView {
            desc,
            data: packet.data(),
            interface: packet.meta.interface,
            direction: packet.meta.direction,
            received_on: packet.meta.received_on,
            tag: packet.meta.tag,
            prio: packet.meta.prio,
        }
    }
}

/// Does to a packet that passes what rules ask for: tag, queue, priority, delay and scrub. What the
/// inbound rules have set stays where the outbound ones set nothing, the delay excepted. Source:
/// OpenBSD sys/net/pf.c `pf_test`, `pf_tag_packet`.
pub(super) fn carry_out(
    packet: &mut Packet,
    desc: &PacketDesc,
    actions: &Actions,
    rng: &mut crate::rng::Rng,
) {
    /// Type of service that asks for low delay (RFC 1349).
    const LOW_DELAY: u8 = 0x10;
    let mut marks = packet.meta.marks();
    actions.mark(&mut marks, || {
        let is_ack = matches!(desc.transport, Transport::Tcp(tcp) if tcp.payload == 0
            && tcp.has(ACK));
        is_ack || desc.tos & LOW_DELAY != 0
    });
    packet.meta.put_marks(marks);
    scrub::apply(packet, desc, actions, rng);
}

/// What the options of a TCP header say; `l4` is where the header starts.
pub(super) fn tcp_options_of(packet: &Packet, l4: usize, tcp: &TcpDesc) -> SynOptions {
    tcp_options::scan(&packet.data()[l4 + TCP_HEADER..l4 + tcp.header])
}

/// The window scale that a segment offers; only SYNs do.
pub(super) fn wscale_offer(packet: &Packet, l4: usize, tcp: &TcpDesc) -> Option<u8> {
    tcp.has(SYN).then(|| tcp_options_of(packet, l4, tcp).wscale).flatten()
}

/// Writes a segment into the buffer of the packet that it replaces.
///
/// # Errors
/// [`Reason::StateMismatch`] when no one host is at either end (multicast senders have states
/// too), [`Reason::Memory`] when the buffer is too small; the packet is then as it was.
pub(super) fn replace(packet: &mut Packet, segment: &TcpSegment) -> Result<(), Reason> {
    if !segment.is_between_hosts() {
        return Err(Reason::StateMismatch);
    }
    if reply::place_segment(packet, segment) { Ok(()) } else { Err(Reason::Memory) }
}
