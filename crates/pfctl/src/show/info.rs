//! `-s info`.
//!
//! Source: OpenBSD sbin/pfctl/pfctl_parser.c `print_status`. Ours alone are the line
//! `half-open tcp (pf)`, pf's own count when another one drives adaptive syncookies, and the block
//! `Syncookies` at the end.

use std::io::{self, Write};
use std::net::IpAddr;

use pfapi::control::{Info, SyncookieInfo};

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
    let mode = cookies.mode.name();
    let active = if cookies.active { "active" } else { "inactive" };
    writeln!(out, "Syncookies")?;
    writeln!(out, "  {:<25} {mode:>14}{}", "mode", if cookies.classic { " classic" } else { "" })?;
    writeln!(out, "  {:<25} {active:>14}", "active")?;
    writeln!(out, "  {:<25} {:>14}", "in flight", cookies.in_flight)?;
    if let Some(marks) = cookies.destination_watermarks {
        writeln!(out, "  {:<25} {:>14} states", "start per destination", marks.start)?;
        writeln!(out, "  {:<25} {:>14} states", "end per destination", marks.end)?;
    }
    if cookies.shared_secret {
        writeln!(out, "  {:<25} {:>14}", "secret", "shared")?;
    }
    for (counter, count) in &cookies.counters {
        writeln!(out, "  {:<25} {count:>14}", counter.name())?;
    }
    if !cookies.destinations.is_empty() {
        writeln!(out, "Syncookies Destinations")?;
    }
    for found in &cookies.destinations {
        let (name, half_open) = (destination(found.addr, found.port), found.half_open);
        let (sent, valid, seconds) = (found.sent, found.validated, found.active_s);
        writeln!(
            out,
            "  {name:<39} half-open {half_open}, sent {sent}, valid {valid}, active {seconds}s"
        )?;
    }
    if !cookies.history.is_empty() {
        writeln!(out, "Syncookies History")?;
    }
    for change in &cookies.history {
        let name = change.destination.map_or_else(|| "all".to_owned(), |(a, p)| destination(a, p));
        let (ago, half_open) = (change.ago_s, change.half_open);
        let (turned, why) = (if change.on { "on" } else { "off" }, change.reason.words());
        writeln!(out, "  {name:<39} {turned:<3} {ago}s ago, half-open {half_open}, {why}")?;
    }
    Ok(())
}

/// A destination as rules write it.
fn destination(addr: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| addr.to_string(), |port| format!("{addr} port {port}"))
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
    use pfapi::control::{CookieDestination, CookieSwitch, SwitchReason};
    use pfapi::reason::CookieCounter;
    use pfapi::reason::{LimitCounter, Reason, TableCounter};
    use pfapi::ruleset::{SyncookieMode, Watermarks};

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
                active_for_all: false,
                watermarks: Watermarks { start: 25_000, end: 12_500 },
                in_flight: 0,
                destination_watermarks: None,
                shared_secret: false,
                counters: Vec::new(),
                destinations: Vec::new(),
                history: Vec::new(),
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
    fn floods_are_listed_with_their_history() {
        let mut info = example();
        let cookies = &mut info.syncookies;
        cookies.destination_watermarks = Some(Watermarks { start: 5_000, end: 2_500 });
        cookies.shared_secret = true;
        cookies.counters = vec![(CookieCounter::SynReceived, 70), (CookieCounter::Probes, 2)];
        let addr = "192.0.2.1".parse().unwrap();
        let found = CookieDestination {
            addr,
            port: Some(80),
            active_s: 12,
            half_open: 5_003,
            sent: 70,
            validated: 4,
        };
        cookies.destinations = vec![found];
        let change = |ago_s, on, destination, reason| CookieSwitch {
            ago_s,
            on,
            destination,
            reason,
            half_open: 5_001,
        };
        cookies.history = vec![
            change(99, true, None, SwitchReason::TooMany),
            change(70, false, Some((addr, None)), SwitchReason::LowMark),
            change(12, true, Some((addr, Some(80))), SwitchReason::HighMark),
        ];
        let text = text(&info, true);
        let (_, shown) = text.split_once("Syncookies\n").unwrap();
        assert_eq!(
            shown,
            concat!(
                "  mode                            adaptive\n",
                "  active                          inactive\n",
                "  in flight                              0\n",
                "  start per destination               5000 states\n",
                "  end per destination                 2500 states\n",
                "  secret                            shared\n",
                "  syn_received                          70\n",
                "  probes                                 2\n",
                "Syncookies Destinations\n",
                "  192.0.2.1 port 80                       half-open 5003, sent 70, valid 4, active 12s\n",
                "Syncookies History\n",
                "  all                                     on  99s ago, half-open 5001, too many destinations\n",
                "  192.0.2.1                               off 70s ago, half-open 5001, below the low mark\n",
                "  192.0.2.1 port 80                       on  12s ago, half-open 5001, above the high mark\n",
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
