//! Choosing a source port that no other connection has.
//!
//! Source: OpenBSD sys/net/pf_lb.c `pf_get_sport`.

use core::ops::RangeInclusive;

use crate::rng::Rng;

/// Identifiers that queries of ICMP may get.
pub const ICMP_IDS: RangeInclusive<u16> = 1..=u16::MAX;

/// Where a port may come from.
#[derive(Clone, Debug)]
pub enum Candidates {
    /// All ports from one to another.
    Range(RangeInclusive<u16>),
    /// Those of one customer of MAP-E.
    Set(PortSet),
}

impl Candidates {
    /// A port for which `is_free` says yes; `None` when none is free.
    pub fn choose(&self, rng: &mut Rng, is_free: impl FnMut(u16) -> bool) -> Option<u16> {
        match self {
            Self::Range(range) => choose(range.clone(), rng, is_free),
            Self::Set(set) => set.choose(rng, is_free),
        }
    }
}

/// Ports of one customer of MAP-E: those whose middle bits are the identifier of the set; the bits
/// in front are never all zero. Source: RFC 7597 section 5.1; FreeBSD sys/netpfil/pf/pf_lb.c
/// `pf_get_mape_sport`.
#[derive(Clone, Copy, Debug)]
pub struct PortSet {
    offset: u32,
    /// Bits behind the identifier.
    low_bits: u32,
    /// The identifier at its place.
    middle: u32,
}

impl PortSet {
    /// The set `psid` of `len` bits behind `offset` bits.
    pub fn new(offset: u8, len: u8, psid: u16) -> Self {
        let (offset, len) = (u32::from(offset).min(16), u32::from(len));
        let low_bits = (16 - offset).saturating_sub(len);
        let identifier = u32::from(psid) & ((1 << len.min(16)) - 1);
        Self { offset, low_bits, middle: identifier << low_bits }
    }

    /// Every part of the set, in the order of `front`.
    fn part(&self, front: u32) -> RangeInclusive<u16> {
        let low = front << (16 - self.offset) | self.middle;
        let high = low | ((1 << self.low_bits) - 1);
        let port = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        port(low)..=port(high)
    }

    fn choose(&self, rng: &mut Rng, mut is_free: impl FnMut(u16) -> bool) -> Option<u16> {
        let fronts = 1_u32 << self.offset;
        let start = u32::from(below(fronts, rng)).max(1);
        let mut parts = (start..fronts).chain((1..start).rev());
        parts.find_map(|front| choose(self.part(front), rng, &mut is_free))
    }
}

/// A port from `range` for which `is_free` says yes: from a random one upwards to the end, then
/// downwards from below it. `None` when none is free.
///
/// At most the whole range is tried, which is what bounds the work for one packet.
pub fn choose(
    range: RangeInclusive<u16>,
    rng: &mut Rng,
    mut is_free: impl FnMut(u16) -> bool,
) -> Option<u16> {
    let (low, high) = (*range.start().min(range.end()), *range.start().max(range.end()));
    let start = low + below(u32::from(high - low) + 1, rng);
    (start..=high).chain((low..start).rev()).find(|&port| is_free(port))
}

/// A random number below `bound`, which is at most 2^16.
fn below(bound: u32, rng: &mut Rng) -> u16 {
    // The high half of a product is as even as 32 random bits allow for so small a bound.
    let product = u64::from(rng.next_u32()) * u64::from(bound);
    u16::try_from(product >> 32).unwrap_or(0)
}

/// The destination port that `rdr-to port low:high` gives: ports from `first` on go to `low` and
/// on, and begin again behind `high`. `high` 0 sends all ports to `low`.
///
/// `first` is where the ports of the rule's destination begin, 0 when it names none. Source:
/// OpenBSD sys/net/pf_lb.c `pf_get_transaddr`.
pub fn redirect(port: u16, first: u16, low: u16, high: u16) -> u16 {
    if high == 0 {
        return low;
    }
    let count = i32::from(high) - i32::from(low) + 1;
    if count <= 0 {
        return low;
    }
    let target = (i32::from(port) - i32::from(first)).rem_euclid(count) + i32::from(low);
    let wrapped = if target > i32::from(u16::MAX) { target - i32::from(u16::MAX) } else { target };
    u16::try_from(wrapped).unwrap_or(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use std::collections::BTreeSet;

    #[test]
    fn redirected_ports_follow_the_formula() {
        for (port, first, low, high, wanted) in [
            (8_000, 8_000, 9_000, 0, 9_000),
            (8_007, 8_000, 9_000, 0, 9_000),
            (8_007, 8_000, 9_000, 9_010, 9_007),
            (8_012, 8_000, 9_000, 9_010, 9_001),
            (80, 0, 8_080, 8_080, 8_080),
            (65_535, 0, 1, 65_535, 1),
            (79, 80, 100, 109, 109),
        ] {
            assert_eq!(redirect(port, first, low, high), wanted, "{port} {first} {low}:{high}");
        }
    }

    #[test]
    fn a_port_set_has_the_ports_of_its_identifier_alone() {
        // RFC 7597 section 5.1: 6 bits in front, a set of 8 bits, two bits behind.
        let set = PortSet::new(6, 8, 0x34);
        let mut rng = Rng::new([3; 32]);
        let mut taken = BTreeSet::new();
        while let Some(port) = set.choose(&mut rng, |port| !taken.contains(&port)) {
            assert_eq!(port >> 2 & 0xff, 0x34, "{port}");
            assert_ne!(port >> 10, 0, "{port}");
            assert!(taken.insert(port));
        }
        assert_eq!(taken.len(), 63 * 4);
        for (offset, len) in [(15, 1), (1, 15), (16, 0), (1, 1)] {
            assert!(PortSet::new(offset, len, 1).choose(&mut rng, |_| true).is_some());
        }
    }

    proptest! {
        #[test]
        fn every_port_of_a_range_is_found_before_it_fails(
            ends in any::<(u16, u8)>(), seed: u8,
        ) {
            let low = ends.0;
            let high = low.saturating_add(u16::from(ends.1));
            let mut rng = Rng::new([seed; 32]);
            let mut taken = BTreeSet::new();
            while let Some(port) = choose(low..=high, &mut rng, |port| !taken.contains(&port)) {
                prop_assert!((low..=high).contains(&port));
                prop_assert!(taken.insert(port));
            }
            prop_assert_eq!(taken.len(), usize::from(high - low) + 1);
        }
    }

    #[test]
    fn exchanged_ends_mean_the_same_and_all_ports_come_up() {
        let mut rng = Rng::new([1; 32]);
        let seen: BTreeSet<u16> = (0..200)
            .filter_map(|_| choose(RangeInclusive::new(10, 7), &mut rng, |_| true))
            .collect();
        assert_eq!(seen, BTreeSet::from([7, 8, 9, 10]));
    }
}
