//! A switch that many threads turn on and one at a time turns off.

use super::sync::{AtomicBool, Ordering};

/// On or off.
#[derive(Debug, Default)]
pub struct Switch(AtomicBool);

impl Switch {
    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Turns it on; true for the one caller who did.
    pub fn turn_on(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Turns it off; true for the one caller who did.
    pub fn turn_off(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}
