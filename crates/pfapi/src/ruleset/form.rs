//! Rules on the wire: what a rule has of its own and what it shares are one object there.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    Action, Anchor, Common, Endpoint, FreeBsdWords, IcmpMatch, InterfaceMatch, Log, Pool,
    RareWords, Route, Rule, RuleKind, Scrub, SetActions, StateOptions, StatePolicy, TagMatch,
    TcpFlagsMatch,
};
use crate::addr::Af;
use crate::rare::Rare;
use crate::shared::Shared;
use crate::units::Direction;

/// The fields of a rule in their order; [`Rule`] and [`Common`] say what they mean.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Rule")]
#[expect(clippy::struct_excessive_bools, reason = "words of the language, in any combination")]
struct Form {
    #[serde(default, skip_serializing_if = "RuleKind::is_filter", getter = "kind")]
    kind: RuleKind,
    #[serde(default, skip_serializing_if = "Rare::is_usual")]
    freebsd: Rare<FreeBsdWords>,
    #[serde(default, skip_serializing_if = "Rare::is_usual")]
    rare: Rare<RareWords>,
    action: Action,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    anchor: Option<Box<Anchor>>,
    direction: Option<Direction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<Log>,
    quick: bool,
    interface: Option<Shared<InterfaceMatch>>,
    af: Option<Af>,
    proto: Option<u8>,
    from: Endpoint,
    to: Endpoint,
    flags: Option<TcpFlagsMatch>,
    icmp: Option<IcmpMatch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tos: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prio: Option<u8>,
    #[serde(default, skip_serializing_if = "Rare::is_usual")]
    set: Rare<SetActions>,
    state: StatePolicy,
    #[serde(default, skip_serializing_if = "Rare::is_usual")]
    state_options: Rare<StateOptions>,
    #[serde(default, skip_serializing_if = "is_false")]
    fragment: bool,
    #[serde(default, skip_serializing_if = "Scrub::is_empty")]
    scrub: Scrub,
    #[serde(default, skip_serializing_if = "is_false")]
    allow_opts: bool,
    label: Option<Shared<String>>,
    #[serde(default, skip_serializing_if = "is_false")]
    once: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<Shared<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tagged: Option<Shared<TagMatch>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    af_to: Option<Af>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nat: Option<Shared<Pool>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rdr: Option<Shared<Pool>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    route: Option<Shared<Route>>,
}

/// A field that has a getter: so serde makes rules of forms, and does not write them as one.
const fn kind(rule: &Rule) -> RuleKind {
    rule.kind
}

impl From<Form> for Rule {
    fn from(form: Form) -> Self {
        let common = Common {
            freebsd: form.freebsd,
            rare: form.rare,
            tos: form.tos,
            prio: form.prio,
            set: form.set,
            state_options: form.state_options,
            scrub: form.scrub,
            label: form.label,
            tag: form.tag,
            tagged: form.tagged,
            nat: form.nat,
            rdr: form.rdr,
            route: form.route,
        };
        Self {
            kind: form.kind,
            action: form.action,
            anchor: form.anchor,
            direction: form.direction,
            log: form.log,
            quick: form.quick,
            interface: form.interface,
            af: form.af,
            proto: form.proto,
            from: form.from,
            to: form.to,
            flags: form.flags,
            icmp: form.icmp,
            state: form.state,
            fragment: form.fragment,
            allow_opts: form.allow_opts,
            once: form.once,
            af_to: form.af_to,
            common: common.into(),
        }
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Form::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Form::deserialize(deserializer)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}
