//! Counters of a device, written by its engine thread and read by others.
//!
//! Invariants: every field only grows; the loop adds once per device and turn, not per packet.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one device on one engine thread, as a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceStats {
    /// Packets read; a super-packet counts once.
    pub rx_packets: u64,
    /// Octets read, headers of the device not counted.
    pub rx_octets: u64,
    /// Packets read that made no sense (header cut short, kind of offload unknown).
    pub rx_errors: u64,
    /// Packets written; a super-packet counts once, its software segments one by one.
    pub tx_packets: u64,
    /// Octets written, headers of the device not counted.
    pub tx_octets: u64,
    /// Packets lost because the device or the buffer pool was full.
    pub tx_drops: u64,
    /// Packets that the device refused for another reason (it is down, say).
    pub tx_errors: u64,
}

/// The live counters behind [`DeviceStats`].
#[derive(Debug, Default)]
pub struct DeviceCounters {
    rx_packets: AtomicU64,
    rx_octets: AtomicU64,
    rx_errors: AtomicU64,
    tx_packets: AtomicU64,
    tx_octets: AtomicU64,
    tx_drops: AtomicU64,
    tx_errors: AtomicU64,
}

impl DeviceCounters {
    /// The counts so far; fields may be a turn apart.
    #[must_use]
    pub fn snapshot(&self) -> DeviceStats {
        DeviceStats {
            rx_packets: self.rx_packets.load(Relaxed),
            rx_octets: self.rx_octets.load(Relaxed),
            rx_errors: self.rx_errors.load(Relaxed),
            tx_packets: self.tx_packets.load(Relaxed),
            tx_octets: self.tx_octets.load(Relaxed),
            tx_drops: self.tx_drops.load(Relaxed),
            tx_errors: self.tx_errors.load(Relaxed),
        }
    }

    /// Adds what one turn counted, and empties it.
    pub(super) fn add(&self, turn: &mut DeviceStats) {
        if *turn == DeviceStats::default() {
            return;
        }
        let DeviceStats {
            rx_packets,
            rx_octets,
            rx_errors,
            tx_packets,
            tx_octets,
            tx_drops,
            tx_errors,
        } = std::mem::take(turn);
        self.rx_packets.fetch_add(rx_packets, Relaxed);
        self.rx_octets.fetch_add(rx_octets, Relaxed);
        self.rx_errors.fetch_add(rx_errors, Relaxed);
        self.tx_packets.fetch_add(tx_packets, Relaxed);
        self.tx_octets.fetch_add(tx_octets, Relaxed);
        self.tx_drops.fetch_add(tx_drops, Relaxed);
        self.tx_errors.fetch_add(tx_errors, Relaxed);
    }
}
