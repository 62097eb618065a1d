//! What happens around cookies, counted for the operator.

use core::sync::atomic::{AtomicU64, Ordering};

use pfapi::reason::CookieCounter;

/// Counters of all threads.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; CookieCounter::ALL.len()]);

impl Counters {
    /// Counts one.
    pub fn count(&self, counter: CookieCounter) {
        self.0[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts so many.
    pub fn count_many(&self, counter: CookieCounter, many: u32) {
        self.0[counter as usize].fetch_add(u64::from(many), Ordering::Relaxed);
    }

    /// How many were counted.
    pub fn get(&self, counter: CookieCounter) -> u64 {
        self.0[counter as usize].load(Ordering::Relaxed)
    }

    /// All of them in print order.
    pub fn list(&self) -> Vec<(CookieCounter, u64)> {
        CookieCounter::ALL.into_iter().map(|counter| (counter, self.get(counter))).collect()
    }
}
