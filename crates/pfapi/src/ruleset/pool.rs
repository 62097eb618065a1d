//! Where translation and routing options take addresses from.
//!
//! Source: pf.conf(5) "POOLS", "TRANSLATION", "ROUTING"; OpenBSD sys/net/pfvar.h `pf_pool`.

use serde::{Deserialize, Serialize};

use super::AddrMatch;

/// Lowest port of `nat-to` without `port`.
pub const NAT_PORT_LOW: u16 = 50001;
/// Highest port of `nat-to` without `port`.
pub const NAT_PORT_HIGH: u16 = 65535;

/// Addresses and ports to choose from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Network, table or interface.
    pub addr: AddrMatch,
    /// Interface in front of the address of a next hop, as in `route-to (em0 192.0.2.1)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// Addresses behind the first, where they have not become a table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<PoolMember>,
    /// Ports; `nat-to` always has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<PoolPorts>,
    /// How an address is chosen.
    pub kind: PoolKind,
    /// `sticky-address`: a source keeps what it got while it has states.
    #[serde(default)]
    pub sticky: bool,
    /// `endpoint-independent`: one source keeps its port towards every target.
    #[serde(default, skip_serializing_if = "is_false")]
    pub endpoint_independent: bool,
    /// `prefer-ipv6-nexthop`: next hops with IPv6 also for IPv4 packets.
    #[serde(default, skip_serializing_if = "is_false")]
    pub prefer_ipv6_nexthop: bool,
}

/// One of several addresses of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolMember {
    /// Address, or `Any` where only the interface is given.
    pub addr: AddrMatch,
    /// Interface in front of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Pool {
    /// A pool without ports that is used as it is.
    #[must_use]
    pub const fn new(addr: AddrMatch) -> Self {
        Self {
            addr,
            via: None,
            more: Vec::new(),
            ports: None,
            kind: PoolKind::Single,
            sticky: false,
            endpoint_independent: false,
            prefer_ipv6_nexthop: false,
        }
    }

    /// All its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = &AddrMatch> {
        std::iter::once(&self.addr).chain(self.more.iter().map(|member| &member.addr))
    }

    /// Interfaces in front of its addresses.
    pub fn interfaces(&self) -> impl Iterator<Item = &str> {
        let more = self.more.iter().map(|member| member.via.as_deref());
        std::iter::once(self.via.as_deref()).chain(more).flatten()
    }
}

/// Ports of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolPorts {
    /// `static-port`: the source port stays.
    Static,
    /// First and last. With `rdr-to` the last may be 0: all ports go to the first.
    Range(u16, u16),
    /// `map-e-portset OFFSET/LENGTH/PSID`: the ports of one customer of MAP-E (RFC 7597).
    MapE {
        /// Bits in front of the port set identifier.
        offset: u8,
        /// Bits of the identifier.
        len: u8,
        /// The identifier.
        psid: u16,
    },
}

impl PoolPorts {
    /// The ports of `nat-to` when the rule says nothing.
    pub const NAT_DEFAULT: Self = Self::Range(NAT_PORT_LOW, NAT_PORT_HIGH);
}

/// How an address is chosen from a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolKind {
    /// The first address.
    Single,
    /// `bitmask`: the host part stays.
    Bitmask,
    /// `random`
    Random,
    /// `source-hash` with its key as four words.
    SourceHash([u32; 4]),
    /// `round-robin`
    RoundRobin,
    /// `least-states`
    LeastStates,
}

impl PoolKind {
    /// Whether it can choose from tables and interfaces with several addresses.
    #[must_use]
    pub const fn is_dynamic(self) -> bool {
        !matches!(self, Self::Single | Self::Bitmask)
    }
}

/// `route-to`, `reply-to` or `dup-to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Which of them.
    pub kind: RouteKind,
    /// Next hops.
    pub pool: Pool,
}

/// Which packets take another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteKind {
    /// `route-to`: those in the direction of the state.
    RouteTo,
    /// `reply-to`: the answers.
    ReplyTo,
    /// `dup-to`: a copy of every packet.
    DupTo,
}

/// `divert-*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Divert {
    /// `divert-to`: to a local socket.
    To {
        /// Address of the socket.
        addr: core::net::IpAddr,
        /// Its port.
        port: u16,
    },
    /// `divert-reply`: answers to sockets with foreign addresses.
    Reply,
    /// `divert-packet`: whole packets to a program.
    Packet {
        /// Port that the program reads from.
        port: u16,
    },
}
