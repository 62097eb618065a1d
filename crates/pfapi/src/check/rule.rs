//! Checks of one rule.
//!
//! The first part follows OpenBSD sbin/pfctl/parse.y `rule_consistent` in its order, so that
//! messages come as they come there. The rest guards against drafts that no parser made.

use super::freebsd;
use crate::addr::Af;
use crate::check::{
    ANCHOR_PATH_MAX, INTERFACE_NAME_MAX, LABEL_MAX, Mistake, QUEUE_NAME_MAX, ROUTE_LABEL_MAX,
    RTABLE_MAX, TABLE_NAME_MAX, TAG_MAX, check_name,
};
use crate::dialect::Dialect;
use crate::port::PortMatch;
use crate::ruleset::{
    Action, AddrMatch, BlockAnswer, Divert, Endpoint, Rule, SourceTrack, StatePolicy, proto,
};

/// Checks one rule without those in its anchor; `report` is called once per mistake.
pub fn check_rule(rule: &Rule, dialect: Dialect, report: &mut impl FnMut(Mistake)) {
    match dialect {
        Dialect::OpenBsd => {
            check_fields(rule, report);
            check_state(rule, report);
            check_action(rule, report);
        }
        Dialect::FreeBsd | Dialect::MacOs => freebsd::check_consistent(rule, report),
    }
    check_bounds(rule, report);
    check_names(rule, report);
    check_endpoint(rule.af, &rule.from, report);
    check_endpoint(rule.af, &rule.to, report);
    for pool in [rule.nat.as_ref(), rule.rdr.as_ref()].into_iter().flatten() {
        for addr in pool.addresses() {
            check_addr(rule.af_to.or(rule.af), addr, report);
        }
    }
    if let Some(route) = &rule.route {
        // Next hops of `af-to` have the other family.
        let either = route.pool.prefer_ipv6_nexthop || rule.af_to.is_some();
        let af = rule.af.filter(|_| !either);
        for addr in route.pool.addresses() {
            check_addr(af, addr, report);
        }
    }
    for interface in rule.pools().flat_map(crate::ruleset::Pool::interfaces) {
        check_name("interface name", interface, INTERFACE_NAME_MAX, report);
    }
}

/// Conditions that exclude each other.
fn check_fields(rule: &Rule, report: &mut impl FnMut(Mistake)) {
    let is = |number: u8| rule.proto == Some(number);
    let has_ports = is(proto::TCP) || is(proto::UDP);
    let ports = rule.from.port.is_some() || rule.to.port.is_some();
    if rule.rare.os.is_some() && !is(proto::TCP) {
        report(Mistake::OsWithoutTcp);
    }
    if !has_ports && ports {
        report(Mistake::PortWithoutProto);
    }
    for (given, word) in [(rule.rare.user.is_some(), "user"), (rule.rare.group.is_some(), "group")]
    {
        if given && !has_ports {
            report(Mistake::OwnerWithoutProto(word));
        }
    }
    if let Some(flags) = rule.flags {
        if rule.proto.is_some() && !is(proto::TCP) {
            report(Mistake::FlagsWithoutTcp);
        }
        if flags.want & !flags.mask != 0 {
            report(Mistake::FlagsAlwaysFalse);
        }
    }
    icmp_type(rule, report);
    if rule.af_to.is_some() && rule.af == rule.af_to {
        report(Mistake::AfToSameFamily);
    }
    both_dialects(rule, Dialect::OpenBsd, report);
}

/// What `icmp-type` needs, in both dialects.
pub(super) fn icmp_type(rule: &Rule, report: &mut impl FnMut(Mistake)) {
    if rule.icmp.is_none() {
        return;
    }
    if !matches!(rule.proto, Some(proto::ICMP | proto::ICMPV6)) {
        report(Mistake::IcmpTypeWithoutIcmp);
    }
    if rule.af.is_none() {
        report(Mistake::IcmpTypeWithoutAf);
    }
}

/// Conditions that both dialects ask for in this order.
pub(super) fn both_dialects(rule: &Rule, dialect: Dialect, report: &mut impl FnMut(Mistake)) {
    let options = &rule.state_options;
    if options.server.is_some_and(|server| !server.is_valid()) {
        report(Mistake::ServerOptions);
    }
    if options.overload.is_some()
        && options.max_src_conn.is_none()
        && options.max_src_conn_rate.is_none()
    {
        report(Mistake::OverloadWithoutLimit);
    }
    match (rule.proto, rule.af) {
        (Some(proto::ICMP), Some(af @ Af::Inet6)) => {
            report(Mistake::IcmpFamily { proto: "icmp", af });
        }
        (Some(proto::ICMPV6), Some(af @ Af::Inet)) => {
            report(Mistake::IcmpFamily { proto: "icmp6", af });
        }
        _ => {}
    }
    match rule.action {
        Action::Pass => {}
        Action::Match if dialect != Dialect::OpenBsd => {}
        _ if !rule.allow_opts => {}
        _ if dialect == Dialect::OpenBsd => report(Mistake::AllowOptsWithoutPass),
        _ => report(Mistake::AllowOptsOnBlock),
    }
    let ports = rule.from.port.is_some() || rule.to.port.is_some();
    if rule.fragment && (ports || rule.icmp.is_some() || has_flag_mask(rule)) {
        report(Mistake::FragmentFields);
    }
    if matches!(rule.action, Action::Block(BlockAnswer::ReturnRst { .. }))
        && rule.proto != Some(proto::TCP)
    {
        report(Mistake::ReturnRstWithoutTcp);
    }
}

fn has_flag_mask(rule: &Rule) -> bool {
    rule.flags.is_some_and(|flags| flags.mask != 0)
}

/// State, translation and routing.
fn check_state(rule: &Rule, report: &mut impl FnMut(Mistake)) {
    let stateful = rule.state != StatePolicy::None;
    if rule.state_options.max_src_nodes.is_some()
        && rule.state_options.source_track != Some(SourceTrack::Rule)
    {
        report(Mistake::SourceNodesGlobal);
    }
    if rule.action != Action::Pass && stateful {
        report(Mistake::StateWithoutPass);
    }
    if rule.route.is_some() && !stateful {
        report(Mistake::RouteWithoutState);
    }
    if rule.state_options.sloppy
        && matches!(rule.state, StatePolicy::Modulate | StatePolicy::Synproxy)
    {
        report(Mistake::SloppyProxy);
    }
    let translates = rule.nat.is_some() || rule.rdr.is_some();
    if translates && rule.action != Action::Match && !stateful {
        report(Mistake::TranslationWithoutState);
    }
    if translates && rule.direction.is_none() {
        report(Mistake::TranslationWithoutDirection);
    }
    if rule.af == Some(Af::Inet6) && (rule.scrub.no_df || rule.scrub.random_id) {
        report(Mistake::ScrubInet6);
    }
}

/// What some actions cannot have.
fn check_action(rule: &Rule, report: &mut impl FnMut(Mistake)) {
    match rule.action {
        Action::Match => {
            if rule.rare.divert.is_some() {
                report(Mistake::DivertOnMatch);
            }
            if rule.route.is_some() {
                report(Mistake::RouteOnAction("match"));
            }
            if rule.af_to.is_some() {
                report(Mistake::AfToOnMatch);
            }
        }
        Action::Block(_) if rule.route.is_some() => report(Mistake::RouteOnAction("block")),
        Action::Block(_) | Action::Pass => {}
    }
    if rule.once && (rule.action == Action::Match || rule.anchor.is_some()) {
        report(Mistake::OnceOnMatch);
    }
}

/// Numbers that only a hostile draft has.
fn check_bounds(rule: &Rule, report: &mut impl FnMut(Mistake)) {
    let mut number = |what, value: Option<u32>, max: u32| {
        if let Some(value) = value.filter(|&value| value > max) {
            report(Mistake::Number { what, value });
        }
    };
    number("prio", rule.prio.map(u32::from), 7);
    let set = rule.set.prio.map(|(prio, fast)| u32::from(prio.max(fast)));
    number("set prio", set, 7);
    number("rtable", rule.rare.rtable, RTABLE_MAX);
    number("rdomain", rule.rare.rdomain.map(|domain| domain.id), RTABLE_MAX);
    if let Some(Divert::To { port: 0, .. } | Divert::Packet { port: 0 }) = rule.rare.divert {
        report(Mistake::Number { what: "divert port", value: 0 });
    }
}

fn check_names(rule: &Rule, report: &mut impl FnMut(Mistake)) {
    for interface in
        [rule.interface.as_deref(), rule.rare.received_on.as_ref()].into_iter().flatten()
    {
        check_name("interface name", &interface.name, INTERFACE_NAME_MAX, report);
    }
    if let Some(label) = &rule.label {
        check_name("label", label, LABEL_MAX, report);
    }
    let tagged = rule.tagged.as_ref().map(|tagged| &tagged.name);
    for tag in [rule.tag.as_deref(), tagged].into_iter().flatten() {
        check_name("tag", tag, TAG_MAX, report);
    }
    if let Some((queue, fast)) = &rule.set.queue {
        for name in [Some(queue), fast.as_ref()].into_iter().flatten() {
            check_name("queue name", name, QUEUE_NAME_MAX, report);
        }
    }
    if let Some(anchor) = &rule.anchor {
        check_name("anchor", &anchor.path, ANCHOR_PATH_MAX, report);
    }
    if let Some(overload) = &rule.state_options.overload {
        check_name("table name", &overload.table, TABLE_NAME_MAX, report);
    }
}

fn check_endpoint(af: Option<Af>, end: &Endpoint, report: &mut impl FnMut(Mistake)) {
    if let Some(
        PortMatch::Range(low, high) | PortMatch::Inside(low, high) | PortMatch::Outside(low, high),
    ) = end.port
        && low > high
    {
        report(Mistake::PortRange { low, high });
    }
    check_addr(af, &end.addr, report);
}

fn check_addr(af: Option<Af>, addr: &AddrMatch, report: &mut impl FnMut(Mistake)) {
    match addr {
        AddrMatch::Any | AddrMatch::NoRoute | AddrMatch::UrpfFailed => {}
        AddrMatch::RouteLabel(label) => check_name("route label", label, ROUTE_LABEL_MAX, report),
        AddrMatch::Net(prefix) => {
            if let Some(af) = af.filter(|&af| af != prefix.af()) {
                report(Mistake::AddressFamily { addr: prefix.to_string(), af });
            }
        }
        AddrMatch::Range(ends) => {
            let (low, high) = &**ends;
            if Af::of(*low) != Af::of(*high) || low > high {
                report(Mistake::AddressRange { low: low.to_string(), high: high.to_string() });
            } else if let Some(af) = af.filter(|&af| af != Af::of(*low)) {
                report(Mistake::AddressFamily { addr: low.to_string(), af });
            }
        }
        AddrMatch::Table(name) => check_name("table name", name, TABLE_NAME_MAX, report),
        AddrMatch::Dynamic(dynamic) => {
            check_name("interface name", &dynamic.interface, INTERFACE_NAME_MAX, report);
        }
    }
}
