//! All rulesets as one list of steps, with anchors resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use pfapi::anchor::{Called, around, is_child, resolve};
use pfapi::ruleset::{Endpoint, Rule, RuleKind};

use super::classify::{Budget, RuleIndex};
use super::compile::{CompiledRule, Names};
use super::rule::LoadedRule;
use super::ruleset::Ruleset;
use super::tag::Tags;
use crate::engine::Loader;
use crate::limiter::{Asked, Limiters};
use crate::table::Tables;

/// Rulesets by path; the main ruleset has the empty path and comes first.
pub type Rulesets = BTreeMap<String, Arc<Ruleset>>;

/// Makes the anchors that rules call or that have tables, with those around them, and drops those
/// without rules that nothing holds. Source: OpenBSD sys/net/pf_ruleset.c `pf_anchor_setup`,
/// `pf_remove_if_empty_ruleset`.
pub fn settle_anchors(rulesets: &mut Rulesets, tables: &Tables) {
    let mut held: BTreeSet<String> = BTreeSet::new();
    let mut hold = |path: &str| {
        // An anchor holds those that it lies in.
        for path in around(path).take_while(|path| !path.is_empty()) {
            if !held.insert(path.to_owned()) {
                break;
            }
        }
    };
    tables.paths().for_each(&mut hold);
    for (path, set) in rulesets.iter().filter(|(_, set)| !set.rules.is_empty()) {
        hold(path);
        for anchor in set.rules.iter().filter_map(|rule| rule.rule.anchor.as_ref()) {
            match resolve(path, &anchor.path) {
                Called::One(path) | Called::Below(path) => hold(&path),
            }
        }
    }
    rulesets.retain(|path, _| path.is_empty() || held.contains(path));
    for path in held {
        rulesets.entry(path).or_insert_with_key(|path| {
            Arc::new(Ruleset::new(path, [], 0, Loader::default(), &Tags::default()))
        });
    }
}

/// Rulesets with more rules than this have an index: below, asking every rule is as fast.
const UNINDEXED_MAX: usize = 64;

/// All rulesets as one list of steps.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub steps: Vec<Step>,
    /// One per ruleset; the first is the main ruleset.
    pub blocks: Vec<Block>,
    /// Blocks that anchor rules call.
    pub calls: Vec<u32>,
    /// Whether there are rules of FreeBSD that translate.
    pub translates: bool,
    /// Whether there are `scrub` rules.
    pub cleans: bool,
}

/// A rule as the walk sees it.
#[derive(Debug)]
pub(super) struct Step {
    pub rule: Arc<LoadedRule>,
    /// Kind of the rule and whether it can be used up: asked of every rule.
    pub kind: RuleKind,
    pub once: bool,
    pub test: CompiledRule,
    /// For `binat`: the conditions on what comes in to the outer address.
    pub inbound: Option<CompiledRule>,
    /// Limiters in which a packet must find room.
    pub limits: Option<Box<Asked>>,
    /// For anchor rules: the part of [`Program::calls`] that they call.
    pub calls: Option<Range<u32>>,
}

/// The steps of one ruleset.
#[derive(Debug)]
pub(super) struct Block {
    pub start: u32,
    pub end: u32,
    pub ruleset: Arc<Ruleset>,
    /// For long rulesets.
    pub index: Option<RuleIndex>,
}

impl Program {
    /// Compiles all rulesets.
    pub fn new(rulesets: &Rulesets, names: &Names<'_>, limiters: &Limiters) -> Self {
        let mut program = Self::default();
        let mut budget = Budget::default();
        for ruleset in rulesets.values() {
            let names = &Names { path: &ruleset.path, ..*names };
            let start = position(program.steps.len());
            for rule in &ruleset.rules {
                let calls = rule.rule.anchor.as_ref().map(|anchor| {
                    let first = position(program.calls.len());
                    program.calls.extend(called(rulesets, &ruleset.path, &anchor.path));
                    first..position(program.calls.len())
                });
                rule.bind(names);
                let test = CompiledRule::new(&rule.rule, names);
                let inbound = inbound(&rule.rule).map(|rule| CompiledRule::new(&rule, names));
                program.cleans |= rule.rule.kind == RuleKind::Scrub;
                program.translates |=
                    matches!(rule.rule.kind, RuleKind::Nat | RuleKind::Rdr | RuleKind::Binat);
                let (kind, once) = (rule.rule.kind, rule.rule.once);
                program.steps.push(Step {
                    rule: Arc::clone(rule),
                    kind,
                    once,
                    test,
                    inbound,
                    limits: limiters.asked_by(&rule.rule.freebsd),
                    calls,
                });
            }
            let end = position(program.steps.len());
            let steps = &program.steps[start as usize..];
            let index = (steps.len() > UNINDEXED_MAX).then(|| RuleIndex::new(steps, &mut budget));
            program.blocks.push(Block { start, end, ruleset: Arc::clone(ruleset), index });
        }
        program
    }

    pub fn step(&self, at: u32) -> &Step {
        &self.steps[at as usize]
    }
}

/// What a `binat` rule says of packets that come in. Source: FreeBSD sys/netpfil/pf/pf_lb.c
/// `pf_match_translation`.
fn inbound(rule: &Rule) -> Option<Rule> {
    let outer = rule.nat.as_ref().filter(|_| rule.kind == RuleKind::Binat)?;
    let mut turned = rule.clone();
    turned.from = rule.to.clone();
    turned.to = Endpoint { addr: outer.addr.clone(), ..Endpoint::default() };
    Some(turned)
}

/// Blocks that the path of an anchor rule in the ruleset `base` names.
fn called(rulesets: &Rulesets, base: &str, path: &str) -> Vec<u32> {
    let wanted = resolve(base, path);
    let names = |candidate: &str| match &wanted {
        Called::One(path) => candidate == path,
        Called::Below(parent) => is_child(parent, candidate),
    };
    (0u32..).zip(rulesets.keys()).filter(|(_, path)| names(path)).map(|(at, _)| at).collect()
}

/// A position in a list of rules; their number is bounded far below 2^32.
fn position(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
