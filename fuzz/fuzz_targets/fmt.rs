//! The formatter on any text: what it gives out is left as it is by a second run, and compiles to
//! the same rules. The first octet chooses the dialect.
#![no_main]

mod words;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use pfapi::facts::Facts;
use pfconf::format::{FormatError, format};
use pfconf::syntax::SyntaxOptions;
use pfconf::{CompileOptions, Dialect, Input, Listing, NoSources, Optimization, compile};

fuzz_target!(|data: (bool, &str)| {
    let (freebsd, text) = data;
    let dialect = if freebsd { Dialect::FreeBsd } else { Dialect::OpenBsd };
    let options = SyntaxOptions { dialect, sources: &NoSources, defines: &[] };
    let formatted = |text: &str| format(&Input { name: "fuzz", text }, &options);
    let once = match formatted(text) {
        Ok(once) => once,
        Err(FormatError::Mistakes(found)) => return assert!(!found.is_empty()),
        // Half a quoted string in a macro; see the formatter's own check.
        Err(FormatError::Changed) => return assert!(text.contains(['"', '\'']), "{text:?}"),
    };
    assert_eq!(formatted(&once).expect("formatted text is formatted again"), once);
    let facts = Facts::default();
    let read = |text: &str| {
        let options = CompileOptions {
            facts: &facts,
            sources: &NoSources,
            defines: &[],
            numeric_only: true,
            dialect,
            listing: Listing::Rules,
            optimize: Optimization::default(),
            parts: pfconf::Parts::ALL,
        };
        compile(&Input { name: "fuzz", text }, &options)
    };
    let (before, after) = (read(text), read(&once));
    assert_eq!(before.ruleset.is_some(), after.ruleset.is_some());
    assert_eq!(before.listing, after.listing);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    words::mutate(data, size, max_size, seed, 1)
});
