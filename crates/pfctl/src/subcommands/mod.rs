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
    /// Its line in the usage text of pfctl.
    usage: &'static str,
    run: fn(&ArgMatches, &mut Console<'_>) -> Exit,
}

const SUBCOMMANDS: [Subcommand; 3] = [
    Subcommand { command: completions::command, usage: "completions shell", run: completions::run },
    Subcommand {
        command: fmt::command,
        usage: "fmt [--check] [--dialect name] [-D macro=value] [file ...]",
        run: fmt::run,
    },
    Subcommand { command: log::command, usage: "log [-p socket] [pflogN]", run: log::run },
];

/// Definitions of all subcommands.
pub fn commands() -> impl Iterator<Item = Command> {
    SUBCOMMANDS.iter().map(|subcommand| (subcommand.command)())
}

/// How each subcommand is called.
pub fn usages() -> impl Iterator<Item = &'static str> {
    SUBCOMMANDS.iter().map(|subcommand| subcommand.usage)
}

/// The arguments of a subcommand, its name first; nothing when these are flags of pfctl(8).
///
/// A first argument without a dash names one. The socket may stand in front, where it stands in
/// other calls: `pfctl -p SOCKET log`.
pub fn named(args: &[OsString]) -> Option<Vec<OsString>> {
    let is_flag = |arg: &OsString| arg.as_encoded_bytes().starts_with(b"-");
    if !is_flag(args.first()?) {
        return Some(args.to_vec());
    }
    let (socket, behind) = match args {
        [flag, ..] if flag == "-p" => args.split_at_checked(2)?,
        [flag, ..] if flag.as_encoded_bytes().starts_with(b"-p") => args.split_at(1),
        _ => return None,
    };
    let (name, rest) = behind.split_first()?;
    let known = commands().any(|command| name == command.get_name());
    known.then(|| [std::slice::from_ref(name), socket, rest].concat())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_may_stand_in_front_of_a_subcommand() {
        let named = |line: &str| {
            let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            Some(named(&args)?.join(OsString::from(" ").as_os_str()).into_string().unwrap())
        };
        for (line, wanted) in [
            ("log pflog1", Some("log pflog1")),
            ("-p sock log pflog1", Some("log -p sock pflog1")),
            ("-psock log", Some("log -psock")),
            ("nonsense -p sock", Some("nonsense -p sock")),
            ("-p sock -sr", None),
            ("-p log", None),
            ("-p sock nonsense", None),
            ("-p", None),
            ("-sr log", None),
            ("", None),
        ] {
            assert_eq!(named(line).as_deref(), wanted, "{line}");
        }
    }
}
