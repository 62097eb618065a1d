//! The router around the filter: interfaces, own addresses, routes.

use std::net::IpAddr;

use pfapi::addr::Prefix;
use pfapi::facts::{Facts, InterfaceAddress, InterfaceFacts, InterfaceFlag};
use pfapi::units::IfIndex;
use pfengine::{Routes, Way};

/// Interfaces and routes.
#[derive(Clone, Debug)]
pub struct World {
    /// Interfaces in their order.
    pub facts: Facts,
    /// Routes besides those to the networks of the interfaces.
    pub routes: Vec<(Prefix, IfIndex)>,
}

/// Interfaces of a scenario that names none: clients, servers, everybody else, the host.
const DEFAULT: [(&str, &str, &str, &str); 3] = [
    ("em0", "egress", "198.51.100.254/24", "2001:db8:1::fe/64"),
    ("em1", "lan", "192.0.2.254/24", "2001:db8:2::fe/64"),
    ("em2", "dmz", "203.0.113.254/24", "2001:db8:3::fe/64"),
];

/// An address with the length of its network's prefix.
pub fn address(text: &str) -> Option<InterfaceAddress> {
    let (addr, len) = text.split_once('/')?;
    let addr: IpAddr = addr.parse().ok()?;
    let len: u8 = len.parse().ok()?;
    let most = if addr.is_ipv4() { 32 } else { 128 };
    (len <= most).then(|| InterfaceAddress::new(addr, len))
}

/// An interface that is up.
pub fn interface(name: &str) -> InterfaceFacts {
    let flags = [InterfaceFlag::Up, InterfaceFlag::Running, InterfaceFlag::Broadcast];
    InterfaceFacts { flags: flags.into_iter().collect(), ..InterfaceFacts::new(name) }
}

/// The loopback interface.
pub fn loopback(name: &str) -> InterfaceFacts {
    let flags = [InterfaceFlag::Up, InterfaceFlag::Running, InterfaceFlag::Loopback];
    let addresses = ["127.0.0.1/8", "::1/128"].into_iter().filter_map(address).collect();
    InterfaceFacts {
        flags: flags.into_iter().collect(),
        groups: vec!["lo".to_owned()],
        addresses,
        ..InterfaceFacts::new(name)
    }
}

impl Default for World {
    fn default() -> Self {
        let mut interfaces: Vec<InterfaceFacts> = DEFAULT
            .into_iter()
            .map(|(name, group, v4, v6)| InterfaceFacts {
                groups: vec![group.to_owned()],
                addresses: [v4, v6].into_iter().filter_map(address).collect(),
                ..interface(name)
            })
            .collect();
        interfaces.push(loopback("lo0"));
        Self { facts: Facts { interfaces }, routes: Vec::new() }
    }
}

impl World {
    /// The interface with this name.
    pub fn index(&self, name: &str) -> Option<IfIndex> {
        let at = self.facts.interfaces.iter().position(|interface| interface.name == name)?;
        u16::try_from(at).ok().map(IfIndex)
    }

    /// Name of an interface.
    pub fn name(&self, index: IfIndex) -> &str {
        self.facts.interfaces.get(usize::from(index.0)).map_or("?", |found| found.name.as_str())
    }

    /// Where a packet to this address goes: own addresses first, then the longest prefix.
    pub fn way(&self, dst: IpAddr) -> Way {
        let interfaces = &self.facts.interfaces;
        let mut own = interfaces.iter().flat_map(|interface| &interface.addresses);
        if own.any(|address| address.addr == dst) {
            return Way::Here;
        }
        let connected = (0..).zip(interfaces).flat_map(|(at, interface)| {
            interface.addresses.iter().map(move |address| (address.network(), IfIndex(at)))
        });
        connected
            .chain(self.routes.iter().copied())
            .filter(|(net, _)| net.contains(dst))
            .max_by_key(|(net, _)| net.len())
            .map_or(Way::None, |(_, link)| Way::Interface(link))
    }
}

impl Routes for World {
    fn way_to(&self, addr: IpAddr) -> Way {
        self.way(addr)
    }

    fn way_back(&self, addr: IpAddr) -> Way {
        let mut interfaces = (0..).zip(&self.facts.interfaces);
        let own = interfaces
            .find(|(_, interface)| interface.addresses.iter().any(|own| own.addr == addr));
        own.map_or_else(|| self.way(addr), |(at, _)| Way::Interface(IfIndex(at)))
    }
}
