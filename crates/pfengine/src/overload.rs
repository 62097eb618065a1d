//! `overload flush`: ends the states of sources that exceeded a limit.
//!
//! One pass over all states, some at a time, serves all sources that were named before it began;
//! those that are named meanwhile wait for the next pass. So the work does not grow with the number
//! of offenders, and no source is forgotten. Source: OpenBSD sys/net/pf.c `pf_src_connlimit`, which
//! walks all states for each offender at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use pfapi::addr::Af;
use pfapi::units::Direction;

use crate::addr::Addr;
use crate::rules::LoadedRule;
use crate::state::entry::State;
use crate::state::key::Side;
use crate::state::store::View;

/// Most sources that wait for one worker: 6 MB. Whoever finds no room first sweeps on.
const WAITING_MAX: usize = 65_536;

/// Whose states end: only those of these rules, or all.
#[derive(Debug)]
enum Reach {
    Rules(Vec<Arc<LoadedRule>>),
    All,
}

/// Sources by whether they are of IPv6, and address.
type Sources = BTreeMap<(bool, Addr), Reach>;

/// Sources whose states are to end.
#[derive(Debug)]
pub struct Flushes {
    most: usize,
    /// Served by the pass that is under way.
    served: Sources,
    /// Next slot of the pass.
    next: u32,
    waiting: Sources,
    /// Rules and sources in `waiting`.
    count: usize,
}

impl Default for Flushes {
    fn default() -> Self {
        Self::new(WAITING_MAX)
    }
}

impl Flushes {
    fn new(most: usize) -> Self {
        let (served, waiting) = (Sources::new(), Sources::new());
        Self { most, served, next: 0, waiting, count: 0 }
    }

    /// Names a source: its states of `rule` are to end, or all. False when too many wait already;
    /// after [`Self::sweep`] there is room again some time.
    #[must_use]
    pub fn add(&mut self, (af, addr): (Af, Addr), rule: Option<&Arc<LoadedRule>>) -> bool {
        let room = self.count < self.most;
        let source = (af == Af::Inet6, addr);
        match (self.waiting.get_mut(&source), rule) {
            (Some(Reach::All), _) => return true,
            (Some(Reach::Rules(rules)), Some(rule)) => {
                if rules.iter().any(|known| Arc::ptr_eq(known, rule)) {
                    return true;
                }
                if room {
                    rules.push(Arc::clone(rule));
                }
            }
            (Some(reach), None) => {
                *reach = Reach::All;
                return true;
            }
            (None, rule) => {
                let reach = rule.map_or(Reach::All, |rule| Reach::Rules(vec![Arc::clone(rule)]));
                if room {
                    self.waiting.insert(source, reach);
                }
            }
        }
        self.count += usize::from(room);
        room
    }

    /// Goes on with the pass, over so many slots at most; gives how many states have ended.
    pub fn sweep(&mut self, view: &View<'_>, slots: u32) -> u64 {
        let mut removed = 0;
        for _ in 0..slots {
            if self.served.is_empty() {
                if self.waiting.is_empty() {
                    break;
                }
                self.served = core::mem::take(&mut self.waiting);
                (self.next, self.count) = (0, 0);
            }
            if self.next >= view.store.slots() {
                self.served.clear();
                continue;
            }
            let served = &self.served;
            if let Some(state) = view.remove_if(self.next, |state| is_served(served, state)) {
                removed += 1;
                state.retire();
            }
            self.next += 1;
        }
        removed
    }
}

fn is_served(served: &Sources, state: &State) -> bool {
    let key = state.key(Side::Wire);
    let side = usize::from(state.direction == Direction::Out);
    match served.get(&(key.af == Af::Inet6, key.addr[side])) {
        None => false,
        Some(Reach::All) => true,
        Some(Reach::Rules(rules)) => rules.iter().any(|rule| Arc::ptr_eq(rule, state.rule())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Loader;
    use crate::rules::Tags;
    use crate::state::key::HashSecret;
    use crate::state::store::Store;
    use pfapi::ruleset::{Action, Rule};

    #[test]
    fn sources_that_find_no_room_find_it_after_a_sweep() {
        let path = Arc::from("");
        let tags = Tags::default();
        let rule = Rule::new(Action::Pass);
        let rule = Arc::new(LoadedRule::new(rule, &path, Some(0), 1, Loader::default(), &tags));
        let store = Store::new(10, HashSecret([1; 16]), 1);
        let view = store.open();
        let mut flushes = Flushes::new(3);
        let source = |number| (Af::Inet, Addr(number));
        assert!(flushes.add(source(1), Some(&rule)) && flushes.add(source(1), Some(&rule)));
        assert!(flushes.add(source(2), None) && flushes.add(source(2), Some(&rule)));
        assert!(flushes.add(source(3), None));
        assert!(!flushes.add(source(4), None), "three are waiting");
        assert!(flushes.add(source(1), None), "it waits already, and now for all its states");
        // The pass takes over those that wait.
        flushes.sweep(&view, 1);
        assert!(flushes.add(source(4), None));
        flushes.sweep(&view, 10);
        assert!(flushes.served.is_empty() && flushes.waiting.is_empty());
    }
}
