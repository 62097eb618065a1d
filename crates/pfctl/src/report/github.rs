//! `--format github`: messages as workflow commands, which GitHub shows beside the lines.
//!
//! Source: GitHub Docs, "Workflow commands for GitHub Actions"; actions/toolkit
//! packages/core/src/command.ts for what is escaped.

use std::fmt::Write as _;
use std::io::{self, Write};

use pfconf::{Diagnostic, Input, Severity};

use super::Outcome;
use super::place::{ends, text_of};

pub fn write(out: &mut dyn Write, outcome: Outcome<'_>) -> io::Result<()> {
    for diagnostic in outcome.messages() {
        writeln!(out, "{}", command(diagnostic, outcome.input))?;
    }
    Ok(())
}

fn command(diagnostic: &Diagnostic, input: &Input<'_>) -> String {
    let level = match diagnostic.severity() {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let file = if diagnostic.file().is_empty() { input.name } else { diagnostic.file() };
    let mut command = format!("::{level} file={}", property(file));
    let mut message = String::new();
    if let Some((span, label)) = diagnostic.primary() {
        let (start, end) = ends(text_of(diagnostic, input), span);
        let _ = write!(command, ",line={}", start.line);
        // Columns are for places within a line, and the last one belongs to the place.
        if start.line == end.line {
            let last = end.column.saturating_sub(1).max(start.column);
            let _ = write!(command, ",col={},endLine={},endColumn={last}", start.column, end.line);
        } else {
            let _ = write!(command, ",endLine={}", end.line);
        }
        message.push_str(label);
    } else {
        if diagnostic.line() > 0 {
            let _ = write!(command, ",line={}", diagnostic.line());
        }
        message.push_str(diagnostic.text());
    }
    for (word, texts) in [("note", diagnostic.notes()), ("help", diagnostic.helps())] {
        for text in texts {
            let _ = write!(message, "\n{word}: {text}");
        }
    }
    let title = format!("{}: {}", diagnostic.code(), diagnostic.summary());
    let _ = write!(command, ",title={}::{}", property(&title), data(&message));
    command
}

/// Text of a message.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Text between the signs in front of a message.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_the_format_are_escaped() {
        assert_eq!(data("a%\r\n:,"), "a%25%0D%0A:,");
        assert_eq!(property("a%\r\n:,"), "a%25%0D%0A%3A%2C");
    }
}
