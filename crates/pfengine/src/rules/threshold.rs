//! So many events in so many seconds.
//!
//! A count that decays: each event adds 1000, and what was there shrinks by the share of the
//! seconds that have passed. Source: OpenBSD sys/net/pf.c `pf_init_threshold`,
//! `pf_add_threshold`, `pf_check_threshold`.

use std::sync::{Mutex, PoisonError};

use pfapi::ruleset::Rate;
use pfapi::units::Uptime;

/// What one event adds.
const EVENT: u64 = 1_000;

/// Events of one rule or source.
#[derive(Clone, Copy, Debug, Default)]
pub struct Threshold {
    count: u64,
    last_s: u64,
}

impl Threshold {
    /// Counts an event; whether there are now too many.
    pub fn exceeded_by_one_more(&mut self, rate: Rate, now: Uptime) -> bool {
        let (now_s, seconds) = (now.as_secs(), u64::from(rate.seconds.max(1)));
        let passed = now_s.saturating_sub(self.last_s);
        if passed >= seconds {
            self.count = 0;
        } else {
            self.count -= self.count * passed / seconds;
        }
        self.count += EVENT;
        self.last_s = now_s;
        self.count > u64::from(rate.limit) * EVENT
    }

    /// The count in thousandths of events, as `pfctl -s Sources` shows it.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

/// A threshold that all threads share.
#[derive(Debug, Default)]
pub struct SharedThreshold(Mutex<Threshold>);

impl SharedThreshold {
    /// Counts an event; whether there are now too many.
    pub fn exceeded_by_one_more(&self, rate: Rate, now: Uptime) -> bool {
        let mut threshold = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        threshold.exceeded_by_one_more(rate, now)
    }

    /// Whether one more event would be too many; counts none.
    pub fn would_be_exceeded(&self, rate: Rate, now: Uptime) -> bool {
        let mut copy = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        copy.exceeded_by_one_more(rate, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_after_the_limit_is_too_many() {
        let mut threshold = Threshold::default();
        let rate = Rate { limit: 3, seconds: 10 };
        let at = Uptime::from_secs;
        for _ in 0..3 {
            assert!(!threshold.exceeded_by_one_more(rate, at(100)));
        }
        assert!(threshold.exceeded_by_one_more(rate, at(100)));
        // Half of the time: half of the count is gone.
        assert!(!threshold.exceeded_by_one_more(rate, at(105)));
        assert_eq!(threshold.count(), 3_000);
        assert!(threshold.exceeded_by_one_more(rate, at(105)));
        // All of it: everything is.
        assert!(!threshold.exceeded_by_one_more(rate, at(115)));
        assert_eq!(threshold.count(), 1_000);
    }
}
