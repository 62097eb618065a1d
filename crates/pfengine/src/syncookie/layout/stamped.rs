//! Cookies for clients that offer timestamps: every option is remembered.
//!
//! ```text
//! sequence number     bit 31       30                            0
//!                        +--------+-------------------------------+
//!                        | parity |         MAC, 31 bits          |
//!                        +--------+-------------------------------+
//! timestamp value     bit 31            16 15   12 11    8  7  6  5    0
//!                        +----------------+-------+-------+--+--+-------+
//!                        |  MAC, 16 bits  | client| own   |S |E |  MSS  |
//!                        +----------------+-------+-------+--+--+-------+
//! ```
//!
//! The client sends the timestamp back in its ACK. Its low half says what was agreed on: the
//! client's shift (15: none), the announced shift, SACK, ECN, and one of 64 segment sizes. There is
//! no clock in it, so the cookie of a repeated SYN is the same while its key is; the translated
//! timestamps of the server go on from it.
//!
//! # Security
//! A key accepts one of 2^31 sequence numbers for each stamp, and for a given sequence number and
//! options one of 2^16 stamps: a blind guess of both succeeds with 2^-47. Who has seen the stamp of
//! this very connection still has 2^-31. There are two keys at a time and the parity names one, so
//! a second key does not double the odds.

use super::super::cookie::{Key, Parity, Tuple};
use super::{Shifts, Terms, mac};
use crate::fault::{self, Fault};
use crate::wire::tcp_options::WSCALE_MAX;

/// Keeps this layout's MACs apart from others'.
const MARK: u8 = b'T';
/// Stands for "not offered" in place of a shift.
const NO_SHIFT: u16 = 15;
const MAC_LOW: u32 = 0x7fff_ffff;

/// Segment sizes that a cookie can remember: those that common links and tunnels give, and steps
/// of at most 20 octets between 1200 and 1460.
pub const MSS_TABLE: [u16; 64] = [
    64, 88, 216, 256, 384, 512, 536, 640, 768, 896, 1024, 1120, 1160, 1180, 1200, 1208, 1220, 1232,
    1240, 1252, 1260, 1272, 1280, 1292, 1300, 1312, 1320, 1332, 1340, 1348, 1352, 1360, 1368, 1372,
    1380, 1388, 1392, 1400, 1404, 1408, 1412, 1416, 1420, 1424, 1428, 1432, 1440, 1448, 1452, 1460,
    1480, 1800, 2008, 4016, 4312, 7960, 8152, 8860, 8920, 8940, 8960, 16344, 32000, 65475,
];

/// A cookie: what a SYN|ACK carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// Its sequence number.
    pub seq: u32,
    /// Its timestamp value.
    pub stamp: u32,
}

/// The terms as a cookie remembers them: the MSS rounded down.
pub fn rounded(terms: Terms) -> Terms {
    Terms { mss: MSS_TABLE[usize::from(mss_index(terms.mss))], ..terms }
}

/// Position of the largest size that is not above `mss`; 0 when all are.
fn mss_index(mss: u16) -> u16 {
    let above = MSS_TABLE.partition_point(|&size| size <= mss);
    u16::try_from(above.saturating_sub(1)).unwrap_or(0)
}

fn pack(terms: Terms) -> u16 {
    let (client, announced) = match terms.shifts {
        None => (NO_SHIFT, 0),
        Some(Shifts { client, announced }) => {
            (u16::from(client.min(WSCALE_MAX)), u16::from(announced.min(WSCALE_MAX)))
        }
    };
    client << 12
        | announced << 8
        | u16::from(terms.sack) << 7
        | u16::from(terms.ecn) << 6
        | mss_index(terms.mss)
}

fn unpack(word: u16) -> Terms {
    let [high, low] = word.to_be_bytes();
    let announced = (high & 15).min(WSCALE_MAX);
    let shifts = (high >> 4 <= WSCALE_MAX).then_some(Shifts { client: high >> 4, announced });
    let (sack, ecn) = (low & 0x80 != 0, low & 0x40 != 0);
    Terms { mss: MSS_TABLE[usize::from(low & 63)], shifts, sack, ecn }
}

/// The cookie for a SYN with the initial sequence number `isn`; `key` is the one of `parity`.
#[must_use]
pub fn make(key: &Key, parity: Parity, tuple: &Tuple, isn: u32, terms: Terms) -> Stamped {
    let word = pack(terms);
    let [seq, stamp] = halves(mac(key, MARK, tuple, isn, word));
    let parity = u32::from(parity == Parity::Odd);
    Stamped { seq: parity << 31 | seq & MAC_LOW, stamp: stamp << 16 | u32::from(word) }
}

/// What a cookie says, when `key` made it for this connection.
#[must_use]
pub fn open(key: &Key, tuple: &Tuple, isn: u32, cookie: Stamped) -> Option<Terms> {
    let Stamped { seq, stamp } = cookie;
    #[expect(clippy::cast_possible_truncation, reason = "the low half")]
    let word = stamp as u16;
    let [mac_seq, mac_stamp] = halves(mac(key, MARK, tuple, isn, word));
    // All bits in one comparison: how long it takes tells nothing.
    let wrong = (mac_seq ^ seq) & MAC_LOW | (mac_stamp << 16 ^ stamp) >> 16;
    (wrong == 0 || fault::is(Fault::AnyCookie)).then(|| unpack(word))
}

/// The low and the high half.
const fn halves(word: u64) -> [u32; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "two halves")]
    let halves = [word as u32, (word >> 32) as u32];
    halves
}

#[cfg(test)]
mod tests {
    use super::super::tests::{is_within, terms, tuples};
    use super::*;
    use crate::syncookie::layout;
    use proptest::prelude::*;

    #[test]
    fn sizes_ascend_and_lie_close_where_links_are() {
        assert!(MSS_TABLE.is_sorted_by(|a, b| a < b));
        let dense = MSS_TABLE.iter().filter(|size| (1200..=1460).contains(*size));
        let gaps = dense.clone().zip(dense.skip(1)).map(|(low, high)| high - low);
        assert!(gaps.clone().count() > 30 && gaps.clone().all(|gap| gap <= 20), "{gaps:?}");
        for exact in [536, 1220, 1300, 1340, 1360, 1380, 1400, 1412, 1420, 1432, 1440, 1452, 1460] {
            assert!(MSS_TABLE.contains(&exact), "{exact}");
        }
    }

    #[test]
    fn what_lies_below_the_table_counts_as_its_first_size() {
        assert_eq!(MSS_TABLE[usize::from(mss_index(0))], 64);
        assert_eq!(MSS_TABLE[usize::from(mss_index(u16::MAX))], 65475);
        assert_eq!(MSS_TABLE[usize::from(mss_index(1459))], 1452);
    }

    #[test]
    fn every_word_of_the_stamp_can_be_read() {
        for word in 0..=u16::MAX {
            let terms = unpack(word);
            assert_eq!(unpack(pack(terms)), terms, "{word:04x}");
            assert_eq!(rounded(terms), terms);
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            key: Key, tuple in tuples(), isn: u32, terms in terms(), odd: bool,
        ) {
            let parity = if odd { Parity::Odd } else { Parity::Even };
            let cookie = make(&key, parity, &tuple, isn, terms);
            prop_assert_eq!(layout::parity(cookie.seq), parity);
            let kept = open(&key, &tuple, isn, cookie);
            prop_assert_eq!(kept, Some(rounded(terms)));
            prop_assert!(is_within(rounded(terms), terms));
            prop_assert_eq!(rounded(terms).shifts, terms.shifts);
            prop_assert_eq!((rounded(terms).sack, rounded(terms).ecn), (terms.sack, terms.ecn));
        }

        #[test]
        fn one_changed_bit_fails(
            key: Key, tuple in tuples(), isn: u32, terms in terms(), bit in 0..32_u32,
        ) {
            let cookie = make(&key, Parity::Even, &tuple, isn, terms);
            let Stamped { seq, stamp } = cookie;
            // The parity chooses the key, which is not the MAC's business.
            if bit < 31 {
                let forged = Stamped { seq: seq ^ 1 << bit, stamp };
                prop_assert_eq!(open(&key, &tuple, isn, forged), None);
            }
            let forged = Stamped { seq, stamp: stamp ^ 1 << bit };
            prop_assert_eq!(open(&key, &tuple, isn, forged), None);
            prop_assert_eq!(open(&key, &tuple, isn ^ 1 << bit, cookie), None);
            let other = Tuple { sport: tuple.sport ^ 1 << (bit % 16), ..tuple };
            prop_assert_eq!(open(&key, &other, isn, cookie), None);
            let mut other = key;
            other[usize::try_from(bit / 2).unwrap()] ^= 1 << (bit % 8);
            prop_assert_eq!(open(&other, &tuple, isn, cookie), None);
        }
    }

    /// The odds that the head of this file states, counted: of all sequence numbers with one
    /// stamp, exactly one of each parity opens.
    #[test]
    fn one_sequence_number_of_each_parity_opens() {
        let tuple = Tuple {
            src: [192, 0, 2, 1].into(),
            dst: [198, 51, 100, 1].into(),
            sport: 40_000,
            dport: 443,
        };
        let terms = Terms { mss: 1460, shifts: None, sack: true, ecn: false };
        let cookie = make(&[3; 16], Parity::Odd, &tuple, 7, terms);
        let opens = |seq: u32| open(&[3; 16], &tuple, 7, Stamped { seq, ..cookie }).is_some();
        let near = (0..1 << 16).map(|low| cookie.seq & 0xffff_0000 | low);
        let far = (0..1 << 16).map(|high| cookie.seq & 0xffff | high << 16);
        assert_eq!(near.filter(|&seq| opens(seq)).collect::<Vec<_>>(), [cookie.seq]);
        assert_eq!(far.filter(|&seq| opens(seq)).count(), 2, "its own parity and the other");
        let stamps = (0..1 << 16).map(|high| cookie.stamp & 0xffff | high << 16);
        let opens = |stamp: u32| open(&[3; 16], &tuple, 7, Stamped { stamp, ..cookie }).is_some();
        assert_eq!(stamps.filter(|&stamp| opens(stamp)).count(), 1);
    }
}
