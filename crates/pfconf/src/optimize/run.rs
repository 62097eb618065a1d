//! The steps of the optimizer one after the other.

use pfapi::ruleset::Rule;

use super::class::Fields;
use super::hash::small;
use super::key::Keys;
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
        let mut optimize = |block: &mut [Rule], number: usize| {
            let mut keys = Keys::of(block);
            let len = keep(block, &mut keys, |_, keys| covered::kept(&keys.list));
            let block = &mut block[..len];
            let len = keep(block, &mut keys, |block, keys| combine::combine(block, keys, tables));
            let block = &mut block[..len];
            if len > 1 {
                let quick = Fields::of(&block[0]).is_quick();
                let order = match &profile {
                    Some(profile) if quick && number < aligned => profile.order(block, number),
                    _ => reorder::order(&keys, self.host.dialect),
                };
                arrange(block, order);
            }
            len
        };
        // Blocks do not grow, so what is left of them fits where they were: no second list.
        let mut written = 0;
        for (number, range) in blocks.into_iter().enumerate() {
            let start = range.start;
            let len = if range.len() > 1 { optimize(&mut rules[range], number) } else { 1 };
            if written < start {
                for at in 0..len {
                    rules.swap(written + at, start + at);
                }
            }
            written += len;
        }
        rules.truncate(written);
        rules
    }
}

/// Moves the rules of a block that stay to its front, and their keys with them; gives how many
/// they are.
fn keep(
    block: &mut [Rule],
    keys: &mut Keys,
    step: impl FnOnce(&mut [Rule], &mut Keys) -> Vec<bool>,
) -> usize {
    let stay = step(block, keys);
    let mut kept = 0;
    for (at, stays) in stay.into_iter().enumerate() {
        if stays {
            if kept < at {
                block.swap(kept, at);
                keys.list.swap(kept, at);
            }
            kept += 1;
        }
    }
    keys.list.truncate(kept);
    kept
}

/// Puts rules into this order, which names each of them once.
fn arrange(rules: &mut [Rule], mut order: Vec<u32>) {
    for start in 0..order.len() {
        // Each cycle of the order is turned by one place.
        let mut at = start;
        while order[at] as usize != start {
            let next = std::mem::replace(&mut order[at], small(at)) as usize;
            rules.swap(at, next);
            at = next;
        }
        order[at] = small(at);
    }
}

#[cfg(test)]
mod tests {
    use pfapi::ruleset::Action;

    use super::*;

    #[test]
    fn rules_come_into_the_order_that_is_asked_for() {
        let rules = |numbers: &[u32]| -> Vec<Rule> {
            let numbered = numbers.iter().map(|number| {
                let mut rule = Rule::new(Action::Pass);
                rule.label = Some(number.to_string().into());
                rule
            });
            numbered.collect()
        };
        for order in [vec![], vec![0], vec![1, 0], vec![2, 0, 1], vec![3, 1, 0, 2, 4]] {
            let mut arranged = rules(&[0, 1, 2, 3, 4][..order.len()]);
            arrange(&mut arranged, order.clone());
            assert_eq!(arranged, rules(&order), "{order:?}");
        }
    }
}
