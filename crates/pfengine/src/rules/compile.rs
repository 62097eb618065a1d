//! The conditions of a rule with every name resolved.

use core::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use pfapi::addr::{Af, Prefix};
use pfapi::facts::{Facts, InterfaceFacts};
use pfapi::port::PortMatch;
use pfapi::ruleset::{
    AddrMatch, DynamicAddr, DynamicPart, Endpoint, IcmpMatch, IdMatch, InterfaceMatch, Rate, Rule,
    StatePolicy, TcpFlagsMatch,
};
use pfapi::units::Direction;

use super::fingerprint::{CompiledOs, Fingerprints};
use super::tag::{Tag, Tags};
use crate::addr::{Addr, Masked};
use crate::table::{Table, Tables};

/// What names in conditions mean now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    pub facts: &'a Facts,
    /// Ruleset that the names stand in.
    pub path: &'a str,
    pub tables: &'a Tables,
    pub tags: &'a Tags,
    pub fingerprints: &'a Fingerprints,
}

impl Names<'_> {
    /// The table that a rule means by this name.
    pub fn table(&self, name: &str) -> Option<&Arc<Table>> {
        self.tables.resolve(self.path, name).map(|(_, table)| table)
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
    /// A matching packet begins a state, so answers to ICMP queries do not match.
    pub stateful: bool,
    /// Conditions that few rules have.
    pub rest: Option<Box<Rest>>,
}

/// Conditions that few rules have, or whose answer depends on when they are asked.
#[derive(Debug)]
pub(super) struct Rest {
    pub os: Option<CompiledOs>,
    pub user: Option<IdMatch>,
    pub group: Option<IdMatch>,
    pub fragment: bool,
    pub tos: Option<u8>,
    pub probability: Option<u32>,
    pub tagged: Option<CompiledTag>,
    pub received_on: Option<CompiledReceived>,
    pub prio: Option<u8>,
    pub max_pkt_rate: Option<Rate>,
}

/// `[!] received-on`
#[derive(Debug)]
pub(super) struct CompiledReceived {
    pub negated: bool,
    pub interfaces: InterfaceSet,
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

    /// A number above all indexes in the set.
    pub(super) fn bound(&self) -> u16 {
        u16::try_from(self.0.len() * 64).unwrap_or(u16::MAX)
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
    /// No route leads there.
    NoRoute,
    /// The way back does not use the packet's interface.
    UrpfFailed,
}

/// Whether `name` in a rule means this interface.
pub(crate) fn is_named(interface: &InterfaceFacts, name: &str) -> bool {
    match name {
        "any" => !interface.is_loopback(),
        "all" => true,
        _ => interface.name == name || interface.groups.iter().any(|group| group == name),
    }
}

impl CompiledRule {
    pub(super) fn new(rule: &Rule, names: &Names<'_>) -> Self {
        let interfaces = rule.interface.as_deref().map(|InterfaceMatch { negated, name }| {
            InterfaceSet::of(names.facts, |interface| is_named(interface, name) != *negated)
        });
        // There is one routing domain, number 0, and every packet is in it.
        let other_domain =
            rule.rare.rdomain.is_some_and(|domain| domain.negated == (domain.id == 0));
        let interfaces = if other_domain { Some(InterfaceSet::default()) } else { interfaces };
        Self {
            interfaces,
            direction: rule.direction,
            af: rule.af,
            proto: rule.proto,
            from: endpoint(&rule.from, names),
            to: endpoint(&rule.to, names),
            flags: rule.flags,
            icmp: rule.icmp,
            stateful: rule.anchor.is_none()
                && rule.state != StatePolicy::None
                && !rule.state_options.sloppy,
            rest: Rest::new(rule, names).map(Box::new),
        }
    }
}

impl Rest {
    /// The rare conditions of a rule; `None` when it has none.
    fn new(rule: &Rule, names: &Names<'_>) -> Option<Self> {
        let rest = Self {
            os: rule.rare.os.as_ref().map(|name| names.fingerprints.wanted(name)),
            user: rule.rare.user,
            group: rule.rare.group,
            fragment: rule.fragment,
            tos: rule.tos,
            probability: rule.rare.probability,
            tagged: rule.tagged.as_ref().map(|tagged| CompiledTag {
                negated: tagged.negated,
                tag: names.tags.get(&tagged.name),
            }),
            received_on: rule.rare.received_on.as_ref().map(|from| CompiledReceived {
                negated: from.negated,
                interfaces: InterfaceSet::of(names.facts, |own| is_named(own, &from.name)),
            }),
            prio: rule.prio,
            max_pkt_rate: rule.rare.max_pkt_rate,
        };
        let Self {
            os: None,
            user: None,
            group: None,
            fragment: false,
            tos: None,
            probability: None,
            tagged: None,
            received_on: None,
            prio: None,
            max_pkt_rate: None,
        } = rest
        else {
            return Some(rest);
        };
        None
    }
}

fn endpoint(end: &Endpoint, names: &Names<'_>) -> CompiledEndpoint {
    let addr = match &end.addr {
        AddrMatch::Any => CompiledAddr::Any,
        AddrMatch::Net(prefix) => CompiledAddr::Net(Masked::from(*prefix)),
        AddrMatch::Range(ends) => {
            let (low, high) = **ends;
            CompiledAddr::Range(Af::of(low), Addr::from(low), Addr::from(high))
        }
        AddrMatch::Table(name) => names
            .table(name)
            .map_or_else(|| CompiledAddr::Nets(Vec::new()), |t| CompiledAddr::Table(Arc::clone(t))),
        AddrMatch::Dynamic(dynamic) => {
            let nets = dynamic_prefixes(dynamic, names.facts);
            CompiledAddr::Nets(nets.into_iter().map(Masked::from).collect())
        }
        AddrMatch::NoRoute => CompiledAddr::NoRoute,
        AddrMatch::UrpfFailed => CompiledAddr::UrpfFailed,
        // Routes have no labels here; `pfapi::check::unsupported` refuses them.
        AddrMatch::RouteLabel(_) => CompiledAddr::Nets(Vec::new()),
    };
    CompiledEndpoint { negated: end.negated, addr, port: end.port }
}

/// Addresses and networks that `(interface:part)` means on this machine. Source: OpenBSD sys/net/pf_if.c
/// `pfi_instance_add`.
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
            // `/n` widens single addresses; a network has its own length.
            let wide = |addr| {
                let len = dynamic.prefix_len.unwrap_or(af.bits()).min(af.bits());
                Prefix::new(addr, len)
            };
            match dynamic.part {
                DynamicPart::Address => nets.push(wide(address.addr)),
                DynamicPart::Network => nets.push(address.network()),
                DynamicPart::Broadcast => nets.extend(broadcast(address.network()).map(wide)),
                DynamicPart::Peer => nets.extend(address.peer.map(wide)),
            }
        }
    }
    nets
}

/// The broadcast address of an IPv4 network that has one.
fn broadcast(network: Prefix) -> Option<IpAddr> {
    let IpAddr::V4(v4) = network.addr() else { return None };
    let host = u32::MAX.checked_shr(u32::from(network.len())).unwrap_or(0);
    (network.len() < 31).then(|| Ipv4Addr::from_bits(v4.to_bits() | host).into())
}
