//! The engine that all threads share: what is in force, and the control side.
//!
//! Packets never wait for the control side: they read one snapshot of the rules, and control
//! operations on states lock one state at a time.

use core::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use pfapi::check::CheckedRuleset;
use pfapi::control::{
    Flush, Info, KillFilter, RuleReport, StateReport, SyncookieInfo, TableReport,
};
use pfapi::facts::Facts;
use pfapi::limit::{Limit, Limits};
use pfapi::reason::{LimitCounter, TableCounter};
use pfapi::ruleset::{SyncookieMode, Syncookies as SyncookieSetting, TableEntry, Watermarks};
use pfapi::timeout::Timeouts;
use pfapi::units::{Direction, Uptime};

use crate::rng::Rng;
use crate::rules::{Live, LoadedRules, Tables};
use crate::state::entry::State;
use crate::state::expire::Population;
use crate::state::key::HashSecret;
use crate::state::store::Store;
use crate::stats::{LimitCounters, Stats, Totals};
use crate::syncookie::Syncookies;
use crate::table::Table;
use crate::worker::Worker;

/// What an engine must know when it is made.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Interfaces; an [`pfapi::units::IfIndex`] is a position in this list.
    pub facts: Facts,
    /// Seed of everything random: cookie keys, sequence numbers, hash secrets.
    pub seed: [u8; 32],
    /// This filter's id, not zero.
    pub hostid: u32,
}

/// Who loads a ruleset; shown by `pfctl -vsr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loader {
    /// User id.
    pub uid: u32,
    /// Process id.
    pub pid: u32,
}

/// Why a ruleset could not be put in force; the old one stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A limit would fall below what is in use.
    #[error("current pool size {in_use} exceeds requested {limit} limit {requested}")]
    LimitInUse {
        /// Which limit.
        limit: Limit,
        /// What the ruleset asked for.
        requested: u32,
        /// What is in use.
        in_use: u64,
    },
}

/// Why a table could not be changed or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// No such table.
    #[error("Table does not exist")]
    NotFound,
    /// The table is `const`.
    #[error("Operation not permitted")]
    Constant,
    /// `set limit tables` or `table-entries` would be exceeded.
    #[error("Cannot allocate memory")]
    Limit,
}

/// What a load puts in force as one step.
#[derive(Debug)]
pub struct Snapshot {
    /// Rules and tables.
    pub rules: LoadedRules,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Limits.
    pub limits: Limits,
    /// Whether packets are filtered at all.
    pub enabled: bool,
}

/// The filter that all threads share.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) store: Store,
    pub(crate) syncookies: Syncookies,
    limit_counters: LimitCounters,
    /// One load or table change at a time; also the clock marks that only the control side needs.
    control: Mutex<Control>,
    stats: Mutex<Vec<Arc<Stats>>>,
    /// What the control side counts: removals by flush and kill.
    control_removals: AtomicU64,
    /// Whether `classic` syncookies are set, for the packet path.
    pub(crate) classic: AtomicBool,
    rng: Mutex<Rng>,
}

#[derive(Debug)]
struct Control {
    epoch: u64,
    status_since: Uptime,
    counting_since: Uptime,
    cleared: Totals,
    cleared_removals: u64,
}

impl Engine {
    /// A disabled engine with an empty ruleset.
    #[must_use]
    pub fn new(config: EngineConfig, now: Uptime) -> Arc<Self> {
        let mut rng = Rng::new(config.seed);
        let limits = Limits::default();
        let snapshot = Snapshot {
            rules: LoadedRules::empty(&config.facts, 0),
            timeouts: Timeouts::default(),
            limits,
            enabled: false,
        };
        // pf's ids begin with the time of the first enable; here a random word keeps the ids of
        // two runs apart.
        let first_id = u64::from(rng.next_u32()) << 32 | 1;
        Arc::new(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            store: Store::new(limits.get(Limit::States), HashSecret(rng.key()), first_id),
            syncookies: Syncookies::new(rng.seed()),
            limit_counters: LimitCounters::default(),
            control: Mutex::new(Control {
                epoch: 0,
                status_since: now,
                counting_since: now,
                cleared: Totals::default(),
                cleared_removals: 0,
            }),
            stats: Mutex::new(Vec::new()),
            control_removals: AtomicU64::new(0),
            classic: AtomicBool::new(false),
            rng: Mutex::new(rng),
            config,
        })
    }

    /// A worker for one thread.
    #[must_use]
    pub fn worker(self: &Arc<Self>) -> Worker {
        let stats = Arc::new(Stats::default());
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&stats));
        let seed = self.rng.lock().unwrap_or_else(PoisonError::into_inner).seed();
        Worker::new(Arc::clone(self), stats, Rng::new(seed))
    }

    /// Interfaces and their addresses.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.config.facts
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Half-open connections: the count that drives adaptive syncookies.
    #[must_use]
    pub fn half_open(&self) -> u64 {
        let gauges = &self.store.half_open;
        if self.classic.load(Ordering::Relaxed) {
            gauges.pf_states.load(Ordering::Relaxed)
        } else {
            gauges.connections.load(Ordering::Relaxed)
        }
    }

    /// Puts a ruleset in force as one step; states stay.
    ///
    /// # Errors
    /// When a limit falls below what is in use; nothing changes then.
    pub fn load(
        &self,
        ruleset: &CheckedRuleset,
        loader: Loader,
        now: Uptime,
    ) -> Result<(), LoadError> {
        let mut control = self.control();
        let old = self.snapshot.load_full();
        let options = ruleset.options();
        let requested = options.limits.get(Limit::States);
        let in_use = self.store.count();
        if in_use > u64::from(requested) {
            return Err(LoadError::LimitInUse { limit: Limit::States, requested, in_use });
        }
        let mut tables = kept_tables(&old.rules.tables, ruleset);
        for definition in ruleset.tables() {
            let before = old.rules.tables.get(&definition.name).map(Arc::as_ref);
            tables.insert(definition.name.clone(), Arc::new(Table::new(definition, before, now)));
        }
        // A table lives while rules name it, or by `persist`.
        tables.retain(|name, table| table.is_persistent() || names_table(ruleset, name));
        control.epoch += 1;
        let rules = LoadedRules::new(ruleset, tables, self.facts(), control.epoch, loader);
        self.store.set_limit(requested);
        self.snapshot.store(Arc::new(Snapshot {
            rules,
            timeouts: options.timeouts,
            limits: options.limits,
            enabled: old.enabled,
        }));
        if let Some(setting) = options.syncookies {
            self.configure_syncookies(setting, now);
        }
        Ok(())
    }

    fn configure_syncookies(&self, setting: SyncookieSetting, now: Uptime) {
        self.classic.store(setting.classic, Ordering::Relaxed);
        self.syncookies.configure(setting, now);
    }

    /// Replaces parts of the snapshot; the caller holds the control lock.
    fn change(&self, _control: &Control, change: impl FnOnce(&Snapshot) -> Snapshot) {
        let changed = change(&self.snapshot.load());
        self.snapshot.store(Arc::new(changed));
    }

    /// Enables or disables filtering; false when that was so already.
    #[must_use]
    pub fn set_enabled(&self, enabled: bool, now: Uptime) -> bool {
        let mut control = self.control();
        if self.snapshot.load().enabled == enabled {
            return false;
        }
        control.status_since = now;
        if enabled {
            control.counting_since = now;
        }
        self.change(&control, |old| Snapshot {
            rules: old.rules.with_tables(old.rules.tables.clone()),
            enabled,
            ..*old
        });
        true
    }

    fn totals(&self) -> Totals {
        let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        Totals::of(stats.iter().map(Arc::as_ref))
    }

    /// Everything that `pfctl -vsi` prints.
    #[must_use]
    pub fn info(&self, now: Uptime) -> Info {
        let control = self.control();
        let snapshot = self.snapshot.load();
        let totals = self.totals().since(&control.cleared);
        let mut state_table = totals.state_table();
        state_table[TableCounter::Removals as usize].1 +=
            self.control_removals.load(Ordering::Relaxed) - control.cleared_removals;
        let empty = || TableCounter::ALL.into_iter().map(|counter| (counter, 0)).collect();
        let cookies = self.syncookies.status();
        let gauges = &self.store.half_open;
        let pf_states = gauges.pf_states.load(Ordering::Relaxed);
        Info {
            enabled: snapshot.enabled,
            status_since_s: now.secs_since(control.status_since),
            counting_s: now.secs_since(control.counting_since),
            hostid: self.config.hostid,
            checksum: snapshot.rules.checksum.clone(),
            states: self.store.count(),
            half_open: self.half_open(),
            half_open_pf: (!cookies.classic).then_some(pf_states),
            state_table,
            source_nodes: 0,
            source_table: empty(),
            fragments: 0,
            fragment_table: empty(),
            reasons: totals.reasons(),
            limit_counters: self.limit_counters.list([
                (LimitCounter::Synfloods, cookies.synfloods),
                (LimitCounter::SyncookiesSent, cookies.sent),
                (LimitCounter::SyncookiesValid, cookies.validated),
            ]),
            syncookies: SyncookieInfo {
                mode: cookies.mode,
                classic: cookies.classic,
                active: cookies.active,
                watermarks: cookies.watermarks,
                in_flight: cookies.in_flight,
            },
        }
    }

    /// Rules `first..` with their counters, at most `most`.
    #[must_use]
    pub fn rules(&self, first: usize, most: usize) -> Vec<RuleReport> {
        let snapshot = self.snapshot.load();
        let mut live = vec![Live::default(); most.min(snapshot.rules.rules.len())];
        for slot in 0..self.store.slots() {
            let Some(state) = self.store.lock(slot) else { continue };
            if state.rule.epoch == snapshot.rules.epoch
                && let Some(number) = state.rule.number
                && let Some(sum) =
                    (number as usize).checked_sub(first).and_then(|at| live.get_mut(at))
            {
                sum.add(&state.counted());
            }
        }
        snapshot.rules.report(first, most, |at| live.get(at - first).copied().unwrap_or_default())
    }

    /// States from slab position `*cursor` on, at most `most`; moves the cursor. An empty answer
    /// ends the list.
    #[must_use]
    pub fn states(&self, cursor: &mut u32, most: usize, now: Uptime) -> Vec<StateReport> {
        let snapshot = self.snapshot.load();
        let population = Population(self.store.count());
        let end = self.store.slots();
        let mut reports = Vec::new();
        while *cursor < end && reports.len() < most {
            if let Some(state) = self.store.lock(*cursor)
                && !state.purge
            {
                reports.push(state.report(
                    now,
                    &snapshot.timeouts,
                    population,
                    self.config.hostid,
                    snapshot.rules.epoch,
                ));
            }
            *cursor += 1;
        }
        reports
    }

    /// Timeouts in force.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        self.snapshot.load().timeouts
    }

    /// Limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.snapshot.load().limits
    }

    /// All tables by name.
    #[must_use]
    pub fn tables(&self, now: Uptime) -> Vec<TableReport> {
        let snapshot = self.snapshot.load();
        let rules = &snapshot.rules;
        rules
            .tables
            .iter()
            .filter(|(_, table)| table.is_defined())
            .map(|(name, table)| table.report(rules.references(name), now))
            .collect()
    }

    fn table(&self, name: &str) -> Result<Arc<Table>, TableError> {
        let snapshot = self.snapshot.load();
        let table = snapshot.rules.tables.get(name).filter(|table| table.is_defined());
        table.cloned().ok_or(TableError::NotFound)
    }

    /// Entries of a table in address order.
    ///
    /// # Errors
    /// [`TableError::NotFound`].
    pub fn table_entries(&self, table: &str) -> Result<Vec<TableEntry>, TableError> {
        Ok(self.table(table)?.entries())
    }

    /// Adds entries, making the table when it is missing. Gives the entries that were new, and
    /// whether the table was made.
    ///
    /// # Errors
    /// [`TableError::Constant`], [`TableError::Limit`]; nothing changes then.
    pub fn table_add(
        &self,
        name: &str,
        entries: &[TableEntry],
        now: Uptime,
    ) -> Result<(Vec<TableEntry>, bool), TableError> {
        let control = self.control();
        let snapshot = self.snapshot.load_full();
        let limits = &snapshot.limits;
        let tables = &snapshot.rules.tables;
        let held: usize = tables.values().map(|table| table.len()).sum();
        let fits = |count: usize, limit| count as u64 <= u64::from(limits.get(limit));
        if !fits(held + entries.len(), Limit::TableEntries) {
            return Err(TableError::Limit);
        }
        if let Some(table) = tables.get(name) {
            if table.is_constant() {
                return Err(TableError::Constant);
            }
            let created = !table.is_defined();
            if created {
                table.define(now);
            }
            return Ok((table.add(entries), created));
        }
        if !fits(tables.len() + 1, Limit::Tables) {
            return Err(TableError::Limit);
        }
        let table = Arc::new(Table::created(name, now));
        let added = table.add(entries);
        let mut tables = tables.clone();
        tables.insert(name.to_owned(), table);
        self.change(&control, |old| Snapshot { rules: old.rules.with_tables(tables), ..*old });
        Ok((added, true))
    }

    /// Deletes entries; gives those that were there.
    ///
    /// # Errors
    /// [`TableError::NotFound`], [`TableError::Constant`].
    pub fn table_delete(
        &self,
        name: &str,
        entries: &[TableEntry],
    ) -> Result<Vec<TableEntry>, TableError> {
        let _control = self.control();
        let table = self.table(name)?;
        if table.is_constant() {
            return Err(TableError::Constant);
        }
        Ok(table.delete(entries))
    }

    /// Longest match of each address, negated entries included.
    ///
    /// # Errors
    /// [`TableError::NotFound`].
    pub fn table_test(
        &self,
        name: &str,
        addrs: &[IpAddr],
    ) -> Result<Vec<Option<TableEntry>>, TableError> {
        let table = self.table(name)?;
        Ok(addrs.iter().map(|&addr| table.test(addr)).collect())
    }

    /// Flushes; gives the number of items that ended where pfctl prints one (states, tables).
    #[must_use]
    pub fn flush(&self, what: &Flush, now: Uptime) -> u64 {
        match what {
            Flush::Rules => {
                let mut control = self.control();
                control.epoch += 1;
                let epoch = control.epoch;
                self.change(&control, |old| {
                    let mut rules = LoadedRules::empty(self.facts(), epoch);
                    rules.tables = old.rules.tables.clone();
                    rules.tables.retain(|_, table| table.is_defined());
                    Snapshot { rules, ..*old }
                });
                0
            }
            Flush::States { interface } => self.end_states(|_| is_floating(interface.as_deref())),
            Flush::Info => {
                let mut control = self.control();
                control.cleared = self.totals();
                control.cleared_removals = self.control_removals.load(Ordering::Relaxed);
                control.counting_since = now;
                0
            }
            Flush::Tables => {
                let control = self.control();
                let mut count = 0;
                self.change(&control, |old| {
                    let mut tables = Tables::new();
                    for (name, table) in &old.rules.tables {
                        count += u64::from(table.is_defined());
                        // Rules hold on to their tables, so those are emptied in place.
                        if old.rules.references(name) > 0 {
                            table.undefine();
                            tables.insert(name.clone(), Arc::clone(table));
                        }
                    }
                    Snapshot { rules: old.rules.with_tables(tables), ..*old }
                });
                count
            }
            Flush::Reset => {
                let control = self.control();
                let limits = Limits::default();
                self.store.set_limit(limits.get(Limit::States));
                self.change(&control, |old| {
                    let mut rules = old.rules.with_tables(old.rules.tables.clone());
                    rules.skip = LoadedRules::empty(self.facts(), 0).skip;
                    Snapshot { rules, timeouts: Timeouts::default(), limits, ..*old }
                });
                self.configure_syncookies(
                    SyncookieSetting {
                        mode: SyncookieMode::Never,
                        classic: false,
                        // pfctl's own default for the end is 12 %, not the kernel's 12.5 %.
                        watermarks: Some(Watermarks::from_percent(
                            limits.get(Limit::States),
                            Watermarks::DEFAULT_START_PERCENT,
                            Watermarks::DEFAULT_START_PERCENT / 2,
                        )),
                    },
                    now,
                );
                0
            }
        }
    }

    /// Ends states; gives how many.
    #[must_use]
    pub fn kill_states(&self, filter: &KillFilter, _now: Uptime) -> u64 {
        self.end_states(|state| match filter {
            KillFilter::Hosts { sources, destinations, interface } => {
                let (source, destination) = ends(state);
                is_floating(interface.as_deref())
                    && sources.iter().any(|net| net.contains(source.0))
                    && (destinations.is_empty()
                        || destinations.iter().any(|net| net.contains(destination.0)))
            }
            KillFilter::Label { label } => state.rule.rule.label.as_ref() == Some(label),
            KillFilter::Id { id, creator } => {
                state.id == *id && creator.is_none_or(|creator| creator == self.config.hostid)
            }
            KillFilter::Key { proto, source, destination } => {
                state.key.proto == *proto && ends(state) == (*source, *destination)
            }
        })
    }

    /// Ends every state for which `which` holds.
    fn end_states(&self, which: impl Fn(&State) -> bool) -> u64 {
        let view = self.store.open();
        let mut count = 0;
        for slot in 0..self.store.slots() {
            if let Some(state) = view.remove_if(slot, &which) {
                state.retire();
                count += u64::from(!state.purge);
            }
        }
        self.control_removals.fetch_add(count, Ordering::Relaxed);
        count
    }

    /// Zeroes the counters of all rules.
    pub fn clear_rule_counters(&self) {
        self.snapshot.load().rules.clear_counters();
        for slot in 0..self.store.slots() {
            if let Some(mut state) = self.store.lock(slot) {
                state.clear_counted();
            }
        }
    }

    /// Compares every gauge with a recount. Not for a running packet path: the sweep sees states
    /// at different moments.
    ///
    /// # Errors
    /// Says what differs.
    pub fn check_invariants(&self) -> Result<(), String> {
        let (mut states, mut connections, mut pf_states) = (0, 0, 0);
        for slot in 0..self.store.slots() {
            if let Some(state) = self.store.lock(slot) {
                let (connection, pf_state) = state.half_open_counts();
                states += 1;
                connections += u64::from(connection);
                pf_states += u64::from(pf_state);
            }
        }
        let gauges = &self.store.half_open;
        let checks = [
            ("states", self.store.count(), states),
            ("half-open connections", gauges.connections.load(Ordering::Relaxed), connections),
            ("half-open states of pf", gauges.pf_states.load(Ordering::Relaxed), pf_states),
        ];
        for (what, gauge, recount) in checks {
            if gauge != recount {
                return Err(format!("{what}: the gauge says {gauge}, a recount {recount}"));
            }
        }
        Ok(())
    }
}

/// All states float, so an interface name other than `all` names none of them.
fn is_floating(interface: Option<&str>) -> bool {
    interface.is_none_or(|name| name == "all")
}

/// Initiator and other end of a state.
fn ends(state: &State) -> ((IpAddr, u16), (IpAddr, u16)) {
    let side = |side: usize| (state.key.addr[side].to_ip(state.key.af), state.key.port[side]);
    match state.direction {
        Direction::In => (side(0), side(1)),
        Direction::Out => (side(1), side(0)),
    }
}

/// Whether a rule names the table.
fn names_table(ruleset: &CheckedRuleset, name: &str) -> bool {
    ruleset.rules().any(|rule| rule.tables().any(|other| other == name))
}

/// Tables that outlive a load without being defined in it: persistent ones, and those that the
/// new rules name.
fn kept_tables(old: &Tables, ruleset: &CheckedRuleset) -> Tables {
    old.iter()
        .filter(|(name, table)| {
            table.is_persistent() || table.is_defined() && names_table(ruleset, name)
        })
        .map(|(name, table)| (name.clone(), Arc::clone(table)))
        .collect()
}
