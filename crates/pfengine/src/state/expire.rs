//! How long a state lives.
//!
//! Source: OpenBSD sys/net/pf.c `pf_state_expires`; pf.conf(5) "adaptive.start".

use pfapi::timeout::{Timeout, Timeouts};

use crate::rules::LoadedRule;

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
    ///
    /// Timeouts of the rule come before those of `set timeout`; a rule with `adaptive.start`
    /// counts its own states alone.
    pub fn life(&self, rule: &LoadedRule, timeout: Timeout) -> u32 {
        let full = rule.timeout(timeout).unwrap_or_else(|| self.timeouts.get(timeout));
        let own = rule.timeout(Timeout::AdaptiveStart);
        let (start, end, states) = match own {
            Some(start) => {
                let end = rule.timeout(Timeout::AdaptiveEnd).unwrap_or(0);
                (start, end, rule.counters.states())
            }
            None => (
                self.timeouts.get(Timeout::AdaptiveStart),
                self.timeouts.get(Timeout::AdaptiveEnd),
                self.population.0,
            ),
        };
        let (start, end) = (u64::from(start), u64::from(end));
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
    use crate::engine::Loader;
    use crate::rules::Tags;
    use pfapi::ruleset::{Action, Rule};

    fn rule(timeouts: Vec<(Timeout, u32)>) -> LoadedRule {
        let mut rule = Rule::new(Action::Pass);
        rule.state_options.timeouts = timeouts;
        let path = std::sync::Arc::from("");
        LoadedRule::new(rule, &path, Some(0), 1, Loader::default(), &Tags::default())
    }

    #[test]
    fn timeouts_shrink_between_the_adaptive_marks() {
        let mut timeouts = Timeouts::default();
        timeouts.set(Timeout::AdaptiveStart, 60);
        timeouts.set(Timeout::AdaptiveEnd, 120);
        let life = |states| {
            let expiry = Expiry { timeouts: &timeouts, population: Population(states) };
            expiry.life(&rule(vec![]), Timeout::TcpFirst)
        };
        assert_eq!(life(60), 120);
        assert_eq!(life(90), 60);
        assert_eq!(life(119), 2);
        assert_eq!(life(120), 0);
        assert_eq!(life(1_000_000), 0);
        timeouts.set(Timeout::AdaptiveStart, 0);
        timeouts.set(Timeout::AdaptiveEnd, 0);
        let off = Expiry { timeouts: &timeouts, population: Population(1_000_000) };
        assert_eq!(off.life(&rule(vec![]), Timeout::TcpFirst), 120);
    }

    #[test]
    fn timeouts_of_a_rule_come_first() {
        let timeouts = Timeouts::default();
        let expiry = Expiry { timeouts: &timeouts, population: Population(1_000_000) };
        let own = rule(vec![
            (Timeout::TcpFirst, 7),
            (Timeout::AdaptiveStart, 1),
            (Timeout::AdaptiveEnd, 3),
        ]);
        // It holds no state, so nothing shrinks, however many others there are.
        assert_eq!(expiry.life(&own, Timeout::TcpFirst), 7);
        own.counters.count_state(false);
        own.counters.count_state(false);
        assert_eq!(expiry.life(&own, Timeout::TcpFirst), 3);
        assert_eq!(expiry.life(&own, Timeout::TcpOpening), 15);
        own.counters.count_state(false);
        assert_eq!(expiry.life(&own, Timeout::TcpFirst), 0);
    }
}
