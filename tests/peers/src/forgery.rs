//! Acknowledgements that answer no cookie: guessed ones and repeated ones.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use pf_load::flood;
use pf_load::lab::{ATTACKER, CLIENT, SERVER};
use pf_load::packet::Kind;
use pf_load::sys::PacketSocket;
use serde::Serialize;

use crate::capture::Capture;
use crate::middle::{Middle, Plan, Stand};
use crate::pair::{Call, connect};
use crate::place::{at, named};
use crate::requests::{Flood, Web};

/// What guessing brought.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Guesses {
    /// In the middle.
    pub middle: Middle,
    /// Whether the guesses had the timestamps option.
    pub stamped: bool,
    /// Acknowledgements that reached the firewall.
    pub sent: u64,
    /// How fast, per second.
    pub rate: f64,
    /// How many of them the firewall has counted as wrong answers; others it did not even look at.
    pub refused: u64,
    /// How many were taken for the answer to a cookie.
    pub accepted: u64,
}

/// Guesses per second: few enough for a firewall to look at each.
const RATE: u64 = 200_000;

/// Sends guessed acknowledgements from random senders while cookies are on, and in use.
///
/// # Errors
///
/// When the middle cannot be made or the flood not sent.
pub fn guess(middle: Middle, stamped: bool, count: u64) -> Result<Guesses, String> {
    let stand =
        Plan { rules: "block\npass proto tcp flags S/SA\n", ..Plan::new(middle) }.start()?;
    let mut accepted = 0;
    let before = stand.refused()?;
    let (mut sent, mut seconds) = (0, 0.0);
    while sent < count {
        // A firewall may not look at answers when it has sent no cookie for long.
        for _ in 0..2 {
            connect(&Call::to(([10, 77, 3, 2], 80).into()))?;
        }
        let honest = stand.cookies()?.1;
        let options = flood::Options {
            kind: if stamped { Kind::AckStamped } else { Kind::Ack },
            interface: ATTACKER.interface.to_owned(),
            next_hop: stand.next_hop(),
            destination: [10, 77, 3, 2].into(),
            port: 80,
            sources: "198.18.0.0/15".parse()?,
            rate: RATE,
            duration: Duration::from_secs_f64((count - sent) as f64 / RATE as f64 + 0.1),
            flows: None,
            udp_length: 0,
            seed: 13 + sent,
        };
        let summary = at(ATTACKER, || {
            flood::run(&options, &AtomicBool::new(false), &AtomicU64::new(0))
                .map_err(named("flood"))
        })?;
        // What the device refused did not reach the firewall.
        sent += summary.sent;
        seconds += summary.seconds;
        accepted += stand.cookies()?.1 - honest;
    }
    let refused = stand.refused()? - before;
    Ok(Guesses { middle, stamped, sent, rate: sent as f64 / seconds, refused, accepted })
}

/// What repeating brought.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Replays {
    /// In the middle.
    pub middle: Middle,
    /// Times that the acknowledgement of one finished connection was sent again.
    pub sent: u64,
    /// How many were taken for the answer to a cookie.
    pub accepted: u64,
}

/// Finishes one honest connection, lets the firewall forget its states, and sends the third packet
/// of its handshake again, from where the client is.
///
/// # Errors
///
/// When the middle cannot be made or the connection does not come about.
pub fn replay(middle: Middle, count: u64) -> Result<Replays, String> {
    let stand = Plan::new(middle).start()?;
    let capture = Capture::start(CLIENT)?;
    let pair = connect(&Call::to(([10, 77, 3, 2], 80).into()))?;
    let third = capture
        .find(Duration::from_secs(2), |segment| segment.flags == 0x10)?
        .ok_or("the third packet of the handshake was not seen")?;
    drop(pair);
    std::thread::sleep(Duration::from_millis(200));
    forget(&stand)?;
    let before = stand.cookies()?.1;
    let mut socket =
        at(CLIENT, || PacketSocket::open(CLIENT.interface, true).map_err(named("packet socket")))?;
    if stand.next_hop().is_some() {
        socket.set_next_hop([2, 0, 0, 0, 0, CLIENT.number]);
    }
    let length = third.octets.len();
    let mut octets = third.octets;
    for _ in 0..count {
        socket.send_batch(&mut octets, length).map_err(named("sending"))?;
        std::thread::sleep(Duration::from_millis(5));
        forget(&stand)?;
    }
    std::thread::sleep(Duration::from_millis(200));
    Ok(Replays { middle, sent: count, accepted: stand.cookies()?.1 - before })
}

/// Removes the states of the firewall: what a long uptime does by itself.
fn forget(stand: &Stand) -> Result<(), String> {
    match stand.lab() {
        Some(lab) => lab.pfctl_ok(["-F", "states"]).map(drop),
        None => Ok(()),
    }
}

/// Resident memory of the daemon around a flood.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// In the middle.
    pub middle: Middle,
    /// Acknowledgements or SYNs per second.
    pub rate: f64,
    /// Seconds of flood.
    pub seconds: f64,
    /// Kibibytes before.
    pub before_kib: u64,
    /// Kibibytes once the flood had gone on for a twentieth of the time.
    pub early_kib: u64,
    /// Kibibytes at its end.
    pub after_kib: u64,
}

/// Floods with SYNs, as fast as the device takes them, and looks at the daemon's memory.
///
/// # Errors
///
/// When the middle is none with a daemon, or the flood cannot be sent.
pub fn memory(middle: Middle, time: Duration) -> Result<Memory, String> {
    let mut stand = Plan::new(middle).start()?;
    // Ports that refuse get no cookies.
    let _web = Web::start(100)?;
    let victim = SERVER.v4();
    let pid = stand.lab_mut().ok_or("only a daemon has memory")?.daemon().id();
    let before_kib = resident_kib(pid)?;
    let stand = stand;
    let flood = Flood::start_at(&stand, 0, &victim)?;
    std::thread::sleep(time / 20);
    let early_kib = resident_kib(pid)?;
    std::thread::sleep(time.saturating_sub(time / 20));
    let after_kib = resident_kib(pid)?;
    let rate = flood.rate();
    drop(flood);
    Ok(Memory { middle, rate, seconds: time.as_secs_f64(), before_kib, early_kib, after_kib })
}

fn resident_kib(pid: u32) -> Result<u64, String> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(named(&path))?;
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| format!("{path} has no VmRSS"))
}
