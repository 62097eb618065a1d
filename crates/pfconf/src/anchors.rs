//! `anchor` lines, with and without rules between braces.
//!
//! Source: pf.conf(5) "ANCHORS"; OpenBSD sbin/pfctl/parse.y `anchorrule`, `pfa_anchor`,
//! `anchorname`.

use pfapi::check::{ANCHOR_DEPTH_MAX, ANCHOR_PATH_MAX};
use pfapi::ruleset::{Anchor, AnchorRuleset, Rule as Finished, TableDef};

use crate::compile::unique;
use crate::diag::{Code, Diagnostic};
use crate::dialect::Dialect;
use crate::finish::complete_anchor;
use crate::parser::{Fallible, Pair, Rule, place, string};
use crate::reader::Reader;
use crate::rules::{Context, RuleSpec, rule};
use crate::scan::{Place, Statement};
use crate::span::Span;

/// An inline anchor whose closing brace has not come yet.
pub(crate) struct Frame {
    spec: RuleSpec,
    name: Option<(String, Place)>,
    /// Its number among the inline anchors of the file.
    number: usize,
    /// Where it starts.
    pub(crate) span: Span,
    /// Its rules so far.
    pub(crate) rules: Vec<Finished>,
    /// Its tables so far.
    pub(crate) tables: Vec<(Span, TableDef)>,
    /// Names of inline anchors in it.
    inline: std::collections::BTreeSet<String>,
}

/// A name as it may stand behind `anchor`.
///
/// # Errors
/// The message about a name that cannot be.
pub(crate) fn name(statement: &Statement, pair: &Pair) -> Fallible<String> {
    let word = pair.clone().into_inner().next();
    let name = word.map(|word| string(&word)).unwrap_or_default();
    let wrong = |text: String, label: &str| {
        Err(Box::new(Diagnostic::error(Code::Anchor, text).at(&place(statement, pair), label)))
    };
    if name.is_empty() {
        return wrong("anchor name must not be empty".into(), "leave it out, or give a name");
    }
    if name.len() >= ANCHOR_PATH_MAX {
        return wrong(format!("anchor name is longer than {ANCHOR_PATH_MAX}"), "this name");
    }
    if name.starts_with('_') || name.contains("/_") {
        let text = "anchor names beginning with '_' are reserved for internal use";
        return wrong(text.into(), "choose another name");
    }
    Ok(name)
}

/// Carries out an `anchor` line; with a brace at its end the rules are still to come.
///
/// # Errors
/// The message about what is wrong with it.
pub(crate) fn anchor(reader: &mut Reader, statement: &Statement, parts: &[Pair]) -> Fallible<()> {
    let mut named = None;
    for part in parts.iter().filter(|part| part.as_rule() == Rule::anchor_name) {
        named = Some((name(statement, part)?, place(statement, part)));
    }
    let context = Context {
        world: reader.world,
        block_returns: false,
        reassembles: reader.settings.reassembles(),
        queues: &reader.shared.queues,
        limiters: &reader.shared.limiters,
    };
    let mut spec = rule(context, statement, parts)?;
    if parts.iter().any(|part| part.as_rule() == Rule::anchor_open) {
        if reader.frames.len() >= ANCHOR_DEPTH_MAX {
            let text = "pfa_anchor: anchors too deep";
            return Err(Box::new(
                Diagnostic::fatal(Code::Nesting, text)
                    .at(&spec.places.rule, format!("more than {ANCHOR_DEPTH_MAX} in each other")),
            ));
        }
        reader.anchors += 1;
        let span = spec.places.rule.span;
        reader.frames.push(Frame {
            spec,
            name: named,
            number: reader.anchors,
            span,
            rules: Vec::new(),
            tables: Vec::new(),
            inline: std::collections::BTreeSet::new(),
        });
        return Ok(());
    }
    let end = statement.end;
    let Some((path, here)) = named else {
        return Err(Box::new(
            Diagnostic::error(Code::Anchor, "anchors without explicit rules must specify a name")
                .at(&spec.places.rule, "nothing could ever be loaded into it")
                .line_at(end)
                .help("give a name, or put the rules between braces"),
        ));
    };
    if reader.recovery.left_open && path.contains('/') {
        return Err(Box::new(path_of_inline(&here).line_at(end)));
    }
    reader.recovery.left_open = false;
    if path.ends_with('/') {
        let text = format!("anchorrule: bad anchor name {path}");
        return Err(Box::new(
            Diagnostic::error(Code::Anchor, text).at(&here, "ends in a slash").line_at(end),
        ));
    }
    finish(reader, &mut spec, Anchor { path, rules: None }, end)
}

/// The message about a path where a name is wanted.
fn path_of_inline(here: &Place) -> Diagnostic {
    let text = "anchor paths containing '/' cannot be used for inline anchors.";
    Diagnostic::error(Code::Anchor, text)
        .at(here, "the rules between braces are a part of this ruleset")
        .help("give a name without a slash")
}

/// Carries out the closing brace of an inline anchor.
///
/// # Errors
/// The message about what is wrong with the anchor.
pub(crate) fn close(reader: &mut Reader, statement: &Statement) -> Fallible<()> {
    let Some(frame) = reader.frames.pop() else { return Ok(()) };
    let Frame { mut spec, name, number, mut rules, tables, .. } = frame;
    rules.shrink_to_fit();
    let brace = statement.next_token(0);
    let path = match name {
        None => format!("_{number}"),
        Some((name, here)) => {
            // FreeBSD's pfctl takes the end of the path for the name.
            let name = match reader.world.dialect {
                Dialect::FreeBsd | Dialect::MacOs => {
                    let path = name.strip_suffix("/*").unwrap_or(&name);
                    path.rsplit('/').next().unwrap_or_default().to_owned()
                }
                Dialect::OpenBsd => name,
            };
            if name.contains('/') {
                reader.recovery.left_open = true;
                return Err(Box::new(path_of_inline(&here).line_at(brace)));
            }
            let known = match reader.frames.last_mut() {
                Some(frame) => &mut frame.inline,
                None => &mut reader.inline,
            };
            if !rules.is_empty() && !known.insert(name.clone()) {
                return Err(Box::new(
                    Diagnostic::error(
                        Code::Anchor,
                        format!("inline anchor '{name}' already exists"),
                    )
                    .at(&here, "a second one of this name")
                    .line_at(brace)
                    .help("put all rules between the braces of one of them"),
                ));
            }
            name
        }
    };
    if !tables.is_empty() {
        let around = reader.frames.iter().map(|frame| match &frame.name {
            Some((name, _)) => name.clone(),
            None => format!("_{}", frame.number),
        });
        let path = around.chain([path.clone()]).collect::<Vec<_>>().join("/");
        let tables = unique(tables).into_iter().map(|(_, table)| table).collect();
        reader.anchor_tables.push(AnchorRuleset { path, tables, ..AnchorRuleset::default() });
    }
    finish(reader, &mut spec, Anchor { path, rules: Some(rules) }, brace)
}

/// Appends the calls of the anchor; the first holds its rules.
fn finish(reader: &mut Reader, spec: &mut RuleSpec, anchor: Anchor, end: usize) -> Fallible<()> {
    let Anchor { path, rules } = anchor;
    spec.rule.anchor = Some(Box::new(Anchor { path, rules: None }));
    spec.places.end = end;
    complete_anchor(spec, reader.world.dialect)
        .map_err(|found| if found.has_line() { found } else { Box::new(found.line_at(end)) })?;
    let len = |reader: &Reader| match reader.frames.last() {
        Some(frame) => frame.rules.len(),
        None => reader.rules.len(),
    };
    let first = len(reader);
    reader.expand(spec);
    let all = match reader.frames.last_mut() {
        Some(frame) => &mut frame.rules,
        None => &mut reader.rules,
    };
    if let Some(anchor) = all.get_mut(first).and_then(|rule| rule.anchor.as_mut()) {
        anchor.rules = rules;
    }
    Ok(())
}

/// A statement between the braces of an anchor that has no place there.
pub(crate) fn misplaced(statement: &Statement, at: usize) -> Diagnostic {
    let word = crate::scan::first_word(&statement.text);
    Diagnostic::error(Code::Syntax, "syntax error")
        .title(format!("`{word}` cannot stand between the braces of an anchor"))
        .at(&statement.locate(at, at + word.len().max(1)), "expected a rule, `anchor` or `}`")
        .help("put it in front of the anchor")
}
