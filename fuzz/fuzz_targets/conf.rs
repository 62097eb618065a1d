//! Any text as pf.conf: it is refused with a message for a place in it, or it is accepted and its
//! printed rules are a ruleset that prints the same.
#![no_main]

mod words;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use pfapi::facts::Facts;
use pfconf::{
    BuiltinSources, CompileOptions, Compiled, Dialect, Input, Level, Lines, Listing, Optimization,
    compile,
};

/// Octets of a print that is read again.
const REREAD_MAX: usize = 256 << 10;

fn read(text: &str, dialect: Dialect, facts: &Facts) -> Compiled {
    let options = CompileOptions {
        facts,
        sources: &BuiltinSources,
        defines: &[],
        numeric_only: true,
        dialect: dialect,
        listing: Listing::Rules,
        optimize: Optimization { level: Some(Level::None), ..Default::default() },
        parts: pfconf::Parts::ALL,
    };
    compile(&Input { name: "fuzz", text }, &options)
}

/// The listing without what its rules have in them already: macros, whose names pfctl prints
/// without quotes, and defaults of states, of which it prints no `floating`.
fn without_defaults(listing: &Lines) -> String {
    let is_macro = |line: &&str| {
        line.split_once(" = \"")
            .is_some_and(|(name, _)| !name.trim_start().contains(char::is_whitespace))
    };
    listing
        .iter()
        .filter(|line| !is_macro(line) && !line.starts_with("set state-"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

fuzz_target!(|text: &str| {
    let facts = Facts::default();
    let dialect = pfconf::detect(text).0;
    let compiled = read(text, dialect, &facts);
    if compiled.ruleset.is_none() {
        assert!(!compiled.diagnostics.is_empty(), "refused without a word");
        for diagnostic in &compiled.diagnostics {
            assert!(!diagnostic.classic().is_empty());
            let _ = diagnostic.pretty(&Input { name: "fuzz", text }, false);
        }
        return;
    }
    let printed = without_defaults(&compiled.listing);
    // pfctl prints so, and reads nowhere: a network of length zero behind `!`, the way back of
    // `from any` with `binat-to`, half of one percent, limits above 2,147,483,647 (as negative ones),
    // the name of an anchor with a quote in it or a backslash at its end or before a blank, and an
    // empty anchor without a name.
    let is_lost = |line: &str| {
        let is_negative = line.starts_with("set limit") && line.contains(" -");
        is_negative
            || line.split_once("anchor ").is_some_and(|(_, rest)| {
                if rest.starts_with('"') {
                    rest.matches('"').count() > 2 || rest.contains("\\\"") || rest.contains("\\ ")
                } else {
                    !rest.ends_with('{')
                }
            })
    };
    let lost = ["! any", "rdr-to any", "end 0%)"];
    if lost.iter().any(|words| printed.contains(words)) || printed.lines().any(is_lost) {
        return;
    }
    // Lists that multiply print as megabytes, and reading those takes longer than a unit may.
    if printed.len() > REREAD_MAX {
        return;
    }
    let again = read(&printed, dialect, &facts);
    assert!(again.ruleset.is_some(), "its own print is refused:\n{printed}");
    assert_eq!(without_defaults(&again.listing), printed);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    words::mutate(data, size, max_size, seed, 0)
});
