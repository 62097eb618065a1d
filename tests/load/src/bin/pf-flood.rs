//! Floods a victim with forged packets, for tests of a firewall between own namespaces.

use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use clap::Parser;
use pf_load::flood::{self, Options};
use pf_load::netns;
use pf_load::packet::{Kind, SourceNet};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Sends forged SYN, ACK or UDP packets from random senders and prints a summary in JSON.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Kind of packet
    #[arg(long, value_enum, default_value = "syn")]
    kind: Kind,
    /// Network namespace to work in, a name or an absolute path
    #[arg(long)]
    netns: Option<String>,
    /// Interface to send through
    #[arg(long)]
    interface: String,
    /// Address of the victim
    #[arg(long)]
    dst: IpAddr,
    /// Port of the victim
    #[arg(long, default_value_t = 80)]
    port: u16,
    /// Prefix to forge senders from [default: 198.18.0.0/15 or 2001:db8:7::/48]
    #[arg(long)]
    src_net: Option<SourceNet>,
    /// Packets per second, 0 is as fast as possible
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// How long
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Use this many senders over and over
    #[arg(long)]
    flows: Option<usize>,
    /// Octets of a UDP packet, IP header included
    #[arg(long, default_value_t = 64)]
    length: usize,
    /// The same seed sends the same packets [default: from the process id]
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pf-flood: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<String, Box<dyn std::error::Error>> {
    let default_net = if arguments.dst.is_ipv4() { "198.18.0.0/15" } else { "2001:db8:7::/48" };
    let options = Options {
        kind: arguments.kind,
        interface: arguments.interface.clone(),
        next_hop: None,
        destination: arguments.dst,
        port: arguments.port,
        sources: arguments.src_net.map_or_else(|| default_net.parse(), Ok)?,
        rate: arguments.rate,
        duration: Duration::try_from_secs_f64(arguments.seconds)?,
        flows: arguments.flows,
        udp_length: arguments.length,
        seed: arguments.seed.unwrap_or_else(|| std::process::id().into()),
    };
    if let Some(name) = &arguments.netns {
        netns::enter(name)?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGTERM, Arc::clone(&stop))?;
    signal_hook::flag::register(SIGINT, Arc::clone(&stop))?;
    let summary = flood::run(&options, &stop, &AtomicU64::new(0))?;
    Ok(serde_json::to_string(&summary)?)
}
