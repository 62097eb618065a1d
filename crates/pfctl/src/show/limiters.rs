//! `-s LimiterStates`, `-s LimiterSrcs`.
//!
//! Source: FreeBSD pfctl(8). Its tests read the refusals from columns five and six, and sources as
//! `prefix ... hardlim N ratelim N`.

use std::io::{self, Write};

use pfapi::control::{LimiterReport, LimiterSourceReport};

/// The line above the limiters.
///
/// # Errors
/// Failures of `out`.
pub fn print_header(out: &mut dyn Write, of_sources: bool) -> io::Result<()> {
    write!(
        out,
        "{:>3} {:>17} {:>11} {:>9} {:>9} {:>9}",
        "ID",
        if of_sources { "SOURCES/ENTRIES" } else { "STATES/LIMIT" },
        "RATE",
        "ADMITTED",
        "HARDLIM",
        "RATELIM",
    )?;
    if of_sources {
        write!(out, " {:>9} {:>17}", "ADDRLIM", "STATES/LIMIT")?;
    }
    writeln!(out, "  NAME")
}

/// A limiter. The limit of a source limiter is that of each source, its states are those of all.
///
/// # Errors
/// Failures of `out`.
pub fn print(out: &mut dyn Write, limiter: &LimiterReport) -> io::Result<()> {
    let LimiterReport { id, name, admitted, hard_limited, rate_limited, .. } = limiter;
    let states = format!("{}/{}", limiter.states, limiter.limit);
    let entries = limiter.entries.map(|entries| format!("{}/{}", entries.count, entries.limit));
    let rate = limiter.rate.map_or_else(|| "-".to_owned(), |rate| rate.to_string());
    write!(
        out,
        "{id:>3} {:>17} {rate:>11} {admitted:>9} {hard_limited:>9} {rate_limited:>9}",
        entries.as_ref().unwrap_or(&states),
    )?;
    if let Some(entries) = limiter.entries {
        write!(out, " {:>9} {states:>17}", entries.refused)?;
    }
    writeln!(out, "  {name}")
}

/// A source of a source limiter, with `-v`.
///
/// # Errors
/// Failures of `out`.
pub fn print_source(out: &mut dyn Write, source: &LimiterSourceReport) -> io::Result<()> {
    let LimiterSourceReport { prefix, states, admitted, hard_limited, rate_limited } = source;
    let (addr, len) = (prefix.addr(), prefix.len());
    writeln!(
        out,
        "    {addr}/{len} states {states} admitted {admitted} hardlim {hard_limited} \
         ratelim {rate_limited}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use pfapi::control::LimiterEntries;
    use pfapi::ruleset::Rate;

    fn text(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn refusals_stand_in_the_columns_of_freebsd() {
        let mut limiter = LimiterReport {
            id: 1,
            name: "server".to_owned(),
            limit: 1_000,
            rate: Some(Rate { limit: 1, seconds: 5 }),
            states: 3,
            entries: None,
            admitted: 4,
            hard_limited: 55,
            rate_limited: 66,
        };
        let line = text(|out| print(out, &limiter));
        let columns: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(columns, ["1", "3/1000", "1/5", "4", "55", "66", "server"]);
        limiter.entries = Some(LimiterEntries { count: 2, limit: 128, refused: 77 });
        let line = text(|out| print(out, &limiter));
        let columns: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(columns, ["1", "2/128", "1/5", "4", "55", "66", "77", "3/1000", "server"]);
        for of_sources in [false, true] {
            let header = text(|out| print_header(out, of_sources));
            assert_eq!(header.split_whitespace().nth(4), Some("HARDLIM"));
        }
        let source = LimiterSourceReport {
            prefix: "192.0.2.2".parse().unwrap(),
            states: 1,
            admitted: 1,
            hard_limited: 2,
            rate_limited: 0,
        };
        let line = text(|out| print_source(out, &source));
        assert_eq!(line, "    192.0.2.2/32 states 1 admitted 1 hardlim 2 ratelim 0\n");
    }
}
