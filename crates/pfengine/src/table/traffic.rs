//! Counters of a table and of its addresses.
//!
//! Packets of states are counted in the states. What those have counted comes here when they end,
//! and before anybody reads: so the path of a packet that a state passes touches no table. Source:
//! OpenBSD sys/net/pf_table.c `pfr_update_stats`.

use std::sync::atomic::{AtomicU64, Ordering};

use pfapi::control::{TableTraffic, TableUse};

use crate::rules::Live;

/// Packets and octets by direction and use.
#[derive(Debug, Default)]
pub struct Traffic {
    packets: [[AtomicU64; 4]; 2],
    bytes: [[AtomicU64; 4]; 2],
}

impl Traffic {
    /// Adds packets, inbound and outbound.
    pub fn add(&self, used: TableUse, counted: &Live) {
        for side in 0..2 {
            let at = used as usize;
            if counted.packets[side] > 0 {
                self.packets[side][at].fetch_add(counted.packets[side], Ordering::Relaxed);
                self.bytes[side][at].fetch_add(counted.bytes[side], Ordering::Relaxed);
            }
        }
    }

    /// Zeroes all counters.
    pub fn clear(&self) {
        let all = self.packets.iter().chain(&self.bytes).flatten();
        all.for_each(|counter| counter.store(0, Ordering::Relaxed));
    }

    /// The counters now.
    pub fn report(&self) -> TableTraffic {
        let read = |counters: &[[AtomicU64; 4]; 2]| {
            counters.each_ref().map(|side| side.each_ref().map(|one| one.load(Ordering::Relaxed)))
        };
        TableTraffic { packets: read(&self.packets), bytes: read(&self.bytes) }
    }
}
