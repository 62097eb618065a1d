//! Runs the grammar on one statement, and explains what does not fit.

use std::borrow::Cow;

use pest::Parser;
use pest::error::InputLocation;

use crate::diag::Diagnostic;
use crate::explain::{misfit, word_start};
use crate::scan::{Place, Statement, is_word_char, quoted_len};
use crate::shape::Shapes;
use crate::tree::Tree;

#[derive(pest_derive::Parser)]
#[grammar = "pf.pest"]
struct Grammar;

pub(crate) use crate::tree::Pair;

/// A value, or the one message about why there is none.
pub(crate) type Fallible<T> = Result<T, Box<Diagnostic>>;

/// Words with a fixed meaning, which no macro and no interface can be named after.
const KEYWORDS: &[&str] = &[
    "af-to",
    "all",
    "allow-opts",
    "anchor",
    "antispoof",
    "any",
    "bandwidth",
    "binat-to",
    "bitmask",
    "block",
    "block-policy",
    "burst",
    "code",
    "debug",
    "default",
    "delay",
    "divert-packet",
    "divert-reply",
    "divert-to",
    "drop",
    "dup-to",
    "file",
    "fingerprints",
    "flags",
    "floating",
    "flows",
    "flush",
    "for",
    "fragment",
    "from",
    "global",
    "group",
    "hostid",
    "icmp-type",
    "icmp6-type",
    "if-bound",
    "in",
    "include",
    "inet",
    "inet6",
    "keep",
    "label",
    "least-states",
    "limit",
    "load",
    "log",
    "loginterface",
    "match",
    "matches",
    "max",
    "max-mss",
    "max-pkt-rate",
    "max-src-conn",
    "max-src-conn-rate",
    "max-src-nodes",
    "max-src-states",
    "min",
    "min-ttl",
    "modulate",
    "nat-to",
    "no",
    "no-df",
    "no-route",
    "no-sync",
    "on",
    "once",
    "optimization",
    "os",
    "out",
    "overload",
    "parent",
    "pass",
    "pflow",
    "port",
    "prio",
    "probability",
    "proto",
    "qlimit",
    "quantum",
    "queue",
    "quick",
    "random",
    "random-id",
    "rdomain",
    "rdr-to",
    "reassemble",
    "received-on",
    "reply-to",
    "return",
    "return-icmp",
    "return-icmp6",
    "return-rst",
    "round-robin",
    "route",
    "route-to",
    "rtable",
    "rule",
    "ruleset-optimization",
    "scrub",
    "set",
    "skip",
    "sloppy",
    "source-hash",
    "source-track",
    "state",
    "state-defaults",
    "state-policy",
    "static-port",
    "sticky-address",
    "syncookies",
    "synproxy",
    "table",
    "tag",
    "tagged",
    "timeout",
    "to",
    "tos",
    "ttl",
    "urpf-failed",
    "user",
    "weight",
];

/// Whether a word has a fixed meaning in pf.conf(5).
pub(crate) fn is_keyword(word: &str) -> bool {
    KEYWORDS.contains(&word)
}

pub(crate) fn all_keywords() -> impl Iterator<Item = &'static str> {
    KEYWORDS.iter().copied()
}

/// What kind of statement it is, by its first words.
pub(crate) enum Kind {
    /// Only blanks.
    Empty,
    /// One that the grammar has an entry for.
    Entry(Rule),
    /// Something else; the offset of its first word.
    Unknown,
}

/// Looks at the first words of a statement.
pub(crate) fn kind(statement: &Statement) -> Kind {
    let text = statement.text.trim_start();
    if text.is_empty() {
        return Kind::Empty;
    }
    let len = match text.chars().next() {
        Some(quote @ ('"' | '\'')) => quoted_len(text, quote).unwrap_or(text.len()),
        _ => text.find(|c| !is_word_char(c)).unwrap_or(text.len()),
    };
    match &text[..len] {
        "pass" | "block" | "match" => Kind::Entry(Rule::filter),
        "set" => Kind::Entry(Rule::setting),
        "table" => Kind::Entry(Rule::table),
        "anchor" => Kind::Entry(Rule::anchor),
        "load" => Kind::Entry(Rule::load),
        "include" => Kind::Entry(Rule::include),
        "antispoof" => Kind::Entry(Rule::antispoof),
        "queue" => Kind::Entry(Rule::queue),
        "" if text.starts_with('}') => Kind::Entry(Rule::closing),
        word if is_keyword(word) => Kind::Unknown,
        "" => Kind::Unknown,
        _ => Kind::Entry(Rule::definition),
    }
}

/// Parses a statement by its entry rule.
///
/// # Errors
/// The first thing that does not fit.
pub(crate) fn parse<'s>(
    statement: &'s Statement,
    entry: Rule,
    shapes: &mut Shapes,
) -> Result<Tree<'s>, Misfit> {
    let text = statement.text.as_str();
    if let Some(tree) = shapes.find(entry, text) {
        debug_assert!(
            Grammar::parse(entry, text).is_ok_and(|pairs| Tree::alone(text, pairs).is_like(&tree)),
            "the outline of {text:?} says something else than the grammar"
        );
        return Ok(tree);
    }
    match Grammar::parse(entry, text) {
        Ok(pairs) => {
            shapes.learn(pairs.clone());
            Ok(Tree::alone(text, pairs))
        }
        Err(error) => {
            let at = failed_at(&statement.text, &error);
            Err(Misfit { diagnostic: Box::new(misfit(statement, entry, &error)), at })
        }
    }
}

/// Where a statement does not fit the grammar, and the message about it.
pub(crate) struct Misfit {
    pub(crate) diagnostic: Box<Diagnostic>,
    /// Offset of the word in the statement's text.
    pub(crate) at: usize,
}

/// What stands in front of `end`, if it is a statement of its own.
pub(crate) fn parse_front(statement: &Statement, entry: Rule, end: usize) -> Option<Tree<'_>> {
    let text = statement.text.get(..end)?;
    Grammar::parse(entry, text).ok().map(|pairs| Tree::alone(text, pairs))
}

/// Where the word starts that does not fit.
pub(crate) fn failed_at(text: &str, error: &pest::error::Error<Rule>) -> usize {
    let at = match error.location {
        InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
    };
    word_start(text, at)
}

/// Where a node comes from.
pub(crate) fn place(statement: &Statement, pair: &Pair) -> Place {
    let start = pair.as_span().start();
    statement.locate(start, start + pair.as_str().trim_end().len())
}

/// The value of a `string` or of a node that holds one: without quotes, escapes resolved.
pub(crate) fn string(pair: &Pair) -> String {
    value(pair).into_owned()
}

/// The same, borrowed where nothing had to be resolved.
pub(crate) fn value<'s>(pair: &Pair<'s>) -> Cow<'s, str> {
    let text = pair.as_str().trim();
    let Some(quote @ ('"' | '\'')) = text.chars().next() else { return text.into() };
    let mut value = String::with_capacity(text.len());
    let mut rest = text[1..].strip_suffix(quote).unwrap_or(&text[1..]).chars().peekable();
    while let Some(character) = rest.next() {
        // As in pfctl's lexer: only these three lose their backslash.
        let escaped = character == '\\'
            && rest.peek().is_some_and(|&next| next == quote || next == ' ' || next == '\t');
        if escaped {
            value.extend(rest.next());
        } else {
            value.push(character);
        }
    }
    value.into()
}

/// The value of a `numstr`; a number loses its leading zeros.
pub(crate) fn number_value(pair: &Pair) -> String {
    let number = pair.clone().into_inner().flatten().find(|part| part.as_rule() == Rule::number);
    let number = number.and_then(|number| number.as_str().parse::<i64>().ok());
    number.map_or_else(|| string(pair), |number| number.to_string())
}
