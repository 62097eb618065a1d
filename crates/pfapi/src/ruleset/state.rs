//! What a passed packet leaves behind, and within which limits.
//!
//! Source: pf.conf(5) "STATEFUL FILTERING", "STATEFUL TRACKING OPTIONS".

use serde::{Deserialize, Serialize};

use super::{Rate, ServerOptions, SyncookieMode};
use crate::rare::Usual;
use crate::timeout::Timeout;

/// What a passed packet leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatePolicy {
    /// `no state`; also block and match rules.
    #[default]
    None,
    /// `keep state`
    Keep,
    /// `modulate state`: with sequence numbers of this host.
    Modulate,
    /// `synproxy state`: this host shakes hands first.
    Synproxy,
}

/// What stands in the brackets behind `keep state`, and what follows from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "words of the language, in any combination")]
pub struct StateOptions {
    /// `max`: states that the rule may make; `None` is no limit.
    pub max: Option<u32>,
    /// `no-sync`: states are not told to other firewalls.
    pub no_sync: bool,
    /// `source-track`, given or implied.
    pub source_track: Option<SourceTrack>,
    /// `max-src-states`
    pub max_src_states: Option<u32>,
    /// `max-src-conn`
    pub max_src_conn: Option<u32>,
    /// `max-src-conn-rate`
    pub max_src_conn_rate: Option<Rate>,
    /// `max-src-nodes`
    pub max_src_nodes: Option<u32>,
    /// `overload`
    pub overload: Option<Overload>,
    /// `if-bound`: states match on their interface only.
    pub if_bound: bool,
    /// `sloppy`: sequence numbers are not checked.
    pub sloppy: bool,
    /// `pflow`: states are exported.
    pub pflow: bool,
    /// `allow-related`: associations that an SCTP packet announces pass too.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_related: bool,
    /// `syncookies`: when SYNs that the rule passes get a cookie; `None` is as `set syncookies` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syncookies: Option<SyncookieMode>,
    /// `syncookies (...)`: what the servers behind the rule support; `None` is as `set syncookies` says,
    /// or as was learnt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerOptions>,
    /// Timeouts of the rule's states; never zero.
    pub timeouts: Vec<(Timeout, u32)>,
}

impl Usual for StateOptions {
    fn usual() -> &'static Self {
        static USUAL: StateOptions = StateOptions {
            max: None,
            no_sync: false,
            source_track: None,
            max_src_states: None,
            max_src_conn: None,
            max_src_conn_rate: None,
            max_src_nodes: None,
            overload: None,
            if_bound: false,
            sloppy: false,
            pflow: false,
            allow_related: false,
            syncookies: None,
            server: None,
            timeouts: Vec::new(),
        };
        &USUAL
    }
}

impl StateOptions {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// `source-track`: whose states one source address is counted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceTrack {
    /// Those of all rules with this option.
    Global,
    /// Those of this rule.
    Rule,
}

/// `overload <table>`: where the addresses of offenders go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overload {
    /// Name of the table.
    pub table: String,
    /// What becomes of the offender's states.
    pub flush: Flush,
}

/// `flush`: what becomes of an offender's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flush {
    /// Nothing.
    No,
    /// Those of the rule are killed.
    Rule,
    /// All of them are killed.
    Global,
}
