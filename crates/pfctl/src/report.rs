//! `--format json`: the outcome of a check as one JSON object in one line.
//!
//! The form is published as `docs/check.schema.json`. Fields may be added to version 1; a field
//! that changes its meaning or goes away makes version 2.

use std::io::{self, Write};

use pfconf::{Compiled, Diagnostic, Dialect, Input, Lines, Severity, Span};
use serde::Serialize;

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
}

#[derive(Serialize)]
struct Place<'a> {
    label: &'a str,
    start: Position,
    end: Position,
}

/// Where something is. Lines and columns count from 1, columns in characters.
#[derive(Serialize)]
struct Position {
    offset: usize,
    line: usize,
    column: usize,
}

/// Writes the report of `compiled`, which came from `input`; with `listing` if there is one.
///
/// # Errors
/// Failures of `out`.
pub fn write(
    out: &mut dyn Write,
    input: &Input<'_>,
    dialect: Dialect,
    compiled: &Compiled,
    listing: Option<&Lines>,
) -> io::Result<()> {
    let report = Report {
        schema: "pfctl-check",
        version: VERSION,
        file: input.name,
        dialect: dialect.word(),
        accepted: compiled.ruleset.is_some(),
        diagnostics: compiled
            .diagnostics
            .iter()
            .filter(|found| !found.is_consequence())
            .map(|found| message(found, input))
            .collect(),
        listing: listing.map(|lines| lines.iter().collect()),
    };
    serde_json::to_writer(&mut *out, &report)?;
    writeln!(out)
}

fn message<'a>(diagnostic: &'a Diagnostic, input: &Input<'_>) -> Message<'a> {
    // Offsets are of the text at hand; those of an included file would lead astray.
    let is_here = diagnostic.file() == input.name;
    let place = |(span, label): (Span, &'a str)| Place {
        label,
        start: position(input.text, span.start),
        end: position(input.text, span.end),
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
        primary: diagnostic.primary().filter(|_| is_here).map(place),
        context: diagnostic.context().filter(|_| is_here).map(place).collect(),
        notes: diagnostic.notes(),
        helps: diagnostic.helps(),
    }
}

fn position(text: &str, offset: usize) -> Position {
    let offset = text.floor_char_boundary(offset.min(text.len()));
    let before = &text[..offset];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Position {
        offset,
        line: before.bytes().filter(|&byte| byte == b'\n').count() + 1,
        column: before[start..].chars().count() + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pfapi::facts::Facts;
    use pfconf::{BuiltinSources, CompileOptions, Listing};
    use serde_json::Value;

    const SCHEMA: &str = include_str!("../../../docs/check.schema.json");

    fn report(text: &str, listed: bool) -> Value {
        let options = CompileOptions {
            facts: &Facts::default(),
            sources: &BuiltinSources,
            defines: &[],
            numeric_only: false,
            dialect: Dialect::OpenBsd,
            listing: Listing::Rules,
            optimize: pfconf::Optimization::default(),
        };
        let input = Input { name: "pf.conf", text };
        let compiled = pfconf::compile(&input, &options);
        let mut out = Vec::new();
        let listing = listed.then_some(&compiled.listing);
        write(&mut out, &input, Dialect::OpenBsd, &compiled, listing).unwrap();
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
        assert_eq!(position("ü x", 3).column, 3);
        assert_eq!(position("a", 9).offset, 1);
    }
}
