//! `-F` and `-z`.
//!
//! Source: OpenBSD sbin/pfctl/pfctl.c `pfctl_clear_rules`, `pfctl_clear_states`,
//! `pfctl_clear_stats`, `pfctl_reset`; pfctl_table.c `pfctl_do_clear_tables`.

use pfapi::anchor::is_below;
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
    if let Some(top) = session.flags.anchor_and_below() {
        let top = top.to_owned();
        return flush_below(session, &top, what);
    }
    let anchor = session.flags.anchor_path().to_owned();
    flush_one(session, anchor, what)
}

/// Flushes an anchor and all below it, the innermost first; one that cannot be flushed does not keep
/// the others from it. Source: OpenBSD sbin/pfctl/pfctl.c `pfctl_recurse`.
fn flush_below(session: &mut Session<'_, '_>, top: &str, what: Clear) -> Result<(), Error> {
    let parts: &[fn(String) -> Flush] = match what {
        Clear::Rules => &[|anchor| Flush::Rules { anchor }],
        Clear::Tables => &[|anchor| Flush::Tables { anchor }],
        Clear::All => &[|anchor| Flush::Tables { anchor }, |anchor| Flush::Rules { anchor }],
        // Of these anchors have nothing of their own.
        _ => return flush_one(session, String::new(), what),
    };
    let mut paths = super::show::anchor_paths(session)?;
    paths.retain(|path| {
        let unnamed = path.split('/').any(|part| part.starts_with('_'));
        (path == top || is_below(top, path)) && !unnamed
    });
    if top.is_empty() {
        paths.insert(0, String::new());
    } else if paths.is_empty() {
        return Err(Error::Plain("Anchor does not exist".to_owned()));
    }
    writeln!(session.console.out, "Removing:")?;
    let mut failure = None;
    for path in paths.into_iter().rev() {
        let shown = if path.is_empty() { "/".to_owned() } else { printable(&path) };
        writeln!(session.console.out, "  {shown}")?;
        session.console.out.flush()?;
        let done = parts.iter().try_for_each(|part| one(session, &part(path.clone())));
        failure = failure.or(done.err());
    }
    if let Some(error) = failure {
        return Err(error);
    }
    if top.is_empty() && what == Clear::All { everything_else(session) } else { Ok(()) }
}

fn flush_one(session: &mut Session<'_, '_>, anchor: String, what: Clear) -> Result<(), Error> {
    let interface = session.flags.interface.clone();
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
        Clear::All => {
            one(session, &Flush::Tables { anchor: String::new() })?;
            one(session, &Flush::Rules { anchor })?;
            everything_else(session)
        }
    }
}

/// What `-F all` flushes besides tables and rules.
fn everything_else(session: &mut Session<'_, '_>) -> Result<(), Error> {
    [
        Flush::States { interface: None },
        Flush::Sources,
        Flush::Info { interface: None },
        Flush::Fingerprints,
        Flush::Reset,
    ]
    .iter()
    .try_for_each(|what| one(session, what))
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
