//! One ruleset: the main one, or the contents of an anchor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pfapi::control::RuleReport;
use pfapi::dialect::Dialect;
use pfapi::ruleset::Rule;

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
    /// How often a walk through this ruleset ended at each rule: the rules before it were looked
    /// at too.
    ends: Box<[AtomicU64]>,
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
        let ends = rules.iter().map(|_| AtomicU64::new(0)).collect();
        Self { path, rules, epoch, dialect: Dialect::default(), ends }
    }

    /// The same rules, from a pf.conf of this dialect.
    #[must_use]
    pub fn of(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// Counts a walk that looked at the rules up to this one.
    pub fn count_end(&self, last: usize) {
        if let Some(end) = self.ends.get(last) {
            end.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often the rule at this position was looked at.
    pub fn evaluations(&self, at: usize) -> u64 {
        self.ends.iter().skip(at).map(|end| end.load(Ordering::Relaxed)).sum()
    }

    /// Counts a walk that looked at all rules.
    pub fn count_whole(&self) {
        if let Some(last) = self.rules.len().checked_sub(1) {
            self.count_end(last);
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
        let mut evaluations: u64 = self.ends.iter().skip(end).map(read).sum();
        let mut reports = Vec::new();
        for at in (first.min(end)..end).rev() {
            evaluations += read(&self.ends[at]);
            let rule = &self.rules[at];
            reports.push(rule.report(evaluations, &live(rule)));
        }
        reports.reverse();
        reports
    }

    /// Zeroes what `pfctl -z` zeroes.
    pub fn clear_counters(&self) {
        self.ends.iter().for_each(|end| end.store(0, Ordering::Relaxed));
        self.rules.iter().for_each(|rule| rule.counters.clear());
    }
}
