//! A ruleset made ready for evaluation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pfapi::addr::{Af, Prefix};
use pfapi::check::CheckedRuleset;
use pfapi::control::RuleReport;
use pfapi::facts::{Facts, InterfaceFacts};
use pfapi::port::PortMatch;
use pfapi::ruleset::{
    Action, AddrMatch, DynamicAddr, DynamicPart, Endpoint, IcmpMatch, InterfaceMatch, Rule,
    TcpFlagsMatch,
};
use pfapi::units::Direction;

use crate::addr::{Addr, Masked};
use crate::engine::Loader;
use crate::table::Table;

/// Tables by name.
pub type Tables = BTreeMap<String, Arc<Table>>;

/// A rule in force, or one that states of an earlier load still refer to.
#[derive(Debug)]
pub struct LoadedRule {
    /// The rule as checked.
    pub rule: Rule,
    /// Position in its ruleset; `None` for the built-in default rule.
    pub number: Option<u32>,
    /// Load that brought it.
    pub epoch: u64,
    /// Who loaded it.
    pub loader: Loader,
    /// Its counters.
    pub counters: RuleCounters,
    pub(super) test: CompiledRule,
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

    /// Counts a new state.
    pub fn count_state(&self) {
        self.states.fetch_add(1, Ordering::Relaxed);
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
        let counters = self.packets.iter().chain(&self.bytes).chain([&self.states_total]);
        counters.for_each(|counter| counter.store(0, Ordering::Relaxed));
    }
}

/// The conditions of a rule with every name resolved.
#[derive(Debug)]
pub(super) struct CompiledRule {
    /// One bit per interface; `None` is every interface.
    pub interfaces: Option<InterfaceSet>,
    pub direction: Option<Direction>,
    pub af: Option<Af>,
    pub proto: Option<u8>,
    pub from: CompiledEndpoint,
    pub to: CompiledEndpoint,
    pub flags: Option<TcpFlagsMatch>,
    pub icmp: Option<IcmpMatch>,
}

/// A set of interfaces by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceSet(Vec<u64>);

impl InterfaceSet {
    /// The interfaces for which `holds` says so.
    pub fn of(facts: &Facts, holds: impl Fn(&InterfaceFacts) -> bool) -> Self {
        let mut words = vec![0; facts.interfaces.len().div_ceil(64)];
        for (index, interface) in facts.interfaces.iter().enumerate() {
            if holds(interface) {
                words[index / 64] |= 1 << (index % 64);
            }
        }
        Self(words)
    }

    /// Whether the interface with this index is in the set.
    pub fn contains(&self, index: u16) -> bool {
        let index = usize::from(index);
        self.0.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }
}

#[derive(Debug)]
pub(super) struct CompiledEndpoint {
    pub negated: bool,
    pub addr: CompiledAddr,
    pub port: Option<PortMatch>,
}

#[derive(Debug)]
pub(super) enum CompiledAddr {
    Any,
    Net(Masked),
    /// Addresses of an interface.
    Nets(Vec<Masked>),
    Range(Af, Addr, Addr),
    Table(Arc<Table>),
}

/// All rules in force.
#[derive(Debug)]
pub struct LoadedRules {
    /// In evaluation order.
    pub rules: Vec<Arc<LoadedRule>>,
    /// What decides when no rule matches: pass without state.
    pub default_rule: Arc<LoadedRule>,
    /// Tables that exist or that rules name.
    pub tables: Tables,
    /// Interfaces with `set skip on`.
    pub skip: InterfaceSet,
    /// Number of this load.
    pub epoch: u64,
    /// 32 hex digits that change when the rules change.
    pub checksum: String,
    /// How often an evaluation ended at each rule: the rules before it were looked at too.
    pub ends: Arc<[AtomicU64]>,
}

impl LoadedRules {
    /// An empty ruleset: the default rule alone.
    pub fn empty(facts: &Facts, epoch: u64) -> Self {
        let loader = Loader::default();
        let none = InterfaceSet::of(facts, |_| false);
        let mut default = Rule::new(Action::Pass);
        default.state = pfapi::ruleset::StatePolicy::None;
        Self {
            rules: Vec::new(),
            default_rule: Arc::new(compile(&default, None, epoch, loader, facts, &Tables::new())),
            tables: Tables::new(),
            skip: none,
            epoch,
            checksum: checksum(&[]),
            ends: Arc::default(),
        }
    }

    /// Compiles a checked ruleset. `tables` are those that will exist with it; tables that rules
    /// name without a definition are added, inactive.
    pub fn new(
        ruleset: &CheckedRuleset,
        mut tables: Tables,
        facts: &Facts,
        epoch: u64,
        loader: Loader,
    ) -> Self {
        for name in ruleset.rules().flat_map(Rule::tables) {
            if !tables.contains_key(name) {
                tables.insert(name.to_owned(), Arc::new(Table::undefined(name)));
            }
        }
        let rules: Vec<_> = (0u32..)
            .zip(ruleset.rules())
            .map(|(number, rule)| {
                Arc::new(compile(rule, Some(number), epoch, loader, facts, &tables))
            })
            .collect();
        let skip = InterfaceSet::of(facts, |interface| {
            ruleset.options().skip.iter().any(|name| is_named(interface, name))
        });
        let checksum = checksum(&rules);
        let ends = rules.iter().map(|_| AtomicU64::new(0)).collect();
        Self { rules, tables, skip, checksum, ends, ..Self::empty(facts, epoch) }
    }

    /// The same rules with other tables, for `-T add` of a table that no rule names.
    pub fn with_tables(&self, tables: Tables) -> Self {
        Self {
            rules: self.rules.clone(),
            default_rule: Arc::clone(&self.default_rule),
            tables,
            skip: self.skip.clone(),
            epoch: self.epoch,
            checksum: self.checksum.clone(),
            ends: Arc::clone(&self.ends),
        }
    }

    /// Rules `first..` with their counters, at most `most`; `live` says what the living states of
    /// each rule have counted.
    pub fn report(
        &self,
        first: usize,
        most: usize,
        live: impl Fn(usize) -> Live,
    ) -> Vec<RuleReport> {
        let end = first.saturating_add(most).min(self.rules.len());
        let read = |end: &AtomicU64| end.load(Ordering::Relaxed);
        let mut evaluations: u64 = self.ends.iter().skip(end).map(read).sum();
        let mut reports = Vec::new();
        for at in (first.min(end)..end).rev() {
            evaluations += read(&self.ends[at]);
            reports.push(self.rules[at].report(evaluations, &live(at)));
        }
        reports.reverse();
        reports
    }

    /// Zeroes what `pfctl -z` zeroes.
    pub fn clear_counters(&self) {
        self.ends.iter().for_each(|end| end.store(0, Ordering::Relaxed));
        self.rules.iter().for_each(|rule| rule.counters.clear());
    }

    /// Rules that name the table.
    pub fn references(&self, table: &str) -> u64 {
        self.rules.iter().flat_map(|rule| rule.rule.tables()).filter(|&name| name == table).count()
            as u64
    }
}

impl LoadedRule {
    fn report(&self, evaluations: u64, live: &Live) -> RuleReport {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut counted = *live;
        counted.add(&Live {
            packets: self.counters.packets.each_ref().map(read),
            bytes: self.counters.bytes.each_ref().map(read),
        });
        RuleReport {
            number: self.number.unwrap_or(u32::MAX),
            rule: self.rule.clone(),
            evaluations,
            packets: counted.packets,
            bytes: counted.bytes,
            states: read(&self.counters.states),
            states_total: read(&self.counters.states_total),
            uid: self.loader.uid,
            pid: self.loader.pid,
        }
    }
}

/// Stands for pf's MD5 over the fields of the rules: equal rules, equal digits.
fn checksum(rules: &[Arc<LoadedRule>]) -> String {
    use core::hash::Hasher;
    use siphasher::sip128::{Hasher128, SipHasher24};
    let mut hasher = SipHasher24::new_with_keys(0, 0);
    for rule in rules {
        hasher.write(format!("{:?}\n", rule.rule).as_bytes());
    }
    format!("{:032x}", hasher.finish128().as_u128())
}

fn is_named(interface: &InterfaceFacts, name: &str) -> bool {
    match name {
        "any" => !interface.is_loopback(),
        "all" => true,
        _ => interface.name == name || interface.groups.iter().any(|group| group == name),
    }
}

fn compile(
    rule: &Rule,
    number: Option<u32>,
    epoch: u64,
    loader: Loader,
    facts: &Facts,
    tables: &Tables,
) -> LoadedRule {
    let interfaces = rule.interface.as_ref().map(|InterfaceMatch { negated, name }| {
        InterfaceSet::of(facts, |interface| is_named(interface, name) != *negated)
    });
    let test = CompiledRule {
        interfaces,
        direction: rule.direction,
        af: rule.af,
        proto: rule.proto,
        from: compile_endpoint(&rule.from, facts, tables),
        to: compile_endpoint(&rule.to, facts, tables),
        flags: rule.flags,
        icmp: rule.icmp,
    };
    LoadedRule {
        rule: rule.clone(),
        number,
        epoch,
        loader,
        counters: RuleCounters::default(),
        test,
    }
}

fn compile_endpoint(end: &Endpoint, facts: &Facts, tables: &Tables) -> CompiledEndpoint {
    let addr = match &end.addr {
        AddrMatch::Any => CompiledAddr::Any,
        AddrMatch::Net(prefix) => CompiledAddr::Net(Masked::from(*prefix)),
        AddrMatch::Range(low, high) => {
            CompiledAddr::Range(Af::of(*low), Addr::from(*low), Addr::from(*high))
        }
        AddrMatch::Table(name) => tables
            .get(name)
            .map_or_else(|| CompiledAddr::Nets(Vec::new()), |t| CompiledAddr::Table(Arc::clone(t))),
        AddrMatch::Dynamic(dynamic) => CompiledAddr::Nets(dynamic_nets(dynamic, facts)),
        // Refused before a ruleset gets here (`pfapi::check::unsupported`).
        AddrMatch::NoRoute | AddrMatch::UrpfFailed | AddrMatch::RouteLabel(_) => {
            CompiledAddr::Nets(Vec::new())
        }
    };
    CompiledEndpoint { negated: end.negated, addr, port: end.port }
}

/// Addresses that `(interface:part)` means on this machine.
fn dynamic_nets(dynamic: &DynamicAddr, facts: &Facts) -> Vec<Masked> {
    let mut nets = Vec::new();
    for interface in facts.members(&dynamic.interface) {
        let mut families = Vec::new();
        for address in &interface.addresses {
            let af = Af::of(address.addr);
            if dynamic.no_aliases && families.contains(&af) {
                continue;
            }
            families.push(af);
            let network = address.network();
            match dynamic.part {
                DynamicPart::Address => nets.push(Masked::from(Prefix::host(address.addr))),
                DynamicPart::Network => nets.push(Masked::from(network)),
                DynamicPart::Broadcast => {
                    if let core::net::IpAddr::V4(v4) = network.addr()
                        && network.len() < 31
                    {
                        let host = u32::MAX.checked_shr(u32::from(network.len())).unwrap_or(0);
                        let last = core::net::Ipv4Addr::from_bits(v4.to_bits() | host);
                        nets.push(Masked::from(Prefix::host(last.into())));
                    }
                }
                // TUN interfaces of this router have networks, never a single peer.
                DynamicPart::Peer => {}
            }
        }
    }
    nets
}
