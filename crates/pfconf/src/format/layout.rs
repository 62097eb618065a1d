//! Puts tokens into lines: blanks, indentation and columns.

use super::lexer::{Kind, PAIRS, Token};
use crate::keywords::is_keyword_somewhere;
use crate::syntax::{End, Outline};

/// One step of indentation.
const STEP: &str = "\t";
/// Columns of a step, to compare widths.
const STEP_WIDTH: usize = 8;
/// Widest statement whose comment is put into a column with others.
const CODE_MAX: usize = 72;
/// Longest name of a macro whose sign is put into a column with others.
const NAME_MAX: usize = 24;
/// Words that an opening parenthesis follows without a blank, as in pf.conf(5).
const CLOSE_TO_PAREN: [&str; 9] =
    ["return-rst", "return-icmp", "return-icmp6", "cbq", "priq", "hfsc", "codel", "fairq", "red"];
/// Words behind which `<` and `>` compare.
const COMPARING: [&str; 3] = ["port", "user", "group"];

/// A line of the result.
#[derive(Debug, Default)]
struct Line {
    indent: usize,
    /// Words and signs, without indentation.
    code: String,
    /// A comment behind or instead of the code.
    comment: Option<String>,
    /// For definitions: octets in front of the sign.
    name: Option<usize>,
    continued: bool,
}

impl Line {
    const fn is_blank(&self) -> bool {
        self.code.is_empty() && self.comment.is_none()
    }

    fn width(&self) -> usize {
        self.indent * STEP_WIDTH + self.code.chars().count() + 2 * usize::from(self.continued)
    }
}

/// The text of the tokens.
pub(super) fn layout(tokens: &[Token], outline: &Outline) -> String {
    let mut lines = lines(tokens, outline);
    align_definitions(&mut lines);
    align_comments(&mut lines);
    let mut text = String::new();
    for line in &lines {
        if !line.is_blank() {
            text.extend(std::iter::repeat_n(STEP, line.indent));
        }
        text.push_str(&line.code);
        text.push_str(line.comment.as_deref().unwrap_or_default());
        text.push_str(if line.continued { " \\\n" } else { "\n" });
    }
    text
}

/// Where in the file's structure a line is.
#[derive(Default)]
struct Nesting {
    /// Open inline anchors.
    anchors: usize,
    /// Indentation inside of the open braces and parentheses of the statement.
    open: Vec<usize>,
    /// The statement has started in a line before.
    started: bool,
}

fn lines(tokens: &[Token], outline: &Outline) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut nesting = Nesting::default();
    let mut rest = tokens;
    let mut words = Context::default();
    while !rest.is_empty() {
        let len = rest
            .iter()
            .position(|token| matches!(token.kind, Kind::Newline | Kind::Continuation))
            .unwrap_or(rest.len());
        let (line, behind) = rest.split_at(len);
        let mut end = behind.first();
        rest = behind.get(1..).unwrap_or_default();
        // What is continued by nothing is not continued.
        while end.is_some_and(|end| end.kind == Kind::Continuation)
            && rest
                .first()
                .is_none_or(|next| matches!(next.kind, Kind::Newline | Kind::Continuation))
        {
            end = rest.first();
            rest = rest.get(1..).unwrap_or_default();
        }
        let continued = end.is_some_and(|end| end.kind == Kind::Continuation);
        if line.is_empty() && continued {
            continue;
        }
        let ends_at = end.map_or(usize::MAX, |end| end.at);
        let what = end.filter(|end| end.kind == Kind::Newline);
        let what = what.and_then(|_| outline.ends.get(&ends_at)).copied();
        let what = what.or_else(|| end.is_none().then(|| last_end(outline)).flatten());
        let is_blank = line.is_empty();
        if is_blank && lines.last().is_none_or(Line::is_blank) {
            continue;
        }
        if !nesting.started && what == Some(End::Closes) {
            nesting.anchors = nesting.anchors.saturating_sub(1);
        }
        let mut found = one(line, &mut nesting, &mut words);
        found.continued = continued;
        let defines = what == Some(End::Defines) || what.is_none();
        if nesting.started || !defines {
            found.name = None;
        }
        nesting.started |= !is_blank;
        lines.push(found);
        if let Some(what) = what {
            nesting.open.clear();
            nesting.started = false;
            words = Context::default();
            nesting.anchors += usize::from(what == End::Opens);
        }
    }
    while lines.last().is_some_and(Line::is_blank) {
        lines.pop();
    }
    lines
}

/// What the statement does that the end of the file ends.
fn last_end(outline: &Outline) -> Option<End> {
    outline.ends.last_key_value().map(|(_, end)| *end)
}

/// What words before the one at hand mean for it.
#[derive(Default)]
struct Context {
    /// `<` and `>` compare here.
    compares: bool,
}

fn one(tokens: &[Token], nesting: &mut Nesting, context: &mut Context) -> Line {
    let mut line = Line { indent: nesting.anchors, ..Line::default() };
    if let Some(&inside) = nesting.open.last() {
        let closers = tokens.iter().take_while(|token| is(token, "}") || is(token, ")")).count();
        line.indent = match closers {
            0 => inside,
            closers => {
                let outer = nesting.open.len().saturating_sub(closers);
                nesting.open.get(outer).map_or(nesting.anchors, |inside| inside - 1)
            }
        };
    } else if nesting.started {
        line.indent += 1;
    }
    let mut brackets = false;
    for (index, token) in tokens.iter().enumerate() {
        if matches!(token.kind, Kind::Comment | Kind::Rest) {
            line.comment = Some(token.text.clone());
            if !line.code.is_empty() {
                let text = format!(" {}", token.text);
                line.comment = Some(text);
            }
            if token.kind == Kind::Rest {
                // No comment of its own: it belongs to the word in front of it.
                line.code.push_str(&line.comment.take().unwrap_or_default());
            }
            continue;
        }
        let next = |ahead: usize| tokens.get(index + ahead);
        let opens = is(token, "<")
            && !context.compares
            && next(1).is_some_and(|name| name.kind != Kind::Sign)
            && next(2).is_some_and(|sign| is(sign, ">"));
        let closes = brackets && is(token, ">");
        if let Some(before) = index.checked_sub(1).and_then(|before| tokens.get(before)) {
            let tight = closes || (brackets && is(before, "<")) || is_tight(before, token);
            if !tight || would_join(before, token) {
                line.code.push(' ');
            }
        }
        brackets = opens || (brackets && !closes);
        if token.kind == Kind::Word {
            if COMPARING.contains(&token.text.as_str()) {
                context.compares = true;
            } else if is_keyword_somewhere(&token.text) {
                context.compares = false;
            }
        }
        if is(token, "{") || is(token, "(") {
            nesting.open.push(line.indent + 1);
        } else if is(token, "}") || is(token, ")") {
            nesting.open.pop();
        }
        if index == 1 && is(token, "=") {
            line.name = Some(line.code.trim_end().len());
        }
        line.code.push_str(&token.text);
    }
    line
}

fn is(token: &Token, sign: &str) -> bool {
    token.kind == Kind::Sign && token.text == sign
}

/// Whether no blank belongs between two tokens.
fn is_tight(before: &Token, token: &Token) -> bool {
    if token.kind == Kind::Sign && matches!(token.text.as_str(), "," | ")") {
        return true;
    }
    if is(before, "(") || is(before, "!") || is(before, "/") {
        return true;
    }
    if is(token, "/") {
        // A mask without flags in front of it: `flags /SA`.
        return before.text != "flags";
    }
    is(token, "(") && CLOSE_TO_PAREN.contains(&before.text.as_str())
}

/// Whether two tokens without a blank between them would be one.
fn would_join(before: &Token, token: &Token) -> bool {
    match (before.kind, token.kind) {
        (Kind::Sign, Kind::Sign) => {
            let both = [before.text.as_str(), token.text.as_str()].concat();
            PAIRS.iter().any(|pair| both.starts_with(pair) && before.text.len() == 1)
        }
        (Kind::Word, Kind::Sign) if before.text == "-" => token.text.starts_with('>'),
        (Kind::Sign, _) | (_, Kind::Sign) => false,
        _ => true,
    }
}

/// Runs of lines next to each other that `belongs` takes.
fn runs(lines: &[Line], belongs: impl Fn(&Line) -> bool) -> Vec<std::ops::Range<usize>> {
    let mut found: Vec<std::ops::Range<usize>> = Vec::new();
    for (index, _) in lines.iter().enumerate().filter(|(_, line)| belongs(line)) {
        match found.last_mut() {
            Some(run) if run.end == index => run.end += 1,
            _ => found.push(index..index + 1),
        }
    }
    found
}

fn align_definitions(lines: &mut [Line]) {
    for run in runs(lines, |line| line.name.is_some_and(|name| name <= NAME_MAX)) {
        let widest = lines[run.clone()].iter().filter_map(|line| line.name).max().unwrap_or(0);
        for line in &mut lines[run] {
            let Some(name) = line.name else { continue };
            line.code.insert_str(name, &" ".repeat(widest - name));
        }
    }
}

fn align_comments(lines: &mut [Line]) {
    let belongs = |line: &Line| {
        line.comment.is_some()
            && !line.code.is_empty()
            && !line.code.contains('\n')
            && line.width() <= CODE_MAX
    };
    for run in runs(lines, belongs) {
        let widest = lines[run.clone()].iter().map(Line::width).max().unwrap_or(0);
        for line in &mut lines[run] {
            let missing = widest - line.width();
            if let Some(comment) = &mut line.comment {
                comment.insert_str(0, &" ".repeat(missing));
            }
        }
    }
}
