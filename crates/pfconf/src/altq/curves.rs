//! Sums of service curves, and whether they fit under another one.
//!
//! A curve of two pieces says how much has been sent at most after a time: `first` bits per
//! second for `duration` milliseconds, then `rate`. Source: FreeBSD sbin/pfctl/pfctl_altq.c
//! `gsc_add_sc`, `is_gsc_under_sc`; Stoica, Zhang, Ng, SIGCOMM 1997.

use pfapi::ruleset::AltqCurve;

/// Several curves as one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sum(Vec<AltqCurve>);

impl Sum {
    /// Adds a curve; one that is zero everywhere changes nothing.
    pub(crate) fn add(&mut self, curve: AltqCurve) {
        if curve.first > 0 || curve.rate > 0 {
            self.0.push(curve);
        }
    }

    /// Whether the sum is nowhere above `limit`.
    pub(crate) fn fits(&self, limit: AltqCurve) -> bool {
        if limit.first == 0 && limit.rate == 0 {
            return self.0.is_empty();
        }
        let mut bends: Vec<u32> = self.0.iter().map(|curve| curve.duration).collect();
        // As in pfctl, a bend of the limit is looked at only behind those of the sum.
        if bends.iter().all(|&at| at < limit.duration) {
            bends.push(limit.duration);
        }
        let total = |at: u32| self.0.iter().map(|&curve| sent(curve, at)).sum::<u128>();
        let slope: u128 = self.0.iter().map(|curve| u128::from(curve.rate)).sum();
        bends.iter().all(|&at| total(at) <= sent(limit, at)) && slope <= u128::from(limit.rate)
    }
}

/// What the curve allows after `at` milliseconds, in milliseconds times bits per second.
fn sent(curve: AltqCurve, at: u32) -> u128 {
    let start = u128::from(at.min(curve.duration)) * u128::from(curve.first);
    start + u128::from(at.saturating_sub(curve.duration)) * u128::from(curve.rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rate: u64) -> AltqCurve {
        AltqCurve { first: 0, duration: 0, rate }
    }

    fn sum(curves: &[AltqCurve]) -> Sum {
        let mut sum = Sum::default();
        for &curve in curves {
            sum.add(curve);
        }
        sum
    }

    #[test]
    fn straight_curves_compare_by_rate() {
        assert!(sum(&[line(40), line(40)]).fits(line(80)));
        assert!(!sum(&[line(40), line(41)]).fits(line(80)));
        assert!(sum(&[]).fits(line(0)));
        assert!(sum(&[line(0)]).fits(line(0)));
        assert!(!sum(&[line(1)]).fits(line(0)));
    }

    #[test]
    fn bends_are_looked_at() {
        // 10 ms at 100, then 10: above 50 in the beginning only.
        let steep = AltqCurve { first: 100, duration: 10, rate: 10 };
        assert!(!sum(&[steep]).fits(line(50)));
        assert!(sum(&[steep]).fits(line(100)));
        assert!(sum(&[steep, line(20)]).fits(AltqCurve { first: 120, duration: 10, rate: 30 }));
        // The bend of the limit counts, too.
        let late = AltqCurve { first: 10, duration: 100, rate: 200 };
        assert!(!sum(&[line(50)]).fits(late));
    }
}
