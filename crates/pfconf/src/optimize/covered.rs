//! Removes rules that another rule of their superblock includes, or repeats.
//!
//! Whichever rule of a superblock matches, the same happens; so a rule that matches only packets
//! that another one matches, too, can go. Of rules that are the same the first stays. pfctl
//! compares every two rules; as "includes" is transitive, looking for each rule up whether a wider
//! one exists comes to the same. Source: OpenBSD sbin/pfctl/pfctl_optimize.c
//! `remove_identical_rules`, `exclude_supersets`.

use std::collections::{BTreeSet, HashMap};

use pfapi::ruleset::Rule;

use super::address::Addr;
use super::class::{Scope, grouped};

/// How much of a [`Scope`] is left open. There are few of them in a superblock, so that all that
/// could include a rule can be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::struct_excessive_bools, reason = "fields of a rule, one by one")]
struct Shape {
    interface: bool,
    direction: bool,
    af: bool,
    proto: bool,
    flags: bool,
    from_port: bool,
    to_port: bool,
    from: Reach,
    to: Reach,
}

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// A network of this length.
    Net(u8),
    /// A table, an interface and so on: includes nothing but itself.
    Itself,
}

impl Reach {
    const fn of(addr: Addr) -> Self {
        match addr {
            Addr::Net { len, .. } => Self::Net(len),
            _ => Self::Itself,
        }
    }

    /// The address of this reach that includes `addr`; `None` when there is none. `any` without
    /// `!` includes whatever there is, a larger network only those of its own family.
    fn widen(self, addr: Addr, negated: bool, same_family: bool) -> Option<Addr> {
        match self {
            Self::Itself => (!addr.is_net()).then_some(addr),
            Self::Net(0) if !negated => Some(Addr::ANY),
            Self::Net(len) if Self::of(addr) == self || same_family => addr.widened(len),
            Self::Net(_) => None,
        }
    }
}

impl Shape {
    const fn of(scope: &Scope) -> Self {
        let Scope {
            interface,
            direction,
            af,
            proto,
            flags,
            from_port,
            to_port,
            not_from: _,
            not_to: _,
            from,
            to,
        } = scope;
        Self {
            interface: interface.is_none(),
            direction: direction.is_none(),
            af: af.is_none(),
            proto: proto.is_none(),
            flags: flags.is_none(),
            from_port: from_port.is_none(),
            to_port: to_port.is_none(),
            from: Reach::of(*from),
            to: Reach::of(*to),
        }
    }

    /// Whether a scope of this shape could include one of `other`.
    const fn may_include(&self, other: &Self) -> bool {
        (self.interface || !other.interface)
            && (self.direction || !other.direction)
            && (self.af || !other.af)
            && (self.proto || !other.proto)
            && (self.flags || !other.flags)
            && (self.from_port || !other.from_port)
            && (self.to_port || !other.to_port)
    }

    /// The scope of this shape that includes `scope`.
    fn widen<'r>(self, scope: &Scope<'r>) -> Option<Scope<'r>> {
        let same_family = !self.af || scope.af.is_none();
        Some(Scope {
            interface: scope.interface.filter(|_| !self.interface),
            direction: scope.direction.filter(|_| !self.direction),
            af: scope.af.filter(|_| !self.af),
            proto: scope.proto.filter(|_| !self.proto),
            flags: scope.flags.filter(|_| !self.flags),
            from_port: scope.from_port.filter(|_| !self.from_port),
            to_port: scope.to_port.filter(|_| !self.to_port),
            not_from: scope.not_from,
            not_to: scope.not_to,
            from: self.from.widen(scope.from, scope.not_from, same_family)?,
            to: self.to.widen(scope.to, scope.not_to, same_family)?,
        })
    }
}

/// Removes the rules of a superblock that another one includes or repeats.
pub(super) fn remove(rules: &mut Vec<Rule>) {
    let keep = kept(rules);
    let mut keep = keep.iter();
    rules.retain(|_| keep.next().is_none_or(|keep| *keep));
}

fn kept(rules: &[Rule]) -> Vec<bool> {
    let rules = grouped(rules);
    let mut known: HashMap<(usize, Scope), usize> = HashMap::with_capacity(rules.len());
    let mut shapes = BTreeSet::new();
    for (at, rule) in rules.iter().enumerate() {
        known.entry(*rule).or_insert(at);
        shapes.insert(Shape::of(&rule.1));
    }
    let is_kept = |(at, rule): (usize, &(usize, Scope))| {
        let (group, scope) = rule;
        let own = Shape::of(scope);
        let is_included = |shape: &Shape| {
            let wider = shape.widen(scope).filter(|wider| wider != scope);
            wider.is_some_and(|wider| known.contains_key(&(*group, wider)))
        };
        known.get(rule) == Some(&at)
            && !shapes
                .iter()
                .filter(|shape| **shape != own && shape.may_include(&own))
                .any(is_included)
    };
    rules.iter().enumerate().map(is_kept).collect()
}
