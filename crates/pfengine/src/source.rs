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

/// All source nodes.
#[derive(Debug)]
pub struct SourceNodes {
    nodes: Mutex<BTreeMap<NodeKey, Arc<SourceNode>>>,
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
            nodes: Mutex::default(),
            limit: AtomicU32::new(limit),
            searches: AtomicU64::new(0),
            inserts: AtomicU64::new(0),
            removals: AtomicU64::new(0),
        }
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeKey, Arc<SourceNode>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the limit.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Nodes now.
    pub fn count(&self) -> u64 {
        self.inserts.load(Ordering::Relaxed) - self.removals.load(Ordering::Relaxed)
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
        let mut nodes = self.nodes();
        self.searches.fetch_add(1, Ordering::Relaxed);
        if let Some(node) = nodes.get(&key) {
            if options.max_src_states.is_some_and(|most| node.counts().states >= most) {
                return Err(SourceRefusal::Rule(LimitCounter::MaxSrcStates));
            }
            return Ok(Some(node.hold()));
        }
        let of_rule = rule.source_nodes.load(Ordering::Relaxed);
        if options.max_src_nodes.is_some_and(|most| of_rule >= most) {
            return Err(SourceRefusal::Rule(LimitCounter::MaxSrcNodes));
        }
        if nodes.len() >= self.limit.load(Ordering::Relaxed) as usize {
            return Err(SourceRefusal::Full);
        }
        let node = Arc::new(SourceNode {
            key: key.clone(),
            rule: Arc::clone(rule),
            created: now,
            mapped: None,
            counts: Mutex::default(),
        });
        let hold = node.hold();
        rule.source_nodes.fetch_add(1, Ordering::Relaxed);
        self.inserts.fetch_add(1, Ordering::Relaxed);
        nodes.insert(key, node);
        Ok(Some(hold))
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
        let mut nodes = self.nodes();
        self.searches.fetch_add(1, Ordering::Relaxed);
        let node = nodes.get(&key)?;
        if let Some(mapped) = node.mapped.filter(|&mapped| is_there(mapped)) {
            return Some((mapped, node.hold()));
        }
        self.remove(&mut nodes, &key);
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
        let mut nodes = self.nodes();
        if nodes.len() >= self.limit.load(Ordering::Relaxed) as usize {
            return Err(SourceRefusal::Full);
        }
        self.remove(&mut nodes, &key);
        let node = Arc::new(SourceNode {
            key: key.clone(),
            rule: Arc::clone(rule),
            created: now,
            mapped: Some(mapped),
            counts: Mutex::default(),
        });
        let hold = node.hold();
        rule.source_nodes.fetch_add(1, Ordering::Relaxed);
        self.inserts.fetch_add(1, Ordering::Relaxed);
        nodes.insert(key, node);
        Ok(hold)
    }

    fn remove(&self, nodes: &mut BTreeMap<NodeKey, Arc<SourceNode>>, key: &NodeKey) {
        if let Some(node) = nodes.remove(key) {
            node.rule.source_nodes.fetch_sub(1, Ordering::Relaxed);
            self.removals.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Looks at up to `share` nodes from `cursor` on and removes those that are over.
    pub fn purge(&self, cursor: &mut Cursor, share: usize, now: Uptime, timeouts: &Timeouts) {
        let mut nodes = self.nodes();
        let from = cursor.0.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut over = Vec::new();
        let mut last = None;
        let mut seen = 0;
        for (key, node) in nodes.range((from, Bound::Unbounded)).take(share) {
            seen += 1;
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
        cursor.0 = last.filter(|_| seen == share);
        for key in over {
            self.remove(&mut nodes, &key);
        }
    }

    /// Removes the nodes for which `which` holds; gives how many. Their states go on untracked.
    pub fn end(&self, which: impl Fn(IpAddr, Option<IpAddr>) -> bool) -> u64 {
        let mut nodes = self.nodes();
        let ended: Vec<NodeKey> = nodes
            .values()
            .filter(|node| which(node.key.addr.to_ip(node.af()), node.mapped))
            .map(|node| node.key.clone())
            .collect();
        for key in &ended {
            self.remove(&mut nodes, key);
        }
        ended.len() as u64
    }

    /// All nodes; `live` says what the living states of each have counted.
    pub fn report(
        &self,
        now: Uptime,
        timeouts: &Timeouts,
        rules: &LoadedRules,
        live: impl Fn(&Arc<SourceNode>) -> Live,
    ) -> Vec<SourceReport> {
        let nodes: Vec<Arc<SourceNode>> = self.nodes().values().cloned().collect();
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
                rule: rules.is_current(&node.rule).then_some(node.rule.number).flatten(),
            }
        };
        nodes.iter().map(report).collect()
    }
}

/// Where a sweep over all nodes is.
#[derive(Clone, Debug, Default)]
pub struct Cursor(Option<NodeKey>);

/// Seconds that a node stays after its last state.
fn life(rule: &LoadedRule, timeouts: &Timeouts) -> u32 {
    rule.timeout(Timeout::SrcTrack).unwrap_or_else(|| timeouts.get(Timeout::SrcTrack))
}
