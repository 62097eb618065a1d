//! Runs the grammar on one statement, and explains what does not fit.

use std::borrow::Cow;

use pest::Parser;
use pest::error::InputLocation;

use crate::diag::Diagnostic;
use crate::dialect::Dialect;
use crate::explain::{misfit, word_start};
use crate::grammar;
use crate::keywords::is_keyword;
use crate::scan::{Place, Statement, first_word, is_word_char, quoted_len};
use crate::tree::Tree;

#[derive(pest_derive::Parser)]
#[grammar = "pf.pest"]
#[grammar = "freebsd.pest"]
#[grammar = "altq.pest"]
#[grammar = "ether.pest"]
#[grammar = "limiters.pest"]
struct Grammar;

pub(crate) use crate::tree::Pair;

/// A value, or the one message about why there is none.
pub(crate) type Fallible<T> = Result<T, Box<Diagnostic>>;

/// What kind of statement it is, by its first words.
pub(crate) enum Kind {
    /// Only blanks.
    Empty,
    /// One that the grammar has an entry for.
    Entry(Rule),
    /// Something else; the offset of its first word.
    Unknown,
}

/// Looks at the first words of a statement. What both dialects have is known by OpenBSD's entry.
pub(crate) fn kind(statement: &Statement, dialect: Dialect) -> Kind {
    let text = statement.text.trim_start();
    if text.is_empty() {
        return Kind::Empty;
    }
    let len = match text.chars().next() {
        Some(quote @ ('"' | '\'')) => quoted_len(text, quote).unwrap_or(text.len()),
        _ => text.find(|c| !is_word_char(c)).unwrap_or(text.len()),
    };
    let word = &text[..len];
    if dialect == Dialect::MacOs && matches!(word, "scrub-anchor" | "dummynet-anchor") {
        return Kind::Entry(Rule::macos_anchor);
    }
    if dialect.is_freebsd()
        && let Some(kind) = freebsd_kind(word, &text[len..])
    {
        return kind;
    }
    match word {
        "pass" | "block" | "match" => Kind::Entry(Rule::filter),
        "set" => Kind::Entry(Rule::setting),
        "table" => Kind::Entry(Rule::table),
        "anchor" => Kind::Entry(Rule::anchor),
        "load" => Kind::Entry(Rule::load),
        "include" => Kind::Entry(Rule::include),
        "antispoof" => Kind::Entry(Rule::antispoof),
        "queue" => Kind::Entry(Rule::queue),
        "" if text.starts_with('}') => Kind::Entry(Rule::closing),
        word if is_keyword(word, dialect) => Kind::Unknown,
        "" => Kind::Unknown,
        _ => Kind::Entry(Rule::definition),
    }
}

/// Statements that only FreeBSD has.
fn freebsd_kind(word: &str, rest: &str) -> Option<Kind> {
    Some(Kind::Entry(match word {
        "no" => match first_word(rest) {
            "scrub" => Rule::scrub_rule,
            "binat" => Rule::binat_rule,
            _ => Rule::nat_rule,
        },
        "scrub" => Rule::scrub_rule,
        "nat" | "rdr" => Rule::nat_rule,
        "binat" => Rule::binat_rule,
        "nat-anchor" | "rdr-anchor" | "binat-anchor" => Rule::translation_anchor,
        "altq" => Rule::altq,
        "queue" => Rule::altq_queue,
        "ether" if first_word(rest) == "anchor" => Rule::ether_anchor,
        "ether" => Rule::ether_rule,
        "state" if first_word(rest) == "limiter" => Rule::state_limiter,
        "source" if first_word(rest) == "limiter" => Rule::source_limiter,
        _ => return None,
    }))
}

/// The entry of the grammar for a kind of statement in a dialect.
pub(crate) const fn entry_of(entry: Rule, dialect: Dialect) -> Rule {
    match (dialect, entry) {
        (Dialect::OpenBsd, entry) => entry,
        (Dialect::FreeBsd | Dialect::MacOs, entry) => match entry {
            Rule::definition => Rule::freebsd_definition,
            Rule::setting => Rule::freebsd_setting,
            Rule::setting_prefix => Rule::freebsd_setting_prefix,
            Rule::table => Rule::freebsd_table,
            Rule::filter => Rule::freebsd_filter,
            Rule::anchor => Rule::freebsd_anchor,
            Rule::load => Rule::freebsd_load,
            Rule::include => Rule::freebsd_include,
            Rule::antispoof => Rule::freebsd_antispoof,
            entry => entry,
        },
    }
}

/// Parses a statement by its entry rule.
///
/// # Errors
/// The first thing that does not fit.
pub(crate) fn parse(
    statement: &Statement,
    kind: Rule,
    dialect: Dialect,
) -> Result<Tree<'_>, Misfit> {
    let entry = entry_of(kind, dialect);
    let text = statement.text.as_str();
    if let Some(nodes) = grammar::parse(entry, dialect.is_freebsd(), text) {
        let tree = Tree::new(text, nodes);
        debug_assert!(
            by_pest(entry, text).is_ok_and(|slow| slow.is_like(&tree)),
            "{text:?} is something else for the parser of pest"
        );
        return Ok(tree);
    }
    by_pest(entry, text).map_err(|error| {
        let at = failed_at(text, &error);
        Misfit { diagnostic: Box::new(misfit(statement, kind, dialect, &error)), at }
    })
}

/// Parses a text with the parser that pest made.
pub(crate) fn by_pest(entry: Rule, text: &str) -> Result<Tree<'_>, Box<pest::error::Error<Rule>>> {
    let pairs = Grammar::parse(entry, text)?;
    Ok(Tree::of_pest(text, pairs))
}

/// Where a statement does not fit the grammar, and the message about it.
pub(crate) struct Misfit {
    pub(crate) diagnostic: Box<Diagnostic>,
    /// Offset of the word in the statement's text.
    pub(crate) at: usize,
}

/// What stands in front of `end`, if it is a statement of its own.
pub(crate) fn parse_front(
    statement: &Statement,
    kind: Rule,
    dialect: Dialect,
    end: usize,
) -> Option<Tree<'_>> {
    let text = statement.text.get(..end)?;
    by_pest(entry_of(kind, dialect), text).ok()
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
