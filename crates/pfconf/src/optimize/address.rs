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
            AddrMatch::Range(ends) => Self::Range(bits(ends.0), bits(ends.1)),
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
}

/// The octets of an address from the left; those that IPv4 lacks are zero.
fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u128::from(addr.to_bits()) << 96,
        IpAddr::V6(addr) => addr.to_bits(),
    }
}
