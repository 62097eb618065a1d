//! What a ruleset and SYN cookies do to each other that its author may not expect, and which of its
//! words pf does not have.
//!
//! Source of what `classic` does: docs/notes/0011-when-cookies-are-used.md.

use pfapi::check::CheckedRuleset;
use pfapi::ruleset::{
    Action, Rule, RuleKind, ServerOptions, StatePolicy, SyncookieMode, Syncookies, proto,
};
use pfapi::units::Direction;

use crate::server;

/// Most surprises that are worth telling.
const SURPRISES_MAX: usize = 20;

/// Words of SYN cookies in the ruleset that are ours alone: OpenBSD and FreeBSD refuse them.
#[must_use]
pub fn extensions(ruleset: &CheckedRuleset) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(Syncookies { classic, destination, probe, server, .. }) =
        ruleset.options().syncookies
    {
        // `classic` is told where it is read.
        let destination = destination.map(|_| "destination".to_owned());
        let no_probe = (!classic && !probe).then(|| "no-probe".to_owned());
        let server = server.as_ref().map(server::words);
        for words in [destination, no_probe, server].into_iter().flatten() {
            found.push(format!("`set syncookies ... ({words})` is an extension"));
        }
    }
    for (path, number, rule) in rules(ruleset) {
        let options = &rule.state_options;
        let is_given = options.syncookies.is_some() || options.server.is_some();
        if is_given && found.len() < SURPRISES_MAX {
            found.push(format!(
                "{}the state option `syncookies` is an extension",
                at(&path, number)
            ));
        }
    }
    found
}

/// What connections through SYN cookies meet that others do not, in words; empty when cookies are
/// never sent.
#[must_use]
pub fn surprises(ruleset: &CheckedRuleset) -> Vec<String> {
    let setting = ruleset.options().syncookies.unwrap_or_default();
    let rules = rules(ruleset);
    let asked = |rule: &Rule| rule.state_options.syncookies;
    let speaks_of_servers = |rule: &Rule| rule.state_options.server.is_some();
    let sends = setting.mode != SyncookieMode::Never
        || rules.iter().any(|(.., rule)| asked(rule).is_some_and(|m| m != SyncookieMode::Never));
    if !sends && !rules.iter().any(|(.., rule)| speaks_of_servers(rule)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    if setting.server.is_some_and(|server| is_bare(&server)) {
        found.push(BARE.to_owned());
    }
    if setting.watermarks.is_some_and(|marks| marks.end == 0) {
        found.push(
            "half of `start` is below one state, so cookies that began never end: write a larger \
             `start`, and `end` beside it"
                .to_owned(),
        );
    }
    if setting.classic && rules.iter().any(|(.., rule)| blocks(rule)) {
        found.push(
            "with `classic` cookies come before the rules: ports that the rules block look open \
             to everybody who sends a SYN"
                .to_owned(),
        );
    }
    for (path, number, rule) in rules {
        if found.len() >= SURPRISES_MAX {
            break;
        }
        if let Some(text) = of_rule(rule, &setting) {
            found.push(format!("{}{text}", at(&path, number)));
        }
    }
    found
}

/// What one rule does that its author may not expect.
fn of_rule(rule: &Rule, setting: &Syncookies) -> Option<&'static str> {
    let asked = rule.state_options.syncookies;
    let server = rule.state_options.server;
    let is_given = asked.is_some() || server.is_some();
    if !meets_syns(rule) {
        return is_given
            .then_some("`syncookies` says nothing here: no inbound SYN meets this rule");
    }
    let is_never = asked == Some(SyncookieMode::Never)
        || asked.is_none() && setting.mode == SyncookieMode::Never;
    if setting.classic && is_given {
        return Some("`syncookies` says nothing here: `classic` asks no rules");
    }
    if server.is_some() && is_never && rule.state != StatePolicy::Synproxy {
        return Some(
            "what `syncookies (...)` says of servers is never announced here: no cookie is sent \
             and it is no `synproxy state`",
        );
    }
    if server.is_some_and(|server| is_bare(&server)) {
        return Some(BARE);
    }
    if rule.action != Action::Pass || is_never {
        return None;
    }
    if rule.state == StatePolicy::None {
        return Some(if setting.classic {
            "passes SYNs without state, so no connection opens while cookies are sent"
        } else {
            "passes SYNs without state, so they never get cookies and a flood reaches the server"
        });
    }
    if rule.state_options.sloppy {
        return Some(if setting.classic {
            "`sloppy` states do not translate sequence numbers, so connections through cookies break"
        } else {
            "`sloppy` states cannot stand for a server, so these SYNs never get cookies"
        });
    }
    if rule.state == StatePolicy::Synproxy && setting.classic {
        return Some("`synproxy state` answers a second time when a cookie has come back");
    }
    if rule.rare.os.is_some() {
        return Some(
            "`os` is asked again when a cookie has come back, and then matches no system: such \
             connections do not pass here",
        );
    }
    if rule.rare.probability.is_some() {
        return Some(
            "`probability` is decided when the cookie has come back: a client that loses was \
             connected already",
        );
    }
    None
}

/// Told of a list that [`is_bare`].
const BARE: &str = "the options of the server leave out `wscale`, `sack-perm` and `timestamp`: what is \
                    not named is not used, so transfers behind cookies are slow";

/// Whether a list leaves out everything that makes transfers fast.
const fn is_bare(server: &ServerOptions) -> bool {
    server.wscale.is_none() && !server.sack_perm && !server.timestamp
}

fn blocks(rule: &Rule) -> bool {
    matches!(rule.action, Action::Block(_)) && meets_syns(rule)
}

/// Whether an inbound SYN may meet the rule.
fn meets_syns(rule: &Rule) -> bool {
    rule.kind == RuleKind::Filter
        && rule.anchor.is_none()
        && rule.direction != Some(Direction::Out)
        && rule.proto.is_none_or(|number| number == proto::TCP)
}

fn rules(ruleset: &CheckedRuleset) -> Vec<(String, usize, &Rule)> {
    let rulesets = ruleset.rulesets().into_iter();
    rulesets
        .flat_map(|(path, rules)| {
            let numbered = rules.into_iter().enumerate();
            numbered.map(move |(number, rule)| (path.clone(), number, rule)).collect::<Vec<_>>()
        })
        .collect()
}

fn at(path: &str, number: usize) -> String {
    if path.is_empty() {
        format!("rule {number}: ")
    } else {
        format!("anchor {path} rule {number}: ")
    }
}
