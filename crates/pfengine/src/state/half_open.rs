//! What one state adds to the gauges of half-open connections.

use crate::fault::{self, Fault};
use crate::syncookie::sync::{AtomicU64, Ordering};

/// What one state adds to the gauges. The gauges change only in `State::update_half_open` and
/// `State::leave_half_open`, so they cannot drift. Invariant: a bit is set while its gauge has one
/// of this state; the lock of the state orders both, so a gauge is never taken below zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfOpen(pub u8);

impl HalfOpen {
    /// The connection is half open.
    pub const CONNECTION: u8 = 1;
    /// The state is half open as pf counts.
    pub const PF_STATE: u8 = 2;
    /// The first state of its connection; the one behind it does not count again.
    pub const COUNTS_CONNECTION: u8 = 4;
    /// The connection is counted for its destination.
    pub const IN_BACKLOG: u8 = 8;
    /// The connection asks an unknown port, and is given up soon when nobody answers.
    pub const IS_PROBE: u8 = 16;

    /// For a state that counts for its connection, or one that does not because the inbound
    /// state of the same packet does. `is_probe` is whether it asks an unknown port.
    pub const fn new(counts_connection: bool, is_probe: bool) -> Self {
        let counts = if counts_connection { Self::COUNTS_CONNECTION } else { 0 };
        Self(if is_probe { counts | Self::IS_PROBE } else { counts })
    }

    /// Whether a bit is set.
    pub const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    /// Moves a gauge with its bit to where things are now.
    pub fn step(&mut self, gauge: &AtomicU64, bit: u8, now: bool) {
        match (self.has(bit), now) {
            (false, true) => {
                gauge.fetch_add(1, Ordering::Relaxed);
            }
            (true, false) if !fault::is(Fault::HalfOpenStays) => {
                gauge.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
        self.0 = if now { self.0 | bit } else { self.0 & !bit };
    }
}
