//! What one queue has sent and dropped; the numbers of `pfctl -vsq`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Charge;

/// Counters of one queue: written by the thread that sends, read by others at any time.
#[derive(Debug, Default)]
pub struct QueueCounters {
    packets: AtomicU64,
    octets: AtomicU64,
    dropped_packets: AtomicU64,
    dropped_octets: AtomicU64,
    /// Packets that wait now.
    length: AtomicU64,
}

/// What the counters said at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets sent.
    pub packets: u64,
    /// Octets sent.
    pub octets: u64,
    /// Packets dropped.
    pub dropped_packets: u64,
    /// Octets dropped.
    pub dropped_octets: u64,
    /// Packets that wait.
    pub length: u64,
}

impl QueueCounters {
    pub(super) fn came(&self, charge: Charge) {
        add(&self.length, u64::from(charge.packets));
    }

    pub(super) fn sent(&self, charge: Charge) {
        self.left(charge);
        add(&self.packets, u64::from(charge.packets));
        add(&self.octets, u64::from(charge.octets));
    }

    /// A packet was dropped that had waited.
    pub(super) fn dropped(&self, charge: Charge) {
        self.left(charge);
        self.refused(charge);
    }

    /// A packet was dropped when it came.
    pub(super) fn refused(&self, charge: Charge) {
        add(&self.dropped_packets, u64::from(charge.packets));
        add(&self.dropped_octets, u64::from(charge.octets));
    }

    /// A packet was taken out for another queue.
    pub(super) fn left(&self, charge: Charge) {
        // One thread writes, so nothing is lost between the two steps.
        self.length.store(self.length.load(Relaxed) - u64::from(charge.packets), Relaxed);
    }

    /// What the counters say now.
    #[must_use]
    pub fn read(&self) -> Counts {
        Counts {
            packets: self.packets.load(Relaxed),
            octets: self.octets.load(Relaxed),
            dropped_packets: self.dropped_packets.load(Relaxed),
            dropped_octets: self.dropped_octets.load(Relaxed),
            length: self.length.load(Relaxed),
        }
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed) + count, Relaxed);
}
