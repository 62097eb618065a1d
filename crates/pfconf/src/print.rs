//! Prints rules, tables and settings as pfctl does.
//!
//! What is printed can be loaded again and prints the same. Source: OpenBSD
//! sbin/pfctl/pfctl_parser.c `print_rule`, `print_fromto`, `print_tabledef`.

use std::fmt::Write;

use pfapi::addr::Af;
use pfapi::ruleset::{
    Action, AddrMatch, BlockAnswer, DynamicPart, Endpoint, Rule, StatePolicy, SyncookieMode,
    Syncookies, TableDef, proto,
};

use crate::names;
use crate::parser::is_keyword;
use crate::scan::is_word_char;

/// A rule as `pfctl -s rules` shows it.
#[must_use]
pub fn rule(rule: &Rule) -> String {
    let mut line = String::with_capacity(80);
    line.push_str(match rule.action {
        Action::Pass => "pass",
        Action::Match => "match",
        Action::Block(_) => "block",
    });
    if let Action::Block(answer) = rule.action {
        line.push_str(&block_answer(answer, rule.af));
    }
    if let Some(direction) = rule.direction {
        line.push_str(match direction {
            pfapi::units::Direction::In => " in",
            pfapi::units::Direction::Out => " out",
        });
    }
    if rule.quick {
        line.push_str(" quick");
    }
    if let Some(interface) = &rule.interface {
        let not = if interface.negated { "! " } else { "" };
        let name = match interface.name.as_str() {
            "any" => "any".to_owned(),
            name => word(name),
        };
        put(&mut line, format_args!(" on {not}{name}"));
    }
    if let Some(af) = rule.af {
        put(&mut line, format_args!(" {af}"));
    }
    if let Some(number) = rule.proto {
        put(&mut line, format_args!(" proto {}", protocol(number)));
    }
    if rule.from == Endpoint::default() && rule.to == Endpoint::default() {
        line.push_str(" all");
    } else {
        put(&mut line, format_args!(" from {} to {}", endpoint(&rule.from), endpoint(&rule.to)));
    }
    if let Some(flags) = rule.flags {
        put(&mut line, format_args!(" flags {flags}"));
    } else if rule.state == StatePolicy::Keep
        && rule.proto.is_none_or(|number| number == proto::TCP)
    {
        line.push_str(" flags any");
    }
    line.push_str(&icmp(rule));
    if rule.action == Action::Pass && rule.state == StatePolicy::None {
        line.push_str(" no state");
    }
    if let Some(label) = &rule.label {
        put(&mut line, format_args!(" label {}", quoted(label)));
    }
    line
}

/// A rule with its number in front, as `pfctl -vv -s rules` shows it.
#[must_use]
pub fn rule_numbered(number: usize, shown: &Rule) -> String {
    format!("@{number} {}", rule(shown))
}

/// A table definition, addresses in one list.
#[must_use]
pub fn table(table: &TableDef) -> String {
    let mut line = table_head(table);
    if let Some(entries) = &table.entries {
        line.push_str(" {");
        for entry in entries {
            put(&mut line, format_args!(" {entry}"));
        }
        line.push_str(" }");
    }
    line
}

/// The part of a table definition in front of its addresses.
pub(crate) fn table_head(table: &TableDef) -> String {
    let mut line = format!("table <{}>", word(&table.name));
    for (set, word) in
        [(table.constant, " const"), (table.persist, " persist"), (table.counters, " counters")]
    {
        if set {
            line.push_str(word);
        }
    }
    line
}

/// `set syncookies …` with the percentages as they were given.
pub(crate) fn syncookies(setting: Syncookies, percent: Option<(u32, u32)>) -> String {
    let mut words = Vec::new();
    if let Some((start, end)) = percent {
        words.push(format!("start {start}%"));
        words.push(format!("end {end}%"));
    }
    if setting.classic {
        words.push("classic".to_owned());
    }
    let mode = match setting.mode {
        SyncookieMode::Never => "never",
        SyncookieMode::Always => "always",
        SyncookieMode::Adaptive => "adaptive",
    };
    if words.is_empty() {
        format!("set syncookies {mode}")
    } else {
        format!("set syncookies {mode} ({})", words.join(", "))
    }
}

/// An address with its negation, as in rules.
#[must_use]
pub fn address(end: &Endpoint) -> String {
    let mut text = String::new();
    if end.negated {
        text.push_str("! ");
    }
    match &end.addr {
        AddrMatch::Any => text.push_str("any"),
        AddrMatch::Net(prefix) => put(&mut text, format_args!("{prefix}")),
        AddrMatch::Range(low, high) => put(&mut text, format_args!("{low} - {high}")),
        AddrMatch::Table(name) => put(&mut text, format_args!("<{}>", word(name))),
        AddrMatch::Dynamic(dynamic) => {
            let part = match dynamic.part {
                DynamicPart::Address => "",
                DynamicPart::Network => ":network",
                DynamicPart::Broadcast => ":broadcast",
                DynamicPart::Peer => ":peer",
            };
            let aliases = if dynamic.no_aliases { ":0" } else { "" };
            let name = word(&format!("{}{part}{aliases}", dynamic.interface));
            put(&mut text, format_args!("({name})"));
        }
    }
    text
}

/// Name of a protocol, or its number where it has none.
#[must_use]
pub fn protocol(number: u8) -> String {
    names::protocol_name(number).map_or_else(|| number.to_string(), str::to_owned)
}

fn endpoint(end: &Endpoint) -> String {
    let mut text = address(end);
    if let Some(port) = end.port {
        put(&mut text, format_args!(" port {port}"));
    }
    text
}

fn block_answer(answer: BlockAnswer, af: Option<Af>) -> String {
    let name = |af, code: u8| {
        let unreachable = if af == Af::Inet6 { 1 } else { 3 };
        names::icmp_code_name(af, unreachable, code).map_or_else(|| code.to_string(), str::to_owned)
    };
    match answer {
        BlockAnswer::Drop => " drop".to_owned(),
        BlockAnswer::Return => " return".to_owned(),
        BlockAnswer::ReturnRst { ttl: None } => " return-rst".to_owned(),
        BlockAnswer::ReturnRst { ttl: Some(ttl) } => format!(" return-rst(ttl {ttl})"),
        BlockAnswer::ReturnIcmp { code, code6 } => match af {
            Some(Af::Inet) => format!(" return-icmp({})", name(Af::Inet, code)),
            Some(Af::Inet6) => format!(" return-icmp6({})", name(Af::Inet6, code6)),
            None => {
                format!(" return-icmp({}, {})", name(Af::Inet, code), name(Af::Inet6, code6))
            }
        },
    }
}

fn icmp(rule: &Rule) -> String {
    let Some(icmp) = rule.icmp else { return String::new() };
    let (af, word) = if rule.proto == Some(proto::ICMPV6) {
        (Af::Inet6, "icmp6-type")
    } else {
        (Af::Inet, "icmp-type")
    };
    let shown =
        |name: Option<&str>, number: u8| name.map_or_else(|| number.to_string(), str::to_owned);
    let icmp_type = icmp.icmp_type;
    let mut text = format!(" {word} {}", shown(names::icmp_type_name(af, icmp_type), icmp_type));
    if let Some(code) = icmp.code {
        let name = names::icmp_code_name(af, icmp_type, code);
        put(&mut text, format_args!(" code {}", shown(name, code)));
    }
    text
}

/// A name, in quotes where the parser would not take it bare.
pub(crate) fn word(name: &str) -> String {
    let starts = name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_');
    let plain = starts && name.chars().all(is_word_char) && !is_keyword(name);
    if plain { name.to_owned() } else { quoted(name) }
}

/// In quotes that the parser takes off again.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    let mut before = None;
    for character in text.chars() {
        let escapes = before == Some('\\') && matches!(character, ' ' | '\t');
        if character == '"' || escapes {
            quoted.push('\\');
        }
        quoted.push(character);
        before = Some(character);
    }
    quoted.push('"');
    quoted
}

fn put(text: &mut String, words: std::fmt::Arguments) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(words);
}

#[cfg(test)]
mod tests {
    use pfapi::port::PortMatch;
    use pfapi::ruleset::{InterfaceMatch, TcpFlagsMatch};
    use pfapi::units::Direction;

    use super::*;

    #[test]
    fn words_come_in_pfctls_order() {
        let mut shown = Rule::new(Action::Pass);
        assert_eq!(rule(&shown), "pass all flags any");
        shown.direction = Some(Direction::In);
        shown.quick = true;
        shown.interface = Some(InterfaceMatch { negated: true, name: "em0".into() });
        shown.proto = Some(proto::TCP);
        shown.to.port = Some(PortMatch::Equal(80));
        shown.flags = Some(TcpFlagsMatch::S_SA);
        shown.label = Some("a \"b\"".into());
        assert_eq!(
            rule_numbered(7, &shown),
            "@7 pass in quick on ! em0 proto tcp from any to any port = 80 flags S/SA \
             label \"a \\\"b\\\"\""
        );
    }

    #[test]
    fn block_answers_print_by_family() {
        let mut shown = Rule::new(Action::Block(BlockAnswer::ReturnIcmp { code: 3, code6: 77 }));
        assert_eq!(rule(&shown), "block return-icmp(port-unr, 77) all");
        shown.af = Some(Af::Inet6);
        assert_eq!(rule(&shown), "block return-icmp6(77) inet6 all");
        shown.action = Action::Block(BlockAnswer::ReturnRst { ttl: Some(9) });
        assert_eq!(rule(&shown), "block return-rst(ttl 9) inet6 all");
    }
}
