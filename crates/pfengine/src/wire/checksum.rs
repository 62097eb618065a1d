//! The internet checksum: sums, verification, and updates by difference.
//!
//! Rewrites change a few fields of a packet of any size, so checksums are updated by difference.
//! A packet whose device fills the checksum in later ("partial") holds the sum of the
//! pseudo-header instead, not inverted: only changes of the pseudo-header touch that field.
//!
//! Sources: RFC 1071; RFC 1624 equation 3; RFC 768 and RFC 8200 section 8.1 (UDP and zero);
//! virtio 1.2 section 5.1.6.2 (VIRTIO_NET_HDR_F_NEEDS_CSUM).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pfapi::ruleset::proto;

use super::bytes::be16;
use super::ip::{Fragment, Layout};

/// A sum of 16-bit words in one's complement arithmetic, with carries not yet folded in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Sum(u64);

impl Sum {
    /// The empty sum.
    pub const ZERO: Self = Self(0);

    /// Sum over `octets`; an odd last octet counts as the high half of a word.
    ///
    /// Only the last of several slices that are added up may have an odd length.
    pub fn of(octets: &[u8]) -> Self {
        // One's complement sums do not care about byte order until the end (RFC 1071 section 2 B),
        // so words are added as they lie in memory, four octets at a time. 2^32 additions fit.
        let (words, tail) = octets.as_chunks::<4>();
        let mut sum: u64 = words.iter().map(|&word| u64::from(u32::from_ne_bytes(word))).sum();
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        sum += u64::from(u32::from_ne_bytes(last));
        Self(u64::from(u16::from_be(fold(sum))))
    }

    /// Sum of words as they are read in network order.
    #[inline]
    pub fn of_words<const N: usize>(words: [u32; N]) -> Self {
        let sum: u64 = words.into_iter().map(u64::from).sum();
        Self((sum >> 32) + (sum & 0xffff_ffff))
    }

    /// Sum of the pseudo-header of TCP, UDP and ICMPv6; `len` is the length of the transport
    /// header and its payload. RFC 9293 section 3.1, RFC 8200 section 8.1.
    #[inline]
    pub fn pseudo(src: IpAddr, dst: IpAddr, protocol: u8, len: u32) -> Self {
        Self::of_addr(src).plus(Self::of_addr(dst)).plus_u16(u16::from(protocol)).plus_u32(len)
    }

    /// Sum of an address.
    #[inline]
    pub fn of_addr(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(addr) => Self::of_v4(addr),
            IpAddr::V6(addr) => Self::of_v6(addr),
        }
    }

    #[inline]
    fn of_v4(addr: Ipv4Addr) -> Self {
        Self::ZERO.plus_u32(addr.to_bits())
    }

    #[inline]
    fn of_v6(addr: Ipv6Addr) -> Self {
        Self(addr.segments().into_iter().map(u64::from).sum())
    }

    /// This sum and another one.
    #[inline]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// This sum and one word.
    #[inline]
    pub const fn plus_u16(self, word: u16) -> Self {
        Self(self.0 + word as u64)
    }

    /// This sum and two words.
    #[inline]
    pub const fn plus_u32(self, words: u32) -> Self {
        Self(self.0 + (words >> 16) as u64 + (words & 0xffff) as u64)
    }

    /// The sum as one word: what a partial checksum field holds.
    #[inline]
    #[must_use]
    pub const fn folded(self) -> u16 {
        fold(self.0)
    }

    /// The inverted sum: what a complete checksum field holds.
    #[inline]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.folded()
    }

    /// The checksum of a UDP datagram, where zero means "none" and is sent as its twin.
    #[inline]
    #[must_use]
    pub const fn udp_checksum(self) -> u16 {
        match self.checksum() {
            0 => 0xffff,
            sum => sum,
        }
    }

    /// Whether a sum that includes the checksum field says that nothing was damaged.
    #[inline]
    #[must_use]
    pub const fn is_intact(self) -> bool {
        self.folded() == 0xffff
    }
}

/// Adds the carries back in until one word is left.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    #[expect(clippy::cast_possible_truncation, reason = "three rounds leave 16 bits")]
    let word = sum as u16;
    word
}

/// How the checksum of a packet changes when some of its words change.
///
/// Made once per rewrite and applied to every checksum that covers the words. Differences of
/// several fields are joined with [`Delta::and`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Delta(u64);

impl Delta {
    /// Nothing changes.
    pub const NONE: Self = Self(0);

    /// One word becomes another.
    #[inline]
    pub const fn u16(old: u16, new: u16) -> Self {
        Self(!old as u64 + new as u64)
    }

    /// Two words become others.
    #[inline]
    pub const fn u32(old: u32, new: u32) -> Self {
        let old = !old;
        Self(
            (old >> 16) as u64 + (old & 0xffff) as u64 + (new >> 16) as u64 + (new & 0xffff) as u64,
        )
    }

    /// Eight words become others.
    #[inline]
    pub const fn u128(old: u128, new: u128) -> Self {
        Self(words(!old) + words(new))
    }

    /// An address becomes another one; a change of family counts too (`af-to`).
    #[inline]
    pub fn addr(old: IpAddr, new: IpAddr) -> Self {
        match (old, new) {
            (IpAddr::V4(old), IpAddr::V4(new)) => Self::u32(old.to_bits(), new.to_bits()),
            (IpAddr::V6(old), IpAddr::V6(new)) => Self::u128(old.to_bits(), new.to_bits()),
            (old, new) => {
                Self(u64::from(!Sum::of_addr(old).folded())).and(Self(Sum::of_addr(new).0))
            }
        }
    }

    /// The words of `sum` are covered too from now on.
    #[inline]
    pub const fn gain(sum: Sum) -> Self {
        Self(sum.folded() as u64)
    }

    /// The words of `sum` are covered no longer.
    #[inline]
    pub const fn lose(sum: Sum) -> Self {
        Self(!sum.folded() as u64)
    }

    /// This change and another one.
    #[inline]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The same change at `offset` octets from where the sum starts: at odd offsets the octets
    /// of a word swap places. For TCP options, which need no alignment.
    #[inline]
    pub const fn at(self, offset: usize) -> Self {
        if offset.is_multiple_of(2) { self } else { Self(fold(self.0).swap_bytes() as u64) }
    }

    /// The new value of a complete checksum field: `HC' = ~(~HC + ~m + m')`.
    #[inline]
    #[must_use]
    pub const fn complete(self, field: u16) -> u16 {
        !fold(!field as u64 + self.0)
    }

    /// The new value of a partial checksum field; only for changes of the pseudo-header.
    #[inline]
    #[must_use]
    pub const fn partial(self, field: u16) -> u16 {
        fold(field as u64 + self.0)
    }

    /// The new value of a complete UDP checksum field: "none" stays "none", and a checksum that
    /// happens to be zero is sent as its twin.
    #[inline]
    #[must_use]
    pub const fn complete_udp(self, field: u16) -> u16 {
        if field == 0 {
            return 0;
        }
        match self.complete(field) {
            0 => 0xffff,
            sum => sum,
        }
    }
}

/// Sum of the eight words of a 128-bit number.
#[inline]
const fn words(value: u128) -> u64 {
    let mut sum = 0;
    let mut rest = value;
    while rest != 0 {
        sum += (rest & 0xffff) as u64;
        rest >>= 16;
    }
    sum
}

/// Whether the header checksum of the IPv4 header in `header` (options included) is right.
#[inline]
#[must_use]
pub fn ipv4_header_is_intact(header: &[u8]) -> bool {
    Sum::of(header).is_intact()
}

/// Whether the checksum of a transport header and its payload is right.
///
/// True for protocols without a checksum that we know, and for UDP over IPv4 without one. False
/// for UDP over IPv6 without one: RFC 6935 allows that only to tunnels that agreed on it.
#[must_use]
pub fn transport_is_intact(src: IpAddr, dst: IpAddr, protocol: u8, segment: &[u8]) -> bool {
    let Ok(len) = u32::try_from(segment.len()) else { return false };
    let pseudo = match protocol {
        proto::ICMP => Sum::ZERO,
        proto::TCP | proto::ICMPV6 => Sum::pseudo(src, dst, protocol, len),
        proto::UDP => match be16(segment, 6) {
            None => return false,
            Some(0) => return src.is_ipv4(),
            Some(_) => Sum::pseudo(src, dst, protocol, len),
        },
        _ => return true,
    };
    pseudo.plus(Sum::of(segment)).is_intact()
}

/// Whether the transport checksum of an IP packet is right.
///
/// Fragments have none that could be checked and are taken as right; packets too short for
/// their own lengths are wrong. Not for packets with a partial checksum.
#[must_use]
pub fn packet_is_intact(packet: &[u8]) -> bool {
    let Some(layout) = Layout::of(packet) else { return false };
    if layout.fragment != Fragment::Whole {
        return true;
    }
    let Some(segment) = packet.get(layout.transport..layout.end) else { return false };
    transport_is_intact(layout.src, layout.dst, layout.protocol, segment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 section 3, word by word.
    fn reference(octets: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in octets.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    #[test]
    fn example_of_rfc_1071_section_3() {
        assert_eq!(Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).folded(), 0xddf2);
    }

    #[test]
    fn example_of_rfc_1624_section_4() {
        assert_eq!(Delta::u16(0x5555, 0x3285).complete(0xdd2f), 0x0000);
    }

    #[test]
    fn longest_sum_does_not_overflow() {
        assert_eq!(Sum::of(&vec![0xff; 65536]).folded(), 0xffff);
    }

    #[test]
    fn udp_none_stays_none_and_zero_becomes_its_twin() {
        assert_eq!(Delta::u16(1, 2).complete_udp(0), 0);
        assert_eq!(Delta::u16(0x5555, 0x3285).complete_udp(0xdd2f), 0xffff);
        assert_eq!(Sum::of(&[0xff, 0xff]).udp_checksum(), 0xffff);
    }

    #[test]
    fn udp_without_checksum_is_right_over_ipv4_only() {
        let datagram = [0, 1, 0, 2, 0, 8, 0, 0];
        let (a4, a6) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([7_u16; 8]));
        assert!(transport_is_intact(a4, a4, proto::UDP, &datagram));
        assert!(!transport_is_intact(a6, a6, proto::UDP, &datagram));
        assert!(!transport_is_intact(a4, a4, proto::UDP, &datagram[..7]));
    }

    /// A TCP segment of `payload` with its checksum, complete and partial.
    fn segment(src: IpAddr, dst: IpAddr, payload: &[u8]) -> (Vec<u8>, u16, u16) {
        let len = u32::try_from(payload.len()).unwrap();
        let pseudo = Sum::pseudo(src, dst, proto::TCP, len);
        let complete = pseudo.plus(Sum::of(payload)).checksum();
        (payload.to_vec(), complete, pseudo.folded())
    }

    proptest! {
        #[test]
        fn sum_equals_the_reference(octets in prop::collection::vec(any::<u8>(), 0..1600)) {
            prop_assert_eq!(Sum::of(&octets).folded(), reference(&octets));
        }

        #[test]
        fn replaced_fields_equal_the_full_sum(
            mut octets in prop::collection::vec(any::<u8>(), 64..200),
            at in 0..40_usize,
            new: [u8; 16],
            width in prop::sample::select(vec![2_usize, 4, 16]),
        ) {
            // Real sums are never zero: the pseudo-header names a protocol.
            let base = Sum::ZERO.plus_u16(6);
            let before = base.plus(Sum::of(&octets)).checksum();
            let old = octets[at..at + width].to_vec();
            octets[at..at + width].copy_from_slice(&new[..width]);
            let delta = match width {
                2 => Delta::u16(be16(&old, 0).unwrap(), be16(&new, 0).unwrap()),
                4 => Delta::u32(
                    u32::from_be_bytes(old[..4].try_into().unwrap()),
                    u32::from_be_bytes(new[..4].try_into().unwrap()),
                ),
                _ => Delta::u128(
                    u128::from_be_bytes(old[..16].try_into().unwrap()),
                    u128::from_be_bytes(new),
                ),
            };
            let after = base.plus(Sum::of(&octets)).checksum();
            prop_assert_eq!(delta.at(at).complete(before), after);
        }

        #[test]
        fn replaced_addresses_keep_both_kinds_right(
            old: IpAddr, new: IpAddr, peer: IpAddr,
            payload in prop::collection::vec(any::<u8>(), 20..100),
        ) {
            let (_, complete, partial) = segment(old, peer, &payload);
            let (_, complete_after, partial_after) = segment(new, peer, &payload);
            let delta = Delta::addr(old, new);
            prop_assert_eq!(delta.complete(complete), complete_after);
            prop_assert_eq!(delta.partial(partial), partial_after);
        }

        #[test]
        fn a_pseudo_header_comes_and_goes(
            src: IpAddr, dst: IpAddr, payload in prop::collection::vec(any::<u8>(), 8..100),
        ) {
            let len = u32::try_from(payload.len()).unwrap();
            let pseudo = Sum::pseudo(src, dst, proto::ICMPV6, len);
            let (without, with) = (Sum::of(&payload), pseudo.plus(Sum::of(&payload)));
            prop_assert_eq!(Delta::gain(pseudo).complete(without.checksum()), with.checksum());
            let back = Delta::lose(pseudo).complete(with.checksum());
            // Octets that are all zero have the other form of zero.
            prop_assert!(back == without.checksum() || without.folded() == 0);
        }

        #[test]
        fn damage_of_one_bit_is_seen(
            src: IpAddr, dst: IpAddr,
            mut payload in prop::collection::vec(any::<u8>(), 20..100),
            octet: prop::sample::Index, bit in 0..8_u8,
        ) {
            payload[16..18].fill(0);
            let (mut octets, complete, _) = segment(src, dst, &payload);
            octets[16..18].copy_from_slice(&complete.to_be_bytes());
            prop_assert!(transport_is_intact(src, dst, proto::TCP, &octets));
            let damaged = octet.index(octets.len());
            octets[damaged] ^= 1 << bit;
            prop_assert!(!transport_is_intact(src, dst, proto::TCP, &octets));
        }

        #[test]
        fn any_octets_are_safe(octets in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = packet_is_intact(&octets);
        }
    }
}
