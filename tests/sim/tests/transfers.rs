//! Data arrives whole through the filter, whatever the links and the operator do.

use pf_sim::action::Action;
use pf_sim::app::Order;
use pf_sim::host::{Habits, seed_of_isn};
use pf_sim::{Family, Outcome, Policy, Rng, Weather, World, WorldConfig, seeds};
use pfapi::ruleset::{BlockAnswer, ServerOptions};

/// Links and hosts that fit each other; see [`Habits`].
fn surroundings(rng: &mut Rng) -> impl Fn(&mut Rng) -> (Weather, Habits) + use<> {
    let is_lossless = rng.chance(400);
    move |rng| {
        let weather = if rng.chance(300) { Weather::FAIR } else { Weather::random(rng) };
        if is_lossless {
            (weather.without_loss(), Habits::without_loss(rng))
        } else {
            (weather, Habits::with_loss(rng))
        }
    }
}

/// A world with a server and some clients that each transfer something.
fn world(seed: u64, policy: Policy) -> World {
    let mut world = World::new(&WorldConfig { seed, family: Family::of_seed(seed), policy });
    let rng = &mut world.rng.fork();
    let surroundings = surroundings(rng);
    let (weather, habits) = surroundings(rng);
    let server = world.add_server(rng.next(), weather, habits, &[80]);
    for _ in 0..rng.between(1, 3) {
        let (weather, habits) = surroundings(rng);
        let client = world.add_client(rng.next(), weather, habits);
        for _ in 0..rng.between(1, 2) {
            let mut octets = || rng.pick(&[1, 2, 1_000, 20_000, 80_000]);
            let order = Order { up: octets(), down: octets(), seed: rng.next() };
            world.connect(rng.below(2_000_000_000), client, server, 80, order);
        }
    }
    world
}

fn assert_all_done(world: &mut World) {
    world.run(6_000);
    assert!(world.all_are_served(), "{:?}", world.outcomes());
}

fn assert_empties(world: &mut World) {
    world.run_for(700);
    world.check();
    let info = world.router.engine.info(world.now);
    assert_eq!((info.states, info.half_open), (0, 0), "states stay behind");
}

#[test]
fn stateful_transfers_arrive_whole() {
    for seed in seeds(30) {
        let mut world = world(seed, Policy::default());
        assert_all_done(&mut world);
        assert_empties(&mut world);
    }
}

#[test]
fn translated_transfers_arrive_whole() {
    for seed in seeds(30) {
        let policy = Policy::default().translated(seed % 4 != 1, seed % 4 != 2);
        let policy = if seed % 3 == 0 { policy.always(seed % 2 == 0) } else { policy };
        let redirect = policy.redirect;
        let mut world = world(seed, policy);
        let mut rng = world.rng.fork();
        for client in 0..world.clients.len() {
            if redirect {
                let order = Order { up: 20_000, down: 20_000, seed: rng.next() };
                world.connect_redirected(rng.below(2_000_000_000), client, order);
            }
        }
        assert_all_done(&mut world);
        assert_empties(&mut world);
    }
}

#[test]
fn transfers_behind_syn_cookies_arrive_whole() {
    for seed in seeds(30) {
        let classic = seed % 4 >= 2;
        let mut world = world(seed, Policy::default().always(classic));
        assert_all_done(&mut world);
        let info = world.router.engine.info(world.now);
        assert!(info.limit_counters.iter().any(|(name, count)| {
            *name == pfapi::reason::LimitCounter::SyncookiesValid && *count > 0
        }));
        assert_empties(&mut world);
    }
}

/// What an operator may say of servers, whatever they are like.
fn options(rng: &mut Rng) -> ServerOptions {
    let timestamp = rng.chance(500);
    ServerOptions {
        // Smaller ones need more patience over lossy links than hosts here have.
        mss: rng.pick(&[None, Some(536), Some(1_200), Some(1_460), Some(8_960)]),
        wscale: rng.pick(&[None, Some(0), Some(7), Some(14)]),
        sack_perm: rng.chance(500),
        timestamp,
        ecn: timestamp && rng.chance(500),
    }
}

#[test]
fn transfers_to_servers_that_differ_from_what_was_said_arrive_whole() {
    for seed in seeds(30) {
        let server = options(&mut Rng::new(seed));
        let mut world = world(seed, Policy::default().always(false).with_server(server));
        assert_all_done(&mut world);
        assert_empties(&mut world);
    }
}

#[test]
fn scrubbed_transfers_arrive_whole() {
    for seed in seeds(30) {
        let policy = Policy { reassemble_tcp: true, ..Policy::default() };
        let policy = if seed % 3 == 0 { policy } else { policy.always(seed % 6 == 5) };
        let mut world = world(seed, policy);
        assert_all_done(&mut world);
        assert_empties(&mut world);
    }
}

#[test]
fn reloads_break_no_connection() {
    for seed in seeds(20) {
        let cookies = seed % 3 == 0;
        let policy = Policy::default();
        let policy = if cookies { policy.always(seed % 2 == 0) } else { policy };
        let mut world = world(seed, policy.clone());
        let mut rng = world.rng.fork();
        for _ in 0..rng.between(1, 12) {
            let mut other = policy.clone();
            other.states = rng.pick(&[1_000, 100_000, 1_000_000]);
            if rng.chance(300) {
                other.open.push(443);
            }
            if rng.chance(300) {
                other.syncookies = None;
            }
            world.plan(rng.below(4_000_000_000), Action::Load(Box::new(other)));
        }
        assert_all_done(&mut world);
        assert_empties(&mut world);
    }
}

/// A client speaks to a port that is allowed but closed.
fn refused(seed: u64, classic: bool) -> World {
    let policy = Policy::default().always(classic);
    let mut world = World::new(&WorldConfig { seed, family: Family::of_seed(seed), policy });
    let rng = &mut world.rng.fork();
    let patient = Habits { patience_s: 100, ..Habits::default() };
    let server = world.add_server(rng.next(), Weather::FAIR, patient, &[8080]);
    // The cookie dies after 30 seconds, before a slow client has repeated itself often.
    let mut weather = Weather::random(rng);
    weather.loss = weather.loss.min(5);
    let client = world.add_client(rng.next(), weather, patient);
    world.connect(0, client, server, 80, Order { up: 1, down: 1, seed });
    world
}

#[test]
fn refusal_behind_a_cookie_reaches_the_client() {
    for seed in seeds(40) {
        let mut world = refused(seed, false);
        let start = world.now;
        world.run(200);
        assert_eq!(world.outcomes(), [Outcome::Reset]);
        assert!(world.now.secs_since(start) < 60, "by the RST, not by patience");
        assert_empties(&mut world);
    }
}

#[test]
fn classic_keeps_a_refused_client_waiting() {
    for seed in seeds(10) {
        let mut world = refused(seed, true);
        let start = world.now;
        world.run(200);
        assert_eq!(world.outcomes(), [Outcome::Reset]);
        assert!(world.now.secs_since(start) >= 100, "pf tells the client nothing");
        assert_empties(&mut world);
    }
}

#[test]
fn blocked_ports_stay_blocked_behind_cookies() {
    for seed in seeds(20) {
        let answer = if seed % 4 < 2 { BlockAnswer::Drop } else { BlockAnswer::Return };
        let policy = Policy { block: answer, ..Policy::default() }.always(seed % 3 == 0);
        let mut world = World::new(&WorldConfig { seed, family: Family::of_seed(seed), policy });
        let rng = &mut world.rng.fork();
        let short = Habits { patience_s: 20, ..Habits::default() };
        let server = world.add_server(rng.next(), Weather::FAIR, short, &[22]);
        let client = world.add_client(rng.next(), Weather::FAIR, short);
        world.connect(0, client, server, 22, Order { up: 1, down: 1, seed });
        world.run(100);
        assert_eq!(world.outcomes(), [Outcome::Reset]);
        assert_eq!(world.router.forwarded, 0);
        assert_eq!(world.router.engine.info(world.now).states, 0);
    }
}

#[test]
fn sequence_numbers_wrap() {
    let isns = [u32::MAX, u32::MAX - 1, u32::MAX - 24, 0, u32::MAX - 20_000, 0x7fff_ffff];
    for seed in seeds(72) {
        let (client_isn, server_isn) = {
            let at = usize::try_from(seed / 2).unwrap();
            (isns[at % isns.len()], isns[at / isns.len() % isns.len()])
        };
        for cookies in [None, Some(false), Some(true)] {
            let policy = Policy::default();
            let policy = cookies.map_or(policy.clone(), |classic| policy.always(classic));
            let mut world =
                World::new(&WorldConfig { seed, family: Family::of_seed(seed), policy });
            let rng = &mut world.rng.fork();
            let (weather, habits) = surroundings(rng)(rng);
            let (client_seed, server_seed) =
                (seed_of_isn(client_isn, rng.next()), seed_of_isn(server_isn, rng.next()));
            let server = world.add_server(server_seed, weather, habits, &[80]);
            let client = world.add_client(client_seed, weather, habits);
            world.connect(0, client, server, 80, Order { up: 50_000, down: 50_000, seed });
            assert_all_done(&mut world);
            assert_eq!(world.first_isn, Some(client_isn));
            assert_empties(&mut world);
        }
    }
}

/// Nanoseconds that a short request and its answer take over two links of 20 ms, after so many others.
fn request_takes(policy: Policy, before: usize) -> u64 {
    let mut world = World::new(&WorldConfig { seed: 7, family: Family::V4, policy });
    let far = Weather { delay_us: 20_000, ..Weather::FAIR };
    let server = world.add_server(1, far, Habits::default(), &[80]);
    let client = world.add_client(2, far, Habits::default());
    let mut request = || {
        let start = world.now;
        world.connect(0, client, server, 80, Order { up: 1_000, down: 1_000, seed: 7 });
        assert_all_done(&mut world);
        world.now.nanos_since(start)
    };
    for _ in 0..before {
        request();
    }
    request()
}

#[test]
fn a_request_behind_a_cookie_takes_little_longer_than_on_a_calm_day() {
    let calm = request_takes(Policy::default(), 0);
    let first = request_takes(Policy::default().always(false), 0);
    let cookie = request_takes(Policy::default().always(false), 16);
    let classic = request_takes(Policy::default().always(true), 0);
    // The server waits for its client, but not for long.
    let brief = 1_900_000..=2_100_000;
    assert!(
        brief.contains(&(cookie - calm)),
        "{calm} ns on a calm day, {cookie} ns behind a cookie"
    );
    // One whose replies may be large measures the round trip on the client's link first.
    let wait = 35_000_000..=45_000_000;
    assert!(wait.contains(&(first - calm)), "{calm} ns on a calm day, {first} ns at first");
    // The client of a closed window hears from the router first: one round trip on its link.
    assert!(classic >= calm + 35_000_000, "{classic} ns in classic");
}
