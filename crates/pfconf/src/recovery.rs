//! Which messages only follow from a mistake before them.
//!
//! pfctl(8) goes on behind a mistake as if its statement had never been there, and then complains
//! about what needs it: a macro that the statement would have defined, the closing brace of an
//! anchor that it would have opened, the rest of a list. Its lines and their numbers are a habit of
//! scripts, so the classic form keeps them all. For people and editors such a message is noise, and
//! often a wrong track: it is marked as a consequence, and the other forms leave it out.

use std::collections::BTreeSet;

use crate::diag::{Code, Diagnostic};
use crate::scan::{STATEMENT_WORDS, Statement, first_word, tokens};

/// What mistakes so far have left undone.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    /// Macros whose definition was not carried out.
    macros: BTreeSet<String>,
    /// Queues whose definition was not carried out.
    queues: BTreeSet<String>,
    /// A file that could define anything was not read.
    blind: bool,
    /// Closing braces to come of anchors that were left or never opened.
    braces: usize,
    /// Offset in the file up to which a statement with a mistake goes on.
    until: usize,
    /// A list goes on in the next lines, nobody knows how far.
    in_list: bool,
    /// An inline anchor was wrong as a whole: pfctl takes the next `anchor` line for its own.
    pub(crate) left_open: bool,
}

impl Recovery {
    /// A statement is lost, with `frames` anchors around it.
    pub(crate) fn lost(&mut self, statement: &Statement, frames: usize) {
        self.braces += frames;
        self.text(&statement.text);
        self.until = self.until.max(statement.end);
        self.in_list |= statement.open_brace.is_some();
    }

    /// A statement makes sense: no list goes on.
    pub(crate) const fn understood(&mut self) {
        self.in_list = false;
    }

    /// A line is skipped together with the one before it.
    pub(crate) fn skipped(&mut self, line: &str) {
        if line.trim_start().starts_with('}') {
            self.closing();
        }
        self.text(line);
    }

    fn text(&mut self, text: &str) {
        let mut words = tokens(text).map(|token| &text[token]).filter(|word| *word != "\n");
        let (first, second) = (words.next(), words.next());
        match (first, second) {
            (Some(name), Some("=")) => {
                let name = bare(name);
                // A name with a blank is used as if it ended there.
                self.macros.extend(name.split_whitespace().next().map(str::to_owned));
                self.macros.insert(name);
            }
            (Some("include"), _) => self.blind = true,
            (Some("queue"), Some(name)) => drop(self.queues.insert(bare(name))),
            (Some("anchor"), _) if text.matches('{').count() > text.matches('}').count() => {
                self.braces += 1;
            }
            // The closing brace of an anchor, behind a rule.
            (Some(first), _)
                if first != "}" && text.matches('}').count() > text.matches('{').count() =>
            {
                self.braces = self.braces.saturating_sub(1);
            }
            _ => {}
        }
    }

    /// Another file begins; gives what [`Self::leave`] needs at its end.
    pub(crate) fn enter(&mut self) -> (usize, bool) {
        (std::mem::take(&mut self.until), std::mem::take(&mut self.in_list))
    }

    /// The file ends.
    pub(crate) const fn leave(&mut self, (until, in_list): (usize, bool)) {
        self.until = until;
        self.in_list = in_list;
    }

    /// A closing brace without an anchor.
    fn closing(&mut self) -> bool {
        let expected = self.in_list || self.braces > 0;
        if !std::mem::take(&mut self.in_list) {
            self.braces = self.braces.saturating_sub(1);
        }
        expected
    }

    /// Whether what is wrong with a statement, which starts at `start` in the file, is only that
    /// the statement before it was cut off.
    pub(crate) fn is_rest(&mut self, statement: &Statement, start: usize) -> bool {
        let text = statement.text.trim_start();
        if STATEMENT_WORDS.contains(&first_word(text)) {
            self.in_list = false;
            return false;
        }
        if start < self.until {
            return true;
        }
        if text.starts_with('}') {
            return self.closing();
        }
        let defines = tokens(text).nth(1).is_some_and(|token| &text[token] == "=");
        self.in_list &= !defines;
        self.in_list
    }

    /// Whether a message is about a name that a lost statement would have defined.
    pub(crate) fn explains(&self, diagnostic: &Diagnostic) -> bool {
        let Some(name) = diagnostic.subject() else { return false };
        match diagnostic.kind() {
            Code::MacroUndefined => self.blind || self.macros.contains(name),
            Code::Queue => self.queues.contains(name),
            _ => false,
        }
    }
}

fn bare(word: &str) -> String {
    word.trim_matches(['"', '\'']).to_owned()
}
