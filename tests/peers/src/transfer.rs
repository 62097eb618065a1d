//! Large transfers over a bad line: whole, and how fast.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use pf_load::median::median;
use pf_load::packet::Dice;
use pf_load::tcp;
use rustix::net::sockopt;
use serde::Serialize;

use crate::middle::{Middle, Plan, Stand};
use crate::pair::{Call, Pair, connect_to, listen};
use crate::place::{FAR, named};
use crate::relay::{Counts, FAR_ADDRESS, Line, Relay};

/// Octets per write.
const CHUNK: usize = 256 << 10;
/// How near to the end of the circle of sequence numbers a connection is to begin, in octets; less
/// than a transfer is long.
const NEAR_WRAP: u32 = 16 << 20;
/// Connections made until the server's sequence number, which nobody can choose, is near the wrap.
/// One in 256 is; all of these miss it once in a thousand runs.
const TRIES_MAX: usize = 2000;

/// Which way the octets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// A transfer that arrived whole.
#[derive(Clone, Debug, Serialize)]
pub struct Transfer {
    /// In the middle.
    pub middle: Middle,
    /// Which way.
    pub way: Way,
    /// Octets.
    pub octets: u64,
    /// How long it took.
    pub seconds: f64,
    /// Megabits (10⁶) per second.
    pub mbit_per_second: f64,
    /// The sequence numbers of the sender passed 2³².
    pub wrapped: bool,
    /// Connections that failed while one near the wrap was looked for.
    pub failed_connections: u32,
    /// What the line did.
    pub line: Counts,
    /// Segments that the sender sent again.
    pub retransmits: u32,
}

/// Longest wait of either end for the other.
const PATIENCE: Duration = Duration::from_secs(20);

/// What to send, and how.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Which way.
    pub way: Way,
    /// Most octets.
    pub octets: u64,
    /// Whether the sender's sequence numbers are to pass 2³².
    pub wrap: bool,
    /// No more octets are sent after this time.
    pub limit: Duration,
    /// How bad the line is.
    pub line: Line,
}

/// Between what ends, and through what, octets go.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// What stands in the middle.
    pub middle: Middle,
    /// Congestion control of the server (`TCP_CONGESTION`); `None` leaves the system's own.
    pub congestion: Option<&'a str>,
}

impl Setting<'_> {
    fn start(&self) -> Result<(Stand, Relay), String> {
        // A TUN device without offload: what is lost is one segment, not 64 KiB.
        let stand = Plan { backend: "plain", ..Plan::new(self.middle) }.start()?;
        Ok((stand, Relay::start()?))
    }

    fn listen(&self) -> Result<TcpListener, String> {
        let listener = listen(SERVER_ADDRESS.into())?;
        if let Some(name) = self.congestion {
            // Its connections inherit it.
            sockopt::set_tcp_congestion(&listener, name)
                .map_err(|error| format!("congestion control {name}: {error}"))?;
        }
        Ok(listener)
    }
}

/// Milliseconds from `connect` to a reply of one octet, each of its own connection over a line with
/// this delay; the first of them is the first that the firewall knows of the server.
///
/// # Errors
///
/// When the middle cannot be made or a connection does not come about.
pub fn first_replies(setting: &Setting, delay: Duration, count: usize) -> Result<Vec<f64>, String> {
    let (_stand, relay) = setting.start()?;
    relay.set(Line { delay, ..Line::default() });
    let listener = setting.listen()?;
    (0..count)
        .map(|_| {
            let start = Instant::now();
            let Pair { mut client, mut server, .. } = connect_to(&listener, &far_call(b"?"))?;
            let mut octet = [0];
            let mut ask = || {
                server.read_exact(&mut octet)?;
                server.write_all(b"!")?;
                client.read_exact(&mut octet)
            };
            ask().map_err(named("reply"))?;
            Ok(start.elapsed().as_secs_f64() * 1e3)
        })
        .collect()
}

const SERVER_ADDRESS: ([u8; 4], u16) = ([10, 77, 3, 2], 80);

/// A call from behind the line.
fn far_call(greeting: &'static [u8]) -> Call {
    let call = Call::to(SERVER_ADDRESS.into());
    let source = Some(FAR_ADDRESS.into());
    Call { from: FAR, source, patience: PATIENCE, greeting, ..call }
}

/// Transfers through one thing in the middle, one after the other, over a line of their own.
///
/// # Errors
///
/// When the middle cannot be made, a connection does not come about, or other octets arrive than
/// were sent.
pub fn measure(setting: &Setting, jobs: &[Job]) -> Result<Vec<Transfer>, String> {
    let (_stand, relay) = setting.start()?;
    jobs.iter().map(|job| transfer(setting, &relay, job)).collect()
}

fn transfer(setting: &Setting, relay: &Relay, job: &Job) -> Result<Transfer, String> {
    let listener = setting.listen()?;
    let mut call = far_call(&[]);
    if job.wrap && job.way == Way::Up {
        call.begin_at = Some(0_u32.wrapping_sub(NEAR_WRAP));
    }
    // The handshake is measured elsewhere; a lost SYN would only blur what is measured here.
    relay.set(Line { lost_per_mille: 0, late_per_mille: 0, ..job.line });
    let (mut tries, mut failed) = (0, 0);
    let Pair { client, server, .. } = loop {
        let pair = match connect_to(&listener, &call) {
            Ok(pair) => pair,
            // One of very many connections, each of which uses the ports of others again, may fail;
            // it is told.
            Err(_) if job.wrap && failed < 3 => {
                failed += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        if !job.wrap || job.way == Way::Up {
            break pair;
        }
        // The numbers that the client sees, which are translated, or those of the server itself.
        // Those of a cookie begin with the epoch, so that they are near the wrap a quarter of the
        // time only.
        let seen = tcp::expected_sequence(&pair.client).map_err(named("sequence number"))?;
        let own = tcp::next_sequence(&pair.server).map_err(named("sequence number"))?;
        if [seen, own].iter().any(|next| (1..=NEAR_WRAP).contains(&next.wrapping_neg())) {
            break pair;
        }
        tries += 1;
        if tries == TRIES_MAX {
            return Err(format!("no sequence number near the wrap in {TRIES_MAX} connections"));
        }
    };
    let _ = relay.take_counts();
    relay.set(job.line);
    let (from, to) = match job.way {
        Way::Up => (&client, &server),
        Way::Down => (&server, &client),
    };
    let (octets, time) = send(from, to, job.octets, job.limit)
        .map_err(named(&format!("{:?}, {:?}", setting.middle, job.way)))?;
    let seconds = time.as_secs_f64();
    Ok(Transfer {
        middle: setting.middle,
        way: job.way,
        octets,
        seconds,
        mbit_per_second: octets as f64 * 8e-6 / seconds,
        wrapped: job.wrap && octets > u64::from(NEAR_WRAP),
        failed_connections: failed,
        line: relay.take_counts(),
        retransmits: tcp::End::of(from).map_err(named("TCP_INFO"))?.retransmits,
    })
}

/// Sends octets that nobody can guess and compares every one of them where they arrive. Returns how
/// many there were and how long it took.
fn send(
    mut from: &TcpStream,
    mut to: &TcpStream,
    most: u64,
    limit: Duration,
) -> io::Result<(u64, Duration)> {
    let start = Instant::now();
    let octets = thread::scope(|scope| {
        let writing = scope.spawn(move || {
            let mut stream = Stream::new();
            let mut buffer = vec![0; CHUNK];
            let mut sent = 0;
            while sent < most && start.elapsed() < limit {
                let length = CHUNK.min(usize::try_from(most - sent).unwrap_or(CHUNK));
                stream.fill(&mut buffer[..length]);
                from.write_all(&buffer[..length])?;
                sent += length as u64;
            }
            from.shutdown(std::net::Shutdown::Write)?;
            Ok(sent)
        });
        let received = compare(&mut to);
        if received.is_err() {
            let _ = to.shutdown(std::net::Shutdown::Both);
        }
        let sent = writing.join().unwrap_or_else(|_| Err(io::Error::other("writer died")));
        match (received?, sent?) {
            (received, sent) if received == sent => Ok(sent),
            (received, sent) => {
                Err(io::Error::other(format!("{received} octets arrived of {sent} sent")))
            }
        }
    })?;
    Ok((octets, start.elapsed()))
}

/// Reads to the end; returns how many octets came, all of them the right ones.
fn compare(from: &mut &TcpStream) -> io::Result<u64> {
    let mut stream = Stream::new();
    let (mut received, mut wanted) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut count = 0;
    loop {
        // Whole words, so that the stream can go on where it stopped.
        let mut length = 0;
        while length < CHUNK {
            match from.read(&mut received[length..])? {
                0 => break,
                more => length += more,
            }
        }
        stream.fill(&mut wanted[..length]);
        if received[..length] != wanted[..length] {
            return Err(io::Error::other(format!("octets from {count} on are not what was sent")));
        }
        count += length as u64;
        if length < CHUNK {
            return Ok(count);
        }
    }
}

/// The same pseudo-random octets at both ends.
struct Stream(Dice);

impl Stream {
    const fn new() -> Self {
        Self(Dice::new(0x7472_616e_7366_6572))
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        for part in buffer.chunks_mut(8) {
            part.copy_from_slice(&self.0.roll().to_le_bytes()[..part.len()]);
        }
    }
}

/// Rates of one way through one middle, in the middle of the three or so rounds.
#[must_use]
pub fn median_rate(transfers: &[Transfer], middle: Middle, way: Way) -> Option<f64> {
    let rates: Vec<f64> = transfers
        .iter()
        .filter(|one| one.middle == middle && one.way == way)
        .map(|one| one.mbit_per_second)
        .collect();
    (!rates.is_empty()).then(|| median(&rates))
}
