//! Prints rules, tables and settings as pfctl does.
//!
//! What is printed can be loaded again and prints the same. Source: OpenBSD
//! sbin/pfctl/pfctl_parser.c `print_rule`, `print_fromto`, `print_tabledef`.

use std::fmt::Write;

use pfapi::addr::Af;
use pfapi::ruleset::{
    Action, AddrMatch, BlockAnswer, Divert, DynamicAddr, DynamicPart, Endpoint, Flush, Log,
    RouteKind, Rule, SourceTrack, StatePolicy, proto,
};

use crate::names;
use crate::parser::is_keyword;
use crate::print_parts::{PoolWord, pool, scrub};
pub use crate::print_parts::{queue, table};
pub(crate) use crate::print_parts::{syncookies, table_head};
use crate::scan::is_word_char;
use crate::source::Sources;

/// A rule as `pfctl -s rules` shows it; the rules of an inline anchor are left out.
#[must_use]
pub fn rule(rule: &Rule) -> String {
    let mut line = String::with_capacity(80);
    head(&mut line, rule);
    criteria(&mut line, rule);
    set_actions(&mut line, rule);
    state(&mut line, rule);
    if rule.fragment {
        line.push_str(" fragment");
    }
    scrub(&mut line, rule);
    if rule.allow_opts {
        line.push_str(" allow-opts");
    }
    if let Some(label) = &rule.label {
        put(&mut line, format_args!(" label {}", quoted(label)));
    }
    if rule.once {
        line.push_str(" once");
    }
    if let Some(tag) = &rule.tag {
        put(&mut line, format_args!(" tag {}", words(tag)));
    }
    if let Some(tagged) = &rule.tagged {
        let not = if tagged.negated { " !" } else { "" };
        put(&mut line, format_args!("{not} tagged {}", words(&tagged.name)));
    }
    if let Some(rtable) = rule.rtable {
        put(&mut line, format_args!(" rtable {rtable}"));
    }
    redirection(&mut line, rule);
    line
}

/// A rule as `pfctl -nv` and `pfctl -nvv` print it; `has_rules`: those of an inline anchor follow.
pub(crate) fn opening(
    shown: &Rule,
    has_rules: bool,
    (number, depth): (usize, usize),
    sources: &dyn Sources,
    plain: &mut Vec<String>,
    numbered: &mut Vec<String>,
) {
    let line = with_protocol(rule(shown), shown.proto, sources);
    let brace = if has_rules { " {" } else { "" };
    let indent = "  ".repeat(depth);
    let counts = with_protocol(rule(&counted(shown)), shown.proto, sources);
    numbered.push(format!("@{number} {counts}{brace}"));
    plain.push(format!("{indent}{line}{brace}"));
}

/// With the name that the protocol has on this machine.
fn with_protocol(line: String, number: Option<u8>, sources: &dyn Sources) -> String {
    let Some(number) = number else { return line };
    let (usual, here) = (protocol(number), protocol_on(number, sources));
    if usual == here {
        return line;
    }
    line.replacen(&format!(" proto {usual}"), &format!(" proto {here}"), 1)
}

/// Name of a protocol on a machine, or its number where it has none.
pub(crate) fn protocol_on(number: u8, sources: &dyn Sources) -> String {
    sources.protocol_name(number).unwrap_or_else(|| number.to_string())
}

/// With the counts that `-vv` adds to tables and interfaces: before a load nothing is known.
fn counted(shown: &Rule) -> Rule {
    let mut rule = shown.clone();
    let pools = [rule.nat.as_mut(), rule.rdr.as_mut(), rule.route.as_mut().map(|r| &mut r.pool)];
    let pools = pools.into_iter().flatten().map(|pool| &mut pool.addr);
    for addr in [&mut rule.from.addr, &mut rule.to.addr].into_iter().chain(pools) {
        match addr {
            AddrMatch::Table(name) => name.push_str(":0"),
            AddrMatch::Dynamic(dynamic) => {
                dynamic.interface = format!("{}:*", dynamic_name(dynamic));
                dynamic.part = DynamicPart::Address;
                dynamic.no_aliases = false;
            }
            _ => {}
        }
    }
    rule
}

/// `interface:modifiers` of a dynamic address.
fn dynamic_name(dynamic: &DynamicAddr) -> String {
    let part = match dynamic.part {
        DynamicPart::Address => "",
        DynamicPart::Network => ":network",
        DynamicPart::Broadcast => ":broadcast",
        DynamicPart::Peer => ":peer",
    };
    let aliases = if dynamic.no_aliases { ":0" } else { "" };
    format!("{}{part}{aliases}", dynamic.interface)
}

/// From the action to the protocol.
fn head(line: &mut String, rule: &Rule) {
    match (&rule.anchor, rule.action) {
        (Some(anchor), _) => {
            let name = anchor.path.rsplit('/').next().unwrap_or_default();
            line.push_str("anchor");
            if !name.starts_with('_') {
                put(line, format_args!(" \"{}\"", anchor.path));
            }
        }
        (None, Action::Pass) => line.push_str("pass"),
        (None, Action::Match) => line.push_str("match"),
        (None, Action::Block(answer)) => {
            line.push_str("block");
            line.push_str(&block_answer(answer, rule.af));
        }
    }
    if let Some(direction) = rule.direction {
        line.push_str(match direction {
            pfapi::units::Direction::In => " in",
            pfapi::units::Direction::Out => " out",
        });
    }
    if let Some(log) = rule.log {
        line.push_str(&log_words(log));
    }
    if rule.quick {
        line.push_str(" quick");
    }
    if let Some(interface) = &rule.interface {
        let not = if interface.negated { "! " } else { "" };
        put(line, format_args!(" on {not}{}", interface_word(&interface.name)));
    }
    if let Some(rdomain) = rule.rdomain {
        let not = if rdomain.negated { "! " } else { "" };
        put(line, format_args!(" on {not}rdomain {}", rdomain.id));
    }
    if let Some(af) = rule.af {
        put(line, format_args!(" {af}"));
    }
    if let Some(number) = rule.proto {
        put(line, format_args!(" proto {}", protocol(number)));
    }
}

fn interface_word(name: &str) -> String {
    match name {
        "any" => name.to_owned(),
        _ if is_number(name) => quoted(name),
        _ => word(name),
    }
}

fn log_words(log: Log) -> String {
    let mut words = Vec::new();
    for (given, word) in [(log.all, "all"), (log.matches, "matches"), (log.user, "user")] {
        words.extend(given.then(|| word.to_owned()));
    }
    if log.interface > 0 {
        words.push(format!("to pflog{}", log.interface));
    }
    if words.is_empty() { " log".to_owned() } else { format!(" log ({})", words.join(", ")) }
}

/// From the addresses to `max-pkt-rate`.
fn criteria(line: &mut String, rule: &Rule) {
    if rule.from == Endpoint::default() && rule.to == Endpoint::default() && rule.os.is_none() {
        line.push_str(" all");
    } else {
        put(line, format_args!(" from {}", endpoint(&rule.from, rule.af)));
        if let Some(os) = &rule.os {
            put(line, format_args!(" os \"{os}\""));
        }
        put(line, format_args!(" to {}", endpoint(&rule.to, rule.af)));
    }
    if let Some(interface) = &rule.received_on {
        let not = if interface.negated { "!" } else { "" };
        put(line, format_args!(" {not}received-on {}", interface_word(&interface.name)));
    }
    if let Some(user) = rule.user {
        put(line, format_args!(" user {user}"));
    }
    if let Some(group) = rule.group {
        put(line, format_args!(" group {group}"));
    }
    if let Some(flags) = rule.flags.filter(|flags| flags.want != 0 || flags.mask != 0) {
        put(line, format_args!(" flags {flags}"));
    } else if rule.state != StatePolicy::None
        && rule.proto.is_none_or(|number| number == proto::TCP)
        && !rule.fragment
        && rule.anchor.is_none()
        && !matches!(rule.action, Action::Block(_))
    {
        line.push_str(" flags any");
    }
    line.push_str(&icmp(rule));
    if let Some(tos) = rule.tos {
        put(line, format_args!(" tos 0x{tos:02x}"));
    }
    if let Some(prio) = rule.prio {
        put(line, format_args!(" prio {prio}"));
    }
    if let Some(rate) = rule.max_pkt_rate {
        put(line, format_args!(" max-pkt-rate {rate}"));
    }
}

fn set_actions(line: &mut String, rule: &Rule) {
    let mut words = Vec::new();
    if let Some((prio, fast)) = rule.set.prio {
        words.push(if prio == fast {
            format!("prio {prio}")
        } else {
            format!("prio({prio}, {fast})")
        });
    }
    if let Some((queue, fast)) = &rule.set.queue {
        words.push(match fast {
            None => format!("queue {}", word(queue)),
            Some(fast) => format!("queue({}, {})", word(queue), word(fast)),
        });
    }
    words.extend(rule.set.tos.map(|tos| format!("tos 0x{tos:02x}")));
    words.extend(rule.set.delay.map(|delay| format!("delay {delay}")));
    if !words.is_empty() {
        put(line, format_args!(" set ({})", words.join(", ")));
    }
}

/// State, probability, and the options of the state.
fn state(line: &mut String, rule: &Rule) {
    let options = &rule.state_options;
    match rule.state {
        StatePolicy::None if rule.action == Action::Pass && rule.anchor.is_none() => {
            line.push_str(" no state");
        }
        StatePolicy::Keep if !options.is_empty() => line.push_str(" keep state"),
        StatePolicy::Modulate => line.push_str(" modulate state"),
        StatePolicy::Synproxy => line.push_str(" synproxy state"),
        StatePolicy::None | StatePolicy::Keep => {}
    }
    if let Some(share) = rule.probability {
        let percent = format!("{:.6}", f64::from(share) * 100.0 / 4_294_967_296.0);
        let percent = percent.trim_end_matches('0').trim_end_matches('.');
        put(line, format_args!(" probability {percent}%"));
    }
    if options.is_empty() {
        return;
    }
    let mut words = Vec::new();
    words.extend(options.max.map(|max| format!("max {max}")));
    words.extend(options.no_sync.then(|| "no-sync".to_owned()));
    words.extend(options.source_track.map(|track| match track {
        SourceTrack::Rule => "source-track rule".to_owned(),
        SourceTrack::Global => "source-track global".to_owned(),
    }));
    words.extend(options.max_src_states.map(|max| format!("max-src-states {max}")));
    words.extend(options.max_src_conn.map(|max| format!("max-src-conn {max}")));
    words.extend(options.max_src_conn_rate.map(|rate| format!("max-src-conn-rate {rate}")));
    words.extend(options.max_src_nodes.map(|max| format!("max-src-nodes {max}")));
    words.extend(options.overload.as_ref().map(|overload| {
        let flush = match overload.flush {
            Flush::No => "",
            Flush::Rule => " flush",
            Flush::Global => " flush global",
        };
        format!("overload <{}>{flush}", word(&overload.table))
    }));
    words.extend(options.if_bound.then(|| "if-bound".to_owned()));
    words.extend(options.sloppy.then(|| "sloppy".to_owned()));
    words.extend(options.pflow.then(|| "pflow".to_owned()));
    words.extend(options.timeouts.iter().map(|(timeout, value)| format!("{timeout} {value}")));
    put(line, format_args!(" ({})", words.join(", ")));
}

/// Diversion, translation and routing.
fn redirection(line: &mut String, rule: &Rule) {
    match rule.divert {
        None => {}
        Some(Divert::To { addr, port }) => {
            put(line, format_args!(" divert-to {addr} port {port}"));
        }
        Some(Divert::Reply) => line.push_str(" divert-reply"),
        Some(Divert::Packet { port }) => {
            put(line, format_args!(" divert-packet port {port}"));
        }
    }
    if rule.anchor.is_none() {
        match (&rule.nat, &rule.rdr, rule.af_to) {
            (Some(nat), rdr, Some(af)) => {
                put(line, format_args!(" af-to {af} from {}", pool(nat, Some(af), PoolWord::Nat)));
                if let Some(rdr) = rdr {
                    put(line, format_args!(" to {}", pool(rdr, Some(af), PoolWord::Rdr)));
                }
            }
            // A rule with both prints only the first, as in pfctl.
            (Some(nat), _, None) => {
                put(line, format_args!(" nat-to {}", pool(nat, rule.af, PoolWord::Nat)));
            }
            (None, Some(rdr), _) => {
                put(line, format_args!(" rdr-to {}", pool(rdr, rule.af, PoolWord::Rdr)));
            }
            (None, None, _) => {}
        }
    }
    if let Some(route) = &rule.route {
        let name = match route.kind {
            RouteKind::RouteTo => "route-to",
            RouteKind::ReplyTo => "reply-to",
            RouteKind::DupTo => "dup-to",
        };
        put(line, format_args!(" {name} {}", pool(&route.pool, rule.af, PoolWord::Route)));
    }
}

/// A rule with its number in front, as `pfctl -vv -s rules` shows it.
#[must_use]
pub fn rule_numbered(number: usize, shown: &Rule) -> String {
    format!("@{number} {}", rule(shown))
}

/// An address with its negation, as in rules.
#[must_use]
pub fn address(end: &Endpoint) -> String {
    let not = if end.negated { "! " } else { "" };
    format!("{not}{}", addr(&end.addr, None))
}

/// An address in a rule of a family.
pub(crate) fn addr(addr: &AddrMatch, af: Option<Af>) -> String {
    match addr {
        AddrMatch::Any => "any".to_owned(),
        AddrMatch::Net(prefix) => prefix.to_string(),
        AddrMatch::Range(low, high) => format!("{low} - {high}"),
        AddrMatch::Table(name) => format!("<{}>", word(name)),
        AddrMatch::NoRoute => "no-route".to_owned(),
        AddrMatch::UrpfFailed => "urpf-failed".to_owned(),
        AddrMatch::RouteLabel(label) => format!("route {}", quoted(label)),
        AddrMatch::Dynamic(dynamic) => {
            let name = word(&dynamic_name(dynamic));
            let most = if af == Some(Af::Inet) { 32 } else { 128 };
            match dynamic.prefix_len.filter(|&len| len < most) {
                None => format!("({name})"),
                Some(len) => format!("({name})/{len}"),
            }
        }
    }
}

/// Name of a protocol, or its number where it has none.
#[must_use]
pub fn protocol(number: u8) -> String {
    names::protocol_name(number).map_or_else(|| number.to_string(), str::to_owned)
}

fn endpoint(end: &Endpoint, af: Option<Af>) -> String {
    let not = if end.negated { "! " } else { "" };
    let mut text = format!("{not}{}", addr(&end.addr, af));
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
    let (af, word) = if rule.af == Some(Af::Inet6) {
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

/// A name of several words, bare where the parser puts them together again.
fn words(name: &str) -> String {
    let bare = name.split(' ').all(|part| !part.is_empty() && word(part) == part);
    if bare && !name.split(' ').any(is_number) { name.to_owned() } else { quoted(name) }
}

/// Whether the parser takes a word for a number.
fn is_number(word: &str) -> bool {
    word.bytes().all(|octet| octet.is_ascii_digit())
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

/// Appends formatted words.
pub(crate) fn put(text: &mut String, words: std::fmt::Arguments) {
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
