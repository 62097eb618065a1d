//! What one thread keeps about cookies for the time of one batch: the key that makes them, and how
//! many were made.
//!
//! All packets of a batch come at one moment, so one look at the keys is enough for them; and
//! counters that threads share are touched once for the batch, not once for each SYN of a flood.
//! Invariant: [`Baking::sent`] cookies are out that [`super::Syncookies::settle`] has not yet counted.

use super::cookie::Key;
use super::keys::Epoch;

/// The present key, once it was asked for, and cookies that are not counted yet.
#[derive(Clone, Copy, Default)]
pub struct Baking {
    pub(super) current: Option<(Epoch, Key)>,
    pub(super) sent: u32,
}

impl Baking {
    /// Whether there is something to be counted.
    pub const fn is_pending(&self) -> bool {
        self.sent > 0
    }
}

/// Shows no key.
impl core::fmt::Debug for Baking {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Baking").field("sent", &self.sent).finish_non_exhaustive()
    }
}
