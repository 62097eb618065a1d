//! Measures connections through the firewall against plain forwarding and Linux SYNPROXY.

mod criteria;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use pf_load::lab::{program, sandbox};
use pf_peers::middle::Middle;
use pf_peers::relay::Line;
use pf_peers::requests::Load;
use pf_peers::scan::Manner;
use pf_peers::transfer::{Job, Setting, Way};
use pf_peers::{forgery, options, requests, scan, speed, transfer};

use crate::report::Report;

/// What there is to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Which options of TCP connections end up with
    Options,
    /// Honest requests during a flood
    Requests,
    /// Connections and SYNs per second
    Speed,
    /// Port scans
    Scan,
    /// Guessed and repeated acknowledgements, memory
    Forgery,
    /// Large transfers with loss, reordering and wrapping sequence numbers
    Transfer,
}

/// A line for transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LineKind {
    /// 1 % lost, 2 ms round trip
    Lost,
    /// 2 % overtaken by later ones, 2 ms round trip
    Late,
    /// 20 ms round trip; and how long a first reply takes
    Distant,
    /// 1 % lost, 1 % overtaken, 2 ms round trip, one connection whose sequence numbers wrap
    Wrap,
}

/// Measures connections through pfd, calm and with SYN cookies, against plain forwarding by the
/// kernel and Linux SYNPROXY: options of TCP, requests during a flood, port scans, forged
/// acknowledgements, large transfers over a bad line.
///
/// Takes about half an hour; --short takes about five minutes and measures the same with
/// fewer connections, ports and octets.
#[derive(Debug, Parser)]
#[command(name = "pf-peers", version)]
struct Arguments {
    /// Measure only these parts
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Put only these in the middle; what is compared with others needs them
    #[arg(long, value_enum, value_delimiter = ',')]
    middle: Vec<Middle>,
    /// Fewer connections, octets and ports
    #[arg(long)]
    short: bool,
    /// Honest requests for each thing in the middle
    #[arg(long)]
    connections: Option<u64>,
    /// Honest requests per second
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// SYNs per second of the flood
    #[arg(long, default_value_t = 50_000)]
    flood: u64,
    /// Ports of each of the 32 addresses from which requests come
    #[arg(long, default_value_t = 1000)]
    ports: u16,
    /// Megabytes of a transfer whose sequence numbers wrap; twice as many in all rounds of others
    #[arg(long)]
    megabytes: Option<u64>,
    /// Rounds of transfers, of which the median is judged
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: Option<u64>,
    /// Transfers over these lines only
    #[arg(long, value_enum, value_delimiter = ',')]
    line: Vec<LineKind>,
    /// Round trip of these lines in milliseconds, in place of their own
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=1000))]
    round_trip: Option<u32>,
    /// Each transfer through a middle of its own, so that it meets a server that nobody knows
    #[arg(long)]
    unknown: bool,
    /// Congestion control of the server in transfers: bbr, cubic, ...; else the system's own
    #[arg(long)]
    congestion: Option<String>,
    /// Write all numbers to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if sandbox::is_inside() {
        return match measure(&arguments) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("pf-peers: {error}");
                ExitCode::from(2)
            }
        };
    }
    sandbox::enter("pf-peers", &["pfd", "pfctl", "nft", "ip"])
}

impl Arguments {
    fn wants(&self, middle: Middle) -> bool {
        self.middle.is_empty() || self.middle.contains(&middle)
    }

    fn has_line(&self, line: LineKind) -> bool {
        self.line.is_empty() || self.line.contains(&line)
    }

    fn setting(&self, middle: Middle) -> Setting<'_> {
        Setting { middle, congestion: self.congestion.as_deref() }
    }
}

/// Measures; true when everything could be measured and all criteria hold.
fn measure(arguments: &Arguments) -> Result<bool, String> {
    let interrupted = sandbox::settle()?;
    sandbox::before_everybody_else();
    let mut report = Report::default();
    let start = Instant::now();
    for part in Part::value_variants() {
        if !arguments.parts.is_empty() && !arguments.parts.contains(part) {
            continue;
        }
        if interrupted.load(std::sync::atomic::Ordering::Relaxed) {
            return Err("interrupted; nothing is left behind".to_owned());
        }
        match part {
            Part::Options => measure_options(arguments, &mut report),
            Part::Requests => measure_requests(arguments, &mut report),
            Part::Speed => measure_speed(arguments, &mut report),
            Part::Scan => measure_scans(arguments, &mut report),
            Part::Forgery => measure_forgery(arguments, &mut report),
            Part::Transfer => measure_transfers(arguments, &mut report),
        }
    }
    let holds = criteria::show(&criteria::judge(&report.to_json()));
    println!("\ndone in {} s", start.elapsed().as_secs());
    if let Some(path) = &arguments.json {
        std::fs::write(path, report.to_json().to_string())
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(holds)
}

fn measure_options(arguments: &Arguments, report: &mut Report) {
    report.title("Options of TCP, as both ends know them");
    for middle in Middle::ALL.into_iter().filter(|&middle| arguments.wants(middle)) {
        report.doing(middle.name());
        let cells = options::measure(middle, options::CASES);
        report.options(middle, cells);
    }
    report.show_options();
}

fn measure_requests(arguments: &Arguments, report: &mut Report) {
    let connections = arguments.connections.unwrap_or(if arguments.short { 5000 } else { 50_000 });
    let (rate, flood, ports) = (arguments.rate, arguments.flood, arguments.ports);
    report.title(&format!(
        "{connections} requests at {rate} a second, from 32 addresses with {ports} ports each"
    ));
    report.requests_head();
    let rows = [(Middle::Plain, 0), (Middle::Calm, 0)]
        .into_iter()
        .chain(Middle::ALL.map(|middle| (middle, flood)));
    for (middle, flood) in rows.filter(|&(middle, _)| arguments.wants(middle)) {
        // Without a defence the flood fills the table and everybody fails, which takes no large
        // number to show.
        let defended = middle.answers() || flood == 0;
        let connections = if defended { connections } else { connections.min(5000) };
        let outcome = requests::measure(middle, &Load { connections, rate, flood, ports });
        report.requests(middle, flood, outcome);
    }
}

fn measure_speed(arguments: &Arguments, report: &mut Report) {
    report.title("Connections one after the other and 64 at a time, and SYNs answered");
    let time = Duration::from_secs(if arguments.short { 1 } else { 4 });
    for middle in Middle::ALL {
        // Adaptive cookies are off without a flood, and the same as always with one.
        if middle != Middle::Flood && arguments.wants(middle) {
            report.doing(middle.name());
            report.speed(middle, speed::measure(middle, time));
        }
    }
}

fn measure_scans(arguments: &Arguments, report: &mut Report) {
    report.title("Port scan by nmap: ports by state");
    if program("nmap").is_none() {
        report.failed(None, "scan", "nmap is not there");
        return;
    }
    let last = if arguments.short { 4000 } else { u16::MAX };
    for manner in [Manner::Syn, Manner::Connect] {
        for middle in [Middle::Calm, Middle::Probing, Middle::Classic] {
            if !arguments.wants(middle) {
                continue;
            }
            report.doing(middle.name());
            let scan = scan::measure(middle, manner, last);
            report.scan(middle, manner, scan);
        }
    }
}

fn measure_forgery(arguments: &Arguments, report: &mut Report) {
    report.title("Forged acknowledgements");
    let count = if arguments.short { 1 << 20 } else { 1 << 22 };
    for middle in [Middle::Always, Middle::Classic, Middle::Synproxy] {
        if !arguments.wants(middle) {
            continue;
        }
        for stamped in [false, true] {
            report.guesses(middle, forgery::guess(middle, stamped, count));
        }
        report.replays(middle, forgery::replay(middle, 20));
    }
    let time = Duration::from_secs(if arguments.short { 10 } else { 60 });
    for middle in [Middle::Always, Middle::Flood] {
        if arguments.wants(middle) {
            report.memory(middle, forgery::memory(middle, time));
        }
    }
}

fn measure_transfers(arguments: &Arguments, report: &mut Report) {
    let octets = arguments.megabytes.unwrap_or(if arguments.short { 50 } else { 1000 }) * 1_000_000;
    let rounds_of = |usual| arguments.rounds.unwrap_or(if arguments.short { 1 } else { usual });
    let rounds = rounds_of(36);
    // Without a delay the least round trip that a sender knows, which tells it how long to wait for
    // what is overtaken (RFC 8985), is the time that sleeping threads take to wake.
    let delayed = |usual: u32| Line {
        delay: Duration::from_millis(arguments.round_trip.unwrap_or(usual).into()) / 2,
        ..Line::default()
    };
    let near = delayed(2);
    let lost = Line { lost_per_mille: 10, ..near };
    let reordered = Line { late_per_mille: 20, ..near };
    let distant = delayed(20);
    report.title("Transfers over bad lines, every octet compared");
    for (kind, name, line) in [
        (LineKind::Lost, "1 % lost", lost),
        (LineKind::Late, "2 % overtaken by later ones", reordered),
        (LineKind::Distant, "distant", distant),
    ] {
        if !arguments.has_line(kind) {
            continue;
        }
        let mut seen = Vec::new();
        for round in 0..rounds {
            for middle in in_turn(Middle::ALL, round) {
                if middle == Middle::Flood || !arguments.wants(middle) {
                    continue;
                }
                // Those without window scale and SACK are slow; one short round shows it. Many
                // rounds are for what is judged.
                let slow = matches!(middle, Middle::Classic | Middle::SynproxyBare);
                if slow && round > 0 || !is_judged(middle) && round >= 6 {
                    continue;
                }
                report.doing(middle.name());
                let limit = Duration::from_secs(if slow { 5 } else { 20 });
                let octets = 2 * octets / rounds;
                let jobs =
                    [Way::Up, Way::Down].map(|way| Job { way, octets, wrap: false, limit, line });
                transfer(arguments, report, middle, &jobs, &mut seen);
            }
        }
        report.transfers(&with_round_trip(name, line), seen);
        if kind == LineKind::Distant {
            measure_first_replies(arguments, report, line.delay);
        }
    }
    if !arguments.has_line(LineKind::Wrap) {
        return;
    }
    let line = Line { late_per_mille: 10, ..lost };
    let mut seen = Vec::new();
    for round in 0..rounds_of(12) {
        let middles = [Middle::Plain, Middle::Calm, Middle::Always, Middle::Synproxy];
        for middle in in_turn(middles, round) {
            // One round shows what others do; what has to hold is judged by more.
            if !arguments.wants(middle) || round > 0 && !is_judged(middle) {
                continue;
            }
            let limit = Duration::from_mins(1);
            let jobs = [Way::Up, Way::Down].map(|way| Job { way, octets, wrap: true, limit, line });
            transfer(arguments, report, middle, &jobs, &mut seen);
        }
    }
    let name =
        with_round_trip("one connection, 1 % lost, 1 % overtaken, sequence numbers wrap", line);
    report.transfers(&name, seen);
}

/// Whether its transfers are compared with each other.
const fn is_judged(middle: Middle) -> bool {
    matches!(middle, Middle::Calm | Middle::Always)
}

/// Name of a line with its round trip.
fn with_round_trip(name: &str, line: Line) -> String {
    format!("{name}, {} ms round trip", 2 * line.delay.as_micros() / 1000)
}

/// Every other round in reverse, as a machine is not as fast at the end of a round as at its
/// beginning.
fn in_turn<const N: usize>(mut middles: [Middle; N], round: u64) -> [Middle; N] {
    if round % 2 == 1 {
        middles.reverse();
    }
    middles
}

fn transfer(
    arguments: &Arguments,
    report: &mut Report,
    middle: Middle,
    jobs: &[Job],
    seen: &mut Vec<transfer::Transfer>,
) {
    let setting = arguments.setting(middle);
    let at_once = if arguments.unknown { 1 } else { jobs.len() };
    for jobs in jobs.chunks(at_once) {
        match transfer::measure(&setting, jobs) {
            Ok(transfers) => seen.extend(transfers),
            Err(error) => report.failed(Some(middle), "transfers", &error),
        }
    }
}

fn measure_first_replies(arguments: &Arguments, report: &mut Report, delay: Duration) {
    let count = if arguments.short { 10 } else { 100 };
    for middle in Middle::ALL {
        if middle != Middle::Flood && arguments.wants(middle) {
            let replies = transfer::first_replies(&arguments.setting(middle), delay, count);
            report.first_replies(middle, replies);
        }
    }
}
