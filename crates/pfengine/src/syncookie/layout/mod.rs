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

use super::cookie::{Key, Parity, Tuple};
use crate::siphash::{sip24, words};
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

/// SipHash-2-4 over a connection and what its cookie says.
///
/// `mark` keeps the layouts apart: no input of one is an input of another, nor of pf's layout
/// under the same key, whose inputs are shorter and begin with an address.
fn mac(key: &Key, mark: u8, tuple: &Tuple, isn: u32, word: u16) -> u64 {
    // The message: mark, source, destination, ports, isn, word, each in network order.
    let wire = |number: u32| u128::from(number.swap_bytes());
    let ports = u32::from(tuple.sport) << 16 | u32::from(tuple.dport);
    let tail = u64::from(word.swap_bytes());
    match (tuple.src, tuple.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let isn = wire(isn);
            let first = u128::from(mark)
                | wire(src.to_bits()) << 8
                | wire(dst.to_bits()) << 40
                | wire(ports) << 72
                | isn << 104;
            sip24(key, &words(first), words(isn)[0] >> 24 | tail << 8, 19)
        }
        (src, dst) => {
            let (src, dst) = (v6(src).swap_bytes(), v6(dst).swap_bytes());
            let first = words(u128::from(mark) | src << 8);
            let second = words(src >> 120 | dst << 8);
            let rest = words(dst >> 120 | wire(ports) << 8 | wire(isn) << 40);
            let whole = [first[0], first[1], second[0], second[1], rest[0]];
            sip24(key, &whole, rest[1] | tail << 8, 43)
        }
    }
}

const fn v6(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().to_bits(),
        IpAddr::V6(addr) => addr.to_bits(),
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

    /// The message of the MAC octet by octet.
    fn message(mark: u8, tuple: &Tuple, isn: u32, word: u16) -> Vec<u8> {
        let mut octets = vec![mark];
        for addr in [tuple.src, tuple.dst] {
            match addr {
                IpAddr::V4(addr) => octets.extend(addr.octets()),
                IpAddr::V6(addr) => octets.extend(addr.octets()),
            }
        }
        octets.extend(tuple.sport.to_be_bytes());
        octets.extend(tuple.dport.to_be_bytes());
        octets.extend(isn.to_be_bytes());
        octets.extend(word.to_be_bytes());
        octets
    }

    proptest! {
        /// Firewalls of different versions accept each other's cookies.
        #[test]
        fn the_message_is_in_network_order(
            key: Key, mark: u8, tuple in tuples(), isn: u32, word: u16,
        ) {
            let hasher = siphasher::sip::SipHasher24::new_with_key(&key);
            let hash = hasher.hash(&message(mark, &tuple, isn, word));
            prop_assert_eq!(mac(&key, mark, &tuple, isn, word), hash);
        }

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
