//! Deterministic simulation: real TCP stacks talk through the filter over bad links.
//!
//! A [`World`] has one clock, one router with the filter inside, hosts that run smoltcp, and an
//! attacker. Everything follows from one seed, so a run that fails can be run again; a world that
//! is dropped by a panic prints its seed and the headers of the packets that it saw.
//!
//! Besides the data that the hosts compare, each packet that leaves the router is checked against
//! [`model::Model`], which knows independently of the filter which connections were let in.
#![forbid(unsafe_code)]

pub mod action;
pub mod app;
pub mod attack;
pub mod chaos;
pub mod crowd;
pub mod device;
pub mod forgery;
pub mod host;
pub mod link;
pub mod log;
pub mod misfortune;
pub mod model;
pub mod rng;
pub mod router;
pub mod rules;
pub mod segment;
pub mod world;

pub use app::Outcome;
pub use host::Host;
pub use link::Weather;
pub use rng::Rng;
pub use rules::Policy;
pub use world::{Family, World, WorldConfig};

/// Seeds for one scenario: `default` of them, or as many as the variable `PF_SIM_SEEDS` says.
///
/// `PF_SIM_SEED` runs a single one.
///
/// # Panics
/// When a variable is not a number.
pub fn seeds(default: u64) -> impl Iterator<Item = u64> {
    let read = |name: &str| {
        std::env::var(name).ok().map(|text| text.parse::<u64>().expect("the seed is a number"))
    };
    match read("PF_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..read("PF_SIM_SEEDS").unwrap_or(default),
    }
}
