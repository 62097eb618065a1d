//! What rules said of a first packet, shared by all states of which they said the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use pfapi::ruleset::{Rate, StatePolicy};

use super::actions::Actions;
use super::load::LoadedRules;
use super::rule::LoadedRule;
use super::walk::Evaluation;

/// What rules said of a first packet: all that its state keeps of them.
///
/// What every packet of the state asks lies here, so that few cache lines serve many states,
/// whatever rule made them.
#[derive(Debug)]
pub struct Decision {
    /// The rule that decided.
    pub rule: Arc<LoadedRule>,
    /// What all rules together ask to be done to the packets of the state.
    pub actions: Actions,
    /// `sloppy`.
    pub sloppy: bool,
    /// `modulate state`.
    pub modulated: bool,
    /// `allow-opts`.
    pub allow_opts: bool,
    /// `max-pkt-rate`.
    pub max_pkt_rate: Option<Rate>,
    /// Anchor rule around the rule.
    pub anchor: Option<Arc<LoadedRule>>,
    /// Match rules that the packet met, in that order; they count the packets of the state too.
    pub matches: Box<[Arc<LoadedRule>]>,
}

impl Decision {
    fn new(rules: &LoadedRules, matches: &[u32], found: &Evaluation<'_>) -> Self {
        let rule = &found.rule.rule;
        Self {
            rule: Arc::clone(found.rule),
            actions: found.actions,
            sloppy: rule.state_options.sloppy,
            modulated: rule.state == StatePolicy::Modulate,
            allow_opts: rule.allow_opts,
            max_pkt_rate: rule.rare.max_pkt_rate,
            anchor: found.anchor.map(Arc::clone),
            matches: matches.iter().map(|&step| Arc::clone(rules.rule(step))).collect(),
        }
    }

    /// All rules that count: the deciding one, the anchor rule around it, and match rules.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<LoadedRule>> {
        [&self.rule].into_iter().chain(&self.anchor).chain(&self.matches)
    }
}

/// Decisions with match rules, anchors or tags from elsewhere that one worker remembers.
const COMPOSED_MAX: usize = 4_096;

/// The decisions that a worker has met lately: making a state allocates nothing when an earlier
/// one had the same.
#[derive(Debug, Default)]
pub struct Decisions {
    epoch: u64,
    /// By the step of the deciding rule, when nothing else had a part in it.
    plain: Vec<Option<Arc<Decision>>>,
    /// By the steps of all rules and the tag.
    composed: BTreeMap<Box<[u32]>, Arc<Decision>>,
    wanted: Vec<u32>,
}

impl Decisions {
    /// The decision of an evaluation whose match rules were `matches`.
    pub fn get(
        &mut self,
        rules: &LoadedRules,
        matches: &[u32],
        found: &Evaluation<'_>,
    ) -> Arc<Decision> {
        if self.epoch != rules.epoch {
            *self = Self { epoch: rules.epoch, ..Self::default() };
            self.plain.resize(rules.steps(), None);
        }
        let make = || Arc::new(Decision::new(rules, matches, found));
        let (step, anchor) = found.steps.unwrap_or((u32::MAX, None));
        if let Some(place) = self.plain.get_mut(step as usize)
            && anchor.is_none()
            && matches.is_empty()
            && found.actions.tag == found.rule.tag
        {
            return Arc::clone(place.get_or_insert_with(make));
        }
        self.wanted.clear();
        let tag = found.actions.tag.map_or(0, |tag| u32::from(tag.number()));
        self.wanted.extend([step, anchor.unwrap_or(u32::MAX), tag]);
        self.wanted.extend(matches);
        if let Some(decision) = self.composed.get(self.wanted.as_slice()) {
            debug_assert_eq!(decision.actions, found.actions, "rules and tag say it all");
            return Arc::clone(decision);
        }
        if self.composed.len() == COMPOSED_MAX {
            self.composed.clear();
        }
        let decision = make();
        self.composed.insert(self.wanted.as_slice().into(), Arc::clone(&decision));
        decision
    }
}
