use super::*;
use pfapi::ruleset::Rate;

fn state(limit: u32, rate: Option<Rate>) -> pfapi::ruleset::StateLimiter {
    pfapi::ruleset::StateLimiter { name: "l".to_owned(), id: 1, limit, rate }
}

fn source(entries: u32, limit: u32, rate: Option<Rate>) -> pfapi::ruleset::SourceLimiter {
    pfapi::ruleset::SourceLimiter {
        name: "l".to_owned(),
        id: 1,
        entries,
        limit,
        rate,
        table: None,
        inet_mask: 24,
        inet6_mask: 64,
    }
}

fn at(seconds: u64) -> Uptime {
    Uptime::from_secs(seconds)
}

const ONE: (bool, Addr) = (false, Addr(0x0a00_0001));
const NEIGHBOUR: (bool, Addr) = (false, Addr(0x0a00_0002));
const OTHER: (bool, Addr) = (false, Addr(0x0a00_0101));

#[test]
fn threads_never_pass_a_limit_together() {
    let limiter = Arc::new(StateLimiter::new(&state(700, None), at(0)));
    let sources = Arc::new(SourceLimiter::new(&source(3, 100, None)));
    let taken = std::thread::scope(|scope| {
        let ask = |thread: u128| {
            let (limiter, sources) = (&limiter, &sources);
            scope.spawn(move || {
                let mut places = Vec::new();
                for number in 0..1_000_u128 {
                    let state = limiter.reserve(at(1));
                    let addr = Addr((number % 8) << 8 | thread);
                    let source = sources.reserve((false, addr), at(1));
                    // Every second one gives its places back at once.
                    if number % 2 == 0 {
                        places.extend([
                            state.map(|place| Places { state: Some(place), source: None })
                        ]);
                        places.extend([
                            source.map(|place| Places { state: None, source: Some(place) })
                        ]);
                    }
                }
                places.into_iter().flatten().collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (0..4).map(ask).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("it ends")).collect::<Vec<_>>()
    });
    let states = taken.iter().filter(|places| places.state.is_some()).count();
    let of_sources = taken.len() - states;
    assert_eq!(limiter.report().states, states as u64);
    assert_eq!(sources.report().states, of_sources as u64);
    // All were asked for often enough to be full in the end.
    assert_eq!((states, of_sources), (700, 300));
    drop(taken);
    assert_eq!((limiter.report().states, sources.report().states), (0, 0));
}

#[test]
fn a_rate_lets_a_burst_by_and_then_one_at_a_time() {
    let rate = Some(Rate { limit: 4, seconds: 8 });
    let limiter = Arc::new(StateLimiter::new(&state(1_000, rate), at(100)));
    let admit = |seconds| {
        let place = limiter.reserve(at(seconds));
        place.map(|mut place| place.begin()).is_some()
    };
    assert_eq!(
        [100, 100, 100, 100, 100, 101, 102, 102].map(admit),
        [true, true, true, true, false, false, true, false]
    );
    // A packet that leaves no state takes nothing of the rate.
    for _ in 0..10 {
        assert!(limiter.reserve(at(104)).is_some());
    }
    assert_eq!([104, 104].map(admit), [true, false]);
    // However long nothing came, there is no more than one burst.
    assert_eq!([900; 5].map(admit), [true, true, true, true, false]);
    let report = limiter.report();
    assert_eq!((report.admitted, report.rate_limited, report.states), (10, 5, 0));
}

#[test]
fn sources_are_masked_bounded_and_forgotten() {
    let limiter = Arc::new(SourceLimiter::new(&source(1, 2, Some(Rate { limit: 10, seconds: 5 }))));
    let begin = |source| {
        let mut place = limiter.reserve(source, at(10))?;
        place.begin();
        Some(place)
    };
    let (one, two) = (begin(ONE), begin(NEIGHBOUR));
    assert!(one.is_some() && two.is_some());
    assert!(begin(ONE).is_none() && begin(OTHER).is_none() && !limiter.has_room(OTHER, at(10)));
    let report = limiter.report();
    let entries = report.entries.unwrap();
    assert_eq!((report.states, report.admitted, report.hard_limited), (2, 2, 1));
    assert_eq!((entries.count, entries.refused), (1, 1));
    assert_eq!(limiter.sources()[0].prefix, "10.0.0.0/24".parse().unwrap());
    drop((one, two));
    // Its rate is remembered for twice the seconds.
    limiter.purge(8, at(20));
    limiter.purge(8, at(30));
    assert!(limiter.is_tracking() && !limiter.has_room(OTHER, at(30)));
    limiter.purge(8, at(31));
    assert!(!limiter.is_tracking() && limiter.has_room(OTHER, at(31)));
}

#[test]
fn packets_without_states_leave_no_sources() {
    let limiter = Arc::new(SourceLimiter::new(&source(10, 2, None)));
    for number in 0..1_000_u128 {
        drop(limiter.reserve((true, Addr(number << 64)), at(1)));
    }
    assert!(!limiter.is_tracking());
}

#[test]
fn loads_keep_states_and_refuse_other_masks() {
    let lines = ([state(5, None)], [source(10, 2, None)]);
    let old = Limiters::new(&lines.0, &lines.1, &Limiters::default(), at(0)).unwrap();
    let place = old.states[0].reserve(at(1)).unwrap();
    let tracked = old.sources[0].reserve(ONE, at(1)).unwrap();
    let lower = ([state(1, None)], [source(10, 1, None)]);
    let new = Limiters::new(&lower.0, &lower.1, &old, at(2)).unwrap();
    new.apply(&lower.0, &lower.1, &Tables::default(), at(2));
    assert_eq!((new.report().0[0].states, new.report().0[0].limit), (1, 1));
    assert!(!new.states[0].has_room(at(2)) && !new.sources[0].has_room(ONE, at(2)));
    let mut wider = source(10, 2, None);
    wider.inet_mask = 16;
    let refused = Limiters::new(&[], &[wider.clone()], &new, at(3));
    assert_eq!(refused.unwrap_err(), LimiterError::Busy { name: "l".to_owned() });
    drop((place, tracked));
    assert!(Limiters::new(&[], &[wider], &new, at(3)).is_ok());
    assert!(new.check_repeated(&lower.0, &lower.1).is_ok());
    assert!(new.check_repeated(&lines.0, &[]).is_err());
}
