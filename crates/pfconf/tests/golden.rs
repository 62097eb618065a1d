//! Small files and exactly what becomes of them.
//!
//! Files in the language of FreeBSD are in the same folders of `tests/golden/freebsd`, or have
//! `-freebsd-` in their names.
//! `tests/golden/parse/NNN-name.conf` must be accepted and list as `.ok`; what is listed must
//! list as itself. `tests/golden/reject/NNN-name.conf` must be rejected; `.ok` holds what is
//! listed before the error, the classic lines, and the pretty ones without mere consequences. With `PFCONF_BLESS=1` the
//! `.ok` files are written anew: read the difference before committing it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use pfconf::{Dialect, Input, Severity};

mod common;
use common::{compile_in, compile_with, golden_files, root};

fn cases(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("tests/golden").join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .collect();
    files.sort();
    files
}

fn compare(path: &Path, got: &str, failures: &mut Vec<String>) {
    let ok = path.with_extension("ok");
    if std::env::var_os("PFCONF_BLESS").is_some() {
        fs::write(&ok, got).unwrap();
        return;
    }
    let wanted = fs::read_to_string(&ok).unwrap_or_default();
    if got != wanted {
        failures.push(format!("{}:\n--- wanted\n{wanted}--- got\n{got}", path.display()));
    }
}

/// Files with what no listing brings back: settings for later rules, contents of anchors.
const ONE_WAY: &[&str] = &[
    "068-state-defaults.conf",
    "081-load-anchor.conf",
    "140-anchor-tables.conf",
    "143-nested-loads.conf",
    "015-load-anchor.conf",
    "110-macos-anchors.conf",
];
/// Files whose listing leaves something out, as that of pfctl does: the braces of empty anchors, on
/// FreeBSD the name in front of `/*` of an anchor and `set keepcounters`.
const SAME_TEXT_ONLY: &[&str] = &[
    "079-anchors.conf",
    "094-freebsd-settings.conf",
    "freebsd/parse/001-jail-host.conf",
    "freebsd/parse/004-options.conf",
    "freebsd/parse/006-ftp-proxy.conf",
    "freebsd/parse/014-anchors.conf",
];

fn check_accepted(dialect: Dialect, path: &Path, ok: &Path, failures: &mut Vec<String>) {
    let text = fs::read_to_string(path).unwrap();
    let compiled = compile_in(&text, dialect);
    let Some(ruleset) = &compiled.ruleset else {
        let messages: Vec<String> =
            compiled.diagnostics.iter().map(pfconf::Diagnostic::classic).collect();
        failures.push(format!("{} is rejected:\n{}", path.display(), messages.join("\n")));
        return;
    };
    let listed = compiled.listing.as_str().to_owned();
    compare(ok, &listed, failures);
    if ONE_WAY.iter().any(|name| path.ends_with(name)) {
        return;
    }
    let again = compile_in(&listed, dialect);
    if again.listing.as_str() != listed {
        failures.push(format!(
            "{}: the listing does not list as itself:\n{listed}--- but\n{}",
            path.display(),
            again.listing.as_str()
        ));
    }
    let same = again.ruleset.is_some_and(|again| {
        again.rules().eq(ruleset.rules())
            && again.options() == ruleset.options()
            && again.altq() == ruleset.altq()
            && again.ether() == ruleset.ether()
            && again.state_limiters() == ruleset.state_limiters()
            && again.source_limiters() == ruleset.source_limiters()
    });
    if !same && !SAME_TEXT_ONLY.iter().any(|name| path.ends_with(name)) {
        failures.push(format!("{}: the listing means another ruleset", path.display()));
    }
}

#[test]
fn accepted_files_list_as_expected() {
    let mut failures = Vec::new();
    let files = golden_files("parse");
    for (dialect, path) in &files {
        check_accepted(*dialect, path, path, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(files.len() >= 40, "only {} files", files.len());
}

/// `tests/golden/optimize/NNN-name.conf` lists as `.ok` with the optimizer's default.
#[test]
fn rules_are_optimized_as_expected() {
    let mut failures = Vec::new();
    let files = cases("optimize");
    for path in &files {
        let compiled = compile_with(&fs::read_to_string(path).unwrap(), Dialect::OpenBsd, None);
        if compiled.ruleset.is_none() {
            failures.push(format!("{} is rejected", path.display()));
        }
        compare(path, compiled.listing.as_str(), &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(files.len() >= 10, "only {} files", files.len());
}

#[test]
fn example_is_accepted() {
    let mut failures = Vec::new();
    let ok = root().join("tests/golden/example.conf");
    check_accepted(Dialect::OpenBsd, &root().join("examples/pf.conf"), &ok, &mut failures);
    let ok = root().join("tests/golden/example-queues.conf");
    check_accepted(Dialect::OpenBsd, &root().join("examples/queues.conf"), &ok, &mut failures);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn rejected_files_say_why() {
    let mut failures = Vec::new();
    let files = golden_files("reject");
    for (dialect, path) in &files {
        let text = fs::read_to_string(path).unwrap();
        let compiled = compile_in(&text, *dialect);
        if compiled.ruleset.is_some()
            || !compiled.diagnostics.iter().any(|found| found.severity() == Severity::Error)
        {
            failures.push(format!("{} is accepted", path.display()));
            continue;
        }
        let mut got = compiled.listing.as_str().to_owned();
        for diagnostic in &compiled.diagnostics {
            writeln!(got, "{}", diagnostic.classic()).unwrap();
        }
        let input = Input { name: "stdin", text: &text };
        for diagnostic in compiled.diagnostics.iter().filter(|found| !found.is_consequence()) {
            writeln!(got, "\n{}", diagnostic.pretty(&input, false)).unwrap();
        }
        compare(path, &got, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(files.len() >= 40, "only {} files", files.len());
}

/// The text with a fix applied.
fn fixed(text: &str, fix: &pfconf::Fix) -> String {
    let mut new = String::new();
    let mut done = 0;
    for edit in &fix.edits {
        new.push_str(&text[done..edit.span.start]);
        new.push_str(&edit.text);
        done = edit.span.end;
    }
    new + &text[done..]
}

#[test]
fn fixes_end_the_mistake_that_they_belong_to() {
    let mut count = 0;
    for (dialect, path) in golden_files("reject") {
        let text = fs::read_to_string(&path).unwrap();
        for found in compile_in(&text, dialect).diagnostics {
            // Those of an included file are about that file.
            for fix in found.fixes().iter().filter(|_| found.file() == "stdin") {
                count += 1;
                let new = fixed(&text, fix);
                let after = compile_in(&new, dialect);
                let again = after.diagnostics.iter().find(|other| {
                    (other.kind(), other.line(), other.summary(), other.primary())
                        == (found.kind(), found.line(), found.summary(), found.primary())
                });
                assert!(again.is_none(), "{}: {fix:?}\n{new}", path.display());
            }
        }
    }
    assert!(count >= 20, "only {count} fixes");
}

#[test]
fn what_means_less_here_is_told_with_its_line() {
    let text = "altq on tun0 fairq bandwidth 10Mb queue { a, b }\n\
                queue a priority 5 bandwidth 5Mb fairq(default)\n\
                queue b bandwidth 5Mb fairq(red)\n\
                pass in\n\
                pass in proto tcp dnpipe 3\n";
    let compiled = compile_in(text, Dialect::FreeBsd);
    assert!(compiled.ruleset.is_some(), "{:?}", compiled.diagnostics);
    let lines: Vec<String> = compiled.remarks.iter().map(pfconf::Diagnostic::classic).collect();
    let heads: Vec<&str> =
        lines.iter().map(|line| line.split(" is not ").next().unwrap()).collect();
    assert_eq!(
        heads,
        [
            "stdin:1: warning: altq fairq: its queues share by bandwidth, each with fair flows; \
             priority and hogs are not used",
            "stdin:3: warning: queue b: fairq(red)",
            "stdin:5: warning: dnpipe 3",
        ],
        "{lines:?}"
    );
}
