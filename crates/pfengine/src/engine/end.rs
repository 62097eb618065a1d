//! What ends states, tables, rules and counters before their time.

use core::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pfapi::control::{Flush, KillFilter};
use pfapi::limit::{Limit, Limits};
use pfapi::ruleset::{SyncookieMode, Syncookies as SyncookieSetting, Watermarks};
use pfapi::timeout::Timeouts;
use pfapi::units::{Direction, Uptime};

use super::{Engine, Snapshot};
use crate::rules::{LoadedRules, Tables, add_named_tables, skipped};
use crate::state::entry::State;

impl Engine {
    /// Flushes; gives the number of items that ended where pfctl prints one (states, tables).
    #[must_use]
    pub fn flush(&self, what: &Flush, now: Uptime) -> u64 {
        match what {
            Flush::Rules => {
                let mut control = self.control();
                control.epoch += 1;
                let epoch = control.epoch;
                self.change(&control, |old| {
                    let mut rulesets = old.rules.rulesets.clone();
                    rulesets.extend(LoadedRules::empty(self.facts(), epoch).rulesets);
                    let mut tables = old.rules.tables.clone();
                    tables.retain(|_, table| table.is_defined());
                    add_named_tables(
                        &mut tables,
                        rulesets.values().flat_map(|set| &set.rules).map(|rule| &rule.rule),
                    );
                    let (tags, skip) = (old.rules.tags.clone(), old.rules.skip.clone());
                    let rules = LoadedRules::new(rulesets, tables, tags, skip, self.facts(), epoch);
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
                    let rules = old.rules.with_skip(skipped(&[], self.facts()));
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
