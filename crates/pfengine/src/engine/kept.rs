//! `set keepcounters`: rules that a load does not change go on with their counters.
//!
//! Source: FreeBSD sys/netpfil/pf/pf_ioctl.c `pf_commit_rules`, which finds the rule of before by a
//! hash over all that it says.

use std::collections::HashMap;

use pfapi::ruleset::Rule;

use super::Engine;
use crate::rules::{Kept, Rulesets};

/// Counters of the rules in force, by the path of their ruleset and all that they say.
pub(super) struct KeptCounters(HashMap<(String, String), Kept>);

/// All that a rule says, as text.
fn words(rule: &Rule) -> String {
    format!("{rule:?}")
}

impl Engine {
    /// Counters of all rules in force, those of living states included.
    pub(super) fn kept_counters(&self) -> KeptCounters {
        let mut kept = HashMap::new();
        let paths = self.anchors().into_iter().chain([String::new()]);
        for path in paths {
            for report in self.rules_of(&path, 0, usize::MAX) {
                let counters = Kept {
                    evaluations: report.evaluations,
                    packets: report.packets,
                    bytes: report.bytes,
                };
                // Of two rules that say the same, the first has the counters.
                kept.entry((path.clone(), words(&report.rule))).or_insert(counters);
            }
        }
        KeptCounters(kept)
    }
}

impl KeptCounters {
    /// Gives them to the rules that the load `epoch` has brought.
    pub fn restore(mut self, rulesets: &Rulesets, epoch: u64) {
        let loaded = rulesets.iter().filter(|(_, ruleset)| ruleset.epoch == epoch);
        for (path, ruleset) in loaded {
            for rule in &ruleset.rules {
                if let Some(kept) = self.0.remove(&(path.clone(), words(&rule.rule))) {
                    rule.counters.keep(&kept);
                }
            }
        }
    }
}
