//! The keys of `classic` cookies: two at a time, each with the count of its cookies that are still
//! out.
//!
//! Life-cycle: a key is used for new cookies for 15 s and accepted for 30 s, then forgotten.
//! Invariant: a key's parity is the bit that its cookies carry, so at most one key can match.
//! Source: OpenBSD sys/net/pf_syncookies.c `pf_syncookie_newkey`.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use pfapi::units::Uptime;
use siphasher::sip128::SipHasher24;

use super::cookie::{Key, Parity};

/// Seconds for which a key makes cookies. Source: OpenBSD `PF_SYNCOOKIE_SECRET_LIFETIME`.
pub(super) const ROTATION_S: u64 = 15;
/// Seconds for which a key's cookies are accepted: until its slot is used again.
pub(super) const LIFE_S: u64 = 2 * ROTATION_S;

/// One key.
pub(super) struct Slot {
    pub key: Key,
    pub parity: Parity,
    pub born: Uptime,
    /// Cookies sent and not yet validated.
    in_flight: AtomicU64,
}

impl Slot {
    pub fn is_expired(&self, now: Uptime) -> bool {
        now.secs_since(self.born) >= LIFE_S
    }

    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub fn count_sent(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A repeated cookie finds its count taken already, so this saturates.
    pub fn count_validated(&self) {
        let _ = self
            .in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
    }
}

/// The keys at one moment; replaced as a whole, so that readers need no lock.
#[derive(Clone, Default)]
pub(super) struct Ring {
    slots: [Option<Arc<Slot>>; 2],
    current: Option<Parity>,
}

impl Ring {
    /// The key for new cookies.
    pub fn current(&self) -> Option<&Slot> {
        self.slot(self.current?)
    }

    /// The key of this parity.
    pub fn slot(&self, parity: Parity) -> Option<&Slot> {
        self.slots[parity.index()].as_deref()
    }

    /// Whether every key is gone.
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }

    /// Cookies of all keys that are still out.
    pub fn in_flight(&self) -> u64 {
        self.slots.iter().flatten().map(|slot| slot.in_flight()).sum()
    }

    /// The ring with a new current key, which takes the slot of the key before the last.
    pub fn with_new(&self, slot: Slot) -> Self {
        let mut next = self.clone();
        next.current = Some(slot.parity);
        let index = slot.parity.index();
        next.slots[index] = Some(Arc::new(slot));
        next
    }

    /// The ring without the keys that are too old.
    pub fn without_expired(&self, now: Uptime) -> Self {
        let mut next = self.clone();
        for slot in &mut next.slots {
            slot.take_if(|slot| slot.is_expired(now));
        }
        next
    }
}

/// Makes keys from a seed: the same keys in the same order for the same seed.
pub(super) struct KeySource {
    seed: [u8; 32],
    made: u64,
    parity: Parity,
}

impl KeySource {
    pub fn new(seed: [u8; 32]) -> Self {
        // pf flips before the first use, so its first key is the odd one.
        Self { seed, made: 0, parity: Parity::Even }
    }

    /// The next key, of the other parity than the last one.
    ///
    /// # Security
    /// SipHash-2-4 with 128 bits of output is a pseudo-random function of the count, keyed with
    /// one half of the seed and tweaked with the other: a key tells nothing about another one.
    pub fn next(&mut self, now: Uptime) -> Slot {
        let mut message = [0; 24];
        message[..16].copy_from_slice(&self.seed[16..]);
        message[16..].copy_from_slice(&self.made.to_le_bytes());
        let mut half = [0; 16];
        half.copy_from_slice(&self.seed[..16]);
        let key = SipHasher24::new_with_key(&half).hash(&message).as_bytes();
        self.made += 1;
        self.parity = self.parity.flipped();
        Slot { key, parity: self.parity, born: now, in_flight: AtomicU64::new(0) }
    }
}
