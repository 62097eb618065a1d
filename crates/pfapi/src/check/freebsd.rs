//! Checks of one rule of the FreeBSD dialect.
//!
//! Order and texts follow FreeBSD sbin/pfctl/parse.y `filter_consistent`, `rdr_consistent`; for
//! `nat` and `binat` there is nothing to check.

use super::Mistake;
use super::rule::{both_dialects, icmp_type};
use crate::dialect::Dialect;
use crate::port::PortMatch;
use crate::ruleset::{Action, RouteKind, Rule, RuleKind, SourceTrack, StatePolicy, proto};

/// Conditions and options that exclude each other.
pub(super) fn check_consistent(rule: &Rule, report: &mut impl FnMut(Mistake)) {
    match rule.kind {
        RuleKind::Filter | RuleKind::Scrub => filter(rule, report),
        RuleKind::Rdr => redirect(rule, report),
        RuleKind::Nat | RuleKind::Binat | RuleKind::Dummynet => {}
    }
}

fn has_ports(rule: &Rule) -> bool {
    matches!(rule.proto, Some(proto::TCP | proto::UDP | proto::SCTP))
}

fn filter(rule: &Rule, report: &mut impl FnMut(Mistake)) {
    let ports = rule.from.port.is_some() || rule.to.port.is_some();
    if ports && !has_ports(rule) {
        report(Mistake::PortWithoutProtoOrSctp);
    }
    icmp_type(rule, report);
    if rule.af_to.is_some() && rule.af == rule.af_to {
        report(Mistake::AfToSameFamily);
    }
    both_dialects(rule, Dialect::FreeBsd, report);
    let options = &rule.state_options;
    let stateful = rule.state != StatePolicy::None;
    if options.max_src_nodes.is_some() && options.source_track != Some(SourceTrack::Rule) {
        report(Mistake::SourceNodesGlobal);
    }
    if stateful && rule.action != Action::Pass {
        report(Mistake::StateWithoutPass);
    }
    if options.sloppy && matches!(rule.state, StatePolicy::Modulate | StatePolicy::Synproxy) {
        report(Mistake::SloppyProxy);
    }
    let duplicates = rule.route.as_ref().is_some_and(|route| route.kind == RouteKind::DupTo);
    if rule.af_to.is_some() && duplicates {
        report(Mistake::AfToDuplicates);
    }
    match rule.action {
        Action::Match => {
            if rule.rare.divert.is_some() {
                report(Mistake::DivertOnMatch);
            }
            if rule.route.is_some() {
                report(Mistake::RouteOnMatch);
            }
            if rule.af_to.is_some() {
                report(Mistake::AfToOnMatch);
            }
        }
        Action::Block(_) if rule.route.is_some() => report(Mistake::RouteOnAction("block")),
        _ => {}
    }
    if rule.nat.is_some() || rule.rdr.is_some() {
        if rule.action != Action::Match && !stateful {
            report(Mistake::TranslationWithoutState);
        }
        if rule.direction.is_none() {
            report(Mistake::TranslationWithoutDirection);
        }
    }
}

fn redirect(rule: &Rule, report: &mut impl FnMut(Mistake)) {
    if !has_ports(rule) {
        let pool = rule.rdr.as_ref().is_some_and(|pool| pool.ports.is_some());
        let given =
            [(rule.from.port.is_some(), "src"), (rule.to.port.is_some(), "dst"), (pool, "rdr")];
        for (_, end) in given.into_iter().filter(|&(given, _)| given) {
            report(Mistake::RedirectPort(end));
        }
    }
    if rule.to.port.is_some_and(|port| !matches!(port, PortMatch::Equal(_) | PortMatch::Range(..)))
    {
        report(Mistake::RedirectOperator);
    }
}
