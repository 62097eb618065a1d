//! Changes of a packet in place, checksums by difference (RFC 1624, eqn. 3).

use crate::fault::{self, Fault};
use crate::packet::Packet;
use crate::packet_desc::{TcpDesc, u16_at, u32_at};
use crate::state::tcp::Translation;
use crate::wire::checksum::Delta;
use crate::wire::tcp_options;

const SEQ_AT: usize = 4;
const ACK_AT: usize = 8;
const CHECKSUM_AT: usize = 16;
const OPTIONS_AT: usize = 20;

/// Shifts sequence and acknowledgement numbers and SACK blocks; `l4` is where the TCP header
/// starts.
///
/// A partial checksum covers only the pseudo-header, which does not change. The numbers of a
/// super-packet are those of its first segment, so all its segments shift with it.
pub fn translate(packet: &mut Packet, l4: usize, tcp: &TcpDesc, translation: Translation) {
    if translation == Translation::default() {
        return;
    }
    let complete = !packet.meta.offload.is_partial_at(l4);
    let header = &mut packet.data_mut()[l4..l4 + tcp.header];
    let mut delta = Delta::NONE;
    let mut shift = |header: &mut [u8], at: usize, by: u32| {
        let old = u32_at(header, at);
        let new = old.wrapping_add(by);
        header[at..at + 4].copy_from_slice(&new.to_be_bytes());
        // Options need no alignment; the sum is over words.
        delta = delta.and(Delta::u32(old, new).at(at));
    };
    let back = translation.ack.wrapping_neg();
    if translation.seq != 0 {
        shift(header, SEQ_AT, translation.seq);
    }
    if translation.ack != 0 && !fault::is(Fault::AcknowledgementUntranslated) {
        shift(header, ACK_AT, back);
        let start = OPTIONS_AT + tcp_options::stamps_in_front(&header[OPTIONS_AT..]);
        let mut edges = [0; 8];
        let mut count = 0;
        for block in tcp_options::options(&header[start..]).flat_map(|option| option.sack_blocks())
        {
            for edge in [block.offset, block.offset + 4] {
                if let Some(place) = edges.get_mut(count) {
                    *place = start + edge;
                    count += 1;
                }
            }
        }
        for &edge in &edges[..count] {
            shift(header, edge, back);
        }
    }
    if complete && !fault::is(Fault::ChecksumStays) {
        let sum = delta.complete(u16_at(header, CHECKSUM_AT));
        header[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet_desc::{PacketDesc, Transport};
    use crate::wire::checksum::{Sum, packet_is_intact};
    use proptest::prelude::*;

    /// An ACK with SACK blocks behind `pad` no-operations.
    fn sack_packet(seq: u32, ack: u32, blocks: &[(u32, u32)], pad: usize) -> Packet {
        let mut options = vec![1; pad];
        options.extend([5, u8::try_from(2 + 8 * blocks.len()).unwrap()]);
        for (left, right) in blocks {
            options.extend(left.to_be_bytes());
            options.extend(right.to_be_bytes());
        }
        options.resize(options.len().next_multiple_of(4), 0);
        let total = 20 + 20 + options.len();
        let mut octets = vec![0x45, 0, 0, u8::try_from(total).unwrap(), 0, 0, 0, 0, 64, 6];
        octets.extend([0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 0, 1, 0, 2]);
        octets.extend(seq.to_be_bytes());
        octets.extend(ack.to_be_bytes());
        octets.extend([u8::try_from((20 + options.len()) / 4).unwrap() << 4, 0x10, 0, 9]);
        octets.extend([0; 4]);
        octets.extend(options);
        let ip = Sum::of(&octets[..20]).checksum();
        octets[10..12].copy_from_slice(&ip.to_be_bytes());
        let (src, dst) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let len = u32::try_from(octets.len() - 20).unwrap();
        let sum = Sum::pseudo(src, dst, 6, len).plus(Sum::of(&octets[20..])).checksum();
        octets[36..38].copy_from_slice(&sum.to_be_bytes());
        let mut packet = Packet::new(0, 128);
        packet.fill(&octets);
        packet
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same_packet(
            seq: u32, ack: u32, seqdiff: u32, ackdiff: u32,
            blocks in prop::collection::vec(any::<(u32, u32)>(), 1..4), pad in 0usize..6,
        ) {
            let mut packet = sack_packet(seq, ack, &blocks, pad);
            prop_assert!(packet_is_intact(packet.data()));
            let before = packet.data().to_vec();
            let desc = PacketDesc::parse(packet.data()).unwrap();
            let Transport::Tcp(tcp) = desc.transport else { panic!("a TCP packet") };
            translate(&mut packet, desc.l4, &tcp, Translation { seq: seqdiff, ack: ackdiff });
            prop_assert!(packet_is_intact(packet.data()));
            prop_assert_eq!(u32_at(packet.data(), 24), seq.wrapping_add(seqdiff));
            prop_assert_eq!(u32_at(packet.data(), 28), ack.wrapping_sub(ackdiff));
            let first = 20 + 20 + pad + 2;
            prop_assert_eq!(u32_at(packet.data(), first), blocks[0].0.wrapping_sub(ackdiff));
            let back = Translation { seq: seqdiff.wrapping_neg(), ack: ackdiff.wrapping_neg() };
            translate(&mut packet, desc.l4, &tcp, back);
            prop_assert!(packet_is_intact(packet.data()));
            let mut after = packet.data().to_vec();
            // The two forms of zero of a checksum mean the same.
            after[36..38].copy_from_slice(&before[36..38]);
            prop_assert_eq!(after, before);
        }
    }
}
