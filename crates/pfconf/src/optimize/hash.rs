//! Things in a list, found by what they are.
//!
//! An [`Index`] holds places in a list and nothing else: 6 to 12 octets for each thing. Hashes are
//! folded products with a seed of the process, so that no text can be written for collisions. No
//! result depends on their order.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

/// A free slot.
const FREE: u32 = u32::MAX;

static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish() | 1);

/// Hash of words.
pub(super) fn hash(words: impl IntoIterator<Item = u64>) -> u64 {
    let seed = *SEED;
    words.into_iter().fold(seed, |hash, word| fold(hash ^ word, seed ^ 0xa076_1d64_78bd_642f))
}

/// Hash of octets.
pub(super) fn hash_text(text: &str) -> u64 {
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let rest = rest.iter().fold(1, |word, &octet| word << 8 | u64::from(octet));
    hash(words.iter().map(|&word| u64::from_le_bytes(word)).chain([rest]))
}

/// Both halves of a product.
fn fold(one: u64, other: u64) -> u64 {
    let product = (u128::from(one) * u128::from(other)).to_le_bytes();
    let ([low, high], _) = product.as_chunks::<8>() else { return one };
    u64::from_le_bytes(*low) ^ u64::from_le_bytes(*high)
}

/// A number that is a place in a list of rules, of which there are fewer.
pub(super) fn small(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(FREE)
}

/// Places by hash, with open addressing.
#[derive(Debug, Default)]
pub(super) struct Index {
    slots: Vec<u32>,
}

impl Index {
    /// Forgets everything, and takes room for so many places.
    pub(super) fn reset(&mut self, room: usize) {
        self.slots.clear();
        self.slots.resize((room + room / 2 + 1).next_power_of_two(), FREE);
    }

    /// Gives the memory back.
    pub(super) fn release(&mut self) {
        self.slots = Vec::new();
    }

    /// The slots for a hash, the likeliest first.
    fn slots(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len().wrapping_sub(1);
        let start = usize::try_from(hash & 0xffff_ffff).unwrap_or_default();
        (0..self.slots.len()).map(move |step| start.wrapping_add(step) & mask)
    }

    /// The place that was entered for this hash and for which `is` holds.
    pub(super) fn get(&self, hash: u64, is: impl Fn(usize) -> bool) -> Option<usize> {
        for slot in self.slots(hash) {
            match self.slots[slot] {
                FREE => return None,
                place if is(place as usize) => return Some(place as usize),
                _ => {}
            }
        }
        None
    }

    /// As [`Index::get`]; where there is none `new` is entered and given.
    pub(super) fn enter(&mut self, hash: u64, new: usize, is: impl Fn(usize) -> bool) -> usize {
        for slot in self.slots(hash) {
            match self.slots[slot] {
                FREE => {
                    self.slots[slot] = small(new);
                    return new;
                }
                place if is(place as usize) => return place as usize,
                _ => {}
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_entered_is_found() {
        let things: Vec<u64> = (0..1_000).map(|n| n % 700).collect();
        // With a bad hash, too.
        for hash in [|n: u64| hash([n]), |n: u64| n % 3] {
            let mut index = Index::default();
            assert_eq!(index.get(hash(1), |_| true), None);
            index.reset(things.len());
            for (at, &thing) in things.iter().enumerate() {
                let found = index.enter(hash(thing), at, |other| things[other] == thing);
                assert_eq!(found, if at < 700 { at } else { at - 700 });
            }
            assert_eq!(index.get(hash(699), |other| things[other] == 699), Some(699));
            assert_eq!(index.get(hash(700), |other| things[other] == 700), None);
        }
    }

    #[test]
    fn texts_of_any_length_differ() {
        let texts = ["", "\0", "e", "em0", "em1", "interface", "interface0", "interface\0"];
        for (at, one) in texts.iter().enumerate() {
            for other in &texts[at + 1..] {
                assert_ne!(hash_text(one), hash_text(other), "{one:?} {other:?}");
            }
        }
    }
}
