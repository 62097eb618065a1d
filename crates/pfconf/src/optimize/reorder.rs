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

use super::hash::{Index, hash, small};
use super::key::{Keys, Step};
use crate::dialect::Dialect;

/// The order in which evaluation looks at fields.
const fn steps(dialect: Dialect) -> &'static [Step] {
    use Step::{Af, Direction, From, FromPort, Interface, Proto, Rdomain, To, ToPort};
    match dialect {
        Dialect::OpenBsd => &[Interface, Direction, Rdomain, Af, Proto, From, To, FromPort, ToPort],
        Dialect::FreeBsd | Dialect::MacOs => {
            &[Interface, Direction, Af, Proto, From, FromPort, To, ToPort]
        }
    }
}

/// The order of the rules of a superblock, as their positions.
pub(super) fn order(keys: &Keys, dialect: Dialect) -> Vec<u32> {
    let len = keys.list.len();
    let mut order: Vec<u32> = (0..small(len)).collect();
    if len <= 2 {
        return order;
    }
    let mut index = Index::default();
    let values = steps(dialect).iter().filter_map(|&step| numbered(keys, step, &mut index));
    let mut sorter = Sorter { values: values.collect(), ..Sorter::default() };
    index.release();
    sorter.sort(&mut order);
    order
}

/// Of each rule its value in a field as a number below the number of rules; one that says nothing
/// has a number of its own. `None` where all are the same or all differ: no order is better then.
fn numbered(keys: &Keys, step: Step, index: &mut Index) -> Option<Vec<u32>> {
    let len = keys.list.len();
    index.reset(len);
    let mut numbers: Vec<u32> = Vec::with_capacity(len);
    let mut next = 0;
    for rule in 0..len {
        let known = keys.value(rule, step).map_or(rule, |value| {
            index.enter(hash(value), rule, |other| keys.value(other, step) == Some(value))
        });
        let number = if known == rule {
            next += 1;
            next - 1
        } else {
            numbers[known]
        };
        numbers.push(number);
    }
    (next > 1 && (next as usize) < len).then_some(numbers)
}

/// No rule, or no list.
const NONE: u32 = u32::MAX;

/// Rules with the same value in a field that are still there.
#[derive(Clone, Copy, Debug)]
struct List {
    len: u32,
    /// Its first rule; those that are gone are still in the chain.
    first: u32,
    /// The lists of the same length in front of it and behind it.
    before: u32,
    after: u32,
}

/// The lists of a field, by length.
#[derive(Debug, Default)]
struct Ranked {
    all: Vec<List>,
    /// For each length the first of the lists of that length.
    first: Vec<u32>,
}

impl Ranked {
    /// Puts a list in front of all others of its length.
    fn insert(&mut self, list: u32) {
        let len = self.all[list as usize].len as usize;
        let after = std::mem::replace(&mut self.first[len], list);
        if after != NONE {
            self.all[after as usize].before = list;
        }
        let own = &mut self.all[list as usize];
        (own.before, own.after) = (NONE, after);
    }

    fn remove(&mut self, list: u32) {
        let List { len, before, after, .. } = self.all[list as usize];
        if before == NONE {
            self.first[len as usize] = after;
        } else {
            self.all[before as usize].after = after;
        }
        if after != NONE {
            self.all[after as usize].before = before;
        }
    }

    /// Length of the longest list; lists never grow.
    fn longest(&mut self) -> usize {
        while self.first.last() == Some(&NONE) {
            self.first.pop();
        }
        self.first.len().saturating_sub(1)
    }
}

/// The lists of one field. Rules are their positions among those that are being sorted.
#[derive(Debug, Default)]
struct Lists {
    /// For each rule its list.
    of: Vec<u32>,
    /// For each rule the next one of its list.
    next: Vec<u32>,
    ranked: Ranked,
}

/// Values that were seen since a count began, and their lists.
#[derive(Debug, Default)]
struct Seen {
    now: u32,
    values: Vec<(u32, u32)>,
}

impl Lists {
    /// Sorts rules into lists; `false` where nothing is to be gained by this field.
    fn fill(&mut self, rules: &[u32], values: &[u32], seen: &mut Seen) -> bool {
        let Self { of, next, ranked } = self;
        of.clear();
        next.clear();
        ranked.all.clear();
        ranked.first.clear();
        seen.now += 1;
        let mut longest = 0;
        for &rule in rules {
            let (when, list) = &mut seen.values[values[rule as usize] as usize];
            if *when != seen.now {
                (*when, *list) = (seen.now, small(ranked.all.len()));
                ranked.all.push(List { len: 0, first: NONE, before: NONE, after: NONE });
            }
            let len = &mut ranked.all[*list as usize].len;
            *len += 1;
            longest = longest.max(*len);
            of.push(*list);
        }
        if longest <= 1 || ranked.all.len() == 1 {
            return false;
        }
        next.resize(rules.len(), NONE);
        ranked.first.resize(longest as usize + 1, NONE);
        for (at, &list) in of.iter().enumerate().rev() {
            let first = &mut ranked.all[list as usize].first;
            next[at] = std::mem::replace(first, small(at));
            // Whoever reaches a length later stands behind.
            if next[at] == NONE {
                ranked.insert(list);
            }
        }
        true
    }

    /// Takes the first list out: its first rule.
    fn take(&mut self) -> u32 {
        let len = self.ranked.longest();
        let list = self.ranked.first[len];
        self.ranked.remove(list);
        let list = &mut self.ranked.all[list as usize];
        list.len = 0;
        list.first
    }

    /// A rule is gone: its list is shorter, and the first of its new length.
    fn lose(&mut self, rule: u32) {
        let list = self.of[rule as usize];
        if self.ranked.longest() <= 1 || self.ranked.all[list as usize].len == 0 {
            return;
        }
        self.ranked.remove(list);
        let len = &mut self.ranked.all[list as usize].len;
        *len -= 1;
        if *len > 0 {
            self.ranked.insert(list);
        }
    }
}

/// Sorts rules, and those that it has put together among themselves.
#[derive(Debug, Default)]
struct Sorter {
    /// For each field the numbers of all rules.
    values: Vec<Vec<u32>>,
    seen: Seen,
    /// The lists of the fields that matter, and memory for more.
    lists: Vec<Lists>,
    gone: Vec<bool>,
    sorted: Vec<u32>,
    pairs: Vec<u32>,
}

impl Sorter {
    fn sort(&mut self, order: &mut [u32]) {
        self.seen.values.resize(order.len(), (0, 0));
        // Rules that are next to each other, and the fields in which they may differ.
        let mut left = vec![(0..order.len(), (1_u16 << self.values.len()) - 1)];
        while let Some((range, fields)) = left.pop() {
            let start = range.start;
            let (fields, parts) = self.once(&mut order[range], fields);
            let mut end = start;
            for len in parts {
                left.push((end..end + len, fields));
                end += len;
            }
        }
    }

    /// Sorts rules once; gives the fields that mattered and the lengths of the parts at the front
    /// that are to be sorted among themselves.
    fn once(&mut self, rules: &mut [u32], fields: u16) -> (u16, Vec<usize>) {
        let mut useful = 0;
        let mut used = 0;
        for (field, values) in self.values.iter().enumerate() {
            if fields & 1 << field == 0 {
                continue;
            }
            if used == self.lists.len() {
                self.lists.push(Lists::default());
            }
            let lists = &mut self.lists[used];
            if lists.fill(rules, values, &mut self.seen) {
                useful |= 1 << field;
                used += 1;
            }
        }
        let mut parts = Vec::new();
        if used == 0 {
            return (useful, parts);
        }
        let Self { lists, gone, sorted, pairs, .. } = self;
        let lists = &mut lists[..used];
        gone.clear();
        gone.resize(rules.len(), false);
        sorted.clear();
        pairs.clear();
        loop {
            let mut best = (1, NONE as usize);
            for (number, lists) in lists.iter_mut().enumerate() {
                let len = lists.ranked.longest();
                if len > best.0 {
                    best = (len, number);
                }
            }
            let (len, number) = best;
            let Some(found) = lists.get_mut(number) else { break };
            let into = if len > 2 { &mut *sorted } else { &mut *pairs };
            let mut rule = found.take();
            while rule != NONE {
                let next = lists[number].next[rule as usize];
                if !std::mem::replace(&mut gone[rule as usize], true) {
                    into.push(rules[rule as usize]);
                    for lists in &mut *lists {
                        lists.lose(rule);
                    }
                }
                rule = next;
            }
            if len > 2 {
                parts.push(len);
            }
        }
        sorted.append(pairs);
        sorted.extend(rules.iter().zip(&*gone).filter(|(_, gone)| !**gone).map(|(&rule, _)| rule));
        rules.copy_from_slice(sorted);
        (useful, parts)
    }
}
