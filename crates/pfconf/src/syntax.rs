//! The statements of a file as trees, before names are looked up and lists are expanded.
//!
//! A tree says what stands where; whether it makes sense on a machine is left to
//! [`compile`](crate::compile). Macros are expanded, as pfctl does it, so a node may come from the
//! value of a macro; its span is then that of the use. Files behind `include` are read for their
//! macros only. The form is published as `docs/syntax.schema.json`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Input;
use crate::diag::{Diagnostic, Severity};
use crate::dialect::Dialect;
use crate::explain::unknown_statement;
use crate::parser::{
    Fallible, Kind, Pair, Rule, kind, number_value, parse as parse_statement, place, string,
};
use crate::scan::{Macro, Macros, Scanner, Statement as Scanned};
use crate::source::Sources;
use crate::span::{LineIndex, Span};
use crate::statement::Use;

/// Version of the form of [`Tree`].
pub const VERSION: u32 = 1;
/// Deepest nesting of included files that are read for their macros.
const INCLUDES_MAX: usize = 16;

/// What a file is parsed with.
#[derive(Clone, Copy)]
pub struct SyntaxOptions<'a> {
    /// Whose language it is.
    pub dialect: Dialect,
    /// Where included files are.
    pub sources: &'a dyn Sources,
    /// `-D name=value`: macros that win over those of the file.
    pub defines: &'a [(String, String)],
}

/// The statements of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// [`VERSION`]
    pub version: u32,
    /// Whose language it is.
    pub dialect: Dialect,
    /// In the order of the file; what does not fit the grammar is left out.
    pub statements: Vec<Statement>,
}

/// A logical line: a rule, a setting, a definition, or a line of an inline anchor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Name of the grammar's entry, such as `filter` or `setting`.
    pub kind: Cow<'static, str>,
    /// From its first word to behind its last.
    pub span: Span,
    /// Its text with macros expanded, comments and continuations taken out.
    pub text: String,
    /// Its parts.
    pub nodes: Vec<Node>,
}

/// A part of a statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Name of the grammar's production, such as `host_item` or `kw_pass`.
    pub kind: Cow<'static, str>,
    /// Where it stands; for text out of a macro, where the macro is used.
    pub span: Span,
    /// The macro whose value it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macro_name: Option<String>,
    /// What is written there, for a node without parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Node>,
}

/// What became of a text.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The statements that fit the grammar.
    pub tree: Tree,
    /// What does not fit, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    pub(crate) outline: Outline,
}

/// What a lexer of the raw text cannot know by itself. Keys and members are offsets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outline {
    /// Uses of macros, by their `$`.
    pub(crate) uses: BTreeMap<usize, Use>,
    /// Ends of statements.
    pub(crate) ends: BTreeMap<usize, End>,
}

/// What a statement does to the nesting of anchors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Its rules follow, between braces.
    Opens,
    /// It ends an inline anchor.
    Closes,
    /// It defines a macro.
    Defines,
    /// Nothing of that.
    Plain,
}

/// Parses a text as far as it can be understood without the machine it is for.
///
/// Work is linear in the text and in what its macros expand to. No text makes it panic.
///
/// ```
/// use pfconf::{Dialect, Input, NoSources, syntax};
///
/// let input = Input { name: "pf.conf", text: "web = \"{ 80 443 }\"\npass in to port $web\n" };
/// let options = syntax::SyntaxOptions {
///     dialect: Dialect::OpenBsd,
///     sources: &NoSources,
///     defines: &[],
/// };
/// let parsed = syntax::parse(&input, &options);
/// assert!(parsed.diagnostics.is_empty());
/// let rule = &parsed.tree.statements[1];
/// assert_eq!(rule.kind, "filter");
/// assert_eq!(rule.text, "pass in to port { 80 443 }");
/// assert_eq!(&input.text[rule.span.range()], "pass in to port $web");
/// ```
#[must_use]
pub fn parse(input: &Input, options: &SyntaxOptions) -> Parsed {
    let tree = Tree { version: VERSION, dialect: options.dialect, statements: Vec::new() };
    let mut walk = Walk {
        parsed: Parsed { tree, diagnostics: Vec::new(), outline: Outline::default() },
        macros: options
            .defines
            .iter()
            .map(|(name, value)| {
                let value = value.replace(['\n', '\r'], " ");
                (name.clone(), Macro { value, definition: None, used: false })
            })
            .collect(),
        options,
        unread: Vec::new(),
    };
    walk.file(input, 0);
    walk.parsed
}

struct Walk<'a> {
    parsed: Parsed,
    macros: Macros,
    options: &'a SyntaxOptions<'a>,
    /// Included files that could not be read.
    unread: Vec<String>,
}

impl Walk<'_> {
    fn file(&mut self, input: &Input, depth: usize) {
        let lines = LineIndex::new(input.text);
        let mut scanner = Scanner::new(input.text);
        let mut anchors = 0_usize;
        // Inside a list that a mistake has cut, what follows is no statement of its own.
        let mut lost = false;
        loop {
            let mut reported = Vec::new();
            let next = scanner.next(&mut self.macros, &mut |found| reported.push(found));
            let Some(scanned) = next else {
                self.report(reported, input, &lines, depth);
                break;
            };
            if !reported.is_empty() {
                lost = scanned.open_brace.is_some();
                self.report(reported, input, &lines, depth);
                continue;
            }
            let read = self.statement(&scanned, &mut anchors, depth);
            match read {
                Ok(()) => lost = false,
                Err(found) if lost => {
                    lost = !scanned.text.trim_start().starts_with('}');
                    drop(found);
                }
                Err(found) => {
                    lost = scanned.open_brace.is_some();
                    self.report(vec![*found], input, &lines, depth);
                }
            }
        }
        if anchors > 0 && depth == 0 && self.parsed.diagnostics.is_empty() {
            let at = Span::new(input.text.len(), input.text.len());
            let found = Diagnostic::error(crate::Code::MissingBrace, "syntax error")
                .title("an anchor is not closed")
                .at_span(at, "expected `}` before the end of the file")
                .help("put `}` behind the last rule of the anchor");
            self.report(vec![found], input, &lines, depth);
        }
    }

    fn report(&mut self, found: Vec<Diagnostic>, input: &Input, lines: &LineIndex, depth: usize) {
        // The mistakes of an included file belong to that file.
        if depth > 0 {
            return;
        }
        for mut diagnostic in found {
            if diagnostic.code() == crate::Code::MacroUndefined.as_str() {
                for file in &self.unread {
                    diagnostic = diagnostic.note(format!("{file} could not be included"));
                }
            }
            let line = diagnostic.seen_at().map_or(0, |offset| lines.line(offset));
            self.parsed.diagnostics.push(diagnostic.place(input.name, line));
        }
    }

    fn statement(&mut self, scanned: &Scanned, anchors: &mut usize, depth: usize) -> Fallible<()> {
        let main = depth == 0;
        if main {
            self.parsed.outline.uses.extend(scanned.uses());
        }
        let entry = match kind(scanned, self.options.dialect) {
            Kind::Empty => {
                if main {
                    self.parsed.outline.ends.insert(scanned.end, End::Plain);
                }
                return Ok(());
            }
            Kind::Entry(Rule::closing) if *anchors == 0 => {
                return Err(Box::new(unknown_statement(scanned, self.options.dialect)));
            }
            Kind::Entry(entry) => entry,
            Kind::Unknown => {
                return Err(Box::new(unknown_statement(scanned, self.options.dialect)));
            }
        };
        let tree = parse_statement(scanned, entry, self.options.dialect)
            .map_err(|misfit| misfit.diagnostic)?;
        let parts = tree.parts();
        let opens = parts.iter().any(|part| part.as_rule() == Rule::anchor_open);
        let end = match entry {
            Rule::closing => {
                *anchors -= 1;
                End::Closes
            }
            Rule::definition => {
                self.define(&parts);
                End::Defines
            }
            _ if opens => {
                *anchors += 1;
                End::Opens
            }
            Rule::include => {
                self.include(&parts, depth);
                End::Plain
            }
            _ => End::Plain,
        };
        if main {
            self.parsed.outline.ends.insert(scanned.end, end);
            let text = scanned.text.trim();
            let start = scanned.text.len() - scanned.text.trim_start().len();
            self.parsed.tree.statements.push(Statement {
                kind: name(entry),
                span: scanned.locate(start, start + text.len()).span,
                text: text.to_owned(),
                nodes: parts.into_iter().filter_map(|part| node(scanned, part)).collect(),
            });
        }
        Ok(())
    }

    fn define(&mut self, parts: &[Pair]) {
        let Some(name) = parts.iter().find(|part| part.as_rule() == Rule::string) else { return };
        let name = string(name);
        if self.options.defines.iter().any(|(fixed, _)| *fixed == name) {
            return;
        }
        let values: Vec<String> =
            parts.iter().filter(|part| part.as_rule() == Rule::value).map(number_value).collect();
        let value = values.join(" ");
        self.macros.insert(name, Macro { value, definition: None, used: false });
    }

    fn include(&mut self, parts: &[Pair], depth: usize) {
        let Some(word) = parts.iter().find(|part| part.as_rule() == Rule::string) else { return };
        let path = string(word);
        match self.options.sources.read(&path) {
            Ok(text) if depth < INCLUDES_MAX => {
                self.file(&Input { name: &path, text: &text }, depth + 1);
            }
            _ => self.unread.push(path),
        }
    }
}

fn name(rule: Rule) -> Cow<'static, str> {
    format!("{rule:?}").into()
}

fn node(scanned: &Scanned, pair: Pair) -> Option<Node> {
    if pair.as_rule() == Rule::EOI {
        return None;
    }
    let place = place(scanned, &pair);
    let kind = name(pair.as_rule());
    let text = pair.as_str().trim_end();
    let children: Vec<Node> = pair.into_inner().filter_map(|inner| node(scanned, inner)).collect();
    let text = children.is_empty().then(|| text.to_owned());
    Some(Node { kind, span: place.span, macro_name: place.macro_name, text, children })
}

impl Parsed {
    /// Whether something does not fit.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|found| found.severity() == Severity::Error)
    }
}
