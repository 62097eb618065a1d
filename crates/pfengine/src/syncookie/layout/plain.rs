//! Cookies for clients without timestamps: the options that matter most, in four bits.
//!
//! ```text
//! sequence number     bit 31       30                       4 3      0
//!                        +--------+--------------------------+--------+
//!                        | parity |      MAC, 27 bits        |  code  |
//!                        +--------+--------------------------+--------+
//! ```
//!
//! Each code that is accepted is one more number that a blind guess may hit, so the codes are few:
//! sixteen sets of terms, chosen for those that do without timestamps. These are Windows (shift 8,
//! SACK, sizes of Ethernet, `PPPoE` and tunnels), Linux and BSD with timestamps switched off, and
//! small devices. A client gets the best set that gives nothing that it did not offer; a smaller
//! shift than its own makes its window look smaller, never larger.
//!
//! # Security
//! A key accepts 16 of the 2^31 numbers of its parity: a blind guess succeeds with 2^-27. There
//! are two keys at a time and the parity names one, so a second key does not double the odds.

use core::net::IpAddr;

use super::super::cookie::{Key, Parity, Tuple};
use super::{OWN_SHIFT, Shifts, Terms, mac};
use crate::fault::{self, Fault};

/// Keeps this layout's MACs apart from others'.
const MARK: u8 = b'P';
const CODE_BITS: u32 = 4;
const MAC_BITS: u32 = 27;

/// One set of terms.
struct Set {
    /// MSS over IPv4 and over IPv6.
    mss: [u16; 2],
    /// Shift of the client.
    shift: Option<u8>,
    sack: bool,
}

const fn set(mss: [u16; 2], shift: Option<u8>, sack: bool) -> Set {
    Set { mss, shift, sack }
}

/// The sets by code, in the order in which they are preferred.
const SETS: [Set; 1 << CODE_BITS] = [
    set([1460, 1440], Some(8), true),
    set([1440, 1420], Some(8), true),
    set([1400, 1380], Some(8), true),
    set([1360, 1340], Some(8), true),
    set([1220, 1220], Some(8), true),
    set([1460, 1440], Some(7), true),
    set([1340, 1340], Some(7), true),
    set([1440, 1420], Some(6), true),
    set([1220, 1220], Some(2), true),
    set([536, 536], Some(0), false),
    set([1460, 1440], None, true),
    set([1360, 1340], None, true),
    set([1460, 1440], None, false),
    set([1360, 1220], None, false),
    set([536, 536], None, false),
    set([64, 64], None, false),
];

impl Set {
    const fn mss_over(&self, client: IpAddr) -> u16 {
        self.mss[client.is_ipv6() as usize]
    }

    fn is_within(&self, client: IpAddr, terms: Terms) -> bool {
        self.mss_over(client) <= terms.mss
            && self.sack <= terms.sack
            && match (self.shift, terms.shifts) {
                (None, _) => true,
                (Some(shift), Some(shifts)) => shift <= shifts.client,
                (Some(_), None) => false,
            }
    }

    fn terms(&self, client: IpAddr) -> Terms {
        let shifts = self.shift.map(|client| Shifts { client, announced: OWN_SHIFT });
        Terms { mss: self.mss_over(client), shifts, sack: self.sack, ecn: false }
    }
}

/// The code for a client, and the terms that it stands for.
fn choose(client: IpAddr, terms: Terms) -> (u32, Terms) {
    let last = SETS.len() - 1;
    let code = SETS.iter().position(|set| set.is_within(client, terms)).unwrap_or(last);
    (u32::try_from(code).unwrap_or(0), SETS[code].terms(client))
}

/// The cookie for a SYN with the initial sequence number `isn`, and what of `terms` it remembers;
/// `key` is the one of `parity`.
#[must_use]
pub fn make(key: &Key, parity: Parity, tuple: &Tuple, isn: u32, terms: Terms) -> (u32, Terms) {
    let (code, kept) = choose(tuple.src, terms);
    let parity = u32::from(parity == Parity::Odd);
    let seq = parity << 31 | tag(key, tuple, isn, code) << CODE_BITS | code;
    (seq, kept)
}

/// What a cookie says, when `key` made it for this connection.
#[must_use]
pub fn open(key: &Key, tuple: &Tuple, isn: u32, seq: u32) -> Option<Terms> {
    let code = seq & ((1 << CODE_BITS) - 1);
    // All bits in one comparison: how long it takes tells nothing.
    let wrong = tag(key, tuple, isn, code) ^ seq << 1 >> (CODE_BITS + 1);
    (wrong == 0 || fault::is(Fault::AnyCookie)).then(|| SETS[code as usize].terms(tuple.src))
}

/// The bits that prove who made a cookie.
fn tag(key: &Key, tuple: &Tuple, isn: u32, code: u32) -> u32 {
    let word = u16::try_from(code).expect("a code has four bits");
    u32::try_from(mac(key, MARK, tuple, isn, word) >> (64 - MAC_BITS)).expect("27 bits are left")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{is_within, terms, tuples};
    use super::*;
    use crate::syncookie::layout;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    const V4: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 1));
    const V6: IpAddr = IpAddr::V6(core::net::Ipv6Addr::LOCALHOST);

    fn offer(mss: u16, shift: Option<u8>, sack: bool) -> Terms {
        let shifts = shift.map(|client| Shifts { client, announced: OWN_SHIFT });
        Terms { mss, shifts, sack, ecn: false }
    }

    #[test]
    fn common_clients_without_timestamps_lose_nothing() {
        for terms in [
            offer(1460, Some(8), true),
            offer(1440, Some(8), true),
            offer(1400, Some(8), true),
            offer(1360, Some(8), true),
            offer(1460, Some(7), true),
            offer(1460, None, true),
            offer(1460, None, false),
            offer(536, None, false),
        ] {
            assert_eq!(choose(V4, terms).1, terms);
        }
        for terms in [
            offer(1440, Some(8), true),
            offer(1380, Some(8), true),
            offer(1220, Some(8), true),
            offer(1440, None, true),
            offer(1220, None, false),
        ] {
            assert_eq!(choose(V6, terms).1, terms);
        }
    }

    #[test]
    fn the_nearest_set_below_is_taken() {
        for (offered, kept) in [
            (offer(1452, Some(8), true), offer(1440, Some(8), true)),
            (offer(1460, Some(14), true), offer(1460, Some(8), true)),
            (offer(1400, Some(7), true), offer(1340, Some(7), true)),
            (offer(1460, Some(6), true), offer(1440, Some(6), true)),
            (offer(1460, Some(3), true), offer(1220, Some(2), true)),
            (offer(1460, Some(3), false), offer(536, Some(0), false)),
            (offer(100, None, true), offer(64, None, false)),
            (offer(0, Some(8), true), offer(64, None, false)),
        ] {
            assert_eq!(choose(V4, offered).1, kept, "{offered:?}");
        }
    }

    /// A fixed seed: 27 bits collide once in 2^27 tries, which must not fail a build now and then.
    fn config() -> ProptestConfig {
        ProptestConfig { rng_seed: RngSeed::Fixed(27), ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn round_trip(key: Key, tuple in tuples(), isn: u32, terms in terms(), odd: bool) {
            let parity = if odd { Parity::Odd } else { Parity::Even };
            let (seq, kept) = make(&key, parity, &tuple, isn, terms);
            prop_assert_eq!(layout::parity(seq), parity);
            prop_assert_eq!(open(&key, &tuple, isn, seq), Some(kept));
            prop_assert!(is_within(kept, terms), "{:?} of {:?}", kept, terms);
            prop_assert!(!kept.ecn);
        }

        #[test]
        fn one_changed_bit_fails(
            key: Key, tuple in tuples(), isn: u32, terms in terms(), bit in 0..32_u32,
        ) {
            let (seq, _) = make(&key, Parity::Even, &tuple, isn, terms);
            // The parity chooses the key, which is not the MAC's business.
            if bit < 31 {
                prop_assert_eq!(open(&key, &tuple, isn, seq ^ 1 << bit), None);
            }
            prop_assert_eq!(open(&key, &tuple, isn ^ 1 << bit, seq), None);
            let other = Tuple { dport: tuple.dport ^ 1 << (bit % 16), ..tuple };
            prop_assert_eq!(open(&key, &other, isn, seq), None);
            let mut other = key;
            other[usize::try_from(bit / 2).unwrap()] ^= 1 << (bit % 8);
            prop_assert_eq!(open(&other, &tuple, isn, seq), None);
        }
    }

    /// The odds that the head of this file states, counted: of the numbers of one parity, a key
    /// accepts one per code.
    #[test]
    fn sixteen_numbers_of_each_parity_open() {
        let tuple = Tuple { src: V4, dst: V4, sport: 40_000, dport: 443 };
        let accepted: Vec<u32> =
            (0..1 << CODE_BITS).map(|code| tag(&[3; 16], &tuple, 7, code) << 4 | code).collect();
        assert_eq!(accepted.len(), 16);
        for seq in accepted {
            assert!(open(&[3; 16], &tuple, 7, seq).is_some());
            assert!(open(&[3; 16], &tuple, 7, seq | 1 << 31).is_some());
            let near =
                (1..1 << 12).filter(|bits| open(&[3; 16], &tuple, 7, seq ^ bits << 4).is_some());
            assert_eq!(near.count(), 0);
        }
    }
}
