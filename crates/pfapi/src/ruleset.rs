//! A ruleset after expansion: what the engine evaluates and what pfctl prints.
//!
//! One [`Rule`] is one line of `pfctl -s rules`: lists are expanded, macros replaced, names
//! resolved. Source: pf.conf(5).

use core::fmt;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::addr::{Af, Prefix};
use crate::limit::Limits;
use crate::port::PortMatch;
use crate::timeout::Timeouts;
use crate::units::Direction;

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
}

/// A ruleset as it comes from the parser or the control socket, not yet checked.
///
/// `At` says where a rule came from: a span in `pfconf`, a rule number on the control socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Draft<At> {
    /// What `set` lines said.
    pub options: Options,
    /// Tables, in the order of their definitions.
    pub tables: Vec<(At, TableDef)>,
    /// Rules in evaluation order.
    pub rules: Vec<(At, Rule)>,
}

/// Settings of the whole filter.
///
/// A load of the main ruleset resets every limit and timeout that the file does not mention, so
/// both come as complete sets. Settings that keep their value when not mentioned are `Option`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// `set limit`.
    pub limits: Limits,
    /// `set timeout` and `set optimization`.
    pub timeouts: Timeouts,
    /// `set skip on`: interface and group names.
    pub skip: Vec<String>,
    /// `set syncookies`; `None` keeps what is in force.
    pub syncookies: Option<Syncookies>,
}

/// `set syncookies`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Syncookies {
    /// When cookies are sent.
    pub mode: SyncookieMode,
    /// The word `classic`: exactly pf's behaviour, its half-open counter included.
    pub classic: bool,
    /// Marks of adaptive mode in states; `None` keeps what is in force.
    pub watermarks: Option<Watermarks>,
}

/// When SYN cookies are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncookieMode {
    /// Never.
    #[default]
    Never,
    /// For every SYN.
    Always,
    /// While more connections are half open than the marks allow.
    Adaptive,
}

/// High and low count of half-open connections that switch adaptive syncookies with hysteresis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watermarks {
    /// Cookies start when more connections than this are half open.
    pub start: u32,
    /// Cookies end when fewer than this are half open.
    pub end: u32,
}

impl Watermarks {
    /// Share of the limit at which cookies start when the file does not say, in percent.
    pub const DEFAULT_START_PERCENT: u32 = 25;

    /// Marks at `start` and `end` percent of `limit states`, in 64 bits so that large limits do
    /// not overflow (pf does at 2^32).
    #[must_use]
    pub fn from_percent(states_limit: u32, start: u32, end: u32) -> Self {
        let share = |percent: u32| {
            let mark = u64::from(states_limit) * u64::from(percent) / 100;
            u32::try_from(mark).unwrap_or(u32::MAX)
        };
        Self { start: share(start), end: share(end) }
    }
}

impl Default for Watermarks {
    /// The marks before any ruleset is loaded: 25 % and 12.5 % of 100,000 states.
    fn default() -> Self {
        Self { start: 25_000, end: 12_500 }
    }
}

/// A table definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// One expanded rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What happens to a packet that this rule decides.
    pub action: Action,
    /// Direction; `None` is both.
    pub direction: Option<Direction>,
    /// Ends the evaluation when the rule matches.
    pub quick: bool,
    /// `on`.
    pub interface: Option<InterfaceMatch>,
    /// Address family; `None` is both.
    pub af: Option<Af>,
    /// IP protocol number; `None` is any.
    pub proto: Option<u8>,
    /// Source.
    pub from: Endpoint,
    /// Destination.
    pub to: Endpoint,
    /// TCP flags; `None` is `flags any`.
    pub flags: Option<TcpFlagsMatch>,
    /// ICMP type and code.
    pub icmp: Option<IcmpMatch>,
    /// What a passed packet leaves behind.
    pub state: StatePolicy,
    /// `label`.
    pub label: Option<String>,
}

/// What happens to a packet that a rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// `pass`
    Pass,
    /// `block`
    Block(BlockAnswer),
    /// `match`: never decides.
    Match,
}

/// What the sender of a blocked packet hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockAnswer {
    /// Nothing.
    Drop,
    /// RST for TCP, ICMP unreachable for the rest.
    Return,
    /// RST for TCP only; `ttl` of its IPv4 header, default 64.
    ReturnRst {
        /// Time to live.
        ttl: Option<u8>,
    },
    /// ICMP for every protocol.
    ReturnIcmp {
        /// ICMP type 3 with this code for IPv4.
        code: u8,
        /// `ICMPv6` type 1 with this code for IPv6.
        code6: u8,
    },
}

/// `on [!] interface`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceMatch {
    /// `!`
    pub negated: bool,
    /// Interface or group; `any` is every interface that is not a loopback.
    pub name: String,
}

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
    Range(IpAddr, IpAddr),
    /// `<name>`
    Table(String),
    /// `(interface)`: the addresses it has when the packet comes.
    Dynamic(DynamicAddr),
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
}

/// Which addresses of an interface a dynamic address means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// `flags want/mask`: the packet's flags in `mask` are exactly `want`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpFlagsMatch {
    /// Flags that must be set, a subset of `mask`.
    pub want: u8,
    /// Flags that are looked at.
    pub mask: u8,
}

impl TcpFlagsMatch {
    /// `flags S/SA`, the default of stateful pass rules.
    pub const S_SA: Self = Self { want: 0x02, mask: 0x12 };

    /// Letters of the flag bits 0 to 7 as pf.conf(5) writes them.
    pub const LETTERS: [char; 8] = ['F', 'S', 'R', 'P', 'A', 'U', 'E', 'W'];
}

/// Prints `S/SA`.
impl fmt::Display for TcpFlagsMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = |f: &mut fmt::Formatter<'_>, flags: u8| {
            for (bit, letter) in Self::LETTERS.iter().enumerate() {
                if flags & (1 << bit) != 0 {
                    write!(f, "{letter}")?;
                }
            }
            Ok(())
        };
        letters(f, self.want)?;
        f.write_str("/")?;
        letters(f, self.mask)
    }
}

/// `icmp-type T code C`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IcmpMatch {
    /// ICMP or `ICMPv6` type, by the family of the rule.
    pub icmp_type: u8,
    /// Code; `None` is any.
    pub code: Option<u8>,
}

/// What a passed packet leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatePolicy {
    /// `no state`; also block and match rules.
    #[default]
    None,
    /// `keep state`
    Keep,
}

impl Rule {
    /// A rule that matches every packet; the starting point of tests and of expansion.
    #[must_use]
    pub fn new(action: Action) -> Self {
        Self {
            action,
            direction: None,
            quick: false,
            interface: None,
            af: None,
            proto: None,
            from: Endpoint::default(),
            to: Endpoint::default(),
            flags: None,
            icmp: None,
            state: if action == Action::Pass { StatePolicy::Keep } else { StatePolicy::None },
            label: None,
        }
    }

    /// Names of the tables that the rule refers to.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        [&self.from, &self.to].into_iter().filter_map(|end| match &end.addr {
            AddrMatch::Table(name) => Some(name.as_str()),
            _ => None,
        })
    }
}
