//! Combines rules that differ in one address only into one rule with a table.
//!
//! A rule gathers those behind it that differ in the destination only, or those that differ in
//! the source only, whichever comes first; nobody is gathered twice. A table is worth its cost
//! from [`TABLE_MIN`] rules on. Where the addresses stand behind `!` pfctl combines them, too,
//! although `! { a b }` then excludes both and the single rules excluded nothing. Source: OpenBSD
//! sbin/pfctl/pfctl_optimize.c `combine_rules`, `addrs_combineable`, `add_opt_table`.

use std::collections::HashMap;

use pfapi::addr::{Af, Prefix};
use pfapi::ruleset::{AddrMatch, Rule, TableEntry};

use super::address::Addr;
use super::class::{Scope, grouped};
use crate::redirect::AutoTables;

/// From so many rules on a table is faster than the rules (`TABLE_THRESHOLD`).
const TABLE_MIN: usize = 6;

/// The address that rules may differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Side {
    From,
    To,
}

/// Rules that differ in the address of one side only.
type Key<'r> = (Side, usize, Scope<'r>);

/// Rules with the same key, in their order, and how many of them at the front are done with.
#[derive(Debug, Default)]
struct Group {
    members: Vec<usize>,
    passed: usize,
}

/// Rules that become one, the first of them being the one.
struct Union {
    side: Side,
    /// Its number among all that could have become tables.
    number: usize,
    members: Vec<usize>,
}

/// Combines the rules of a superblock; `tables` gets the tables.
pub(super) fn combine(rules: &mut Vec<Rule>, tables: &mut AutoTables) {
    let unions = unions(rules, tables);
    let mut gone = vec![false; rules.len()];
    for Union { side, number, members } in unions {
        if !tables.take_room(members.len()) {
            continue;
        }
        let entries = members.iter().filter_map(|&at| {
            let rule = rules.get(at)?;
            entry(address(rule, side), rule.af)
        });
        let name = tables.define(number, entries.collect(), Vec::new());
        if let [first, others @ ..] = members.as_slice() {
            *address_mut(&mut rules[*first], side) = AddrMatch::Table(name);
            for &at in others {
                gone[at] = true;
            }
        }
    }
    let mut gone = gone.iter();
    rules.retain(|_| gone.next().is_none_or(|gone| !gone));
}

/// Which rules become one.
fn unions(rules: &[Rule], tables: &mut AutoTables) -> Vec<Union> {
    let rules = grouped(rules);
    let mut numbers: HashMap<Key, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    // The groups of each rule, by number: keys are large.
    let mut keys: Vec<[Option<(Side, u32)>; 2]> = Vec::with_capacity(rules.len());
    for (at, &(number, scope)) in rules.iter().enumerate() {
        // Without the address that may differ; for what is no network there is no such group.
        let to = scope.to.is_net().then_some((Side::To, number, Scope { to: Addr::ANY, ..scope }));
        let from =
            scope.from.is_net().then_some((Side::From, number, Scope { from: Addr::ANY, ..scope }));
        keys.push([to, from].map(|key| {
            let key = key?;
            let group = *numbers.entry(key).or_insert_with(|| {
                groups.push(Group::default());
                groups.len() - 1
            });
            groups[group].members.push(at);
            Some((key.0, u32::try_from(group).ok()?))
        }));
    }
    drop(numbers);
    let mut gathered = vec![false; rules.len()];
    let mut unions = Vec::new();
    for (at, keys) in keys.into_iter().enumerate() {
        if gathered[at] {
            continue;
        }
        let mut next = keys.into_iter().flatten().filter_map(|key| {
            let group = groups.get_mut(key.1 as usize)?;
            while let Some(&member) = group.members.get(group.passed)
                && (member <= at || gathered[member])
            {
                group.passed += 1;
            }
            group.members.get(group.passed).map(|&member| (member, key))
        });
        let nearest = match (next.next(), next.next()) {
            (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
            (a, b) => a.or(b),
        };
        drop(next);
        let Some((_, key)) = nearest else { continue };
        let Some(group) = groups.get(key.1 as usize) else { continue };
        let others = group.members[group.passed..].iter().copied().filter(|&at| !gathered[at]);
        let members: Vec<usize> = std::iter::once(at).chain(others).collect();
        for &member in &members {
            gathered[member] = true;
        }
        let number = tables.reserve();
        if members.len() >= TABLE_MIN {
            unions.push(Union { side: key.0, number, members });
        }
    }
    unions
}

const fn address(rule: &Rule, side: Side) -> &AddrMatch {
    match side {
        Side::From => &rule.from.addr,
        Side::To => &rule.to.addr,
    }
}

const fn address_mut(rule: &mut Rule, side: Side) -> &mut AddrMatch {
    match side {
        Side::From => &mut rule.from.addr,
        Side::To => &mut rule.to.addr,
    }
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
