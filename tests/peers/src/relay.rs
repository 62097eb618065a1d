//! A bad line between the client's namespace and one behind it: loss, delay and reordering.
//!
//! Two TUN devices, one in each namespace, and a thread per direction that carries packets across.
//! The kernel cuts large segments before they reach such a device, so what is lost is one segment
//! of at most the MTU. The same seed treats the n-th packet the same way.

use std::collections::BinaryHeap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pf_load::lab::{CLIENT, checked};
use pf_load::packet::Dice;
use pf_load::sys::open_tun;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::capture::Segment;
use crate::place::{self, FAR, at, named};

/// The client's address behind the relay.
pub const FAR_ADDRESS: [u8; 4] = [10, 77, 1, 65];
/// Packets in one direction that wait to be delivered; more are lost, as on a line that is full.
const QUEUE_MAX: usize = 20_000;
/// Packets that each device holds until a thread reads them; what it loses is not counted.
const DEVICE_QUEUE: usize = 10_000;
/// Longest that a packet is held back so that later ones overtake it.
const HELD_BACK: Duration = Duration::from_micros(1500);

/// How bad the line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Packets lost of a thousand.
    pub lost_per_mille: u32,
    /// Packets of a thousand that later ones overtake.
    pub late_per_mille: u32,
    /// Time that every packet takes.
    pub delay: Duration,
}

/// What the relay saw, both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Packets delivered.
    pub carried: u64,
    /// Packets lost.
    pub lost: u64,
    /// Packets held back.
    pub late: u64,
    /// SACK blocks in packets that the client sent.
    pub sack_blocks_sent: u64,
    /// SACK blocks in packets that came from the server.
    pub sack_blocks_received: u64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    lost_per_mille: AtomicU32,
    late_per_mille: AtomicU32,
    delay_us: AtomicU64,
    carried: AtomicU64,
    lost: AtomicU64,
    late: AtomicU64,
    /// By direction: from the client, to the client.
    sack_blocks: [AtomicU64; 2],
}

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Makes both devices and the namespace [`FAR`]. The client must be there.
    ///
    /// # Errors
    ///
    /// When namespaces or devices cannot be made.
    pub fn start() -> Result<Self, String> {
        let far = FAR.namespace;
        if !pf_load::netns::path(far).exists() {
            checked("ip", ["netns", "add", far])?;
        }
        let outer = at(FAR, || open_tun(FAR.interface).map_err(named(FAR.interface)))?;
        let inner = at(CLIENT, || open_tun("relay1").map_err(named("relay1")))?;
        let [a, b, c, d] = FAR_ADDRESS;
        for arguments in [
            format!("-n {far} link set lo up"),
            format!("-n {far} addr add {a}.{b}.{c}.{d}/32 dev {}", FAR.interface),
            format!("-n {far} link set {} up txqueuelen {DEVICE_QUEUE}", FAR.interface),
            format!("-n {far} route add default dev {}", FAR.interface),
            format!("-n {} link set relay1 up txqueuelen {DEVICE_QUEUE}", CLIENT.namespace),
            format!("-n {} route add {a}.{b}.{c}.{d}/32 dev relay1", CLIENT.namespace),
        ] {
            checked("ip", arguments.split_whitespace())?;
        }
        place::set(CLIENT, &[("ipv4/ip_forward", "1")])?;
        // The client's wish to use what it remembers of the server would blur repetitions.
        place::set(FAR, &[("ipv4/tcp_no_metrics_save", "1")])?;
        let shared: Arc<Shared> = Arc::default();
        let (outer, inner) = (Arc::new(outer), Arc::new(inner));
        let threads = [(0, Arc::clone(&outer), Arc::clone(&inner)), (1, inner, outer)]
            .map(|(direction, from, to)| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    if let Err(error) = carry(direction, &from, &to, &shared) {
                        eprintln!("relay: {error}");
                    }
                })
            })
            .into();
        Ok(Self { shared, threads })
    }

    /// Changes the line, from the next packet on.
    pub fn set(&self, line: Line) {
        self.shared.lost_per_mille.store(line.lost_per_mille, Ordering::Relaxed);
        self.shared.late_per_mille.store(line.late_per_mille, Ordering::Relaxed);
        let micros = u64::try_from(line.delay.as_micros()).unwrap_or(u64::MAX);
        self.shared.delay_us.store(micros, Ordering::Relaxed);
    }

    /// What it has seen since the last time it was asked.
    #[must_use]
    pub fn take_counts(&self) -> Counts {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        Counts {
            carried: take(&self.shared.carried),
            lost: take(&self.shared.lost),
            late: take(&self.shared.late),
            sack_blocks_sent: take(&self.shared.sack_blocks[0]),
            sack_blocks_received: take(&self.shared.sack_blocks[1]),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A packet and when it is due; the heap gives the earliest first, equal ones in order of arrival.
#[derive(PartialEq, Eq)]
struct Waiting {
    due: Instant,
    number: u64,
    octets: Vec<u8>,
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

fn carry(direction: usize, from: &OwnedFd, to: &OwnedFd, shared: &Shared) -> io::Result<()> {
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let mut waiting = BinaryHeap::new();
    let mut dice = Dice::new(0x5eed + direction as u64);
    let mut buffer = vec![0; 1 << 16];
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        while let Some(Waiting { octets, .. }) = waiting.pop_if_due(now) {
            // A device whose queue is full drops, as a line would.
            match rustix::io::write(to, &octets) {
                Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS | Errno::IO) => {}
                Err(error) => return Err(error.into()),
            }
            shared.carried.fetch_add(1, Ordering::Relaxed);
        }
        let wait = waiting.peek().map_or(Duration::from_millis(50), |next: &Waiting| {
            next.due.saturating_duration_since(now)
        });
        let wait = Timespec::try_from(wait).map_err(io::Error::other)?;
        let mut polled = [PollFd::new(from, PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&wait)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        // A few at a time, so that what is due does not wait long.
        for _ in 0..32 {
            let length = match rustix::io::read(from.as_fd(), &mut *buffer) {
                Ok(length) => length,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            };
            let octets = &buffer[..length];
            if let Some(segment) = Segment::parse(octets) {
                let blocks = segment.sack_blocks as u64;
                shared.sack_blocks[direction].fetch_add(blocks, Ordering::Relaxed);
            }
            let roll = dice.roll();
            let happens = |per_mille: &AtomicU32, bits: u64| {
                bits % 1000 < u64::from(per_mille.load(Ordering::Relaxed))
            };
            if happens(&shared.lost_per_mille, roll >> 40) || waiting.len() >= QUEUE_MAX {
                shared.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let mut due =
                Instant::now() + Duration::from_micros(shared.delay_us.load(Ordering::Relaxed));
            if happens(&shared.late_per_mille, (roll >> 8) & 0xffff_ffff) {
                shared.late.fetch_add(1, Ordering::Relaxed);
                due += HELD_BACK;
            }
            number += 1;
            waiting.push(Waiting { due, number, octets: octets.to_vec() });
        }
    }
    Ok(())
}

trait PopIfDue {
    fn pop_if_due(&mut self, now: Instant) -> Option<Waiting>;
}

impl PopIfDue for BinaryHeap<Waiting> {
    fn pop_if_due(&mut self, now: Instant) -> Option<Waiting> {
        if self.peek().is_some_and(|next| next.due <= now) { self.pop() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_packets_are_overtaken_and_others_keep_their_order() {
        let start = Instant::now();
        let mut waiting = BinaryHeap::new();
        for (number, after) in [(1, 5), (2, 0), (3, 0), (4, 1)] {
            let due = start + Duration::from_millis(after);
            waiting.push(Waiting { due, number, octets: Vec::new() });
        }
        let late = start + Duration::from_millis(5);
        let order: Vec<u64> =
            std::iter::from_fn(|| waiting.pop_if_due(late)).map(|packet| packet.number).collect();
        assert_eq!(order, [2, 3, 4, 1]);
        assert!(waiting.pop_if_due(late).is_none());
    }
}
