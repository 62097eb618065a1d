//! One ruleset: the main one, or the contents of an anchor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pfapi::control::RuleReport;
use pfapi::dialect::Dialect;
use pfapi::ruleset::{Rule, RuleKind};

use super::rule::{Live, LoadedRule};
use super::tag::Tags;
use crate::engine::Loader;

/// The rules of one path with their counters. Snapshots share it until it is loaded anew.
#[derive(Debug)]
pub struct Ruleset {
    /// Path from the main ruleset, which is empty.
    pub path: Arc<str>,
    /// In evaluation order.
    pub rules: Vec<Arc<LoadedRule>>,
    /// Load that brought it; no two loads have the same.
    pub epoch: u64,
    /// Whose pf.conf its rules come from.
    pub dialect: Dialect,
    /// How often a walk through this ruleset ended at each rule, for each kind of rules that it
    /// has: the rules of that kind before it were looked at too.
    ends: Vec<(RuleKind, Box<[AtomicU64]>)>,
}

impl Ruleset {
    /// Rules that were loaded together.
    pub fn new<'a>(
        path: &str,
        rules: impl IntoIterator<Item = &'a Rule>,
        epoch: u64,
        loader: Loader,
        tags: &Tags,
    ) -> Self {
        let path: Arc<str> = Arc::from(path);
        let rules: Vec<_> = (0u32..)
            .zip(rules)
            .map(|(number, rule)| {
                let mut rule = rule.clone();
                // What stands between braces is a ruleset of its own.
                if let Some(anchor) = &mut rule.anchor {
                    anchor.rules = anchor.rules.take().map(|_| Vec::new());
                }
                Arc::new(LoadedRule::new(rule, &path, Some(number), epoch, loader, tags))
            })
            .collect();
        let kinds: BTreeSet<RuleKind> = rules.iter().map(|rule| rule.rule.kind).collect();
        let zeros = || rules.iter().map(|_| AtomicU64::new(0)).collect();
        let ends = kinds.into_iter().map(|kind| (kind, zeros())).collect();
        Self { path, rules, epoch, dialect: Dialect::default(), ends }
    }

    /// The same rules, which nobody else has yet, from a pf.conf of this dialect. FreeBSD has a list
    /// for each kind of rules, with numbers of its own.
    #[must_use]
    pub fn of(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        if dialect.is_freebsd() {
            let mut counts: BTreeMap<RuleKind, u32> = BTreeMap::new();
            for rule in self.rules.iter_mut().filter_map(Arc::get_mut) {
                let count = counts.entry(rule.rule.kind).or_default();
                rule.listed = Some(*count);
                *count += 1;
            }
        }
        self
    }

    fn ends(&self, kind: RuleKind) -> &[AtomicU64] {
        let found = self.ends.iter().find(|(known, _)| *known == kind);
        found.map_or(&[], |(_, ends)| ends)
    }

    /// Counts a walk for rules of a kind that looked at the rules up to this one.
    pub fn count_end(&self, kind: RuleKind, last: usize) {
        if let Some(end) = self.ends(kind).get(last) {
            end.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often the rule of this kind at this position was looked at.
    pub fn evaluations(&self, kind: RuleKind, at: usize) -> u64 {
        self.ends(kind).iter().skip(at).map(|end| end.load(Ordering::Relaxed)).sum()
    }

    /// Counts a walk that looked at all rules of a kind.
    pub fn count_whole(&self, kind: RuleKind) {
        if let Some(last) = self.rules.len().checked_sub(1) {
            self.count_end(kind, last);
        }
    }

    /// Rules `first..` with their counters, at most `most`; `live` says what the living states of
    /// each rule have counted.
    pub fn report(
        &self,
        first: usize,
        most: usize,
        live: impl Fn(&LoadedRule) -> Live,
    ) -> Vec<RuleReport> {
        let end = first.saturating_add(most).min(self.rules.len());
        let read = |end: &AtomicU64| end.load(Ordering::Relaxed);
        let mut sums: Vec<u64> =
            self.ends.iter().map(|(_, ends)| ends.iter().skip(end).map(read).sum()).collect();
        let mut reports = Vec::new();
        for at in (first.min(end)..end).rev() {
            let rule = &self.rules[at];
            let mut evaluations = 0;
            for (sum, (kind, ends)) in sums.iter_mut().zip(&self.ends) {
                *sum += read(&ends[at]);
                if *kind == rule.rule.kind {
                    evaluations = *sum;
                }
            }
            reports.push(rule.report(evaluations, &live(rule)));
        }
        reports.reverse();
        reports
    }

    /// Zeroes what `pfctl -z` zeroes.
    pub fn clear_counters(&self) {
        let ends = self.ends.iter().flat_map(|(_, ends)| ends);
        ends.for_each(|end| end.store(0, Ordering::Relaxed));
        self.rules.iter().for_each(|rule| rule.counters.clear());
    }
}
