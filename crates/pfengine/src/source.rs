//! Source nodes: what one source address holds, for the limits of `source-track`.
//!
//! A node is made with the first state that a rule with source tracking makes for an address,
//! and stays for `src.track` seconds after its last state. Source: OpenBSD sys/net/pf.c
//! `pf_insert_src_node`, `pf_src_connlimit`, `pf_purge_expired_src_nodes`; pf.conf(5) "STATEFUL
//! TRACKING OPTIONS". Nodes of `source-track global` are shared by all rules with that word, as
//! pf.conf(5) says; the kernel of OpenBSD keeps them apart by rule.

use core::net::IpAddr;
use core::ops::Bound;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pfapi::addr::Af;
use pfapi::control::{MappedUse, SourceReport};
use pfapi::reason::LimitCounter;
use pfapi::ruleset::{Rate, SourceTrack};
use pfapi::timeout::{Timeout, Timeouts};
use pfapi::units::Uptime;

use crate::addr::Addr;
use crate::rules::{Live, LoadedRule, LoadedRules, Threshold};

/// Whose states are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Global,
    Rule { path: Arc<str>, epoch: u64, number: u32 },
}

impl Scope {
    fn of_rule(rule: &LoadedRule) -> Self {
        match rule.number {
            Some(number) => Self::Rule { path: Arc::clone(&rule.path), epoch: rule.epoch, number },
            None => Self::Global,
        }
    }
}

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeKind {
    /// Limits of `source-track`.
    Track,
    /// `sticky-address` of `nat-to` and of the source of `af-to`.
    Nat,
    /// `sticky-address` of `rdr-to` and of the destination of `af-to`.
    Rdr,
    /// `sticky-address` of `route-to`, `reply-to`, `dup-to`.
    Route,
}

/// Which node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NodeKey {
    scope: Scope,
    kind: NodeKind,
    inet6: bool,
    addr: Addr,
}

/// What one source address holds.
#[derive(Debug)]
pub struct SourceNode {
    key: NodeKey,
    /// Rule that made it; its timeout counts.
    rule: Arc<LoadedRule>,
    created: Uptime,
    /// The address that `sticky-address` keeps for the source.
    mapped: Option<IpAddr>,
    counts: Mutex<Counts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    states: u32,
    connections: u32,
    rate: Threshold,
    packets: u64,
    bytes: u64,
    /// Since when it has no state.
    idle_since: Option<Uptime>,
}

/// A state's part in a source node; given back when dropped.
#[derive(Debug)]
pub struct SourceHold {
    node: Arc<SourceNode>,
    connected: bool,
}

impl SourceNode {
    fn new(key: NodeKey, rule: &Arc<LoadedRule>, mapped: Option<IpAddr>, now: Uptime) -> Self {
        let counts = Mutex::default();
        Self { key, rule: Arc::clone(rule), created: now, mapped, counts }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(self: &Arc<Self>) -> SourceHold {
        let mut counts = self.counts();
        counts.states += 1;
        counts.idle_since = None;
        SourceHold { node: Arc::clone(self), connected: false }
    }

    fn af(&self) -> Af {
        if self.key.inet6 { Af::Inet6 } else { Af::Inet }
    }
}

impl Drop for SourceHold {
    fn drop(&mut self) {
        let mut counts = self.node.counts();
        counts.states -= 1;
        counts.connections -= u32::from(self.connected);
    }
}

impl SourceHold {
    /// The node, for sums over living states.
    pub fn node(&self) -> &Arc<SourceNode> {
        &self.node
    }

    /// Takes over what a state has counted that ends now.
    pub fn retire(&self, live: &Live) {
        let mut counts = self.node.counts();
        counts.packets += live.packets.iter().sum::<u64>();
        counts.bytes += live.bytes.iter().sum::<u64>();
    }

    /// Whether the handshake of this state was counted.
    pub const fn is_connected(&self) -> bool {
        self.connected
    }

    /// Counts a completed handshake; gives the limits that it exceeds.
    pub fn connect(
        &mut self,
        most: Option<u32>,
        rate: Option<Rate>,
        now: Uptime,
    ) -> [Option<LimitCounter>; 2] {
        self.connected = true;
        let mut counts = self.node.counts();
        counts.connections += 1;
        let over = most.is_some_and(|most| counts.connections > most);
        let fast = rate.is_some_and(|rate| counts.rate.exceeded_by_one_more(rate, now));
        [over.then_some(LimitCounter::MaxSrcConn), fast.then_some(LimitCounter::MaxSrcConnRate)]
    }
}

/// Parts of the source nodes with a lock each: sources that come at the same time seldom meet.
const SHARDS: usize = 64;

type Shard = BTreeMap<NodeKey, Arc<SourceNode>>;

/// All source nodes.
#[derive(Debug)]
pub struct SourceNodes {
    shards: Box<[Mutex<Shard>]>,
    /// Nodes now; a node has its place here before it is made.
    count: AtomicU64,
    limit: AtomicU32,
    searches: AtomicU64,
    inserts: AtomicU64,
    removals: AtomicU64,
}

/// Why a source gets no further state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceRefusal {
    /// A limit of the rule.
    Rule(LimitCounter),
    /// `set limit src-nodes`.
    Full,
}

impl SourceNodes {
    /// None, and room for `limit`.
    pub fn new(limit: u32) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            count: AtomicU64::new(0),
            limit: AtomicU32::new(limit),
            searches: AtomicU64::new(0),
            inserts: AtomicU64::new(0),
            removals: AtomicU64::new(0),
        }
    }

    fn shard(&self, number: usize) -> MutexGuard<'_, Shard> {
        self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part that holds the nodes of an address.
    fn shard_of(&self, addr: Addr) -> MutexGuard<'_, Shard> {
        let half = |shift: u32| u64::try_from(addr.0 >> shift & u128::from(u64::MAX)).unwrap_or(0);
        let mixed = (half(0) ^ half(64).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.shard(usize::try_from(mixed >> 58).unwrap_or(0))
    }

    /// Takes a place for one more node.
    fn reserve(&self) -> Result<(), SourceRefusal> {
        let limit = u64::from(self.limit.load(Ordering::Relaxed));
        let room = |count| (count < limit).then_some(count + 1);
        let reserved = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        reserved.map(drop).map_err(|_| SourceRefusal::Full)
    }

    /// Makes a node, for which there is a place, with the state that needs it.
    fn insert(&self, shard: &mut Shard, node: SourceNode) -> SourceHold {
        let node = Arc::new(node);
        let hold = node.hold();
        self.inserts.fetch_add(1, Ordering::Relaxed);
        shard.insert(node.key.clone(), node);
        hold
    }

    /// Changes the limit.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Nodes now.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Searches, inserts and removals so far.
    pub fn operations(&self) -> [u64; 3] {
        [&self.searches, &self.inserts, &self.removals].map(|count| count.load(Ordering::Relaxed))
    }

    /// Makes room for another state of a source in its node; `None` when the rule does not track
    /// sources.
    ///
    /// # Errors
    /// The limit that forbids it.
    pub fn admit(
        &self,
        rule: &Arc<LoadedRule>,
        (af, addr): (Af, Addr),
        now: Uptime,
    ) -> Result<Option<SourceHold>, SourceRefusal> {
        let options = &rule.rule.state_options;
        let Some(track) = options.source_track else { return Ok(None) };
        let scope = match track {
            SourceTrack::Rule => Scope::of_rule(rule),
            SourceTrack::Global => Scope::Global,
        };
        let key = NodeKey { scope, kind: NodeKind::Track, inet6: af == Af::Inet6, addr };
        let mut shard = self.shard_of(addr);
        self.searches.fetch_add(1, Ordering::Relaxed);
        if let Some(node) = shard.get(&key) {
            // All states of a node are made under the lock of its part, so the limit is exact.
            if options.max_src_states.is_some_and(|most| node.counts().states >= most) {
                return Err(SourceRefusal::Rule(LimitCounter::MaxSrcStates));
            }
            return Ok(Some(node.hold()));
        }
        let most = options.max_src_nodes.unwrap_or(u32::MAX);
        let room = |count| (count < most).then_some(count + 1);
        let of_rule = &rule.source_nodes;
        if of_rule.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return Err(SourceRefusal::Rule(LimitCounter::MaxSrcNodes));
        }
        if let Err(full) = self.reserve() {
            of_rule.fetch_sub(1, Ordering::Relaxed);
            return Err(full);
        }
        let node = SourceNode::new(key, rule, None, now);
        Ok(Some(self.insert(&mut shard, node)))
    }

    /// The address that a pool of the rule keeps for a source, as long as `is_there` says that the
    /// pool still has it; a node without use is removed. Source: OpenBSD sys/net/pf_lb.c
    /// `pf_map_addr_sticky`.
    pub fn mapped(
        &self,
        rule: &LoadedRule,
        kind: NodeKind,
        (af, addr): (Af, Addr),
        is_there: impl Fn(IpAddr) -> bool,
    ) -> Option<(IpAddr, SourceHold)> {
        let key = NodeKey { scope: Scope::of_rule(rule), kind, inet6: af == Af::Inet6, addr };
        let mut shard = self.shard_of(addr);
        self.searches.fetch_add(1, Ordering::Relaxed);
        let node = shard.get(&key)?;
        if let Some(mapped) = node.mapped.filter(|&mapped| is_there(mapped)) {
            return Some((mapped, node.hold()));
        }
        self.remove(&mut shard, &key);
        None
    }

    /// Keeps an address of a pool for a source.
    ///
    /// # Errors
    /// [`SourceRefusal::Full`].
    pub fn map(
        &self,
        rule: &Arc<LoadedRule>,
        kind: NodeKind,
        (af, addr): (Af, Addr),
        mapped: IpAddr,
        now: Uptime,
    ) -> Result<SourceHold, SourceRefusal> {
        let key = NodeKey { scope: Scope::of_rule(rule), kind, inet6: af == Af::Inet6, addr };
        let mut shard = self.shard_of(addr);
        self.reserve()?;
        self.remove(&mut shard, &key);
        rule.source_nodes.fetch_add(1, Ordering::Relaxed);
        let node = SourceNode::new(key, rule, Some(mapped), now);
        Ok(self.insert(&mut shard, node))
    }

    fn remove(&self, shard: &mut Shard, key: &NodeKey) {
        if let Some(node) = shard.remove(key) {
            self.count.fetch_sub(1, Ordering::Relaxed);
            node.rule.source_nodes.fetch_sub(1, Ordering::Relaxed);
            self.removals.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Looks at up to `share` nodes from `cursor` on and removes those that are over.
    pub fn purge(&self, cursor: &mut Cursor, share: usize, now: Uptime, timeouts: &Timeouts) {
        let mut left = share;
        for _ in 0..SHARDS {
            let mut shard = self.shard(cursor.shard);
            let from = cursor.key.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut over = Vec::new();
            let mut last = None;
            for (key, node) in shard.range((from, Bound::Unbounded)).take(left) {
                left -= 1;
                last = Some(key.clone());
                let mut counts = node.counts();
                if counts.states > 0 {
                    continue;
                }
                let idle_since = *counts.idle_since.get_or_insert(now);
                if now.secs_since(idle_since) >= u64::from(life(&node.rule, timeouts)) {
                    over.push(key.clone());
                }
            }
            for key in over {
                self.remove(&mut shard, &key);
            }
            if left == 0 {
                cursor.key = last;
                return;
            }
            *cursor = Cursor { shard: (cursor.shard + 1) % SHARDS, key: None };
        }
    }

    /// Removes the nodes for which `which` holds; gives how many. Their states go on untracked.
    pub fn end(&self, which: impl Fn(IpAddr, Option<IpAddr>) -> bool) -> u64 {
        let mut count = 0;
        for number in 0..SHARDS {
            let mut shard = self.shard(number);
            let ended: Vec<NodeKey> = shard
                .values()
                .filter(|node| which(node.key.addr.to_ip(node.af()), node.mapped))
                .map(|node| node.key.clone())
                .collect();
            for key in &ended {
                self.remove(&mut shard, key);
            }
            count += ended.len() as u64;
        }
        count
    }

    /// All nodes; `live` says what the living states of each have counted.
    pub fn report(
        &self,
        now: Uptime,
        timeouts: &Timeouts,
        rules: &LoadedRules,
        live: impl Fn(&Arc<SourceNode>) -> Live,
    ) -> Vec<SourceReport> {
        let mut nodes: Vec<Arc<SourceNode>> = Vec::new();
        for number in 0..SHARDS {
            nodes.extend(self.shard(number).values().cloned());
        }
        nodes.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        let report = |node: &Arc<SourceNode>| {
            let counts = *node.counts();
            let living = live(node);
            let options = &node.rule.rule.state_options;
            let idle = counts.idle_since.map_or(0, |since| now.secs_since(since));
            let left = u64::from(life(&node.rule, timeouts)).saturating_sub(idle);
            SourceReport {
                addr: node.key.addr.to_ip(node.af()),
                mapped: node.mapped.and_then(|mapped| {
                    let use_of = match node.key.kind {
                        NodeKind::Track => return None,
                        NodeKind::Nat => MappedUse::Nat,
                        NodeKind::Rdr => MappedUse::Rdr,
                        NodeKind::Route => MappedUse::Route,
                    };
                    Some((use_of, mapped))
                }),
                states: counts.states,
                connections: counts.connections,
                rate_thousandths: counts.rate.count(),
                rate_seconds: options.max_src_conn_rate.map_or(0, |rate| rate.seconds),
                age_s: now.secs_since(node.created),
                expires_s: (counts.states == 0).then_some(left),
                packets: counts.packets + living.packets.iter().sum::<u64>(),
                bytes: counts.bytes + living.bytes.iter().sum::<u64>(),
                rule: rules.is_current(&node.rule).then_some(node.rule.listed).flatten(),
            }
        };
        nodes.iter().map(report).collect()
    }
}

/// Where a sweep over all nodes is.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    shard: usize,
    /// The node that was looked at last; `None` before the first.
    key: Option<NodeKey>,
}

/// Seconds that a node stays after its last state.
fn life(rule: &LoadedRule, timeouts: &Timeouts) -> u32 {
    rule.timeout(Timeout::SrcTrack).unwrap_or_else(|| timeouts.get(Timeout::SrcTrack))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Loader;
    use crate::rules::Tags;
    use pfapi::ruleset::{Action, Rule};

    fn rule(max_src_nodes: Option<u32>) -> Arc<LoadedRule> {
        let mut rule = Rule::new(Action::Pass);
        rule.state_options.source_track = Some(SourceTrack::Rule);
        rule.state_options.max_src_nodes = max_src_nodes;
        let path = Arc::from("");
        let tags = Tags::default();
        Arc::new(LoadedRule::new(rule, &path, Some(0), 1, Loader::default(), &tags))
    }

    /// Four threads that ask for 400 sources each, all of them different; gives who got a node.
    fn admit(nodes: &SourceNodes, rule: &Arc<LoadedRule>) -> Vec<SourceHold> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4_u128)
                .map(|thread| {
                    scope.spawn(move || {
                        let addrs = (0..400).map(|number| Addr(thread << 16 | number));
                        addrs
                            .filter_map(|addr| {
                                nodes.admit(rule, (Af::Inet, addr), Uptime::ZERO).ok().flatten()
                            })
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("it ends")).collect()
        })
    }

    #[test]
    fn limits_are_exact_for_threads_at_the_same_time() {
        let (nodes, rule) = (SourceNodes::new(777), rule(None));
        let holds = admit(&nodes, &rule);
        assert_eq!((holds.len(), nodes.count()), (777, 777));
        let (nodes, rule) = (SourceNodes::new(10_000), self::rule(Some(123)));
        let holds = admit(&nodes, &rule);
        assert_eq!((holds.len(), nodes.count()), (123, 123));
        assert_eq!(rule.source_nodes.load(Ordering::Relaxed), 123);
    }

    #[test]
    fn a_sweep_visits_every_part_in_shares() {
        let (nodes, rule) = (SourceNodes::new(10_000), rule(None));
        let holds = admit(&nodes, &rule);
        drop(holds);
        let (mut cursor, mut timeouts) = (Cursor::default(), Timeouts::default());
        timeouts.set(Timeout::SrcTrack, 10);
        let mut sweep = |now| {
            for _ in 0..=1_600 / 100 {
                nodes.purge(&mut cursor, 100, Uptime::from_secs(now), &timeouts);
            }
            nodes.count()
        };
        // The first sweep notes that they are idle, a later one ends them.
        assert_eq!(sweep(1), 1_600);
        assert_eq!(sweep(12), 0);
        assert_eq!(rule.source_nodes.load(Ordering::Relaxed), 0);
    }
}
