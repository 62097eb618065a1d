//! What the author of a pf.conf hears about it.
//!
//! A diagnostic has two renderings. The classic one is pfctl's: `FILE:LINE: text`, including the
//! lines that pfctl adds as a consequence ("skipping rule due to errors"), because scripts and
//! habits depend on them. The pretty one shows the place, the cause and a way out, and leaves the
//! consequences away.

use std::rc::Rc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::Input;
use crate::scan::Place;
use crate::span::Span;

/// Lines shown in front of and behind the marked place at most.
const CONTEXT_LINES: usize = 2;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file is not loaded.
    Error,
    /// The file is loaded; its author should look.
    Warning,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal;)+) => {
        /// Kinds of diagnostics. The codes are stable; numbers of removed kinds are not reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $variant,)+
        }

        impl Code {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable code, such as `PF0011`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// What it means, with a wrong and a right example, as plain text in Markdown.
            #[must_use]
            pub const fn explanation(self) -> &'static str {
                match self {
                    $(Self::$variant => include_str!(concat!("codes/", $code, ".md")),)+
                }
            }
        }
    };
}

impl Code {
    /// Whether messages of this kind leave the file loadable.
    #[must_use]
    pub const fn is_warning(self) -> bool {
        matches!(self, Self::SynproxyOutbound)
    }

    /// What it is, in a few words.
    #[must_use]
    pub fn title(self) -> &'static str {
        let first = self.explanation().lines().next().unwrap_or_default();
        first.trim_start_matches("# ")
    }
}

impl std::str::FromStr for Code {
    type Err = UnknownCode;

    /// Reads `PF0011`, also in small letters, or the number alone.
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let digits = match text.get(..2) {
            Some(start) if start.eq_ignore_ascii_case("PF") => &text[2..],
            _ => text,
        };
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse());
        let wanted: Option<Result<u16, _>> = number(digits);
        let found = Self::ALL.iter().find(|code| {
            matches!((&wanted, number(&code.as_str()[2..])), (Some(Ok(a)), Some(Ok(b))) if *a == b)
        });
        found.copied().ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

/// No message has this code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no message with the code '{0}'")]
pub struct UnknownCode(String);

codes! {
    /// Text that does not fit the grammar.
    Syntax = "PF0001";
    /// A part of pf.conf(5) that this version does not have.
    Unsupported = "PF0002";
    /// `$name` without a definition.
    MacroUndefined = "PF0003";
    /// A macro whose name cannot be used.
    MacroName = "PF0004";
    /// Expansion of macros that grows out of bounds.
    MacroTooLarge = "PF0005";
    /// A quoted string without its end.
    UnclosedQuote = "PF0006";
    /// A list without its closing brace.
    MissingBrace = "PF0007";
    /// Quotation marks or blanks of a word processor.
    Typographic = "PF0008";
    /// Lists nested too deeply.
    Nesting = "PF0009";
    /// An unknown or impossible protocol.
    Protocol = "PF0010";
    /// A port without a protocol that has ports.
    PortWithoutProto = "PF0011";
    /// An unknown or impossible port.
    Port = "PF0012";
    /// A port range with its ends exchanged.
    PortRange = "PF0013";
    /// An address that cannot be understood or resolved.
    Address = "PF0014";
    /// An address range with its ends exchanged or of two families.
    AddressRange = "PF0015";
    /// An interface name or modifier that cannot be.
    Interface = "PF0016";
    /// TCP flags that cannot be, or on another protocol.
    Flags = "PF0017";
    /// ICMP types or codes that cannot be, or on another protocol.
    Icmp = "PF0018";
    /// Address family and protocol that exclude each other.
    Family = "PF0019";
    /// A rule of which no combination is left.
    NoCombination = "PF0020";
    /// `keep state` on a rule that does not pass.
    State = "PF0021";
    /// `return-rst` on a rule that is not for TCP, or a wrong ttl.
    ReturnRst = "PF0022";
    /// An option that is given twice.
    Twice = "PF0023";
    /// A label that cannot be.
    Label = "PF0024";
    /// A limit that cannot be set.
    Limit = "PF0025";
    /// A timeout that cannot be set.
    Timeout = "PF0026";
    /// An unknown word behind `set optimization`.
    Optimization = "PF0027";
    /// Syncookie settings that cannot be.
    Syncookies = "PF0028";
    /// A table that cannot be.
    Table = "PF0029";
    /// A table file that cannot be read.
    TableFile = "PF0030";
    /// More rules, tables or addresses than allowed.
    TooMany = "PF0031";
    /// `set skip` on something that cannot be skipped.
    Skip = "PF0032";
    /// `log` to something that is no pflog interface.
    Log = "PF0033";
    /// Packet priorities, types of service, delays, rates and probabilities that cannot be.
    Value = "PF0034";
    /// An unknown user or group.
    Owner = "PF0035";
    /// A fingerprint on a rule that is not for TCP.
    Fingerprint = "PF0036";
    /// A tag that cannot be.
    Tag = "PF0037";
    /// A routing table or domain that does not exist.
    Rtable = "PF0038";
    /// `divert-*` that cannot be.
    Divert = "PF0039";
    /// `scrub` options that cannot be.
    Scrub = "PF0040";
    /// Translation that cannot be.
    Translation = "PF0041";
    /// `route-to`, `reply-to` or `dup-to` that cannot be.
    Routing = "PF0042";
    /// State options that exclude each other or are given twice.
    StateOption = "PF0043";
    /// An anchor that cannot be.
    Anchor = "PF0044";
    /// `include` or `load anchor` of a file that cannot be read.
    Include = "PF0045";
    /// A queue that cannot be.
    Queue = "PF0046";
    /// A setting with a value that cannot be.
    Setting = "PF0047";
    /// `synproxy state` where nothing comes in.
    SynproxyOutbound = "PF0048";
    /// `once` on a rule that does not decide.
    Once = "PF0049";
    /// Options that do not belong to the action of the rule.
    Action = "PF0050";
    /// A statement that comes too late for the order that FreeBSD wants.
    Order = "PF0051";
    /// A limiter that cannot be, or does not exist.
    Limiter = "PF0052";
}

/// One message about a file.
///
/// ```
/// use pfapi::facts::Facts;
/// use pfconf::{CompileOptions, Dialect, Input, Listing, NoSources, Optimization, Parts, compile};
///
/// let input = Input { name: "pf.conf", text: "pass in quikc\n" };
/// let compiled = compile(
///     &input,
///     &CompileOptions {
///         facts: &Facts::default(),
///         sources: &NoSources,
///         defines: &[],
///         numeric_only: true,
///         dialect: Dialect::OpenBsd,
///         listing: Listing::Short,
///         optimize: Optimization::default(),
///         parts: Parts::ALL,
///     },
/// );
/// let found = &compiled.diagnostics[0];
/// assert_eq!(found.classic(), "pf.conf:1: syntax error");
/// assert_eq!(found.summary(), "`quikc` does not fit here");
/// let fix = &found.fixes()[0].edits[0];
/// assert_eq!((&input.text[fix.span.start..fix.span.end], fix.text.as_str()), ("quikc", "quick"));
/// assert!(found.pretty(&input, false).contains("did you mean `quick`?"));
/// ```
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact about the message of its own")]
pub struct Diagnostic {
    severity: Severity,
    code: Code,
    file: String,
    line: usize,
    /// A line that pfctl prints in front, without position.
    before: Vec<String>,
    /// Text of the classic rendering.
    text: String,
    /// Further classic lines with the same position.
    after: Vec<String>,
    /// Title of the pretty rendering where it says more than `text`.
    title: Option<String>,
    primary: Option<(Span, String)>,
    context: Vec<(Span, String)>,
    notes: Vec<String>,
    helps: Vec<String>,
    fixes: Vec<Fix>,
    /// The place at fault is in the value of a macro.
    in_macro: bool,
    /// Offset that the line number is taken from, where that is not the place at fault.
    line_at: Option<usize>,
    /// Message of the program as a whole, without a position.
    program: bool,
    /// The text is the whole line: pfctl writes it without a position and goes on.
    bare: bool,
    /// The name that it is about.
    subject: Option<String>,
    /// It only follows from another message.
    consequence: bool,
    /// The text that the spans refer to, where it is not the compiled input: an included file.
    source: Option<Rc<SourceText>>,
}

/// A correction of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// What it does, as an order to the author.
    pub title: String,
    /// What is replaced, in the order of the file; the stretches do not overlap.
    pub edits: Vec<Edit>,
}

/// One stretch of text and what to put into its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// What to take out.
    pub span: Span,
    /// What to put in.
    pub text: String,
}

/// A file that another one includes or loads.
#[derive(Debug)]
pub(crate) struct SourceText {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Diagnostic {
    pub(crate) fn new(severity: Severity, code: Code, text: impl Into<String>) -> Self {
        Self {
            severity,
            code,
            file: String::new(),
            line: 0,
            before: Vec::new(),
            text: text.into(),
            after: Vec::new(),
            title: None,
            primary: None,
            context: Vec::new(),
            notes: Vec::new(),
            helps: Vec::new(),
            fixes: Vec::new(),
            in_macro: false,
            line_at: None,
            program: false,
            bare: false,
            subject: None,
            consequence: false,
            source: None,
        }
    }

    /// A message that pfctl writes without a position before it gives up.
    pub(crate) fn fatal(code: Code, text: impl Into<String>) -> Self {
        Self { program: true, ..Self::new(Severity::Error, code, text) }
    }

    /// A line that pfctl writes without a position, and goes on.
    pub(crate) fn bare(severity: Severity, code: Code, line: impl Into<String>) -> Self {
        Self { bare: true, ..Self::new(severity, code, line) }
    }

    pub(crate) fn error(code: Code, text: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, text)
    }

    /// Marks the place at fault, and the macro whose value holds it.
    pub(crate) fn at(mut self, place: &Place, label: impl Into<String>) -> Self {
        self.primary = Some((place.span, label.into()));
        if let Some(name) = &place.macro_name {
            self.in_macro = true;
            self.notes.push(format!("this place is in the value of the macro `{name}`"));
            if let Some(span) = place.macro_definition {
                self.context.push((span, format!("`{name}` is defined here")));
            }
        }
        self
    }

    pub(crate) fn at_span(mut self, span: Span, label: impl Into<String>) -> Self {
        self.primary = Some((span, label.into()));
        self
    }

    pub(crate) fn and(mut self, span: Span, label: impl Into<String>) -> Self {
        self.context.push((span, label.into()));
        self
    }

    pub(crate) fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    pub(crate) fn before(mut self, line: impl Into<String>) -> Self {
        self.before.push(line.into());
        self
    }

    pub(crate) fn after(mut self, text: impl Into<String>) -> Self {
        self.after.push(text.into());
        self
    }

    /// Names what it is about.
    pub(crate) fn about(mut self, name: &str) -> Self {
        self.subject = Some(name.to_owned());
        self
    }

    pub(crate) fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    pub(crate) const fn follows_if(mut self, consequence: bool) -> Self {
        self.consequence |= consequence;
        self
    }

    /// Without the lines that follow from it.
    pub(crate) fn alone(mut self) -> Self {
        self.after.clear();
        self
    }

    pub(crate) fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.helps.push(text.into());
        self
    }

    /// The word at fault is a misspelt `near`.
    pub(crate) fn did_you_mean(self, near: &str) -> Self {
        self.help(format!("did you mean `{near}`?")).instead(near)
    }

    /// What may stand in the place at fault. A place that a macro stands in is left alone.
    pub(crate) fn instead(mut self, text: &str) -> Self {
        if let Some((span, _)) = &self.primary
            && !self.in_macro
            && span.start < span.end
        {
            let edit = Edit { span: *span, text: text.to_owned() };
            self.fixes.push(Fix { title: format!("write `{text}`"), edits: vec![edit] });
        }
        self
    }

    pub(crate) fn fix(mut self, fix: Fix) -> Self {
        self.fixes.push(fix);
        self
    }

    /// Sets file and line, once both are known.
    pub(crate) fn place(mut self, file: &str, line: usize) -> Self {
        file.clone_into(&mut self.file);
        self.line = line;
        self
    }

    /// The line number is that of `offset`: pfctl had read as far as there.
    pub(crate) fn line_at(mut self, offset: usize) -> Self {
        self.line_at = Some(offset);
        self
    }

    pub(crate) fn seen_at(&self) -> Option<usize> {
        self.line_at.or_else(|| self.primary_span().map(|span| span.start))
    }

    /// Lines that pfctl prints in front, without position.
    pub(crate) fn lines_before(&self) -> impl Iterator<Item = &str> {
        self.before.iter().map(String::as_str)
    }

    pub(crate) const fn has_line(&self) -> bool {
        self.line_at.is_some()
    }

    pub(crate) const fn code_is(&mut self, code: Code) {
        self.code = code;
    }

    pub(crate) const fn is_fatal(&self) -> bool {
        self.program
    }

    /// The spans refer to an included file.
    pub(crate) fn within(mut self, source: Option<&Rc<SourceText>>) -> Self {
        self.source = source.cloned();
        self
    }

    pub(crate) fn primary_span(&self) -> Option<Span> {
        self.primary.as_ref().map(|&(span, _)| span)
    }

    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.severity
    }

    /// The stable code, such as `PF0011`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code.as_str()
    }

    /// What kind of message it is.
    #[must_use]
    pub const fn kind(&self) -> Code {
        self.code
    }

    /// Whether it only follows from a message before it: pfctl(8) writes it, and it helps nobody.
    ///
    /// Of the messages of a text at least one error is none, if there is an error at all. See
    /// [`Diagnostic::classic`] for the form that keeps them.
    #[must_use]
    pub const fn is_consequence(&self) -> bool {
        self.consequence
    }

    /// Line number, from 1; 0 where the file as a whole is meant.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.line
    }

    /// Name of the file it is about.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The text that pfctl has, without file and line.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is wrong, in a sentence that says more than [`Diagnostic::text`] where there is one.
    #[must_use]
    pub fn summary(&self) -> &str {
        self.title.as_ref().unwrap_or(&self.text)
    }

    /// The text that its places are in, where that is not the compiled one: an included file.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        self.source.as_ref().map(|source| source.text.as_str())
    }

    /// The place at fault and what is wrong there.
    #[must_use]
    pub fn primary(&self) -> Option<(Span, &str)> {
        self.primary.as_ref().map(|(span, label)| (*span, label.as_str()))
    }

    /// Other places that have to do with it.
    pub fn context(&self) -> impl Iterator<Item = (Span, &str)> {
        self.context.iter().map(|(span, label)| (*span, label.as_str()))
    }

    /// What else is worth knowing.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Ways out.
    #[must_use]
    pub fn helps(&self) -> &[String] {
        &self.helps
    }

    /// Corrected text, where it is known. Each fix is a way out of its own.
    #[must_use]
    pub fn fixes(&self) -> &[Fix] {
        &self.fixes
    }

    /// `FILE:LINE: text` as pfctl writes it, without a newline at the end.
    ///
    /// Some mistakes make pfctl write several lines; all of them are here.
    #[must_use]
    pub fn classic(&self) -> String {
        let warning = if self.severity == Severity::Warning { "warning: " } else { "" };
        let mut lines = self.before.clone();
        for text in std::iter::once(&self.text).chain(&self.after) {
            if self.bare {
                lines.push(text.clone());
            } else if self.program {
                lines.push(format!("pfctl: {text}"));
            } else if self.line == 0 {
                lines.push(format!("{}: {warning}{text}", self.file));
            } else {
                lines.push(format!("{}:{}: {warning}{text}", self.file, self.line));
            }
        }
        lines.join("\n")
    }

    /// Several lines with the source text, what is wrong, and a way out.
    ///
    /// `input` must be the one that was compiled.
    #[must_use]
    pub fn pretty(&self, input: &Input, color: bool) -> String {
        let own;
        let input = match &self.source {
            Some(source) => {
                own = Input { name: &source.name, text: &source.text };
                &own
            }
            None => input,
        };
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group =
            Group::with_title(level.primary_title(self.summary()).id(self.code.as_str()));
        if let Some((primary, label)) = &self.primary {
            let window = Window::around(input.text, *primary);
            let mut snippet = Snippet::source(window.text)
                .path(input.name)
                .line_start(window.first_line)
                .annotation(
                    AnnotationKind::Primary.span(window.relative(*primary)).label(label.as_str()),
                );
            let mut far = Vec::new();
            for (span, label) in &self.context {
                if window.holds(*span) {
                    snippet = snippet.annotation(
                        AnnotationKind::Context.span(window.relative(*span)).label(label.as_str()),
                    );
                } else {
                    far.push((span, label));
                }
            }
            group = group.element(snippet);
            for (span, label) in far {
                let window = Window::around(input.text, *span);
                group = group.element(
                    Snippet::source(window.text)
                        .path(input.name)
                        .line_start(window.first_line)
                        .annotation(
                            AnnotationKind::Context
                                .span(window.relative(*span))
                                .label(label.as_str()),
                        ),
                );
            }
        }
        for note in &self.notes {
            group = group.element(Level::NOTE.message(note.as_str()));
        }
        for help in &self.helps {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

/// The lines around a place, so that rendering does not walk the whole file.
struct Window<'a> {
    text: &'a str,
    start: usize,
    first_line: usize,
}

impl<'a> Window<'a> {
    fn around(text: &'a str, span: Span) -> Self {
        let at = floor(text, span.start);
        let end = floor(text, span.end.max(at));
        let line_start = |to: usize| text[..to].rfind('\n').map_or(0, |newline| newline + 1);
        let mut start = line_start(at);
        for _ in 0..CONTEXT_LINES {
            // In front of a line's start stands a newline, one octet.
            start = line_start(start.saturating_sub(1));
        }
        let mut stop = end;
        for _ in 0..=CONTEXT_LINES {
            stop = text[stop..].find('\n').map_or(text.len(), |newline| stop + newline + 1);
        }
        let first_line = text[..start].bytes().filter(|&byte| byte == b'\n').count() + 1;
        Self { text: &text[start..stop], start, first_line }
    }

    fn holds(&self, span: Span) -> bool {
        span.start >= self.start && span.end <= self.start + self.text.len()
    }

    fn relative(&self, span: Span) -> std::ops::Range<usize> {
        let within = |offset: usize| floor(self.text, offset.saturating_sub(self.start));
        let start = within(span.start);
        start..within(span.end).max(start)
    }
}

/// The last character boundary not behind `at`.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}
