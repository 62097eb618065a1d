//! Runs the grammar on one statement, and explains what does not fit.

use pest::Parser;
use pest::error::{ErrorVariant, InputLocation};

use pfapi::limit::Limit;

use crate::diag::{Code, Diagnostic};
use crate::scan::{Place, Statement, is_word_char, quoted_len};
use crate::span::Span;
use crate::suggest::nearest;

#[derive(pest_derive::Parser)]
#[grammar = "pf.pest"]
struct Grammar;

/// A node of the parse tree of one statement.
pub(crate) type Pair<'s> = pest::iterators::Pair<'s, Rule>;

/// A value, or the one message about why there is none.
pub(crate) type Fallible<T> = Result<T, Box<Diagnostic>>;

/// Words of older or other dialects that start a statement there.
const FOREIGN_STATEMENTS: &[(&str, &str)] = &[
    ("altq", "queues are defined with `queue` alone"),
    ("nat", "translation is written as `match out ... nat-to ...`"),
    ("rdr", "translation is written as `match in ... rdr-to ...`"),
    ("binat", "translation is written as `match ... binat-to ...`"),
    ("no", "translation is written as an option of rules; there is nothing to except"),
    ("scrub", "packets are cleaned with `match ... scrub (...)`"),
];

/// Words that may start a statement.
pub(crate) const STATEMENTS: &[&str] =
    &["pass", "block", "match", "set", "table", "anchor", "load", "include", "antispoof", "queue"];

/// Most words that a message lists as expected; longer lists help nobody.
const EXPECTED_MAX: usize = 6;

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

fn all_keywords() -> impl Iterator<Item = &'static str> {
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

/// Parses a statement by its entry rule and gives its parts.
///
/// # Errors
/// The first thing that does not fit.
pub(crate) fn parse(statement: &Statement, entry: Rule) -> Result<Vec<Pair<'_>>, Misfit> {
    match Grammar::parse(entry, &statement.text) {
        Ok(mut pairs) => {
            let parts = pairs.next().map(|pair| pair.into_inner().collect());
            Ok(parts.unwrap_or_default())
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

/// The parts of what stands in front of `end`, if it is a statement of its own.
pub(crate) fn parse_front(statement: &Statement, entry: Rule, end: usize) -> Option<Vec<Pair<'_>>> {
    let mut pairs = Grammar::parse(entry, statement.text.get(..end)?).ok()?;
    Some(pairs.next()?.into_inner().collect())
}

fn failed_at(text: &str, error: &pest::error::Error<Rule>) -> usize {
    let at = match error.location {
        InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
    };
    word_start(text, at)
}

/// Where a node comes from.
pub(crate) fn place(statement: &Statement, pair: &Pair) -> Place {
    let span = pair.as_span();
    let text = span.as_str();
    statement.locate(span.start(), span.start() + text.trim_end().len())
}

/// The value of a `string` or of a node that holds one: without quotes, escapes resolved.
pub(crate) fn string(pair: &Pair) -> String {
    let text = pair.as_str().trim();
    let Some(quote @ ('"' | '\'')) = text.chars().next() else { return text.to_owned() };
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
    value
}

/// The value of a `numstr`; a number loses its leading zeros.
pub(crate) fn number_value(pair: &Pair) -> String {
    let number = pair.clone().into_inner().flatten().find(|part| part.as_rule() == Rule::number);
    let number = number.and_then(|number| number.as_str().parse::<i64>().ok());
    number.map_or_else(|| string(pair), |number| number.to_string())
}

/// Explains a statement that starts with no word that a statement starts with.
pub(crate) fn unknown_statement(statement: &Statement) -> Diagnostic {
    let text = statement.text.as_str();
    let start = text.len() - text.trim_start().len();
    let token = token(text, start);
    let place = statement.locate(start, start + token.len());
    let diagnostic = Diagnostic::error(Code::Syntax, "syntax error")
        .title(format!("no statement starts with {}", shown(token)))
        .at(&place, "expected a rule, `set`, `table`, `anchor` or `name = \"value\"`");
    if token == "}" {
        return diagnostic.help("no list or anchor is open here: take the brace out");
    }
    if let Some((_, help)) = FOREIGN_STATEMENTS.iter().find(|(word, _)| *word == token) {
        return diagnostic.help(*help);
    }
    if KEYWORDS.contains(&token) {
        return diagnostic.help("a rule starts with `pass`, `block` or `match`; to go on in the next line, end the line before with a backslash");
    }
    match nearest(token, STATEMENTS.iter().copied()) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic,
    }
}

/// Explains what does not fit the grammar.
fn misfit(statement: &Statement, entry: Rule, error: &pest::error::Error<Rule>) -> Diagnostic {
    let text = statement.text.as_str();
    let at = failed_at(text, error);
    let token = token(text, at);
    let place = statement.locate(at, at + token.len());
    if token.trim().is_empty()
        && let Some(brace) = statement.open_brace
    {
        return Diagnostic::error(Code::MissingBrace, "syntax error")
            .title("a list is not closed")
            .at_span(Span::new(brace, brace + 1), "this brace has no partner")
            .line_at(place.span.start)
            .help("put `}` behind the last item of the list");
    }
    if let Some(brace) = unclosed(&text[..at])
        && is_keyword(token)
    {
        return Diagnostic::error(Code::MissingBrace, "syntax error")
            .title("a list is not closed")
            .at(&place, "expected `}` before this word")
            .and(statement.locate(brace, brace + 1).span, "this brace has no partner")
            .help("put `}` behind the last item of the list");
    }
    if entry == Rule::definition && !text[..at].contains('=') && at > 0 {
        return no_definition(statement, &place);
    }
    let expected = match &error.variant {
        ErrorVariant::ParsingError { positives, .. } => describe(positives),
        ErrorVariant::CustomError { .. } => Vec::new(),
    };
    let label = match expected.as_slice() {
        [one] => format!("expected {one}"),
        [init @ .., last] if expected.len() <= EXPECTED_MAX => {
            format!("expected {} or {last}", init.join(", "))
        }
        _ => "not expected here".to_owned(),
    };
    let title = match token {
        "" | "\n" => "the line ends too early".to_owned(),
        token => format!("{} does not fit here", shown(token)),
    };
    let diagnostic = Diagnostic::error(Code::Syntax, "syntax error").title(title).at(&place, label);
    explain(diagnostic, entry, &text[..at], token, &expected)
}

/// Explains a statement that starts with a word that no statement starts with; what comes at
/// `next` shows that it is no definition of a macro either.
fn no_definition(statement: &Statement, next: &Place) -> Diagnostic {
    let text = statement.text.as_str();
    let start = text.len() - text.trim_start().len();
    let word = crate::scan::first_word(text);
    let diagnostic = Diagnostic::error(Code::Syntax, "syntax error")
        .title(format!("no statement starts with {}", shown(word)))
        .at(
            &statement.locate(start, start + word.len().max(1)),
            "expected a rule, `set`, `table`, `anchor` or `name = \"value\"`",
        )
        .line_at(next.span.start);
    if let Some((_, help)) = FOREIGN_STATEMENTS.iter().find(|(known, _)| *known == word) {
        return diagnostic.help(*help);
    }
    match nearest(word, STATEMENTS.iter().copied()) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic,
    }
}

/// Offset of the innermost brace that is still open.
fn unclosed(text: &str) -> Option<usize> {
    let mut open = Vec::new();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open.push(at),
            b'}' => drop(open.pop()),
            _ => {}
        }
    }
    open.pop()
}

/// Adds the way out for mistakes that are made often.
fn explain(
    diagnostic: Diagnostic,
    entry: Rule,
    before: &str,
    token: &str,
    expected: &[String],
) -> Diagnostic {
    let before = before.trim_end();
    if token.starts_with('$') {
        return diagnostic
            .note("macros are not replaced inside quotes")
            .help("leave the quotes out where a value is made of other macros: `all = $one $two`");
    }
    if before.ends_with(',') && matches!(token, "}" | ")" | "") {
        return diagnostic.help("take out the comma behind the last item");
    }
    if before.ends_with("label") && !token.is_empty() {
        return diagnostic.help("put the label into quotes");
    }
    match entry {
        Rule::definition => {
            return diagnostic.help("put the value into quotes: `name = \"value\"`");
        }
        Rule::setting if token == "," => {
            return diagnostic.help("several settings in one line need braces: `{ a 1, b 2 }`");
        }
        _ => {}
    }
    let expected_words =
        expected.iter().filter_map(|word| word.strip_prefix('`')?.strip_suffix('`'));
    let suggestion = if entry == Rule::setting && before.ends_with("limit") {
        nearest(token, Limit::ALL.iter().map(|limit| limit.name()))
    } else if is_keyword(token) {
        None
    } else {
        nearest(token, expected_words).or_else(|| nearest(token, all_keywords()))
    };
    if let Some(near) = suggestion {
        return diagnostic.help(format!("did you mean `{near}`?"));
    }
    if entry != Rule::filter {
        return diagnostic;
    }
    match token {
        "port" => diagnostic
            .help("a port belongs to an end of the connection: `to any port 80` or `to port 80`"),
        "{" if before.ends_with('{') => {
            diagnostic.help("only lists of addresses may be nested: write one list instead")
        }
        word if is_keyword(word) => diagnostic.note(
            "the order of a rule is: pass|block|match, in|out, log, quick, on, inet|inet6, proto, \
             all|from … to …, then the options",
        ),
        _ => diagnostic,
    }
}

/// Goes back to the start of the word that `at` is in.
fn word_start(text: &str, at: usize) -> usize {
    let at = text.floor_char_boundary(at.min(text.len()));
    let inside = text[at..].chars().next().is_some_and(is_word_char);
    let start = if inside {
        text[..at].rfind(|c| !is_word_char(c)).map_or(0, |last| text.ceil_char_boundary(last + 1))
    } else {
        at
    };
    let blank = text[start..].find(|c: char| !matches!(c, ' ' | '\t' | '\r'));
    blank.map_or(text.len(), |blank| start + blank)
}

/// The word or character at `at`; empty at the end.
fn token(text: &str, at: usize) -> &str {
    let rest = &text[at..];
    let word = rest.find(|c| !is_word_char(c)).unwrap_or(rest.len());
    if word > 0 { &rest[..word] } else { &rest[..rest.chars().next().map_or(0, char::len_utf8)] }
}

fn shown(token: &str) -> String {
    match token {
        "" => "the end of the line".to_owned(),
        token if token.len() > 40 => format!("`{}…`", &token[..token.floor_char_boundary(40)]),
        token => format!("`{token}`"),
    }
}

/// What the grammar would have taken, in words of pf.conf(5).
fn describe(rules: &[Rule]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for rule in rules {
        let name = format!("{rule:?}");
        let word = match name.strip_prefix("kw_") {
            Some(keyword) => format!("`{}`", keyword.replace('_', "-")),
            None => match rule {
                Rule::EOI => "the end of the line".to_owned(),
                Rule::close => "`}`".to_owned(),
                Rule::comma => "`,`".to_owned(),
                Rule::not => "`!`".to_owned(),
                Rule::slash => "`/`".to_owned(),
                Rule::paren => "`(`".to_owned(),
                Rule::paren_end => "`)`".to_owned(),
                Rule::less => "`<`".to_owned(),
                Rule::greater => "`>`".to_owned(),
                Rule::equals => "`=`".to_owned(),
                Rule::dash => "`-`".to_owned(),
                Rule::number => "a number".to_owned(),
                Rule::quoted => "a string in quotes".to_owned(),
                Rule::word | Rule::string | Rule::numstr | Rule::table_number => {
                    "a name".to_owned()
                }
                Rule::value => "a value".to_owned(),
                Rule::direction => "`in`, `out`".to_owned(),
                Rule::on => "`on`".to_owned(),
                Rule::family => "`inet`, `inet6`".to_owned(),
                Rule::proto => "`proto`".to_owned(),
                Rule::proto_item => "a protocol".to_owned(),
                Rule::hosts => "`all`, `from`, `to`".to_owned(),
                Rule::to => "`to`".to_owned(),
                Rule::from => "`from`".to_owned(),
                Rule::ports => "`port`".to_owned(),
                Rule::port_item | Rule::port_value => "a port".to_owned(),
                Rule::unary_op | Rule::binary_op => "a comparison".to_owned(),
                Rule::open
                | Rule::host_list
                | Rule::pool_list
                | Rule::anchor_open
                | Rule::table_entries => "`{`".to_owned(),
                Rule::host_item
                | Rule::host
                | Rule::range
                | Rule::network
                | Rule::table_host
                | Rule::pool_host
                | Rule::pool_hosts => "an address".to_owned(),
                Rule::dynamic => "`(interface)`".to_owned(),
                Rule::table_ref => "`<table>`".to_owned(),
                Rule::if_item | Rule::if_name | Rule::antispoof_if => "an interface".to_owned(),
                Rule::log | Rule::log_quick => "`log`".to_owned(),
                Rule::os | Rule::os_item => "`os`".to_owned(),
                Rule::id | Rule::id_item => "a user or group".to_owned(),
                Rule::anchor_name => "the name of an anchor".to_owned(),
                Rule::curve | Rule::bandwidth => "a bandwidth".to_owned(),
                Rule::queue_option => "an option of the queue".to_owned(),
                Rule::state_option => "a state option".to_owned(),
                Rule::scrub_option => "a scrub option".to_owned(),
                Rule::pool_option => "a pool option".to_owned(),
                Rule::weight => "`weight`".to_owned(),
                Rule::set_action | Rule::set_prio => "`prio`, `queue`, `tos`, `delay`".to_owned(),
                Rule::classic => "`classic`".to_owned(),
                Rule::flags => "`flags`".to_owned(),
                Rule::flag_set => "letters of FSRPAUEW".to_owned(),
                Rule::icmp => "`icmp-type`".to_owned(),
                Rule::icmp_item | Rule::icmp_word => "a type or code".to_owned(),
                Rule::no_state => "`no state`".to_owned(),
                Rule::keep_state => "`keep state`".to_owned(),
                Rule::label => "`label`".to_owned(),
                Rule::option => "an option of the rule".to_owned(),
                Rule::answer => "an answer such as `drop` or `return`".to_owned(),
                Rule::setting_value => "a name and a number".to_owned(),
                Rule::cookie_options | Rule::state_options => "`(`".to_owned(),
                Rule::cookie_option => "`start N%`, `end N%`, `classic`".to_owned(),
                Rule::table_option => "`persist`, `const`, `counters`, `file`, `{`".to_owned(),
                _ => continue,
            },
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}
