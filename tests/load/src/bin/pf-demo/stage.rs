//! Who plays: two honest clients, a server, two flooders, each on a thread that has moved into its
//! namespace, and an observer that asks `pfctl` four times a second.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pf_load::client::{self, Report};
use pf_load::flood;
use pf_load::info::Info;
use pf_load::lab::{ATTACKER, CLIENT, Lab, SERVER};
use pf_load::netns;
use pf_load::packet::Kind;
use pf_load::serve::{Role, Server};

/// How often the observer looks and the clients report.
const GLANCE: Duration = Duration::from_millis(250);
/// How long an honest user waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest life of any player, should nobody stop it.
const LIFE_MAX: Duration = Duration::from_mins(3);

/// Part of the play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Honest clients only.
    Calm,
    /// With flood.
    Flood,
    /// The flood is over; lasts until syncookies are off again.
    After,
}

/// What happened in a phase to one family.
#[derive(Clone, Debug, Default)]
pub struct FamilyOutcome {
    /// Honest requests.
    pub requests: Report,
    /// SYNs that flooders offered.
    pub flood_offered: u64,
}

/// What happened in a phase.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which.
    pub phase: Phase,
    /// How long it took.
    pub seconds: f64,
    /// IPv4, IPv6.
    pub families: [FamilyOutcome; 2],
    /// Most half-open connections seen.
    pub half_open_max: u64,
    /// Most states seen.
    pub states_max: u64,
    /// Cookies sent in this phase.
    pub cookies_sent: u64,
    /// Cookies that came back valid in this phase.
    pub cookies_validated: u64,
    /// When syncookies switched in this phase, in seconds from its start, and to what.
    pub switches: Vec<(f64, bool)>,
    /// Whether cookies were being sent at the end.
    pub cookies_active: bool,
}

/// The running play.
pub struct Stage<'a> {
    lab: &'a Lab,
    interrupted: Arc<AtomicBool>,
    curtain: Arc<AtomicBool>,
    requests: [Receiver<Report>; 2],
    offered: [Arc<AtomicU64>; 2],
    players: Vec<JoinHandle<()>>,
    /// Ends the server, which has to outlast its clients.
    closing: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
    before: Info,
    active: bool,
}

impl<'a> Stage<'a> {
    /// Starts the server and the clients.
    ///
    /// # Errors
    ///
    /// When one of them cannot work, or `pfctl` does not answer.
    pub fn new(lab: &'a Lab, interrupted: Arc<AtomicBool>, rate: f64) -> Result<Self, String> {
        let curtain = Arc::new(AtomicBool::new(false));
        let closing = Arc::new(AtomicBool::new(false));
        let server = Some(start_server(&closing)?);
        let mut players = Vec::new();
        let (v4, player) = start_client(&SERVER.v4(), "10.77.1.129", rate, &curtain)?;
        players.push(player);
        let (v6, player) = start_client(&SERVER.v6(), "fd77:1::1:1", rate, &curtain)?;
        players.push(player);
        Ok(Self {
            lab,
            interrupted,
            curtain,
            requests: [v4, v6],
            offered: Default::default(),
            players,
            closing,
            server,
            before: lab.info()?,
            active: false,
        })
    }

    /// Starts a flooder per family.
    ///
    /// # Errors
    ///
    /// When an address is malformed, which a test would have shown.
    pub fn start_flood(&mut self, rate: u64, duration: Duration) -> Result<(), String> {
        let victims = [(SERVER.v4(), "198.18.0.0/15"), (SERVER.v6(), "2001:db8:7::/48")];
        for ((victim, net), offered) in victims.into_iter().zip(&self.offered) {
            let options = flood::Options {
                kind: Kind::Syn,
                interface: ATTACKER.interface.to_owned(),
                next_hop: None,
                destination: victim.parse().map_err(|error| format!("{victim}: {error}"))?,
                port: 80,
                sources: net.parse()?,
                rate,
                duration,
                flows: None,
                udp_length: 0,
                seed: std::process::id().into(),
            };
            let (curtain, offered) = (Arc::clone(&self.curtain), Arc::clone(offered));
            self.players.push(thread::spawn(move || {
                let done = netns::enter(ATTACKER.namespace)
                    .and_then(|()| flood::run(&options, &curtain, &offered));
                if let Err(error) = done {
                    eprintln!("flood: {error}");
                }
            }));
        }
        Ok(())
    }

    /// Watches for this long; [`Phase::After`] ends early when syncookies are off and everything
    /// has been quiet for a moment.
    ///
    /// # Errors
    ///
    /// When the user interrupts or the daemon dies.
    pub fn play(&mut self, phase: Phase, duration: Duration) -> Result<Outcome, String> {
        let start = Instant::now();
        let mut outcome = Outcome {
            phase,
            seconds: 0.0,
            families: Default::default(),
            half_open_max: 0,
            states_max: 0,
            cookies_sent: 0,
            cookies_validated: 0,
            switches: Vec::new(),
            cookies_active: self.active,
        };
        let mut off_since = None;
        let mut latest = self.before.clone();
        while start.elapsed() < duration {
            thread::sleep(GLANCE.min(duration.saturating_sub(start.elapsed())));
            if self.interrupted.load(Ordering::Relaxed) {
                return Err("interrupted; nothing is left behind".to_owned());
            }
            latest = self.lab.info()?;
            outcome.half_open_max = outcome.half_open_max.max(latest.half_open());
            outcome.states_max = outcome.states_max.max(latest.states());
            let active = latest.cookies_active.unwrap_or_default();
            if active != self.active {
                self.active = active;
                let at = start.elapsed().as_secs_f64();
                crate::show::switch(phase, at, active, latest.half_open());
                outcome.switches.push((at, active));
            }
            if phase == Phase::After && !active {
                let since = *off_since.get_or_insert_with(Instant::now);
                if since.elapsed() > Duration::from_secs(2) {
                    break;
                }
            }
        }
        outcome.seconds = start.elapsed().as_secs_f64();
        for ((family, requests), offered) in
            outcome.families.iter_mut().zip(&self.requests).zip(&self.offered)
        {
            for report in requests.try_iter() {
                family.requests.add(&report);
            }
            family.flood_offered = offered.swap(0, Ordering::Relaxed);
        }
        outcome.cookies_sent = latest.cookies_sent().saturating_sub(self.before.cookies_sent());
        outcome.cookies_validated =
            latest.cookies_validated().saturating_sub(self.before.cookies_validated());
        outcome.cookies_active = self.active;
        self.before = latest;
        Ok(outcome)
    }

    /// Ends all players; requests that were still open count in the last phase.
    pub fn end(&mut self, last: &mut Outcome) {
        self.curtain.store(true, Ordering::Relaxed);
        for player in self.players.drain(..) {
            let _ = player.join();
        }
        self.closing.store(true, Ordering::Relaxed);
        self.server.take().map(JoinHandle::join);
        for (family, requests) in last.families.iter_mut().zip(&self.requests) {
            for report in requests.try_iter() {
                family.requests.add(&report);
            }
        }
    }
}

fn start_server(curtain: &Arc<AtomicBool>) -> Result<JoinHandle<()>, String> {
    let curtain = Arc::clone(curtain);
    let addresses = [web(&SERVER.v4())?, web(&SERVER.v6())?];
    let (ready, is_ready) = channel();
    let player = thread::spawn(move || {
        let server = netns::enter(SERVER.namespace)
            .and_then(|()| Server::bind(&addresses, Role::Web { body: 1024 }));
        match server {
            Ok(server) => {
                let _ = ready.send(Ok(()));
                let _ = server.run(&curtain, LIFE_MAX);
            }
            Err(error) => {
                let _ = ready.send(Err(error.to_string()));
            }
        }
    });
    is_ready
        .recv()
        .map_err(|error| error.to_string())?
        .map_err(|text| format!("server: {text}"))?;
    Ok(player)
}

fn start_client(
    server: &str,
    first_source: &str,
    rate: f64,
    curtain: &Arc<AtomicBool>,
) -> Result<(Receiver<Report>, JoinHandle<()>), String> {
    let first: IpAddr = first_source.parse().map_err(|_| first_source.to_owned())?;
    let sources = (0..32_u8).map(|step| match first {
        IpAddr::V4(first) => IpAddr::V4((first.to_bits() + u32::from(step)).into()),
        IpAddr::V6(first) => IpAddr::V6((first.to_bits() + u128::from(step)).into()),
    });
    let options = client::Options {
        server: web(server)?,
        path: "/".to_owned(),
        sources: sources.collect(),
        concurrent: 4096,
        rate: Some(rate),
        timeout: PATIENCE,
        duration: LIFE_MAX,
        count: None,
        interval: GLANCE / 2,
    };
    let curtain = Arc::clone(curtain);
    let (reports, receiver) = channel();
    let player = thread::spawn(move || {
        let done = netns::enter(CLIENT.namespace).and_then(|()| {
            client::run(&options, &curtain, |report| {
                let _ = reports.send(report.clone());
            })
        });
        if let Err(error) = done {
            eprintln!("client: {error}");
        }
    });
    Ok((receiver, player))
}

fn web(address: &str) -> Result<SocketAddr, String> {
    let address: IpAddr = address.parse().map_err(|error| format!("{address}: {error}"))?;
    Ok(SocketAddr::new(address, 80))
}
