//! Macros in labels and tags: `$if`, `$srcaddr` and so on.
//!
//! Source: pf.conf(5) "label"; OpenBSD sbin/pfctl/parse.y `expand_label`.

use pfapi::check::{LABEL_MAX, TAG_MAX};
use pfapi::port::PortMatch;
use pfapi::ruleset::{AddrMatch, Endpoint, Rule};

use crate::print;
use crate::source::Sources;

/// Replaces the macros by what the rule has, but for `$nr`; `None` where there are none.
pub(crate) fn fill(template: &str, rule: &Rule, sources: &dyn Sources) -> Option<String> {
    if !template.contains('$') {
        return None;
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
    let filled = |label: String, (name, value): &(&str, String)| label.replace(name, value);
    Some(replacements.iter().fold(template.to_owned(), filled))
}

/// A name that is too long with the number of its rule in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Replaces `$nr` in the names of a rule: its number is known only when all rules are.
///
/// # Errors
/// A name becomes too long.
pub(crate) fn number(rule: &mut Rule, number: usize) -> Result<(), TooLong> {
    let number = number.to_string();
    let numbered = |name: &str, max: usize| {
        let text = name.contains("$nr").then(|| name.replace("$nr", &number));
        if text.as_ref().is_some_and(|text| text.len() > max) { Err(TooLong) } else { Ok(text) }
    };
    // Written to only where there is something to write: rules share their names.
    if let Some(label) =
        rule.label.as_deref().map(|name| numbered(name, LABEL_MAX)).transpose()?.flatten()
    {
        rule.label = Some(label.into());
    }
    if let Some(tag) =
        rule.tag.as_deref().map(|name| numbered(name, TAG_MAX)).transpose()?.flatten()
    {
        rule.tag = Some(tag.into());
    }
    let tagged = rule.tagged.as_deref().map(|tagged| numbered(&tagged.name, TAG_MAX));
    if let Some(name) = tagged.transpose()?.flatten()
        && let Some(tagged) = &mut rule.tagged
    {
        tagged.name = name;
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
