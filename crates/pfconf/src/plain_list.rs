//! Long lists of plain addresses in tables and rules, read in one pass.
//!
//! A list of a hundred thousand addresses needs no grammar for each. What is read here is what the
//! grammar's `table_entries` or `host_list` and [`crate::lookup`] would make of it; whatever is not
//! a plain IPv4 or IPv6 address or network, and every mistake, is left to them. Debug builds read
//! both ways.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use pfapi::addr::Prefix;
use pfapi::facts::Facts;
use pfapi::ruleset::{AddrMatch, TableEntry};

use crate::address::Host;
use crate::scan::{Statement, is_word_octet};
use crate::statement::is_word_char;

/// Shortest statement that this is worth for, in octets.
const LONG: usize = 500;

/// Whether some interface or group could be taken for an address. Nobody calls one like that, but
/// it would come before the address.
fn names_may_be_addresses(facts: &Facts) -> bool {
    let names = facts.interfaces.iter().flat_map(|interface| {
        interface.groups.iter().map(String::as_str).chain([interface.name.as_str()])
    });
    names.into_iter().any(|name| !name.starts_with(|first: char| first.is_ascii_alphabetic()))
}

/// Reads words that are addresses, and nothing but addresses, on a machine.
#[derive(Clone, Copy)]
pub(crate) struct PlainAddresses {
    possible: bool,
}

impl PlainAddresses {
    pub(crate) fn new(facts: &Facts) -> Self {
        Self { possible: !names_may_be_addresses(facts) }
    }

    /// An address or network; `None` also for those that need a closer look, such as `10/8`.
    pub(crate) fn read(self, word: &str) -> Option<Prefix> {
        if !self.possible {
            return None;
        }
        let (addr, len) = match word.split_once('/') {
            None => (word, None),
            Some((addr, len)) => (addr, Some(small_number(len)?)),
        };
        if let Ok(addr) = addr.parse::<Ipv4Addr>() {
            return match len {
                None => Some(Prefix::host(addr.into())),
                Some(len) => (len <= 32).then(|| Prefix::new(addr.into(), len)),
            };
        }
        // One that starts with a letter could be an interface with a modifier.
        if !addr.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        let addr = addr.parse::<Ipv6Addr>().ok()?;
        let len = len.unwrap_or(128);
        (len <= 128).then(|| Prefix::new(addr.into(), len))
    }
}

/// Digits alone, up to 255.
fn small_number(text: &str) -> Option<u8> {
    text.bytes().all(|octet| octet.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The addresses of the one list in a `table` statement, and the statement without them. It has no
/// places: a mistake in it is to be looked for in the whole one.
pub(crate) fn plain_list(
    facts: &Facts,
    statement: &Statement,
) -> Option<(Statement, Vec<TableEntry>)> {
    let text = statement.text.as_str();
    if text.len() < LONG {
        return None;
    }
    let (head, rest) = text.split_once('{')?;
    let mut list = List { rest, words: PlainAddresses::new(facts) };
    let entries = list.entries()?;
    let tail = list.rest;
    // Files are read once, and braces in quotes are none.
    if tail.contains(['{', '}']) || [head, tail].iter().any(|part| part.contains("file")) {
        return None;
    }
    let text = format!("{head}{{ }}{tail}");
    Some((Statement::placeless(text, statement.end), entries))
}

/// A long list of addresses in a rule, of which the statement has kept only the first.
#[derive(Debug)]
pub(crate) struct HostList {
    /// `to`, not `from`.
    pub(crate) is_target: bool,
    pub(crate) hosts: Vec<Host>,
}

/// The lists of plain addresses behind `from` and `to` of a rule, and the rule with the first
/// address of each only. Every part of it has its place.
pub(crate) fn plain_hosts(
    facts: &Facts,
    statement: &Statement,
) -> Option<(Statement, Vec<HostList>)> {
    if statement.text.len() < LONG || !PlainAddresses::new(facts).possible {
        return None;
    }
    let mut left: Option<Statement> = None;
    let mut lists = Vec::new();
    let mut start = 0;
    loop {
        let statement = left.as_ref().unwrap_or(statement);
        let Some(open) = statement.text[start..].find('{').map(|at| start + at) else { break };
        let head = &statement.text[..open];
        // Pools have lists behind such words, too, and braces in quotes are none.
        if head.contains("-to") || head.contains(['"', '\'']) {
            break;
        }
        start = open + 1;
        let before = head.trim_end_matches([' ', '\t', '\r']);
        let word = before.rsplit(|sign| !is_word_char(sign)).next().unwrap_or_default();
        let is_target = word == "to";
        let known = lists.iter().any(|list: &HostList| list.is_target == is_target);
        if known || !(is_target || word == "from") {
            continue;
        }
        let Some((hosts, cut)) = hosts(facts, &statement.text, start) else { continue };
        if cut.len() < LONG {
            continue;
        }
        left = Some(statement.without(cut));
        lists.push(HostList { is_target, hosts });
    }
    left.map(|left| (left, lists))
}

/// The addresses of the list at `start`, and where all but the first of them stand.
fn hosts(facts: &Facts, text: &str, start: usize) -> Option<(Vec<Host>, Range<usize>)> {
    let mut list = List { rest: &text[start..], words: PlainAddresses::new(facts) };
    let mut first = None;
    let mut hosts = Vec::new();
    let entries = list.each(|entry, rest| {
        let TableEntry { prefix, negated } = entry;
        first.get_or_insert(text.len() - rest.len());
        let mut host = Host { negated, ..Host::net(prefix) };
        if prefix.len() == 0 {
            host.addr = AddrMatch::Any;
        }
        hosts.push(host);
    });
    entries?;
    hosts.shrink_to_fit();
    // The brace stays.
    Some((hosts, first?..text.len() - list.rest.len() - 1))
}

struct List<'t> {
    rest: &'t str,
    words: PlainAddresses,
}

impl List<'_> {
    /// Everything up to the closing brace: the grammar has newlines behind the opening brace and
    /// behind items, and a comma in front of items but the first.
    fn entries(&mut self) -> Option<Vec<TableEntry>> {
        let mut entries = Vec::new();
        self.each(|entry, _| entries.push(entry))?;
        Some(entries)
    }

    /// Gives each, and the text behind it.
    fn each(&mut self, mut found: impl FnMut(TableEntry, &str)) -> Option<()> {
        let mut some = false;
        self.skip(true);
        loop {
            if self.sign('}') {
                return Some(());
            }
            if some && self.sign(',') {
                self.skip(false);
            }
            some = true;
            let negated = self.sign('!');
            if negated {
                self.skip(false);
            }
            let end = |octet: &u8| !is_word_octet(*octet) && *octet != b'/';
            let len = self.rest.as_bytes().iter().position(end)?;
            let prefix = self.words.read(&self.rest[..len])?;
            self.rest = &self.rest[len..];
            found(TableEntry { prefix, negated }, self.rest);
            self.skip(true);
        }
    }

    fn sign(&mut self, sign: char) -> bool {
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip(&mut self, newlines: bool) {
        let blank = |octet: &u8| matches!(octet, b' ' | b'\t' | b'\r' | b'\n' if *octet != b'\n' || newlines);
        let len = self.rest.as_bytes().iter().position(|octet| !blank(octet));
        self.rest = &self.rest[len.unwrap_or(self.rest.len())..];
    }
}

#[cfg(test)]
mod tests {
    use pfapi::facts::InterfaceFacts;

    use super::*;

    fn read(list: &str, facts: &Facts) -> Option<String> {
        let text = format!("table <t> {{{list}}}{}", " ".repeat(LONG));
        let statement = Statement::placeless(text, 0);
        let (rest, entries) = plain_list(facts, &statement)?;
        assert_eq!(rest.text.trim(), "table <t> { }");
        let shown: Vec<String> = entries.iter().map(ToString::to_string).collect();
        Some(shown.join(" "))
    }

    #[test]
    fn plain_addresses_are_read() {
        let facts = Facts::default();
        for (list, shown) in [
            (" 192.0.2.1, !192.0.2.0/24\n198.51.100.7 ", "192.0.2.1 !192.0.2.0/24 198.51.100.7"),
            ("\n\n2001:db8::/32 \n\n, 0.0.0.0/0,10.0.0.0/8", "2001:db8::/32 0.0.0.0/0 10.0.0.0/8"),
            ("! 10.0.0.1", "!10.0.0.1"),
            ("", ""),
        ] {
            assert_eq!(read(list, &facts).as_deref(), Some(shown), "{list}");
        }
    }

    #[test]
    fn rules_keep_the_first_of_many_addresses() {
        let many = |third: u8| {
            let list: Vec<String> = (1..=200).map(|n| format!("10.0.{third}.{n}")).collect();
            list.join(", ")
        };
        let read = |text: &str| {
            let mut statement = Statement::default();
            statement.push_str(text, 1_000);
            let (rest, lists) = plain_hosts(&Facts::default(), &statement)?;
            // What stands behind a list is where it was.
            let at = |text: &str| text.find("port").unwrap();
            let port = rest.locate(at(&rest.text), at(&rest.text) + 4).span;
            assert_eq!(port.start, 1_000 + at(text));
            let lists = lists.iter().map(|list| (list.is_target, list.hosts.len()));
            Some((rest.text, lists.collect::<Vec<_>>()))
        };
        assert_eq!(
            read(&format!("pass from {{ {} }} to {{{}\n}} port 80", many(0), many(1))),
            Some((
                "pass from { 10.0.0.1} to {10.0.1.1} port 80".to_owned(),
                vec![(false, 200), (true, 200)]
            ))
        );
        assert_eq!(
            read(&format!("pass proto {{ tcp udp }} to {{ {} }} port {{ 1 2 }}", many(0))),
            Some((
                "pass proto { tcp udp } to { 10.0.0.1} port { 1 2 }".to_owned(),
                vec![(true, 200)]
            ))
        );
        for text in [
            format!("pass nat-to {{ {} }} port 80", many(0)),
            format!("pass af-to inet from {{ {} }} port 80", many(0)),
            format!("pass label \"from {{\" from {{ {} }} port 80", many(0)),
            format!("pass from {{ {}, em0 }} port 80", many(0)),
            format!("pass from {{ {}, {{ 10.1.1.1 }} }} port 80", many(0)),
            "pass from { 10.0.0.1, 10.0.0.2 } port 80".to_owned(),
        ] {
            assert_eq!(read(&text), None, "{text}");
        }
    }

    #[test]
    fn the_rest_is_left_to_the_grammar() {
        let facts = Facts::default();
        for list in [
            "10/8",
            "10.0.0.1 - 10.0.0.9",
            "10.0.0.0 /8",
            "em0",
            "10.0.0.1 weight 2",
            "10.0.0.1,",
            ", 10.0.0.1",
            "10.0.0.1,\n10.0.0.2",
            "10.0.0.1,,10.0.0.2",
            "!!10.0.0.1",
            "10.0.0.1/33",
            "!\n10.0.0.1",
            "{ 10.0.0.1 }",
            "fe80::1",
            "10.0.0.1@em0",
            "\"10.0.0.1\"",
            "10.0.0.1/+8",
            "10.0.0.1/",
            "10.0.0.1} file {",
            "10.0.0.1:80",
        ] {
            assert_eq!(read(list, &facts), None, "{list}");
        }
        let interfaces = vec![InterfaceFacts::new("10.0.0.1")];
        assert_eq!(read("10.0.0.1", &Facts { interfaces }), None);
    }
}
