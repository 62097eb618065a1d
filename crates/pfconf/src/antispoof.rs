//! `antispoof` lines.
//!
//! Source: pf.conf(5) "antispoof"; OpenBSD sbin/pfctl/parse.y `antispoof`.

use pfapi::check::LABEL_MAX;
use pfapi::ruleset::{Action, AddrMatch, BlockAnswer, DynamicAddr, DynamicPart, InterfaceMatch};
use pfapi::units::Direction;

use crate::address::{Host, World};
use crate::diag::{Code, Diagnostic};
use crate::filter::rtable;
use crate::finish::label_too_long;
use crate::lookup::antispoof_hosts;
use crate::parser::{Fallible, Pair, Rule, place, string};
use crate::rules::{On, RuleSpec, family, interface, log_quick};
use crate::scan::Statement;

/// The rules that an `antispoof` node stands for, before expansion.
///
/// # Errors
/// The message about the first part that cannot be.
pub(crate) fn antispoof(
    world: World,
    statement: &Statement,
    parts: &[Pair],
) -> Fallible<Vec<RuleSpec>> {
    let mut base = RuleSpec::new(statement, Action::Block(BlockAnswer::Drop));
    base.rule.direction = Some(Direction::In);
    let mut interfaces = Vec::new();
    for part in parts {
        let here = place(statement, part);
        match part.as_rule() {
            Rule::log_quick => (base.rule.log, base.rule.quick) = log_quick(statement, part)?,
            Rule::antispoof_if => {
                let dynamic =
                    part.clone().into_inner().any(|p| p.as_rule() == Rule::antispoof_dynamic);
                if let On::Interface(found) = interface(statement, part, false)? {
                    interfaces.push((found.into_inner().name, dynamic));
                }
            }
            Rule::family => base.rule.af = Some(family(part)),
            Rule::rtable => base.rule.rare.rtable = Some(rtable(world, part, &here)?),
            Rule::label | Rule::ridentifier if world.dialect.is_freebsd() => {
                crate::freebsd::option(world, statement, part, &mut base)?;
            }
            Rule::label => {
                let text = part.clone().into_inner().find(|word| word.as_rule() == Rule::string);
                if base.rule.label.is_some() {
                    return Err(Box::new(
                        Diagnostic::error(Code::Twice, "label cannot be redefined")
                            .at(&here, "given a second time"),
                    ));
                }
                base.rule.label = text.map(|word| string(&word).into());
                base.places.add("label", here);
            }
            _ => {}
        }
    }
    if let Some(label) = base.rule.label.as_ref().filter(|label| label.len() > LABEL_MAX) {
        let diagnostic = label_too_long(base.places.of("label"), label.len());
        return Err(Box::new(diagnostic.line_at(statement.end)));
    }
    let mut specs = Vec::new();
    for (name, dynamic) in interfaces {
        let hosts = |networks: bool| {
            if !dynamic {
                return antispoof_hosts(world.facts, &name, networks);
            }
            let part = if networks { DynamicPart::Network } else { DynamicPart::Address };
            let addr =
                DynamicAddr { interface: name.clone(), part, no_aliases: false, prefix_len: None };
            vec![Host { addr: AddrMatch::Dynamic(addr.into()), ..Host::any() }]
        };
        let mut elsewhere = base.clone();
        let outside = InterfaceMatch { negated: true, name: name.clone() };
        elsewhere.interfaces = vec![On::Interface(outside.into())];
        elsewhere.from.hosts = hosts(true);
        specs.push(elsewhere);
        // A group is no loopback interface, whatever its members are.
        if !world.facts.interface(&name).is_some_and(pfapi::facts::InterfaceFacts::is_loopback) {
            let mut own = base.clone();
            own.from.hosts = hosts(false);
            specs.push(own);
        }
    }
    specs.retain(|spec| !spec.from.hosts.is_empty());
    Ok(specs)
}
