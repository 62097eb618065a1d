//! All rules in force, made ready for evaluation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pfapi::anchor::around;
use pfapi::facts::Facts;
use pfapi::ruleset::{Action, Rule, StatePolicy, SyncookieMode};

use super::compile::{InterfaceSet, Names, is_named};
use super::fingerprint::Fingerprints;
use super::program::{Program, Rulesets};
use super::rule::LoadedRule;
use super::ruleset::Ruleset;
use super::tag::Tags;
use crate::engine::Loader;
use crate::limiter::Limiters;
use crate::table::{Table, Tables};

/// What all rules in force are made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The main ruleset and anchors.
    pub rulesets: Rulesets,
    /// Tables that exist or that rules name.
    pub tables: Tables,
    /// Numbers of tags.
    pub tags: Tags,
    /// Database for `os`.
    pub fingerprints: Arc<Fingerprints>,
    /// Interfaces with `set skip on`.
    pub skip: InterfaceSet,
    /// Limiters of the main ruleset.
    pub limiters: Limiters,
}

/// Whether rules say something of SYN cookies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CookieRules {
    /// Some rule asks for them.
    pub ask: bool,
    /// Some rule asks for them under flood.
    pub adapt: bool,
}

impl CookieRules {
    fn of<'a>(rules: impl Iterator<Item = &'a Arc<LoadedRule>>) -> Self {
        let mut found = Self::default();
        for rule in rules {
            match rule.rule.state_options.syncookies {
                None | Some(SyncookieMode::Never) => {}
                Some(SyncookieMode::Always) => found.ask = true,
                Some(SyncookieMode::Adaptive) => found = Self { ask: true, adapt: true },
            }
        }
        found
    }
}

/// All rules in force.
#[derive(Debug)]
pub struct LoadedRules {
    /// The main ruleset under the empty path, which is always there, and anchors under theirs.
    pub rulesets: Rulesets,
    pub(super) program: Arc<Program>,
    /// What decides when no rule matches: pass without state.
    pub default_rule: Arc<LoadedRule>,
    /// Tables that exist or that rules name.
    pub tables: Tables,
    /// Numbers of tags.
    pub tags: Tags,
    /// Database for `os`.
    pub fingerprints: Arc<Fingerprints>,
    /// Interfaces with `set skip on`.
    pub skip: InterfaceSet,
    /// Limiters of the main ruleset.
    pub limiters: Limiters,
    /// Whether rules say something of cookies.
    pub cookies: CookieRules,
    /// Number of the change that made this: no two values have the same.
    pub epoch: u64,
    /// 32 hex digits that change when the main ruleset changes.
    pub checksum: String,
}

impl LoadedRules {
    /// An empty main ruleset: the default rule alone.
    pub fn empty(facts: &Facts, epoch: u64) -> Self {
        let main = Ruleset::new("", [], epoch, Loader::default(), &Tags::default());
        let rulesets = Rulesets::from([(String::new(), Arc::new(main))]);
        let parts = Parts {
            rulesets,
            tables: Tables::default(),
            tags: Tags::default(),
            fingerprints: Arc::default(),
            skip: InterfaceSet::of(facts, |_| false),
            limiters: Limiters::default(),
        };
        Self::new(parts, facts, epoch)
    }

    /// Compiles rulesets. Every table that a rule names must be among `tables`, and every tag
    /// among `tags`.
    pub fn new(parts: Parts, facts: &Facts, epoch: u64) -> Self {
        let Parts { rulesets, tables, tags, fingerprints, skip, limiters } = parts;
        let mut default = Rule::new(Action::Pass);
        default.state = StatePolicy::None;
        let path = Arc::from("");
        let default_rule = LoadedRule::new(default, &path, None, 0, Loader::default(), &tags);
        let names =
            Names { facts, path: "", tables: &tables, tags: &tags, fingerprints: &fingerprints };
        let program = Program::new(&rulesets, &names, &limiters);
        let all = rulesets.values().flat_map(|ruleset| &ruleset.rules);
        let cookies = CookieRules::of(all);
        let checksum = checksum(rulesets.get("").map_or(&[], |main| main.rules.as_slice()));
        Self {
            rulesets,
            program: Arc::new(program),
            default_rule: Arc::new(default_rule),
            tables,
            tags,
            fingerprints,
            skip,
            limiters,
            cookies,
            epoch,
            checksum,
        }
    }

    /// What these rules are made of.
    pub fn parts(&self) -> Parts {
        Parts {
            rulesets: self.rulesets.clone(),
            tables: self.tables.clone(),
            tags: self.tags.clone(),
            fingerprints: Arc::clone(&self.fingerprints),
            skip: self.skip.clone(),
            limiters: self.limiters.clone(),
        }
    }

    /// The same rules with other tables, for `-T add` of a table that no rule names.
    pub fn with_tables(&self, tables: Tables) -> Self {
        Self { tables, ..self.share() }
    }

    /// The same rules with other skipped interfaces.
    pub fn with_skip(&self, skip: InterfaceSet) -> Self {
        Self { skip, ..self.share() }
    }

    /// Another handle on the same rules.
    pub fn share(&self) -> Self {
        Self {
            rulesets: self.rulesets.clone(),
            program: Arc::clone(&self.program),
            default_rule: Arc::clone(&self.default_rule),
            tables: self.tables.clone(),
            tags: self.tags.clone(),
            fingerprints: Arc::clone(&self.fingerprints),
            skip: self.skip.clone(),
            limiters: self.limiters.clone(),
            cookies: self.cookies,
            epoch: self.epoch,
            checksum: self.checksum.clone(),
        }
    }

    /// A rule that an evaluation has named by its position among all steps.
    pub fn rule(&self, step: u32) -> &Arc<LoadedRule> {
        &self.program.step(step).rule
    }

    /// How many steps there are.
    pub fn steps(&self) -> usize {
        self.program.steps.len()
    }

    /// Every rule of every ruleset.
    pub fn all_rules(&self) -> impl Iterator<Item = &Arc<LoadedRule>> {
        self.rulesets.values().flat_map(|ruleset| &ruleset.rules)
    }

    /// Whether the rule is in force, rather than kept by states of an earlier load.
    pub fn is_current(&self, rule: &LoadedRule) -> bool {
        rule.number.is_some()
            && self.rulesets.get(&*rule.path).is_some_and(|ruleset| ruleset.epoch == rule.epoch)
    }

    /// Zeroes what `pfctl -z` zeroes.
    pub fn clear_counters(&self) {
        self.rulesets.values().for_each(|ruleset| ruleset.clear_counters());
    }

    /// How many rules mean each table by its name: rules of its own ruleset, and of others.
    pub fn references(&self) -> BTreeMap<(&str, &str), (u64, u64)> {
        let mut found = BTreeMap::new();
        for (path, name) in named(&self.rulesets) {
            if let Some((holder, _)) = self.tables.resolve(path, name) {
                let (own, others): &mut (u64, u64) = found.entry((holder, name)).or_default();
                *if holder == path { own } else { others } += 1;
            }
        }
        found
    }
}

/// Names of tables in rules, with the path of the ruleset.
fn named(rulesets: &Rulesets) -> impl Iterator<Item = (&str, &str)> {
    rulesets.iter().flat_map(|(path, set)| {
        set.rules.iter().flat_map(move |rule| rule.rule.tables().map(|name| (path.as_str(), name)))
    })
}

/// Drops tables that have lost their last rule and are not to stay without one, and adds those that
/// rules name without a definition, inactive. Limiters count as rules of the main ruleset.
pub fn settle_tables(tables: &mut Tables, rulesets: &Rulesets, limiters: &Limiters) {
    let filled = limiters.tables();
    let filled = || filled.iter().map(|name| ("", name.as_str()));
    let meant: BTreeSet<(&str, &str)> = named(rulesets)
        .chain(filled())
        .flat_map(|(path, name)| around(path).map(move |path| (path, name)))
        .collect();
    tables.retain(|path, table| {
        table.is_persistent() || table.is_defined() && meant.contains(&(path, table.name()))
    });
    for (path, name) in named(rulesets).chain(filled()) {
        if tables.resolve(path, name).is_none() {
            tables.insert("", name, Arc::new(Table::undefined(name)));
        }
    }
}

/// The interfaces that `set skip on` names.
pub fn skipped(names: &[String], facts: &Facts) -> InterfaceSet {
    InterfaceSet::of(facts, |interface| names.iter().any(|name| is_named(interface, name)))
}

/// Stands for pf's MD5 over the fields of the rules: equal rules, equal digits.
fn checksum(rules: &[Arc<LoadedRule>]) -> String {
    use core::hash::Hasher;
    use siphasher::sip128::{Hasher128, SipHasher24};
    let mut hasher = SipHasher24::new_with_keys(0, 0);
    for rule in rules {
        hasher.write(format!("{:?}\n", rule.rule).as_bytes());
    }
    format!("{:032x}", hasher.finish128().as_u128())
}
