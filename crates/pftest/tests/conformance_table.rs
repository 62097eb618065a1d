//! `docs/conformance.md` names every section of the behaviour that is followed, and tests that
//! exist.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it cannot read")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Sections of each part: from 1 to the number.
const SECTIONS: [(&str, usize); 4] = [("rules", 22), ("state", 14), ("nat", 13), ("normalise", 10)];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Cells of the rows that begin with a part and a number.
fn rows() -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("docs/conformance.md")).unwrap();
    text.lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .filter(|cells: &Vec<String>| {
            SECTIONS.iter().any(|(part, _)| cells[0].starts_with(&format!("{part} ")))
        })
        .collect()
}

/// Words in back quotes.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Whether a file is a test itself: a scenario, rules with what must come of them, or a source
/// with tests in it.
fn is_test(path: &Path) -> bool {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("pft" | "conf") => path.is_file(),
        Some("rs") => fs::read_to_string(path).is_ok_and(|text| text.contains("#[test]")),
        _ => false,
    }
}

/// Whether a proof is a test, or a folder of tests: a helper or a source without tests shows
/// nothing.
fn exists(proof: &str) -> bool {
    if let Some((file, test)) = proof.split_once("::") {
        let Ok(text) = fs::read_to_string(root().join(file)) else { return false };
        let Some((before, _)) = text.split_once(&format!("fn {test}(")) else { return false };
        return before.rsplit("}\n").next().is_some_and(|head| head.contains("#[test]"));
    }
    holds_tests(&root().join(proof))
}

/// Whether a file is a test, or a folder has one at any depth.
fn holds_tests(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().any(|entry| holds_tests(&entry.path())),
        Err(_) => is_test(path),
    }
}

#[test]
fn every_section_has_one_row() {
    let found: Vec<String> = rows().into_iter().map(|cells| cells[0].clone()).collect();
    let wanted: Vec<String> = SECTIONS
        .iter()
        .flat_map(|(part, last)| (1..=*last).map(move |number| format!("{part} {number}")))
        .collect();
    assert_eq!(found, wanted);
}

#[test]
fn every_row_says_what_and_by_which_tests() {
    for cells in rows() {
        let [section, title, here, compared, proofs] = cells.as_slice() else {
            panic!("a row has five cells: {cells:?}");
        };
        assert!(!title.is_empty() && !here.is_empty(), "{section}");
        let known = ["same", "differs", "not here"].iter().any(|word| compared.starts_with(word));
        assert!(known, "{section}: the fourth cell says same, differs or not here: {compared}");
        assert!(!quoted(proofs).is_empty(), "{section} names no test");
        for proof in quoted(proofs) {
            assert!(exists(proof), "{section} names `{proof}`, which is no test");
        }
    }
}

#[test]
fn every_folder_of_scenarios_is_named() {
    let named: BTreeSet<String> = rows()
        .iter()
        .flat_map(|cells| quoted(&cells[4]).into_iter().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    for (part, _) in SECTIONS {
        let folder = root().join("tests/scenarios").join(part);
        for entry in fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let path = format!("tests/scenarios/{part}/{name}");
            assert!(named.contains(&path), "`{path}` stands in no row of docs/conformance.md");
        }
    }
}

#[test]
fn what_classic_does_and_what_was_concluded_from_code_has_tests() {
    let text = fs::read_to_string(root().join("docs/conformance.md")).unwrap();
    let (_, part) = text.split_once("## SYN cookies of `classic`").unwrap();
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| behaviour");
    let rows: Vec<&str> = part.lines().filter(is_row).collect();
    assert!(rows.len() > 10);
    for row in rows {
        let proofs = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        assert!(!quoted(proofs).is_empty(), "{row}");
        for proof in quoted(proofs) {
            assert!(exists(proof), "`{proof}` is no test: {row}");
        }
    }
}
