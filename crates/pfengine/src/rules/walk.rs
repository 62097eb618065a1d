//! Evaluation: the last matching rule decides, `quick` ends the walk.
//!
//! Rules are evaluated when the walk comes to them, in rule order. An anchor rule that matches
//! takes the walk through the rulesets that it calls and back. In long rulesets an index names the
//! rules that are worth asking; walking plainly, rule by rule, is the model that it is held
//! against. Source: OpenBSD sys/net/pf.c `pf_match_rule`, `pf_anchor_stack_push`,
//! `pf_anchor_stack_pop`.

use std::ops::Range;
use std::sync::Arc;

use pfapi::addr::Af;
use pfapi::reason::Reason;
use pfapi::ruleset::{Action, RuleKind};
use pfapi::units::Direction;

use super::actions::Actions;
use super::classify::{Candidates, Place};
use super::load::LoadedRules;
use super::matcher::{PacketView, Subject, Surroundings, Trial, Working};
use super::program::{Block, Program, Step};
use super::rule::LoadedRule;
use super::tag::Tag;
use super::translate::{Addresses, NoTranslation, Translate};
use crate::fault::{self, Fault};
use crate::limiter::Places;

/// Anchors that may be open at once; a ruleset that calls itself ends here.
///
/// Source: OpenBSD sys/net/pf.c `PF_ANCHOR_STACK_MAX`.
const OPEN_ANCHORS_MAX: usize = 64;

/// Outcome of an evaluation. Match rules and log calls are in the [`Scratch`] that it used.
#[derive(Clone, Copy, Debug)]
pub struct Evaluation<'a> {
    /// The rule that decides; the default rule when none matched.
    pub rule: &'a Arc<LoadedRule>,
    /// The innermost anchor rule around it.
    pub anchor: Option<&'a Arc<LoadedRule>>,
    /// Steps of both; `None` for the default rule.
    pub steps: Option<(u32, Option<u32>)>,
    /// What match rules and the deciding rule ask for, for the state that the packet begins.
    pub actions: Actions,
    /// Addresses and ports after all translation.
    pub addresses: Addresses,
    /// Tag of the packet from now on, when it passes; `actions` has it too.
    pub tag: Option<Tag>,
    /// Whether a rule of FreeBSD has translated the packet, which then leaves a state in any case.
    pub translated: bool,
}

impl Evaluation<'_> {
    /// What is done to the packet when no state is made: the words of the deciding rule alone.
    /// Source: OpenBSD sys/net/pf.c `pf_test`.
    pub fn stateless_actions(&self) -> Actions {
        Actions { tag: self.tag, ..self.rule.actions }
    }
}

/// One record of the packet log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogCall {
    /// Step of the rule that matched.
    pub step: u32,
    /// Step of the anchor rule around it.
    pub anchor: Option<u32>,
    /// N of the `pflogN` that gets the record.
    pub interface: u8,
}

/// Lists that an evaluation fills; reused, so that packets allocate nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Steps of the match rules that matched, in their order, behind the rule of FreeBSD that
    /// translated; see [`LoadedRules::rule`].
    pub matches: Vec<u32>,
    /// Records that rules asked for while they were walked, in their order. The record of the
    /// deciding rule is not among them: it depends on what becomes of the packet.
    pub logs: Vec<LogCall>,
    /// Ask every rule, whatever an index says: for tests and benches.
    pub plainly: bool,
    /// Places that the deciding rule has taken in limiters, for the state that the packet makes.
    pub places: Option<Places>,
    frames: Vec<Frame>,
}

/// Where a walk goes on after an anchor.
#[derive(Clone, Debug)]
struct Frame {
    /// Step of the anchor rule.
    step: u32,
    /// Block that holds it.
    block: u32,
    /// Anchor rule around that block.
    outer: Option<u32>,
    /// Rulesets that are still to be walked.
    calls: Range<u32>,
}

/// A walk in progress.
struct Walk<'a, 'p> {
    program: &'a Program,
    /// Rules of other kinds are passed over.
    kind: RuleKind,
    subject: Subject<'p>,
    scratch: &'p mut Scratch,
    actions: Actions,
    /// The last rule that matched and the anchor rule around it.
    decided: Option<(u32, Option<u32>)>,
    block: u32,
    at: u32,
    /// Rules of the block that are worth asking; `None` in blocks without an index.
    candidates: Option<Candidates<'a>>,
    /// Anchor rule whose ruleset is being walked.
    anchor: Option<u32>,
    /// Places that the rule which was asked last has taken in limiters.
    asked: Option<Places>,
}

/// Whether a walk goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Rule,
    Stop,
}

impl LoadedRules {
    /// Walks the rules for a packet.
    ///
    /// # Errors
    /// The reason for which the packet is dropped whatever the rules say: translation failed,
    /// or anchors are nested too deep.
    pub fn evaluate<'a>(
        &'a self,
        packet: &PacketView<'_>,
        surroundings: Surroundings<'_>,
        scratch: &mut Scratch,
        translate: &mut impl Translate,
    ) -> Result<Evaluation<'a>, Reason> {
        self.walk(packet, surroundings, scratch, translate, None)
    }

    /// Walks the rules for a packet that is only thought of: nothing is counted, logged or used
    /// up, and what is left to chance never blocks. `translate` must not keep anything either.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn foresee<'a>(
        &'a self,
        packet: &PacketView<'_>,
        surroundings: Surroundings<'_>,
        scratch: &mut Scratch,
        translate: &mut impl Translate,
    ) -> Result<Evaluation<'a>, Reason> {
        let trial = Some(Trial { chance: false });
        self.walk(packet, surroundings, scratch, translate, trial)
    }

    fn walk<'a>(
        &'a self,
        packet: &PacketView<'_>,
        surroundings: Surroundings<'_>,
        scratch: &mut Scratch,
        translate: &mut impl Translate,
        trial: Option<Trial>,
    ) -> Result<Evaluation<'a>, Reason> {
        let subject = Subject::new(packet, surroundings, &self.fingerprints).tried(trial);
        let mut walk = Walk::new(&self.program, RuleKind::Filter, subject, scratch);
        let translated = match walk.translate_first(packet.direction, translate)? {
            Some((step, anchor)) => {
                let rule = self.rule(step);
                if rule.rule.freebsd.translate_pass {
                    walk.decided = Some((step, anchor));
                }
                true
            }
            None => false,
        };
        if walk.decided.is_none() {
            walk.run(translate)?;
        }
        let (rule, anchor) = match walk.decided {
            Some((step, anchor)) => (self.rule(step), anchor.map(|step| self.rule(step))),
            None => (&self.default_rule, None),
        };
        let Walk { mut subject, mut actions, decided: steps, .. } = walk;
        actions.merge(&rule.actions);
        actions.tag = subject.working.tag;
        if rule.translates() && rule.rule.kind == RuleKind::Filter {
            subject.translate(rule, translate)?;
        }
        let Working { addresses, tag } = subject.working;
        Ok(Evaluation { rule, anchor, steps, actions, addresses, tag, translated })
    }
}

impl LoadedRules {
    /// Whether there are `scrub` rules.
    pub fn cleans(&self) -> bool {
        self.program.cleans
    }

    /// The first `scrub` rule that matches a packet; `None` when there is none, or when it says
    /// `no scrub`.
    pub fn cleaning<'a>(
        &'a self,
        packet: &PacketView<'_>,
        surroundings: Surroundings<'_>,
        scratch: &mut Scratch,
    ) -> Option<&'a Arc<LoadedRule>> {
        let subject = Subject::new(packet, surroundings, &self.fingerprints);
        let mut walk = Walk::new(&self.program, RuleKind::Scrub, subject, scratch);
        // Anchors that are nested too deep end the search; the rules that filter will see them.
        let _ = walk.run(&mut NoTranslation);
        let rule = self.rule(walk.decided?.0);
        (!rule.rule.freebsd.except).then_some(rule)
    }
}

impl<'a, 'p> Walk<'a, 'p> {
    /// A walk that stands before the first rule.
    fn new(
        program: &'a Program,
        kind: RuleKind,
        subject: Subject<'p>,
        scratch: &'p mut Scratch,
    ) -> Self {
        scratch.matches.clear();
        scratch.logs.clear();
        scratch.frames.clear();
        scratch.places = None;
        Self {
            program,
            kind,
            subject,
            scratch,
            actions: Actions::default(),
            decided: None,
            block: 0,
            at: 0,
            candidates: None,
            anchor: None,
            asked: None,
        }
    }

    /// Walks the rules of FreeBSD that translate, before those that filter: on the way out `binat`
    /// and then `nat`, on the way in `rdr` and then `binat`. The first rule that matches decides;
    /// `no` ends the search. Gives the rule that has translated. Source: FreeBSD
    /// sys/netpfil/pf/pf_lb.c `pf_get_translation`.
    fn translate_first(
        &mut self,
        direction: Direction,
        translate: &mut impl Translate,
    ) -> Result<Option<(u32, Option<u32>)>, Reason> {
        if !self.program.translates {
            return Ok(None);
        }
        let kinds = match direction {
            Direction::Out => [RuleKind::Binat, RuleKind::Nat],
            Direction::In => [RuleKind::Rdr, RuleKind::Binat],
        };
        let mut found = None;
        for kind in kinds {
            self.kind = kind;
            self.run(translate)?;
            found = self.decided.take();
            (self.block, self.at, self.anchor) = (0, 0, None);
            self.scratch.frames.clear();
            if found.is_some() {
                break;
            }
        }
        self.kind = RuleKind::Filter;
        let Some((step, anchor)) = found else { return Ok(None) };
        let rule = &self.program.step(step).rule;
        if rule.rule.freebsd.except {
            return Ok(None);
        }
        let before = self.subject.working.addresses;
        self.subject.translate(rule, translate)?;
        if self.subject.working.addresses == before {
            return Ok(None);
        }
        if !rule.rule.freebsd.translate_pass {
            // Rules that filter decide; this one counts and logs beside them as a match rule does.
            self.scratch.matches.push(step);
            if let Some(log) = rule.rule.log {
                self.scratch.logs.push(LogCall { step, anchor, interface: log.interface });
            }
        }
        Ok(Some((step, anchor)))
    }

    fn matches(&mut self, step: &Step) -> bool {
        if let Some(trial) = &mut self.subject.trial {
            trial.chance = !matches!(step.rule.rule.action, Action::Block(_));
        }
        let inbound =
            step.inbound.as_ref().filter(|_| self.subject.packet.direction == Direction::In);
        inbound.unwrap_or(&step.test).matches(&mut self.subject, &step.rule.rate)
    }

    /// Looks up which rules of the block are worth asking from `at` on: when the walk comes into
    /// a block, and when addresses have changed.
    fn look_up(&mut self) {
        let block = &self.program.blocks[self.block as usize];
        let index = block.index.as_ref().filter(|_| !self.scratch.plainly);
        self.candidates = index.map(|index| {
            let packet = self.subject.packet;
            let place = Place {
                kind: self.kind,
                direction: packet.direction,
                interface: packet.interface,
                proto: packet.desc.proto,
                has_ports: packet.desc.transport.has_ports(),
            };
            let from = (self.at - block.start) as usize;
            index.candidates(place, &self.subject.working.addresses, from)
        });
    }

    /// Moves on to the next rule that is worth asking; false behind the last one.
    fn advance(&mut self, start: u32, end: u32) -> bool {
        if let Some(candidates) = &mut self.candidates {
            let next = candidates.next().and_then(|at| u32::try_from(at).ok());
            self.at = next.map_or(end, |at| start + at);
        }
        self.at < end
    }

    fn run(&mut self, translate: &mut impl Translate) -> Result<(), Reason> {
        loop {
            let Block { start, end, .. } = self.program.blocks[self.block as usize];
            self.look_up();
            while self.advance(start, end) {
                let step = self.program.step(self.at);
                if step.kind != self.kind
                    || step.once && step.rule.is_expired()
                    || !self.matches(step)
                    || !self.finds_room(step)?
                    || !self.may_use(step)
                {
                    self.at += 1;
                    continue;
                }
                let tag = &mut self.subject.working.tag;
                *tag = step.rule.tag.or(*tag);
                if let Some(calls) = &step.calls {
                    if self.enter(calls.clone())? {
                        break;
                    }
                } else if self.meet(step, translate)? == Next::Stop {
                    self.stop();
                    return Ok(());
                }
                self.at += 1;
            }
            let block = &self.program.blocks[self.block as usize];
            if self.at < block.end {
                // A called ruleset was entered; `at` is its first rule.
                continue;
            }
            if self.subject.trial.is_none() {
                block.ruleset.count_whole(self.kind);
            }
            if self.leave() == Next::Stop {
                return Ok(());
            }
        }
    }

    /// Takes the places of a state in the limiters of a rule that matches; false when one is full
    /// and the rule does not match therefore. Only `once` is asked later: a packet for which there
    /// is no room has been counted by the `max-pkt-rate` of the same rule.
    fn finds_room(&mut self, step: &Step) -> Result<bool, Reason> {
        let Some(limits) = &step.limits else { return Ok(true) };
        // The source as the packet has it, whatever rules have made of it.
        let (desc, now) = (self.subject.packet.desc, self.subject.now());
        let source = (desc.af == Af::Inet6, desc.src);
        let found = if self.subject.trial.is_some() {
            limits.foresee(source, now)
        } else {
            limits.reserve(source, now).map(|places| {
                let there = places.is_some();
                self.asked = places;
                there
            })
        };
        if found.is_err() {
            self.stop();
        }
        found
    }

    /// Uses a `once` rule up; false when another packet was faster.
    fn may_use(&self, step: &Step) -> bool {
        if self.subject.trial.is_some() {
            return true;
        }
        let block = &self.program.blocks[self.block as usize];
        let looked_at =
            || block.ruleset.evaluations(self.kind, (self.at - block.start) as usize) + 1;
        !step.once || step.rule.expire(looked_at)
    }

    /// Goes into the rulesets that an anchor rule calls; false when there is none.
    fn enter(&mut self, mut calls: Range<u32>) -> Result<bool, Reason> {
        let Some(first) = calls.next() else { return Ok(false) };
        if self.scratch.frames.len() == OPEN_ANCHORS_MAX {
            self.stop();
            return Err(Reason::Memory);
        }
        let (step, block, outer) = (self.at, self.block, self.anchor);
        self.scratch.frames.push(Frame { step, block, outer, calls });
        self.anchor = Some(step);
        self.go_to(first);
        Ok(true)
    }

    fn go_to(&mut self, call: u32) {
        self.block = self.program.calls[call as usize];
        self.at = self.program.blocks[self.block as usize].start;
    }

    /// After the last rule of a ruleset: the next one of its anchor, or back to the caller.
    fn leave(&mut self) -> Next {
        let Some(frame) = self.scratch.frames.last_mut() else { return Next::Stop };
        let quick = self.program.step(frame.step).rule.rule.quick
            && self.decided.is_some_and(|(_, anchor)| anchor == Some(frame.step));
        if !quick && let Some(call) = frame.calls.next() {
            self.go_to(call);
            return Next::Rule;
        }
        let Some(frame) = self.scratch.frames.pop() else { return Next::Stop };
        (self.block, self.at, self.anchor) = (frame.block, frame.step, frame.outer);
        if quick {
            self.stop();
            return Next::Stop;
        }
        self.at += 1;
        Next::Rule
    }

    /// What a rule does that matches.
    fn meet(&mut self, step: &Step, translate: &mut impl Translate) -> Result<Next, Reason> {
        let rule = &step.rule;
        let log = rule.rule.log;
        if rule.rule.kind != RuleKind::Filter {
            self.decided = Some((self.at, self.anchor));
            return Ok(Next::Stop);
        }
        if rule.rule.action == Action::Match {
            self.scratch.matches.push(self.at);
            self.actions.merge(&rule.actions);
            let before = self.subject.working.addresses;
            if rule.translates()
                && let Err(reason) = self.subject.translate(rule, translate)
            {
                self.stop();
                return Err(reason);
            }
            if self.subject.working.addresses != before {
                self.at += 1;
                self.look_up();
                self.at -= 1;
            }
            if let Some(log) = log {
                self.log(log.interface);
            }
        } else if !(fault::is(Fault::FirstMatchDecides) && self.decided.is_some()) {
            self.decided = Some((self.at, self.anchor));
            if step.limits.is_some() || self.scratch.places.is_some() {
                self.scratch.places = self.asked.take();
            }
        }
        if !log.is_some_and(|log| log.matches) {
            self.log_for_earlier();
        }
        Ok(if rule.rule.quick { Next::Stop } else { Next::Rule })
    }

    /// One record for each rule in each log, however many ask for it.
    fn log(&mut self, interface: u8) {
        let call = LogCall { step: self.at, anchor: self.anchor, interface };
        // Only the last ones can be of this step.
        let mut last = self.scratch.logs.iter().rev().take_while(|earlier| earlier.step == self.at);
        if !last.any(|earlier| *earlier == call) {
            self.scratch.logs.push(call);
        }
    }

    /// Records this rule for the match rules before it that said `log (matches)`.
    fn log_for_earlier(&mut self) {
        for at in 0..self.scratch.matches.len() {
            let earlier = &self.program.step(self.scratch.matches[at]).rule.rule;
            if let Some(log) = earlier.log.filter(|log| log.matches) {
                self.log(log.interface);
            }
        }
    }

    /// Counts where each open ruleset was left.
    fn stop(&mut self) {
        if self.subject.trial.is_some() {
            return;
        }
        let (program, kind) = (self.program, self.kind);
        let count = |block: u32, step: u32| {
            let block = &program.blocks[block as usize];
            block.ruleset.count_end(kind, (step - block.start) as usize);
        };
        count(self.block, self.at);
        for frame in &self.scratch.frames {
            count(frame.block, frame.step);
        }
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
