//! SipHash of messages that are at hand as words, not as octets.
//!
//! What is hashed of a packet is a few fields of fixed length. Put together in registers they cost a
//! third of what a hasher costs that is fed octet by octet; the outcome is the same. Words are those
//! that SipHash reads: eight octets of the message, the first one lowest. Source: Aumasson and
//! Bernstein, "SipHash: a fast short-input PRF", 2012.

/// State after the key.
#[derive(Clone, Copy)]
struct State([u64; 4]);

impl State {
    #[inline]
    fn new(key: &[u8; 16]) -> Self {
        let [k0, k1] = halves(key);
        Self([
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ])
    }

    #[inline]
    const fn round(&mut self) {
        let [mut v0, mut v1, mut v2, mut v3] = self.0;
        v0 = v0.wrapping_add(v1);
        v2 = v2.wrapping_add(v3);
        v1 = v1.rotate_left(13) ^ v0;
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v1);
        v0 = v0.wrapping_add(v3);
        v1 = v1.rotate_left(17) ^ v2;
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.rotate_left(32);
        self.0 = [v0, v1, v2, v3];
    }

    #[inline]
    fn hash<const C: usize, const D: usize>(mut self, words: &[u64], last: u64) -> u64 {
        for word in words.iter().copied().chain([last]) {
            self.0[3] ^= word;
            for _ in 0..C {
                self.round();
            }
            self.0[0] ^= word;
        }
        self.0[2] ^= 0xff;
        for _ in 0..D {
            self.round();
        }
        self.0.into_iter().fold(0, |hash, word| hash ^ word)
    }
}

#[inline]
fn halves(key: &[u8; 16]) -> [u64; 2] {
    let both = u128::from_le_bytes(*key);
    #[expect(clippy::cast_possible_truncation, reason = "two halves")]
    let halves = [both as u64, (both >> 64) as u64];
    halves
}

/// The last word: up to seven octets and the length of the message.
#[inline]
const fn last(rest: u64, len: usize) -> u64 {
    rest | (len as u64) << 56
}

/// SipHash-1-3 of a message of `len` octets: all whole `words` of it, then the `rest`, whose high
/// octets are 0.
#[inline]
pub fn sip13(key: &[u8; 16], words: &[u64], rest: u64, len: usize) -> u64 {
    debug_assert_eq!(words.len(), len / 8);
    State::new(key).hash::<1, 3>(words, last(rest, len))
}

/// SipHash-2-4, likewise.
#[inline]
pub fn sip24(key: &[u8; 16], words: &[u64], rest: u64, len: usize) -> u64 {
    debug_assert_eq!(words.len(), len / 8);
    State::new(key).hash::<2, 4>(words, last(rest, len))
}

/// The two words that sixteen octets are, the first of them lowest in `octets`.
#[inline]
pub fn words(octets: u128) -> [u64; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "two halves")]
    let words = [octets as u64, (octets >> 64) as u64];
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::Hasher as _;
    use proptest::prelude::*;
    use siphasher::sip::{SipHasher13, SipHasher24};

    proptest! {
        /// Another implementation gives the same.
        #[test]
        fn agrees_with_a_hasher_of_octets(
            key: [u8; 16], message in prop::collection::vec(any::<u8>(), 0..48),
        ) {
            let (whole, rest) = message.as_chunks::<8>();
            let whole: Vec<u64> = whole.iter().map(|&word| u64::from_le_bytes(word)).collect();
            let mut octets = [0; 8];
            octets[..rest.len()].copy_from_slice(rest);
            let rest = u64::from_le_bytes(octets);
            let mut hasher = SipHasher13::new_with_key(&key);
            hasher.write(&message);
            prop_assert_eq!(sip13(&key, &whole, rest, message.len()), hasher.finish());
            let hasher = SipHasher24::new_with_key(&key);
            prop_assert_eq!(sip24(&key, &whole, rest, message.len()), hasher.hash(&message));
        }
    }
}
