//! Options of filter rules that only FreeBSD has, and its next hops.
//!
//! Source: FreeBSD sbin/pfctl/parse.y `filter_opt`, `route_host`, `pfrule`.

use pfapi::check::INTERFACE_NAME_MAX;
use pfapi::ruleset::AddrMatch;

use crate::address::{Host, World, host_item};
use crate::criteria::{c_number, decimal_text, plain_port};
use crate::diag::{Code, Diagnostic};
use crate::filter::text;
use crate::finish::decide_family;
use crate::freebsd::translation::fit;
use crate::parser::{Fallible, Pair, Rule, place};
use crate::rules::RuleSpec;
use crate::scan::{Place, Statement};
use crate::translate::DivertSpec;

/// Most labels of one rule (`PF_RULE_MAX_LABEL_COUNT`).
pub(crate) const LABELS_MAX: usize = 5;

/// Reads one option, if it is one of FreeBSD's own; `false` for the others.
///
/// # Errors
/// The message about a value that cannot be.
pub(crate) fn option(
    world: World,
    statement: &Statement,
    pair: &Pair,
    spec: &mut RuleSpec,
) -> Fallible<bool> {
    let here = place(statement, pair);
    match pair.as_rule() {
        Rule::label => {
            let label = text(pair);
            if spec.rule.label.is_none() {
                spec.rule.label = Some(label.into());
            } else if spec.rule.freebsd.more_labels.len() + 1 < LABELS_MAX {
                spec.rule.freebsd.more_labels.push(label);
            } else {
                let text = format!("label can only be used {LABELS_MAX} times");
                return Err(Box::new(
                    Diagnostic::error(Code::Label, text).at(&here, "one label too many"),
                ));
            }
            spec.places.add("label", here);
        }
        Rule::ridentifier => {
            let number = number(statement, pair, &here)?;
            spec.rule.freebsd.ridentifier = Some(number).filter(|&number| number > 0);
        }
        Rule::max_pkt_size => {
            let number = number(statement, pair, &here)?;
            let Ok(size) = u16::try_from(number) else {
                return Err(Box::new(
                    Diagnostic::error(Code::Value, "only positive values permitted")
                        .at(&here, "packets have up to 65535 octets"),
                ));
            };
            spec.rule.freebsd.max_pkt_size = Some(size).filter(|&size| size > 0);
        }
        Rule::freebsd_divert_to => {
            let value = pair.clone().into_inner().find(|part| part.as_rule() == Rule::port_value);
            let port = value.map(|value| plain_port(world, statement, &value));
            let Some(port) = port.transpose()?.filter(|&port| port > 0) else {
                return Err(Box::new(
                    Diagnostic::error(Code::Divert, "invalid divert port: 0")
                        .at(&here, "no socket has port 0"),
                ));
            };
            spec.divert = Some(DivertSpec::Packet(port));
            spec.places.add("divert", here);
        }
        Rule::kw_divert_reply => {
            return Err(Box::new(
                Diagnostic::error(Code::Divert, "divert-reply has no meaning in FreeBSD pf(4)")
                    .at(&here, "answers of sockets need no rule"),
            ));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Leaves the addresses of `nat-to`, `rdr-to` and `binat-to` that fit the family of the rule, which
/// they may decide.
///
/// # Errors
/// The message when none is left.
pub(crate) fn complete_translation(spec: &mut RuleSpec) -> Fallible<()> {
    if spec.af_to {
        return Ok(());
    }
    if let Some(mut pool) = spec.nat.take() {
        fit(spec, &mut pool)?;
        spec.nat = Some(pool);
    }
    if let Some(mut pool) = spec.rdr.take() {
        fit(spec, &mut pool)?;
        spec.rdr = Some(pool);
    }
    Ok(())
}

fn number(statement: &Statement, pair: &Pair, here: &Place) -> Fallible<u32> {
    let word = pair.clone().into_inner().find(|part| part.as_rule() == Rule::numstr);
    let text = word.as_ref().map(decimal_text).unwrap_or_default();
    let Some(number) = c_number(&text) else {
        return Err(Box::new(
            Diagnostic::error(Code::Value, format!("{text} is not a number")).at(
                &word.map_or_else(|| here.clone(), |word| place(statement, &word)),
                "no number",
            ),
        ));
    };
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

/// Reads a `route_hosts` node: next hops with the interfaces in front of them.
///
/// # Errors
/// The message about an address or interface that cannot be.
pub(crate) fn route_hosts(world: World, statement: &Statement, pair: &Pair) -> Fallible<Vec<Host>> {
    let mut found = Vec::new();
    for item in pair.clone().into_inner().filter(|part| part.as_rule() == Rule::route_host) {
        let mut hosts = host_item(world, statement, &item)?;
        let name = text(&item);
        if name.len() > INTERFACE_NAME_MAX {
            return Err(Box::new(
                Diagnostic::error(Code::Interface, "interface name too long")
                    .at(&place(statement, &item), format!("at most {INTERFACE_NAME_MAX} octets")),
            ));
        }
        if hosts.is_empty() {
            hosts.push(Host::any());
        }
        for mut host in hosts {
            host.rare.via = Some(name.clone());
            found.push(host);
        }
    }
    Ok(found)
}

/// Checks the next hops of a filter rule, and takes its family from them where nothing else has
/// decided it.
///
/// # Errors
/// The message about a rule that cannot route.
pub(crate) fn complete_routing(spec: &mut RuleSpec) -> Fallible<()> {
    let Some((_, pool)) = &mut spec.route else { return Ok(()) };
    let wrong = |text: &str, label: &str| {
        let here = spec.places.of("route");
        Err(Box::new(Diagnostic::error(Code::Routing, text).at(here, label)))
    };
    if spec.rule.direction.is_none() {
        let text = "direction must be explicit with rules that specify routing";
        return wrong(text, "for packets of which direction?");
    }
    if !pool.prefer_ipv6_nexthop {
        decide_family(&pool.hosts, &mut spec.rule.af);
        // Behind `af-to` packets have the other family.
        if !spec.af_to {
            pool.keep_family(&mut spec.rule.af);
        }
    }
    if pool.hosts.is_empty() {
        let text = "no routing address with matching address family found.";
        return wrong(text, "of another family than the rule");
    }
    // An interface alone sends packets to the neighbours behind it.
    debug_assert!(
        pool.hosts.iter().all(|host| host.rare.via.is_some() || host.addr != AddrMatch::Any)
    );
    Ok(())
}
