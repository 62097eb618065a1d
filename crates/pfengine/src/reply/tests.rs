//! Answers octet by octet, with smoltcp's parsers as second opinion on lengths and checksums.

use proptest::prelude::*;
use smoltcp::wire::{Icmpv4Packet, Icmpv6Packet, Ipv4Packet, Ipv6Packet, TcpPacket};

use super::*;
use crate::packet_desc::Transport;
use crate::wire::checksum::ipv4_header_is_intact;

const V4: (IpAddr, IpAddr) =
    (IpAddr::V4(Ipv4Addr::new(198, 51, 100, 9)), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
const V6: (IpAddr, IpAddr) = (
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
);
const ROUTER4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 254));
const ROUTER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xff));

/// An IP packet around a transport segment whose checksum is filled in at `field`.
fn ip(ends: (IpAddr, IpAddr), protocol: u8, mut segment: Vec<u8>, field: usize) -> Vec<u8> {
    let pseudo = if protocol == proto::ICMP {
        Sum::ZERO
    } else {
        Sum::pseudo(ends.0, ends.1, protocol, short(segment.len()))
    };
    let sum = pseudo.plus(Sum::of(&segment)).checksum();
    segment[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    let mut packet = match ends {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let fields = Ipv4Fields { tos: 0x48, id: 77, dont_fragment: true, ttl: 9, protocol };
            ipv4_header(fields, src.octets(), dst.octets(), segment.len()).to_vec()
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            ipv6_header(9, protocol, src.octets(), dst.octets(), segment.len()).to_vec()
        }
        _ => unreachable!("one family"),
    };
    packet.append(&mut segment);
    packet
}

fn tcp(ends: (IpAddr, IpAddr), flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0; TCP_HEADER];
    segment[..4].copy_from_slice(&[0x0f, 0xa0, 0, 80]);
    segment[4..8].copy_from_slice(&seq.to_be_bytes());
    segment[8..12].copy_from_slice(&ack.to_be_bytes());
    segment[12..16].copy_from_slice(&[5 << 4, flags, 0xff, 0xff]);
    segment.extend_from_slice(payload);
    ip(ends, proto::TCP, segment, 16)
}

fn udp(ends: (IpAddr, IpAddr), payload: usize) -> Vec<u8> {
    let mut segment = vec![0xaa; 8 + payload];
    segment[4..8].copy_from_slice(&[0; 4]);
    ip(ends, proto::UDP, segment, 6)
}

fn icmp_message(ends: (IpAddr, IpAddr), icmp_type: u8, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![icmp_type, 0, 0, 0, 0x12, 0x34, 0, 1];
    message.extend_from_slice(payload);
    let protocol = if ends.0.is_ipv4() { proto::ICMP } else { proto::ICMPV6 };
    ip(ends, protocol, message, 2)
}

fn buffer(octets: &[u8]) -> Packet {
    let mut packet = Packet::new(64, 65536);
    packet.fill(octets);
    packet
}

/// Replaces the checksum by what a stack leaves to its device.
fn leave_checksum_to_device(packet: &mut Packet, offset: u16) {
    let layout = Layout::of(packet.data()).unwrap();
    let len = short(layout.end - layout.transport);
    let sum = Sum::pseudo(layout.src, layout.dst, layout.protocol, len).folded();
    let start = u16::try_from(layout.transport).unwrap();
    put(packet.data_mut(), usize::from(start + offset), sum.to_be_bytes());
    packet.meta.offload.checksum = Checksum::Partial { start, offset };
}

/// Breaks the IPv4 header checksum on purpose: answers do not depend on it.
fn set(packet: &mut Packet, at: usize, octet: u8) {
    packet.data_mut()[at] = octet;
}

fn assert_complete(packet: &Packet) {
    assert_eq!(packet.meta.offload, Offload::default());
    assert!(packet_is_intact(packet.data()));
    match packet.data()[0] >> 4 {
        4 => {
            assert!(ipv4_header_is_intact(&packet.data()[..20]));
            let ip = Ipv4Packet::new_checked(packet.data()).unwrap();
            assert!(ip.verify_checksum() && usize::from(ip.total_len()) == packet.len());
        }
        _ => assert_eq!(Ipv6Packet::new_checked(packet.data()).unwrap().total_len(), packet.len()),
    }
}

#[test]
fn reset_follows_the_table() {
    // Flags, numbers and payload of the packet; numbers of the RST.
    type Row = ((u8, u32, u32, &'static [u8]), (u32, u32));
    let table: [Row; 6] = [
        ((flags::SYN, 100, 0, b""), (0, 101)),
        ((flags::SYN, u32::MAX, 0, b""), (0, 0)),
        ((flags::ACK, 100, 700, b""), (700, 100)),
        ((flags::ACK | flags::PSH, 100, 700, b"hello"), (700, 105)),
        ((flags::ACK | flags::FIN, 100, 700, b"hello"), (700, 106)),
        ((flags::SYN | flags::FIN, 100, 5, b"x"), (5, 103)),
    ];
    for ends in [V4, V6] {
        for ((bits, seq, ack, payload), (rst_seq, rst_ack)) in table {
            let mut packet = buffer(&tcp(ends, bits, seq, ack, payload));
            assert!(tcp_reset(&mut packet, 33));
            assert_complete(&packet);
            let data = packet.data();
            let transport = if ends == V4 {
                assert_eq!(data.len(), 40);
                assert_eq!((data[1], data[6], data[8]), (0x10, 0x40, 33), "TOS, DF, TTL");
                20
            } else {
                assert_eq!(data.len(), 60);
                assert_eq!((&data[..4], data[7]), (&[0x60, 0, 0, 0][..], 64), "class, flow, hops");
                40
            };
            let segment = TcpPacket::new_checked(&data[transport..]).unwrap();
            assert!(segment.verify_checksum(&ends.1.into(), &ends.0.into()));
            assert_eq!((segment.src_port(), segment.dst_port()), (80, 4000));
            assert_eq!(be32(data, transport + 4), Some(rst_seq));
            assert_eq!(be32(data, transport + 8), Some(rst_ack));
            assert_eq!(data[transport + 13], flags::RST | flags::ACK);
            assert_eq!((segment.header_len(), segment.window_len()), (20, 0));
            assert_eq!(segment.urgent_at(), 0);
            let layout = Layout::of(data).unwrap();
            assert_eq!((layout.src, layout.dst), (ends.1, ends.0));
        }
    }
}

#[test]
fn reset_acknowledges_the_whole_super_packet() {
    let mut packet = buffer(&tcp(V4, flags::ACK, 1000, 7, &vec![0; 60_000]));
    leave_checksum_to_device(&mut packet, 16);
    packet.meta.offload.gso = Gso::Tcp { ecn: false };
    packet.meta.offload.gso_size = 1448;
    assert!(tcp_reset(&mut packet, 64));
    assert_complete(&packet);
    assert_eq!(be32(packet.data(), 28), Some(61_000));
}

#[test]
fn no_reset_for_what_must_not_be_reset() {
    let syn = tcp(V4, flags::SYN, 1, 0, b"");
    let cases: [(&str, usize, u8); 7] = [
        ("RST", 33, flags::RST),
        ("checksum", 36, syn[36] ^ 1),
        ("first fragment", 6, 0x20),
        ("later fragment", 7, 1),
        ("UDP", 9, proto::UDP),
        ("data offset below 5", 32, 4 << 4),
        ("data offset past the end", 32, 6 << 4),
    ];
    for (name, at, octet) in cases {
        let mut packet = buffer(&syn);
        set(&mut packet, at, octet);
        let before = packet.data().to_vec();
        assert!(!tcp_reset(&mut packet, 64), "{name}");
        assert_eq!(packet.data(), before, "{name}");
    }
    let multicast = IpAddr::from([224, 0, 0, 1]);
    let broadcast = IpAddr::from([255, 255, 255, 255]);
    for ends in
        [(multicast, V4.1), (V4.0, multicast), (IpAddr::from([0; 4]), V4.1), (V4.0, broadcast)]
    {
        assert!(!tcp_reset(&mut buffer(&tcp(ends, flags::SYN, 1, 0, b"")), 64), "{ends:?}");
    }
}

#[test]
fn local_stack_that_leaves_its_checksum_open_gets_a_reset() {
    let mut packet = buffer(&tcp(V6, flags::SYN, 1, 0, b""));
    leave_checksum_to_device(&mut packet, 16);
    assert!(tcp_reset(&mut packet, 64));
    assert_complete(&packet);
}

/// As the filter does when it has parsed the SYN.
fn answer_syn(packet: &mut Packet, answer: &SynAck) -> bool {
    let Ok(desc) = PacketDesc::parse(packet.data()) else { return false };
    let Transport::Tcp(tcp) = desc.transport else { return false };
    syn_ack(packet, &desc, &tcp, answer)
}

/// A SYN|ACK with the MSS option alone, as in `classic`.
fn cookie(seq: u32, id: u16) -> SynAck {
    SynAck { seq, ecn: false, window: 0, options: SynOptions::of_mss(Some(1460)), id }
}

#[test]
fn cookie_answer_has_window_zero_and_only_the_mss() {
    for (ends, len) in [(V4, 44), (V6, 64)] {
        let mut packet = buffer(&tcp(ends, flags::SYN, 0x1122_3344, 0, b"early data"));
        assert!(answer_syn(&mut packet, &cookie(0x4da6_f1b1, 0xbeef)));
        assert_complete(&packet);
        let data = packet.data();
        assert_eq!(data.len(), len);
        let segment = TcpPacket::new_checked(&data[len - 24..]).unwrap();
        assert_eq!(be32(data, len - 20), Some(0x4da6_f1b1));
        assert_eq!(be32(data, len - 16), Some(0x1122_3345));
        assert_eq!(data[len - 11], flags::SYN | flags::ACK);
        assert_eq!((segment.window_len(), segment.header_len()), (0, 24));
        assert_eq!(segment.options(), [2, 4, 0x05, 0xb4]);
        if ends == V4 {
            assert_eq!(data[..10], [0x45, 0x10, 0, 44, 0xbe, 0xef, 0x40, 0, 64, 6]);
        }
    }
}

#[test]
fn answer_that_is_longer_takes_room_behind_or_in_front() {
    let syn = tcp(V4, flags::SYN, 1, 0, b"");
    for (headroom, capacity, fits) in [(0, 44, true), (4, 40, true), (3, 40, false)] {
        let mut packet = Packet::new(headroom, capacity);
        packet.fill(&syn);
        assert_eq!(answer_syn(&mut packet, &cookie(1, 1)), fits, "{headroom} {capacity}");
        assert_eq!(packet.len(), if fits { 44 } else { 40 });
    }
}

#[test]
fn icmp_error_quotes_header_and_eight_octets() {
    let table = [
        (IcmpError::NetUnreachable, [3, 0], 0),
        (IcmpError::HostUnreachable, [3, 1], 0),
        (IcmpError::PortUnreachable, [3, 3], 0),
        (IcmpError::Unreachable { code: 13, code6: 1 }, [3, 13], 0),
        (IcmpError::TimeExceeded, [11, 0], 0),
        (IcmpError::TooBig { mtu: 1400 }, [3, 4], 1400),
    ];
    let original = udp(V4, 500);
    for (kind, head, word) in table {
        let mut packet = buffer(&original);
        assert!(icmp_error(&mut packet, kind, ROUTER4));
        assert_complete(&packet);
        let data = packet.data();
        assert_eq!((data.len(), data[1], data[6], data[8]), (56, 0, 0, 255));
        assert_eq!(data[28..], original[..28], "the quote");
        assert_eq!((&data[20..22], be32(data, 24)), (&head[..], Some(word)));
        assert!(Icmpv4Packet::new_checked(&data[20..]).unwrap().verify_checksum());
        let layout = Layout::of(data).unwrap();
        assert_eq!((layout.src, layout.dst), (ROUTER4, V4.0));
    }
}

#[test]
fn icmp_error_quotes_ip_options_and_stops_at_the_end() {
    let mut original =
        vec![0x46, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 198, 51, 100, 9, 192, 0, 2, 1];
    original.extend([1, 1, 1, 1, 0xaa, 0xbb, 0xcc, 0xdd, 0xee]);
    let mut packet = buffer(&original);
    assert!(icmp_error(&mut packet, IcmpError::PortUnreachable, ROUTER4));
    assert_complete(&packet);
    assert_eq!(packet.data()[28..], original[..28], "padding behind the packet is not quoted");
}

#[test]
fn icmpv6_error_fills_1280_octets() {
    let table = [
        (IcmpError::NetUnreachable, [1, 0], 0),
        (IcmpError::HostUnreachable, [1, 3], 0),
        (IcmpError::PortUnreachable, [1, 4], 0),
        (IcmpError::Unreachable { code: 13, code6: 1 }, [1, 1], 0),
        (IcmpError::TimeExceeded, [3, 0], 0),
        (IcmpError::TooBig { mtu: 1280 }, [2, 0], 1280),
    ];
    for (kind, head, word) in table {
        for (payload, len) in [(100, 48 + 148), (1184, 1280), (1185, 1280), (9000, 1280)] {
            let original = udp(V6, payload);
            let mut packet = buffer(&original);
            assert!(icmp_error(&mut packet, kind, ROUTER6));
            assert_complete(&packet);
            let data = packet.data();
            assert_eq!((data.len(), data[7]), (len, 64));
            assert_eq!(data[48..], original[..len - 48]);
            assert_eq!((&data[40..42], be32(data, 44)), (&head[..], Some(word)));
            let (IpAddr::V6(src), IpAddr::V6(dst)) = (ROUTER6, V6.0) else { unreachable!() };
            let message = Icmpv6Packet::new_checked(&data[40..]).unwrap();
            assert!(message.verify_checksum(&src, &dst));
        }
    }
}

#[test]
fn icmp_error_quotes_the_checksum_that_the_device_would_have_filled_in() {
    for (ends, router, headers) in [(V4, ROUTER4, 28), (V6, ROUTER6, 48)] {
        let original = udp(ends, 50);
        let mut packet = buffer(&original);
        leave_checksum_to_device(&mut packet, 6);
        assert_ne!(packet.data(), original);
        assert!(icmp_error(&mut packet, IcmpError::PortUnreachable, router));
        assert_complete(&packet);
        let quoted = packet.len() - headers;
        assert_eq!(packet.data()[headers..], original[..quoted]);
    }
}

#[test]
fn icmp_error_without_headroom_moves_the_quote() {
    for (headroom, capacity, fits) in
        [(28, 29, true), (27, 57, true), (0, 56, true), (0, 55, false)]
    {
        let mut packet = Packet::new(headroom, capacity);
        packet.fill(&udp(V4, 1));
        assert_eq!(icmp_error(&mut packet, IcmpError::TimeExceeded, ROUTER4), fits);
        if fits {
            assert_complete(&packet);
            assert_eq!(packet.data()[28..], udp(V4, 1)[..28]);
        }
    }
}

#[test]
fn no_icmp_error_where_rfc_1122_forbids_it() {
    let answers =
        |octets: &[u8]| icmp_error(&mut buffer(octets), IcmpError::PortUnreachable, ROUTER4);
    assert!(answers(&udp(V4, 8)));
    for (word, expected) in [([0x20, 0], true), ([0x20, 1], false), ([0, 1], false)] {
        let mut fragment = udp(V4, 8);
        fragment[6..8].copy_from_slice(&word);
        assert_eq!(answers(&fragment), expected, "fragment {word:?}");
    }
    for src in [[224, 0, 0, 1], [240, 0, 0, 1], [255, 255, 255, 255], [0, 0, 0, 0], [0, 1, 2, 3]] {
        assert!(!answers(&udp((src.into(), V4.1), 8)), "from {src:?}");
    }
    for dst in [[224, 0, 0, 1], [255, 255, 255, 255]] {
        assert!(!answers(&udp((V4.0, dst.into()), 8)), "to {dst:?}");
    }
    for icmp_type in 0..=255 {
        let informational = matches!(icmp_type, 0 | 8..=10 | 13..=18);
        assert_eq!(answers(&icmp_message(V4, icmp_type, b"")), informational, "{icmp_type}");
    }
    assert!(!icmp_error(&mut buffer(&udp(V4, 8)), IcmpError::TimeExceeded, ROUTER6), "family");
}

#[test]
fn no_icmpv6_error_where_rfc_4443_forbids_it() {
    let answers = |octets: &[u8], kind: IcmpError| icmp_error(&mut buffer(octets), kind, ROUTER6);
    let too_big = IcmpError::TooBig { mtu: 1280 };
    let multicast = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
    assert!(!answers(&udp((V6.0, multicast), 8), IcmpError::TimeExceeded));
    assert!(answers(&udp((V6.0, multicast), 8), too_big));
    for src in [multicast, IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        assert!(!answers(&udp((src, V6.1), 8), too_big));
    }
    for icmp_type in 0..=255 {
        let expected = icmp_type >= 128 && icmp_type != 137;
        assert_eq!(answers(&icmp_message(V6, icmp_type, b""), too_big), expected, "{icmp_type}");
    }
}

#[test]
fn echo_is_answered_with_its_own_octets() {
    for (ends, request, reply, headers) in [(V4, 8, 0, 20), (V6, 128, 129, 40)] {
        for is_partial in [false, true] {
            let original = icmp_message(ends, request, b"ping payload of odd length ");
            let mut packet = buffer(&original);
            if is_partial && ends == V6 {
                leave_checksum_to_device(&mut packet, 2);
            }
            assert!(echo_reply(&mut packet));
            assert_complete(&packet);
            let data = packet.data();
            assert_eq!(data[headers..headers + 2], [reply, 0]);
            assert_eq!(data[headers + 4..], original[headers + 4..]);
            let layout = Layout::of(data).unwrap();
            assert_eq!((layout.src, layout.dst), (ends.1, ends.0));
            assert_eq!(data[if ends == V4 { 8 } else { 7 }], if ends == V4 { 255 } else { 64 });
            assert_eq!(data[1], original[1], "type of service");
        }
    }
}

#[test]
fn echo_with_ip_options_or_extension_headers_is_answered_without_them() {
    let plain = icmp_message(V4, 8, b"abcd");
    let mut padded = plain.clone();
    padded[0] = 0x46;
    padded[3] += 4;
    padded.splice(20..20, [1, 1, 1, 1]);
    let mut packet = buffer(&padded);
    assert!(echo_reply(&mut packet));
    assert_complete(&packet);
    assert_eq!(packet.data()[24..], plain[24..]);

    let plain = icmp_message(V6, 128, b"abcd");
    let mut padded = plain.clone();
    padded[5] += 8;
    padded[6] = 60;
    padded.splice(40..40, [proto::ICMPV6, 0, 1, 4, 0, 0, 0, 0]);
    let mut packet = buffer(&padded);
    assert!(echo_reply(&mut packet));
    assert_complete(&packet);
    assert_eq!(packet.data()[44..], plain[44..]);
}

#[test]
fn no_echo_reply_to_anything_else() {
    let request = icmp_message(V4, 8, b"abcd");
    let broken: [(&str, usize, u8); 4] =
        [("checksum", 24, 0), ("fragment", 6, 0x20), ("reply", 20, 0), ("code", 21, 1)];
    for (name, at, octet) in broken {
        let mut packet = buffer(&request);
        set(&mut packet, at, octet);
        assert!(!echo_reply(&mut packet), "{name}");
    }
    assert!(!echo_reply(&mut buffer(&udp(V4, 8))));
    let multicast = IpAddr::from([224, 0, 0, 1]);
    assert!(!echo_reply(&mut buffer(&icmp_message((V4.0, multicast), 8, b""))));
}

#[test]
fn completed_checksum_is_the_one_that_was_left_open() {
    for (octets, offset) in [
        (tcp(V4, flags::ACK, 1, 2, b"abc"), 16),
        (tcp(V6, flags::ACK, 1, 2, b"abc"), 16),
        (udp(V6, 9), 6),
    ] {
        let mut packet = buffer(&octets);
        leave_checksum_to_device(&mut packet, offset);
        assert!(complete_checksum(&mut packet) && packet.data() == octets);
        assert!(complete_checksum(&mut packet) && packet.data() == octets, "nothing left to do");
    }
    let mut packet = buffer(&udp(V4, 0));
    packet.meta.offload.checksum = Checksum::Partial { start: 20, offset: 7 };
    assert!(!complete_checksum(&mut packet), "the field lies outside");
    packet.meta.offload.checksum = Checksum::Partial { start: u16::MAX, offset: u16::MAX };
    assert!(!complete_checksum(&mut packet));
}

/// Octets that often look like a packet with plausible headers.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let any_octets = prop::collection::vec(any::<u8>(), 0..200);
    let ends = prop::sample::select(vec![V4, V6]);
    let valid = (ends, 0..4_u8, any::<u8>(), prop::collection::vec(any::<u8>(), 0..100)).prop_map(
        |(ends, kind, octet, payload)| match kind {
            0 => tcp(ends, octet, 1, 2, &payload),
            1 => udp(ends, payload.len()),
            2 => icmp_message(ends, octet, &payload),
            _ => icmp_message(ends, if ends == V4 { 8 } else { 128 }, &payload),
        },
    );
    let damaged = (valid, prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3))
        .prop_map(|(mut octets, changes)| {
            for (at, octet) in changes {
                let at = at.index(octets.len());
                octets[at] = octet;
            }
            octets
        });
    prop_oneof![any_octets, damaged]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_octets_give_a_complete_answer_or_none(
        octets in hostile(),
        headroom in 0..60_usize,
        room in 0..60_usize,
        partial in prop::option::of(any::<(u8, u8)>()),
        call in 0..5_u8,
    ) {
        let mut packet = Packet::new(headroom, octets.len() + room);
        packet.fill(&octets);
        if let Some((start, offset)) = partial {
            packet.meta.offload.checksum =
                Checksum::Partial { start: start.into(), offset: offset.into() };
        }
        let answered = match call {
            0 => tcp_reset(&mut packet, 64),
            1 => answer_syn(&mut packet, &cookie(1, 1)),
            2 => icmp_error(&mut packet, IcmpError::PortUnreachable, ROUTER4),
            3 => icmp_error(&mut packet, IcmpError::TooBig { mtu: 1280 }, ROUTER6),
            _ => echo_reply(&mut packet),
        };
        if answered {
            assert_complete(&packet);
        } else if partial.is_none() {
            prop_assert_eq!(packet.data(), octets);
        }
    }
}
