//! `--format ruleset`: the checked ruleset as one JSON object in one line.
//!
//! The form is published as `docs/ruleset.schema.json`. Fields may be added to version 1; a field
//! that changes its meaning or goes away makes version 2.

use std::collections::BTreeMap;
use std::io::{self, Write};

use pfapi::check::CheckedRuleset;
use pfapi::limit::Limit;
use pfapi::ruleset::{
    Altq, AnchorRuleset, EtherRule, Options, QueueDef, Rule, SourceLimiter, StateLimiter, TableDef,
};
use pfapi::timeout::Timeout;
use pfconf::Dialect;
use serde::Serialize;
use serde_json::Value;

/// Version of the form.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    version: u32,
    dialect: Dialect,
    options: Value,
    queues: &'a [QueueDef],
    tables: Vec<&'a TableDef>,
    rules: Vec<&'a Rule>,
    anchors: &'a [AnchorRuleset],
    altq: &'a [Altq],
    ether: &'a [EtherRule],
    state_limiters: &'a [StateLimiter],
    source_limiters: &'a [SourceLimiter],
}

/// Writes a ruleset.
///
/// # Errors
/// Failures of `out`.
pub fn write(out: &mut dyn Write, ruleset: &CheckedRuleset) -> io::Result<()> {
    let report = Report {
        schema: "pf-ruleset",
        version: VERSION,
        dialect: ruleset.dialect(),
        options: options(ruleset.options())?,
        queues: ruleset.queues(),
        tables: ruleset.tables().collect(),
        rules: ruleset.rules().collect(),
        anchors: ruleset.anchors(),
        altq: ruleset.altq(),
        ether: ruleset.ether(),
        state_limiters: ruleset.state_limiters(),
        source_limiters: ruleset.source_limiters(),
    };
    serde_json::to_writer(&mut *out, &report)?;
    writeln!(out)
}

/// The settings with limits and timeouts by their names; messages of the control socket have them
/// by their places.
fn options(options: &Options) -> io::Result<Value> {
    let limits: BTreeMap<&str, u32> =
        Limit::ALL.iter().map(|&limit| (limit.name(), options.limits.get(limit))).collect();
    let timeouts: BTreeMap<&str, u32> = Timeout::ALL
        .iter()
        .map(|&timeout| (timeout.name(), options.timeouts.get(timeout)))
        .collect();
    let mut value = serde_json::to_value(options)?;
    value["limits"] = serde_json::to_value(limits)?;
    value["timeouts"] = serde_json::to_value(timeouts)?;
    Ok(value)
}

/// The machine and the sources of the golden files.
#[cfg(test)]
#[path = "../../../pfconf/tests/common/mod.rs"]
mod golden;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    const SCHEMA: &str = include_str!("../../../../docs/ruleset.schema.json");

    /// Values that no golden file has.
    const MORE: [(Dialect, &str); 9] = [
        (Dialect::OpenBsd, "set debug emerg\n"),
        (Dialect::OpenBsd, "set debug alert\n"),
        (Dialect::OpenBsd, "set debug crit\n"),
        (Dialect::OpenBsd, "set debug warning\n"),
        (Dialect::OpenBsd, "set debug info\n"),
        (Dialect::OpenBsd, "set reassemble yes\n"),
        (Dialect::OpenBsd, "block proto tcp user < 5\n"),
        (Dialect::OpenBsd, "block proto tcp group <= 5\n"),
        (Dialect::FreeBsd, "load anchor a from \"/etc/pf.frames\"\n"),
    ];

    /// Follows a value through the schema; notes every property and alternative that is met.
    struct Checker<'s> {
        root: &'s Value,
        met: BTreeSet<*const Value>,
    }

    impl<'s> Checker<'s> {
        /// What does not fit, if anything.
        fn check(&mut self, value: &Value, schema: &'s Value) -> Result<(), String> {
            if schema == &Value::Bool(false) {
                return Err(format!("{value} is one too many"));
            }
            if let Some(reference) = schema["$ref"].as_str() {
                let name = reference.strip_prefix("#/$defs/").unwrap();
                return self.check(value, &self.root["$defs"][name]);
            }
            if let Some(constant) = schema.get("const") {
                return if value == constant { Ok(()) } else { Err(format!("{value}")) };
            }
            if let Some(words) = schema["enum"].as_array() {
                return if words.contains(value) { Ok(()) } else { Err(format!("{value}")) };
            }
            for (key, exactly_one) in [("oneOf", true), ("anyOf", false)] {
                let Some(alternatives) = schema[key].as_array() else { continue };
                let fitting: Vec<&Value> =
                    alternatives.iter().filter(|&one| self.check(value, one).is_ok()).collect();
                if fitting.is_empty() || (exactly_one && fitting.len() > 1) {
                    return Err(format!("{} of the forms fit {value}", fitting.len()));
                }
                self.met.extend(fitting.into_iter().map(std::ptr::from_ref));
                return Ok(());
            }
            let kind = match value {
                Value::Object(_) => "object",
                Value::Array(_) => "array",
                Value::Number(_) => "integer",
                Value::String(_) => "string",
                Value::Bool(_) => "boolean",
                Value::Null => "null",
            };
            if schema["type"] != kind {
                return Err(format!("{value} is no {}", schema["type"]));
            }
            match value {
                Value::Object(fields) => self.fields(fields, schema),
                Value::Array(items) => self.items(items, schema),
                Value::Number(number) => {
                    let number = number.as_u64().ok_or("not a number from 0")?;
                    match schema["maximum"].as_u64() {
                        Some(maximum) if number > maximum => Err(format!("{number} is too large")),
                        _ => Ok(()),
                    }
                }
                _ => Ok(()),
            }
        }

        fn fields(
            &mut self,
            fields: &serde_json::Map<String, Value>,
            schema: &'s Value,
        ) -> Result<(), String> {
            let known = schema["properties"].as_object().unwrap();
            for (key, field) in fields {
                let property = known.get(key).ok_or_else(|| format!("unknown field {key}"))?;
                self.check(field, property).map_err(|found| format!("{key}: {found}"))?;
                self.met.insert(std::ptr::from_ref(property));
            }
            for required in schema["required"].as_array().into_iter().flatten() {
                if !fields.contains_key(required.as_str().unwrap()) {
                    return Err(format!("{required} is missing"));
                }
            }
            Ok(())
        }

        fn items(&mut self, items: &[Value], schema: &'s Value) -> Result<(), String> {
            let fixed = schema["prefixItems"].as_array().map_or(&[][..], Vec::as_slice);
            let (low, high) = (schema["minItems"].as_u64(), schema["maxItems"].as_u64());
            let count = items.len() as u64;
            if low.is_some_and(|low| count < low) || high.is_some_and(|high| count > high) {
                return Err(format!("{count} items"));
            }
            for (index, item) in items.iter().enumerate() {
                self.check(item, fixed.get(index).unwrap_or(&schema["items"]))?;
            }
            Ok(())
        }
    }

    /// Every property and every form of an alternative, with a name for messages.
    fn places<'s>(schema: &'s Value, name: &str, found: &mut Vec<(String, &'s Value)>) {
        if let Some(properties) = schema["properties"].as_object() {
            for (key, property) in properties {
                let name = format!("{name}.{key}");
                found.push((name.clone(), property));
                places(property, &name, found);
            }
        }
        if let Some(forms) = schema["oneOf"].as_array() {
            for (index, form) in forms.iter().enumerate() {
                let name = format!("{name}#{index}");
                found.push((name.clone(), form));
                places(form, &name, found);
            }
        }
        for key in ["items", "anyOf", "prefixItems"] {
            match &schema[key] {
                Value::Array(parts) => parts.iter().for_each(|part| places(part, name, found)),
                Value::Null => {}
                part => places(part, name, found),
            }
        }
    }

    /// The golden files are what holds schema and types together: an output that the schema does
    /// not allow, and a part of the schema that no output has, both fail here.
    #[test]
    fn golden_rulesets_have_the_published_form_and_need_all_of_it() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let mut checker = Checker { root: &schema, met: BTreeSet::new() };
        let files = golden::golden_files("parse").into_iter().map(|(dialect, path)| {
            (dialect, fs::read_to_string(&path).unwrap(), path.display().to_string())
        });
        let more = MORE.map(|(dialect, text)| (dialect, text.to_owned(), text.to_owned()));
        let mut checked = 0;
        for (dialect, text, name) in files.chain(more) {
            let compiled = golden::compile_in(&text, dialect);
            let Some(ruleset) = &compiled.ruleset else { panic!("{name}") };
            let mut out = Vec::new();
            write(&mut out, ruleset).unwrap();
            let value: Value = serde_json::from_slice(&out).unwrap();
            if let Err(found) = checker.check(&value, &schema) {
                panic!("{name}: {found}");
            }
            checked += 1;
        }
        assert!(checked >= 150, "only {checked} files");
        let mut all = Vec::new();
        places(&schema, "", &mut all);
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            places(definition, name, &mut all);
        }
        let unmet: Vec<&String> = all
            .iter()
            .filter(|(_, place)| !checker.met.contains(&std::ptr::from_ref(*place)))
            .map(|(name, _)| name)
            .collect();
        assert!(unmet.is_empty(), "no golden file has {unmet:?}");
    }
}
