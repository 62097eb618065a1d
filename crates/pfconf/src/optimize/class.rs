//! The fields of a rule, sorted by what the optimizer may do with rules that differ in them.
//!
//! The rule is taken apart in full, so that a new field must find its class here. The classes are
//! those of OpenBSD sbin/pfctl/pfctl_optimize.c `pf_rule_desc`: what it does not list there is
//! [`Unlisted`] here.

use pfapi::addr::Af;
use pfapi::port::PortMatch;
use pfapi::ruleset::{
    Action, BlockAnswer, Common, Divert, Dummynet, Endpoint, Flush, FreeBsdWords, IcmpMatch,
    IdMatch, InterfaceMatch, LimiterUse, Log, Pool, RareWords, Rate, RdomainMatch, Route, Rule,
    RuleKind, Scrub, ServerOptions, SetActions, SourceTrack, StateOptions, StatePolicy,
    SyncookieMode, TagMatch, TcpFlagsMatch,
};
use pfapi::timeout::Timeout;
use pfapi::units::Direction;

use super::address::Addr;

/// The fields of a rule by class.
#[derive(Debug)]
pub(super) struct Fields<'r> {
    pub(super) alone: Alone<'r>,
    pub(super) unlisted: Unlisted<'r>,
    pub(super) shared: Shared<'r>,
    pub(super) equal: Equal<'r>,
    pub(super) scope: Scope<'r>,
}

/// A rule with any of these is alone in its superblock (class BARRIER).
#[derive(Debug, PartialEq)]
pub(super) struct Alone<'r> {
    label: Option<&'r str>,
    more_labels: &'r [String],
    probability: Option<u32>,
    max: Option<u32>,
    max_src_nodes: Option<u32>,
    max_src_states: Option<u32>,
    max_src_conn: Option<u32>,
    max_src_conn_rate: Option<Rate>,
    /// Path; anchors are not looked into.
    anchor: Option<&'r str>,
    /// `source-track rule`
    counts_by_rule: bool,
}

impl Alone<'_> {
    /// Whether the rule is alone.
    pub(super) const fn is_set(&self) -> bool {
        let Self {
            label,
            more_labels,
            probability,
            max,
            max_src_nodes,
            max_src_states,
            max_src_conn,
            max_src_conn_rate,
            anchor,
            counts_by_rule,
        } = self;
        label.is_some()
            || !more_labels.is_empty()
            || probability.is_some()
            || max.is_some()
            || max_src_nodes.is_some()
            || max_src_states.is_some()
            || max_src_conn.is_some()
            || max_src_conn_rate.is_some()
            || anchor.is_some()
            || *counts_by_rule
    }
}

/// These are the same in a superblock, because nobody has said anything else.
#[derive(Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "fields of a rule, one by one")]
pub(super) struct Unlisted<'r> {
    received_on: Option<&'r InterfaceMatch>,
    max_pkt_rate: Option<Rate>,
    prio: Option<u8>,
    set_prio: Option<(u8, u8)>,
    /// Only whether it is set: the value is of class NEVER.
    sets_tos: bool,
    delay: Option<u16>,
    no_df: bool,
    random_id: bool,
    reassemble_tcp: bool,
    divert: Option<Divert>,
    max_pkt_size: Option<u16>,
    ridentifier: Option<u32>,
    dummynet: Option<Dummynet>,
    state_limiter: Option<&'r LimiterUse>,
    source_limiter: Option<&'r LimiterUse>,
}

/// These are the same in a superblock (class BREAK): what happens to a packet.
#[derive(Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "fields of a rule, one by one")]
pub(super) struct Shared<'r> {
    list: RuleKind,
    except: bool,
    action: Kind,
    log: Option<Log>,
    quick: bool,
    tag: Option<&'r str>,
    state: StatePolicy,
    tracks_sources: bool,
    no_sync: bool,
    if_bound: bool,
    sloppy: bool,
    pflow: bool,
    allow_related: bool,
    syncookies: Option<SyncookieMode>,
    server: Option<ServerOptions>,
    overload: Option<&'r str>,
    flush: Flush,
    queue: Option<&'r (String, Option<String>)>,
    fragment: bool,
    keep_fragments: bool,
    allow_opts: bool,
    once: bool,
    rtable: Option<u32>,
    translates_family: bool,
    nat: Option<&'r Pool>,
    rdr: Option<&'r Pool>,
    route: Option<&'r Route>,
}

/// What happens, without the codes of an ICMP answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pass,
    Match,
    Drop,
    Return,
    ReturnRst { ttl: u8 },
    ReturnIcmp,
}

/// These are the same in rules that are combined or removed (class NOMERGE).
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Equal<'r> {
    not_on: bool,
    rdomain: Option<u32>,
    tagged: Option<&'r TagMatch>,
    os: Option<&'r str>,
    /// By name, so that their order in the text is no difference.
    timeouts: Vec<(&'static str, u32)>,
    /// Codes of ICMP and `ICMPv6` answers.
    codes: Option<(u8, u8)>,
    user: Option<IdMatch>,
    group: Option<IdMatch>,
    icmp: Option<IcmpMatch>,
    tos: Option<u8>,
    af_to: Option<Af>,
}

/// Class NOMERGE as well, and the addresses, which may be combined (class COMBINED). A rule that
/// leaves one of these open includes those that do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scope<'r> {
    pub(super) interface: Option<&'r str>,
    pub(super) direction: Option<Direction>,
    pub(super) af: Option<Af>,
    pub(super) proto: Option<u8>,
    pub(super) flags: Option<TcpFlagsMatch>,
    pub(super) from_port: Option<PortMatch>,
    pub(super) to_port: Option<PortMatch>,
    /// `!` in front of the source, and of the destination; as in [`Equal`].
    pub(super) not_from: bool,
    pub(super) not_to: bool,
    pub(super) from: Addr<'r>,
    pub(super) to: Addr<'r>,
}

impl<'r> Fields<'r> {
    #[expect(clippy::too_many_lines, reason = "one list of all fields")]
    pub(super) fn of(rule: &'r Rule) -> Self {
        let Rule {
            kind: list,
            action,
            anchor,
            direction,
            log,
            quick,
            interface,
            af,
            proto,
            from: Endpoint { negated: not_from, addr: from, port: from_port },
            to: Endpoint { negated: not_to, addr: to, port: to_port },
            flags,
            icmp,
            state,
            fragment,
            allow_opts,
            once,
            af_to,
            common,
        } = rule;
        let Common {
            freebsd,
            rare,
            tos,
            prio,
            set,
            state_options,
            // The values of `min-ttl`, `max-mss` and `set tos` are of class NEVER, as a rule that
            // decides has none: pfctl ignores them. So of two `match` lines that differ in nothing
            // else, only the first stays.
            scrub:
                Scrub {
                    no_df,
                    random_id,
                    min_ttl: _,
                    reassemble_tcp,
                    max_mss: _,
                    set_tos: scrub_tos,
                    keep_fragments,
                },
            label,
            tag,
            tagged,
            nat,
            rdr,
            route,
        } = &**common;
        let RareWords {
            rdomain,
            os,
            received_on,
            user,
            group,
            max_pkt_rate,
            probability,
            rtable,
            divert,
        } = &**rare;
        let SetActions { prio: set_prio, queue, tos: set_tos, delay } = &**set;
        let StateOptions {
            max,
            no_sync,
            source_track,
            max_src_states,
            max_src_conn,
            max_src_conn_rate,
            max_src_nodes,
            overload,
            if_bound,
            sloppy,
            pflow,
            timeouts,
            allow_related,
            syncookies,
            server,
        } = &**state_options;
        let FreeBsdWords {
            except,
            translate_pass: _,
            max_pkt_size,
            more_labels,
            ridentifier,
            dummynet,
            state_limiter,
            source_limiter,
        } = &**freebsd;
        Self {
            alone: Alone {
                label: label.as_ref().map(|label| label.as_str()),
                more_labels,
                probability: *probability,
                max: *max,
                max_src_nodes: *max_src_nodes,
                max_src_states: *max_src_states,
                max_src_conn: *max_src_conn,
                max_src_conn_rate: *max_src_conn_rate,
                anchor: anchor.as_ref().map(|anchor| anchor.path.as_str()),
                counts_by_rule: *source_track == Some(SourceTrack::Rule),
            },
            unlisted: Unlisted {
                received_on: received_on.as_ref(),
                max_pkt_rate: *max_pkt_rate,
                prio: *prio,
                set_prio: *set_prio,
                sets_tos: set_tos.is_some() || scrub_tos.is_some(),
                delay: *delay,
                no_df: *no_df,
                random_id: *random_id,
                reassemble_tcp: *reassemble_tcp,
                divert: *divert,
                max_pkt_size: *max_pkt_size,
                ridentifier: *ridentifier,
                dummynet: *dummynet,
                state_limiter: state_limiter.as_ref(),
                source_limiter: source_limiter.as_ref(),
            },
            shared: Shared {
                list: *list,
                except: *except,
                action: kind(*action),
                log: *log,
                quick: *quick,
                tag: tag.as_ref().map(|tag| tag.as_str()),
                state: *state,
                tracks_sources: source_track.is_some(),
                no_sync: *no_sync,
                if_bound: *if_bound,
                sloppy: *sloppy,
                pflow: *pflow,
                allow_related: *allow_related,
                syncookies: *syncookies,
                server: *server,
                overload: overload.as_ref().map(|overload| overload.table.as_str()),
                flush: overload.as_ref().map_or(Flush::No, |overload| overload.flush),
                queue: queue.as_ref(),
                fragment: *fragment,
                keep_fragments: *keep_fragments,
                allow_opts: *allow_opts,
                once: *once,
                rtable: *rtable,
                translates_family: af_to.is_some(),
                nat: nat.as_deref(),
                rdr: rdr.as_deref(),
                route: route.as_deref(),
            },
            equal: Equal {
                not_on: interface.as_ref().is_some_and(|on| on.negated)
                    || rdomain.is_some_and(|on| on.negated),
                rdomain: rdomain.map(|RdomainMatch { negated: _, id }| id),
                tagged: tagged.as_deref(),
                os: os.as_deref(),
                timeouts: by_name(timeouts),
                codes: codes(*action),
                user: *user,
                group: *group,
                icmp: *icmp,
                tos: *tos,
                af_to: *af_to,
            },
            scope: Scope {
                interface: interface.as_ref().map(|on| on.name.as_str()),
                direction: *direction,
                af: *af,
                proto: *proto,
                flags: flags.filter(|flags| flags.want != 0 || flags.mask != 0),
                from_port: *from_port,
                to_port: *to_port,
                not_from: *not_from,
                not_to: *not_to,
                from: Addr::of(from, *af),
                to: Addr::of(to, *af),
            },
        }
    }

    /// Whether the rule has a pool to choose addresses from.
    pub(super) const fn has_pool(&self) -> bool {
        self.shared.nat.is_some() || self.shared.rdr.is_some() || self.shared.route.is_some()
    }

    /// Whether nothing behind the rule is looked at when it matches.
    pub(super) const fn is_quick(&self) -> bool {
        self.shared.quick
    }
}

impl Equal<'_> {
    /// `on !`
    pub(super) const fn not_on(&self) -> bool {
        self.not_on
    }

    pub(super) const fn rdomain(&self) -> Option<u32> {
        self.rdomain
    }

    /// Whether nothing of this is said.
    pub(super) const fn is_usual(&self) -> bool {
        let Self { not_on, rdomain, tagged, os, timeouts, codes, user, group, icmp, tos, af_to } =
            self;
        !*not_on
            && rdomain.is_none()
            && tagged.is_none()
            && os.is_none()
            && timeouts.is_empty()
            && codes.is_none()
            && user.is_none()
            && group.is_none()
            && icmp.is_none()
            && tos.is_none()
            && af_to.is_none()
    }
}

const fn kind(action: Action) -> Kind {
    match action {
        Action::Pass => Kind::Pass,
        Action::Match => Kind::Match,
        Action::Block(BlockAnswer::Drop) => Kind::Drop,
        Action::Block(BlockAnswer::Return) => Kind::Return,
        Action::Block(BlockAnswer::ReturnRst { ttl: Some(ttl) }) => Kind::ReturnRst { ttl },
        Action::Block(BlockAnswer::ReturnRst { ttl: None }) => Kind::ReturnRst { ttl: 0 },
        Action::Block(BlockAnswer::ReturnIcmp { .. }) => Kind::ReturnIcmp,
    }
}

/// `return-rst` and what drops have no codes; `return` has the usual ones.
const fn codes(action: Action) -> Option<(u8, u8)> {
    match action {
        Action::Block(BlockAnswer::ReturnIcmp { code, code6 }) => Some((code, code6)),
        Action::Block(_) | Action::Pass | Action::Match => None,
    }
}

fn by_name(timeouts: &[(Timeout, u32)]) -> Vec<(&'static str, u32)> {
    let mut named: Vec<_> = timeouts.iter().map(|&(name, value)| (name.name(), value)).collect();
    named.sort_unstable();
    named
}
