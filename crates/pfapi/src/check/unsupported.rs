//! What the language has and the engine has not, yet.
//!
//! A rule that is not evaluated as written would pass or block what it should not. Whoever loads
//! a ruleset therefore asks [`unsupported`] first and refuses what it names. Remove a line here
//! when the engine learns the feature.

use core::fmt;

use super::CheckedRuleset;
use crate::ruleset::{
    Action, AddrMatch, Common, Divert, FreeBsdWords, Pool, RareWords, Route, RouteKind, Rule,
};
use crate::timeout::Timeout;
use crate::units::Direction;

const SCTP: &str = "SCTP has the timeouts of other protocols here; set `other.first` and so on";

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
    let mut setting = |what: &str, why: Option<&'static str>| {
        found.push(Unsupported { what: what.to_owned(), rule: None, why });
    };
    // `set debug` chooses what the kernel of OpenBSD logs; nothing here depends on it.
    let timeouts = &ruleset.options().timeouts;
    for timeout in Timeout::ALL.into_iter().filter(|timeout| timeout.is_sctp()) {
        if timeouts.get(timeout) != timeout.default_value() {
            setting(&format!("timeout {timeout}"), Some(SCTP));
        }
    }
    if !ruleset.ether().is_empty() {
        let why = "TUN interfaces carry IP packets without Ethernet headers, so that such rules \
                   would never match; take them out";
        setting("ether", Some(why));
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

/// Names the features of one rule. Every field is listed, so that none can be forgotten.
fn features(rule: &Rule, report: &mut impl FnMut(&str, Option<&'static str>)) {
    let Rule {
        kind: _,
        action,
        anchor: _,
        direction,
        log: _,
        quick: _,
        interface: _,
        af: _,
        proto,
        from,
        to,
        flags: _,
        icmp: _,
        state: _,
        fragment: _,
        allow_opts,
        once: _,
        af_to,
        common,
    } = rule;
    let Common {
        freebsd,
        rare,
        tos: _,
        prio: _,
        set: _,
        state_options,
        scrub: _,
        label: _,
        tag: _,
        tagged: _,
        nat: _,
        rdr: _,
        route,
    } = &**common;
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
        address(addr, report);
    }
    for (timeout, _) in state_options.timeouts.iter().filter(|(timeout, _)| timeout.is_sctp()) {
        report(timeout.name(), Some(SCTP));
    }
    if *allow_opts && matches!(action, Action::Match) {
        report("match allow-opts", Some("write it on the rules that pass the packets"));
    }
    if rdomain.is_some_and(|domain| domain.id != 0) {
        let why = "this router has one routing domain, number 0; run one pfd for each domain";
        report("rdomain", Some(why));
    }
    if rtable.is_some_and(|table| table != 0) {
        let why = "this router has one routing table, number 0; route-to sends packets another way";
        report("rtable", Some(why));
    }
    if let (true, Some((word, why))) =
        (af_to.is_some(), family_change(*direction, route.as_deref()))
    {
        report(word, Some(why));
    }
    divert_features(divert.as_ref(), report);
    let sctp_ports =
        *proto == Some(crate::ruleset::proto::SCTP) && (from.port.is_some() || to.port.is_some());
    if sctp_ports {
        let why = "two hosts have one state for all their SCTP here, and an association moves \
                   between addresses; leave the port out and name the addresses";
        report("proto sctp port", Some(why));
    }
    // Labels and numbers are for other programs only.
    let FreeBsdWords {
        except: _,
        translate_pass: _,
        max_pkt_size: _,
        more_labels: _,
        ridentifier: _,
        // The compiler warns that there is no limit.
        dummynet: _,
        state_limiter: _,
        source_limiter: _,
    } = &**freebsd;
    for pool in rule.pools() {
        freebsd_pool(pool, report);
    }
}

fn address(addr: &AddrMatch, report: &mut impl FnMut(&str, Option<&'static str>)) {
    match addr {
        AddrMatch::Any
        | AddrMatch::Net(_)
        | AddrMatch::Range(..)
        | AddrMatch::Table(_)
        | AddrMatch::Dynamic(_)
        | AddrMatch::NoRoute
        | AddrMatch::UrpfFailed => {}
        AddrMatch::RouteLabel(_) => {
            let why = "routes of this router have no labels; name their networks, in a table";
            report("route \"label\"", Some(why));
        }
    }
}

/// Names what rules with `af-to` cannot have.
fn family_change(
    direction: Option<Direction>,
    route: Option<&Route>,
) -> Option<(&'static str, &'static str)> {
    if direction != Some(Direction::In) {
        let why = "packets change their family where they come in; write it on the rule for `in`";
        return Some(("af-to", why));
    }
    let why = "packets of another family go where routes lead; add a route for their network";
    route
        .filter(|route| route.kind != RouteKind::ReplyTo)
        .map(|_| ("af-to with route-to or dup-to", why))
}

/// Names what would take packets out of the router.
fn divert_features(divert: Option<&Divert>, report: &mut impl FnMut(&str, Option<&'static str>)) {
    match divert {
        None => {}
        Some(Divert::To { .. } | Divert::Reply) => {
            let word = if divert == Some(&Divert::Reply) { "divert-reply" } else { "divert-to" };
            let why = "packets go from one interface to another and never meet a socket of this \
                       host; use rdr-to to the address of the proxy";
            report(word, Some(why));
        }
        Some(Divert::Packet { .. }) => {
            let why = "Linux has no divert sockets; use dup-to to look at packets elsewhere";
            report("divert-packet", Some(why));
        }
    }
}

/// What only pools of FreeBSD have.
fn freebsd_pool(pool: &Pool, report: &mut impl FnMut(&str, Option<&'static str>)) {
    let is_table = |addr: &AddrMatch| matches!(addr, AddrMatch::Table(_));
    if !pool.more.is_empty() && pool.addresses().any(is_table) {
        report("{ <table>, address }", Some("put all addresses of the pool into one table"));
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
            ["rule 1: `rtable` cannot be used: this router has one routing table, number 0; \
              route-to sends packets another way"]
        );
    }

    #[test]
    fn families_change_on_the_way_in_alone() {
        use crate::addr::Af;
        let pool = || Pool::new(AddrMatch::Net("192.0.2.1".parse().unwrap()));
        let mut rule = Rule::new(Action::Pass);
        rule.af_to = Some(Af::Inet);
        let words = |rule: &Rule| {
            let mut found = Vec::new();
            features(rule, &mut |word, _| found.push(word.to_owned()));
            found
        };
        rule.direction = Some(Direction::In);
        assert!(words(&rule).is_empty());
        for kind in [RouteKind::ReplyTo, RouteKind::RouteTo] {
            rule.route = Some(Route { kind, pool: pool() }.into());
            assert_eq!(words(&rule).is_empty(), kind == RouteKind::ReplyTo);
        }
        (rule.route, rule.direction) = (None, Some(Direction::Out));
        assert_eq!(words(&rule), ["af-to"]);
    }

    #[test]
    fn pools_with_tables_among_addresses_are_refused() {
        use crate::ruleset::{Action, AddrMatch, PoolMember, Rule, RuleKind};
        let mut rule = Rule::new(Action::Pass);
        rule.kind = RuleKind::Nat;
        let mut pool = Pool::new(AddrMatch::Net("192.0.2.1".parse().unwrap()));
        pool.endpoint_independent = true;
        pool.more.push(PoolMember { addr: pool.addr.clone(), via: None });
        rule.nat = Some(pool.clone().into());
        let words = |rule: &Rule| {
            let mut found = Vec::new();
            features(rule, &mut |word, _| found.push(word.to_owned()));
            found
        };
        assert!(words(&rule).is_empty());
        pool.more.push(PoolMember { addr: AddrMatch::Table("t".into()), via: None });
        rule.nat = Some(pool.into());
        assert_eq!(words(&rule), ["{ <table>, address }"]);
    }
}
