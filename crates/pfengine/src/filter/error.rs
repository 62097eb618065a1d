//! ICMP errors belong to the state of the packet that they quote.
//!
//! Source: OpenBSD sys/net/pf.c `pf_test_state_icmp`.

use pfapi::addr::Af;
use pfapi::reason::{Reason, TableCounter};
use pfapi::units::Direction;

use super::{Filter, Place};
use crate::nat;
use crate::packet::{Packet, Verdict};
use crate::packet_desc::{PacketDesc, Transport};
use crate::quoted::{Quoted, QuotedTransport};
use crate::seq::SeqNum;
use crate::state::entry::Body;
use crate::state::key::Key;
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
            if !newest.is_at_or_after(known) || !known.is_at_or_after(oldest) {
                return Err(Reason::StateMismatch);
            }
            seq = Some(known.0);
            // The server's side has not answered yet: this is its answer.
            let is_first = sender.level == Level::SynSent && receiver.level == Level::Closed;
            if is_first || tcp.is_waiting_for_server() {
                unanswered = !forward && state.direction == Direction::In;
            }
        }
        if desc.has_options {
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
}
