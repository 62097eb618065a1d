//! Checks that make a draft a ruleset that the engine may trust.
//!
//! The daemon runs them again on everything that arrives on the control socket. Texts follow
//! OpenBSD sbin/pfctl/parse.y `rule_consistent` where that function has one.

use crate::anchor::{Called, resolve};
use crate::dialect::Dialect;
use crate::limit::Limit;
use crate::osfp::{FINGERPRINTS_MAX, Fingerprint, OPTIONS_MAX, OS_WORD_MAX};
use crate::ruleset::{
    Altq, Anchor, AnchorRuleset, Draft, EtherRule, Options, QueueDef, Rule, SourceLimiter,
    StateLimiter, TableDef,
};

mod ether;
mod freebsd;
mod mistake;
mod rule;
mod unsupported;

pub use mistake::Mistake;
pub use rule::check_rule;
pub use unsupported::{Unsupported, unsupported};

/// Longest table name in octets (`PF_TABLE_NAME_SIZE` less the terminator).
pub const TABLE_NAME_MAX: usize = 31;
/// Longest label in octets (`PF_RULE_LABEL_SIZE` less the terminator).
pub const LABEL_MAX: usize = 63;
/// Longest interface or group name in octets (`IFNAMSIZ` less the terminator).
pub const INTERFACE_NAME_MAX: usize = 15;
/// Longest tag in octets (`PF_TAG_NAME_SIZE` less the terminator).
pub const TAG_MAX: usize = 63;
/// Longest route label in octets (`RTLABEL_LEN` less the terminator).
pub const ROUTE_LABEL_MAX: usize = 31;
/// Longest queue name in octets (`PF_QNAME_SIZE` less the terminator).
pub const QUEUE_NAME_MAX: usize = 63;
/// Longest path of an anchor in octets (`PATH_MAX` less the terminator).
pub const ANCHOR_PATH_MAX: usize = 1023;
/// Deepest nesting of inline anchors (`PFCTL_ANCHOR_STACK_DEPTH` less one).
pub const ANCHOR_DEPTH_MAX: usize = 63;
/// Highest routing table and domain (`RT_TABLEID_MAX`).
pub const RTABLE_MAX: u32 = 255;
/// Most rules in one ruleset; far above any real file, below any memory trouble: they take about
/// 200 MB.
pub const RULES_MAX: usize = 500_000;

/// What a ruleset is made of, for sending.
#[derive(Clone, Debug, Default)]
pub struct LoadParts {
    /// Settings of the whole filter.
    pub options: Options,
    /// Tables of the main ruleset under the empty path, and those of anchors.
    pub tables: Vec<(String, Vec<TableDef>)>,
    /// Rules of every ruleset with its path; bodies of inline anchors stand apart.
    pub rulesets: Vec<(String, Vec<Rule>)>,
    /// Database for `os`; `None` keeps what is in force.
    pub fingerprints: Option<Vec<Fingerprint>>,
    /// Queues of the main ruleset.
    pub queues: Vec<QueueDef>,
    /// FreeBSD's queues, by interface.
    pub altq: Vec<Altq>,
    /// `state limiter` lines.
    pub state_limiters: Vec<StateLimiter>,
    /// `source limiter` lines.
    pub source_limiters: Vec<SourceLimiter>,
}

/// Rules that passed every check of pf.conf(5). Only [`check`] makes one, so evaluation trusts it.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedRuleset(Draft<()>);

impl CheckedRuleset {
    /// Whose pf.conf it comes from.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.0.dialect
    }

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
        self.0.rules.iter()
    }

    /// Queues in definition order.
    #[must_use]
    pub fn queues(&self) -> &[QueueDef] {
        &self.0.queues
    }

    /// What `load anchor` brought, in its order.
    #[must_use]
    pub fn anchors(&self) -> &[AnchorRuleset] {
        &self.0.anchors
    }

    /// FreeBSD's queues, by interface.
    #[must_use]
    pub fn altq(&self) -> &[Altq] {
        &self.0.altq
    }

    /// Rules for Ethernet frames in evaluation order.
    #[must_use]
    pub fn ether(&self) -> &[EtherRule] {
        &self.0.ether
    }

    /// `state limiter` lines.
    #[must_use]
    pub fn state_limiters(&self) -> &[StateLimiter] {
        &self.0.state_limiters
    }

    /// `source limiter` lines.
    #[must_use]
    pub fn source_limiters(&self) -> &[SourceLimiter] {
        &self.0.source_limiters
    }

    /// Every ruleset with its path from this one, which comes first under the empty path: anchors
    /// with a body, and what `load anchor` brought. A path comes as often as the file fills it;
    /// rules of the same path follow each other.
    #[must_use]
    pub fn rulesets(&self) -> Vec<(String, Vec<&Rule>)> {
        let mut found = vec![(String::new(), self.rules().collect())];
        for rule in self.rules() {
            bodies("", rule, &mut found);
        }
        for anchor in self.anchors() {
            found.push((anchor.path.clone(), anchor.rules.iter().collect()));
            for rule in &anchor.rules {
                bodies(&anchor.path, rule, &mut found);
            }
        }
        found
    }

    /// Database for `os`; `None` keeps what is in force.
    #[must_use]
    pub fn fingerprints(&self) -> Option<&[Fingerprint]> {
        self.0.fingerprints.as_deref()
    }

    /// Gives the parts up again, for sending. What [`unsupported`] names has no frame: who sends a
    /// ruleset asks that function first.
    #[must_use]
    pub fn into_parts(self) -> LoadParts {
        let main = self.0.tables.into_iter().map(|((), table)| table).collect();
        let mut parts = LoadParts {
            options: self.0.options,
            tables: vec![(String::new(), main)],
            rulesets: Vec::new(),
            fingerprints: self.0.fingerprints,
            queues: self.0.queues,
            altq: self.0.altq,
            state_limiters: self.0.state_limiters,
            source_limiters: self.0.source_limiters,
        };
        take_apart(String::new(), self.0.rules, &mut parts.rulesets);
        for anchor in self.0.anchors {
            parts.tables.push((anchor.path.clone(), anchor.tables));
            take_apart(anchor.path, anchor.rules, &mut parts.rulesets);
        }
        parts
    }
}

/// Adds rules and, behind them, the bodies of their inline anchors, which leave an empty one.
fn take_apart(path: String, mut rules: Vec<Rule>, found: &mut Vec<(String, Vec<Rule>)>) {
    let mut bodies = Vec::new();
    for rule in &mut rules {
        if let Some(anchor) = &mut rule.anchor
            && let Some(body) = &mut anchor.rules
            && let Called::One(inner) = resolve(&path, &anchor.path)
        {
            bodies.push((inner, core::mem::take(body)));
        }
    }
    found.push((path, rules));
    for (path, body) in bodies {
        take_apart(path, body, found);
    }
}

/// Adds the body of an inline anchor in the ruleset `base` and those inside it.
fn bodies<'a>(base: &str, rule: &'a Rule, found: &mut Vec<(String, Vec<&'a Rule>)>) {
    let Some(Anchor { path, rules: Some(rules) }) = rule.anchor.as_deref() else { return };
    let Called::One(path) = resolve(base, path) else { return };
    found.push((path.clone(), rules.iter().collect()));
    for rule in rules {
        bodies(&path, rule, found);
    }
}

/// What in a draft a mistake is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<At> {
    /// The rule with this number, or one in its anchor.
    Rule(usize),
    /// A table.
    Table(At),
}

/// A mistake in a draft and where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{mistake}")]
pub struct RuleError<At> {
    /// `None` for the options or the ruleset as a whole.
    pub at: Option<Place<At>>,
    /// What is wrong.
    pub mistake: Mistake,
}

/// Turns a draft into a ruleset that can be evaluated.
///
/// # Errors
/// Every mistake of the draft, in the order options, tables, rules.
///
/// ```
/// use pfapi::check::{Mistake, check};
/// use pfapi::port::PortMatch;
/// use pfapi::ruleset::{Action, Draft, Rule};
///
/// let mut rule = Rule::new(Action::Pass);
/// rule.to.port = Some(PortMatch::Equal(80));
/// let draft = Draft::<()> { rules: vec![rule], ..Draft::default() };
/// let errors = check(draft.clone()).unwrap_err();
/// assert_eq!(errors[0].mistake, Mistake::PortWithoutProto);
///
/// let mut right = draft;
/// right.rules[0].proto = Some(6);
/// assert_eq!(check(right).unwrap().rules().len(), 1);
/// ```
pub fn check<At: Clone>(draft: Draft<At>) -> Result<CheckedRuleset, Vec<RuleError<At>>> {
    let mut errors = Vec::new();
    check_options(&draft, &mut errors);
    check_tables(&draft, &mut errors);
    for (number, rule) in draft.rules.iter().enumerate() {
        check_tree(rule, draft.dialect, 0, &mut |mistake| {
            errors.push(RuleError { at: Some(Place::Rule(number)), mistake });
        });
    }
    for anchor in &draft.anchors {
        let mut report = |mistake| errors.push(RuleError { at: None, mistake });
        check_name("anchor", &anchor.path, ANCHOR_PATH_MAX, &mut report);
        for rule in &anchor.rules {
            check_tree(rule, draft.dialect, 0, &mut report);
        }
        check_names_of_tables(&anchor.tables, &mut report);
        ether::check_rules(&anchor.ether, 0, &mut report);
    }
    check_fingerprints(draft.fingerprints.as_deref().unwrap_or_default(), &mut errors);
    let mut report = |mistake| errors.push(RuleError { at: None, mistake });
    ether::check_rules(&draft.ether, 0, &mut report);
    ether::check_queues(&draft.altq, &mut report);
    ether::check_limiters(&draft.state_limiters, &draft.source_limiters, &mut report);
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(CheckedRuleset(Draft {
        dialect: draft.dialect,
        options: draft.options,
        queues: draft.queues,
        anchors: draft.anchors,
        altq: draft.altq,
        ether: draft.ether,
        state_limiters: draft.state_limiters,
        source_limiters: draft.source_limiters,
        fingerprints: draft.fingerprints,
        tables: draft.tables.into_iter().map(|(_, table)| ((), table)).collect(),
        rules: draft.rules,
    }))
}

/// Checks a rule and those in its inline anchor.
fn check_tree(rule: &Rule, dialect: Dialect, depth: usize, report: &mut impl FnMut(Mistake)) {
    check_rule(rule, dialect, report);
    let Some(rules) = rule.anchor.as_ref().and_then(|anchor| anchor.rules.as_ref()) else { return };
    if depth == ANCHOR_DEPTH_MAX {
        report(Mistake::AnchorDepth);
        return;
    }
    for rule in rules {
        check_tree(rule, dialect, depth + 1, report);
    }
}

fn check_options<At>(draft: &Draft<At>, errors: &mut Vec<RuleError<At>>) {
    let mut report = |mistake| errors.push(RuleError { at: None, mistake });
    if let Some(marks) = draft.options.syncookies.and_then(|setting| setting.watermarks)
        && marks.end > marks.start
    {
        report(Mistake::Watermarks);
    }
    if let Some(setting) = draft.options.syncookies
        && setting.server.is_some_and(|server| setting.classic || !server.is_valid())
    {
        report(Mistake::ServerOptions);
    }
    for name in &draft.options.skip {
        check_name("interface name", name, INTERFACE_NAME_MAX, &mut report);
    }
    let count =
        draft.rules.len() + draft.anchors.iter().map(|anchor| anchor.rules.len()).sum::<usize>();
    if count > RULES_MAX {
        report(Mistake::TooManyRules { count });
    }
    for queue in &draft.queues {
        check_name("queue name", &queue.name, QUEUE_NAME_MAX, &mut report);
    }
    let inside = draft.anchors.iter().flat_map(|anchor| &anchor.tables);
    let (mut tables, mut entries) = (0, 0);
    for table in draft.tables.iter().map(|(_, table)| table).chain(inside) {
        tables += 1;
        entries += table.entries.as_ref().map_or(0, Vec::len);
    }
    for (limit, count) in [(Limit::Tables, tables), (Limit::TableEntries, entries)] {
        let max = draft.options.limits.get(limit);
        if u32::try_from(count).unwrap_or(u32::MAX) > max {
            report(Mistake::Limit { limit, count, max });
        }
    }
}

fn check_tables<At: Clone>(draft: &Draft<At>, errors: &mut Vec<RuleError<At>>) {
    let mut seen = std::collections::BTreeSet::new();
    for (at, table) in &draft.tables {
        let mut report =
            |mistake| errors.push(RuleError { at: Some(Place::Table(at.clone())), mistake });
        check_name("table name", &table.name, TABLE_NAME_MAX, &mut report);
        if !seen.insert(table.name.as_str()) {
            report(Mistake::TableTwice(table.name.clone()));
        }
    }
}

/// Checks the tables of one anchor.
fn check_names_of_tables(tables: &[TableDef], report: &mut impl FnMut(Mistake)) {
    let mut seen = std::collections::BTreeSet::new();
    for table in tables {
        check_name("table name", &table.name, TABLE_NAME_MAX, report);
        if !seen.insert(table.name.as_str()) {
            report(Mistake::TableTwice(table.name.clone()));
        }
    }
}

fn check_fingerprints<At>(entries: &[Fingerprint], errors: &mut Vec<RuleError<At>>) {
    let mut report = |mistake| errors.push(RuleError { at: None, mistake });
    let systems: usize = entries.iter().map(|entry| entry.systems.len()).sum();
    for (what, count) in [("entries", entries.len()), ("systems", systems)] {
        if count > FINGERPRINTS_MAX {
            report(Mistake::Fingerprints { what, max: FINGERPRINTS_MAX });
        }
    }
    if entries.iter().any(|entry| entry.options.len() > OPTIONS_MAX) {
        report(Mistake::Fingerprints { what: "options in an entry", max: OPTIONS_MAX });
    }
    for system in entries.iter().flat_map(|entry| &entry.systems) {
        let words = [Some(&system.class), system.version.as_ref(), system.subtype.as_ref()];
        for word in words.into_iter().flatten() {
            check_name("name of a system", word, OS_WORD_MAX, &mut report);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Af;
    use crate::port::PortMatch;
    use crate::ruleset::{
        Action, AddrMatch, BlockAnswer, IcmpMatch, ServerOptions, StatePolicy, Syncookies,
        TcpFlagsMatch, Watermarks, proto,
    };

    fn mistakes(rule: Rule) -> Vec<Mistake> {
        let draft = Draft::<()> { rules: vec![rule], ..Draft::default() };
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
        rule.to.addr = AddrMatch::range("192.0.2.9".parse().unwrap(), "192.0.2.1".parse().unwrap());
        rule.label = Some("".into());
        assert_eq!(mistakes(rule).len(), 4);
    }

    #[test]
    fn options_are_bounded() {
        let table = |name: &str| TableDef { name: name.to_owned(), ..TableDef::default() };
        let mut options = Options::default();
        options.limits.set(Limit::Tables, 1);
        options.syncookies = Some(Syncookies {
            watermarks: Some(Watermarks { start: 1, end: 2 }),
            ..Syncookies::default()
        });
        let draft =
            Draft { options, tables: vec![(1, table("t")), (2, table("t"))], ..Draft::default() };
        let errors = check(draft).unwrap_err();
        assert_eq!(errors[0].mistake, Mistake::Watermarks);
        assert_eq!(errors[1].mistake, Mistake::Limit { limit: Limit::Tables, count: 2, max: 1 });
        assert_eq!(
            errors[2],
            RuleError { at: Some(Place::Table(2)), mistake: Mistake::TableTwice("t".into()) }
        );
    }

    /// No grammar stands in front of the control socket.
    #[test]
    fn options_of_servers_are_bounded() {
        let right = ServerOptions {
            mss: Some(64),
            wscale: Some(14),
            sack_perm: true,
            timestamp: true,
            ecn: true,
        };
        let of_rule = |server| {
            let mut rule = Rule::new(Action::Pass);
            rule.state = StatePolicy::Keep;
            rule.state_options.server = Some(server);
            mistakes(rule)
        };
        let of_setting = |server, classic| {
            let setting = Syncookies { server: Some(server), classic, ..Syncookies::default() };
            let options = Options { syncookies: Some(setting), ..Options::default() };
            check(Draft::<()> { options, ..Draft::default() }).map_err(|errors| errors.len())
        };
        assert_eq!(of_rule(right), []);
        assert!(of_setting(right, false).is_ok());
        assert_eq!(of_setting(right, true), Err(1));
        for wrong in [
            ServerOptions { mss: Some(63), ..right },
            ServerOptions { wscale: Some(15), ..right },
            ServerOptions { timestamp: false, ..right },
        ] {
            assert_eq!(of_rule(wrong), [Mistake::ServerOptions], "{wrong:?}");
            assert_eq!(of_setting(wrong, false), Err(1), "{wrong:?}");
        }
    }
}
