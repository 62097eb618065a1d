//! What a flood is aimed at.

use core::fmt;
use core::net::IpAddr;

use pfapi::addr::Af;

use crate::addr::Addr;
use crate::siphash::{sip13, words};

/// The destination of connections, as their clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Family.
    pub af: Af,
    /// Address.
    pub addr: Addr,
    /// Port; `None` is all ports of the address.
    pub port: Option<u16>,
}

impl Destination {
    /// A port of an address.
    pub const fn new(af: Af, addr: Addr, port: u16) -> Self {
        Self { af, addr, port: Some(port) }
    }

    /// All ports of its address.
    pub const fn whole_address(self) -> Self {
        Self { port: None, ..self }
    }

    /// The address.
    pub fn ip(self) -> IpAddr {
        self.addr.to_ip(self.af)
    }
}

/// As rules write it: `192.0.2.1 port 80`, or the address alone.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ip())?;
        match self.port {
            Some(port) => write!(f, " port {port}"),
            None => Ok(()),
        }
    }
}

/// Hashes of a destination: of the port and of the whole address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// Of the address with its port.
    pub port: u64,
    /// Of the address.
    pub address: u64,
}

/// Secret that keeps attackers from choosing destinations with equal hashes.
#[derive(Clone, Copy, Debug, Default)]
pub struct DestinationSecret(pub [u8; 16]);

impl DestinationSecret {
    /// SipHash-1-3 of the address; the port is mixed in, as nobody sees the hash it is mixed with.
    pub fn hashes(&self, af: Af, addr: Addr, port: u16) -> Hashes {
        let address = match af {
            Af::Inet => sip13(&self.0, &[], words(addr.0)[0] & u64::from(u32::MAX), 4),
            Af::Inet6 => sip13(&self.0, &words(addr.0), 0, 16),
        };
        Hashes { port: mixed(address, port), address }
    }
}

/// The finalizer of SplitMix64 over the sum of both: every bit of it depends on all of them.
const fn mixed(hash: u64, port: u16) -> u64 {
    let mut word = hash.wrapping_add((port as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syncookie::sketch::Sketch;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn ports_and_addresses_have_hashes_of_their_own() {
        let secret = DestinationSecret([3; 16]);
        let addr = Addr::from_ipv4([192, 0, 2, 1]);
        let mut seen: Vec<u64> =
            (0..=u16::MAX).map(|port| secret.hashes(Af::Inet, addr, port).port).collect();
        seen.push(secret.hashes(Af::Inet, addr, 0).address);
        seen.push(secret.hashes(Af::Inet6, addr, 0).address);
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
        let destination = Destination::new(Af::Inet, addr, 80);
        assert_eq!(destination.to_string(), "192.0.2.1 port 80");
        assert_eq!(destination.whole_address().to_string(), "192.0.2.1");
    }

    #[test]
    fn many_destinations_do_not_fill_the_bucket_of_another() {
        let (secret, sketch) = (DestinationSecret([9; 16]), Sketch::default());
        let hash =
            |number: u32| secret.hashes(Af::Inet, Addr::from_ipv4(number.to_be_bytes()), 443).port;
        // As many half-open connections as the global mark allows by default, each elsewhere.
        (0..25_000).for_each(|number| sketch.add(hash(number)));
        let most = (25_000..35_000).map(|number| sketch.count(hash(number))).max();
        assert!(most < Some(40), "{most:?}");
    }

    proptest! {
        /// A count is never below the truth, and exact when all others are gone.
        #[test]
        fn counts_are_never_too_low(
            steps in prop::collection::vec((0..40_u16, prop::bool::weighted(0.6)), 0..400),
        ) {
            let (secret, sketch) = (DestinationSecret([1; 16]), Sketch::default());
            let hash = |port| secret.hashes(Af::Inet, Addr::from_ipv4([192, 0, 2, 1]), port).port;
            let mut truth: BTreeMap<u16, u32> = BTreeMap::new();
            for (port, adds) in steps {
                let open = truth.entry(port).or_default();
                if adds {
                    sketch.add(hash(port));
                    *open += 1;
                } else if *open > 0 {
                    sketch.remove(hash(port));
                    *open -= 1;
                }
                for (&port, &open) in &truth {
                    prop_assert!(sketch.count(hash(port)) >= open);
                }
            }
            for (&port, &open) in &truth {
                (0..open).for_each(|_| sketch.remove(hash(port)));
            }
            for port in 0..40 {
                prop_assert_eq!(sketch.count(hash(port)), 0);
            }
        }
    }
}
