//! The other face: `pfctl SUBCOMMAND`.

use std::ffi::OsString;

use clap_complete::Shell;

use crate::console::{Console, printable};
use crate::exit::Exit;
use crate::flags::defs::classic_command;

/// Runs the subcommand that the first argument names.
pub fn run(args: &[OsString], console: &mut Console<'_>) -> Exit {
    let words: Vec<String> = args.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["completions", shell] => completions(shell, console),
        ["completions", ..] => {
            console.warn(format_args!("completions needs one shell: {}", shells()));
            Exit::Usage
        }
        [name, ..] => {
            let name = printable(name);
            console.warn(format_args!(
                "unknown subcommand '{name}': the only one is completions, and flags start with a dash"
            ));
            Exit::Usage
        }
        [] => Exit::Usage,
    }
}

fn shells() -> String {
    let names = [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh];
    names.map(|shell| shell.to_string()).join(", ")
}

fn completions(shell: &str, console: &mut Console<'_>) -> Exit {
    let Ok(shell) = shell.parse::<Shell>() else {
        let shell = printable(shell);
        console.warn(format_args!("no completions for '{shell}', only for {}", shells()));
        return Exit::Usage;
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut classic_command(), "pfctl", &mut script);
    // A failure to write is found when the console is flushed.
    if console.out.write_all(&script).is_err() { Exit::ClosedPipe } else { Exit::Success }
}
