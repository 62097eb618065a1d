//! Web server for tests of a firewall: the same answer to everything, many connections a second.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Parser;
use pf_load::netns;
use pf_load::serve::{Role, Server};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Answers HTTP requests until it is told to stop, then prints counters in JSON.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Network namespace to work in, a name or an absolute path
    #[arg(long)]
    netns: Option<String>,
    /// Address and port to listen on, any number of them
    #[arg(long, required = true)]
    listen: Vec<SocketAddr>,
    /// Octets in the body of the answer
    #[arg(long, default_value_t = 1024)]
    body: usize,
    /// Read everything, answer nothing
    #[arg(long)]
    sink: bool,
    /// Stop after this time at the latest
    #[arg(long, default_value_t = 3600.0)]
    seconds: f64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(counters) => {
            println!("{counters}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pf-serve: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<String, Box<dyn std::error::Error>> {
    if let Some(name) = &arguments.netns {
        netns::enter(name)?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGTERM, Arc::clone(&stop))?;
    signal_hook::flag::register(SIGINT, Arc::clone(&stop))?;
    let role = if arguments.sink { Role::Sink } else { Role::Web { body: arguments.body } };
    let server = Server::bind(&arguments.listen, role)?;
    let counters = server.run(&stop, Duration::try_from_secs_f64(arguments.seconds)?)?;
    Ok(serde_json::to_string(&counters)?)
}
