//! ICMP errors belong to the state of the packet that they quote.
//!
//! Source: OpenBSD sys/net/pf.c `pf_test_state_icmp`.

use pfapi::addr::Af;
use pfapi::reason::{Reason, TableCounter};
use pfapi::units::Direction;

use super::{Filter, Place, carry_out, replace};
use crate::nat;
use crate::packet::{Packet, Verdict};
use crate::packet_desc::{PacketDesc, Transport};
use crate::quoted::{Quoted, QuotedTransport};
use crate::relay;
use crate::seq::SeqNum;
use crate::state::entry::{Body, State};
use crate::state::key::Key;
use crate::state::store::Held;
use crate::state::tcp::Level;
use crate::syncookie::Answer;

/// Code of an ICMP error that says "unreachable", but for the ones about size.
fn unreachable_code(desc: &PacketDesc) -> Option<u8> {
    match (desc.af, desc.transport) {
        (Af::Inet, Transport::Icmp { icmp_type: 3, code, .. }) if code != 4 => Some(code),
        (Af::Inet6, Transport::Icmp { icmp_type: 1, code, .. }) => Some(code),
        _ => None,
    }
}

impl Filter<'_> {
    /// Finds the state of the packet that an ICMP error quotes. `None` when there is none: rules
    /// decide then.
    pub(super) fn match_icmp_error(
        &mut self,
        packet: &mut Packet,
        desc: &PacketDesc,
    ) -> Result<Option<Verdict>, Reason> {
        let quoted = Quoted::parse(packet.data(), desc)?;
        if desc.dst != quoted.src {
            return Err(Reason::StateMismatch);
        }
        let Some((sport, dport)) = quoted.ports(desc.af) else { return Ok(None) };
        let Place { direction, interface } = Self::place(packet);
        // The quoted packet crossed this interface the other way.
        let key = Key::of_packet(
            direction.reversed(),
            (desc.af, quoted.proto),
            (quoted.src, sport),
            (quoted.dst, dport),
        );
        let hash = self.engine.store.hash(&key);
        self.parts.stats.state_table(TableCounter::Searches, 1);
        let Some(mut state) = self.view.find(&(key, hash), direction, interface) else {
            return Ok(None);
        };
        let forward = state.is_forward(direction, desc.af);
        self.check_rate(&state, forward)?;
        let is_sloppy = state.decision.sloppy;
        // The quoted query or answer flowed the other way.
        if quoted.is_reply(desc.af) == Some(!forward) && !is_sloppy {
            return Err(Reason::Match);
        }
        let (mut seq, mut unanswered) = (None, false);
        if let (Body::Tcp(tcp), QuotedTransport::Tcp { seq: quoted, .. }) =
            (&mut state.body, quoted.transport)
        {
            // Who sent the quoted packet hears of it now.
            let (sender, receiver) = tcp.peers(!forward);
            let shift = match (sender.wscale, receiver.wscale) {
                (Some(_), Some(shift)) => shift,
                _ => 0,
            };
            let known = SeqNum(quoted).retreat(sender.seqdiff);
            let oldest = sender.seqlo.retreat(receiver.max_win << shift);
            let newest = sender.seqhi.unwrap_or(sender.seqlo);
            let fits = newest.is_at_or_after(known) && known.is_at_or_after(oldest);
            if !fits && !is_sloppy {
                return Err(Reason::StateMismatch);
            }
            seq = Some(known.0);
            // The server's side has not answered yet: this is its answer.
            let is_first = sender.level == Level::SynSent && receiver.level == Level::Closed;
            if is_first || tcp.is_waiting_for_server() {
                unanswered = !forward && state.direction == Direction::In;
            }
        }
        if ends_the_wait(desc, &state) {
            return self.refuse(packet, state).map(Some);
        }
        if desc.has_options && !state.decision.allow_opts {
            self.log_known(packet, desc, &state, Some(Reason::IpOption));
            return Err(Reason::IpOption);
        }
        if unanswered
            && self.engine.syncookies.probes()
            && let Some(code) = unreachable_code(desc)
        {
            self.learn_port(&state.destination(), Answer::Unreachable(code));
        }
        self.log_known(packet, desc, &state, None);
        state.count(forward, desc.total);
        carry_out(packet, desc, state.actions(), &mut self.parts.rng);
        packet.meta.next_hop = state.next_hop(forward);
        let keys = state.keys();
        if keys.changes_family() {
            let ids = [self.parts.rng.next_u16(), self.parts.rng.next_u16()];
            nat::change_error_family(packet, desc, &quoted, &keys, seq, ids)?;
            packet.meta.unfiltered = true;
        } else {
            nat::rewrite_error(packet, desc, &quoted, &keys, seq);
        }
        Ok(Some(Verdict::Pass))
    }

    /// Turns an error about the SYN to a server into the RST that the waiting client understands.
    fn refuse(&mut self, packet: &mut Packet, mut state: Held<'_>) -> Result<Verdict, Reason> {
        let segment = relay::refusal(&state, self.parts.rng.next_u16());
        if let Body::Tcp(body) = &mut state.body {
            body.close();
            state.timeout = body.timeout();
            state.last_used = self.now;
        }
        state.update_half_open(&self.engine.store.half_open);
        self.parts.stats.reason(Reason::Synproxy);
        packet.meta.next_hop = state.next_hop(false);
        replace(packet, &segment.ok_or(Reason::Synproxy)?)?;
        Ok(Verdict::Answer)
    }
}

/// Whether an error says that the server of a client that has shaken hands with the filter cannot be
/// reached. All that say so count, as they would for a client in its handshake (RFC 5461 section 4).
fn ends_the_wait(desc: &PacketDesc, state: &State) -> bool {
    let waits = matches!(&state.body, Body::Tcp(body) if body.is_waiting_for_server());
    let Transport::Icmp { icmp_type, code, .. } = desc.transport else { return false };
    let unreachable = match desc.af {
        // Code 4 asks for smaller packets.
        Af::Inet => icmp_type == 3 && code != 4,
        Af::Inet6 => icmp_type == 1,
    };
    waits && unreachable && state.splice().is_some()
}
