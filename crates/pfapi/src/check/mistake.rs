//! What can be wrong in a draft.

use crate::addr::Af;
use crate::check::{ANCHOR_DEPTH_MAX, RULES_MAX};
use crate::limit::Limit;

/// What can be wrong in a draft.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// A fingerprint on another protocol.
    #[error("os only applies to tcp")]
    OsWithoutTcp,
    /// A port without a protocol that has ports.
    #[error("port only applies to tcp/udp")]
    PortWithoutProto,
    /// The same on FreeBSD, where SCTP has ports.
    #[error("port only applies to tcp/udp/sctp")]
    PortWithoutProtoOrSctp,
    /// Ports of a `rdr` rule on a protocol without ports: `src`, `dst`, or those of the target.
    #[error("{0} port only applies to tcp/udp/sctp")]
    RedirectPort(&'static str),
    /// A comparison that a `rdr` rule cannot translate.
    #[error("invalid port operator for rdr destination port")]
    RedirectOperator,
    /// `user` or `group` on a protocol without sockets.
    #[error("{0} only applies to tcp/udp")]
    OwnerWithoutProto(&'static str),
    /// TCP flags on another protocol.
    #[error("flags only apply to tcp")]
    FlagsWithoutTcp,
    /// Wanted flags outside the mask: the rule could never match.
    #[error("flags always false")]
    FlagsAlwaysFalse,
    /// ICMP type on another protocol.
    #[error("icmp-type/code only applies to icmp")]
    IcmpTypeWithoutIcmp,
    /// ICMP type without a family.
    #[error("must indicate address family with icmp-type/code")]
    IcmpTypeWithoutAf,
    /// `af-to` the family that the rule has.
    #[error("must indicate different address family with af-to")]
    AfToSameFamily,
    /// `overload` without anything that could be too much.
    #[error("'overload' requires 'max-src-conn' or 'max-src-conn-rate'")]
    OverloadWithoutLimit,
    /// `proto icmp inet6` or `proto icmp6 inet`.
    #[error("proto {proto} doesn't match address family {af}")]
    IcmpFamily {
        /// `icmp` or `icmp6`.
        proto: &'static str,
        /// Family of the rule.
        af: Af,
    },
    /// `allow-opts` on a rule that does not pass.
    #[error("allow-opts can only be specified for pass rules")]
    AllowOptsWithoutPass,
    /// The same on FreeBSD, where match rules can have it.
    #[error("allow-opts can only be specified for pass or match rules")]
    AllowOptsOnBlock,
    /// `fragment` with conditions that fragments cannot fulfil.
    #[error("fragments can be filtered only on IP header fields")]
    FragmentFields,
    /// `return-rst` on another protocol.
    #[error("return-rst can only be applied to TCP rules")]
    ReturnRstWithoutTcp,
    /// `max-src-nodes` with `source-track global`.
    #[error("max-src-nodes requires 'source-track rule'")]
    SourceNodesGlobal,
    /// State on a rule that does not pass.
    #[error("keep state is great, but only for pass rules")]
    StateWithoutPass,
    /// Routing without state.
    #[error("route-to, reply-to and dup-to require keep state")]
    RouteWithoutState,
    /// `sloppy` where the handshake is looked at.
    #[error("sloppy state matching cannot be used with synproxy state or modulate state")]
    SloppyProxy,
    /// Translation without state.
    #[error("nat-to and rdr-to require keep state")]
    TranslationWithoutState,
    /// Translation without a direction.
    #[error("nat-to and rdr-to require a direction")]
    TranslationWithoutDirection,
    /// IPv4 options on an IPv6 rule.
    #[error("address family inet6 does not support scrub options no-df, random-id")]
    ScrubInet6,
    /// `divert-*` on a match rule.
    #[error("divert is not supported on match rules")]
    DivertOnMatch,
    /// Routing on a rule that does not pass.
    #[error("route-to, reply-to and dup-to are not supported on {0} rules")]
    RouteOnAction(&'static str),
    /// The same on FreeBSD for match rules.
    #[error("route-to, reply-to, dup-to and fastroute must not be used on match rules")]
    RouteOnMatch,
    /// `dup-to` of packets that change their family.
    #[error("dup-to must not be used on af-to rules")]
    AfToDuplicates,
    /// `af-to` on a match rule.
    #[error("af-to is not supported on match rules")]
    AfToOnMatch,
    /// `once` on a match rule or an anchor.
    #[error("'once' only applies to pass/block rules")]
    OnceOnMatch,
    /// A number outside of its range.
    #[error("{what} {value} is outside its range")]
    Number {
        /// What it is of.
        what: &'static str,
        /// The number.
        value: u32,
    },
    /// Anchors in anchors in anchors.
    #[error("anchors are nested more than {ANCHOR_DEPTH_MAX} deep")]
    AnchorDepth,
    /// An address of the other family.
    #[error("address {addr} does not match address family {af}")]
    AddressFamily {
        /// The address as written.
        addr: String,
        /// Family of the rule.
        af: Af,
    },
    /// An address range with its ends exchanged or of two families.
    #[error("address range {low} - {high} is empty")]
    AddressRange {
        /// First address.
        low: String,
        /// Last address.
        high: String,
    },
    /// A port range with its ends exchanged.
    #[error("invalid port range {low}:{high}")]
    PortRange {
        /// First port.
        low: u16,
        /// Last port.
        high: u16,
    },
    /// A name that is empty, too long, or has characters that would not print.
    #[error("{what} {name:?} must have 1 to {max} printable characters")]
    Name {
        /// `table name`, `label`, `interface name`.
        what: &'static str,
        /// The name.
        name: String,
        /// Octets at most.
        max: usize,
    },
    /// Two definitions of one table.
    #[error("table <{0}> is defined twice")]
    TableTwice(String),
    /// More than `set limit` allows.
    #[error("{count} {limit} exceed the limit of {max}; raise it with `set limit {limit} {count}`")]
    Limit {
        /// Which limit.
        limit: Limit,
        /// What the ruleset has.
        count: usize,
        /// What the limit allows.
        max: u32,
    },
    /// More rules than any ruleset may have.
    #[error("{count} rules exceed the most that a ruleset may have, {RULES_MAX}")]
    TooManyRules {
        /// Rules after expansion.
        count: usize,
    },
    /// More fingerprints, systems or options than a database may have.
    #[error("the fingerprint database exceeds {max} {what}")]
    Fingerprints {
        /// What there is too much of.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// Watermarks the wrong way round.
    #[error("start must be higher than end")]
    Watermarks,
    /// Options of servers that cannot be.
    #[error(
        "mss must be at least 64, wscale at most 14, ecn needs timestamp, and classic has none"
    )]
    ServerOptions,
}
