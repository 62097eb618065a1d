//! Worlds in which everything happens at once: reloads, limits, kills, flushes, jumps of time,
//! floods and noise.

use pfapi::ruleset::{BlockAnswer, SyncookieMode, Syncookies, Watermarks};
use pfapi::timeout::Timeout;

use crate::action::Action;
use crate::app::Order;
use crate::attack::{Attack, Kind};
use crate::host::Habits;
use crate::link::Weather;
use crate::rng::Rng;
use crate::rules::Policy;
use crate::world::{Family, World, WorldConfig};

const SECOND: u64 = 1_000_000_000;

fn policy(rng: &mut Rng) -> Policy {
    let mut policy = Policy::default();
    if rng.chance(300) {
        policy.open = rng.pick(&[&[80u16, 443][..], &[443], &[], &[80, 22]]).to_vec();
    }
    policy.block = rng.pick(&[BlockAnswer::Drop, BlockAnswer::Return]);
    policy.states = rng.pick(&[4, 30, 200, 1_000, 100_000]);
    if rng.chance(600) {
        let watermarks = rng.pick(&[None, Some(Watermarks { start: 10, end: 5 })]);
        let mode = rng.pick(&[
            SyncookieMode::Never,
            SyncookieMode::Always,
            SyncookieMode::Adaptive,
            SyncookieMode::Adaptive,
        ]);
        policy.syncookies = Some(Syncookies {
            mode,
            classic: rng.chance(300),
            watermarks,
            ..Syncookies::default()
        });
    }
    if rng.chance(300) {
        policy.timeouts.set(Timeout::TcpFirst, 2);
        policy.timeouts.set(Timeout::TcpOpening, 1);
        policy.timeouts.set(Timeout::TcpClosed, 0);
    }
    policy.nat = rng.chance(400);
    policy.redirect = rng.chance(400);
    if rng.chance(200) {
        policy.timeouts.set(Timeout::AdaptiveStart, 5);
        policy.timeouts.set(Timeout::AdaptiveEnd, 40);
    }
    policy
}

fn action(rng: &mut Rng) -> Action {
    match rng.below(10) {
        0..=3 => Action::Load(Box::new(policy(rng))),
        4 => Action::FlushStates,
        5..=6 => Action::KillOne,
        7 => Action::KillServer,
        8 => Action::Jump(rng.between(1, 40_000) * 1_000_000),
        _ => Action::Jump(rng.between(1, 700) * SECOND),
    }
}

/// A world in which everything happens at once; connections may break in it.
#[must_use]
pub fn world(seed: u64) -> World {
    let mut rng = Rng::new(!seed);
    let policy = policy(&mut rng);
    let mut world = World::new(&WorldConfig { seed, family: Family::of_seed(seed), policy });
    let habits =
        |rng: &mut Rng| Habits { patience_s: 20, handshake_s: 20, ..Habits::with_loss(rng) };
    for _ in 0..2 {
        let weather = Weather::random(&mut rng);
        world.add_server(rng.next(), weather, habits(&mut rng), &[80, 443, 22]);
    }
    for _ in 0..rng.between(1, 8) {
        let weather = Weather::random(&mut rng);
        let client = world.add_client(rng.next(), weather, habits(&mut rng));
        for _ in 0..rng.between(1, 4) {
            let order = Order { up: rng.between(1, 9_000), down: rng.between(1, 9_000), seed };
            let (server, port) = (usize::from(rng.chance(500)), rng.pick(&[80, 80, 443, 22]));
            let after = rng.below(20 * SECOND);
            if rng.chance(300) {
                world.connect_redirected(after, client, order);
            } else {
                world.connect(after, client, server, port, order);
            }
        }
    }
    for kind in [Kind::Syn, Kind::Ack, Kind::Noise] {
        if rng.chance(500) {
            let start = world.now.plus_secs(rng.below(10));
            let burst = rng.pick(&[1, 7, 64]);
            world.attacks.push(Attack {
                kind,
                target: (world.servers[0].addr, rng.pick(&[80, 443])),
                next: start,
                until: start.plus_secs(rng.below(15)),
                burst,
                every: burst * SECOND / rng.between(10, 80),
            });
        }
    }
    for _ in 0..rng.between(1, 25) {
        world.plan(rng.below(25 * SECOND), action(&mut rng));
    }
    world
}
