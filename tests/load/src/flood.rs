//! Sends forged packets at a given rate or as fast as the device takes them.

use std::io;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::packet::{Dice, Kind, SourceNet, Template};
use crate::sys::{BATCH_MAX, PacketSocket};

/// What to send, where and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Kind of packet.
    pub kind: Kind,
    /// Interface of the calling thread's namespace.
    pub interface: String,
    /// Ethernet address of the next hop, where the interface is no TUN device.
    pub next_hop: Option<[u8; 6]>,
    /// Victim.
    pub destination: IpAddr,
    /// Port of the victim.
    pub port: u16,
    /// Senders to forge.
    pub sources: SourceNet,
    /// Packets per second; 0 is as fast as possible.
    pub rate: u64,
    /// When to stop.
    pub duration: Duration,
    /// Use this many senders over and over instead of new ones all the time.
    pub flows: Option<usize>,
    /// Length of UDP packets in octets, IP header included.
    pub udp_length: usize,
    /// The same seed sends the same packets.
    pub seed: u64,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Packets that the device took.
    pub sent: u64,
    /// Packets that it refused because its queue was full.
    pub refused: u64,
    /// Sum of both: what was offered.
    pub offered: u64,
    /// 1 when the flood ended early because the device went away.
    pub errors: u64,
    /// How long it took.
    pub seconds: f64,
    /// Packets taken per second.
    pub pps: f64,
    /// Packets offered per second.
    pub offered_pps: f64,
}

/// Floods until the time is over or `stop` is set. `offered` rises as packets go out, for those
/// who want to watch.
///
/// # Errors
///
/// When the socket cannot be opened or the options contradict each other.
pub fn run(options: &Options, stop: &AtomicBool, offered: &AtomicU64) -> io::Result<Summary> {
    let template = Template::new(
        options.kind,
        options.sources,
        options.destination,
        options.port,
        options.udp_length,
    )
    .map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text))?;
    let mut socket = PacketSocket::open(&options.interface, options.destination.is_ipv4())?;
    if let Some(address) = options.next_hop {
        socket.set_next_hop(address);
    }
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1)); // Else sleeps last 50 µs more.

    let length = template.octets().len();
    let mut buffer = template.octets().repeat(BATCH_MAX);
    let mut dice = Dice::new(options.seed);
    let flows: Vec<(u64, u64)> =
        (0..options.flows.unwrap_or(0)).map(|_| (dice.roll(), dice.roll())).collect();
    let mut next_flow = 0;

    let mut summary = Summary::default();
    let mut pace = Pace::new(options.rate);
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let elapsed = start.elapsed();
        if elapsed >= options.duration {
            break;
        }
        let count = match pace.due(elapsed) {
            Ok(count) => count,
            Err(pause) => {
                thread::sleep(pause.min(options.duration.saturating_sub(elapsed)));
                continue;
            }
        };
        let batch = &mut buffer[..count * length];
        for packet in batch.chunks_exact_mut(length) {
            let (address, numbers) = if flows.is_empty() {
                (dice.roll(), dice.roll())
            } else {
                next_flow = (next_flow + 1) % flows.len();
                flows[next_flow]
            };
            template.stamp(packet, address, numbers);
        }
        let Ok(sent) = socket.send_batch(batch, length) else {
            summary.errors = 1;
            break;
        };
        summary.sent += sent.taken;
        summary.refused += sent.refused;
        offered.fetch_add(count as u64, Ordering::Relaxed);
    }
    summary.offered = summary.sent + summary.refused;
    summary.seconds = start.elapsed().as_secs_f64();
    summary.pps = summary.sent as f64 / summary.seconds;
    summary.offered_pps = summary.offered as f64 / summary.seconds;
    Ok(summary)
}

/// Says how many packets are due, so that the rate is right over any longer stretch.
#[derive(Debug)]
struct Pace {
    rate: u64,
    handed_out: u64,
}

impl Pace {
    const fn new(rate: u64) -> Self {
        Self { rate, handed_out: 0 }
    }

    /// Packets to send now, or how long to wait first.
    fn due(&mut self, elapsed: Duration) -> Result<usize, Duration> {
        if self.rate == 0 {
            return Ok(BATCH_MAX);
        }
        let due = (u128::from(self.rate) * elapsed.as_nanos() / 1_000_000_000) as u64;
        // A stall of more than 100 ms is not made up for by a burst.
        self.handed_out =
            self.handed_out.max(due.saturating_sub(self.rate / 10 + BATCH_MAX as u64));
        let behind = due.saturating_sub(self.handed_out);
        // About a thousand batches a second at most, else the sleeps would be too short to keep.
        let chunk = (self.rate / 1000).clamp(1, BATCH_MAX as u64);
        if behind < chunk {
            return Err(Duration::from_secs_f64((chunk - behind) as f64 / self.rate as f64));
        }
        let count = behind.min(BATCH_MAX as u64);
        self.handed_out += count;
        Ok(usize::try_from(count).expect("at most BATCH_MAX"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed_out_in(rate: u64, steps: impl Iterator<Item = Duration>) -> u64 {
        let mut pace = Pace::new(rate);
        for now in steps {
            while pace.due(now).is_ok() {}
        }
        pace.handed_out
    }

    #[test]
    fn rate_is_kept() {
        for rate in [1, 150, 10_000, 200_000, 2_000_000] {
            let count =
                handed_out_in(rate, (0..=10_000).map(|step| Duration::from_micros(step * 100)));
            assert!(count <= rate && count + BATCH_MAX as u64 >= rate, "{rate}: {count}");
        }
    }

    #[test]
    fn stall_is_not_made_up_for() {
        let steps = [Duration::from_millis(1), Duration::from_secs(5)].into_iter();
        let mut pace = Pace::new(10_000);
        let sent: usize =
            steps.map(|now| core::iter::from_fn(|| pace.due(now).ok()).sum::<usize>()).sum();
        assert!(sent <= 1_000 + 2 * BATCH_MAX, "{sent}");
    }

    #[test]
    fn full_speed_never_waits() {
        assert_eq!(Pace::new(0).due(Duration::ZERO), Ok(BATCH_MAX));
    }
}
