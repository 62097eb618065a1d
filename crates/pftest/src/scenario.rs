//! What a scenario file says.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pfapi::addr::{Af, Prefix};
use pfapi::control::{Flush, KillFilter, TableUse};
use pfapi::facts::InterfaceAddress;
use pfapi::reason::{CookieCounter, LimitCounter, Reason, TableCounter};
use pfapi::ruleset::TableEntry;
use pfapi::units::Direction;

use crate::packet::{End, Host, Packet};
use crate::world::World;

/// A scenario: one behaviour, told in packets and virtual seconds.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Name of the file, for messages.
    pub name: String,
    /// The first comment of the file.
    pub title: String,
    /// Interfaces and routes of the router.
    pub(crate) world: World,
    /// Seed of everything random.
    pub(crate) seed: u64,
    /// Whether the filter knows nothing of ports at first, as a daemon that starts; else every port
    /// counts as open, so that SYNs get their cookies at once.
    pub(crate) ports_unknown: bool,
    /// Files that the scenario holds: tables, includes.
    pub(crate) files: BTreeMap<String, String>,
    /// What happens, in order.
    pub(crate) steps: Vec<Step>,
}

/// A mistake in a scenario file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct ScriptError {
    /// Name of the file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in octets, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// One line that does something.
#[derive(Clone, Debug)]
pub struct Step {
    /// Line of the file, from 1.
    pub line: usize,
    /// What it does.
    pub action: Action,
}

/// What a line does.
#[derive(Clone, Debug)]
pub enum Action {
    /// A ruleset is loaded.
    Load {
        /// Where it comes from.
        source: RulesetSource,
        /// Words that the refusal must have; `None` when the load must succeed.
        refused: Option<String>,
    },
    /// The clock goes on to this moment, nanoseconds from the start.
    At(u64),
    /// The clock goes on by nanoseconds.
    Wait(u64),
    /// Packets reach the router.
    Send {
        /// `In`: at the interface. `Out`: made by the router's own host.
        direction: Direction,
        /// Name of the interface; empty for packets of the host.
        interface: String,
        /// The packets, one after the other.
        packets: Vec<Packet>,
        /// What must become of each.
        outcome: Option<Outcome>,
    },
    /// Something must be so.
    Expect(Expect),
    /// The operator does something.
    Do(Command),
}

/// Where a ruleset comes from.
#[derive(Clone, Debug)]
pub enum RulesetSource {
    /// Text in the scenario.
    Text(String),
    /// A file beside it.
    File(String),
}

/// What becomes of a packet.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It leaves by this interface as it came, but for its time to live.
    Through(String),
    /// Something leaves by this interface.
    Leaves(String, Box<Packet>),
    /// The router's own host gets it.
    Host,
    /// It is dropped.
    Drop(Reason),
    /// The filter kept it.
    Consumed,
}

/// A condition.
#[derive(Clone, Debug)]
pub enum Expect {
    /// The next packet that leaves.
    Out(String, Vec<Packet>),
    /// The next packet that the router's own host gets.
    Host(Vec<Packet>),
    /// So many packets were dropped for the reason.
    Drop(Reason, usize),
    /// So many packets were kept.
    Consumed(usize),
    /// A number that the router shows.
    Gauge(Gauge, u64),
    /// There is, or is not, such a state.
    State(Box<StateWanted>, bool),
    /// Counters that moved since the last packet.
    Counters(Vec<(Counter, u64)>),
    /// Counters of a rule.
    Rule(u32, Vec<(RuleCounter, u64)>),
    /// What a table holds.
    Table(String, Vec<TableWanted>),
    /// What has crossed an interface or the interfaces of a group.
    Interface(String, Vec<InterfaceWanted>),
    /// The filter's id.
    Hostid(u64),
    /// The next message to the operator.
    Event(String),
    /// Whether syncookies are sent now.
    Syncookies(bool),
    /// Queues have dropped so many packets.
    QueueDrops(usize),
    /// Counters of a queue, on the interface when it is named.
    Queue(String, Option<String>, Vec<(QueueCounter, u64)>),
    /// Counters of a state limiter or a source limiter.
    Limiter(String, Vec<(LimiterCounter, u64)>),
}

/// A counter of a limiter, as `pfctl -s LimiterStates` and `-s LimiterSrcs` show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimiterCounter {
    /// States now.
    States,
    /// Sources now; 0 for a state limiter.
    Sources,
    /// States that have begun.
    Admitted,
    /// Packets refused because of `limit`.
    HardLimited,
    /// Packets refused because of `rate`.
    RateLimited,
    /// Packets refused because of `entries`.
    SourcesRefused,
}

/// A counter of a queue, as `pfctl -vsq` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueCounter {
    /// Packets sent.
    Packets,
    /// Octets sent.
    Bytes,
    /// Packets dropped.
    Dropped,
    /// Packets that wait.
    Length,
}

/// A number that `pfctl -si` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    /// States.
    States,
    /// Half-open TCP connections.
    HalfOpen,
    /// Source nodes.
    SourceNodes,
    /// Packets that wait for fragments.
    Fragments,
}

/// A counter of `pfctl -si`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Packets by reason.
    Reason(Reason),
    /// Operations on the state table.
    State(TableCounter),
    /// Operations on the source tracking table.
    Source(TableCounter),
    /// Operations on the fragment cache.
    Fragment(TableCounter),
    /// Limits that were hit.
    Limit(LimitCounter),
    /// Events around SYN cookies.
    Cookie(CookieCounter),
}

/// A counter of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleCounter {
    /// How often the rule was looked at.
    Evaluations,
    /// Packets, both directions.
    Packets,
    /// Octets, both directions.
    Bytes,
    /// States that exist.
    States,
    /// States that were ever made.
    StatesTotal,
}

/// A counter of an interface.
#[derive(Clone, Copy, Debug)]
pub struct InterfaceWanted {
    /// Family of the packets.
    pub af: Af,
    /// Their direction.
    pub direction: Direction,
    /// Whether they passed.
    pub passed: bool,
    /// How many.
    pub packets: u64,
    /// Their octets.
    pub bytes: Option<u64>,
}

/// A condition on a table.
#[derive(Clone, Debug)]
pub enum TableWanted {
    /// An address matches.
    Has(IpAddr),
    /// An address does not match.
    Lacks(IpAddr),
    /// Number of entries.
    Addresses(usize),
    /// Seconds since the counters of the table or of an address were cleared.
    Cleared(Option<IpAddr>, u64),
    /// Counters of the table or of an address.
    Traffic {
        /// The address; none is the table.
        of: Option<IpAddr>,
        /// Direction of the packets.
        direction: Direction,
        /// What became of them.
        used: TableUse,
        /// How many.
        packets: u64,
        /// Their octets.
        bytes: Option<u64>,
    },
}

/// What `pfctl -T` does to a table.
#[derive(Clone, Copy, Debug)]
pub enum TableChange {
    /// `add`
    Add,
    /// `delete`
    Delete,
    /// `zero`
    Zero,
    /// `expire` with its seconds.
    Expire(u64),
    /// `kill`
    Kill,
}

/// A state by what is known of it.
#[derive(Clone, Debug)]
pub struct StateWanted {
    /// Protocol number.
    pub proto: u8,
    /// Who began, as seen on the wire.
    pub src: End,
    /// Whom it talks to, as seen on the wire.
    pub dst: End,
    /// The same two as seen behind the translation.
    pub stack: Option<(End, End)>,
    /// Direction of the first packet.
    pub direction: Option<Direction>,
    /// Interface that it is bound to; `all` for floating ones.
    pub interface: Option<String>,
    /// Levels of the one who began and of the other.
    pub levels: Option<String>,
    /// Numbers: rule, age, expires, packets and octets in the two directions.
    pub numbers: Vec<(StateNumber, u64)>,
}

/// A number of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateNumber {
    /// Rule that made it.
    Rule,
    /// Seconds since it was made.
    Age,
    /// Seconds until it may go.
    Expires,
    /// Packets of the one who began.
    PacketsThere,
    /// Packets of the other.
    PacketsBack,
}

/// What an operator does.
#[derive(Clone, Debug)]
pub enum Command {
    /// `pfctl -e`, `pfctl -d`
    Enable(bool),
    /// `pfctl -F`
    Flush(Flush),
    /// `pfctl -k`
    Kill(KillFilter),
    /// `pfctl -T`
    Table(String, TableChange, Vec<TableEntry>),
    /// An interface has these addresses now; routes stay.
    Addresses(String, Vec<InterfaceAddress>),
    /// `pfctl -z`
    ClearCounters,
}

impl Scenario {
    /// Reads the text of a scenario file.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScriptError> {
        crate::script::parse(name, text)
    }
}

/// The network of a host, for filters.
pub(crate) fn only(host: &Host) -> Option<Prefix> {
    match host {
        Host::Addr(addr) => Some(Prefix::host(*addr)),
        Host::Variable(_) => None,
    }
}
