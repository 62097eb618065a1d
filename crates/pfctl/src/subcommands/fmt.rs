//! `pfctl fmt`: writes files of rules in one style.

use std::fs;
use std::io;
use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command};
use pfconf::format::{FormatError, format};
use pfconf::syntax::SyntaxOptions;
use pfconf::{Dialect, Input};

use super::diff::unified;
use super::replace::replace;
use crate::console::{Console, os_text, printable};
use crate::exit::Exit;
use crate::load::{self, Style};
use crate::sources::SystemSources;

pub fn command() -> Command {
    Command::new("fmt")
        .about("Write files of rules in one style; their meaning and comments stay")
        .arg(
            Arg::new("check")
                .long("check")
                .action(ArgAction::SetTrue)
                .help("Change nothing, show the difference, and exit with 1 if there is one"),
        )
        .arg(
            Arg::new("dialect")
                .long("dialect")
                .value_name("name")
                .value_parser(["auto", "openbsd", "freebsd", "macos"])
                .default_value("auto")
                .help("Whose pf.conf the files are"),
        )
        .arg(
            Arg::new("define")
                .short('D')
                .value_name("macro=value")
                .action(ArgAction::Append)
                .help("Define a macro that a file uses and does not define"),
        )
        .arg(
            Arg::new("file")
                .action(ArgAction::Append)
                .help("Files to write anew; - or none is standard input to standard output"),
        )
}

/// What one file gives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Clean,
    Finding,
    /// It could not be read or written.
    Failed,
}

pub fn run(matches: &ArgMatches, console: &mut Console<'_>) -> Exit {
    let words: Vec<String> =
        matches.get_many::<String>("define").into_iter().flatten().cloned().collect();
    let job = Job {
        check: matches.get_flag("check"),
        dialect: matches.get_one::<String>("dialect").cloned().unwrap_or_default(),
        defines: load::defines(&words, console),
        sources: SystemSources::new(false, Dialect::OpenBsd),
    };
    let files: Vec<&String> = matches.get_many("file").into_iter().flatten().collect();
    let outcome = if files.is_empty() {
        job.stdin(console)
    } else {
        let each = files.iter().map(|file| match file.as_str() {
            "-" => job.stdin(console),
            file => job.file(file, console),
        });
        each.max().unwrap_or(Outcome::Clean)
    };
    match outcome {
        Outcome::Clean => Exit::Success,
        Outcome::Finding => Exit::Failure,
        Outcome::Failed => Exit::Usage,
    }
}

struct Job {
    check: bool,
    dialect: String,
    defines: Vec<(String, String)>,
    sources: SystemSources,
}

impl Job {
    fn stdin(&self, console: &mut Console<'_>) -> Outcome {
        let mut octets = Vec::new();
        let read = console.input.read_to_end(&mut octets);
        let text = match read.and_then(|_| utf8(octets)) {
            Ok(text) => text,
            Err(error) => return failed("stdin", &error, console),
        };
        let Some(new) = self.format("stdin", &text, console) else { return Outcome::Finding };
        if self.check {
            return Self::difference("stdin", &text, &new, console);
        }
        // A failure to write is found when the console is flushed.
        let _ = console.out.write_all(new.as_bytes());
        Outcome::Clean
    }

    fn file(&self, file: &str, console: &mut Console<'_>) -> Outcome {
        let path = Path::new(file);
        let text = match fs::read(path).and_then(utf8) {
            Ok(text) => text,
            Err(error) => return failed(file, &error, console),
        };
        let Some(new) = self.format(file, &text, console) else { return Outcome::Finding };
        if self.check {
            return Self::difference(file, &text, &new, console);
        }
        if new == text {
            return Outcome::Clean;
        }
        match replace(path, &new) {
            Ok(()) => Outcome::Clean,
            Err(error) => failed(file, &error, console),
        }
    }

    /// The formatted text; without one, what is wrong has been shown.
    fn format(&self, name: &str, text: &str, console: &mut Console<'_>) -> Option<String> {
        let input = Input { name, text };
        let options = SyntaxOptions {
            dialect: self.dialect(text),
            sources: &self.sources,
            defines: &self.defines,
        };
        match format(&input, &options) {
            Ok(new) => Some(new),
            Err(FormatError::Mistakes(found)) => {
                load::show_all(&found, &input, Style::usual(console), console);
                None
            }
            Err(error @ FormatError::Changed) => {
                console.warn(format_args!("{}: {error}", printable(name)));
                None
            }
        }
    }

    fn dialect(&self, text: &str) -> Dialect {
        Dialect::from_word(&self.dialect).unwrap_or_else(|| pfconf::detect(text).0)
    }

    fn difference(name: &str, old: &str, new: &str, console: &mut Console<'_>) -> Outcome {
        if old == new {
            return Outcome::Clean;
        }
        let _ = console.out.write_all(unified(&printable(name), old, new).as_bytes());
        Outcome::Finding
    }
}

fn failed(file: &str, error: &io::Error, console: &mut Console<'_>) -> Outcome {
    console.warn(format_args!("{}: {}", printable(file), os_text(error)));
    Outcome::Failed
}

/// The text of a file. Octets that are no UTF-8 would not survive, so they are refused.
fn utf8(octets: Vec<u8>) -> io::Result<String> {
    String::from_utf8(octets).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].split(|&octet| octet == b'\n').count();
        io::Error::other(format!("line {line} is no UTF-8; convert the file, as with iconv"))
    })
}
