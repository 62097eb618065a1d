//! Prints rules, tables and settings as pfctl does.
//!
//! What is printed can be loaded again and prints the same. Source: OpenBSD
//! sbin/pfctl/pfctl_parser.c `print_rule`, `print_fromto`, `print_tabledef`.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt::Write;

use pfapi::addr::Af;
use pfapi::ruleset::{
    Action, AddrMatch, BlockAnswer, Divert, DynamicAddr, DynamicPart, Endpoint, Flush, Log,
    RouteKind, Rule, SourceTrack, StatePolicy, TcpFlagsMatch, proto,
};

pub use crate::altq::{altq, altq_queue};
use crate::dialect::Dialect;
use crate::digits::{put_ip, put_number, put_port, put_prefix};
use crate::keywords::is_keyword;
use crate::names;
use crate::print_freebsd;
use crate::print_parts::{PoolWord, put_pool, scrub};
pub(crate) use crate::print_parts::{put_entries, syncookies, table_head};
pub use crate::print_parts::{queue, table};
use crate::scan::is_word_char;
use crate::server;
use crate::source::Sources;

/// What a listing shows besides the rules themselves.
#[derive(Clone, Copy, Default)]
pub(crate) struct Form<'a> {
    /// Whose pfctl would print it.
    pub(crate) dialect: Dialect,
    /// Where protocols get their names from; without it they have the usual ones.
    pub(crate) protocols: Option<&'a ProtocolNames<'a>>,
    /// Counts of tables and interfaces, as `-vv` adds them: before a load nothing is known.
    pub(crate) counts: bool,
}

/// A rule as `pfctl -s rules` shows it; the rules of an inline anchor are left out.
///
/// ```
/// use pfapi::ruleset::{Action, Rule};
///
/// let mut rule = Rule::new(Action::Pass);
/// rule.quick = true;
/// rule.proto = Some(6);
/// assert_eq!(pfconf::print::rule(&rule), "pass quick proto tcp all flags any");
/// ```
#[must_use]
pub fn rule(rule: &Rule) -> String {
    let mut line = String::with_capacity(80);
    put_rule(&mut line, rule, Form::default());
    line
}

/// A rule in the form of a dialect.
///
/// ```
/// use pfapi::ruleset::{Action, Rule};
/// use pfconf::{Dialect, print::rule_in};
///
/// let mut rule = Rule::new(Action::Pass);
/// rule.proto = Some(17);
/// assert_eq!(rule_in(&rule, Dialect::OpenBsd), "pass proto udp all");
/// assert_eq!(rule_in(&rule, Dialect::FreeBsd), "pass proto udp all keep state");
/// ```
#[must_use]
pub fn rule_in(rule: &Rule, dialect: Dialect) -> String {
    let mut line = String::with_capacity(80);
    put_rule(&mut line, rule, Form { dialect, ..Form::default() });
    line
}

/// Appends a rule.
pub(crate) fn put_rule(line: &mut String, rule: &Rule, form: Form) {
    if form.dialect.is_freebsd() {
        return print_freebsd::put_rule(line, rule, form);
    }
    head(line, rule, form);
    criteria(line, rule, form);
    set_actions(line, rule);
    state(line, rule);
    if rule.fragment {
        line.push_str(" fragment");
    }
    scrub(line, rule);
    if rule.allow_opts {
        line.push_str(" allow-opts");
    }
    if let Some(label) = &rule.label {
        line.push_str(" label ");
        put_quoted(line, label);
    }
    if rule.once {
        line.push_str(" once");
    }
    if let Some(tag) = &rule.tag {
        line.push_str(" tag ");
        put_words(line, tag, form.dialect);
    }
    if let Some(tagged) = &rule.tagged {
        line.push_str(if tagged.negated { " ! tagged " } else { " tagged " });
        put_words(line, &tagged.name, form.dialect);
    }
    if let Some(rtable) = rule.rare.rtable {
        line.push_str(" rtable ");
        put_number(line, rtable);
    }
    redirection(line, rule, form);
}

/// Appends the line of a rule, as `pfctl -nv` or `pfctl -nvv` prints it; `has_rules`: those of an
/// inline anchor follow.
pub(crate) fn opening(
    text: &mut String,
    shown: &Rule,
    has_rules: bool,
    (number, depth): (usize, usize),
    form: Form,
) {
    if form.counts {
        put(text, format_args!("@{number} "));
    } else {
        indent(text, depth);
    }
    put_rule(text, shown, form);
    text.push_str(if has_rules { " {\n" } else { "\n" });
}

/// Appends the line behind the rules of an inline anchor.
pub(crate) fn closing(text: &mut String, depth: usize) {
    indent(text, depth);
    text.push_str("}\n");
}

pub(crate) fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n("  ", depth));
}

/// Names of protocols on a machine, each asked for once.
pub(crate) struct ProtocolNames<'a> {
    sources: &'a dyn Sources,
    known: Vec<OnceCell<String>>,
}

impl<'a> ProtocolNames<'a> {
    pub(crate) fn new(sources: &'a dyn Sources) -> Self {
        Self { sources, known: vec![OnceCell::new(); 256] }
    }

    fn of(&self, number: u8) -> &str {
        self.known[usize::from(number)].get_or_init(|| protocol_on(number, self.sources))
    }
}

/// Name of a protocol on a machine, or its number where it has none.
pub(crate) fn protocol_on(number: u8, sources: &dyn Sources) -> String {
    sources.protocol_name(number).unwrap_or_else(|| number.to_string())
}

/// `interface:modifiers` of a dynamic address.
fn dynamic_name(dynamic: &DynamicAddr) -> Cow<'_, str> {
    let part = match dynamic.part {
        DynamicPart::Address => "",
        DynamicPart::Network => ":network",
        DynamicPart::Broadcast => ":broadcast",
        DynamicPart::Peer => ":peer",
    };
    let aliases = if dynamic.no_aliases { ":0" } else { "" };
    if part.is_empty() && aliases.is_empty() {
        return Cow::Borrowed(&dynamic.interface);
    }
    Cow::Owned(format!("{}{part}{aliases}", dynamic.interface))
}

/// From the action to the protocol.
fn head(line: &mut String, rule: &Rule, form: Form) {
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
            block_answer(line, answer, rule.af, form.dialect);
        }
    }
    if let Some(direction) = rule.direction {
        line.push_str(match direction {
            pfapi::units::Direction::In => " in",
            pfapi::units::Direction::Out => " out",
        });
    }
    if let Some(log) = rule.log {
        log_words(line, log);
    }
    if rule.quick {
        line.push_str(" quick");
    }
    if let Some(interface) = &rule.interface {
        line.push_str(if interface.negated { " on ! " } else { " on " });
        put_interface(line, &interface.name, form.dialect);
    }
    if let Some(rdomain) = rule.rare.rdomain {
        let not = if rdomain.negated { "! " } else { "" };
        put(line, format_args!(" on {not}rdomain {}", rdomain.id));
    }
    match rule.af {
        None => {}
        Some(Af::Inet) => line.push_str(" inet"),
        Some(Af::Inet6) => line.push_str(" inet6"),
    }
    protocol_word(line, rule, form);
}

pub(crate) fn protocol_word(line: &mut String, rule: &Rule, form: Form) {
    if let Some(number) = rule.proto {
        line.push_str(" proto ");
        match form.protocols {
            None => put_protocol(line, number),
            Some(names) => line.push_str(names.of(number)),
        }
    }
}

fn put_protocol(line: &mut String, number: u8) {
    match names::protocol_name(number) {
        Some(name) => line.push_str(name),
        None => put_number(line, number),
    }
}

pub(crate) fn put_interface(line: &mut String, name: &str, dialect: Dialect) {
    match name {
        "any" => line.push_str(name),
        _ if is_number(name) => put_quoted(line, name),
        _ => put_word(line, name, dialect),
    }
}

/// Words between brackets, with commas between them.
struct Listed<'l> {
    line: &'l mut String,
    open: &'static str,
    any: bool,
}

impl<'l> Listed<'l> {
    /// `open` stands in front of the first word.
    const fn new(line: &'l mut String, open: &'static str) -> Self {
        Self { line, open, any: false }
    }

    /// The line, to append the next word to.
    fn next(&mut self) -> &mut String {
        self.line.push_str(if self.any { ", " } else { self.open });
        self.any = true;
        self.line
    }

    fn word(&mut self, given: bool, word: &str) {
        if given {
            self.next().push_str(word);
        }
    }

    fn number(&mut self, word: &str, number: Option<impl Into<u32>>) {
        if let Some(number) = number {
            let line = self.next();
            line.push_str(word);
            put_number(line, number);
        }
    }

    /// Closes the bracket, if there was a word.
    fn close(self) {
        if self.any {
            self.line.push(')');
        }
    }
}

pub(crate) fn log_words(line: &mut String, log: Log) {
    line.push_str(" log");
    let mut words = Listed::new(line, " (");
    words.word(log.all, "all");
    words.word(log.matches, "matches");
    words.word(log.user, "user");
    words.number("to pflog", Some(log.interface).filter(|&number| number > 0));
    words.close();
}

/// From the addresses to `max-pkt-size`.
pub(crate) fn criteria(line: &mut String, rule: &Rule, form: Form) {
    if rule.from == Endpoint::default() && rule.to == Endpoint::default() && rule.rare.os.is_none()
    {
        line.push_str(" all");
    } else {
        line.push_str(" from ");
        endpoint(line, &rule.from, rule.af, form);
        if let Some(os) = &rule.rare.os {
            put(line, format_args!(" os \"{os}\""));
        }
        line.push_str(" to ");
        endpoint(line, &rule.to, rule.af, form);
    }
    if let Some(interface) = &rule.rare.received_on {
        line.push_str(if interface.negated { " !received-on " } else { " received-on " });
        put_interface(line, &interface.name, form.dialect);
    }
    if let Some(user) = rule.rare.user {
        put(line, format_args!(" user {user}"));
    }
    if let Some(group) = rule.rare.group {
        put(line, format_args!(" group {group}"));
    }
    if let Some(flags) = rule.flags.filter(|flags| flags.want != 0 || flags.mask != 0) {
        if flags == TcpFlagsMatch::S_SA {
            line.push_str(" flags S/SA");
        } else {
            put(line, format_args!(" flags {flags}"));
        }
    } else if rule.kind.is_filter()
        && rule.state != StatePolicy::None
        && rule.proto.is_none_or(|number| number == proto::TCP)
        && !rule.fragment
        && rule.anchor.is_none()
        && !matches!(rule.action, Action::Block(_))
    {
        line.push_str(" flags any");
    }
    icmp(line, rule, form.dialect);
    if let Some(tos) = rule.tos {
        put(line, format_args!(" tos 0x{tos:02x}"));
    }
    if let Some(prio) = rule.prio {
        put(line, format_args!(" prio {prio}"));
    }
    if let Some(rate) = rule.rare.max_pkt_rate {
        put(line, format_args!(" max-pkt-rate {rate}"));
    }
    if let Some(size) = rule.freebsd.max_pkt_size {
        put(line, format_args!(" max-pkt-size {size}"));
    }
}

fn set_actions(line: &mut String, rule: &Rule) {
    let mut words = Listed::new(line, " set (");
    if let Some((prio, fast)) = rule.set.prio {
        let line = words.next();
        if prio == fast {
            put(line, format_args!("prio {prio}"));
        } else {
            put(line, format_args!("prio({prio}, {fast})"));
        }
    }
    if let Some((queue, fast)) = &rule.set.queue {
        let line = words.next();
        match fast {
            None => put(line, format_args!("queue {}", word(queue, Dialect::OpenBsd))),
            Some(fast) => put(
                line,
                format_args!(
                    "queue({}, {})",
                    word(queue, Dialect::OpenBsd),
                    word(fast, Dialect::OpenBsd)
                ),
            ),
        }
    }
    if let Some(tos) = rule.set.tos {
        put(words.next(), format_args!("tos 0x{tos:02x}"));
    }
    words.number("delay ", rule.set.delay);
    words.close();
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
    probability(line, rule);
    state_options(line, rule, Dialect::OpenBsd);
}

/// The share of packets that a rule matches.
pub(crate) fn probability(line: &mut String, rule: &Rule) {
    if let Some(share) = rule.rare.probability {
        let percent = format!("{:.6}", f64::from(share) * 100.0 / 4_294_967_296.0);
        let percent = percent.trim_end_matches('0').trim_end_matches('.');
        put(line, format_args!(" probability {percent}%"));
    }
}

/// The options of the state.
pub(crate) fn state_options(line: &mut String, rule: &Rule, dialect: Dialect) {
    let options = &rule.state_options;
    let mut words = Listed::new(line, " (");
    words.number("max ", options.max);
    words.word(options.no_sync, "no-sync");
    match options.source_track {
        None => {}
        Some(SourceTrack::Rule) => words.word(true, "source-track rule"),
        Some(SourceTrack::Global) => words.word(true, "source-track global"),
    }
    words.number("max-src-states ", options.max_src_states);
    words.number("max-src-conn ", options.max_src_conn);
    if let Some(rate) = options.max_src_conn_rate {
        put(words.next(), format_args!("max-src-conn-rate {rate}"));
    }
    words.number("max-src-nodes ", options.max_src_nodes);
    if let Some(overload) = &options.overload {
        let flush = match overload.flush {
            Flush::No => "",
            Flush::Rule => " flush",
            Flush::Global => " flush global",
        };
        put(words.next(), format_args!("overload <{}>{flush}", word(&overload.table, dialect)));
    }
    words.word(options.if_bound, "if-bound");
    words.word(options.sloppy, "sloppy");
    words.word(options.pflow, "pflow");
    words.word(options.allow_related, "allow-related");
    if options.syncookies.is_some() || options.server.is_some() {
        let line = words.next();
        line.push_str("syncookies");
        if let Some(policy) = options.syncookies {
            put(line, format_args!(" {}", policy.name()));
        }
        if let Some(server) = &options.server {
            put(line, format_args!(" ({})", server::words(server)));
        }
    }
    for (timeout, value) in &options.timeouts {
        put(words.next(), format_args!("{timeout} {value}"));
    }
    words.close();
}

/// Diversion, translation and routing.
fn redirection(line: &mut String, rule: &Rule, form: Form) {
    match rule.rare.divert {
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
                put(line, format_args!(" af-to {af} from "));
                put_pool(line, nat, Some(af), PoolWord::Nat, form);
                if let Some(rdr) = rdr {
                    line.push_str(" to ");
                    put_pool(line, rdr, Some(af), PoolWord::Rdr, form);
                }
            }
            // A rule with both prints only the first, as in pfctl.
            (Some(nat), _, None) => {
                line.push_str(" nat-to ");
                put_pool(line, nat, rule.af, PoolWord::Nat, form);
            }
            (None, Some(rdr), _) => {
                line.push_str(" rdr-to ");
                put_pool(line, rdr, rule.af, PoolWord::Rdr, form);
            }
            (None, None, _) => {}
        }
    }
    if let Some(route) = &rule.route {
        line.push_str(match route.kind {
            RouteKind::RouteTo => " route-to ",
            RouteKind::ReplyTo => " reply-to ",
            RouteKind::DupTo => " dup-to ",
        });
        put_pool(line, &route.pool, rule.af, PoolWord::Route, form);
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
    let mut text = String::from(if end.negated { "! " } else { "" });
    put_addr(&mut text, &end.addr, None, Form::default());
    text
}

/// Appends an address in a rule of a family.
pub(crate) fn put_addr(text: &mut String, addr: &AddrMatch, af: Option<Af>, form: Form) {
    match addr {
        AddrMatch::Any => text.push_str("any"),
        AddrMatch::Net(prefix) => put_prefix(text, *prefix),
        AddrMatch::Range(ends) => {
            let (low, high) = **ends;
            put_ip(text, low);
            text.push_str(" - ");
            put_ip(text, high);
        }
        AddrMatch::Table(name) => {
            text.push('<');
            if form.counts {
                put_word(text, &format!("{name}:0"), form.dialect);
            } else {
                put_word(text, name, form.dialect);
            }
            text.push('>');
        }
        AddrMatch::NoRoute => text.push_str("no-route"),
        AddrMatch::UrpfFailed => text.push_str("urpf-failed"),
        AddrMatch::RouteLabel(label) => {
            text.push_str("route ");
            put_quoted(text, label);
        }
        AddrMatch::Dynamic(dynamic) => {
            let name = dynamic_name(dynamic);
            text.push('(');
            if form.counts {
                put_word(text, &format!("{name}:*"), form.dialect);
            } else {
                put_word(text, &name, form.dialect);
            }
            text.push(')');
            let most = if af == Some(Af::Inet) { 32 } else { 128 };
            if let Some(len) = dynamic.prefix_len.filter(|&len| len < most) {
                text.push('/');
                put_number(text, len);
            }
        }
    }
}

/// Name of a protocol, or its number where it has none.
#[must_use]
pub fn protocol(number: u8) -> String {
    let mut text = String::new();
    put_protocol(&mut text, number);
    text
}

fn endpoint(text: &mut String, end: &Endpoint, af: Option<Af>, form: Form) {
    if end.negated {
        text.push_str("! ");
    }
    put_addr(text, &end.addr, af, form);
    if let Some(port) = end.port {
        text.push_str(" port ");
        put_port(text, port);
    }
}

pub(crate) fn block_answer(
    line: &mut String,
    answer: BlockAnswer,
    af: Option<Af>,
    dialect: Dialect,
) {
    let name = |line: &mut String, af, code: u8| {
        let unreachable = if af == Af::Inet6 { 1 } else { 3 };
        put_named(line, code_name(af, unreachable, code, dialect), code);
    };
    match answer {
        BlockAnswer::Drop => line.push_str(" drop"),
        BlockAnswer::Return => line.push_str(" return"),
        BlockAnswer::ReturnRst { ttl: None } => line.push_str(" return-rst"),
        BlockAnswer::ReturnRst { ttl: Some(ttl) } => {
            put(line, format_args!(" return-rst(ttl {ttl})"));
        }
        BlockAnswer::ReturnIcmp { code, code6 } => {
            line.push_str(if af == Some(Af::Inet6) { " return-icmp6(" } else { " return-icmp(" });
            if af != Some(Af::Inet6) {
                name(line, Af::Inet, code);
            }
            if af.is_none() {
                line.push_str(", ");
            }
            if af != Some(Af::Inet) {
                name(line, Af::Inet6, code6);
            }
            line.push(')');
        }
    }
}

fn code_name(af: Af, icmp_type: u8, code: u8, dialect: Dialect) -> Option<&'static str> {
    match dialect {
        Dialect::OpenBsd => names::icmp_code_name(af, icmp_type, code),
        Dialect::FreeBsd | Dialect::MacOs => names::icmp_code_name_freebsd(af, icmp_type, code),
    }
}

fn put_named(line: &mut String, name: Option<&str>, number: u8) {
    match name {
        Some(name) => line.push_str(name),
        None => put_number(line, number),
    }
}

fn icmp(line: &mut String, rule: &Rule, dialect: Dialect) {
    let Some(icmp) = rule.icmp else { return };
    let (af, word) = if rule.af == Some(Af::Inet6) {
        (Af::Inet6, " icmp6-type ")
    } else {
        (Af::Inet, " icmp-type ")
    };
    let icmp_type = icmp.icmp_type;
    line.push_str(word);
    put_named(line, names::icmp_type_name(af, icmp_type), icmp_type);
    if let Some(code) = icmp.code {
        line.push_str(" code ");
        put_named(line, code_name(af, icmp_type, code, dialect), code);
    }
}

/// A name, in quotes where the parser would not take it bare.
pub(crate) fn word(name: &str, dialect: Dialect) -> Cow<'_, str> {
    let starts = name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_');
    // Outside quotes a backslash would be lost.
    let is_kept = |sign: char| is_word_char(sign) && sign != '\\';
    let plain = starts && name.chars().all(is_kept) && !is_keyword(name, dialect);
    if plain { Cow::Borrowed(name) } else { Cow::Owned(quoted(name)) }
}

pub(crate) fn put_word(line: &mut String, name: &str, dialect: Dialect) {
    line.push_str(&word(name, dialect));
}

/// Appends a name of several words, bare where the parser puts them together again.
pub(crate) fn put_words(line: &mut String, name: &str, dialect: Dialect) {
    let plain = |part: &str| !part.is_empty() && matches!(word(part, dialect), Cow::Borrowed(_));
    let bare = name.split(' ').all(plain);
    if bare && !name.split(' ').any(is_number) {
        line.push_str(name);
    } else {
        put_quoted(line, name);
    }
}

/// Whether the parser takes a word for a number.
fn is_number(word: &str) -> bool {
    word.bytes().all(|octet| octet.is_ascii_digit())
}

/// In quotes that the parser takes off again.
pub(crate) fn quoted(text: &str) -> String {
    let mut line = String::with_capacity(text.len() + 2);
    put_quoted(&mut line, text);
    line
}

pub(crate) fn put_quoted(line: &mut String, text: &str) {
    if text.ends_with('\\') {
        return put_bare_end(line, text);
    }
    line.push('"');
    let mut before = None;
    for character in text.chars() {
        let escapes = before == Some('\\') && matches!(character, ' ' | '\t');
        if character == '"' || escapes {
            line.push('\\');
        }
        line.push(character);
        before = Some(character);
    }
    line.push('"');
}

/// Appends a text that ends in a backslash. No quoted string can, so its last word was given bare.
fn put_bare_end(line: &mut String, text: &str) {
    let last = text.rfind(' ').map_or(0, |blank| blank + 1);
    if let Some(front) = text[..last].strip_suffix(' ') {
        put_quoted(line, front);
        line.push(' ');
    }
    line.push_str(&text[last..].replace('\\', "\\\\"));
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
        shown.interface = Some(InterfaceMatch { negated: true, name: "em0".into() }.into());
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
