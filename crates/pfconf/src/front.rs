//! What pfctl has understood of a statement in front of the word that does not fit.
//!
//! yacc carries out each part of a statement as soon as it is whole, so that an unknown protocol
//! in front of a wrong word is told, and the wrong word is not. Here the front of the statement is
//! made a statement of its own: its last words are taken away one by one until what is left can
//! be completed, with the braces that are still open. Source: OpenBSD sbin/pfctl/parse.y; yacc(1).

use crate::dialect::Dialect;
use crate::keywords::is_keyword;
use crate::parser::Rule;
use crate::statement::{Statement, tokens};
use crate::tree::Tree;

/// Keywords that may stand behind the name of a host. With any other word next, pfctl finds the
/// mistake before it has looked the name up.
const BEHIND_HOST: &[&str] = &[
    "allow-opts",
    "any",
    "bitmask",
    "divert-reply",
    "divert-to",
    "flags",
    "fragment",
    "group",
    "icmp-type",
    "icmp6-type",
    "keep",
    "label",
    "modulate",
    "no",
    "no-route",
    "os",
    "port",
    "prio",
    "probability",
    "queue",
    "random",
    "round-robin",
    "rtable",
    "set",
    "source-hash",
    "static-port",
    "sticky-address",
    "synproxy",
    "tag",
    "tagged",
    "to",
    "tos",
    "urpf-failed",
    "user",
];
/// Those of OpenBSD besides.
const BEHIND_HOST_OPENBSD: &[&str] = &[
    "af-to",
    "binat-to",
    "divert-packet",
    "dup-to",
    "least-states",
    "max-pkt-rate",
    "nat-to",
    "once",
    "rdr-to",
    "received-on",
    "reply-to",
    "route",
    "route-to",
    "scrub",
    "weight",
];
/// Those of FreeBSD besides.
const BEHIND_HOST_FREEBSD: &[&str] = &[
    "max-mss",
    "max-pkt-rate",
    "min-ttl",
    "no-df",
    "once",
    "random-id",
    "reassemble",
    "received-on",
    "set-tos",
];
/// Keywords that may stand behind a bandwidth.
const BEHIND_BANDWIDTH: &[&str] =
    &["bandwidth", "default", "flows", "max", "min", "parent", "qlimit", "quantum"];

/// The front of a statement, made whole.
pub(crate) struct Front {
    pub(crate) statement: Statement,
    /// Where what the file says of it ends.
    pub(crate) end: usize,
}

/// Fronts of a statement that end at or before `at`, the longest first, at most `max`.
pub(crate) fn fronts(statement: &Statement, at: usize, max: usize) -> Vec<Front> {
    let text = statement.text.as_str();
    let mut open = Vec::new();
    let mut flags = [false; 2];
    let mut found = std::collections::VecDeque::new();
    for token in tokens(text).take_while(|token| token.end <= at) {
        let word = &text[token.clone()];
        match word {
            "{" => open.push(" }"),
            "(" => open.push(" )"),
            "}" | ")" => drop(open.pop()),
            _ => {}
        }
        flags = [word == "flags", flags[0]];
        let mut rest = String::new();
        if flags[1] && word != "any" {
            rest.push_str("/S");
        }
        rest.extend(open.iter().rev().copied());
        if found.len() == max {
            found.pop_front();
        }
        found.push_back((token.end, rest));
    }
    let front =
        |(end, rest): (usize, String)| Front { statement: statement.front(end, &rest), end };
    found.into_iter().rev().map(front).collect()
}

/// The word or sign at `at`; empty at the end.
pub(crate) fn word_at(statement: &Statement, at: usize) -> &str {
    let rest = statement.text.get(at..).unwrap_or_default();
    tokens(rest).next().map_or("", |token| &rest[token])
}

/// Whether pfctl has not looked at the last part of the front when it meets what comes next in
/// the statement: the name of a host that could go on, or something between round brackets.
pub(crate) fn waits(dialect: Dialect, tree: &Tree, front: &Front, statement: &Statement) -> bool {
    let next = next_word(front, statement);
    let goes_on = may_follow_host(dialect, next);
    ends(tree).any(|(rule, end)| match rule {
        Rule::host => end == front.end && !goes_on,
        Rule::dynamic | Rule::antispoof_dynamic | Rule::queue_names | Rule::set_prio => {
            end > front.end
        }
        _ => false,
    })
}

/// The word behind the front; `$` for a macro that is not defined.
fn next_word<'s>(front: &Front, statement: &'s Statement) -> &'s str {
    let unread = statement.text.get(front.end..statement.failed_at);
    if statement.undefined && unread.is_some_and(|unread| unread.trim().is_empty()) {
        return "$";
    }
    word_at(statement, front.end)
}

/// Whether the front ends in a bandwidth that pfctl is not through with when it meets what comes
/// next: only behind it, it asks whether the bandwidth is a share.
pub(crate) fn bandwidth_waits(tree: &Tree, front: &Front, statement: &Statement) -> bool {
    let next = next_word(front, statement);
    let through = matches!(next, "" | "\n" | ",") || BEHIND_BANDWIDTH.contains(&next);
    !through && ends(tree).any(|(rule, end)| rule == Rule::bandwidth && end == front.end)
}

/// The parts of a statement, and where they end without the blanks behind them.
fn ends<'t>(tree: &'t Tree) -> impl Iterator<Item = (Rule, usize)> + 't {
    tree.parts()
        .into_iter()
        .flat_map(|part| part.into_inner().flatten())
        .map(|part| (part.as_rule(), part.as_span().start() + part.as_str().trim_end().len()))
}

/// Whether pfctl takes the name in front of a word for a host.
fn may_follow_host(dialect: Dialect, next: &str) -> bool {
    let more = if dialect == Dialect::OpenBsd { BEHIND_HOST_OPENBSD } else { BEHIND_HOST_FREEBSD };
    match next.chars().next() {
        None => true,
        Some('\n' | '{' | '}' | '(' | '!' | ',' | '<') => !matches!(next, "!=" | "<=" | "<>"),
        Some(first) if first.is_ascii_alphanumeric() || matches!(first, '"' | '\'' | ':' | '_') => {
            BEHIND_HOST.contains(&next) || more.contains(&next) || !is_keyword(next, dialect)
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, at: usize) -> Vec<String> {
        let mut statement = Statement::default();
        statement.push_str(text, 0);
        fronts(&statement, at, 3).into_iter().map(|front| front.statement.text).collect()
    }

    #[test]
    fn fronts_are_made_whole() {
        assert_eq!(
            shown("pass proto { tcp foo from", 21),
            ["pass proto { tcp foo }", "pass proto { tcp }", "pass proto { }"]
        );
        assert_eq!(shown("pass flags X to any", 12)[0], "pass flags X/S");
        assert_eq!(shown("set x ( a { b", 13)[0], "set x ( a { b } )");
        assert_eq!(shown("", 0), [""; 0]);
    }
}
