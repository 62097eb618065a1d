//! Collects expired states, a bounded share per call.
//!
//! Each state is looked at about once per `interval`. An expired state matches packets until it is
//! collected, as in pf. Source: OpenBSD sys/net/pf.c `pf_purge_expired_states`.

use std::sync::Arc;

use pfapi::reason::TableCounter;
use pfapi::timeout::Timeout;
use pfapi::units::Uptime;

use crate::engine::{Engine, Snapshot};
use crate::fault::{self, Fault};
use crate::output::{Output, SmallPacket};
use crate::relay;
use crate::source::Cursor;
use crate::state::entry::State;
use crate::state::expire::Population;
use crate::worker::Parts;

/// Time between two shares, in nanoseconds; short, so that shares are small.
const TICK_NANOS: u64 = 20_000_000;
/// Shares in a second.
const TICKS_PER_SECOND: u32 = 50;
/// Slots looked at in one call at least and at most: never more than a fraction of a millisecond.
pub const SHARE: core::ops::RangeInclusive<u32> = 64..=8_192;

/// Source nodes, and sources of each limiter, looked at in one call.
const SOURCES: usize = 256;

/// Where one worker's sweep is.
#[derive(Debug, Default)]
pub struct Purge {
    cursor: u32,
    sources: Cursor,
    next: Uptime,
}

impl Purge {
    /// When the next share is due; `None` without states and source nodes.
    pub const fn due(&self, items: u64) -> Option<Uptime> {
        if items == 0 { None } else { Some(self.next) }
    }

    /// Looks at the next share of slots.
    pub fn run(
        &mut self,
        engine: &Arc<Engine>,
        snapshot: &Snapshot,
        parts: &mut Parts,
        now: Uptime,
    ) {
        if now < self.next {
            return;
        }
        self.next = now.plus_nanos(TICK_NANOS);
        engine.sources.purge(&mut self.sources, SOURCES, now, &snapshot.timeouts);
        snapshot.rules.limiters.purge(SOURCES, now);
        let slots = engine.store.slots();
        let interval = snapshot.timeouts.get(Timeout::Interval).max(1);
        let share = (slots / (interval.saturating_mul(TICKS_PER_SECOND)) + 1)
            .clamp(*SHARE.start(), *SHARE.end())
            .min(slots);
        let view = engine.store.open();
        let flushed = parts.flushes.sweep(&view, *SHARE.end());
        if flushed > 0 {
            parts.stats.state_table(TableCounter::Removals, flushed);
        }
        let population = Population(engine.store.count());
        let mut removed = 0;
        for _ in 0..share {
            if self.cursor >= slots {
                self.cursor = 0;
            }
            let ended = view.remove_if(self.cursor, |state| {
                state.expires_in(now, &snapshot.timeouts, population) == 0
            });
            self.cursor += 1;
            if let Some(state) = ended {
                removed += 1;
                finish(&state, parts);
            }
        }
        if removed > 0 && !fault::is(Fault::RemovalsUncounted) {
            parts.stats.state_table(TableCounter::Removals, removed);
        }
    }
}

/// What the end of a state brings: its rule's count, and an RST to a client that waited in vain.
fn finish(state: &State, parts: &mut Parts) {
    state.retire();
    if let Some(segment) = relay::refusal(state, parts.rng.next_u16()) {
        let packet = SmallPacket::of_segment(&segment).into();
        parts.outputs.push_back(Output::Send {
            packet,
            filtered: false,
            next_hop: state.next_hop(false),
            marks: state.marks(true),
        });
    }
}
