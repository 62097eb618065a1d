//! `-t TABLE -T command`.
//!
//! Source: OpenBSD sbin/pfctl/pfctl_table.c `pfctl_table`, `load_addr`, `xprintf`; pfctl_radix.c.
//! Different from OpenBSD: replace and flush are several requests, so a packet may see the table
//! in between; replace adds before it deletes.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use pfapi::addr::Prefix;
use pfapi::control::{FailureKind, ITEMS_PER_FRAME, Request, Response};
use pfapi::facts::Facts;
use pfapi::ruleset::TableEntry;

use crate::console::{os_text, printable};
use crate::error::Error;
use crate::exit::Exit;
use crate::flags::classic::Names;
use crate::flags::words::TableCommand;
use crate::hosts::{self, Context, HostError};
use crate::session::Session;
use crate::show::tables::{Clock, Feedback, Found, print_address, print_statistics};
use crate::sources::read_lossy;

/// Runs one table command.
///
/// # Errors
/// Those of standard output. Others are shown here and give [`Exit::TableFailure`].
pub fn run(
    session: &mut Session<'_, '_>,
    table: &str,
    command: TableCommand,
) -> Result<Exit, Error> {
    let outcome = match command {
        TableCommand::Show => show(session, table),
        TableCommand::Test => test(session, table),
        TableCommand::Add => add(session, table),
        TableCommand::Delete => delete(session, table),
        TableCommand::Replace => replace(session, table),
        TableCommand::Flush => flush(session, table),
        TableCommand::Kill => kill(session, table),
        TableCommand::Zero => zero(session, table),
        TableCommand::Expire => expire(session, table),
    };
    match outcome {
        Ok(exit) => Ok(exit),
        Err(error @ Error::Output(_)) => Err(error),
        Err(Error::Refused { kind, message }) => {
            let text = match kind {
                FailureKind::NotFound => "Table does not exist".to_owned(),
                FailureKind::Constant => "Operation not permitted".to_owned(),
                FailureKind::Limit => "Cannot allocate memory".to_owned(),
                _ => Error::Refused { kind, message }.to_string(),
            };
            session.console.warn(format_args!("{}.", text.trim_end_matches('.')));
            Ok(Exit::TableFailure)
        }
        // The message is out already.
        Err(Error::Plain(text)) if text.is_empty() => Ok(Exit::TableFailure),
        Err(error) => {
            session.fail(&error);
            Ok(Exit::TableFailure)
        }
    }
}

fn show(session: &mut Session<'_, '_>, table: &str) -> Result<Exit, Error> {
    if !session.is_connected() {
        return Ok(Exit::Success);
    }
    let anchor = session.flags.anchor_path().to_owned();
    if session.flags.verbosity > 0 {
        return show_statistics(session, anchor, table);
    }
    let request = Request::TableShow { anchor, table: table.to_owned() };
    session.list(&request, "show", |console, names, response| {
        let Response::TableEntries { entries } = response else {
            return Err(Error::Unexpected("show"));
        };
        for entry in &entries {
            print_address(console.out, Feedback::None, entry, Found::NotShown, names)?;
        }
        Ok(())
    })?;
    Ok(Exit::Success)
}

/// `-v`: every address with its counters.
fn show_statistics(
    session: &mut Session<'_, '_>,
    anchor: String,
    table: &str,
) -> Result<Exit, Error> {
    let request = Request::TableStatistics { anchor, table: table.to_owned() };
    let clock = Clock::system();
    session.list(&request, "show", |console, names, response| {
        let Response::TableStatistics { entries } = response else {
            return Err(Error::Unexpected("show"));
        };
        for report in &entries {
            print_statistics(console.out, report, &clock, names)?;
        }
        Ok(())
    })?;
    Ok(Exit::Success)
}

/// Deletes the table itself.
fn kill(session: &mut Session<'_, '_>, table: &str) -> Result<Exit, Error> {
    let anchor = session.flags.anchor_path().to_owned();
    if !session.flags.no_action {
        match session.call(&Request::TableKill { anchor, table: table.to_owned() })? {
            Response::Count { .. } => {}
            other => return Err(Error::from_answer(other, "kill")),
        }
    }
    report(session, "1 table deleted");
    Ok(Exit::Success)
}

/// Zeroes the counters of addresses, or of the table as a whole.
fn zero(session: &mut Session<'_, '_>, table: &str) -> Result<Exit, Error> {
    let asked = arguments(session, false)?;
    let all = asked.is_empty() && session.flags.file.is_none();
    if session.flags.no_action {
        let text = if all { "1 table/stats cleared" } else { "0 addresses cleared" };
        report(session, text);
        return Ok(Exit::Success);
    }
    let mut marks = mark_repeats(&asked);
    let wanted = first_ones(&asked, &marks);
    if !all && wanted.is_empty() {
        report(session, "0/0 addresses cleared");
        return Ok(Exit::Success);
    }
    let mut zeroed = Vec::new();
    let mut rest = wanted.into_iter().peekable();
    loop {
        let entries = rest.by_ref().take(ITEMS_PER_FRAME).collect();
        let anchor = session.flags.anchor_path().to_owned();
        let request = Request::TableZero { anchor, table: table.to_owned(), entries };
        match session.call(&request)? {
            Response::TableChanged { changed, .. } => zeroed.extend(changed),
            other => return Err(Error::from_answer(other, "zero")),
        }
        if rest.peek().is_none() {
            break;
        }
    }
    if all {
        report(session, "1 table/stats cleared");
        return Ok(Exit::Success);
    }
    report(session, format_args!("{}/{} addresses cleared", zeroed.len(), asked.len()));
    mark_changed(&asked, &mut marks, &zeroed, Feedback::Cleared);
    print_changes(session, &asked, &marks)
}

/// Deletes addresses whose counters have not been cleared for some seconds.
fn expire(session: &mut Session<'_, '_>, table: &str) -> Result<Exit, Error> {
    let [seconds] = session.flags.words.as_slice() else {
        return Err(Error::Usage("-T expire takes one number of seconds".to_owned()));
    };
    let age_s: u64 = match seconds.parse::<u32>() {
        Ok(age_s) if age_s > 0 => age_s.into(),
        _ => return Err(Error::Plain(format!("invalid expiry time '{}'", printable(seconds)))),
    };
    let count = if session.flags.no_action {
        0
    } else {
        let anchor = session.flags.anchor_path().to_owned();
        let request = Request::TableExpire { anchor, table: table.to_owned(), age_s };
        match session.call(&request)? {
            Response::Count { count } => count,
            other => return Err(Error::from_answer(other, "expire")),
        }
    };
    report(session, format_args!("{count} addresses expired"));
    Ok(Exit::Success)
}

fn test(session: &mut Session<'_, '_>, table: &str) -> Result<Exit, Error> {
    let asked = arguments(session, true)?;
    if !session.is_connected() {
        report(session, format_args!("0/{} addresses match", asked.len()));
        return Ok(Exit::Success);
    }
    let mut found = Vec::new();
    for part in asked.chunks(ITEMS_PER_FRAME) {
        let addrs = part.iter().map(|entry| entry.prefix.addr()).collect();
        let anchor = session.flags.anchor_path().to_owned();
        match session.call(&Request::TableTest { anchor, table: table.to_owned(), addrs })? {
            Response::TableMatches { matches } if matches.len() == part.len() => {
                found.extend(matches);
            }
            other => return Err(Error::from_answer(other, "test")),
        }
    }
    // A longest match with `!` means: not in the table.
    let is_match = |hit: &Option<TableEntry>| hit.is_some_and(|entry| !entry.negated);
    let count = found.iter().filter(|hit| is_match(hit)).count();
    report(session, format_args!("{count}/{} addresses match", asked.len()));
    for (entry, hit) in asked.iter().zip(&found) {
        let feedback = if is_match(hit) { Feedback::Match } else { Feedback::None };
        let shown = match session.flags.verbosity {
            0 => continue,
            1 if feedback == Feedback::None => continue,
            1 => Found::NotShown,
            _ => Found::Entry(*hit),
        };
        print_address(session.console.out, feedback, entry, shown, &mut session.names)?;
    }
    Ok(if count == asked.len() { Exit::Success } else { Exit::NoMatch })
}

fn add(session: &mut Session<'_, '_>, table: &str) -> Result<Exit, Error> {
    let asked = arguments(session, false)?;
    let mut marks = mark_repeats(&asked);
    let wanted = first_ones(&asked, &marks);
    let changed = apply(session, table, Change::Add, wanted)?;
    if changed.created {
        report(session, "1 table created");
    }
    report(session, format_args!("{}/{} addresses added", changed.entries.len(), asked.len()));
    mark_changed(&asked, &mut marks, &changed.entries, Feedback::Added);
    print_changes(session, &asked, &marks)
}

fn delete(session: &mut Session<'_, '_>, table: &str) -> Result<Exit, Error> {
    let asked = arguments(session, false)?;
    let mut marks = mark_repeats(&asked);
    let wanted = first_ones(&asked, &marks);
    let changed = apply(session, table, Change::Delete, wanted)?;
    report(session, format_args!("{}/{} addresses deleted", changed.entries.len(), asked.len()));
    mark_changed(&asked, &mut marks, &changed.entries, Feedback::Deleted);
    print_changes(session, &asked, &marks)
}

fn flush(session: &mut Session<'_, '_>, table: &str) -> Result<Exit, Error> {
    let entries = contents(session, table)?.unwrap_or_default();
    let changed = apply(session, table, Change::Delete, entries)?;
    report(session, format_args!("{} addresses deleted", changed.entries.len()));
    Ok(Exit::Success)
}

fn replace(session: &mut Session<'_, '_>, table: &str) -> Result<Exit, Error> {
    let asked = arguments(session, false)?;
    let marks = mark_repeats(&asked);
    let wanted = first_ones(&asked, &marks);
    let before = match contents(session, table) {
        Err(Error::Refused { kind: FailureKind::NotFound, .. }) => Vec::new(),
        other => other?.unwrap_or_default(),
    };
    let old: BTreeMap<Prefix, bool> =
        before.iter().map(|entry| (entry.prefix, entry.negated)).collect();
    let new: BTreeMap<Prefix, bool> =
        wanted.iter().map(|entry| (entry.prefix, entry.negated)).collect();
    // An entry whose `!` changes goes before it comes back.
    let turned: Vec<TableEntry> = (before.iter().copied())
        .filter(|entry| new.get(&entry.prefix).is_some_and(|&negated| negated != entry.negated))
        .collect();
    let gone: Vec<TableEntry> =
        before.iter().copied().filter(|entry| !new.contains_key(&entry.prefix)).collect();
    let fresh: Vec<TableEntry> = (wanted.iter().copied())
        .filter(|entry| old.get(&entry.prefix) != Some(&entry.negated))
        .collect();
    if !turned.is_empty() {
        apply(session, table, Change::Delete, turned.clone())?;
    }
    // Adding nothing still makes a table that is missing.
    let added = apply(session, table, Change::Add, fresh.clone())?;
    let deleted = if gone.is_empty() {
        0
    } else {
        apply(session, table, Change::Delete, gone.clone())?.entries.len()
    };
    if added.created {
        report(session, "1 table created");
    }
    let changed = turned.len();
    let counts = [
        (added.entries.len().saturating_sub(changed), "added"),
        (deleted, "deleted"),
        (changed, "changed"),
    ];
    for (count, what) in counts {
        if count > 0 {
            report(session, format_args!("{count} addresses {what}"));
        }
    }
    if counts.iter().all(|(count, _)| *count == 0) {
        report(session, "no changes");
    }
    let is_turned = |entry: &TableEntry| turned.iter().any(|other| other.prefix == entry.prefix);
    let mut shown = wanted;
    let mut marks: Vec<Feedback> = (shown.iter())
        .map(|entry| match () {
            () if is_turned(entry) => Feedback::Changed,
            () if old.contains_key(&entry.prefix) => Feedback::None,
            () => Feedback::Added,
        })
        .collect();
    marks.extend(gone.iter().map(|_| Feedback::Deleted));
    shown.extend(gone);
    print_changes(session, &shown, &marks)
}

/// Prints a line of progress as pfctl(8) ends it.
fn report(session: &mut Session<'_, '_>, text: impl Display) {
    let end = match (session.flags.no_action, session.is_connected()) {
        (false, _) => "",
        (true, true) => " (dummy)",
        (true, false) => " (syntax only)",
    };
    session.tell(format_args!("{text}{end}."));
}

/// With `-v` the entries that something happened to, with `-vv` all.
fn print_changes(
    session: &mut Session<'_, '_>,
    entries: &[TableEntry],
    marks: &[Feedback],
) -> Result<Exit, Error> {
    for (entry, mark) in entries.iter().zip(marks) {
        let shown = match session.flags.verbosity {
            0 => false,
            1 => *mark != Feedback::None,
            _ => true,
        };
        if shown {
            let names = &mut session.names;
            print_address(session.console.out, *mark, entry, Found::NotShown, names)?;
        }
    }
    Ok(Exit::Success)
}

/// Marks an entry that stands a second time in the list.
fn mark_repeats(entries: &[TableEntry]) -> Vec<Feedback> {
    let mut seen: BTreeMap<Prefix, bool> = BTreeMap::new();
    let mark = |entry: &TableEntry| match seen.get(&entry.prefix) {
        Some(&negated) if negated == entry.negated => Feedback::Duplicate,
        Some(_) => Feedback::Conflict,
        None => {
            seen.insert(entry.prefix, entry.negated);
            Feedback::None
        }
    };
    entries.iter().map(mark).collect()
}

fn first_ones(entries: &[TableEntry], marks: &[Feedback]) -> Vec<TableEntry> {
    let firsts = entries.iter().zip(marks).filter(|(_, mark)| **mark == Feedback::None);
    firsts.map(|(entry, _)| *entry).collect()
}

fn mark_changed(
    entries: &[TableEntry],
    marks: &mut [Feedback],
    changed: &[TableEntry],
    what: Feedback,
) {
    let changed: std::collections::BTreeSet<_> = changed.iter().collect();
    for (entry, mark) in entries.iter().zip(marks) {
        if *mark == Feedback::None && changed.contains(entry) {
            *mark = what;
        }
    }
}

/// A change of a table's contents.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Add,
    Delete,
}

/// What a change did.
#[derive(Default)]
struct Changed {
    entries: Vec<TableEntry>,
    created: bool,
}

/// Changes a table in frames; with `-n` only computes what would change.
fn apply(
    session: &mut Session<'_, '_>,
    table: &str,
    change: Change,
    entries: Vec<TableEntry>,
) -> Result<Changed, Error> {
    if session.flags.no_action {
        return pretend(session, table, change, entries);
    }
    let mut result = Changed::default();
    let mut rest = entries.into_iter().peekable();
    loop {
        let entries: Vec<TableEntry> = rest.by_ref().take(ITEMS_PER_FRAME).collect();
        let (anchor, table) = (session.flags.anchor_path().to_owned(), table.to_owned());
        let request = match change {
            Change::Add => Request::TableAdd { anchor, table, entries },
            Change::Delete => Request::TableDelete { anchor, table, entries },
        };
        match session.call(&request)? {
            Response::TableChanged { changed, created } => {
                result.entries.extend(changed);
                result.created |= created;
            }
            other => return Err(Error::from_answer(other, "change")),
        }
        if rest.peek().is_none() {
            return Ok(result);
        }
    }
}

fn pretend(
    session: &mut Session<'_, '_>,
    table: &str,
    change: Change,
    entries: Vec<TableEntry>,
) -> Result<Changed, Error> {
    let (now, created) = match contents(session, table) {
        Ok(None) => return Ok(Changed::default()),
        Ok(Some(now)) => (now, false),
        Err(Error::Refused { kind: FailureKind::NotFound, .. }) if change == Change::Add => {
            (Vec::new(), true)
        }
        Err(error) => return Err(error),
    };
    let now: BTreeMap<Prefix, bool> =
        now.iter().map(|entry| (entry.prefix, entry.negated)).collect();
    let changes = |entry: &TableEntry| match (change, now.get(&entry.prefix)) {
        (Change::Add, known) => known.is_none(),
        (Change::Delete, known) => known == Some(&entry.negated),
    };
    Ok(Changed { entries: entries.into_iter().filter(changes).collect(), created })
}

/// What the table holds; `None` with `-n` and no daemon.
fn contents(session: &mut Session<'_, '_>, table: &str) -> Result<Option<Vec<TableEntry>>, Error> {
    if session.flags.no_action && !session.is_connected() {
        return Ok(None);
    }
    let mut all = Vec::new();
    let anchor = session.flags.anchor_path().to_owned();
    let request = Request::TableShow { anchor, table: table.to_owned() };
    session.list(&request, "show", |_, _, response| {
        let Response::TableEntries { entries } = response else {
            return Err(Error::Unexpected("show"));
        };
        all.extend(entries);
        Ok(())
    })?;
    Ok(Some(all))
}

/// Addresses of the command line and of `-f`.
fn arguments(session: &mut Session<'_, '_>, hosts_only: bool) -> Result<Vec<TableEntry>, Error> {
    let flags = session.flags;
    let file = flags.file.as_deref().map(|file| read(session, file)).transpose()?;
    let from_file = file.as_deref().map(hosts::file_words).unwrap_or_default();
    let words: Vec<&str> = flags.words.iter().map(String::as_str).chain(from_file).collect();
    // Interfaces are asked for only when a word could be one.
    let is_number = |word: &str| word.trim_start_matches('!').parse::<Prefix>().is_ok();
    let facts = if session.is_connected() && !words.iter().all(|word| is_number(word)) {
        session.facts()?
    } else {
        Facts::default()
    };
    let context = Context { facts: &facts, lookup: flags.names != Names::Never };
    let mut entries = Vec::new();
    for word in words {
        match hosts::table_entries(word, &context) {
            Ok(found) => entries.extend(found),
            Err(error) => {
                match error {
                    // Without the program's name, as in pfctl.
                    HostError::Unknown(_) => session.console.note(printable(&error.to_string())),
                    HostError::Mask(_) => session.console.warn(printable(&error.to_string())),
                }
                return Err(Error::Plain(String::new()));
            }
        }
        if hosts_only && entries.iter().any(|entry| entry.negated || !entry.prefix.is_host()) {
            let word = printable(word);
            return Err(Error::Plain(format!("cannot decode {word}: Invalid argument")));
        }
    }
    Ok(entries)
}

fn read(session: &mut Session<'_, '_>, file: &str) -> Result<String, Error> {
    let text = if file == "-" {
        let mut octets = Vec::new();
        let read = session.console.input.read_to_end(&mut octets);
        read.map(|_| String::from_utf8_lossy(&octets).into_owned())
    } else {
        read_lossy(Path::new(file))
    };
    text.map_err(|error| Error::Plain(format!("{}: {}", printable(file), os_text(&error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_mention_is_a_duplicate_or_a_conflict() {
        let entry = |text: &str, negated| TableEntry { prefix: text.parse().unwrap(), negated };
        let list = [
            entry("192.0.2.1", false),
            entry("192.0.2.1", false),
            entry("192.0.2.1", true),
            entry("192.0.2.2", true),
        ];
        let mut marks = mark_repeats(&list);
        assert_eq!(
            marks,
            [Feedback::None, Feedback::Duplicate, Feedback::Conflict, Feedback::None]
        );
        assert_eq!(first_ones(&list, &marks), [list[0], list[3]]);
        mark_changed(&list, &mut marks, &[list[3]], Feedback::Added);
        assert_eq!(marks[3], Feedback::Added);
        assert_eq!(marks[0], Feedback::None);
    }
}
