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

/// Words of pf.conf(5) that this version does not have, wherever they stand.
const UNSUPPORTED: &[&str] = &[
    "af-to",
    "allow-opts",
    "anchor",
    "antispoof",
    "binat-to",
    "debug",
    "divert-packet",
    "divert-reply",
    "divert-to",
    "dup-to",
    "fingerprints",
    "floating",
    "flush",
    "fragment",
    "group",
    "hostid",
    "if-bound",
    "include",
    "least-states",
    "load",
    "log",
    "loginterface",
    "max",
    "max-mss",
    "max-pkt-rate",
    "max-src-conn",
    "max-src-conn-rate",
    "max-src-nodes",
    "max-src-states",
    "min-ttl",
    "modulate",
    "nat-to",
    "no-df",
    "no-route",
    "no-sync",
    "once",
    "os",
    "overload",
    "pflow",
    "prio",
    "probability",
    "queue",
    "random-id",
    "rdomain",
    "rdr-to",
    "reassemble",
    "received-on",
    "reply-to",
    "route",
    "route-to",
    "rtable",
    "ruleset-optimization",
    "scrub",
    "sloppy",
    "source-hash",
    "source-track",
    "state-defaults",
    "state-policy",
    "static-port",
    "sticky-address",
    "synproxy",
    "tag",
    "tagged",
    "tos",
    "urpf-failed",
    "user",
];

/// Statements of older or other dialects.
const UNSUPPORTED_STATEMENTS: &[&str] = &["altq", "binat", "ether", "nat", "rdr"];

/// Words that may start a statement.
pub(crate) const STATEMENTS: &[&str] = &["pass", "block", "match", "set", "table"];

/// Most words that a message lists as expected; longer lists help nobody.
const EXPECTED_MAX: usize = 6;

/// Words with a fixed meaning, which no macro and no interface can be named after.
const KEYWORDS: &[&str] = &[
    "all",
    "any",
    "block",
    "block-policy",
    "code",
    "const",
    "counters",
    "drop",
    "file",
    "flags",
    "from",
    "icmp-type",
    "icmp6-type",
    "in",
    "inet",
    "inet6",
    "keep",
    "label",
    "limit",
    "match",
    "no",
    "on",
    "optimization",
    "out",
    "pass",
    "persist",
    "port",
    "proto",
    "quick",
    "return",
    "return-icmp",
    "return-icmp6",
    "return-rst",
    "set",
    "skip",
    "state",
    "syncookies",
    "table",
    "timeout",
    "to",
    "ttl",
];

/// Whether a word has a fixed meaning in pf.conf(5), supported or not.
pub(crate) fn is_keyword(word: &str) -> bool {
    KEYWORDS.contains(&word) || UNSUPPORTED.contains(&word)
}

fn all_keywords() -> impl Iterator<Item = &'static str> {
    KEYWORDS.iter().chain(UNSUPPORTED).copied()
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
    if text[len..].trim_start().starts_with('=') {
        return Kind::Entry(Rule::definition);
    }
    match &text[..len] {
        "pass" | "block" | "match" => Kind::Entry(Rule::filter),
        "set" => Kind::Entry(Rule::setting),
        "table" => Kind::Entry(Rule::table),
        _ => Kind::Unknown,
    }
}

/// The first word that this version does not have, as a message.
pub(crate) fn unsupported(statement: &Statement, entry: Option<Rule>) -> Option<Diagnostic> {
    let in_table = entry == Some(Rule::table);
    let mut found = statement.words().enumerate().filter_map(|(index, (at, word))| {
        let known = UNSUPPORTED.contains(&word)
            || index == 0 && entry.is_none() && UNSUPPORTED_STATEMENTS.contains(&word);
        let has_own_message = in_table && matches!(word, "no-route" | "urpf-failed");
        (known && !has_own_message).then_some((at, word))
    });
    let (at, word) = found.next()?;
    let mut diagnostic =
        Diagnostic::error(Code::Unsupported, format!("`{word}` is not supported by this version"))
            .at(&statement.locate(at, at + word.len()), "not supported");
    let mut others: Vec<String> = found.map(|(_, other)| format!("`{other}`")).take(8).collect();
    others.sort_unstable();
    others.dedup();
    others.retain(|other| *other != format!("`{word}`"));
    if word == "log" && others.is_empty() {
        // Alone among these words it changes nothing for the packets.
        return Some(
            diagnostic
                .help("take `log` out: the same packets pass, and `pfctl -v -s rules` counts them"),
        );
    }
    if !others.is_empty() {
        diagnostic = diagnostic
            .note(format!("this statement also has {}, not supported either", others.join(", ")));
    }
    Some(
        diagnostic.help(
            "take the statement out; it cannot be ignored, since it would change what passes",
        ),
    )
}

/// Parses a statement by its entry rule and gives its parts.
///
/// # Errors
/// The message about the first thing that does not fit.
pub(crate) fn parse(statement: &Statement, entry: Rule) -> Fallible<Vec<Pair<'_>>> {
    match Grammar::parse(entry, &statement.text) {
        Ok(mut pairs) => {
            let parts = pairs.next().map(|pair| pair.into_inner().collect());
            Ok(parts.unwrap_or_default())
        }
        Err(error) => Err(Box::new(misfit(statement, entry, &error))),
    }
}

/// The complete `set limit` or `set timeout` at the start of a statement that goes on wrongly.
pub(crate) fn parse_setting_prefix(statement: &Statement) -> Option<Vec<Pair<'_>>> {
    let mut pairs = Grammar::parse(Rule::setting_prefix, &statement.text).ok()?;
    Some(pairs.next()?.into_inner().collect())
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

/// Explains a statement that starts with no word that a statement starts with.
pub(crate) fn unknown_statement(statement: &Statement) -> Diagnostic {
    let text = statement.text.as_str();
    let start = text.len() - text.trim_start().len();
    let token = token(text, start);
    let place = statement.locate(start, start + token.len());
    let diagnostic = Diagnostic::error(Code::Syntax, "syntax error")
        .title(format!("no statement starts with {}", shown(token)))
        .at(&place, "expected `pass`, `block`, `match`, `set`, `table` or `name = \"value\"`");
    if token == "}" {
        return diagnostic.help("no list is open here: take the brace out");
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
    let at = match error.location {
        InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
    };
    let at = word_start(text, at);
    let token = token(text, at);
    let place = statement.locate(at, at + token.len());
    if token.is_empty()
        && let Some(brace) = statement.open_brace
    {
        return Diagnostic::error(Code::MissingBrace, "syntax error")
            .title("a list is not closed")
            .at_span(Span::new(brace, brace + 1), "this brace has no partner")
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
        "" => "the line ends too early".to_owned(),
        token => format!("{} does not fit here", shown(token)),
    };
    let diagnostic = Diagnostic::error(Code::Syntax, "syntax error").title(title).at(&place, label);
    if entry == Rule::definition && place.macro_name.is_some() {
        return diagnostic.help(
            "a value takes plain words from other macros; make a list of networks where it is \
             used: `from { $one $two }`",
        );
    }
    explain(diagnostic, entry, &text[..at], token, &expected)
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
        "," => diagnostic.help("a list stands in braces: `{ one, two }`"),
        "port" => diagnostic
            .help("a port belongs to an end of the connection: `to any port 80` or `to port 80`"),
        "{" if before.ends_with('{') => {
            diagnostic.help("only lists of addresses may be nested: write one list instead")
        }
        word if is_keyword(word) => diagnostic.note(
            "the order of a rule is: pass|block|match, in|out, quick, on, inet|inet6, proto, \
             all|from … to …, then flags, icmp-type, state and label",
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
    text[start..].find(|c: char| !c.is_whitespace()).map_or(text.len(), |blank| start + blank)
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
            Some("icmp6_type") => "`icmp6-type`".to_owned(),
            Some(keyword) => format!("`{}`", keyword.replace('_', "-")),
            None => match rule {
                Rule::EOI => "the end of the line".to_owned(),
                Rule::close => "`}`".to_owned(),
                Rule::comma => "`,`".to_owned(),
                Rule::not => "`!`".to_owned(),
                Rule::slash => "`/`".to_owned(),
                Rule::number => "a number".to_owned(),
                Rule::quoted => "a string in quotes".to_owned(),
                Rule::word | Rule::string => "a name".to_owned(),
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
                Rule::open | Rule::host_list | Rule::table_entries => "`{`".to_owned(),
                Rule::host_item | Rule::host | Rule::range | Rule::network => {
                    "an address".to_owned()
                }
                Rule::dynamic => "`(interface)`".to_owned(),
                Rule::table_ref => "`<table>`".to_owned(),
                Rule::if_item => "an interface".to_owned(),
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
