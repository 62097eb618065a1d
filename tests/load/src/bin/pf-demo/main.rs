//! Shows what the firewall is for: a SYN flood, and honest users who do not notice it.
//!
//! One run has three phases: calm, flood, after the flood. Honest clients over IPv4 and IPv6 ask
//! all the time; the flood comes over both families from forged addresses. What is told about the
//! firewall comes from `pfctl`. See [`pf_load::lab`] for the network and for why nothing is left
//! behind, however the demo ends.

mod rules;
mod show;
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use pf_load::lab::{Lab, Setup, sandbox};

use crate::stage::{Phase, Stage};

/// Floods a web server behind the firewall and shows that its users do not notice.
///
/// Exit code 0: every honest request was served and syncookies switched on and off by themselves;
/// with --without-syncookies: users starved, as they should. 1: not so. 2: could not run.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Show the same flood without syncookies: honest users starve
    #[arg(long)]
    without_syncookies: bool,
    /// Rules of the firewall
    #[arg(long, default_value = "examples/pf.conf")]
    rules: PathBuf,
    /// SYNs per second and family
    #[arg(long, default_value_t = 50_000)]
    flood_rate: u64,
    /// Honest requests per second and family
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Seconds before the flood
    #[arg(long, default_value_t = 6)]
    calm: u64,
    /// Seconds of flood
    #[arg(long, default_value_t = 12)]
    flood: u64,
    /// Most seconds to wait after the flood until syncookies are off again
    #[arg(long, default_value_t = 30)]
    after: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if sandbox::is_inside() {
        return match run(&arguments) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("pf-demo: {error}");
                ExitCode::from(2)
            }
        };
    }
    if let Some(obstacle) = sandbox::obstacle() {
        eprintln!("pf-demo: cannot run here: {obstacle}");
        return ExitCode::from(2);
    }
    match sandbox::rerun(std::env::args_os().skip(1)) {
        Ok(status) => sandbox::exit_code(status),
        Err(error) => {
            eprintln!("pf-demo: {error}");
            ExitCode::from(2)
        }
    }
}

/// The whole demo; true when it showed what it is to show.
fn run(arguments: &Arguments) -> Result<bool, String> {
    let path = &arguments.rules;
    let rules =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let rules =
        if arguments.without_syncookies { rules::without_syncookies(&rules) } else { rules };
    let interrupted = sandbox::settle()?;
    show::opening(arguments);
    let lab = Lab::start(&Setup { rules: &rules, ..Setup::default() })?;
    let mut stage = Stage::new(&lab, interrupted, arguments.rate)?;

    let calm = stage.play(Phase::Calm, Duration::from_secs(arguments.calm))?;
    show::phase(&calm);
    stage.start_flood(arguments.flood_rate, Duration::from_secs(arguments.flood))?;
    let flood = stage.play(Phase::Flood, Duration::from_secs(arguments.flood))?;
    show::phase(&flood);
    let mut after = stage.play(Phase::After, Duration::from_secs(arguments.after))?;
    stage.end(&mut after);
    show::phase(&after);

    println!("\n$ pfctl -si");
    print!("{}", lab.pfctl_ok(["-s", "info"])?);
    Ok(show::conclusion(arguments.without_syncookies, &[calm, flood, after]))
}
