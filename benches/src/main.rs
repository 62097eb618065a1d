//! The firewall against the bare packet I/O, interleaved in one run.
//!
//! Absolute numbers belong to a machine and its mood, so every bench runs bare, pfd, bare, pfd, …
//! and reports medians and their ratio. Generator and engine have a processor each where there are
//! two. What is counted is what arrives at the far device, behind which an nft ingress hook drops
//! it; nothing is taken from what a generator believes to have sent.

mod run;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use pf_load::lab::sandbox;

/// What there is to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Small UDP packets
    Forwarding,
    /// SYNs answered with a cookie
    Cookies,
    /// TCP bulk, one stream and four
    Bulk,
}

/// Measures packets forwarded, SYNs answered and TCP bulk against the bare packet I/O.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Measure only these parts
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Rounds of bare and pfd
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that are measured in each
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Write all numbers to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if sandbox::is_inside() {
        return match measure(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("pf-bench: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let tools = ["pfd", "pfctl", "pf-forwarder", "pf-flood", "nft", "iperf3", "taskset", "nice"];
    sandbox::enter("pf-bench", &tools)
}

fn measure(arguments: &Arguments) -> Result<(), String> {
    let interrupted = sandbox::settle()?;
    sandbox::before_everybody_else();
    pf_load::lab::prepare_namespaces()?;
    let run = run::Run { seconds: arguments.seconds, interrupted };
    let wants = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    let (rounds, few) = (arguments.rounds, arguments.rounds.div_ceil(2));
    let mut benches = Vec::new();
    if wants(Part::Forwarding) {
        let name = "64-octet UDP, 1000 flows, 10 rules";
        let measure = |side| run.forwarding(side);
        benches.push(run.interleaved(name, "packets/s", 0.80, rounds, measure)?);
    }
    if wants(Part::Cookies) {
        let name = "SYNs answered with a cookie";
        let measure = |side| run.syn_answers(side);
        benches.push(run.interleaved(name, "packets/s", 0.85, rounds, measure)?);
    }
    if wants(Part::Bulk) {
        for (name, streams) in [("TCP bulk, one stream", "1"), ("TCP bulk, four streams", "4")] {
            let measure = |side| run.bulk(side, streams);
            benches.push(run.interleaved(name, "bit/s", 0.90, few, measure)?);
        }
    }
    table::print(&benches);
    if let Some(path) = &arguments.json {
        let text = table::json(&benches).to_string();
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
