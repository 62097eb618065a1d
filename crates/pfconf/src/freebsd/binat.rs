//! `binat` rules: one address for another, in both directions.
//!
//! Source: FreeBSD sbin/pfctl/parse.y `binatrule`.

use pfapi::addr::Af;
use pfapi::ruleset::{Action, AddrMatch};

use super::translation::{common, fit, netmasks, wrong};
use crate::address::{Host, hosts};
use crate::parser::{Fallible, Pair, Rule, place};
use crate::rules::{Context, RuleSpec, rule};
use crate::scan::Statement;

/// Reads a `binat` rule, or one that excepts from them. Lists are not expanded: of interfaces and
/// protocols the first counts, as in pfctl.
///
/// # Errors
/// The message about the first part that cannot be.
pub(crate) fn binat(context: Context, statement: &Statement, parts: &[Pair]) -> Fallible<RuleSpec> {
    let mut spec = rule(context, statement, parts)?;
    spec.rule.action = Action::Pass;
    for part in parts {
        let side = match part.as_rule() {
            Rule::binat_from => &mut spec.from,
            Rule::binat_to_host => &mut spec.to,
            _ => continue,
        };
        spec.places.add("hosts", place(statement, part));
        for list in part.clone().into_inner() {
            if matches!(list.as_rule(), Rule::host_list | Rule::host_item) {
                side.hosts = hosts(context.world, statement, &list)?;
            }
        }
    }
    let mut target = common(context, statement, parts, &mut spec)?;
    spec.interfaces.truncate(1);
    spec.protocols.truncate(1);
    if spec.to.hosts.iter().any(|host| host.addr == AddrMatch::UrpfFailed) {
        let text = "\"urpf-failed\" is not permitted as a binat destination";
        return wrong(&spec, text, "in this rule");
    }
    let first = |hosts: &[Host]| hosts.first().and_then(|host| host.af);
    spec.rule.af = spec
        .rule
        .af
        .or_else(|| first(&spec.from.hosts))
        .or_else(|| first(&spec.to.hosts))
        .or_else(|| target.as_ref().and_then(|pool| first(&pool.hosts)));
    let Some(af) = spec.rule.af else {
        return wrong(&spec, "address family (inet/inet6) undefined", "add `inet` or `inet6`");
    };
    let pool = target.as_ref().map(|pool| pool.hosts.as_slice()).unwrap_or_default();
    for (hosts, role) in [(&*spec.from.hosts, "source"), (pool, "redirect")] {
        for host in hosts {
            let what = match &host.addr {
                AddrMatch::Table(name) => format!("table <{name}>"),
                AddrMatch::Dynamic(dynamic) if dynamic.is_multiple() => {
                    format!("interface ({})", dynamic.interface)
                }
                _ => continue,
            };
            let text = format!("invalid use of {what} as the {role} address of a binat rule");
            return wrong(&spec, &text, "one address takes the place of one other");
        }
    }
    for hosts in [&spec.from.hosts, &spec.to.hosts] {
        if hosts.len() > 1 {
            return wrong(&spec, "multiple binat ip addresses", "one address alone is possible");
        }
        if hosts.iter().any(|host| host.af.is_some_and(|found| found != af)) {
            return wrong(&spec, "binat ip versions must match", "addresses of both families");
        }
        netmasks(&spec, hosts)?;
    }
    match (spec.rule.freebsd.except, &mut target) {
        (true, None) => return Ok(spec),
        (true, Some(_)) => {
            let text = "'no binat' rule does not need '->'";
            return wrong(&spec, text, "nothing is translated here");
        }
        (false, None) => {
            return wrong(&spec, "'binat' rule requires '-> address'", "to which address?");
        }
        (false, Some(pool)) => {
            fit(&mut spec, pool)?;
            if pool.hosts.len() > 1 {
                let text = "binat rule must redirect to a single address";
                return wrong(&spec, text, "several addresses");
            }
            let source = spec.from.hosts.first();
            let target = pool.hosts.first();
            if let (Some(source), Some(target)) = (source, target)
                && source.addr != AddrMatch::Any
                && mask(source, af) != mask(target, af)
            {
                let text = "'binat' source mask and redirect mask must be the same";
                return wrong(&spec, text, "networks of different size");
            }
        }
    }
    spec.nat = target;
    Ok(spec)
}

/// Bits of a host that count.
fn mask(host: &Host, af: Af) -> u8 {
    match &host.addr {
        AddrMatch::Net(prefix) => prefix.len(),
        AddrMatch::Dynamic(dynamic) => dynamic.prefix_len.unwrap_or(af.bits()).min(af.bits()),
        _ => 0,
    }
}
