//! Which dialect a file is written in, by the words that its statements start with.

pub use pfapi::dialect::Dialect;

use crate::scan::first_word;

/// Words that start a statement on FreeBSD only.
const FREEBSD_STATEMENTS: [&str; 10] = [
    "nat",
    "rdr",
    "binat",
    "scrub",
    "altq",
    "nat-anchor",
    "rdr-anchor",
    "binat-anchor",
    "ether",
    "dnpipe",
];
/// macOS has these besides; its language is FreeBSD's.
const MACOS_STATEMENTS: [&str; 2] = ["scrub-anchor", "dummynet-anchor"];
/// Words of rules that FreeBSD alone has, in any place.
const FREEBSD_WORDS: [&str; 9] = [
    "require-order",
    "fail-policy",
    "keepcounters",
    "endpoint-independent",
    "map-e-portset",
    "ridentifier",
    "limiter",
    "dnpipe",
    "dnqueue",
];
/// Words of rules that OpenBSD has, and FreeBSD only in its newest releases.
const OPENBSD_WORDS: [&str; 9] = [
    "nat-to",
    "rdr-to",
    "binat-to",
    "divert-packet",
    "rdomain",
    "least-states",
    "match",
    "received-on",
    "reassemble",
];

/// The dialect that a text is most likely written in, and the word that shows it; OpenBSD's when
/// nothing does.
///
/// A statement that only macOS has decides, then one that only FreeBSD has. Without one, the first
/// word that only one of OpenBSD and FreeBSD has decides. Comments do not count; macros are not
/// expanded.
///
/// ```
/// use pfconf::{Dialect, detect};
///
/// assert_eq!(detect("rdr on em0 to port 80 -> 10.0.0.5\n"), (Dialect::FreeBsd, Some("rdr")));
/// assert_eq!(detect("pass\n"), (Dialect::OpenBsd, None));
/// ```
#[must_use]
pub fn detect(text: &str) -> (Dialect, Option<&str>) {
    let mut statement = None;
    let mut hint = None;
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let start = first_word(line);
        let rest = &line.trim_start()[start.len()..];
        if rest.trim_start().starts_with('=') {
            continue;
        }
        let word = if start == "no" { first_word(rest) } else { start };
        if MACOS_STATEMENTS.contains(&word) {
            return (Dialect::MacOs, Some(word));
        }
        if statement.is_some() {
            continue;
        }
        if FREEBSD_STATEMENTS.contains(&word) {
            statement = Some((Dialect::FreeBsd, Some(word)));
            continue;
        }
        for word in line.split(|c: char| c.is_whitespace() || "(){},".contains(c)) {
            if FREEBSD_WORDS.contains(&word) {
                hint = hint.or(Some((Dialect::FreeBsd, Some(word))));
            } else if OPENBSD_WORDS.contains(&word) {
                hint = hint.or(Some((Dialect::OpenBsd, Some(word))));
            }
        }
        // A next hop behind its interface: the routing options of FreeBSD.
        let routed = ["route-to", "reply-to", "dup-to"].iter().find_map(|&option| {
            let (_, next_hop) = line.split_once(option)?;
            let inside = next_hop.trim_start().strip_prefix('{').unwrap_or(next_hop);
            let pair = inside.trim_start().strip_prefix('(')?.split(')').next()?;
            (pair.split_whitespace().count() == 2).then_some(option)
        });
        if let Some(option) = routed {
            hint = hint.or(Some((Dialect::FreeBsd, Some(option))));
        }
    }
    statement.or(hint).unwrap_or((Dialect::OpenBsd, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_and_words_show_the_dialect() {
        for (text, dialect, word) in [
            ("pass\nblock in quick\n", Dialect::OpenBsd, None),
            (
                "ext = \"em0\"\nnat on $ext from any to any -> ($ext)\n",
                Dialect::FreeBsd,
                Some("nat"),
            ),
            ("pass out nat-to (em0)\nno rdr on lo0\n", Dialect::FreeBsd, Some("rdr")),
            ("nat = \"em0\"\npass on $nat\n", Dialect::OpenBsd, None),
            ("# nat on em0\npass out on em0 nat-to (em0)\n", Dialect::OpenBsd, Some("nat-to")),
            ("pass in route-to (em0 192.0.2.1) inet\n", Dialect::FreeBsd, Some("route-to")),
            ("pass in route-to (em0:peer)\n", Dialect::OpenBsd, None),
            ("set require-order no\npass\n", Dialect::FreeBsd, Some("require-order")),
            ("match in scrub (no-df)\n", Dialect::OpenBsd, Some("match")),
            ("dummynet-anchor \"x\"\n", Dialect::MacOs, Some("dummynet-anchor")),
            ("rdr-anchor \"x\"\nscrub-anchor \"x\"\n", Dialect::MacOs, Some("scrub-anchor")),
            ("rdr-anchor \"x\"\n# scrub-anchor\n", Dialect::FreeBsd, Some("rdr-anchor")),
            ("block\nscrub-anchor = \"x\"\n", Dialect::OpenBsd, None),
            ("", Dialect::OpenBsd, None),
        ] {
            assert_eq!(detect(text), (dialect, word), "{text}");
        }
    }
}
