//! The cache of fragments as all threads share it.
//!
//! Only packets that are fragments take its lock; the others read at most one atomic word.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pfapi::units::Uptime;

use super::cache::Cache;

/// Word of `due` for "never".
const NEVER: u64 = u64::MAX;

/// The cache of fragments behind its lock.
#[derive(Debug)]
pub struct Fragments {
    cache: Mutex<Cache>,
    /// When a sweep is due, in nanoseconds of uptime.
    due: AtomicU64,
}

impl Fragments {
    /// An empty cache for `limit` fragments.
    pub fn new(limit: u32) -> Self {
        Self { cache: Mutex::new(Cache::new(limit)), due: AtomicU64::new(NEVER) }
    }

    /// Works on the cache; the next sweep is noted afterwards.
    pub fn with<R>(&self, work: impl FnOnce(&mut Cache) -> R) -> R {
        let mut cache = self.lock();
        let result = work(&mut cache);
        self.due.store(cache.due().map_or(NEVER, Uptime::as_nanos), Ordering::Relaxed);
        result
    }

    /// When a sweep is due; `None` when nothing is held.
    pub fn due(&self) -> Option<Uptime> {
        let due = self.due.load(Ordering::Relaxed);
        (due != NEVER).then(|| Uptime::from_nanos(due))
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
