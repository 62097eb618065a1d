//! A ruleset on its way to the daemon: text, compiled rules, frames, transaction.
//!
//! Source: OpenBSD sbin/pfctl/pfctl.c `pfctl_rules`; the frames are those of `pfapi::control`.

use std::collections::BTreeMap;

use pfapi::check::{CheckedRuleset, LoadParts, unsupported};
use pfapi::control::{FailureKind, ITEMS_PER_FRAME, Request, Response};
use pfapi::facts::Facts;
use pfapi::load::Part;
use pfapi::ruleset::{Rule, TableDef, TableEntry};
use pfconf::{
    CompileOptions, Compiled, Diagnostic, Dialect, Given, Input, Listing, Optimization, Parts,
    Sources,
};

use crate::client::Client;
use crate::console::Console;
use crate::error::Error;
use crate::flags::classic::ErrorForm;

/// How messages about rules are shown.
#[derive(Clone, Copy)]
pub struct Style {
    /// Lines of pfctl(8), or the parser's longer ones.
    pub form: ErrorForm,
    /// Whether the longer ones may have colours.
    pub color: bool,
}

/// What a compilation needs besides the text.
pub struct Setting<'a> {
    /// Interfaces.
    pub facts: &'a Facts,
    /// Files, hosts, services.
    pub sources: &'a dyn Sources,
    /// Macros of `-D`.
    pub defines: &'a [(String, String)],
    /// `-N`
    pub numeric_only: bool,
    /// `--dialect`, or what the file looks like.
    pub dialect: Dialect,
    /// What is to be printed.
    pub listing: Listing,
    /// `-o`, and what `-o profile` goes by.
    pub optimize: Optimization<'a>,
    /// What of the file counts.
    pub parts: Parts,
}

/// Compiles `input`. Without errors the ruleset comes back.
#[must_use]
pub fn compile(input: &Input<'_>, setting: &Setting<'_>) -> Compiled {
    let options = CompileOptions {
        facts: setting.facts,
        sources: setting.sources,
        defines: setting.defines,
        numeric_only: setting.numeric_only,
        dialect: setting.dialect,
        listing: setting.listing,
        optimize: setting.optimize,
        parts: setting.parts,
    };
    pfconf::compile(input, &options)
}

impl Style {
    /// The form for a person on a terminal, or for a program; colours as NO_COLOR says.
    #[must_use]
    pub fn usual(console: &Console<'_>) -> Self {
        let terminal = console.err_is_terminal;
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let form = if terminal { ErrorForm::Pretty } else { ErrorForm::Classic };
        Self { form, color: terminal && !plain }
    }
}

/// Shows what is wrong with `input`.
pub fn show(compiled: &Compiled, input: &Input<'_>, style: Style, console: &mut Console<'_>) {
    show_all(&compiled.diagnostics, input, style, console);
    show_all(&compiled.remarks, input, style, console);
}

/// Shows messages about `input`.
pub fn show_all(
    diagnostics: &[Diagnostic],
    input: &Input<'_>,
    style: Style,
    console: &mut Console<'_>,
) {
    // What only follows from another message is for those who count the lines of pfctl(8).
    let shown = |found: &&Diagnostic| style.form == ErrorForm::Classic || !found.is_consequence();
    for (index, diagnostic) in diagnostics.iter().filter(shown).enumerate() {
        let text = match style.form {
            ErrorForm::Classic => diagnostic.classic(),
            ErrorForm::Pretty => {
                if index > 0 {
                    console.note("");
                }
                diagnostic.pretty(input, style.color)
            }
        };
        console.note(text.trim_end_matches('\n'));
    }
    if style.form == ErrorForm::Pretty
        && let Some(first) = diagnostics.iter().find(shown)
    {
        console.note(format_args!("\nMore about a message: pfctl --explain {}", first.code()));
    }
}

/// Macros of `-D`; a definition without `=` is shown and left out, as pfctl(8) does.
pub fn defines(words: &[String], console: &mut Console<'_>) -> Vec<(String, String)> {
    let mut defines = Vec::new();
    for word in words {
        match word.split_once('=') {
            Some((name, value)) => defines.push((name.to_owned(), value.to_owned())),
            None => console.warn(format_args!("could not parse macro definition {word}")),
        }
    }
    defines
}

/// Where a load goes, and what it brings.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// Path of the anchor; empty for the main ruleset.
    pub anchor: String,
    /// Everything else stays.
    pub parts: Parts,
    /// `-m`: the settings that count.
    pub given: Option<Given>,
}

impl Target {
    /// The frame that begins the load.
    #[must_use]
    pub fn begin(&self, dialect: Dialect) -> Request {
        Request::Begin { anchor: self.anchor.clone(), dialect, parts: self.parts }
    }
}

/// The frames of a load between its begin and its commit.
///
/// No frame has more than [`ITEMS_PER_FRAME`] rules, or tables and addresses together; with the
/// bounds on names that `check` enforces that keeps it below the longest frame.
pub fn frames(parts: LoadParts, given: Option<Given>, ticket: u32) -> Vec<Request> {
    let LoadParts {
        options,
        tables,
        rulesets,
        fingerprints,
        queues,
        altq,
        state_limiters: states,
        source_limiters: sources,
    } = parts;
    let (options, given) = (Box::new(options), given.map(Box::new));
    let mut frames = vec![Request::AddOptions { ticket, options, given }];
    for (anchor, tables) in tables {
        for tables in table_parts(tables) {
            frames.push(Request::AddTables { ticket, anchor: anchor.clone(), tables });
        }
    }
    for part in fingerprints.iter().flat_map(|all| all.chunks(ITEMS_PER_FRAME)) {
        frames.push(Request::AddFingerprints { ticket, fingerprints: part.to_vec() });
    }
    if !(states.is_empty() && sources.is_empty()) {
        frames.push(Request::AddLimiters { ticket, states, sources });
    }
    frames.extend(queues.chunks(ITEMS_PER_FRAME).map(|queues| Request::AddQueues {
        ticket,
        queues: queues.to_vec(),
        altq: Vec::new(),
    }));
    // An interface has all its queues in one frame: there may be so many that they fit.
    frames.extend(altq.into_iter().map(|altq| Request::AddQueues {
        ticket,
        queues: Vec::new(),
        altq: vec![altq],
    }));
    for (anchor, rules) in rulesets {
        let mut rules = rules.into_iter().peekable();
        // An anchor without rules comes too: it takes the place of what was there.
        let mut first = !anchor.is_empty();
        while core::mem::take(&mut first) || rules.peek().is_some() {
            let rules = rules.by_ref().take(ITEMS_PER_FRAME).collect();
            frames.push(Request::AddRules { ticket, anchor: anchor.clone(), rules });
        }
    }
    frames
}

/// Tables in groups that fit into frames; a large table is cut into parts of the same name.
fn table_parts(tables: Vec<TableDef>) -> Vec<Vec<TableDef>> {
    let mut groups = Vec::new();
    let mut group: Vec<TableDef> = Vec::new();
    let mut room = ITEMS_PER_FRAME;
    let mut add = |part: TableDef| {
        let size = 1 + part.entries.as_ref().map_or(0, Vec::len);
        if size > room {
            groups.push(std::mem::take(&mut group));
            room = ITEMS_PER_FRAME;
        }
        room -= size;
        group.push(part);
    };
    for mut table in tables {
        let mut entries = table.entries.take().map(|entries| entries.into_iter().peekable());
        let weights: BTreeMap<_, _> = std::mem::take(&mut table.weights).into_iter().collect();
        loop {
            let part = entries.as_mut().map(|rest| rest.by_ref().take(ITEMS_PER_FRAME - 1));
            let part: Option<Vec<TableEntry>> = part.map(Iterator::collect);
            // Weights go with their addresses.
            let of = |entry: &TableEntry| Some((entry.prefix, *weights.get(&entry.prefix)?));
            let weights = part.iter().flatten().filter_map(of).collect();
            add(TableDef { entries: part, weights, ..table.clone() });
            if entries.as_mut().and_then(|rest| rest.peek()).is_none() {
                break;
            }
        }
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

/// Refuses a ruleset with anything that the engine cannot evaluate: it must not be left out.
///
/// # Errors
/// The features and the numbers of their rules.
pub fn refuse_unsupported(ruleset: &CheckedRuleset) -> Result<(), Error> {
    let missing = unsupported(ruleset);
    if missing.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = missing.iter().map(ToString::to_string).collect();
    Err(Error::Plain(format!("rules not loaded: {}", lines.join("; "))))
}

/// Loads a ruleset into an anchor, or as the main one: nothing is in force before the last step,
/// and a failure leaves the old rules.
///
/// # Errors
/// What the engine cannot evaluate, a broken connection, or the daemon's refusal.
pub fn transact(client: &mut Client, ruleset: CheckedRuleset, target: Target) -> Result<(), Error> {
    refuse_unsupported(&ruleset)?;
    let ticket = match client.call(&target.begin(ruleset.dialect()))? {
        Response::Ticket { ticket } => ticket,
        other => return Err(Error::from_answer(other, "begin")),
    };
    let mut parts = ruleset.into_parts();
    let names_systems = |rule: &Rule| rule.rare.os.is_some();
    let asks = parts.rulesets.iter().flat_map(|(_, rules)| rules).any(names_systems);
    if !asks && (!target.anchor.is_empty() || !target.parts.has(Part::Filter)) {
        // The database belongs to the main rules, unless these must have it.
        parts.fingerprints = None;
    }
    for frame in frames(parts, target.given, ticket) {
        match client.call(&frame)? {
            Response::Done => {}
            other => {
                // The first failure is the one to report; a lost daemon rolls back by itself.
                let _ = client.call(&Request::Rollback { ticket });
                return Err(overtaken(Error::from_answer(other, "add")));
            }
        }
    }
    match client.call(&Request::Commit { ticket })? {
        Response::Done => Ok(()),
        other => Err(overtaken(Error::from_answer(other, "commit"))),
    }
}

/// The text of pfctl(8) for a load that another one has overtaken.
fn overtaken(error: Error) -> Error {
    match error {
        Error::Refused { kind: FailureKind::Busy, .. } => {
            Error::Plain("DIOCXCOMMIT: Device busy".to_owned())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pfapi::check::check;
    use pfapi::control::FRAME_MAX;
    use pfapi::ruleset::{Action, AddrMatch, Draft, InterfaceMatch, Options, Rule, TableEntry};

    fn table(name: &str, count: Option<u32>) -> TableDef {
        let entry = |number: u32| TableEntry {
            prefix: pfapi::addr::Prefix::host(std::net::Ipv4Addr::from_bits(number).into()),
            negated: false,
        };
        TableDef {
            name: name.to_owned(),
            persist: true,
            entries: count.map(|count| (0..count).map(entry).collect()),
            ..TableDef::default()
        }
    }

    fn ruleset(tables: Vec<TableDef>, rules: Vec<Rule>) -> CheckedRuleset {
        check(Draft {
            options: Options::default(),
            tables: tables.into_iter().map(|table| ((), table)).collect(),
            rules,
            ..Draft::default()
        })
        .unwrap()
    }

    #[test]
    fn what_the_engine_lacks_is_named_and_not_left_out() {
        let mut lacking = Rule::new(Action::Pass);
        lacking.rare.rtable = Some(1);
        let plain = Rule::new(Action::Pass);
        assert!(refuse_unsupported(&ruleset(vec![], vec![plain.clone()])).is_ok());
        let error = refuse_unsupported(&ruleset(vec![], vec![plain, lacking])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "rules not loaded: rule 1: `rtable` cannot be used: this router has one routing table, \
             number 0; route-to sends packets another way"
        );
    }

    #[test]
    fn frames_carry_everything_once_and_stay_small() {
        let tables = vec![
            table("keeps", None),
            table("empty", Some(0)),
            table("large", Some(1300)),
            table("small", Some(3)),
        ];
        let rules = vec![Rule::new(Action::Pass); 1025];
        let frames = frames(ruleset(tables.clone(), rules).into_parts(), None, 9);
        let mut seen: Vec<TableDef> = Vec::new();
        let mut rule_counts = Vec::new();
        for frame in &frames {
            match frame {
                Request::AddOptions { ticket, .. } => assert_eq!(*ticket, 9),
                Request::AddTables { tables, .. } => {
                    let size = |table: &TableDef| 1 + table.entries.as_ref().map_or(0, Vec::len);
                    assert!(tables.iter().map(size).sum::<usize>() <= ITEMS_PER_FRAME);
                    for part in tables {
                        match seen.last_mut().filter(|last| last.name == part.name) {
                            Some(last) => {
                                let entries = part.entries.clone().unwrap();
                                last.entries.as_mut().unwrap().extend(entries);
                            }
                            None => seen.push(part.clone()),
                        }
                    }
                }
                Request::AddRules { rules, .. } => rule_counts.push(rules.len()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, tables);
        assert_eq!(rule_counts, [512, 512, 1]);
        assert!(matches!(frames[0], Request::AddOptions { .. }));
    }

    #[test]
    fn empty_ruleset_is_its_options() {
        assert_eq!(frames(ruleset(vec![], vec![]).into_parts(), None, 0).len(), 1);
    }

    #[test]
    fn largest_rules_fit_into_a_frame() {
        let mut rule = Rule::new(Action::Pass);
        rule.label = Some("\\".repeat(63).into());
        rule.interface = Some(InterfaceMatch { negated: true, name: "\"".repeat(15) }.into());
        let low = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0".parse().unwrap();
        let high = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        rule.from.addr = AddrMatch::range(low, high);
        rule.to.addr = AddrMatch::Table("\\".repeat(31).into());
        let rules = ruleset(vec![], vec![rule; ITEMS_PER_FRAME]).into_parts();
        for frame in frames(rules, None, u32::MAX) {
            assert!(serde_json::to_vec(&frame).unwrap().len() < FRAME_MAX);
        }
    }
}
