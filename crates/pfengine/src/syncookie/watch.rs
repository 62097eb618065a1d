//! The destinations that get cookies while others do not.
//!
//! A destination comes here when it has more half-open connections than its mark allows, and goes
//! when two looks in a row, 5 s apart, find fewer than the low mark: half-open connections and
//! the cookies that were sent since the last look and did not come back.
//!
//! The list is short and changes seldom: readers search an immutable copy without a lock.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use pfapi::units::Uptime;

use super::backlog::Backlog;
use super::destination::Destination;

/// Destinations that may have cookies of their own at one time. More at once is a flood on
/// everybody, and the switch of the whole takes over.
pub const DESTINATIONS_MAX: usize = 256;
/// Seconds between two looks.
pub const CHECK_S: u64 = 5;
/// Quiet looks in a row that end it.
pub const QUIET_CHECKS: u8 = 2;

/// A destination that gets cookies.
#[derive(Debug)]
pub struct Entry {
    /// Which.
    pub destination: Destination,
    hash: u64,
    /// Since when.
    pub since: Uptime,
    /// Cookies sent since.
    pub sent: AtomicU64,
    /// Those of them that came back.
    pub validated: AtomicU64,
    look: Mutex<Look>,
}

/// When the next look is due, and what the last one saw.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// When.
    pub at: Uptime,
    /// Looks in a row that were quiet.
    pub quiet: u8,
    /// Cookies sent until the last look.
    pub sent: u64,
    /// Cookies that had come back.
    pub validated: u64,
}

impl Look {
    /// The first look, one period from now.
    pub const fn first(now: Uptime, (sent, validated): (u64, u64)) -> Self {
        Self { at: now.plus_secs(CHECK_S), quiet: 0, sent, validated }
    }

    /// Looks: whether it has been quiet for long enough. `low` is the low mark; 0 means "nothing at
    /// all", as pf, which wants less than 0, would never end.
    pub fn take(&mut self, now: Uptime, half_open: u64, counts: (u64, u64), low: u32) -> bool {
        let (sent, validated) = counts;
        let unanswered = (sent - self.sent).saturating_sub(validated - self.validated);
        let is_quiet = half_open.saturating_add(unanswered) < u64::from(low).max(1);
        self.quiet = if is_quiet { self.quiet + 1 } else { 0 };
        (self.at, self.sent, self.validated) = (now.plus_secs(CHECK_S), sent, validated);
        self.quiet >= QUIET_CHECKS
    }
}

/// Outcome of adding a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It gets cookies from now on.
    New,
    /// It did already.
    Known,
    /// There are too many.
    Full,
}

/// Destinations that get cookies, in the order of their hashes.
#[derive(Debug, Default)]
pub struct Watch {
    list: ArcSwap<Vec<Arc<Entry>>>,
    count: AtomicU32,
}

impl Watch {
    /// How many there are.
    pub fn len(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Calls `each` with the destination of this hash; `None` when it gets no cookies.
    pub fn with<T>(&self, hash: u64, each: impl FnOnce(&Entry) -> T) -> Option<T> {
        let list = self.list.load();
        let at = list.binary_search_by_key(&hash, |entry| entry.hash).ok()?;
        Some(each(&list[at]))
    }

    /// All of them.
    pub fn entries(&self) -> Arc<Vec<Arc<Entry>>> {
        self.list.load_full()
    }

    /// Adds a destination. Who calls holds the lock of the whole.
    pub fn add(&self, destination: Destination, hash: u64, now: Uptime) -> Added {
        let mut list = Vec::clone(&self.list.load());
        let Err(at) = list.binary_search_by_key(&hash, |entry| entry.hash) else {
            return Added::Known;
        };
        if list.len() >= DESTINATIONS_MAX {
            return Added::Full;
        }
        let entry = Entry {
            destination,
            hash,
            since: now,
            // The SYN that went over the mark gets the first one.
            sent: AtomicU64::new(1),
            validated: AtomicU64::new(0),
            look: Mutex::new(Look::first(now, (0, 0))),
        };
        list.insert(at, Arc::new(entry));
        self.replace(list);
        Added::New
    }

    /// Looks at those that are due, removes the quiet ones and gives them with the half-open
    /// connections that they have left. Who calls holds the lock of the whole.
    pub fn look(
        &self,
        now: Uptime,
        backlog: &Backlog,
        low: impl Fn(&Destination) -> u32,
    ) -> Vec<(Destination, u64)> {
        let mut gone = Vec::new();
        let mut list = Vec::clone(&self.list.load());
        list.retain(|entry| {
            let mut look = entry.look.lock().unwrap_or_else(PoisonError::into_inner);
            if now < look.at {
                return true;
            }
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            // Validated first: what comes back in between was sent before.
            let validated = read(&entry.validated);
            let counts = (read(&entry.sent), validated);
            let half_open = backlog.count(entry.hash);
            let ends = look.take(now, half_open, counts, low(&entry.destination));
            if ends {
                gone.push((entry.destination, half_open));
            }
            !ends
        });
        if !gone.is_empty() {
            self.replace(list);
        }
        gone
    }

    /// Removes all of them and gives them. Who calls holds the lock of the whole.
    pub fn clear(&self) -> Vec<Destination> {
        let gone = self.list.load().iter().map(|entry| entry.destination).collect();
        self.replace(Vec::new());
        gone
    }

    /// When the next look is due.
    pub fn due(&self) -> Option<Uptime> {
        let list = self.list.load();
        let due = |entry: &Arc<Entry>| entry.look.lock().unwrap_or_else(PoisonError::into_inner).at;
        list.iter().map(due).min()
    }

    fn replace(&self, list: Vec<Arc<Entry>>) {
        let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
        // Who sees the count finds the list.
        self.list.store(Arc::new(list));
        self.count.store(count, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;
    use pfapi::addr::Af;

    fn destination(number: u16) -> Destination {
        Destination::new(Af::Inet, Addr::from_ipv4([192, 0, 2, 1]), number)
    }

    #[test]
    fn each_destination_ends_by_its_own_looks() {
        let (watch, backlog) = (Watch::default(), Backlog::new([5; 16]));
        let at = Uptime::from_secs;
        let hash = |number| backlog.hashes(&destination(number)).port;
        assert_eq!(watch.due(), None);
        assert_eq!(watch.add(destination(1), hash(1), at(0)), Added::New);
        assert_eq!(watch.add(destination(2), hash(2), at(3)), Added::New);
        assert_eq!(watch.add(destination(1), hash(1), at(4)), Added::Known);
        (0..7).for_each(|_| backlog.add(&destination(2)));
        let look = |now| watch.look(at(now), &backlog, |_| 5);
        assert_eq!((watch.due(), look(4)), (Some(at(5)), vec![]));
        assert_eq!((look(5), watch.due()), (vec![], Some(at(8))));
        assert_eq!(look(8), []);
        assert_eq!(look(10), [(destination(1), 0)]);
        assert_eq!(watch.with(hash(1), |_| ()), None);
        assert_eq!(look(13), []);
        (0..3).for_each(|_| backlog.remove(&destination(2)));
        watch.with(hash(2), |entry| entry.sent.fetch_add(2, Ordering::Relaxed));
        assert_eq!(look(18), [], "a cookie that did not come back counts as half open");
        assert_eq!((look(23), look(28)), (vec![], vec![(destination(2), 4)]));
        assert_eq!((watch.len(), watch.due()), (0, None));
    }

    #[test]
    fn the_list_has_an_end() {
        let watch = Watch::default();
        for number in 0..DESTINATIONS_MAX as u64 {
            assert_eq!(watch.add(destination(1), number * 7, Uptime::ZERO), Added::New);
        }
        assert_eq!(watch.add(destination(1), 1, Uptime::ZERO), Added::Full);
        assert_eq!(watch.clear().len(), DESTINATIONS_MAX);
        assert_eq!(watch.add(destination(1), 1, Uptime::ZERO), Added::New);
    }
}
