//! One rule.

use core::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};

use super::{
    AddrMatch, Divert, Dummynet, Endpoint, IcmpMatch, IdMatch, InterfaceMatch, LimiterUse, Pool,
    Rate, RdomainMatch, Route, StateOptions, StatePolicy, TagMatch, TcpFlagsMatch,
};
use crate::addr::Af;
use crate::rare::{Rare, Usual};
use crate::shared::Shared;
use crate::units::Direction;

/// One expanded rule, or the call of an anchor.
///
/// It reads as its [`Common`] part as well: `rule.label` is `rule.common.label`. A write to that
/// part gives the rule one of its own, so what may be shared is looked at before it is changed.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "words of the language, in any combination")]
pub struct Rule {
    /// In which of the lists of rules it stands.
    pub kind: RuleKind,
    /// What happens to a packet that this rule decides; `Pass` for anchors and for rules that do
    /// not filter.
    pub action: Action,
    /// `anchor`: the rules below it are evaluated when the rule matches.
    pub anchor: Option<Box<Anchor>>,
    /// Direction; `None` is both.
    pub direction: Option<Direction>,
    /// `log`
    pub log: Option<Log>,
    /// Ends the evaluation when the rule matches.
    pub quick: bool,
    /// `on`.
    pub interface: Option<Shared<InterfaceMatch>>,
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
    /// `fragment`: fragments that were not put together, and nothing else.
    pub fragment: bool,
    /// `allow-opts`: packets with IP options pass too.
    pub allow_opts: bool,
    /// `once`: the rule is gone after its first match.
    pub once: bool,
    /// `af-to`: the family that packets get; the addresses are those of `nat` and `rdr`.
    pub af_to: Option<Af>,
    /// What the rules that one statement expands to mostly have in common.
    pub common: Rare<Common>,
}

/// What the rules that one statement expands to mostly have in common, and many do not have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Common {
    /// What only FreeBSD's rules can say.
    pub freebsd: Rare<FreeBsdWords>,
    /// What few rules say.
    pub rare: Rare<RareWords>,
    /// `tos`; never zero.
    pub tos: Option<u8>,
    /// `prio`: priority of the packet, 0 to 7.
    pub prio: Option<u8>,
    /// `set`: what is written onto the packet.
    pub set: Rare<SetActions>,
    /// What stands in the brackets behind `keep state`.
    pub state_options: Rare<StateOptions>,
    /// `scrub`
    pub scrub: Scrub,
    /// `label`.
    pub label: Option<Shared<String>>,
    /// `tag`
    pub tag: Option<Shared<String>>,
    /// `tagged`
    pub tagged: Option<Shared<TagMatch>>,
    /// `nat-to`: new source.
    pub nat: Option<Shared<Pool>>,
    /// `rdr-to`: new destination.
    pub rdr: Option<Shared<Pool>>,
    /// `route-to`, `reply-to`, `dup-to`
    pub route: Option<Shared<Route>>,
}

impl Usual for Common {
    fn usual() -> &'static Self {
        static USUAL: Common = Common {
            freebsd: Rare::usual(),
            rare: Rare::usual(),
            tos: None,
            prio: None,
            set: Rare::usual(),
            state_options: Rare::usual(),
            scrub: Scrub::NONE,
            label: None,
            tag: None,
            tagged: None,
            nat: None,
            rdr: None,
            route: None,
        };
        &USUAL
    }
}

impl Deref for Rule {
    type Target = Common;

    fn deref(&self) -> &Common {
        &self.common
    }
}

impl DerefMut for Rule {
    fn deref_mut(&mut self) -> &mut Common {
        &mut self.common
    }
}

/// Lists of rules, in the order in which packets pass them and in which they are listed.
///
/// On OpenBSD there is one. FreeBSD's pf cleans and translates with rules of their own.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum RuleKind {
    /// `scrub`
    Scrub,
    /// `nat`
    Nat,
    /// `rdr`
    Rdr,
    /// `binat`
    Binat,
    /// `dummynet`: macOS shapes packets with rules of their own. Only anchors for them are read.
    Dummynet,
    /// `pass`, `block`, `match`
    #[default]
    Filter,
}

/// What few rules say, in either dialect: it takes room only where it is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RareWords {
    /// `on rdomain`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdomain: Option<RdomainMatch>,
    /// `os`: fingerprint of the sender's system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// `received-on`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_on: Option<InterfaceMatch>,
    /// `user`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<IdMatch>,
    /// `group`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<IdMatch>,
    /// `max-pkt-rate`; the limit is never zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pkt_rate: Option<Rate>,
    /// `probability` as a share of 2^32 - 1; never zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<u32>,
    /// `rtable`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtable: Option<u32>,
    /// `divert-*`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divert: Option<Divert>,
}

impl Usual for RareWords {
    fn usual() -> &'static Self {
        static USUAL: RareWords = RareWords {
            rdomain: None,
            os: None,
            received_on: None,
            user: None,
            group: None,
            max_pkt_rate: None,
            probability: None,
            rtable: None,
            divert: None,
        };
        &USUAL
    }
}

/// What only FreeBSD's rules can say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FreeBsdWords {
    /// `no` in front of a rule that cleans or translates: packets are left as they are.
    pub except: bool,
    /// `nat pass` and the like: what is translated passes without a look at the filter.
    pub translate_pass: bool,
    /// `max-pkt-size` in octets; never zero.
    pub max_pkt_size: Option<u16>,
    /// Labels behind the first.
    pub more_labels: Vec<String>,
    /// `ridentifier`: a number that other programs know the rule by; never zero.
    pub ridentifier: Option<u32>,
    /// `dnpipe`, `dnqueue`
    pub dummynet: Option<Dummynet>,
    /// `state limiter`
    pub state_limiter: Option<LimiterUse>,
    /// `source limiter`
    pub source_limiter: Option<LimiterUse>,
}

impl Usual for FreeBsdWords {
    fn usual() -> &'static Self {
        static USUAL: FreeBsdWords = FreeBsdWords {
            except: false,
            translate_pass: false,
            max_pkt_size: None,
            more_labels: Vec::new(),
            ridentifier: None,
            dummynet: None,
            state_limiter: None,
            source_limiter: None,
        };
        &USUAL
    }
}

impl RuleKind {
    /// Whether rules of this kind filter.
    #[must_use]
    pub fn is_filter(&self) -> bool {
        *self == Self::Filter
    }

    /// The word that starts such rules; empty for those that filter.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Scrub => "scrub",
            Self::Nat => "nat",
            Self::Rdr => "rdr",
            Self::Binat => "binat",
            Self::Dummynet => "dummynet",
            Self::Filter => "",
        }
    }
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

/// `anchor`: a place for rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// Path as written: relative to the ruleset of the rule, or from `/`. Inline anchors without
    /// a name have one that starts with `_`.
    pub path: String,
    /// Rules between the braces of an inline anchor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule>>,
}

/// `log`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `all`: every packet of the state.
    pub all: bool,
    /// `matches`: later rules that match log too.
    pub matches: bool,
    /// `user`: who owns the socket.
    pub user: bool,
    /// `to pflogN`
    pub interface: u8,
}

/// `set`: what is written onto packets that a rule passes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SetActions {
    /// Priority, and the one of acknowledgements and low-delay packets.
    pub prio: Option<(u8, u8)>,
    /// Queue, and the one of acknowledgements and low-delay packets.
    pub queue: Option<(String, Option<String>)>,
    /// Type of service.
    pub tos: Option<u8>,
    /// Milliseconds that packets wait.
    pub delay: Option<u16>,
}

impl Usual for SetActions {
    fn usual() -> &'static Self {
        static USUAL: SetActions = SetActions { prio: None, queue: None, tos: None, delay: None };
        &USUAL
    }
}

impl SetActions {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `scrub`: how packets are cleaned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "words of the language, in any combination")]
pub struct Scrub {
    /// `no-df`: the don't-fragment bit is cleared.
    pub no_df: bool,
    /// `random-id`: the IPv4 identification is replaced.
    pub random_id: bool,
    /// `min-ttl`; 0 is not given.
    pub min_ttl: u8,
    /// `reassemble tcp`
    pub reassemble_tcp: bool,
    /// `max-mss`; 0 is not given.
    pub max_mss: u16,
    /// `set-tos` of a `scrub` rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_tos: Option<u8>,
    /// `fragment no reassemble` of a `scrub` rule.
    #[serde(skip_serializing_if = "is_false")]
    pub keep_fragments: bool,
}

impl Scrub {
    /// Packets are left as they are.
    pub const NONE: Self = Self {
        no_df: false,
        random_id: false,
        min_ttl: 0,
        reassemble_tcp: false,
        max_mss: 0,
        set_tos: None,
        keep_fragments: false,
    };

    /// Whether nothing is done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Rule {
    /// A rule that matches every packet; the starting point of tests and of expansion.
    #[must_use]
    pub fn new(action: Action) -> Self {
        Self {
            kind: RuleKind::Filter,
            action,
            anchor: None,
            direction: None,
            log: None,
            quick: false,
            interface: None,
            af: None,
            proto: None,
            from: Endpoint::default(),
            to: Endpoint::default(),
            flags: None,
            icmp: None,
            state: if action == Action::Pass { StatePolicy::Keep } else { StatePolicy::None },
            fragment: false,
            allow_opts: false,
            once: false,
            af_to: None,
            common: Rare::usual(),
        }
    }

    /// Names of the tables that the rule refers to.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        let pools = self.pools().flat_map(Pool::addresses);
        let ends = [&self.from.addr, &self.to.addr];
        let named = ends.into_iter().chain(pools).filter_map(|addr| match addr {
            AddrMatch::Table(name) => Some(name.as_str()),
            _ => None,
        });
        named.chain(self.state_options.overload.as_ref().map(|overload| overload.table.as_str()))
    }

    /// Its labels in their order; rules of FreeBSD may have several.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.label.as_deref().into_iter().chain(&self.freebsd.more_labels).map(String::as_str)
    }

    /// The pools of the rule.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> {
        let route = self.route.as_ref().map(|route| &route.pool);
        [self.nat.as_deref(), self.rdr.as_deref(), route].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_small() {
        // A ruleset may have 500,000, and the memory that reading takes is bounded by this.
        assert!(size_of::<Rule>() <= 112, "{}", size_of::<Rule>());
    }

    #[test]
    fn a_rule_is_one_object_on_the_wire() {
        let mut rule = Rule::new(Action::Pass);
        assert!(rule.common.is_usual() && rule.label.is_none());
        rule.quick = true;
        rule.label = Some("web".into());
        let copy = rule.clone();
        rule.tos = Some(16);
        assert_eq!((copy.tos, copy.label.as_ref()), (None, rule.label.as_ref()));
        let wire = serde_json::to_value(&rule).unwrap();
        assert_eq!(
            (&wire["quick"], &wire["label"], &wire["tos"]),
            (&true.into(), &"web".into(), &16.into())
        );
        assert!(wire.get("common").is_none() && wire.get("set").is_none());
        assert_eq!(serde_json::from_value::<Rule>(wire.clone()).unwrap(), rule);
        let mut strange = wire;
        strange["common"] = serde_json::json!({});
        assert!(serde_json::from_value::<Rule>(strange).is_err());
    }
}
