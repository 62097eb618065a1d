//! Match rules that states keep, for counting and logging.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::load::LoadedRules;
use super::rule::LoadedRule;

/// Match rules of one state, in the order in which they matched.
pub type MatchList = Arc<[Arc<LoadedRule>]>;

/// Lists that one worker remembers, so that states with the same match rules share one.
const LISTS_MAX: usize = 4_096;

/// The lists of match rules that a worker has met lately: making a state allocates nothing when
/// an earlier one had the same.
#[derive(Debug, Default)]
pub struct MatchLists {
    epoch: u64,
    lists: BTreeMap<Box<[u32]>, MatchList>,
}

impl MatchLists {
    /// The list of these steps; `None` when there are none.
    pub fn get(&mut self, rules: &LoadedRules, steps: &[u32]) -> Option<MatchList> {
        if steps.is_empty() {
            return None;
        }
        if self.epoch != rules.epoch || self.lists.len() == LISTS_MAX {
            self.epoch = rules.epoch;
            self.lists.clear();
        }
        if let Some(list) = self.lists.get(steps) {
            return Some(Arc::clone(list));
        }
        let list: MatchList = steps.iter().map(|&step| Arc::clone(rules.rule(step))).collect();
        self.lists.insert(steps.into(), Arc::clone(&list));
        Some(list)
    }
}
