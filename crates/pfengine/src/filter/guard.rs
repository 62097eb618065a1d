//! What a SYN meets when cookies may be due: rules first, then the cookie.
//!
//! ```text
//! SYN ─► a connection has a state? ─► it goes on
//!     ─► rules, in and out, only thought of ─► block: the rules answer it as on calm days
//!     ─► setting, rule, marks of the destination and of the whole ─► no cookie: it goes on
//!     ─► port closed lately: RST; unknown: one SYN goes on as a question
//!     ─► cookie
//! ```
//!
//! Nothing is kept of a SYN that gets a cookie, and none gets one that the rules would not pass, so
//! ports look as they do on calm days. `classic` asks no rules, as pf. Source of the order in
//! `classic`: OpenBSD sys/net/pf.c `pf_test` (case TCP).

use pfapi::limit::Limit;
use pfapi::reason::{CookieCounter, Reason};
use pfapi::ruleset::{Action, ServerOptions, StatePolicy, SyncookieMode};
use pfapi::units::{Direction, IfIndex, Uptime};

use super::fresh::hop_families;
use super::{Filter, Flow};
use crate::environment::Way;
use crate::nat::{Asked as PoolAsked, Foresight, Translator};
use crate::packet::{NextHop, Packet, Verdict};
use crate::packet_desc::{PacketDesc, TcpDesc, Transport};
use crate::reply::{self, IcmpError};
use crate::rules::{Addresses, Evaluation, LoadedRule, PacketView, Surroundings};
use crate::state::entry::{Body, State, StateRoute};
use crate::syncookie::{Advice, Allowance, Answer, Asked, Destination};
use crate::wire::build::TTL_DEFAULT;
use crate::wire::build::flags::{ACK, RST, SYN};

/// What the rules would make of a SYN.
#[derive(Clone, Copy, Debug)]
pub(super) enum Foreseen {
    /// They block it, or pass it in a way that no cookie can stand for.
    Theirs,
    /// They pass it; `syncookies` of the rule, and the way on.
    Pass(Option<SyncookieMode>, Onwards),
    /// They pass it on its way in, and block it on its way out by this interface, where it has
    /// these addresses.
    BlockedBeyond(Option<SyncookieMode>, IfIndex, Addresses),
    /// They pass it, but there is no way to its destination.
    NoRoute(Option<SyncookieMode>),
}

/// What the rules and routes say of the way behind the filter that a SYN|ACK must know.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Onwards {
    /// Interface by which the SYN would leave, where there is one.
    pub far: Option<IfIndex>,
    /// Largest MSS that the rules allow; 0 is any.
    pub max_mss: u16,
    /// Where `reply-to` or `dup-to` of the rule sends the SYN|ACK.
    pub back: Option<NextHop>,
    /// What the rule or the setting says of the server.
    pub server: Option<ServerOptions>,
}

impl Onwards {
    /// By `far`, with the limit of the MSS of one more rule.
    const fn by(mut self, far: IfIndex, max_mss: u16) -> Self {
        self.far = Some(far);
        if self.max_mss == 0 || max_mss != 0 && max_mss < self.max_mss {
            self.max_mss = max_mss;
        }
        self
    }
}

/// ACKs that one worker checks for cookies in one second; a MAC costs some 30 ns.
const MACS_PER_SECOND: u32 = 1 << 18;

/// Checks of cookies in the present second.
#[derive(Clone, Copy, Debug, Default)]
pub struct MacBudget {
    second: u64,
    done: u32,
}

impl MacBudget {
    /// Whether one more ACK may be checked now.
    const fn take(&mut self, now: Uptime) -> bool {
        if self.second != now.as_secs() {
            *self = Self { second: now.as_secs(), done: 0 };
        }
        self.done += 1;
        self.done <= MACS_PER_SECOND
    }
}

impl<'a> Filter<'a> {
    /// What becomes of an inbound SYN before its own stage; `None` when it goes on.
    ///
    /// The SYN of a connection that has a state gets no cookie: it was there before the flood, and
    /// the server has its own numbers for it. pf sends one all the same, which the client
    /// acknowledges in vain; `classic` does so.
    pub(super) fn guard_syn(
        &mut self,
        packet: &mut Packet,
        flow: &Flow,
        tcp: &TcpDesc,
    ) -> Option<Result<Verdict, Reason>> {
        if packet.meta.direction != Direction::In {
            return None;
        }
        let half_open = self.engine.half_open();
        let cookies = &self.engine.syncookies;
        if self.classic {
            let is_due =
                tcp.flags & (SYN | ACK) == SYN && cookies.should_answer(half_open, self.now);
            return is_due.then(|| self.answer_with_cookie(packet, flow, tcp, Onwards::default()));
        }
        if tcp.flags & (SYN | ACK | RST) != SYN
            || !cookies.may_answer(half_open, self.snapshot.rules.cookies.ask)
            || self.find(packet, flow).is_some_and(|state| !is_over(&state))
        {
            return None;
        }
        let foreseen = self.foresee(packet, flow);
        let (policy, onwards) = match foreseen {
            Foreseen::Theirs => return None,
            Foreseen::Pass(policy, onwards) => (policy, onwards),
            Foreseen::BlockedBeyond(policy, ..) | Foreseen::NoRoute(policy) => {
                (policy, Onwards::default())
            }
        };
        let desc = &flow.desc;
        let destination = Destination::new(desc.af, desc.dst, tcp.dport);
        let backlog = &self.engine.store.half_open.backlog;
        let asked = Asked::new(policy, half_open, destination, backlog);
        if !cookies.answers(&asked, self.now) {
            return None;
        }
        match foreseen {
            Foreseen::BlockedBeyond(_, beyond, addresses) => {
                self.refuse_beyond(packet, desc, (beyond, addresses))
            }
            Foreseen::NoRoute(_) => {
                Some(self.answer_error(packet, desc, IcmpError::NetUnreachable))
            }
            _ if cookies.probes() && !cookies.ports.is_open(asked.hashes().port, self.now) => {
                let hash = asked.hashes().port;
                self.ask_port(packet, flow, (tcp, onwards), (hash, half_open))
            }
            _ => Some(self.send_cookie(packet, flow, tcp, onwards)),
        }
    }

    /// What a SYN to a port meets that is not known to be open.
    fn ask_port(
        &mut self,
        packet: &mut Packet,
        flow: &Flow,
        (tcp, onwards): (&TcpDesc, Onwards),
        (hash, half_open): (u64, u64),
    ) -> Option<Result<Verdict, Reason>> {
        let desc = &flow.desc;
        let cookies = &self.engine.syncookies;
        let limit = self.snapshot.limits.get(Limit::States);
        // Questions have states; three quarters of the table belong to connections.
        let is_roomy = half_open <= cookies.high_mark()
            && self.engine.store.count() < u64::from(limit) * 3 / 4;
        let terms = (Allowance::of_limit(limit), is_roomy);
        let network = cookies.network(desc.src.to_ip(desc.af));
        let advice = cookies.ports.advise(hash, network, terms, self.now);
        let count = |counter| self.engine.syncookies.counters.count(counter);
        Some(match advice {
            Advice::Cookie => self.send_cookie(packet, flow, tcp, onwards),
            Advice::Probe => {
                count(CookieCounter::Probes);
                packet.meta.probe = true;
                return None;
            }
            Advice::Reset => {
                count(CookieCounter::EarlyReset);
                let answered = reply::tcp_reset(packet, TTL_DEFAULT);
                if answered { Ok(Verdict::Answer) } else { Err(Reason::ProtoCksum) }
            }
            Advice::Unreachable(code) => {
                count(CookieCounter::EarlyUnreachable);
                self.answer_error(packet, desc, IcmpError::Unreachable { code, code6: code })
            }
            Advice::Wait => {
                count(CookieCounter::AwaitingProbe);
                Err(Reason::Synproxy)
            }
        })
    }

    /// The cookie, unless its packet is longer than the SYN too often for the SYN's network, or the
    /// SYN is damaged: its options would be remembered for as long as the connection lives. Source:
    /// Linux net/ipv4/netfilter/ipt_SYNPROXY.c.
    fn send_cookie(
        &mut self,
        packet: &mut Packet,
        flow: &Flow,
        tcp: &TcpDesc,
        onwards: Onwards,
    ) -> Result<Verdict, Reason> {
        if !reply::checksum_is_intact(packet) {
            return Err(Reason::ProtoCksum);
        }
        let asked = packet.len();
        let verdict = self.answer_with_cookie(packet, flow, tcp, onwards)?;
        let lengths = (asked, packet.len());
        if lengths.1 > lengths.0 {
            let cookies = &self.engine.syncookies;
            let network = cookies.network(flow.desc.src.to_ip(flow.desc.af));
            if !cookies.meter.allows(network, lengths, self.now) {
                cookies.counters.count(CookieCounter::Withheld);
                return Err(Reason::Synproxy);
            }
        }
        Ok(verdict)
    }

    /// What the rules would make of a SYN on its way in and out.
    fn foresee(&mut self, packet: &Packet, flow: &Flow) -> Foreseen {
        let desc = &flow.desc;
        let interface = packet.meta.interface;
        let view = Self::view(packet, desc);
        let mut foresight = Foresight::new(Direction::In);
        let Some(found) = self.think(&view, &mut foresight) else { return Foreseen::Theirs };
        let rule = &found.rule.rule;
        let options = &rule.state_options;
        let is_full = options.max.is_some_and(|max| found.rule.counters.states() >= u64::from(max));
        let is_proxied = rule.state != StatePolicy::None || found.translated;
        // `sloppy` states do not translate sequence numbers, so nothing can stand for their server.
        if matches!(rule.action, Action::Block(_))
            || !is_proxied
            || options.sloppy
            || is_full
            || desc.has_options && !rule.allow_opts
        {
            return Foreseen::Theirs;
        }
        let policy = options.syncookies;
        let server = options.server;
        let setting = self.snapshot.server;
        let route = Self::foresee_route(found.rule, desc);
        let onwards = Onwards {
            far: None,
            max_mss: found.actions.max_mss,
            back: route.and_then(|route| route.of_packet(false)),
            server: server.or(setting),
        };
        let Some(routes) = self.engine.routes.get().filter(|_| !foresight.changes_family) else {
            return Foreseen::Pass(policy, onwards);
        };
        let hop = route.and_then(|route| route.of_packet(true)).filter(|hop| !hop.copy);
        let target = hop.map_or_else(|| found.addresses.dst.to_ip(desc.af), |hop| hop.addr);
        let given = hop.and_then(|hop| hop.interface);
        let beyond = match given.map_or_else(|| routes.way_to(target), Way::Interface) {
            Way::Here => return Foreseen::Pass(policy, onwards),
            Way::None => return Foreseen::NoRoute(policy),
            Way::Interface(beyond) => beyond,
        };
        if self.snapshot.rules.skip.contains(beyond.0) {
            return Foreseen::Pass(policy, onwards.by(beyond, 0));
        }
        let addresses = found.addresses;
        let desc = translated(desc, &addresses);
        let view = PacketView {
            desc: &desc,
            interface: beyond,
            direction: Direction::Out,
            received_on: Some(interface),
            tag: found.tag,
            ..view
        };
        let Some(found) = self.think(&view, &mut Foresight::new(Direction::Out)) else {
            return Foreseen::Theirs;
        };
        let rule = &found.rule.rule;
        if let Action::Block(_) = rule.action {
            return Foreseen::BlockedBeyond(policy, beyond, addresses);
        }
        let server = server.or(rule.state_options.server).or(setting);
        let onwards = Onwards { server, ..onwards.by(beyond, found.actions.max_mss) };
        Foreseen::Pass(policy.or(rule.state_options.syncookies), onwards)
    }

    /// The way that a rule would give to a SYN and to its answers; without taking turns.
    fn foresee_route(rule: &LoadedRule, desc: &PacketDesc) -> Option<StateRoute> {
        let (pool, route) = (rule.pools.route.as_ref()?, rule.rule.route.as_ref()?);
        let (af, next_hop) = if pool.is_interface() {
            (desc.af, desc.dst)
        } else {
            hop_families(route, desc.af).find_map(|af| {
                let asked = PoolAsked { af, source: desc.src, host: desc.src, before: None };
                Some((af, pool.foresee(&asked)?))
            })?
        };
        let next_hop = next_hop.to_ip(af);
        let interface = pool.interface_to(next_hop).ok()?;
        Some(StateRoute { kind: route.kind, next_hop, interface })
    }

    /// Evaluates a packet that is only thought of; `None` when it would be dropped whatever the
    /// rules say.
    fn think(
        &mut self,
        view: &PacketView<'_>,
        foresight: &mut Foresight,
    ) -> Option<Evaluation<'a>> {
        let snapshot = self.snapshot;
        let surroundings = Surroundings {
            rng: &mut self.parts.rng,
            now: self.now,
            routes: self.engine.routes.get().map(|routes| &**routes),
            sockets: self.engine.sockets.get().map(|sockets| &**sockets),
        };
        snapshot.rules.foresee(view, surroundings, &mut self.parts.scratch, foresight).ok()
    }

    /// Answers a SYN that the rules let in and block on its way out, as they would: with their
    /// counts and logs, but without the state that it would have left on its way in.
    fn refuse_beyond(
        &mut self,
        packet: &mut Packet,
        desc: &PacketDesc,
        (beyond, addresses): (IfIndex, Addresses),
    ) -> Option<Result<Verdict, Reason>> {
        let interface = packet.meta.interface;
        let snapshot = self.snapshot;
        let there = translated(desc, &addresses);
        let view = PacketView {
            desc: &there,
            data: packet.data(),
            interface: beyond,
            direction: Direction::Out,
            received_on: Some(interface),
            tag: packet.meta.tag,
            prio: packet.meta.prio,
        };
        let surroundings = Surroundings {
            rng: &mut self.parts.rng,
            now: self.now,
            routes: self.engine.routes.get().map(|routes| &**routes),
            sockets: self.engine.sockets.get().map(|sockets| &**sockets),
        };
        let sources = (&self.engine.sources, &self.engine.mappings, self.now);
        let mut translator = Translator::new(&self.view, sources, Direction::Out, &there);
        let scratch = &mut self.parts.scratch;
        let found = snapshot.rules.evaluate(&view, surroundings, scratch, &mut translator).ok()?;
        let beyond_key = translator.key(&found.addresses);
        // No state comes of it here, so none has a place in a limiter.
        self.parts.scratch.places = None;
        let Action::Block(answer) = found.rule.rule.action else { return None };
        self.parts.stats.reason(Reason::Match);
        (packet.meta.interface, packet.meta.direction) = (beyond, Direction::Out);
        self.log_decided(packet, &there, &found, beyond_key, None);
        (packet.meta.interface, packet.meta.direction) = (interface, Direction::In);
        Self::count_stateless(&found, Direction::Out, &there);
        Some(self.answer_block(packet, desc, answer))
    }

    /// Answers with an ICMP error, as far as its budget allows.
    fn answer_error(
        &mut self,
        packet: &mut Packet,
        desc: &PacketDesc,
        error: IcmpError,
    ) -> Result<Verdict, Reason> {
        let source = self.answer_source(packet.meta.interface, desc).ok_or(Reason::NoRoute)?;
        if self.parts.icmp_budget.take(self.now) && reply::icmp_error(packet, error, source) {
            Ok(Verdict::Answer)
        } else {
            Err(Reason::NoRoute)
        }
    }

    /// Remembers what the server of a connection has answered to its first SYN.
    pub(super) fn learn_port(&self, destination: &Destination, answer: Answer) {
        let hash = self.engine.store.half_open.backlog.hashes(destination).port;
        self.engine.syncookies.ports.learn(hash, answer, self.now);
    }

    /// The server of a connection that asks an unknown port has answered.
    pub(super) fn note_answered_question(&self, state: &State) {
        let cookies = &self.engine.syncookies;
        cookies.ports.note_answer(cookies.network(state.client()), self.now);
    }

    /// Likewise from the segment that the server has sent.
    pub(super) fn learn_answer(&self, destination: &Destination, tcp: &TcpDesc) {
        if tcp.has(RST) {
            self.learn_port(destination, Answer::Closed);
        } else if tcp.has(SYN) {
            self.learn_port(destination, Answer::Open);
        }
    }

    /// Whether an ACK without a state is worth a MAC.
    pub(super) fn may_check_cookie(&mut self) -> bool {
        if self.classic {
            return true;
        }
        if !self.engine.syncookies.expects_cookies(self.now) {
            return false;
        }
        let may = self.parts.mac_budget.take(self.now);
        if !may {
            self.engine.syncookies.counters.count(CookieCounter::Unchecked);
        }
        may
    }
}

/// Whether both ends of a connection have closed.
pub(super) fn is_over(state: &State) -> bool {
    matches!(&state.body, Body::Tcp(tcp) if tcp.is_closed())
}

/// A packet with the addresses that rules have given it.
fn translated(desc: &PacketDesc, addresses: &Addresses) -> PacketDesc {
    let mut desc = *desc;
    (desc.src, desc.dst) = (addresses.src, addresses.dst);
    if let Transport::Tcp(tcp) = &mut desc.transport {
        (tcp.sport, tcp.dport) = (addresses.sport, addresses.dport);
    }
    desc
}
