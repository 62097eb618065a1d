//! `ether anchor` lines, with and without rules between braces.
//!
//! Source: FreeBSD sbin/pfctl/parse.y `etheranchorrule`, `etherpfa_anchor`.

use std::collections::BTreeSet;

use pfapi::check::ANCHOR_DEPTH_MAX;
use pfapi::ruleset::{EtherAnchor, EtherRule};

use super::read::{EtherSpec, expand, spec};
use crate::anchors::name;
use crate::diag::{Code, Diagnostic};
use crate::parser::{Fallible, Pair, Rule, place};
use crate::reader::Reader;
use crate::scan::{Place, Statement};
use crate::span::Span;

/// An inline anchor whose closing brace has not come yet.
pub(crate) struct EtherFrame {
    spec: EtherSpec,
    name: Option<(String, Place)>,
    number: usize,
    /// Where it starts.
    pub(crate) span: Span,
    /// Its rules so far.
    pub(crate) rules: Vec<EtherRule>,
    /// Names of inline anchors in it.
    inline: BTreeSet<String>,
}

/// Carries out an `ether anchor` line; with a brace at its end the rules are still to come.
///
/// # Errors
/// The message about what is wrong with it.
pub(crate) fn anchor(reader: &mut Reader, statement: &Statement, parts: &[Pair]) -> Fallible<()> {
    let mut named = None;
    for part in parts.iter().filter(|part| part.as_rule() == Rule::anchor_name) {
        named = Some((name(statement, part)?, place(statement, part)));
    }
    let spec = spec(reader.world, statement, parts)?;
    let whole = statement.locate(0, statement.text.trim_end().len());
    if parts.iter().any(|part| part.as_rule() == Rule::anchor_open) {
        if reader.ether_frames.len() >= ANCHOR_DEPTH_MAX {
            return Err(Box::new(
                Diagnostic::fatal(Code::Nesting, "etherpfa_anchor: anchors too deep")
                    .at(&whole, format!("more than {ANCHOR_DEPTH_MAX} in each other")),
            ));
        }
        reader.anchors += 1;
        reader.ether_frames.push(EtherFrame {
            spec,
            name: named,
            number: reader.anchors,
            span: whole.span,
            rules: Vec::new(),
            inline: BTreeSet::new(),
        });
        return Ok(());
    }
    let Some((path, here)) = named else {
        return Err(Box::new(
            Diagnostic::error(Code::Anchor, "anchors without explicit rules must specify a name")
                .at(&whole, "nothing could ever be loaded into it")
                .line_at(statement.end)
                .help("give a name, or put the rules between braces"),
        ));
    };
    if path.ends_with('/') {
        let text = format!("etheranchorrule: bad anchor name {path}");
        return Err(Box::new(
            Diagnostic::error(Code::Anchor, text)
                .at(&here, "ends in a slash")
                .line_at(statement.end),
        ));
    }
    append(reader, statement, spec, EtherAnchor { path, rules: None })
}

/// Carries out the closing brace of an inline anchor.
///
/// # Errors
/// The message about what is wrong with the anchor.
pub(crate) fn close(reader: &mut Reader, statement: &Statement) -> Fallible<()> {
    let Some(frame) = reader.ether_frames.pop() else { return Ok(()) };
    let EtherFrame { spec, name, number, rules, .. } = frame;
    let brace = statement.next_token(0);
    let path = match name {
        None => format!("_{number}"),
        Some((name, here)) => {
            let wrong = |text: String, label: &str| {
                Err(Box::new(Diagnostic::error(Code::Anchor, text).at(&here, label).line_at(brace)))
            };
            if name.contains('/') {
                let text = "anchor paths containing '/' cannot be used for inline anchors.";
                return wrong(
                    text.to_owned(),
                    "the rules between braces are a part of this ruleset",
                );
            }
            let known = match reader.ether_frames.last_mut() {
                Some(frame) => &mut frame.inline,
                None => &mut reader.ether_inline,
            };
            if !rules.is_empty() && !known.insert(name.clone()) {
                let text = format!("inline anchor '{name}' already exists");
                return wrong(text, "a second one of this name");
            }
            name
        }
    };
    append(reader, statement, spec, EtherAnchor { path, rules: Some(rules) })
}

/// Appends the calls of the anchor; the first holds its rules.
fn append(
    reader: &mut Reader,
    statement: &Statement,
    mut spec: EtherSpec,
    anchor: EtherAnchor,
) -> Fallible<()> {
    let EtherAnchor { path, rules } = anchor;
    spec.rule.anchor = Some(EtherAnchor { path, rules: None });
    let mut calls = expand(statement, &spec, reader.ether_rules().len())?;
    if let Some(first) = calls.first_mut().and_then(|rule| rule.anchor.as_mut()) {
        first.rules = rules;
    }
    if let Some(warning) = spec.warning {
        reader.report(*warning);
    }
    reader.ether_rules().extend(calls);
    Ok(())
}
