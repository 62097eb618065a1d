//! `table` lines and the files that they name.
//!
//! Source: pf.conf(5) "TABLES"; OpenBSD sbin/pfctl/parse.y `tabledef`, `process_tabledef`.

use std::io::ErrorKind;

use pfapi::addr::Prefix;
use pfapi::check::TABLE_NAME_MAX;
use pfapi::ruleset::{AddrMatch, TableDef, TableEntry};

use crate::address::{Host, World, host_item, raw_table_name, table_name};
use crate::diag::{Code, Diagnostic};
use crate::lookup::find;
use crate::parser::{Fallible, Pair, Rule, place, string};
use crate::plain_list::PlainAddresses;
use crate::print;
use crate::scan::Statement;
use crate::suggest::nearest;

/// A table definition, and the line that `pfctl -v` prints for it. With `ready`, the list in the
/// statement has been emptied and these are its addresses.
///
/// # Errors
/// The message about what a table cannot hold.
pub(crate) fn table(
    world: World,
    statement: &Statement,
    parts: &[Pair],
    ready: Option<Vec<TableEntry>>,
) -> Fallible<(TableDef, String)> {
    let mut ready = ready;
    let Words { mut table, sources } = words(world, statement, parts, ready.is_some())?;
    let mut line = Line::default();
    for part in parts.iter().filter(|part| part.as_rule() == Rule::table_ref) {
        table.name = raw_table_name(part);
        if table.name.len() > TABLE_NAME_MAX {
            return Err(Box::new(
                Diagnostic::error(
                    Code::Table,
                    format!("table name too long, max {TABLE_NAME_MAX} chars"),
                )
                .at(&place(statement, part), format!("{} octets", table.name.len()))
                .line_at(statement.end),
            ));
        }
        if table.name.is_empty() {
            table_name(statement, part)?;
        }
    }
    for part in sources {
        match part {
            Part::Ready => {
                let entries = ready.take().unwrap_or_default();
                print::put_entries(line.list(entries.is_empty()), &entries);
                table.entries = Some(entries);
            }
            Part::List(added) => {
                put_hosts(line.list(added.is_empty()), &added);
                let entries = table.entries.get_or_insert_default();
                for host in &added {
                    let Some(entry) = entry(host) else { continue };
                    entries.push(entry);
                    table.weights.extend(host.rare.weight.map(|w| (entry.prefix, w)));
                }
            }
            Part::File(option) => {
                let (path, added) = file(world, statement, &option)?;
                line.file(&path);
                table.entries.get_or_insert_default().extend(added);
            }
        }
    }
    let line = line.finish(&table, world);
    Ok((table, line))
}

/// A table definition whose files are not read yet.
pub(crate) struct Words<'s> {
    table: TableDef,
    sources: Vec<Part<'s>>,
}

/// The options and lists of a table definition: what pfctl understands before its end. With
/// `ready`, the list has been emptied.
///
/// # Errors
/// The message about the first word that means nothing.
pub(crate) fn words<'s>(
    world: World,
    statement: &Statement,
    parts: &[Pair<'s>],
    ready: bool,
) -> Fallible<Words<'s>> {
    let mut table = TableDef::default();
    let mut sources = Vec::new();
    for option in parts.iter().filter(|part| part.as_rule() == Rule::table_option) {
        for option in option.clone().into_inner() {
            match option.as_rule() {
                Rule::string => flag(statement, &option, &mut table)?,
                Rule::table_entries if !ready => {
                    sources.push(Part::List(list(world, statement, &option)?));
                }
                Rule::table_entries => sources.push(Part::Ready),
                Rule::table_file => sources.push(Part::File(option)),
                _ => {}
            }
        }
    }
    Ok(Words { table, sources })
}

/// What a table definition gets addresses from.
enum Part<'s> {
    List(Vec<Host>),
    /// The list that was read before.
    Ready,
    File(Pair<'s>),
}

/// What is printed behind the head of a table definition. Lists that stand next to each other
/// print as one.
#[derive(Default)]
struct Line {
    text: String,
    open: bool,
}

impl Line {
    /// Where the addresses of a list go.
    fn list(&mut self, is_empty: bool) -> &mut String {
        if !self.open && !is_empty {
            self.text.push_str(" {");
            self.open = true;
        }
        &mut self.text
    }

    fn close(&mut self) {
        if self.open {
            self.text.push_str(" }");
            self.open = false;
        }
    }

    fn file(&mut self, path: &str) {
        self.close();
        print::put(&mut self.text, format_args!(" file \"{path}\""));
    }

    fn finish(mut self, table: &TableDef, world: World) -> String {
        self.close();
        if self.text.is_empty() && table.entries.is_some() {
            self.text.push_str(" { }");
        }
        self.text.insert_str(0, &print::table_head(table, world.dialect));
        self.text
    }
}

fn flag(statement: &Statement, pair: &Pair, table: &mut TableDef) -> Fallible<()> {
    let word = string(pair);
    match word.as_str() {
        "persist" => table.persist = true,
        "const" => table.constant = true,
        "counters" => table.counters = true,
        _ => {
            let diagnostic =
                Diagnostic::error(Code::Table, format!("invalid table option '{word}'"))
                    .at(&place(statement, pair), "not an option of tables");
            let near = nearest(&word, ["persist", "const", "counters"]);
            return Err(Box::new(match near {
                Some(near) => diagnostic.did_you_mean(near),
                None => diagnostic.help("the options are persist, const, counters and file"),
            }));
        }
    }
    Ok(())
}

/// Appends addresses as pfctl prints them, the network of length zero as `any`.
fn put_hosts(text: &mut String, hosts: &[Host]) {
    for host in hosts {
        text.push_str(if host.negated { " !" } else { " " });
        print::put_addr(text, &host.addr, None, print::Form::default());
        if let Some(via) = &host.rare.via {
            text.push('@');
            text.push_str(via);
        }
    }
}

fn list(world: World, statement: &Statement, pair: &Pair) -> Fallible<Vec<Host>> {
    let mut hosts = Vec::new();
    let mut items = pair.clone().into_inner().filter(|part| part.as_rule() == Rule::table_host);
    for item in items.by_ref() {
        let found = host_item(world, statement, &item)?;
        hosts.extend(found.into_iter().map(|host| (host, item.clone())));
    }
    // pfctl looks at what is in the list when it has read the closing brace.
    for (host, item) in &hosts {
        let text = match &host.addr {
            AddrMatch::Net(_) | AddrMatch::Any if host.rare.via.is_none() => continue,
            AddrMatch::Net(_) | AddrMatch::Any => {
                return Err(Box::new(
                    Diagnostic::error(
                        Code::Unsupported,
                        "`address@interface` is not supported by this version",
                    )
                    .at(&place(statement, item), "not supported"),
                ));
            }
            AddrMatch::Range(..) => "address ranges are not permitted inside tables",
            AddrMatch::Dynamic(_) => "dynamic addresses are not permitted inside tables",
            AddrMatch::Table(_) => "tables cannot contain tables",
            AddrMatch::NoRoute => "\"no-route\" is not permitted inside tables",
            AddrMatch::UrpfFailed => "\"urpf-failed\" is not permitted inside tables",
            // The number is pfctl's for this kind.
            AddrMatch::RouteLabel(_) => "unknown address type 4",
        };
        let end = statement.next_token(pair.as_span().end().saturating_sub(1));
        return Err(Box::new(
            Diagnostic::error(Code::Table, text)
                .at(&place(statement, item), "a table cannot hold this")
                .line_at(end)
                .help("a table holds addresses and networks; use a list of rules for the rest"),
        ));
    }
    let too_long = hosts.iter().find(|(host, _)| host.rare.too_long.is_some());
    if let Some((_, item)) = too_long {
        return Err(Box::new(
            Diagnostic::error(Code::Table, "cannot create address buffer: Invalid argument")
                .title("the prefix is too long for IPv4")
                .at(&place(statement, item), "IPv4 has prefixes from 0 to 32")
                .line_at(statement.end),
        ));
    }
    Ok(hosts.into_iter().map(|(host, _)| host).collect())
}

/// The table entry that an address is; `None` for what a table cannot hold.
pub(crate) fn entry(host: &Host) -> Option<TableEntry> {
    let prefix = match host.addr {
        AddrMatch::Net(prefix) => prefix,
        // The network of length zero has become `any` with its family.
        AddrMatch::Any => {
            let all = match host.af? {
                pfapi::addr::Af::Inet => std::net::IpAddr::from([0; 4]),
                pfapi::addr::Af::Inet6 => std::net::IpAddr::from([0; 16]),
            };
            Prefix::new(all, 0)
        }
        _ => return None,
    };
    Some(TableEntry { prefix, negated: host.negated })
}

/// What went wrong with a file, in the words of strerror(3).
pub(crate) fn cause(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "No such file or directory".to_owned(),
        ErrorKind::PermissionDenied => "Permission denied".to_owned(),
        ErrorKind::IsADirectory => "Is a directory".to_owned(),
        _ => error.to_string(),
    }
}

/// Reads a table file: addresses between blanks, `#` and `;` start comments.
fn file(world: World, statement: &Statement, pair: &Pair) -> Fallible<(String, Vec<TableEntry>)> {
    let word = pair.clone().into_inner().find(|part| part.as_rule() == Rule::string);
    let path = word.map(|word| string(&word)).unwrap_or_default();
    let failed = |cause: String| {
        Box::new(
            Diagnostic::error(Code::TableFile, format!("cannot load \"{path}\": {cause}"))
                .at(&place(statement, pair), "this file")
                .line_at(statement.end),
        )
    };
    let text = world.sources.read(&path).map_err(|error| failed(cause(&error)))?;
    let bad = |lines: &[String], number: usize, word: &str| {
        let mut diagnostic =
            Diagnostic::error(Code::TableFile, format!("file \"{path}\" contains bad data"))
                .title(format!("line {number} of {path:?} has no address: `{word}`"))
                .at(&place(statement, pair), "this file")
                .line_at(statement.end);
        for line in lines {
            diagnostic = diagnostic.before(line);
        }
        Box::new(diagnostic)
    };
    let mut entries = Vec::new();
    let plain = PlainAddresses::new(world.facts);
    for (index, line) in text.lines().enumerate() {
        let comment = line.bytes().position(|octet| matches!(octet, b'#' | b';'));
        let line = &line[..comment.unwrap_or(line.len())];
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            if let Some(prefix) = plain.read(word) {
                entries.push(TableEntry { prefix, negated: false });
                continue;
            }
            if word == "weight" {
                words.next();
                continue;
            }
            let address = word.trim_start_matches('!');
            let negated = (word.len() - address.len()) % 2 == 1;
            let address =
                if address.is_empty() { words.next().unwrap_or_default() } else { address };
            let hosts = find(world, address).map_err(|lines| bad(&lines, index + 1, address))?;
            if hosts.iter().any(|host| host.rare.too_long.is_some()) {
                return Err(bad(&[], index + 1, address));
            }
            entries.extend(
                hosts
                    .iter()
                    .filter_map(|host| entry(host).map(|entry| TableEntry { negated, ..entry })),
            );
        }
    }
    Ok((path, entries))
}
