//! Honest requests while a flood goes on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pf_load::client::{self, Report};
use pf_load::flood;
use pf_load::lab::{ATTACKER, CLIENT, SERVER};
use pf_load::netns;
use pf_load::packet::Kind;
use pf_load::serve::{Role, Server};
use serde::Serialize;

use crate::middle::{FLOOD_MARK, Middle, Plan, Stand};
use crate::place::{self, at, named};

/// A SYN flood on the web server from forged addresses, until dropped. The server answers every
/// SYN that reaches it, so nobody but the client's missing third packet gives the flood away.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    offered: Arc<AtomicU64>,
    start: Instant,
    sending: Option<JoinHandle<()>>,
}

impl Flood {
    /// Starts it with this many SYNs per second, and waits until the firewall answers with cookies
    /// where it is one that notices by itself.
    ///
    /// # Errors
    ///
    /// When it cannot be sent, or is not noticed within ten seconds.
    pub fn start(stand: &Stand, rate: u64) -> Result<Self, String> {
        Self::start_at(stand, rate, &SERVER.v4())
    }

    /// As [`Flood::start`], on another address.
    ///
    /// # Errors
    ///
    /// When it cannot be sent, or is not noticed within ten seconds.
    pub fn start_at(stand: &Stand, rate: u64, victim: &str) -> Result<Self, String> {
        let options = flood::Options {
            kind: Kind::Syn,
            interface: ATTACKER.interface.to_owned(),
            next_hop: stand.next_hop(),
            destination: victim.parse().map_err(|_| format!("{victim} is no address"))?,
            port: 80,
            sources: "198.18.0.0/15".parse()?,
            rate,
            duration: Duration::from_hours(1),
            flows: None,
            udp_length: 0,
            seed: 11,
        };
        let (stop, offered) = (Arc::default(), Arc::default());
        let (told, count) = (Arc::clone(&stop), Arc::clone(&offered));
        let sending = thread::spawn(move || {
            let sent =
                netns::enter(ATTACKER.namespace).and_then(|()| flood::run(&options, &told, &count));
            if let Err(error) = sent {
                eprintln!("flood: {error}");
            }
        });
        let flood = Self { stop, offered, start: Instant::now(), sending: Some(sending) };
        if let (Middle::Flood, Some(lab)) = (stand.middle, stand.lab()) {
            let before = lab.info()?.cookies_sent();
            while lab.info()?.cookies_sent() == before {
                if flood.start.elapsed() > Duration::from_secs(10) {
                    let sent = flood.offered.load(Ordering::Relaxed);
                    return Err(format!(
                        "no cookie after {sent} SYNs; {FLOOD_MARK} half-open ones should do: {:?}",
                        lab.info()?
                    ));
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(flood)
    }

    /// SYNs per second so far.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.offered.load(Ordering::Relaxed) as f64 / self.start.elapsed().as_secs_f64()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.sending.take().map(JoinHandle::join);
    }
}

/// The web server of the load tools on port 80, until dropped.
#[derive(Debug)]
pub struct Web {
    stop: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl Web {
    /// Starts it; the body of each answer has this many octets.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub fn start(body: usize) -> Result<Self, String> {
        let addresses = [([10, 77, 3, 2], 80).into(), ([0xfd77, 3, 0, 0, 0, 0, 0, 2], 80).into()];
        let server = at(SERVER, || {
            Server::bind(&addresses, Role::Web { body }).map_err(named("web server"))
        })?;
        let stop: Arc<AtomicBool> = Arc::default();
        let told = Arc::clone(&stop);
        let serving = thread::spawn(move || {
            if let Err(error) = server.run(&told, Duration::from_hours(1)) {
                eprintln!("web server: {error}");
            }
        });
        Ok(Self { stop, serving: Some(serving) })
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.serving.take().map(JoinHandle::join);
    }
}

/// How many requests against how large a flood.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Connections, one request each.
    pub connections: u64,
    /// Connections per second.
    pub rate: f64,
    /// SYNs per second of the flood; 0 is no flood.
    pub flood: u64,
    /// Ports of each of the client's 32 addresses. With 1000 these are fewer four-tuples than 50,000,
    /// so that they are used again while the server still remembers the connection before.
    pub ports: u16,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// In the middle.
    pub middle: Middle,
    /// The client's report.
    pub requests: serde_json::Value,
    /// Requests that got their answer.
    pub served: u64,
    /// Requests that did not.
    pub failed: u64,
    /// Why not, in words.
    pub why: String,
    /// Requests that took a second or longer, failed or not.
    pub stalled: u64,
    /// Milliseconds below which 50 %, 99 %, 99.9 % and all of the answered requests stayed.
    pub latency_ms: [f64; 4],
    /// SYNs per second of the flood.
    pub flood_rate: f64,
    /// Cookies sent.
    pub cookies_sent: u64,
    /// Cookies that came back and were accepted.
    pub cookies_accepted: u64,
}

/// First of the client's ports.
const FIRST_PORT: u16 = 32_768;

/// Asks through one thing in the middle.
///
/// # Errors
///
/// When the middle cannot be made or the flood is not noticed.
pub fn measure(middle: Middle, load: &Load) -> Result<Outcome, String> {
    let stand = Plan::new(middle).start()?;
    measure_at(&stand, load)
}

/// As [`measure`], through something that runs already.
///
/// # Errors
///
/// When the flood is not noticed.
pub fn measure_at(stand: &Stand, load: &Load) -> Result<Outcome, String> {
    let ports = place::get(CLIENT, "ipv4/ip_local_port_range")?;
    let last = FIRST_PORT.saturating_add(load.ports.saturating_sub(1));
    place::set(CLIENT, &[("ipv4/ip_local_port_range", &format!("{FIRST_PORT} {last}"))])?;
    let _web = Web::start(1024)?;
    let before = stand.cookies()?;
    let flood = (load.flood > 0).then(|| Flood::start(stand, load.flood)).transpose()?;
    let report = ask(load)?;
    let flood_rate = flood.as_ref().map_or(0.0, Flood::rate);
    drop(flood);
    let after = stand.cookies()?;
    place::set(CLIENT, &[("ipv4/ip_local_port_range", &ports)])?;
    let ms = |micros: u64| micros as f64 / 1000.0;
    Ok(Outcome {
        middle: stand.middle,
        served: report.ok,
        failed: report.failures.total() + report.not_started,
        why: report.failures.in_words(),
        stalled: report.stalled,
        latency_ms: [
            ms(report.latency.per_mille(500)),
            ms(report.latency.per_mille(990)),
            ms(report.latency.per_mille(999)),
            ms(report.latency.max()),
        ],
        flood_rate,
        cookies_sent: after.0.saturating_sub(before.0),
        cookies_accepted: after.1.saturating_sub(before.1),
        requests: report.to_json(),
    })
}

fn ask(load: &Load) -> Result<Report, String> {
    let server: SocketAddr = ([10, 77, 3, 2], 80).into();
    let sources = (0..32_u8).map(|step| IpAddr::from([10, 77, 1, 130 + step]));
    let seconds = load.connections as f64 / load.rate;
    let options = client::Options {
        server,
        path: "/".to_owned(),
        sources: sources.collect(),
        concurrent: 8192,
        rate: Some(load.rate),
        timeout: Duration::from_secs(5),
        duration: Duration::from_secs_f64(seconds * 2.0 + 10.0),
        count: Some(load.connections),
        interval: Duration::from_secs(1),
    };
    at(CLIENT, || client::run(&options, &AtomicBool::new(false), |_| {}).map_err(named("client")))
}
