//! Options that send packets elsewhere: `divert-*`, translation, routing.
//!
//! Source: pf.conf(5) "TRANSLATION", "ROUTING"; OpenBSD sbin/pfctl/parse.y `filter_opt`,
//! `routespec`.

use std::net::IpAddr;

use pfapi::ruleset::RouteKind;

use crate::address::{Host, World, resolve};
use crate::criteria::plain_port;
use crate::diag::{Code, Diagnostic};
use crate::filter::{text, twice};
use crate::freebsd;
use crate::parser::{Fallible, Pair, Rule, place};
use crate::pool::{PoolSpec, pool};
use crate::rules::{Context, RuleSpec, family};
use crate::scan::{Place, Statement};

/// `divert-*` before the family of the rule is known.
#[derive(Clone, Debug)]
pub(crate) enum DivertSpec {
    /// Addresses that the name has.
    To(Vec<IpAddr>, u16),
    Reply,
    Packet(u16),
}

/// Reads `divert-*`.
///
/// # Errors
/// The message about an address or port that cannot be, or a second such option.
pub(crate) fn divert(
    context: Context,
    statement: &Statement,
    pair: &Pair,
    spec: &mut RuleSpec,
) -> Fallible<()> {
    let here = place(statement, pair);
    // The port is read before the rest is looked at.
    let value = pair.clone().into_inner().find(|part| part.as_rule() == Rule::port_value);
    let port = value.map(|value| plain_port(context.world, statement, &value)).transpose()?;
    if spec.divert.is_some() {
        return Err(Box::new(
            Diagnostic::error(Code::Divert, "more than one divert option")
                .at(&here, "a packet can go one way only"),
        ));
    }
    let port_or = |port: Option<u16>| {
        port.filter(|&port| port > 0).ok_or_else(|| {
            Box::new(
                Diagnostic::error(Code::Divert, "invalid divert port: 0")
                    .at(&here, "no socket has port 0"),
            )
        })
    };
    spec.divert = Some(match pair.as_rule() {
        Rule::divert_to => {
            let name = text(pair);
            let found = resolve(context.world, statement, pair, &name).map_err(|cause| {
                let mut error = Diagnostic::error(
                    Code::Divert,
                    format!("could not parse divert address: {name}"),
                )
                .at(&here, "no address, interface or host name that resolves");
                for line in cause.lines_before() {
                    error = error.before(line);
                }
                Box::new(error)
            })?;
            let found = found.iter().filter_map(|host: &Host| match host.addr {
                pfapi::ruleset::AddrMatch::Net(prefix) => Some(prefix.addr()),
                _ => None,
            });
            DivertSpec::To(found.collect(), port_or(port)?)
        }
        Rule::divert_packet => {
            spec.rule.scrub.reassemble_tcp |= context.reassembles;
            DivertSpec::Packet(port_or(port)?)
        }
        _ => DivertSpec::Reply,
    });
    spec.places.add("divert", here);
    Ok(())
}

/// Reads `nat-to`, `rdr-to`, `binat-to` or `af-to`.
///
/// # Errors
/// The message about a pool that cannot be, or a second such option.
pub(crate) fn translation(
    world: World,
    statement: &Statement,
    pair: &Pair,
    spec: &mut RuleSpec,
) -> Fallible<()> {
    let here = place(statement, pair);
    let pools = pair.clone().into_inner().filter(|part| part.as_rule() == Rule::redirection);
    let mut pools =
        pools.map(|part| pool(world, statement, &part)).collect::<Fallible<Vec<_>>>()?;
    if pools.is_empty() {
        return Ok(());
    }
    let first = pools.remove(0);
    match pair.as_rule() {
        Rule::rdr_to => {
            if spec.rdr.is_some() {
                return Err(twice("cannot respecify rdr-to", &here));
            }
            spec.rdr = Some(first);
            spec.places.add("rdr-to", here);
        }
        Rule::af_to if world.dialect.is_freebsd() => {
            freebsd::af_to(pair, here, first, pools.pop(), spec)?;
        }
        Rule::af_to => af_to(pair, here, first, pools.pop(), spec)?,
        kind => {
            if spec.nat.is_some() {
                return Err(twice("cannot respecify nat-to/binat-to", &here));
            }
            spec.binat = kind == Rule::binat_to;
            spec.nat = Some(first);
            if spec.binat
                && let Some(nat) = &mut spec.nat
            {
                nat.static_port = true;
            }
            spec.places.add("nat-to", here);
        }
    }
    Ok(())
}

fn af_to(
    pair: &Pair,
    here: Place,
    mut source: PoolSpec,
    target: Option<PoolSpec>,
    spec: &mut RuleSpec,
) -> Fallible<()> {
    let wrong = |text: &str, label: &str| {
        Box::new(Diagnostic::error(Code::Translation, text).at(&here, label))
    };
    if spec.nat.is_some() {
        return Err(twice("cannot respecify af-to", &here));
    }
    let af = pair.clone().into_inner().find(|part| part.as_rule() == Rule::family);
    let Some(af) = af.map(|part| family(&part)) else {
        let text = if target.is_some() {
            "no address family specified"
        } else {
            "no target address family specified"
        };
        let mut error = wrong(text, "the family that packets get is missing");
        *error = error.help("write `af-to inet from …` or `af-to inet6 from …`");
        return Err(error);
    };
    source.af = Some(af);
    spec.rdr = Some(match target {
        None => PoolSpec::empty(),
        Some(mut target) => {
            let foreign = |pool: &PoolSpec| {
                pool.hosts.first().and_then(|host| host.af).is_some_and(|found| found != af)
            };
            if foreign(&source) || foreign(&target) {
                let text = "af-to addresses must be in the target address family";
                return Err(wrong(text, "these addresses"));
            }
            // pfctl keeps the options behind `to` for the source, and none for the target.
            source.kind = target.kind.take();
            source.sticky = std::mem::take(&mut target.sticky);
            source.static_port = std::mem::take(&mut target.static_port);
            target.af = Some(af);
            target
        }
    });
    spec.nat = Some(source);
    spec.af_to = true;
    spec.places.add("af-to", here);
    Ok(())
}

/// Reads `route-to`, `reply-to` or `dup-to`.
///
/// # Errors
/// The message about a pool that cannot be, or a second such option.
pub(crate) fn routing(
    world: World,
    statement: &Statement,
    pair: &Pair,
    spec: &mut RuleSpec,
) -> Fallible<()> {
    let here = place(statement, pair);
    let pool = pool(world, statement, pair)?;
    if spec.route.is_some() {
        let mut error = twice("cannot respecify route-to/reply-to/dup-to", &here);
        *error = error.line_at(statement.next_token(pair.as_span().end()));
        return Err(error);
    }
    let kind = match pair.clone().into_inner().next().map(|word| word.as_rule()) {
        Some(Rule::kw_reply_to) => RouteKind::ReplyTo,
        Some(Rule::kw_dup_to) => RouteKind::DupTo,
        _ => RouteKind::RouteTo,
    };
    spec.route = Some((kind, pool));
    spec.places.add("route", here);
    Ok(())
}
