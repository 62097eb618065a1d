//! How many cookies of the last epochs are still out: for display, never for validity.

use core::sync::atomic::{AtomicU64, Ordering};

use super::keys::Epoch;

/// Epochs that are told apart: the present one, the last one, and one on either side for clocks
/// that differ.
const EPOCHS: usize = 4;

/// Cookies of each epoch that were sent and have not come back.
#[derive(Debug, Default)]
pub(super) struct Flight([Slot; EPOCHS]);

#[derive(Debug, Default)]
struct Slot {
    epoch: AtomicU64,
    out: AtomicU64,
}

impl Flight {
    fn slot(&self, epoch: Epoch) -> &Slot {
        &self.0[usize::try_from(epoch.low_bits(2)).unwrap_or(0)]
    }

    /// Counts cookies that were sent. The first ones of an epoch empty the slot; a count that
    /// another thread adds at that very moment may be lost.
    pub fn count_sent(&self, epoch: Epoch, many: u32) {
        let slot = self.slot(epoch);
        if slot.epoch.load(Ordering::Relaxed) != epoch.0 {
            slot.epoch.store(epoch.0, Ordering::Relaxed);
            slot.out.store(0, Ordering::Relaxed);
        }
        slot.out.fetch_add(u64::from(many), Ordering::Relaxed);
    }

    /// Takes one off that has come back. Those of another firewall were not counted here, so this
    /// saturates.
    pub fn count_returned(&self, epoch: Epoch) {
        let slot = self.slot(epoch);
        if slot.epoch.load(Ordering::Relaxed) == epoch.0 {
            let _ = slot
                .out
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |out| out.checked_sub(1));
        }
    }

    /// Cookies that are out and still accepted in the epoch `now`.
    pub fn out(&self, now: Epoch) -> u64 {
        let alive = |slot: &&Slot| {
            let epoch = slot.epoch.load(Ordering::Relaxed);
            epoch == now.0 || epoch.checked_add(1) == Some(now.0)
        };
        self.0.iter().filter(alive).map(|slot| slot.out.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_with_their_epoch() {
        let flight = Flight::default();
        flight.count_sent(Epoch(8), 2);
        flight.count_sent(Epoch(9), 1);
        flight.count_returned(Epoch(8));
        flight.count_returned(Epoch(7));
        assert_eq!([8, 9, 10, 11].map(|now| flight.out(Epoch(now))), [1, 2, 1, 0]);
        flight.count_sent(Epoch(12), 1);
        assert_eq!(flight.out(Epoch(12)), 1, "the slot of epoch 8 begins anew");
        flight.count_returned(Epoch(9));
        flight.count_returned(Epoch(9));
        assert_eq!(flight.out(Epoch(9)), 0);
    }
}
