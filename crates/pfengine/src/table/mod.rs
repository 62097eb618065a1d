//! Tables: sets of networks with longest match, shared by rules and changed while they are used.

mod list;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use core::net::IpAddr;

use arc_swap::ArcSwapOption;

use pfapi::addr::{Af, Prefix};
use pfapi::control::TableReport;
use pfapi::ruleset::{TableDef, TableEntry};
use pfapi::units::Uptime;
use prefix_trie::PrefixMap;

use crate::addr::Addr;
use crate::fault::{self, Fault};

pub use list::{AddressList, FamilyList, Share};

/// A table in force, or one that rules name and nobody has defined.
///
/// Rules keep hold of their tables, so a load that replaces the contents brings a new `Table`
/// and packets see old rules with old contents or new rules with new ones.
#[derive(Debug)]
pub struct Table {
    name: String,
    flags: Flags,
    /// Defined by the ruleset or by `pfctl -T`; others exist only in the rules that name them.
    defined: AtomicBool,
    contents: RwLock<Contents>,
    /// `weight` of entries, for pools.
    weights: Vec<(Prefix, u16)>,
    /// The contents as pools see them, when one uses the table.
    list: ArcSwapOption<AddressList>,
    cleared: AtomicU64,
    matched: AtomicU64,
    no_match: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags {
    persist: bool,
    constant: bool,
    counters: bool,
}

/// Networks by family; the value says whether the entry is negated.
#[derive(Clone, Debug, Default)]
struct Contents {
    inet: PrefixMap<(u32, u8), bool>,
    inet6: PrefixMap<(u128, u8), bool>,
}

impl Contents {
    fn insert(&mut self, entry: TableEntry) -> Option<bool> {
        let (prefix, negated) = (entry.prefix, entry.negated);
        match prefix.addr() {
            IpAddr::V4(v4) => self.inet.insert((v4.to_bits(), prefix.len()), negated),
            IpAddr::V6(v6) => self.inet6.insert((v6.to_bits(), prefix.len()), negated),
        }
    }

    fn get(&self, prefix: Prefix) -> Option<bool> {
        match prefix.addr() {
            IpAddr::V4(v4) => self.inet.get(&(v4.to_bits(), prefix.len())).copied(),
            IpAddr::V6(v6) => self.inet6.get(&(v6.to_bits(), prefix.len())).copied(),
        }
    }

    fn remove(&mut self, prefix: Prefix) -> Option<bool> {
        match prefix.addr() {
            IpAddr::V4(v4) => self.inet.remove(&(v4.to_bits(), prefix.len())),
            IpAddr::V6(v6) => self.inet6.remove(&(v6.to_bits(), prefix.len())),
        }
    }

    fn longest_match(&self, addr: IpAddr) -> Option<TableEntry> {
        match addr {
            IpAddr::V4(v4) => {
                self.inet.get_lpm(&(v4.to_bits(), 32)).map(|((bits, len), &negated)| TableEntry {
                    prefix: Prefix::new(core::net::Ipv4Addr::from_bits(bits).into(), len),
                    negated,
                })
            }
            IpAddr::V6(v6) => {
                self.inet6.get_lpm(&(v6.to_bits(), 128)).map(|((bits, len), &negated)| TableEntry {
                    prefix: Prefix::new(core::net::Ipv6Addr::from_bits(bits).into(), len),
                    negated,
                })
            }
        }
    }

    fn len(&self) -> usize {
        self.inet.len() + self.inet6.len()
    }

    fn entries(&self) -> Vec<TableEntry> {
        let inet = self.inet.iter().map(|((bits, len), &negated)| TableEntry {
            prefix: Prefix::new(core::net::Ipv4Addr::from_bits(bits).into(), len),
            negated,
        });
        let inet6 = self.inet6.iter().map(|((bits, len), &negated)| TableEntry {
            prefix: Prefix::new(core::net::Ipv6Addr::from_bits(bits).into(), len),
            negated,
        });
        let mut entries: Vec<_> = inet.chain(inet6).collect();
        entries.sort_unstable();
        entries
    }
}

impl Table {
    /// A table that rules name and nobody has defined: nothing matches.
    pub fn undefined(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            flags: Flags::default(),
            defined: AtomicBool::new(false),
            contents: RwLock::default(),
            weights: Vec::new(),
            list: ArcSwapOption::empty(),
            cleared: AtomicU64::new(0),
            matched: AtomicU64::new(0),
            no_match: AtomicU64::new(0),
        }
    }

    /// A table as defined in a ruleset. `before` is the table of this name that it replaces: a
    /// definition without a list keeps its contents.
    pub fn new(definition: &TableDef, before: Option<&Self>, now: Uptime) -> Self {
        let mut contents = Contents::default();
        match &definition.entries {
            Some(entries) => {
                for &entry in entries {
                    contents.insert(entry);
                }
            }
            None => {
                if let Some(before) = before {
                    contents = before.read().clone();
                }
            }
        }
        let table = Self {
            flags: Flags {
                persist: definition.persist,
                constant: definition.constant,
                counters: definition.counters,
            },
            defined: AtomicBool::new(true),
            weights: definition.weights.clone(),
            // The list of the table before is not in force, but it has the loads.
            list: ArcSwapOption::new(before.and_then(|before| before.list.load_full())),
            contents: RwLock::new(contents),
            cleared: AtomicU64::new(now.as_nanos()),
            ..Self::undefined(&definition.name)
        };
        if table.list.load().is_some() {
            table.enlist(&table.read());
        }
        table
    }

    /// Makes the table ready for pools: from now on its addresses are kept as a list too.
    pub fn serve_pools(&self) {
        let contents = self.read();
        if self.list.load().is_none() {
            self.enlist(&contents);
        }
    }

    /// Addresses in order, for a table that serves pools.
    pub fn list(&self) -> arc_swap::Guard<Option<Arc<AddressList>>> {
        self.list.load()
    }

    fn enlist(&self, contents: &Contents) {
        let before = self.list.load();
        let list = AddressList::new(&contents.entries(), &self.weights, before.as_deref());
        self.list.store(Some(Arc::new(list)));
    }

    /// Brings the list up to date after a change.
    fn changed(&self, contents: &Contents) {
        if self.list.load().is_some() {
            self.enlist(contents);
        }
    }

    /// Whether a ruleset or `pfctl -T` has defined the table.
    pub fn is_defined(&self) -> bool {
        self.defined.load(Ordering::Relaxed)
    }

    /// Makes a table that `pfctl -T add` names first: persistent, so that it stays.
    pub fn created(name: &str, now: Uptime) -> Self {
        let table =
            Self { flags: Flags { persist: true, ..Flags::default() }, ..Self::undefined(name) };
        table.define(now);
        table
    }

    /// Makes the table defined, for one that only rules named until now.
    pub fn define(&self, now: Uptime) {
        self.defined.store(true, Ordering::Relaxed);
        self.cleared.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// Empties a table that rules name but that is to exist no longer.
    pub fn undefine(&self) {
        self.defined.store(false, Ordering::Relaxed);
        let mut contents = self.write();
        *contents = Contents::default();
        self.changed(&contents);
    }

    /// Whether the table stays without rules that name it.
    pub fn is_persistent(&self) -> bool {
        self.is_defined() && self.flags.persist
    }

    /// Whether `const` forbids changes.
    pub const fn is_constant(&self) -> bool {
        self.flags.constant
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Contents> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a rule that names the table matches `addr`; counts nothing.
    pub fn holds(&self, af: Af, addr: Addr) -> bool {
        fault::is(Fault::TablesMatchAll)
            || self.read().longest_match(addr.to_ip(af)).is_some_and(|entry| !entry.negated)
    }

    /// Whether a rule that names the table matches `addr`; counts the look-up.
    pub fn lookup(&self, af: Af, addr: Addr) -> bool {
        let matched = self.holds(af, addr);
        if matched { &self.matched } else { &self.no_match }.fetch_add(1, Ordering::Relaxed);
        matched
    }

    /// Longest match of an address, negated entries included; counts nothing.
    pub fn test(&self, addr: IpAddr) -> Option<TableEntry> {
        self.read().longest_match(addr)
    }

    /// Adds entries; gives those that were new. An entry whose network is there already, negated
    /// or not, stays as it is.
    pub fn add(&self, entries: &[TableEntry]) -> Vec<TableEntry> {
        let mut contents = self.write();
        let mut added = Vec::new();
        for &entry in entries {
            if contents.get(entry.prefix).is_none() {
                contents.insert(entry);
                added.push(entry);
            }
        }
        if !added.is_empty() {
            self.changed(&contents);
        }
        added
    }

    /// Deletes entries; gives those that were there with the same sign.
    pub fn delete(&self, entries: &[TableEntry]) -> Vec<TableEntry> {
        let mut contents = self.write();
        let mut deleted = Vec::new();
        for &entry in entries {
            if contents.get(entry.prefix) == Some(entry.negated) {
                contents.remove(entry.prefix);
                deleted.push(entry);
            }
        }
        if !deleted.is_empty() {
            self.changed(&contents);
        }
        deleted
    }

    /// Entries now.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// All entries in address order.
    pub fn entries(&self) -> Vec<TableEntry> {
        self.read().entries()
    }

    /// The table as pfctl prints it; `rules` refer to it.
    pub fn report(&self, rules: u64, now: Uptime) -> TableReport {
        let cleared = Uptime::from_nanos(self.cleared.load(Ordering::Relaxed));
        TableReport {
            name: self.name.clone(),
            persist: self.flags.persist,
            constant: self.flags.constant,
            counters: self.flags.counters,
            rules,
            addresses: self.len() as u64,
            cleared_s: now.secs_since(cleared),
            no_match: self.no_match.load(Ordering::Relaxed),
            matched: self.matched.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(text: &str) -> TableEntry {
        let (negated, prefix) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        TableEntry { prefix: prefix.parse().unwrap(), negated }
    }

    fn hit(table: &Table, addr: &str) -> bool {
        let addr: IpAddr = addr.parse().unwrap();
        table.lookup(Af::of(addr), Addr::from(addr))
    }

    #[test]
    fn longest_match_decides_and_negated_entries_do_not_match() {
        let table = Table::created("t", Uptime::ZERO);
        table.add(&[entry("10.0.0.0/8"), entry("!10.1.0.0/16"), entry("10.1.2.3"), entry("::/0")]);
        assert!(hit(&table, "10.2.0.1"));
        assert!(!hit(&table, "10.1.9.9"));
        assert!(hit(&table, "10.1.2.3"));
        assert!(hit(&table, "2001:db8::1"));
        assert!(!hit(&table, "11.0.0.1"));
        let report = table.report(0, Uptime::ZERO);
        assert_eq!((report.matched, report.no_match, report.addresses), (3, 2, 4));
    }

    #[test]
    fn one_network_has_one_sign() {
        let table = Table::created("t", Uptime::ZERO);
        assert_eq!(table.add(&[entry("10.0.0.0/8"), entry("!10.0.0.0/8")]).len(), 1);
        assert!(table.delete(&[entry("!10.0.0.0/8")]).is_empty());
        assert_eq!(table.delete(&[entry("10.0.0.0/8")]).len(), 1);
        assert_eq!(table.len(), 0);
    }

    proptest! {
        #[test]
        fn agrees_with_a_scan(
            nets in prop::collection::vec((any::<u32>(), 0u8..=32, any::<bool>()), 0..40),
            addrs in prop::collection::vec(any::<u32>(), 1..20),
        ) {
            let table = Table::created("t", Uptime::ZERO);
            let mut model: Vec<TableEntry> = Vec::new();
            for (bits, len, negated) in nets {
                // Few distinct high bits, so that networks nest.
                let addr = IpAddr::V4((bits & 0xe000_00ff).into());
                let entry = TableEntry { prefix: Prefix::new(addr, len), negated };
                table.add(&[entry]);
                if !model.iter().any(|other| other.prefix == entry.prefix) {
                    model.push(entry);
                }
            }
            for bits in addrs {
                let addr = IpAddr::V4((bits & 0xe000_00ff).into());
                let best = model
                    .iter()
                    .filter(|entry| entry.prefix.contains(addr))
                    .max_by_key(|entry| entry.prefix.len());
                prop_assert_eq!(table.test(addr), best.copied());
            }
        }
    }
}
