//! No answer is more than what was asked: how many octets of answers a network of clients may get
//! beyond those that came from it.
//!
//! A SYN|ACK that is no longer than its SYN reflects nothing that the sender could not have sent
//! itself, and passes unasked. One that is longer takes the difference from the network's credit: a
//! few thousand octets, and a thousand more each second. Source: RFC 4987 section 3.6 and 4.2.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;

use pfapi::units::Uptime;

/// Networks that are told apart; those of one place share their credit.
const NETWORKS: usize = 4_096;
/// Octets of credit at most.
const CREDIT_MAX: u64 = 4_096;
/// Octets of new credit per second.
const PER_SECOND: u64 = 1_024;

/// Credits of networks: second of the last change 32, octets spent 32.
#[derive(Debug, Default)]
pub struct Meter(OnceLock<Box<[AtomicU64]>>);

impl Meter {
    /// Makes room now, so that the first SYN of a flood need not.
    pub fn prepare(&self) -> &[AtomicU64] {
        self.0.get_or_init(|| (0..NETWORKS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Whether an answer of `answer` octets may follow a packet of `asked` octets of the network with
    /// this hash; takes what it costs.
    pub fn allows(&self, network: u64, (asked, answer): (usize, usize), now: Uptime) -> bool {
        let Some(extra) = answer.checked_sub(asked).filter(|&extra| extra > 0) else { return true };
        let spent = &self.prepare()[usize::try_from(network).unwrap_or(0) % NETWORKS];
        let now_s = now.as_secs() & u64::from(u32::MAX);
        let taken = spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let passed = now_s.saturating_sub(word >> 32);
            let before = (word & u64::from(u32::MAX)).saturating_sub(passed * PER_SECOND);
            let after = before + extra as u64;
            (after <= CREDIT_MAX).then_some(now_s << 32 | after)
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_add_up_to_what_was_asked_and_a_little_more() {
        let meter = Meter::default();
        let at = Uptime::from_secs;
        // Without options a SYN has 40 octets, its SYN|ACK with an MSS 44.
        let sent = (0..100_000).filter(|_| meter.allows(3, (40, 44), at(9))).count();
        assert_eq!(sent as u64, CREDIT_MAX / 4);
        assert!(meter.allows(3, (44, 44), at(9)) && meter.allows(3, (60, 44), at(9)));
        assert!(meter.allows(4, (40, 44), at(9)), "another network");
        let later = (0..100_000).filter(|_| meter.allows(3, (40, 44), at(11))).count();
        assert_eq!(later as u64, 2 * PER_SECOND / 4);
    }
}
