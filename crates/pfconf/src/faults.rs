//! What was wrong with the combinations of one rule, as one message.

use pfapi::check::{Mistake, RULES_MAX};

use crate::diag::{Code, Diagnostic, Severity};
use crate::rules::{Places, RuleSpec};
use crate::scan::Place;

/// Most lines that the classic rendering gives to one rule.
const CLASSIC_LINES_MAX: usize = 1_000;

/// What was wrong with the combinations of one rule.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Classic lines in pfctl's order.
    lines: Vec<String>,
    /// Each mistake once, with its text.
    mistakes: Vec<(String, Option<Mistake>)>,
    /// Lines that pfctl writes without position.
    bare: Vec<String>,
    /// Outbound rules with `synproxy state`.
    synproxy: usize,
    label_too_long: bool,
    too_many: Option<String>,
}

impl Faults {
    pub(crate) fn line(&mut self, line: String) {
        if self.lines.len() < CLASSIC_LINES_MAX {
            self.lines.push(line);
        }
    }

    pub(crate) fn note(&mut self, text: String, mistake: Option<Mistake>) {
        if !self.mistakes.iter().any(|(known, _)| *known == text) && self.mistakes.len() < 20 {
            self.mistakes.push((text.clone(), mistake));
        }
        self.line(text);
    }

    pub(crate) fn netmask(&mut self, len: u8) {
        if self.bare.len() < CLASSIC_LINES_MAX {
            self.bare.push(format!("netmask {len} invalid for IPv4 address"));
        }
    }

    pub(crate) fn nothing_left(&mut self) {
        self.line("rule expands to no valid combination".to_owned());
    }

    pub(crate) const fn synproxy_outbound(&mut self) {
        self.synproxy += 1;
    }

    pub(crate) const fn label_too_long(&mut self) {
        self.label_too_long = true;
    }

    pub(crate) fn too_many(&mut self, count: usize, rules: usize) {
        self.too_many = Some(format!(
            "rule expands to {count} rules, with {rules} before it more than the limit of \
             {RULES_MAX}"
        ));
    }

    /// pfctl gives up.
    pub(crate) const fn is_fatal(&self) -> bool {
        self.label_too_long || self.too_many.is_some()
    }

    /// The warning and the error, where there are some.
    pub(crate) fn into_diagnostics(self, spec: &RuleSpec) -> Vec<Diagnostic> {
        let end = spec.places.end;
        let mut found = Vec::new();
        if self.synproxy > 0 {
            let text = "synproxy used for inbound rules only, ignored for outbound";
            let warning =
                Diagnostic::new(Severity::Warning, Code::SynproxyOutbound, text).line_at(end);
            let warning = warning
                .at(spec.places.of("state"), "works like `keep state` where packets go out")
                .help("add `in` behind `pass`");
            let again = std::iter::repeat_n(text, (self.synproxy - 1).min(CLASSIC_LINES_MAX));
            found.push(again.fold(warning, Diagnostic::after));
        }
        if let Some(text) = &self.too_many {
            found.push(
                Diagnostic::error(Code::TooMany, text)
                    .at(&spec.places.rule, "the lists of this rule multiply")
                    .line_at(end)
                    .help("put long lists of addresses into a table"),
            );
        } else if self.label_too_long {
            found.push(
                Diagnostic::fatal(Code::Label, "expand_label: label too long")
                    .title("a label or tag is too long")
                    .at(spec.places.of("label"), "more than 63 octets with its macros replaced"),
            );
        } else if !self.lines.is_empty() {
            found.push(self.into_error(spec).line_at(end));
        }
        found
    }

    fn into_error(self, spec: &RuleSpec) -> Diagnostic {
        let mut lines = self.lines.into_iter();
        let first = lines.next().unwrap_or_default();
        let first_is_bare = self.mistakes.is_empty();
        let mut mistakes = self.mistakes.into_iter();
        let (code, place, label, help) = match mistakes.next() {
            None if !self.bare.is_empty() => (
                Code::Address,
                spec.places.of("hosts"),
                "a prefix is too long",
                Some("IPv4 has prefixes from 0 to 32"),
            ),
            None => no_combination(&spec.places),
            Some((text, None)) => explain_text(&text, &spec.places),
            Some((_, Some(mistake))) => explain(&mistake, &spec.places),
        };
        let mut diagnostic = Diagnostic::error(code, first).at(place, label);
        if let Some(help) = help {
            diagnostic = diagnostic.help(help);
        }
        if let Some(line) = self.bare.first().filter(|_| first_is_bare) {
            diagnostic = diagnostic.title(line);
        }
        for line in self.bare {
            diagnostic = diagnostic.before(line);
        }
        for (text, _) in mistakes {
            diagnostic = diagnostic.note(format!("also: {text}"));
        }
        lines.fold(diagnostic, Diagnostic::after)
    }
}

type Explained<'p> = (Code, &'p Place, &'static str, Option<&'static str>);

fn no_combination(places: &Places) -> Explained<'_> {
    let label = "the addresses are of different families, or not of the family of the rule";
    (Code::NoCombination, places.of("hosts"), label, Some("write one rule for each family"))
}

/// Mistakes that only the parser can find.
fn explain_text<'p>(text: &str, places: &'p Places) -> Explained<'p> {
    if text.starts_with("icmp-type") {
        return (
            Code::Icmp,
            places.of("icmp-type"),
            "this word does not belong to the protocol of the rule",
            Some("`icmp-type` needs `inet proto icmp`, `icmp6-type` needs `inet6 proto icmp6`"),
        );
    }
    if text.contains("rout") {
        let help = "write addresses, or `(interface:peer)`";
        return (Code::Routing, places.of("route"), "these addresses", Some(help));
    }
    if text.starts_with('@') && places.has("nat-to").is_none() && places.has("rdr-to").is_none() {
        let help = "name the interface with `on`";
        return (Code::Address, places.of("hosts"), "`@` in an address", Some(help));
    }
    let part = ["nat-to", "rdr-to", "af-to", "route"].into_iter().find_map(|part| places.has(part));
    (Code::Translation, part.unwrap_or(&places.rule), "this translation", None)
}

/// Code, place, label and way out of a mistake in a combination.
#[expect(clippy::too_many_lines, reason = "a table with one line for each mistake")]
fn explain<'p>(mistake: &Mistake, places: &'p Places) -> Explained<'p> {
    let of = |part: &str| places.of(part);
    match mistake {
        Mistake::OsWithoutTcp => (
            Code::Fingerprint,
            of("os"),
            "only TCP tells what system sent it",
            Some("add `proto tcp`"),
        ),
        Mistake::PortWithoutProto => (
            Code::PortWithoutProto,
            of("port"),
            "only tcp and udp have ports",
            Some("add `proto tcp` or `proto { tcp udp }` before `from`"),
        ),
        Mistake::PortWithoutProtoOrSctp | Mistake::RedirectPort(_) => (
            Code::PortWithoutProto,
            of("port"),
            "only tcp, udp and sctp have ports",
            Some("add `proto tcp` or `proto { tcp udp }` before `from`"),
        ),
        Mistake::RedirectOperator => (
            Code::PortRange,
            of("port"),
            "one port or a range can be translated",
            Some("write `port 80` or `port 80:90`"),
        ),
        Mistake::OwnerWithoutProto(word) => (
            Code::Owner,
            of(word),
            "only sockets of tcp and udp have owners",
            Some("add `proto tcp` or `proto { tcp udp }`"),
        ),
        Mistake::PortRange { .. } => {
            (Code::PortRange, of("port"), "this range", Some("write the lower port first"))
        }
        Mistake::FlagsWithoutTcp | Mistake::FlagsAlwaysFalse => {
            (Code::Flags, of("flags"), "only tcp has flags", None)
        }
        Mistake::IcmpTypeWithoutIcmp => (
            Code::Icmp,
            of("icmp-type"),
            "only icmp and icmp6 have types",
            Some("add `proto icmp` or `proto icmp6`"),
        ),
        Mistake::IcmpTypeWithoutAf => (
            Code::Icmp,
            of("icmp-type"),
            "the family of the rule is not fixed",
            Some("add `inet` or `inet6` before `proto`"),
        ),
        Mistake::AfToSameFamily => (
            Code::Translation,
            of("af-to"),
            "packets of the rule have this family already",
            Some("name the other family behind `af-to`"),
        ),
        Mistake::AfToDuplicates => (
            Code::Translation,
            of("route"),
            "copies cannot change their family",
            Some("use `route-to`, or a rule without `af-to`"),
        ),
        Mistake::OverloadWithoutLimit => (
            Code::StateOption,
            of("state"),
            "nothing that could be too much",
            Some("add `max-src-conn N` or `max-src-conn-rate N/SECONDS`"),
        ),
        Mistake::IcmpFamily { .. } => (
            Code::Family,
            of("proto"),
            "not in this address family",
            Some("`icmp` belongs to `inet`, `icmp6` to `inet6`"),
        ),
        Mistake::AllowOptsWithoutPass | Mistake::AllowOptsOnBlock => (
            Code::Action,
            of("allow-opts"),
            "this rule does not let packets pass",
            Some("take `allow-opts` out"),
        ),
        Mistake::FragmentFields => (
            Code::Action,
            of("fragment"),
            "fragments have no ports, flags and ICMP types",
            Some("take the ports, `flags` or `icmp-type` out"),
        ),
        Mistake::ReturnRstWithoutTcp => (
            Code::ReturnRst,
            &places.action,
            "only tcp has RST packets",
            Some("add `proto tcp`, or use `return`, which answers each protocol in its way"),
        ),
        Mistake::StateWithoutPass => (
            Code::State,
            of("state"),
            "this rule does not let packets pass",
            Some("take `keep state` out"),
        ),
        Mistake::SourceNodesGlobal | Mistake::SloppyProxy | Mistake::ServerOptions => {
            (Code::StateOption, of("state"), "these options", None)
        }
        Mistake::RouteWithoutState => {
            (Code::Routing, of("route"), "this needs a state", Some("take `no state` out"))
        }
        Mistake::RouteOnAction(_) | Mistake::RouteOnMatch => (
            Code::Routing,
            of("route"),
            "this rule does not let packets pass",
            Some("write it on a `pass` rule"),
        ),
        Mistake::TranslationWithoutState => (
            Code::Translation,
            places.has("nat-to").or_else(|| places.has("rdr-to")).unwrap_or_else(|| of("af-to")),
            "the state remembers what was translated",
            Some("take `no state` out, or use `match`"),
        ),
        Mistake::TranslationWithoutDirection => (
            Code::Translation,
            places.has("nat-to").unwrap_or_else(|| of("rdr-to")),
            "for packets of which direction?",
            Some("add `out` for `nat-to`, `in` for `rdr-to`"),
        ),
        Mistake::ScrubInet6 => (
            Code::Scrub,
            of("scrub"),
            "IPv6 has neither",
            Some("add `inet`, or take these options out"),
        ),
        Mistake::DivertOnMatch => (Code::Divert, of("divert"), "write it on a `pass` rule", None),
        Mistake::AfToOnMatch => (Code::Translation, of("af-to"), "write it on a `pass` rule", None),
        Mistake::AddressFamily { .. } | Mistake::AddressRange { .. } => {
            (Code::Family, of("hosts"), "these addresses", None)
        }
        Mistake::Name { .. }
        | Mistake::OnceOnMatch
        | Mistake::Number { .. }
        | Mistake::AnchorDepth
        | Mistake::TableTwice(_)
        | Mistake::Limit { .. }
        | Mistake::TooManyRules { .. }
        | Mistake::Fingerprints { .. }
        | Mistake::Watermarks => (Code::NoCombination, &places.rule, "in this rule", None),
    }
}
