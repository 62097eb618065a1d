//! The steps of the optimizer one after the other.

use pfapi::ruleset::Rule;

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
    pub(crate) fn ruleset(&mut self, rules: Vec<Rule>, tables: &mut AutoTables) -> Vec<Rule> {
        if self.level == Level::None {
            return rules;
        }
        let blocks = superblocks(&rules, self.host);
        let profile = self.running.take().map(|running| Profile::new(running, self.host));
        let aligned = profile.as_ref().map_or(0, |profile| profile.aligned(&rules, &blocks));
        let mut optimized = Vec::with_capacity(rules.len());
        let mut rules = rules.into_iter();
        for (number, range) in blocks.into_iter().enumerate() {
            let mut block: Vec<Rule> = rules.by_ref().take(range.len()).collect();
            if block.len() > 1 {
                covered::remove(&mut block);
                combine::combine(&mut block, tables);
                let quick = block.first().is_some_and(|rule| Fields::of(rule).is_quick());
                let order = match &profile {
                    Some(profile) if quick && number < aligned => profile.order(&block, number),
                    _ => reorder::order(&block, self.host.dialect),
                };
                block = arranged(block, &order);
            }
            optimized.append(&mut block);
        }
        optimized
    }
}

/// The rules in this order, which names each of them once.
fn arranged(rules: Vec<Rule>, order: &[usize]) -> Vec<Rule> {
    let mut rules: Vec<Option<Rule>> = rules.into_iter().map(Some).collect();
    order.iter().filter_map(|&at| rules[at].take()).collect()
}
