//! Packets and octets that crossed each interface.
//!
//! Each worker has counters of its own and is the only one that writes them. Interfaces may be
//! added while packets flow, so room is made for many at a time when the first of them is met.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use pfapi::addr::Af;
use pfapi::control::InterfaceTraffic;
use pfapi::units::{Direction, IfIndex};

use crate::stats::bump;

/// Interfaces that room is made for at a time.
const SHELF: usize = 64;
/// Shelves: enough for every interface index.
const SHELVES: usize = (u16::MAX as usize + 1) / SHELF;

/// Counters of one worker, by interface.
#[derive(Debug)]
pub struct InterfaceStats(Box<[OnceLock<Box<[Counters; SHELF]>>]>);

/// By family, direction and outcome, as in [`InterfaceTraffic`].
#[derive(Debug, Default)]
struct Counters {
    packets: [[[AtomicU64; 2]; 2]; 2],
    bytes: [[[AtomicU64; 2]; 2]; 2],
}

/// A packet that crosses an interface, as it came.
#[derive(Clone, Copy, Debug)]
pub struct Crossing {
    /// The interface.
    pub interface: IfIndex,
    /// Direction.
    pub direction: Direction,
    /// Family.
    pub af: Af,
    /// Length of the IP packet.
    pub octets: usize,
}

impl Default for InterfaceStats {
    fn default() -> Self {
        Self((0..SHELVES).map(|_| OnceLock::new()).collect())
    }
}

impl InterfaceStats {
    /// Makes room for so many interfaces, so that their first packets need not wait for it.
    pub fn reserve(&self, interfaces: usize) {
        for at in 0..interfaces.div_ceil(SHELF) {
            let _ = self.shelf(at);
        }
    }

    fn shelf(&self, at: usize) -> Option<&[Counters; SHELF]> {
        let make = || Box::new(core::array::from_fn(|_| Counters::default()));
        self.0.get(at).map(|shelf| &**shelf.get_or_init(make))
    }

    /// Counts a packet and what became of it.
    pub fn count(&self, crossing: &Crossing, passed: bool) {
        let index = usize::from(crossing.interface.0);
        let Some(shelf) = self.shelf(index / SHELF) else { return };
        let counters = &shelf[index % SHELF];
        let family = usize::from(crossing.af == Af::Inet6);
        let side = usize::from(crossing.direction == Direction::Out);
        let outcome = usize::from(!passed);
        bump(&counters.packets[family][side][outcome], 1);
        bump(&counters.bytes[family][side][outcome], crossing.octets as u64);
    }

    /// What this worker has counted for an interface.
    pub fn read(&self, interface: IfIndex) -> InterfaceTraffic {
        let index = usize::from(interface.0);
        let shelf = self.0.get(index / SHELF).and_then(OnceLock::get);
        let Some(shelf) = shelf else { return InterfaceTraffic::default() };
        let counters = &shelf[index % SHELF];
        let read = |all: &[[[AtomicU64; 2]; 2]; 2]| {
            let one = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            all.each_ref().map(|family| family.each_ref().map(|side| side.each_ref().map(one)))
        };
        InterfaceTraffic { packets: read(&counters.packets), bytes: read(&counters.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_its_own_counters() {
        let stats = InterfaceStats::default();
        let crossing = |interface| Crossing {
            interface: IfIndex(interface),
            direction: Direction::Out,
            af: Af::Inet6,
            octets: 100,
        };
        stats.count(&crossing(u16::MAX), true);
        stats.count(&crossing(63), false);
        stats.count(&crossing(63), false);
        assert_eq!(stats.read(IfIndex(u16::MAX)).packets[1][1], [1, 0]);
        assert_eq!(stats.read(IfIndex(63)).bytes[1][1], [0, 200]);
        assert_eq!(stats.read(IfIndex(64)), InterfaceTraffic::default());
        assert_eq!(stats.read(IfIndex(0)), InterfaceTraffic::default());
    }
}
