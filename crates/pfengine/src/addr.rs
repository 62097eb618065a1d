//! Addresses as the engine compares them: 128 bits for both families.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pfapi::addr::{Af, Prefix};

/// An address without its family: IPv4 in the low 32 bits.
///
/// The family always stands beside it (in the packet, key or rule), so two words compare faster
/// than an enum and keys of both families have one layout. Aligned to eight octets, so that a state
/// key has no gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(Rust, packed(8))]
pub struct Addr(pub u128);

impl Addr {
    pub fn from_ipv4(octets: [u8; 4]) -> Self {
        Self(u128::from(u32::from_be_bytes(octets)))
    }

    pub const fn from_ipv6(octets: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(octets))
    }

    pub fn to_ip(self, af: Af) -> IpAddr {
        match af {
            Af::Inet => {
                let low = u32::try_from(self.0 & u128::from(u32::MAX)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(low))
            }
            Af::Inet6 => IpAddr::V6(Ipv6Addr::from_bits(self.0)),
        }
    }
}

impl From<IpAddr> for Addr {
    fn from(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(v4) => Self(u128::from(v4.to_bits())),
            IpAddr::V6(v6) => Self(v6.to_bits()),
        }
    }
}

/// A prefix as a masked compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masked {
    af: Af,
    addr: u128,
    mask: u128,
}

impl Masked {
    pub fn contains(&self, af: Af, addr: Addr) -> bool {
        self.af == af && addr.0 & self.mask == self.addr
    }
}

impl Masked {
    /// First and last address, when it is of this family.
    pub fn span(&self, af: Af) -> Option<(u128, u128)> {
        let all = u128::MAX >> (128 - u32::from(af.bits()));
        (self.af == af).then_some((self.addr, self.addr | all & !self.mask))
    }
}

impl From<Prefix> for Masked {
    fn from(prefix: Prefix) -> Self {
        let bits = u32::from(prefix.af().bits());
        let all = u128::MAX >> (128 - bits);
        let host = bits - u32::from(prefix.len());
        let mask = all & u128::MAX.checked_shl(host).unwrap_or(0);
        Self { af: prefix.af(), addr: Addr::from(prefix.addr()).0, mask }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_compare_equals_prefix_contains() {
        for (prefix, addr) in [
            ("0.0.0.0/0", "203.0.113.9"),
            ("192.0.2.0/25", "192.0.2.127"),
            ("192.0.2.0/25", "192.0.2.128"),
            ("192.0.2.1", "192.0.2.1"),
            ("::/0", "2001:db8::1"),
            ("2001:db8::/33", "2001:db8:8000::1"),
            ("2001:db8::/33", "2001:db8:7fff::1"),
            ("::/0", "192.0.2.1"),
        ] {
            let prefix: Prefix = prefix.parse().unwrap();
            let addr: IpAddr = addr.parse().unwrap();
            let masked = Masked::from(prefix);
            assert_eq!(
                masked.contains(Af::of(addr), Addr::from(addr)),
                prefix.contains(addr),
                "{prefix} {addr}"
            );
            assert_eq!(Addr::from(addr).to_ip(Af::of(addr)), addr);
        }
    }
}
