//! Connections whose client has shaken hands with the filter: behind a SYN cookie, and with
//! `synproxy state`.
//!
//! What a segment means is decided in [`Splice`]; here it is carried out. `classic` goes pf's way, in
//! `handshake`. Source: docs/notes/0010.

use core::num::NonZeroU16;

use pfapi::addr::Af;
use pfapi::reason::Reason;
use pfapi::ruleset::ServerOptions;
use pfapi::units::{Direction, IfIndex};

use super::handshake::{across, numbered, turned};
use super::{Arrival, Filter, Flow, Origin, replace, tcp_options_of};
use crate::addr::Addr;
use crate::environment::Way;
use crate::harmonize::{self, Edits, Stamps};
use crate::normalize::timestamps::Timestamps;
use crate::output::{Octets, Output, SmallPacket};
use crate::packet::{Marks, NextHop, Packet, Verdict};
use crate::packet_desc::{PacketDesc, TcpDesc, Transport};
use crate::relay;
use crate::reply::{self, SynAck};
use crate::seq::SeqNum;
use crate::state::entry::{Body, State};
use crate::state::splice::{Early, REASON, Splice, Step};
use crate::state::store::Held;
use crate::syncookie::layout::{OWN_SHIFT, Shifts, Wish};
use crate::syncookie::servers::{Known, Support};
use crate::wire::build::TcpSegment;
use crate::wire::build::flags::{ACK, CWR, ECE, RST, SYN};
use crate::wire::tcp_options::SynOptions;

/// Room in front of early data, for options and another family's header.
const HEADROOM: usize = 64;
/// Octets of early data that a client may send at least, if two segments are not more.
const EARLY_WINDOW: u16 = 8_192;
/// Least MSS that is read out of the size of a link.
const LINK_MSS_MIN: u16 = 512;
/// Least MSS that the filter announces. Source: OpenBSD sys/net/pf.c `pf_calc_mss`.
const MSS_MIN: u16 = 64;

impl<'a> Filter<'a> {
    /// What of the offer of a SYN the filter takes up in the name of a server.
    pub(super) fn wish(
        desc: &PacketDesc,
        tcp: &TcpDesc,
        offered: &SynOptions,
        server: Option<&Known>,
    ) -> Wish {
        let mut wish = Wish::everything(desc.src.to_ip(desc.af), offered);
        // Without timestamps there is no room to remember it.
        wish.terms.ecn = wish.timestamps && tcp.flags & (ECE | CWR) == ECE | CWR;
        let Some(server) = server else { return wish };
        wish.terms.shifts =
            wish.terms.shifts.filter(|_| server.wscale != Support::No).map(|shifts| Shifts {
                announced: if server.wscale == Support::Yes { server.shift } else { OWN_SHIFT },
                ..shifts
            });
        wish.terms.sack &= server.sack != Support::No;
        wish.timestamps &= server.timestamps != Support::No;
        wish.terms.ecn &= wish.timestamps && server.ecn != Support::No;
        wish
    }

    /// MSS that the filter announces to a client of `near` in the name of a server.
    pub(super) fn server_mss(
        &self,
        near: IfIndex,
        af: Af,
        server: Addr,
        known: Option<&Known>,
    ) -> u16 {
        Self::known_mss(known).unwrap_or_else(|| self.path_mss(near, af, server, u16::MAX))
    }

    /// What the ruleset says of the server of a state.
    pub(super) fn told_of_server(&self, state: &State) -> Option<ServerOptions> {
        state.rule().rule.state_options.server.or(self.snapshot.server)
    }

    /// MSS that a server is known to announce.
    pub(super) fn known_mss(known: Option<&Known>) -> Option<u16> {
        Some(known?.mss?.max(MSS_MIN))
    }

    /// What fits through the interface of the client and the one towards the server, at most `most`.
    pub(super) fn path_mss(&self, near: IfIndex, af: Af, server: Addr, most: u16) -> u16 {
        let routes = self.engine.routes.get();
        let far = routes.and_then(|routes| match routes.way_to(server.to_ip(af)) {
            Way::Interface(interface) => Some(interface),
            Way::Here | Way::None => None,
        });
        self.link_mss((near, far), af, most)
    }

    /// What fits through two interfaces, at most `most`.
    pub(super) fn link_mss(
        &self,
        (near, far): (IfIndex, Option<IfIndex>),
        af: Af,
        most: u16,
    ) -> u16 {
        let headers = match af {
            Af::Inet => 40,
            Af::Inet6 => 60,
        };
        let fits = |interface: IfIndex| {
            let facts = self.snapshot.facts.interfaces.get(usize::from(interface.0))?;
            u16::try_from(facts.mtu.saturating_sub(headers)).ok()
        };
        let limits = [Some(near), far].into_iter().flatten().filter_map(fits);
        limits.map(|limit| limit.max(LINK_MSS_MIN)).fold(most, u16::min).max(MSS_MIN)
    }

    /// Answers the SYN of a `synproxy state` rule in the place of its server; the state remembers
    /// what was agreed on.
    pub(super) fn offer_splice(
        &mut self,
        packet: &mut Packet,
        flow: &Flow,
        tcp: &TcpDesc,
        mut state: Held<'a>,
    ) -> Result<Verdict, Reason> {
        let desc = &flow.desc;
        let offered = tcp_options_of(packet, desc.l4, tcp);
        let keys = state.keys();
        let (key, direction) = keys.beyond(packet.meta.direction, desc.af);
        let far = usize::from(direction == Direction::In);
        let (server, family) = (key.addr[far], key.af);
        let learnt = self.engine.servers.get(server.to_ip(family), key.port[far], self.now);
        let told = self.told_of_server(&state);
        let known = Known::told(learnt, told);
        let wish = Self::wish(desc, tcp, &offered, known.as_ref());
        let isn = SeqNum(self.parts.rng.next_u32());
        let stamp = wish.timestamps.then(|| self.parts.rng.next_u32());
        let mut splice = Splice::new(isn, wish.terms, stamp);
        // `reassemble tcp` has shifted it in the packet already.
        let shown = offered.timestamps.map(|(tsval, _)| tsval);
        splice.client_stamp = state.first_end().and_then(|end| end.latest()).or(shown).unwrap_or(0);
        splice.expects_stamps = told.is_some_and(|server| server.timestamp);
        let mut mss = self.server_mss(packet.meta.interface, family, server, known.as_ref());
        if state.actions().max_mss != 0 {
            mss = mss.min(state.actions().max_mss);
        }
        let Body::Tcp(body) = &mut state.body else { return Err(Reason::StateMismatch) };
        body.offer_splice(mss);
        state.set_splice(splice);
        state.update_half_open(&self.engine.store.half_open);
        self.parts.stats.reason(REASON);
        self.send_offer(packet, (desc, tcp), &state)
    }

    /// Turns the SYN at hand into the SYN|ACK of a `synproxy state` rule.
    fn send_offer(
        &mut self,
        packet: &mut Packet,
        (desc, tcp): (&PacketDesc, &TcpDesc),
        state: &State,
    ) -> Result<Verdict, Reason> {
        let (Body::Tcp(body), Some(splice)) = (&state.body, state.splice()) else {
            return Err(REASON);
        };
        let mss = body.proxy_mss.map_or(LINK_MSS_MIN, NonZeroU16::get);
        let options = Splice::announcement(splice.terms, splice.stamp, mss, splice.client_stamp);
        let id = self.parts.rng.next_u16();
        let window = early_window(mss);
        packet.meta.next_hop = state.next_hop(false);
        let answer = SynAck { seq: splice.cookie.0, ecn: splice.terms.ecn, window, options, id };
        if reply::syn_ack(packet, desc, tcp, &answer) { Ok(Verdict::Answer) } else { Err(REASON) }
    }

    /// A segment of a connection whose ends are not joined yet.
    pub(super) fn pass_unjoined(
        &mut self,
        packet: &mut Packet,
        flow: &Flow,
        tcp: &TcpDesc,
        mut state: Held<'a>,
        forward: bool,
    ) -> Result<Verdict, Reason> {
        let options = tcp_options_of(packet, flow.desc.l4, tcp);
        let stamp = options.timestamps.map(|(tsval, _)| tsval);
        let server = relay::server_of(&state);
        let reference = state.reference();
        let held: &mut State = &mut state;
        let splice = held.rare.as_mut().and_then(|rare| rare.splice.as_deref_mut());
        let (Body::Tcp(body), Some(splice)) = (&mut held.body, splice) else {
            return Err(Reason::StateMismatch);
        };
        let waited = body.is_waiting_for_server();
        let step = splice.step(body, tcp, stamp, forward);
        if forward && step == Step::Connect {
            splice.tos = flow.desc.tos & !3;
        }
        if matches!(step, Step::Connect | Step::Keep) {
            let kept = splice.keep_early(body, tcp, || Early::of(packet, &self.engine.early));
            if step == Step::Keep {
                if !kept {
                    return Err(REASON);
                }
                self.parts.stats.reason(REASON);
                return Ok(Verdict::Held);
            }
        }
        let meeting = (step == Step::Join).then(|| splice.join(body, tcp, &options));
        let awaits_word = step == Step::Join
            && (server.is_none_or(|(addr, port)| self.engine.servers.begin(addr, port, self.now))
                || self.parts.relays.await_word(reference, self.now));
        let early = match step {
            Step::Join if awaits_word => {
                splice.await_word();
                Vec::new()
            }
            Step::Join => splice.take_early(),
            _ => Vec::new(),
        };
        let refusal = splice.refusal(body);
        let completed = !waited && body.is_waiting_for_server();
        if body.is_closed() || step == Step::Join {
            held.timeout = body.timeout();
            held.last_used = self.now;
        }
        let asked = splice.asks();
        if let (Some(meeting), Some(rare)) = (meeting, &mut held.rare)
            && let Some(Timestamps { src: Some(client), .. }) = rare.timestamps
        {
            let answer = (&*packet, flow.desc.af);
            rare.timestamps =
                Some(Timestamps::of_joined(&client, answer, meeting.stamps, self.now));
        }
        state.update_half_open(&self.engine.store.half_open);
        if completed {
            state = self.complete_handshake(state)?;
            self.parts.relays.begin(state.reference(), self.now);
        }
        let back = self.answer_to(flow, tcp);
        let onward = across(turned(back), &state.keys(), packet.meta.direction, flow.desc.af);
        if step != Step::Drop {
            self.parts.stats.reason(REASON);
        }
        // What the filter sends in the name of one end takes the way of its packets.
        let (as_client, as_server) = (state.next_hop(true), state.next_hop(false));
        let marks = state.marks(true);
        packet.meta.next_hop = as_server;
        match step {
            Step::Drop | Step::Keep => return Err(REASON),
            Step::Offer => return self.send_offer(packet, (&flow.desc, tcp), &state),
            Step::Connect => return self.ask_server(packet, &state),
            Step::Join => {
                let Some(meeting) = meeting else { return Err(REASON) };
                let ecn = tcp.flags & (ECE | CWR) == ECE;
                let told = Known::of_answer(asked, &options, ecn);
                self.learn(flow, &state, packet, told);
                let segment = |base, (numbers, options)| TcpSegment {
                    options,
                    ..numbered(base, numbers, ACK)
                };
                if awaits_word {
                    self.send_own(&segment(onward, meeting.question()), false, (as_server, marks));
                    replace(packet, &segment(onward, meeting.to_client))?;
                    return Ok(Verdict::Answer);
                }
                let filtered = !state.changes_family();
                self.send_own(&segment(back, meeting.to_server), filtered, (as_client, marks));
                replace(packet, &segment(onward, meeting.to_client))?;
                // The state must be free: its packets are on their way to it.
                drop(state);
                self.release(&early);
            }
            Step::Challenge => replace(packet, &numbered(back, refusal, ACK))?,
            Step::Clear { seq } => {
                packet.meta.next_hop = as_client;
                replace(packet, &TcpSegment { seq: seq.0, flags: RST, ..back })?;
            }
            Step::Refuse => replace(packet, &numbered(onward, refusal, RST | ACK))?,
        }
        Ok(Verdict::Answer)
    }

    /// Turns the segment at hand into the SYN to the server.
    fn ask_server(&mut self, packet: &mut Packet, state: &Held<'a>) -> Result<Verdict, Reason> {
        let id = self.parts.rng.next_u16();
        let known = relay::server_of(state)
            .and_then(|(addr, port)| self.engine.servers.get(addr, port, self.now));
        let segment = relay::syn(state, known.as_ref(), id).ok_or(REASON)?;
        replace(packet, &segment)?;
        packet.meta.link = Some(state.reference());
        packet.meta.unfiltered = state.changes_family();
        packet.meta.next_hop = state.next_hop(true);
        packet.meta.put_marks(state.marks(false));
        Ok(Verdict::Pass)
    }

    /// Sends a segment of the filter's own, through the outbound rules when `filtered`.
    pub(super) fn send_own(
        &mut self,
        segment: &TcpSegment,
        filtered: bool,
        (next_hop, marks): (Option<NextHop>, Marks),
    ) {
        let packet = SmallPacket::of_segment(segment).into();
        self.parts.outputs.push_back(Output::Send { packet, filtered, next_hop, marks });
    }

    /// A segment of a client on whose word the server waits: data before it is kept. `None` when the
    /// segment goes on like any other.
    pub(super) fn hear_word(
        &mut self,
        packet: &Packet,
        tcp: &TcpDesc,
        state: &mut State,
    ) -> Option<Word> {
        let splice = state.rare.as_mut().and_then(|rare| rare.splice.as_deref_mut())?;
        let Body::Tcp(body) = &state.body else { return None };
        if !splice.awaits_word() {
            return None;
        }
        if !tcp.has(RST) && splice.keep_early(body, tcp, || Early::of(packet, &self.engine.early)) {
            self.parts.stats.reason(REASON);
            return Some(Word::Kept);
        }
        splice.hear_word();
        let early = splice.take_early();
        (!early.is_empty() && !tcp.has(RST)).then_some(Word::Heard(early))
    }

    /// Completes the handshakes of servers that have waited for their clients' word for long enough,
    /// a bounded share of them.
    pub fn end_waits(&mut self) {
        for _ in 0..relay::SHARE {
            let Some(reference) = self.parts.relays.pop_word(self.now) else { return };
            let Some(mut state) = self.engine.store.follow(reference) else { continue };
            let splice = state.rare.as_mut().and_then(|rare| rare.splice.as_deref_mut());
            let Some(splice) = splice.filter(|splice| splice.awaits_word()) else { continue };
            splice.hear_word();
            let early = splice.take_early();
            if early.is_empty()
                && let Some(segment) = relay::ack(&state, self.parts.rng.next_u16())
            {
                let way = (state.next_hop(true), state.marks(true));
                self.send_own(&segment, !state.changes_family(), way);
            }
            // As above: early data is on its way to the state.
            drop(state);
            self.release(&early);
        }
    }

    /// Sends segments on that came before the server was ready, as if they came now.
    pub(super) fn release(&mut self, early: &[Early]) {
        for early in early {
            self.release_one(early);
        }
    }

    fn release_one(&mut self, early: &Early) {
        let mut packet = Packet::new(HEADROOM, early.octets.len());
        packet.fill(&early.octets);
        packet.meta.interface = early.interface;
        packet.meta.offload = early.offload;
        let Arrival::Parsed(mut flow) = self.receive(&mut packet) else { return };
        if let Ok(Verdict::Pass) = self.decide_flow(&mut packet, &mut flow, Origin::Real) {
            let filtered = !packet.meta.unfiltered;
            let (next_hop, marks) = (packet.meta.next_hop, packet.meta.marks());
            let packet = Octets::of(&packet);
            self.parts.outputs.push_back(Output::Send { packet, filtered, next_hop, marks });
        }
    }

    /// Notes what a SYN|ACK has told of its sender, as both sides of the state know it.
    pub(super) fn learn(&self, flow: &Flow, state: &State, packet: &Packet, told: Known) {
        let desc = &flow.desc;
        let (sport, _) = desc.ports();
        let servers = &self.engine.servers;
        servers.learn(desc.src.to_ip(desc.af), sport, told, self.now);
        if state.is_translated() {
            let keys = state.keys();
            let (key, direction) = keys.beyond(packet.meta.direction, desc.af);
            let source = usize::from(direction == Direction::Out);
            servers.learn(key.addr[source].to_ip(key.af), key.port[source], told, self.now);
        }
    }

    /// Notes what the SYN|ACK of an ordinary connection has told.
    pub(super) fn learn_from(&self, packet: &Packet, flow: &Flow, tcp: &TcpDesc, state: &State) {
        let Body::Tcp(body) = &state.body else { return };
        let options = tcp_options_of(packet, flow.desc.l4, tcp);
        let ecn = tcp.flags & (ECE | CWR) == ECE;
        self.learn(flow, state, packet, Known::of_answer(body.requested, &options, ecn));
    }

    /// Changes a segment of a joined connection besides its numbers. Gives the timestamps that are
    /// to be added when everything else is done.
    pub(super) fn harmonize(
        &self,
        packet: &mut Packet,
        desc: &PacketDesc,
        tcp: &TcpDesc,
        state: &mut State,
        forward: bool,
    ) -> Option<(u32, u32)> {
        let created = state.created;
        let splice = state.rare.as_mut()?.splice.as_deref_mut()?;
        let stamp = splice
            .makes_stamps()
            .then(|| tcp_options_of(packet, desc.l4, tcp).timestamps)
            .flatten()
            .map(|(tsval, _)| tsval);
        let now_ms = self.now.nanos_since(created) / 1_000_000;
        let is_marked = desc.tos & 3 == 3;
        #[expect(clippy::cast_possible_truncation, reason = "a clock that goes round")]
        let edits = splice.edits(tcp, (stamp, is_marked), forward, now_ms as u32);
        let is_large = splice.finds_large_reply(tcp, forward);
        if is_large && let Some((addr, port)) = relay::server_of(state) {
            self.engine.servers.note_large_reply(addr, port, self.now);
        }
        harmonize::apply(packet, desc, tcp, &edits);
        match edits {
            Edits { stamps: Stamps::Add { tsval, tsecr }, .. } if stamp.is_none() => {
                Some((tsval, tsecr))
            }
            _ => None,
        }
    }
}

/// What a segment means on which a server waits.
pub(super) enum Word {
    /// Data in it is kept, the wait goes on.
    Kept,
    /// The wait is over: what was kept goes out in its place. It says nothing more than that, or is
    /// a repetition of it, or comes behind a gap and is repeated.
    Heard(Vec<Early>),
}

/// Adds timestamps to a segment that is otherwise done.
pub(super) fn add_stamps(packet: &mut Packet, stamps: (u32, u32)) {
    let Ok(desc) = PacketDesc::parse(packet.data()) else { return };
    let Transport::Tcp(tcp) = desc.transport else { return };
    // Without room it goes as it is: most stacks take it all the same.
    let _ = harmonize::add_stamps(packet, &desc, &tcp, stamps);
}

/// Window of a SYN|ACK that the filter sends: room for the first four segments, which are kept until
/// the server is there. With a closed window the client would wait for one round trip more.
pub(super) fn early_window(mss: u16) -> u16 {
    let two = mss.saturating_mul(2);
    mss.saturating_mul(4).min(EARLY_WINDOW).max(two)
}

/// Whether a segment is a SYN|ACK.
pub(super) const fn is_syn_ack(tcp: &TcpDesc) -> bool {
    tcp.flags & (SYN | ACK | RST) == SYN | ACK
}
