//! Random numbers from a seed: same seed, same numbers.

use crate::siphash::sip24;

/// SipHash-2-4 of a counter: as hard to predict as the hash, and cheap to seed again.
#[derive(Clone, Debug)]
pub struct Rng {
    key: [u8; 16],
    counter: u64,
}

impl Rng {
    /// A generator whose whole sequence follows from `seed`.
    pub fn new(seed: [u8; 32]) -> Self {
        let (mut key, mut whitening) = ([0; 16], [0; 8]);
        key.copy_from_slice(&seed[..16]);
        whitening.copy_from_slice(&seed[16..24]);
        let mut rng = Self { key, counter: u64::from_le_bytes(whitening) };
        // The rest of the seed goes into the key, so that all of it matters.
        let extra = rng.next_u64() ^ u64::from_le_bytes(seed[24..].try_into().unwrap_or_default());
        for (octet, mixed) in rng.key.iter_mut().zip(extra.to_le_bytes()) {
            *octet ^= mixed;
        }
        rng
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        sip24(&self.key, &[self.counter], 0, 8)
    }

    /// The next 32 random bits.
    #[expect(clippy::cast_possible_truncation, reason = "the low half of a random number")]
    pub fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    /// The next 16 random bits.
    #[expect(clippy::cast_possible_truncation, reason = "the low quarter of a random number")]
    pub fn next_u16(&mut self) -> u16 {
        self.next_u64() as u16
    }

    /// A key of 128 bits.
    pub fn key(&mut self) -> [u8; 16] {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.next_u64().to_le_bytes());
        key[8..].copy_from_slice(&self.next_u64().to_le_bytes());
        key
    }

    /// A seed for another generator.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(&self.key());
        seed[16..].copy_from_slice(&self.key());
        seed
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn every_part_of_the_seed_matters() {
        let first = Rng::new([0; 32]).next_u64();
        assert_eq!(Rng::new([0; 32]).next_u64(), first);
        for octet in 0..32 {
            let mut seed = [0; 32];
            seed[octet] = 1;
            assert_ne!(Rng::new(seed).next_u64(), first, "octet {octet}");
        }
    }
}
