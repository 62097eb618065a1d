use super::*;
use crate::packet::Checksum;
use crate::rng::Rng;
use crate::wire::checksum::{ipv4_header_is_intact, packet_is_intact};
use crate::wire::tcp_options::options;
use proptest::prelude::*;

fn rng() -> Rng {
    Rng::new([3; 32])
}

/// A TCP packet with these options, padded with zeros.
fn tcp(v6: bool, tcp_options: &[u8]) -> Packet {
    let mut segment = vec![0, 7, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2, 0, 2, 0, 9, 0, 0, 0, 0];
    segment.extend(tcp_options);
    segment.resize(segment.len().next_multiple_of(4), 0);
    segment[12] = u8::try_from(segment.len() / 4).unwrap() << 4;
    let len = u8::try_from(segment.len()).unwrap();
    let mut octets = if v6 {
        let mut octets = vec![0x6a, 0xb1, 0x23, 0x45, 0, len, 6, 9];
        octets.extend([0x20; 32]);
        octets
    } else {
        vec![0x45, 0x03, 0, 20 + len, 0x12, 0x34, 0x40, 0, 9, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]
    };
    octets.extend(&segment);
    if !v6 {
        let sum = crate::wire::checksum::Sum::of(&octets[..20]).checksum();
        octets[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let mut packet = Packet::new(0, 200);
    packet.fill(&octets);
    let desc = PacketDesc::parse(packet.data()).unwrap();
    let sum = crate::wire::checksum::Sum::pseudo(
        desc.src.to_ip(desc.af),
        desc.dst.to_ip(desc.af),
        6,
        u32::from(len),
    )
    .plus(crate::wire::checksum::Sum::of(&segment))
    .checksum();
    let at = desc.l4 + 16;
    packet.data_mut()[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    assert!(packet_is_intact(packet.data()));
    packet
}

fn scrubbed(mut packet: Packet, actions: Actions) -> Packet {
    let desc = PacketDesc::parse(packet.data()).unwrap();
    apply(&mut packet, &desc, &actions, &mut rng());
    assert!(packet_is_intact(packet.data()), "{actions:?}: {:02x?}", packet.data());
    if desc.af == Af::Inet {
        assert!(ipv4_header_is_intact(&packet.data()[..20]), "{actions:?}");
    }
    packet
}

#[test]
fn each_option_changes_its_field_alone() {
    let before = tcp(false, &[]).data().to_vec();
    let changed = |actions: Actions| -> Vec<usize> {
        let after = scrubbed(tcp(false, &[]), actions);
        let differs = |at: &usize| before[*at] != after.data()[*at];
        (0..before.len()).filter(|at| ![10, 11].contains(at)).filter(differs).collect()
    };
    assert_eq!(changed(Actions::default()), [0; 0]);
    assert_eq!(changed(Actions { no_df: true, ..Actions::default() }), [6]);
    assert_eq!(changed(Actions { random_id: true, ..Actions::default() }), [4, 5]);
    assert_eq!(changed(Actions { min_ttl: 9, ..Actions::default() }), [0; 0]);
    assert_eq!(changed(Actions { min_ttl: 10, ..Actions::default() }), [8]);
    assert_eq!(changed(Actions { tos: Some(0x10), ..Actions::default() }), [1]);
}

#[test]
fn congestion_bits_stay() {
    let after = scrubbed(tcp(false, &[]), Actions { tos: Some(0xb8), ..Actions::default() });
    assert_eq!(after.data()[1], 0xbb);
    // The class of the IPv6 packet is 0xab: its last two bits are those of congestion.
    let after = scrubbed(tcp(true, &[]), Actions { tos: Some(0x5c), ..Actions::default() });
    assert_eq!(after.data()[..4], [0x65, 0xf1, 0x23, 0x45]);
}

#[test]
fn hop_limit_is_raised() {
    let after = scrubbed(tcp(true, &[]), Actions { min_ttl: 200, ..Actions::default() });
    assert_eq!(after.data()[7], 200);
}

#[test]
fn fragments_keep_their_identification() {
    let mut packet = tcp(false, &[]);
    let data = packet.data_mut();
    data[6] = 0x20;
    let sum = Delta::u16(0x4000, 0x2000).complete(u16_at(data, 10));
    data[10..12].copy_from_slice(&sum.to_be_bytes());
    let desc = PacketDesc::parse(packet.data()).unwrap();
    apply(&mut packet, &desc, &Actions { random_id: true, ..Actions::default() }, &mut rng());
    assert_eq!(packet.data()[4..6], [0x12, 0x34]);
}

#[test]
fn every_mss_option_is_lowered_at_any_place() {
    let actions = Actions { max_mss: 1_000, ..Actions::default() };
    for v6 in [false, true] {
        // One behind a no-operation, so that it lies across words; then a small one; then another.
        let packet = tcp(v6, &[1, 2, 4, 5, 0xb4, 2, 4, 2, 0, 4, 2, 2, 4, 0xff, 0xff, 0]);
        let after = scrubbed(packet, actions);
        let desc = PacketDesc::parse(after.data()).unwrap();
        let values: Vec<_> =
            options(&after.data()[desc.l4 + 20..]).filter_map(|option| option.mss()).collect();
        assert_eq!(values, [1_000, 512, 1_000]);
    }
}

#[test]
fn partial_checksum_is_left_alone() {
    let mut packet = tcp(false, &[2, 4, 5, 0xb4]);
    packet.meta.offload.checksum = Checksum::Partial { start: 20, offset: 16 };
    let before = packet.data()[36..38].to_vec();
    let desc = PacketDesc::parse(packet.data()).unwrap();
    apply(&mut packet, &desc, &Actions { max_mss: 1_000, ..Actions::default() }, &mut rng());
    assert_eq!(packet.data()[42..44], [3, 0xe8]);
    assert_eq!(packet.data()[36..38], before);
}

proptest! {
    #[test]
    fn checksums_stay_right(
        v6: bool, octets in prop::collection::vec(any::<u8>(), 0..40), max_mss: u16,
        min_ttl: u8, tos in prop::option::of(any::<u8>()), no_df: bool, random_id: bool,
    ) {
        let actions = Actions { tos, min_ttl, max_mss, no_df, random_id, ..Actions::default() };
        scrubbed(tcp(v6, &octets), actions);
    }
}
