//! What a cookie carries: the terms of a connection, and two ways to write them.
//!
//! * [`stamped`]: for clients that offer timestamps. The terms stand in the timestamp of the
//!   SYN|ACK, which the client sends back in its ACK.
//! * [`plain`]: for the others. One of sixteen sets of terms stands in the sequence number.
//!
//! Both are pure functions of a key, the connection and the terms. pf's own layout, which `classic`
//! keeps, is in [`super::cookie`]. Why they are as they are: docs/notes/0010. Source: RFC 4987
//! section 3.6, RFC 7323.

pub mod plain;
pub mod stamped;

use core::net::IpAddr;

use siphasher::sip::SipHasher24;

use super::cookie::{Key, Parity, Tuple};
use crate::wire::tcp_options::{SynOptions, WSCALE_MAX};

/// Shift that the filter announces in the name of a server whose own one it does not know.
///
/// Windows up to 16 MiB in steps of 256 octets.
pub const OWN_SHIFT: u8 = 8;

/// Shifts of both windows of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shifts {
    /// What the client has offered, or less.
    pub client: u8,
    /// What the filter announces in the name of the server.
    pub announced: u8,
}

/// On what terms a client and the filter shake hands: what the client has offered, as far as the
/// SYN|ACK takes it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// MSS of the client, or less.
    pub mss: u16,
    /// Shifts, when windows are scaled.
    pub shifts: Option<Shifts>,
    /// Whether SACK is in use.
    pub sack: bool,
    /// Whether ECN is in use.
    pub ecn: bool,
}

/// What the filter would like to agree on with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The terms, exact.
    pub terms: Terms,
    /// Whether timestamps are to be used.
    pub timestamps: bool,
}

/// MSS of a client that names none, in octets. RFC 9293 section 3.7.1.
pub const fn default_mss(client: IpAddr) -> u16 {
    match client {
        IpAddr::V4(_) => 536,
        IpAddr::V6(_) => 1220,
    }
}

impl Wish {
    /// Everything that the options of a SYN offer; ECN is in its flags.
    pub fn everything(client: IpAddr, offered: &SynOptions) -> Self {
        let shifts = offered
            .wscale
            .map(|client| Shifts { client: client.min(WSCALE_MAX), announced: OWN_SHIFT });
        let mss = offered.mss.unwrap_or_else(|| default_mss(client));
        let terms = Terms { mss, shifts, sack: offered.sack_permitted, ecn: false };
        Self { terms, timestamps: offered.timestamps.is_some() }
    }
}

/// What a SYN|ACK carries, and what will be known of its SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Its sequence number.
    pub seq: u32,
    /// Its timestamp value, when timestamps are in use.
    pub stamp: Option<u32>,
    /// On what terms the client will come back: what the SYN|ACK may announce.
    pub terms: Terms,
}

/// The cookie for a SYN with the initial sequence number `isn`; `key` is the one of `parity`.
#[must_use]
pub fn make(key: &Key, parity: Parity, tuple: &Tuple, isn: u32, wish: &Wish) -> Cookie {
    if wish.timestamps {
        let stamped::Stamped { seq, stamp } = stamped::make(key, parity, tuple, isn, wish.terms);
        Cookie { seq, stamp: Some(stamp), terms: stamped::rounded(wish.terms) }
    } else {
        let (seq, terms) = plain::make(key, parity, tuple, isn, wish.terms);
        Cookie { seq, stamp: None, terms }
    }
}

/// The parity of the key that a cookie of either layout names.
#[must_use]
pub const fn parity(seq: u32) -> Parity {
    if seq >> 31 == 0 { Parity::Even } else { Parity::Odd }
}

/// What a cookie says, when `key` made it for this connection; `stamp` is the timestamp that came
/// back with it.
///
/// # Security
/// Who sends a timestamp is taken at its word, so a blind guess has the odds of the layout that it
/// chooses: 2^-27 without.
#[must_use]
pub fn open(key: &Key, tuple: &Tuple, isn: u32, seq: u32, stamp: Option<u32>) -> Option<Terms> {
    match stamp {
        Some(stamp) => stamped::open(key, tuple, isn, stamped::Stamped { seq, stamp }),
        None => plain::open(key, tuple, isn, seq),
    }
}

/// Longest input of the MAC: a mark, two IPv6 addresses, two ports, a sequence number, a word.
const INPUT_MAX: usize = 1 + 16 + 16 + 2 + 2 + 4 + 2;

/// SipHash-2-4 over a connection and what its cookie says.
///
/// `mark` keeps the layouts apart: no input of one is an input of another, nor of pf's layout
/// under the same key, whose inputs are shorter and begin with an address.
fn mac(key: &Key, mark: u8, tuple: &Tuple, isn: u32, word: u16) -> u64 {
    let mut octets = [0; INPUT_MAX];
    octets[0] = mark;
    let len = match (tuple.src, tuple.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            octets[1..5].copy_from_slice(&src.octets());
            octets[5..9].copy_from_slice(&dst.octets());
            9
        }
        (src, dst) => {
            octets[1..17].copy_from_slice(&v6(src));
            octets[17..33].copy_from_slice(&v6(dst));
            33
        }
    };
    octets[len..len + 2].copy_from_slice(&tuple.sport.to_be_bytes());
    octets[len + 2..len + 4].copy_from_slice(&tuple.dport.to_be_bytes());
    octets[len + 4..len + 8].copy_from_slice(&isn.to_be_bytes());
    octets[len + 8..len + 10].copy_from_slice(&word.to_be_bytes());
    SipHasher24::new_with_key(key).hash(&octets[..len + 10])
}

const fn v6(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        IpAddr::V6(addr) => addr.octets(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn tuples() -> impl Strategy<Value = Tuple> {
        let v4 = any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
        let v6 =
            any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
        (prop_oneof![v4, v6], any::<(u16, u16)>()).prop_map(|((src, dst), (sport, dport))| Tuple {
            src,
            dst,
            sport,
            dport,
        })
    }

    pub fn terms() -> impl Strategy<Value = Terms> {
        let shifts =
            (0..=14_u8, 0..=14_u8).prop_map(|(client, announced)| Shifts { client, announced });
        (any::<u16>(), prop::option::of(shifts), any::<bool>(), any::<bool>())
            .prop_map(|(mss, shifts, sack, ecn)| Terms { mss, shifts, sack, ecn })
    }

    /// Whether a cookie gives nothing that the client has not offered.
    pub fn is_within(kept: Terms, offered: Terms) -> bool {
        let least = kept.mss <= 88;
        (kept.mss <= offered.mss || least)
            && kept.sack <= offered.sack
            && kept.ecn <= offered.ecn
            && match (kept.shifts, offered.shifts) {
                (None, _) => true,
                (Some(kept), Some(offered)) => kept.client <= offered.client,
                (Some(_), None) => false,
            }
    }

    #[test]
    fn a_syn_without_options_offers_the_defaults_of_its_family() {
        for (client, mss) in [("192.0.2.1", 536), ("2001:db8::1", 1220)] {
            let wish = Wish::everything(client.parse().unwrap(), &SynOptions::default());
            let terms = Terms { mss, shifts: None, sack: false, ecn: false };
            assert_eq!(wish, Wish { terms, timestamps: false });
        }
    }

    proptest! {
        /// A different input of any kind gives a different MAC.
        #[test]
        fn every_input_counts(tuple in tuples(), isn: u32, word: u16, bit in 0..16_u32) {
            let key = [9; 16];
            let base = mac(&key, 1, &tuple, isn, word);
            prop_assert_ne!(mac(&key, 2, &tuple, isn, word), base);
            prop_assert_ne!(mac(&key, 1, &tuple, isn ^ 1 << bit, word), base);
            prop_assert_ne!(mac(&key, 1, &tuple, isn, word ^ 1 << bit), base);
            let other = Tuple { sport: tuple.sport ^ 1 << bit, ..tuple };
            prop_assert_ne!(mac(&key, 1, &other, isn, word), base);
            let other = Tuple { dport: tuple.dport ^ 1 << bit, ..tuple };
            prop_assert_ne!(mac(&key, 1, &other, isn, word), base);
            if tuple.src != tuple.dst {
                let other = Tuple { src: tuple.dst, dst: tuple.src, ..tuple };
                prop_assert_ne!(mac(&key, 1, &other, isn, word), base);
            }
        }
    }
}
