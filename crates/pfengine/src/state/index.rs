//! From a key's hash to the slots of states: read without locks, written under one per group.
//!
//! A bucket is one cache line: seven entries and a count of the entries that found it full and
//! went on to the next. An entry is 32 bits of the hash and a 32-bit slot number. Entries never
//! move, so a reader finds every entry that was there before it began; whoever gets a slot number
//! must still compare the key in the slot, under the slot's lock.
//!
//! Invariants: an entry's probe path starts at its hash's bucket; each bucket on the path before
//! its own has counted it in `passed`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Entries in one bucket; with `passed` they fill a cache line.
const ENTRIES: usize = 7;
/// Locks of writers; more than any machine has threads that make states.
const GROUPS: usize = 256;

#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket {
    /// 0 when free, else `tag << 32 | slot + 1`.
    entries: [AtomicU64; ENTRIES],
    /// Entries that hash here or before and lie behind this bucket.
    passed: AtomicU64,
}

/// Hash index of fixed size.
#[derive(Debug)]
pub struct Index {
    buckets: Box<[Bucket]>,
    groups: Box<[Mutex<()>]>,
}

impl Index {
    /// An index for up to `keys` entries at a load of at most 7/8.
    pub fn new(keys: usize) -> Self {
        let buckets = (keys * 8 / 7 / ENTRIES + 1).next_power_of_two();
        Self {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            groups: (0..GROUPS).map(|_| Mutex::new(())).collect(),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the mask cuts the hash anyway")]
    const fn home(&self, hash: u64) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    /// Reads the bucket of `hash`, so that it is in the cache when [`Self::find`] comes: the
    /// reads of a whole batch overlap. The value only keeps the read from being optimised away.
    pub fn touch(&self, hash: u64) -> u64 {
        self.buckets[self.home(hash)].passed.load(Ordering::Relaxed)
    }

    /// Calls `accept` with each slot whose entry has the tag of `hash` until it gives a value.
    pub fn find<T>(&self, hash: u64, mut accept: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let tag = hash & TAG;
        let mut at = self.home(hash);
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            for entry in &bucket.entries {
                let entry = entry.load(Ordering::Acquire);
                if entry & TAG == tag
                    && entry & SLOT != 0
                    && let Some(found) = accept(slot_of(entry))
                {
                    return Some(found);
                }
            }
            if bucket.passed.load(Ordering::Acquire) == 0 {
                return None;
            }
            at = (at + 1) & (self.buckets.len() - 1);
        }
        None
    }

    /// Locks the makers of all keys with these hashes, so that a look-up and an insertion are one
    /// step. Never taken while a slot is locked; the groups are taken in the order of their
    /// numbers.
    pub fn claim(&self, hashes: [u64; 2]) -> IndexWriter<'_> {
        let groups = hashes.map(|hash| self.home(hash) % GROUPS);
        let (low, high) = (groups[0].min(groups[1]), groups[0].max(groups[1]));
        let lock = |group: usize| {
            self.groups[group].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        };
        let first = lock(low);
        IndexWriter { index: self, _locks: (first, (low != high).then(|| lock(high))) }
    }

    /// Removes one entry of `slot`; false when there is none.
    ///
    /// No lock is needed: whoever took the state out of the slot is the only one to remove its
    /// entries, and all that is shared with others are the counts in `passed`.
    pub fn remove(&self, hash: u64, slot: u32) -> bool {
        let old = hash & TAG | (u64::from(slot) + 1);
        let buckets = &self.buckets;
        let home = self.home(hash);
        let mask = buckets.len() - 1;
        for step in 0..buckets.len() {
            let bucket = &buckets[(home + step) & mask];
            for entry in &bucket.entries {
                if entry.load(Ordering::Relaxed) == old {
                    entry.store(0, Ordering::Release);
                    for passed in 0..step {
                        buckets[(home + passed) & mask].passed.fetch_sub(1, Ordering::AcqRel);
                    }
                    return true;
                }
            }
            if bucket.passed.load(Ordering::Acquire) == 0 {
                return false;
            }
        }
        false
    }
}

/// The right to add entries of one or two hashes.
pub struct IndexWriter<'a> {
    index: &'a Index,
    _locks: (MutexGuard<'a, ()>, Option<MutexGuard<'a, ()>>),
}

impl IndexWriter<'_> {
    /// As [`Index::remove`], for an entry just made.
    pub fn remove(&self, hash: u64, slot: u32) -> bool {
        self.index.remove(hash, slot)
    }

    /// Adds an entry of a hash that was claimed; false when every bucket is full.
    pub fn insert(&self, hash: u64, slot: u32) -> bool {
        let new = hash & TAG | (u64::from(slot) + 1);
        let buckets = &self.index.buckets;
        let mut at = self.index.home(hash);
        for step in 0..buckets.len() {
            for entry in &buckets[at].entries {
                // Probe paths of several groups cross, so another writer may take the entry.
                if entry.load(Ordering::Relaxed) == 0
                    && entry.compare_exchange(0, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
                {
                    return true;
                }
            }
            buckets[at].passed.fetch_add(1, Ordering::AcqRel);
            if step + 1 == buckets.len() {
                break;
            }
            at = (at + 1) & (buckets.len() - 1);
        }
        for bucket in buckets {
            bucket.passed.fetch_sub(1, Ordering::AcqRel);
        }
        false
    }
}

const SLOT: u64 = 0xffff_ffff;
const TAG: u64 = !SLOT;

const fn slot_of(entry: u64) -> u32 {
    (entry & SLOT) as u32 - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(index: &Index, hash: u64, slot: u32) -> bool {
        index.claim([hash; 2]).insert(hash, slot)
    }

    fn slots(index: &Index, hash: u64) -> Vec<u32> {
        let mut found = Vec::new();
        let none: Option<()> = index.find(hash, |slot| {
            found.push(slot);
            None
        });
        assert!(none.is_none());
        found.sort_unstable();
        found
    }

    #[test]
    fn a_full_index_refuses_and_stays_whole() {
        let index = Index::new(1);
        let hash = 0x1234_5678_0000_0000;
        for slot in 0..7 {
            assert!(put(&index, hash, slot));
        }
        assert!(!put(&index, hash, 7));
        assert_eq!(slots(&index, hash), [0, 1, 2, 3, 4, 5, 6]);
        assert!(index.remove(hash, 3));
        assert!(put(&index, hash, 7));
        assert!(!index.remove(hash, 3));
    }

    proptest! {
        /// Insertions and removals in any order agree with a set, also where buckets overflow.
        #[test]
        fn agrees_with_a_model(actions in prop::collection::vec((0u64..6, 0u32..40, any::<bool>()), 0..400)) {
            let index = Index::new(30);
            let mut model = std::collections::BTreeSet::new();
            for (hash, slot, insert) in actions {
                // Two bits of home bucket and distinct tags: long probe paths.
                let hash = (hash << 32) | (hash & 1);
                if insert {
                    if !model.contains(&(hash, slot)) && put(&index, hash, slot) {
                        model.insert((hash, slot));
                    }
                } else {
                    prop_assert_eq!(index.remove(hash, slot), model.remove(&(hash, slot)));
                }
                for hash in 0..6 {
                    let hash = (hash << 32) | (hash & 1);
                    let expected: Vec<u32> =
                        model.iter().filter(|(h, _)| *h == hash).map(|(_, s)| *s).collect();
                    prop_assert_eq!(slots(&index, hash), expected);
                }
            }
        }
    }

    #[test]
    fn readers_never_miss_a_stable_entry_beside_writers() {
        let index = Index::new(64);
        let stable: Vec<u64> = (0..20).map(|i| i << 32 | (i & 3)).collect();
        for (slot, &hash) in (100u32..).zip(&stable) {
            assert!(put(&index, hash, slot));
        }
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 0..20_000u64 {
                    let hash = (round % 7 + 50) << 32 | (round & 3);
                    assert!(put(&index, hash, 7));
                    assert!(index.remove(hash, 7));
                }
            });
            while !writer.is_finished() {
                for (slot, &hash) in (100u32..).zip(&stable) {
                    assert_eq!(index.find(hash, |s| (s == slot).then_some(s)), Some(slot));
                }
            }
        });
    }
}
