//! How long a state lives.
//!
//! Source: OpenBSD sys/net/pf.c `pf_state_expires`; pf.conf(5) "adaptive.start".

use pfapi::timeout::{Timeout, Timeouts};

/// How many states there are, for adaptive timeouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Population(pub u64);

/// Timeouts in force together with the number of states that shrinks them.
#[derive(Clone, Copy, Debug)]
pub struct Expiry<'a> {
    /// In force now.
    pub timeouts: &'a Timeouts,
    /// States now.
    pub population: Population,
}

impl Expiry<'_> {
    /// Idle seconds after which a state with this timeout may be purged.
    ///
    /// Past `adaptive.start` states it shrinks linearly and is zero at `adaptive.end`, so a
    /// filling table empties itself.
    pub fn life(&self, timeout: Timeout) -> u32 {
        let full = self.timeouts.get(timeout);
        let start = u64::from(self.timeouts.get(Timeout::AdaptiveStart));
        let end = u64::from(self.timeouts.get(Timeout::AdaptiveEnd));
        let states = self.population.0;
        if end == 0 || states <= start || start >= end {
            return full;
        }
        let left = u64::from(full) * end.saturating_sub(states) / (end - start);
        u32::try_from(left).unwrap_or(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_shrink_between_the_adaptive_marks() {
        let mut timeouts = Timeouts::default();
        timeouts.set(Timeout::AdaptiveStart, 60);
        timeouts.set(Timeout::AdaptiveEnd, 120);
        let life = |states| {
            Expiry { timeouts: &timeouts, population: Population(states) }.life(Timeout::TcpFirst)
        };
        assert_eq!(life(60), 120);
        assert_eq!(life(90), 60);
        assert_eq!(life(119), 2);
        assert_eq!(life(120), 0);
        assert_eq!(life(1_000_000), 0);
        timeouts.set(Timeout::AdaptiveStart, 0);
        timeouts.set(Timeout::AdaptiveEnd, 0);
        let off = Expiry { timeouts: &timeouts, population: Population(1_000_000) };
        assert_eq!(off.life(Timeout::TcpFirst), 120);
    }
}
