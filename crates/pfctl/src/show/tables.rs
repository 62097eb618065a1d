//! `-s Tables`, and the address lines of `-T`.
//!
//! Source: OpenBSD sbin/pfctl/pfctl_table.c `print_table`, `print_tstats`, `print_addrx`,
//! `print_astats`.

use std::io::{self, Write};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use pfapi::control::{AddressReport, TableReport, TableTraffic, TableUse};
use pfapi::ruleset::TableEntry;

use super::names::HostNames;
use crate::console::printable;

/// When and where counters were cleared.
pub struct Clock {
    /// Now.
    pub now: Timestamp,
    /// Zone of the times that are shown.
    pub zone: TimeZone,
}

impl Clock {
    /// Of this machine.
    #[must_use]
    pub fn system() -> Self {
        Self { now: Timestamp::now(), zone: TimeZone::system() }
    }

    /// As ctime(3), without its newline.
    fn ago(&self, seconds: u64) -> String {
        let back = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        let time = self.now.checked_sub(back).unwrap_or(Timestamp::UNIX_EPOCH);
        time.to_zoned(self.zone.clone()).strftime("%a %b %e %H:%M:%S %Y").to_string()
    }
}

/// Prints one table; `verbosity` is how often `-v` was given.
///
/// # Errors
/// Failures of `out`.
pub fn print(
    out: &mut dyn Write,
    table: &TableReport,
    verbosity: u8,
    clock: &Clock,
) -> io::Result<()> {
    if verbosity > 0 {
        let letter = |set: bool, letter: char| if set { letter } else { '-' };
        let flags = [
            letter(table.constant, 'c'),
            letter(table.persist, 'p'),
            letter(is_active(table), 'a'),
            '-',
            letter(table.rules > 0, 'r'),
            letter(table.from_anchors > 0, 'h'),
            letter(table.counters, 'C'),
        ];
        write!(out, "{}\t", String::from_iter(flags))?;
    }
    write!(out, "{}", printable(&table.name))?;
    if !table.anchor.is_empty() {
        write!(out, "@{}", printable(&table.anchor))?;
    }
    writeln!(out)?;
    if verbosity > 1 {
        let TableReport { addresses, rules, from_anchors, no_match, matched, .. } = table;
        writeln!(out, "\tAddresses:   {addresses}")?;
        writeln!(out, "\tCleared:     {}", clock.ago(table.cleared_s))?;
        writeln!(out, "\tReferences:  [ Anchors: {from_anchors:<18} Rules: {rules:<18} ]")?;
        writeln!(out, "\tEvaluations: [ NoMatch: {no_match:<18} Match: {matched:<18} ]")?;
        print_traffic(out, &table.traffic, &TableUse::ALL)?;
    }
    Ok(())
}

/// Lines of counters, inbound and then outbound.
fn print_traffic(out: &mut dyn Write, traffic: &TableTraffic, uses: &[TableUse]) -> io::Result<()> {
    for (side, direction) in ["In", "Out"].into_iter().enumerate() {
        for used in uses {
            let name = format!("{direction}/{}:", used.name());
            let packets = traffic.packets[side][*used as usize];
            let bytes = traffic.bytes[side][*used as usize];
            writeln!(out, "\t{name:<12} [ Packets: {packets:<18} Bytes: {bytes:<18} ]")?;
        }
    }
    Ok(())
}

/// Prints an address with its counters, for `-vT show`.
///
/// # Errors
/// Failures of `out`.
pub fn print_statistics(
    out: &mut dyn Write,
    report: &AddressReport,
    clock: &Clock,
    names: &mut HostNames,
) -> io::Result<()> {
    let AddressReport { entry, cleared_s, traffic, weight, states } = report;
    print_address(out, Feedback::None, entry, Found::NotShown, names)?;
    writeln!(out, "\tCleared:     {}", clock.ago(*cleared_s))?;
    if *states > 0 {
        writeln!(out, "\tActive States:      {states}")?;
    }
    if let Some(weight) = weight {
        writeln!(out, "\tWeight:             {weight}")?;
    }
    match traffic {
        Some(traffic) => print_traffic(out, traffic, &TableUse::ALL[..3]),
        None => Ok(()),
    }
}

/// Whether pfctl(8) lists the table: it is referred to, or stays without that.
#[must_use]
pub const fn is_active(table: &TableReport) -> bool {
    table.persist || table.rules > 0 || table.from_anchors > 0
}

/// What happened to an address: the first letter of its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// Nothing.
    None,
    /// It is in the table.
    Match,
    /// It was added.
    Added,
    /// It was deleted.
    Deleted,
    /// Its `!` changed.
    Changed,
    /// Its counters were zeroed.
    Cleared,
    /// It was given twice.
    Duplicate,
    /// It was given with and without `!`.
    Conflict,
}

impl Feedback {
    const fn letter(self) -> char {
        match self {
            Self::None => ' ',
            Self::Match => 'M',
            Self::Added => 'A',
            Self::Deleted => 'D',
            Self::Changed => 'C',
            Self::Cleared => 'Z',
            Self::Duplicate => 'X',
            Self::Conflict => 'Y',
        }
    }
}

/// What the table says of an address, for `-vvT test`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Not asked.
    NotShown,
    /// The entry that matched, if any.
    Entry(Option<TableEntry>),
}

/// Prints one address.
///
/// # Errors
/// Failures of `out`.
pub fn print_address(
    out: &mut dyn Write,
    feedback: Feedback,
    entry: &TableEntry,
    found: Found,
    names: &mut HostNames,
) -> io::Result<()> {
    let sign = |entry: &TableEntry| if entry.negated { '!' } else { ' ' };
    write!(out, "{} {}{}", feedback.letter(), sign(entry), entry.prefix)?;
    match found {
        Found::NotShown => {}
        Found::Entry(Some(hit)) => write!(out, "\t{}{}", sign(&hit), hit.prefix)?,
        Found::Entry(None) => out.write_all(b"\t nomatch")?,
    }
    if entry.prefix.is_host()
        && let Some(name) = names.get(entry.prefix.addr())
    {
        write!(out, "\t({name})")?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TableReport {
        TableReport {
            name: "bruteforce".to_owned(),
            anchor: String::new(),
            persist: true,
            constant: false,
            counters: false,
            rules: 1,
            from_anchors: 0,
            addresses: 2,
            cleared_s: 60,
            no_match: 812,
            matched: 3,
            traffic: TableTraffic {
                packets: [[3, 0, 0, 0], [0, 0, 0, 4]],
                bytes: [[180, 0, 0, 0], [0, 0, 0, 240]],
            },
        }
    }

    fn text(table: &TableReport, verbosity: u8) -> String {
        let now: Timestamp = "2025-01-06T10:01:00Z".parse().unwrap();
        let mut out = Vec::new();
        print(&mut out, table, verbosity, &Clock { now, zone: TimeZone::UTC }).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn flags_and_statistics() {
        assert_eq!(text(&table(), 0), "bruteforce\n");
        assert_eq!(
            text(&table(), 2),
            concat!(
                "-pa-r--\tbruteforce\n",
                "\tAddresses:   2\n",
                "\tCleared:     Mon Jan  6 10:00:00 2025\n",
                "\tReferences:  [ Anchors: 0                  Rules: 1                  ]\n",
                "\tEvaluations: [ NoMatch: 812                Match: 3                  ]\n",
                "\tIn/Block:    [ Packets: 3                  Bytes: 180                ]\n",
                "\tIn/Match:    [ Packets: 0                  Bytes: 0                  ]\n",
                "\tIn/Pass:     [ Packets: 0                  Bytes: 0                  ]\n",
                "\tIn/XPass:    [ Packets: 0                  Bytes: 0                  ]\n",
                "\tOut/Block:   [ Packets: 0                  Bytes: 0                  ]\n",
                "\tOut/Match:   [ Packets: 0                  Bytes: 0                  ]\n",
                "\tOut/Pass:    [ Packets: 0                  Bytes: 0                  ]\n",
                "\tOut/XPass:   [ Packets: 4                  Bytes: 240                ]\n",
            )
        );
        let table = TableReport { constant: true, counters: true, rules: 0, ..table() };
        assert_eq!(text(&table, 1), "cpa---C\tbruteforce\n");
        assert!(!is_active(&TableReport { persist: false, ..table.clone() }));
        let inside = TableReport { anchor: "a/b".to_owned(), from_anchors: 2, ..table };
        assert_eq!(text(&inside, 1), "cpa--hC\tbruteforce@a/b\n");
    }

    #[test]
    fn times_before_the_calendar_do_not_panic() {
        let table = TableReport { cleared_s: u64::MAX, ..table() };
        assert!(text(&table, 2).contains("Cleared:     Thu Jan  1 00:00:00 1970"));
    }

    #[test]
    fn address_lines() {
        let entry = |text: &str, negated| TableEntry { prefix: text.parse().unwrap(), negated };
        let line = |feedback, entry, found| {
            let mut out = Vec::new();
            print_address(&mut out, feedback, &entry, found, &mut HostNames::new(false)).unwrap();
            String::from_utf8(out).unwrap()
        };
        let host = entry("192.0.2.1", false);
        assert_eq!(line(Feedback::None, host, Found::NotShown), "   192.0.2.1\n");
        let net = entry("2001:db8::/32", true);
        assert_eq!(line(Feedback::Added, net, Found::NotShown), "A !2001:db8::/32\n");
        let hit = Found::Entry(Some(entry("192.0.2.0/24", false)));
        assert_eq!(line(Feedback::Match, host, hit), "M  192.0.2.1\t 192.0.2.0/24\n");
        assert_eq!(line(Feedback::None, host, Found::Entry(None)), "   192.0.2.1\t nomatch\n");
    }
}
