//! Prints rules as pfctl of FreeBSD does.
//!
//! Ports are numbers here; [`crate::name_ports`] puts names in their place. Source: FreeBSD
//! sbin/pfctl/pfctl_parser.c `print_rule`, `print_fromto`, `print_pool`.

use pfapi::addr::Af;
use pfapi::ruleset::{
    Action, AddrMatch, Divert, LimiterUse, Pool, PoolPorts, RouteKind, Rule, RuleKind, Scrub,
    StatePolicy,
};
use pfapi::units::Direction;

use crate::dialect::Dialect;
use crate::digits::put_number;
use crate::print::{
    Form, block_answer, criteria, log_words, probability, protocol_word, put, put_addr,
    put_interface, put_quoted, put_word, put_words, state_options,
};
use crate::print_parts::pool_kind;

const FREEBSD: Dialect = Dialect::FreeBsd;

/// Appends a rule as `pfctl -s rules` or `pfctl -s nat` shows it; the rules of an inline anchor
/// are left out.
pub(crate) fn put_rule(line: &mut String, rule: &Rule, form: Form) {
    head(line, rule, form);
    criteria(line, rule, form);
    set_actions(line, rule);
    state(line, rule);
    if rule.allow_opts {
        line.push_str(" allow-opts");
    }
    if rule.fragment {
        line.push_str(" fragment");
    }
    scrub(line, rule);
    names(line, rule);
    redirection(line, rule, form);
}

/// From the action to the protocol.
fn head(line: &mut String, rule: &Rule, form: Form) {
    action(line, rule, form.dialect);
    if let Some(direction) = rule.direction {
        line.push_str(match direction {
            Direction::In => " in",
            Direction::Out => " out",
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
        put_interface(line, &interface.name, FREEBSD);
    }
    if let Some(route) = &rule.route {
        line.push_str(match route.kind {
            RouteKind::RouteTo => " route-to ",
            RouteKind::ReplyTo => " reply-to ",
            RouteKind::DupTo => " dup-to ",
        });
        pool(line, &route.pool, rule.af, RuleKind::Filter, form);
    }
    match rule.af {
        None => {}
        Some(Af::Inet) => line.push_str(" inet"),
        Some(Af::Inet6) => line.push_str(" inet6"),
    }
    protocol_word(line, rule, form);
}

fn action(line: &mut String, rule: &Rule, dialect: Dialect) {
    let kind = rule.kind.word();
    if let Some(anchor) = &rule.anchor {
        line.push_str(kind);
        line.push_str(if rule.kind.is_filter() { "anchor" } else { "-anchor" });
        // As in FreeBSD's pfctl, of a path only the end is shown, with its slash; macOS shows it all.
        let slash = anchor.path.rfind('/').filter(|_| dialect == Dialect::FreeBsd);
        let path = slash.map_or(&*anchor.path, |slash| &anchor.path[slash..]);
        if !path.trim_start_matches('/').starts_with('_') {
            put(line, format_args!(" \"{path}\""));
        }
        return;
    }
    if rule.freebsd.except {
        line.push_str("no ");
    }
    match (rule.kind, rule.action) {
        (RuleKind::Filter, Action::Pass) => line.push_str("pass"),
        (RuleKind::Filter, Action::Match) => line.push_str("match"),
        (RuleKind::Filter, Action::Block(answer)) => {
            line.push_str("block");
            block_answer(line, answer, rule.af, FREEBSD);
        }
        _ => line.push_str(kind),
    }
    if rule.freebsd.translate_pass {
        line.push_str(" pass");
    }
}

/// What is written onto packets; `queue` stands behind the labels here.
fn set_actions(line: &mut String, rule: &Rule) {
    let prio = rule.set.prio.map(|(prio, fast)| {
        if prio == fast { format!("prio {prio}") } else { format!("prio({prio}, {fast})") }
    });
    let tos = rule.set.tos.map(|tos| format!("tos 0x{tos:02x}"));
    let words: Vec<String> = prio.into_iter().chain(tos).collect();
    if !words.is_empty() {
        put(line, format_args!(" set ( {} )", words.join(", ")));
    }
}

/// State, probability, limiters, and the options of the state.
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
    probability(line, rule);
    let limiters =
        [("state", &rule.freebsd.state_limiter), ("source", &rule.freebsd.source_limiter)];
    for (kind, used) in limiters {
        if let Some(LimiterUse { id, block, .. }) = used {
            let action = if *block { "block" } else { "no-match" };
            put(line, format_args!(" {kind} limiter id {id} ({action})"));
        }
    }
    state_options(line, rule, FREEBSD);
}

/// How packets are cleaned, in a `scrub` rule or by the option `scrub`.
fn scrub(line: &mut String, rule: &Rule) {
    let Scrub { no_df, random_id, min_ttl, reassemble_tcp, max_mss, set_tos, keep_fragments } =
        rule.scrub;
    let cleans = rule.kind == RuleKind::Scrub;
    let no_df = no_df.then(|| "no-df".to_owned());
    let random_id = random_id.then(|| "random-id".to_owned());
    let min_ttl = (min_ttl > 0).then(|| format!("min-ttl {min_ttl}"));
    let max_mss = (max_mss > 0).then(|| format!("max-mss {max_mss}"));
    let reassemble = reassemble_tcp.then(|| "reassemble tcp".to_owned());
    if cleans {
        let set_tos = set_tos.map(|tos| format!("set-tos 0x{tos:02x}"));
        let fragments = (!rule.freebsd.except).then(|| {
            if keep_fragments { "fragment no reassemble" } else { "fragment reassemble" }.to_owned()
        });
        let reassemble = reassemble.filter(|_| !rule.freebsd.except);
        let words = [no_df, random_id, min_ttl, max_mss, set_tos, reassemble, fragments];
        for word in words.into_iter().flatten() {
            put(line, format_args!(" {word}"));
        }
        return;
    }
    if [&no_df, &random_id, &min_ttl, &reassemble, &max_mss].iter().all(|word| word.is_none()) {
        return;
    }
    // `set tos` and `set-tos` are one thing, and shown twice.
    let set_tos = rule.set.tos.map(|tos| format!("set-tos 0x{tos:02x}"));
    line.push_str(" scrub(");
    for word in [no_df, random_id, min_ttl, set_tos, reassemble, max_mss].into_iter().flatten() {
        put(line, format_args!(" {word}"));
    }
    line.push(')');
}

/// From the labels to `divert-to`.
fn names(line: &mut String, rule: &Rule) {
    for label in rule.labels() {
        line.push_str(" label ");
        put_quoted(line, label);
    }
    if let Some(number) = rule.freebsd.ridentifier {
        line.push_str(" ridentifier ");
        put_number(line, number);
    }
    if let Some(dummynet) = rule.freebsd.dummynet {
        put(line, format_args!(" {dummynet}"));
    }
    if rule.once {
        line.push_str(" once");
    }
    match &rule.set.queue {
        None => {}
        Some((queue, None)) => {
            line.push_str(" queue ");
            put_word(line, queue, FREEBSD);
        }
        Some((queue, Some(fast))) => {
            line.push_str(" queue(");
            put_word(line, queue, FREEBSD);
            line.push_str(", ");
            put_word(line, fast, FREEBSD);
            line.push(')');
        }
    }
    if let Some(tag) = &rule.tag {
        line.push_str(" tag ");
        put_words(line, tag, FREEBSD);
    }
    if let Some(tagged) = &rule.tagged {
        line.push_str(if tagged.negated { " ! tagged " } else { " tagged " });
        put_words(line, &tagged.name, FREEBSD);
    }
    if let Some(rtable) = rule.rare.rtable {
        line.push_str(" rtable ");
        put_number(line, rtable);
    }
    match rule.rare.divert {
        None => {}
        Some(Divert::To { port, .. } | Divert::Packet { port }) => {
            line.push_str(" divert-to ");
            put_number(line, port);
        }
        Some(Divert::Reply) => line.push_str(" divert-reply"),
    }
}

/// Where packets are sent instead.
fn redirection(line: &mut String, rule: &Rule, form: Form) {
    if rule.anchor.is_some() || rule.freebsd.except {
        return;
    }
    let af = rule.af_to.or(rule.af);
    let words = match (rule.kind, rule.af_to) {
        (RuleKind::Filter, Some(Af::Inet)) => (" af-to inet from ", " to "),
        (RuleKind::Filter, Some(Af::Inet6)) => (" af-to inet6 from ", " to "),
        (RuleKind::Filter, None) => (" nat-to ", " rdr-to "),
        _ => (" -> ", " -> "),
    };
    if let Some(nat) = &rule.nat {
        line.push_str(words.0);
        let kind = if rule.kind == RuleKind::Binat { RuleKind::Binat } else { RuleKind::Nat };
        pool(line, nat, af, kind, form);
    }
    if let Some(rdr) = &rule.rdr {
        line.push_str(words.1);
        pool(line, rdr, af, RuleKind::Rdr, form);
    }
}

/// A pool: of next hops where `kind` is that of rules that filter.
fn pool(line: &mut String, pool: &Pool, af: Option<Af>, kind: RuleKind, form: Form) {
    if !pool.more.is_empty() {
        line.push_str("{ ");
    }
    member(line, &pool.addr, pool.via.as_deref(), af, form);
    for next in &pool.more {
        line.push_str(", ");
        member(line, &next.addr, next.via.as_deref(), af, form);
    }
    if !pool.more.is_empty() {
        line.push_str(" }");
    }
    match (kind, pool.ports) {
        (RuleKind::Nat, Some(ports)) if ports == PoolPorts::NAT_DEFAULT => {}
        (RuleKind::Nat, Some(PoolPorts::Range(low, high))) if low == high => {
            put(line, format_args!(" port {low}"));
        }
        (RuleKind::Nat, Some(PoolPorts::Range(low, high))) => {
            put(line, format_args!(" port {low}:{high}"));
        }
        (RuleKind::Rdr, Some(PoolPorts::Range(low, high))) if low > 0 => {
            put(line, format_args!(" port {low}"));
            if high > 0 && high != low {
                put(line, format_args!(":{high}"));
            }
        }
        _ => {}
    }
    pool_kind(line, pool.kind);
    if pool.sticky {
        line.push_str(" sticky-address");
    }
    if pool.endpoint_independent {
        line.push_str(" endpoint-independent");
    }
    if kind == RuleKind::Nat && pool.ports == Some(PoolPorts::Static) {
        line.push_str(" static-port");
    }
    if let Some(PoolPorts::MapE { offset, len, psid }) = pool.ports {
        put(line, format_args!(" map-e-portset {offset}/{len}/{psid}"));
    }
    if pool.prefer_ipv6_nexthop {
        line.push_str(" prefer-ipv6-nexthop");
    }
}

fn member(line: &mut String, addr: &AddrMatch, via: Option<&str>, af: Option<Af>, form: Form) {
    match via {
        None => put_addr(line, addr, af, form),
        Some(via) if *addr == AddrMatch::Any => put_word(line, via, FREEBSD),
        Some(via) => {
            line.push('(');
            put_word(line, via, FREEBSD);
            line.push(' ');
            put_addr(line, addr, af, form);
            line.push(')');
        }
    }
}
