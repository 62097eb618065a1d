//! The steps of the optimizer one after the other.

use pfapi::ruleset::{Action, Rule};

use super::class::Fields;
use super::profile::{Counted, Profile};
use super::superblock::{Host, superblocks};
use super::{combine, covered, reorder};
use crate::compile::CompileOptions;
use crate::redirect::AutoTables;

/// How rulesets are optimized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Rules stay as they are.
    None,
    /// Rules are removed, combined and reordered.
    #[default]
    Basic,
    /// As `Basic`, and `quick` rules are ordered by the counters of the ruleset in force.
    Profile,
}

impl Level {
    /// Names of the levels, as behind `-o` and `set ruleset-optimization`.
    pub const NAMES: &[(&str, Self)] =
        &[("none", Self::None), ("basic", Self::Basic), ("profile", Self::Profile)];
}

/// What is to be done about rules besides what the file says.
#[derive(Clone, Copy, Default)]
pub struct Optimization<'a> {
    /// `-o`; `None` leaves it to the file.
    pub level: Option<Level>,
    /// Asks for the main ruleset in force with its counters, for [`Level::Profile`].
    pub running: Option<&'a dyn Fn() -> Vec<Counted>>,
    /// The ruleset is to be loaded: automatic tables get names that no other ruleset has.
    pub for_load: bool,
}

/// Optimizes one ruleset after the other.
pub(crate) struct Optimizer<'a> {
    level: Level,
    host: Host<'a>,
    /// The main ruleset in force, until it is used.
    running: Option<Vec<Counted>>,
}

impl<'a> Optimizer<'a> {
    /// The ruleset in force is asked for only when the level needs it.
    pub(crate) fn new(level: Level, options: &CompileOptions<'a>) -> Self {
        let running = options.optimize.running.filter(|_| level == Level::Profile);
        let host = Host { dialect: options.dialect, facts: options.facts };
        Self { level, host, running: running.map(|running| running()) }
    }

    /// Optimizes a ruleset; the first one is the main ruleset. `tables` gets automatic tables.
    pub(crate) fn ruleset(&mut self, mut rules: Vec<Rule>, tables: &mut AutoTables) -> Vec<Rule> {
        if self.level == Level::None {
            return rules;
        }
        let blocks = superblocks(&rules, self.host);
        let profile = self.running.take().map(|running| Profile::new(running, self.host));
        let aligned = profile.as_ref().map_or(0, |profile| profile.aligned(&rules, &blocks));
        let order = |block: &[Rule], number: usize| {
            let quick = block.first().is_some_and(|rule| Fields::of(rule).is_quick());
            match &profile {
                Some(profile) if quick && number < aligned => profile.order(block, number),
                _ => reorder::order(block, self.host.dialect),
            }
        };
        let mut optimize = |block: &mut Vec<Rule>, number: usize| {
            covered::remove(block);
            combine::combine(block, tables);
            let order = order(block, number);
            arrange(block, order);
        };
        if let [_] = blocks.as_slice() {
            if rules.len() > 1 {
                optimize(&mut rules, 0);
            }
            return rules;
        }
        // Blocks do not grow, so what is left of them fits where they were: no second list.
        let mut written = 0;
        for (number, range) in blocks.into_iter().enumerate() {
            if range.len() == 1 {
                rules.swap(written, range.start);
                written += 1;
                continue;
            }
            let taken = rules[range].iter_mut();
            let mut block: Vec<Rule> =
                taken.map(|rule| std::mem::replace(rule, Rule::new(Action::Pass))).collect();
            optimize(&mut block, number);
            for rule in block {
                rules[written] = rule;
                written += 1;
            }
        }
        rules.truncate(written);
        rules
    }
}

/// Puts rules into this order, which names each of them once.
fn arrange(rules: &mut [Rule], mut order: Vec<usize>) {
    for start in 0..order.len() {
        // Each cycle of the order is turned by one place.
        let mut at = start;
        while order[at] != start {
            let next = std::mem::replace(&mut order[at], at);
            rules.swap(at, next);
            at = next;
        }
        order[at] = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_into_the_order_that_is_asked_for() {
        let rules = |numbers: &[u32]| -> Vec<Rule> {
            let numbered = numbers.iter().map(|number| {
                let mut rule = Rule::new(Action::Pass);
                rule.label = Some(number.to_string());
                rule
            });
            numbered.collect()
        };
        for order in [vec![], vec![0], vec![1, 0], vec![2, 0, 1], vec![3, 1, 0, 2, 4]] {
            let mut arranged = rules(&[0, 1, 2, 3, 4][..order.len()]);
            arrange(&mut arranged, order.clone());
            let wanted: Vec<u32> = order.iter().map(|&at| u32::try_from(at).unwrap()).collect();
            assert_eq!(arranged, rules(&wanted), "{order:?}");
        }
    }
}
