//! Checks of what only FreeBSD has beside its rules: Ethernet rules, ALTQ, limiters.
//!
//! The parser finds all of this with better words; here hostile drafts are turned away.

use std::collections::BTreeSet;

use super::{
    ANCHOR_DEPTH_MAX, ANCHOR_PATH_MAX, INTERFACE_NAME_MAX, LABEL_MAX, Mistake, QUEUE_NAME_MAX,
    TABLE_NAME_MAX, TAG_MAX, check_name,
};
use crate::ruleset::{AddrMatch, Altq, EtherRule, LIMITER_NAME_MAX, SourceLimiter, StateLimiter};

/// Rules for frames, and those in their inline anchors.
pub(super) fn check_rules(rules: &[EtherRule], depth: usize, report: &mut impl FnMut(Mistake)) {
    for rule in rules {
        check_rule(rule, report);
        let Some(anchor) = &rule.anchor else { continue };
        check_name("anchor", &anchor.path, ANCHOR_PATH_MAX, report);
        match &anchor.rules {
            Some(_) if depth == ANCHOR_DEPTH_MAX => report(Mistake::AnchorDepth),
            Some(rules) => check_rules(rules, depth + 1, report),
            None => {}
        }
    }
}

fn check_rule(rule: &EtherRule, report: &mut impl FnMut(Mistake)) {
    let interfaces = rule.interface.iter().map(|on| &on.name).chain(&rule.bridge_to);
    for name in interfaces {
        check_name("interface name", name, INTERFACE_NAME_MAX, report);
    }
    for label in &rule.labels {
        check_name("label", label, LABEL_MAX, report);
    }
    if let Some(queue) = &rule.queue {
        check_name("queue name", queue, QUEUE_NAME_MAX, report);
    }
    for tag in rule.tag.iter().chain(rule.tagged.iter().map(|tagged| &tagged.name)) {
        check_name("tag", tag, TAG_MAX, report);
    }
    for end in [&rule.l3_from, &rule.l3_to] {
        if let AddrMatch::Table(name) = &end.addr {
            check_name("table name", name, TABLE_NAME_MAX, report);
        }
    }
}

/// Interfaces with queues.
pub(super) fn check_queues(queues: &[Altq], report: &mut impl FnMut(Mistake)) {
    for altq in queues {
        check_name("interface name", &altq.interface, INTERFACE_NAME_MAX, report);
        for queue in &altq.queues {
            check_name("queue name", &queue.name, QUEUE_NAME_MAX, report);
        }
    }
}

/// Limiters: names, and what the engine counts on.
pub(super) fn check_limiters(
    states: &[StateLimiter],
    sources: &[SourceLimiter],
    report: &mut impl FnMut(Mistake),
) {
    let names = states.iter().map(|limiter| &limiter.name);
    for name in names.chain(sources.iter().map(|limiter| &limiter.name)) {
        check_name("limiter", name, LIMITER_NAME_MAX, report);
    }
    // Numbers begin at 1 and are unique, which also bounds how many there are.
    for ids in [
        states.iter().map(|limiter| limiter.id).collect::<Vec<_>>(),
        sources.iter().map(|limiter| limiter.id).collect(),
    ] {
        let mut seen = BTreeSet::from([0]);
        for id in ids.into_iter().filter(|&id| !seen.insert(id)) {
            report(Mistake::Number { what: "limiter id", value: u32::from(id) });
        }
    }
    for limiter in sources {
        for (mask, most) in [(limiter.inet_mask, 32), (limiter.inet6_mask, 128)] {
            if mask > most {
                report(Mistake::Number { what: "limiter mask", value: u32::from(mask) });
            }
        }
        if let Some(table) = &limiter.table {
            check_name("table name", &table.name, TABLE_NAME_MAX, report);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_limiters_are_turned_away() {
        let state = |id| StateLimiter { name: "a".to_owned(), id, limit: 1, rate: None };
        let source = |inet_mask| SourceLimiter {
            name: "a".to_owned(),
            id: 1,
            entries: 1,
            limit: 1,
            rate: None,
            table: None,
            inet_mask,
            inet6_mask: 128,
        };
        let mistakes = |states: &[StateLimiter], sources: &[SourceLimiter]| {
            let mut found = 0;
            check_limiters(states, sources, &mut |_| found += 1);
            found
        };
        assert_eq!(mistakes(&[state(1), state(2)], &[source(32)]), 0);
        assert_eq!(mistakes(&[state(0), state(2), state(2)], &[]), 2);
        assert_eq!(mistakes(&[], &[source(33)]), 1);
    }
}
