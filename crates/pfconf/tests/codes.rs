//! Every code is explained, with examples that are what they say.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use pfconf::Code;

mod common;
use common::compile_in;

/// The example behind a word such as `Wrong:`.
fn example<'t>(text: &'t str, word: &str) -> &'t str {
    let (_, rest) = text.split_once(&format!("\n{word}:\n\n```pf\n")).unwrap();
    rest.split_once("```").unwrap().0
}

/// Compiles an example in the language that it is written in.
fn compile(text: &str) -> pfconf::Compiled {
    compile_in(text, pfconf::detect(text).0)
}

#[test]
fn examples_are_wrong_and_right() {
    for &code in Code::ALL {
        let text = code.explanation();
        assert!(text.starts_with("# ") && code.title().len() > 10, "{code:?}");
        let (wrong, right) = (example(text, "Wrong"), example(text, "Right"));
        let found = compile(wrong).diagnostics;
        let shown = || found.iter().filter(|found| !found.is_consequence());
        let classic: Vec<String> = shown().map(pfconf::Diagnostic::classic).collect();
        assert!(shown().count() > 0, "{code:?}: the wrong example is accepted");
        assert!(shown().all(|found| found.kind() == code), "{code:?}: {classic:?}");
        let compiled = compile(right);
        let classic: Vec<String> =
            compiled.diagnostics.iter().map(pfconf::Diagnostic::classic).collect();
        assert!(compiled.ruleset.is_some() && classic.is_empty(), "{code:?}: {classic:?}");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{code:?} has long lines");
    }
}

#[test]
fn codes_are_found_by_their_names() {
    for &code in Code::ALL {
        assert_eq!(code.as_str().parse(), Ok(code));
        assert_eq!(code.as_str().to_lowercase().parse(), Ok(code));
        assert_eq!(code.as_str()[2..].parse(), Ok(code));
    }
    assert_eq!("11".parse(), Ok(Code::PortWithoutProto));
    for text in ["", "PF", "PF9999", "E0011", "PF0011x", "+11", "é"] {
        let error = text.parse::<Code>().unwrap_err();
        assert_eq!(error.to_string(), format!("there is no message with the code '{text}'"));
    }
}

#[test]
fn codes_are_unique() {
    let mut codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), Code::ALL.len());
}
