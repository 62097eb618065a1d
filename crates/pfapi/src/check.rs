//! Checks that make a draft a ruleset that the engine may trust.
//!
//! The daemon runs them again on everything that arrives on the control socket. Texts follow
//! OpenBSD sbin/pfctl/parse.y `rule_consistent` where that function has one.

use crate::addr::Af;
use crate::limit::Limit;
use crate::port::PortMatch;
use crate::ruleset::{
    Action, AddrMatch, BlockAnswer, Draft, Endpoint, Options, Rule, StatePolicy, TableDef, proto,
};

/// Longest table name in octets (`PF_TABLE_NAME_SIZE` less the terminator).
pub const TABLE_NAME_MAX: usize = 31;
/// Longest label in octets (`PF_RULE_LABEL_SIZE` less the terminator).
pub const LABEL_MAX: usize = 63;
/// Longest interface or group name in octets (`IFNAMSIZ` less the terminator).
pub const INTERFACE_NAME_MAX: usize = 15;
/// Most rules in one ruleset; far above any real file, below any memory trouble.
pub const RULES_MAX: usize = 1_000_000;

/// Rules that passed every check of pf.conf(5). Only [`check`] makes one, so evaluation trusts it.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedRuleset(Draft<()>);

impl CheckedRuleset {
    /// Settings of the whole filter.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.0.options
    }

    /// Tables in definition order.
    #[must_use]
    pub fn tables(&self) -> impl ExactSizeIterator<Item = &TableDef> {
        self.0.tables.iter().map(|((), table)| table)
    }

    /// Rules in evaluation order; the position is the rule number.
    #[must_use]
    pub fn rules(&self) -> impl ExactSizeIterator<Item = &Rule> {
        self.0.rules.iter().map(|((), rule)| rule)
    }

    /// Gives the parts up again, for sending.
    #[must_use]
    pub fn into_parts(self) -> (Options, Vec<TableDef>, Vec<Rule>) {
        let tables = self.0.tables.into_iter().map(|((), table)| table).collect();
        let rules = self.0.rules.into_iter().map(|((), rule)| rule).collect();
        (self.0.options, tables, rules)
    }
}

/// A mistake in a draft and where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{mistake}")]
pub struct RuleError<At> {
    /// Rule or table at fault; `None` for the options or the ruleset as a whole.
    pub at: Option<At>,
    /// What is wrong.
    pub mistake: Mistake,
}

/// What can be wrong in a draft.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// A port without a protocol that has ports.
    #[error("port only applies to tcp/udp")]
    PortWithoutProto,
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
    /// `proto icmp inet6` or `proto icmp6 inet`.
    #[error("proto {proto} doesn't match address family {af}")]
    IcmpFamily {
        /// `icmp` or `icmp6`.
        proto: &'static str,
        /// Family of the rule.
        af: Af,
    },
    /// `return-rst` on another protocol.
    #[error("return-rst can only be applied to TCP rules")]
    ReturnRstWithoutTcp,
    /// State on a rule that does not pass.
    #[error("keep state is great, but only for pass rules")]
    StateWithoutPass,
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
    /// Watermarks the wrong way round.
    #[error("start must be higher than end")]
    Watermarks,
}

/// Turns a draft into a ruleset that can be evaluated.
///
/// # Errors
/// Every mistake of the draft, in the order options, tables, rules.
pub fn check<At: Clone>(draft: Draft<At>) -> Result<CheckedRuleset, Vec<RuleError<At>>> {
    let mut errors = Vec::new();
    check_options(&draft, &mut errors);
    check_tables(&draft, &mut errors);
    for (at, rule) in &draft.rules {
        check_rule(rule, &mut |mistake| {
            errors.push(RuleError { at: Some(at.clone()), mistake });
        });
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(CheckedRuleset(Draft {
        options: draft.options,
        tables: draft.tables.into_iter().map(|(_, table)| ((), table)).collect(),
        rules: draft.rules.into_iter().map(|(_, rule)| ((), rule)).collect(),
    }))
}

fn check_options<At>(draft: &Draft<At>, errors: &mut Vec<RuleError<At>>) {
    let mut report = |mistake| errors.push(RuleError { at: None, mistake });
    if let Some(marks) = draft.options.syncookies.and_then(|setting| setting.watermarks)
        && marks.end > marks.start
    {
        report(Mistake::Watermarks);
    }
    for name in &draft.options.skip {
        check_name("interface name", name, INTERFACE_NAME_MAX, &mut report);
    }
    if draft.rules.len() > RULES_MAX {
        report(Mistake::TooManyRules { count: draft.rules.len() });
    }
    let entries =
        draft.tables.iter().map(|(_, table)| table.entries.as_ref().map_or(0, Vec::len)).sum();
    for (limit, count) in [(Limit::Tables, draft.tables.len()), (Limit::TableEntries, entries)] {
        let max = draft.options.limits.get(limit);
        if u32::try_from(count).unwrap_or(u32::MAX) > max {
            report(Mistake::Limit { limit, count, max });
        }
    }
}

fn check_tables<At: Clone>(draft: &Draft<At>, errors: &mut Vec<RuleError<At>>) {
    let mut seen = std::collections::BTreeSet::new();
    for (at, table) in &draft.tables {
        let mut report = |mistake| errors.push(RuleError { at: Some(at.clone()), mistake });
        check_name("table name", &table.name, TABLE_NAME_MAX, &mut report);
        if !seen.insert(table.name.as_str()) {
            report(Mistake::TableTwice(table.name.clone()));
        }
    }
}

fn check_name(what: &'static str, name: &str, max: usize, report: &mut impl FnMut(Mistake)) {
    let printable =
        name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte >= 0x80);
    if name.is_empty() || name.len() > max || !printable {
        report(Mistake::Name { what, name: name.to_owned(), max });
    }
}

/// Checks one rule; `report` is called once per mistake.
pub fn check_rule(rule: &Rule, report: &mut impl FnMut(Mistake)) {
    let is = |number: u8| rule.proto == Some(number);
    let has_ports = is(proto::TCP) || is(proto::UDP);
    if !has_ports && (rule.from.port.is_some() || rule.to.port.is_some()) {
        report(Mistake::PortWithoutProto);
    }
    if let Some(flags) = rule.flags {
        if rule.proto.is_some() && !is(proto::TCP) {
            report(Mistake::FlagsWithoutTcp);
        }
        if flags.want & !flags.mask != 0 {
            report(Mistake::FlagsAlwaysFalse);
        }
    }
    if rule.icmp.is_some() {
        if !is(proto::ICMP) && !is(proto::ICMPV6) {
            report(Mistake::IcmpTypeWithoutIcmp);
        }
        if rule.af.is_none() {
            report(Mistake::IcmpTypeWithoutAf);
        }
    }
    match (rule.proto, rule.af) {
        (Some(proto::ICMP), Some(af @ Af::Inet6)) => {
            report(Mistake::IcmpFamily { proto: "icmp", af });
        }
        (Some(proto::ICMPV6), Some(af @ Af::Inet)) => {
            report(Mistake::IcmpFamily { proto: "icmp6", af });
        }
        _ => {}
    }
    if matches!(rule.action, Action::Block(BlockAnswer::ReturnRst { .. })) && !is(proto::TCP) {
        report(Mistake::ReturnRstWithoutTcp);
    }
    if rule.action != Action::Pass && rule.state != StatePolicy::None {
        report(Mistake::StateWithoutPass);
    }
    if let Some(interface) = &rule.interface {
        check_name("interface name", &interface.name, INTERFACE_NAME_MAX, report);
    }
    if let Some(label) = &rule.label {
        check_name("label", label, LABEL_MAX, report);
    }
    check_endpoint(rule.af, &rule.from, report);
    check_endpoint(rule.af, &rule.to, report);
}

fn check_endpoint(af: Option<Af>, end: &Endpoint, report: &mut impl FnMut(Mistake)) {
    if let Some(
        PortMatch::Range(low, high) | PortMatch::Inside(low, high) | PortMatch::Outside(low, high),
    ) = end.port
        && low > high
    {
        report(Mistake::PortRange { low, high });
    }
    match &end.addr {
        AddrMatch::Any => {}
        AddrMatch::Net(prefix) => {
            if let Some(af) = af.filter(|&af| af != prefix.af()) {
                report(Mistake::AddressFamily { addr: prefix.to_string(), af });
            }
        }
        AddrMatch::Range(low, high) => {
            if Af::of(*low) != Af::of(*high) || low > high {
                report(Mistake::AddressRange { low: low.to_string(), high: high.to_string() });
            } else if let Some(af) = af.filter(|&af| af != Af::of(*low)) {
                report(Mistake::AddressFamily { addr: low.to_string(), af });
            }
        }
        AddrMatch::Table(name) => check_name("table name", name, TABLE_NAME_MAX, report),
        AddrMatch::Dynamic(dynamic) => {
            check_name("interface name", &dynamic.interface, INTERFACE_NAME_MAX, report);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{IcmpMatch, Syncookies, TcpFlagsMatch, Watermarks};

    fn mistakes(rule: Rule) -> Vec<Mistake> {
        let draft = Draft { options: Options::default(), tables: vec![], rules: vec![(0, rule)] };
        check(draft).map_or_else(
            |errors| errors.into_iter().map(|error| error.mistake).collect(),
            |_| vec![],
        )
    }

    #[test]
    fn plain_pass_is_accepted() {
        assert_eq!(mistakes(Rule::new(Action::Pass)), []);
    }

    #[test]
    fn each_mistake_is_reported() {
        let mut rule = Rule::new(Action::Pass);
        rule.to.port = Some(PortMatch::Range(90, 80));
        assert_eq!(
            mistakes(rule),
            [Mistake::PortWithoutProto, Mistake::PortRange { low: 90, high: 80 }]
        );
        let mut rule = Rule::new(Action::Block(BlockAnswer::ReturnRst { ttl: None }));
        rule.state = StatePolicy::Keep;
        assert_eq!(mistakes(rule), [Mistake::ReturnRstWithoutTcp, Mistake::StateWithoutPass]);
        let mut rule = Rule::new(Action::Pass);
        rule.proto = Some(proto::UDP);
        rule.flags = Some(TcpFlagsMatch { want: 0x10, mask: 0x02 });
        rule.icmp = Some(IcmpMatch { icmp_type: 8, code: None });
        assert_eq!(
            mistakes(rule),
            [
                Mistake::FlagsWithoutTcp,
                Mistake::FlagsAlwaysFalse,
                Mistake::IcmpTypeWithoutIcmp,
                Mistake::IcmpTypeWithoutAf
            ]
        );
        let mut rule = Rule::new(Action::Pass);
        rule.af = Some(Af::Inet6);
        rule.proto = Some(proto::ICMP);
        rule.from.addr = AddrMatch::Net("192.0.2.0/24".parse().unwrap());
        rule.to.addr = AddrMatch::Range("192.0.2.9".parse().unwrap(), "192.0.2.1".parse().unwrap());
        rule.label = Some(String::new());
        assert_eq!(mistakes(rule).len(), 4);
    }

    #[test]
    fn options_are_bounded() {
        let table = |name: &str| TableDef {
            name: name.to_owned(),
            persist: false,
            constant: false,
            counters: false,
            entries: None,
        };
        let mut options = Options::default();
        options.limits.set(Limit::Tables, 1);
        options.syncookies = Some(Syncookies {
            watermarks: Some(Watermarks { start: 1, end: 2 }),
            ..Syncookies::default()
        });
        let draft =
            Draft { options, tables: vec![(1, table("t")), (2, table("t"))], rules: vec![] };
        let errors = check(draft).unwrap_err();
        assert_eq!(errors[0].mistake, Mistake::Watermarks);
        assert_eq!(errors[1].mistake, Mistake::Limit { limit: Limit::Tables, count: 2, max: 1 });
        assert_eq!(errors[2], RuleError { at: Some(2), mistake: Mistake::TableTwice("t".into()) });
    }
}
