//! Puts rules of a superblock next to each other that have a field in common, so that evaluation
//! can skip them together when that field does not match.
//!
//! For every field the rules are in lists, one for each value; the longest list of all is taken
//! out again and again. One of more than two rules is ordered in itself in the same way. All of
//! those come first, then the pairs, then what has nothing in common. The order of lists of the
//! same length decides, and follows pfctl to the letter: lists are sorted by length; among those
//! of the same length, the one that was filled first comes first, and one that has lost a rule
//! comes before all of them. Source: OpenBSD sbin/pfctl/pfctl_optimize.c `reorder_rules`,
//! `skip_append`, `remove_from_skipsteps`, `skip_cmp_*`; FreeBSD sys/netpfil/pf/pf.h `PF_SKIP_*`.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use pfapi::addr::Af;
use pfapi::port::PortMatch;
use pfapi::ruleset::Rule;
use pfapi::units::Direction;

use super::address::Addr;
use super::class::Fields;
use crate::dialect::Dialect;

/// A field that evaluation can skip by.
#[derive(Clone, Copy, Debug)]
enum Step {
    Interface,
    Direction,
    Rdomain,
    Af,
    Proto,
    From,
    FromPort,
    To,
    ToPort,
}

/// The order in which evaluation looks at them.
const fn steps(dialect: Dialect) -> &'static [Step] {
    use Step::{Af, Direction, From, FromPort, Interface, Proto, Rdomain, To, ToPort};
    match dialect {
        Dialect::OpenBsd => &[Interface, Direction, Rdomain, Af, Proto, From, To, FromPort, ToPort],
        Dialect::FreeBsd | Dialect::MacOs => {
            &[Interface, Direction, Af, Proto, From, FromPort, To, ToPort]
        }
    }
}

/// What a rule has in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Value<'r> {
    Interface(&'r str, bool),
    Direction(Direction),
    Rdomain(u32, bool),
    Af(Af),
    Proto(u8),
    Addr(Addr<'r>, bool),
    Port(PortMatch),
}

impl Step {
    /// The value of a field; `None` where it says nothing, which no two rules have in common.
    fn value<'r>(self, fields: &Fields<'r>) -> Option<Value<'r>> {
        let Fields { equal, scope, .. } = fields;
        match self {
            Self::Interface => scope.interface.map(|name| Value::Interface(name, equal.not_on())),
            Self::Direction => scope.direction.map(Value::Direction),
            Self::Rdomain => equal.rdomain().map(|id| Value::Rdomain(id, equal.not_on())),
            Self::Af => scope.af.map(Value::Af),
            Self::Proto => scope.proto.map(Value::Proto),
            Self::From => addr(scope.from, scope.not_from),
            Self::FromPort => scope.from_port.map(Value::Port),
            Self::To => addr(scope.to, scope.not_to),
            Self::ToPort => scope.to_port.map(Value::Port),
        }
    }
}

const fn addr(addr: Addr, negated: bool) -> Option<Value> {
    match addr {
        Addr::Net { bits: 0, .. } | Addr::Range(..) | Addr::RouteLabel(_) => None,
        Addr::Net { .. }
        | Addr::Table(_)
        | Addr::Dynamic { .. }
        | Addr::NoRoute
        | Addr::UrpfFailed => Some(Value::Addr(addr, negated)),
    }
}

/// The order of the rules of a superblock, as their positions.
pub(super) fn order(rules: &[Rule], dialect: Dialect) -> Vec<usize> {
    let steps = steps(dialect);
    // Values as numbers, field by field; a rule that says nothing has one of its own.
    let mut known: HashMap<Value, usize> = HashMap::new();
    let mut next = 0;
    let values: Vec<Vec<usize>> = rules
        .iter()
        .map(|rule| {
            let fields = Fields::of(rule);
            let mut number = |step: &Step| {
                let new = next;
                next += 1;
                match step.value(&fields) {
                    Some(value) => *known.entry(value).or_insert(new),
                    None => new,
                }
            };
            steps.iter().map(&mut number).collect()
        })
        .collect();
    let mut order = Vec::with_capacity(rules.len());
    arrange(&(0..rules.len()).collect::<Vec<_>>(), &values, &mut order);
    order
}

/// Lists of one field.
#[derive(Debug, Default)]
struct Lists {
    /// By length, longest first, then by rank.
    sorted: BTreeSet<(Reverse<usize>, i64, usize)>,
    /// Of each list: its length, its rank, and its rules that may be gone by now.
    all: Vec<(usize, i64, Vec<usize>)>,
    /// The lowest rank so far.
    lowest: i64,
    /// Nothing is to be gained by this field.
    useless: bool,
}

impl Lists {
    /// The lists of a field; `members` is per rule the number of its list.
    fn new(rules: &[usize], value: impl Fn(usize) -> usize, members: &mut [usize]) -> Self {
        let mut found = Self::default();
        let mut known: HashMap<usize, usize> = HashMap::new();
        for (position, &rule) in rules.iter().enumerate() {
            let list = *known.entry(value(rule)).or_insert_with(|| {
                found.all.push((0, 0, Vec::new()));
                found.all.len() - 1
            });
            members[position] = list;
            let (len, rank, list) = &mut found.all[list];
            *len += 1;
            // Whoever reaches a length later stands behind.
            *rank = i64::try_from(position).unwrap_or(i64::MAX);
            list.push(position);
        }
        let keys = found.all.iter().enumerate();
        found.sorted = keys.map(|(list, &(len, rank, _))| (Reverse(len), rank, list)).collect();
        let longest = found.longest();
        found.useless = longest == rules.len() || longest <= 1;
        found
    }

    /// Length of the first list.
    fn longest(&self) -> usize {
        match self.sorted.first() {
            Some(&(Reverse(len), ..)) if !self.useless => len,
            _ => 0,
        }
    }

    /// Takes the first list out: its rules that are still there.
    fn take(&mut self, gone: &[bool]) -> Vec<usize> {
        let Some((_, _, list)) = self.sorted.pop_first() else { return Vec::new() };
        let rules = std::mem::take(&mut self.all[list].2);
        rules.into_iter().filter(|&rule| !gone[rule]).collect()
    }

    /// A rule of a list is gone: the list is shorter, and the first of its new length.
    fn lose(&mut self, list: usize) {
        if self.longest() <= 1 {
            return;
        }
        let (len, rank, _) = &mut self.all[list];
        if !self.sorted.remove(&(Reverse(*len), *rank, list)) {
            return;
        }
        *len -= 1;
        self.lowest -= 1;
        *rank = self.lowest;
        self.sorted.insert((Reverse(*len), *rank, list));
    }
}

/// Appends `rules` to `order`, those with something in common next to each other.
fn arrange(rules: &[usize], values: &[Vec<usize>], order: &mut Vec<usize>) {
    let fields = rules.first().map_or(0, |&rule| values[rule].len());
    let mut members = vec![vec![0; rules.len()]; fields];
    let mut lists: Vec<Lists> = members
        .iter_mut()
        .enumerate()
        .map(|(field, members)| Lists::new(rules, |rule| values[rule][field], members))
        .collect();
    let mut gone = vec![false; rules.len()];
    let mut pairs = Vec::new();
    loop {
        let mut best: Option<(usize, usize)> = None;
        for (field, lists) in lists.iter().enumerate() {
            let len = lists.longest();
            if len > best.map_or(1, |(len, _)| len) {
                best = Some((len, field));
            }
        }
        let Some((len, field)) = best else { break };
        let taken = lists[field].take(&gone);
        for &rule in &taken {
            gone[rule] = true;
            for (lists, members) in lists.iter_mut().zip(&members) {
                lists.lose(members[rule]);
            }
        }
        let taken = taken.into_iter().map(|position| rules[position]);
        if len > 2 {
            arrange(&taken.collect::<Vec<_>>(), values, order);
        } else {
            pairs.extend(taken);
        }
    }
    order.append(&mut pairs);
    order.extend(rules.iter().zip(&gone).filter(|(_, gone)| !**gone).map(|(&rule, _)| rule));
}
