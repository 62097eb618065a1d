//! A SYN turned into its SYN|ACK in place, with a fixed sequence number for a cookie.

use pfd::segment::complete_checksum;
use pfengine::{Offload, Packet};

const COOKIE: u32 = 0x7066_7066;
const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;
const TCP_CHECKSUM: u16 = 16;

/// Answers a SYN without options beyond those it came with; false when the packet is none.
pub fn answer(packet: &mut Packet) -> bool {
    let data = packet.data_mut();
    let (tcp, addresses) = match data.first() {
        Some(0x45) if data.len() >= 40 && data[9] == 6 => (20, 12..20),
        Some(octet) if octet >> 4 == 6 && data.len() >= 60 && data[6] == 6 => (40, 8..40),
        _ => return false,
    };
    if data[tcp + 13] & (TCP_SYN | TCP_ACK) != TCP_SYN {
        return false;
    }
    // The IP header's checksum does not depend on the order of the addresses.
    swap_halves(&mut data[addresses.clone()]);
    swap_halves(&mut data[tcp..tcp + 4]);
    let sequence = u32::from_be_bytes([data[tcp + 4], data[tcp + 5], data[tcp + 6], data[tcp + 7]]);
    data[tcp + 4..tcp + 8].copy_from_slice(&COOKIE.to_be_bytes());
    data[tcp + 8..tcp + 12].copy_from_slice(&sequence.wrapping_add(1).to_be_bytes());
    data[tcp + 13] = TCP_SYN | TCP_ACK;
    let pseudo = pseudo_sum(&data[addresses], data.len() - tcp);
    let field = tcp + usize::from(TCP_CHECKSUM);
    data[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
    let start = if tcp == 20 { 20 } else { 40 };
    let whole = complete_checksum(data, start, TCP_CHECKSUM).is_ok();
    packet.meta.offload = Offload::default();
    whole
}

fn swap_halves(octets: &mut [u8]) {
    let (first, second) = octets.split_at_mut(octets.len() / 2);
    first.swap_with_slice(second);
}

/// Sum of the pseudo-header, folded and not inverted.
fn pseudo_sum(addresses: &[u8], length: usize) -> u16 {
    let words =
        addresses.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum = words.sum::<u32>() + 6 + u32::try_from(length).unwrap_or(0);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syn() -> Packet {
        let mut packet = Packet::new(0, 100);
        let mut data = [0; 40];
        data[..20].copy_from_slice(&[
            0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        data[20..33].copy_from_slice(&[0x0f, 0xa0, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0, 0x50]);
        data[33] = TCP_SYN;
        packet.fill(&data);
        packet
    }

    #[test]
    fn syn_is_answered_with_a_right_checksum() {
        let mut packet = syn();
        assert!(answer(&mut packet));
        let data = packet.data();
        assert_eq!(data[12..20], [10, 0, 0, 2, 10, 0, 0, 1]);
        assert_eq!(data[20..24], [0, 80, 0x0f, 0xa0]);
        assert_eq!(data[28..32], [0, 0, 0, 10]);
        assert_eq!(data[33], TCP_SYN | TCP_ACK);
        let sum = data[12..]
            .chunks(2)
            .fold(6 + 20, |sum: u32, word| sum + u32::from(u16::from_be_bytes([word[0], word[1]])));
        assert_eq!((sum >> 16) + (sum & 0xffff), 0xffff);
    }

    #[test]
    fn only_a_syn_is_answered() {
        let mut packet = syn();
        packet.data_mut()[33] = TCP_SYN | TCP_ACK;
        assert!(!answer(&mut packet));
        let mut packet = syn();
        assert!(packet.resize(39));
        assert!(!answer(&mut packet));
    }
}
