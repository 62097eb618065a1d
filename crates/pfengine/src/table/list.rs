//! The addresses of a table in order, as pools choose from them.
//!
//! Entries that lie inside another one, negated ones included, are cut out of it, so every
//! address belongs to the entry that a look-up would find. Source: OpenBSD sys/net/pf_table.c
//! `pfr_pool_get`, `pfr_kentry_byidx`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pfapi::addr::{Af, Prefix};
use pfapi::ruleset::TableEntry;

use crate::addr::Addr;

/// Addresses of both families.
#[derive(Debug, Default)]
pub struct AddressList {
    inet: FamilyList,
    inet6: FamilyList,
}

/// Addresses of one family.
#[derive(Debug, Default)]
pub struct FamilyList {
    /// Entries that have an address, in address order.
    pub entries: Vec<ListEntry>,
    /// Parts of these without holes, in address order.
    spans: Vec<Span>,
    /// Greatest weight and greatest common divisor, when an entry has one.
    pub weights: Option<(u16, u16)>,
}

/// An entry that addresses are taken from.
#[derive(Debug)]
pub struct ListEntry {
    /// As in the table.
    pub prefix: Prefix,
    /// The first address that belongs to it.
    pub first: Addr,
    /// Its share relative to the others; 1 when none is given.
    pub weight: u16,
    /// States that hold one of its addresses.
    pub load: Load,
}

/// States that hold an address of an entry; outlives the list in these states.
#[derive(Clone, Debug, Default)]
pub struct Load(Arc<AtomicU64>);

/// One state's part in a [`Load`], for as long as it lives.
#[derive(Debug)]
pub struct Share(Arc<AtomicU64>);

#[derive(Clone, Copy, Debug)]
struct Span {
    first: u128,
    last: u128,
    /// Position among the entries.
    entry: usize,
}

impl Load {
    /// States now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more state until the share is dropped.
    pub fn join(&self) -> Share {
        self.0.fetch_add(1, Ordering::Relaxed);
        Share(Arc::clone(&self.0))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AddressList {
    /// A list of entries in address order, outer networks first. `before` is the list that this
    /// one replaces: entries that stay keep their load.
    pub fn new(entries: &[TableEntry], weights: &[(Prefix, u16)], before: Option<&Self>) -> Self {
        let family = |af: Af| {
            let of_family: Vec<TableEntry> =
                entries.iter().filter(|entry| entry.prefix.af() == af).copied().collect();
            FamilyList::new(&of_family, weights, before.map(|before| before.family(af)))
        };
        Self { inet: family(Af::Inet), inet6: family(Af::Inet6) }
    }

    /// Addresses of one family.
    pub const fn family(&self, af: Af) -> &FamilyList {
        match af {
            Af::Inet => &self.inet,
            Af::Inet6 => &self.inet6,
        }
    }
}

impl FamilyList {
    fn new(all: &[TableEntry], weights: &[(Prefix, u16)], before: Option<&Self>) -> Self {
        let weights: HashMap<Prefix, u16> = weights.iter().copied().collect();
        let old: HashMap<Prefix, &Load> = before
            .into_iter()
            .flat_map(|before| &before.entries)
            .map(|entry| (entry.prefix, &entry.load))
            .collect();
        let mut list = Self::default();
        // Position in `all` to position in `entries`.
        let mut places = vec![None; all.len()];
        for (first, last, at) in cut(all) {
            let entry = *places[at].get_or_insert_with(|| {
                let prefix = all[at].prefix;
                list.entries.push(ListEntry {
                    prefix,
                    first: Addr(first),
                    weight: weights.get(&prefix).map_or(1, |&weight| weight.max(1)),
                    load: old.get(&prefix).copied().cloned().unwrap_or_default(),
                });
                list.entries.len() - 1
            });
            list.spans.push(Span { first, last, entry });
        }
        let given = list.entries.iter().any(|entry| entry.weight > 1);
        list.weights = given.then(|| {
            let all = || list.entries.iter().map(|entry| entry.weight);
            (all().max().unwrap_or(1), all().fold(0, greatest_common_divisor).max(1))
        });
        list
    }

    /// The first address at or behind `at` and the entry that it belongs to; `None` behind the
    /// last one.
    pub fn at_or_after(&self, at: u128) -> Option<(Addr, &ListEntry)> {
        let span = self.spans.get(self.spans.partition_point(|span| span.last < at))?;
        Some((Addr(at.max(span.first)), &self.entries[span.entry]))
    }

    /// The first address of the span behind the one that `addr` lies in; `None` behind the last.
    pub fn after_span_of(&self, addr: Addr) -> Option<u128> {
        let span = self.spans.get(self.spans.partition_point(|span| span.last < addr.0))?;
        span.last.checked_add(1)
    }

    /// Whether an address may be chosen.
    pub fn contains(&self, addr: Addr) -> bool {
        self.at_or_after(addr.0).is_some_and(|(found, _)| found == addr)
    }
}

/// First and last address of each part that belongs to one entry, and the entry's position.
/// Negated entries cut holes. `entries` are in address order, outer networks first.
fn cut(entries: &[TableEntry]) -> Vec<(u128, u128, usize)> {
    let mut parts = Vec::new();
    // Networks that are open at the address reached, outermost first: last address, position.
    let mut open: Vec<(u128, usize)> = Vec::new();
    // The first address that is not decided yet; `None` behind the last one there is.
    let mut from = Some(0_u128);
    let mut emit = |from: u128, to: u128, at: usize| {
        if from <= to && !entries[at].negated {
            parts.push((from, to, at));
        }
    };
    for (at, entry) in entries.iter().enumerate() {
        let first = Addr::from(entry.prefix.addr()).0;
        let host_bits = u32::from(entry.prefix.af().bits() - entry.prefix.len());
        let last = first | u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
        while let Some((end, outer)) = open.pop_if(|(end, _)| *end < first) {
            if let Some(start) = from {
                emit(start, end, outer);
            }
            from = end.checked_add(1);
        }
        if let (Some(&(_, outer)), Some(start)) = (open.last(), from)
            && first > start
        {
            emit(start, first - 1, outer);
        }
        from = Some(first);
        open.push((last, at));
    }
    while let Some((end, outer)) = open.pop() {
        if let Some(start) = from {
            emit(start, end, outer);
        }
        from = end.checked_add(1);
    }
    parts
}

const fn greatest_common_divisor(mut a: u16, mut b: u16) -> u16 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;
    use proptest::prelude::*;

    fn entries(texts: &[&str]) -> Vec<TableEntry> {
        let mut entries: Vec<TableEntry> = texts
            .iter()
            .map(|text| {
                let (negated, text) = text.strip_prefix('!').map_or((false, *text), |t| (true, t));
                TableEntry { prefix: text.parse().unwrap(), negated }
            })
            .collect();
        entries.sort_unstable();
        entries
    }

    fn addresses(list: &FamilyList) -> Vec<IpAddr> {
        let (mut all, mut at) = (Vec::new(), Some(0));
        while let Some((addr, _)) = at.and_then(|at| list.at_or_after(at)) {
            all.push(addr.to_ip(Af::Inet));
            at = addr.0.checked_add(1);
        }
        all
    }

    #[test]
    fn nested_and_negated_entries_are_cut_out() {
        let list = AddressList::new(
            &entries(&["10.0.0.0/29", "!10.0.0.2/31", "10.0.0.5", "255.255.255.255", "::/0"]),
            &[],
            None,
        );
        let list = list.family(Af::Inet);
        let wanted = ["10.0.0.0", "10.0.0.1", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"];
        let mut wanted: Vec<IpAddr> = wanted.iter().map(|text| text.parse().unwrap()).collect();
        wanted.push(IpAddr::from([255, 255, 255, 255]));
        assert_eq!(addresses(list), wanted);
        assert_eq!(list.entries.len(), 3);
        assert!(list.contains(Addr::from(wanted[3])) && !list.contains(Addr(0x0a00_0002)));
    }

    #[test]
    fn loads_survive_a_new_list_and_end_with_the_shares() {
        let weights = [("10.0.0.1".parse().unwrap(), 4), ("10.0.0.2".parse().unwrap(), 6)];
        let before = AddressList::new(&entries(&["10.0.0.1", "10.0.0.2"]), &weights, None);
        assert_eq!(before.family(Af::Inet).weights, Some((6, 2)));
        let share = before.family(Af::Inet).entries[1].load.join();
        let after = AddressList::new(&entries(&["10.0.0.2"]), &[], Some(&before));
        assert_eq!(after.family(Af::Inet).entries[0].load.get(), 1);
        drop(share);
        assert_eq!(after.family(Af::Inet).entries[0].load.get(), 0);
    }

    proptest! {
        /// Walking the list visits exactly the addresses whose longest match is not negated.
        #[test]
        fn agrees_with_longest_match(
            nets in prop::collection::vec((0u8..64, 26u8..=32, any::<bool>()), 0..12),
        ) {
            let mut all: Vec<TableEntry> = Vec::new();
            for (low, len, negated) in nets {
                let prefix = Prefix::new(IpAddr::from([192, 0, 2, low]), len);
                if !all.iter().any(|entry| entry.prefix == prefix) {
                    all.push(TableEntry { prefix, negated });
                }
            }
            all.sort_unstable();
            let list = AddressList::new(&all, &[], None);
            let wanted: Vec<IpAddr> = (0..=255u8)
                .map(|low| IpAddr::from([192, 0, 2, low]))
                .filter(|&addr| {
                    let best = all
                        .iter()
                        .filter(|entry| entry.prefix.contains(addr))
                        .max_by_key(|entry| entry.prefix.len());
                    best.is_some_and(|entry| !entry.negated)
                })
                .collect();
            prop_assert_eq!(addresses(list.family(Af::Inet)), wanted);
        }
    }
}
