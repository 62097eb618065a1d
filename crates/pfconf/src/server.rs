//! What an operator says of servers behind SYN cookies, in the words of SYNPROXY: `mss`, `wscale`,
//! `sack-perm`, `timestamp` and `ecn`. An extension of ours.
//!
//! Source: docs/notes/0010; Linux iptables-extensions(8) "SYNPROXY".

use core::fmt::Write;

use pfapi::ruleset::ServerOptions;

use crate::criteria::number_of;
use crate::diag::{Code, Diagnostic};
use crate::parser::{Fallible, Pair, Rule, place};
use crate::scan::{Place, Statement};

/// The list of a `server_options` node.
///
/// # Errors
/// The message about a number out of range, an option given twice, or `ecn` by itself.
pub(crate) fn server_options(statement: &Statement, pair: &Pair) -> Fallible<ServerOptions> {
    let mut found = None;
    for part in pair.clone().into_inner().filter(|part| part.as_rule() == Rule::server_option) {
        take(&mut found, statement, &part)?;
    }
    let found = found.unwrap_or_default();
    check(found, &place(statement, pair))?;
    Ok(found)
}

/// Adds one option to those that were found before.
///
/// # Errors
/// The message about a number out of range, or an option given twice.
pub(crate) fn take(
    found: &mut Option<ServerOptions>,
    statement: &Statement,
    pair: &Pair,
) -> Fallible<()> {
    let here = place(statement, pair);
    let options = found.get_or_insert_default();
    let Some(word) = pair.clone().into_inner().next() else { return Ok(()) };
    let number = number_of(pair).unwrap_or(-1);
    let twice = match word.as_rule() {
        Rule::server_mss => {
            let fits = u16::try_from(number).ok().filter(|&mss| mss >= ServerOptions::MSS_MIN);
            let mss = fits.ok_or_else(|| out_of_range("mss", &here))?;
            options.mss.replace(mss).is_some()
        }
        Rule::server_wscale => {
            let fits = u8::try_from(number).ok();
            let fits = fits.filter(|&shift| shift <= ServerOptions::WSCALE_MAX);
            let shift = fits.ok_or_else(|| out_of_range("wscale", &here))?;
            options.wscale.replace(shift).is_some()
        }
        Rule::server_sack => core::mem::replace(&mut options.sack_perm, true),
        Rule::server_timestamp => core::mem::replace(&mut options.timestamp, true),
        _ => core::mem::replace(&mut options.ecn, true),
    };
    if twice {
        return Err(Box::new(
            Diagnostic::error(Code::Syncookies, "option of the server given twice")
                .at(&here, "this one is too many")
                .help("leave one of them out"),
        ));
    }
    Ok(())
}

/// Whether the options go together.
///
/// # Errors
/// The message about `ecn` without `timestamp`.
pub(crate) fn check(options: ServerOptions, here: &Place) -> Fallible<()> {
    if options.is_valid() {
        return Ok(());
    }
    Err(Box::new(
        Diagnostic::error(Code::Syncookies, "ecn needs timestamp")
            .at(here, "`ecn` without `timestamp`")
            .help("a cookie has room for ECN in a timestamp alone: add `timestamp`"),
    ))
}

/// The message about a number that cannot be; also for what is no number at all.
pub(crate) fn out_of_range(word: &str, here: &Place) -> Box<Diagnostic> {
    let (low, high) = match word {
        "mss" => (ServerOptions::MSS_MIN, u16::MAX),
        _ => (0, u16::from(ServerOptions::WSCALE_MAX)),
    };
    Box::new(
        Diagnostic::error(Code::Syncookies, format!("{word} out of range"))
            .at(here, format!("not from {low} to {high}"))
            .help(format!("write `{word} N` with a number from {low} to {high}")),
    )
}

/// The words of the options, with commas between them.
pub(crate) fn words(options: &ServerOptions) -> String {
    let ServerOptions { mss, wscale, sack_perm, timestamp, ecn } = *options;
    let mut line = String::new();
    let mut next = |word: core::fmt::Arguments| {
        let comma = if line.is_empty() { "" } else { ", " };
        let written = write!(line, "{comma}{word}");
        debug_assert!(written.is_ok(), "a string takes everything");
    };
    if let Some(mss) = mss {
        next(format_args!("mss {mss}"));
    }
    if let Some(shift) = wscale {
        next(format_args!("wscale {shift}"));
    }
    for (given, word) in [(sack_perm, "sack-perm"), (timestamp, "timestamp"), (ecn, "ecn")] {
        if given {
            next(format_args!("{word}"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_in_one_order() {
        let all = ServerOptions {
            mss: Some(1460),
            wscale: Some(0),
            sack_perm: true,
            timestamp: true,
            ecn: true,
        };
        assert_eq!(words(&all), "mss 1460, wscale 0, sack-perm, timestamp, ecn");
        assert_eq!(
            words(&ServerOptions { mss: None, ..all }),
            "wscale 0, sack-perm, timestamp, ecn"
        );
        assert_eq!(words(&ServerOptions { ecn: true, ..ServerOptions::default() }), "ecn");
    }
}
