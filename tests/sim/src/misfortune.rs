//! What links and hosts did to connections that no filter can mend.

use std::collections::{HashMap, HashSet};

use pfapi::units::Uptime;

use crate::host::FORGOTTEN;
use crate::segment::{End, Segment, flags};

/// Nanoseconds for which every cookie is good, at least: an epoch.
const COOKIE_LIFE: u64 = 15_000_000_000;
/// SYNs that the filter sends, and nanoseconds for which it waits, before it gives a server up.
const SYNS: u32 = 8;
const PATIENCE: u64 = 15_000_000_000;

/// What happened to connections on the way to the filter.
#[derive(Debug)]
pub struct Misfortunes {
    /// When a host's packet last arrived at the router, and the longest time between two.
    last_arrival: Uptime,
    silence: u64,
    /// When the latest SYN of an end arrived that has sent nothing else since.
    syns: HashMap<End, Uptime>,
    /// Ends whose first word behind the SYN came later than a cookie is good.
    too_late: HashSet<End>,
    /// When each end was last heard, and the longest time between two segments of it.
    heard: HashMap<End, (Uptime, u64)>,
    /// When the first SYN went to a server that nothing was heard of in time, and how many have
    /// gone; by both ends as the server sees them.
    unheard: HashMap<(End, End), (Uptime, u32)>,
}

impl Misfortunes {
    /// None so far.
    #[must_use]
    pub fn new(now: Uptime) -> Self {
        Self {
            last_arrival: now,
            silence: 0,
            syns: HashMap::new(),
            too_late: HashSet::new(),
            heard: HashMap::new(),
            unheard: HashMap::new(),
        }
    }

    /// Notes that something of a host arrives at the router.
    pub fn note_arrival(&mut self, now: Uptime) {
        self.silence = self.silence.max(now.nanos_since(self.last_arrival));
        self.last_arrival = now;
    }

    /// Notes a host's segment as it arrives at the router.
    pub fn arrives(&mut self, now: Uptime, segment: &Segment) {
        let (last, longest) = self.heard.entry(segment.src).or_insert((now, 0));
        *longest = now.nanos_since(*last).max(*longest);
        *last = now;
        if segment.opens() {
            self.syns.insert(segment.src, now);
        } else if let Some(at) = self.syns.remove(&segment.src)
            && now.nanos_since(at) > COOKIE_LIFE
        {
            self.too_late.insert(segment.src);
        }
        let ends = (segment.dst, segment.src);
        if segment.has(flags::SYN)
            && segment.has(flags::ACK)
            && let Some((first, _)) = self.unheard.get(&ends)
            && now.nanos_since(*first) < PATIENCE
        {
            self.unheard.remove(&ends);
        }
    }

    /// Notes a segment that the router sends to a host among the servers.
    pub fn leaves(&mut self, now: Uptime, segment: &Segment) {
        if segment.opens() {
            self.unheard.entry((segment.src, segment.dst)).or_insert((now, 0)).1 += 1;
        }
    }

    /// A host forgot its timer (see [`crate::host::Habits`]). Only then nobody sends anything for
    /// longer than any host waits: whom the filter silences repeats itself.
    #[must_use]
    pub const fn was_forgotten(&self) -> bool {
        self.silence >= FORGOTTEN
    }

    /// The link lost every answer of this client to a SYN|ACK for longer than a cookie is good. One
    /// that had no SYN|ACK would have repeated its SYN.
    #[must_use]
    pub fn came_too_late(&self, client: &End) -> bool {
        self.too_late.contains(client)
    }

    /// Nanoseconds for which the link lost everything that this client sent, at most.
    #[must_use]
    pub fn longest_silence(&self, client: &End) -> u64 {
        self.heard.get(client).map_or(0, |(_, longest)| *longest)
    }

    /// Connections whose server was asked as often as it is asked, and no answer reached the router
    /// before it had told the client so.
    #[must_use]
    pub fn unheard(&self) -> usize {
        self.unheard.values().filter(|(_, syns)| *syns >= SYNS).count()
    }
}
