//! No text makes the compiler panic, and what it accepts lists as itself.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write;
use std::fs;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

mod common;
use common::{compile_in, compile_text, golden_files, root};
use pfconf::Dialect;

/// Valid files to mutate: the example and the accepted golden files.
fn valid_files() -> Vec<String> {
    let mut files = vec![fs::read_to_string(root().join("examples/pf.conf")).unwrap()];
    for entry in fs::read_dir(root().join("tests/golden/parse")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "conf") {
            files.push(fs::read_to_string(path).unwrap());
        }
    }
    files.sort();
    files
}

/// Words and signs that mean something, so that random texts get past the first word.
const WORDS: [&str; 66] = [
    "pass",
    "block",
    "match",
    "in",
    "out",
    "quick",
    "on",
    "tun0",
    "inet",
    "inet6",
    "proto",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "all",
    "any",
    "from",
    "to",
    "port",
    "80",
    "80:90",
    "flags",
    "S/SA",
    "icmp-type",
    "icmp6-type",
    "echoreq",
    "code",
    "keep",
    "no",
    "state",
    "label",
    "\"x\"",
    "{",
    "}",
    ",",
    "(",
    ")",
    "!",
    "<",
    ">",
    "=",
    "!=",
    "><",
    "<>",
    "-",
    "/",
    "24",
    "10.0.0.1",
    "fd00::1",
    "set",
    "limit",
    "states",
    "timeout",
    "tcp.first",
    "table",
    "persist",
    "const",
    "file",
    "syncookies",
    "adaptive",
    "start",
    "25%",
    "return-icmp",
    "$m",
    "\n",
];

/// Words after which a listing cannot say the same as its file: settings for later rules, contents
/// of anchors, rules with two translations, networks of length zero, limits that pfctl prints as
/// negative numbers.
const ONE_WAY: [&str; 8] = [
    "state-policy",
    "state-defaults",
    "anchor",
    "include",
    "-to",
    "/0",
    "reassemble",
    "4294967294",
];

/// Words of the FreeBSD dialect besides those of [`WORDS`].
const FREEBSD_WORDS: [&str; 48] = [
    "nat",
    "rdr",
    "binat",
    "scrub",
    "->",
    "pass",
    "no",
    "nat-anchor",
    "route-to",
    "(tun0 10.0.0.1)",
    "static-port",
    "map-e-portset",
    "6/8/1",
    "fragment",
    "reassemble",
    "no-df",
    "set-tos",
    "tag",
    "tagged",
    "ridentifier",
    "max-pkt-size",
    "divert-to",
    "require-order",
    "fail-policy",
    "altq",
    "on tun0",
    "queue",
    "{ a b }",
    "cbq",
    "priq",
    "hfsc",
    "fairq",
    "codelq",
    "(default)",
    "bandwidth",
    "10%",
    "2Mb",
    "tbrsize",
    "linkshare",
    "ether",
    "anchor",
    "l3",
    "00:00:5e:00:53:01",
    "/24",
    "dnpipe",
    "dnqueue",
    "limiter \"a\"",
    "id 1",
];

fn everything_renders(text: &str) {
    renders_in(text, pfconf::detect(text).0);
}

fn renders_in(text: &str, dialect: Dialect) {
    let compiled = compile_in(text, dialect);
    let input = pfconf::Input { name: "stdin", text };
    for diagnostic in &compiled.diagnostics {
        assert!(!diagnostic.classic().is_empty());
        assert!(!diagnostic.pretty(&input, true).is_empty());
    }
    let is_error = |found: &pfconf::Diagnostic| {
        found.severity() == pfconf::Severity::Error && !found.is_consequence()
    };
    assert_eq!(compiled.ruleset.is_none(), compiled.diagnostics.iter().any(is_error));
    let Some(ruleset) = compiled.ruleset else { return };
    if ONE_WAY.iter().any(|word| text.contains(word)) {
        return;
    }
    let listed = compiled.listing.as_str();
    let again = compile_in(listed, dialect);
    let messages: Vec<String> = again.diagnostics.iter().map(pfconf::Diagnostic::classic).collect();
    assert!(again.ruleset.is_some(), "{listed}\n{messages:?}");
    assert!(again.ruleset.is_some_and(|again| again.rules().eq(ruleset.rules())), "{listed}");
}

/// The same cases in every run, so that a failure is that of a change. For others set
/// `PROPTEST_RNG_SEED`, for more `PROPTEST_CASES`.
fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    let rng_seed = match asked.rng_seed {
        RngSeed::Random => RngSeed::Fixed(1),
        seed @ RngSeed::Fixed(_) => seed,
    };
    ProptestConfig { failure_persistence: None, rng_seed, ..asked }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        everything_renders(&text);
    }

    #[test]
    fn arbitrary_words_never_panic(words in prop::collection::vec(select(&WORDS[..]), 0..40)) {
        everything_renders(&format!("m = \"10.0.0.2\"\n{}", words.join(" ")));
    }

    #[test]
    fn arbitrary_words_of_freebsd_never_panic(
        words in prop::collection::vec(
            prop_oneof![select(&WORDS[..]), select(&FREEBSD_WORDS[..])],
            0..40,
        ),
        start in select(&["nat on tun0", "rdr", "scrub", "binat on tun0 from 10.0.0.1", "pass"][..]),
    ) {
        renders_in(&format!("set require-order no\n{start} {}", words.join(" ")), Dialect::FreeBsd);
    }

    #[test]
    fn mutated_files_never_panic(
        text in select(valid_files()),
        at in any::<prop::sample::Index>(),
        removed in 0_usize..12,
        inserted in prop_oneof![
            Just(String::new()),
            select(&WORDS[..]).prop_map(str::to_owned),
            "[ -~]{0,3}",
            any::<char>().prop_map(String::from),
        ],
    ) {
        let characters: Vec<char> = text.chars().collect();
        let at = at.index(characters.len() + 1);
        let rest = characters.iter().skip(at + removed);
        let mutated: String =
            characters[..at].iter().copied().chain(inserted.chars()).chain(rest.copied()).collect();
        everything_renders(&mutated);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn mutated_files_of_freebsd_never_panic(
        text in select(freebsd_files()),
        at in any::<prop::sample::Index>(),
        removed in 0_usize..12,
        inserted in prop_oneof![
            Just(String::new()),
            select(&WORDS[..]).prop_map(str::to_owned),
            select(&FREEBSD_WORDS[..])
                .prop_map(|word| format!(" {word} ")),
            "[ -~]{0,3}",
        ],
    ) {
        let characters: Vec<char> = text.chars().collect();
        let at = at.index(characters.len() + 1);
        let rest = characters.iter().skip(at + removed);
        let mutated: String =
            characters[..at].iter().copied().chain(inserted.chars()).chain(rest.copied()).collect();
        let compiled = compile_in(&mutated, Dialect::FreeBsd);
        let input = pfconf::Input { name: "stdin", text: &mutated };
        let mut shown = 0;
        for diagnostic in compiled.diagnostics.iter().filter(|found| !found.is_consequence()) {
            prop_assert!(!diagnostic.pretty(&input, true).is_empty());
            shown += usize::from(diagnostic.severity() == pfconf::Severity::Error);
        }
        prop_assert_eq!(compiled.ruleset.is_none(), shown > 0);
    }
}

/// Valid files of FreeBSD to mutate.
fn freebsd_files() -> Vec<String> {
    let files = golden_files("parse").into_iter();
    let files = files.filter(|(dialect, _)| *dialect == Dialect::FreeBsd);
    files.map(|(_, path)| fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn work_grows_linearly() {
    // Each of these is quadratic or worse in a careless reader; here they end at once.
    let deep = "{ ".repeat(100_000);
    let quotes = "\"a' ".repeat(50_000);
    let table = format!("table <t> {{ {} }}\n", "10.0.0.1, ".repeat(10_000));
    let mut bomb = "m0 = \"0123456789\"\n".to_owned();
    for n in 0..40 {
        writeln!(bomb, "m{} = $m{n} $m{n} $m{n} $m{n}", n + 1).unwrap();
    }
    bomb += "pass from $m40\n";
    let lines = "pass from { 10.0.0.1\n".repeat(2_000);
    let macros = format!("m = \"{{ 10.0.0.1 }}\"\npass from {{ {} }}\n", "$m ".repeat(10_000));
    for text in [deep, quotes, table, bomb, lines, macros] {
        let compiled = compile_text(&text);
        assert!(compiled.listing.iter().count() <= 100_000);
    }
}

/// What the fuzzers have found stays found: see `fuzz/README.md`.
#[test]
fn files_of_the_fuzzers_do_no_harm() {
    let mut count = 0;
    for entry in fs::read_dir(root().join("tests/golden/fuzz")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for dialect in [Dialect::OpenBsd, Dialect::FreeBsd] {
            renders_in(&text, dialect);
            let options = pfconf::syntax::SyntaxOptions {
                dialect,
                sources: &pfconf::NoSources,
                defines: &[],
            };
            let input = pfconf::Input { name: "stdin", text: &text };
            if let Ok(once) = pfconf::format::format(&input, &options) {
                let input = pfconf::Input { name: "stdin", text: &once };
                assert_eq!(pfconf::format::format(&input, &options).unwrap(), once);
            }
        }
        count += 1;
    }
    assert!(count >= 2, "only {count} files");
}
