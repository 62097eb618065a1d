//! The keys of cookies by epoch: every 15 s of the wall clock have a key of their own.
//!
//! ```text
//! epoch e = floor(unix time / 15)      key of e = PRF(master, "pfd syncookie" ‖ e)
//!
//!   made in e, accepted in e and e + 1: a cookie lives 15 to 30 s
//!   made in e + 1 by a firewall whose clock is ahead: accepted in the last 2 s of e
//! ```
//!
//! Nothing is stored of a key but its master, so firewalls with the same master and clocks that
//! agree within 2 s accept each other's cookies, and so does one that has started again. The first
//! master makes cookies, all are accepted: a new master is added behind the old one everywhere, then
//! put before it, then the old one is removed.
//!
//! Life-cycle: a ring holds the keys around one epoch; the first packet of a later epoch replaces
//! it. Readers take no lock. Invariant: a cookie is made with the epoch of the ring at hand, never
//! with one that is already over for another thread.
//!
//! Sources: RFC 4987 section 3.6; RFC 6528 section 3 (the secret behind sequence numbers).

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use pfapi::units::Uptime;
use siphasher::sip128::SipHasher24;

use super::cookie::{Key, Parity};

/// Seconds for which a key makes cookies. Source: OpenBSD `PF_SYNCOOKIE_SECRET_LIFETIME`.
pub const EPOCH_S: u64 = 15;
/// Seconds by which clocks of firewalls that share a master may differ.
pub const SKEW_S: u64 = 2;
/// Masters at one time: the one in use, the next one, and two to be retired. More would make
/// guessing easier: every master is one more number that a blind ACK may hit.
pub const MASTERS_MAX: usize = 4;

const NANOS: u64 = 1_000_000_000;
/// What the derived keys are for; the same on all firewalls that share a master.
const LABEL: &[u8; 16] = b"pfd syncookie v1";

/// Fifteen seconds of the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of a moment in nanoseconds since 1970.
    pub const fn of_unix_nanos(nanos: u64) -> Self {
        Self(nanos / (EPOCH_S * NANOS))
    }

    /// The last `width` bits of the number: what a cookie can carry of it.
    pub const fn low_bits(self, width: u32) -> u64 {
        self.0 & ((1 << width) - 1)
    }

    /// The last bit.
    pub const fn parity(self) -> Parity {
        if self.0 & 1 == 0 { Parity::Even } else { Parity::Odd }
    }
}

/// The secret from which the keys of all epochs follow.
#[derive(Clone, PartialEq, Eq)]
pub struct Master([u8; 32]);

impl Master {
    /// A secret of 32 random octets.
    #[must_use]
    pub const fn new(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// The key of one epoch.
    ///
    /// # Security
    /// SipHash-2-4 with 128 bits of output is a pseudo-random function of the epoch, keyed with
    /// one half of the master; the other half stands before the epoch in the message. A key says
    /// nothing about the master or another key.
    fn key(&self, epoch: Epoch) -> Key {
        let (mut half, mut message) = ([0; 16], [0; 40]);
        half.copy_from_slice(&self.0[..16]);
        message[..16].copy_from_slice(&self.0[16..]);
        message[16..32].copy_from_slice(LABEL);
        message[32..].copy_from_slice(&epoch.0.to_be_bytes());
        SipHasher24::new_with_key(&half).hash(&message).as_bytes()
    }
}

/// Shows no secret.
impl fmt::Debug for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Master(..)")
    }
}

/// The keys around one epoch.
#[derive(Clone, Default)]
struct KeyRing {
    epoch: Epoch,
    /// Keys of the epochs around it as [`ring_epochs`] has them, in the order of the masters.
    keys: [[Key; MASTERS_MAX]; RING_EPOCHS],
    masters: usize,
}

impl KeyRing {
    fn new(masters: &[Master], epoch: Epoch) -> Self {
        let mut ring = Self { epoch, masters: masters.len(), ..Self::default() };
        for (keys, number) in ring.keys.iter_mut().zip(ring_epochs(epoch)) {
            for (key, master) in keys.iter_mut().zip(masters) {
                *key = master.key(Epoch(number));
            }
        }
        ring
    }
}

/// Epochs that a ring has keys of.
const RING_EPOCHS: usize = 5;

/// How many of them may have made a cookie that is accepted.
const ACCEPTED_EPOCHS: usize = 3;

/// The epochs of a ring, in the order in which a cookie is tried: the first epoch has none before.
/// Cookies of the last two come too late.
const fn ring_epochs(epoch: Epoch) -> [u64; RING_EPOCHS] {
    let Epoch(now) = epoch;
    let [last, next] = [now.wrapping_sub(1), now.wrapping_add(1)];
    [now, last, next, now.wrapping_sub(2), now.wrapping_sub(3)]
}

/// Keys of all epochs, shared by all threads.
pub(super) struct EpochKeys {
    ring: ArcSwap<KeyRing>,
    /// Nanoseconds since 1970 when the uptime was zero.
    unix_at_start: AtomicU64,
    masters: Mutex<Masters>,
}

struct Masters {
    /// Those in use; never empty.
    list: Vec<Master>,
    /// The one of this start, for when no other is given.
    own: Master,
}

impl EpochKeys {
    /// Keys of one master that nobody else has. Until [`Self::set_unix_time`] the wall clock
    /// counts from the uptime's start.
    pub fn new(master: Master) -> Self {
        Self {
            ring: ArcSwap::from_pointee(KeyRing::new(core::slice::from_ref(&master), Epoch(0))),
            unix_at_start: AtomicU64::new(0),
            masters: Mutex::new(Masters { list: vec![master.clone()], own: master }),
        }
    }

    /// Says what the wall clock shows at `now`: `unix_nanos` since 1970.
    ///
    /// A step of the clock changes the epoch at once; cookies of an epoch that is then too far away
    /// are void, and their clients connect anew.
    pub fn set_unix_time(&self, unix_nanos: u64, now: Uptime) {
        let start = unix_nanos.saturating_sub(now.as_nanos());
        self.unix_at_start.store(start, Ordering::Relaxed);
        let masters = self.lock();
        let epoch = Epoch::of_unix_nanos(self.unix_nanos(now));
        if self.ring.load().epoch != epoch {
            self.ring.store(Arc::new(KeyRing::new(&masters.list, epoch)));
        }
    }

    /// Replaces the masters. The first makes cookies; those behind [`MASTERS_MAX`] are left out. An
    /// empty list brings back the master of this start.
    pub fn set_masters(&self, masters: &[Master], now: Uptime) {
        let mut kept = self.lock();
        kept.list = masters.iter().take(MASTERS_MAX).cloned().collect();
        if kept.list.is_empty() {
            kept.list = vec![kept.own.clone()];
        }
        let epoch = Epoch::of_unix_nanos(self.unix_nanos(now));
        self.ring.store(Arc::new(KeyRing::new(&kept.list, epoch)));
    }

    /// The epoch in which cookies are made now, and its key.
    pub fn current(&self, now: Uptime) -> (Epoch, Key) {
        let ring = self.ring_at(now);
        (ring.epoch, ring.keys[0][0])
    }

    /// Tries the keys of every epoch that is accepted now and whose last `width` bits are `bits`,
    /// until `test` accepts one. The epochs come in the order present, last, next, and under each
    /// the masters in theirs.
    pub fn find<T>(
        &self,
        now: Uptime,
        (bits, width): (u64, u32),
        mut test: impl FnMut(Epoch, &Key) -> Option<T>,
    ) -> Option<T> {
        let ring = self.ring_at(now);
        // Another thread may be in the next epoch already; what it accepts may lie ahead of us.
        let left = (EPOCH_S * NANOS).saturating_sub(self.unix_nanos(now) % (EPOCH_S * NANOS));
        let accepts_next = left <= SKEW_S * NANOS;
        let accepted = ring_epochs(ring.epoch).into_iter().take(ACCEPTED_EPOCHS);
        for (at, number) in accepted.enumerate() {
            let epoch = Epoch(number);
            if epoch.low_bits(width) != bits || at == 2 && !accepts_next {
                continue;
            }
            for key in &ring.keys[at][..ring.masters] {
                if let Some(found) = test(epoch, key) {
                    return Some(found);
                }
            }
        }
        None
    }

    /// Whether `test` accepts a key of an epoch that has been over for up to 45 s, and whose last
    /// `width` bits are `bits`.
    pub fn knows_late(
        &self,
        now: Uptime,
        (bits, width): (u64, u32),
        mut test: impl FnMut(&Key) -> bool,
    ) -> bool {
        let ring = self.ring_at(now);
        let late = ring_epochs(ring.epoch).into_iter().zip(&ring.keys).skip(ACCEPTED_EPOCHS);
        late.filter(|&(epoch, _)| Epoch(epoch).low_bits(width) == bits)
            .any(|(_, keys)| keys[..ring.masters].iter().any(&mut test))
    }

    /// The ring of this moment, or a later one that another thread has made.
    fn ring_at(&self, now: Uptime) -> arc_swap::Guard<Arc<KeyRing>> {
        let epoch = Epoch::of_unix_nanos(self.unix_nanos(now));
        let ring = self.ring.load();
        if ring.epoch >= epoch {
            return ring;
        }
        drop(ring);
        self.advance(epoch);
        self.ring.load()
    }

    #[cold]
    fn advance(&self, epoch: Epoch) {
        let masters = self.lock();
        if self.ring.load().epoch < epoch {
            self.ring.store(Arc::new(KeyRing::new(&masters.list, epoch)));
        }
    }

    fn unix_nanos(&self, now: Uptime) -> u64 {
        self.unix_at_start.load(Ordering::Relaxed).saturating_add(now.as_nanos())
    }

    /// A thread that panicked leaves a list that was valid at some moment.
    fn lock(&self) -> std::sync::MutexGuard<'_, Masters> {
        self.masters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UNIX: u64 = 1_800_000_000;

    fn keys(masters: &[u8], skew_ms: i64) -> EpochKeys {
        let masters: Vec<Master> = masters.iter().map(|&octet| Master::new([octet; 32])).collect();
        let keys = EpochKeys::new(Master::new([0xee; 32]));
        let unix = (UNIX * NANOS).checked_add_signed(skew_ms * 1_000_000).unwrap();
        keys.set_unix_time(unix, Uptime::ZERO);
        keys.set_masters(&masters, Uptime::ZERO);
        keys
    }

    fn ms(ms: u64) -> Uptime {
        Uptime::from_nanos(ms * 1_000_000)
    }

    /// Whether `keys` accept at `now` what has this key and these bits.
    fn accepts(keys: &EpochKeys, made: (Epoch, Key), width: u32, now: Uptime) -> bool {
        let test = |_, key: &Key| (*key == made.1).then_some(());
        keys.find(now, (made.0.low_bits(width), width), test).is_some()
    }

    /// Made by a script of its own after the SipHash reference.
    #[test]
    fn derived_keys_never_change_between_versions() {
        let octets: [u8; 32] = core::array::from_fn(|at| u8::try_from(at).unwrap());
        let hex = |key: Key| key.map(|octet| format!("{octet:02x}")).concat();
        let master = Master::new(octets);
        assert_eq!(hex(master.key(Epoch(0))), "8bda99148408046501e9c24fb4df7fe4");
        assert_eq!(hex(master.key(Epoch(120_000_000))), "c0eacd96ffcd156764437642fa3788fd");
    }

    #[test]
    fn two_firewalls_with_one_master_accept_each_other() {
        let (a, b) = (keys(&[7], 0), keys(&[7], 0));
        for at in [0, 14_999, 15_000, 100_000] {
            assert!(accepts(&b, a.current(ms(at)), 1, ms(at)));
        }
        let stranger = keys(&[8], 0);
        assert!(!accepts(&stranger, a.current(ms(0)), 1, ms(0)));
    }

    #[test]
    fn a_start_in_between_changes_nothing() {
        let made = keys(&[7], 0).current(ms(5_000));
        // The uptime begins anew, the wall clock does not.
        let again = keys(&[7], 10_000);
        assert!(accepts(&again, made, 1, ms(0)));
        assert!(accepts(&again, made, 2, ms(19_999)));
        assert!(!accepts(&again, made, 2, ms(20_000)));
    }

    #[test]
    fn masters_change_over_without_a_gap() {
        let (old, both, turned, new) =
            (keys(&[1], 0), keys(&[1, 2], 0), keys(&[2, 1], 0), keys(&[2], 0));
        let now = ms(1_000);
        assert!(
            accepts(&both, old.current(now), 1, now) && accepts(&old, both.current(now), 1, now)
        );
        assert!(accepts(&turned, both.current(now), 1, now));
        assert!(accepts(&both, turned.current(now), 1, now));
        assert!(accepts(&new, turned.current(now), 1, now));
        assert!(!accepts(&new, old.current(now), 1, now));
    }

    #[test]
    fn cookies_of_a_clock_that_is_ahead_are_accepted_near_the_boundary() {
        let (here, ahead) = (keys(&[7], 0), keys(&[7], 2_000));
        // UNIX is a multiple of 15, so epochs end at 15 s, 30 s and so on.
        for at in [12_000, 13_000, 14_500, 15_000] {
            assert!(accepts(&here, ahead.current(ms(at)), 2, ms(at)), "{at}");
        }
        let ahead = keys(&[7], 2_000);
        // The same number, but made so early that no clock within 2 s can have made it.
        let (here, next) = (keys(&[7], 0), ahead.current(ms(13_000)));
        assert!(!accepts(&here, next, 2, ms(12_999)));
        assert!(accepts(&here, next, 2, ms(13_000)));
    }

    #[test]
    fn with_one_bit_the_last_epoch_is_tried_before_the_next() {
        let keys = keys(&[7], 0);
        let now = ms(14_000);
        let current = Epoch(UNIX / EPOCH_S);
        let mut tried = Vec::new();
        let other = 1 - current.low_bits(1);
        let _ = keys.find(now, (other, 1), |epoch, _| {
            tried.push(epoch);
            None::<()>
        });
        assert_eq!(tried, [Epoch(current.0 - 1), Epoch(current.0 + 1)]);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_cookies_of_its_time() {
        let keys = keys(&[7], 0);
        let before = keys.current(ms(60_000));
        keys.set_unix_time((UNIX - 3_600) * NANOS, ms(60_000));
        let after = keys.current(ms(60_000));
        assert_eq!(after.0, Epoch(UNIX / EPOCH_S - 240));
        assert!(!accepts(&keys, before, 2, ms(60_000)));
        assert!(accepts(&keys, after, 2, ms(60_000)));
    }

    #[test]
    fn more_masters_than_allowed_are_left_out() {
        let keys = keys(&[1, 2, 3, 4, 5], 0);
        let fifth = (Epoch(UNIX / EPOCH_S), Master::new([5; 32]).key(Epoch(UNIX / EPOCH_S)));
        assert!(!accepts(&keys, fifth, 1, ms(0)));
        assert_eq!(format!("{:?}", Master::new([1; 32])), "Master(..)");
    }

    proptest! {
        /// A cookie is accepted for 15 s at least and 30 s at most, by any clock within 2 s.
        #[test]
        fn life_is_15_to_30_seconds(made_ms in 0..120_000_u64, later_ms in 0..60_000_u64, skew in -2_000..2_000_i64) {
            let (maker, judge) = (keys(&[9], 0), keys(&[9], skew));
            let made = maker.current(ms(made_ms));
            let accepted = accepts(&judge, made, 2, ms(made_ms + later_ms));
            if later_ms + skew.max(0).unsigned_abs() < 15_000 {
                prop_assert!(accepted);
            }
            if later_ms + 2_000 >= 30_000 + 4_000 {
                prop_assert!(!accepted);
            }
        }
    }
}
