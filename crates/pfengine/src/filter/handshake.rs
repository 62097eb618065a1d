//! SYN cookies on the way of a packet, and the connection to the server behind them.
//!
//! Source: OpenBSD sys/net/pf.c `pf_test` (case TCP), `pf_synproxy`.

use core::num::NonZeroU16;

use pfapi::addr::Af;
use pfapi::reason::Reason;
use pfapi::units::Direction;

use super::guard::{Onwards, is_over};
use super::splice::early_window;
use super::{Arrival, Filter, Flow, Origin, replace, tcp_options_of};
use crate::fault::{self, Fault};
use crate::output::{Output, SmallPacket};
use crate::packet::{Marks, Packet, StateRef, Verdict};
use crate::packet_desc::{PacketDesc, TcpDesc};
use crate::reply::{self, SynAck};
use crate::seq::SeqNum;
use crate::state::entry::{Body, State};
use crate::state::key::Keys;
use crate::state::proxy::{Numbers, ProxyStep};
use crate::state::splice::{Splice, Syn};
use crate::state::store::Held;
use crate::syncookie::layout::Cookie;
use crate::syncookie::servers::Known;
use crate::syncookie::{Baked, Content, Decoded, Destination, Tuple, announced_mss};
use crate::wire::build::flags::{ACK, RST, SYN};
use crate::wire::build::{TOS_LOW_DELAY, TTL_DEFAULT, TcpSegment};
use crate::wire::tcp_options::SynOptions;

/// MSS of a client that offers none, in octets.
///
/// Source: OpenBSD sys/netinet/tcp_subr.c `tcp_mssdflt`.
const PROXY_MSS_DEFAULT: u16 = 512;

impl<'a> Filter<'a> {
    /// `classic`: answers the SYN of a `synproxy state` rule in the place of its server: the client
    /// shakes hands with the filter first. Source: OpenBSD sys/net/pf.c `pf_create_state`.
    pub(super) fn offer_proxy(
        &mut self,
        packet: &mut Packet,
        desc: &PacketDesc,
        tcp: &TcpDesc,
        mut state: Held<'a>,
    ) -> Result<Verdict, Reason> {
        let isn = self.parts.rng.next_u32();
        let offer = tcp_options_of(packet, desc.l4, tcp).mss.unwrap_or(PROXY_MSS_DEFAULT);
        let mss = self.path_mss(packet.meta.interface, desc.af, desc.dst, offer);
        let Body::Tcp(body) = &mut state.body else { return Err(Reason::StateMismatch) };
        body.offer_proxy(SeqNum(isn), mss);
        packet.meta.next_hop = state.next_hop(false);
        state.update_half_open(&self.engine.store.half_open);
        drop(state);
        self.parts.stats.reason(ProxyStep::REASON);
        let id = self.parts.rng.next_u16();
        let answered = reply::syn_ack(packet, desc, tcp, &classic_answer(isn, mss, id));
        if answered { Ok(Verdict::Answer) } else { Err(ProxyStep::REASON) }
    }

    /// Turns a SYN into the SYN|ACK that carries its cookie. Nothing is kept of the SYN.
    /// `onwards` is what rules and routes say of the way to the server.
    ///
    /// # Security
    /// A SYN that nobody can be answered for (from a multicast address, say) is dropped: if the
    /// rules saw it, a flood of such SYNs would fill the state table past the cookies.
    pub(super) fn answer_with_cookie(
        &mut self,
        packet: &mut Packet,
        flow: &Flow,
        tcp: &TcpDesc,
        onwards: Onwards,
    ) -> Result<Verdict, Reason> {
        let desc = &flow.desc;
        let offered = tcp_options_of(packet, desc.l4, tcp);
        let learnt = self.engine.servers.get(desc.dst.to_ip(desc.af), tcp.dport, self.now);
        let known = Known::told(learnt, onwards.server);
        let wish = Self::wish(desc, tcp, &offered, known.as_ref());
        let tuple = tuple(desc, tcp);
        let (cookies, syn) = (&self.engine.syncookies, (&tuple, tcp.seq));
        let answer = match cookies.make_cookie(&mut self.baking, syn, &offered, &wish, self.now) {
            Baked::Classic(seq) => {
                let id = self.parts.rng.next_u16();
                classic_answer(seq, announced_mss(offered.mss), id)
            }
            Baked::Terms(Cookie { seq, stamp, terms }) => {
                let near = packet.meta.interface;
                let mss = Self::known_mss(known.as_ref())
                    .unwrap_or_else(|| self.link_mss((near, onwards.far), desc.af, u16::MAX));
                let mss = if onwards.max_mss == 0 { mss } else { mss.min(onwards.max_mss) };
                // The packet is never fragmented, so nothing depends on its identification
                // (RFC 6864): what is hard to guess already is good enough.
                let id = identification(seq);
                let client_stamp = offered.timestamps.map_or(0, |(tsval, _)| tsval);
                let options = Splice::announcement(terms, stamp, mss, client_stamp);
                SynAck { seq, ecn: terms.ecn, window: early_window(mss), options, id }
            }
        };
        let answered = reply::syn_ack(packet, desc, tcp, &answer);
        packet.meta.next_hop = onwards.back;
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
        self.engine.syncookies.settle(&mut self.baking);
        let tuple = tuple(&flow.desc, tcp);
        let options = tcp_options_of(packet, flow.desc.l4, tcp);
        let echo = options.timestamps.map(|(_, tsecr)| tsecr);
        let numbers = (tcp.seq, tcp.ack);
        let cookies = &self.engine.syncookies;
        let valid = cookies.validate(&tuple, numbers, echo, self.now)?;
        if !fault::is(Fault::ReturnedUncounted) {
            let destination = Destination::new(flow.desc.af, flow.desc.dst, tcp.dport);
            cookies.note_returned(&destination, &self.engine.store.half_open.backlog);
        }
        let splice = match valid.content {
            Content::Classic(_) => None,
            Content::Terms { terms, stamp } => {
                let mut splice = Splice::new(SeqNum(valid.cookie), terms, stamp);
                splice.hear(tcp, options.timestamps.map(|(tsval, _)| tsval), flow.desc.tos);
                Some(splice)
            }
        };
        match self.submit_syn(packet, &tuple, &valid, splice.as_ref()) {
            Recreated::Made(state) => {
                let mut held = self.engine.store.follow(state)?;
                let Body::Tcp(body) = &mut held.body else { return None };
                let is_spliced = splice.is_some();
                if let Some(mut splice) = splice {
                    body.begin_splice();
                    let told = self.told_of_server(&held);
                    splice.expects_stamps = told.is_some_and(|server| server.timestamp);
                    held.set_splice(splice);
                    // The SYN that the rules saw was made here, with a time to live of its own.
                    if let Some(client) = held.first_end() {
                        client.begin_with(packet, flow.desc.af);
                    }
                } else {
                    body.begin_proxy(SeqNum(valid.client_isn), SeqNum(valid.cookie));
                }
                held.update_half_open(&self.engine.store.half_open);
                self.engine.syncookies.note_used(&tuple, valid.cookie, self.now);
                packet.meta.link = Some(state);
                let held = match self.complete_handshake(held) {
                    Ok(held) => held,
                    Err(reason) => return Some(Err(reason)),
                };
                if is_spliced {
                    self.parts.relays.begin(state, self.now);
                }
                Some(self.proxy(packet, flow, tcp, held, true))
            }
            Recreated::Stateless => Some(Err(Reason::Synproxy)),
            Recreated::Full(reason) => Some(Err(reason)),
            Recreated::Blocked => None,
        }
    }

    /// Re-creates the SYN and sends it through all stages, marked so that it gets no cookie.
    fn submit_syn(
        &mut self,
        packet: &Packet,
        tuple: &Tuple,
        valid: &Decoded,
        splice: Option<&Splice>,
    ) -> Recreated {
        let bare = TcpSegment {
            src: tuple.src,
            dst: tuple.dst,
            sport: tuple.sport,
            dport: tuple.dport,
            seq: valid.client_isn,
            ack: 0,
            flags: SYN,
            window: 0,
            options: SynOptions::default(),
            ttl: TTL_DEFAULT,
            tos: TOS_LOW_DELAY,
            dont_fragment: true,
            id: self.parts.rng.next_u16(),
        };
        let segment = match (valid.content, splice) {
            (Content::Classic(code), _) => {
                // pf's window is the decoded window scale, which nobody reads.
                let window = u16::from(code.wscale().unwrap_or(0));
                TcpSegment { window, options: SynOptions::of_mss(Some(code.mss())), ..bare }
            }
            (_, Some(splice)) => {
                let Syn { window, flags, options, .. } = splice.offered_syn();
                TcpSegment { window, flags, options, tos: splice.tos, ..bare }
            }
            (_, None) => bare,
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
                    let packet = packet.into();
                    let (next_hop, marks) = (None, Marks::NONE);
                    let own = Output::Send { packet, filtered: false, next_hop, marks };
                    self.parts.outputs.push_back(own);
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
        if state.splice().is_some() {
            let outcome = self.pass_unjoined(packet, flow, tcp, state, forward);
            if let (Some(to), Ok(_)) = (destination, &outcome) {
                self.learn_answer(&to, tcp);
            }
            return outcome;
        }
        let Body::Tcp(body) = &mut state.body else { return Err(Reason::StateMismatch) };
        let waited = !body.is_waiting_for_server();
        let step = body.proxy(tcp, forward);
        let (completed, mss) = (waited && body.is_waiting_for_server(), body.proxy_mss);
        if let (Some(to), ProxyStep::Join { .. }) = (destination, &step) {
            self.learn_answer(&to, tcp);
        }
        let max_mss = state.actions().max_mss;
        state.update_half_open(&self.engine.store.half_open);
        if completed {
            state = self.complete_handshake(state)?;
        }
        let (link, keys) = (state.reference(), state.keys());
        let (as_client, as_server) = (state.next_hop(true), state.next_hop(false));
        let (marks, marks_of_ack) = (state.marks(false), state.marks(true));
        drop(state);
        let back = self.answer_to(flow, tcp);
        let onward = across(turned(back), &keys, packet.meta.direction, flow.desc.af);
        match step {
            ProxyStep::Drop => Err(ProxyStep::REASON),
            ProxyStep::Offer { seq } => {
                self.parts.stats.reason(ProxyStep::REASON);
                let id = self.parts.rng.next_u16();
                let mss = mss.map_or(PROXY_MSS_DEFAULT, NonZeroU16::get);
                let offer = classic_answer(seq.0, mss, id);
                let answered = reply::syn_ack(packet, &flow.desc, tcp, &offer);
                packet.meta.next_hop = as_server;
                if answered { Ok(Verdict::Answer) } else { Err(ProxyStep::REASON) }
            }
            ProxyStep::Connect { seq, mss } => {
                self.parts.stats.reason(ProxyStep::REASON);
                let mss = mss.map(|mss| if max_mss == 0 { mss } else { mss.min(max_mss) });
                let options = SynOptions::of_mss(mss);
                let segment = TcpSegment { seq: seq.0, flags: SYN, options, ..onward };
                replace(packet, &segment)?;
                packet.meta.link = Some(link);
                packet.meta.unfiltered = keys.changes_family();
                packet.meta.next_hop = as_client;
                packet.meta.put_marks(marks);
                Ok(Verdict::Pass)
            }
            ProxyStep::Join { to_server, to_client } => {
                self.parts.stats.reason(ProxyStep::REASON);
                let filtered = !keys.changes_family();
                let way = (as_client, marks_of_ack);
                self.send_own(&numbered(back, to_server, ACK), filtered, way);
                packet.meta.next_hop = as_server;
                replace(packet, &numbered(onward, to_client, ACK))?;
                Ok(Verdict::Answer)
            }
        }
    }
}

/// The SYN|ACK of `classic`: the MSS option alone, and a closed window.
const fn classic_answer(seq: u32, mss: u16, id: u16) -> SynAck {
    SynAck { seq, ecn: false, window: 0, options: SynOptions::of_mss(Some(mss)), id }
}

/// The identification of a SYN|ACK with a cookie: both halves of it in one.
const fn identification(cookie: u32) -> u16 {
    let [a, b, c, d] = cookie.to_be_bytes();
    u16::from_be_bytes([a ^ c, b ^ d])
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
pub(super) const fn turned(segment: TcpSegment) -> TcpSegment {
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
pub(super) fn across(segment: TcpSegment, keys: &Keys, direction: Direction, af: Af) -> TcpSegment {
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

pub(super) const fn numbered(segment: TcpSegment, numbers: Numbers, flags: u8) -> TcpSegment {
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
