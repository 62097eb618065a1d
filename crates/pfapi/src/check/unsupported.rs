//! What the language has and the engine has not, yet.
//!
//! A rule that is not evaluated as written would pass or block what it should not. Whoever loads
//! a ruleset therefore asks [`unsupported`] first and refuses what it names. Remove a line here
//! when the engine learns the feature.

use core::fmt;

use super::CheckedRuleset;
use crate::ruleset::{
    AddrMatch, Divert, FreeBsdWords, Options, Pool, PoolPorts, RareWords, Rule, RuleKind,
};

/// Most findings that are worth telling.
const FINDINGS_MAX: usize = 20;

/// A feature that this version cannot evaluate, and where it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// The feature in words of pf.conf(5).
    pub what: String,
    /// Path of the ruleset and number of the rule in it; `None` for settings.
    pub rule: Option<(String, usize)>,
    /// Why it cannot be evaluated, when that is not for lack of code.
    pub why: Option<&'static str>,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((path, number)) = &self.rule {
            if !path.is_empty() {
                write!(f, "anchor \"{path}\" ")?;
            }
            write!(f, "rule {number}: ")?;
        }
        match self.why {
            None => write!(f, "`{}` is not supported by this version", self.what),
            Some(why) => write!(f, "`{}` cannot be used: {why}", self.what),
        }
    }
}

/// Everything in the ruleset that the engine cannot evaluate; empty when it may be loaded.
#[must_use]
pub fn unsupported(ruleset: &CheckedRuleset) -> Vec<Unsupported> {
    let mut found = Vec::new();
    let mut settings =
        |what: &str| found.push(Unsupported { what: what.to_owned(), rule: None, why: None });
    options(ruleset.options(), &mut settings);
    let freebsd = [
        (!ruleset.ether().is_empty(), "ether"),
        (!ruleset.state_limiters().is_empty(), "state limiter"),
        (!ruleset.source_limiters().is_empty(), "source limiter"),
    ];
    for (_, word) in freebsd.into_iter().filter(|&(given, _)| given) {
        settings(word);
    }
    for (path, rules) in ruleset.rulesets() {
        for (number, rule) in rules.into_iter().enumerate() {
            if found.len() >= FINDINGS_MAX {
                return found;
            }
            features(rule, &mut |what, why| {
                let (what, path) = (what.to_owned(), path.clone());
                found.push(Unsupported { what, rule: Some((path, number)), why });
            });
        }
    }
    found
}

fn options(options: &Options, report: &mut impl FnMut(&str)) {
    // `debug` chooses what the kernel of OpenBSD logs; nothing here depends on it.
    let Options {
        limits: _,
        timeouts: _,
        skip: _,
        syncookies: _,
        reassemble: _,
        debug: _,
        hostid,
        log_interface,
        fail_returns,
        keep_counters,
    } = options;
    if *fail_returns {
        report("set fail-policy return");
    }
    if *keep_counters {
        report("set keepcounters");
    }
    if hostid.is_some() {
        report("set hostid");
    }
    if matches!(log_interface, Some(crate::ruleset::LogInterface::Name(_))) {
        report("set loginterface");
    }
}

/// Names the features of one rule. Every field is listed, so that none can be forgotten.
fn features(rule: &Rule, report: &mut impl FnMut(&str, Option<&'static str>)) {
    let Rule {
        kind,
        freebsd,
        rare,
        action: _,
        anchor: _,
        direction: _,
        log: _,
        quick: _,
        interface: _,
        af: _,
        proto,
        from,
        to,
        flags: _,
        icmp: _,
        tos: _,
        prio: _,
        set: _,
        state: _,
        state_options: _,
        fragment: _,
        scrub: _,
        allow_opts: _,
        label: _,
        once: _,
        tag: _,
        tagged: _,
        af_to: _,
        nat: _,
        rdr: _,
        route: _,
    } = rule;
    let RareWords {
        rdomain,
        os: _,
        received_on: _,
        user: _,
        group: _,
        max_pkt_rate: _,
        probability: _,
        rtable,
        divert,
    } = &**rare;
    for addr in [&from.addr, &to.addr] {
        match addr {
            AddrMatch::Any
            | AddrMatch::Net(_)
            | AddrMatch::Range(..)
            | AddrMatch::Table(_)
            | AddrMatch::Dynamic(_)
            | AddrMatch::NoRoute
            | AddrMatch::UrpfFailed => {}
            AddrMatch::RouteLabel(_) => {
                report("route \"label\"", Some("routes of this router have no labels"));
            }
        }
    }
    if rdomain.is_some_and(|domain| domain.id != 0) {
        report("rdomain", Some("this router has one routing domain, number 0"));
    }
    if rtable.is_some_and(|table| table != 0) {
        report("rtable", Some("this router has one routing table, number 0"));
    }
    match divert {
        None => {}
        Some(Divert::To { .. } | Divert::Reply) => {
            let word = if *divert == Some(Divert::Reply) { "divert-reply" } else { "divert-to" };
            let why = "packets go from one interface to another and never meet a socket of this \
                       host; use rdr-to to the address of the proxy";
            report(word, Some(why));
        }
        Some(Divert::Packet { .. }) => {
            let why = "Linux has no divert sockets; use dup-to to look at packets elsewhere";
            report("divert-packet", Some(why));
        }
    }
    let sctp_ports =
        *proto == Some(crate::ruleset::proto::SCTP) && (from.port.is_some() || to.port.is_some());
    let given = [(*kind == RuleKind::Scrub, kind.word()), (sctp_ports, "proto sctp port")];
    for (_, word) in given.into_iter().filter(|&(given, _)| given) {
        report(word, None);
    }
    freebsd_features(freebsd, report);
    for pool in rule.pools() {
        freebsd_pool(pool, report);
    }
}

/// Names what only FreeBSD's rules can say.
fn freebsd_features(words: &FreeBsdWords, report: &mut impl FnMut(&str, Option<&'static str>)) {
    // Labels and numbers are for other programs only.
    let FreeBsdWords {
        except: _,
        translate_pass: _,
        max_pkt_size,
        more_labels: _,
        ridentifier: _,
        // The compiler warns that there is no limit.
        dummynet: _,
        state_limiter,
        source_limiter,
    } = words;
    let given = [
        (max_pkt_size.is_some(), "max-pkt-size"),
        (state_limiter.is_some(), "state limiter"),
        (source_limiter.is_some(), "source limiter"),
    ];
    for (_, word) in given.into_iter().filter(|&(given, _)| given) {
        report(word, None);
    }
}

/// What only pools of FreeBSD have.
fn freebsd_pool(pool: &Pool, report: &mut impl FnMut(&str, Option<&'static str>)) {
    let Pool {
        addr: _,
        via,
        more,
        ports,
        kind: _,
        sticky: _,
        endpoint_independent,
        prefer_ipv6_nexthop,
    } = pool;
    if !more.is_empty() {
        report("{ address, address }", Some("put the addresses of a pool into a table"));
    }
    if via.is_some() {
        let why = "the route to the next hop tells the interface; this is written \
                   `route-to address` on OpenBSD";
        report("route-to (interface address)", Some(why));
    }
    let given = [
        (matches!(ports, Some(PoolPorts::MapE { .. })), "map-e-portset"),
        (*endpoint_independent, "endpoint-independent"),
        (*prefer_ipv6_nexthop, "prefer-ipv6-nexthop"),
    ];
    for (_, word) in given.into_iter().filter(|&(given, _)| given) {
        report(word, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::check;
    use crate::ruleset::{Action, Draft};

    #[test]
    fn what_the_engine_evaluates_is_let_through() {
        let plain = Rule::new(Action::Pass);
        let mut logged = plain.clone();
        logged.log = Some(crate::ruleset::Log::default());
        logged.rare.rtable = Some(1);
        let rules = vec![plain, logged];
        let checked = check(Draft::<()> { rules, ..Draft::default() }).unwrap();
        let texts: Vec<String> = unsupported(&checked).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            ["rule 1: `rtable` cannot be used: this router has one routing table, number 0",]
        );
    }

    #[test]
    fn pools_that_only_freebsd_has_are_refused() {
        use crate::ruleset::{AddrMatch, PoolMember, Rule, RuleKind};
        let mut rule = Rule::new(Action::Pass);
        rule.kind = RuleKind::Nat;
        let mut pool = Pool::new(AddrMatch::Net("192.0.2.1".parse().unwrap()));
        rule.nat = Some(Box::new(pool.clone()));
        let words = |rule: &Rule| {
            let mut found = Vec::new();
            features(rule, &mut |word, _| found.push(word.to_owned()));
            found
        };
        assert!(words(&rule).is_empty());
        pool.more.push(PoolMember { addr: pool.addr.clone(), via: None });
        pool.endpoint_independent = true;
        rule.nat = Some(Box::new(pool));
        assert_eq!(words(&rule), ["{ address, address }", "endpoint-independent"]);
    }
}
