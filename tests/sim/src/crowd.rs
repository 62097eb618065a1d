//! A flooded server, and so many honest clients that their cookies alone would pass for a flood.

use pfapi::ruleset::{Syncookies, Watermarks};
use pfapi::timeout::Timeout;

use crate::app::Order;
use crate::attack::{Attack, Kind};
use crate::host::Habits;
use crate::link::Weather;
use crate::rules::Policy;
use crate::world::{Family, World, WorldConfig};

const SECOND: u64 = 1_000_000_000;
/// Seconds in which the flood ends.
const FLOOD: core::ops::Range<u64> = 1..11;
/// Marks of the server.
const MARKS: Watermarks = Watermarks { start: 12, end: 4 };
/// Seconds in which honest connections begin, one a second: five of them from look to look.
const CROWD: core::ops::Range<u64> = 8..45;

/// A world in which the server alone gets cookies, from the first second on.
#[must_use]
pub fn flooded(seed: u64) -> World {
    let mut policy = Policy::default().adaptive(false, 200, 100);
    policy.timeouts.set(Timeout::TcpFirst, 10);
    policy.timeouts.set(Timeout::TcpOpening, 5);
    policy.syncookies =
        policy.syncookies.map(|setting| Syncookies { destination: Some(MARKS), ..setting });
    let mut world = World::new(&WorldConfig { seed, family: Family::of_seed(seed), policy });
    let rng = &mut world.rng.fork();
    // Small buffers: there are many connections, and little that they carry.
    let habits = Habits { receive_buffer: 4_096, handshake_s: 15, ..Habits::with_loss(rng) };
    let server = world.add_server(rng.next(), Weather::FAIR, habits, &[80]);
    let clients = [(); 8].map(|()| world.add_client(rng.next(), Weather::FAIR, habits));
    for second in CROWD {
        let order = Order { up: rng.between(1, 300), down: rng.between(1, 900), seed };
        let at = second * SECOND + rng.below(SECOND);
        world.connect(at, rng.pick(&clients), server, 80, order);
    }
    world.attacks.push(Attack {
        kind: Kind::Syn,
        target: (world.servers[server].addr, 80),
        next: world.now.plus_secs(FLOOD.start),
        until: world.now.plus_secs(FLOOD.end),
        burst: 5,
        every: SECOND / 4,
    });
    world
}

/// Plays it until no cookie is sent any more, while the honest clients go on.
///
/// # Panics
/// When the flood is not noticed, or honest clients are taken for one.
pub fn play(world: &mut World) {
    let cookies = |world: &World| world.router.engine.info(world.now).syncookies;
    world.run_for(10);
    assert_eq!(cookies(world).destinations.len(), 1, "the server gets cookies");
    // Two looks after the flood, and after the last half-open connection that it has left.
    world.run_for(30);
    assert_eq!(cookies(world).destinations, [], "honest clients are taken for a flood");
    let turns: Vec<bool> = cookies(world).history.iter().map(|change| change.on).collect();
    assert_eq!(turns, [true, false]);
}
