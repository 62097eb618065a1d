//! Links that lose, repeat, delay and reorder packets.

use crate::rng::Rng;

/// What a link does to packets.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Packets of 1,000 that are lost.
    pub loss: u64,
    /// Packets of 1,000 that arrive twice.
    pub repeat: u64,
    /// Shortest delay in microseconds.
    pub delay_us: u64,
    /// Longest addition to it; packets overtake each other when it is not zero.
    pub jitter_us: u64,
}

impl Weather {
    /// Nothing goes wrong.
    pub const FAIR: Self = Self { loss: 0, repeat: 0, delay_us: 2_000, jitter_us: 0 };

    /// Somewhere between fair and bad.
    #[must_use]
    pub fn random(rng: &mut Rng) -> Self {
        Self {
            loss: rng.pick(&[0, 0, 5, 20, 60, 100]),
            repeat: rng.pick(&[0, 0, 10, 50]),
            delay_us: rng.between(100, 40_000),
            jitter_us: rng.pick(&[0, 0, 500, 5_000, 30_000]),
        }
    }

    /// Only its delay.
    #[must_use]
    pub const fn without_loss(self) -> Self {
        Self { loss: 0, repeat: 0, jitter_us: 0, ..self }
    }

    /// Delays in nanoseconds of the copies that arrive.
    pub fn copies(&self, rng: &mut Rng) -> impl Iterator<Item = u64> + use<> {
        let mut delay = || (self.delay_us + rng.below(self.jitter_us + 1)) * 1_000;
        let (first, second) = (delay(), delay());
        let lost = rng.chance(self.loss);
        let repeated = rng.chance(self.repeat);
        [(!lost).then_some(first), (!lost && repeated).then_some(second)].into_iter().flatten()
    }
}
