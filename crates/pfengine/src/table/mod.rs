//! Tables: sets of networks with longest match, shared by rules and changed while they are used.

mod list;
mod set;
mod traffic;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arc_swap::ArcSwapOption;

use pfapi::addr::{Af, Prefix};
use pfapi::control::{AddressReport, TableReport, TableUse};
use pfapi::ruleset::{TableDef, TableEntry};
use pfapi::units::Uptime;
use prefix_trie::PrefixMap;

use crate::addr::Addr;
use crate::fault::{self, Fault};
use crate::rules::Live;

pub use list::{AddressList, FamilyList, Share};
pub use set::Tables;
use traffic::Traffic;

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
    traffic: Arc<Traffic>,
    /// The table that a load has put in this one's place: what states of old rules count goes
    /// there.
    successor: ArcSwapOption<Self>,
    /// Entries of all tables in force, this one's among them while it is. Changes only while
    /// `contents` is locked.
    total: ArcSwapOption<AtomicU64>,
    /// What of `total` is this table's.
    told: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags {
    persist: bool,
    constant: bool,
    counters: bool,
}

/// What a table knows of a network.
#[derive(Clone, Debug)]
struct Held {
    negated: bool,
    /// When it was added, or its counters were zeroed.
    cleared: Uptime,
    /// With `counters`, from the first packet on.
    traffic: OnceLock<Arc<Traffic>>,
}

/// Networks by family.
#[derive(Clone, Debug, Default)]
struct Contents {
    inet: PrefixMap<(u32, u8), Held>,
    inet6: PrefixMap<(u128, u8), Held>,
}

fn entry4(bits: u32, len: u8, negated: bool) -> TableEntry {
    TableEntry { prefix: Prefix::new(IpAddr::V4(Ipv4Addr::from_bits(bits)), len), negated }
}

fn entry6(bits: u128, len: u8, negated: bool) -> TableEntry {
    TableEntry { prefix: Prefix::new(IpAddr::V6(Ipv6Addr::from_bits(bits)), len), negated }
}

impl Contents {
    fn insert(&mut self, entry: TableEntry, cleared: Uptime) {
        let held = Held { negated: entry.negated, cleared, traffic: OnceLock::new() };
        self.put(entry.prefix, held);
    }

    fn put(&mut self, prefix: Prefix, held: Held) {
        match prefix.addr() {
            IpAddr::V4(v4) => drop(self.inet.insert((v4.to_bits(), prefix.len()), held)),
            IpAddr::V6(v6) => drop(self.inet6.insert((v6.to_bits(), prefix.len()), held)),
        }
    }

    fn get(&self, prefix: Prefix) -> Option<&Held> {
        match prefix.addr() {
            IpAddr::V4(v4) => self.inet.get(&(v4.to_bits(), prefix.len())),
            IpAddr::V6(v6) => self.inet6.get(&(v6.to_bits(), prefix.len())),
        }
    }

    fn get_mut(&mut self, prefix: Prefix) -> Option<&mut Held> {
        match prefix.addr() {
            IpAddr::V4(v4) => self.inet.get_mut(&(v4.to_bits(), prefix.len())),
            IpAddr::V6(v6) => self.inet6.get_mut(&(v6.to_bits(), prefix.len())),
        }
    }

    fn remove(&mut self, prefix: Prefix) {
        match prefix.addr() {
            IpAddr::V4(v4) => drop(self.inet.remove(&(v4.to_bits(), prefix.len()))),
            IpAddr::V6(v6) => drop(self.inet6.remove(&(v6.to_bits(), prefix.len()))),
        }
    }

    /// What the table knows of the longest network around an address.
    fn nearest(&self, addr: IpAddr) -> Option<&Held> {
        match addr {
            IpAddr::V4(v4) => self.inet.get_lpm(&(v4.to_bits(), 32)).map(|(_, held)| held),
            IpAddr::V6(v6) => self.inet6.get_lpm(&(v6.to_bits(), 128)).map(|(_, held)| held),
        }
    }

    fn longest_match(&self, addr: IpAddr) -> Option<TableEntry> {
        match addr {
            IpAddr::V4(v4) => {
                let found = self.inet.get_lpm(&(v4.to_bits(), 32));
                found.map(|((bits, len), held)| entry4(bits, len, held.negated))
            }
            IpAddr::V6(v6) => {
                let found = self.inet6.get_lpm(&(v6.to_bits(), 128));
                found.map(|((bits, len), held)| entry6(bits, len, held.negated))
            }
        }
    }

    fn len(&self) -> usize {
        self.inet.len() + self.inet6.len()
    }

    /// Everything, in address order.
    fn all(&self) -> Vec<(TableEntry, &Held)> {
        let inet = self.inet.iter();
        let inet = inet.map(|((bits, len), held)| (entry4(bits, len, held.negated), held));
        let inet6 = self.inet6.iter();
        let inet6 = inet6.map(|((bits, len), held)| (entry6(bits, len, held.negated), held));
        let mut all: Vec<_> = inet.chain(inet6).collect();
        all.sort_unstable_by_key(|&(entry, _)| entry);
        all
    }

    fn entries(&self) -> Vec<TableEntry> {
        self.all().into_iter().map(|(entry, _)| entry).collect()
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
            traffic: Arc::default(),
            successor: ArcSwapOption::empty(),
            total: ArcSwapOption::empty(),
            told: AtomicU64::new(0),
        }
    }

    /// A table as defined in a ruleset. `before` is the table of this name that it replaces: a
    /// definition without a list keeps its contents, and entries that stay keep their counters.
    pub fn new(definition: &TableDef, before: Option<&Self>, now: Uptime) -> Self {
        let old = before.map(Self::read);
        let contents = match (&definition.entries, &old) {
            (Some(entries), _) => {
                let mut contents = Contents::default();
                for &entry in entries {
                    let known = old.as_ref().and_then(|old| old.get(entry.prefix));
                    match known.filter(|held| held.negated == entry.negated) {
                        Some(held) => contents.put(entry.prefix, held.clone()),
                        None => contents.insert(entry, now),
                    }
                }
                contents
            }
            (None, Some(old)) => Contents::clone(old),
            (None, None) => Contents::default(),
        };
        drop(old);
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

    /// Name without the angle brackets.
    pub fn name(&self) -> &str {
        &self.name
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

    /// Counts the entries among those of all tables in force, from now on and once.
    pub fn join(&self, total: &Arc<AtomicU64>) {
        let contents = self.write();
        if self.total.load().is_none() {
            self.total.store(Some(Arc::clone(total)));
            self.tell(&contents);
        }
    }

    /// Counts them no longer.
    pub fn leave(&self) {
        let _contents = self.write();
        if let Some(total) = self.total.swap(None) {
            total.fetch_sub(self.told.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    fn tell(&self, contents: &Contents) {
        if let Some(total) = &*self.total.load() {
            let now = contents.len() as u64;
            let before = self.told.swap(now, Ordering::Relaxed);
            // A difference below zero wraps, and so does the sum.
            total.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        }
    }

    /// Brings the list and the count of entries up to date after a change.
    fn changed(&self, contents: &Contents) {
        self.tell(contents);
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

    /// Sends what states of old rules count to the table that has taken this one's place.
    pub fn succeed(&self, by: &Arc<Self>) {
        self.successor.store(Some(Arc::clone(by)));
    }

    /// The table that counts for this one now, when it is another.
    fn heir(&self) -> Option<Arc<Self>> {
        let mut heir = self.successor.load_full()?;
        while let Some(next) = heir.successor.load_full() {
            heir = next;
        }
        // Shortens the way for the next state.
        self.successor.store(Some(Arc::clone(&heir)));
        Some(heir)
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
            || self.read().nearest(addr.to_ip(af)).is_some_and(|held| !held.negated)
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

    /// Counts packets without a state of a rule that names the table, as `! <name>` when
    /// `negated`.
    pub fn count(&self, addr: IpAddr, negated: bool, used: TableUse, counted: &Live) {
        self.traffic.add(used, counted);
        // The rule has matched, so an entry that is found is the one that it met.
        if self.flags.counters && !negated {
            self.count_entry(addr, used, counted);
        }
    }

    fn count_entry(&self, addr: IpAddr, used: TableUse, counted: &Live) {
        if let Some(held) = self.read().nearest(addr) {
            held.traffic.get_or_init(Arc::default).add(used, counted);
        }
    }

    /// Counts packets of a state whose rule names the table. Of the addresses, which are those
    /// behind and before its translation, the first counts that the table still has.
    pub fn count_state(&self, addrs: [IpAddr; 2], negated: bool, used: TableUse, counted: &Live) {
        if let Some(heir) = self.heir() {
            return heir.count_state(addrs, negated, used, counted);
        }
        let holds =
            |addr: &IpAddr| self.read().nearest(*addr).is_some_and(|held| !held.negated) != negated;
        match addrs.into_iter().find(holds) {
            Some(addr) => self.count(addr, negated, used, counted),
            None => self.traffic.add(TableUse::CrossPass, counted),
        }
    }

    /// Adds entries; gives those that were new. An entry whose network is there already, negated
    /// or not, stays as it is.
    pub fn add(&self, entries: &[TableEntry], now: Uptime) -> Vec<TableEntry> {
        let mut contents = self.write();
        let mut added = Vec::new();
        for &entry in entries {
            if contents.get(entry.prefix).is_none() {
                contents.insert(entry, now);
                added.push(entry);
            }
        }
        if !added.is_empty() {
            self.changed(&contents);
        }
        added
    }

    /// Deletes an entry from the table that stands in the place of this one now.
    pub fn forget(&self, entry: TableEntry) {
        let heir = self.heir();
        heir.as_deref().unwrap_or(self).delete(&[entry]);
    }

    /// Deletes entries; gives those that were there with the same sign.
    pub fn delete(&self, entries: &[TableEntry]) -> Vec<TableEntry> {
        let mut contents = self.write();
        let mut deleted = Vec::new();
        for &entry in entries {
            if contents.get(entry.prefix).is_some_and(|held| held.negated == entry.negated) {
                contents.remove(entry.prefix);
                deleted.push(entry);
            }
        }
        if !deleted.is_empty() {
            self.changed(&contents);
        }
        deleted
    }

    /// Zeroes the counters of these entries; gives those that are there. Without any, the
    /// counters of the table and of all its entries are zeroed.
    pub fn zero(&self, entries: &[TableEntry], now: Uptime) -> Vec<TableEntry> {
        let mut contents = self.write();
        let all = entries.is_empty().then(|| contents.entries());
        if all.is_some() {
            self.traffic.clear();
            self.matched.store(0, Ordering::Relaxed);
            self.no_match.store(0, Ordering::Relaxed);
            self.cleared.store(now.as_nanos(), Ordering::Relaxed);
        }
        let mut zeroed = Vec::new();
        for entry in all.as_deref().unwrap_or(entries) {
            let held = contents.get_mut(entry.prefix);
            if let Some(held) = held.filter(|held| held.negated == entry.negated) {
                held.cleared = now;
                held.traffic = OnceLock::new();
                zeroed.push(*entry);
            }
        }
        zeroed
    }

    /// Deletes the entries that were added, or whose counters were zeroed, more than so many
    /// seconds ago; gives them.
    pub fn expire(&self, age_s: u64, now: Uptime) -> Vec<TableEntry> {
        let old: Vec<TableEntry> = {
            let contents = self.read();
            let all = contents.all().into_iter();
            let old = all.filter(|(_, held)| now.secs_since(held.cleared) > age_s);
            old.map(|(entry, _)| entry).collect()
        };
        self.delete(&old)
    }

    /// Entries now.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// All entries in address order.
    pub fn entries(&self) -> Vec<TableEntry> {
        self.read().entries()
    }

    /// All entries in address order, with their counters.
    pub fn statistics(&self, now: Uptime) -> Vec<AddressReport> {
        let list = self.list.load();
        let listed = list.iter().flat_map(|list| [list.family(Af::Inet), list.family(Af::Inet6)]);
        let loads: BTreeMap<Prefix, u64> = listed
            .flat_map(|family| &family.entries)
            .map(|entry| (entry.prefix, entry.load.get()))
            .collect();
        let weights: BTreeMap<Prefix, u16> = self.weights.iter().copied().collect();
        let report = |(entry, held): (TableEntry, &Held)| AddressReport {
            entry,
            cleared_s: now.secs_since(held.cleared),
            traffic: self
                .flags
                .counters
                .then(|| held.traffic.get().map_or_else(Default::default, |one| one.report())),
            weight: weights.get(&entry.prefix).copied(),
            states: loads.get(&entry.prefix).copied().unwrap_or_default(),
        };
        self.read().all().into_iter().map(report).collect()
    }

    /// The table as pfctl prints it, in the ruleset `anchor`; so many rules of it and of others
    /// refer to it.
    pub fn report(&self, anchor: &str, (own, others): (u64, u64), now: Uptime) -> TableReport {
        let cleared = Uptime::from_nanos(self.cleared.load(Ordering::Relaxed));
        TableReport {
            name: self.name.clone(),
            anchor: anchor.to_owned(),
            persist: self.flags.persist,
            constant: self.flags.constant,
            counters: self.flags.counters,
            rules: own,
            from_anchors: others,
            addresses: self.len() as u64,
            cleared_s: now.secs_since(cleared),
            no_match: self.no_match.load(Ordering::Relaxed),
            matched: self.matched.load(Ordering::Relaxed),
            traffic: self.traffic.report(),
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
    fn the_total_follows_every_change() {
        let total = Arc::new(AtomicU64::new(0));
        let count = || total.load(Ordering::Relaxed);
        let tables = ["a", "b"].map(|name| Table::created(name, Uptime::ZERO));
        tables[0].add(&[entry("10.0.0.0/8"), entry("10.0.0.1")], Uptime::ZERO);
        assert_eq!(count(), 0, "not in force");
        tables[0].join(&total);
        tables[1].join(&total);
        tables[0].join(&total);
        assert_eq!(count(), 2);
        tables[1].add(&[entry("::1"), entry("::1"), entry("::2")], Uptime::ZERO);
        tables[0].delete(&[entry("10.0.0.1"), entry("10.0.0.2")]);
        assert_eq!(count(), 3);
        tables[1].leave();
        tables[1].add(&[entry("::3")], Uptime::ZERO);
        assert_eq!(count(), 1);
        tables[1].join(&total);
        assert_eq!(count(), 4);
    }

    #[test]
    fn longest_match_decides_and_negated_entries_do_not_match() {
        let table = Table::created("t", Uptime::ZERO);
        table.add(
            &[entry("10.0.0.0/8"), entry("!10.1.0.0/16"), entry("10.1.2.3"), entry("::/0")],
            Uptime::ZERO,
        );
        assert!(hit(&table, "10.2.0.1"));
        assert!(!hit(&table, "10.1.9.9"));
        assert!(hit(&table, "10.1.2.3"));
        assert!(hit(&table, "2001:db8::1"));
        assert!(!hit(&table, "11.0.0.1"));
        let report = table.report("", (0, 0), Uptime::ZERO);
        assert_eq!((report.matched, report.no_match, report.addresses), (3, 2, 4));
    }

    #[test]
    fn one_network_has_one_sign() {
        let table = Table::created("t", Uptime::ZERO);
        assert_eq!(table.add(&[entry("10.0.0.0/8"), entry("!10.0.0.0/8")], Uptime::ZERO).len(), 1);
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
                table.add(&[entry], Uptime::ZERO);
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
