//! One thread's hand on the engine: batches of packets, timeouts, outputs.

use std::collections::VecDeque;
use std::sync::Arc;

use pfapi::reason::Reason;
use pfapi::timeout::Timeout;
use pfapi::units::Uptime;

use crate::engine::{Engine, Snapshot};
use crate::filter::{Arrival, Filter, MacBudget};
use crate::output::{Event, Output};
use crate::overload::Flushes;
use crate::packet::{Batch, Packet, Verdict};
use crate::packet_desc::PacketDesc;
use crate::pflog::{LogBuffer, LogRecord};
use crate::purge::Purge;
use crate::queue::QueuePlan;
use crate::relay::{self, Relays};
use crate::rng::Rng;
use crate::rules::{Decisions, Scratch};
use crate::stats::Stats;
use crate::wire::build::TCP_SEGMENT_MAX;

/// Outputs that a batch makes at most: two per packet.
const OUTPUTS: usize = 2 * Batch::SIZE;

/// One thread's hand on the engine.
#[derive(Debug)]
pub struct Worker {
    engine: Arc<Engine>,
    snapshot: arc_swap::Cache<SnapshotRef, Arc<Snapshot>>,
    pub(crate) parts: Parts,
    parsed: Vec<Arrival>,
    purge: Purge,
}

/// What the filter needs of its worker.
#[derive(Debug)]
pub(crate) struct Parts {
    pub stats: Arc<Stats>,
    pub rng: Rng,
    pub outputs: VecDeque<Output>,
    /// Where the SYN is re-created that a cookie stands for.
    pub syn: Packet,
    /// Lists that evaluations fill.
    pub scratch: Scratch,
    /// States of offenders that are still to end.
    pub flushes: Flushes,
    /// What rules said, for states to share.
    pub decisions: Decisions,
    /// SYNs to servers that have not answered.
    pub relays: Relays,
    pub icmp_budget: IcmpBudget,
    pub mac_budget: MacBudget,
    /// Packets that rules log.
    pub log: LogBuffer,
}

/// The engine's snapshot as the cache of one worker reads it.
#[derive(Clone, Debug)]
struct SnapshotRef(Arc<Engine>);

impl core::ops::Deref for SnapshotRef {
    type Target = arc_swap::ArcSwap<Snapshot>;

    fn deref(&self) -> &Self::Target {
        &self.0.snapshot
    }
}

/// ICMP errors that the filter may send in one second.
///
/// Source: OpenBSD `icmp_ratelimit`, 100 per second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IcmpBudget {
    second: u64,
    sent: u32,
}

impl IcmpBudget {
    const PER_SECOND: u32 = 100;

    /// Whether one more error may be sent now.
    pub const fn take(&mut self, now: Uptime) -> bool {
        if self.second != now.as_secs() {
            *self = Self { second: now.as_secs(), sent: 0 };
        }
        if self.sent >= Self::PER_SECOND {
            return false;
        }
        self.sent += 1;
        true
    }
}

impl Worker {
    pub(crate) fn new(engine: Arc<Engine>, stats: Arc<Stats>, rng: Rng) -> Self {
        Self {
            snapshot: arc_swap::Cache::new(SnapshotRef(Arc::clone(&engine))),
            engine,
            parts: Parts {
                stats,
                rng,
                outputs: VecDeque::with_capacity(OUTPUTS),
                syn: Packet::new(TCP_SEGMENT_MAX, 2 * TCP_SEGMENT_MAX),
                scratch: Scratch::default(),
                flushes: Flushes::default(),
                decisions: Decisions::default(),
                relays: Relays::default(),
                icmp_budget: IcmpBudget::default(),
                mac_budget: MacBudget::default(),
                log: LogBuffer::new(),
            },
            parsed: Vec::with_capacity(Batch::SIZE),
            purge: Purge::default(),
        }
    }

    /// Decides every packet of the batch: its `meta.verdict` says what becomes of it. Packets of
    /// several interfaces and both directions may be mixed. Drain [`Self::poll_output`]
    /// afterwards.
    ///
    /// The stages: parse all, hash all, bring the index near, then decide one after the other.
    pub fn process(&mut self, now: Uptime, batch: &mut Batch) {
        let snapshot = Arc::clone(self.snapshot.load());
        if !snapshot.enabled {
            for packet in &mut batch.packets {
                packet.meta.verdict = Verdict::Pass;
            }
            return;
        }
        let engine = Arc::clone(&self.engine);
        let mut filter = Filter::new(&engine, &snapshot, &mut self.parts, now);
        self.parsed.clear();
        for packet in &mut batch.packets {
            self.parsed.push(filter.receive(packet));
        }
        // A loop of its own: too much lies between two reads in the loop above to overlap them.
        let near = self.parsed.iter().fold(0, |near, arrival| near ^ filter.touch(arrival));
        core::hint::black_box(near);
        for (packet, arrival) in batch.packets.iter_mut().zip(&mut self.parsed) {
            packet.meta.verdict = filter.decide(packet, arrival);
        }
        filter.finish();
    }

    /// Does what is due: purge of states, key rotation, switching of adaptive modes. Each call is
    /// bounded. Drain [`Self::poll_output`] afterwards.
    pub fn handle_timeout(&mut self, now: Uptime) {
        let engine = Arc::clone(&self.engine);
        let backlog = &engine.store.half_open.backlog;
        let events = engine.syncookies.handle_timeout(now, engine.half_open(), backlog);
        for to in events.flooded {
            let event = Event::DestinationFlooded { addr: to.ip(), port: to.port };
            self.parts.outputs.push_back(Output::Event(event));
        }
        for to in events.calmed {
            let event = Event::DestinationCalm { addr: to.ip(), port: to.port };
            self.parts.outputs.push_back(Output::Event(event));
        }
        if events.activated {
            self.parts.outputs.push_back(Output::Event(Event::SynfloodDetected));
        }
        if events.deactivated {
            self.parts.outputs.push_back(Output::Event(Event::SyncookiesDisabled));
        }
        let snapshot = Arc::clone(self.snapshot.load());
        relay::run(&engine, &mut self.parts, now);
        Filter::new(&engine, &snapshot, &mut self.parts, now).end_waits();
        self.purge.run(&engine, &snapshot, &mut self.parts, now);
        self.sweep_fragments(&engine, &snapshot, now);
    }

    /// Ends datagrams that stay incomplete.
    fn sweep_fragments(&self, engine: &Engine, snapshot: &Snapshot, now: Uptime) {
        if engine.fragments.due().is_none_or(|due| now < due) {
            return;
        }
        let timeouts = &snapshot.timeouts;
        let operations = engine.fragments.with(|cache| {
            cache.sweep(now, timeouts.get(Timeout::Frag), timeouts.get(Timeout::Interval));
            cache.take_operations()
        });
        self.parts.stats.fragments(operations);
    }

    /// When [`Self::handle_timeout`] is due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Uptime> {
        let limiters = &self.engine.snapshot.load().rules.limiters;
        let items = self.engine.store.count()
            + self.engine.sources.count()
            + u64::from(limiters.are_tracking());
        let purge = self.purge.due(items);
        let fragments = self.engine.fragments.due();
        let relays = self.parts.relays.due();
        let cookies = self.engine.syncookies.poll_timeout();
        [cookies, purge, fragments, relays].into_iter().flatten().min()
    }

    /// The next thing the caller must do; `None` when all is done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.parts.outputs.pop_front()
    }

    /// Whether rules have logged packets that nobody has drained.
    #[must_use]
    pub const fn has_log(&self) -> bool {
        !self.parts.log.is_empty()
    }

    /// Hands out the packets that rules have logged, in order, and says how many records were lost
    /// since the last call because nobody drained them. Call it after each batch: the records of
    /// one batch fit.
    pub fn drain_log(&mut self, each: impl FnMut(LogRecord<'_>)) -> u64 {
        self.parts.log.drain(each)
    }

    /// The queues in force: for an [`crate::queue::Egress`], to be compared by address after each
    /// batch.
    #[must_use]
    pub fn queues(&mut self) -> Arc<QueuePlan> {
        Arc::clone(&self.snapshot.load().queues)
    }

    /// Whether other queues are in force than these.
    #[must_use]
    pub fn has_new_queues(&mut self, known: &Arc<QueuePlan>) -> bool {
        !Arc::ptr_eq(&self.snapshot.load().queues, known)
    }

    /// The engine this worker works for.
    #[must_use]
    pub const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

/// Outcome of parsing, before any state or rule is looked at.
pub(crate) type Parsed = Result<PacketDesc, Reason>;
