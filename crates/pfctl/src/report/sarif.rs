//! `--format sarif`: the outcome of a check for tools that collect findings.
//!
//! Source: OASIS Static Analysis Results Interchange Format (SARIF) Version 2.1.0.

use std::fmt::Write as _;
use std::io::{self, Write};

use pfconf::{Code, Diagnostic, Input, Severity, Span};
use serde_json::{Map, Value, json};

use super::Outcome;
use super::place::{ends, text_of};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

pub fn write(out: &mut dyn Write, outcome: Outcome<'_>) -> io::Result<()> {
    let rules: Vec<Value> = Code::ALL.iter().map(|&code| rule(code)).collect();
    let results: Vec<Value> =
        outcome.messages().map(|found| result(found, outcome.input)).collect();
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "pfctl",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    serde_json::to_writer(&mut *out, &log)?;
    writeln!(out)
}

fn rule(code: Code) -> Value {
    let text = code.explanation();
    let (_, body) = text.split_once("\n\n").unwrap_or(("", text));
    let (meaning, _) = body.split_once("\n\n").unwrap_or((body, ""));
    let level = if code.is_warning() { "warning" } else { "error" };
    json!({
        "id": code.as_str(),
        "name": format!("{code:?}"),
        "shortDescription": { "text": code.title() },
        "fullDescription": { "text": meaning.replace('\n', " ") },
        "help": { "text": body.trim_end(), "markdown": body.trim_end() },
        "defaultConfiguration": { "level": level },
    })
}

fn result(diagnostic: &Diagnostic, input: &Input<'_>) -> Value {
    let text = text_of(diagnostic, input);
    let file = if diagnostic.file().is_empty() { input.name } else { diagnostic.file() };
    let mut message = diagnostic.summary().to_owned();
    if let Some((_, label)) = diagnostic.primary() {
        message.push_str(": ");
        message.push_str(label);
    }
    for (word, texts) in [("note", diagnostic.notes()), ("help", diagnostic.helps())] {
        for text in texts {
            let _ = write!(message, "\n{word}: {text}");
        }
    }
    let here = match diagnostic.primary() {
        Some((span, _)) => Some(region(text, span)),
        None => (diagnostic.line() > 0).then(|| json!({ "startLine": diagnostic.line() })),
    };
    let mut result = Map::new();
    result.insert("ruleId".to_owned(), json!(diagnostic.code()));
    let index = Code::ALL.iter().position(|&code| code == diagnostic.kind());
    result.insert("ruleIndex".to_owned(), json!(index));
    let level = match diagnostic.severity() {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    result.insert("level".to_owned(), json!(level));
    result.insert("message".to_owned(), json!({ "text": message }));
    result.insert("locations".to_owned(), json!([location(file, here, None)]));
    let related: Vec<Value> = diagnostic
        .context()
        .map(|(span, label)| location(file, Some(region(text, span)), Some(label)))
        .collect();
    if !related.is_empty() {
        result.insert("relatedLocations".to_owned(), json!(related));
    }
    let fixes: Vec<Value> = diagnostic
        .fixes()
        .iter()
        .map(|fix| {
            let replacements: Vec<Value> = fix
                .edits
                .iter()
                .map(|edit| {
                    json!({
                        "deletedRegion": region(text, edit.span),
                        "insertedContent": { "text": edit.text },
                    })
                })
                .collect();
            json!({
                "description": { "text": fix.title },
                "artifactChanges": [{
                    "artifactLocation": { "uri": uri(file) },
                    "replacements": replacements,
                }],
            })
        })
        .collect();
    if !fixes.is_empty() {
        result.insert("fixes".to_owned(), json!(fixes));
    }
    result.insert("properties".to_owned(), json!({ "classic": diagnostic.classic() }));
    Value::Object(result)
}

fn location(file: &str, region: Option<Value>, label: Option<&str>) -> Value {
    let mut place = Map::new();
    place.insert("artifactLocation".to_owned(), json!({ "uri": uri(file) }));
    if let Some(region) = region {
        place.insert("region".to_owned(), region);
    }
    let mut location = Map::new();
    location.insert("physicalLocation".to_owned(), Value::Object(place));
    if let Some(label) = label {
        location.insert("message".to_owned(), json!({ "text": label }));
    }
    Value::Object(location)
}

fn region(text: &str, span: Span) -> Value {
    let (start, end) = ends(text, span);
    json!({
        "startLine": start.line,
        "startColumn": start.column,
        "endLine": end.line,
        "endColumn": end.column,
        "byteOffset": start.offset,
        "byteLength": end.offset - start.offset,
    })
}

/// A path as a reference to a resource: absolute ones with a scheme, others relative.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_references() {
        assert_eq!(uri("/etc/pf.conf"), "file:///etc/pf.conf");
        assert_eq!(uri("a b:ü.conf"), "a%20b%3A%C3%BC.conf");
        assert_eq!(uri("stdin"), "stdin");
    }
}
