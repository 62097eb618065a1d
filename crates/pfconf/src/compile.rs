//! A file from its first to its last statement.

use pfapi::check::{CheckedRuleset, Mistake, check};
use pfapi::facts::Facts;
use pfapi::ruleset::{Draft, TableDef};

use crate::Input;
use crate::address::World;
use crate::diag::{Code, Diagnostic};
use crate::expand::expand;
use crate::options::Settings;
use crate::parser::{
    Fallible, Kind, Pair, Rule, is_keyword, kind, parse, parse_setting_prefix, place, string,
    unknown_statement, unsupported,
};
use crate::print;
use crate::rules::rule;
use crate::scan::{Macro, Macros, Scanner, Statement, VALUE_MAX};
use crate::source::Sources;
use crate::span::{LineIndex, Span};
use crate::tables::table;

/// What a file is compiled with.
#[derive(Clone, Copy)]
pub struct CompileOptions<'a> {
    /// Interfaces and their addresses.
    pub facts: &'a Facts,
    /// Files and name databases.
    pub sources: &'a dyn Sources,
    /// `-D name=value`: macros that win over those of the file.
    pub defines: &'a [(String, String)],
    /// `-N`: host names are not resolved.
    pub numeric_only: bool,
}

/// What became of a file.
#[derive(Debug)]
pub struct Compiled {
    /// The ruleset; `None` when there was an error.
    pub ruleset: Option<CheckedRuleset>,
    /// Lines that `pfctl -nv` prints: macros, options and tables in the order of the file, then
    /// the rules. With errors only what comes before the rules.
    pub listing: Vec<String>,
    /// Errors and warnings in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a whole file.
///
/// Work and memory are linear in the text, in what its macros expand to, and in the number of
/// rules; all three are bounded. No input makes it panic.
#[must_use]
pub fn compile(input: &Input, options: &CompileOptions) -> Compiled {
    let mut reader = Reader::new(input, options);
    let mut scanner = Scanner::new(input.text);
    loop {
        let mut reported = Vec::new();
        let mut macros = std::mem::take(&mut reader.macros);
        let next = scanner.next(&mut macros, &mut |diagnostic| reported.push(diagnostic));
        reader.macros = macros;
        for diagnostic in reported {
            reader.report(diagnostic, None);
        }
        match next {
            None => break,
            Some(statement) if statement.failed => {}
            Some(statement) => reader.statement(&statement),
        }
    }
    reader.finish()
}

/// Everything that has been read so far.
struct Reader<'a> {
    name: &'a str,
    lines: LineIndex,
    world: World<'a>,
    /// Names given on the command line; the file cannot change them.
    fixed: Vec<&'a str>,
    macros: Macros,
    settings: Settings,
    tables: Vec<(Span, TableDef)>,
    rules: Vec<pfapi::ruleset::Rule>,
    listing: Vec<String>,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    fn new(input: &Input<'a>, options: &CompileOptions<'a>) -> Self {
        let macros = options.defines.iter().map(|(name, value)| {
            let value = value.replace(['\n', '\r'], " ");
            (name.clone(), Macro { value, definition: None, used: false })
        });
        Self {
            name: input.name,
            lines: LineIndex::new(input.text),
            world: World {
                facts: options.facts,
                sources: options.sources,
                numeric_only: options.numeric_only,
            },
            fixed: options.defines.iter().map(|(name, _)| name.as_str()).collect(),
            macros: macros.collect(),
            settings: Settings::default(),
            tables: Vec::new(),
            rules: Vec::new(),
            listing: Vec::new(),
            diagnostics: Vec::new(),
        }
    }

    /// Notes a message; its line is that of `offset`, else of the place that it marks.
    fn report(&mut self, diagnostic: Diagnostic, offset: Option<usize>) {
        let offset = offset.or_else(|| diagnostic.primary_span().map(|span| span.start));
        let line = offset.map_or(0, |offset| self.lines.line(offset));
        self.diagnostics.push(diagnostic.place(self.name, line));
    }

    fn statement(&mut self, statement: &Statement) {
        let entry = match kind(statement) {
            Kind::Empty => return,
            Kind::Entry(entry) => entry,
            Kind::Unknown => {
                let diagnostic =
                    unsupported(statement, None).unwrap_or_else(|| unknown_statement(statement));
                self.report(diagnostic, None);
                return;
            }
        };
        if entry != Rule::definition
            && let Some(diagnostic) = unsupported(statement, Some(entry))
        {
            self.report(diagnostic, None);
            return;
        }
        if entry == Rule::definition
            && let Some((at, word)) = statement.words().next()
            && is_keyword(word)
            && statement.text.trim_start().starts_with(word)
        {
            let diagnostic = Diagnostic::error(Code::MacroName, "syntax error")
                .title(format!("`{word}` has a meaning of its own and cannot name a macro"))
                .at(&statement.locate(at, at + word.len()), "choose another name");
            self.report(diagnostic, None);
            return;
        }
        let parts = match parse(statement, entry) {
            Ok(parts) => parts,
            Err(diagnostic) => {
                self.misfit(statement, entry, *diagnostic);
                return;
            }
        };
        let done = match entry {
            Rule::definition => self.definition(statement, &parts),
            Rule::setting => {
                self.settings.set(statement, &parts).map(|lines| self.listing.extend(lines))
            }
            Rule::table => table(self.world, statement, &parts).map(|(table, line)| {
                self.listing.push(line);
                let start = statement.locate(0, 0).span.start;
                self.tables.push((Span::new(start.min(statement.end), statement.end), table));
            }),
            _ => match rule(self.world, statement, &parts, self.settings.block_returns) {
                Err(diagnostic) => Err(diagnostic),
                Ok(spec) => {
                    if let Err(diagnostic) = expand(&spec, &mut self.rules) {
                        // pfctl looks at the rule as a whole when it has read its end.
                        self.report(*diagnostic, Some(statement.end));
                    }
                    Ok(())
                }
            },
        };
        if let Err(diagnostic) = done {
            self.report(*diagnostic, None);
        }
    }

    /// A statement that does not fit the grammar.
    fn misfit(&mut self, statement: &Statement, entry: Rule, diagnostic: Diagnostic) {
        if entry == Rule::setting
            && let Some(parts) = parse_setting_prefix(statement)
            && let Some(line) = self.settings.set_prefix(statement, &parts)
        {
            self.listing.push(line);
        }
        let open =
            statement.open_brace.filter(|_| diagnostic.code() == Code::MissingBrace.as_str());
        self.report(diagnostic, open.map(|_| statement.end));
    }

    fn definition(&mut self, statement: &Statement, parts: &[Pair]) -> Fallible<()> {
        let Some(name_pair) = parts.iter().find(|part| part.as_rule() == Rule::string) else {
            return Ok(());
        };
        let name = string(name_pair);
        let here = place(statement, name_pair);
        if name.contains(char::is_whitespace) {
            return Err(Box::new(
                Diagnostic::error(Code::MacroName, "macro name cannot contain whitespace")
                    .at(&here, "this name"),
            ));
        }
        let values: Vec<String> =
            parts.iter().filter(|part| part.as_rule() == Rule::value).map(string).collect();
        let value = values.join(" ");
        if value.len() > VALUE_MAX {
            let text = format!("value of macro '{name}' is longer than {VALUE_MAX} octets");
            return Err(Box::new(
                Diagnostic::error(Code::MacroTooLarge, text)
                    .at(&here, format!("{} octets", value.len()))
                    .help("put long lists of addresses into a table"),
            ));
        }
        self.listing.push(format!("{name} = \"{value}\""));
        if !self.fixed.contains(&name.as_str()) {
            let whole = statement.locate(0, statement.text.trim_end().len()).span;
            let span = Span::new(here.span.start, whole.end.max(here.span.end));
            self.macros.insert(name, Macro { value, definition: Some(span), used: false });
        }
        Ok(())
    }

    /// Runs the checks on the whole, and lists the rules.
    fn finish(mut self) -> Compiled {
        let mut ruleset = None;
        if self.diagnostics.is_empty() {
            let shown: Vec<String> = self.rules.iter().map(print::rule).collect();
            let draft = Draft {
                options: self.settings.clone().finish(),
                tables: std::mem::take(&mut self.tables),
                rules: self.rules.drain(..).map(|rule| (Span::new(0, 0), rule)).collect(),
            };
            let last_table = draft.tables.last().map(|&(span, _)| span);
            match check(draft) {
                Ok(checked) => {
                    ruleset = Some(checked);
                    self.listing.extend(shown);
                }
                Err(errors) => {
                    for error in errors {
                        let code = match error.mistake {
                            Mistake::Limit { .. } | Mistake::TooManyRules { .. } => Code::TooMany,
                            Mistake::Watermarks => Code::Syncookies,
                            _ => Code::Table,
                        };
                        let mut diagnostic = Diagnostic::error(code, error.mistake.to_string());
                        if let Some(span) = error.at.or(last_table) {
                            diagnostic = diagnostic.at_span(span, "here");
                        }
                        self.report(diagnostic, None);
                    }
                }
            }
        }
        Compiled { ruleset, listing: self.listing, diagnostics: self.diagnostics }
    }
}
