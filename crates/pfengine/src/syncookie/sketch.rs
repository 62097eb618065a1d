//! Half-open connections of every destination, in constant memory.
//!
//! A count-min sketch: a destination has one counter in each of four rows, which it shares with
//! others, and its count is the least of the four. Every connection adds to its four counters and
//! later takes the same four back, so a count is never below the truth; it is above it only where
//! all four are shared. The places follow from a secret, so nobody can choose destinations that
//! share them.
//!
//! Source: Cormode and Muthukrishnan, "An improved data stream summary: the count-min sketch and
//! its applications", 2005.

use super::sync::{AtomicU32, Ordering, PLACE_BITS};

/// Rows of counters.
pub const ROWS: usize = 4;
/// Counters of a row.
pub const PLACES: usize = 1 << PLACE_BITS;

/// Counts by the hash of what is counted.
#[derive(Debug)]
pub struct Sketch {
    counters: Box<[AtomicU32]>,
}

impl Default for Sketch {
    fn default() -> Self {
        Self { counters: (0..ROWS * PLACES).map(|_| AtomicU32::new(0)).collect() }
    }
}

impl Sketch {
    /// The counters of a hash, whose bits must all be alike.
    fn counters(&self, hash: u64) -> impl Iterator<Item = &AtomicU32> {
        let rows = self.counters.chunks_exact(PLACES).zip(0_u32..);
        rows.map(move |(row, number)| {
            let place = hash >> (number * PLACE_BITS) & (PLACES as u64 - 1);
            &row[usize::try_from(place).unwrap_or(0)]
        })
    }

    /// Counts one more.
    pub fn add(&self, hash: u64) {
        for counter in self.counters(hash) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes back what [`Self::add`] has counted.
    pub fn remove(&self, hash: u64) {
        for counter in self.counters(hash) {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// At least how often the hash was added and not removed.
    pub fn count(&self, hash: u64) -> u32 {
        let counts = self.counters(hash).map(|counter| counter.load(Ordering::Relaxed));
        counts.min().unwrap_or(0)
    }
}

impl PartialEq for Sketch {
    fn eq(&self, other: &Self) -> bool {
        let read = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
        self.counters.iter().map(read).eq(other.counters.iter().map(read))
    }
}
