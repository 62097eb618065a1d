//! Longest-prefix routing as a search in sorted ranges.
//!
//! Prefixes nest, so the table cuts the address space at their ends once, when it is made, and
//! remembers for every piece the longest prefix that covers it. A look-up is one binary search
//! over an array without pointers.

use core::net::IpAddr;

use pfapi::addr::{Af, Prefix};
use pfapi::units::IfIndex;
use pfengine::Way;

/// Where packets for an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Out by this interface.
    Link(IfIndex),
    /// To this router itself: an address of this interface.
    Local(IfIndex),
    /// To all hosts of a network; never forwarded (RFC 2644).
    Broadcast,
    /// To a multicast group; never forwarded, this is no multicast router.
    Multicast,
    /// Nowhere: loopback, unspecified, reserved and link-local addresses.
    Martian,
    /// There is no route.
    Unreachable,
}

/// A routing table; made once, then only read.
#[derive(Clone, Debug)]
pub struct Table {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl Table {
    /// A table of these routes. Of two routes to the same prefix the later one counts.
    pub fn new(routes: impl IntoIterator<Item = (Prefix, Target)>) -> Self {
        let (v4, v6): (Vec<_>, Vec<_>) =
            routes.into_iter().partition(|(prefix, _)| prefix.af() == Af::Inet);
        // Pieces of IPv4 start below 2^32: nothing is cut off here.
        let narrow = |bits: u128| u32::try_from(bits).unwrap_or(u32::MAX);
        let v4 = flatten(v4, u128::from(u32::MAX));
        Self {
            v4: Ranges {
                starts: v4.iter().map(|&(start, _)| narrow(start)).collect(),
                targets: v4.iter().map(|&(_, target)| target).collect(),
            },
            v6: flatten(v6, u128::MAX).into_iter().collect(),
        }
    }

    /// Where packets for `addr` go.
    #[must_use]
    pub fn lookup(&self, addr: IpAddr) -> Target {
        match addr {
            IpAddr::V4(v4) => self.v4.lookup(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.lookup(v6.to_bits()),
        }
    }
}

impl pfengine::Routes for Table {
    fn way_to(&self, addr: IpAddr) -> Way {
        match self.lookup(addr) {
            Target::Link(interface) => Way::Interface(interface),
            Target::Local(_) => Way::Here,
            Target::Broadcast | Target::Multicast | Target::Martian | Target::Unreachable => {
                Way::None
            }
        }
    }

    /// As in OpenBSD the route to an own address carries the address's interface, so that
    /// `urpf-failed` lets the router's own answers out there. Source: OpenBSD sys/net/pf.c
    /// `pf_routable`, sys/net/route.c `rt_ifa_addlocal`.
    fn way_back(&self, addr: IpAddr) -> Way {
        match self.lookup(addr) {
            Target::Local(interface) => Way::Interface(interface),
            _ => self.way_to(addr),
        }
    }
}

/// Pieces of an address space; piece `i` reaches from `starts[i]` to the next start.
///
/// Invariant: `starts` rises strictly and begins with 0.
#[derive(Clone, Debug)]
struct Ranges<K> {
    starts: Box<[K]>,
    targets: Box<[Target]>,
}

impl<K: Copy + Ord> Ranges<K> {
    fn lookup(&self, key: K) -> Target {
        self.targets[self.starts.partition_point(|&start| start <= key) - 1]
    }
}

impl FromIterator<(u128, Target)> for Ranges<u128> {
    fn from_iter<I: IntoIterator<Item = (u128, Target)>>(pieces: I) -> Self {
        let (starts, targets): (Vec<_>, Vec<_>) = pieces.into_iter().unzip();
        Self { starts: starts.into(), targets: targets.into() }
    }
}

/// Cuts the space 0 to `max` at the ends of all prefixes.
fn flatten(mut routes: Vec<(Prefix, Target)>, max: u128) -> Vec<(u128, Target)> {
    // Outer prefixes come before those inside them; equal ones keep their order.
    routes.sort_by_key(|&(prefix, _)| (first(prefix), prefix.len()));
    let mut pieces = vec![(0, Target::Unreachable)];
    // Prefixes that are open at the point reached, outermost first: last address and target.
    let mut open: Vec<(u128, Target)> = Vec::new();
    for (prefix, target) in routes {
        close(&mut open, &mut pieces, Some(first(prefix)), max);
        cut(&mut pieces, first(prefix), target);
        open.push((last(prefix), target));
    }
    close(&mut open, &mut pieces, None, max);
    pieces
}

/// Ends the open prefixes that lie before `next`; `None` ends all.
fn close(
    open: &mut Vec<(u128, Target)>,
    pieces: &mut Vec<(u128, Target)>,
    next: Option<u128>,
    max: u128,
) {
    while let Some(&(end, _)) = open.last() {
        if next.is_some_and(|next| end >= next) {
            return;
        }
        open.pop();
        if end < max {
            let outer = open.last().map_or(Target::Unreachable, |&(_, target)| target);
            cut(pieces, end + 1, outer);
        }
    }
}

fn cut(pieces: &mut Vec<(u128, Target)>, start: u128, target: Target) {
    pieces.pop_if(|&mut (at, _)| at == start);
    if pieces.last().is_none_or(|&(_, before)| before != target) {
        pieces.push((start, target));
    }
}

fn first(prefix: Prefix) -> u128 {
    match prefix.addr() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn last(prefix: Prefix) -> u128 {
    let host_bits = prefix.af().bits() - prefix.len();
    first(prefix) | u128::MAX.checked_shr(128 - u32::from(host_bits)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(routes: &[(Prefix, Target)], addr: IpAddr) -> Target {
        let mut best: Option<(Prefix, Target)> = None;
        for &(prefix, target) in routes {
            if prefix.contains(addr) && best.is_none_or(|(old, _)| prefix.len() >= old.len()) {
                best = Some((prefix, target));
            }
        }
        best.map_or(Target::Unreachable, |(_, target)| target)
    }

    /// Addresses of a small corner, so that prefixes nest and meet often.
    fn addr() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u8>().prop_map(|low| IpAddr::from([10, 0, 0, low])),
            any::<u8>().prop_map(|low| IpAddr::from([255, 255, 255, low])),
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<u8>().prop_map(|low| IpAddr::from(u128::from(low).to_be_bytes())),
            any::<u8>().prop_map(|low| IpAddr::from((u128::MAX - u128::from(low)).to_be_bytes())),
        ]
    }

    fn route() -> impl Strategy<Value = (Prefix, Target)> {
        (addr(), 0..=128_u8, 0..4_u16)
            .prop_map(|(addr, len, link)| (Prefix::new(addr, len), Target::Link(IfIndex(link))))
    }

    proptest! {
        #[test]
        fn agrees_with_naive_search(
            routes in prop::collection::vec(route(), 0..40),
            addrs in prop::collection::vec(addr(), 1..40),
        ) {
            let table = Table::new(routes.clone());
            let ends = routes.iter().map(|(prefix, _)| prefix.addr());
            for addr in addrs.iter().copied().chain(ends) {
                prop_assert_eq!(table.lookup(addr), naive(&routes, addr), "{}", addr);
            }
        }
    }

    #[test]
    fn longest_prefix_wins() {
        let link = |index| Target::Link(IfIndex(index));
        let table = Table::new([
            ("10.0.0.0/8".parse().unwrap(), link(1)),
            ("0.0.0.0/0".parse().unwrap(), link(0)),
            ("10.1.0.0/16".parse().unwrap(), link(2)),
            ("10.1.2.3".parse().unwrap(), Target::Local(IfIndex(3))),
        ]);
        for (addr, want) in [
            ("192.0.2.1", link(0)),
            ("10.0.0.0", link(1)),
            ("10.1.2.2", link(2)),
            ("10.1.2.3", Target::Local(IfIndex(3))),
            ("10.1.2.4", link(2)),
            ("10.2.0.0", link(1)),
            ("255.255.255.255", link(0)),
            ("2001:db8::1", Target::Unreachable),
        ] {
            assert_eq!(table.lookup(addr.parse().unwrap()), want, "{addr}");
        }
    }
}
