//! Orders `quick` rules by how many packets the same rules of the ruleset in force have seen.
//!
//! Superblocks of both rulesets are put side by side from the first on, as long as they begin
//! alike. Source: OpenBSD sbin/pfctl/pfctl_optimize.c `load_feedback_profile`, `block_feedback`.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;

use pfapi::ruleset::Rule;

use super::class::{Equal, Fields, Scope};
use super::hash::small;
use super::superblock::{Host, superblocks};

/// A rule in force and how many packets it has matched, in and out.
#[derive(Clone, Debug)]
pub struct Counted {
    /// The rule.
    pub rule: Rule,
    /// Packets since the counters were cleared.
    pub packets: u64,
}

/// The rules in force in superblocks of their own.
#[derive(Debug)]
pub(super) struct Profile {
    rules: Vec<Rule>,
    packets: Vec<u64>,
    blocks: Vec<Range<usize>>,
}

impl Profile {
    pub(super) fn new(running: Vec<Counted>, host: Host) -> Self {
        let (rules, packets): (Vec<Rule>, Vec<u64>) =
            running.into_iter().map(|counted| (counted.rule, counted.packets)).unzip();
        let blocks = superblocks(&rules, host);
        Self { rules, packets, blocks }
    }

    /// How many superblocks, from the first on, begin like those of the new ruleset.
    pub(super) fn aligned(&self, rules: &[Rule], blocks: &[Range<usize>]) -> usize {
        let begins_alike = |(new, old): &(&Range<usize>, &Range<usize>)| {
            let (new, old) = (Fields::of(&rules[new.start]), Fields::of(&self.rules[old.start]));
            new.alone == old.alone && new.unlisted == old.unlisted
        };
        blocks.iter().zip(&self.blocks).take_while(begins_alike).count()
    }

    /// The order of the rules of a superblock, as their positions; `block` is the number of the
    /// one in force that it was aligned with.
    pub(super) fn order(&self, rules: &[Rule], block: usize) -> Vec<u32> {
        let mut counts = vec![0; rules.len()];
        let new: Vec<Fields> = rules.iter().map(Fields::of).collect();
        let places: HashMap<(&Equal, Scope), usize> =
            new.iter().enumerate().map(|(at, f)| ((&f.equal, f.scope), at)).collect();
        for at in self.blocks.get(block).cloned().into_iter().flatten() {
            let old = Fields::of(&self.rules[at]);
            let Some(&place) = places.get(&(&old.equal, old.scope)) else { continue };
            let same = new[place].shared == old.shared
                && new[place].unlisted == old.unlisted
                && new[place].alone == old.alone;
            if same && counts[place] == 0 {
                counts[place] = self.packets[at];
            }
        }
        let mut order: Vec<u32> = (0..small(rules.len())).collect();
        order.sort_by_key(|&at| Reverse(counts[at as usize]));
        order
    }
}
