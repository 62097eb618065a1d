//! `-F` and `-z`.
//!
//! Source: OpenBSD sbin/pfctl/pfctl.c `pfctl_clear_rules`, `pfctl_clear_states`,
//! `pfctl_clear_stats`, `pfctl_reset`; pfctl_table.c `pfctl_do_clear_tables`.

use pfapi::control::{Flush, Request, Response};

use crate::error::Error;
use crate::flags::words::Clear;
use crate::session::Session;

/// Flushes `what` and says so.
///
/// # Errors
/// The connection's and the daemon's refusals.
pub fn flush(session: &mut Session<'_, '_>, what: Clear) -> Result<(), Error> {
    let interface = session.flags.interface.clone();
    let anchor = session.flags.anchor_path().to_owned();
    match what {
        Clear::Rules => one(session, &Flush::Rules { anchor }),
        Clear::Sources => one(session, &Flush::Sources),
        Clear::States => one(session, &Flush::States { interface }),
        Clear::Info => one(session, &Flush::Info),
        Clear::Tables => one(session, &Flush::Tables { anchor }),
        Clear::Fingerprints => one(session, &Flush::Fingerprints),
        Clear::Reset => one(session, &Flush::Reset),
        // Of an anchor there is nothing else to flush.
        Clear::All if !anchor.is_empty() => {
            one(session, &Flush::Tables { anchor: anchor.clone() })?;
            one(session, &Flush::Rules { anchor })
        }
        Clear::All => [
            Flush::Tables { anchor: String::new() },
            Flush::Rules { anchor },
            Flush::States { interface: None },
            Flush::Sources,
            Flush::Info,
            Flush::Fingerprints,
            Flush::Reset,
        ]
        .iter()
        .try_for_each(|what| one(session, what)),
    }
}

fn one(session: &mut Session<'_, '_>, what: &Flush) -> Result<(), Error> {
    let count = match session.call(&Request::Flush { what: what.clone() })? {
        Response::Count { count } => count,
        Response::Done => 0,
        other => return Err(Error::from_answer(other, "flush")),
    };
    match what {
        Flush::Rules { .. } => session.tell("rules cleared"),
        Flush::States { .. } => session.tell(format_args!("{count} states cleared")),
        Flush::Sources => session.tell("source tracking entries cleared"),
        Flush::Info => session.tell("pf: statistics cleared"),
        Flush::Tables { .. } => session.tell(format_args!("{count} tables deleted.")),
        // pfctl says nothing of them.
        Flush::Fingerprints => {}
        Flush::Reset => session.tell("pf: interface flags reset"),
    }
    Ok(())
}

/// `-z`
///
/// # Errors
/// The connection's and the daemon's refusals.
pub fn clear_rule_counters(session: &mut Session<'_, '_>) -> Result<(), Error> {
    match session.call(&Request::ClearRuleCounters)? {
        Response::Done | Response::Count { .. } => Ok(()),
        other => Err(Error::from_answer(other, "clear rule counters")),
    }
}
