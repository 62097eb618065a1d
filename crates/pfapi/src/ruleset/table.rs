//! Table definitions.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::addr::Prefix;

/// A table definition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableDef {
    /// Name without the angle brackets, at most 31 octets.
    pub name: String,
    /// `persist`: stays without rules that refer to it.
    pub persist: bool,
    /// `const`: contents cannot be changed by `pfctl -T`.
    pub constant: bool,
    /// `counters`: counts per address.
    pub counters: bool,
    /// Addresses; `None` when the definition has no list, which keeps what the table holds.
    pub entries: Option<Vec<TableEntry>>,
    /// `weight`: entries that get more than one share of the connections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<(Prefix, u16)>,
}

/// An address in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableEntry {
    /// The network.
    pub prefix: Prefix,
    /// `!`: an address whose longest match is this entry is not in the table.
    pub negated: bool,
}

impl fmt::Display for TableEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.negated { "!" } else { "" }, self.prefix)
    }
}
