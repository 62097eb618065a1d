//! `nat` and `rdr` rules, and the anchors for them.
//!
//! Source: pf.conf(5) of FreeBSD, "TRANSLATION"; FreeBSD sbin/pfctl/parse.y `natrule`,
//! `natpasslog`, `anchorrule`, `invalid_redirect`.

use pfapi::addr::Af;
use pfapi::check::TAG_MAX;
use pfapi::port::PortMatch;
use pfapi::ruleset::{Action, AddrMatch, Anchor, RuleKind};

use crate::address::Host;
use crate::diag::{Code, Diagnostic};
use crate::parser::{Fallible, Pair, Rule, place, string};
use crate::pool::{PoolSpec, pool};
use crate::rules::{Context, RuleSpec, log, rule};
use crate::scan::Statement;

/// Reads a `nat` or `rdr` rule, or one that excepts from them.
///
/// # Errors
/// The message about the first part that cannot be.
pub(crate) fn translation(
    context: Context,
    statement: &Statement,
    parts: &[Pair],
) -> Fallible<RuleSpec> {
    let mut spec = rule(context, statement, parts)?;
    spec.rule.action = Action::Pass;
    let target = common(context, statement, parts, &mut spec)?;
    spec.rule.af = spec.rule.af.or_else(|| {
        let first = |hosts: &[Host]| hosts.first().filter(|host| host.rare.scope.is_none())?.af;
        first(&spec.from.hosts).or_else(|| first(&spec.to.hosts))
    });
    match (spec.rule.freebsd.except, target) {
        (true, None) => {}
        (true, Some(_)) => {
            let text = "translation rule with 'no' does not need '->'";
            return wrong(&spec, text, "nothing is translated here");
        }
        (false, None) => {
            return wrong(&spec, "translation rule requires '-> address'", "to which address?");
        }
        (false, Some(pool)) if pool.prefer_ipv6_nexthop => {
            let text = "The prefer-ipv6-nexthop option can't be used for nat/rdr/binat pools";
            return wrong(&spec, text, "next hops are those of `route-to`");
        }
        (false, Some(mut pool)) => {
            fit(&mut spec, &mut pool)?;
            match spec.rule.kind {
                RuleKind::Rdr => spec.rdr = Some(pool),
                _ => spec.nat = Some(pool),
            }
        }
    }
    Ok(spec)
}

/// What `nat`, `rdr` and `binat` rules have in common, besides their addresses: gives the pool.
pub(super) fn common(
    context: Context,
    statement: &Statement,
    parts: &[Pair],
    spec: &mut RuleSpec,
) -> Fallible<Option<PoolSpec>> {
    let mut target = None;
    for part in parts {
        match part.as_rule() {
            Rule::kw_no => spec.rule.freebsd.except = true,
            Rule::kw_nat => spec.rule.kind = RuleKind::Nat,
            Rule::kw_rdr => spec.rule.kind = RuleKind::Rdr,
            Rule::kw_binat => spec.rule.kind = RuleKind::Binat,
            Rule::translation_pass => {
                for word in part.clone().into_inner() {
                    match word.as_rule() {
                        Rule::kw_pass => spec.rule.freebsd.translate_pass = true,
                        _ => spec.rule.log = Some(log(statement, &word)?),
                    }
                }
            }
            Rule::one_tag | Rule::tagged | Rule::rtable => {
                crate::filter::option(context, statement, part, spec)?;
            }
            Rule::arrow_pool | Rule::arrow_host => {
                spec.places.add("nat-to", place(statement, part));
                spec.places.add("rdr-to", place(statement, part));
                for redirection in part.clone().into_inner() {
                    if matches!(redirection.as_rule(), Rule::redirection | Rule::binat_target) {
                        target = Some(pool(context.world, statement, &redirection)?);
                    }
                }
            }
            _ => {}
        }
    }
    if spec.rule.freebsd.except && spec.rule.freebsd.translate_pass {
        return wrong(spec, "\"pass\" not valid with \"no\"", "what would pass?");
    }
    let tags = [spec.rule.tag.as_deref(), spec.rule.tagged.as_ref().map(|tagged| &tagged.name)];
    if tags.into_iter().flatten().any(|tag| tag.len() > TAG_MAX) {
        let text = format!("tag too long, max {TAG_MAX} chars");
        return wrong(spec, &text, "in this rule");
    }
    Ok(target)
}

/// Leaves the addresses in a pool that have the family of the rule, which they may decide.
///
/// # Errors
/// The message when none is left.
pub(crate) fn fit(spec: &mut RuleSpec, pool: &mut PoolSpec) -> Fallible<()> {
    let first = pool.hosts.first().filter(|host| host.rare.scope.is_none());
    spec.rule.af = spec.rule.af.or_else(|| first.and_then(|host| host.af));
    pool.keep_family(&mut spec.rule.af);
    if spec.rule.af.is_none()
        && pool
            .hosts
            .iter()
            .any(|host| !matches!(host.addr, AddrMatch::Table(_) | AddrMatch::Dynamic(_)))
    {
        let text = "address family not given and translation address expands to multiple address \
                    families";
        return wrong(spec, text, "add `inet` or `inet6`");
    }
    if pool.hosts.is_empty() {
        let text = "no translation address with matching address family found.";
        return wrong(spec, text, "of another family than the rule");
    }
    netmasks(spec, &pool.hosts)
}

/// Prefixes that IPv4 has not.
pub(super) fn netmasks(spec: &RuleSpec, hosts: &[Host]) -> Fallible<()> {
    let wrong = hosts.iter().find_map(|host| host.rare.too_long);
    match wrong.filter(|_| spec.rule.af == Some(Af::Inet)) {
        None => Ok(()),
        Some(len) => Err(Box::new(
            Diagnostic::error(Code::Address, format!("netmask {len} invalid for IPv4 address"))
                .at(spec.places.of("nat-to"), "IPv4 has prefixes from 0 to 32"),
        )),
    }
}

pub(super) fn wrong<T>(spec: &RuleSpec, text: &str, label: &str) -> Fallible<T> {
    let here = spec.places.has("nat-to").unwrap_or(&spec.places.rule);
    Err(Box::new(
        Diagnostic::error(Code::Translation, text).at(here, label).line_at(spec.places.end),
    ))
}

/// Reads a `nat-anchor`, `rdr-anchor` or `binat-anchor` line, or one of the two that macOS has
/// besides.
///
/// # Errors
/// The message about a part that the kind of anchor cannot have.
pub(crate) fn anchor(
    context: Context,
    statement: &Statement,
    parts: &[Pair],
) -> Fallible<RuleSpec> {
    let mut spec = rule(context, statement, parts)?;
    let mut path = String::new();
    for part in parts {
        match part.as_rule() {
            Rule::kw_nat_anchor => spec.rule.kind = RuleKind::Nat,
            Rule::kw_rdr_anchor => spec.rule.kind = RuleKind::Rdr,
            Rule::kw_binat_anchor => spec.rule.kind = RuleKind::Binat,
            Rule::kw_scrub_anchor => spec.rule.kind = RuleKind::Scrub,
            Rule::kw_dummynet_anchor => spec.rule.kind = RuleKind::Dummynet,
            Rule::anchor_words => {
                let words = part.clone().into_inner().map(|word| string(&word));
                path = words.collect::<Vec<_>>().join(" ");
            }
            Rule::rtable => crate::filter::option(context, statement, part, &mut spec)?,
            _ => {}
        }
    }
    match spec.rule.kind {
        RuleKind::Rdr => {
            if !spec.from.ports.is_empty() {
                let text = "source port parameter not supported in rdr-anchor";
                return wrong(&spec, text, "take the port out");
            }
            match spec.to.ports.as_slice() {
                [] | [PortMatch::Equal(_)] => {}
                [_] => {
                    let text = "destination port operators not supported in rdr-anchor";
                    return wrong(&spec, text, "one port alone is possible");
                }
                _ => {
                    let text = "destination port list expansion not supported in rdr-anchor";
                    return wrong(&spec, text, "one port alone is possible");
                }
            }
        }
        RuleKind::Binat => {
            if spec.protocols.len() > 1 {
                let text = "proto list expansion not supported in binat-anchor";
                return wrong(&spec, text, "one protocol alone is possible");
            }
            let sides = [&spec.from, &spec.to];
            if sides.iter().any(|side| !side.hosts.is_empty() || !side.ports.is_empty()) {
                let text = "fromto parameter not supported in binat-anchor";
                return wrong(&spec, text, "take the addresses out");
            }
        }
        _ => {}
    }
    crate::finish::decide_family(&spec.from.hosts, &mut spec.rule.af);
    crate::finish::decide_family(&spec.to.hosts, &mut spec.rule.af);
    spec.rule.anchor = Some(Box::new(Anchor { path, rules: None }));
    Ok(spec)
}
