//! Hard limits of `set limit`.
//!
//! Source: OpenBSD sys/net/pfvar.h; pf.conf(5) "set limit".

use core::fmt;

use serde::{Deserialize, Serialize};

/// Name of a limit, in the order in which `pfctl -s memory` prints them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// States.
    States,
    /// Source nodes.
    SrcNodes,
    /// Fragments held.
    Frags,
    /// Tables.
    Tables,
    /// Addresses in all tables.
    TableEntries,
    /// Packets held by `set delay`.
    PktdelayPkts,
    /// Anchors.
    Anchors,
}

impl Limit {
    /// Every limit, in print order.
    pub const ALL: [Self; 7] = [
        Self::States,
        Self::SrcNodes,
        Self::Frags,
        Self::Tables,
        Self::TableEntries,
        Self::PktdelayPkts,
        Self::Anchors,
    ];

    /// The name in pf.conf(5), such as `src-nodes`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::States => "states",
            Self::SrcNodes => "src-nodes",
            Self::Frags => "frags",
            Self::Tables => "tables",
            Self::TableEntries => "table-entries",
            Self::PktdelayPkts => "pktdelay-pkts",
            Self::Anchors => "anchors",
        }
    }

    /// Value where no ruleset says otherwise.
    ///
    /// `frags` is 5000 as in FreeBSD: OpenBSD derives it from its mbuf clusters, which do not
    /// exist here.
    #[must_use]
    pub const fn default_value(self) -> u32 {
        match self {
            Self::States => 100_000,
            Self::SrcNodes | Self::PktdelayPkts => 10_000,
            Self::Frags => 5_000,
            Self::Tables => 1_000,
            Self::TableEntries => 200_000,
            Self::Anchors => 512,
        }
    }

    /// The limit with this pf.conf(5) name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| limit.name() == name)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The complete set of limits that is in force.
///
/// ```
/// use pfapi::limit::{Limit, Limits};
///
/// let mut limits = Limits::default();
/// limits.set(Limit::States, 5_000);
/// assert_eq!(limits.get(Limit::States), 5_000);
/// assert_eq!(Limit::from_name("src-nodes"), Some(Limit::SrcNodes));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits([u32; Limit::ALL.len()]);

impl Default for Limits {
    fn default() -> Self {
        Self(Limit::ALL.map(Limit::default_value))
    }
}

impl Limits {
    /// Value of one limit; `u32::MAX` means unlimited.
    #[must_use]
    pub const fn get(&self, limit: Limit) -> u32 {
        self.0[limit as usize]
    }

    /// Sets one limit.
    pub const fn set(&mut self, limit: Limit, value: u32) {
        self.0[limit as usize] = value;
    }
}
