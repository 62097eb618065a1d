//! `-s Interfaces`, and the block of `set loginterface` in `-s info`.
//!
//! Source: OpenBSD sbin/pfctl/pfctl_table.c `print_iface`, pfctl_parser.c `print_status`.

use std::io::{self, Write};

use pfapi::control::{InterfaceReport, InterfaceTraffic};

use super::tables::Clock;
use crate::console::printable;

/// Prints one interface; `verbosity` is how often `-v` was given.
///
/// # Errors
/// Failures of `out`.
pub fn print(
    out: &mut dyn Write,
    report: &InterfaceReport,
    verbosity: u8,
    clock: &Clock,
) -> io::Result<()> {
    write!(out, "{}", printable(&report.name))?;
    if verbosity > 0 && report.skip {
        write!(out, " (skip)")?;
    }
    writeln!(out)?;
    if verbosity < 2 {
        return Ok(());
    }
    let InterfaceReport { states, rules, traffic, .. } = report;
    writeln!(out, "\tCleared:     {}", clock.ago(report.cleared_s))?;
    writeln!(out, "\tReferences:  [ States:  {states:<18} Rules: {rules:<18} ]")?;
    for (family, digit) in [4, 6].into_iter().enumerate() {
        for (side, direction) in ["In", "Out"].into_iter().enumerate() {
            for (outcome, word) in ["Pass", "Block"].into_iter().enumerate() {
                let name = format!("{direction}{digit}/{word}:");
                let packets = traffic.packets[family][side][outcome];
                let bytes = traffic.bytes[family][side][outcome];
                writeln!(out, "\t{name:<12} [ Packets: {packets:<18} Bytes: {bytes:<18} ]")?;
            }
        }
    }
    Ok(())
}

/// Prints the counters of the interface of `set loginterface`, and an empty line.
///
/// # Errors
/// Failures of `out`.
pub fn print_logged(out: &mut dyn Write, report: &InterfaceReport) -> io::Result<()> {
    let InterfaceTraffic { packets, bytes } = &report.traffic;
    let name = printable(&report.name);
    writeln!(out, "Interface Stats for {name:<16} {:>5} {:>16}", "IPv4", "IPv6")?;
    let all = |side: usize| [0, 1].map(|family: usize| bytes[family][side].iter().sum::<u64>());
    let of =
        |side: usize, outcome: usize| [0, 1].map(|family: usize| packets[family][side][outcome]);
    for (side, direction) in ["In", "Out"].into_iter().enumerate() {
        let [inet, inet6] = all(side);
        writeln!(out, "  {:<25} {inet:>14} {inet6:>16}", format!("Bytes {direction}"))?;
    }
    for (side, direction) in ["In", "Out"].into_iter().enumerate() {
        writeln!(out, "  Packets {direction}")?;
        for (outcome, word) in ["Passed", "Blocked"].into_iter().enumerate() {
            let [inet, inet6] = of(side, outcome);
            writeln!(out, "    {word:<23} {inet:>14} {inet6:>16}")?;
        }
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    fn report() -> InterfaceReport {
        let mut traffic = InterfaceTraffic::default();
        traffic.packets[0] = [[12_345, 89], [54_321, 0]];
        traffic.bytes[0] = [[1_234_000, 567], [7_654_321, 0]];
        traffic.packets[1] = [[67, 0], [76, 0]];
        traffic.bytes[1] = [[8_901, 0], [1_098, 0]];
        InterfaceReport {
            name: "tun0".to_owned(),
            skip: true,
            cleared_s: 60,
            states: 2,
            rules: 3,
            traffic,
        }
    }

    #[test]
    fn the_logged_interface_has_the_block_of_openbsd() {
        let mut out = Vec::new();
        print_logged(&mut out, &report()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                "Interface Stats for tun0              IPv4             IPv6\n",
                "  Bytes In                         1234567             8901\n",
                "  Bytes Out                        7654321             1098\n",
                "  Packets In\n",
                "    Passed                           12345               67\n",
                "    Blocked                             89                0\n",
                "  Packets Out\n",
                "    Passed                           54321               76\n",
                "    Blocked                              0                0\n",
                "\n",
            )
        );
    }

    #[test]
    fn verbose_adds_marks_and_counters() {
        let clock = Clock { now: "2025-01-06T10:01:00Z".parse().unwrap(), zone: TimeZone::UTC };
        let text = |verbosity| {
            let mut out = Vec::new();
            print(&mut out, &report(), verbosity, &clock).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(0), "tun0\n");
        assert_eq!(text(1), "tun0 (skip)\n");
        let lines = text(2);
        let wanted = [
            "\tCleared:     Mon Jan  6 10:00:00 2025",
            "\tReferences:  [ States:  2                  Rules: 3                  ]",
            "\tIn4/Pass:    [ Packets: 12345              Bytes: 1234000            ]",
            "\tIn4/Block:   [ Packets: 89                 Bytes: 567                ]",
        ];
        assert_eq!(lines.lines().skip(1).take(4).collect::<Vec<_>>(), wanted);
        assert_eq!(lines.lines().count(), 11);
    }
}
