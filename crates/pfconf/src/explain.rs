//! Explains what does not fit the grammar: the place, what would have fitted, a way out.

use pest::error::ErrorVariant;

use pfapi::limit::Limit;

use crate::diag::{Code, Diagnostic};
use crate::dialect::Dialect;
use crate::keywords::{all_keywords, is_keyword};
use crate::parser::{Rule, failed_at};
use crate::scan::{Place, Statement, first_word, is_word_char};
use crate::span::Span;
use crate::suggest::nearest;

/// Words of older or other dialects that start a statement there.
const FOREIGN_STATEMENTS: &[(&str, &str)] = &[
    ("altq", "queues are defined with `queue` alone"),
    ("nat", "translation is written as `match out ... nat-to ...`"),
    ("rdr", "translation is written as `match in ... rdr-to ...`"),
    ("binat", "translation is written as `match ... binat-to ...`"),
    ("no", "translation is written as an option of rules; there is nothing to except"),
    ("scrub", "packets are cleaned with `match ... scrub (...)`"),
    ("scrub-anchor", "only macOS has this statement: read the file with `--dialect macos`"),
    ("dummynet-anchor", "only macOS has this statement: read the file with `--dialect macos`"),
];

/// Words that may start a statement.
const STATEMENTS: &[&str] =
    &["pass", "block", "match", "set", "table", "anchor", "load", "include", "antispoof", "queue"];

/// Most words that a message lists as expected; longer lists help nobody.
const EXPECTED_MAX: usize = 6;

/// What is expected where a statement is whole.
const LINE_END: &str = "the end of the line";

/// Explains a statement that starts with no word that a statement starts with.
pub(crate) fn unknown_statement(statement: &Statement, dialect: Dialect) -> Diagnostic {
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
    if is_keyword(token, dialect) {
        return diagnostic.help("a rule starts with `pass`, `block` or `match`; to go on in the next line, end the line before with a backslash");
    }
    match nearest(token, STATEMENTS.iter().copied()) {
        Some(near) => diagnostic.did_you_mean(near),
        None => diagnostic,
    }
}

/// Explains what does not fit the grammar.
pub(crate) fn misfit(
    statement: &Statement,
    entry: Rule,
    dialect: Dialect,
    error: &pest::error::Error<Rule>,
) -> Diagnostic {
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
    let expected = match &error.variant {
        ErrorVariant::ParsingError { positives, .. } => describe(positives),
        ErrorVariant::CustomError { .. } => Vec::new(),
    };
    let brace = unclosed(&text[..at]);
    if brace.is_some() && entry == Rule::anchor && expected == [LINE_END] {
        return Diagnostic::error(Code::Syntax, "syntax error")
            .title("the rules of an anchor begin in the next line")
            .at(&place, "not expected behind `{` of an anchor")
            .help("end the line behind `{`, and put the `}` of the anchor into a line of its own");
    }
    if let Some(brace) = brace
        && is_keyword(token, dialect)
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
    if entry == Rule::definition && place.macro_name.is_some() {
        return diagnostic.help(
            "a value takes plain words from other macros; make a list of networks where it is \
             used: `from { $one $two }`",
        );
    }
    explain(diagnostic, (entry, dialect), &text[..at], token, &expected)
}

/// Explains a statement that starts with a word that no statement starts with; what comes at
/// `next` shows that it is no definition of a macro either.
fn no_definition(statement: &Statement, next: &Place) -> Diagnostic {
    let text = statement.text.as_str();
    let start = text.len() - text.trim_start().len();
    let word = first_word(text);
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
        Some(near) => diagnostic.did_you_mean(near),
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
    (entry, dialect): (Rule, Dialect),
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
        return diagnostic.help("put the label into quotes").instead(&format!("\"{token}\""));
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
    let expected_words = expected
        .iter()
        .flat_map(|words| words.split(", "))
        .filter_map(|word| word.strip_prefix('`')?.strip_suffix('`'));
    let suggestion = if entry == Rule::setting && before.ends_with("limit") {
        nearest(token, Limit::ALL.iter().map(|limit| limit.name()))
    } else if is_keyword(token, dialect) {
        None
    } else {
        nearest(token, expected_words).or_else(|| nearest(token, all_keywords(dialect)))
    };
    if let Some(near) = suggestion {
        return diagnostic.did_you_mean(near);
    }
    if entry != Rule::filter {
        return diagnostic;
    }
    match token {
        "}" => diagnostic.help("the `}` of an anchor stands in a line of its own"),
        "," => diagnostic.help("a list stands in braces: `{ one, two }`"),
        "port" => diagnostic
            .help("a port belongs to an end of the connection: `to any port 80` or `to port 80`"),
        "{" if before.ends_with('{') => {
            diagnostic.help("only lists of addresses may be nested: write one list instead")
        }
        word if is_keyword(word, dialect) => diagnostic.note(
            "the order of a rule is: pass|block|match, in|out, log, quick, on, inet|inet6, proto, \
             all|from … to …, then the options",
        ),
        _ => diagnostic,
    }
}

/// Goes back to the start of the word that `at` is in.
pub(crate) fn word_start(text: &str, at: usize) -> usize {
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
        "" => LINE_END.to_owned(),
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
                Rule::EOI => LINE_END.to_owned(),
                Rule::close => "`}`".to_owned(),
                Rule::comma => "`,`".to_owned(),
                Rule::not => "`!`".to_owned(),
                Rule::slash => "`/`".to_owned(),
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
                Rule::no_probe => "`no-probe`".to_owned(),
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
                Rule::paren | Rule::cookie_options | Rule::state_options | Rule::server_options => {
                    "`(`".to_owned()
                }
                Rule::cookie_option => {
                    "`start N%`, `end N%`, `destination N%`, `no-probe`, `classic`".to_owned()
                }
                Rule::server_option => {
                    "`mss N`, `wscale N`, `sack-perm`, `timestamp`, `ecn`".to_owned()
                }
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
