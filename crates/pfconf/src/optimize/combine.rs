//! Combines rules that differ in one address only into one rule with a table.
//!
//! A rule gathers those behind it that differ in the destination only, or those that differ in
//! the source only, whichever comes first; nobody is gathered twice. A table is worth its cost
//! from [`TABLE_MIN`] rules on. Where the addresses stand behind `!` pfctl combines them, too,
//! although `! { a b }` then excludes both and the single rules excluded nothing. Source: OpenBSD
//! sbin/pfctl/pfctl_optimize.c `combine_rules`, `addrs_combineable`, `add_opt_table`.

use pfapi::addr::{Af, Prefix};
use pfapi::ruleset::{AddrMatch, Rule, TableEntry};

use super::hash::{Index, small};
use super::key::{Key, Keys, Place};
use crate::redirect::AutoTables;

/// From so many rules on a table is faster than the rules (`TABLE_THRESHOLD`).
const TABLE_MIN: usize = 6;

/// The address that rules may differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    From,
    To,
}

impl Side {
    const fn place(self, key: &Key) -> Place {
        match self {
            Self::From => key.from,
            Self::To => key.to,
        }
    }

    const fn place_mut(self, key: &mut Key) -> &mut Place {
        match self {
            Self::From => &mut key.from,
            Self::To => &mut key.to,
        }
    }

    const fn address(self, rule: &Rule) -> &AddrMatch {
        match self {
            Self::From => &rule.from.addr,
            Self::To => &rule.to.addr,
        }
    }

    const fn address_mut(self, rule: &mut Rule) -> &mut AddrMatch {
        match self {
            Self::From => &mut rule.from.addr,
            Self::To => &mut rule.to.addr,
        }
    }
}

/// Rules that become one, the first of them being the one.
struct Union {
    side: Side,
    /// Its number among all that could have become tables.
    number: usize,
    members: Vec<u32>,
}

/// Combines the rules of a superblock; `tables` gets the tables. For each rule whether it stays.
pub(super) fn combine(rules: &mut [Rule], keys: &mut Keys, tables: &mut AutoTables) -> Vec<bool> {
    let mut keep = vec![true; rules.len()];
    if rules.len() < 2 {
        return keep;
    }
    for Union { side, number, members } in unions(&keys.list, tables) {
        if !tables.take_room(members.len()) {
            continue;
        }
        let entries = members.iter().filter_map(|&at| {
            let rule = rules.get(at as usize)?;
            entry(side.address(rule), rule.af)
        });
        let name = tables.define(number, entries.collect(), Vec::new());
        if let [first, others @ ..] = members.as_slice() {
            *side.address_mut(&mut rules[*first as usize]) = AddrMatch::Table(name.into());
            *side.place_mut(&mut keys.list[*first as usize]) = keys.new_table();
            for &at in others {
                keep[at as usize] = false;
            }
        }
    }
    keep
}

/// No rule, or no group.
const NONE: u32 = u32::MAX;

/// Rules that differ in the address of one side only, in their order: a chain for each group.
struct Groups {
    side: Side,
    /// For each rule its group.
    of: Vec<u32>,
    /// For each rule the next one of its group.
    next: Vec<u32>,
    /// For each group the first rule that is not done with.
    first: Vec<u32>,
}

impl Groups {
    fn new(keys: &[Key], side: Side, index: &mut Index) -> Self {
        index.reset(keys.len());
        // Without the address that may differ; for what is no network there is no such group.
        let open = |key: &Key| {
            let mut key = *key;
            *side.place_mut(&mut key) = Place::ANY;
            key
        };
        let mut found = Self {
            side,
            of: Vec::with_capacity(keys.len()),
            next: vec![NONE; keys.len()],
            first: Vec::new(),
        };
        // The last rule of each group.
        let mut last: Vec<u32> = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            if side.place(key).len().is_none() {
                found.of.push(NONE);
                continue;
            }
            let own = open(key);
            let new = found.first.len();
            let first = &found.first;
            let group =
                index.enter(own.hash(), new, |group| open(&keys[first[group] as usize]) == own);
            if group == new {
                found.first.push(small(at));
                last.push(small(at));
            } else {
                let before = std::mem::replace(&mut last[group], small(at));
                found.next[before as usize] = small(at);
            }
            found.of.push(small(group));
        }
        found
    }

    /// The nearest rule behind `at` that differs from it in this side only.
    fn nearest(&mut self, at: usize, gathered: &[bool]) -> Option<u32> {
        let first = self.first.get_mut(self.of[at] as usize)?;
        while *first != NONE && (*first as usize <= at || gathered[*first as usize]) {
            *first = self.next[*first as usize];
        }
        (*first != NONE).then_some(*first)
    }

    /// `at` and all that [`Groups::nearest`] could give.
    fn gather(&mut self, at: usize, gathered: &mut [bool]) -> Vec<u32> {
        let mut members = vec![small(at)];
        gathered[at] = true;
        let Some(first) = self.first.get_mut(self.of[at] as usize) else { return members };
        while *first != NONE {
            if !std::mem::replace(&mut gathered[*first as usize], true) {
                members.push(*first);
            }
            *first = self.next[*first as usize];
        }
        members
    }
}

/// Which rules become one.
fn unions(keys: &[Key], tables: &mut AutoTables) -> Vec<Union> {
    let mut index = Index::default();
    let mut to = Groups::new(keys, Side::To, &mut index);
    let mut from = Groups::new(keys, Side::From, &mut index);
    index.release();
    let mut gathered = vec![false; keys.len()];
    let mut unions = Vec::new();
    for at in 0..keys.len() {
        if gathered[at] {
            continue;
        }
        let groups = match (to.nearest(at, &gathered), from.nearest(at, &gathered)) {
            (None, None) => continue,
            (Some(a), Some(b)) if b < a => &mut from,
            (None, Some(_)) => &mut from,
            (Some(_), _) => &mut to,
        };
        let members = groups.gather(at, &mut gathered);
        let number = tables.reserve();
        if members.len() >= TABLE_MIN {
            unions.push(Union { side: groups.side, number, members });
        }
    }
    unions
}

/// A network as it stands in a table.
fn entry(addr: &AddrMatch, af: Option<Af>) -> Option<TableEntry> {
    let prefix = match (addr, af) {
        (AddrMatch::Net(prefix), _) => *prefix,
        (AddrMatch::Any, Some(Af::Inet)) => Prefix::new([0; 4].into(), 0),
        (AddrMatch::Any, Some(Af::Inet6)) => Prefix::new([0; 16].into(), 0),
        _ => return None,
    };
    Some(TableEntry { prefix, negated: false })
}
