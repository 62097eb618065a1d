//! Files from their first to their last statement, and what they amount to.
//!
//! Source: OpenBSD sbin/pfctl/pfctl.c `pfctl_rules`, sbin/pfctl/parse.y `parse_config`,
//! `pfctl_load_anchors`.

use std::collections::VecDeque;
use std::rc::Rc;

use pfapi::check::{CheckedRuleset, Mistake, Place, RuleError, check};
use pfapi::facts::Facts;
use pfapi::limit::Limit;
use pfapi::load::{Given, Part, Parts};
use pfapi::ruleset::{AnchorRuleset, Draft, EtherRule, Options, Rule, TableDef};

use crate::Input;
use crate::address::World;
use crate::diag::{Code, Diagnostic, Severity, SourceText};
use crate::dialect::Dialect;
use crate::lines::Lines;
use crate::md5::md5;
use crate::optimize::{Optimization, Optimizer};
use crate::parts::{level, select};
use crate::print;
use crate::queues;
use crate::reader::{Load, Reader, Shared};
use crate::redirect::AutoTables;
use crate::settle::Settler;
use crate::source::Sources;
use crate::span::Span;

/// Most `load anchor` lines that are followed.
const LOADS_MAX: usize = 1_000;

/// What a file is compiled with.
#[derive(Clone, Copy)]
pub struct CompileOptions<'a> {
    /// Interfaces and their addresses.
    pub facts: &'a Facts,
    /// Files and name databases.
    pub sources: &'a dyn Sources,
    /// `-D name=value`: macros that win over those of the file.
    pub defines: &'a [(String, String)],
    /// `-N`: host names are not resolved.
    pub numeric_only: bool,
    /// Whose pf.conf it is: grammar, checks and form of the listing.
    pub dialect: Dialect,
    /// What is to be printed.
    pub listing: Listing,
    /// How rules are optimized.
    pub optimize: Optimization<'a>,
    /// What of the file counts; mistakes are told wherever they are.
    pub parts: Parts,
}

/// What is printed of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listing {
    /// Only what comes before the rules.
    #[default]
    Short,
    /// `pfctl -nv`
    Rules,
    /// `pfctl -nvv`: rules have numbers and are not indented.
    Numbered,
}

/// What became of a file.
#[derive(Debug)]
pub struct Compiled {
    /// The ruleset; `None` when there was an error.
    pub ruleset: Option<CheckedRuleset>,
    /// Lines that pfctl prints: macros, options and tables in the order of the file, then queues
    /// and rules. With errors only what comes before the rules.
    pub listing: Lines,
    /// What `pfctl -v` tells on standard error besides the diagnostics, and how many of those come
    /// before it.
    pub progress: Vec<(usize, String)>,
    /// Errors and warnings in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// What means less here than on the system that the file was written for: warnings of this
    /// project's own, that pfctl does not have.
    pub remarks: Vec<Diagnostic>,
    /// Macros that are defined and not used, which `pfctl -vv` tells.
    pub unused: Vec<String>,
    /// Lines of the database of `set fingerprints` that were left out, as pfctl tells them.
    pub fingerprint_mistakes: Vec<String>,
    /// Words that no pfctl of BSD knows, as errors for who wants to do without them; they are not
    /// among the diagnostics.
    pub extensions: Vec<Diagnostic>,
    /// The settings that the file names, for `pfctl -m`.
    pub given: Given,
}

/// Reads a whole file, and those that it includes and loads.
///
/// Work and memory are linear in the text, in what its macros expand to, and in the number of
/// rules; all three are bounded. No input makes it panic.
///
/// ```
/// use pfapi::facts::{Facts, InterfaceFacts};
/// use pfconf::{BuiltinSources, CompileOptions, Dialect, Input, Listing, Optimization, Parts};
///
/// let facts = Facts { interfaces: vec![InterfaceFacts::new("tun0")] };
/// let options = CompileOptions {
///     facts: &facts,
///     sources: &BuiltinSources,
///     defines: &[],
///     numeric_only: true,
///     dialect: Dialect::OpenBsd,
///     listing: Listing::Rules,
///     optimize: Optimization::default(),
///     parts: Parts::ALL,
/// };
/// let text = "web = \"{ 80 443 }\"\nblock in\npass in on tun0 proto tcp to port $web\n";
/// let compiled = pfconf::compile(&Input { name: "pf.conf", text }, &options);
/// assert_eq!(
///     compiled.listing.as_str(),
///     "web = \"{ 80 443 }\"\n\
///      block drop in all\n\
///      pass in on tun0 proto tcp from any to any port = 80 flags S/SA\n\
///      pass in on tun0 proto tcp from any to any port = 443 flags S/SA\n"
/// );
/// assert_eq!(compiled.ruleset.unwrap().rules().len(), 3);
///
/// let wrong = pfconf::compile(&Input { name: "pf.conf", text: "pass in to port 80\n" }, &options);
/// assert!(wrong.ruleset.is_none());
/// assert_eq!(wrong.diagnostics[0].text(), "port only applies to tcp/udp");
/// assert_eq!(wrong.diagnostics[0].line(), 1);
/// ```
#[must_use]
pub fn compile(input: &Input, options: &CompileOptions) -> Compiled {
    let identifier = || u32::from_le_bytes(first_four(md5(input.text.as_bytes())));
    let mut shared = Shared {
        optimize: options.optimize.level,
        automatic: AutoTables::new(options.optimize.for_load.then(identifier)),
        ..Shared::default()
    };
    let world = options.world();
    let mut reader = Reader::new(world, &mut shared, options.defines);
    reader.file(input.name, input.text, None);
    let mut main = reader.finish();
    let mut compiled = Compiled {
        ruleset: None,
        listing: std::mem::take(&mut main.listing),
        progress: Vec::new(),
        diagnostics: std::mem::take(&mut main.diagnostics),
        remarks: Vec::new(),
        unused: std::mem::take(&mut main.unused),
        fingerprint_mistakes: std::mem::take(&mut shared.fingerprint_mistakes),
        extensions: std::mem::take(&mut main.extensions),
        given: Given::default(),
    };
    if has_errors(&compiled) {
        return compiled;
    }
    match queues::tree(&shared.queues) {
        Ok(lines) if options.parts.has(Part::Queues) => compiled.listing.extend(lines),
        Ok(_) => {}
        Err(text) => {
            compiled.diagnostics.push(Diagnostic::fatal(Code::Queue, text));
            return compiled;
        }
    }
    let settings;
    (settings, compiled.given) = main.settings.finish();
    let tables = unique(main.tables);
    leave_room(&mut shared.automatic, &settings, &tables);
    let level = level(&shared, options.parts);
    main.rules = select(main.rules, options.parts, &mut shared.automatic);
    if !options.parts.is_all() {
        main.ether.clear();
    }
    let mut optimizer = Optimizer::new(level, options);
    let unsettled = Unsettled { rules: main.rules, ether: &main.ether };
    let Some(rules) = compiled.rules(unsettled, &mut optimizer, &mut shared.automatic, options)
    else {
        return compiled;
    };
    for trouble in shared.altq.check() {
        compiled.diagnostics.push(trouble.diagnostic());
    }
    if has_errors(&compiled) {
        return compiled;
    }
    if !options.parts.has(Part::Queues) {
        shared.queues.clear();
        shared.altq = crate::altq::Plan::default();
    }
    if !options.parts.has(Part::Filter) {
        shared.limiters = crate::limiters::Limiters::default();
    }
    let automatic = std::mem::take(&mut shared.automatic.made);
    let loaded = load_anchors(options, &mut shared, &mut optimizer, main.loads, &mut compiled);
    let Some(loaded) = loaded else { return compiled };
    let mut anchors = main.inline;
    anchors.extend(loaded);
    compiled.remarks = std::mem::take(&mut shared.remarks);
    let database = shared.fingerprints.as_ref().or(options.sources.fingerprints());
    let database = database.map(|known| known.entries().to_vec());
    let draft = Draft {
        dialect: options.dialect,
        fingerprints: database.filter(|entries| !entries.is_empty()),
        options: settings,
        queues: shared.queues,
        tables: tables
            .into_iter()
            .chain(automatic.into_iter().map(|table| (Span::new(0, 0), table)))
            .collect(),
        rules,
        anchors,
        altq: shared.altq.finish(),
        ether: main.ether,
        state_limiters: shared.limiters.states,
        source_limiters: shared.limiters.sources,
    };
    let last_table = draft.tables.last().map(|&(span, _)| span);
    match check(draft) {
        Ok(checked) => compiled.ruleset = Some(checked),
        Err(errors) => compiled.refused(input, errors, last_table),
    }
    compiled
}

const fn first_four([a, b, c, d, ..]: [u8; 16]) -> [u8; 4] {
    [a, b, c, d]
}

/// The optimizer makes no more tables than the ruleset may have.
fn leave_room(automatic: &mut AutoTables, options: &Options, tables: &[(Span, TableDef)]) {
    let given = tables.iter().map(|(_, table)| table).chain(&automatic.made);
    let entries: usize =
        given.clone().map(|table| table.entries.as_ref().map_or(0, Vec::len)).sum();
    let room = |limit, used: usize| {
        usize::try_from(options.limits.get(limit)).unwrap_or(usize::MAX).saturating_sub(used)
    };
    let count = given.count();
    automatic.limit(room(Limit::Tables, count), room(Limit::TableEntries, entries));
}

fn has_errors(compiled: &Compiled) -> bool {
    compiled.diagnostics.iter().any(|found| found.severity() == Severity::Error)
}

/// The last definition of a table counts.
pub(crate) fn unique(tables: Vec<(Span, TableDef)>) -> Vec<(Span, TableDef)> {
    let mut found: Vec<(Span, TableDef)> = Vec::new();
    let mut places = std::collections::BTreeMap::new();
    for (span, table) in tables {
        if let Some(&at) = places.get(&table.name) {
            found[at] = (span, table);
        } else {
            places.insert(table.name.clone(), found.len());
            found.push((span, table));
        }
    }
    found
}

/// Carries out the `load anchor` lines, and those of the files that they name; `None` when one
/// failed.
fn load_anchors(
    options: &CompileOptions,
    shared: &mut Shared,
    optimizer: &mut Optimizer,
    loads: Vec<Load>,
    compiled: &mut Compiled,
) -> Option<Vec<AnchorRuleset>> {
    let mut anchors = Vec::new();
    let mut count = 0;
    let mut loads = VecDeque::from(loads);
    while let Some(load) = loads.pop_front() {
        count += 1;
        if count > LOADS_MAX {
            let text = format!("more than {LOADS_MAX} anchors are loaded");
            compiled.diagnostics.push(Diagnostic::fatal(Code::TooMany, text));
            return None;
        }
        let text = format!("\nLoading anchor {} from {}", load.anchor, load.file);
        compiled.progress.push((compiled.diagnostics.len(), text));
        let Some((found, more)) = load_anchor(options, shared, optimizer, &load, compiled) else {
            compiled.diagnostics.push(Diagnostic::fatal(Code::Include, "load anchors"));
            return None;
        };
        anchors.extend(found);
        // What an anchor loads lies below it, and comes when all others have been loaded.
        loads.extend(more.into_iter().map(|more| Load {
            anchor: format!("{}/{}", load.anchor, more.anchor),
            file: more.file,
        }));
    }
    Some(anchors)
}

/// Reads the file of a `load anchor` line: what is in it, and what it loads in turn; `None` when
/// that failed.
fn load_anchor(
    options: &CompileOptions,
    shared: &mut Shared,
    optimizer: &mut Optimizer,
    load: &Load,
    compiled: &mut Compiled,
) -> Option<(Vec<AnchorRuleset>, Vec<Load>)> {
    let file = load.file.as_str();
    let world = options.world();
    let text = match world.sources.read(file) {
        Ok(text) => text,
        Err(error) => {
            let cause = crate::tables::cause(&error);
            for text in [
                format!("pushfile: {file}: {cause}"),
                format!("cannot open the main config file!: {cause}"),
            ] {
                compiled.diagnostics.push(Diagnostic::fatal(Code::Include, text));
            }
            return None;
        }
    };
    let source = Rc::new(SourceText { name: file.to_owned(), text });
    let mut reader = Reader::new(world, shared, &[]);
    reader.in_anchor = true;
    reader.file(file, &source.text, Some(&source));
    let mut found = reader.finish();
    compiled.listing.append(&found.listing);
    compiled.unused.append(&mut found.unused);
    compiled.extensions.append(&mut found.extensions);
    let failed = found.diagnostics.iter().any(|found| found.severity() == Severity::Error);
    compiled.diagnostics.append(&mut found.diagnostics);
    if failed {
        return None;
    }
    let mut inline = found.inline;
    for anchor in &mut inline {
        anchor.path = format!("{}/{}", load.anchor, anchor.path);
    }
    let all = select(found.rules, options.parts, &mut shared.automatic);
    if !options.parts.is_all() {
        found.ether.clear();
    }
    let unsettled = Unsettled { rules: all, ether: &found.ether };
    let rules = compiled.rules(unsettled, optimizer, &mut shared.automatic, options)?;
    let mut tables: Vec<TableDef> =
        unique(found.tables).into_iter().map(|(_, table)| table).collect();
    tables.append(&mut shared.automatic.made);
    let path = load.anchor.clone();
    inline.insert(0, AnchorRuleset { path, tables, rules, ether: found.ether });
    Some((inline, found.loads))
}

impl<'a> CompileOptions<'a> {
    const fn world(&self) -> World<'a> {
        World {
            facts: self.facts,
            sources: self.sources,
            numeric_only: self.numeric_only,
            dialect: self.dialect,
            parts: self.parts,
        }
    }
}

/// Rules of one ruleset as they were read.
struct Unsettled<'a> {
    rules: Vec<Rule>,
    ether: &'a [EtherRule],
}

impl Compiled {
    /// Tells what the check of the whole ruleset has found.
    fn refused(&mut self, input: &Input, errors: Vec<RuleError<Span>>, last_table: Option<Span>) {
        let lines = crate::span::LineIndex::new(input.text);
        for error in errors {
            let code = match error.mistake {
                Mistake::Limit { .. } | Mistake::TooManyRules { .. } => Code::TooMany,
                Mistake::Watermarks | Mistake::ServerOptions => Code::Syncookies,
                _ => Code::Table,
            };
            let mut diagnostic = Diagnostic::error(code, error.mistake.to_string());
            let mut line = 0;
            let at = match error.at {
                Some(Place::Table(span)) => Some(span),
                Some(Place::Rule(_)) => None,
                None => last_table,
            };
            if let Some(span) = at {
                line = lines.line(span.start);
                diagnostic = diagnostic.at_span(span, "here");
            }
            self.diagnostics.push(diagnostic.place(input.name, line));
        }
    }

    /// Settles and lists a ruleset; `None` when a name is too long, which is told.
    fn rules(
        &mut self,
        unsettled: Unsettled,
        optimizer: &mut Optimizer,
        tables: &mut AutoTables,
        options: &CompileOptions,
    ) -> Option<Vec<Rule>> {
        let counts = match options.listing {
            Listing::Short => None,
            Listing::Rules => Some(false),
            Listing::Numbered => Some(true),
        };
        let protocols = print::ProtocolNames::new(options.sources);
        let form = counts.map(|counts| print::Form {
            dialect: options.dialect,
            protocols: Some(&protocols),
            counts,
        });
        let Unsettled { rules, ether } = unsettled;
        let mut settler = Settler { optimizer, tables, ether, listing: &mut self.listing, form };
        match settler.settle(rules, 0) {
            Ok(rules) => Some(rules),
            Err(diagnostic) => {
                self.diagnostics.push(*diagnostic);
                None
            }
        }
    }
}
