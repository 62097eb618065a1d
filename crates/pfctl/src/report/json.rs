//! `--format json`: the outcome of a check as one JSON object in one line.
//!
//! The form is published as `docs/check.schema.json`. Fields may be added to version 1; a field
//! that changes its meaning or goes away makes version 2.

use std::io::{self, Write};

use pfconf::{Diagnostic, Edit, Fix, Input, Severity, Span};
use serde::Serialize;

use super::Outcome;
use super::place::{Position, ends, text_of};

/// Version of the form.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    version: u32,
    file: &'a str,
    dialect: &'static str,
    accepted: bool,
    diagnostics: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listing: Option<Vec<&'a str>>,
}

#[derive(Serialize)]
struct Message<'a> {
    severity: &'static str,
    code: &'static str,
    file: &'a str,
    line: Option<usize>,
    text: &'a str,
    title: &'a str,
    classic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary: Option<Place<'a>>,
    context: Vec<Place<'a>>,
    notes: &'a [String],
    helps: &'a [String],
    fixes: Vec<Correction<'a>>,
}

#[derive(Serialize)]
struct Place<'a> {
    label: &'a str,
    start: Position,
    end: Position,
}

#[derive(Serialize)]
struct Correction<'a> {
    title: &'a str,
    edits: Vec<Change<'a>>,
}

#[derive(Serialize)]
struct Change<'a> {
    start: Position,
    end: Position,
    text: &'a str,
}

pub fn write(out: &mut dyn Write, outcome: Outcome<'_>) -> io::Result<()> {
    let Outcome { input, dialect, compiled, listing } = outcome;
    let report = Report {
        schema: "pfctl-check",
        version: VERSION,
        file: input.name,
        dialect: dialect.word(),
        accepted: compiled.ruleset.is_some(),
        diagnostics: outcome.messages().map(|found| message(found, input)).collect(),
        listing: listing.map(|lines| lines.iter().collect()),
    };
    serde_json::to_writer(&mut *out, &report)?;
    writeln!(out)
}

fn message<'a>(diagnostic: &'a Diagnostic, input: &Input<'a>) -> Message<'a> {
    let text = text_of(diagnostic, input);
    let place = |(span, label): (Span, &'a str)| {
        let (start, end) = ends(text, span);
        Place { label, start, end }
    };
    let change = |edit: &'a Edit| {
        let (start, end) = ends(text, edit.span);
        Change { start, end, text: &edit.text }
    };
    let correction = |fix: &'a Fix| Correction {
        title: &fix.title,
        edits: fix.edits.iter().map(change).collect(),
    };
    Message {
        severity: match diagnostic.severity() {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        code: diagnostic.code(),
        file: diagnostic.file(),
        line: Some(diagnostic.line()).filter(|&line| line > 0),
        text: diagnostic.text(),
        title: diagnostic.summary(),
        classic: diagnostic.classic(),
        primary: diagnostic.primary().map(place),
        context: diagnostic.context().map(place).collect(),
        notes: diagnostic.notes(),
        helps: diagnostic.helps(),
        fixes: diagnostic.fixes().iter().map(correction).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pfapi::facts::Facts;
    use pfconf::{BuiltinSources, CompileOptions, Dialect, Listing};
    use serde_json::Value;

    const SCHEMA: &str = include_str!("../../../../docs/check.schema.json");

    fn report(text: &str, listed: bool) -> Value {
        let options = CompileOptions {
            facts: &Facts::default(),
            sources: &BuiltinSources,
            defines: &[],
            numeric_only: false,
            dialect: Dialect::OpenBsd,
            listing: Listing::Rules,
            optimize: pfconf::Optimization::default(),
            parts: pfconf::Parts::ALL,
        };
        let input = Input { name: "pf.conf", text };
        let compiled = pfconf::compile(&input, &options);
        let mut out = Vec::new();
        let listing = listed.then_some(&compiled.listing);
        let (input, compiled) = (&input, &compiled);
        write(&mut out, Outcome { input, dialect: Dialect::OpenBsd, compiled, listing }).unwrap();
        assert!(out.ends_with(b"\n"));
        serde_json::from_slice(&out).unwrap()
    }

    /// Checks what the schema says about keys and types; it uses nothing else.
    fn check(value: &Value, schema: &Value, root: &Value) {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.strip_prefix("#/$defs/").unwrap();
            return check(value, &root["$defs"][name], root);
        }
        if let Some(constant) = schema.get("const") {
            assert_eq!(value, constant);
        }
        if let Some(words) = schema["enum"].as_array() {
            assert!(words.contains(value), "{value}");
        }
        match value {
            Value::Object(fields) => {
                let known = schema["properties"].as_object().unwrap();
                for (key, field) in fields {
                    check(field, known.get(key).unwrap_or_else(|| panic!("{key}")), root);
                }
                for required in schema["required"].as_array().unwrap() {
                    assert!(fields.contains_key(required.as_str().unwrap()), "{required}");
                }
            }
            Value::Array(items) => {
                for item in items {
                    check(item, &schema["items"], root);
                }
            }
            Value::Number(_) => assert!(schema["type"].to_string().contains("integer")),
            Value::String(_) => assert!(schema["type"].to_string().contains("string")),
            Value::Bool(_) => assert_eq!(schema["type"], "boolean"),
            Value::Null => assert!(schema["type"].to_string().contains("null")),
        }
    }

    #[test]
    fn reports_have_the_published_form() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        for (text, accepted) in
            [("pass\n", true), ("ü = \"x\"\nblok in\npass from $nope\n", false), ("", true)]
        {
            let report = report(text, true);
            check(&report, &schema, &schema);
            assert_eq!(report["accepted"], accepted, "{text}");
        }
    }

    #[test]
    fn places_are_lines_and_columns() {
        let report = report("pass\npass in quick prto tcp\n", false);
        let found = &report["diagnostics"][0];
        assert_eq!(found["line"], 2);
        assert_eq!(found["classic"], "pf.conf:2: syntax error");
        assert_eq!(found["primary"]["start"]["line"], 2);
        let start = found["primary"]["start"]["offset"].as_u64().unwrap();
        assert_eq!(found["primary"]["start"]["column"], start - 4);
        assert!(report.get("listing").is_none());
        let fix = &found["fixes"][0]["edits"][0];
        assert_eq!((&fix["text"], &fix["start"]), (&"proto".into(), &found["primary"]["start"]));
    }
}
