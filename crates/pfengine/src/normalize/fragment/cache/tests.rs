use super::*;
use crate::wire::checksum::Sum;
use proptest::prelude::*;

const NOW: Uptime = Uptime::from_secs(100);
const TIMEOUT: u32 = 60;

/// The header of a fragment from `source`, 20 octets.
fn header(source: u16) -> [u8; 20] {
    let [high, low] = source.to_be_bytes();
    let mut head = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, high, low, 192, 0, 2, 2];
    head[9] = 47;
    let sum = Sum::of(&head).checksum();
    head[10..12].copy_from_slice(&sum.to_be_bytes());
    head
}

struct Rig {
    cache: Cache,
    now: Uptime,
}

impl Rig {
    fn new(limit: u32) -> Self {
        Self { cache: Cache::new(limit), now: NOW }
    }

    fn add(&mut self, source: u16, id: u32, start: usize, more: bool, octets: usize) -> Outcome {
        let head = header(source);
        let desc = PacketDesc::parse(&head).unwrap();
        let data = vec![7; octets];
        let outcome = self.cache.add(
            &Arriving {
                key: Key::new(&desc, 17, id),
                start,
                more,
                data: &data,
                head: (start == 0).then_some(&head),
                next_at: 0,
                next: 0,
            },
            self.now,
            TIMEOUT,
        );
        self.cache.check_invariants().unwrap();
        outcome
    }

    /// Begins a datagram.
    fn begin(&mut self, source: u16, id: u32) -> bool {
        matches!(self.add(source, id, 0, true, 8), Outcome::Held)
    }

    /// Ends a datagram; true when its beginning was still there.
    fn end(&mut self, source: u16, id: u32) -> bool {
        matches!(self.add(source, id, 8, false, 8), Outcome::Whole(_))
    }
}

#[test]
fn full_cache_loses_a_tenth_of_the_oldest() {
    let mut rig = Rig::new(100);
    for id in 0..100 {
        assert!(rig.begin(id, 0));
    }
    assert_eq!(rig.cache.held(), 100);
    assert!(rig.begin(100, 0));
    assert_eq!(rig.cache.held(), 91);
    assert!(rig.end(10, 0));
    assert!(!rig.end(9, 0), "the first ten are gone");
}

#[test]
fn use_makes_a_datagram_young() {
    let mut rig = Rig::new(100);
    for id in 0..99 {
        assert!(rig.begin(id, 0));
    }
    assert!(matches!(rig.add(0, 0, 0, true, 8), Outcome::Duplicate));
    assert!(rig.begin(99, 0));
    assert!(rig.begin(100, 0));
    assert!(rig.end(0, 0));
    assert!(!rig.end(10, 0), "ten others are gone");
}

#[test]
fn limit_of_zero_keeps_nothing() {
    let mut rig = Rig::new(0);
    assert!(matches!(rig.add(1, 1, 0, true, 8), Outcome::Full));
    assert_eq!(rig.cache.take_operations(), Operations::default());
}

#[test]
fn one_source_cannot_push_the_others_out() {
    let mut rig = Rig::new(2_000);
    for source in 1..=10 {
        assert!(rig.begin(source, 0));
    }
    for id in 0..50_000 {
        assert!(rig.begin(0, id));
    }
    assert!(rig.cache.held() <= 500 + 10);
    for source in 1..=10 {
        assert!(rig.end(source, 0));
    }
}

#[test]
fn long_fragments_use_the_share_of_several() {
    let mut rig = Rig::new(1_000);
    for id in 0..2_000 {
        assert!(matches!(rig.add(id, 0, 0, true, 65_528), Outcome::Held));
    }
    assert!(rig.cache.usage.octets <= 1_000 * OCTETS_PER_FRAGMENT);
}

#[test]
fn lower_limit_takes_effect_at_once() {
    let mut rig = Rig::new(100);
    for id in 0..100 {
        assert!(rig.begin(id, 0));
    }
    rig.cache.set_limit(30);
    rig.cache.check_invariants().unwrap();
    assert_eq!(rig.cache.held(), 30);
}

#[test]
fn incomplete_datagrams_end_after_the_timeout() {
    let mut rig = Rig::new(100);
    assert_eq!(rig.cache.due(), None);
    assert!(rig.begin(1, 1));
    rig.now = NOW.plus_secs(30);
    assert!(rig.begin(1, 2));
    rig.cache.sweep(NOW.plus_secs(59), TIMEOUT, 10);
    assert_eq!(rig.cache.held(), 2);
    assert_eq!(rig.cache.due(), Some(NOW.plus_secs(69)));
    rig.cache.sweep(NOW.plus_secs(60), TIMEOUT, 10);
    assert_eq!(rig.cache.held(), 2, "not before the interval is over");
    rig.cache.sweep(NOW.plus_secs(69), TIMEOUT, 10);
    assert_eq!(rig.cache.held(), 1);
    rig.cache.sweep(NOW.plus_secs(90), TIMEOUT, 10);
    assert_eq!(rig.cache.due(), None);
    assert_eq!(rig.cache.take_operations(), Operations { searches: 2, inserts: 2, removals: 2 });
}

/// pf's list is in the order of the last use, and the sweep stops at the first young datagram.
#[test]
fn old_datagram_hides_behind_a_young_one() {
    let mut rig = Rig::new(100);
    assert!(rig.begin(1, 1));
    rig.now = NOW.plus_secs(50);
    assert!(rig.begin(1, 2));
    // The old one is used again, and so moves behind the young one.
    assert!(matches!(rig.add(1, 1, 0, true, 8), Outcome::Duplicate));
    rig.cache.sweep(NOW.plus_secs(70), TIMEOUT, 10);
    assert_eq!(rig.cache.held(), 2);
    rig.cache.sweep(NOW.plus_secs(111), TIMEOUT, 10);
    assert_eq!(rig.cache.held(), 0);
}

#[test]
fn sweep_is_bounded() {
    let mut rig = Rig::new(5_000);
    for source in 0..1_000 {
        assert!(rig.begin(source, 0));
    }
    let late = NOW.plus_secs(100);
    rig.cache.sweep(late, TIMEOUT, 10);
    assert_eq!(rig.cache.held(), 1_000 - SWEEP_MAX as u64);
    assert_eq!(rig.cache.due(), Some(late.plus_nanos(SWEEP_AGAIN_NANOS)));
}

#[test]
fn identification_that_came_round_starts_anew() {
    // Another source keeps the flow's first datagram from being the oldest of all.
    let mut rig = Rig::new(100_000);
    assert!(rig.begin(1, 0));
    for id in 1..12_000 {
        assert!(rig.begin(1, id));
        assert!(rig.end(1, id));
    }
    // 11,999 newer ones: still the same datagram.
    assert!(matches!(rig.add(1, 0, 0, true, 8), Outcome::Duplicate));
    assert!(rig.begin(1, 12_000));
    assert!(rig.end(1, 12_000));
    assert!(matches!(rig.add(1, 0, 8, false, 8), Outcome::Held), "the beginning was stale");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_grows_past_its_limit(
        limit in 0_u32..200,
        steps in prop::collection::vec((0_u16..6, 0_u32..8, 0_usize..40, any::<bool>(), 1_usize..200, 0_u64..40), 1..300),
    ) {
        let mut rig = Rig::new(limit);
        for (source, id, at, more, octets, pause) in steps {
            let octets = if more { octets.next_multiple_of(8) } else { octets };
            rig.add(source, id, at * 8, more, octets);
            prop_assert!(rig.cache.held() <= u64::from(limit));
            rig.now = rig.now.plus_secs(pause);
            rig.cache.sweep(rig.now, TIMEOUT, 10);
            rig.cache.check_invariants().map_err(TestCaseError::fail)?;
        }
        rig.now = rig.now.plus_secs(1_000);
        rig.cache.sweep(rig.now, TIMEOUT, 10);
        prop_assert_eq!(rig.cache.held(), 0);
        let operations = rig.cache.take_operations();
        prop_assert_eq!(operations.inserts, operations.removals);
        prop_assert!(rig.cache.sources.is_empty() && rig.cache.flows.is_empty());
    }
}
