//! `-s rules` and `-s labels`.
//!
//! Source: OpenBSD sbin/pfctl/pfctl.c `pfctl_show_rules`, `pfctl_print_rule_counters`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use pfapi::addr::Af;
use pfapi::anchor::around;
use pfapi::control::{RuleReport, TableReport};
use pfapi::facts::Facts;
use pfapi::ruleset::{AddrMatch, DynamicAddr, DynamicPart, Rule};

use pfconf::print::rule_in;
use pfconf::{Dialect, name_ports};

use crate::console::printable;
use crate::sources::SystemSources;

/// What `-vv` adds to addresses in rules: how many addresses a name stands for now.
#[derive(Default)]
pub struct Sizes {
    /// By path of the ruleset and name.
    tables: BTreeMap<(String, String), u64>,
    facts: Facts,
}

impl Sizes {
    /// From what the daemon has now.
    #[must_use]
    pub fn new(tables: Vec<TableReport>, facts: Facts) -> Self {
        let size = |table: TableReport| ((table.anchor, table.name), table.addresses);
        let tables = tables.into_iter().map(size).collect();
        Self { tables, facts }
    }

    /// The rule of the ruleset `path` with `:N` behind the names of its tables and interfaces.
    fn annotate(&self, rule: &Rule, path: &str) -> Rule {
        let mut rule = rule.clone();
        let af = rule.af;
        for end in [&mut rule.from, &mut rule.to] {
            self.annotate_addr(&mut end.addr, af, path);
        }
        let translated = rule.af_to.or(af);
        if rule.pools().next().is_some() {
            let common = &mut *rule.common;
            for pool in [&mut common.nat, &mut common.rdr].into_iter().flatten() {
                self.annotate_addr(&mut pool.addr, translated, path);
            }
            if let Some(route) = &mut common.route {
                self.annotate_addr(&mut route.pool.addr, af, path);
            }
        }
        rule
    }

    /// Entries of the table that a rule in the ruleset `path` means.
    fn table(&self, path: &str, name: &str) -> Option<u64> {
        let size = |path: &str| self.tables.get(&(path.to_owned(), name.to_owned())).copied();
        around(path).find_map(size)
    }

    fn annotate_addr(&self, addr: &mut AddrMatch, af: Option<Af>, path: &str) {
        match addr {
            AddrMatch::Table(name) => {
                *name = match self.table(path, name) {
                    Some(count) => format!("{name}:{count}").into(),
                    None => format!("{name}:*").into(),
                };
            }
            AddrMatch::Dynamic(dynamic) => {
                let count = self.dynamic_count(dynamic, af);
                let size = if count > 0 { count.to_string() } else { "*".to_owned() };
                // pf writes the number behind the modifiers, so they become part of the name.
                let part = match dynamic.part {
                    DynamicPart::Address => "",
                    DynamicPart::Network => ":network",
                    DynamicPart::Broadcast => ":broadcast",
                    DynamicPart::Peer => ":peer",
                };
                let aliases = if dynamic.no_aliases { ":0" } else { "" };
                dynamic.interface = format!("{}{part}{aliases}:{size}", dynamic.interface);
                dynamic.part = DynamicPart::Address;
                dynamic.no_aliases = false;
            }
            AddrMatch::Any
            | AddrMatch::Net(_)
            | AddrMatch::Range(..)
            | AddrMatch::NoRoute
            | AddrMatch::UrpfFailed
            | AddrMatch::RouteLabel(_) => {}
        }
    }

    fn dynamic_count(&self, dynamic: &DynamicAddr, af: Option<Af>) -> usize {
        let families = [Af::Inet, Af::Inet6].into_iter().filter(|&family| {
            af.is_none_or(|af| af == family)
                && !(dynamic.part == DynamicPart::Broadcast && family == Af::Inet6)
        });
        let per_interface = |family: Af| {
            self.facts.members(&dynamic.interface).map(move |interface| {
                let count =
                    interface.addresses.iter().filter(|own| Af::of(own.addr) == family).count();
                if dynamic.no_aliases { count.min(1) } else { count }
            })
        };
        families.flat_map(per_interface).sum()
    }
}

/// How rules are shown.
pub struct Style<'a> {
    /// How often `-v` was given.
    pub verbosity: u8,
    /// Used from twice `-v` on.
    pub sizes: &'a Sizes,
    /// Where names of ports come from, with `-P`.
    pub ports: Option<&'a SystemSources>,
    /// Whose form the rules have.
    pub dialect: Dialect,
}

/// Where a rule stands.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Path of its ruleset.
    pub path: &'a str,
    /// Blanks in front of the line.
    pub indent: &'a str,
    /// Whether the rules of its anchor follow between braces.
    pub opens: bool,
}

/// Prints one rule.
///
/// # Errors
/// Failures of `out`.
pub fn print(
    out: &mut dyn Write,
    report: &RuleReport,
    style: &Style<'_>,
    Place { path, indent, opens }: Place<'_>,
) -> io::Result<()> {
    let mut rule = if style.verbosity > 1 {
        let annotated = style.sizes.annotate(&report.rule, path);
        format!("@{} {}", report.number, rule_in(&annotated, style.dialect))
    } else {
        rule_in(&report.rule, style.dialect)
    };
    if let Some(ports) = style.ports {
        rule = name_ports(&rule, ports);
    }
    if report.expired {
        if style.verbosity < 2 {
            return Ok(());
        }
        rule.push_str(" # expired");
    }
    let brace = if opens { " {" } else { "" };
    writeln!(out, "{indent}{}{brace}", printable(&rule))?;
    if style.verbosity > 0 {
        print_counters(out, report)?;
    }
    Ok(())
}

fn print_counters(out: &mut dyn Write, report: &RuleReport) -> io::Result<()> {
    let RuleReport { evaluations, packets, bytes, states, .. } = report;
    let (packets, bytes) = (packets.iter().sum::<u64>(), bytes.iter().sum::<u64>());
    writeln!(
        out,
        "  [ Evaluations: {evaluations:<8}  Packets: {packets:<8}  Bytes: {bytes:<10}  \
         States: {states:<6}]"
    )?;
    let RuleReport { uid, pid, states_total, .. } = report;
    writeln!(out, "  [ Inserted: uid {uid} pid {pid} State Creations: {states_total:<6}]")
}

/// Prints the labels of a rule and its counters; without a label nothing.
///
/// # Errors
/// Failures of `out`.
pub fn print_label(out: &mut dyn Write, report: &RuleReport) -> io::Result<()> {
    if report.rule.label.is_none() {
        return Ok(());
    }
    for label in report.rule.labels() {
        write!(out, "{} ", printable(label))?;
    }
    let RuleReport { evaluations, packets, bytes, states_total, .. } = report;
    let total = |both: &[u64; 2]| both.iter().sum::<u64>();
    writeln!(
        out,
        "{evaluations} {} {} {} {} {} {} {states_total}",
        total(packets),
        total(bytes),
        packets[0],
        bytes[0],
        packets[1],
        bytes[1],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use pfapi::facts::{InterfaceAddress, InterfaceFacts};
    use pfapi::ruleset::Action;

    fn report() -> RuleReport {
        RuleReport {
            number: 3,
            rule: Rule::new(Action::Pass),
            expired: false,
            evaluations: 1042,
            packets: [88_000, 123],
            bytes: [61_000_000, 230_044],
            states: 12,
            states_total: 977,
            uid: 0,
            pid: 4711,
        }
    }

    fn text(report: &RuleReport, verbosity: u8, sizes: &Sizes) -> String {
        let mut out = Vec::new();
        let style = Style { verbosity, sizes, ports: None, dialect: Dialect::OpenBsd };
        print(&mut out, report, &style, Place { path: "", indent: "", opens: false }).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn counters_follow_with_verbose() {
        let counters = concat!(
            "  [ Evaluations: 1042      Packets: 88123     Bytes: 61230044    States: 12    ]\n",
            "  [ Inserted: uid 0 pid 4711 State Creations: 977   ]\n",
        );
        let sizes = Sizes::default();
        let rule = pfconf::print::rule(&report().rule);
        assert_eq!(text(&report(), 0, &sizes), format!("{rule}\n"));
        let verbose = text(&report(), 1, &sizes);
        assert_eq!(verbose.split_once('\n').unwrap().1, counters);
        assert!(text(&report(), 2, &sizes).starts_with("@3 pass all"));
    }

    #[test]
    fn very_verbose_counts_addresses() {
        let table = TableReport {
            name: "bad".to_owned(),
            anchor: String::new(),
            from_anchors: 0,
            traffic: pfapi::control::TableTraffic::default(),
            persist: true,
            constant: false,
            counters: false,
            rules: 1,
            addresses: 7,
            cleared_s: 0,
            no_match: 0,
            matched: 0,
        };
        let address = |text: &str| InterfaceAddress::new(text.parse().unwrap(), 24);
        let tun0 = InterfaceFacts {
            addresses: vec![address("192.0.2.1"), address("192.0.2.2"), address("2001:db8::1")],
            ..InterfaceFacts::new("tun0")
        };
        let sizes = Sizes::new(vec![table], Facts { interfaces: vec![tun0] });
        let mut shown = report();
        shown.rule.from.addr = AddrMatch::Table("bad".into());
        shown.rule.to.addr = AddrMatch::Table("gone".into());
        let line = text(&shown, 2, &sizes);
        assert!(line.contains("<bad:7>") && line.contains("<gone:*>"), "{line}");
        let dynamic = |interface: &str, no_aliases| {
            let addr = DynamicAddr {
                interface: interface.to_owned(),
                part: DynamicPart::Network,
                no_aliases,
                prefix_len: None,
            };
            AddrMatch::Dynamic(addr.into())
        };
        shown.rule.from.addr = dynamic("tun0", false);
        shown.rule.to.addr = dynamic("tun9", true);
        let line = text(&shown, 2, &sizes);
        assert!(line.contains("(tun0:network:3)"), "{line}");
        assert!(line.contains("(tun9:network:0:*)"), "{line}");
        shown.rule.from.addr = dynamic("tun0", true);
        shown.rule.af = Some(Af::Inet);
        assert!(text(&shown, 2, &sizes).contains("(tun0:network:0:1)"));
    }

    #[test]
    fn rules_that_are_used_up_are_shown_to_the_curious_only() {
        let used = RuleReport { expired: true, ..report() };
        let sizes = Sizes::default();
        assert_eq!(text(&used, 0, &sizes), "");
        assert_eq!(text(&used, 1, &sizes), "");
        let first = text(&used, 2, &sizes);
        assert!(first.lines().next().unwrap().ends_with(" # expired"), "{first}");
    }

    #[test]
    fn labels_have_nine_columns() {
        let mut out = Vec::new();
        let mut report = report();
        print_label(&mut out, &report).unwrap();
        assert!(out.is_empty());
        report.rule.label = Some("web".into());
        print_label(&mut out, &report).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "web 1042 88123 61230044 88000 61000000 123 230044 977\n"
        );
        // FreeBSD's rules may have several.
        let mut out = Vec::new();
        report.rule.freebsd.more_labels = vec!["http".to_owned()];
        print_label(&mut out, &report).unwrap();
        assert!(out.starts_with(b"web http 1042 "));
    }
}
