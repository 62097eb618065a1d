//! `ether` rules as pfctl prints them.
//!
//! Source: FreeBSD sbin/pfctl/pfctl_parser.c `print_eth_rule`.

use pfapi::addr::Af;
use pfapi::ruleset::{Endpoint, EtherAction, EtherRule};
use pfapi::units::Direction;

use crate::print::{Form, indent, put, put_addr, put_interface, put_quoted, put_word, put_words};

/// `EtherType` of IPv4.
pub(super) const TYPE_IPV4: u16 = 0x0800;
/// `EtherType` of IPv6.
pub(super) const TYPE_IPV6: u16 = 0x86dd;

/// Appends a rule; the rules of an inline anchor are left out.
fn put_rule(line: &mut String, rule: &EtherRule, form: Form) {
    line.push_str("ether ");
    match (&rule.anchor, rule.action) {
        (Some(anchor), _) => {
            line.push_str("anchor");
            if !anchor.path.starts_with('_') {
                put(line, format_args!(" \"{}\"", anchor.path));
            }
        }
        (None, EtherAction::Pass) => line.push_str("pass"),
        (None, EtherAction::Block) => line.push_str("block"),
        (None, EtherAction::Match) => line.push_str("match"),
    }
    match rule.direction {
        None => {}
        Some(Direction::In) => line.push_str(" in"),
        Some(Direction::Out) => line.push_str(" out"),
    }
    if rule.quick {
        line.push_str(" quick");
    }
    if let Some(interface) = &rule.interface {
        line.push_str(if interface.negated { " on ! " } else { " on " });
        put_interface(line, &interface.name, form.dialect);
    }
    if let Some(interface) = &rule.bridge_to {
        line.push_str(" bridge-to ");
        put_interface(line, interface, form.dialect);
    }
    if let Some(proto) = rule.proto {
        put(line, format_args!(" proto 0x{proto:04x}"));
    }
    if let Some(from) = rule.from {
        put(line, format_args!(" from {from}"));
    }
    if let Some(to) = rule.to {
        put(line, format_args!(" to {to}"));
    }
    line.push_str(" l3");
    if rule.l3_from == Endpoint::default() && rule.l3_to == Endpoint::default() {
        line.push_str(" all");
    } else {
        let af = if rule.proto == Some(TYPE_IPV4) { Af::Inet } else { Af::Inet6 };
        for (intro, end) in [(" from ", &rule.l3_from), (" to ", &rule.l3_to)] {
            line.push_str(intro);
            line.push_str(if end.negated { "! " } else { "" });
            put_addr(line, &end.addr, Some(af), form);
        }
    }
    for label in &rule.labels {
        line.push_str(" label ");
        put_quoted(line, label);
    }
    if let Some(number) = rule.ridentifier {
        put(line, format_args!(" ridentifier {number}"));
    }
    if let Some(queue) = &rule.queue {
        line.push_str(" queue ");
        put_word(line, queue, form.dialect);
    }
    if let Some(tag) = &rule.tag {
        line.push_str(" tag ");
        put_words(line, tag, form.dialect);
    }
    if let Some(tagged) = &rule.tagged {
        line.push_str(if tagged.negated { " ! tagged " } else { " tagged " });
        put_words(line, &tagged.name, form.dialect);
    }
    if let Some(dummynet) = rule.dummynet {
        put(line, format_args!(" {dummynet}"));
    }
}

/// Appends the lines of a rule and of those below it.
pub(crate) fn tree(
    text: &mut String,
    shown: &EtherRule,
    (number, depth): (usize, usize),
    form: Form,
) {
    let below = shown.anchor.as_ref().and_then(|anchor| anchor.rules.as_deref());
    let below = below.filter(|rules| !rules.is_empty());
    if form.counts {
        put(text, format_args!("@{number} "));
    } else {
        indent(text, depth);
    }
    put_rule(text, shown, form);
    text.push_str(if below.is_some() { " {\n" } else { "\n" });
    let Some(rules) = below else { return };
    for (number, rule) in rules.iter().enumerate() {
        tree(text, rule, (number, depth + 1), form);
    }
    indent(text, depth);
    text.push_str("}\n");
}
