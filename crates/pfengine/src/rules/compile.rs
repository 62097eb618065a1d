//! The conditions of a rule with every name resolved.

use std::collections::BTreeMap;
use std::sync::Arc;

use pfapi::addr::{Af, Prefix};
use pfapi::facts::{Facts, InterfaceFacts};
use pfapi::port::PortMatch;
use pfapi::ruleset::{
    AddrMatch, DynamicAddr, DynamicPart, Endpoint, IcmpMatch, InterfaceMatch, Rule, StatePolicy,
    TcpFlagsMatch,
};
use pfapi::units::Direction;

use super::tag::{Tag, Tags};
use crate::addr::{Addr, Masked};
use crate::table::Table;

/// Tables by name.
pub type Tables = BTreeMap<String, Arc<Table>>;

/// What names in conditions mean now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    pub facts: &'a Facts,
    pub tables: &'a Tables,
    pub tags: &'a Tags,
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
    /// A matching packet begins a state, so answers to ICMP queries do not match.
    pub stateful: bool,
    pub tagged: Option<CompiledTag>,
}

/// `[!] tagged`: `None` when nothing sets the tag, so that no packet carries it.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompiledTag {
    pub negated: bool,
    pub tag: Option<Tag>,
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

/// Whether `name` in a rule means this interface.
pub(super) fn is_named(interface: &InterfaceFacts, name: &str) -> bool {
    match name {
        "any" => !interface.is_loopback(),
        "all" => true,
        _ => interface.name == name || interface.groups.iter().any(|group| group == name),
    }
}

impl CompiledRule {
    pub(super) fn new(rule: &Rule, names: &Names<'_>) -> Self {
        let interfaces = rule.interface.as_ref().map(|InterfaceMatch { negated, name }| {
            InterfaceSet::of(names.facts, |interface| is_named(interface, name) != *negated)
        });
        Self {
            interfaces,
            direction: rule.direction,
            af: rule.af,
            proto: rule.proto,
            from: endpoint(&rule.from, names),
            to: endpoint(&rule.to, names),
            flags: rule.flags,
            icmp: rule.icmp,
            stateful: rule.anchor.is_none() && rule.state != StatePolicy::None,
            tagged: rule.tagged.as_ref().map(|tagged| CompiledTag {
                negated: tagged.negated,
                tag: names.tags.get(&tagged.name),
            }),
        }
    }
}

fn endpoint(end: &Endpoint, names: &Names<'_>) -> CompiledEndpoint {
    let addr = match &end.addr {
        AddrMatch::Any => CompiledAddr::Any,
        AddrMatch::Net(prefix) => CompiledAddr::Net(Masked::from(*prefix)),
        AddrMatch::Range(low, high) => {
            CompiledAddr::Range(Af::of(*low), Addr::from(*low), Addr::from(*high))
        }
        AddrMatch::Table(name) => names
            .tables
            .get(name)
            .map_or_else(|| CompiledAddr::Nets(Vec::new()), |t| CompiledAddr::Table(Arc::clone(t))),
        AddrMatch::Dynamic(dynamic) => {
            let nets = dynamic_prefixes(dynamic, names.facts);
            CompiledAddr::Nets(nets.into_iter().map(Masked::from).collect())
        }
        // Refused before a ruleset gets here (`pfapi::check::unsupported`).
        AddrMatch::NoRoute | AddrMatch::UrpfFailed | AddrMatch::RouteLabel(_) => {
            CompiledAddr::Nets(Vec::new())
        }
    };
    CompiledEndpoint { negated: end.negated, addr, port: end.port }
}

/// Addresses and networks that `(interface:part)` means on this machine.
pub(super) fn dynamic_prefixes(dynamic: &DynamicAddr, facts: &Facts) -> Vec<Prefix> {
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
                DynamicPart::Address => nets.push(Prefix::host(address.addr)),
                DynamicPart::Network => nets.push(network),
                DynamicPart::Broadcast => {
                    if let core::net::IpAddr::V4(v4) = network.addr()
                        && network.len() < 31
                    {
                        let host = u32::MAX.checked_shr(u32::from(network.len())).unwrap_or(0);
                        let last = core::net::Ipv4Addr::from_bits(v4.to_bits() | host);
                        nets.push(Prefix::host(last.into()));
                    }
                }
                DynamicPart::Peer => nets.extend(address.peer.map(Prefix::host)),
            }
        }
    }
    nets
}
