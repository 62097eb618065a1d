//! Interfaces with their counters: `set loginterface`, `pfctl -s Interfaces`.
//!
//! Source: OpenBSD sys/net/pf_if.c `pfi_get_ifaces`, `pfi_update_status`. Different from there: a
//! group counts what its members count.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use pfapi::control::{InterfaceReport, InterfaceTraffic};
use pfapi::units::{IfIndex, Uptime};

use super::{Control, Engine, Snapshot};
use crate::rules::is_named;

/// The name under which floating states stand.
const ALL: &str = "all";

impl Engine {
    /// All interfaces and groups by name, and `all`.
    #[must_use]
    pub fn interfaces(&self, now: Uptime) -> Vec<InterfaceReport> {
        let control = self.control();
        let snapshot = self.snapshot.load();
        let mut names = BTreeSet::from([ALL]);
        for interface in &snapshot.facts.interfaces {
            names.insert(&interface.name);
            names.extend(interface.groups.iter().map(String::as_str));
        }
        let mut states: BTreeMap<&str, u64> = BTreeMap::new();
        for slot in 0..self.store.slots() {
            if let Some(state) = self.store.lock(slot) {
                *states.entry(self.interface_name(state.interface)).or_default() += 1;
            }
        }
        let report = |name: &str| {
            let states = states.get(name).copied().unwrap_or_default();
            self.interface_report(&control, &snapshot, (name, states), now)
        };
        names.into_iter().map(report).collect()
    }

    /// What `set loginterface` names.
    pub(super) fn log_interface(
        &self,
        control: &Control,
        snapshot: &Snapshot,
        now: Uptime,
    ) -> Option<InterfaceReport> {
        let name = snapshot.log_interface.as_deref()?;
        Some(self.interface_report(control, snapshot, (name, 0), now))
    }

    fn interface_report(
        &self,
        control: &Control,
        snapshot: &Snapshot,
        (name, states): (&str, u64),
        now: Uptime,
    ) -> InterfaceReport {
        let mut traffic = self.interface_traffic(snapshot, name);
        let mut cleared = control.started;
        if let Some((before, when)) = control.cleared_interfaces.get(name) {
            traffic.subtract(before);
            cleared = *when;
        }
        let mut members = members(snapshot, name).peekable();
        let skip =
            members.peek().is_some() && members.all(|index| snapshot.rules.skip.contains(index.0));
        let names_it = |rule: &&Arc<crate::rules::LoadedRule>| {
            rule.rule.interface.as_ref().is_some_and(|interface| interface.name == name)
        };
        InterfaceReport {
            name: name.to_owned(),
            skip,
            cleared_s: now.secs_since(cleared),
            states,
            rules: snapshot.rules.all_rules().filter(names_it).count() as u64,
            traffic,
        }
    }

    /// What the interfaces of a name have counted since the start.
    fn interface_traffic(&self, snapshot: &Snapshot, name: &str) -> InterfaceTraffic {
        let workers = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = InterfaceTraffic::default();
        for index in members(snapshot, name) {
            workers.iter().for_each(|worker| sum.add(&worker.interfaces.read(index)));
        }
        sum
    }

    /// Zeroes the counters of an interface or group.
    pub(super) fn clear_interface(&self, control: &mut Control, name: &str, now: Uptime) {
        let snapshot = self.snapshot.load();
        // Names come from the outside; only those that mean something are kept.
        if members(&snapshot, name).next().is_some() {
            let traffic = self.interface_traffic(&snapshot, name);
            control.cleared_interfaces.insert(name.to_owned(), (traffic, now));
        }
    }
}

/// Interfaces that a name stands for.
fn members<'a>(snapshot: &'a Snapshot, name: &'a str) -> impl Iterator<Item = IfIndex> + 'a {
    let all = (0..).zip(&snapshot.facts.interfaces);
    all.filter(move |(_, interface)| is_named(interface, name)).map(|(at, _)| IfIndex(at))
}
