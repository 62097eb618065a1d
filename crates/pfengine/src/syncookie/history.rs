//! When cookies went on and off, and why: the last changes, for `pfctl -vsi`.

use std::collections::VecDeque;

use pfapi::control::SwitchReason;
use pfapi::units::Uptime;

use super::destination::Destination;

/// Changes that are remembered.
const LENGTH: usize = 32;

/// Cookies went on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Uptime,
    /// Whether they went on.
    pub on: bool,
    /// For which destination; `None` is for all.
    pub destination: Option<Destination>,
    /// Why.
    pub reason: SwitchReason,
    /// Half-open connections at that moment, of the destination or of all.
    pub half_open: u64,
}

/// The last changes, oldest first.
#[derive(Debug, Default)]
pub struct History(VecDeque<Change>);

impl History {
    /// Remembers a change, and forgets the oldest of many.
    pub fn push(&mut self, change: Change) {
        if self.0.len() == LENGTH {
            self.0.pop_front();
        }
        self.0.push_back(change);
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Change> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_changes_stay() {
        let mut history = History::default();
        for second in 0..40 {
            history.push(Change {
                at: Uptime::from_secs(second),
                on: true,
                destination: None,
                reason: SwitchReason::HighMark,
                half_open: second,
            });
        }
        let counts: Vec<u64> = history.iter().map(|change| change.half_open).collect();
        assert_eq!(counts, (8..40).collect::<Vec<_>>());
    }
}
