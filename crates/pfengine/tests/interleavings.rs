//! Every order in which threads can take their steps through the counters of destinations and the
//! switch of cookies.
//!
//! The sources of both are compiled here a second time, with atomics that ask a scheduler before each
//! operation. The scheduler lets one thread go at a time and tries every choice, so each run is one
//! interleaving and all runs are all of them. Orders are sequentially consistent: what weaker
//! memory might add does not matter to counters that are only added to, and the switch is one word.

#[path = "../src/syncookie/sketch.rs"]
mod sketch;
#[path = "../src/syncookie/switch.rs"]
mod switch;

/// Atomics with a scheduler before each operation.
mod sync {
    pub use core::sync::atomic::Ordering;

    pub const PLACE_BITS: u32 = 12;

    #[derive(Debug, Default)]
    pub struct AtomicBool(core::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub fn load(&self, order: Ordering) -> bool {
            super::scheduler::step();
            self.0.load(order)
        }

        pub fn swap(&self, to: bool, order: Ordering) -> bool {
            super::scheduler::step();
            self.0.swap(to, order)
        }
    }

    #[derive(Debug)]
    pub struct AtomicU32(core::sync::atomic::AtomicU32);

    impl AtomicU32 {
        pub fn new(value: u32) -> Self {
            Self(core::sync::atomic::AtomicU32::new(value))
        }

        pub fn load(&self, order: Ordering) -> u32 {
            super::scheduler::step();
            self.0.load(order)
        }

        pub fn fetch_add(&self, by: u32, order: Ordering) -> u32 {
            super::scheduler::step();
            self.0.fetch_add(by, order)
        }

        pub fn fetch_sub(&self, by: u32, order: Ordering) -> u32 {
            super::scheduler::step();
            self.0.fetch_sub(by, order)
        }
    }
}

/// One thread at a time, in every order.
mod scheduler {
    use std::cell::RefCell;
    use std::sync::{Arc, Condvar, Mutex, PoisonError};
    use std::thread;

    #[derive(Default)]
    struct State {
        /// Threads that wait for their next step.
        waiting: Vec<usize>,
        /// Threads that have ended.
        ended: usize,
        /// The thread that may go.
        chosen: Option<usize>,
    }

    #[derive(Default)]
    struct Scheduler {
        state: Mutex<State>,
        changed: Condvar,
    }

    thread_local! {
        static ME: RefCell<Option<(Arc<Scheduler>, usize)>> = const { RefCell::new(None) };
    }

    /// Waits until this thread may take its next step. Threads outside a run just go on.
    pub fn step() {
        ME.with_borrow(|me| {
            let Some((scheduler, number)) = me else { return };
            let mut state = scheduler.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.waiting.push(*number);
            scheduler.changed.notify_all();
            while state.chosen != Some(*number) {
                state = scheduler.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.chosen = None;
        });
    }

    /// One run: `path` says which of the waiting threads goes, step by step; beyond its end the
    /// first does. Gives the number of choices that there were at each step.
    fn run(threads: &[&(dyn Fn() + Sync)], path: &[usize]) -> Vec<usize> {
        let scheduler = Arc::new(Scheduler::default());
        let mut choices = Vec::new();
        thread::scope(|scope| {
            for (number, body) in threads.iter().enumerate() {
                let scheduler = Arc::clone(&scheduler);
                scope.spawn(move || {
                    ME.set(Some((Arc::clone(&scheduler), number)));
                    body();
                    let mut state = scheduler.state.lock().unwrap_or_else(PoisonError::into_inner);
                    state.ended += 1;
                    scheduler.changed.notify_all();
                });
            }
            let mut state = scheduler.state.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                while state.chosen.is_some() || state.waiting.len() + state.ended < threads.len() {
                    state = scheduler.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if state.waiting.is_empty() {
                    return;
                }
                state.waiting.sort_unstable();
                let at = path.get(choices.len()).copied().unwrap_or(0);
                choices.push(state.waiting.len());
                state.chosen = Some(state.waiting.remove(at));
                scheduler.changed.notify_all();
            }
        });
        choices
    }

    /// Runs what `make` gives in every order of its threads' steps; `check` looks at the end of each
    /// run. Gives the number of orders.
    pub fn every_order<T: Sync>(
        make: impl Fn() -> T,
        threads: &[&(dyn Fn(&T) + Sync)],
        check: impl Fn(&T),
    ) -> usize {
        let (mut path, mut runs): (Vec<usize>, usize) = (Vec::new(), 0);
        loop {
            let world = make();
            let bound: Vec<Box<dyn Fn() + Sync>> = threads
                .iter()
                .map(|body| Box::new(|| body(&world)) as Box<dyn Fn() + Sync>)
                .collect();
            let bodies: Vec<&(dyn Fn() + Sync)> = bound.iter().map(|body| &**body).collect();
            let choices = run(&bodies, &path);
            drop(bound);
            check(&world);
            runs += 1;
            path.resize(choices.len(), 0);
            // The next path: the last step with a choice left takes it.
            while path.last().is_some_and(|&at| at + 1 >= choices[path.len() - 1]) {
                path.pop();
            }
            match path.last_mut() {
                Some(at) => *at += 1,
                None => return runs,
            }
        }
    }
}

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use scheduler::every_order;
use sketch::Sketch;
use switch::Switch;

/// Two destinations that share a counter in the first row, and in no other.
const THIS: u64 = 0x0010_0200_3001;
const OTHER: u64 = 0x0011_0210_3001;

#[test]
fn a_connection_that_is_counted_is_never_missed() {
    struct World {
        sketch: Sketch,
        begun: AtomicBool,
    }
    let make = || {
        let sketch = Sketch::default();
        sketch.add(OTHER);
        World { sketch, begun: AtomicBool::new(false) }
    };
    let begins = |world: &World| {
        world.sketch.add(THIS);
        world.begun.store(true, Ordering::SeqCst);
    };
    let ends = |world: &World| world.sketch.remove(OTHER);
    let reads = |world: &World| {
        let least = u32::from(world.begun.load(Ordering::SeqCst));
        let count = world.sketch.count(THIS);
        assert!((least..=1).contains(&count), "{count} after {least}");
    };
    let ended = |world: &World| {
        assert_eq!(world.sketch.count(THIS), 1);
        assert_eq!(world.sketch.count(OTHER), 0);
    };
    // Four steps of each of two threads.
    let orders = [
        every_order(make, &[&begins, &reads], |_| {}),
        every_order(make, &[&begins, &ends], ended),
        every_order(
            || {
                let world = make();
                begins(&world);
                world
            },
            &[&ends, &reads],
            ended,
        ),
    ];
    assert_eq!(orders, [70; 3]);
}

#[test]
fn one_thread_turns_the_switch_and_no_turn_is_lost() {
    #[derive(Default)]
    struct World {
        switch: Switch,
        on: AtomicUsize,
        off: AtomicUsize,
    }
    // As a SYN does: look, then turn.
    let asks = |world: &World| {
        if !world.switch.is_on() && world.switch.turn_on() {
            world.on.fetch_add(1, Ordering::SeqCst);
        }
    };
    let ends = |world: &World| {
        if world.switch.turn_off() {
            world.off.fetch_add(1, Ordering::SeqCst);
        }
    };
    let orders = every_order(World::default, &[&asks, &asks, &asks], |world| {
        assert!(world.switch.is_on());
        assert_eq!(world.on.load(Ordering::SeqCst), 1, "one flood is one activation");
    });
    assert!(orders > 20, "{orders}");
    every_order(World::default, &[&asks, &asks, &ends], |world| {
        let on = world.on.load(Ordering::SeqCst);
        let off = world.off.load(Ordering::SeqCst);
        assert!((1..=2).contains(&on), "{on}");
        assert_eq!(on - off, usize::from(world.switch.is_on()), "on {on}, off {off}");
        // What comes next sees where it stands.
        asks(world);
        assert!(world.switch.is_on());
    });
}
