//! pfctl: administers the packet filter in the words and formats of OpenBSD pfctl(8).
//!
//! A run is arguments in, a [`Console`] to write to, and an [`Exit`]; nothing else is global.
//! `flags` turns arguments into what is asked for, `session` does it in pf's order, `act` has
//! one file per kind of action, `show` prints reports, `client` talks to the daemon.
#![forbid(unsafe_code)]

mod act;
mod client;
mod compile;
mod console;
mod env;
mod error;
mod exit;
mod facts;
mod flags;
mod hosts;
mod load;
mod machine;
mod report;
mod session;
mod show;
mod sources;
mod subcommands;

use std::ffi::OsString;

pub use console::Console;
use error::Error;
pub use exit::Exit;
use flags::classic::{Call, FlagError};
use flags::help;

/// Runs pfctl with the arguments behind its name.
///
/// A first argument that starts with a dash, and no argument at all, mean the classic face, but for
/// a socket in front of a subcommand; anything else is a subcommand.
#[must_use]
pub fn run(args: &[OsString], console: &mut Console<'_>) -> Exit {
    let exit = match subcommands::named(args) {
        Some(args) => subcommands::run(&args, console),
        None => classic(args, console),
    };
    let flushed = console.out.flush().map(|()| exit);
    flushed.unwrap_or_else(|error| output_failure(&Error::Output(error), console))
}

fn classic(args: &[OsString], console: &mut Console<'_>) -> Exit {
    if args.is_empty() {
        console.note_lines(&help::usage());
        return Exit::Failure;
    }
    let written = match flags::classic::parse(args) {
        Ok(Call::Classic(flags)) => return session::run(&flags, console),
        Ok(Call::Compile { name, facts }) => compile::run(&name, &facts, console),
        Ok(Call::Explain(code)) => text(code.explanation(), console),
        Ok(Call::Help) => text(&help::help(), console),
        Ok(Call::Version) => text(concat!("pfctl ", env!("CARGO_PKG_VERSION"), "\n"), console),
        Err(error) => {
            if !matches!(error, FlagError::Usage) {
                console.warn(console::printable(&error.to_string()));
            }
            if !matches!(error, FlagError::Plain(_)) {
                console.note_lines(&help::usage());
            }
            return Exit::Failure;
        }
    };
    written.unwrap_or_else(|error| output_failure(&error, console))
}

fn text(text: &str, console: &mut Console<'_>) -> Result<Exit, Error> {
    console.out.write_all(text.as_bytes())?;
    Ok(Exit::Success)
}

/// A reader of standard output that went away is no failure to talk about.
fn output_failure(error: &Error, console: &mut Console<'_>) -> Exit {
    if let Error::Output(source) = error
        && source.kind() == std::io::ErrorKind::BrokenPipe
    {
        return Exit::ClosedPipe;
    }
    console.warn(error);
    Exit::Failure
}
