//! Everything at once: reloads, limits, kills, flushes, jumps of time, floods and noise.
//!
//! Connections may break here. What must hold: the gauges of the filter, the model of what may
//! be forwarded, the octets that arrive, and an empty state table in the end.

use pf_sim::chaos::world;
use pf_sim::seeds;

#[test]
fn gauges_and_model_hold_whatever_happens() {
    for seed in seeds(60) {
        let mut world = world(seed);
        world.run(2_000);
        world.run_for(1_000);
        world.check();
        let info = world.router.engine.info(world.now);
        assert_eq!((info.states, info.half_open, info.half_open_pf.unwrap_or(0)), (0, 0, 0));
        assert_eq!(info.syncookies.in_flight, 0, "cookies outlive their keys");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in seeds(3) {
        let run = || {
            let mut world = world(seed);
            world.run(2_000);
            let info = world.router.engine.info(world.now);
            (world.now, world.router.forwarded, world.router.answers, world.outcomes(), info)
        };
        assert_eq!(run(), run());
    }
}
