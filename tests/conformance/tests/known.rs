//! No case that once passed fails. One test only: cases change the working directory.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::OpenOptions;
use std::io::Write;

use pf_conformance::{Known, Outcome, cases, corpus};

#[test]
fn cases_that_once_passed_still_pass() {
    let folder = match corpus() {
        Ok(folder) => folder,
        Err(reason) => return skip(&reason),
    };
    let known = Known::read().unwrap();
    let cases = cases(&folder).unwrap();
    let mut faults =
        known.missing(&cases).map(|case| format!("{case}: missing")).collect::<Vec<_>>();
    for case in cases.iter().filter(|case| known.has(case)) {
        if let Outcome::Failed(text) = case.run().unwrap() {
            faults.push(format!("{} {}:\n{text}", case.suite, case.name));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Says that there was nothing to compare, also to whoever counts tests.
fn skip(reason: &str) {
    let line = format!("skipped: conformance: {reason}\n");
    eprint!("{line}");
    if let Some(path) = std::env::var_os("PF_SKIP_LOG") {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}
