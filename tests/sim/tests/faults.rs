//! Mistakes that are planted into the filter must all be noticed, and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pf_sim::action::Action;
use pf_sim::app::Order;
use pf_sim::attack::{Attack, Kind};
use pf_sim::forgery::Forger;
use pf_sim::host::Habits;
use pf_sim::{Family, Outcome, Policy, Rng, Weather, World, WorldConfig, chaos, crowd, seeds};
use pfengine::fault::{Fault, plant};

const SECOND: u64 = 1_000_000_000;

/// Transfers that nothing may break: a reload, a kill of nobody, forged segments, blocked knocks.
fn steady(seed: u64) {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let policy = match seed % 3 {
        0 => Policy::default(),
        1 => Policy::default().always(false),
        _ => Policy::default().always(true),
    };
    let mut world = World::new(&WorldConfig {
        seed,
        family: Family::of_seed(seed / 3),
        policy: policy.clone(),
    });
    let habits = |rng: &mut Rng| Habits { patience_s: 300, ..Habits::without_loss(rng) };
    let server = world.add_server(rng.next(), Weather::FAIR, habits(&mut rng), &[80, 443]);
    for _ in 0..3 {
        let client = world.add_client(rng.next(), Weather::FAIR, habits(&mut rng));
        let octets = |rng: &mut Rng| rng.pick(&[1_000, 60_000, 400_000]);
        let order = Order { up: octets(&mut rng), down: octets(&mut rng), seed };
        world.connect(rng.below(SECOND), client, server, 80, order);
    }
    world.plan(rng.between(20, 1_500) * 1_000_000, Action::Load(Box::new(policy)));
    let until = world.now.plus_secs(20);
    world.forger = Some(Forger { next: world.now, until, every: 3_000_000 });
    // Somebody knocks at a closed port.
    let target = (world.servers[server].addr, 443);
    world.attacks.push(Attack {
        kind: Kind::Syn,
        target,
        next: world.now,
        until: world.now.plus_secs(4),
        burst: 1,
        every: 100_000_000,
    });
    world.run(900);
    let outcomes = world.outcomes();
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Done), "{outcomes:?}");
    assert_eq!(world.router.mismatches, 0, "honest segments were out of the window");
    world.run_for(1_000);
    world.check();
    assert_eq!(world.router.engine.info(world.now).states, 0, "states stay behind");
}

/// Everything at once.
fn wild(seed: u64) {
    let mut world = chaos::world(seed);
    world.run(2_000);
    world.run_for(1_000);
    world.check();
    let info = world.router.engine.info(world.now);
    assert_eq!((info.states, info.half_open), (0, 0));
}

/// A flood that fills a small table, and many knocks at a closed port.
fn crowded(seed: u64) {
    let policy = Policy { states: 20, ..Policy::default() };
    let mut world = World::new(&WorldConfig { seed, family: Family::of_seed(seed), policy });
    let server = world.add_server(seed, Weather::FAIR, Habits::default(), &[80]);
    let target = |port| (world.servers[server].addr, port);
    let attacks = [(80, 10, SECOND / 10), (443, 64, SECOND / 200)].map(|(port, burst, every)| {
        let (next, until) = (world.now, world.now.plus_secs(3));
        Attack { kind: Kind::Syn, target: target(port), next, until, burst, every }
    });
    world.attacks.extend(attacks);
    world.run(10);
    world.check();
}

/// Runs in which every fault shows sooner or later.
const RUNS: u64 = 80;

fn run(number: u64) {
    let seed = number / 4;
    match number % 4 {
        0 => steady(seed),
        1 => crowded(seed),
        2 => crowd::play(&mut crowd::flooded(seed)),
        _ => wild(seed),
    }
}

fn is_noticed(fault: Fault) -> bool {
    (0..RUNS).any(|number| {
        plant(Some(fault));
        let outcome = catch_unwind(AssertUnwindSafe(|| run(number)));
        plant(None);
        outcome.is_err()
    })
}

#[test]
fn without_a_fault_nothing_is_noticed() {
    seeds(RUNS).for_each(run);
}

#[test]
fn every_planted_fault_is_noticed() {
    // The worlds print what they saw; a test runner shows that only when the test fails.
    let missed: Vec<Fault> = Fault::ALL.into_iter().filter(|&fault| !is_noticed(fault)).collect();
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
}
