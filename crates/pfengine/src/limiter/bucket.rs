//! `rate`: so many new states in so many seconds, as a bucket that fills evenly.
//!
//! The bucket is a moment that each state moves on by one share of the seconds, and that never lies
//! further back than all of them. Source: OpenBSD sys/net/pf.c `pf_match_rule`, `pfstlim_rate_ts`.

use pfapi::ruleset::Rate;
use pfapi::units::Uptime;

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// New states of one limiter or of one of its sources.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket(i128);

impl Bucket {
    /// A full bucket.
    pub fn full(rate: Option<Rate>, now: Uptime) -> Self {
        Self(i128::from(now.as_nanos()) - rate.map_or(0, depth))
    }

    /// Whether there is room for one more.
    pub fn has_room(&self, rate: Option<Rate>, now: Uptime) -> bool {
        rate.is_none_or(|rate| i128::from(now.as_nanos()) - self.0 >= share(rate))
    }

    /// Takes room for one; false when there is none.
    pub fn take(&mut self, rate: Option<Rate>, now: Uptime) -> bool {
        let Some(rate) = rate else { return true };
        if !self.has_room(Some(rate), now) {
            return false;
        }
        self.0 = self.0.max(i128::from(now.as_nanos()) - depth(rate)) + share(rate);
        true
    }

    /// Gives room for one back.
    pub fn give_back(&mut self, rate: Option<Rate>) {
        self.0 -= rate.map_or(0, share);
    }
}

/// All seconds of a rate, in nanoseconds.
fn depth(rate: Rate) -> i128 {
    i128::from(rate.seconds) * NANOS_PER_SECOND
}

/// What one state takes of them.
fn share(rate: Rate) -> i128 {
    depth(rate) / i128::from(rate.limit.max(1))
}
