//! Packets that no state knows: rules decide, and what passes may leave a state.

use core::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pfapi::addr::Af;
use pfapi::reason::{Reason, TableCounter};
use pfapi::ruleset::{Action, BlockAnswer, Route, StatePolicy};
use pfapi::timeout::Timeout;
use pfapi::units::{Direction, IfIndex};

use super::{Filter, Flow, carry_out, tcp_options_of};
use crate::environment::Way;
use crate::fault::{self, Fault};
use crate::nat::{self, Asked, PoolOf, Shares, Translator};
use crate::normalize::timestamps::{Connection, End, Timestamps};
use crate::packet::{Packet, Verdict};
use crate::packet_desc::{PacketDesc, Transport};
use crate::reply::{self, IcmpError};
use crate::rewrite;
use crate::rules::{Evaluation, Live, LoadedRule, Surroundings};
use crate::source::NodeKind;
use crate::state::entry::{Body, DatagramState, HalfOpen, Rare, State, StateRoute};
use crate::state::icmp;
use crate::state::key::{Hashed, Keys};
use crate::state::store::InsertError;
use crate::state::tcp::{TcpState, Translation};
use crate::syncookie::servers::Requested;
use crate::wire::build::TTL_DEFAULT;
use crate::wire::build::flags::{ACK, CWR, ECE, RST, SYN};

/// What a new state means for the packet that made it.
struct Made {
    keys: Keys,
    route: Option<StateRoute>,
    /// Difference of the sequence numbers with `modulate state`.
    modulation: Option<u32>,
}

impl Filter<'_> {
    /// Lets the rules decide; a state that was made is in `packet.meta.link`.
    pub(super) fn decide_by_rules(
        &mut self,
        packet: &mut Packet,
        flow: &Flow,
    ) -> Result<Verdict, Reason> {
        let snapshot = self.snapshot;
        let place = Self::place(packet);
        let view = Self::view(packet, &flow.desc);
        let surroundings = Surroundings {
            rng: &mut self.parts.rng,
            now: self.now,
            routes: self.engine.routes.get().map(|routes| &**routes),
            sockets: self.engine.sockets.get().map(|sockets| &**sockets),
        };
        let scratch = &mut self.parts.scratch;
        scratch.plainly = self.engine.plainly.load(Ordering::Relaxed);
        let stores = (&self.engine.sources, &self.engine.mappings, self.now);
        let mut translator = Translator::new(&self.view, stores, place.direction, &flow.desc);
        let found = snapshot.rules.evaluate(&view, surroundings, scratch, &mut translator)?;
        let beyond = translator.key(&found.addresses);
        let shares = translator.shares;
        let rule = found.rule;
        self.parts.stats.reason(Reason::Match);
        match rule.rule.action {
            Action::Block(answer) => {
                self.log_decided(packet, &flow.desc, &found, beyond, None);
                self.parts.scratch.places = None;
                Self::count_stateless(&found, place.direction, &flow.desc);
                if fault::is(Fault::BlockLeaks) && self.parts.rng.next_u16().is_multiple_of(8) {
                    return Ok(Verdict::Pass);
                }
                if flow.desc.transport == Transport::Fragment {
                    return Err(Reason::Fragment);
                }
                self.answer_block(packet, &flow.desc, answer)
            }
            Action::Pass | Action::Match => {
                let changes_family = beyond.is_some_and(|key| key.af != flow.desc.af);
                let allowed = if flow.desc.has_options && !rule.rule.allow_opts {
                    Err(Reason::IpOption)
                } else {
                    let form = if changes_family { nat::check_family(&flow.desc) } else { Ok(()) };
                    form.and_then(|()| found.actions.check_size(flow.desc.total))
                };
                if let Err(reason) = allowed {
                    self.parts.scratch.places = None;
                    self.log_decided(packet, &flow.desc, &found, beyond, Some(reason));
                    return Err(reason);
                }
                if let (true, Some(key)) =
                    (rule.rule.state != StatePolicy::None || found.translated, flow.key)
                {
                    let far = beyond.map_or(key, |key| (key, self.engine.store.hash(&key)));
                    let made = self.make_state(packet, flow, &found, (key, far), shares);
                    let refused = made.as_ref().err().copied();
                    self.log_decided(packet, &flow.desc, &found, beyond, refused);
                    let Made { keys, route, modulation } = match made {
                        Ok(made) => made,
                        Err(reason) if self.snapshot.fail_returns => {
                            self.parts.stats.reason(reason);
                            return self.answer_block(packet, &flow.desc, BlockAnswer::Return);
                        }
                        Err(reason) => return Err(reason),
                    };
                    carry_out(packet, &flow.desc, &found.actions, &mut self.parts.rng);
                    let verdict = self.begin(packet, flow, rule.rule.state, modulation)?;
                    if verdict == Verdict::Pass {
                        self.translate(packet, &flow.desc, &keys)?;
                        packet.meta.next_hop = route.and_then(|route| route.of_packet(true));
                    }
                    return Ok(verdict);
                }
                self.parts.scratch.places = None;
                self.log_decided(packet, &flow.desc, &found, beyond, None);
                Self::count_stateless(&found, place.direction, &flow.desc);
                let actions = found.stateless_actions();
                carry_out(packet, &flow.desc, &actions, &mut self.parts.rng);
                Ok(Verdict::Pass)
            }
        }
    }

    /// Makes the state of a packet that passes; `key` is its own and `beyond` the one beyond the
    /// translation.
    ///
    /// # Errors
    /// The reason why there is no room for it, or no way.
    fn make_state(
        &mut self,
        packet: &mut Packet,
        flow: &Flow,
        found: &Evaluation<'_>,
        (key, beyond): (Hashed, Hashed),
        mut shares: Shares,
    ) -> Result<Made, Reason> {
        let rule = found.rule;
        let places = self.parts.scratch.places.take().unwrap_or_default();
        let (source, max_place) = self.admit(rule, &flow.desc)?;
        let (wire, stack) = match packet.meta.direction {
            Direction::In => (key, beyond),
            Direction::Out => (beyond, key),
        };
        let keys = Keys::new(wire.0, stack.0);
        let route = self.choose_route(&flow.desc, rule, &mut shares)?;
        let timestamps = self.begin_timestamps(packet, flow, found)?;
        let mut state = self.new_state(packet, &flow.desc, found, &keys);
        let posted = Live::default();
        places.tell_table(|table, entry| {
            self.engine.add_offender("", table, entry, self.now);
        });
        let rare = Rare { source, route, shares, splice: None, timestamps, places, posted };
        state.rare = Rare::new(rare);
        let modulation = self.modulate(rule.rule.state, flow, &mut state);
        self.insert(packet, state, [wire.1, stack.1], flow.desc.total)?;
        max_place.keep();
        Ok(Made { keys, route, modulation })
    }

    /// Gives the initiator of a `modulate state` connection numbers of the filter's choice; gives
    /// the difference to its own.
    fn modulate(&mut self, policy: StatePolicy, flow: &Flow, state: &mut State) -> Option<u32> {
        let (Body::Tcp(tcp), Transport::Tcp(header)) = (&mut state.body, flow.desc.transport)
        else {
            return None;
        };
        let modulated = policy == StatePolicy::Modulate && header.flags & (SYN | ACK) == SYN;
        modulated.then(|| tcp.modulate(self.parts.rng.next_u32()))
    }

    /// What becomes of the first packet of a state.
    fn begin(
        &mut self,
        packet: &mut Packet,
        flow: &Flow,
        policy: StatePolicy,
        modulation: Option<u32>,
    ) -> Result<Verdict, Reason> {
        let Transport::Tcp(tcp) = flow.desc.transport else { return Ok(Verdict::Pass) };
        if let Some(seq) = modulation {
            rewrite::translate(packet, flow.desc.l4, &tcp, Translation { seq, ack: 0 });
        }
        let proxied = policy == StatePolicy::Synproxy
            && packet.meta.direction == Direction::In
            && tcp.flags & (SYN | ACK) == SYN
            && !flow.from_cookie;
        let made = packet.meta.link.filter(|_| proxied);
        match made.and_then(|link| self.engine.store.follow(link)) {
            Some(state) if self.classic => self.offer_proxy(packet, &flow.desc, &tcp, state),
            Some(state) => self.offer_splice(packet, flow, &tcp, state),
            None => Ok(Verdict::Pass),
        }
    }

    /// Counts a packet without a state: the deciding rule and the anchor rule around it; match
    /// rules count with states only. Source: OpenBSD sys/net/pf.c `pf_counters_inc`.
    pub(super) fn count_stateless(found: &Evaluation<'_>, direction: Direction, desc: &PacketDesc) {
        let octets = desc.total;
        for rule in [found.rule].into_iter().chain(found.anchor) {
            rule.counters.count(direction, octets);
        }
        if found.rule.names_tables() {
            let mut counted = Live::default();
            let side = usize::from(direction == Direction::Out);
            (counted.packets[side], counted.bytes[side]) = (1, octets as u64);
            let ends = [desc.src, desc.dst];
            found.rule.count_in_tables(|table, end, negated, used| {
                table.count(ends[end].to_ip(desc.af), negated, used, &counted);
            });
        }
    }

    /// The next hop of `route-to`, `reply-to` and `dup-to`.
    fn choose_route(
        &mut self,
        desc: &PacketDesc,
        rule: &Arc<LoadedRule>,
        shares: &mut Shares,
    ) -> Result<Option<StateRoute>, Reason> {
        let (Some(pool), Some(route)) = (&rule.pools.route, &rule.rule.route) else {
            return Ok(None);
        };
        if pool.is_interface() {
            let next_hop = desc.dst.to_ip(desc.af);
            let interface = pool.interface_to(next_hop).map_err(|_| Reason::NoRoute)?;
            return Ok(Some(StateRoute { kind: route.kind, next_hop, interface }));
        }
        let families = hop_families(route, desc.af);
        let place = PoolOf { pool, rule, kind: NodeKind::Route, af: desc.af };
        let sources = &self.engine.sources;
        for af in families {
            let asked = Asked { af, source: desc.src, host: desc.src, before: None };
            let Some(chosen) = shares.choose(&place, sources, &asked, &mut self.parts.rng) else {
                continue;
            };
            let next_hop = chosen.0.addr.to_ip(af);
            shares.settle(&place, sources, (&asked, self.now), chosen)?;
            let interface = pool.interface_to(next_hop).map_err(|_| Reason::NoRoute)?;
            return Ok(Some(StateRoute { kind: route.kind, next_hop, interface }));
        }
        Err(Reason::NoRoute)
    }

    /// A state for the packet, not yet in the store.
    fn new_state(
        &mut self,
        packet: &Packet,
        desc: &PacketDesc,
        found: &Evaluation<'_>,
        keys: &Keys,
    ) -> State {
        let body = match desc.transport {
            Transport::Tcp(tcp) => {
                let mut body = TcpState::new(&tcp, None);
                if tcp.has(SYN) {
                    let options = tcp_options_of(packet, desc.l4, &tcp);
                    body = TcpState::new(&tcp, options.wscale);
                    body.requested = Requested::new(&options, tcp.has(ECE | CWR));
                }
                (Body::Tcp(body), Timeout::TcpFirst)
            }
            Transport::Udp { .. } => (Body::Datagram(DatagramState::new(true)), Timeout::UdpFirst),
            Transport::Icmp { .. } => (Body::Icmp, Timeout::IcmpFirst),
            Transport::Other | Transport::Fragment => {
                (Body::Datagram(DatagramState::new(false)), Timeout::OtherFirst)
            }
        };
        let matches = &self.parts.scratch.matches;
        let decision = self.parts.decisions.get(&self.snapshot.rules, matches, found);
        // What crosses families comes back on another interface in any case.
        let if_bound = found.rule.rule.state_options.if_bound && keys.wire.af == keys.stack.af;
        let mut state = State::new(keys, packet.meta.direction, decision, body, self.now);
        state.interface = if_bound.then_some(packet.meta.interface);
        state.pair = packet.meta.link;
        // The state behind an inbound one belongs to the same connection.
        state.half_open = HalfOpen::new(packet.meta.link.is_none(), packet.meta.probe);
        state
    }

    /// The record of `scrub (reassemble tcp)`, which begins with the first packet of a state;
    /// `None` when the rules do not ask for it.
    fn begin_timestamps(
        &mut self,
        packet: &mut Packet,
        flow: &Flow,
        found: &Evaluation<'_>,
    ) -> Result<Option<Timestamps>, Reason> {
        let desc = &flow.desc;
        let Transport::Tcp(tcp) = &desc.transport else { return Ok(None) };
        if !found.actions.reassemble_tcp && !flow.reassemble_tcp {
            return Ok(None);
        }
        let src = End::new(packet, desc, tcp, self.now, &mut self.parts.rng);
        let mut timestamps = Timestamps { src: Some(src), dst: None };
        let connection = Connection {
            forward: true,
            established: false,
            created: self.now,
            tsdiff_s: self.tsdiff_s(found.rule),
        };
        timestamps.normalize(packet, desc, tcp, &connection, self.now)?;
        Ok(Some(timestamps))
    }

    fn insert(
        &mut self,
        packet: &mut Packet,
        mut state: State,
        hashes: [u64; 2],
        octets: usize,
    ) -> Result<(), Reason> {
        state.count(true, octets);
        let mut removed = 0;
        let inserted = self.view.insert(
            state,
            hashes,
            |old| matches!(&old.body, Body::Tcp(tcp) if tcp.is_closed()),
            |old| {
                old.retire();
                removed += 1;
            },
        );
        if removed > 0 {
            self.parts.stats.state_table(TableCounter::Removals, removed);
        }
        let made = inserted.map_err(|error| match error {
            InsertError::Limit => Reason::Memory,
            InsertError::Collision => Reason::StateInsert,
        })?;
        if !fault::is(Fault::InsertsUncounted) {
            self.parts.stats.state_table(TableCounter::Inserts, 1);
        }
        if let Some(mut inbound) = packet.meta.link.and_then(|link| self.engine.store.follow(link))
        {
            inbound.pair = Some(made);
        }
        packet.meta.link = Some(made);
        packet.meta.pair = None;
        Ok(())
    }

    /// Answers a blocked packet in place. Source: rules of `block return` in pf.conf(5); OpenBSD
    /// sys/net/pf.c `pf_test_rule`.
    pub(super) fn answer_block(
        &mut self,
        packet: &mut Packet,
        desc: &PacketDesc,
        answer: BlockAnswer,
    ) -> Result<Verdict, Reason> {
        let dropped = Err(Reason::Match);
        let tcp = match desc.transport {
            Transport::Tcp(tcp) => Some(tcp),
            _ => None,
        };
        let error = match answer {
            BlockAnswer::Return | BlockAnswer::ReturnRst { .. }
                if tcp.is_some_and(|tcp| !tcp.has(RST)) =>
            {
                if !reply::checksum_is_intact(packet) {
                    return Err(Reason::ProtoCksum);
                }
                let ttl = match answer {
                    BlockAnswer::ReturnRst { ttl: Some(ttl) } => ttl,
                    _ => TTL_DEFAULT,
                };
                return if reply::tcp_reset(packet, ttl) { Ok(Verdict::Answer) } else { dropped };
            }
            BlockAnswer::Drop | BlockAnswer::ReturnRst { .. } => return dropped,
            BlockAnswer::Return => IcmpError::PortUnreachable,
            BlockAnswer::ReturnIcmp { code, code6 } => IcmpError::Unreachable { code, code6 },
        };
        if let Transport::Icmp { icmp_type, .. } = desc.transport
            && !icmp::is_informational(desc.af, icmp_type)
        {
            return dropped;
        }
        let Some(source) = self.answer_source(packet.meta.interface, desc) else { return dropped };
        if self.parts.icmp_budget.take(self.now) && reply::icmp_error(packet, error, source) {
            Ok(Verdict::Answer)
        } else {
            dropped
        }
    }

    /// Source of an ICMP error: the packet's destination when it is an own address, else an
    /// address of the interface behind which its sender lies, else of the one that the packet
    /// crosses, else any own address. Source: OpenBSD sys/netinet/ip_icmp.c `icmp_reflect`.
    pub(super) fn answer_source(&self, interface: IfIndex, desc: &PacketDesc) -> Option<IpAddr> {
        let facts = &self.snapshot.facts;
        let own = || facts.interfaces.iter().flat_map(|interface| &interface.addresses);
        let dst = desc.dst.to_ip(desc.af);
        if own().any(|address| address.addr == dst) {
            return Some(dst);
        }
        let of = |interface: IfIndex| facts.interfaces.get(usize::from(interface.0));
        let way = self.engine.routes.get().map(|routes| routes.way_to(desc.src.to_ip(desc.af)));
        let way_back = match way {
            Some(Way::Interface(interface)) => of(interface),
            Some(Way::Here | Way::None) | None => None,
        };
        let near = [way_back, of(interface)].into_iter().flatten();
        near.flat_map(|interface| &interface.addresses)
            .chain(own())
            .find(|address| Af::of(address.addr) == desc.af)
            .map(|address| address.addr)
    }
}

/// Families of the routers that may take packets of `af`, in order: with `prefer-ipv6-nexthop` a
/// router with IPv6 may take packets of IPv4.
pub(super) fn hop_families(route: &Route, af: Af) -> impl Iterator<Item = Af> {
    let other = route.pool.prefer_ipv6_nexthop.then_some(Af::Inet6);
    other.into_iter().filter(move |other| *other != af).chain([af])
}
