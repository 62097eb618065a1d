//! Random numbers of the simulation: SplitMix64, all from one seed.

/// Generator of one part of a world.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose numbers follow from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next 32 bits.
    #[expect(clippy::cast_possible_truncation, reason = "the low half of a random number")]
    pub const fn next_u32(&mut self) -> u32 {
        self.next() as u32
    }

    /// The next 16 bits.
    #[expect(clippy::cast_possible_truncation, reason = "the low quarter of a random number")]
    pub const fn next_u16(&mut self) -> u16 {
        self.next() as u16
    }

    /// A number below `bound`, which is not zero.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A number from `low` to `high`, both included.
    pub const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `permille` of 1,000 cases.
    pub const fn chance(&mut self, permille: u64) -> bool {
        self.below(1_000) < permille
    }

    /// One of `choices`, which are not empty.
    #[expect(clippy::cast_possible_truncation, reason = "an index fits")]
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// An independent generator.
    #[must_use]
    pub const fn fork(&mut self) -> Self {
        Self(self.next())
    }
}
