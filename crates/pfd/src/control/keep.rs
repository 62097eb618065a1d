//! What a load leaves as it is: `pfctl -A`, `-N`, `-O`, `-R`, `-T load` and `-m`.
//!
//! A load always puts a whole ruleset in force. One that brings some parts only is completed with
//! what is in force, under the lock of loads, so that no other load can come between. Tables need no
//! completion: the engine keeps those that rules name or that are persistent.

use std::collections::BTreeMap;

use pfapi::anchor::{Called, resolve};
use pfapi::load::{Given, Part, Parts};
use pfapi::ruleset::{Options, Rule};
use pfengine::Engine;

use super::load::Target;

/// The settings of a load, completed with those in force.
pub fn options(engine: &Engine, new: Options, parts: Parts, given: Option<&Given>) -> Options {
    match given {
        _ if !parts.has(Part::Options) => engine.options(),
        Some(given) => new.merged(engine.options(), given),
        None => new,
    }
}

/// Rules in force of the kinds that a load leaves out, by their paths from what is loaded: those of
/// the ruleset itself, of the anchors `paths` that the load fills, and of the inline anchors that
/// kept rules call.
pub fn rules<'a>(
    engine: &Engine,
    target: &Target,
    paths: impl Iterator<Item = &'a str>,
) -> BTreeMap<String, Vec<Rule>> {
    let mut kept = BTreeMap::new();
    let mut open: Vec<String> = paths.map(str::to_owned).collect();
    open.push(String::new());
    while let Some(path) = open.pop() {
        if kept.contains_key(&path) {
            continue;
        }
        let rules = in_force(engine, &join(&target.anchor, &path), target.parts);
        for rule in &rules {
            if let Some(anchor) = &rule.anchor
                && anchor.rules.is_some()
                && let Called::One(inner) = resolve(&path, &anchor.path)
            {
                open.push(inner);
            }
        }
        kept.insert(path, rules);
    }
    kept.retain(|_, rules| !rules.is_empty());
    kept
}

fn join(root: &str, path: &str) -> String {
    match (root.is_empty(), path.is_empty()) {
        (true, _) => path.to_owned(),
        (false, true) => root.to_owned(),
        (false, false) => format!("{root}/{path}"),
    }
}

fn in_force(engine: &Engine, path: &str, loaded: Parts) -> Vec<Rule> {
    let alive = engine.rules_of(path, 0, usize::MAX).into_iter().filter(|report| !report.expired);
    alive.map(|report| report.rule).filter(|rule| !loaded.has(Part::of(rule.kind))).collect()
}
