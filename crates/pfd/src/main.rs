//! Command line of the daemon.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Parser};
use pfd::exit::Exit;
use pfd::{config, daemon, log};

/// Packet filter with the language of OpenBSD pf: a router between TUN devices.
#[derive(Debug, Parser)]
#[command(name = "pfd", version)]
struct Flags {
    /// Configuration file
    #[arg(short = 'c', value_name = "FILE", default_value = "/etc/pfd.toml")]
    config: PathBuf,
    /// Only check the configuration file
    #[arg(short = 'n')]
    check: bool,
    /// Log details, too
    #[arg(short = 'v', action = ArgAction::Count)]
    verbose: u8,
}

fn main() -> ExitCode {
    // Wrong use ends here with exit code 2.
    let flags = Flags::parse();
    log::set_verbosity(flags.verbose);
    let config = match config::load(&flags.config) {
        Ok(config) => config,
        Err(error) => {
            log::error(&error.to_string());
            return if flags.check { Exit::Check } else { Exit::Config }.into();
        }
    };
    if flags.check {
        // Who closed standard output does not want to know.
        let _ = writeln!(std::io::stdout(), "{}: OK", flags.config.display());
        return Exit::Success.into();
    }
    match daemon::run(config) {
        Ok(()) => Exit::Success.into(),
        Err(error) => {
            log::error(&error.to_string());
            error.exit().into()
        }
    }
}
