//! Honest web client for tests of a firewall: asks, reads to the end, counts.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Parser;
use pf_load::client::{self, Options};
use pf_load::netns;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Makes HTTP requests and prints how many succeeded, and how fast, in JSON.
///
/// Exit code 0: every request got its complete reply. 1: some did not. 2: could not run.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Network namespace to work in, a name or an absolute path
    #[arg(long)]
    netns: Option<String>,
    /// Address and port of the server: 192.0.2.1:80 or [2001:db8::1]:80
    #[arg(long)]
    server: SocketAddr,
    /// What to ask for
    #[arg(long, default_value = "/")]
    path: String,
    /// Own addresses to use in turn: the first, and how many follow it: 10.0.0.10+32
    #[arg(long)]
    sources: Option<Sources>,
    /// Most connections at a time
    #[arg(long, default_value_t = 64)]
    concurrent: usize,
    /// Connections per second; otherwise the next starts as one ends
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds until a request counts as failed
    #[arg(long, default_value_t = 1.0)]
    timeout: f64,
    /// Seconds until no new requests are started
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Requests until no new ones are started
    #[arg(long)]
    count: Option<u64>,
    /// Print one line per second as well
    #[arg(long)]
    interval_report: bool,
}

/// First address and number of addresses.
#[derive(Clone, Copy, Debug)]
struct Sources(IpAddr, u16);

impl std::str::FromStr for Sources {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, count) = text.split_once('+').unwrap_or((text, "1"));
        let first = first.parse().map_err(|_| format!("{first} is no address"))?;
        let count = count.parse().map_err(|_| format!("{count} is no number of addresses"))?;
        Ok(Self(first, count))
    }
}

impl Sources {
    fn addresses(self) -> Vec<IpAddr> {
        let Self(first, count) = self;
        (0..count)
            .map(|step| match first {
                IpAddr::V4(first) => IpAddr::V4((first.to_bits().wrapping_add(step.into())).into()),
                IpAddr::V6(first) => IpAddr::V6((first.to_bits().wrapping_add(step.into())).into()),
            })
            .collect()
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(report) => {
            println!("{}", report.to_json());
            ExitCode::from(u8::from(report.failures.total() != 0))
        }
        Err(error) => {
            eprintln!("pf-client: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<client::Report, Box<dyn std::error::Error>> {
    if arguments.rate.is_some_and(|rate| !rate.is_normal() || rate < 0.0) {
        return Err("the rate must be above zero".into());
    }
    let options = Options {
        server: arguments.server,
        path: arguments.path.clone(),
        sources: arguments.sources.map(Sources::addresses).unwrap_or_default(),
        concurrent: arguments.concurrent,
        rate: arguments.rate,
        timeout: Duration::try_from_secs_f64(arguments.timeout)?,
        duration: Duration::try_from_secs_f64(arguments.seconds)?,
        count: arguments.count,
        interval: Duration::from_secs(1),
    };
    if let Some(name) = &arguments.netns {
        netns::enter(name)?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGTERM, Arc::clone(&stop))?;
    signal_hook::flag::register(SIGINT, Arc::clone(&stop))?;
    let report = client::run(&options, &stop, |part| {
        if arguments.interval_report {
            println!("{}", part.to_json());
        }
    })?;
    Ok(report)
}
