//! Packets of one family become packets of the other (`af-to`).
//!
//! Only the IP header changes, and the checksums that cover addresses; ICMP and ICMPv6 have each
//! other's types. Options and extension headers are left out. Sources: RFC 7915; OpenBSD
//! sys/net/pf.c `pf_translate_af`, `pf_translate_icmp_af`, `pf_change_icmp_af`.

use pfapi::addr::Af;
use pfapi::reason::Reason;
use pfapi::ruleset::proto;

use super::family_icmp;
use super::rewrite::{ChecksumField, Rewrite, put16, write_fields};
use crate::addr::Addr;
use crate::normalize::fragment::cut::Refragment;
use crate::packet::{Checksum, Gso, Packet};
use crate::packet_desc::{PacketDesc, Transport, u16_at};
use crate::reply;
use crate::wire::build::{Ipv4Fields, ipv4_header, ipv6_header};
use crate::wire::checksum::{Delta, Sum};
use crate::wire::ip::next_header::{DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING};
use crate::wire::ip::{IPV4_HEADER, IPV6_HEADER};

/// Octets of a packet that every link of IPv6 carries: into such pieces go IPv4 packets that may be
/// cut. RFC 7915 section 4.
const IPV6_MTU_MIN: usize = 1280;
/// Hop limit of a packet whose time to live was zero or greater than this.
const HOP_LIMIT: u8 = 64;

/// The other family.
pub const fn other(af: Af) -> Af {
    match af {
        Af::Inet => Af::Inet6,
        Af::Inet6 => Af::Inet,
    }
}

/// The protocol that a packet has in the other family.
pub const fn protocol(number: u8) -> u8 {
    match number {
        proto::ICMP => proto::ICMPV6,
        proto::ICMPV6 => proto::ICMP,
        other => other,
    }
}

/// Octets of an IP header of this family as this file writes it.
pub const fn header_len(af: Af) -> usize {
    match af {
        Af::Inet => IPV4_HEADER,
        Af::Inet6 => IPV6_HEADER,
    }
}

/// What the header of a packet says besides addresses, protocol and length.
#[derive(Clone, Copy, Debug)]
pub struct Travel {
    /// Type of service or traffic class.
    pub class: u8,
    /// Time to live or hop limit.
    pub hops: u8,
    /// Whether the packet must not be cut on its way.
    pub dont_fragment: bool,
}

impl Travel {
    /// What the header in `data` says.
    pub fn of(data: &[u8], af: Af) -> Self {
        match af {
            Af::Inet => Self { class: data[1], hops: data[8], dont_fragment: data[6] & 0x40 != 0 },
            Af::Inet6 => {
                let class = data[0] << 4 | data[1] >> 4;
                Self { class, hops: data[7], dont_fragment: true }
            }
        }
    }
}

/// Writes an IP header of family `af` in front of `payload` octets. `id` is the identification
/// of IPv4.
pub fn write_header(
    out: &mut [u8],
    af: Af,
    travel: Travel,
    (new, number): (&Rewrite, u8),
    payload: usize,
    id: u16,
) {
    let (src, dst) = (new.src.0.to_be_bytes(), new.dst.0.to_be_bytes());
    let last_four = |octets: [u8; 16]| [octets[12], octets[13], octets[14], octets[15]];
    match af {
        Af::Inet => {
            let fields = Ipv4Fields {
                tos: travel.class,
                id,
                dont_fragment: travel.dont_fragment,
                ttl: travel.hops,
                protocol: number,
            };
            let header = ipv4_header(fields, last_four(src), last_four(dst), payload);
            out[..IPV4_HEADER].copy_from_slice(&header);
        }
        Af::Inet6 => {
            let hops = if travel.hops == 0 { HOP_LIMIT } else { travel.hops.min(HOP_LIMIT) };
            let mut header = ipv6_header(hops, number, src, dst, payload);
            header[0] |= travel.class >> 4;
            header[1] |= travel.class << 4;
            out[..IPV6_HEADER].copy_from_slice(&header);
        }
    }
}

/// Whether a packet, which is no ICMP error, can be turned into one of the other family.
///
/// # Errors
/// [`Reason::Translate`] for ICMP messages that the other family has not, for what does not fit into
/// one of its packets, and for protocols that would be headers of IPv6 itself there;
/// [`Reason::Fragment`] for fragments.
pub fn check_family(desc: &PacketDesc) -> Result<(), Reason> {
    match desc.transport {
        Transport::Fragment => return Err(Reason::Fragment),
        Transport::Icmp { icmp_type, .. } if family_icmp::query(desc.af, icmp_type).is_none() => {
            return Err(Reason::Translate);
        }
        _ => {}
    }
    let is_header = matches!(desc.proto, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS);
    let is_long = desc.total - desc.l4 + IPV4_HEADER > usize::from(u16::MAX);
    if is_header || is_long { Err(Reason::Translate) } else { Ok(()) }
}

/// Turns a whole packet, which is no ICMP error, into one of the other family that looks like
/// `new`. `id` is the identification of an IPv4 packet.
///
/// # Errors
/// Those of [`check_family`], and [`Reason::Memory`] when the buffer has no room.
pub fn change_family(
    packet: &mut Packet,
    desc: &PacketDesc,
    new: &Rewrite,
    id: u16,
) -> Result<(), Reason> {
    check_family(desc)?;
    let icmp = match desc.transport {
        Transport::Icmp { icmp_type, .. } => family_icmp::query(desc.af, icmp_type),
        _ => None,
    };
    // Nobody leaves the sum of a ping to a device, so that way is the rare one.
    if icmp.is_some() && !reply::complete_checksum(packet) {
        return Err(Reason::Short);
    }
    let (af, number) = (other(desc.af), protocol(desc.proto));
    let mut travel = Travel::of(packet.data(), desc.af);
    let segment = desc.total - desc.l4;
    // What came in pieces, or may be cut by routers, may go on in pieces.
    let cut = packet.meta.refragment.take();
    match af {
        Af::Inet => travel.dont_fragment = cut.is_none(),
        Af::Inet6 => {
            let whole = segment + IPV6_HEADER <= IPV6_MTU_MIN || travel.dont_fragment;
            if !whole && packet.meta.offload.gso == Gso::None {
                packet.meta.refragment = Refragment::for_link(IPV6_MTU_MIN, u32::from(id));
            }
        }
    }
    move_transport(packet, desc.l4, header_len(af))?;
    let partial = match packet.meta.offload.checksum {
        Checksum::Partial { start, offset } if usize::from(start) == desc.l4 => {
            let start = u16::try_from(header_len(af)).unwrap_or(u16::MAX);
            packet.meta.offload.checksum = Checksum::Partial { start, offset };
            true
        }
        _ => false,
    };
    let data = packet.data_mut();
    write_header(data, af, travel, (new, number), segment, id);
    let transport = &mut data[header_len(af)..];
    let addresses = Delta::addr(desc.src.to_ip(desc.af), new.src.to_ip(af))
        .and(Delta::addr(desc.dst.to_ip(desc.af), new.dst.to_ip(af)));
    let fields = write_fields(transport, new.fields);
    let Some(field) = ChecksumField::of(number).filter(|_| desc.has_transport()) else {
        return Ok(());
    };
    let old = u16_at(transport, field.at);
    let len = u32::try_from(segment).unwrap_or(u32::MAX);
    let pseudo = |af: Af, number: u8, ends: (Addr, Addr)| {
        Sum::pseudo(ends.0.to_ip(af), ends.1.to_ip(af), number, len)
    };
    let sum = if let Some(new_type) = icmp {
        let head = u16_at(transport, 0);
        transport[0] = new_type;
        let pseudo = match af {
            Af::Inet6 => Delta::gain(pseudo(af, number, (new.src, new.dst))),
            Af::Inet => Delta::lose(pseudo(desc.af, desc.proto, (desc.src, desc.dst))),
        };
        let head = Delta::u16(head, u16_at(transport, 0));
        head.and(fields).and(pseudo).complete(old)
    } else if partial {
        addresses.partial(old)
    } else if field.optional && old == 0 && af == Af::Inet6 {
        // IPv6 demands a checksum that this datagram never had.
        let all = Sum::of(transport);
        pseudo(af, number, (new.src, new.dst)).plus(all).udp_checksum()
    } else {
        field.update(old, addresses.and(fields))
    };
    put16(transport, field.at, sum);
    Ok(())
}

/// Moves what lies behind the first `old` octets behind room for `new` octets.
fn move_transport(packet: &mut Packet, old: usize, new: usize) -> Result<(), Reason> {
    if new <= old {
        packet.set_span(packet.headroom() + (old - new), packet.len() - (old - new));
        return Ok(());
    }
    let more = new - old;
    if packet.grow_front(more) {
        return Ok(());
    }
    let len = packet.len();
    if !packet.resize(len + more) {
        return Err(Reason::Memory);
    }
    packet.data_mut().copy_within(old..len, new);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::rewrite::Fields;
    use crate::nat::rewrite::tests::packet;
    use crate::packet::Offload;
    use crate::wire::checksum::{ipv4_header_is_intact, packet_is_intact};
    use proptest::prelude::*;

    fn kind() -> impl Strategy<Value = u8> {
        prop::sample::select(vec![proto::TCP, proto::UDP, proto::ICMP])
    }

    fn fields(number: u8, words: [u16; 3]) -> Fields {
        match number {
            proto::TCP | proto::UDP => Fields::Ports { sport: words[0], dport: words[1].max(1) },
            _ => Fields::Id(words[2]),
        }
    }

    fn v4(bits: u128) -> Addr {
        Addr(bits & u128::from(u32::MAX))
    }

    fn change(packet: &mut Packet, new: &Rewrite) {
        let desc = PacketDesc::parse(packet.data()).unwrap();
        change_family(packet, &desc, new, 7).unwrap();
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same_packet(
            number in kind(), old: [u128; 2], new: [u128; 2], words: [u16; 3], others: [u16; 3],
            headroom: bool,
        ) {
            let ends = (v4(old[0]), v4(old[1]));
            let mut packet = packet(Af::Inet, number, ends, words);
            if !headroom {
                let octets = packet.data().to_vec();
                packet = Packet::new(0, 128);
                packet.fill(&octets);
            }
            let before = packet.data().to_vec();
            let there =
                Rewrite { src: Addr(new[0]), dst: Addr(new[1]), fields: fields(number, others) };
            change(&mut packet, &there);
            prop_assert!(packet_is_intact(packet.data()));
            let desc = PacketDesc::parse(packet.data()).unwrap();
            prop_assert_eq!((desc.af, desc.src, desc.dst), (Af::Inet6, there.src, there.dst));
            prop_assert_eq!(desc.proto, protocol(number));
            prop_assert_eq!(desc.total, before.len() + 20);
            change(&mut packet, &Rewrite { src: ends.0, dst: ends.1, fields: fields(number, words) });
            prop_assert!(packet_is_intact(packet.data()));
            prop_assert!(ipv4_header_is_intact(&packet.data()[..20]));
            let mut after = packet.data().to_vec();
            // Id, don't-fragment bit and header checksum are new; zero has two forms.
            after[4..12].copy_from_slice(&before[4..12]);
            let at = 20 + ChecksumField::of(number).unwrap().at;
            after[at..at + 2].copy_from_slice(&before[at..at + 2]);
            prop_assert_eq!(after, before);
        }

        #[test]
        fn partial_checksums_move_with_the_header(
            number in prop::sample::select(vec![proto::TCP, proto::UDP]),
            old: [u128; 2], new: [u128; 2], words: [u16; 3],
        ) {
            let ends = (Addr(old[0]), Addr(old[1]));
            let mut packet = packet(Af::Inet6, number, ends, words);
            let at = ChecksumField::of(number).unwrap().at;
            let pseudo = |af: Af, (src, dst): (Addr, Addr)| {
                Sum::pseudo(src.to_ip(af), dst.to_ip(af), number, 44).folded()
            };
            put16(packet.data_mut(), 40 + at, pseudo(Af::Inet6, ends));
            let offset = u16::try_from(at).unwrap();
            packet.meta.offload =
                Offload { checksum: Checksum::Partial { start: 40, offset }, ..Offload::default() };
            let there = (v4(new[0]), v4(new[1]));
            let fields = fields(number, [1, 2, 3]);
            change(&mut packet, &Rewrite { src: there.0, dst: there.1, fields });
            prop_assert_eq!(packet.meta.offload.checksum, Checksum::Partial { start: 20, offset });
            prop_assert_eq!(u16_at(packet.data(), 20 + at), pseudo(Af::Inet, there));
        }
    }

    #[test]
    fn udp_gets_a_checksum_where_ipv6_demands_one() {
        let mut packet = packet(Af::Inet, proto::UDP, (Addr(1), Addr(2)), [53, 53, 9]);
        put16(packet.data_mut(), 26, 0);
        let fields = Fields::Ports { sport: 53, dport: 53 };
        change(&mut packet, &Rewrite { src: Addr(3), dst: Addr(4), fields });
        assert_ne!(u16_at(packet.data(), 46), 0);
        assert!(packet_is_intact(packet.data()));
    }

    #[test]
    fn hops_and_class_go_over() {
        let mut packet = packet(Af::Inet, proto::TCP, (Addr(1), Addr(2)), [1, 2, 3]);
        let new = Rewrite { src: Addr(3), dst: Addr(4), fields: Fields::None };
        for (ttl, hops) in [(255, 64), (64, 64), (7, 7)] {
            let mut copy = Packet::new(64, 128);
            copy.fill(packet.data());
            let data = copy.data_mut();
            (data[1], data[8]) = (0xb8, ttl);
            put16(data, 10, 0);
            let sum = Sum::of(&data[..20]).checksum();
            put16(data, 10, sum);
            change(&mut copy, &new);
            let travel = Travel::of(copy.data(), Af::Inet6);
            assert_eq!((travel.class, travel.hops), (0xb8, hops));
        }
        let message = packet.data_mut();
        message[9] = proto::ICMP;
        message[20] = 30;
        put16(message, 10, 0);
        let sum = Sum::of(&message[..20]).checksum();
        put16(message, 10, sum);
        let desc = PacketDesc::parse(packet.data()).unwrap();
        assert_eq!(change_family(&mut packet, &desc, &new, 0), Err(Reason::Translate));
    }
}
