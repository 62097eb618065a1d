//! All fragments that are held, within limits that no sender can pass.
//!
//! Bounds: `set limit frags` fragments, and [`OCTETS_PER_FRAGMENT`] octets of memory for each of
//! them. One source address may use a quarter of both; what it has beyond that replaces its own
//! oldest datagrams, not those of others. pf has no such share.
//! Invariants: `order` and `by_source` hold each queue once; `usage` and `sources` are sums over
//! the queues.
//! Source: OpenBSD sys/net/pf_norm.c `pf_find_fragment`, `pf_create_fragment`,
//! `pf_flush_fragments`, `pf_purge_expired_fragments`; RFC 4963 (stale identifications).

use std::collections::{BTreeMap, BTreeSet};

use pfapi::addr::Af;
use pfapi::units::Uptime;

use super::arriving::Arriving;
use super::queue::{Added, Queue};
use crate::addr::Addr;
use crate::packet_desc::PacketDesc;

/// Octets of memory for each fragment that the limit allows: those of an Ethernet frame and what
/// goes with it. Longer fragments use the share of several.
const OCTETS_PER_FRAGMENT: u64 = 2_048;
/// Octets of memory at most, whatever the limit says.
const OCTETS_MAX: u64 = 1 << 30;
/// One source may use this part of the limits ...
const SOURCE_SHARE: u64 = 4;
/// ... but always this many fragments, where the limit itself allows them: a few datagrams of
/// 64 KiB.
const SOURCE_LEAST: u64 = 256;
/// Datagrams that a flow may begin per second of the time-out before an older one with the same
/// identification is taken for another. Source: `PF_FRAG_STALE`.
const STALE_PER_SECOND: u64 = 200;
/// Queues that one sweep ends at most.
const SWEEP_MAX: usize = 256;
/// Time to the next sweep when one had to stop, in nanoseconds.
const SWEEP_AGAIN_NANOS: u64 = 20_000_000;

/// Which datagram a fragment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    flow: Flow,
    id: u32,
}

/// Datagrams whose identifications must not be mixed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flow {
    source: Source,
    dst: Addr,
    /// Protocol; 0 for IPv6.
    proto: u8,
}

/// A sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Source(Af, Addr);

impl Key {
    /// Key of a fragment; `proto` is 0 for IPv6.
    pub const fn new(desc: &PacketDesc, proto: u8, id: u32) -> Self {
        let source = Source(desc.af, desc.src);
        Self { flow: Flow { source, dst: desc.dst, proto }, id }
    }
}

/// What is held of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    pieces: u64,
    octets: u64,
}

impl Usage {
    fn of(queue: &Queue) -> Self {
        Self { pieces: queue.pieces() as u64, octets: queue.memory() as u64 }
    }

    const fn plus(self, other: Self) -> Self {
        Self { pieces: self.pieces + other.pieces, octets: self.octets + other.octets }
    }

    const fn less(self, other: Self) -> Self {
        Self { pieces: self.pieces - other.pieces, octets: self.octets - other.octets }
    }

    const fn fits(self, limit: Self) -> bool {
        self.pieces <= limit.pieces && self.octets <= limit.octets
    }

    /// Nine tenths: how far a full table is emptied.
    const fn eased(self) -> Self {
        Self { pieces: self.pieces * 9 / 10, octets: self.octets / 10 * 9 }
    }
}

/// A queue and when it was used.
#[derive(Debug)]
struct Entry {
    queue: Queue,
    /// Moment of the last use, as a count of uses.
    used: u64,
    created: Uptime,
    /// How many datagrams the flow had begun with this one.
    generation: u64,
}

/// Datagrams that a flow has begun, while any of them is held.
#[derive(Clone, Copy, Debug, Default)]
struct FlowUse {
    begun: u64,
    held: u64,
}

/// Operations, as in the block "Fragments" of `pfctl -vsi`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Look-ups of a datagram.
    pub searches: u64,
    /// Fragments that were kept.
    pub inserts: u64,
    /// Fragments that are held no more.
    pub removals: u64,
}

/// What became of a fragment.
#[derive(Debug)]
pub enum Outcome {
    /// It is kept.
    Held,
    /// The datagram is whole.
    Whole(Queue),
    /// All its octets were there already.
    Duplicate,
    /// It fits nothing, and is lost alone or with its whole datagram.
    Refused,
    /// There is no room.
    Full,
}

/// All fragments that are held.
#[derive(Debug)]
pub struct Cache {
    limit: Usage,
    usage: Usage,
    uses: u64,
    queues: BTreeMap<Key, Entry>,
    /// Least recently used first.
    order: BTreeSet<(u64, Key)>,
    by_source: BTreeSet<(Source, u64, Key)>,
    sources: BTreeMap<Source, Usage>,
    flows: BTreeMap<Flow, FlowUse>,
    operations: Operations,
    next_sweep: Uptime,
}

impl Cache {
    /// An empty cache for `limit` fragments.
    pub fn new(limit: u32) -> Self {
        Self {
            limit: limits(limit),
            usage: Usage::default(),
            uses: 0,
            queues: BTreeMap::new(),
            order: BTreeSet::new(),
            by_source: BTreeSet::new(),
            sources: BTreeMap::new(),
            flows: BTreeMap::new(),
            operations: Operations::default(),
            next_sweep: Uptime::default(),
        }
    }

    /// Sets the limit; what is held beyond it is lost, the oldest first.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limits(limit);
        self.shrink_to(self.limit);
    }

    /// Fragments that are held.
    pub const fn held(&self) -> u64 {
        self.usage.pieces
    }

    /// Operations since the last call.
    pub fn take_operations(&mut self) -> Operations {
        core::mem::take(&mut self.operations)
    }

    /// Adds a fragment. `timeout` is how long a datagram may be incomplete, in seconds.
    pub fn add(&mut self, arriving: &Arriving<'_>, now: Uptime, timeout: u32) -> Outcome {
        let cost = Usage { pieces: 1, octets: Queue::memory_of(arriving) as u64 };
        if !self.make_room(arriving.key.flow.source, cost) {
            return Outcome::Full;
        }
        let key = arriving.key;
        let mut entry = self.find(key, timeout).unwrap_or_else(|| self.begin(key, now));
        let before = Usage::of(&entry.queue);
        let added = entry.queue.add(arriving);
        let removed = (before.pieces + 1).saturating_sub(entry.queue.pieces() as u64);
        match added {
            Added::Kept => {
                self.operations.inserts += 1;
                self.operations.removals += removed;
                self.put_back(key, entry);
                Outcome::Held
            }
            Added::Whole => {
                self.operations.inserts += 1;
                self.operations.removals += removed + entry.queue.pieces() as u64;
                self.forget_flow(key);
                Outcome::Whole(entry.queue)
            }
            Added::Ruined => {
                self.operations.removals += before.pieces;
                self.forget_flow(key);
                Outcome::Refused
            }
            // Nothing was added, so only an empty queue is no use.
            Added::Duplicate | Added::Refused => {
                if entry.queue.pieces() == 0 {
                    self.forget_flow(key);
                } else {
                    self.put_back(key, entry);
                }
                if added == Added::Duplicate { Outcome::Duplicate } else { Outcome::Refused }
            }
        }
    }

    /// When [`Self::sweep`] is due; `None` when nothing is held.
    pub fn due(&self) -> Option<Uptime> {
        (!self.order.is_empty()).then_some(self.next_sweep)
    }

    /// Ends datagrams that have been incomplete for `timeout` seconds, from the least recently
    /// used end on: an old one that was used lately hides behind it, as in pf. `interval` seconds
    /// pass to the next sweep.
    pub fn sweep(&mut self, now: Uptime, timeout: u32, interval: u32) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now.plus_secs(u64::from(interval.max(1)));
        for ended in 0.. {
            let Some(&(_, key)) = self.order.first() else { return };
            let age = now.secs_since(self.queues[&key].created);
            if age < u64::from(timeout) {
                return;
            }
            if ended == SWEEP_MAX {
                self.next_sweep = now.plus_nanos(SWEEP_AGAIN_NANOS);
                return;
            }
            self.discard(key);
        }
    }

    /// Takes a queue out, unless its identification has surely come round again.
    fn find(&mut self, key: Key, timeout: u32) -> Option<Entry> {
        self.operations.searches += 1;
        let generation = self.queues.get(&key)?.generation;
        let begun = self.flows.get(&key.flow).map_or(0, |flow| flow.begun);
        if begun - generation >= u64::from(timeout) * STALE_PER_SECOND {
            self.discard(key);
            return None;
        }
        self.take(key)
    }

    fn begin(&mut self, key: Key, now: Uptime) -> Entry {
        let flow = self.flows.entry(key.flow).or_default();
        flow.begun += 1;
        flow.held += 1;
        let generation = flow.begun;
        Entry { queue: Queue::new(key.flow.source.0), used: 0, created: now, generation }
    }

    /// Takes a queue out of all lists but that of flows.
    fn take(&mut self, key: Key) -> Option<Entry> {
        let entry = self.queues.remove(&key)?;
        let source = key.flow.source;
        self.order.remove(&(entry.used, key));
        self.by_source.remove(&(source, entry.used, key));
        let usage = Usage::of(&entry.queue);
        self.usage = self.usage.less(usage);
        let left = self.sources.get(&source).copied().unwrap_or_default().less(usage);
        if left.pieces == 0 {
            self.sources.remove(&source);
        } else {
            self.sources.insert(source, left);
        }
        Some(entry)
    }

    /// Puts a queue back as the most recently used one.
    fn put_back(&mut self, key: Key, mut entry: Entry) {
        self.uses += 1;
        entry.used = self.uses;
        let source = key.flow.source;
        let usage = Usage::of(&entry.queue);
        self.order.insert((entry.used, key));
        self.by_source.insert((source, entry.used, key));
        self.usage = self.usage.plus(usage);
        let sum = self.sources.entry(source).or_default();
        *sum = sum.plus(usage);
        self.queues.insert(key, entry);
    }

    /// Notes that a datagram of a flow is held no more.
    fn forget_flow(&mut self, key: Key) {
        if let Some(flow) = self.flows.get_mut(&key.flow) {
            flow.held -= 1;
            if flow.held == 0 {
                self.flows.remove(&key.flow);
            }
        }
    }

    /// Ends a datagram.
    fn discard(&mut self, key: Key) {
        if let Some(entry) = self.take(key) {
            self.operations.removals += entry.queue.pieces() as u64;
            self.forget_flow(key);
        }
    }

    /// Makes room for one more fragment; false when the limits are too small for it.
    fn make_room(&mut self, source: Source, cost: Usage) -> bool {
        let share = self.source_share();
        let of_source = |cache: &Self| cache.sources.get(&source).copied().unwrap_or_default();
        if !of_source(self).plus(cost).fits(share) {
            let goal = share.eased();
            while !of_source(self).fits(goal) {
                let first = (source, 0, Key::FIRST);
                let oldest =
                    self.by_source.range(first..).next().filter(|oldest| oldest.0 == source);
                let Some(&(_, _, key)) = oldest else { break };
                self.discard(key);
            }
        }
        if !self.usage.plus(cost).fits(self.limit) {
            self.shrink_to(self.usage.eased());
        }
        self.usage.plus(cost).fits(self.limit)
    }

    fn source_share(&self) -> Usage {
        let share = |limit: u64, least: u64| (limit / SOURCE_SHARE).max(least).min(limit);
        Usage {
            pieces: share(self.limit.pieces, SOURCE_LEAST),
            octets: share(self.limit.octets, SOURCE_LEAST * OCTETS_PER_FRAGMENT),
        }
    }

    fn shrink_to(&mut self, goal: Usage) {
        while !self.usage.fits(goal) {
            let Some(&(_, key)) = self.order.first() else { return };
            self.discard(key);
        }
    }

    /// Compares every sum with a recount.
    ///
    /// # Errors
    /// Says what differs.
    pub fn check_invariants(&self) -> Result<(), String> {
        let sum = self
            .queues
            .values()
            .fold(Usage::default(), |sum, entry| sum.plus(Usage::of(&entry.queue)));
        let of_sources =
            self.sources.values().fold(Usage::default(), |sum, usage| sum.plus(*usage));
        let of_flows: u64 = self.flows.values().map(|flow| flow.held).sum();
        if sum != self.usage || of_sources != self.usage {
            return Err(format!(
                "fragments: {:?} is noted, the queues have {sum:?}, the sources {of_sources:?}",
                self.usage
            ));
        }
        if !self.usage.fits(self.limit) {
            return Err(format!("fragments: {:?} is more than {:?}", self.usage, self.limit));
        }
        let counts = [self.order.len(), self.by_source.len(), self.queues.len()];
        if counts.iter().any(|&count| count as u64 != of_flows) {
            return Err(format!("fragments: lists of {counts:?}, flows of {of_flows}"));
        }
        Ok(())
    }
}

impl Key {
    /// Sorts before every other key.
    const FIRST: Self =
        Self { flow: Flow { source: Source(Af::Inet, Addr(0)), dst: Addr(0), proto: 0 }, id: 0 };
}

fn limits(pieces: u32) -> Usage {
    let pieces = u64::from(pieces);
    Usage { pieces, octets: (pieces * OCTETS_PER_FRAGMENT).clamp(1 << 17, OCTETS_MAX) }
}

#[cfg(test)]
mod tests;
