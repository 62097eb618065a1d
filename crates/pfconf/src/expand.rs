//! Expands the lists of a rule: one rule for each combination.
//!
//! Order, outermost first: interface, protocol, ICMP type, source, destination, source port,
//! destination port. Combinations of two families are left out. Source: OpenBSD
//! sbin/pfctl/parse.y `expand_rule`, `rule_consistent`, `expand_label`.

use pfapi::addr::Af;
use pfapi::check::{LABEL_MAX, Mistake, RULES_MAX, check_rule};
use pfapi::port::PortMatch;
use pfapi::ruleset::{
    Action, AddrMatch, Endpoint, IcmpMatch, InterfaceMatch, Rule, StatePolicy, TcpFlagsMatch, proto,
};

use crate::address::Host;
use crate::criteria::Flags;
use crate::diag::{Code, Diagnostic};
use crate::print;
use crate::rules::{Places, RuleSpec, label_too_long};
use crate::scan::Place;

/// Most lines that the classic rendering gives to one rule.
const CLASSIC_LINES_MAX: usize = 1_000;

/// The loops' variables: one item of each list.
struct Combination<'s> {
    interface: Option<&'s InterfaceMatch>,
    protocol: Option<u8>,
    icmp: Option<IcmpMatch>,
    from: &'s Host,
    to: &'s Host,
    from_port: Option<PortMatch>,
    to_port: Option<PortMatch>,
}

/// Appends the rules that `spec` stands for.
///
/// # Errors
/// What is wrong with the combinations, as one message.
pub(crate) fn expand(spec: &RuleSpec, rules: &mut Vec<Rule>) -> Result<(), Box<Diagnostic>> {
    let any = [Host::any()];
    let icmp_types = spec.icmp.as_ref().map(|(_, types)| types.as_slice()).unwrap_or_default();
    let from_hosts = if spec.from.hosts.is_empty() { &any[..] } else { &spec.from.hosts };
    let to_hosts = if spec.to.hosts.is_empty() { &any[..] } else { &spec.to.hosts };
    bounded(spec, rules.len(), [icmp_types.len(), from_hosts.len(), to_hosts.len()])?;

    let before = rules.len();
    let mut faults = Faults::default();
    for interface in each(&spec.interfaces) {
        for protocol in each(&spec.protocols) {
            for icmp in each(icmp_types) {
                for from in from_hosts {
                    for to in to_hosts {
                        for from_port in each(&spec.from.ports) {
                            for to_port in each(&spec.to.ports) {
                                let combination = Combination {
                                    interface,
                                    protocol: protocol.copied(),
                                    icmp: icmp.copied(),
                                    from,
                                    to,
                                    from_port: from_port.copied(),
                                    to_port: to_port.copied(),
                                };
                                if let Some(rule) = combine(spec, &combination) {
                                    add(spec, rule, rules, &mut faults);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    if faults.mistakes.is_empty() && rules.len() > before {
        return Ok(());
    }
    Err(Box::new(faults.into_diagnostic(spec, rules.len() > before)))
}

/// Each item of a list, or once nothing for an empty list.
fn each<T>(list: &[T]) -> impl Iterator<Item = Option<&T>> + Clone {
    let nothing = list.is_empty().then_some(None);
    nothing.into_iter().chain(list.iter().map(Some))
}

fn bounded(spec: &RuleSpec, rules: usize, more: [usize; 3]) -> Result<(), Box<Diagnostic>> {
    let lists =
        [spec.interfaces.len(), spec.protocols.len(), spec.from.ports.len(), spec.to.ports.len()];
    let count = lists
        .into_iter()
        .chain(more)
        .fold(1_usize, |product, len| product.saturating_mul(len.max(1)));
    if count.saturating_add(rules) <= RULES_MAX {
        return Ok(());
    }
    let text = format!(
        "rule expands to {count} rules, with {rules} before it more than the limit of {RULES_MAX}"
    );
    Err(Box::new(
        Diagnostic::error(Code::TooMany, text)
            .at(&spec.places.rule, "the lists of this rule multiply")
            .help("put long lists of addresses into a table"),
    ))
}

/// One rule, or nothing where the families or scopes exclude each other.
fn combine(spec: &RuleSpec, with: &Combination) -> Option<Rule> {
    let mut af = spec.af;
    for fixed in [with.from.af, with.to.af].into_iter().flatten() {
        if *af.get_or_insert(fixed) != fixed {
            return None;
        }
    }
    let mut interface = with.interface.cloned();
    for scope in [&with.from.scope, &with.to.scope].into_iter().flatten() {
        match &interface {
            Some(interface) if interface.name != *scope => return None,
            Some(_) => {}
            None => interface = Some(InterfaceMatch { negated: false, name: scope.clone() }),
        }
    }
    let end = |host: &Host, port| Endpoint { negated: host.negated, addr: host.addr.clone(), port };
    let state = match (spec.state, spec.action) {
        (Some(state), _) => state,
        (None, Action::Pass) => StatePolicy::Keep,
        (None, _) => StatePolicy::None,
    };
    let may_be_tcp = with.protocol.is_none_or(|number| number == proto::TCP);
    let flags = match spec.flags {
        _ if !may_be_tcp => None,
        Some(Flags::Match(flags)) => Some(flags),
        Some(Flags::Any) => None,
        None => (state == StatePolicy::Keep).then_some(TcpFlagsMatch::S_SA),
    };
    Some(Rule {
        action: spec.action,
        direction: spec.direction,
        quick: spec.quick,
        interface,
        af,
        proto: with.protocol,
        from: end(with.from, with.from_port),
        to: end(with.to, with.to_port),
        flags,
        icmp: with.icmp,
        state,
        label: None,
    })
}

/// Checks a combination and appends it.
fn add(spec: &RuleSpec, mut rule: Rule, rules: &mut Vec<Rule>, faults: &mut Faults) {
    let mut wrong = false;
    let mut fault = |text: String, mistake: Option<Mistake>| {
        wrong = true;
        faults.note(text, mistake);
    };
    if let Some((af, _)) = spec.icmp {
        let wanted = if af == Af::Inet { proto::ICMP } else { proto::ICMPV6 };
        if rule.proto != Some(wanted) {
            fault("icmp-type mismatch".to_owned(), None);
        }
    }
    if let Some(template) = &spec.label {
        let label = label(template, &rule, rules.len());
        if label.len() > LABEL_MAX {
            faults.label_too_long = Some(label.len());
            return;
        }
        rule.label = Some(label).filter(|label| !label.is_empty());
    }
    check_rule(&rule, &mut |mistake| fault(mistake.to_string(), Some(mistake)));
    if wrong {
        faults.line("skipping rule due to errors".to_owned());
    } else {
        rules.push(rule);
    }
}

/// What was wrong with the combinations of one rule.
#[derive(Default)]
struct Faults {
    /// Classic lines in pfctl's order.
    lines: Vec<String>,
    /// Each mistake once, with its text.
    mistakes: Vec<(String, Option<Mistake>)>,
    label_too_long: Option<usize>,
}

impl Faults {
    fn line(&mut self, line: String) {
        if self.lines.len() < CLASSIC_LINES_MAX {
            self.lines.push(line);
        }
    }

    fn note(&mut self, text: String, mistake: Option<Mistake>) {
        if !self.mistakes.iter().any(|(known, _)| *known == text) && self.mistakes.len() < 20 {
            self.mistakes.push((text.clone(), mistake));
        }
        self.line(text);
    }

    fn into_diagnostic(mut self, spec: &RuleSpec, some_added: bool) -> Diagnostic {
        if let Some(len) = self.label_too_long {
            let here = spec.places.label.as_ref().unwrap_or(&spec.places.rule);
            return label_too_long(here, len).note("with its macros replaced");
        }
        if !some_added {
            self.lines.push("rule expands to no valid combination".to_owned());
        }
        let mut lines = self.lines.into_iter();
        let first = lines.next().unwrap_or_default();
        let mut mistakes = self.mistakes.into_iter();
        let (code, place, label, help) = match mistakes.next() {
            None => no_combination(&spec.places),
            Some((_, mistake)) => explain(mistake.as_ref(), spec),
        };
        let mut diagnostic = Diagnostic::error(code, first).at(place, label);
        if let Some(help) = help {
            diagnostic = diagnostic.help(help);
        }
        for (text, _) in mistakes {
            diagnostic = diagnostic.note(format!("also: {text}"));
        }
        lines.fold(diagnostic, Diagnostic::after)
    }
}

type Explained<'p> = (Code, &'p Place, &'static str, Option<&'static str>);

fn no_combination(places: &Places) -> Explained<'_> {
    let place = places.hosts.as_ref().unwrap_or(&places.rule);
    let label = "the addresses are of different families, or not of the family of the rule";
    (Code::NoCombination, place, label, Some("write one rule for each family"))
}

/// Code, place, label and way out of a mistake in a combination.
fn explain<'p>(mistake: Option<&Mistake>, spec: &'p RuleSpec) -> Explained<'p> {
    let places = &spec.places;
    let or_rule = |place: &'p Option<Place>| place.as_ref().unwrap_or(&places.rule);
    let Some(mistake) = mistake else {
        return (
            Code::Icmp,
            or_rule(&places.icmp),
            "this word does not belong to the protocol of the rule",
            Some("`icmp-type` needs `inet proto icmp`, `icmp6-type` needs `inet6 proto icmp6`"),
        );
    };
    match mistake {
        Mistake::PortWithoutProto => (
            Code::PortWithoutProto,
            or_rule(&places.port),
            "only tcp and udp have ports",
            Some("add `proto tcp` or `proto { tcp udp }` before `from`"),
        ),
        Mistake::PortRange { .. } => (
            Code::PortRange,
            or_rule(&places.port),
            "this range",
            Some("write the lower port first"),
        ),
        Mistake::FlagsWithoutTcp => {
            (Code::Flags, or_rule(&places.flags), "only tcp has flags", None)
        }
        Mistake::FlagsAlwaysFalse => (
            Code::Flags,
            or_rule(&places.flags),
            "flags in front of the slash are missing behind it",
            Some("behind the slash stand all flags that are looked at, as in `flags S/SA`"),
        ),
        Mistake::IcmpTypeWithoutIcmp => (
            Code::Icmp,
            or_rule(&places.icmp),
            "only icmp and icmp6 have types",
            Some("add `proto icmp` or `proto icmp6`"),
        ),
        Mistake::IcmpTypeWithoutAf => (
            Code::Icmp,
            or_rule(&places.icmp),
            "the family of the rule is not fixed",
            Some("add `inet` or `inet6` before `proto`"),
        ),
        Mistake::IcmpFamily { .. } => (
            Code::Family,
            or_rule(&places.protocol),
            "not in this address family",
            Some("`icmp` belongs to `inet`, `icmp6` to `inet6`"),
        ),
        Mistake::ReturnRstWithoutTcp => (
            Code::ReturnRst,
            &places.action,
            "only tcp has RST packets",
            Some("add `proto tcp`, or use `return`, which answers each protocol in its way"),
        ),
        Mistake::StateWithoutPass => (
            Code::State,
            or_rule(&places.state),
            "this rule does not let packets pass",
            Some("take `keep state` out"),
        ),
        Mistake::AddressFamily { .. } | Mistake::AddressRange { .. } => {
            (Code::Family, or_rule(&places.hosts), "these addresses", None)
        }
        Mistake::Name { .. }
        | Mistake::TableTwice(_)
        | Mistake::Limit { .. }
        | Mistake::TooManyRules { .. }
        | Mistake::Watermarks => (Code::NoCombination, &places.rule, "in this rule", None),
    }
}

/// Replaces the macros of a label by what the rule has.
fn label(template: &str, rule: &Rule, number: usize) -> String {
    if !template.contains('$') {
        return template.to_owned();
    }
    let interface = rule.interface.as_ref().map_or("any", |interface| interface.name.as_str());
    let protocol = rule.proto.map_or_else(|| "ip".to_owned(), print::protocol);
    let replacements = [
        ("$if", interface.to_owned()),
        ("$srcaddr", label_address(&rule.from)),
        ("$dstaddr", label_address(&rule.to)),
        ("$srcport", label_port(rule.from.port)),
        ("$dstport", label_port(rule.to.port)),
        ("$proto", protocol),
        ("$nr", number.to_string()),
    ];
    replacements.iter().fold(template.to_owned(), |label, (name, value)| label.replace(name, value))
}

fn label_address(end: &Endpoint) -> String {
    match &end.addr {
        AddrMatch::Range(..) => if end.negated { "! " } else { "" }.to_owned(),
        AddrMatch::Dynamic(dynamic) => {
            format!("{}({})", if end.negated { "! " } else { "" }, dynamic.interface)
        }
        _ => print::address(end),
    }
}

/// As pfctl: operators without blanks, nothing for a range.
fn label_port(port: Option<PortMatch>) -> String {
    match port {
        None | Some(PortMatch::Range(..)) => String::new(),
        Some(PortMatch::Equal(port)) => port.to_string(),
        Some(port) => port.to_string().replace(' ', ""),
    }
}
