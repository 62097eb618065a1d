//! The golden files use every production of the grammar and every code of a message.
//!
//! Both lists are taken from where they are defined: the grammars' text and the enum of codes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;

use pfconf::syntax::{Node, SyntaxOptions, parse};
use pfconf::{Code, Input};

mod common;
use common::{TestSources, compile_in, golden_files, root};

/// Entries for the front of a line with a mistake; no accepted file can show them.
const FOR_MISTAKES: [&str; 4] =
    ["setting_prefix", "freebsd_setting_prefix", "set_limit_one", "set_timeout_one"];

/// Productions that leave a node, by name.
fn productions() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for grammar in ["pf.pest", "freebsd.pest"] {
        let text = fs::read_to_string(root().join("crates/pfconf/src").join(grammar)).unwrap();
        for line in text.lines() {
            let Some((name, body)) = line.split_once(" = ").or_else(|| line.split_once("= "))
            else {
                continue;
            };
            let name = name.trim();
            let is_name =
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            // `_` in front of the brace makes a production silent.
            if is_name && !name.is_empty() && body.trim_start().starts_with(['{', '@', '$', '!']) {
                names.insert(name.to_owned());
            }
        }
    }
    assert!(names.len() > 150, "only {} productions found", names.len());
    names
}

fn note(node: &Node, seen: &mut BTreeSet<String>) {
    seen.insert(node.kind.clone().into_owned());
    node.children.iter().for_each(|child| note(child, seen));
}

#[test]
fn every_production_is_used_by_an_accepted_file() {
    let mut wanted = productions();
    let mut seen = BTreeSet::new();
    for (dialect, path) in golden_files("parse") {
        let text = fs::read_to_string(&path).unwrap();
        let options = SyntaxOptions { dialect, sources: &TestSources, defines: &[] };
        let parsed = parse(&Input { name: "stdin", text: &text }, &options);
        assert!(!parsed.has_errors(), "{}: {:?}", path.display(), parsed.diagnostics);
        for statement in &parsed.tree.statements {
            let kind = statement.kind.as_ref();
            let own = format!("freebsd_{kind}");
            let is_own = dialect.is_freebsd() && wanted.contains(&own);
            seen.insert(if is_own { own } else { kind.to_owned() });
            statement.nodes.iter().for_each(|node| note(node, &mut seen));
        }
    }
    wanted.retain(|name| !seen.contains(name) && !FOR_MISTAKES.contains(&name.as_str()));
    assert!(wanted.is_empty(), "{} productions without a file: {wanted:?}", wanted.len());
}

#[test]
fn every_code_is_given_by_a_rejected_file() {
    let mut seen = BTreeSet::new();
    for (dialect, path) in golden_files("reject") {
        let text = fs::read_to_string(&path).unwrap();
        let compiled = compile_in(&text, dialect);
        seen.extend(compiled.diagnostics.iter().map(pfconf::Diagnostic::code));
    }
    let missing: Vec<&str> =
        Code::ALL.iter().map(|code| code.as_str()).filter(|code| !seen.contains(code)).collect();
    assert!(missing.is_empty(), "codes without a file: {missing:?}");
}

#[test]
fn there_are_enough_files() {
    let (accepted, rejected) = (golden_files("parse").len(), golden_files("reject").len());
    assert!(accepted >= 150, "only {accepted} accepted files");
    assert!(rejected >= 80, "only {rejected} rejected files");
}
