//! Cuts a file into logical statements and replaces macros by their values, as text.
//!
//! A statement ends at a newline outside braces. What comes out is the text that the grammar
//! reads, with a map back to the file, so that a mistake inside a macro's value is reported both
//! where the macro is used and where it is defined.
//!
//! Macros are expanded where pfctl's lexer does it: at the start of a word, outside quotes, and
//! not inside the value of another macro. A value is therefore complete when it is defined, and
//! recursion is impossible; growth is bounded by [`VALUE_MAX`] and [`EXPANSION_MAX`].
//! Source: OpenBSD sbin/pfctl/parse.y `yylex`, `lgetc`; pf.conf(5) "MACROS".

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::diag::{Code, Diagnostic, Edit, Fix};
use crate::span::Span;
use crate::statement::Origin;
pub(crate) use crate::statement::{
    Place, Statement, first_word, is_word_char, is_word_octet, quoted_len, tokens,
};

/// Longest value of a macro in octets.
pub(crate) const VALUE_MAX: usize = 64 * 1024;
/// Most text that macros may add to one file, in octets.
const EXPANSION_MAX: usize = 64 * 1024 * 1024;
/// What a file of any size may add, and how many times its own length besides.
const EXPANSION_FREE: usize = 2 * 1024 * 1024;
const EXPANSION_FACTOR: usize = 32;
/// Deepest nesting of braces.
const DEPTH_MAX: usize = 16;

/// Words that start a statement, and so show that a brace before them was not closed.
pub(crate) const STATEMENT_WORDS: [&str; 10] =
    ["pass", "block", "match", "set", "table", "anchor", "antispoof", "queue", "include", "load"];

/// Words that a list may follow; a brace at the end of an `anchor` line is a list only there.
const LIST_WORDS: [&str; 16] = [
    "on",
    "proto",
    "from",
    "to",
    "port",
    "os",
    "user",
    "group",
    "icmp-type",
    "icmp6-type",
    "nat-to",
    "rdr-to",
    "binat-to",
    "route-to",
    "reply-to",
    "dup-to",
];

/// A macro's value and where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Macro {
    pub(crate) value: String,
    /// `None` for definitions on the command line.
    pub(crate) definition: Option<Span>,
    pub(crate) used: bool,
}

/// Macros by name.
pub(crate) type Macros = BTreeMap<String, Macro>;

/// Walks through a file statement by statement.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Quotation marks of which no further one is in the file; keeps the scan linear.
    exhausted: Vec<char>,
    expanded: usize,
    /// What macros may add at most.
    expansion_max: usize,
}

/// Octets that are looked at one by one: signs of the scanner, and all but ASCII.
static IS_SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0x80;
    while octet < table.len() {
        table[octet] = true;
        octet += 1;
    }
    let signs = b"\n\\#\"'${}";
    let mut at = 0;
    while at < signs.len() {
        table[signs[at] as usize] = true;
        at += 1;
    }
    table
};

/// State of the scan within one statement.
#[derive(Default)]
struct Inside {
    braces: Vec<usize>,
    in_word: bool,
    /// Where a line started with a word that cannot stand in a list: the statement ends there.
    stray_line: bool,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let expansion_max =
            EXPANSION_MAX.min(EXPANSION_FREE + text.len().saturating_mul(EXPANSION_FACTOR));
        Self { text, at: 0, exhausted: Vec::new(), expanded: 0, expansion_max }
    }

    /// The next statement; `None` at the end of the file. Empty lines give empty statements.
    pub(crate) fn next(
        &mut self,
        macros: &mut Macros,
        report: &mut impl FnMut(Diagnostic),
    ) -> Option<Statement> {
        if self.at >= self.text.len() {
            return None;
        }
        let mut statement = Statement::default();
        let mut inside = Inside::default();
        loop {
            self.ordinary(&mut statement, &mut inside);
            let Some(character) = self.text[self.at..].chars().next() else { break };
            let at = self.at;
            self.at += character.len_utf8();
            match character {
                '\\' if self.skip_newline() => {}
                '\n' if inside.braces.is_empty() || inside.stray_line || statement.failed => {
                    statement.end = at;
                    statement.open_brace = inside.braces.last().copied();
                    return Some(statement);
                }
                '\n' if opens_anchor(&statement.text, inside.braces.len()) => {
                    statement.end = at;
                    return Some(statement);
                }
                '\n' => {
                    inside.in_word = false;
                    statement.push('\n', at);
                    inside.stray_line = self.statement_starts();
                }
                // Of two backslashes the second is meant; a single one in front of a character is lost.
                '\\' if self.text[self.at..].starts_with('\\') => {
                    statement.push('\\', self.at);
                    self.at += 1;
                }
                '\\' => {}
                '#' => self.skip_comment(),
                '"' | '\'' if !inside.in_word => {
                    self.quoted(character, at, &mut statement, report);
                }
                '$' if !inside.in_word => {
                    self.expand(at, &mut statement, &mut inside, macros, report);
                }
                _ => self.plain(character, at, &mut statement, &mut inside, report),
            }
        }
        statement.end = self.text.len();
        statement.last = true;
        statement.open_brace = inside.braces.last().copied();
        Some(statement)
    }

    /// Where the next statement starts.
    pub(crate) const fn position(&self) -> usize {
        self.at
    }

    /// Goes back to `offset`, behind which the line with a mistake is to be skipped.
    pub(crate) fn skip_line(
        &mut self,
        offset: usize,
        macros: &mut Macros,
        report: &mut impl FnMut(Diagnostic),
    ) {
        self.at = self.text.floor_char_boundary(offset.min(self.text.len()));
        let mut in_word = false;
        while let Some(character) = self.text[self.at..].chars().next() {
            let at = self.at;
            self.at += character.len_utf8();
            match character {
                '\\' if self.skip_newline() => {}
                '\\' if self.text[self.at..].starts_with('\\') => self.at += 1,
                '\\' => {}
                '\n' => return,
                '#' => self.skip_comment(),
                '"' | '\'' if !in_word => match quoted_len(&self.text[at..], character) {
                    Some(len) => self.at = at + len,
                    None => self.at = self.text.len(),
                },
                '$' if !in_word => {
                    let name = macro_name(&self.text[self.at..]);
                    self.at += name.len();
                    if let Some(found) = macros.get_mut(name) {
                        found.used = true;
                    } else {
                        report(undefined(name, Span::new(at, self.at), macros));
                        self.skip_physical_line();
                    }
                }
                _ => in_word = is_word_char(character),
            }
        }
    }

    /// To behind the next newline, whatever stands before it but a continuation.
    pub(crate) fn skip_physical_line(&mut self) {
        while let Some(found) = self.text[self.at..].find(['\n', '\\']) {
            self.at += found + 1;
            if self.text.as_bytes()[self.at - 1] == b'\n' {
                return;
            }
            self.skip_meant();
        }
        self.at = self.text.len();
    }

    /// Takes all characters up to the next that may mean something.
    fn ordinary(&mut self, statement: &mut Statement, inside: &mut Inside) {
        let rest = &self.text.as_bytes()[self.at..];
        let special = rest.iter().position(|&octet| IS_SPECIAL[usize::from(octet)]);
        let end = self.at + special.unwrap_or(rest.len());
        let run = &self.text[self.at..end];
        if let Some(&last) = run.as_bytes().last() {
            statement.push_str(run, self.at);
            inside.in_word = is_word_octet(last);
            self.at = end;
        }
    }

    fn plain(
        &mut self,
        character: char,
        at: usize,
        statement: &mut Statement,
        inside: &mut Inside,
        report: &mut impl FnMut(Diagnostic),
    ) {
        if let Some(name) = typographic(character)
            && !statement.failed
        {
            statement.failed = true;
            let span = Span::new(at, self.at);
            report(
                Diagnostic::error(Code::Typographic, "syntax error")
                    .title(format!("{name} {character:?} instead of the plain character"))
                    .at_span(span, "a word processor or web page may have put it here")
                    .help("use the plain quotation marks \" or ' and plain blanks")
                    .fix(self.plain_characters(at)),
            );
        }
        match character {
            '{' => {
                inside.braces.push(at);
                if inside.braces.len() > DEPTH_MAX && !statement.failed {
                    statement.failed = true;
                    report(too_deep(Span::new(at, self.at)));
                }
            }
            '}' => {
                inside.braces.pop();
            }
            _ => {}
        }
        inside.in_word = is_word_char(character);
        statement.push(character, at);
    }

    /// Puts plain characters into the rest of the line that `at` is in.
    fn plain_characters(&self, at: usize) -> Fix {
        let line = self.text[at..].split('\n').next().unwrap_or_default();
        let edits = line.char_indices().filter(|&(_, found)| typographic(found).is_some());
        let edit = |(offset, found): (usize, char)| {
            let plain = match found {
                '\u{2018}'..='\u{201b}' => "'",
                '\u{201c}'..='\u{201f}' | '\u{ab}' | '\u{bb}' => "\"",
                '\u{2010}'..='\u{2015}' | '\u{2212}' => "-",
                '\u{feff}' => "",
                _ => " ",
            };
            let span = Span::new(at + offset, at + offset + found.len_utf8());
            Edit { span, text: plain.to_owned() }
        };
        Fix {
            title: "write plain characters in this line".to_owned(),
            edits: edits.map(edit).collect(),
        }
    }

    /// Skips the newline behind a backslash, if there is one.
    fn skip_newline(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let len = if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
        self.at += len;
        len > 0
    }

    /// Skips to the newline; as in pfctl, a backslash in front of it continues the comment.
    fn skip_comment(&mut self) {
        while let Some(found) = self.text[self.at..].find(['\n', '\\']) {
            self.at += found;
            if self.text[self.at..].starts_with('\n') {
                return;
            }
            self.at += 1;
            self.skip_meant();
        }
        self.at = self.text.len();
    }

    /// Skips what a backslash takes in a comment: a newline or another backslash.
    fn skip_meant(&mut self) {
        if !self.skip_newline() && self.text[self.at..].starts_with('\\') {
            self.at += 1;
        }
    }

    /// Whether the rest starts with a word that only a new statement starts with.
    fn statement_starts(&self) -> bool {
        let line = self.text[self.at..].split('\n').next().unwrap_or_default();
        let line = line.trim_start();
        let len = line.find(|c| !is_word_char(c)).unwrap_or(line.len());
        STATEMENT_WORDS.contains(&&line[..len])
    }

    fn quoted(
        &mut self,
        quote: char,
        at: usize,
        statement: &mut Statement,
        report: &mut impl FnMut(Diagnostic),
    ) {
        let rest = &self.text[at..];
        let len = if self.exhausted.contains(&quote) { None } else { quoted_len(rest, quote) };
        if let Some(len) = len {
            let mut characters = rest[..len].char_indices().peekable();
            while let Some((offset, character)) = characters.next() {
                let continued =
                    character == '\\' && characters.peek().is_some_and(|&(_, next)| next == '\n');
                if !continued && character != '\n' && character != '\r' {
                    statement.push(character, at + offset);
                }
            }
            self.at = at + len;
            return;
        }
        // pfctl reads to the end of the file, too.
        self.exhausted.push(quote);
        self.at = self.text.len();
        if !statement.failed {
            statement.failed = true;
            report(
                Diagnostic::error(
                    Code::UnclosedQuote,
                    "reached end of file while parsing quoted string",
                )
                .title("a quoted string is not closed")
                .at_span(Span::new(at, at + 1), "the string starts here")
                .after("syntax error")
                .help(format!("put {quote} behind the end of the string")),
            );
        }
    }

    fn expand(
        &mut self,
        at: usize,
        statement: &mut Statement,
        inside: &mut Inside,
        macros: &mut Macros,
        report: &mut impl FnMut(Diagnostic),
    ) {
        let name = macro_name(&self.text[self.at..]);
        self.at += name.len();
        let span = Span::new(at, self.at);
        if !macros.contains_key(name) {
            if !statement.failed {
                statement.failed = true;
                statement.undefined = true;
                statement.failed_at = statement.text.len();
                report(undefined(name, span, macros).after("syntax error"));
            }
            inside.in_word = true;
            return;
        }
        let Some(found) = macros.get_mut(name) else { return };
        found.used = true;
        // As in pfctl's lexer, a comment sign in a value reaches to the end of the line.
        let (value, comments) = as_read(&found.value);
        if comments {
            self.skip_comment();
        }
        self.expanded += value.len();
        if self.expanded > self.expansion_max {
            if !statement.failed {
                statement.failed = true;
                report(too_large(span, self.expansion_max));
            }
            return;
        }
        let origin = Origin {
            name: name.to_owned(),
            use_end: span.end,
            comments,
            definition: found.definition,
        };
        statement.push_macro(&value, span, origin);
        inside.in_word = value.chars().last().is_some_and(is_word_char);
        let mut deepest = inside.braces.len();
        for brace in braces(&value) {
            if brace == '{' {
                inside.braces.push(at);
                deepest = deepest.max(inside.braces.len());
            } else {
                inside.braces.pop();
            }
        }
        if deepest > DEPTH_MAX && !statement.failed {
            statement.failed = true;
            report(too_deep(span));
        }
    }
}

/// The name of a macro at the start of `text`.
fn macro_name(text: &str) -> &str {
    let len = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..len]
}

/// Whether an `anchor` line ends here with the brace in front of its rules.
fn opens_anchor(text: &str, depth: usize) -> bool {
    if depth != 1 {
        return false;
    }
    // A brace in front of an earlier newline has been looked at there.
    let text = text.trim_end_matches([' ', '\t', '\r']);
    let Some(before) = text.strip_suffix('{') else { return false };
    let last = before
        .rsplit(|c: char| c.is_whitespace() || "{}()<>!=/,".contains(c))
        .find(|word| !word.is_empty());
    let ends_in_word = before.trim_end().ends_with(is_word_char);
    let first = first_word(text);
    let is_anchor =
        first == "anchor" || first == "ether" && first_word(&text.trim_start()[5..]) == "anchor";
    is_anchor && !(ends_in_word && last.is_some_and(|last| LIST_WORDS.contains(&last)))
}

/// Braces outside quotes.
fn braces(value: &str) -> impl Iterator<Item = char> {
    let mut quote = None;
    value.chars().filter(move |&character| {
        match (quote, character) {
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
        quote.is_none() && matches!(character, '{' | '}')
    })
}

/// What the scanner makes of a value: without the backslashes that are lost outside quotes, and
/// up to a comment sign, if there is one.
fn as_read(value: &str) -> (Cow<'_, str>, bool) {
    if !value.contains(['#', '\\']) {
        return (value.into(), false);
    }
    let mut read = String::with_capacity(value.len());
    let mut in_word = false;
    let mut rest = value;
    while let Some(character) = rest.chars().next() {
        let mut len = character.len_utf8();
        match character {
            '#' => return (read.into(), true),
            '"' | '\'' if !in_word => {
                len = quoted_len(rest, character).unwrap_or(rest.len());
                read.push_str(&rest[..len]);
            }
            '\\' if rest.starts_with("\\\\") => {
                len = 2;
                read.push('\\');
            }
            '\\' => {}
            _ => {
                in_word = is_word_char(character);
                read.push(character);
            }
        }
        rest = &rest[len..];
    }
    (read.into(), false)
}

fn undefined(name: &str, span: Span, macros: &Macros) -> Diagnostic {
    let diagnostic = Diagnostic::error(Code::MacroUndefined, format!("macro '{name}' not defined"))
        .about(name)
        .at_span(span, "no macro of this name is defined above");
    match crate::suggest::nearest(name, macros.keys().map(String::as_str)) {
        Some(near) => diagnostic.did_you_mean(&format!("${near}")),
        None => diagnostic.help(format!("define it before its first use: `{name} = \"value\"`")),
    }
}

fn too_large(span: Span, max: usize) -> Diagnostic {
    let text = format!("macros expand to more than {max} octets");
    Diagnostic::error(Code::MacroTooLarge, text)
        .at_span(span, "the limit is reached here")
        .help("put long lists of addresses into a table")
}

fn too_deep(span: Span) -> Diagnostic {
    Diagnostic::error(Code::Nesting, format!("lists are nested more than {DEPTH_MAX} deep"))
        .at_span(span, "one brace too many")
        .help("a list inside a list means the same as one long list")
}

/// What a character of a word processor is called.
fn typographic(character: char) -> Option<&'static str> {
    match character {
        '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}' => Some("typographic quotation mark"),
        '\u{a0}' | '\u{202f}' | '\u{2007}' | '\u{feff}' => Some("invisible blank"),
        '\u{2010}'..='\u{2015}' | '\u{2212}' => Some("typographic dash"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Vec<String> {
        let mut macros = Macros::new();
        let value = "{ em0 em1 }".to_owned();
        macros.insert("if".into(), Macro { value, definition: None, used: false });
        let mut scanner = Scanner::new(text);
        let mut found = Vec::new();
        while let Some(statement) = scanner.next(&mut macros, &mut |_| {}) {
            if !statement.text.trim().is_empty() {
                found.push(statement.text.trim().to_owned());
            }
        }
        found
    }

    #[test]
    fn statements_end_at_newlines_outside_braces() {
        assert_eq!(
            scan("pass in\\\n quick # x\nblock {a\nb} # c\n"),
            ["pass in quick", "block {a\nb}"]
        );
        assert_eq!(scan("a = \"x # \\\" y\"\nb"), ["a = \"x # \\\" y\"", "b"]);
        assert_eq!(scan("x # com\\\nment\ny"), ["x", "y"]);
    }

    #[test]
    fn macros_expand_at_word_starts_outside_quotes() {
        assert_eq!(scan("on $if:network"), ["on { em0 em1 }:network"]);
        assert_eq!(scan("on a$if \"$if\""), ["on a$if \"$if\""]);
    }

    #[test]
    fn missing_brace_ends_behind_the_line_that_shows_it() {
        assert_eq!(
            scan("pass from { a\n b\npass out\nblock\n"),
            ["pass from { a\n b\npass out", "block"]
        );
    }

    #[test]
    fn rules_of_an_anchor_are_statements() {
        assert_eq!(
            scan("anchor x in on { em0\n em1 } {\n pass\n}\n"),
            ["anchor x in on { em0\n em1 } {", "pass", "}"]
        );
        assert_eq!(scan("anchor from {\n a }\n"), ["anchor from {\n a }"]);
    }

    #[test]
    fn places_lead_back_to_the_file() {
        let mut macros = Macros::new();
        let definition = Some(Span::new(100, 110));
        macros.insert("m".into(), Macro { value: "wide".into(), definition, used: false });
        let text = "ab \\\n$m cd";
        let mut scanner = Scanner::new(text);
        let statement = scanner.next(&mut macros, &mut |_| {}).unwrap();
        assert_eq!(statement.text, "ab wide cd");
        assert_eq!(statement.locate(4, 6).span, Span::new(5, 7));
        assert_eq!(statement.locate(4, 6).macro_name.as_deref(), Some("m"));
        assert_eq!(statement.locate(8, 10).span, Span::new(8, 10));
        assert_eq!(statement.locate(10, 10).span, Span::new(10, 10));
    }
}
