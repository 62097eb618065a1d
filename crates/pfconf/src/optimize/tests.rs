//! The steps against slow ones that look at every two rules, as pfctl does.

use std::collections::BTreeMap;

use pfapi::addr::{Af, Prefix};
use pfapi::facts::Facts;
use pfapi::port::PortMatch;
use pfapi::ruleset::{Action, AddrMatch, DynamicAddr, DynamicPart, InterfaceMatch, Rule};
use pfapi::ruleset::{RdomainMatch, TcpFlagsMatch};
use pfapi::units::Direction;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::key::Keys;
use super::superblock::{Host, superblocks};
use super::{combine, covered, reorder};
use crate::dialect::Dialect;
use crate::print;
use crate::redirect::AutoTables;

fn listed(rules: &[Rule]) -> Vec<String> {
    rules.iter().map(print::rule).collect()
}

/// Few values each, so that rules have much in common.
fn rule() -> impl Strategy<Value = Rule> {
    let addr = || {
        prop_oneof![
            4 => Just(AddrMatch::Any),
            2 => (0_u8..3, 0_u8..4).prop_map(|(len, low)| {
                let addr = [192, 0, 2, low].into();
                AddrMatch::Net(Prefix::new(addr, [24, 31, 32][usize::from(len)]))
            }),
            1 => (0_u8..2).prop_map(|n| AddrMatch::Table(format!("t{n}").into())),
            1 => (0_u8..2).prop_map(|n| AddrMatch::Dynamic(DynamicAddr {
                interface: format!("em{n}"),
                part: DynamicPart::Address,
                no_aliases: false,
                prefix_len: None,
            }.into())),
            1 => Just(AddrMatch::NoRoute),
        ]
    };
    let port =
        || prop_oneof![3 => Just(None), 1 => (1_u16..3).prop_map(|p| Some(PortMatch::Equal(p)))];
    let interface = prop_oneof![
        2 => Just(None),
        2 => (0_u8..3, any::<bool>())
            .prop_map(|(n, negated)| Some(InterfaceMatch { negated, name: format!("em{n}") })),
    ];
    let direction = prop_oneof![Just(None), Just(Some(Direction::In)), Just(Some(Direction::Out))];
    let rdomain =
        prop_oneof![9 => Just(None), 1 => Just(Some(RdomainMatch { negated: false, id: 1 }))];
    let ends =
        (addr(), addr(), port(), port(), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    let rest = (interface, direction, rdomain, any::<bool>(), 0_u8..3, any::<bool>());
    (ends, rest).prop_map(|((from, to, from_port, to_port, not_from, not_to), rest)| {
        let (interface, direction, rdomain, af, proto, flags) = rest;
        let mut rule = Rule::new(Action::Pass);
        (rule.from.addr, rule.from.port, rule.from.negated) = (from, from_port, not_from);
        (rule.to.addr, rule.to.port, rule.to.negated) = (to, to_port, not_to);
        rule.interface = interface.filter(|_| rdomain.is_none()).map(Into::into);
        (rule.direction, rule.rare.rdomain) = (direction, rdomain);
        let has_net = |addr: &AddrMatch| matches!(addr, AddrMatch::Net(_));
        let needs_af = has_net(&rule.from.addr) || has_net(&rule.to.addr);
        rule.af = (af || needs_af).then_some(Af::Inet);
        rule.proto = [None, Some(6), Some(17)][usize::from(proto)];
        rule.flags = (flags && rule.proto != Some(17)).then_some(TcpFlagsMatch::S_SA);
        rule
    })
}

/// Whether every packet of `narrow` is one of `wide`, as far as pfctl sees that.
fn includes(wide: &Rule, narrow: &Rule) -> bool {
    #[expect(clippy::needless_pass_by_value, reason = "names are owned, the rest is copied")]
    fn open<T: PartialEq>(wide: Option<T>, narrow: Option<T>) -> bool {
        wide.is_none() || wide == narrow
    }
    let end = |wide_end: &pfapi::ruleset::Endpoint, narrow_end: &pfapi::ruleset::Endpoint| {
        let addr = match (&wide_end.addr, &narrow_end.addr) {
            (AddrMatch::Any, _) if !wide_end.negated => true,
            (AddrMatch::Any, AddrMatch::Net(_)) => wide.af == narrow.af,
            (AddrMatch::Net(net), AddrMatch::Net(inner)) => {
                net == inner || (net.len() < inner.len() && net.contains(inner.addr()))
            }
            // pfctl compares the prefix length, too, which the family decides.
            (AddrMatch::Dynamic(a), AddrMatch::Dynamic(b)) => a == b && wide.af == narrow.af,
            (a, b) => a == b,
        };
        addr && wide_end.negated == narrow_end.negated && open(wide_end.port, narrow_end.port)
    };
    let name = |rule: &Rule| rule.interface.as_ref().map(|on| on.name.clone());
    let not = |rule: &Rule| {
        rule.interface.as_ref().is_some_and(|on| on.negated)
            || rule.rare.rdomain.is_some_and(|on| on.negated)
    };
    let rdomain = |rule: &Rule| rule.rare.rdomain.map(|on| on.id);
    open(name(wide), name(narrow))
        && not(wide) == not(narrow)
        && rdomain(wide) == rdomain(narrow)
        && open(wide.direction, narrow.direction)
        && open(wide.af, narrow.af)
        && open(wide.proto, narrow.proto)
        && open(wide.flags, narrow.flags)
        && end(&wide.from, &narrow.from)
        && end(&wide.to, &narrow.to)
}

/// Every rule against every later one.
fn remove_slowly(rules: &mut Vec<Rule>) {
    let mut first = 0;
    while first < rules.len() {
        let mut second = first + 1;
        let mut gone = false;
        while second < rules.len() {
            if includes(&rules[first], &rules[second]) {
                rules.remove(second);
            } else if includes(&rules[second], &rules[first]) {
                rules.remove(first);
                gone = true;
                break;
            } else {
                second += 1;
            }
        }
        first += usize::from(!gone);
    }
}

/// Every rule gathers later ones, one after the other.
fn combine_slowly(rules: &[Rule]) -> Vec<(bool, Vec<usize>)> {
    let others = |rule: &Rule, to: bool| {
        let mut rule = rule.clone();
        *(if to { &mut rule.to.addr } else { &mut rule.from.addr }) = AddrMatch::Any;
        print::rule(&rule)
    };
    let is_net = |addr: &AddrMatch| matches!(addr, AddrMatch::Net(_) | AddrMatch::Any);
    let mut tables: BTreeMap<usize, (bool, Vec<usize>)> = BTreeMap::new();
    let mut member = vec![false; rules.len()];
    for first in 0..rules.len() {
        for second in first + 1..rules.len() {
            let (a, b) = (&rules[first], &rules[second]);
            for (to, x, y) in [(true, &a.to.addr, &b.to.addr), (false, &a.from.addr, &b.from.addr)]
            {
                let started = tables.get(&first).map(|&(side, _)| side);
                let free = !member[second] && (!member[first] || started == Some(to));
                let fits = is_net(x) && is_net(y) && x != y && others(a, to) == others(b, to);
                if free && fits && started.is_none_or(|side| side == to) {
                    member[first] = true;
                    member[second] = true;
                    tables.entry(first).or_insert((to, vec![first])).1.push(second);
                }
            }
        }
    }
    tables.into_values().filter(|(_, members)| members.len() >= 6).collect()
}

/// Lists that are kept in order by moving one place at a time.
fn reorder_slowly(
    rules: &[usize],
    values: &dyn Fn(usize, usize) -> String,
    fields: usize,
) -> Vec<usize> {
    let mut lists: Vec<Vec<Vec<usize>>> = Vec::new();
    let mut useless = Vec::new();
    for field in 0..fields {
        let mut found: Vec<Vec<usize>> = Vec::new();
        for &rule in rules {
            let value = values(rule, field);
            let same = |list: &Vec<usize>| !value.is_empty() && values(list[0], field) == value;
            let mut at = found.iter().position(same).unwrap_or_else(|| {
                found.push(Vec::new());
                found.len() - 1
            });
            found[at].push(rule);
            while at > 0 && found[at - 1].len() < found[at].len() {
                found.swap(at - 1, at);
                at -= 1;
            }
        }
        useless.push(found[0].len() == rules.len() || found[0].len() == 1);
        lists.push(found);
    }
    let len = |lists: &[Vec<Vec<usize>>], field: usize| {
        if useless[field] { 0 } else { lists[field].first().map_or(0, Vec::len) }
    };
    let (mut split, mut pairs, mut left) = (Vec::new(), Vec::new(), rules.to_vec());
    loop {
        let mut best = (1, 0);
        for field in 0..fields {
            if len(&lists, field) > best.0 {
                best = (len(&lists, field), field);
            }
        }
        if best.0 == 1 {
            break;
        }
        let taken = lists[best.1].remove(0);
        for &rule in &taken {
            left.retain(|&other| other != rule);
            for field in 0..fields {
                if len(&lists, field) <= 1 {
                    continue;
                }
                let found = &mut lists[field];
                let Some(mut at) = found.iter().position(|list| list.contains(&rule)) else {
                    continue;
                };
                found[at].retain(|&other| other != rule);
                while at + 1 < found.len() && found[at + 1].len() > found[at].len() {
                    found.swap(at, at + 1);
                    at += 1;
                }
            }
        }
        if taken.len() > 2 {
            split.extend(reorder_slowly(&taken, values, fields));
        } else {
            pairs.extend(taken);
        }
    }
    split.extend(pairs);
    split.extend(left);
    split
}

/// The value of a field that evaluation can skip by, as text; empty for none.
fn skip_value(rule: &Rule, field: usize) -> String {
    let addr = |end: &pfapi::ruleset::Endpoint| match &end.addr {
        AddrMatch::Any => String::new(),
        addr => format!("{} {addr:?}", end.negated),
    };
    let port = |port: Option<PortMatch>| port.map_or_else(String::new, |port| port.to_string());
    match field {
        0 => rule.interface.as_ref().map_or_else(String::new, |on| format!("{on:?}")),
        1 => rule.direction.map_or_else(String::new, |direction| format!("{direction:?}")),
        2 => rule.rare.rdomain.map_or_else(String::new, |on| format!("{on:?}")),
        3 => rule.af.map_or_else(String::new, |af| af.to_string()),
        4 => rule.proto.map_or_else(String::new, |proto| proto.to_string()),
        5 => addr(&rule.from),
        6 => addr(&rule.to),
        7 => port(rule.from.port),
        _ => port(rule.to.port),
    }
}

/// The same cases in every run, unless PROPTEST_RNG_SEED says otherwise; a quarter of the usual
/// number, as the slow steps are slow.
fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    let rng_seed = match asked.rng_seed {
        RngSeed::Random => RngSeed::Fixed(1),
        seed @ RngSeed::Fixed(_) => seed,
    };
    let cases = asked.cases / 4;
    ProptestConfig { cases, failure_persistence: None, rng_seed, ..asked }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn rules_that_others_include_go(rules in prop::collection::vec(rule(), 1..40)) {
        let (mut fast, mut slow) = (rules.clone(), rules);
        let mut kept = covered::kept(&Keys::of(&fast).list).into_iter();
        fast.retain(|_| kept.next() == Some(true));
        remove_slowly(&mut slow);
        prop_assert_eq!(listed(&fast), listed(&slow));
    }

    #[test]
    fn rules_that_differ_in_one_address_become_one(
        rules in prop::collection::vec(rule(), 1..60),
        hosts in prop::collection::vec((0_u8..30, any::<bool>(), 0_usize..60), 0..40),
    ) {
        let mut rules = rules;
        for (host, to, like) in hosts {
            let mut rule = rules[like % rules.len()].clone();
            let addr = if to { &mut rule.to.addr } else { &mut rule.from.addr };
            *addr = AddrMatch::Net(Prefix::host([198, 51, 100, host].into()));
            rule.af = Some(Af::Inet);
            rules.push(rule);
        }
        remove_slowly(&mut rules);
        let unions = combine_slowly(&rules);
        let mut tables = AutoTables::default();
        let mut combined = rules.clone();
        let mut kept = combine::combine(&mut combined, &mut Keys::of(&rules), &mut tables).into_iter();
        combined.retain(|_| kept.next() == Some(true));
        prop_assert_eq!(tables.made.len(), unions.len());
        for (table, (_, members)) in tables.made.iter().zip(&unions) {
            prop_assert_eq!(table.entries.as_ref().map(Vec::len), Some(members.len()));
            prop_assert!(table.constant && !table.persist);
        }
        let gone: usize = unions.iter().map(|(_, members)| members.len() - 1).sum();
        prop_assert_eq!(combined.len() + gone, rules.len());
        // The rest is as it was, the first of each union has its table.
        let mut wanted = Vec::new();
        for (at, rule) in rules.iter().enumerate() {
            match unions.iter().position(|(_, members)| members.contains(&at)) {
                None => wanted.push(print::rule(rule)),
                Some(union) if unions[union].1[0] == at => {
                    let mut rule = rule.clone();
                    let end = if unions[union].0 { &mut rule.to } else { &mut rule.from };
                    end.addr = AddrMatch::Table(tables.made[union].name.clone().into());
                    wanted.push(print::rule(&rule));
                }
                Some(_) => {}
            }
        }
        prop_assert_eq!(listed(&combined), wanted);
    }

    #[test]
    fn rules_with_something_in_common_meet(rules in prop::collection::vec(rule(), 1..60)) {
        let all: Vec<usize> = (0..rules.len()).collect();
        let keys = Keys::of(&rules);
        let fast = |dialect| -> Vec<usize> {
            reorder::order(&keys, dialect).into_iter().map(|at| at as usize).collect()
        };
        let openbsd = fast(Dialect::OpenBsd);
        let value = |rule: usize, field: usize| skip_value(&rules[rule], field);
        prop_assert_eq!(openbsd, reorder_slowly(&all, &value, 9));
        let freebsd = fast(Dialect::FreeBsd);
        let value = |rule: usize, field: usize| {
            skip_value(&rules[rule], [0, 1, 3, 4, 5, 7, 6, 8][field])
        };
        prop_assert_eq!(freebsd, reorder_slowly(&all, &value, 8));
    }
}

/// The superblocks of rules, each as its length.
fn lengths(rules: &[Rule], dialect: Dialect) -> Vec<usize> {
    let facts = Facts::default();
    superblocks(rules, Host { dialect, facts: &facts })
        .into_iter()
        .map(|block| block.len())
        .collect()
}

#[test]
fn superblocks_end_where_something_else_happens() {
    let pass = Rule::new(Action::Pass);
    let with = |change: fn(&mut Rule)| {
        let mut rule = pass.clone();
        change(&mut rule);
        rule
    };
    let split: &[fn(&mut Rule)] = &[
        |rule| rule.action = Action::Match,
        |rule| rule.quick = true,
        |rule| rule.log = Some(pfapi::ruleset::Log::default()),
        |rule| rule.tag = Some("t".into()),
        |rule| rule.once = true,
        |rule| rule.rare.rtable = Some(1),
        |rule| rule.fragment = true,
        |rule| rule.state_options.sloppy = true,
        |rule| rule.set.prio = Some((1, 1)),
        |rule| rule.scrub.no_df = true,
        |rule| rule.rare.max_pkt_rate = Some(pfapi::ruleset::Rate { limit: 1, seconds: 1 }),
        |rule| {
            rule.interface =
                Some(InterfaceMatch { negated: false, name: "egress".to_owned() }.into());
        },
    ];
    for change in split {
        let other = with(*change);
        assert_eq!(
            lengths(
                &[pass.clone(), pass.clone(), other.clone(), other, pass.clone()],
                Dialect::OpenBsd
            ),
            [2, 2, 1],
            "{change:?}"
        );
    }
    let alone: &[fn(&mut Rule)] = &[
        |rule| rule.label = Some("l".into()),
        |rule| rule.rare.probability = Some(7),
        |rule| rule.state_options.max = Some(7),
        |rule| rule.state_options.source_track = Some(pfapi::ruleset::SourceTrack::Rule),
        |rule| {
            rule.anchor =
                Some(Box::new(pfapi::ruleset::Anchor { path: "a".to_owned(), rules: None }));
        },
    ];
    for change in alone {
        let other = with(*change);
        assert_eq!(
            lengths(&[pass.clone(), other.clone(), other, pass.clone()], Dialect::OpenBsd),
            [1; 4],
            "{change:?}"
        );
    }
    let joined: &[fn(&mut Rule)] = &[
        |rule| rule.direction = Some(Direction::In),
        |rule| rule.proto = Some(17),
        |rule| rule.tos = Some(4),
        |rule| {
            rule.interface = Some(InterfaceMatch { negated: true, name: "em0".to_owned() }.into());
        },
        |rule| rule.scrub.max_mss = 1440,
        |rule| rule.state_options.timeouts = vec![(pfapi::timeout::Timeout::TcpFirst, 1)],
    ];
    for change in joined {
        let other = with(*change);
        assert_eq!(
            lengths(&[pass.clone(), other, pass.clone()], Dialect::OpenBsd),
            [3],
            "{change:?}"
        );
    }
    // FreeBSD compares pools by their place in memory.
    let routed = with(|rule| {
        let route = pfapi::ruleset::Route {
            kind: pfapi::ruleset::RouteKind::RouteTo,
            pool: pfapi::ruleset::Pool::new(AddrMatch::Net("192.0.2.1/32".parse().unwrap())),
        };
        rule.route = Some(route.into());
    });
    let rules = [routed.clone(), routed];
    assert_eq!(lengths(&rules, Dialect::OpenBsd), [2]);
    assert_eq!(lengths(&rules, Dialect::FreeBsd), [1, 1]);
}
