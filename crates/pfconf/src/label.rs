//! Macros in labels and tags: `$if`, `$srcaddr` and so on.
//!
//! Source: pf.conf(5) "label"; OpenBSD sbin/pfctl/parse.y `expand_label`.

use pfapi::check::{LABEL_MAX, TAG_MAX};
use pfapi::port::PortMatch;
use pfapi::ruleset::{AddrMatch, Endpoint, Rule};

use crate::print;
use crate::source::Sources;

/// Replaces the macros by what the rule has, but for `$nr`.
pub(crate) fn fill(template: String, rule: &Rule, sources: &dyn Sources) -> String {
    if !template.contains('$') {
        return template;
    }
    let interface = rule.interface.as_ref().map_or("any", |interface| interface.name.as_str());
    let protocol =
        rule.proto.map_or_else(|| "ip".to_owned(), |number| print::protocol_on(number, sources));
    let replacements = [
        ("$if", interface.to_owned()),
        ("$srcaddr", address(&rule.from)),
        ("$dstaddr", address(&rule.to)),
        ("$srcport", port(rule.from.port)),
        ("$dstport", port(rule.to.port)),
        ("$proto", protocol),
    ];
    replacements.iter().fold(template, |label, (name, value)| label.replace(name, value))
}

/// A name that is too long with the number of its rule in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Replaces `$nr` in the names of a rule: its number is known only when all rules are.
///
/// # Errors
/// A name becomes too long.
pub(crate) fn number(rule: &mut Rule, number: usize) -> Result<(), TooLong> {
    let tagged = rule.tagged.as_mut().map(|tagged| &mut tagged.name);
    let names = [(rule.label.as_mut(), LABEL_MAX), (rule.tag.as_mut(), TAG_MAX), (tagged, TAG_MAX)];
    for (name, max) in names {
        let Some(name) = name.filter(|name| name.contains("$nr")) else { continue };
        *name = name.replace("$nr", &number.to_string());
        if name.len() > max {
            return Err(TooLong);
        }
    }
    Ok(())
}

fn address(end: &Endpoint) -> String {
    let not = if end.negated { "! " } else { "" };
    match &end.addr {
        AddrMatch::Range(..) | AddrMatch::RouteLabel(_) => format!("{not}?"),
        AddrMatch::Dynamic(dynamic) => format!("{not}({})", dynamic.interface),
        _ => print::address(end),
    }
}

/// As pfctl: operators without blanks, nothing for a range.
fn port(port: Option<PortMatch>) -> String {
    match port {
        None | Some(PortMatch::Range(..)) => String::new(),
        Some(PortMatch::Equal(port)) => port.to_string(),
        Some(port) => port.to_string().replace(' ', ""),
    }
}
