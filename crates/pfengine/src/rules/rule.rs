//! A rule in force with its counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use pfapi::addr::Prefix;
use pfapi::control::{RuleReport, TableUse};
use pfapi::ruleset::{Action, AddrMatch, Endpoint, PoolKind, PoolPorts, Rule, RuleKind};
use pfapi::timeout::Timeout;
use pfapi::units::{Direction, IfIndex};

use super::actions::Actions;
use super::compile::{Names, dynamic_prefixes};
use super::tag::{Tag, Tags};
use super::threshold::SharedThreshold;
use crate::engine::Loader;
use crate::nat::{Named, Pool, Via};
use crate::table::Table;

/// A rule in force, or one that states of an earlier load still refer to.
#[derive(Debug)]
pub struct LoadedRule {
    /// The rule as checked, without the rules of an inline anchor.
    pub rule: Rule,
    /// Ruleset that it is in: a path from the main ruleset, which is empty.
    pub path: Arc<str>,
    /// Position in its ruleset; `None` for the built-in default rule.
    pub number: Option<u32>,
    /// The number that states and the packet log tell: of FreeBSD's rules the one among those of
    /// its kind.
    pub listed: Option<u32>,
    /// Load that brought it; no two loads have the same.
    pub epoch: u64,
    /// Who loaded it.
    pub loader: Loader,
    /// What it does to packets that pass.
    pub actions: Actions,
    /// `tag`.
    pub tag: Option<Tag>,
    /// Where it takes new addresses and next hops from.
    pub pools: Pools,
    /// Tables of its source and destination, which count its packets.
    tables: [ArcSwapOption<Table>; 2],
    /// Packets that `max-pkt-rate` has counted.
    pub rate: SharedThreshold,
    /// Source nodes that it has made and that exist.
    pub source_nodes: AtomicU32,
    /// For `once`: set by the match that used the rule up.
    expired: AtomicBool,
    /// Times the rule had been looked at when it was used up.
    evaluations: AtomicU64,
    /// Its counters.
    pub counters: RuleCounters,
}

/// Pools of a rule.
#[derive(Debug)]
pub struct Pools {
    /// `nat-to`, and the source of `af-to`.
    pub nat: Option<Pool>,
    /// `rdr-to`, and the destination of `af-to`.
    pub rdr: Option<Pool>,
    /// `route-to`, `reply-to`, `dup-to`.
    pub route: Option<Pool>,
}

impl Pools {
    fn new(rule: &Rule) -> Self {
        if rule.kind == RuleKind::Binat {
            return Self::one_to_one(rule);
        }
        // pfctl makes two such rules of `binat-to` with networks, and gives them no pool type.
        let one_to_one = |pool: &pfapi::ruleset::Pool, end: &Endpoint| {
            let pool = match (&pool.addr, &end.addr, pool.kind) {
                (AddrMatch::Net(pool), AddrMatch::Net(end), PoolKind::Single) => (pool, end),
                _ => return false,
            };
            pool.0.len() == pool.1.len() && !end.negated
        };
        let pool = |from: &pfapi::ruleset::Pool, one_to_one: bool| {
            let kind = if one_to_one { PoolKind::Bitmask } else { from.kind };
            Pool::new(&pfapi::ruleset::Pool { kind, ..from.clone() })
        };
        Self {
            nat: rule.nat.as_deref().map(|nat| {
                let fixed = nat.ports == Some(PoolPorts::Static);
                pool(nat, fixed && one_to_one(nat, &rule.from))
            }),
            rdr: rule.rdr.as_deref().map(|rdr| pool(rdr, one_to_one(rdr, &rule.to))),
            route: rule.route.as_ref().map(|route| Pool::new(&route.pool)),
        }
    }
}

impl Pools {
    /// Those of FreeBSD's `binat`: the outer address on the way out, the inner one on the way in.
    fn one_to_one(rule: &Rule) -> Self {
        let pool = |addr: &AddrMatch| {
            Pool::new(&pfapi::ruleset::Pool {
                kind: PoolKind::Bitmask,
                ports: Some(PoolPorts::Static),
                ..pfapi::ruleset::Pool::new(addr.clone())
            })
        };
        Self {
            nat: rule.nat.as_ref().map(|nat| pool(&nat.addr)),
            rdr: Some(pool(&rule.from.addr)),
            route: None,
        }
    }
}

/// Counters of one rule.
///
/// Packets of states are counted in the states and come here when those end, so that the packet
/// path does not write to a line that all threads share; see [`Live`].
#[derive(Debug, Default)]
pub struct RuleCounters {
    /// Packets it decided without a state, and those of states that have ended: in, out.
    packets: [AtomicU64; 2],
    /// Octets of these packets.
    bytes: [AtomicU64; 2],
    /// States it holds now.
    states: AtomicU64,
    /// States it ever made.
    states_total: AtomicU64,
    /// Evaluations of the same rule before it was loaded again, with `set keepcounters`.
    kept_evaluations: AtomicU64,
}

/// What a rule keeps over a load with `set keepcounters`.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Times it was looked at.
    pub evaluations: u64,
    /// Packets: in, out.
    pub packets: [u64; 2],
    /// Octets likewise.
    pub bytes: [u64; 2],
}

/// What the living states of a rule have counted: in, out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Live {
    /// Packets.
    pub packets: [u64; 2],
    /// Octets.
    pub bytes: [u64; 2],
}

impl Live {
    /// Adds what another state has counted.
    pub fn add(&mut self, other: &Self) {
        for side in 0..2 {
            self.packets[side] += other.packets[side];
            self.bytes[side] += other.bytes[side];
        }
    }
}

impl RuleCounters {
    /// Counts a packet of `octets` that has no state.
    pub fn count(&self, direction: Direction, octets: usize) {
        let side = usize::from(direction == Direction::Out);
        self.packets[side].fetch_add(1, Ordering::Relaxed);
        self.bytes[side].fetch_add(octets as u64, Ordering::Relaxed);
    }

    /// Goes on with the counters of the same rule before a load.
    pub fn keep(&self, kept: &Kept) {
        self.kept_evaluations.store(kept.evaluations, Ordering::Relaxed);
        for side in 0..2 {
            self.packets[side].store(kept.packets[side], Ordering::Relaxed);
            self.bytes[side].store(kept.bytes[side], Ordering::Relaxed);
        }
    }

    /// Counts a state ahead, so that no other thread takes its place; false when there are `most`
    /// already.
    pub fn reserve(&self, most: u32) -> bool {
        let room = |states| (states < u64::from(most)).then_some(states + 1);
        self.states.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }

    /// Gives such a place back: there was no state.
    pub fn give_back(&self) {
        self.states.fetch_sub(1, Ordering::Relaxed);
    }

    /// States that the rule holds now, with those that are counted ahead.
    pub fn states(&self) -> u64 {
        self.states.load(Ordering::Relaxed)
    }

    /// Counts a new state, which may have been counted ahead.
    pub fn count_state(&self, is_reserved: bool) {
        if !is_reserved {
            self.states.fetch_add(1, Ordering::Relaxed);
        }
        self.states_total.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes over what a state has counted that ends now.
    pub fn retire(&self, counted: &Live) {
        self.states.fetch_sub(1, Ordering::Relaxed);
        for side in 0..2 {
            self.packets[side].fetch_add(counted.packets[side], Ordering::Relaxed);
            self.bytes[side].fetch_add(counted.bytes[side], Ordering::Relaxed);
        }
    }

    /// Zeroes what `pfctl -z` zeroes: all but the states that exist.
    pub fn clear(&self) {
        let rest = [&self.states_total, &self.kept_evaluations];
        let counters = self.packets.iter().chain(&self.bytes).chain(rest);
        counters.for_each(|counter| counter.store(0, Ordering::Relaxed));
    }
}

impl LoadedRule {
    /// A rule at its place.
    pub fn new(
        rule: Rule,
        path: &Arc<str>,
        number: Option<u32>,
        epoch: u64,
        loader: Loader,
        tags: &Tags,
    ) -> Self {
        Self {
            actions: Actions::of(&rule, tags),
            tag: rule.tag.as_deref().and_then(|name| tags.get(name)),
            pools: Pools::new(&rule),
            tables: Default::default(),
            rule,
            path: Arc::clone(path),
            number,
            listed: number,
            epoch,
            loader,
            rate: SharedThreshold::default(),
            source_nodes: AtomicU32::new(0),
            expired: AtomicBool::new(false),
            evaluations: AtomicU64::new(0),
            counters: RuleCounters::default(),
        }
    }

    /// Whether the rule bounds the number of its states with `max`.
    pub fn has_max(&self) -> bool {
        self.rule.state_options.max.is_some()
    }

    /// A timeout that the rule sets for its states, in seconds or states.
    pub fn timeout(&self, timeout: Timeout) -> Option<u32> {
        let own = &self.rule.state_options.timeouts;
        own.iter().find(|(which, _)| *which == timeout).map(|&(_, value)| value)
    }

    /// Says what the names in its pools and conditions mean from now on.
    pub(super) fn bind(&self, names: &Names<'_>) {
        for (place, end) in self.tables.iter().zip([&self.rule.from, &self.rule.to]) {
            if let AddrMatch::Table(name) = &end.addr {
                place.store(names.table(name).cloned());
            }
        }
        let bind = |pool: Option<&Pool>, from: Option<&pfapi::ruleset::Pool>| {
            let (Some(pool), Some(from)) = (pool, from) else { return };
            match &from.addr {
                _ if !from.more.is_empty() => {
                    let prefixes: Vec<Prefix> =
                        from.addresses().flat_map(|addr| prefixes(addr, names)).collect();
                    pool.bind(Named::of_prefixes(&prefixes));
                }
                AddrMatch::Table(name) => {
                    if let Some(table) = names.table(name) {
                        pool.bind(Named::Table(Arc::clone(table)));
                    }
                }
                AddrMatch::Dynamic(_) => {
                    pool.bind(Named::of_prefixes(&prefixes(&from.addr, names)));
                }
                _ => {}
            }
            pool.bind_interfaces(interfaces(from, names));
        };
        let Pools { nat, rdr, route } = &self.pools;
        bind(nat.as_ref(), self.rule.nat.as_deref());
        if self.rule.kind == RuleKind::Binat {
            let inner = pfapi::ruleset::Pool::new(self.rule.from.addr.clone());
            bind(rdr.as_ref(), Some(&inner));
        }
        bind(rdr.as_ref(), self.rule.rdr.as_deref());
        bind(route.as_ref(), self.rule.route.as_ref().map(|route| &route.pool));
    }

    /// Whether a table is among its conditions, so that its packets are counted there too.
    pub fn names_tables(&self) -> bool {
        let is_table = |end: &Endpoint| matches!(end.addr, AddrMatch::Table(_));
        is_table(&self.rule.from) || is_table(&self.rule.to)
    }

    /// Calls `count` with each table among its conditions, with its end (0 is the source), whether
    /// it is negated, and what counting means for packets that the rule decides.
    pub fn count_in_tables(&self, count: impl Fn(&Table, usize, bool, TableUse)) {
        let used = match self.rule.action {
            Action::Block(_) => TableUse::Block,
            Action::Match => TableUse::Match,
            Action::Pass => TableUse::Pass,
        };
        let ends = [&self.rule.from, &self.rule.to];
        for (at, (place, end)) in self.tables.iter().zip(ends).enumerate() {
            if let Some(table) = &*place.load() {
                count(table, at, end.negated, used);
            }
        }
    }

    /// Whether `once` has used the rule up.
    pub fn is_expired(&self) -> bool {
        self.rule.once && self.expired.load(Ordering::Relaxed)
    }

    /// Uses a `once` rule up; false when another packet was faster. `evaluations` says how often
    /// the rule has been looked at.
    pub fn expire(&self, evaluations: impl FnOnce() -> u64) -> bool {
        if self.expired.swap(true, Ordering::Relaxed) {
            return false;
        }
        self.evaluations.store(evaluations(), Ordering::Relaxed);
        true
    }

    /// Whether the rule translates addresses.
    pub fn translates(&self) -> bool {
        self.rule.nat.is_some() || self.rule.rdr.is_some() || self.rule.af_to.is_some()
    }

    /// The rule as pfctl prints it.
    pub fn report(&self, evaluations: u64, live: &Live) -> RuleReport {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut counted = *live;
        counted.add(&Live {
            packets: self.counters.packets.each_ref().map(read),
            bytes: self.counters.bytes.each_ref().map(read),
        });
        RuleReport {
            number: self.number.unwrap_or(u32::MAX),
            rule: self.rule.clone(),
            evaluations: read(&self.counters.kept_evaluations)
                + if self.is_expired() { read(&self.evaluations) } else { evaluations },
            expired: self.is_expired(),
            packets: counted.packets,
            bytes: counted.bytes,
            states: read(&self.counters.states),
            states_total: read(&self.counters.states_total),
            uid: self.loader.uid,
            pid: self.loader.pid,
        }
    }
}

/// Networks that an address of a pool means now; tables stand for none here.
fn prefixes(addr: &AddrMatch, names: &Names<'_>) -> Vec<Prefix> {
    match addr {
        AddrMatch::Net(prefix) => vec![*prefix],
        AddrMatch::Dynamic(dynamic) => dynamic_prefixes(dynamic, names.facts),
        _ => Vec::new(),
    }
}

/// The interfaces in front of next hops.
fn interfaces(pool: &pfapi::ruleset::Pool, names: &Names<'_>) -> Vec<Via> {
    let first = (&pool.addr, pool.via.as_ref());
    let more = pool.more.iter().map(|member| (&member.addr, member.via.as_ref()));
    let mut found = Vec::new();
    for (addr, via) in core::iter::once(first).chain(more) {
        let Some(name) = via else { continue };
        let place = names.facts.interfaces.iter().position(|interface| interface.name == *name);
        let interface = place.and_then(|at| u16::try_from(at).ok()).map(IfIndex);
        if matches!(addr, AddrMatch::Any) {
            found.push(Via { hops: None, interface });
        } else {
            let hops = prefixes(addr, names).into_iter();
            found.extend(hops.map(|net| Via { hops: Some(net), interface }));
        }
    }
    found
}
