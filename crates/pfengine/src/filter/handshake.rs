//! SYN cookies on the way of a packet, and the connection to the server behind them.
//!
//! Source: OpenBSD sys/net/pf.c `pf_test` (case TCP), `pf_synproxy`.

use pfapi::addr::Af;
use pfapi::reason::Reason;
use pfapi::units::{Direction, IfIndex};

use super::guard::is_over;
use super::{Arrival, Filter, Flow, Origin, replace, tcp_options_of};
use crate::environment::Way;
use crate::output::{Output, SmallPacket};
use crate::packet::{Packet, StateRef, Verdict};
use crate::packet_desc::{PacketDesc, TcpDesc};
use crate::reply;
use crate::seq::SeqNum;
use crate::state::entry::{Body, State};
use crate::state::key::Keys;
use crate::state::proxy::{Numbers, ProxyStep};
use crate::state::store::Held;
use crate::syncookie::{Decoded, Tuple, announced_mss};
use crate::wire::build::flags::{ACK, RST, SYN};
use crate::wire::build::{TOS_LOW_DELAY, TTL_DEFAULT, TcpSegment};
use crate::wire::tcp_options::SynOptions;

/// MSS of a client that offers none, in octets.
///
/// Source: OpenBSD sys/netinet/tcp_subr.c `tcp_mssdflt`.
const PROXY_MSS_DEFAULT: u16 = 512;
/// Least MSS that the filter announces. Source: OpenBSD sys/net/pf.c `pf_calc_mss`.
const PROXY_MSS_MIN: u16 = 64;

impl<'a> Filter<'a> {
    /// Answers the SYN of a `synproxy state` rule in the place of its server: the client shakes
    /// hands with the filter first. Source: OpenBSD sys/net/pf.c `pf_create_state`.
    pub(super) fn offer_proxy(
        &mut self,
        packet: &mut Packet,
        desc: &PacketDesc,
        tcp: &TcpDesc,
        mut state: Held<'a>,
    ) -> Result<Verdict, Reason> {
        let isn = self.parts.rng.next_u32();
        let offer = tcp_options_of(packet, desc.l4, tcp).mss.unwrap_or(PROXY_MSS_DEFAULT);
        let mss = self.path_mss(packet.meta.interface, desc, offer);
        let Body::Tcp(body) = &mut state.body else { return Err(Reason::StateMismatch) };
        body.offer_proxy(SeqNum(isn), mss);
        state.update_half_open(&self.engine.store.half_open);
        drop(state);
        self.parts.stats.reason(ProxyStep::REASON);
        let id = self.parts.rng.next_u16();
        let answered = reply::syn_ack(packet, isn, mss, TTL_DEFAULT, id);
        if answered { Ok(Verdict::Answer) } else { Err(ProxyStep::REASON) }
    }

    /// What fits through the interface of the client and the one towards the server.
    fn path_mss(&self, near: IfIndex, desc: &PacketDesc, offer: u16) -> u16 {
        let headers = match desc.af {
            Af::Inet => 40,
            Af::Inet6 => 60,
        };
        let routes = self.engine.routes.get();
        let far = routes.and_then(|routes| match routes.way_to(desc.dst.to_ip(desc.af)) {
            Way::Interface(interface) => Some(interface),
            Way::Here | Way::None => None,
        });
        let fits = |interface: IfIndex| {
            let facts = self.snapshot.facts.interfaces.get(usize::from(interface.0))?;
            u16::try_from(facts.mtu.saturating_sub(headers)).ok()
        };
        let limits = [Some(near), far].into_iter().flatten().filter_map(fits);
        limits.map(|limit| limit.max(PROXY_MSS_DEFAULT)).fold(offer, u16::min).max(PROXY_MSS_MIN)
    }

    /// Turns a SYN into the SYN|ACK that carries its cookie. Nothing is kept of the SYN.
    ///
    /// # Security
    /// A SYN that nobody can be answered for (from a multicast address, say) is dropped: if the
    /// rules saw it, a flood of such SYNs would fill the state table past the cookies.
    pub(super) fn answer_with_cookie(
        &mut self,
        packet: &mut Packet,
        flow: &Flow,
        tcp: &TcpDesc,
    ) -> Result<Verdict, Reason> {
        let desc = &flow.desc;
        let options = tcp_options_of(packet, desc.l4, tcp);
        let mss = announced_mss(options.mss);
        // What the SYN|ACK does not offer must not be remembered: it has the MSS option alone.
        let offered = SynOptions { sack_permitted: false, timestamps: None, ..options };
        let tuple = tuple(desc, tcp);
        let cookie = self.engine.syncookies.make_cookie(&tuple, tcp.seq, &offered, self.now);
        let id = self.parts.rng.next_u16();
        let answered = reply::syn_ack(packet, cookie, mss, TTL_DEFAULT, id);
        if answered { Ok(Verdict::Answer) } else { Err(Reason::Normalize) }
    }

    /// Whether the packet may bring a cookie back: an inbound ACK that no living state claims.
    pub(super) fn may_return_cookie(packet: &Packet, tcp: &TcpDesc, state: Option<&State>) -> bool {
        packet.meta.direction == Direction::In
            && tcp.flags & (SYN | ACK | RST) == ACK
            && state.is_none_or(is_over)
    }

    /// Takes an ACK that brings a valid cookie back through the rules as the SYN it stands for,
    /// and opens the connection to the server. `None` when it brings none, or the rules refuse.
    pub(super) fn accept_cookie(
        &mut self,
        packet: &mut Packet,
        flow: &Flow,
        tcp: &TcpDesc,
    ) -> Option<Result<Verdict, Reason>> {
        let tuple = tuple(&flow.desc, tcp);
        let valid = self.engine.syncookies.validate(&tuple, tcp.seq, tcp.ack, self.now)?;
        match self.submit_syn(packet, &tuple, &valid) {
            Recreated::Made(state) => {
                let mut held = self.engine.store.follow(state)?;
                let Body::Tcp(body) = &mut held.body else { return None };
                // pf loses the MSS of the client on its way to the server.
                let mss = (!self.classic).then_some(valid.mss);
                body.begin_proxy(SeqNum(valid.client_isn), SeqNum(valid.cookie), mss);
                held.update_half_open(&self.engine.store.half_open);
                self.engine.syncookies.note_used(&tuple, valid.cookie, self.now);
                packet.meta.link = Some(state);
                let held = match self.complete_handshake(held) {
                    Ok(held) => held,
                    Err(reason) => return Some(Err(reason)),
                };
                Some(self.proxy(packet, flow, tcp, held, true))
            }
            Recreated::Stateless => Some(Err(Reason::Synproxy)),
            Recreated::Full(reason) => Some(Err(reason)),
            Recreated::Blocked => None,
        }
    }

    /// Re-creates the SYN and sends it through all stages, marked so that it gets no cookie.
    fn submit_syn(&mut self, packet: &Packet, tuple: &Tuple, valid: &Decoded) -> Recreated {
        let segment = TcpSegment {
            src: tuple.src,
            dst: tuple.dst,
            sport: tuple.sport,
            dport: tuple.dport,
            seq: valid.client_isn,
            ack: 0,
            flags: SYN,
            // pf's window is the decoded window scale, which nobody reads.
            window: u16::from(valid.wscale.unwrap_or(0)),
            mss: Some(valid.mss),
            ttl: TTL_DEFAULT,
            tos: TOS_LOW_DELAY,
            dont_fragment: true,
            id: self.parts.rng.next_u16(),
        };
        // The scratch packet leaves the worker for the time of its own decision.
        let mut syn = core::mem::replace(&mut self.parts.syn, Packet::new(0, 0));
        let fits = replace(&mut syn, &segment).is_ok();
        debug_assert!(fits, "the scratch packet holds the longest segment without payload");
        syn.meta = packet.meta;
        syn.meta.offload = crate::packet::Offload::default();
        syn.meta.start();
        let Arrival::Parsed(mut flow) = self.receive(&mut syn) else {
            self.parts.syn = syn;
            return Recreated::Stateless;
        };
        flow.from_cookie = true;
        let outcome = self.decide_flow(&mut syn, &mut flow, Origin::Cookie);
        let recreated = match outcome {
            Ok(Verdict::Pass) => syn.meta.link.map_or(Recreated::Stateless, Recreated::Made),
            Ok(Verdict::Answer) => {
                if let Some(packet) = SmallPacket::new(syn.data()) {
                    self.parts.outputs.push_back(Output::Send { packet, filtered: false });
                }
                Recreated::Blocked
            }
            Ok(Verdict::Drop(_) | Verdict::Held) | Err(Reason::Match) => Recreated::Blocked,
            Err(reason) => Recreated::Full(reason),
        };
        // An ICMP answer may have moved the start of the scratch packet.
        syn.set_span(crate::wire::build::TCP_SEGMENT_MAX, 0);
        self.parts.syn = syn;
        recreated
    }

    /// Moves the proxy phase on by one segment.
    pub(super) fn proxy(
        &mut self,
        packet: &mut Packet,
        flow: &Flow,
        tcp: &TcpDesc,
        mut state: Held<'a>,
        forward: bool,
    ) -> Result<Verdict, Reason> {
        let learns = !forward && self.engine.syncookies.probes();
        let destination = learns.then(|| state.destination());
        let Body::Tcp(body) = &mut state.body else { return Err(Reason::StateMismatch) };
        let waited = !body.is_waiting_for_server();
        let step = body.proxy(tcp, forward, self.classic);
        let (completed, mss) = (waited && body.is_waiting_for_server(), body.proxy_mss);
        if let (Some(to), ProxyStep::Join { .. } | ProxyStep::Refuse { .. }) = (destination, &step)
        {
            self.learn_from(&to, tcp);
        }
        let max_mss = state.actions().max_mss;
        state.update_half_open(&self.engine.store.half_open);
        if completed {
            state = self.complete_handshake(state)?;
        }
        let (link, keys, route) = (state.reference(), state.keys(), state.route());
        drop(state);
        let back = self.answer_to(flow, tcp);
        let onward = across(turned(back), &keys, packet.meta.direction, flow.desc.af);
        match step {
            ProxyStep::Drop => Err(ProxyStep::REASON),
            ProxyStep::Offer { seq } => {
                self.parts.stats.reason(ProxyStep::REASON);
                let id = self.parts.rng.next_u16();
                let mss = mss.unwrap_or(PROXY_MSS_DEFAULT);
                let answered = reply::syn_ack(packet, seq.0, mss, TTL_DEFAULT, id);
                if answered { Ok(Verdict::Answer) } else { Err(ProxyStep::REASON) }
            }
            ProxyStep::Connect { seq, mss } => {
                self.parts.stats.reason(ProxyStep::REASON);
                let mss = mss.map(|mss| if max_mss == 0 { mss } else { mss.min(max_mss) });
                let segment = TcpSegment { seq: seq.0, flags: SYN, mss, ..onward };
                replace(packet, &segment)?;
                packet.meta.link = Some(link);
                packet.meta.unfiltered = keys.changes_family();
                packet.meta.next_hop = route.and_then(|route| route.of_packet(forward));
                Ok(Verdict::Pass)
            }
            ProxyStep::Join { to_server, to_client } => {
                self.parts.stats.reason(ProxyStep::REASON);
                let packet_to_server = SmallPacket::of_segment(&numbered(back, to_server, ACK));
                let filtered = !keys.changes_family();
                self.parts.outputs.push_back(Output::Send { packet: packet_to_server, filtered });
                replace(packet, &numbered(onward, to_client, ACK))?;
                Ok(Verdict::Answer)
            }
            ProxyStep::Refuse { seq, ack } => {
                self.parts.stats.reason(ProxyStep::REASON);
                let numbers = Numbers { seq, ack, window: 0 };
                replace(packet, &numbered(onward, numbers, RST | ACK))?;
                Ok(Verdict::Answer)
            }
        }
    }
}

/// What became of a re-created SYN.
enum Recreated {
    /// A state stands for it.
    Made(StateRef),
    /// It passed, but no state was made, so the connection cannot be proxied.
    Stateless,
    /// It passed, but there was no room for its state.
    Full(Reason),
    /// The rules blocked it; the ACK meets the rules on its own.
    Blocked,
}

/// The same segment the other way round.
const fn turned(segment: TcpSegment) -> TcpSegment {
    TcpSegment {
        src: segment.dst,
        dst: segment.src,
        sport: segment.dport,
        dport: segment.sport,
        ..segment
    }
}

/// A segment that goes on in the direction of the packet at hand, with the addresses of the other
/// side of its state.
fn across(segment: TcpSegment, keys: &Keys, direction: Direction, af: Af) -> TcpSegment {
    if !keys.is_translated() {
        return segment;
    }
    let (key, direction) = keys.beyond(direction, af);
    let source = usize::from(direction == Direction::Out);
    TcpSegment {
        src: key.addr[source].to_ip(key.af),
        dst: key.addr[1 - source].to_ip(key.af),
        sport: key.port[source],
        dport: key.port[1 - source],
        ..segment
    }
}

const fn numbered(segment: TcpSegment, numbers: Numbers, flags: u8) -> TcpSegment {
    TcpSegment { seq: numbers.seq.0, ack: numbers.ack.0, window: numbers.window, flags, ..segment }
}

fn tuple(desc: &PacketDesc, tcp: &TcpDesc) -> Tuple {
    Tuple {
        src: desc.src.to_ip(desc.af),
        dst: desc.dst.to_ip(desc.af),
        sport: tcp.sport,
        dport: tcp.dport,
    }
}
