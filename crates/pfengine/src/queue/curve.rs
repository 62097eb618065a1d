//! Service curves: octets that a class may or must send, over time.
//!
//! A curve has two pieces: a rate for the first moments, and the rate from then on. A running
//! curve starts at a moment and a count of octets. Times are in nanoseconds, counts in octets,
//! rates in bits per second; products are taken in 128 bits, so nothing is rounded but the result.
//! Source: OpenBSD sys/net/hfsc.c `hfsc_rtsc_y2x`, `hfsc_rtsc_x2y`, `hfsc_rtsc_min`.

/// Bits per octet times nanoseconds per second.
const BIT_NANOS: u128 = 8_000_000_000;

/// What a class may or must send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Curve {
    /// Bits per second in the beginning.
    pub first_bps: u64,
    /// Nanoseconds that the beginning lasts.
    pub first_ns: u64,
    /// Bits per second from then on.
    pub bps: u64,
}

impl Curve {
    /// The same rate all the time.
    pub const fn linear(bps: u64) -> Self {
        Self { first_bps: bps, first_ns: 0, bps }
    }

    /// Whether nothing is ever sent.
    pub const fn is_zero(&self) -> bool {
        self.bps == 0 && (self.first_bps == 0 || self.first_ns == 0)
    }

    /// Whether the beginning is no faster than the rest.
    const fn is_convex(&self) -> bool {
        self.first_ns == 0 || self.first_bps <= self.bps
    }

    /// Octets of the beginning.
    fn first_octets(&self) -> u64 {
        octets_in(self.first_ns, self.first_bps)
    }
}

/// Octets that a rate gives in a time, rounded down.
fn octets_in(ns: u64, bps: u64) -> u64 {
    u64::try_from(u128::from(ns) * u128::from(bps) / BIT_NANOS).unwrap_or(u64::MAX)
}

/// Nanoseconds that a rate needs for so many octets, rounded up; never, at a rate of zero.
fn nanos_for(octets: u64, bps: u64) -> u64 {
    match (octets, bps) {
        (0, _) => 0,
        (_, 0) => u64::MAX,
        _ => {
            let ns = (u128::from(octets) * BIT_NANOS).div_ceil(u128::from(bps));
            u64::try_from(ns).unwrap_or(u64::MAX)
        }
    }
}

/// A curve that started at a moment and a count.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    x: u64,
    y: u64,
    /// Length and height of the first piece; less than the curve's when that is partly used up.
    dx: u64,
    dy: u64,
    first_bps: u64,
    bps: u64,
}

impl Running {
    /// From the start of time.
    pub fn new(curve: &Curve) -> Self {
        Self {
            x: 0,
            y: 0,
            dx: curve.first_ns,
            dy: curve.first_octets(),
            first_bps: curve.first_bps,
            bps: curve.bps,
        }
    }

    /// When the count is reached.
    pub fn time_of(&self, octets: u64) -> u64 {
        let Some(above) = octets.checked_sub(self.y) else { return self.x };
        if above <= self.dy {
            let within = if self.dy == 0 { self.dx } else { nanos_for(above, self.first_bps) };
            self.x.saturating_add(within)
        } else {
            let rest = nanos_for(above - self.dy, self.bps);
            self.x.saturating_add(self.dx).saturating_add(rest)
        }
    }

    /// The count at a moment.
    pub fn octets_at(&self, time: u64) -> u64 {
        let Some(passed) = time.checked_sub(self.x) else { return self.y };
        if passed <= self.dx {
            self.y.saturating_add(octets_in(passed, self.first_bps))
        } else {
            let rest = octets_in(passed - self.dx, self.bps);
            self.y.saturating_add(self.dy).saturating_add(rest)
        }
    }

    /// Takes the lower one of this curve and of `curve` started at `(time, octets)`.
    pub fn lower(&mut self, curve: &Curve, time: u64, octets: u64) {
        let here = self.octets_at(time);
        if curve.is_convex() {
            if here >= octets {
                (self.x, self.y) = (time, octets);
            }
            return;
        }
        if here <= octets {
            return;
        }
        let later = self.octets_at(time.saturating_add(curve.first_ns));
        if later >= octets.saturating_add(curve.first_octets()) {
            (self.x, self.y) = (time, octets);
            (self.dx, self.dy) = (curve.first_ns, curve.first_octets());
            return;
        }
        // They cross: the new curve starts lower and is steeper at first.
        let mut dx = nanos_for(here - octets, curve.first_bps - curve.bps);
        let first_ends = self.x.saturating_add(self.dx);
        if first_ends > time {
            dx = dx.saturating_add(first_ends - time);
        }
        (self.x, self.y) = (time, octets);
        (self.dx, self.dy) = (dx, octets_in(dx, curve.first_bps));
    }

    /// Without its first piece when that is the slower one: from when on a class may be served
    /// ahead of its deadlines.
    pub fn eligible(mut self, curve: &Curve) -> Self {
        if curve.is_convex() {
            (self.dx, self.dy) = (0, 0);
        }
        self
    }

    /// Starts later: what was not used is lost.
    pub fn shift(&mut self, ns: u64) {
        self.x = self.x.saturating_add(ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn rates_and_times_are_inverse() {
        assert_eq!(octets_in(1_000 * MS, 8_000_000), 1_000_000);
        assert_eq!(nanos_for(1_500, 12_000_000), MS);
        assert_eq!(nanos_for(1, 3), 2_666_666_667);
        assert_eq!(nanos_for(1, 0), u64::MAX);
        // A year at 4 Gbit/s.
        let year = 31_536_000_000 * MS;
        assert_eq!(nanos_for(octets_in(year, 4_000_000_000), 4_000_000_000), year);
    }

    #[test]
    fn beginning_is_faster() {
        let curve = Curve { first_bps: 80_000, first_ns: 100 * MS, bps: 8_000 };
        let mut running = Running::new(&curve);
        running.lower(&curve, 5_000 * MS, 0);
        assert_eq!(running.time_of(0), 5_000 * MS);
        assert_eq!(running.time_of(1_000), 5_100 * MS);
        assert_eq!(running.time_of(1_001), 5_101 * MS);
        assert_eq!(running.octets_at(5_050 * MS), 500);
        assert_eq!(running.octets_at(6_100 * MS), 2_000);
    }

    #[test]
    fn burst_comes_back_with_idle_time() {
        let curve = Curve { first_bps: 80_000, first_ns: 100 * MS, bps: 8_000 };
        let mut running = Running::new(&curve);
        running.lower(&curve, 10_000 * MS, 0);
        // The burst was used; half of it would have come at the slow rate since.
        running.lower(&curve, 10_600 * MS, 1_000);
        let burst = running.octets_at(20_000 * MS) - 1_000 - octets_in(9_400 * MS, 8_000);
        assert!((499..=500).contains(&burst), "{burst}");
        // After a long time it is whole again.
        running.lower(&curve, 90_000 * MS, 2_000);
        assert_eq!(running.octets_at(90_100 * MS), 3_000);
    }
}
