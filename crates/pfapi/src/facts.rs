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
    /// What kind of interface it is, and how it is.
    #[serde(default)]
    pub flags: InterfaceFlags,
    /// Line rate in bits per second, when known: queues may be given in per cent of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baud: Option<u64>,
}

impl InterfaceFacts {
    /// An interface without groups, addresses and flags.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            groups: Vec::new(),
            addresses: Vec::new(),
            mtu: DEFAULT_MTU,
            flags: InterfaceFlags::default(),
            baud: None,
        }
    }

    /// Whether it is a loopback interface: `on any` leaves it out.
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        self.flags.has(InterfaceFlag::Loopback)
    }
}

/// Largest IP packet of an interface that does not say, in octets: that of Ethernet.
pub const DEFAULT_MTU: u32 = 1500;

/// One flag of an interface, as in ifconfig(8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InterfaceFlag {
    /// `UP`
    Up,
    /// `BROADCAST`: IPv4 networks have a broadcast address.
    Broadcast,
    /// `LOOPBACK`
    Loopback,
    /// `POINTOPOINT`: addresses may have a peer.
    PointToPoint,
    /// `RUNNING`
    Running,
    /// `MULTICAST`
    Multicast,
    /// `LINK1`: the networks of a loopback interface are all its own.
    Link1,
}

impl InterfaceFlag {
    /// Every flag, in the order of their bits.
    pub const ALL: [Self; 7] = [
        Self::Up,
        Self::Broadcast,
        Self::Loopback,
        Self::PointToPoint,
        Self::Running,
        Self::Multicast,
        Self::Link1,
    ];

    /// The word of ifconfig(8).
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Up => "UP",
            Self::Broadcast => "BROADCAST",
            Self::Loopback => "LOOPBACK",
            Self::PointToPoint => "POINTOPOINT",
            Self::Running => "RUNNING",
            Self::Multicast => "MULTICAST",
            Self::Link1 => "LINK1",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Flags of an interface. As text of messages it is a list of words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<InterfaceFlag>", into = "Vec<InterfaceFlag>")]
pub struct InterfaceFlags(u8);

impl InterfaceFlags {
    /// Whether the flag is among them.
    #[must_use]
    pub const fn has(self, flag: InterfaceFlag) -> bool {
        self.0 & flag.bit() != 0
    }
}

impl FromIterator<InterfaceFlag> for InterfaceFlags {
    fn from_iter<I: IntoIterator<Item = InterfaceFlag>>(flags: I) -> Self {
        Self(flags.into_iter().fold(0, |bits, flag| bits | flag.bit()))
    }
}

impl From<Vec<InterfaceFlag>> for InterfaceFlags {
    fn from(flags: Vec<InterfaceFlag>) -> Self {
        flags.into_iter().collect()
    }
}

impl From<InterfaceFlags> for Vec<InterfaceFlag> {
    fn from(flags: InterfaceFlags) -> Self {
        InterfaceFlag::ALL.into_iter().filter(|&flag| flags.has(flag)).collect()
    }
}

/// One address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceAddress {
    /// The address itself.
    pub addr: IpAddr,
    /// Length of its network's prefix in bits.
    pub prefix_len: u8,
    /// Address of the other end of a point-to-point interface: `:peer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
}

impl InterfaceAddress {
    /// An address without a peer.
    #[must_use]
    pub const fn new(addr: IpAddr, prefix_len: u8) -> Self {
        Self { addr, prefix_len, peer: None }
    }

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
    ///
    /// ```
    /// use pfapi::facts::{Facts, InterfaceFacts};
    ///
    /// let mut lan = InterfaceFacts::new("tun0");
    /// lan.groups.push("lan".to_owned());
    /// let facts = Facts { interfaces: vec![lan, InterfaceFacts::new("tun1")] };
    /// let names: Vec<&str> = facts.members("lan").map(|found| found.name.as_str()).collect();
    /// assert_eq!(names, ["tun0"]);
    /// ```
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_travel_as_words() {
        let flags: InterfaceFlags =
            [InterfaceFlag::PointToPoint, InterfaceFlag::Up].into_iter().collect();
        let text = serde_json::to_string(&flags).unwrap();
        assert_eq!(text, r#"["up","point-to-point"]"#);
        assert_eq!(serde_json::from_str::<InterfaceFlags>(&text).unwrap(), flags);
        assert!(flags.has(InterfaceFlag::Up) && !flags.has(InterfaceFlag::Loopback));
    }

    #[test]
    fn facts_without_the_newer_fields_are_understood() {
        let text = r#"{"name":"tun0","groups":[],"mtu":1500,
            "addresses":[{"addr":"192.0.2.1","prefix_len":24}]}"#;
        let facts: InterfaceFacts = serde_json::from_str(text).unwrap();
        assert_eq!(facts.flags, InterfaceFlags::default());
        assert_eq!(facts.addresses[0].peer, None);
    }
}
