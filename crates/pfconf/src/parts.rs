//! What is left of a file when only some parts of it count.
//!
//! Source: FreeBSD sbin/pfctl/pfctl.c `pfctl_load_ruleset`, sbin/pfctl/pfctl_optimize.c
//! `combine_rules`.

use std::collections::BTreeSet;

use pfapi::load::{Part, Parts};
use pfapi::ruleset::Rule;

use crate::optimize::Level;
use crate::reader::Shared;
use crate::redirect::AutoTables;

/// How rules are optimized. Tables are made of rules only where tables are loaded.
pub(crate) fn level(shared: &Shared, parts: Parts) -> Level {
    if parts.has(Part::Tables) { shared.optimize.unwrap_or_default() } else { Level::None }
}

/// The rules that count, at every depth. Tables that pfctl has made stay while such a rule names
/// them.
pub(crate) fn select(mut rules: Vec<Rule>, parts: Parts, tables: &mut AutoTables) -> Vec<Rule> {
    fn retain(rules: &mut Vec<Rule>, parts: Parts) {
        rules.retain(|rule| parts.has(Part::of(rule.kind)));
        for anchor in rules.iter_mut().filter_map(|rule| rule.anchor.as_mut()) {
            anchor.rules.iter_mut().for_each(|rules| retain(rules, parts));
        }
    }
    fn names<'r>(rules: &'r [Rule], found: &mut BTreeSet<&'r str>) {
        for rule in rules {
            found.extend(rule.tables());
            if let Some(below) = rule.anchor.as_ref().and_then(|anchor| anchor.rules.as_ref()) {
                names(below, found);
            }
        }
    }
    if !parts.is_all() {
        retain(&mut rules, parts);
        let mut named = BTreeSet::new();
        names(&rules, &mut named);
        tables.made.retain(|table| named.contains(table.name.as_str()));
    }
    rules
}
