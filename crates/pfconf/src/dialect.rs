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
            statement = Some((Dialect::FreeBsd, word));
            continue;
        }
        if hint.is_none() {
            hint = hint_in(line);
        }
    }
    statement.or(hint).map_or((Dialect::OpenBsd, None), |(dialect, word)| (dialect, Some(word)))
}

/// The first word of a line that only one of OpenBSD and FreeBSD has, else a form of FreeBSD's.
fn hint_in(line: &str) -> Option<(Dialect, &str)> {
    let words = line.split(|c: char| c.is_whitespace() || "(){},".contains(c));
    let known = words.into_iter().find_map(|word| {
        let in_freebsd = FREEBSD_WORDS.contains(&word);
        let dialect = if in_freebsd { Dialect::FreeBsd } else { Dialect::OpenBsd };
        (in_freebsd || OPENBSD_WORDS.contains(&word)).then_some((dialect, word))
    });
    known.or_else(|| routed(line).map(|option| (Dialect::FreeBsd, option)))
}

/// The routing option of a line with a next hop behind its interface, as FreeBSD writes it.
fn routed(line: &str) -> Option<&'static str> {
    if !line.contains("-to") {
        return None;
    }
    ["route-to", "reply-to", "dup-to"].into_iter().find(|&option| {
        let Some((_, next_hop)) = line.split_once(option) else { return false };
        let inside = next_hop.trim_start().strip_prefix('{').unwrap_or(next_hop);
        let inside = inside.trim_start().strip_prefix('(');
        let pair = inside.and_then(|inside| inside.split(')').next());
        pair.is_some_and(|pair| pair.split_whitespace().count() == 2)
    })
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
