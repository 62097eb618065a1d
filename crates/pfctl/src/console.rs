//! The streams of a run: data to standard output, everything else to standard error.
//!
//! Failures of standard error are not reported, as there is nowhere left to report them.

use std::fmt::Display;
use std::io::{self, Read, Write};

/// Where a run reads and writes. Tests put buffers here.
pub struct Console<'a> {
    /// Rules or addresses for `-f -`.
    pub input: &'a mut dyn Read,
    /// Data.
    pub out: &'a mut dyn Write,
    /// Messages.
    pub err: &'a mut dyn Write,
    /// Whether messages go to a terminal.
    pub err_is_terminal: bool,
}

impl Console<'_> {
    /// Writes `pfctl: text` to standard error.
    pub fn warn(&mut self, text: impl Display) {
        self.note(format_args!("pfctl: {text}"));
    }

    /// Writes a line to standard error, behind the data written so far.
    pub fn note(&mut self, text: impl Display) {
        let _ = self.out.flush();
        let _ = writeln!(self.err, "{text}");
    }

    /// Writes text that ends its own lines to standard error.
    pub fn note_lines(&mut self, text: &str) {
        let _ = self.out.flush();
        let _ = self.err.write_all(text.as_bytes());
    }
}

/// The system's text for an error, without the number that `std` adds.
#[must_use]
pub fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) if error.raw_os_error().is_some() => text[..end].to_owned(),
        _ => text,
    }
}

/// `text` with control characters escaped, so that nothing the daemon or a file says can steer the
/// terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_lose_their_number() {
        assert_eq!(os_text(&io::Error::from_raw_os_error(111)), "Connection refused");
        assert_eq!(os_text(&io::Error::other("odd (os error 1)")), "odd (os error 1)");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nü"), "a\\u{1b}[2Jb\\nü");
    }
}
