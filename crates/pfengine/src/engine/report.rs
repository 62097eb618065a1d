//! What the engine tells: status, rules and states with their counters.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use pfapi::control::{
    Info, LimiterReport, LimiterSourceReport, RuleReport, SourceReport, StateReport,
};
use pfapi::dialect::Dialect;
use pfapi::limit::Limits;
use pfapi::osfp::OsName;
use pfapi::reason::{CookieCounter, LimitCounter, TableCounter};
use pfapi::timeout::Timeouts;
use pfapi::units::{IfIndex, Uptime};

use super::Engine;
use crate::rules::{Live, LoadedRule};
use crate::source::SourceNode;
use crate::state::expire::Population;
use crate::stats::Totals;

impl Engine {
    pub(super) fn totals(&self) -> Totals {
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
        let sources = self.sources.operations();
        let source_table = TableCounter::ALL
            .into_iter()
            .zip(sources.into_iter().zip(control.cleared_sources))
            .map(|(counter, (now, before))| (counter, now - before))
            .collect();
        let gauges = &self.store.half_open;
        let cookies = self.syncookies.report(now, &gauges.backlog);
        let pf_states = gauges.pf_states.load(Ordering::Relaxed);
        let counted = |counter| self.syncookies.counters.get(counter);
        Info {
            enabled: snapshot.enabled,
            status_since_s: now.secs_since(control.status_since),
            counting_s: now.secs_since(control.counting_since),
            hostid: self.hostid(),
            checksum: snapshot.rules.checksum.clone(),
            states: self.store.count(),
            half_open: self.half_open(),
            half_open_pf: (!cookies.classic).then_some(pf_states),
            state_table,
            source_nodes: self.sources.count(),
            source_table,
            fragments: self.fragments.with(|cache| cache.held()),
            fragment_table: totals.fragment_table(),
            reasons: totals.reasons(),
            limit_counters: self.limit_counters.list([
                (LimitCounter::Synfloods, self.syncookies.synfloods()),
                (LimitCounter::SyncookiesSent, counted(CookieCounter::SynReceived)),
                (LimitCounter::SyncookiesValid, counted(CookieCounter::CookieValid)),
            ]),
            syncookies: cookies,
            log_interface: self.log_interface(&control, &snapshot, now),
        }
    }

    /// This filter's id.
    #[must_use]
    pub fn hostid(&self) -> u32 {
        self.hostid.load(Ordering::Relaxed)
    }

    /// Rules `first..` of the main ruleset with their counters, at most `most`.
    #[must_use]
    pub fn rules(&self, first: usize, most: usize) -> Vec<RuleReport> {
        self.rules_of("", first, most)
    }

    /// Whether an anchor with this path exists; the empty path always does.
    #[must_use]
    pub fn has_anchor(&self, path: &str) -> bool {
        self.snapshot.load().rules.rulesets.contains_key(path)
    }

    /// Paths of all anchors, each with those that lie in it right behind it.
    #[must_use]
    pub fn anchors(&self) -> Vec<String> {
        let snapshot = self.snapshot.load();
        let paths = snapshot.rules.rulesets.keys();
        let mut paths: Vec<String> = paths.filter(|path| !path.is_empty()).cloned().collect();
        paths.sort_by(|one, other| one.split('/').cmp(other.split('/')));
        paths
    }

    /// Names of the systems whose fingerprints are known, each as often as it has some.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<OsName> {
        let snapshot = self.snapshot.load();
        let entries = snapshot.rules.fingerprints.entries();
        entries.iter().flat_map(|entry| &entry.systems).cloned().collect()
    }

    /// Rules `first..` of the ruleset `path` with their counters, at most `most`.
    #[must_use]
    pub fn rules_of(&self, path: &str, first: usize, most: usize) -> Vec<RuleReport> {
        let snapshot = self.snapshot.load();
        let Some(ruleset) = snapshot.rules.rulesets.get(path) else { return Vec::new() };
        let wanted = first..first.saturating_add(most).min(ruleset.rules.len());
        let mut live = vec![Live::default(); wanted.len()];
        let place = |rule: &LoadedRule| {
            let number = rule.number? as usize;
            let here = rule.epoch == ruleset.epoch && rule.path == ruleset.path;
            (here && wanted.contains(&number)).then(|| number - wanted.start)
        };
        for slot in 0..self.store.slots() {
            let Some(state) = self.store.lock(slot) else { continue };
            let counted = state.counted();
            for rule in state.rules() {
                if let Some(at) = place(rule) {
                    live[at].add(&counted);
                }
            }
        }
        ruleset.report(first, most, |rule| place(rule).map_or_else(Live::default, |at| live[at]))
    }

    /// Whose pf.conf the rules of a path come from; the usual one's when there is no such path.
    #[must_use]
    pub fn dialect_of(&self, path: &str) -> Dialect {
        let snapshot = self.snapshot.load();
        snapshot.rules.rulesets.get(path).map_or_else(Dialect::default, |set| set.dialect)
    }

    /// Source nodes.
    #[must_use]
    pub fn sources(&self, now: Uptime) -> Vec<SourceReport> {
        let snapshot = self.snapshot.load();
        let mut living: Vec<(Arc<SourceNode>, Live)> = Vec::new();
        if self.sources.count() > 0 {
            for slot in 0..self.store.slots() {
                let Some(state) = self.store.lock(slot) else { continue };
                if let Some(source) = state.source() {
                    living.push((Arc::clone(source.node()), state.counted()));
                }
            }
        }
        living.sort_by_key(|(node, _)| Arc::as_ptr(node));
        let live = |node: &Arc<SourceNode>| {
            let wanted = Arc::as_ptr(node);
            let first = living.partition_point(|(other, _)| Arc::as_ptr(other) < wanted);
            let mut sum = Live::default();
            let own = living[first..].iter().take_while(|(other, _)| Arc::ptr_eq(other, node));
            own.for_each(|(_, live)| sum.add(live));
            sum
        };
        self.sources.report(now, &snapshot.timeouts, &snapshot.rules, live)
    }

    /// State limiters and source limiters, by number.
    #[must_use]
    pub fn limiters(&self) -> (Vec<LimiterReport>, Vec<LimiterReport>) {
        self.snapshot.load().rules.limiters.report()
    }

    /// What the source limiter of this number tracks, in address order.
    #[must_use]
    pub fn limiter_sources(&self, id: u8) -> Vec<LimiterSourceReport> {
        self.snapshot.load().rules.limiters.sources(id)
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
                let interface = self.interface_name(state.interface);
                reports.push(state.report(
                    interface,
                    now,
                    &snapshot.timeouts,
                    population,
                    self.hostid(),
                    &snapshot.rules,
                ));
            }
            *cursor += 1;
        }
        reports
    }

    /// Name of the interface that a state is bound to; `all` for floating states.
    pub(super) fn interface_name(&self, interface: Option<IfIndex>) -> &str {
        interface
            .and_then(|index| self.config.facts.interfaces.get(usize::from(index.0)))
            .map_or("all", |interface| interface.name.as_str())
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
}
