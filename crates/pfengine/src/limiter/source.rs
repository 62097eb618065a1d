//! One source limiter.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pfapi::addr::{Af, Prefix};
use pfapi::control::{LimiterEntries, LimiterReport, LimiterSourceReport};
use pfapi::ruleset::{self, TableEntry};
use pfapi::units::Uptime;

use super::bucket::Bucket;
use super::{Counts, Full};
use crate::addr::Addr;
use crate::table::Table;

/// Whether a source is IPv6, and its address as far as the mask goes.
type Key = (bool, Addr);

/// A bound on the states of each source.
#[derive(Debug)]
pub(super) struct SourceLimiter(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    wanted: ruleset::SourceLimiter,
    table: Option<Arc<Table>>,
    sources: BTreeMap<Key, Source>,
    in_use: u64,
    counts: Counts,
    /// The source that a sweep has looked at last.
    cursor: Option<Key>,
}

/// One source.
#[derive(Debug)]
struct Source {
    in_use: u32,
    bucket: Bucket,
    counts: Counts,
    in_table: bool,
    /// Since when it has no state; noted by the sweep.
    idle_since: Option<Uptime>,
}

impl Inner {
    fn key(&self, (inet6, addr): (bool, Addr)) -> Key {
        let (bits, len) =
            if inet6 { (128, self.wanted.inet6_mask) } else { (32, self.wanted.inet_mask) };
        let host = u32::from(bits - len.min(bits));
        (inet6, Addr(addr.0 & u128::MAX.checked_shl(host).unwrap_or(0)))
    }

    fn prefix(&self, (inet6, addr): Key) -> Prefix {
        if inet6 {
            Prefix::new(addr.to_ip(Af::Inet6), self.wanted.inet6_mask)
        } else {
            Prefix::new(addr.to_ip(Af::Inet), self.wanted.inet_mask)
        }
    }

    fn entry(&self, key: Key) -> TableEntry {
        TableEntry { prefix: self.prefix(key), negated: false }
    }

    fn room(&self, key: Key, now: Uptime) -> Result<(), Full> {
        let Some(source) = self.sources.get(&key) else {
            let full = self.sources.len() as u64 >= u64::from(self.wanted.entries);
            return if full { Err(Full::Sources) } else { Ok(()) };
        };
        if source.in_use >= self.wanted.limit {
            return Err(Full::States);
        }
        if !source.bucket.has_room(self.wanted.rate, now) {
            return Err(Full::Rate);
        }
        Ok(())
    }

    /// Seconds that a source stays after its last state: what its rate may still forbid it.
    fn life_s(&self) -> u64 {
        2 * self.wanted.rate.map_or(0, |rate| u64::from(rate.seconds)) + 1
    }
}

impl SourceLimiter {
    pub fn new(wanted: &ruleset::SourceLimiter) -> Self {
        Self(Mutex::new(Inner {
            wanted: wanted.clone(),
            table: None,
            sources: BTreeMap::new(),
            in_use: 0,
            counts: Counts::default(),
            cursor: None,
        }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn id(&self) -> u8 {
        self.inner().wanted.id
    }

    pub fn line(&self) -> ruleset::SourceLimiter {
        self.inner().wanted.clone()
    }

    pub fn has_name(&self, name: &str) -> bool {
        self.inner().wanted.name == name
    }

    pub fn is(&self, wanted: &ruleset::SourceLimiter) -> bool {
        self.inner().wanted == *wanted
    }

    pub fn is_tracking(&self) -> bool {
        !self.inner().sources.is_empty()
    }

    /// Whether it may have these settings now: what it tracks must keep its sense.
    pub fn may_become(&self, wanted: &ruleset::SourceLimiter) -> bool {
        fn sense(limiter: &ruleset::SourceLimiter) -> (u8, u8, Option<&str>) {
            let table = limiter.table.as_ref().map(|table| table.name.as_str());
            (limiter.inet_mask, limiter.inet6_mask, table)
        }
        let inner = self.inner();
        inner.sources.is_empty() || sense(&inner.wanted) == sense(wanted)
    }

    /// New settings; the sources and their rates stay.
    pub fn set(&self, wanted: &ruleset::SourceLimiter, table: Option<Arc<Table>>) {
        let mut inner = self.inner();
        inner.wanted = wanted.clone();
        inner.table = table;
    }

    pub fn has_room(&self, source: (bool, Addr), now: Uptime) -> bool {
        let inner = self.inner();
        inner.room(inner.key(source), now).is_ok()
    }

    /// Takes a place for a state of this source; counts why there is none.
    pub fn reserve(self: &Arc<Self>, source: (bool, Addr), now: Uptime) -> Option<SourcePlace> {
        let mut inner = self.inner();
        let key = inner.key(source);
        if let Err(full) = inner.room(key, now) {
            inner.counts.refuse(full);
            if let Some(source) = inner.sources.get_mut(&key) {
                source.counts.refuse(full);
            }
            return None;
        }
        let rate = inner.wanted.rate;
        let source = inner.sources.entry(key).or_insert_with(|| Source {
            in_use: 0,
            bucket: Bucket::full(rate, now),
            counts: Counts::default(),
            in_table: false,
            idle_since: None,
        });
        source.bucket.take(rate, now);
        source.in_use += 1;
        source.idle_since = None;
        inner.in_use += 1;
        Some(SourcePlace { limiter: Arc::clone(self), key, is_state: false })
    }

    /// Looks at up to `share` sources and forgets those that have been idle for long enough.
    pub fn purge(&self, share: usize, now: Uptime) {
        let mut inner = self.inner();
        let life_s = inner.life_s();
        let Inner { sources, cursor, .. } = &mut *inner;
        let from = cursor.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(*key));
        let (mut over, mut last, mut seen) = (Vec::new(), None, 0);
        for (key, source) in sources.range_mut((from, Bound::Unbounded)).take(share) {
            (last, seen) = (Some(*key), seen + 1);
            if source.in_use == 0 && now.secs_since(*source.idle_since.get_or_insert(now)) >= life_s
            {
                over.push(*key);
            }
        }
        *cursor = last.filter(|_| seen == share);
        for key in over {
            sources.remove(&key);
        }
    }

    pub fn report(&self) -> LimiterReport {
        let Inner { wanted, in_use, counts, sources, .. } = &*self.inner();
        LimiterReport {
            id: wanted.id,
            name: wanted.name.clone(),
            limit: wanted.limit,
            rate: wanted.rate,
            states: *in_use,
            entries: Some(LimiterEntries {
                count: sources.len() as u64,
                limit: wanted.entries,
                refused: counts.sources,
            }),
            admitted: counts.admitted,
            hard_limited: counts.hard,
            rate_limited: counts.rate,
        }
    }

    /// All sources, in address order.
    pub fn sources(&self) -> Vec<LimiterSourceReport> {
        let inner = self.inner();
        let report = |(key, source): (&Key, &Source)| LimiterSourceReport {
            prefix: inner.prefix(*key),
            states: source.in_use,
            admitted: source.counts.admitted,
            hard_limited: source.counts.hard,
            rate_limited: source.counts.rate,
        };
        inner.sources.iter().map(report).collect()
    }
}

/// A state's place in a source limiter.
#[derive(Debug)]
pub(super) struct SourcePlace {
    limiter: Arc<SourceLimiter>,
    key: Key,
    is_state: bool,
}

impl SourcePlace {
    pub fn begin(&mut self) {
        self.is_state = true;
        let mut inner = self.limiter.inner();
        inner.counts.admitted += 1;
        if let Some(source) = inner.sources.get_mut(&self.key) {
            source.counts.admitted += 1;
        }
    }

    /// Puts the source into the table when it has more states than `above` says.
    pub fn tell_table(&self, put: impl FnOnce(&str, TableEntry)) {
        let mut inner = self.limiter.inner();
        let entry = inner.entry(self.key);
        let Inner { wanted, sources, .. } = &mut *inner;
        let (Some(table), Some(source)) = (&wanted.table, sources.get_mut(&self.key)) else {
            return;
        };
        if source.in_use > table.above && !source.in_table {
            source.in_table = true;
            // Under the lock, so that it is not taken out before it is in.
            put(&table.name, entry);
        }
    }
}

impl Drop for SourcePlace {
    fn drop(&mut self) {
        let mut inner = self.limiter.inner();
        inner.in_use -= 1;
        let entry = inner.entry(self.key);
        let Inner { wanted, sources, table, .. } = &mut *inner;
        let Some(source) = sources.get_mut(&self.key) else { return };
        source.in_use -= 1;
        if !self.is_state {
            source.bucket.give_back(wanted.rate);
        }
        let below = wanted.table.as_ref().map_or(0, |table| table.below);
        if source.in_table && source.in_use < below {
            source.in_table = false;
            if let Some(table) = table {
                table.forget(entry);
            }
        }
        // A packet that left no state leaves no source behind either.
        let Source { in_use: 0, counts: Counts { admitted: 0, hard: 0, rate: 0, .. }, .. } = source
        else {
            return;
        };
        if !source.in_table {
            sources.remove(&self.key);
        }
    }
}
