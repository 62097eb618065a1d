//! New addresses, ports and ICMP ids in place, checksums by difference (RFC 1624, eqn. 3).
//!
//! Source: OpenBSD sys/net/pf.c `pf_translate`, `pf_translate_a`, `pf_patch_16`.

use pfapi::addr::Af;
use pfapi::ruleset::proto;
use pfapi::units::Direction;

use crate::addr::Addr;
use crate::packet::Packet;
use crate::packet_desc::{PacketDesc, Transport, u16_at};
use crate::state::icmp::{self, IcmpClass};
use crate::state::key::Key;
use crate::wire::checksum::Delta;

/// Where the header checksum of IPv4 and the addresses of both families lie.
const IPV4_CHECKSUM_AT: usize = 10;
const IPV4_SRC_AT: usize = 12;
const IPV4_DST_AT: usize = 16;
const IPV6_SRC_AT: usize = 8;
const IPV6_DST_AT: usize = 24;
/// Where fields lie behind the start of the transport header.
const DPORT_AT: usize = 2;
const ICMP_ID_AT: usize = 4;

/// What a packet is to look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// New source.
    pub src: Addr,
    /// New destination.
    pub dst: Addr,
    /// New ports or id.
    pub fields: Fields,
}

/// New ports or id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields {
    /// TCP and UDP.
    Ports {
        /// New source port.
        sport: u16,
        /// New destination port.
        dport: u16,
    },
    /// ICMP queries with an identifier.
    Id(u16),
    /// Everything else keeps what it has.
    None,
}

/// Which fields besides addresses a packet has that its key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Source and destination port.
    Ports,
    /// The identifier of a query, which stands at the end that asks.
    Id {
        /// Whether the packet is the answer.
        reply: bool,
    },
    /// None.
    None,
}

impl FieldKind {
    /// Those of a packet.
    pub const fn of(desc: &PacketDesc) -> Self {
        match desc.transport {
            Transport::Tcp(_) | Transport::Udp { .. } => Self::Ports,
            Transport::Icmp { icmp_type, .. } => Self::of_icmp(desc.af, icmp_type),
            Transport::Other | Transport::Fragment => Self::None,
        }
    }

    /// Those of an ICMP message.
    pub const fn of_icmp(af: Af, icmp_type: u8) -> Self {
        match icmp::classify(af, icmp_type) {
            IcmpClass::Query { has_id: true, reply, .. } => Self::Id { reply },
            _ => Self::None,
        }
    }
}

impl Rewrite {
    /// What a packet that crosses in `direction` looks like when it builds `key`.
    pub fn of_key(key: &Key, direction: Direction, kind: FieldKind) -> Self {
        let source = usize::from(direction == Direction::Out);
        let fields = match kind {
            FieldKind::Ports => {
                Fields::Ports { sport: key.port[source], dport: key.port[1 - source] }
            }
            FieldKind::Id { reply } => Fields::Id(key.port[usize::from(reply) ^ source]),
            FieldKind::None => Fields::None,
        };
        Self { src: key.addr[source], dst: key.addr[1 - source], fields }
    }
}

/// Where a transport header keeps its checksum, and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksumField {
    /// Octets behind the start of the transport header.
    pub at: usize,
    /// Whether the pseudo-header is covered too.
    pub pseudo: bool,
    /// Whether zero means that there is none (UDP).
    pub optional: bool,
}

impl ChecksumField {
    /// The field of a protocol; `None` for those that have none that we know.
    pub const fn of(number: u8) -> Option<Self> {
        match number {
            proto::TCP => Some(Self { at: 16, pseudo: true, optional: false }),
            proto::UDP => Some(Self { at: 6, pseudo: true, optional: true }),
            proto::ICMP => Some(Self { at: 2, pseudo: false, optional: false }),
            proto::ICMPV6 => Some(Self { at: 2, pseudo: true, optional: false }),
            _ => None,
        }
    }

    /// The new value of a complete checksum.
    pub const fn update(self, old: u16, delta: Delta) -> u16 {
        if self.optional { delta.complete_udp(old) } else { delta.complete(old) }
    }
}

/// Changes a whole packet to look like `new`.
///
/// A partial checksum holds the sum of the pseudo-header, so it follows the addresses alone. The
/// headers of a super-packet are those of all its segments.
pub fn rewrite(packet: &mut Packet, desc: &PacketDesc, new: &Rewrite) {
    let partial = packet.meta.offload.is_partial_at(desc.l4);
    let data = packet.data_mut();
    let addresses = write_addresses(data, desc, new);
    let Some(transport) = data.get_mut(desc.l4..desc.total) else { return };
    let fields = write_fields(transport, new.fields);
    let Some(field) = ChecksumField::of(desc.proto).filter(|_| desc.has_transport()) else {
        return;
    };
    let old = u16_at(transport, field.at);
    let sum = match (partial, field.pseudo) {
        (true, true) => addresses.partial(old),
        (true, false) => return,
        (false, true) => field.update(old, addresses.and(fields)),
        (false, false) => field.update(old, fields),
    };
    put16(transport, field.at, sum);
}

/// Writes both addresses, and for IPv4 the header checksum.
fn write_addresses(data: &mut [u8], desc: &PacketDesc, new: &Rewrite) -> Delta {
    match desc.af {
        Af::Inet => {
            let (src, dst) = (low32(new.src), low32(new.dst));
            let delta = Delta::u32(low32(desc.src), src).and(Delta::u32(low32(desc.dst), dst));
            data[IPV4_SRC_AT..IPV4_SRC_AT + 4].copy_from_slice(&src.to_be_bytes());
            data[IPV4_DST_AT..IPV4_DST_AT + 4].copy_from_slice(&dst.to_be_bytes());
            let sum = delta.complete(u16_at(data, IPV4_CHECKSUM_AT));
            put16(data, IPV4_CHECKSUM_AT, sum);
            delta
        }
        Af::Inet6 => {
            data[IPV6_SRC_AT..IPV6_SRC_AT + 16].copy_from_slice(&new.src.0.to_be_bytes());
            data[IPV6_DST_AT..IPV6_DST_AT + 16].copy_from_slice(&new.dst.0.to_be_bytes());
            Delta::u128(desc.src.0, new.src.0).and(Delta::u128(desc.dst.0, new.dst.0))
        }
    }
}

/// Writes ports or id at the start of a transport header.
pub fn write_fields(transport: &mut [u8], fields: Fields) -> Delta {
    let mut change = |at: usize, new: u16| {
        let old = u16_at(transport, at);
        put16(transport, at, new);
        Delta::u16(old, new)
    };
    match fields {
        Fields::Ports { sport, dport } => change(0, sport).and(change(DPORT_AT, dport)),
        Fields::Id(id) => change(ICMP_ID_AT, id),
        Fields::None => Delta::NONE,
    }
}

/// An IPv4 address as its 32 bits.
pub const fn low32(addr: Addr) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "IPv4 addresses have 32 bits")]
    let low = addr.0 as u32;
    low
}

/// Writes a big-endian word; the caller has checked the length.
pub fn put16(data: &mut [u8], at: usize, word: u16) {
    data[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::packet::{Checksum, Offload};
    use crate::wire::checksum::{Sum, ipv4_header_is_intact, packet_is_intact};
    use core::net::IpAddr;
    use proptest::prelude::*;

    const PAYLOAD: usize = 24;

    /// A packet of `number` between two addresses of one family, checksums right.
    pub fn packet(af: Af, number: u8, (src, dst): (Addr, Addr), words: [u16; 3]) -> Packet {
        let mut segment = vec![0; 20 + PAYLOAD];
        segment[..2].copy_from_slice(&words[0].to_be_bytes());
        segment[2..4].copy_from_slice(&words[1].max(1).to_be_bytes());
        match number {
            proto::TCP => segment[12..14].copy_from_slice(&[0x50, 0x10]),
            proto::UDP => segment[4..6].copy_from_slice(&44u16.to_be_bytes()),
            _ => {
                segment[..4].copy_from_slice(&[if af == Af::Inet { 8 } else { 128 }, 0, 0, 0]);
                segment[4..6].copy_from_slice(&words[2].to_be_bytes());
            }
        }
        segment[30..32].copy_from_slice(&words[2].to_be_bytes());
        let mut octets = match af {
            Af::Inet => {
                let mut ip = vec![0x45, 0, 0, 64, 0, 0, 0, 0, 64, number, 0, 0];
                ip.extend(low32(src).to_be_bytes());
                ip.extend(low32(dst).to_be_bytes());
                let sum = Sum::of(&ip).checksum();
                put16(&mut ip, 10, sum);
                ip
            }
            Af::Inet6 => {
                let mut ip = vec![0x60, 0, 0, 0, 0, 44, number, 64];
                ip.extend(src.0.to_be_bytes());
                ip.extend(dst.0.to_be_bytes());
                ip
            }
        };
        let field = ChecksumField::of(number).unwrap();
        let pseudo = pseudo(af, number, (src, dst), field);
        let sum = pseudo.plus(Sum::of(&segment));
        let sum = if field.optional { sum.udp_checksum() } else { sum.checksum() };
        put16(&mut segment, field.at, sum);
        octets.extend(segment);
        let mut packet = Packet::new(64, 128);
        packet.fill(&octets);
        packet
    }

    fn pseudo(af: Af, number: u8, (src, dst): (Addr, Addr), field: ChecksumField) -> Sum {
        if field.pseudo { Sum::pseudo(src.to_ip(af), dst.to_ip(af), number, 44) } else { Sum::ZERO }
    }

    fn kind() -> impl Strategy<Value = (Af, u8)> {
        prop::sample::select(vec![
            (Af::Inet, proto::TCP),
            (Af::Inet, proto::UDP),
            (Af::Inet, proto::ICMP),
            (Af::Inet6, proto::TCP),
            (Af::Inet6, proto::UDP),
            (Af::Inet6, proto::ICMPV6),
        ])
    }

    /// Addresses of a family out of any 128 bits.
    fn addrs(af: Af, bits: [u128; 2]) -> (Addr, Addr) {
        let cut = |bits: u128| match af {
            Af::Inet => Addr(bits & u128::from(u32::MAX)),
            Af::Inet6 => Addr(bits),
        };
        (cut(bits[0]), cut(bits[1]))
    }

    fn fields(number: u8, words: [u16; 3]) -> Fields {
        match number {
            proto::TCP | proto::UDP => Fields::Ports { sport: words[0], dport: words[1].max(1) },
            _ => Fields::Id(words[2]),
        }
    }

    fn apply(packet: &mut Packet, new: &Rewrite) {
        let desc = PacketDesc::parse(packet.data()).unwrap();
        rewrite(packet, &desc, new);
    }

    proptest! {
        #[test]
        fn checksums_stay_right_and_the_way_back_is_identity(
            (af, number) in kind(), old: [u128; 2], new: [u128; 2],
            old_words: [u16; 3], new_words: [u16; 3],
        ) {
            let (src, dst) = addrs(af, old);
            let mut packet = packet(af, number, (src, dst), old_words);
            let before = packet.data().to_vec();
            prop_assert!(packet_is_intact(&before));
            let there = addrs(af, new);
            let there = Rewrite { src: there.0, dst: there.1, fields: fields(number, new_words) };
            apply(&mut packet, &there);
            prop_assert!(packet_is_intact(packet.data()));
            prop_assert!(af == Af::Inet6 || ipv4_header_is_intact(&packet.data()[..20]));
            let desc = PacketDesc::parse(packet.data()).unwrap();
            prop_assert_eq!((desc.src, desc.dst), (there.src, there.dst));
            if let Transport::Icmp { id, .. } = desc.transport {
                prop_assert_eq!(id, new_words[2]);
            } else {
                prop_assert_eq!(desc.ports(), (new_words[0], new_words[1].max(1)));
            }
            apply(&mut packet, &Rewrite { src, dst, fields: fields(number, old_words) });
            prop_assert!(packet_is_intact(packet.data()));
            let mut after = packet.data().to_vec();
            // The two forms of zero of a checksum mean the same.
            let at = desc.l4 + ChecksumField::of(number).unwrap().at;
            after[at..at + 2].copy_from_slice(&before[at..at + 2]);
            if af == Af::Inet {
                after[10..12].copy_from_slice(&before[10..12]);
            }
            prop_assert_eq!(after, before);
        }

        #[test]
        fn partial_checksums_follow_the_addresses_alone(
            (af, number) in kind(), old: [u128; 2], new: [u128; 2], words: [u16; 3],
        ) {
            let field = ChecksumField::of(number).unwrap();
            prop_assume!(field.pseudo);
            let ends = addrs(af, old);
            let mut packet = packet(af, number, ends, words);
            let l4 = PacketDesc::parse(packet.data()).unwrap().l4;
            let sum = pseudo(af, number, ends, field).folded();
            put16(packet.data_mut(), l4 + field.at, sum);
            let offset = u16::try_from(field.at).unwrap();
            packet.meta.offload = Offload {
                checksum: Checksum::Partial { start: u16::try_from(l4).unwrap(), offset },
                ..Offload::default()
            };
            let (src, dst) = addrs(af, new);
            apply(&mut packet, &Rewrite { src, dst, fields: fields(number, [9, 8, 7]) });
            let held = u16_at(packet.data(), l4 + field.at);
            let want = pseudo(af, number, (src, dst), field).folded();
            prop_assert_eq!(held, want);
        }
    }

    #[test]
    fn udp_without_a_checksum_stays_so() {
        let ends = addrs(Af::Inet, [1, 2]);
        let mut packet = packet(Af::Inet, proto::UDP, ends, [53, 53, 0]);
        put16(packet.data_mut(), 26, 0);
        let ip: IpAddr = "192.0.2.9".parse().unwrap();
        let fields = Fields::Ports { sport: 50_001, dport: 53 };
        apply(&mut packet, &Rewrite { src: Addr::from(ip), dst: ends.1, fields });
        assert_eq!(u16_at(packet.data(), 26), 0);
        assert_eq!(u16_at(packet.data(), 20), 50_001);
    }
}
