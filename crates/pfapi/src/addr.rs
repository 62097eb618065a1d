//! Address families, prefixes and ranges.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Address family of a packet or rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Af {
    /// IPv4; `inet` in pf.conf(5).
    Inet,
    /// IPv6; `inet6` in pf.conf(5).
    Inet6,
}

impl Af {
    /// Family of an address.
    #[must_use]
    pub const fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::Inet,
            IpAddr::V6(_) => Self::Inet6,
        }
    }

    /// Length of an address of this family in bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Inet => 32,
            Self::Inet6 => 128,
        }
    }
}

impl fmt::Display for Af {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Inet6 => "inet6",
        })
    }
}

/// Text that is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// The part before the slash is no address.
    #[error("{0:?} is not an IPv4 or IPv6 address")]
    Address(String),
    /// The part behind the slash is no number, or too large for the family.
    #[error("prefix length {length:?} is not a number from 0 to {max}")]
    Length {
        /// What was written behind the slash.
        length: String,
        /// Bits of the family.
        max: u8,
    },
}

/// An address with a prefix length; bits behind the prefix are zero by construction.
///
/// ```
/// use pfapi::addr::Prefix;
///
/// let net: Prefix = "192.0.2.0/24".parse().unwrap();
/// assert!(net.contains("192.0.2.7".parse().unwrap()));
/// assert!(!net.contains("2001:db8::1".parse().unwrap()));
/// assert_eq!(net.to_string(), "192.0.2.0/24");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

impl Prefix {
    /// Masks the host bits off; `len` is cut to the bits of the family.
    #[must_use]
    pub fn new(addr: IpAddr, len: u8) -> Self {
        let len = len.min(Af::of(addr).bits());
        Self { addr: mask(addr, len), len }
    }

    /// The prefix that holds one address.
    #[must_use]
    pub const fn host(addr: IpAddr) -> Self {
        Self { addr, len: Af::of(addr).bits() }
    }

    /// The first address, all host bits zero.
    #[must_use]
    pub const fn addr(self) -> IpAddr {
        self.addr
    }

    /// Prefix length in bits.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a prefix has a length in bits, not items")]
    pub const fn len(self) -> u8 {
        self.len
    }

    /// Family of the address.
    #[must_use]
    pub const fn af(self) -> Af {
        Af::of(self.addr)
    }

    /// Whether the prefix is a single address.
    #[must_use]
    pub const fn is_host(self) -> bool {
        self.len == self.af().bits()
    }

    /// Whether `addr` lies in the prefix; never across families.
    #[must_use]
    pub fn contains(self, addr: IpAddr) -> bool {
        Af::of(addr) == self.af() && mask(addr, self.len) == self.addr
    }
}

/// `addr` with all bits behind the first `len` cleared.
fn mask(addr: IpAddr, len: u8) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(len.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & keep))
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & keep))
        }
    }
}

/// As pf prints it: without `/len` for a single address.
impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_host() {
            write!(f, "{}", self.addr)
        } else {
            write!(f, "{}/{}", self.addr, self.len)
        }
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (addr, len) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let addr: IpAddr = addr.parse().map_err(|_| PrefixError::Address(addr.to_owned()))?;
        let max = Af::of(addr).bits();
        let Some(len) = len else { return Ok(Self::host(addr)) };
        match len.parse::<u8>() {
            Ok(bits) if bits <= max => Ok(Self::new(addr, bits)),
            _ => Err(PrefixError::Length { length: len.to_owned(), max }),
        }
    }
}

impl TryFrom<String> for Prefix {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Self, PrefixError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_masked_off() {
        let prefix: Prefix = "192.0.2.77/24".parse().unwrap();
        assert_eq!(prefix.to_string(), "192.0.2.0/24");
        assert!(prefix.contains("192.0.2.1".parse().unwrap()));
        assert!(!prefix.contains("192.0.3.1".parse().unwrap()));
        assert!(!prefix.contains("::ffff:192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn zero_length_holds_the_whole_family() {
        let all: Prefix = "::/0".parse().unwrap();
        assert!(all.contains("2001:db8::1".parse().unwrap()));
        assert!(!all.contains("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn wrong_text_names_what_is_wrong() {
        assert_eq!(
            "192.0.2.1/33".parse::<Prefix>().unwrap_err().to_string(),
            "prefix length \"33\" is not a number from 0 to 32"
        );
        assert!(matches!("example".parse::<Prefix>(), Err(PrefixError::Address(_))));
    }
}
