//! Under a flood of forged packets honest clients go on, and afterwards everything is as before.

use pf_sim::app::Order;
use pf_sim::attack::{Attack, Kind};
use pf_sim::host::Habits;
use pf_sim::{Family, Outcome, Policy, Rng, Weather, World, WorldConfig, crowd, seeds};
use pfapi::reason::{CookieCounter, LimitCounter};
use pfapi::ruleset::{Syncookies, Watermarks};
use pfapi::timeout::Timeout;
use pfapi::units::Uptime;
use pfengine::Event;

const SECOND: u64 = 1_000_000_000;
/// Marks of adaptive syncookies in these worlds.
const START: u32 = 40;
const END: u32 = 20;

fn policy() -> Policy {
    let mut policy = Policy::default();
    policy.timeouts.set(Timeout::TcpFirst, 30);
    policy.timeouts.set(Timeout::TcpOpening, 20);
    policy
}

fn bad_link(rng: &mut Rng) -> Weather {
    if rng.chance(400) { Weather::FAIR } else { Weather::random(rng) }
}

/// A server, `clients` that connect between `from` and `until`, and an attack for 30 seconds.
fn world(seed: u64, policy: Policy, kind: Kind, clients: usize, from: u64, until: u64) -> World {
    let classic = policy.syncookies.is_some_and(|setting| setting.classic);
    let mut world = World::new(&WorldConfig { seed, family: Family::of_seed(seed), policy });
    let rng = &mut world.rng.fork();
    let server_habits = Habits { send_buffer: 2_000, handshake_s: 40, ..Habits::with_loss(rng) };
    // Only the clients' links are bad.
    let server = world.add_server(rng.next(), Weather::FAIR, server_habits, &[80]);
    for _ in 0..clients {
        let client = world.add_client(rng.next(), bad_link(rng), Habits::with_loss(rng));
        let order = Order { up: rng.between(1, 3_000), down: rng.between(1, 5_000), seed };
        world.connect(rng.between(from, until), client, server, 80, order);
    }
    // pf's own counter forgets a connection when the server answers, so only a flood at an
    // address where nobody answers drives `classic`.
    let is_silent = classic;
    let target = (if is_silent { world.nobody() } else { world.servers[server].addr }, 80);
    let burst = rng.pick(&[1, 5, 20]);
    world.attacks.push(Attack {
        kind,
        target,
        next: world.now.plus_secs(1),
        until: world.now.plus_secs(31),
        burst,
        every: burst * SECOND / 60,
    });
    world
}

fn counter(world: &World, which: LimitCounter) -> u64 {
    let counters = world.router.engine.info(world.now).limit_counters;
    counters.into_iter().find(|(name, _)| *name == which).map_or(0, |(_, count)| count)
}

fn assert_all_done(world: &mut World) {
    world.run(6_000);
    assert!(world.all_are_served(), "{:?}", world.outcomes());
}

fn assert_calm(world: &mut World) {
    world.run_for(700);
    world.check();
    let info = world.router.engine.info(world.now);
    assert_eq!((info.states, info.half_open, info.half_open_pf.unwrap_or(0)), (0, 0, 0));
    assert_eq!(info.syncookies.in_flight, 0);
}

fn moments(world: &World, event: Event) -> Vec<Uptime> {
    let events = world.router.events.iter().filter(|(_, other)| *other == event);
    events.map(|(at, _)| *at).collect()
}

#[test]
fn adaptive_cookies_serve_honest_clients_through_a_flood() {
    for seed in seeds(12) {
        let classic = seed % 4 >= 2;
        let policy = policy().adaptive(classic, START, END);
        let mut world = world(seed, policy, Kind::Syn, 12, 4 * SECOND, 28 * SECOND);
        world.run_for(20);
        assert!(world.router.engine.info(world.now).syncookies.active);
        assert!(world.router.engine.info(world.now).half_open <= u64::from(START) + 24);
        assert_all_done(&mut world);
        assert_eq!(counter(&world, LimitCounter::Synfloods), 1);
        assert_calm(&mut world);
        assert!(!world.router.engine.info(world.now).syncookies.active);
        let (on, off) =
            (moments(&world, Event::SynfloodDetected), moments(&world, Event::SyncookiesDisabled));
        assert_eq!((on.len(), off.len()), (1, 1));
        let step = if classic { 15 } else { 5 };
        let active = off[0].nanos_since(on[0]);
        assert!(active >= 30 * SECOND, "off while the flood lasts");
        assert!(active % (step * SECOND) < SECOND / 2, "off after {active} ns");
    }
}

/// A flood on one server; clients of it and of another one.
#[test]
fn a_flood_on_one_server_leaves_the_other_without_cookies() {
    for seed in seeds(12) {
        let mut policy = policy().adaptive(false, 4 * START, 4 * END);
        let marks = Some(Watermarks { start: START, end: END });
        let probe = seed % 3 == 0;
        policy.syncookies =
            policy.syncookies.map(|setting| Syncookies { destination: marks, probe, ..setting });
        let mut world = world(seed, policy, Kind::Syn, 8, 4 * SECOND, 28 * SECOND);
        let rng = &mut world.rng.fork();
        let habits = Habits { handshake_s: 40, ..Habits::with_loss(rng) };
        let calm = world.add_server(rng.next(), Weather::FAIR, habits, &[80]);
        for _ in 0..6 {
            let client = world.add_client(rng.next(), bad_link(rng), Habits::with_loss(rng));
            let order = Order { up: rng.between(1, 900), down: rng.between(1, 900), seed };
            world.connect(rng.between(4 * SECOND, 28 * SECOND), client, calm, 80, order);
        }
        world.run_for(20);
        let cookies = world.router.engine.info(world.now).syncookies;
        assert!(cookies.active && !cookies.active_for_all, "only the flooded server has cookies");
        let under_flood: Vec<_> =
            cookies.destinations.iter().map(|to| (to.addr, to.port)).collect();
        assert_eq!(under_flood, [(world.servers[0].addr, Some(80))]);
        assert_all_done(&mut world);
        assert_eq!(counter(&world, LimitCounter::Synfloods), 1);
        assert_calm(&mut world);
        let cookies = world.router.engine.info(world.now).syncookies;
        assert_eq!(cookies.destinations, []);
        let turns: Vec<bool> = cookies.history.iter().map(|change| change.on).collect();
        assert_eq!(turns, [true, false]);
    }
}

/// Honest clients that bring every cookie back, in every period more of them than the low mark.
#[test]
fn honest_clients_do_not_keep_a_server_on_cookies() {
    for seed in seeds(12) {
        let mut world = crowd::flooded(seed);
        crowd::play(&mut world);
        assert_all_done(&mut world);
        assert_calm(&mut world);
    }
}

/// SYNs to ports that nobody has asked for: the filter asks the servers itself, within bounds.
#[test]
fn unknown_ports_are_asked_and_clients_connect() {
    for seed in seeds(12) {
        let mut policy = policy().always(false);
        policy.syncookies = policy.syncookies.map(|c| Syncookies { probe: true, ..c });
        let mut world = world(seed, policy, Kind::Syn, 12, 0, 28 * SECOND);
        assert_all_done(&mut world);
        let counters = world.router.engine.info(world.now).syncookies.counters;
        let probes = counters.iter().find(|(name, _)| *name == CookieCounter::Probes);
        assert!(probes.is_some_and(|(_, count)| (1..=60).contains(count)), "{probes:?}");
        assert_calm(&mut world);
    }
}

#[test]
fn clients_that_the_switch_catches_in_the_middle_connect_too() {
    for seed in seeds(40) {
        let policy = policy().adaptive(false, START, END);
        let mut world = world(seed, policy, Kind::Syn, 12, SECOND, 2 * SECOND);
        assert_all_done(&mut world);
        assert_calm(&mut world);
    }
}

#[test]
fn without_cookies_a_full_table_starves_honest_clients() {
    for seed in seeds(12) {
        let policy = Policy { states: 50, ..policy() };
        let mut world = world(seed, policy, Kind::Syn, 8, 5 * SECOND, 6 * SECOND);
        world.run_for(15);
        let done = world.outcomes().iter().filter(|o| **o == Outcome::Done).count();
        assert!(done < 4, "{done} of 8 got through a full table");
        assert!(world.router.engine.info(world.now).states <= 50);
        world.run_for(60);
        assert_calm(&mut world);
    }
}

#[test]
fn forged_acks_and_noise_leave_nothing_behind() {
    for seed in seeds(20) {
        let kind = if seed % 4 < 2 { Kind::Ack } else { Kind::Noise };
        let policy = match seed % 3 {
            0 => policy(),
            1 => policy().always(false),
            _ => policy().adaptive(seed % 2 == 0, START, END),
        };
        let mut world = world(seed, policy, kind, 6, 0, 20 * SECOND);
        world.run(6_000);
        if kind == Kind::Ack {
            assert!(world.all_are_served(), "{:?}", world.outcomes());
        }
        assert_calm(&mut world);
    }
}
