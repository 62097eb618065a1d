//! Packets of a state: most packets end here, without rules.

use pfapi::reason::{CookieCounter, Reason, TableCounter};
use pfapi::timeout::Timeout;
use pfapi::units::Direction;

use super::splice::{Word, add_stamps, is_syn_ack};
use super::{Filter, Flow, carry_out, replace, wscale_offer};
use crate::nat::{self, FieldKind, Rewrite};
use crate::normalize::timestamps::{Connection, End};
use crate::packet::{Packet, Verdict};
use crate::packet_desc::{PacketDesc, TcpDesc};
use crate::rewrite;
use crate::rules::{Decision, LoadedRule};
use crate::state::entry::Body;
use crate::state::key::Keys;
use crate::state::splice::REASON;
use crate::state::store::Held;
use crate::state::tcp::{Level, Segment, TcpState, Tracked};
use crate::wire::build::flags::{ACK, RST};
use crate::wire::build::{TOS_LOW_DELAY, TTL_DEFAULT, TcpSegment};
use crate::wire::tcp_options::SynOptions;

impl<'a> Filter<'a> {
    /// A packet of UDP, an ICMP query, or a protocol without ports.
    pub(super) fn pass_datagram(
        &mut self,
        packet: &mut Packet,
        flow: &Flow,
        mut state: Held<'a>,
    ) -> Result<Verdict, Reason> {
        let forward = state.is_forward(packet.meta.direction, flow.desc.af);
        self.check_rate(&state, forward)?;
        let timeout = match &mut state.body {
            Body::Datagram(datagram) => datagram.track(forward),
            Body::Icmp => {
                // Answers flow against the direction of the query, queries with it.
                if forward == flow.is_reply && !state.decision.sloppy {
                    return Err(Reason::Match);
                }
                Timeout::IcmpError
            }
            Body::Tcp(_) => return Err(Reason::StateMismatch),
        };
        state.timeout = timeout;
        state.last_used = self.now;
        self.let_by(packet, flow, state, forward)
    }

    /// A TCP segment.
    pub(super) fn pass_tcp(
        &mut self,
        packet: &mut Packet,
        flow: &Flow,
        tcp: &TcpDesc,
        mut state: Held<'a>,
    ) -> Result<Verdict, Reason> {
        let forward = state.is_forward(packet.meta.direction, flow.desc.af);
        self.check_rate(&state, forward)?;
        let is_stamped = state.rare.as_ref().is_some_and(|rare| rare.timestamps.is_some());
        let Decision { sloppy, modulated, .. } = *state.decision;
        let Body::Tcp(body) = &state.body else { return Err(Reason::StateMismatch) };
        let is_first = !forward && body.dst.level == Level::Closed;
        if body.is_proxying() {
            let waits = forward && body.is_waiting_for_server();
            let outcome = self.proxy(packet, flow, tcp, state, forward);
            // What passes then is another SYN to the server.
            if waits && outcome == Ok(Verdict::Pass) {
                self.engine.syncookies.counters.count(CookieCounter::CookieRetrans);
            }
            return outcome;
        }
        let from_server = is_first && state.direction == Direction::In;
        let learns = from_server && self.engine.syncookies.probes();
        let destination = learns.then(|| state.destination());
        if forward && let Some(word) = self.hear_word(packet, tcp, &mut state) {
            drop(state);
            let Word::Heard(early) = word else { return Ok(Verdict::Held) };
            self.release(&early);
            self.parts.stats.reason(REASON);
            return Ok(Verdict::Held);
        }
        let Body::Tcp(body) = &mut state.body else { return Err(Reason::StateMismatch) };
        let wscale = wscale_offer(packet, flow.desc.l4, tcp);
        let random = if modulated { self.parts.rng.next_u32() } else { 0 };
        let segment = Segment { tcp, wscale, forward, random };
        let before = is_stamped.then_some(*body);
        let tracked = if sloppy { body.track_sloppy(&segment) } else { body.track(&segment) };
        let completed = body.is_established();
        let answers = !forward && is_syn_ack(tcp);
        state.update_half_open(&self.engine.store.half_open);
        if completed && state.source().is_some_and(|source| !source.is_connected()) {
            state = self.complete_handshake(state)?;
        }
        match tracked {
            Tracked::Accept(accepted) => {
                let answers_question = is_first && state.asks_port();
                if let Some(destination) = destination {
                    self.learn_answer(&destination, tcp);
                    if answers_question {
                        self.note_answered_question(&state);
                    }
                }
                if let Some(before) = before {
                    self.normalize_timestamps(packet, flow, tcp, &mut state, before)?;
                }
                if let Some(timeout) = accepted.timeout {
                    state.timeout = timeout;
                    state.last_used = self.now;
                }
                if answers {
                    self.learn_from(packet, flow, tcp, &state);
                }
                let stamps = self.harmonize(packet, &flow.desc, tcp, &mut state, forward);
                rewrite::translate(packet, flow.desc.l4, tcp, accepted.translation);
                let (slot, id) = (state.slot, state.id);
                let verdict = self.let_by(packet, flow, state, forward)?;
                if let Some(stamps) = stamps {
                    add_stamps(packet, stamps);
                }
                if answers_question && tcp.has(RST) {
                    // A scan must not fill the table with what was refused.
                    self.remove(slot, id);
                }
                Ok(verdict)
            }
            Tracked::Drop(reason) => Err(reason),
            Tracked::Reset => {
                packet.meta.next_hop = state.next_hop(!forward);
                let segment =
                    TcpSegment { seq: tcp.ack, ack: 0, flags: RST, ..self.answer_to(flow, tcp) };
                replace(packet, &segment)?;
                self.parts.stats.reason(Reason::StateMismatch);
                Ok(Verdict::Answer)
            }
            Tracked::Challenge { seq, ack } => {
                packet.meta.next_hop = state.next_hop(!forward);
                let segment =
                    TcpSegment { seq: seq.0, ack: ack.0, flags: ACK, ..self.answer_to(flow, tcp) };
                replace(packet, &segment)?;
                Ok(Verdict::Answer)
            }
            Tracked::Reuse => {
                self.engine.syncookies.counters.count(CookieCounter::ConnReopened);
                let (slot, id) = (state.slot, state.id);
                state.purge = true;
                drop(state);
                self.remove(slot, id);
                self.decide_by_rules(packet, flow)
            }
        }
    }

    /// Counts a packet for the `max-pkt-rate` of its state's rule, which is for packets of the
    /// initiator; the state does not move for one too many. Source: OpenBSD sys/net/pf.c
    /// `pf_find_state`.
    ///
    /// # Errors
    /// The reason that pf gives: none that counts.
    pub(super) fn check_rate(&self, state: &Held<'_>, forward: bool) -> Result<(), Reason> {
        match state.decision.max_pkt_rate {
            Some(most) if forward && state.rule().rate.exceeded_by_one_more(most, self.now) => {
                Err(Reason::Match)
            }
            _ => Ok(()),
        }
    }

    /// Checks and shifts the timestamps of a segment that fits its state; what the segment did to
    /// the state is undone when it is dropped.
    fn normalize_timestamps(
        &mut self,
        packet: &mut Packet,
        flow: &Flow,
        tcp: &TcpDesc,
        state: &mut Held<'a>,
        mut before: TcpState,
    ) -> Result<(), Reason> {
        let kept = state.rare.as_mut().and_then(|rare| rare.timestamps.take());
        let Some(mut timestamps) = kept else { return Ok(()) };
        let forward = state.is_forward(packet.meta.direction, flow.desc.af);
        let levels = [before.src.level, before.dst.level];
        if !before.peers(forward).0.seen {
            let end = if forward { &mut timestamps.src } else { &mut timestamps.dst };
            *end = Some(End::new(packet, &flow.desc, tcp, self.now, &mut self.parts.rng));
        }
        let connection = Connection {
            forward,
            established: levels.iter().all(|&level| level >= Level::Established),
            created: state.created,
            tsdiff_s: self.tsdiff_s(state.rule()),
        };
        let outcome = timestamps.normalize(packet, &flow.desc, tcp, &connection, self.now);
        if let Some(rare) = &mut state.rare {
            rare.timestamps = Some(timestamps);
        }
        if outcome.is_err() {
            state.body = Body::Tcp(before);
            state.update_half_open(&self.engine.store.half_open);
        }
        outcome
    }

    /// Timeout `tcp.tsdiff` of the states of a rule.
    pub(super) fn tsdiff_s(&self, rule: &LoadedRule) -> u32 {
        let of_rule = rule.rule.state_options.timeouts.iter();
        let given = of_rule.rev().find(|(timeout, _)| *timeout == Timeout::TcpTsdiff);
        given.map_or(self.snapshot.timeouts.get(Timeout::TcpTsdiff), |&(_, seconds)| seconds)
    }

    /// Counts a packet that passes and leaves the link for the outbound pass.
    fn let_by(
        &mut self,
        packet: &mut Packet,
        flow: &Flow,
        mut state: Held<'a>,
        forward: bool,
    ) -> Result<Verdict, Reason> {
        if flow.desc.has_options && !state.decision.allow_opts {
            self.log_known(packet, &flow.desc, &state, Some(Reason::IpOption));
            return Err(Reason::IpOption);
        }
        state.decision.actions.check_size(flow.desc.total)?;
        state.count(forward, flow.desc.total);
        self.log_known(packet, &flow.desc, &state, None);
        carry_out(packet, &flow.desc, state.actions(), &mut self.parts.rng);
        if state.is_translated() {
            self.translate(packet, &flow.desc, &state.keys())?;
        }
        packet.meta.next_hop = state.next_hop(forward);
        let (link, pair) = (state.reference(), state.pair);
        drop(state);
        if packet.meta.direction == Direction::Out && packet.meta.pair != Some(link) {
            self.join(packet, link);
        }
        packet.meta.link = Some(link);
        packet.meta.pair = pair;
        Ok(Verdict::Pass)
    }

    /// Gives a packet the addresses of the other side of its state.
    pub(super) fn translate(
        &mut self,
        packet: &mut Packet,
        desc: &PacketDesc,
        keys: &Keys,
    ) -> Result<(), Reason> {
        if !keys.is_translated() {
            return Ok(());
        }
        let (key, direction) = keys.beyond(packet.meta.direction, desc.af);
        let new = Rewrite::of_key(key, direction, FieldKind::of(desc));
        if keys.changes_family() {
            nat::change_family(packet, desc, &new, self.parts.rng.next_u16())?;
            packet.meta.unfiltered = true;
        } else {
            nat::rewrite(packet, desc, &new);
        }
        Ok(())
    }

    /// Links the two states of a flow that met in one packet, for the first time or after a
    /// change of route.
    fn join(&self, packet: &Packet, outbound: crate::packet::StateRef) {
        let Some(link) = packet.meta.link else { return };
        let store = &self.engine.store;
        if let Some(mut inbound) = store.follow(link) {
            inbound.pair = Some(outbound);
        }
        if let Some(mut state) = store.follow(outbound) {
            state.pair = Some(link);
        }
    }

    /// Ends a state now, if it is still the one with this identifier; nobody may hold it.
    pub(super) fn remove(&self, slot: u32, id: u64) {
        if let Some(old) = self.view.remove_if(slot, |state| state.id == id) {
            self.count_removed(&old);
        }
    }

    pub(super) fn count_removed(&self, old: &crate::state::entry::State) {
        old.retire();
        self.parts.stats.state_table(TableCounter::Removals, 1);
    }

    /// A segment back to the sender of `tcp`, without numbers and flags.
    pub(super) fn answer_to(&mut self, flow: &Flow, tcp: &TcpDesc) -> TcpSegment {
        TcpSegment {
            src: flow.desc.dst.to_ip(flow.desc.af),
            dst: flow.desc.src.to_ip(flow.desc.af),
            sport: tcp.dport,
            dport: tcp.sport,
            seq: 0,
            ack: 0,
            flags: 0,
            window: 0,
            options: SynOptions::default(),
            ttl: TTL_DEFAULT,
            tos: TOS_LOW_DELAY,
            dont_fragment: true,
            id: self.parts.rng.next_u16(),
        }
    }
}
