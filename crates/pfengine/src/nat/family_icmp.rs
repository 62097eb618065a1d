//! Types of ICMP in terms of ICMPv6, and errors with the packets that they quote.
//!
//! Sources: RFC 7915 sections 4.2 and 5.2; OpenBSD sys/net/pf.c `pf_translate_icmp_af`,
//! `pf_change_icmp_af`.

use pfapi::addr::Af;
use pfapi::reason::Reason;

use super::embed::embed;
use super::family::{Travel, header_len, other, protocol, write_header};
use super::rewrite::{ChecksumField, FieldKind, Rewrite, low32, put16, write_fields};
use crate::addr::Addr;
use crate::packet::{Offload, Packet};
use crate::packet_desc::{PacketDesc, Transport, u16_at, u32_at};
use crate::quoted::{ICMP_HEADER, Quoted, QuotedTransport};
use crate::reply;
use crate::state::key::Keys;
use crate::wire::bytes::be32;
use crate::wire::checksum::{Delta, Sum};
use crate::wire::ip::{IPV4_HEADER, IPV6_HEADER};

/// Octets of an error at most: what every host takes. RFC 1812 section 4.3.2.3, RFC 4443
/// section 2.4 (c).
const ERROR_MAX_V4: usize = 576;
const ERROR_MAX_V6: usize = 1280;
/// MTU in the stead of none. RFC 7915 section 4.2; the least that IPv6 demands.
const MTU_UNKNOWN: u32 = 1280;
/// By how much the header of IPv6 is longer.
const LONGER: u32 = 20;

/// The type of a query or an answer in the other family; `None` where that has none.
pub const fn query(af: Af, icmp_type: u8) -> Option<u8> {
    match (af, icmp_type) {
        (Af::Inet, 8) => Some(128),
        (Af::Inet, 0) => Some(129),
        (Af::Inet6, 128) => Some(8),
        (Af::Inet6, 129) => Some(0),
        _ => None,
    }
}

/// Type, code and second word of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    icmp_type: u8,
    code: u8,
    word: u32,
}

impl Head {
    /// The error in the other family; `None` where that has none.
    fn translated(self, af: Af) -> Option<Self> {
        match af {
            Af::Inet6 => self.to_v4(),
            Af::Inet => self.to_v6(),
        }
    }

    fn to_v4(self) -> Option<Self> {
        let head = |icmp_type, code, word| Some(Self { icmp_type, code, word });
        match (self.icmp_type, self.code) {
            (1, 0 | 2 | 3) => head(3, 1, 0),
            (1, 1) => head(3, 10, 0),
            (1, 4) => head(3, 3, 0),
            (2, _) => head(3, 4, self.word.saturating_sub(LONGER).min(u32::from(u16::MAX))),
            (3, code) => head(11, code, 0),
            (4, 0) => {
                let pointer = match self.word {
                    at @ 0..=1 => at,
                    4 | 5 => 2,
                    6 => 9,
                    7 => 8,
                    8..=23 => 12,
                    24..=39 => 16,
                    _ => return None,
                };
                head(12, 0, pointer << 24)
            }
            (4, 1) => head(3, 2, 0),
            _ => None,
        }
    }

    fn to_v6(self) -> Option<Self> {
        let head = |icmp_type, code, word| Some(Self { icmp_type, code, word });
        match (self.icmp_type, self.code) {
            (3, 0 | 1 | 6 | 7 | 8 | 11 | 12) => head(1, 0, 0),
            (3, 2) => head(4, 1, 6),
            (3, 3) => head(1, 4, 0),
            (3, 4) => match self.word & 0xffff {
                0 => head(2, 0, MTU_UNKNOWN),
                mtu => head(2, 0, mtu + LONGER),
            },
            (3, 9 | 10 | 13 | 15) => head(1, 1, 0),
            (11, code) => head(3, code, 0),
            (12, 0 | 2) => {
                let pointer = match self.word >> 24 {
                    at @ 0..=1 => at,
                    2 | 3 => 4,
                    8 => 7,
                    9 => 6,
                    12..=15 => 8,
                    16..=19 => 24,
                    _ => return None,
                };
                head(4, 0, pointer)
            }
            _ => None,
        }
    }
}

/// From whom an error comes in the other family, in which the quoted destination is `asked`. Where
/// that holds the IPv4 destination in its last 32 bits, routers on the way keep addresses of
/// their own, so that traceroute shows them. Source: OpenBSD sys/net/pf.c `pf_test_state_icmp`.
fn sender(desc: &PacketDesc, quoted: &Quoted, asked: Addr) -> Addr {
    if desc.af == Af::Inet && low32(asked) == low32(quoted.dst) {
        embed(asked, 96, desc.src)
    } else {
        asked
    }
}

/// Turns an ICMP error into one of the other family: as if the host beyond the translation had
/// caused it, with its packet quoted. `seq` is the sequence number that the quoted packet's
/// sender knows, where that is TCP; `ids` are identifications of the outer and the quoted header
/// where those are of IPv4.
///
/// # Errors
/// [`Reason::Translate`] for errors that the other family has not, [`Reason::ProtoCksum`] when
/// the message is damaged, [`Reason::Memory`] when the buffer has no room.
pub fn change_error_family(
    packet: &mut Packet,
    desc: &PacketDesc,
    quoted: &Quoted,
    keys: &Keys,
    seq: Option<u32>,
    ids: [u16; 2],
) -> Result<(), Reason> {
    let af = other(desc.af);
    let Transport::Icmp { icmp_type, code, .. } = desc.transport else {
        return Err(Reason::Translate);
    };
    // The sum of the new message is made anew, which must not hide that the old one was wrong.
    if !reply::complete_checksum(packet) || !reply::checksum_is_intact(packet) {
        return Err(Reason::ProtoCksum);
    }
    let word = be32(packet.data(), desc.l4 + 4).ok_or(Reason::Short)?;
    let head = Head { icmp_type, code, word }.translated(desc.af).ok_or(Reason::Translate)?;
    let kind = match quoted.transport {
        QuotedTransport::Tcp { .. } | QuotedTransport::Udp { .. } => FieldKind::Ports,
        QuotedTransport::Icmp { icmp_type, .. } => FieldKind::of_icmp(desc.af, icmp_type),
        QuotedTransport::Other => FieldKind::None,
    };
    let (key, direction) = keys.beyond(packet.meta.direction, desc.af);
    // The quoted packet went the other way.
    let inner = Rewrite::of_key(key, direction.reversed(), kind);

    let mut message = [0; ERROR_MAX_V6];
    let most = match af {
        Af::Inet => ERROR_MAX_V4 - IPV4_HEADER,
        Af::Inet6 => ERROR_MAX_V6 - IPV6_HEADER,
    };
    let len =
        write_quote(&mut message[..most], packet.data(), desc, quoted, (&inner, seq), ids[1])?;
    message[..2].copy_from_slice(&[head.icmp_type, head.code]);
    message[4..8].copy_from_slice(&head.word.to_be_bytes());
    let outer = Rewrite { src: sender(desc, quoted, inner.dst), dst: inner.src, ..inner };
    let number = protocol(desc.proto);
    let pseudo = match af {
        Af::Inet => Sum::ZERO,
        Af::Inet6 => {
            let size = u32::try_from(len).unwrap_or(u32::MAX);
            Sum::pseudo(outer.src.to_ip(af), outer.dst.to_ip(af), number, size)
        }
    };
    let sum = pseudo.plus(Sum::of(&message[..len])).checksum();
    put16(&mut message, 2, sum);

    let travel = Travel::of(packet.data(), desc.af);
    let total = header_len(af) + len;
    let missing = total.saturating_sub(packet.len());
    if !(packet.resize(total) || packet.grow_front(missing) && packet.resize(total)) {
        return Err(Reason::Memory);
    }
    packet.meta.offload = Offload::default();
    let data = packet.data_mut();
    write_header(data, af, travel, (&outer, number), len, ids[0]);
    data[header_len(af)..].copy_from_slice(&message[..len]);
    Ok(())
}

/// Writes the quoted packet of an error behind the ICMP header in `message`, as far as there is
/// room; gives the length of all.
fn write_quote(
    message: &mut [u8],
    data: &[u8],
    desc: &PacketDesc,
    quoted: &Quoted,
    (new, seq): (&Rewrite, Option<u32>),
    id: u16,
) -> Result<usize, Reason> {
    let af = other(desc.af);
    let headers = quoted.l4 - quoted.start;
    let header = &data[quoted.start..];
    let claimed = match desc.af {
        Af::Inet => usize::from(u16_at(header, 2)),
        Af::Inet6 => usize::from(u16_at(header, 4)) + IPV6_HEADER,
    };
    let payload = claimed.saturating_sub(headers).min(usize::from(u16::MAX) - IPV6_HEADER);
    let travel = Travel::of(header, desc.af);
    let number = protocol(quoted.proto);
    write_header(&mut message[ICMP_HEADER..], af, travel, (new, number), payload, id);
    let start = ICMP_HEADER + header_len(af);
    let rest = data.get(quoted.l4..desc.total).ok_or(Reason::Short)?;
    let len = (start + rest.len()).min(message.len());
    let transport = &mut message[start..len];
    transport.copy_from_slice(&rest[..len - start]);
    let mut delta = write_fields(transport, new.fields);
    if let Some(seq) = seq {
        delta = delta.and(Delta::u32(u32_at(transport, 4), seq));
        transport[4..8].copy_from_slice(&seq.to_be_bytes());
    }
    let pseudo = |af: Af, src: crate::addr::Addr, dst: crate::addr::Addr, number: u8| {
        let len = u32::try_from(payload).unwrap_or(u32::MAX);
        Sum::pseudo(src.to_ip(af), dst.to_ip(af), number, len)
    };
    let before = pseudo(desc.af, quoted.src, quoted.dst, quoted.proto);
    let after = pseudo(af, new.src, new.dst, number);
    if let QuotedTransport::Icmp { icmp_type, .. } = quoted.transport {
        let head = u16_at(transport, 0);
        transport[0] = query(desc.af, icmp_type).ok_or(Reason::Translate)?;
        delta = delta.and(Delta::u16(head, u16_at(transport, 0)));
        delta = delta.and(match af {
            Af::Inet6 => Delta::gain(after),
            Af::Inet => Delta::lose(before),
        });
    } else {
        delta = delta.and(Delta::lose(before)).and(Delta::gain(after));
    }
    if let Some(field) = ChecksumField::of(number)
        && field.at + 2 <= transport.len()
    {
        let sum = field.update(u16_at(transport, field.at), delta);
        put16(transport, field.at, sum);
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(af: Af, icmp_type: u8, code: u8, word: u32) -> Option<(u8, u8, u32)> {
        let head = Head { icmp_type, code, word }.translated(af)?;
        Some((head.icmp_type, head.code, head.word))
    }

    #[test]
    fn errors_of_ipv6() {
        for (icmp_type, code, word, wanted) in [
            (1, 0, 0, Some((3, 1, 0))),
            (1, 1, 0, Some((3, 10, 0))),
            (1, 2, 0, Some((3, 1, 0))),
            (1, 3, 0, Some((3, 1, 0))),
            (1, 4, 0, Some((3, 3, 0))),
            (1, 5, 0, None),
            (2, 0, 1500, Some((3, 4, 1480))),
            (3, 0, 0, Some((11, 0, 0))),
            (3, 1, 0, Some((11, 1, 0))),
            (4, 0, 0, Some((12, 0, 0))),
            (4, 0, 2, None),
            (4, 0, 4, Some((12, 0, 2 << 24))),
            (4, 0, 6, Some((12, 0, 9 << 24))),
            (4, 0, 7, Some((12, 0, 8 << 24))),
            (4, 0, 8, Some((12, 0, 12 << 24))),
            (4, 0, 39, Some((12, 0, 16 << 24))),
            (4, 0, 40, None),
            (4, 1, 6, Some((3, 2, 0))),
            (4, 2, 0, None),
        ] {
            assert_eq!(over(Af::Inet6, icmp_type, code, word), wanted, "{icmp_type}/{code}");
        }
    }

    #[test]
    fn errors_of_ipv4() {
        for code in [0, 1, 6, 7, 8, 11, 12] {
            assert_eq!(over(Af::Inet, 3, code, 0), Some((1, 0, 0)), "3/{code}");
        }
        for code in [9, 10, 13, 15] {
            assert_eq!(over(Af::Inet, 3, code, 0), Some((1, 1, 0)), "3/{code}");
        }
        for (icmp_type, code, word, wanted) in [
            (3, 2, 0, Some((4, 1, 6))),
            (3, 3, 0, Some((1, 4, 0))),
            (3, 4, 1400, Some((2, 0, 1420))),
            (3, 4, 0, Some((2, 0, 1280))),
            (3, 5, 0, None),
            (3, 14, 0, None),
            (11, 1, 0, Some((3, 1, 0))),
            (12, 0, 1 << 24, Some((4, 0, 1))),
            (12, 0, 3 << 24, Some((4, 0, 4))),
            (12, 2, 8 << 24, Some((4, 0, 7))),
            (12, 0, 9 << 24, Some((4, 0, 6))),
            (12, 0, 15 << 24, Some((4, 0, 8))),
            (12, 0, 19 << 24, Some((4, 0, 24))),
            (12, 0, 20 << 24, None),
            (12, 1, 0, None),
            (5, 0, 0, None),
            (4, 0, 0, None),
        ] {
            assert_eq!(over(Af::Inet, icmp_type, code, word), wanted, "{icmp_type}/{code}");
        }
    }

    #[test]
    fn pings_are_the_only_queries() {
        for icmp_type in 0..=u8::MAX {
            let there = query(Af::Inet, icmp_type);
            assert_eq!(there.is_some(), matches!(icmp_type, 0 | 8));
            if let Some(there) = there {
                assert_eq!(query(Af::Inet6, there), Some(icmp_type));
            }
        }
    }
}
