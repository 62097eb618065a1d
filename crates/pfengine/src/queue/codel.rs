//! CoDel: drops by how long packets have waited, not by how many there are.
//!
//! When packets have waited longer than `target` for a whole `interval`, one is dropped, then more
//! at intervals that shrink with the square root of their number, until the wait is short again.
//! Sources: RFC 8289 section 5; OpenBSD sys/net/fq_codel.c `codel_dequeue`.

use core::time::Duration;
use std::collections::VecDeque;

use pfapi::units::Uptime;

use super::Waiting;

/// Wait that is always allowed. Source: RFC 8289 section 4.3; OpenBSD `codel_target`.
pub const TARGET: Duration = Duration::from_millis(5);
/// About the longest round trip. Source: RFC 8289 section 4.3; OpenBSD `codel_intervals`.
pub const INTERVAL: Duration = Duration::from_millis(100);
/// Intervals after which a new bout of drops starts gently again. Source: RFC 8289 section 5.6.
const GRACE_INTERVALS: u64 = 16;

/// Settings that all flows of a queue share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Wait in nanoseconds that is always allowed.
    pub target_ns: u64,
    /// Nanoseconds for which the wait must be longer before a packet is dropped.
    pub interval_ns: u64,
    /// Octets that may always wait: about one packet.
    pub backlog_octets: u64,
}

/// One flow's packets and what CoDel remembers of them.
#[derive(Debug)]
pub struct Codel<T> {
    packets: VecDeque<Waiting<T>>,
    octets: u64,
    /// When the wait will have been too long for a whole interval.
    first_above: Option<u64>,
    dropping: bool,
    drop_next: u64,
    count: u32,
    last_count: u32,
}

impl<T> Default for Codel<T> {
    fn default() -> Self {
        Self {
            packets: VecDeque::new(),
            octets: 0,
            first_above: None,
            dropping: false,
            drop_next: 0,
            count: 0,
            last_count: 0,
        }
    }
}

impl<T> Codel<T> {
    /// Octets that wait.
    pub const fn octets(&self) -> u64 {
        self.octets
    }

    /// Octets of the oldest packet; `None` when nothing waits.
    pub fn next_octets(&self) -> Option<u32> {
        self.packets.front().map(|packet| packet.charge.octets)
    }

    /// Adds a packet.
    pub fn push(&mut self, packet: Waiting<T>) {
        self.octets += u64::from(packet.charge.octets);
        self.packets.push_back(packet);
    }

    /// The oldest packet, whatever CoDel thinks of it.
    pub fn pop(&mut self) -> Option<Waiting<T>> {
        let packet = self.packets.pop_front()?;
        self.octets -= u64::from(packet.charge.octets);
        if self.packets.is_empty() {
            // A burst that has gone says nothing about the next.
            self.first_above = None;
        }
        Some(packet)
    }

    /// The packet to send; those that are dropped before it go to `dropped`.
    pub fn dequeue(
        &mut self,
        now: Uptime,
        params: &Params,
        dropped: &mut impl FnMut(Waiting<T>),
    ) -> Option<Waiting<T>> {
        let at = now.as_nanos();
        let (mut packet, mut late) = self.judge(at, params);
        if self.dropping {
            self.dropping = late;
            while self.dropping && at >= self.drop_next {
                packet.take().into_iter().for_each(&mut *dropped);
                self.count = self.count.saturating_add(1);
                (packet, late) = self.judge(at, params);
                self.dropping = late;
                if late {
                    self.drop_next = self.drop_next.saturating_add(self.pause(params));
                }
            }
        } else if late {
            packet.take().into_iter().for_each(dropped);
            (packet, _) = self.judge(at, params);
            self.dropping = true;
            let lately = at.saturating_sub(self.drop_next) < GRACE_INTERVALS * params.interval_ns;
            let more = self.count.saturating_sub(self.last_count);
            self.count = if more > 1 && lately { more } else { 1 };
            self.drop_next = at.saturating_add(self.pause(params));
            self.last_count = self.count;
        }
        packet
    }

    /// The oldest packet, and whether it may be dropped. RFC 8289 section 5.4 `dodequeue`.
    fn judge(&mut self, at: u64, params: &Params) -> (Option<Waiting<T>>, bool) {
        let backlog = self.octets;
        let Some(packet) = self.pop() else { return (None, false) };
        let waited = at.saturating_sub(packet.since.as_nanos());
        if waited < params.target_ns || backlog <= params.backlog_octets {
            self.first_above = None;
            return (Some(packet), false);
        }
        let late = if let Some(first) = self.first_above {
            at >= first
        } else {
            if !self.packets.is_empty() {
                self.first_above = Some(at.saturating_add(params.interval_ns));
            }
            false
        };
        (Some(packet), late)
    }

    /// Nanoseconds to the next drop: the interval by the square root of the drops so far.
    fn pause(&self, params: &Params) -> u64 {
        let square = u128::from(params.interval_ns).pow(2) / u128::from(self.count.max(1));
        u64::try_from(square.isqrt()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Charge;

    const MS: u64 = 1_000_000;
    const PARAMS: Params =
        Params { target_ns: 5 * MS, interval_ns: 100 * MS, backlog_octets: 1_500 };

    fn at(ms: u64) -> Uptime {
        Uptime::from_nanos(ms * MS)
    }

    fn packet(ms: u64) -> Waiting<u64> {
        Waiting { charge: Charge::one(1_000), flow: 0, since: at(ms), item: ms }
    }

    /// Sends one packet each ms from a queue whose packets have all waited 50 ms: the moments of
    /// the drops.
    fn drops(ms: u64) -> Vec<u64> {
        let mut codel = Codel::default();
        for wait in 0..50 {
            codel.push(packet(1_000 + wait));
        }
        let mut drops = Vec::new();
        for now in 1_050..1_050 + ms {
            while codel.packets.len() < 50 {
                codel.push(packet(now - 49));
            }
            let sent = codel.dequeue(at(now), &PARAMS, &mut |_| drops.push(now));
            assert!(sent.is_some());
        }
        drops
    }

    #[test]
    fn drops_come_faster_while_the_wait_stays_long() {
        let drops = drops(500);
        // The first one interval after the wait became too long, then 100, 71, 58, 50 ms apart.
        assert_eq!(drops[..5], [1_150, 1_250, 1_321, 1_379, 1_429]);
    }

    #[test]
    fn short_waits_and_single_packets_are_left_alone() {
        let mut codel = Codel::default();
        for now in 0..1_000 {
            codel.push(packet(now));
            codel.push(packet(now));
            let mut dropped = 0;
            for _ in 0..2 {
                let sent = codel.dequeue(at(now + 4), &PARAMS, &mut |_| dropped += 1);
                assert!(sent.is_some());
            }
            assert_eq!(dropped, 0);
        }
        for now in 0..1_000 {
            codel.push(packet(now));
            let sent = codel.dequeue(at(now + 500), &PARAMS, &mut |_| unreachable!());
            assert_eq!(sent.map(|sent| sent.item), Some(now));
        }
    }
}
