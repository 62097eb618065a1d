//! The published form of syntax trees: what is written fits the schema, and reads as itself.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;

use pfconf::Input;
use pfconf::syntax::{Node, SyntaxOptions, Tree, parse};
use serde_json::Value;

mod common;
use common::{TestSources, golden_files, root};

/// Checks what the schema says about keys and types; it uses nothing else.
fn check(value: &Value, schema: &Value, all: &Value, seen: &mut BTreeSet<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.strip_prefix("#/$defs/").unwrap();
        return check(value, &all["$defs"][name], all, seen);
    }
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{value}");
    }
    if let Some(constant) = schema.get("const") {
        assert_eq!(value, constant);
    }
    let kind = match value {
        Value::Object(fields) => {
            let known = schema["properties"].as_object().unwrap();
            for (key, field) in fields {
                seen.insert(key.clone());
                check(field, known.get(key).unwrap_or_else(|| panic!("{key}")), all, seen);
            }
            for required in schema["required"].as_array().unwrap() {
                assert!(fields.contains_key(required.as_str().unwrap()), "{required}");
            }
            "object"
        }
        Value::Array(items) => {
            for item in items {
                check(item, &schema["items"], all, seen);
            }
            "array"
        }
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        other => panic!("{other}"),
    };
    assert_eq!(schema["type"], kind);
}

fn places(text: &str, node: &Node) {
    assert!(text.get(node.span.range()).is_some(), "{node:?}");
    node.children.iter().for_each(|child| places(text, child));
}

#[test]
fn trees_have_the_published_form() {
    let schema = fs::read_to_string(root().join("docs/syntax.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let mut seen = BTreeSet::new();
    for (dialect, path) in golden_files("parse") {
        let text = fs::read_to_string(&path).unwrap();
        let options = SyntaxOptions { dialect, sources: &TestSources, defines: &[] };
        let tree = parse(&Input { name: "stdin", text: &text }, &options).tree;
        for statement in &tree.statements {
            assert!(text.get(statement.span.range()).is_some(), "{statement:?}");
            statement.nodes.iter().for_each(|node| places(&text, node));
        }
        let value = serde_json::to_value(&tree).unwrap();
        check(&value, &schema, &schema, &mut seen);
        assert_eq!(serde_json::from_value::<Tree>(value).unwrap(), tree, "{}", path.display());
    }
    assert!(seen.contains("macro_name") && seen.contains("children"));
}
