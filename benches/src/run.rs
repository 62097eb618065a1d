//! One measurement of one side.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pf_load::lab::{
    ATTACKER, Background, CLIENT, Lab, Place, SERVER, Setup, add_routes, checked, nsenter, program,
    run,
};
use pf_load::netns;

use crate::table::Bench;

/// Ten rules, of which the last one that matters makes the state.
const TEN_RULES: &str = "\
block drop
pass proto tcp to port 22
pass proto tcp to port 25
pass proto tcp to port 80
pass proto tcp to port 110
pass proto tcp to port 143
pass proto tcp to port 443
pass proto tcp to port 993
pass proto tcp to port 5201
pass proto udp to port 9
";
/// A cookie for every SYN.
const COOKIES: &str = "set syncookies always (no-probe)\npass\n";
/// Time for queues and states to settle before counting.
const WARM_UP: Duration = Duration::from_millis(500);

/// Which of the two is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `pf-forwarder`.
    Bare,
    /// `pfd`.
    Pfd,
}

/// What keeps a side alive.
enum Engine {
    Bare { _forwarder: Background },
    Pfd { _lab: Box<Lab> },
}

/// Settings of all measurements.
#[derive(Debug)]
pub struct Run {
    /// Seconds that are measured.
    pub seconds: u64,
    /// The user wants an end.
    pub interrupted: Arc<AtomicBool>,
}

impl Run {
    /// Measures bare, pfd, bare, pfd, …
    pub fn interleaved(
        &self,
        name: &'static str,
        unit: &'static str,
        goal: f64,
        rounds: usize,
        measure: impl Fn(Side) -> Result<f64, String>,
    ) -> Result<Bench, String> {
        let mut bench = Bench { name, unit, goal, bare: Vec::new(), pfd: Vec::new() };
        for round in 1..=rounds {
            eprint!("\r{name}: round {round} of {rounds}   ");
            for side in [Side::Bare, Side::Pfd] {
                if self.interrupted.load(Ordering::Relaxed) {
                    return Err("interrupted; nothing is left behind".to_owned());
                }
                wait_for_quiet();
                let value = measure(side).map_err(|error| format!("{name}, {side:?}: {error}"))?;
                match side {
                    Side::Bare => bench.bare.push(value),
                    Side::Pfd => bench.pfd.push(value),
                }
            }
        }
        eprintln!();
        Ok(bench)
    }

    /// Small UDP packets from client to server; packets per second that arrive.
    pub fn forwarding(&self, side: Side) -> Result<f64, String> {
        let _engine = start(side, TEN_RULES, &[CLIENT, SERVER], &pinned(1))?;
        sink(SERVER, "udp dport 9")?;
        let victim = SERVER.v4();
        self.counted(
            CLIENT,
            SERVER,
            &["--kind", "udp", "--flows", "1000", "--src-net", "10.77.1.0/24", "--port", "9"],
            &victim,
        )
    }

    /// SYNs from the attacker; answers per second that come back.
    pub fn syn_answers(&self, side: Side) -> Result<f64, String> {
        let _engine = start(side, COOKIES, &[ATTACKER], &pinned(1))?;
        sink(ATTACKER, "tcp sport 80")?;
        self.counted(ATTACKER, ATTACKER, &["--kind", "syn", "--port", "80"], &SERVER.v4())
    }

    /// iperf3 from client to server; bits per second at the receiver.
    pub fn bulk(&self, side: Side, streams: &str) -> Result<f64, String> {
        let _engine = start(side, TEN_RULES, &[CLIENT, SERVER], &[])?;
        let mut server = nsenter(SERVER.namespace, "iperf3");
        server.args(["-s", "-1"]);
        let mut server = Background::start(server, Path::new("/run/lab/iperf3.log"))?;
        thread::sleep(Duration::from_millis(300));
        let mut client = nsenter(CLIENT.namespace, "iperf3");
        let seconds = self.seconds.to_string();
        client.args(["-J", "-O", "0.5", "-t", &seconds, "-P", streams, "-c", &SERVER.v4()]);
        let output = run(&mut client, Duration::from_secs(self.seconds + 20))?;
        server.wait(Duration::from_secs(2));
        let result: serde_json::Value =
            serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
        result
            .pointer("/end/sum_received/bits_per_second")
            .and_then(serde_json::Value::as_f64)
            .ok_or_else(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Floods from one place and counts what another place's device receives.
    fn counted(&self, from: Place, at: Place, flood: &[&str], victim: &str) -> Result<f64, String> {
        let seconds = (self.seconds + 2).to_string();
        let mut arguments = pinned(0);
        let generator = program("pf-flood").ok_or("pf-flood is not built")?;
        arguments.push(generator.to_string_lossy().into_owned());
        let mut command = Command::new(&arguments[0]);
        command.args(&arguments[1..]).args(["--netns", from.namespace]);
        command.args(["--interface", from.interface, "--dst", victim, "--seconds", &seconds]);
        command.args(flood);
        let mut flood = Background::start(command, Path::new("/run/lab/flood.log"))?;
        thread::sleep(WARM_UP);
        let window = Duration::from_secs(self.seconds);
        let received = thread::spawn(move || -> std::io::Result<f64> {
            netns::enter(at.namespace)?;
            let (before, start) = (netns::link_counters(at.interface)?, Instant::now());
            thread::sleep(window);
            let (after, elapsed) = (netns::link_counters(at.interface)?, start.elapsed());
            let packets = after.rx_packets - before.rx_packets;
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            Ok(packets as f64 / elapsed.as_secs_f64())
        });
        let rate = received.join().map_err(|_| "the counting thread panicked")?;
        if let Some(status) = flood.ended() {
            return Err(format!("pf-flood ended early, {status}: {}", flood.log()));
        }
        rate.map_err(|error| error.to_string())
    }
}

/// Starts one side with devices in these places.
fn start(side: Side, rules: &str, places: &[Place], wrapper: &[String]) -> Result<Engine, String> {
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    if side == Side::Pfd {
        let setup = Setup { rules, wrapper: &wrapper, ..Setup::default() };
        return Ok(Engine::Pfd { _lab: Box::new(Lab::start(&setup)?) });
    }
    let forwarder = program("pf-forwarder").ok_or("pf-forwarder is not built")?;
    let mut command = match wrapper.split_first() {
        None => Command::new(&forwarder),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(&forwarder);
            command
        }
    };
    for (flag, place) in ["--a", "--b"].into_iter().zip(places) {
        let Place { namespace, interface, .. } = place;
        let (v4, v6) = (place.v4(), place.v6());
        command.arg(flag).arg(format!("{interface},{namespace},{v4}/24,{v6}/64"));
    }
    if places.len() == 1 {
        command.arg("--answer-syn");
    }
    command.args(["--seconds", "60"]);
    let mut forwarder = Background::start(command, Path::new("/run/lab/forwarder.log"))?;
    let started = Instant::now();
    while !forwarder.log().contains("ready") {
        if forwarder.ended().is_some() || started.elapsed() > Duration::from_secs(10) {
            return Err(format!("pf-forwarder is not ready: {}", forwarder.log()));
        }
        thread::sleep(Duration::from_millis(20));
    }
    add_routes(places)?;
    Ok(Engine::Bare { _forwarder: forwarder })
}

/// Counts nothing, drops early: what arrives costs the far kernel as little as possible.
fn sink(place: Place, what: &str) -> Result<(), String> {
    let Place { namespace, interface, .. } = place;
    let table = format!(
        "table netdev sink {{\n  chain in {{\n    type filter hook ingress device \"{interface}\" \
         priority 0;\n    {what} drop\n  }}\n}}\n"
    );
    fs::write("/run/lab/sink.nft", table).map_err(|error| error.to_string())?;
    let nft = program("nft").ok_or("nft is not installed")?.to_string_lossy().into_owned();
    // Of an earlier round; there is none in the first.
    let mut old = nsenter(namespace, &nft);
    run(old.args(["delete", "table", "netdev", "sink"]), Duration::from_secs(5))?;
    let net = format!("--net={}", netns::path(namespace).display());
    checked("nsenter", [net.as_str(), "--", &nft, "-f", "/run/lab/sink.nft"]).map(|_| ())
}

/// Command that runs another one on a processor of its own, before everybody else.
fn pinned(cpu: usize) -> Vec<String> {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let cpu = (cpu % cpus).to_string();
    ["nice", "-n", "-20", "taskset", "-c", &cpu].map(str::to_owned).to_vec()
}

/// Waits until the machine does nothing else, at most five seconds.
fn wait_for_quiet() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        let before = busy_ticks();
        thread::sleep(Duration::from_millis(200));
        // 200 ms are 20 ticks of each processor.
        if busy_ticks().saturating_sub(before) <= 3 {
            return;
        }
    }
}

/// Ticks of 10 ms in which some processor was busy.
fn busy_ticks() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let values: Vec<u64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    values
        .iter()
        .enumerate()
        .filter(|&(column, _)| column != 3 && column != 4 && column < 8)
        .map(|(_, v)| v)
        .sum()
}
