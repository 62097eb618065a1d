use super::*;
use crate::packet::Offload;
use crate::packet_desc::Transport;
use crate::wire::build::flags::{ACK, PSH};
use crate::wire::build::{TCP_SEGMENT_MAX, TcpSegment};
use crate::wire::checksum::packet_is_intact;
use crate::wire::tcp_options::{SynOptions, scan};
use core::net::IpAddr;
use proptest::prelude::*;

const KEEP: Edits = Edits {
    window: 500,
    stamps: Stamps::Keep,
    blank_sack: false,
    bleach: false,
    echo: false,
    mss: None,
};

fn ends(v6: bool) -> (IpAddr, IpAddr) {
    if v6 {
        ([1_u16; 8].into(), [2_u16; 8].into())
    } else {
        ([192, 0, 2, 1].into(), [192, 0, 2, 2].into())
    }
}

/// A segment with these raw options in front of its payload, checksum right or left to the device.
fn packet(v6: bool, options: &[u8], payload: &[u8], partial: bool) -> Packet {
    assert!(options.len().is_multiple_of(4));
    let (src, dst) = ends(v6);
    let segment = TcpSegment {
        src,
        dst,
        sport: 40_000,
        dport: 80,
        seq: 7,
        ack: 9,
        flags: ACK | PSH,
        window: 500,
        options: SynOptions::default(),
        ttl: 64,
        tos: 0,
        dont_fragment: true,
        id: 1,
    };
    let mut octets = vec![0; TCP_SEGMENT_MAX];
    let len = segment.write(&mut octets);
    octets.truncate(len);
    octets.extend(options);
    octets.extend(payload);
    let l4 = len - TCP_HEADER;
    octets[l4 + 12] += u8::try_from(options.len() / 4).unwrap() << 4;
    let tcp_len = u32::try_from(octets.len() - l4).unwrap();
    let total = u16::try_from(octets.len()).unwrap();
    if v6 {
        put(&mut octets, 4, (total - 40).to_be_bytes());
        octets[1] |= 0x20;
    } else {
        put(&mut octets, 2, total.to_be_bytes());
        octets[1] = 2;
        put(&mut octets, 10, [0, 0]);
        let sum = Sum::of(&octets[..20]).checksum();
        put(&mut octets, 10, sum.to_be_bytes());
    }
    put(&mut octets, l4 + 16, [0, 0]);
    let pseudo = Sum::pseudo(src, dst, 6, tcp_len);
    let sum =
        if partial { pseudo.folded() } else { pseudo.plus(Sum::of(&octets[l4..])).checksum() };
    put(&mut octets, l4 + 16, sum.to_be_bytes());
    let mut packet = Packet::new(64, 2_000);
    packet.fill(&octets);
    if partial {
        let start = u16::try_from(l4).unwrap();
        packet.meta.offload =
            Offload { checksum: Checksum::Partial { start, offset: 16 }, ..Offload::default() };
    }
    packet
}

fn parsed(packet: &Packet) -> (PacketDesc, TcpDesc) {
    let desc = PacketDesc::parse(packet.data()).unwrap();
    let Transport::Tcp(tcp) = desc.transport else { panic!("a TCP packet") };
    (desc, tcp)
}

fn edit(packet: &mut Packet, edits: &Edits) {
    let (desc, tcp) = parsed(packet);
    apply(packet, &desc, &tcp, edits);
}

fn is_right(packet: &mut Packet) -> bool {
    assert!(crate::reply::complete_checksum(packet));
    packet_is_intact(packet.data())
}

fn header(packet: &Packet) -> Vec<u8> {
    let (desc, tcp) = parsed(packet);
    packet.data()[desc.l4..desc.l4 + tcp.header].to_vec()
}

/// SACK blocks, timestamps and padding in an order that puts words across words.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let stamps = any::<(u32, u32)>().prop_map(|(tsval, tsecr)| {
        [&[8, 10][..], &tsval.to_be_bytes(), &tsecr.to_be_bytes()].concat()
    });
    let sack = any::<[u8; 8]>().prop_map(|block| [&[5, 10][..], &block].concat());
    let pad = (0..3_usize).prop_map(|len| vec![1; len]);
    (pad, stamps, sack, any::<bool>()).prop_map(|(pad, stamps, sack, turned)| {
        let both = if turned { [pad, sack, stamps] } else { [pad, stamps, sack] };
        let mut all = both.concat();
        all.resize(all.len().next_multiple_of(4), 1);
        all
    })
}

proptest! {
    #[test]
    fn checksums_stay_right_whatever_changes(
        v6: bool, partial: bool, options in options(), payload in prop::collection::vec(any::<u8>(), 0..90),
        window: u16, shift: (u32, u32), choice in 0..4_u8, blank_sack: bool, bleach: bool, echo: bool,
    ) {
        let mut packet = packet(v6, &options, &payload, partial);
        let before = scan(&options).timestamps.unwrap();
        let stamps = match choice {
            0 => Stamps::Keep,
            1 => Stamps::Blank,
            _ => Stamps::Shift { tsval: shift.0, tsecr: shift.1 },
        };
        edit(&mut packet, &Edits { window, stamps, blank_sack, bleach, echo, mss: None });
        let header = header(&packet);
        prop_assert_eq!(u16_at(&header, WINDOW_AT), window);
        let after = scan(&header[TCP_HEADER..]).timestamps;
        prop_assert_eq!(after, match choice {
            0 => Some(before),
            1 => None,
            _ => Some((before.0.wrapping_add(shift.0), before.1.wrapping_add(shift.1))),
        });
        let blocks = tcp_options::options(&header[TCP_HEADER..]).flat_map(|o| o.sack_blocks()).count();
        prop_assert_eq!(blocks, usize::from(!blank_sack));
        let (desc, _) = parsed(&packet);
        prop_assert_eq!(desc.tos & 3, if bleach { 0 } else { 2 });
        prop_assert!(is_right(&mut packet));
        prop_assert!(packet.data().ends_with(&payload));
    }

    #[test]
    fn stamps_are_added_with_right_lengths_and_checksums(
        v6: bool, partial: bool, headroom: bool, words in 0..8_usize,
        payload in prop::collection::vec(any::<u8>(), 0..90), stamps: (u32, u32),
    ) {
        let mut packet = packet(v6, &vec![1; words * 4], &payload, partial);
        if !headroom {
            let octets = packet.data().to_vec();
            let offload = packet.meta.offload;
            packet = Packet::new(0, 2_000);
            packet.fill(&octets);
            packet.meta.offload = offload;
        }
        let len = packet.len();
        let (desc, tcp) = parsed(&packet);
        prop_assert!(add_stamps(&mut packet, &desc, &tcp, stamps));
        prop_assert_eq!(packet.len(), len + STAMP_OCTETS);
        let (desc, _) = parsed(&packet);
        prop_assert_eq!(desc.total, packet.len());
        prop_assert_eq!(scan(&header(&packet)[TCP_HEADER..]).timestamps, Some(stamps));
        prop_assert!(is_right(&mut packet));
        prop_assert!(packet.data().ends_with(&payload));
    }
}

#[test]
fn a_full_header_or_buffer_has_no_room_for_stamps() {
    let mut full = packet(false, &[1; 32], b"data", false);
    let (desc, tcp) = parsed(&full);
    let before = full.data().to_vec();
    assert!(!add_stamps(&mut full, &desc, &tcp, (1, 2)));
    assert_eq!(full.data(), before);
    let mut tight = Packet::new(0, 44);
    tight.fill(packet(false, &[], b"data", false).data());
    let (desc, tcp) = parsed(&tight);
    assert!(!add_stamps(&mut tight, &desc, &tcp, (1, 2)));
    assert!(packet_is_intact(tight.data()));
}

#[test]
fn segments_that_are_too_large_are_left_to_be_cut() {
    for partial in [false, true] {
        let mut packet = packet(false, &[1; 4], &[7; 1_400], partial);
        edit(&mut packet, &Edits { mss: Some(1_404), ..KEEP });
        assert_eq!(packet.meta.offload.gso, Gso::None, "it fits exactly");
        edit(&mut packet, &Edits { mss: Some(1_000), ..KEEP });
        let offload = packet.meta.offload;
        assert_eq!((offload.gso, offload.gso_size), (Gso::Tcp { ecn: false }, 996));
        assert_eq!(offload.checksum, Checksum::Partial { start: 20, offset: 16 });
        packet.meta.offload.gso = Gso::None;
        assert!(is_right(&mut packet));
    }
}

#[test]
fn super_packets_are_cut_smaller_and_never_larger() {
    for (size, expected) in [(1_448, 988), (500, 500)] {
        let mut packet = packet(false, &[1; 12], &[7; 1_900], true);
        packet.meta.offload.gso = Gso::Tcp { ecn: true };
        packet.meta.offload.gso_size = size;
        edit(&mut packet, &Edits { mss: Some(1_000), bleach: true, ..KEEP });
        let offload = packet.meta.offload;
        assert_eq!((offload.gso, offload.gso_size), (Gso::Tcp { ecn: false }, expected));
    }
}
