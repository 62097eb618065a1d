#![expect(clippy::cast_possible_truncation, reason = "test packets are short")]

use proptest::prelude::*;

use super::*;

/// Shape of a super-packet to be cut.
#[derive(Clone, Debug)]
struct Shape {
    ipv6: bool,
    tcp: bool,
    ip_options: usize,
    tcp_options: usize,
    payload: Vec<u8>,
    gso_size: u16,
    flags: u8,
    identification: u16,
    sequence: u32,
    partial: bool,
}

impl Shape {
    fn transport(&self) -> usize {
        if self.ipv6 { 40 } else { 20 + self.ip_options * 4 }
    }

    fn headers(&self) -> usize {
        self.transport() + if self.tcp { 20 + self.tcp_options * 4 } else { 8 }
    }

    fn build(&self) -> (Vec<u8>, Offload) {
        let at = self.transport();
        let mut data = vec![0; self.headers()];
        data.extend(&self.payload);
        let len = data.len();
        let protocol = if self.tcp { 6 } else { 17 };
        if self.ipv6 {
            data[0] = 0x60;
            put(&mut data, 4, len - 40);
            data[6] = protocol;
            data[8..40].fill(0xfd);
        } else {
            data[0] = 0x40 | (5 + self.ip_options as u8);
            put(&mut data, 2, len);
            put(&mut data, 4, usize::from(self.identification));
            data[6] = 0x40;
            data[9] = protocol;
            data[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
            data[20..at].fill(1);
        }
        put(&mut data, at, 4000);
        put(&mut data, at + 2, 80);
        let offset = if self.tcp {
            data[at + 4..at + 8].copy_from_slice(&self.sequence.to_be_bytes());
            data[at + 12] = (5 + self.tcp_options as u8) << 4;
            data[at + 13] = self.flags;
            16
        } else {
            put(&mut data, at + 4, len - at);
            6
        };
        let checksum = if self.partial {
            Checksum::Partial { start: at as u16, offset }
        } else {
            Checksum::Complete
        };
        let gso = if self.tcp { Gso::Tcp { ecn: self.flags & TCP_CWR != 0 } } else { Gso::Udp };
        (data, Offload { gso, gso_size: self.gso_size, checksum })
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    (
        (any::<bool>(), any::<bool>(), any::<bool>()),
        (0..=10_usize, 0..=10_usize),
        proptest::collection::vec(any::<u8>(), 0..5000),
        1..2000_u16,
        (any::<u8>(), any::<u16>(), any::<u32>()),
    )
        .prop_map(
            |((ipv6, tcp, partial), (ip_options, tcp_options), payload, gso_size, rest)| {
                let (flags, identification, sequence) = rest;
                Shape {
                    ipv6,
                    tcp,
                    ip_options,
                    tcp_options,
                    payload,
                    gso_size,
                    flags,
                    identification,
                    sequence,
                    partial,
                }
            },
        )
}

/// The checksum by the book, one 16-bit word at a time: the oracle.
fn slow_sum(octets: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in octets.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Whether every checksum of a packet is right.
fn checksums_hold(data: &[u8], ipv6: bool, transport: usize, protocol: u8) -> bool {
    let mut covered = data[if ipv6 { 8..40 } else { 12..20 }].to_vec();
    covered.extend([0, protocol]);
    covered.extend(((data.len() - transport) as u16).to_be_bytes());
    covered.extend(&data[transport..]);
    (ipv6 || slow_sum(&data[..transport]) == 0xffff) && slow_sum(&covered) == 0xffff
}

fn cut(data: &[u8], offload: &Offload) -> Vec<Vec<u8>> {
    let mut segmenter = Segmenter::new(data, offload).unwrap();
    let mut segments = vec![];
    let mut buffer = Packet::new(0, 8192);
    while segmenter.next_into(data, &mut buffer).unwrap() {
        segments.push(buffer.data().to_vec());
    }
    segments
}

proptest! {
    #[test]
    fn segments_carry_the_whole_payload_and_right_checksums(shape in shapes()) {
        let (data, offload) = shape.build();
        let at = shape.transport();
        let segments = cut(&data, &offload);
        let size = usize::from(shape.gso_size);
        prop_assert_eq!(segments.len(), shape.payload.len().div_ceil(size).max(1));
        let mut payload: Vec<u8> = vec![];
        for (number, segment) in segments.iter().enumerate() {
            let (first, last) = (number == 0, number + 1 == segments.len());
            let part = &segment[shape.headers()..];
            prop_assert!(last || part.len() == size);
            let protocol = if shape.tcp { PROTO_TCP } else { PROTO_UDP };
            prop_assert!(checksums_hold(segment, shape.ipv6, at, protocol));
            let word = |at: usize| usize::from(u16::from_be_bytes([segment[at], segment[at + 1]]));
            if shape.ipv6 {
                prop_assert_eq!(word(4), segment.len() - 40);
            } else {
                prop_assert_eq!(word(2), segment.len());
                let expected = shape.identification.wrapping_add(number as u16);
                prop_assert_eq!(word(4), usize::from(expected));
            }
            if shape.tcp {
                let expected = shape.sequence.wrapping_add(payload.len() as u32);
                prop_assert_eq!(&segment[at + 4..at + 8], expected.to_be_bytes());
                let mut kept = 0xff;
                if !first { kept &= !TCP_CWR; }
                if !last { kept &= !(TCP_FIN | TCP_PSH); }
                prop_assert_eq!(segment[at + 13], shape.flags & kept);
            } else {
                prop_assert_eq!(word(at + 4), segment.len() - at);
            }
            payload.extend(part);
        }
        prop_assert_eq!(payload, shape.payload);
    }

    #[test]
    fn partial_checksum_becomes_whole(shape in shapes()) {
        let shape = Shape { partial: true, ..shape };
        let (mut data, offload) = shape.build();
        let Checksum::Partial { start, offset } = offload.checksum else { unreachable!() };
        let at = usize::from(start);
        let protocol = if shape.tcp { PROTO_TCP } else { PROTO_UDP };
        let mut pseudo = data[if shape.ipv6 { 8..40 } else { 12..20 }].to_vec();
        pseudo.extend([0, protocol]);
        pseudo.extend(((data.len() - at) as u16).to_be_bytes());
        let pseudo = slow_sum(&pseudo);
        put(&mut data, at + usize::from(offset), usize::from(pseudo));
        complete_checksum(&mut data, start, offset).unwrap();
        // The IP header's own checksum was never filled in here.
        prop_assert!(checksums_hold(&data, true, at, protocol) || !shape.ipv6);
        if !shape.ipv6 {
            let header = !slow_sum(&data[..at]);
            put(&mut data, 10, usize::from(header));
            prop_assert!(checksums_hold(&data, false, at, protocol));
        }
    }

    #[test]
    fn hostile_octets_never_panic(
        data in proptest::collection::vec(any::<u8>(), 0..200),
        tcp in any::<bool>(),
        gso_size in any::<u16>(),
        partial in proptest::option::of((any::<u16>(), any::<u16>())),
    ) {
        let checksum = partial.map_or(Checksum::Complete, |(start, offset)| {
            Checksum::Partial { start, offset }
        });
        let gso = if tcp { Gso::Tcp { ecn: false } } else { Gso::Udp };
        let offload = Offload { gso, gso_size, checksum };
        let mut buffer = Packet::new(0, 2000);
        if let Ok(mut segmenter) = Segmenter::new(&data, &offload) {
            for _ in 0..300 {
                if !matches!(segmenter.next_into(&data, &mut buffer), Ok(true)) {
                    break;
                }
            }
        }
        if let Some((start, offset)) = partial {
            let mut data = data;
            let _ = complete_checksum(&mut data, start, offset);
        }
    }
}

#[test]
fn a_zero_udp_checksum_is_sent_as_all_ones() {
    // Words that sum to 0xffff, so that the complement is zero.
    let mut data = [0, 0, 0xff, 0xff, 0, 0, 0, 0];
    complete_checksum(&mut data, 0, 6).unwrap();
    assert_eq!(data[6..], [0xff, 0xff]);
}

#[test]
fn checksum_field_outside_the_packet_is_refused() {
    let mut data = [1; 20];
    for (start, offset) in [(21, 0), (20, 0), (10, 9), (0, 19), (u16::MAX, u16::MAX)] {
        assert_eq!(complete_checksum(&mut data, start, offset), Err(Malformed));
    }
    assert_eq!(data, [1; 20]);
}

#[test]
fn fragments_are_not_cut() {
    let mut data = [0; 60];
    data[0] = 0x45;
    data[6] = 0x20;
    data[9] = PROTO_UDP;
    let offload = Offload { gso: Gso::Udp, gso_size: 8, checksum: Checksum::Complete };
    assert!(Segmenter::new(&data, &offload).is_err());
}
