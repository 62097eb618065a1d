//! One state limiter.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pfapi::control::LimiterReport;
use pfapi::ruleset;
use pfapi::units::Uptime;

use super::bucket::Bucket;
use super::{Counts, Full};

/// A bound on the states of all rules that use it.
#[derive(Debug)]
pub(super) struct StateLimiter(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    wanted: ruleset::StateLimiter,
    in_use: u32,
    bucket: Bucket,
    counts: Counts,
}

impl Inner {
    fn room(&self, now: Uptime) -> Result<(), Full> {
        if self.in_use >= self.wanted.limit {
            return Err(Full::States);
        }
        if !self.bucket.has_room(self.wanted.rate, now) {
            return Err(Full::Rate);
        }
        Ok(())
    }
}

impl StateLimiter {
    pub fn new(wanted: &ruleset::StateLimiter, now: Uptime) -> Self {
        let bucket = Bucket::full(wanted.rate, now);
        let (wanted, counts) = (wanted.clone(), Counts::default());
        Self(Mutex::new(Inner { wanted, in_use: 0, bucket, counts }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn id(&self) -> u8 {
        self.inner().wanted.id
    }

    pub fn line(&self) -> ruleset::StateLimiter {
        self.inner().wanted.clone()
    }

    pub fn has_name(&self, name: &str) -> bool {
        self.inner().wanted.name == name
    }

    pub fn is(&self, wanted: &ruleset::StateLimiter) -> bool {
        self.inner().wanted == *wanted
    }

    /// New settings; the rate begins anew, the states stay.
    pub fn set(&self, wanted: &ruleset::StateLimiter, now: Uptime) {
        let mut inner = self.inner();
        inner.bucket = Bucket::full(wanted.rate, now);
        inner.wanted = wanted.clone();
    }

    pub fn has_room(&self, now: Uptime) -> bool {
        self.inner().room(now).is_ok()
    }

    /// Takes a place; counts why there is none.
    pub fn reserve(self: &Arc<Self>, now: Uptime) -> Option<StatePlace> {
        let mut inner = self.inner();
        if let Err(full) = inner.room(now) {
            inner.counts.refuse(full);
            return None;
        }
        let rate = inner.wanted.rate;
        inner.bucket.take(rate, now);
        inner.in_use += 1;
        Some(StatePlace { limiter: Arc::clone(self), is_state: false })
    }

    pub fn report(&self) -> LimiterReport {
        let Inner { wanted, in_use, counts, .. } = &*self.inner();
        LimiterReport {
            id: wanted.id,
            name: wanted.name.clone(),
            limit: wanted.limit,
            rate: wanted.rate,
            states: u64::from(*in_use),
            entries: None,
            admitted: counts.admitted,
            hard_limited: counts.hard,
            rate_limited: counts.rate,
        }
    }
}

/// A state's place in a state limiter.
#[derive(Debug)]
pub(super) struct StatePlace {
    limiter: Arc<StateLimiter>,
    is_state: bool,
}

impl StatePlace {
    pub fn begin(&mut self) {
        self.is_state = true;
        self.limiter.inner().counts.admitted += 1;
    }
}

impl Drop for StatePlace {
    fn drop(&mut self) {
        let mut inner = self.limiter.inner();
        inner.in_use -= 1;
        if !self.is_state {
            let rate = inner.wanted.rate;
            inner.bucket.give_back(rate);
        }
    }
}
