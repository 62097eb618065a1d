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
    /// Ports; `nat-to` always has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<PoolPorts>,
    /// How an address is chosen.
    pub kind: PoolKind,
    /// `sticky-address`: a source keeps what it got while it has states.
    #[serde(default)]
    pub sticky: bool,
}

impl Pool {
    /// A pool without ports that is used as it is.
    #[must_use]
    pub const fn new(addr: AddrMatch) -> Self {
        Self { addr, ports: None, kind: PoolKind::Single, sticky: false }
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
