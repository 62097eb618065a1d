//! Cookies that have opened a connection, so that none opens two.
//!
//! Only cookies that succeeded are entered, so a flood of forged ones cannot fill the list. A cookie
//! is remembered for 34 to 68 s, longer than any lives: in one of two generations that take turns.
//! Each holds up to 65,536; more in so short a time push out others of the same bucket, which could
//! then be replayed.

use core::hash::Hasher;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use pfapi::units::Uptime;
use siphasher::sip::SipHasher13;

use super::cookie::Tuple;

/// Cookies of one generation at most.
const PLACES: usize = 65_536;
/// Places among which a cookie may be: one cache line.
const WAYS: usize = 16;
/// Nanoseconds of a generation as a power of two: 34.4 s, more than a cookie lives.
const GENERATION_BITS: u32 = 35;

/// Cookies that have opened a connection.
#[derive(Debug)]
pub(super) struct Replay {
    secret: [u8; 16],
    /// Made with the first cookie that comes back.
    generations: OnceLock<Box<[Generation; 2]>>,
}

#[derive(Debug)]
pub(super) struct Generation {
    /// Which; they count from 1.
    number: AtomicU64,
    /// Marks of cookies; 0 is free.
    marks: Box<[AtomicU32]>,
    /// One thread at a time empties it.
    emptying: Mutex<()>,
}

impl Generation {
    fn new() -> Self {
        Self {
            number: AtomicU64::new(0),
            marks: (0..PLACES).map(|_| AtomicU32::new(0)).collect(),
            emptying: Mutex::default(),
        }
    }

    /// Places where a cookie may be, and its mark.
    fn places(&self, hash: u64) -> (&[AtomicU32], u32) {
        let buckets = PLACES / WAYS;
        let first = usize::try_from(hash >> 48).unwrap_or(0) % buckets * WAYS;
        #[expect(clippy::cast_possible_truncation, reason = "the low half of the hash")]
        let mark = (hash as u32).max(1);
        (&self.marks[first..first + WAYS], mark)
    }

    /// Makes it the generation `number`, empty, unless it is already.
    fn begin(&self, number: u64) {
        if self.number.load(Ordering::Acquire) == number {
            return;
        }
        let _one = self.emptying.lock().unwrap_or_else(PoisonError::into_inner);
        if self.number.load(Ordering::Acquire) != number {
            self.marks.iter().for_each(|mark| mark.store(0, Ordering::Relaxed));
            self.number.store(number, Ordering::Release);
        }
    }
}

impl Replay {
    /// No cookie has come back yet.
    pub const fn new(secret: [u8; 16]) -> Self {
        Self { secret, generations: OnceLock::new() }
    }

    /// Makes room, so that the first cookie that comes back need not.
    pub fn prepare(&self) -> &[Generation; 2] {
        self.generations.get_or_init(|| Box::new([Generation::new(), Generation::new()]))
    }

    fn hash(&self, tuple: &Tuple, cookie: u32) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        for addr in [tuple.src, tuple.dst] {
            match addr {
                core::net::IpAddr::V4(addr) => hasher.write(&addr.octets()),
                core::net::IpAddr::V6(addr) => hasher.write(&addr.octets()),
            }
        }
        hasher.write(&tuple.sport.to_le_bytes());
        hasher.write(&tuple.dport.to_le_bytes());
        hasher.write(&cookie.to_le_bytes());
        hasher.finish()
    }

    /// Whether the cookie has opened a connection already.
    pub fn was_used(&self, tuple: &Tuple, cookie: u32, now: Uptime) -> bool {
        let Some(generations) = self.generations.get() else { return false };
        let hash = self.hash(tuple, cookie);
        let present = generation_of(now);
        generations.iter().any(|generation| {
            let number = generation.number.load(Ordering::Acquire);
            let (places, mark) = generation.places(hash);
            (number == present || number + 1 == present)
                && places.iter().any(|place| place.load(Ordering::Relaxed) == mark)
        })
    }

    /// Remembers a cookie that has opened a connection.
    pub fn note_used(&self, tuple: &Tuple, cookie: u32, now: Uptime) {
        let generations = self.prepare();
        let present = generation_of(now);
        let generation = &generations[usize::from(present % 2 == 1)];
        generation.begin(present);
        let hash = self.hash(tuple, cookie);
        let (places, mark) = generation.places(hash);
        for place in places {
            if place.compare_exchange(0, mark, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
        }
        // Other bits of the hash than those of the bucket choose which one goes.
        let at = usize::try_from(hash >> 32 & (WAYS as u64 - 1)).unwrap_or(0);
        places[at].store(mark, Ordering::Relaxed);
    }
}

/// Number of the generation of a moment, from 1.
const fn generation_of(now: Uptime) -> u64 {
    (now.as_nanos() >> GENERATION_BITS) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(sport: u16) -> Tuple {
        Tuple { src: [198, 51, 100, 1].into(), dst: [192, 0, 2, 1].into(), sport, dport: 80 }
    }

    #[test]
    fn a_cookie_is_remembered_longer_than_it_lives() {
        for start in [0, 1, 30, 34, 35, 60, 1_000] {
            let replay = Replay::new([1; 16]);
            let at = Uptime::from_secs;
            assert!(!replay.was_used(&tuple(1), 7, at(start)));
            replay.note_used(&tuple(1), 7, at(start));
            for later in [0, 10, 32, 34] {
                assert!(replay.was_used(&tuple(1), 7, at(start + later)), "{start} {later}");
                replay.note_used(&tuple(2), 7, at(start + later));
            }
            assert!(!replay.was_used(&tuple(1), 8, at(start)));
            assert!(!replay.was_used(&tuple(3), 7, at(start)));
            assert!(!replay.was_used(&tuple(1), 7, at(start + 70)));
        }
    }

    #[test]
    fn a_full_generation_takes_more_and_keeps_the_newest() {
        let replay = Replay::new([2; 16]);
        let now = Uptime::from_secs(100);
        for number in 0..200_000_u32 {
            replay.note_used(&tuple(1), number, now);
            assert!(replay.was_used(&tuple(1), number, now));
        }
        let kept = (0..200_000).filter(|&number| replay.was_used(&tuple(1), number, now)).count();
        assert!((60_000..=PLACES + 100).contains(&kept), "{kept}");
    }
}
