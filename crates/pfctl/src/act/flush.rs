//! `-F` and `-z`.
//!
//! Source: OpenBSD sbin/pfctl/pfctl.c `pfctl_clear_rules`, `pfctl_clear_states`,
//! `pfctl_clear_stats`, `pfctl_reset`; pfctl_table.c `pfctl_do_clear_tables`.

use pfapi::control::{Flush, Request, Response};
use pfapi::dialect::Dialect;
use pfapi::load::Part;

use crate::console::printable;
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
        Clear::Info => one(session, &Flush::Info { interface }),
        Clear::Tables => one(session, &Flush::Tables { anchor }),
        Clear::Fingerprints => one(session, &Flush::Fingerprints),
        Clear::Reset => one(session, &Flush::Reset),
        Clear::Part(part) => one_part(session, anchor, part),
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
            Flush::Info { interface: None },
            Flush::Fingerprints,
            Flush::Reset,
        ]
        .iter()
        .try_for_each(|what| one(session, what)),
    }
}

/// Loads nothing in the place of one list of FreeBSD's.
///
/// Source: FreeBSD sbin/pfctl/pfctl.c `pfctl_flush_rules`, `pfctl_flush_nat`,
/// `pfctl_clear_altq`.
fn one_part(session: &mut Session<'_, '_>, anchor: String, part: Part) -> Result<(), Error> {
    let begin =
        Request::Begin { anchor, dialect: Dialect::FreeBsd, parts: [part].into_iter().collect() };
    let ticket = match session.call(&begin)? {
        Response::Ticket { ticket } => ticket,
        other => return Err(Error::from_answer(other, "flush")),
    };
    match session.call(&Request::Commit { ticket })? {
        Response::Done => {}
        other => return Err(Error::from_answer(other, "flush")),
    }
    session.tell(match part {
        Part::Translation => "nat cleared",
        Part::Queues => "altq cleared",
        _ => "rules cleared",
    });
    Ok(())
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
        Flush::Info { interface: None } => session.tell("pf: statistics cleared"),
        Flush::Info { interface: Some(name) } => {
            session.tell(format_args!("pf: statistics cleared for interface {}", printable(name)));
        }
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
