//! `-s info`.
//!
//! Source: OpenBSD sbin/pfctl/pfctl_parser.c `print_status`. Ours alone are the line
//! `half-open tcp (pf)`, pf's own count when another one drives adaptive syncookies, and the block
//! `Syncookies` at the end.

use std::io::{self, Write};

use pfapi::control::{Info, SyncookieInfo};
use pfapi::ruleset::SyncookieMode;

use crate::console::printable;

/// Level of the daemon's log; the only one it has.
const DEBUG: &str = "err";

/// Prints the status; `verbose` is whether `-v` was given.
///
/// # Errors
/// Failures of `out`.
pub fn print(out: &mut dyn Write, info: &Info, verbose: bool) -> io::Result<()> {
    let state = if info.enabled { "Enabled" } else { "Disabled" };
    let mut status = format!("Status: {state}");
    if info.status_since_s > 0 {
        let (days, seconds) = (info.status_since_s / 86_400, info.status_since_s % 86_400);
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        let seconds = seconds % 60;
        status = format!("{status} for {days} days {hours:02}:{minutes:02}:{seconds:02}");
    }
    writeln!(out, "{status:<44}{:>15}\n", format!("Debug: {DEBUG}"))?;
    if verbose {
        writeln!(out, "Hostid:   0x{:08x}", info.hostid)?;
        writeln!(out, "Checksum: 0x{}\n", printable(&info.checksum))?;
    }
    if let Some(report) = &info.log_interface {
        super::interfaces::print_logged(out, report)?;
    }
    let rates = Rates { seconds: info.counting_s };
    writeln!(out, "{:<27} {:>14} {:>16}", "State Table", "Total", "Rate")?;
    gauge(out, "current entries", info.states)?;
    gauge(out, "half-open tcp", info.half_open)?;
    if let Some(count) = info.half_open_pf {
        gauge(out, "half-open tcp (pf)", count)?;
    }
    rates.print(out, info.state_table.iter().map(|(counter, count)| (counter.name(), *count)))?;
    if verbose {
        writeln!(out, "Source Tracking Table")?;
        gauge(out, "current entries", info.source_nodes)?;
        let counters = info.source_table.iter();
        rates.print(out, counters.map(|(counter, count)| (counter.name(), *count)))?;
        writeln!(out, "Fragments")?;
        gauge(out, "current entries", info.fragments)?;
        let counters = info.fragment_table.iter();
        rates.print(out, counters.map(|(counter, count)| (counter.name(), *count)))?;
    }
    writeln!(out, "Counters")?;
    rates.print(out, info.reasons.iter().map(|(reason, count)| (reason.name(), *count)))?;
    if verbose {
        writeln!(out, "Limit Counters")?;
        let counters = info.limit_counters.iter();
        rates.print(out, counters.map(|(counter, count)| (counter.name(), *count)))?;
        writeln!(out, "Adaptive Syncookies Watermarks")?;
        let marks = info.syncookies.watermarks;
        writeln!(out, "  {:<25} {:>14} states", "start", marks.start)?;
        writeln!(out, "  {:<25} {:>14} states", "end", marks.end)?;
        print_syncookies(out, &info.syncookies)?;
    }
    Ok(())
}

/// What `set syncookies` says, and whether cookies are sent now. FreeBSD has such a block.
fn print_syncookies(out: &mut dyn Write, cookies: &SyncookieInfo) -> io::Result<()> {
    let mode = match cookies.mode {
        SyncookieMode::Never => "never",
        SyncookieMode::Always => "always",
        SyncookieMode::Adaptive => "adaptive",
    };
    let active = if cookies.active { "active" } else { "inactive" };
    writeln!(out, "Syncookies")?;
    writeln!(out, "  {:<25} {mode:>14}{}", "mode", if cookies.classic { " classic" } else { "" })?;
    writeln!(out, "  {:<25} {active:>14}", "active")?;
    writeln!(out, "  {:<25} {:>14}", "in flight", cookies.in_flight)
}

fn gauge(out: &mut dyn Write, name: &str, count: u64) -> io::Result<()> {
    writeln!(out, "  {name:<25} {count:>14} {:>14}", "")
}

/// Counters over the time in which they grew.
struct Rates {
    seconds: u64,
}

impl Rates {
    fn print<'a>(
        &self,
        out: &mut dyn Write,
        counters: impl Iterator<Item = (&'a str, u64)>,
    ) -> io::Result<()> {
        for (name, count) in counters {
            write!(out, "  {name:<25} {count:>14} ")?;
            if self.seconds > 0 {
                writeln!(out, "{:>14.1}/s", rate(count, self.seconds))?;
            } else {
                writeln!(out, "{:>14}", "")?;
            }
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn rate(count: u64, seconds: u64) -> f64 {
    count as f64 / seconds as f64
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use pfapi::reason::{LimitCounter, Reason, TableCounter};
    use pfapi::ruleset::Watermarks;

    /// The example of the specification.
    pub fn example() -> Info {
        let counters = |counts: [u64; 3]| TableCounter::ALL.into_iter().zip(counts).collect();
        Info {
            enabled: true,
            status_since_s: 3 * 86_400 + 4 * 3600 + 5 * 60 + 6,
            counting_s: 273_906,
            hostid: 0x9f8e_7d6c,
            checksum: "00112233445566778899aabbccddeeff".to_owned(),
            states: 123,
            half_open: 4,
            half_open_pf: None,
            state_table: counters([1_234_567, 34_567, 34_444]),
            source_nodes: 0,
            source_table: counters([0, 0, 0]),
            fragments: 2,
            fragment_table: counters([7, 5, 3]),
            reasons: Reason::ALL.into_iter().map(|reason| (reason, 0)).collect(),
            limit_counters: LimitCounter::ALL.into_iter().map(|counter| (counter, 0)).collect(),
            syncookies: SyncookieInfo {
                mode: SyncookieMode::Adaptive,
                classic: false,
                active: false,
                watermarks: Watermarks { start: 25_000, end: 12_500 },
                in_flight: 0,
            },
            log_interface: None,
        }
    }

    fn text(info: &Info, verbose: bool) -> String {
        let mut out = Vec::new();
        print(&mut out, info, verbose).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_those_of_openbsd() {
        let mut info = example();
        info.reasons = vec![(Reason::Match, 99_999), (Reason::Short, 0)];
        assert_eq!(
            text(&info, false),
            concat!(
                "Status: Enabled for 3 days 04:05:06              Debug: err\n",
                "\n",
                "State Table                          Total             Rate\n",
                "  current entries                      123               \n",
                "  half-open tcp                          4               \n",
                "  searches                         1234567            4.5/s\n",
                "  inserts                            34567            0.1/s\n",
                "  removals                           34444            0.1/s\n",
                "Counters\n",
                "  match                              99999            0.4/s\n",
                "  short                                  0            0.0/s\n",
            )
        );
    }

    #[test]
    fn verbose_adds_blocks() {
        let mut info = example();
        info.reasons.clear();
        info.limit_counters.truncate(1);
        info.half_open_pf = Some(3);
        assert_eq!(
            text(&info, true),
            concat!(
                "Status: Enabled for 3 days 04:05:06              Debug: err\n",
                "\n",
                "Hostid:   0x9f8e7d6c\n",
                "Checksum: 0x00112233445566778899aabbccddeeff\n",
                "\n",
                "State Table                          Total             Rate\n",
                "  current entries                      123               \n",
                "  half-open tcp                          4               \n",
                "  half-open tcp (pf)                     3               \n",
                "  searches                         1234567            4.5/s\n",
                "  inserts                            34567            0.1/s\n",
                "  removals                           34444            0.1/s\n",
                "Source Tracking Table\n",
                "  current entries                        0               \n",
                "  searches                               0            0.0/s\n",
                "  inserts                                0            0.0/s\n",
                "  removals                               0            0.0/s\n",
                "Fragments\n",
                "  current entries                        2               \n",
                "  searches                               7            0.0/s\n",
                "  inserts                                5            0.0/s\n",
                "  removals                               3            0.0/s\n",
                "Counters\n",
                "Limit Counters\n",
                "  max states per rule                    0            0.0/s\n",
                "Adaptive Syncookies Watermarks\n",
                "  start                              25000 states\n",
                "  end                                12500 states\n",
                "Syncookies\n",
                "  mode                            adaptive\n",
                "  active                          inactive\n",
                "  in flight                              0\n",
            )
        );
    }

    #[test]
    fn no_time_no_rates() {
        let mut info = example();
        info.enabled = false;
        info.status_since_s = 0;
        info.counting_s = 0;
        let text = text(&info, false);
        assert!(text.starts_with(concat!(
            "Status: Disabled                                 Debug: err\n",
            "\n",
        )));
        assert!(text.contains("\n  searches                         1234567               \n"));
    }
}
