//! The half-open gauges, the counters of destinations and the switch of cookies, under every order of
//! steps and every view of memory that the language allows.
//!
//! The sources are compiled here a second time with the atomics of loom, which runs each model in all
//! executions with a few forced changes of thread. What `interleavings.rs` shows for
//! one common order of all steps, this shows for weak ones: a `Relaxed` that ought to be an `Acquire`
//! fails here. Locks stand for the lock of a state and for that of the cookies' configuration.

#[path = "../src/state/half_open.rs"]
#[expect(dead_code, reason = "one gauge stands for both")]
mod half_open;
#[path = "../src/syncookie/sketch.rs"]
mod sketch;
#[path = "../src/syncookie/switch.rs"]
mod switch;

mod sync {
    pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

    /// Rows as short as can be: a model has few atomics.
    pub const PLACE_BITS: u32 = 1;
}

/// Where the sources look for what stands here.
mod syncookie {
    pub mod sync {
        pub use crate::sync::*;
    }
}

/// No mistakes are planted here.
mod fault {
    pub use pfengine::fault::Fault;

    pub const fn is(_fault: Fault) -> bool {
        false
    }
}

use half_open::HalfOpen;
use loom::sync::{Arc, Mutex};
use loom::thread;
use sketch::Sketch;
use switch::Switch;
use sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Runs a model in every execution with at most so many forced changes of thread.
fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

/// A state and the gauge that it moves.
struct Counted {
    state: Mutex<HalfOpen>,
    gauge: AtomicU64,
}

impl Counted {
    fn set(&self, open: bool) {
        let mut state = self.state.lock().expect("no thread panics with it");
        state.step(&self.gauge, HalfOpen::CONNECTION, open);
    }
}

/// The client finishes its handshake while the purge takes the state away and somebody looks.
#[test]
fn a_gauge_is_never_below_zero() {
    model(3, || {
        let state = HalfOpen::new(true, false);
        let world = Arc::new(Counted { state: Mutex::new(state), gauge: AtomicU64::new(0) });
        world.set(true);
        let ends =
            [world.clone(), world.clone()].map(|world| thread::spawn(move || world.set(false)));
        assert!(world.gauge.load(Ordering::Relaxed) <= 1);
        for end in ends {
            end.join().expect("no model panics");
        }
        assert_eq!(world.gauge.load(Ordering::Relaxed), 0);
        let state = world.state.lock().expect("no thread panics with it");
        assert!(!state.has(HalfOpen::CONNECTION));
    });
}

/// A connection begins while another one that shares its counters ends.
#[test]
fn a_destination_is_counted_exactly_in_the_end() {
    model(1, || {
        let sketch = Arc::new(Sketch::default());
        sketch.add(0b0101);
        let begins = {
            let sketch = sketch.clone();
            thread::spawn(move || sketch.add(0b1101))
        };
        let ends = {
            let sketch = sketch.clone();
            thread::spawn(move || sketch.remove(0b0101))
        };
        assert!(sketch.count(0b1101) <= 2);
        begins.join().expect("no model panics");
        assert_eq!(sketch.count(0b1101).clamp(1, 2), sketch.count(0b1101));
        ends.join().expect("no model panics");
        assert_eq!([0b1101, 0b0101].map(|hash| sketch.count(hash)), [1, 0]);
    });
}

/// What [`model`] knows of the cookies of all: the switch, what must be there before it, and how
/// often it went on and off.
#[derive(Default)]
struct Cookies {
    switch: Switch,
    lock: Mutex<()>,
    key: AtomicBool,
    counts: [AtomicU32; 2],
}

impl Cookies {
    /// As a SYN above the mark does: the key comes before the switch.
    fn activate(&self) {
        if self.switch.is_on() {
            assert!(self.key.load(Ordering::Relaxed), "who sees the switch on finds the key");
            return;
        }
        let _one = self.lock.lock().expect("no thread panics with it");
        self.key.store(true, Ordering::Relaxed);
        if self.switch.turn_on() {
            self.counts[0].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// As the timer does in a quiet time.
    fn end(&self) {
        let _one = self.lock.lock().expect("no thread panics with it");
        if self.switch.turn_off() {
            self.counts[1].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counts(&self) -> [u32; 2] {
        [0, 1].map(|at: usize| self.counts[at].load(Ordering::Relaxed))
    }
}

#[test]
fn one_flood_is_one_activation_and_finds_the_key() {
    model(3, || {
        let cookies = Arc::new(Cookies::default());
        let others = [cookies.clone(), cookies.clone()]
            .map(|cookies| thread::spawn(move || cookies.activate()));
        cookies.activate();
        for other in others {
            other.join().expect("no model panics");
        }
        assert!(cookies.switch.is_on());
        assert_eq!(cookies.counts(), [1, 0]);
    });
}

#[test]
fn the_end_of_a_flood_neither_hides_nor_doubles_the_next() {
    model(3, || {
        let cookies = Arc::new(Cookies::default());
        cookies.activate();
        let ends = {
            let cookies = cookies.clone();
            thread::spawn(move || cookies.end())
        };
        let again = {
            let cookies = cookies.clone();
            thread::spawn(move || cookies.activate())
        };
        ends.join().expect("no model panics");
        again.join().expect("no model panics");
        let [on, off] = cookies.counts();
        assert_eq!(off, 1);
        assert_eq!(on - off, u32::from(cookies.switch.is_on()), "on {on}");
        // The next SYN above the mark sees where it stands.
        cookies.activate();
        assert!(cookies.switch.is_on());
    });
}
