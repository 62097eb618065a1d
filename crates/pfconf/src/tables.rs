//! `table` lines and the files that they name.
//!
//! Source: pf.conf(5) "TABLES"; OpenBSD sbin/pfctl/parse.y `tabledef`, `process_tabledef`.

use std::io::ErrorKind;

use pfapi::addr::Prefix;
use pfapi::ruleset::{AddrMatch, TableDef, TableEntry};

use crate::address::{Host, World, host_item, literal, table_name};
use crate::diag::{Code, Diagnostic};
use crate::parser::{Fallible, Pair, Rule, place, string};
use crate::print;
use crate::scan::Statement;

/// A table definition, and the line that `pfctl -v` prints for it.
///
/// # Errors
/// The message about what a table cannot hold.
pub(crate) fn table(
    world: World,
    statement: &Statement,
    parts: &[Pair],
) -> Fallible<(TableDef, String)> {
    let mut table = TableDef {
        name: String::new(),
        persist: false,
        constant: false,
        counters: false,
        entries: None,
    };
    let mut contents = String::new();
    for part in parts {
        match part.as_rule() {
            Rule::table_ref => table.name = table_name(statement, part)?,
            Rule::table_option => {
                for option in part.clone().into_inner() {
                    match option.as_rule() {
                        Rule::kw_persist => table.persist = true,
                        Rule::kw_const => table.constant = true,
                        Rule::kw_counters => table.counters = true,
                        Rule::table_entries => {
                            let added = list(world, statement, &option)?;
                            contents.push_str(&shown(&added));
                            table.entries.get_or_insert_default().extend(added);
                        }
                        Rule::table_file => {
                            let (path, added) = file(world, statement, &option)?;
                            contents.push_str(" file ");
                            contents.push_str(&print::quoted(&path));
                            table.entries.get_or_insert_default().extend(added);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let line = print::table_head(&table) + &contents;
    Ok((table, line))
}

fn shown(entries: &[TableEntry]) -> String {
    let mut text = String::from(" {");
    for entry in entries {
        text.push(' ');
        text.push_str(&entry.to_string());
    }
    text + " }"
}

fn list(world: World, statement: &Statement, pair: &Pair) -> Fallible<Vec<TableEntry>> {
    let mut entries = Vec::new();
    for item in pair.clone().into_inner() {
        if item.as_rule() != Rule::host_item {
            continue;
        }
        refuse(statement, &item)?;
        entries.extend(host_item(world, statement, &item)?.iter().filter_map(entry));
    }
    Ok(entries)
}

fn entry(host: &Host) -> Option<TableEntry> {
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

/// Refuses what a rule may name but a table cannot hold.
fn refuse(statement: &Statement, item: &Pair) -> Fallible<()> {
    for part in item.clone().into_inner() {
        let text = match part.as_rule() {
            Rule::table_ref => "tables cannot contain tables".to_owned(),
            Rule::dynamic => "dynamic addresses are not permitted inside tables".to_owned(),
            Rule::range => "address ranges are not permitted inside tables".to_owned(),
            Rule::kw_any => "\"any\" is not permitted inside tables".to_owned(),
            Rule::kw_no_route | Rule::kw_urpf_failed => {
                format!("\"{}\" is not permitted inside tables", part.as_str().trim())
            }
            _ => continue,
        };
        return Err(Box::new(
            Diagnostic::error(Code::Table, text)
                .at(&place(statement, &part), "a table cannot hold this")
                .help("a table holds addresses and networks; use a list of rules for the rest"),
        ));
    }
    Ok(())
}

/// Reads a table file: addresses between blanks, `#` and `;` start comments.
fn file(world: World, statement: &Statement, pair: &Pair) -> Fallible<(String, Vec<TableEntry>)> {
    let word = pair.clone().into_inner().find(|part| part.as_rule() == Rule::string);
    let path = word.map(|word| string(&word)).unwrap_or_default();
    let failed = |cause: String| {
        Box::new(
            Diagnostic::error(Code::TableFile, format!("cannot load \"{path}\": {cause}"))
                .at(&place(statement, pair), "this file"),
        )
    };
    let text = world.sources.read(&path).map_err(|error| {
        failed(match error.kind() {
            ErrorKind::NotFound => "No such file or directory".to_owned(),
            ErrorKind::PermissionDenied => "Permission denied".to_owned(),
            _ => error.to_string(),
        })
    })?;
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut negated = false;
        for word in line.split_whitespace() {
            let stripped = word.strip_prefix('!');
            negated |= stripped.is_some();
            let address = stripped.unwrap_or(word);
            if address.is_empty() {
                continue;
            }
            let prefixes = file_address(world, address);
            if prefixes.is_empty() {
                return Err(failed(format!("line {}: no address: {word}", index + 1)));
            }
            entries.extend(prefixes.into_iter().map(|prefix| TableEntry { prefix, negated }));
            negated = false;
        }
    }
    Ok((path, entries))
}

fn file_address(world: World, word: &str) -> Vec<Prefix> {
    let (base, bits) = match word.split_once('/').map(|(base, bits)| (base, bits.parse())) {
        None => (word, None),
        Some((base, Ok(bits))) if bits <= 128 => (base, Some(bits)),
        Some(_) => return Vec::new(),
    };
    match literal(base, bits).map(|host| host.addr) {
        Some(AddrMatch::Net(prefix)) => vec![prefix],
        _ if world.numeric_only || bits.is_some() => Vec::new(),
        _ => world.sources.lookup_host(word).into_iter().map(Prefix::host).collect(),
    }
}

#[cfg(test)]
mod tests {
    use pfapi::facts::Facts;

    use super::*;
    use crate::source::NoSources;

    #[test]
    fn files_hold_networks_as_rules_do() {
        let facts = Facts::default();
        let world = World { facts: &facts, sources: &NoSources, numeric_only: false };
        for (word, prefix) in [
            ("10/8", "10.0.0.0/8"),
            ("192.168/16", "192.168.0.0/16"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("192.0.2.7", "192.0.2.7"),
            ("0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(file_address(world, word), [prefix.parse().unwrap()], "{word}");
        }
        for word in ["10", "10/33", "192.0.2.1/", "2001:db8::/129", "x/8", "/8", ""] {
            assert!(file_address(world, word).is_empty(), "{word}");
        }
    }
}
