//! Data arrives whole through the filter, whatever the links and the operator do.

use pf_sim::{Family, Outcome, Policy, Weather, World, WorldConfig, seeds};
use pf_sim::app::Order;
use pf_sim::host::Habits;

fn habits(rng: &mut pf_sim::Rng) -> Habits {
    Habits {
        receive_buffer: rng.pick(&[600, 4_096, 65_535, 262_144, 1_000_000]),
        send_buffer: rng.pick(&[2_048, 32_768, 200_000]),
        read: rng.pick(&[usize::MAX, 1_000, 20_000]),
        patience_s: 300,
        mtu: rng.pick(&[1_280, 1_500]),
    }
}

/// A world with a server and some clients that each transfer something.
fn world(seed: u64, policy: Policy) -> World {
    let mut world = World::new(&WorldConfig { seed, family: Family::of_seed(seed), policy });
    let rng = &mut world.rng.fork();
    let weather = if rng.chance(300) { Weather::FAIR } else { Weather::random(rng) };
    let server = world.add_server(rng.next(), weather, habits(rng), &[80]);
    for _ in 0..rng.between(1, 3) {
        let weather = if rng.chance(300) { Weather::FAIR } else { Weather::random(rng) };
        let client = world.add_client(rng.next(), weather, habits(rng));
        for _ in 0..rng.between(1, 2) {
            let mut octets = || rng.pick(&[0, 1, 1_000, 20_000, 80_000]);
            let order = Order { up: octets(), down: octets(), seed: rng.next() };
            world.connect(rng.below(2_000_000_000), client, server, 80, order);
        }
    }
    world
}

fn assert_all_done(world: &mut World) {
    world.run(1_500);
    let outcomes = world.outcomes();
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Done), "{outcomes:?}");
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
