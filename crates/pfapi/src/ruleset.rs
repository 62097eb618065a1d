//! A ruleset after expansion: what the engine evaluates and what pfctl prints.
//!
//! One [`Rule`] is one line of `pfctl -s rules`: lists are expanded, macros replaced, names
//! resolved. Inline anchors hold their rules; what `load anchor` brings lies beside the main
//! rules. Source: pf.conf(5).

use serde::{Deserialize, Serialize};

use crate::dialect::Dialect;
use crate::osfp::Fingerprint;

mod address;
mod altq;
mod criteria;
mod ether;
mod form;
mod limiter;
mod options;
mod pool;
mod queue;
mod rule;
mod state;
mod table;

pub use address::{AddrMatch, DynamicAddr, DynamicPart, Endpoint};
pub use altq::{
    ALTQ_PRIORITY_DEFAULT, ALTQ_QLIMIT_DEFAULT, Altq, AltqCurve, AltqQueue, QueueFlag, Scheduler,
    SchedulerOptions,
};
pub use criteria::{
    IcmpMatch, Id, IdMatch, InterfaceMatch, Rate, RdomainMatch, TagMatch, TcpFlagsMatch,
};
pub use ether::{Dummynet, DummynetKind, EtherAction, EtherAnchor, EtherRule, MacMatch};
pub use limiter::{
    LIMITER_ID_MAX, LIMITER_NAME_MAX, LimiterTable, LimiterUse, STATE_LIMITER_MAX, SourceLimiter,
    StateLimiter,
};
pub use options::{
    DebugLevel, LogInterface, Options, Reassemble, ServerOptions, SyncookieMode, Syncookies,
    Watermarks,
};
pub use pool::{
    Divert, NAT_PORT_HIGH, NAT_PORT_LOW, Pool, PoolKind, PoolMember, PoolPorts, Route, RouteKind,
};
pub use queue::{FlowQueue, QueueDef, ServiceCurve};
pub use rule::{
    Action, Anchor, BlockAnswer, Common, FreeBsdWords, Log, RareWords, Rule, RuleKind, Scrub,
    SetActions,
};
pub use state::{Flush, Overload, SourceTrack, StateOptions, StatePolicy};
pub use table::{TableDef, TableEntry};

/// IP protocol numbers that rules and the engine name.
pub mod proto {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// A ruleset as it comes from the parser or the control socket, not yet checked.
///
/// `At` says where a table came from: a span in `pfconf`, its name on the control socket. Rules
/// have their number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Draft<At> {
    /// Whose pf.conf it comes from.
    #[serde(default)]
    pub dialect: Dialect,
    /// What `set` lines said.
    pub options: Options,
    /// Queues, in the order of their definitions.
    #[serde(default = "Vec::new")]
    pub queues: Vec<QueueDef>,
    /// Tables, in the order of their definitions.
    pub tables: Vec<(At, TableDef)>,
    /// Rules in evaluation order.
    pub rules: Vec<Rule>,
    /// Contents of anchors, in the order of `load anchor`.
    #[serde(default = "Vec::new")]
    pub anchors: Vec<AnchorRuleset>,
    /// FreeBSD's queues, by interface.
    #[serde(default = "Vec::new")]
    pub altq: Vec<Altq>,
    /// Rules for Ethernet frames, which are evaluated before all others.
    #[serde(default = "Vec::new")]
    pub ether: Vec<EtherRule>,
    /// `state limiter` lines.
    #[serde(default = "Vec::new")]
    pub state_limiters: Vec<StateLimiter>,
    /// `source limiter` lines.
    #[serde(default = "Vec::new")]
    pub source_limiters: Vec<SourceLimiter>,
    /// Database for `os`; `None` keeps what is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprints: Option<Vec<Fingerprint>>,
}

impl<At> Default for Draft<At> {
    fn default() -> Self {
        Self {
            dialect: Dialect::default(),
            options: Options::default(),
            queues: Vec::new(),
            tables: Vec::new(),
            rules: Vec::new(),
            anchors: Vec::new(),
            altq: Vec::new(),
            ether: Vec::new(),
            state_limiters: Vec::new(),
            source_limiters: Vec::new(),
            fingerprints: None,
        }
    }
}

/// The contents of one anchor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorRuleset {
    /// Path from the main ruleset, without a leading slash.
    pub path: String,
    /// Its own tables.
    pub tables: Vec<TableDef>,
    /// Its rules in evaluation order.
    pub rules: Vec<Rule>,
    /// Its rules for Ethernet frames.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ether: Vec<EtherRule>,
}
