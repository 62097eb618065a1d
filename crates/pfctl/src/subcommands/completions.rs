//! `pfctl completions`: scripts for shells.

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::console::Console;
use crate::exit::Exit;
use crate::flags::defs::{Letters, classic_command};

pub fn command() -> Command {
    Command::new("completions").about("Write the completions of a shell to standard output").arg(
        Arg::new("shell")
            .help("Name of the shell")
            .required(true)
            .value_parser(value_parser!(Shell)),
    )
}

pub fn run(matches: &ArgMatches, console: &mut Console<'_>) -> Exit {
    let Some(&shell) = matches.get_one::<Shell>("shell") else { return Exit::Usage };
    let mut script = Vec::new();
    let mut command = classic_command(Letters::OpenBsd).subcommands(super::commands());
    clap_complete::generate(shell, &mut command, "pfctl", &mut script);
    // A failure to write is found when the console is flushed.
    if console.out.write_all(&script).is_err() { Exit::ClosedPipe } else { Exit::Success }
}
