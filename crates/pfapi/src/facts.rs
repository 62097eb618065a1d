//! What a ruleset needs to know of the machine it runs on.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::addr::Prefix;

/// An interface with its addresses, as rules see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceFacts {
    /// Name in pf.conf, such as `tun0`.
    pub name: String,
    /// Groups besides `all`, such as `tun`.
    pub groups: Vec<String>,
    /// The router's own addresses with their prefix lengths, in configured order.
    pub addresses: Vec<InterfaceAddress>,
    /// Largest IP packet in octets.
    pub mtu: u32,
    /// Whether the interface is a loopback interface: `on any` leaves it out.
    pub loopback: bool,
}

/// One address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceAddress {
    /// The address itself.
    pub addr: IpAddr,
    /// Length of its network's prefix in bits.
    pub prefix_len: u8,
}

impl InterfaceAddress {
    /// The network the address is in.
    #[must_use]
    pub fn network(self) -> Prefix {
        Prefix::new(self.addr, self.prefix_len)
    }
}

/// Interfaces in their order; `self` and interface names in rules expand in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// All interfaces.
    pub interfaces: Vec<InterfaceFacts>,
}

impl Facts {
    /// The interface with this name.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&InterfaceFacts> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    /// Interfaces that `name` names: the one of that name, or the members of that group.
    pub fn members<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a InterfaceFacts> {
        let exact = self.interface(name).is_some();
        self.interfaces.iter().filter(move |interface| {
            if exact {
                interface.name == name
            } else {
                name == "all" || interface.groups.iter().any(|group| group == name)
            }
        })
    }
}
