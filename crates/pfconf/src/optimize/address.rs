//! Addresses of rules in the form in which the optimizer compares them.

use core::net::IpAddr;

use pfapi::addr::Af;
use pfapi::ruleset::{AddrMatch, DynamicPart};

/// An address of a rule. Networks are compared as bits from the left, whatever their family: the
/// family is a field of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Addr<'r> {
    /// A network; `any` is the one of length zero.
    Net { bits: u128, len: u8 },
    /// First and last address.
    Range(u128, u128),
    /// Name of a table.
    Table(&'r str),
    /// `(interface)` with its modifiers and its prefix length.
    Dynamic { interface: &'r str, part: DynamicPart, no_aliases: bool, len: u8 },
    /// `no-route`
    NoRoute,
    /// `urpf-failed`
    UrpfFailed,
    /// Label of a route.
    RouteLabel(&'r str),
}

impl<'r> Addr<'r> {
    /// Every address.
    pub(super) const ANY: Self = Self::Net { bits: 0, len: 0 };

    pub(super) fn of(addr: &'r AddrMatch, af: Option<Af>) -> Self {
        match addr {
            AddrMatch::Any => Self::ANY,
            AddrMatch::Net(prefix) => Self::Net { bits: bits(prefix.addr()), len: prefix.len() },
            AddrMatch::Range(first, last) => Self::Range(bits(*first), bits(*last)),
            AddrMatch::Table(name) => Self::Table(name),
            AddrMatch::Dynamic(dynamic) => Self::Dynamic {
                interface: &dynamic.interface,
                part: dynamic.part,
                no_aliases: dynamic.no_aliases,
                len: dynamic
                    .prefix_len
                    .unwrap_or(Af::Inet6.bits())
                    .min(af.map_or(Af::Inet6.bits(), Af::bits)),
            },
            AddrMatch::NoRoute => Self::NoRoute,
            AddrMatch::UrpfFailed => Self::UrpfFailed,
            AddrMatch::RouteLabel(label) => Self::RouteLabel(label),
        }
    }

    /// The network of this length that holds this one; `None` for what is no network, or larger.
    pub(super) fn widened(self, to: u8) -> Option<Self> {
        match self {
            Self::Net { bits, len } if len >= to => {
                let mask = u128::MAX.checked_shl(128 - u32::from(to)).unwrap_or(0);
                Some(Self::Net { bits: bits & mask, len: to })
            }
            _ => None,
        }
    }

    pub(super) const fn is_net(self) -> bool {
        matches!(self, Self::Net { .. })
    }
}

/// The octets of an address from the left; those that IPv4 lacks are zero.
fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u128::from(addr.to_bits()) << 96,
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> AddrMatch {
        AddrMatch::Net(text.parse().unwrap())
    }

    #[test]
    fn networks_widen_to_what_holds_them() {
        let wide = net("192.0.2.0/24");
        let narrow = net("192.0.2.128/25");
        let (wide, narrow) = (Addr::of(&wide, None), Addr::of(&narrow, None));
        assert_eq!(narrow.widened(24), Some(wide));
        assert_eq!(narrow.widened(25), Some(narrow));
        assert_eq!(wide.widened(25), None);
        assert_eq!(wide.widened(0), Some(Addr::ANY));
        assert_eq!(Addr::Table("t").widened(0), None);
        let host = net("2001:db8::1/128");
        assert_eq!(Addr::of(&host, None).widened(128), Some(Addr::of(&host, None)));
    }
}
