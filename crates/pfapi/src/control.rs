//! Messages between `pfctl` and `pfd`.
//!
//! One message is one line of JSON, at most [`FRAME_MAX`] octets with its newline. The client
//! sends a [`Request`] and reads [`Response`]s until one is final (see
//! [`Response::is_final`]): lists come in several parts. A ruleset load is a transaction:
//! `begin`, any number of `add-*`, `commit`; nothing is in force before the commit, and a load
//! that was overtaken by another `begin` fails at its commit.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::addr::{Af, Prefix};
use crate::dialect::Dialect;
use crate::facts::Facts;
use crate::limit::Limits;
use crate::load::{Given, Parts};
use crate::osfp::{Fingerprint, OsName};
use crate::reason::{CookieCounter, LimitCounter, Reason, TableCounter};
use crate::ruleset::{
    Altq, AltqQueue, Options, QueueDef, Rate, Rule, Scheduler, SourceLimiter, StateLimiter,
    TableDef, TableEntry, Watermarks,
};
use crate::timeout::Timeouts;
use crate::units::Direction;

/// Longest frame in octets, the newline included. Longer ones are refused before they are read.
pub const FRAME_MAX: usize = 1 << 20;
/// Most items in one frame; keeps every frame of rules or addresses below [`FRAME_MAX`].
pub const ITEMS_PER_FRAME: usize = 512;
/// Where the daemon listens when nobody says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/pfd/pfd.sock";

/// What a client asks.
///
/// ```
/// use pfapi::control::Request;
///
/// let line = serde_json::to_string(&Request::Rules { anchor: "spam".to_owned() }).unwrap();
/// assert_eq!(line, r#"{"request":"rules","anchor":"spam"}"#);
/// assert!(serde_json::from_str::<Request>(r#"{"request":"rules","ruels":1}"#).is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Starts a load and ends any other that is open.
    Begin {
        /// Path of the anchor that is loaded; empty for the main ruleset.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        anchor: String,
        /// Whose pf.conf it comes from.
        #[serde(default, skip_serializing_if = "Dialect::is_usual")]
        dialect: Dialect,
        /// What it brings; everything else stays as it is.
        #[serde(default, skip_serializing_if = "Parts::is_all")]
        parts: Parts,
    },
    /// Adds the settings to an open load.
    AddOptions {
        /// From [`Response::Ticket`].
        ticket: u32,
        /// Complete set.
        options: Box<Options>,
        /// The settings that count, when the others stay as they are: `pfctl -m`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        given: Option<Box<Given>>,
    },
    /// Adds tables to an open load. A definition with more entries than fit into a frame comes
    /// in parts of the same name, whose entries add up.
    AddTables {
        /// From [`Response::Ticket`].
        ticket: u32,
        /// Anchor that the tables are in, from the ruleset that is loaded; empty is that itself.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        anchor: String,
        /// In definition order.
        tables: Vec<TableDef>,
    },
    /// Adds rules to an open load.
    AddRules {
        /// From [`Response::Ticket`].
        ticket: u32,
        /// Anchor that the rules are in, from the ruleset that is loaded; empty is that itself.
        /// An inline anchor comes with an empty body, and its rules in parts of their own.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        anchor: String,
        /// In evaluation order.
        rules: Vec<Rule>,
    },
    /// Adds queues to an open load, of the main ruleset alone.
    AddQueues {
        /// From [`Response::Ticket`].
        ticket: u32,
        /// In definition order.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        queues: Vec<QueueDef>,
        /// FreeBSD's, by interface.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        altq: Vec<Altq>,
    },
    /// Adds limiters to an open load: 255 of each kind at most.
    AddLimiters {
        /// From [`Response::Ticket`].
        ticket: u32,
        /// `state limiter` lines.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        states: Vec<StateLimiter>,
        /// `source limiter` lines.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        sources: Vec<SourceLimiter>,
    },
    /// Adds fingerprints to an open load. With the first of these frames the load brings a
    /// database of its own; without any the one in force stays.
    AddFingerprints {
        /// From [`Response::Ticket`].
        ticket: u32,
        /// In the order of the database.
        fingerprints: Vec<Fingerprint>,
    },
    /// Puts the load in force as one step.
    Commit {
        /// From [`Response::Ticket`].
        ticket: u32,
    },
    /// Gives a load up.
    Rollback {
        /// From [`Response::Ticket`].
        ticket: u32,
    },
    /// `pfctl -e`
    Enable,
    /// `pfctl -d`
    Disable,
    /// Interfaces and addresses for expansion.
    Facts,
    /// `pfctl -s info`
    Info,
    /// `pfctl -s rules`
    Rules {
        /// Path of the anchor; empty for the main ruleset.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        anchor: String,
    },
    /// `pfctl -s Anchors`
    Anchors,
    /// `pfctl -s Interfaces`
    Interfaces,
    /// `pfctl -s queue`
    Queues,
    /// `pfctl -s states`
    States {
        /// Only states bound to this interface.
        interface: Option<String>,
    },
    /// `pfctl -s Sources`
    Sources,
    /// `pfctl -s LimiterStates`, `-s LimiterSrcs`
    Limiters,
    /// `pfctl -vs LimiterSrcs`: what one source limiter tracks.
    LimiterSources {
        /// Number of the limiter.
        id: u8,
    },
    /// `pfctl -K`
    KillSources {
        /// Networks of the sources.
        sources: Vec<Prefix>,
        /// Networks of the addresses that translation gave them; empty is any and none.
        destinations: Vec<Prefix>,
    },
    /// `pfctl -s timeouts`
    Timeouts,
    /// `pfctl -s memory`
    Limits,
    /// `pfctl -s Tables`
    Tables,
    /// `pfctl -t NAME -T show`
    TableShow {
        /// Path of its anchor; empty for the main ruleset.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        anchor: String,
        /// Table name.
        table: String,
    },
    /// `pfctl -t NAME -T add`, which makes the table when it is missing.
    TableAdd {
        /// Path of its anchor; empty for the main ruleset.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        anchor: String,
        /// Table name.
        table: String,
        /// What to add.
        entries: Vec<TableEntry>,
    },
    /// `pfctl -t NAME -T delete`
    TableDelete {
        /// Path of its anchor; empty for the main ruleset.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        anchor: String,
        /// Table name.
        table: String,
        /// What to delete.
        entries: Vec<TableEntry>,
    },
    /// `pfctl -t NAME -T kill`
    TableKill {
        /// Path of its anchor; empty for the main ruleset.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        anchor: String,
        /// Table name.
        table: String,
    },
    /// `pfctl -t NAME -vT show`
    TableStatistics {
        /// Path of its anchor; empty for the main ruleset.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        anchor: String,
        /// Table name.
        table: String,
    },
    /// `pfctl -t NAME -T zero`
    TableZero {
        /// Path of its anchor; empty for the main ruleset.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        anchor: String,
        /// Table name.
        table: String,
        /// Addresses whose counters are zeroed; none means the whole table with its own counters.
        entries: Vec<TableEntry>,
    },
    /// `pfctl -t NAME -T expire`
    TableExpire {
        /// Path of its anchor; empty for the main ruleset.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        anchor: String,
        /// Table name.
        table: String,
        /// Addresses go that were added, or whose counters were zeroed, more than so long ago.
        age_s: u64,
    },
    /// `pfctl -s osfp`
    Fingerprints,
    /// `pfctl -t NAME -T test`
    TableTest {
        /// Path of its anchor; empty for the main ruleset.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        anchor: String,
        /// Table name.
        table: String,
        /// Addresses to look up.
        addrs: Vec<IpAddr>,
    },
    /// `pfctl -F`
    Flush {
        /// What to flush.
        what: Flush,
    },
    /// `pfctl -k`
    KillStates {
        /// Which states.
        filter: KillFilter,
    },
    /// `pfctl -z`
    ClearRuleCounters,
    /// `pfctl log`: packets that rules have logged lately.
    Log {
        /// N of the `pflogN`.
        interface: u8,
        /// [`LogPage::next`] of the last answer; `None` asks for no packets but for that number.
        from: Option<u64>,
    },
}

/// What `pfctl -F` flushes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flush {
    /// All rules of a ruleset; without main rules the filter passes by its default rule.
    Rules {
        /// Path of the anchor; empty for the main ruleset.
        anchor: String,
    },
    /// All states, or those of one interface.
    States {
        /// Only states bound to this interface.
        interface: Option<String>,
    },
    /// Counters of `pfctl -s info`, without the limit counters; or those of one interface alone.
    Info {
        /// The interface or group.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interface: Option<String>,
    },
    /// All source nodes; their states go on untracked.
    Sources,
    /// All tables of a ruleset.
    Tables {
        /// Path of the anchor; empty for the main ruleset.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        anchor: String,
    },
    /// The fingerprint database.
    Fingerprints,
    /// Limits, timeouts, syncookies and skip flags back to their defaults.
    Reset,
}

/// Which states `pfctl -k` ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum KillFilter {
    /// States whose initiator is in one of the sources and, when destinations are given, whose
    /// other end is in one of these.
    Hosts {
        /// Networks of the initiator.
        sources: Vec<Prefix>,
        /// Networks of the other end; empty is any.
        destinations: Vec<Prefix>,
        /// Only states bound to this interface.
        interface: Option<String>,
    },
    /// States of rules with this label.
    Label {
        /// The whole label.
        label: String,
    },
    /// One state by its id.
    Id {
        /// State id as `pfctl -vvss` shows it.
        id: u64,
        /// Creator; `None` is this daemon.
        creator: Option<u32>,
    },
    /// One state by its addresses and ports.
    Key {
        /// Protocol number.
        proto: u8,
        /// Initiator.
        source: (IpAddr, u16),
        /// Other end.
        destination: (IpAddr, u16),
    },
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Response {
    /// Done; nothing to tell.
    Done,
    /// A load was begun.
    Ticket {
        /// Proof for the rest of the load.
        ticket: u32,
    },
    /// Answer to [`Request::Facts`].
    Facts {
        /// Interfaces.
        facts: Facts,
    },
    /// Answer to [`Request::Info`].
    Info {
        /// Everything that `pfctl -vsi` prints.
        info: Box<Info>,
    },
    /// Part of a rule list.
    Rules {
        /// Whose pf.conf the rules come from.
        #[serde(default, skip_serializing_if = "Dialect::is_usual")]
        dialect: Dialect,
        /// In evaluation order.
        rules: Vec<RuleReport>,
    },
    /// Answer to [`Request::Anchors`].
    Anchors {
        /// Paths of all anchors, in their order.
        paths: Vec<String>,
    },
    /// Part of the list of interfaces.
    Interfaces {
        /// By name.
        interfaces: Vec<InterfaceReport>,
    },
    /// Part of a list of queues.
    Queues {
        /// Number of the load that made them: rates start anew with another one.
        set: u64,
        /// Interface by interface, parents before children.
        queues: Vec<QueueReport>,
    },
    /// Part of a state list.
    States {
        /// In no particular order.
        states: Vec<StateReport>,
    },
    /// Part of a list of source nodes.
    Sources {
        /// In no particular order.
        nodes: Vec<SourceReport>,
    },
    /// Answer to [`Request::Limiters`]: 255 of each kind at most.
    Limiters {
        /// State limiters by number.
        states: Vec<LimiterReport>,
        /// Source limiters by number.
        sources: Vec<LimiterReport>,
    },
    /// Part of what a source limiter tracks.
    LimiterSources {
        /// In address order.
        sources: Vec<LimiterSourceReport>,
    },
    /// Answer to [`Request::Timeouts`].
    Timeouts {
        /// In force now.
        timeouts: Timeouts,
    },
    /// Answer to [`Request::Limits`].
    Limits {
        /// In force now.
        limits: Limits,
    },
    /// Part of the list of tables.
    Tables {
        /// By anchor and name.
        tables: Vec<TableReport>,
    },
    /// Part of a table's contents with their counters.
    TableStatistics {
        /// In address order.
        entries: Vec<AddressReport>,
    },
    /// Part of the names of systems whose fingerprints are known.
    Fingerprints {
        /// In the order of the database; a name comes as often as it has fingerprints.
        systems: Vec<OsName>,
    },
    /// Part of a table's contents.
    TableEntries {
        /// In address order.
        entries: Vec<TableEntry>,
    },
    /// Outcome of a table change.
    TableChanged {
        /// Entries that changed, in request order.
        changed: Vec<TableEntry>,
        /// Whether the table was made.
        created: bool,
    },
    /// Answer to [`Request::TableTest`].
    TableMatches {
        /// Entry that matched each address, in request order.
        matches: Vec<Option<TableEntry>>,
    },
    /// How many items a flush or kill ended.
    Count {
        /// Items.
        count: u64,
    },
    /// Answer to [`Request::Log`].
    Log {
        /// Packets and what to ask for next.
        page: LogPage,
    },
    /// End of a list.
    End,
    /// The request failed; nothing changed.
    Failed {
        /// Kind of failure, for exit codes and classic texts.
        kind: FailureKind,
        /// Sentence for the user.
        message: String,
    },
}

impl Response {
    /// Whether the answer is complete with this message.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(
            self,
            Self::Rules { .. }
                | Self::Interfaces { .. }
                | Self::Queues { .. }
                | Self::States { .. }
                | Self::Sources { .. }
                | Self::LimiterSources { .. }
                | Self::Tables { .. }
                | Self::TableEntries { .. }
                | Self::TableStatistics { .. }
                | Self::Fingerprints { .. }
        )
    }
}

/// Packets that rules have logged lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPage {
    /// Number to ask for next.
    pub next: u64,
    /// Records before the first one that were not asked for in time, of every `pflogN`.
    pub missed: u64,
    /// Records that were never kept since the daemon's start, of every `pflogN`.
    pub dropped: u64,
    /// In the order in which they were logged.
    pub records: Vec<LoggedPacket>,
}

/// A packet that rules have logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedPacket {
    /// When, in microseconds since 1970.
    pub time_us: u64,
    /// Octets of header and whole packet.
    pub len: u32,
    /// Header of pflog and the packet's first octets, in hexadecimal.
    pub octets: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The message is no request, or too long.
    Malformed,
    /// The peer may not do this.
    Permission,
    /// The ticket was overtaken by another load.
    Busy,
    /// The ruleset did not pass its checks.
    Invalid,
    /// Table or state does not exist.
    NotFound,
    /// The table is `const`.
    Constant,
    /// A limit would be exceeded.
    Limit,
    /// Already enabled, or already disabled.
    Unchanged,
}

/// Everything that `pfctl -vsi` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// Whether the filter is enabled.
    pub enabled: bool,
    /// Seconds since it was enabled or disabled.
    pub status_since_s: u64,
    /// Seconds over which rates are taken: since the enable or the last `pfctl -F info`.
    pub counting_s: u64,
    /// This filter's id.
    pub hostid: u32,
    /// 32 hex digits that change when the rules change.
    pub checksum: String,
    /// States now.
    pub states: u64,
    /// Half-open connections: the count that drives adaptive syncookies.
    pub half_open: u64,
    /// pf's own half-open count, when another one drives.
    pub half_open_pf: Option<u64>,
    /// Counters of "State Table".
    pub state_table: Vec<(TableCounter, u64)>,
    /// Source nodes now.
    pub source_nodes: u64,
    /// Counters of "Source Tracking Table".
    pub source_table: Vec<(TableCounter, u64)>,
    /// Fragments held now.
    pub fragments: u64,
    /// Counters of "Fragments".
    pub fragment_table: Vec<(TableCounter, u64)>,
    /// Reason counters in print order.
    pub reasons: Vec<(Reason, u64)>,
    /// Limit counters in print order.
    pub limit_counters: Vec<(LimitCounter, u64)>,
    /// Adaptive syncookies.
    pub syncookies: SyncookieInfo,
    /// What `set loginterface` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_interface: Option<InterfaceReport>,
}

/// An interface, or a group of interfaces with what all of them count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceReport {
    /// Name.
    pub name: String,
    /// `set skip`
    pub skip: bool,
    /// Seconds since its counters were cleared.
    pub cleared_s: u64,
    /// States bound to it; floating ones are bound to `all`.
    pub states: u64,
    /// Rules that name it.
    pub rules: u64,
    /// Packets and octets.
    pub traffic: InterfaceTraffic,
}

/// What has crossed an interface, as IP packets. Source: OpenBSD sys/net/pf_if.c
/// `pfi_update_status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceTraffic {
    /// Packets by family (IPv4, IPv6), direction (in, out) and outcome (passed, blocked).
    pub packets: [[[u64; 2]; 2]; 2],
    /// Octets likewise.
    pub bytes: [[[u64; 2]; 2]; 2],
}

impl InterfaceTraffic {
    /// Adds other counts.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, u64::wrapping_add);
    }

    /// Takes counts of before away.
    pub fn subtract(&mut self, before: &Self) {
        self.combine(before, u64::wrapping_sub);
    }

    fn combine(&mut self, other: &Self, combine: impl Fn(u64, u64) -> u64) {
        for (mine, theirs) in [(&mut self.packets, &other.packets), (&mut self.bytes, &other.bytes)]
        {
            let mine = mine.iter_mut().flatten().flatten();
            for (mine, theirs) in mine.zip(theirs.iter().flatten().flatten()) {
                *mine = combine(*mine, *theirs);
            }
        }
    }
}

/// Syncookies as they are now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "answers to separate questions")]
pub struct SyncookieInfo {
    /// `set syncookies`.
    pub mode: crate::ruleset::SyncookieMode,
    /// Whether `classic` is set.
    pub classic: bool,
    /// Whether cookies are sent now, for all or for some destination.
    pub active: bool,
    /// Whether they are sent for all destinations.
    #[serde(default)]
    pub active_for_all: bool,
    /// Marks in states.
    pub watermarks: Watermarks,
    /// Cookies sent and not yet answered, of keys that still live.
    pub in_flight: u64,
    /// Marks of a single destination; `None` when only the whole has marks.
    #[serde(default)]
    pub destination_watermarks: Option<Watermarks>,
    /// Whether the keys come from a secret that several firewalls share.
    #[serde(default)]
    pub shared_secret: bool,
    /// Counters in print order.
    #[serde(default)]
    pub counters: Vec<(CookieCounter, u64)>,
    /// Destinations that get cookies of their own.
    #[serde(default)]
    pub destinations: Vec<CookieDestination>,
    /// When cookies went on and off lately, oldest first.
    #[serde(default)]
    pub history: Vec<CookieSwitch>,
}

/// A destination under flood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CookieDestination {
    /// Address, as clients see it.
    pub addr: IpAddr,
    /// Port; `None` is every port of the address.
    pub port: Option<u16>,
    /// Seconds for which it has got cookies.
    pub active_s: u64,
    /// Half-open connections to it.
    pub half_open: u64,
    /// Cookies sent for it.
    pub sent: u64,
    /// Those of them that came back.
    pub validated: u64,
}

/// Cookies went on or off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CookieSwitch {
    /// Seconds ago.
    pub ago_s: u64,
    /// Whether they went on.
    pub on: bool,
    /// For this address and port, or all ports of the address; `None` is for everything.
    pub destination: Option<(IpAddr, Option<u16>)>,
    /// Why.
    pub reason: SwitchReason,
    /// Half-open connections at that moment, of the destination or of all.
    pub half_open: u64,
}

/// Why cookies went on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwitchReason {
    /// More half-open connections than the high mark.
    HighMark,
    /// It was quiet at two looks; with `classic`, at a rotation.
    LowMark,
    /// A ruleset was loaded that says so.
    Configured,
    /// Too many destinations were under flood at once.
    TooMany,
}

impl SwitchReason {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::HighMark => "above the high mark",
            Self::LowMark => "below the low mark",
            Self::Configured => "as configured",
            Self::TooMany => "too many destinations",
        }
    }
}

/// A rule with its counters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleReport {
    /// Position in evaluation order.
    pub number: u32,
    /// The rule.
    pub rule: Rule,
    /// For `once`: whether a packet has used the rule up.
    #[serde(default)]
    pub expired: bool,
    /// Times the rule was looked at.
    pub evaluations: u64,
    /// Packets it decided, those of its states included: in, out.
    pub packets: [u64; 2],
    /// Octets of these packets.
    pub bytes: [u64; 2],
    /// States it holds now.
    pub states: u64,
    /// States it ever made.
    pub states_total: u64,
    /// Who loaded it.
    pub uid: u32,
    /// Process that loaded it.
    pub pid: u32,
}

/// A queue with its counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueReport {
    /// Interface.
    pub interface: String,
    /// The queue.
    pub definition: QueueDefinition,
    /// Packets sent.
    pub packets: u64,
    /// Octets of these packets.
    pub bytes: u64,
    /// Packets dropped.
    pub dropped_packets: u64,
    /// Octets of these packets.
    pub dropped_bytes: u64,
    /// Packets that wait.
    pub qlength: u64,
    /// Packets that wait at most.
    pub qlimit: u32,
}

/// What a queue was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueDefinition {
    /// A `queue` line.
    Queue(QueueDef),
    /// An `altq on` line, without its queues.
    Altq(Altq),
    /// A `queue` line of FreeBSD.
    AltqQueue {
        /// Interface.
        interface: String,
        /// Which packet goes next.
        scheduler: Scheduler,
        /// The queue.
        queue: AltqQueue,
    },
}

/// A state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateReport {
    /// Id, unique in one run of the daemon.
    pub id: u64,
    /// Filter that made it.
    pub creator: u32,
    /// Interface, `all` for floating states.
    pub interface: String,
    /// Family.
    pub af: Af,
    /// Protocol number.
    pub proto: u8,
    /// Direction of its first packet.
    pub direction: Direction,
    /// Key as seen on the wire: far side, own side.
    pub wire: [(IpAddr, u16); 2],
    /// Key as seen by the host: far side, own side.
    pub stack: [(IpAddr, u16); 2],
    /// The end that sent the first packet.
    pub src: PeerReport,
    /// The other end.
    pub dst: PeerReport,
    /// Seconds since the state was made.
    pub age_s: u64,
    /// Seconds until it may be purged.
    pub expires_s: u64,
    /// Packets in the direction of the first packet, and back.
    pub packets: [u64; 2],
    /// Octets likewise.
    pub bytes: [u64; 2],
    /// Rule that made it; `None` when a load has replaced that rule.
    pub rule: Option<u32>,
    /// Anchor rule around that rule; `None` when there is none, or a load has replaced it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<u32>,
    /// Next hop of `route-to` and its kin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<IpAddr>,
    /// What sets it apart.
    #[serde(default)]
    pub marks: StateMarks,
}

/// What sets a state apart, as `pfctl -vss` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "marks of a state, in any combination")]
pub struct StateMarks {
    /// `sloppy`
    pub sloppy: bool,
    /// `pflow`
    pub pflow: bool,
    /// It counts in a source node.
    pub source_track: bool,
    /// It keeps an address for its source.
    pub sticky_address: bool,
}

/// A state limiter or a source limiter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimiterReport {
    /// Number.
    pub id: u8,
    /// Name.
    pub name: String,
    /// States at most, for a source limiter those of one source.
    pub limit: u32,
    /// New states at most in so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// States now.
    pub states: u64,
    /// For a source limiter: its sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<LimiterEntries>,
    /// States that it has let begin.
    pub admitted: u64,
    /// Packets that found no room because of `limit`.
    pub hard_limited: u64,
    /// Packets that found no room because of `rate`.
    pub rate_limited: u64,
}

/// The sources of a source limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimiterEntries {
    /// How many it tracks.
    pub count: u64,
    /// How many it may track.
    pub limit: u32,
    /// Packets of further sources that found no room.
    pub refused: u64,
}

/// A source that a source limiter tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimiterSourceReport {
    /// Its address, or the network that counts as one source.
    pub prefix: Prefix,
    /// States now.
    pub states: u32,
    /// States that have begun.
    pub admitted: u64,
    /// Packets that found no room because of `limit`.
    pub hard_limited: u64,
    /// Packets that found no room because of `rate`.
    pub rate_limited: u64,
}

/// A source node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReport {
    /// The source.
    pub addr: IpAddr,
    /// What `sticky-address` keeps for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapped: Option<(MappedUse, IpAddr)>,
    /// States that it holds.
    pub states: u32,
    /// Connections that it has completed and that exist.
    pub connections: u32,
    /// Count of `max-src-conn-rate`, in thousandths of connections.
    pub rate_thousandths: u64,
    /// Seconds of `max-src-conn-rate`; 0 without.
    pub rate_seconds: u32,
    /// Seconds since it was made.
    pub age_s: u64,
    /// Seconds until it goes, when it has no states.
    pub expires_s: Option<u64>,
    /// Packets of its states.
    pub packets: u64,
    /// Octets of these packets.
    pub bytes: u64,
    /// Rule that made it; `None` when a load has replaced that rule.
    pub rule: Option<u32>,
}

/// Which pool of a rule has an address for a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MappedUse {
    /// `nat-to`
    Nat,
    /// `rdr-to`
    Rdr,
    /// `route-to`, `reply-to`, `dup-to`
    Route,
}

/// Names of TCP levels by number. Source: OpenBSD sys/netinet/tcp_fsm.h.
pub const TCP_LEVELS: [&str; 11] = [
    "CLOSED",
    "LISTEN",
    "SYN_SENT",
    "SYN_RCVD",
    "ESTABLISHED",
    "CLOSE_WAIT",
    "FIN_WAIT_1",
    "CLOSING",
    "LAST_ACK",
    "FIN_WAIT_2",
    "TIME_WAIT",
];
/// Names of the levels of all other protocols but ICMP.
pub const OTHER_LEVELS: [&str; 3] = ["NO_TRAFFIC", "SINGLE", "MULTIPLE"];

/// One end of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReport {
    /// Level number: OpenBSD sys/netinet/tcp_fsm.h, 11 and 12 for the proxy; 0 to 2 for others.
    pub level: u8,
    /// Highest sequence number sent.
    pub seqlo: u32,
    /// Highest sequence number the other end allows.
    pub seqhi: u32,
    /// Added to this end's sequence numbers.
    pub seqdiff: u32,
    /// Window scale, when the option was seen.
    pub wscale: Option<u8>,
}

/// A table without its contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableReport {
    /// Name.
    pub name: String,
    /// Path of its anchor; empty for the main ruleset.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub anchor: String,
    /// `persist`
    pub persist: bool,
    /// `const`
    pub constant: bool,
    /// `counters`
    pub counters: bool,
    /// Rules of its ruleset that refer to it.
    pub rules: u64,
    /// Rules of other rulesets that use it, because theirs has no table of this name.
    #[serde(default)]
    pub from_anchors: u64,
    /// Entries.
    pub addresses: u64,
    /// Seconds since its counters were cleared.
    pub cleared_s: u64,
    /// Look-ups of rules that did not match.
    pub no_match: u64,
    /// Look-ups of rules that matched.
    pub matched: u64,
    /// Packets and octets of rules that name it.
    #[serde(default)]
    pub traffic: TableTraffic,
}

/// What became of packets of rules that name a table. Source: OpenBSD sys/net/pf_table.c
/// `pfr_update_stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableUse {
    /// Blocked.
    Block,
    /// Met by a `match` rule.
    Match,
    /// Passed.
    Pass,
    /// Passed by a state although the table does not have the address any more.
    CrossPass,
}

impl TableUse {
    /// All uses, in the order in which pfctl lists them.
    pub const ALL: [Self; 4] = [Self::Block, Self::Match, Self::Pass, Self::CrossPass];

    /// Name in listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Block => "Block",
            Self::Match => "Match",
            Self::Pass => "Pass",
            Self::CrossPass => "XPass",
        }
    }
}

/// Counters of a table or of one of its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableTraffic {
    /// Packets by direction (in, out) and [`TableUse`].
    pub packets: [[u64; 4]; 2],
    /// Octets likewise.
    pub bytes: [[u64; 4]; 2],
}

/// An address of a table with its counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressReport {
    /// The entry.
    pub entry: TableEntry,
    /// Seconds since it was added or its counters were zeroed.
    pub cleared_s: u64,
    /// Its counters; only tables with `counters` have some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TableTraffic>,
    /// `weight`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// States that a pool has given the address to.
    #[serde(default)]
    pub states: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_json() {
        let request = Request::AddRules {
            ticket: 7,
            anchor: String::new(),
            rules: vec![Rule::new(crate::ruleset::Action::Pass)],
        };
        let text = serde_json::to_string(&request).unwrap();
        assert!(text.starts_with(r#"{"request":"add-rules","ticket":7,"#), "{text}");
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    }

    #[test]
    fn unknown_words_are_refused() {
        assert!(serde_json::from_str::<Request>(r#"{"request":"reboot"}"#).is_err());
        assert!(
            serde_json::from_str::<Request>(r#"{"request":"commit","ticket":1,"x":2}"#).is_err()
        );
    }
}
