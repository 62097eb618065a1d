//! Addresses in rules.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::addr::Prefix;
use crate::port::PortMatch;
use crate::shared::Shared;

/// One end of a rule: addresses and, for TCP and UDP, ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// `!` in front of the address.
    pub negated: bool,
    /// Address.
    pub addr: AddrMatch,
    /// Port.
    pub port: Option<PortMatch>,
}

/// Address condition of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddrMatch {
    /// `any`
    #[default]
    Any,
    /// Address or network.
    Net(Prefix),
    /// `a - b`, both ends included.
    Range(Shared<(IpAddr, IpAddr)>),
    /// `<name>`
    Table(Shared<String>),
    /// `(interface)`: the addresses it has when the packet comes.
    Dynamic(Shared<DynamicAddr>),
    /// `no-route`: no route leads to the address.
    NoRoute,
    /// `urpf-failed`: the way back does not use the packet's interface; source only.
    UrpfFailed,
    /// `route "label"`: the route to the address has this label.
    RouteLabel(Shared<String>),
}

impl AddrMatch {
    /// The addresses from `low` to `high`.
    #[must_use]
    pub fn range(low: IpAddr, high: IpAddr) -> Self {
        Self::Range((low, high).into())
    }
}

/// `(interface:modifier)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DynamicAddr {
    /// Interface or group.
    pub interface: String,
    /// Which of its addresses.
    pub part: DynamicPart,
    /// `:0`: one address per family, no aliases.
    pub no_aliases: bool,
    /// `/n` behind the brackets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_len: Option<u8>,
}

impl DynamicAddr {
    /// Whether it may stand for several addresses of one family: no `:0`, or a group.
    #[must_use]
    pub fn is_multiple(&self) -> bool {
        !self.no_aliases || !self.interface.ends_with(|last: char| last.is_ascii_digit())
    }
}

/// Which addresses of an interface a dynamic address means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DynamicPart {
    /// The addresses themselves.
    Address,
    /// `:network`
    Network,
    /// `:broadcast`
    Broadcast,
    /// `:peer`
    Peer,
}
