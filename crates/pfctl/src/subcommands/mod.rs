//! The other face: `pfctl SUBCOMMAND`.
//!
//! Exit codes: 0 everything is clean, 1 something was found, 2 wrong use, 3 no daemon.

mod completions;
mod diff;
mod fmt;
mod log;
mod replace;

use std::ffi::OsString;

use clap::{ArgMatches, Command};

use crate::console::{Console, printable};
use crate::exit::Exit;

/// A subcommand: its definition, which parser, help text and completions share, and what it does.
struct Subcommand {
    command: fn() -> Command,
    run: fn(&ArgMatches, &mut Console<'_>) -> Exit,
}

const SUBCOMMANDS: [Subcommand; 3] = [
    Subcommand { command: completions::command, run: completions::run },
    Subcommand { command: fmt::command, run: fmt::run },
    Subcommand { command: log::command, run: log::run },
];

/// Definitions of all subcommands.
pub fn commands() -> impl Iterator<Item = Command> {
    SUBCOMMANDS.iter().map(|subcommand| (subcommand.command)())
}

/// Runs the subcommand that the first argument names.
pub fn run(args: &[OsString], console: &mut Console<'_>) -> Exit {
    let Some((name, rest)) = args.split_first() else { return Exit::Usage };
    let found = SUBCOMMANDS.iter().find(|found| name == (found.command)().get_name());
    let Some(found) = found else {
        let name = printable(&name.to_string_lossy());
        let known: Vec<String> = commands().map(|command| command.get_name().to_owned()).collect();
        console.warn(format_args!(
            "unknown subcommand '{name}': there are {}, and flags start with a dash",
            known.join(", ")
        ));
        return Exit::Usage;
    };
    let command = (found.command)();
    let called = format!("pfctl {}", command.get_name());
    match command.no_binary_name(true).bin_name(called).try_get_matches_from(rest) {
        Ok(matches) => (found.run)(&matches, console),
        Err(error) if error.exit_code() == 0 => {
            // A failure to write is found when the console is flushed.
            let written = write!(console.out, "{error}");
            if written.is_ok() { Exit::Success } else { Exit::ClosedPipe }
        }
        Err(error) => {
            console.note_lines(&error.to_string());
            Exit::Usage
        }
    }
}
