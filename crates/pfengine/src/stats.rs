//! Counters of what the filter did.
//!
//! Each worker has its own and is the only one that writes them, so counting is a plain add; who
//! reads sums over the workers.

use std::sync::atomic::{AtomicU64, Ordering};

use pfapi::reason::{LimitCounter, Reason, TableCounter};

use crate::interface_stats::InterfaceStats;
use crate::normalize::fragment::cache::Operations;

/// Counters of one worker, or of the control side.
#[derive(Debug, Default)]
pub struct Stats {
    reasons: [AtomicU64; Reason::ALL.len()],
    state_table: [AtomicU64; TableCounter::ALL.len()],
    fragment_table: [AtomicU64; TableCounter::ALL.len()],
    /// By interface.
    pub interfaces: InterfaceStats,
}

/// Adds to a counter that only this thread writes.
pub fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

impl Stats {
    /// Counts a packet for a reason.
    pub fn reason(&self, reason: Reason) {
        bump(&self.reasons[reason as usize], 1);
    }

    /// Counts operations on the state table.
    pub fn state_table(&self, counter: TableCounter, by: u64) {
        bump(&self.state_table[counter as usize], by);
    }

    /// Counts operations on the fragments.
    pub fn fragments(&self, operations: Operations) {
        let Operations { searches, inserts, removals } = operations;
        for (counter, by) in self.fragment_table.iter().zip([searches, inserts, removals]) {
            bump(counter, by);
        }
    }
}

/// Sums over all workers less what was there at the last `pfctl -F info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    reasons: [u64; Reason::ALL.len()],
    state_table: [u64; TableCounter::ALL.len()],
    fragment_table: [u64; TableCounter::ALL.len()],
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            reasons: [0; Reason::ALL.len()],
            state_table: [0; TableCounter::ALL.len()],
            fragment_table: [0; TableCounter::ALL.len()],
        }
    }
}

impl Totals {
    /// Sums over `workers`.
    pub fn of<'a>(workers: impl IntoIterator<Item = &'a Stats>) -> Self {
        let mut totals = Self::default();
        for worker in workers {
            for (sum, counter) in totals.reasons.iter_mut().zip(&worker.reasons) {
                *sum += counter.load(Ordering::Relaxed);
            }
            for (sum, counter) in totals.state_table.iter_mut().zip(&worker.state_table) {
                *sum += counter.load(Ordering::Relaxed);
            }
            for (sum, counter) in totals.fragment_table.iter_mut().zip(&worker.fragment_table) {
                *sum += counter.load(Ordering::Relaxed);
            }
        }
        totals
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(mut self, earlier: &Self) -> Self {
        for (sum, before) in self.reasons.iter_mut().zip(earlier.reasons) {
            *sum -= before;
        }
        for (sum, before) in self.state_table.iter_mut().zip(earlier.state_table) {
            *sum -= before;
        }
        for (sum, before) in self.fragment_table.iter_mut().zip(earlier.fragment_table) {
            *sum -= before;
        }
        self
    }

    /// Reason counters in print order.
    pub fn reasons(&self) -> Vec<(Reason, u64)> {
        Reason::ALL.into_iter().zip(self.reasons).collect()
    }

    /// State table counters in print order.
    pub fn state_table(&self) -> Vec<(TableCounter, u64)> {
        TableCounter::ALL.into_iter().zip(self.state_table).collect()
    }

    /// Counters of fragments in print order.
    pub fn fragment_table(&self) -> Vec<(TableCounter, u64)> {
        TableCounter::ALL.into_iter().zip(self.fragment_table).collect()
    }
}

/// Limit counters are rare events, so all threads share them.
#[derive(Debug, Default)]
pub struct LimitCounters([AtomicU64; LimitCounter::ALL.len()]);

impl LimitCounters {
    /// Counts a limit that was hit.
    pub fn count(&self, counter: LimitCounter) {
        self.0[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Limit counters in print order; the syncookie ones live with the mode machine and are
    /// given here.
    pub fn list(&self, syncookies: [(LimitCounter, u64); 3]) -> Vec<(LimitCounter, u64)> {
        let mut list: Vec<_> = LimitCounter::ALL
            .into_iter()
            .zip(self.0.iter().map(|counter| counter.load(Ordering::Relaxed)))
            .collect();
        for (name, value) in syncookies {
            list[name as usize].1 = value;
        }
        list
    }
}
