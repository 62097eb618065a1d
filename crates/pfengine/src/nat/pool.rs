//! Choosing an address from a pool.
//!
//! A pool belongs to a loaded rule and remembers where its next choice begins. Source: OpenBSD
//! sys/net/pf_lb.c `pf_map_addr`, `pf_hash`, `pf_rand_addr`; sys/net/pf.c `pf_poolmask`.

use std::sync::{Arc, Mutex, PoisonError};

use core::net::IpAddr;

use arc_swap::ArcSwapOption;
use pfapi::addr::{Af, Prefix};
use pfapi::ruleset::{AddrMatch, PoolKind, PoolPorts, TableEntry};
use pfapi::units::IfIndex;
use siphasher::sip::SipHasher24;

use crate::addr::Addr;
use crate::rng::Rng;
use crate::table::{AddressList, FamilyList, Share, Table};

/// Addresses and ports of a loaded rule to choose from.
#[derive(Debug)]
pub struct Pool {
    addresses: Addresses,
    kind: PoolKind,
    /// Ports, as the rule has them.
    pub ports: Option<PoolPorts>,
    /// `sticky-address`
    pub sticky: bool,
    /// `endpoint-independent`
    pub endpoint_independent: bool,
    /// Interfaces in front of next hops; bound again whenever rules are put in force.
    via: ArcSwapOption<Vec<Via>>,
    /// Where `round-robin` goes on, by family.
    next: Mutex<[Next; 2]>,
}

/// Where a pool takes its addresses from.
#[derive(Debug)]
enum Addresses {
    /// A network, or a single address.
    Net(Prefix),
    /// What a name means; bound again whenever rules are put in force.
    Named(ArcSwapOption<Named>),
    /// Nothing: an address condition that names no address.
    None,
}

/// What a name in a pool means.
#[derive(Debug)]
pub enum Named {
    /// Addresses of interfaces.
    List(AddressList),
    /// A table, as it is when the packet comes.
    Table(Arc<Table>),
}

impl Named {
    /// Networks, in any order.
    pub fn of_prefixes(prefixes: &[Prefix]) -> Self {
        let mut entries: Vec<TableEntry> =
            prefixes.iter().map(|&prefix| TableEntry { prefix, negated: false }).collect();
        entries.sort_unstable();
        entries.dedup();
        Self::List(AddressList::new(&entries, &[], None))
    }

    /// Calls `choose` with the addresses of one family.
    fn with<T>(&self, af: Af, choose: impl FnOnce(&FamilyList) -> Option<T>) -> Option<T> {
        match self {
            Self::List(list) => choose(list.family(af)),
            Self::Table(table) => choose(table.list().as_ref()?.family(af)),
        }
    }
}

/// Where `round-robin` goes on.
#[derive(Clone, Copy, Debug, Default)]
struct Next {
    at: u128,
    /// Entries of a lower weight are left out in this round; 0 before the first.
    weight: u16,
}

/// An address that was chosen.
#[derive(Debug)]
pub struct Choice {
    /// The address.
    pub addr: Addr,
    /// The state's part in the load of the entry, for `least-states`.
    pub share: Option<Share>,
}

impl From<Addr> for Choice {
    fn from(addr: Addr) -> Self {
        Self { addr, share: None }
    }
}

/// Next hops that are reached by an interface whatever the routes say.
#[derive(Clone, Copy, Debug)]
pub struct Via {
    /// The next hops; `None` is every destination.
    pub hops: Option<Prefix>,
    /// The interface; `None` when this machine has none of its name.
    pub interface: Option<IfIndex>,
}

/// A rule names an interface that this machine has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoInterface;

/// What the choice may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Family of the addresses that are wanted.
    pub af: Af,
    /// Source of the packet: what `source-hash` goes by.
    pub source: Addr,
    /// Address that `bitmask` takes the host part from.
    pub host: Addr,
    /// The address that the last choice gave, when no port was free there.
    pub before: Option<Addr>,
}

impl Pool {
    /// A pool whose choice begins with the first address. Names mean nothing before
    /// [`Self::bind`].
    pub fn new(from: &pfapi::ruleset::Pool) -> Self {
        Self {
            addresses: match from.addr {
                _ if !from.more.is_empty() => Addresses::Named(ArcSwapOption::empty()),
                AddrMatch::Net(prefix) => Addresses::Net(prefix),
                AddrMatch::Table(_) | AddrMatch::Dynamic(_) => {
                    Addresses::Named(ArcSwapOption::empty())
                }
                _ => Addresses::None,
            },
            kind: from.kind,
            ports: from.ports,
            sticky: from.sticky,
            endpoint_independent: from.endpoint_independent,
            via: ArcSwapOption::empty(),
            next: Mutex::default(),
        }
    }

    /// Says what the name of the pool means from now on.
    pub fn bind(&self, named: Named) {
        if let Named::Table(table) = &named {
            table.serve_pools();
        }
        if let Addresses::Named(place) = &self.addresses {
            place.store(Some(Arc::new(named)));
        }
    }

    /// Says by which interfaces its next hops are reached from now on.
    pub fn bind_interfaces(&self, via: Vec<Via>) {
        self.via.store((!via.is_empty()).then(|| Arc::new(via)));
    }

    /// The interface by which a next hop of the pool is reached: `None` leaves it to the routes.
    ///
    /// # Errors
    /// [`NoInterface`] when the rule names one that this machine has not.
    pub fn interface_to(&self, hop: IpAddr) -> Result<Option<IfIndex>, NoInterface> {
        let via = self.via.load();
        let mut members = via.iter().flat_map(|members| members.iter());
        let found = members.find(|via| via.hops.is_none_or(|net| net.contains(hop)));
        found.map_or(Ok(None), |via| via.interface.map(Some).ok_or(NoInterface))
    }

    /// Whether the pool names an interface alone: packets go on to their own destination there.
    pub fn is_interface(&self) -> bool {
        self.via.load().as_ref().is_some_and(|via| via.iter().all(|via| via.hops.is_none()))
    }

    /// Whether another choice may give another address.
    pub const fn has_others(&self) -> bool {
        matches!(self.kind, PoolKind::Random | PoolKind::RoundRobin | PoolKind::LeastStates)
    }

    /// Length of the network's prefix in bits; that of a single address for tables and interfaces.
    pub const fn prefix_len(&self, af: Af) -> u8 {
        match self.addresses {
            Addresses::Net(prefix) => prefix.len(),
            Addresses::Named(_) | Addresses::None => af.bits(),
        }
    }

    /// Chooses an address; `None` when there is none of the family.
    pub fn choose(&self, asked: &Asked, rng: &mut Rng) -> Option<Choice> {
        match &self.addresses {
            Addresses::Net(prefix) if prefix.af() == asked.af => {
                Some(self.choose_in_net(*prefix, asked, rng).into())
            }
            Addresses::Named(named) => {
                named.load().as_ref()?.with(asked.af, |list| self.choose_in_list(list, asked, rng))
            }
            Addresses::Net(_) | Addresses::None => None,
        }
    }

    /// An address that the next choice may give, without making it: the one of `bitmask` and
    /// `source-hash`, else the first.
    pub fn foresee(&self, asked: &Asked) -> Option<Addr> {
        // These kinds remember nothing.
        let kind = match self.kind {
            kind @ (PoolKind::Bitmask | PoolKind::SourceHash(_)) => kind,
            _ => PoolKind::Single,
        };
        match &self.addresses {
            Addresses::Net(prefix) if prefix.af() == asked.af => {
                Some(choose_fixed(*prefix, kind, asked))
            }
            Addresses::Named(named) => named.load().as_ref()?.with(asked.af, |list| {
                let count = list.entries.len() as u64;
                let at = match kind {
                    PoolKind::SourceHash(key) => hash(key, asked.af, asked.source) % count.max(1),
                    _ => 0,
                };
                let entry = list.entries.get(usize::try_from(at).ok()?)?;
                let is_bitmask = kind == PoolKind::Bitmask;
                Some(if is_bitmask { choose_fixed(entry.prefix, kind, asked) } else { entry.first })
            }),
            Addresses::Net(_) | Addresses::None => None,
        }
    }

    /// Whether the pool still has an address that was chosen from it before.
    pub fn contains(&self, af: Af, addr: Addr) -> bool {
        match &self.addresses {
            Addresses::Net(prefix) => prefix.contains(addr.to_ip(af)),
            Addresses::Named(named) => named
                .load()
                .as_ref()
                .and_then(|named| named.with(af, |list| list.contains(addr).then_some(())))
                .is_some(),
            Addresses::None => false,
        }
    }

    fn choose_in_net(&self, prefix: Prefix, asked: &Asked, rng: &mut Rng) -> Addr {
        let net = Addr::from(prefix.addr()).0;
        let host_bits = u32::from(prefix.af().bits() - prefix.len());
        let mask = u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
        let with_host = |host: u128| Addr(net | host & mask);
        match self.kind {
            PoolKind::Single => Addr(net),
            PoolKind::Bitmask => with_host(asked.host.0),
            PoolKind::Random => with_host(match asked.before {
                Some(before) => before.0.wrapping_add(1),
                None => u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64()),
            }),
            PoolKind::SourceHash(key) => {
                with_host(spread(hash(key, asked.af, asked.source), asked.af))
            }
            PoolKind::RoundRobin | PoolKind::LeastStates => {
                let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
                let next = &mut next[usize::from(asked.af == Af::Inet6)];
                let chosen = with_host(next.at);
                next.at = (chosen.0 & mask).wrapping_add(1);
                chosen
            }
        }
    }

    fn choose_in_list(&self, list: &FamilyList, asked: &Asked, rng: &mut Rng) -> Option<Choice> {
        let count = list.entries.len() as u64;
        let first_of = |number: u64| {
            let at = usize::try_from(number.checked_rem(count)?).ok()?;
            Some(Choice::from(list.entries.get(at)?.first))
        };
        match self.kind {
            PoolKind::Single => first_of(0),
            PoolKind::Bitmask => {
                let prefix = list.entries.first()?.prefix;
                Some(self.choose_in_net(prefix, asked, rng).into())
            }
            PoolKind::Random => first_of(rng.next_u64()),
            PoolKind::SourceHash(key) => first_of(hash(key, asked.af, asked.source)),
            PoolKind::RoundRobin => {
                let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
                let next = &mut next[usize::from(asked.af == Af::Inet6)];
                step(list, next).map(Choice::from)
            }
            PoolKind::LeastStates => {
                let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
                let next = &mut next[usize::from(asked.af == Af::Inet6)];
                least_loaded(list, next, asked.before)
            }
        }
    }
}

/// The address of a network that a kind without memory gives.
fn choose_fixed(prefix: Prefix, kind: PoolKind, asked: &Asked) -> Addr {
    let net = Addr::from(prefix.addr()).0;
    let host_bits = u32::from(prefix.af().bits() - prefix.len());
    let mask = u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
    Addr(match kind {
        PoolKind::Bitmask => net | asked.host.0 & mask,
        PoolKind::SourceHash(key) => {
            net | spread(hash(key, asked.af, asked.source), asked.af) & mask
        }
        _ => net,
    })
}

/// The next address of a list in turn. Entries with a weight below the present one are left out;
/// the present weight falls by the common divisor with each round, so that shares come out in
/// proportion to the weights.
fn step(list: &FamilyList, next: &mut Next) -> Option<Addr> {
    let (greatest, divisor) = list.weights.unwrap_or((1, 1));
    if next.weight == 0 || next.weight > greatest {
        next.weight = greatest;
    }
    // Each round either finds an entry or ends at the greatest weight, which one entry has.
    let mut rounds = 0;
    let mut at = Some(next.at);
    loop {
        match at.and_then(|at| list.at_or_after(at)) {
            Some((addr, entry)) if list.weights.is_none() || entry.weight >= next.weight => {
                // At the end of all addresses the next round begins as if behind the last one.
                match addr.0.checked_add(1) {
                    Some(after) => next.at = after,
                    None => wrap(next, greatest, divisor),
                }
                return Some(addr);
            }
            Some((addr, _)) => at = list.after_span_of(addr),
            None if rounds == 2 => return None,
            None => {
                rounds += 1;
                wrap(next, greatest, divisor);
                at = Some(0);
            }
        }
    }
}

/// Begins the next round of `round-robin`.
fn wrap(next: &mut Next, greatest: u16, divisor: u16) {
    next.at = 0;
    next.weight = match next.weight.saturating_sub(divisor) {
        0 => greatest,
        lower => lower,
    };
}

/// The first address of the entry with the least load; of several the one next in turn. An
/// address that had no free port is left out.
fn least_loaded(list: &FamilyList, next: &mut Next, without: Option<Addr>) -> Option<Choice> {
    let start = list.entries.partition_point(|entry| entry.first.0 < next.at);
    let (before, after) = list.entries.split_at(start);
    let in_turn = after.iter().chain(before);
    let entry = in_turn
        .filter(|entry| Some(entry.first) != without)
        .min_by_key(|entry| entry.load.get() * 65_535 / u64::from(entry.weight))?;
    next.at = entry.first.0.wrapping_add(1);
    Some(Choice { addr: entry.first, share: Some(entry.load.join()) })
}

/// SipHash-2-4 of an address under the key of the rule.
fn hash(key: [u32; 4], af: Af, addr: Addr) -> u64 {
    let mut octets = [0; 16];
    for (four, word) in octets.chunks_exact_mut(4).zip(key) {
        four.copy_from_slice(&word.to_be_bytes());
    }
    let hasher = SipHasher24::new_with_key(&octets);
    match af {
        Af::Inet => hasher.hash(&super::low32(addr).to_be_bytes()),
        Af::Inet6 => hasher.hash(&addr.0.to_be_bytes()),
    }
}

/// A hash as an address: its words as OpenBSD has them in memory on little-endian machines, so
/// that both choose the same address.
fn spread(hash: u64, af: Af) -> u128 {
    // The octets of each half change their order.
    let swapped = hash.swap_bytes();
    let (low, high) = (u128::from(swapped >> 32), u128::from(swapped & 0xffff_ffff));
    let inverted = |word: u128| word ^ u128::from(u32::MAX);
    match af {
        Af::Inet => low,
        Af::Inet6 => low << 96 | high << 64 | inverted(high) << 32 | inverted(low),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pfapi::units::Uptime;

    fn addr(text: &str) -> Addr {
        Addr::from(text.parse::<IpAddr>().unwrap())
    }

    fn pool(named: Named, kind: PoolKind) -> Pool {
        let mut from = pfapi::ruleset::Pool::new(AddrMatch::Table("t".into()));
        from.kind = kind;
        let pool = Pool::new(&from);
        pool.bind(named);
        pool
    }

    fn net(text: &str, kind: PoolKind) -> Pool {
        let mut from = pfapi::ruleset::Pool::new(AddrMatch::Net(text.parse().unwrap()));
        from.kind = kind;
        Pool::new(&from)
    }

    fn list(texts: &[&str], weights: &[(&str, u16)], kind: PoolKind) -> Pool {
        let mut entries: Vec<TableEntry> = texts
            .iter()
            .map(|text| TableEntry { prefix: text.parse().unwrap(), negated: false })
            .collect();
        entries.sort_unstable();
        let weights: Vec<(Prefix, u16)> =
            weights.iter().map(|&(text, weight)| (text.parse().unwrap(), weight)).collect();
        pool(Named::List(AddressList::new(&entries, &weights, None)), kind)
    }

    fn asked(source: &str) -> Asked {
        let ip: IpAddr = source.parse().unwrap();
        Asked { af: Af::of(ip), source: Addr::from(ip), host: Addr::from(ip), before: None }
    }

    fn choices(pool: &Pool, source: &str, count: usize) -> Vec<String> {
        let mut rng = Rng::new([3; 32]);
        let asked = asked(source);
        (0..count)
            .map(|_| pool.choose(&asked, &mut rng).unwrap().addr.to_ip(asked.af).to_string())
            .collect()
    }

    #[test]
    fn a_network_without_a_type_gives_its_first_address() {
        let pool = net("192.0.2.8/30", PoolKind::Single);
        assert_eq!(choices(&pool, "10.0.0.7", 2), ["192.0.2.8", "192.0.2.8"]);
        assert!(pool.choose(&asked("2001:db8::1"), &mut Rng::new([0; 32])).is_none());
    }

    #[test]
    fn bitmask_keeps_the_host_part() {
        let pool = net("192.0.2.128/28", PoolKind::Bitmask);
        assert_eq!(choices(&pool, "10.0.0.23", 1), ["192.0.2.135"]);
        let pool = net("2001:db8:1::/64", PoolKind::Bitmask);
        assert_eq!(choices(&pool, "fd00::a:b", 1), ["2001:db8:1::a:b"]);
    }

    #[test]
    fn round_robin_takes_every_address_of_a_network_and_wraps() {
        let pool = net("192.0.2.8/30", PoolKind::RoundRobin);
        let wanted = ["192.0.2.8", "192.0.2.9", "192.0.2.10", "192.0.2.11", "192.0.2.8"];
        assert_eq!(choices(&pool, "10.0.0.1", 5), wanted);
        let all = net("255.255.255.254/31", PoolKind::RoundRobin);
        let wanted = ["255.255.255.254", "255.255.255.255", "255.255.255.254"];
        assert_eq!(choices(&all, "10.0.0.1", 3), wanted);
    }

    #[test]
    fn round_robin_goes_entry_by_entry_and_address_by_address() {
        let pool = list(&["10.0.0.0/31", "10.0.1.1"], &[], PoolKind::RoundRobin);
        let wanted = ["10.0.0.0", "10.0.0.1", "10.0.1.1", "10.0.0.0"];
        assert_eq!(choices(&pool, "10.9.9.9", 4), wanted);
    }

    #[test]
    fn weights_give_shares_in_proportion() {
        let weights = [("10.0.0.1", 4), ("10.0.0.2", 2), ("10.0.0.3", 2)];
        let pool = list(&["10.0.0.1", "10.0.0.2", "10.0.0.3"], &weights, PoolKind::RoundRobin);
        let all = choices(&pool, "10.9.9.9", 80);
        for (addr, share) in [("10.0.0.1", 40), ("10.0.0.2", 20), ("10.0.0.3", 20)] {
            assert_eq!(all.iter().filter(|chosen| *chosen == addr).count(), share, "{addr}");
        }
    }

    #[test]
    fn source_hash_keeps_a_source_at_one_address() {
        let key = [1, 2, 3, 4];
        for pool in [
            net("192.0.2.0/24", PoolKind::SourceHash(key)),
            list(&["10.0.0.1", "10.0.0.2", "10.0.0.3"], &[], PoolKind::SourceHash(key)),
        ] {
            let all: Vec<String> =
                (0..40).map(|n| choices(&pool, &format!("10.1.0.{n}"), 1).remove(0)).collect();
            let again: Vec<String> =
                (0..40).map(|n| choices(&pool, &format!("10.1.0.{n}"), 1).remove(0)).collect();
            assert_eq!(all, again);
            assert!(all.iter().any(|addr| *addr != all[0]), "{all:?}");
        }
    }

    /// The words of the hash stand in the address as on a little-endian machine.
    #[test]
    fn source_hash_is_siphash_under_the_printed_key() {
        let key = [0x0001_0203, 0x0405_0607, 0x0809_0a0b, 0x0c0d_0e0f];
        let hasher =
            SipHasher24::new_with_key(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        let four = hasher.hash(&[10, 0, 0, 1]).to_le_bytes();
        let wanted = IpAddr::from([four[0], four[1], four[2], four[3]]).to_string();
        let pool = net("0.0.0.0/0", PoolKind::SourceHash(key));
        assert_eq!(choices(&pool, "10.0.0.1", 1), [wanted]);
        let source: core::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
        let eight = hasher.hash(&source.octets()).to_le_bytes();
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&eight);
        for at in 0..4 {
            octets[8 + at] = !eight[4 + at];
            octets[12 + at] = !eight[at];
        }
        let pool = net("::/0", PoolKind::SourceHash(key));
        assert_eq!(choices(&pool, "2001:db8::1", 1), [IpAddr::from(octets).to_string()]);
    }

    #[test]
    fn random_stays_inside_and_goes_on_by_one_for_ports() {
        let pool = net("192.0.2.0/29", PoolKind::Random);
        let mut rng = Rng::new([9; 32]);
        let mut asked = asked("10.0.0.1");
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            seen.insert(pool.choose(&asked, &mut rng).unwrap().addr);
        }
        assert_eq!(seen.len(), 8);
        asked.before = Some(addr("192.0.2.7"));
        assert_eq!(pool.choose(&asked, &mut rng).unwrap().addr, addr("192.0.2.0"));
    }

    #[test]
    fn least_states_goes_where_the_fewest_are() {
        let weights = [("10.0.0.1", 2)];
        let pool = list(&["10.0.0.1", "10.0.0.2"], &weights, PoolKind::LeastStates);
        let mut rng = Rng::new([0; 32]);
        let asked = asked("10.9.9.9");
        let mut held: Vec<Choice> =
            (0..9).map(|_| pool.choose(&asked, &mut rng).unwrap()).collect();
        let of = |held: &[Choice], text: &str| {
            held.iter().filter(|choice| choice.addr == addr(text)).count()
        };
        assert_eq!((of(&held, "10.0.0.1"), of(&held, "10.0.0.2")), (6, 3));
        // Two connections of the second server end: it is the next one's turn twice.
        for _ in 0..2 {
            let at = held.iter().position(|choice| choice.addr == addr("10.0.0.2")).unwrap();
            held.remove(at);
        }
        for _ in 0..2 {
            held.push(pool.choose(&asked, &mut rng).unwrap());
        }
        assert_eq!(of(&held, "10.0.0.2"), 3);
    }

    #[test]
    fn a_table_is_used_as_it_is_now() {
        let table = Arc::new(Table::created("servers", Uptime::ZERO));
        let pool = pool(Named::Table(Arc::clone(&table)), PoolKind::RoundRobin);
        let mut rng = Rng::new([0; 32]);
        assert!(pool.choose(&asked("10.0.0.1"), &mut rng).is_none());
        let entry = |text: &str| TableEntry { prefix: text.parse().unwrap(), negated: false };
        table.add(&[entry("10.0.0.1"), entry("10.0.0.2")], Uptime::ZERO);
        assert_eq!(choices(&pool, "10.9.9.9", 3), ["10.0.0.1", "10.0.0.2", "10.0.0.1"]);
        table.delete(&[entry("10.0.0.2")]);
        assert!(pool.contains(Af::Inet, addr("10.0.0.1")));
        assert!(!pool.contains(Af::Inet, addr("10.0.0.2")));
        assert_eq!(choices(&pool, "10.9.9.9", 2), ["10.0.0.1", "10.0.0.1"]);
    }
}
