//! What an operator does in the middle of a run.

use pfapi::control::{Flush, KillFilter};
use pfapi::ruleset::proto;

use crate::rules::Policy;
use crate::world::World;

/// Something done to the router, or to time.
#[derive(Clone, Debug)]
pub enum Action {
    /// Load a ruleset; refused when the limit is below what is in use.
    Load(Box<Policy>),
    /// Flush all states.
    FlushStates,
    /// Kill one state by its addresses and ports.
    KillOne,
    /// Kill all states of one server's address.
    KillServer,
    /// Let this many nanoseconds pass at once.
    Jump(u64),
}

impl World {
    /// Does it now.
    ///
    /// # Panics
    /// When the filter does something else than it should.
    pub fn act(&mut self, action: &Action) {
        self.log.note(self.now, format!("{action:?}"));
        match action {
            Action::Load(policy) => {
                let in_use = self.router.engine.info(self.now).states;
                let loaded = self.router.load(policy, &mut self.rng, self.now);
                assert_eq!(loaded.is_err(), in_use > u64::from(policy.states), "{loaded:?}");
            }
            Action::FlushStates => {
                let flush = Flush::States { interface: None };
                // Those that wait for their server count until the purge has told their clients.
                let shown = |world: &Self| {
                    let engine = &world.router.engine;
                    engine.states(&mut 0, usize::MAX, world.now).len() as u64
                };
                let before = shown(self);
                assert_eq!(self.router.engine.flush(&flush, self.now), before);
                assert_eq!(shown(self), 0);
                self.router.model.kill(|_| true);
            }
            Action::KillOne => {
                let Some(flow) = self.router.model.any_flow(self.rng.next()) else { return };
                let (source, destination) = flow;
                let filter = KillFilter::Key { proto: proto::TCP, source, destination };
                // One state on each side of the router.
                assert!(self.router.engine.kill_states(&filter, self.now) <= 2);
                self.router.model.kill(|other| *other == flow);
            }
            Action::KillServer => {
                let server = self.servers[0].addr;
                let filter = KillFilter::Hosts {
                    sources: vec![pfapi::addr::Prefix::new(self.any_net(), 0)],
                    destinations: vec![pfapi::addr::Prefix::host(server)],
                    interface: None,
                };
                let _ = self.router.engine.kill_states(&filter, self.now);
                let model = self.router.model.clone();
                self.router.model.kill(|flow| model.reaches(flow, server));
            }
            Action::Jump(nanos) => self.now = self.now.plus_nanos(*nanos),
        }
        self.check();
    }
}
