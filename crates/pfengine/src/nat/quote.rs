//! ICMP errors under translation: the quoted packet and the outer addresses follow its state.
//!
//! The error looks as if the host at the other side of the translation had caused it: the quote is
//! the packet as that host sent it, with its checksums as they were. pf clears the quoted UDP
//! checksum and leaves that of the quoted IPv4 header wrong. Source: OpenBSD sys/net/pf.c
//! `pf_test_state_icmp`, `pf_translate_icmp`.

use pfapi::addr::Af;

use super::rewrite::{ChecksumField, FieldKind, Fields, Rewrite, low32, put16, rewrite};
use crate::addr::Addr;
use crate::packet::Packet;
use crate::packet_desc::{PacketDesc, u16_at, u32_at};
use crate::quoted::{Quoted, QuotedTransport};
use crate::state::key::Keys;
use crate::wire::checksum::Delta;

/// Where the checksum of an ICMP message lies in it.
const ICMP_CHECKSUM_AT: usize = 2;
/// Where the sequence number lies in a TCP header.
const SEQ_AT: usize = 4;

/// Gives an error the addresses of the other side of the state of the packet that it quotes, and
/// the quote the sequence number `seq` that its sender knows, where that is TCP.
///
/// The outer source becomes the new quoted destination whenever that changes, also when a router
/// in between has sent the error, so that nobody sees what lies behind `rdr-to`.
pub fn rewrite_error(
    packet: &mut Packet,
    desc: &PacketDesc,
    quoted: &Quoted,
    keys: &Keys,
    seq: Option<u32>,
) {
    let changed = |quoted: &QuotedTransport| match (seq, quoted) {
        (Some(known), QuotedTransport::Tcp { seq, .. }) => known != *seq,
        _ => false,
    };
    if !keys.is_translated() && !changed(&quoted.transport) {
        return;
    }
    let direction = packet.meta.direction;
    let other = keys.get(keys.side(direction, desc.af).other());
    let kind = match quoted.transport {
        QuotedTransport::Tcp { .. } | QuotedTransport::Udp { .. } => FieldKind::Ports,
        QuotedTransport::Icmp { icmp_type, .. } => FieldKind::of_icmp(desc.af, icmp_type),
        QuotedTransport::Other => FieldKind::None,
    };
    // The quoted packet crossed this interface the other way.
    let inner = Rewrite::of_key(other, direction.reversed(), kind);
    let partial = packet.meta.offload.is_partial_at(desc.l4);
    let mut message =
        Message { octets: &mut packet.data_mut()[desc.l4..desc.total], delta: Delta::NONE };
    message.rewrite_quote(desc, quoted, &inner);
    if let Some(seq) = seq {
        message.put32(quoted.l4 - desc.l4 + SEQ_AT, seq);
    }
    message.close(partial);
    if keys.is_translated() {
        let moved = |old: Addr, new: Addr, outer: Addr| if old == new { outer } else { new };
        let outer = Rewrite {
            src: moved(quoted.dst, inner.dst, desc.src),
            dst: moved(quoted.src, inner.src, desc.dst),
            fields: Fields::None,
        };
        rewrite(packet, desc, &outer);
    }
}

/// An ICMP message under change, with what that does to its checksum.
struct Message<'a> {
    octets: &'a mut [u8],
    delta: Delta,
}

impl Message<'_> {
    fn put16(&mut self, at: usize, new: u16) {
        let change = Delta::u16(u16_at(self.octets, at), new).at(at);
        self.delta = self.delta.and(change);
        put16(self.octets, at, new);
    }

    fn put32(&mut self, at: usize, new: u32) {
        let change = Delta::u32(u32_at(self.octets, at), new).at(at);
        self.delta = self.delta.and(change);
        self.octets[at..at + 4].copy_from_slice(&new.to_be_bytes());
    }

    fn put_addr(&mut self, at: usize, af: Af, new: Addr) {
        match af {
            Af::Inet => self.put32(at, low32(new)),
            Af::Inet6 => {
                for (word, bits) in (0..4).zip([96, 64, 32, 0]) {
                    self.put32(at + 4 * word, low32(Addr(new.0 >> bits)));
                }
            }
        }
    }

    /// Changes addresses, ports or id of the quoted packet, and the checksums that it carries.
    fn rewrite_quote(&mut self, desc: &PacketDesc, quoted: &Quoted, new: &Rewrite) {
        let (ip, transport) = (quoted.start - desc.l4, quoted.l4 - desc.l4);
        let addresses = match desc.af {
            Af::Inet => {
                let delta = Delta::u32(low32(quoted.src), low32(new.src))
                    .and(Delta::u32(low32(quoted.dst), low32(new.dst)));
                self.put_addr(ip + 12, desc.af, new.src);
                self.put_addr(ip + 16, desc.af, new.dst);
                let sum = delta.complete(u16_at(self.octets, ip + 10));
                self.put16(ip + 10, sum);
                delta
            }
            Af::Inet6 => {
                self.put_addr(ip + 8, desc.af, new.src);
                self.put_addr(ip + 24, desc.af, new.dst);
                Delta::u128(quoted.src.0, new.src.0).and(Delta::u128(quoted.dst.0, new.dst.0))
            }
        };
        let fields = match new.fields {
            Fields::Ports { sport, dport } => {
                let old = (u16_at(self.octets, transport), u16_at(self.octets, transport + 2));
                self.put16(transport, sport);
                self.put16(transport + 2, dport);
                Delta::u16(old.0, sport).and(Delta::u16(old.1, dport))
            }
            Fields::Id(id) => {
                let old = u16_at(self.octets, transport + 4);
                self.put16(transport + 4, id);
                Delta::u16(old, id)
            }
            Fields::None => Delta::NONE,
        };
        // Errors quote eight octets at least, which the checksum of TCP lies behind.
        if let Some(field) = ChecksumField::of(quoted.proto)
            && transport + field.at + 2 <= self.octets.len()
        {
            let delta = if field.pseudo { addresses.and(fields) } else { fields };
            let sum = field.update(u16_at(self.octets, transport + field.at), delta);
            self.put16(transport + field.at, sum);
        }
    }

    /// Brings the checksum of the message up to date, unless somebody sums it up later.
    fn close(self, partial: bool) {
        if !partial {
            let sum = self.delta.complete(u16_at(self.octets, ICMP_CHECKSUM_AT));
            put16(self.octets, ICMP_CHECKSUM_AT, sum);
        }
    }
}
