//! Prints rules as pfctl of FreeBSD does.
//!
//! Ports are numbers here; [`crate::name_ports`] puts names in their place. Source: FreeBSD
//! sbin/pfctl/pfctl_parser.c `print_rule`, `print_fromto`, `print_pool`.

use std::fmt::Write;

use pfapi::addr::Af;
use pfapi::ruleset::{
    Action, AddrMatch, Divert, Endpoint, Log, Pool, PoolPorts, RouteKind, Rule, RuleKind, Scrub,
    StatePolicy, proto,
};
use pfapi::units::Direction;

use crate::dialect::Dialect;
use crate::print::{
    addr_in, block_answer, icmp, interface_word, percent, protocol, put, quoted, state_options,
    word_in, words,
};
use crate::print_parts::pool_kind;

const FREEBSD: Dialect = Dialect::FreeBsd;

/// A rule as `pfctl -s rules` or `pfctl -s nat` shows it; the rules of an inline anchor are left
/// out.
pub(crate) fn rule(rule: &Rule) -> String {
    let mut line = String::with_capacity(80);
    head(&mut line, rule);
    criteria(&mut line, rule);
    set_actions(&mut line, rule);
    state(&mut line, rule);
    if rule.fragment {
        line.push_str(" fragment");
    }
    scrub(&mut line, rule);
    names(&mut line, rule);
    redirection(&mut line, rule);
    line
}

/// From the action to the protocol.
fn head(line: &mut String, rule: &Rule) {
    action(line, rule);
    if let Some(direction) = rule.direction {
        line.push_str(match direction {
            Direction::In => " in",
            Direction::Out => " out",
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
        put(line, format_args!(" on {not}{}", interface_word(&interface.name, FREEBSD)));
    }
    if let Some(route) = &rule.route {
        let name = match route.kind {
            RouteKind::RouteTo => "route-to",
            RouteKind::ReplyTo => "reply-to",
            RouteKind::DupTo => "dup-to",
        };
        put(line, format_args!(" {name} {}", pool(&route.pool, rule.af, RuleKind::Filter)));
    }
    if let Some(af) = rule.af {
        put(line, format_args!(" {af}"));
    }
    if let Some(number) = rule.proto {
        put(line, format_args!(" proto {}", protocol(number)));
    }
}

fn action(line: &mut String, rule: &Rule) {
    let kind = rule.kind.word();
    if let Some(anchor) = &rule.anchor {
        let dash = if rule.kind.is_filter() { "" } else { "-" };
        put(line, format_args!("{kind}{dash}anchor"));
        if !anchor.path.starts_with('_') {
            put(line, format_args!(" \"{}\"", anchor.path));
        }
        return;
    }
    if rule.except {
        line.push_str("no ");
    }
    match (rule.kind, rule.action) {
        (RuleKind::Filter, Action::Pass) => line.push_str("pass"),
        (RuleKind::Filter, Action::Match) => line.push_str("match"),
        (RuleKind::Filter, Action::Block(answer)) => {
            line.push_str("block");
            line.push_str(&block_answer(answer, rule.af));
        }
        _ => line.push_str(kind),
    }
    if rule.translate_pass {
        line.push_str(" pass");
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

/// From the addresses to `max-pkt-size`.
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
        let name = interface_word(&interface.name, FREEBSD);
        put(line, format_args!(" {not}received-on {name}"));
    }
    if let Some(user) = rule.user {
        put(line, format_args!(" user {user}"));
    }
    if let Some(group) = rule.group {
        put(line, format_args!(" group {group}"));
    }
    if let Some(flags) = rule.flags.filter(|flags| flags.want != 0 || flags.mask != 0) {
        put(line, format_args!(" flags {flags}"));
    } else if rule.kind.is_filter()
        && rule.state != StatePolicy::None
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
    if let Some(size) = rule.max_pkt_size {
        put(line, format_args!(" max-pkt-size {size}"));
    }
}

fn endpoint(end: &Endpoint, af: Option<Af>) -> String {
    let not = if end.negated { "! " } else { "" };
    let mut text = format!("{not}{}", addr_in(&end.addr, af, FREEBSD));
    if let Some(port) = end.port {
        put(&mut text, format_args!(" port {port}"));
    }
    text
}

fn set_actions(line: &mut String, rule: &Rule) {
    // `queue` stands behind the labels here.
    if let Some((prio, fast)) = rule.set.prio {
        if prio == fast {
            put(line, format_args!(" set ( prio {prio} )"));
        } else {
            put(line, format_args!(" set ( prio({prio}, {fast}) )"));
        }
    }
}

/// State, probability, and the options of the state.
fn state(line: &mut String, rule: &Rule) {
    if rule.kind.is_filter() {
        match rule.state {
            StatePolicy::None if rule.action == Action::Pass && rule.anchor.is_none() => {
                line.push_str(" no state");
            }
            StatePolicy::None => {}
            StatePolicy::Keep => line.push_str(" keep state"),
            StatePolicy::Modulate => line.push_str(" modulate state"),
            StatePolicy::Synproxy => line.push_str(" synproxy state"),
        }
    }
    if let Some(share) = rule.probability {
        put(line, format_args!(" probability {}%", percent(share)));
    }
    if !rule.state_options.is_empty() {
        put(line, format_args!(" ({})", state_options(&rule.state_options, FREEBSD)));
    }
}

/// How packets are cleaned, in a `scrub` rule or by the option `scrub`.
fn scrub(line: &mut String, rule: &Rule) {
    let Scrub { no_df, random_id, min_ttl, reassemble_tcp, max_mss, set_tos, keep_fragments } =
        rule.scrub;
    let mut words = Vec::new();
    words.extend(no_df.then(|| "no-df".to_owned()));
    words.extend(random_id.then(|| "random-id".to_owned()));
    words.extend((min_ttl > 0).then(|| format!("min-ttl {min_ttl}")));
    words.extend((max_mss > 0).then(|| format!("max-mss {max_mss}")));
    words.extend(set_tos.map(|tos| format!("set-tos 0x{tos:02x}")));
    if rule.kind != RuleKind::Scrub {
        words.extend(reassemble_tcp.then(|| "reassemble tcp".to_owned()));
        if !words.is_empty() {
            put(line, format_args!(" scrub ({})", words.join(" ")));
        }
    }
    for word in words.iter().filter(|_| rule.kind == RuleKind::Scrub) {
        put(line, format_args!(" {word}"));
    }
    if rule.allow_opts {
        line.push_str(" allow-opts");
    }
    if rule.kind == RuleKind::Scrub && !rule.except {
        if reassemble_tcp {
            line.push_str(" reassemble tcp");
        }
        line.push_str(if keep_fragments {
            " fragment no reassemble"
        } else {
            " fragment reassemble"
        });
    }
}

/// From the labels to `divert-to`.
fn names(line: &mut String, rule: &Rule) {
    for label in rule.label.iter().chain(&rule.more_labels) {
        put(line, format_args!(" label {}", quoted(label)));
    }
    if let Some(number) = rule.ridentifier {
        put(line, format_args!(" ridentifier {number}"));
    }
    if rule.once {
        line.push_str(" once");
    }
    match &rule.set.queue {
        None => {}
        Some((queue, None)) => put(line, format_args!(" queue {}", word_in(queue, FREEBSD))),
        Some((queue, Some(fast))) => {
            let (queue, fast) = (word_in(queue, FREEBSD), word_in(fast, FREEBSD));
            put(line, format_args!(" queue({queue}, {fast})"));
        }
    }
    if let Some(tag) = &rule.tag {
        put(line, format_args!(" tag {}", words(tag, FREEBSD)));
    }
    if let Some(tagged) = &rule.tagged {
        let not = if tagged.negated { "!" } else { "" };
        put(line, format_args!(" {not}tagged {}", words(&tagged.name, FREEBSD)));
    }
    if let Some(rtable) = rule.rtable {
        put(line, format_args!(" rtable {rtable}"));
    }
    match rule.divert {
        None => {}
        Some(Divert::To { port, .. } | Divert::Packet { port }) => {
            put(line, format_args!(" divert-to {port}"));
        }
        Some(Divert::Reply) => line.push_str(" divert-reply"),
    }
}

/// Where packets are sent instead.
fn redirection(line: &mut String, rule: &Rule) {
    if rule.anchor.is_some() {
        return;
    }
    let target = |of: &Option<Pool>, kind| {
        of.as_ref().map(|found| pool(found, rule.af_to.or(rule.af), kind)).unwrap_or_default()
    };
    match rule.kind {
        RuleKind::Filter => {
            if let Some(af) = rule.af_to {
                put(line, format_args!(" af-to {af} from {}", target(&rule.nat, RuleKind::Nat)));
                if rule.rdr.is_some() {
                    put(line, format_args!(" to {}", target(&rule.rdr, RuleKind::Rdr)));
                }
                return;
            }
            if rule.nat.is_some() {
                put(line, format_args!(" nat-to {}", target(&rule.nat, RuleKind::Nat)));
            }
            if rule.rdr.is_some() {
                put(line, format_args!(" rdr-to {}", target(&rule.rdr, RuleKind::Rdr)));
            }
        }
        RuleKind::Scrub => {}
        _ if rule.except => {}
        RuleKind::Rdr => put(line, format_args!(" -> {}", target(&rule.rdr, RuleKind::Rdr))),
        kind => put(line, format_args!(" -> {}", target(&rule.nat, kind))),
    }
}

/// A pool: of next hops where `kind` is that of rules that filter.
fn pool(pool: &Pool, af: Option<Af>, kind: RuleKind) -> String {
    let more = pool.more.iter().map(|member| (&member.addr, &member.via));
    let members: Vec<String> = std::iter::once((&pool.addr, &pool.via))
        .chain(more)
        .map(|(addr, via)| match (addr, via) {
            (addr, None) => addr_in(addr, af, FREEBSD),
            (AddrMatch::Any, Some(via)) => word_in(via, FREEBSD),
            (addr, Some(via)) => {
                format!("({} {})", word_in(via, FREEBSD), addr_in(addr, af, FREEBSD))
            }
        })
        .collect();
    let mut text = match members.as_slice() {
        [one] => one.clone(),
        many => format!("{{ {} }}", many.join(", ")),
    };
    match (kind, pool.ports) {
        (RuleKind::Nat, Some(ports)) if ports == PoolPorts::NAT_DEFAULT => {}
        (RuleKind::Nat, Some(PoolPorts::Range(low, high))) if low == high => {
            put(&mut text, format_args!(" port {low}"));
        }
        (RuleKind::Nat, Some(PoolPorts::Range(low, high))) => {
            put(&mut text, format_args!(" port {low}:{high}"));
        }
        (RuleKind::Rdr, Some(PoolPorts::Range(low, high))) if low > 0 => {
            put(&mut text, format_args!(" port {low}"));
            if high > 0 && high != low {
                put(&mut text, format_args!(":{high}"));
            }
        }
        _ => {}
    }
    text.push_str(&pool_kind(pool.kind));
    if pool.sticky {
        text.push_str(" sticky-address");
    }
    if pool.endpoint_independent {
        text.push_str(" endpoint-independent");
    }
    if kind == RuleKind::Nat && pool.ports == Some(PoolPorts::Static) {
        text.push_str(" static-port");
    }
    if let Some(PoolPorts::MapE { offset, len, psid }) = pool.ports {
        let _ = write!(text, " map-e-portset {offset}/{len}/{psid}");
    }
    if pool.prefer_ipv6_nexthop {
        text.push_str(" prefer-ipv6-nexthop");
    }
    text
}
