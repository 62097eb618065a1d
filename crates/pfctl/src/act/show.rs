//! `-s`.
//!
//! Source: OpenBSD sbin/pfctl/pfctl.c `main`, `pfctl_print_title`.

use std::io::Write;

use pfapi::anchor::{Called, is_below, is_child, resolve};
use pfapi::control::{InterfaceReport, Request, Response, RuleReport, TableReport};
use pfapi::dialect::Dialect;
use pfapi::facts::Facts;
use pfapi::load::Part;
use pfapi::osfp::OsName;

use crate::console::printable;
use crate::error::Error;
use crate::flags::words::Show;
use crate::session::Session;
use crate::show::tables::{Clock, is_active};
use crate::show::{
    fingerprints, info, interfaces, limiters, lists, queues, rules, source_nodes, states, tables,
};
use crate::sources::SystemSources;

/// Titles of `-s all`; none without it.
#[derive(Default)]
struct Titles {
    active: bool,
    printed: bool,
}

impl Titles {
    /// Prints a title, behind an empty line unless it is the first.
    fn print(&mut self, out: &mut dyn Write, title: &str) -> std::io::Result<()> {
        if !self.active {
            return Ok(());
        }
        if self.printed {
            writeln!(out)?;
        }
        self.printed = true;
        writeln!(out, "{title}:")
    }
}

/// Shows `what`.
///
/// # Errors
/// The connection's, the daemon's refusals and those of standard output.
pub fn show(session: &mut Session<'_, '_>, what: Show) -> Result<(), Error> {
    let mut titles = Titles { active: what == Show::All, printed: false };
    let titles = &mut titles;
    match what {
        Show::Rules => show_rules(session, titles, Part::Filter),
        Show::Nat => show_rules(session, titles, Part::Translation),
        Show::Queues => watch_queues(session),
        Show::Anchors => show_anchors(session),
        Show::States => show_states(session, titles),
        Show::Sources => show_sources(session, titles),
        Show::LimiterStates => show_limiters(session, titles, false),
        Show::LimiterSources => show_limiters(session, titles, true),
        Show::Info => show_info(session, titles),
        Show::Interfaces => show_interfaces(session),
        Show::Labels => show_labels(session, titles),
        Show::Timeouts => show_timeouts(session, titles),
        Show::Memory => show_limits(session, titles),
        Show::Tables => show_tables(session, titles),
        Show::Fingerprints => {
            let systems = systems(session)?;
            Ok(fingerprints::print(session.console.out, &systems)?)
        }
        Show::All => {
            show_rules(session, titles, Part::Translation)?;
            show_rules(session, titles, Part::Filter)?;
            show_queues(session, titles, &mut queues::History::default())?;
            show_states(session, titles)?;
            show_sources(session, titles)?;
            show_limiters(session, titles, false)?;
            show_limiters(session, titles, true)?;
            show_info(session, titles)?;
            show_labels(session, titles)?;
            show_timeouts(session, titles)?;
            show_limits(session, titles)?;
            show_tables(session, titles)?;
            let count = systems(session)?.len();
            titles.print(session.console.out, "OS FINGERPRINTS")?;
            Ok(writeln!(session.console.out, "{count} fingerprints loaded")?)
        }
    }
}

/// Rules that filter, FreeBSD's that clean packets among them, or FreeBSD's that translate.
fn show_rules(session: &mut Session<'_, '_>, titles: &mut Titles, part: Part) -> Result<(), Error> {
    let path = session.flags.anchor_path().trim_end_matches('*').trim_end_matches('/').to_owned();
    let listed = rules_of(session, &path)?;
    match part {
        Part::Translation if !titles.active => {}
        Part::Translation if listed.of(part).next().is_none() => return Ok(()),
        Part::Translation => titles.print(session.console.out, "TRANSLATION RULES")?,
        _ => titles.print(session.console.out, "FILTER RULES")?,
    }
    let verbosity = session.flags.verbosity;
    let wanted = session.flags.rule;
    let sizes = if verbosity > 1 {
        rules::Sizes::new(table_reports(session)?, session.facts()?)
    } else {
        rules::Sizes::new(Vec::new(), Facts::default())
    };
    let dialect = listed.dialect;
    // `-P` asks OpenBSD's pfctl for names, and FreeBSD's for numbers.
    let named = session.flags.port_names != dialect.is_freebsd();
    let ports = named.then(|| SystemSources::new(false, dialect));
    let style = rules::Style { verbosity, sizes: &sizes, ports: ports.as_ref(), dialect };
    let recursive = session.flags.anchor.as_deref().is_some_and(|anchor| anchor.ends_with('*'));
    let paths = if recursive { anchor_paths(session)? } else { Vec::new() };
    let tree = Tree { paths: &paths, recursive, wanted, part, style: &style };
    show_ruleset(session, listed, (&path, 0), &tree)
}

/// How rulesets are shown.
struct Tree<'a> {
    /// Paths of all anchors, with `-a '*'`.
    paths: &'a [String],
    /// Whether the rules of every anchor follow it.
    recursive: bool,
    /// `-R`
    wanted: Option<u32>,
    /// Rules of which kinds.
    part: Part,
    style: &'a rules::Style<'a>,
}

/// Shows the rules of one path, with those of inline anchors between braces. Source: OpenBSD
/// sbin/pfctl/pfctl.c `pfctl_show_rules`.
fn show_ruleset(
    session: &mut Session<'_, '_>,
    listed: Listed,
    (path, depth): (&str, usize),
    tree: &Tree<'_>,
) -> Result<(), Error> {
    let indent = if tree.style.verbosity > 0 { String::new() } else { "  ".repeat(depth) };
    let dialect = listed.dialect;
    for report in listed.into_numbered(tree.part) {
        if tree.wanted.is_some_and(|id| report.number != id) {
            continue;
        }
        let called = report.rule.anchor.as_ref().map(|anchor| resolve(path, &anchor.path));
        let below: Vec<String> = match &called {
            Some(Called::One(inner)) if tree.recursive || is_unnamed(inner) => vec![inner.clone()],
            Some(Called::Below(parent)) if tree.recursive => {
                tree.paths.iter().filter(|path| is_child(parent, path)).cloned().collect()
            }
            _ => Vec::new(),
        };
        let inline = matches!(called, Some(Called::One(_))) && !below.is_empty();
        let place = rules::Place { path, indent: &indent, opens: inline };
        let style = rules::Style { dialect, ..*tree.style };
        rules::print(session.console.out, &report, &style, place)?;
        for inner in below {
            if !inline {
                let name = inner.rsplit('/').next().unwrap_or_default();
                writeln!(session.console.out, "{indent}anchor \"{}\" all {{", printable(name))?;
            }
            if depth < DEPTH_MAX {
                let listed = rules_of(session, &inner)?;
                show_ruleset(session, listed, (&inner, depth + 1), tree)?;
            }
            writeln!(session.console.out, "{indent}}}")?;
        }
    }
    Ok(())
}

/// Deepest nesting that is shown: that of evaluation.
const DEPTH_MAX: usize = 64;

/// Whether an anchor has a name that pfctl made.
fn is_unnamed(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with('_'))
}

/// The rules of one path.
struct Listed {
    dialect: Dialect,
    rules: Vec<RuleReport>,
}

impl Listed {
    fn of(&self, part: Part) -> impl Iterator<Item = &RuleReport> {
        self.rules.iter().filter(move |report| Part::of(report.rule.kind) == part)
    }

    /// The rules of one part. On FreeBSD the rules of each kind have numbers of their own.
    fn into_numbered(self, part: Part) -> impl Iterator<Item = RuleReport> {
        let mut last = None;
        let mut next = 0;
        self.rules.into_iter().filter(move |report| Part::of(report.rule.kind) == part).map(
            move |mut report| {
                if last.replace(report.rule.kind) != Some(report.rule.kind) {
                    next = 0;
                }
                if self.dialect.is_freebsd() {
                    report.number = next;
                    next += 1;
                }
                report
            },
        )
    }
}

fn rules_of(session: &mut Session<'_, '_>, path: &str) -> Result<Listed, Error> {
    let mut all = Listed { dialect: Dialect::default(), rules: Vec::new() };
    let request = Request::Rules { anchor: path.to_owned() };
    session.list(&request, "rules", |_, _, response| {
        let Response::Rules { dialect, rules } = response else {
            return Err(Error::Unexpected("rules"));
        };
        all.dialect = dialect;
        all.rules.extend(rules);
        Ok(())
    })?;
    Ok(all)
}

/// Paths of all anchors, each with those that lie in it right behind it.
///
/// # Errors
/// The connection's and the daemon's refusals.
pub fn anchor_paths(session: &mut Session<'_, '_>) -> Result<Vec<String>, Error> {
    match session.call(&Request::Anchors)? {
        Response::Anchors { paths } => Ok(paths),
        other => Err(Error::from_answer(other, "anchors")),
    }
}

/// Shows the queues; with `-vv` again and again with measured rates, until somebody ends it.
fn watch_queues(session: &mut Session<'_, '_>) -> Result<(), Error> {
    let mut history = queues::History::default();
    loop {
        let shown = show_queues(session, &mut Titles::default(), &mut history)?;
        if session.flags.verbosity < 2 || shown == 0 {
            return Ok(());
        }
        writeln!(session.console.out)?;
        session.console.out.flush()?;
        std::thread::sleep(queues::PERIOD);
    }
}

/// Shows the queues once; gives how many there are.
fn show_queues(
    session: &mut Session<'_, '_>,
    titles: &mut Titles,
    history: &mut queues::History,
) -> Result<usize, Error> {
    let verbose = session.flags.verbosity > 0;
    let wanted = session.flags.interface.clone();
    let mut all = Vec::new();
    let mut load = 0;
    session.list(&Request::Queues, "queues", |_, _, response| {
        let Response::Queues { set, queues } = response else {
            return Err(Error::Unexpected("queues"));
        };
        load = set;
        all.extend(queues);
        Ok(())
    })?;
    history.begin(load);
    let out = &mut *session.console.out;
    for report in &all {
        // Rates are of every queue, shown or not.
        let measured = history.measure(report);
        if wanted.as_ref().is_none_or(|wanted| report.interface == *wanted) {
            titles.print(out, "QUEUES")?;
            titles.active = false;
            let detail = if verbose {
                queues::Detail::Counters(measured)
            } else {
                queues::Detail::Definition
            };
            queues::print(out, report, &all, detail)?;
        }
    }
    titles.active |= titles.printed;
    Ok(all.len())
}

/// Lists the anchors below that of `-a`; those without a name with `-v` only.
fn show_anchors(session: &mut Session<'_, '_>) -> Result<(), Error> {
    let top = session.flags.anchor_path().to_owned();
    let all = session.flags.verbosity > 0;
    for path in anchor_paths(session)? {
        let reserved = path.starts_with('_') || path.contains("/_");
        if is_below(&top, &path) && (all || !reserved) {
            writeln!(session.console.out, "  {}", printable(&path))?;
        }
    }
    Ok(())
}

fn show_labels(session: &mut Session<'_, '_>, titles: &mut Titles) -> Result<(), Error> {
    let mut titled = false;
    let request = Request::Rules { anchor: session.flags.anchor_path().to_owned() };
    session.list(&request, "rules", |console, _, response| {
        let Response::Rules { rules, .. } = response else {
            return Err(Error::Unexpected("rules"));
        };
        for report in rules.iter().filter(|report| report.rule.label.is_some()) {
            if !titled {
                titles.print(console.out, "LABEL COUNTERS")?;
                titled = true;
            }
            rules::print_label(console.out, report)?;
        }
        Ok(())
    })
}

fn show_states(session: &mut Session<'_, '_>, titles: &mut Titles) -> Result<(), Error> {
    let verbosity = session.flags.verbosity;
    let wanted = session.flags.rule;
    let request = Request::States { interface: session.flags.interface.clone() };
    let mut titled = false;
    session.list(&request, "states", |console, names, response| {
        let Response::States { states } = response else { return Err(Error::Unexpected("states")) };
        for state in &states {
            if wanted.is_some() && state.rule != wanted {
                continue;
            }
            if !titled {
                titles.print(console.out, "STATES")?;
                titled = true;
            }
            states::print(console.out, state, verbosity, names)?;
        }
        Ok(())
    })
}

fn show_sources(session: &mut Session<'_, '_>, titles: &mut Titles) -> Result<(), Error> {
    let verbosity = session.flags.verbosity;
    let mut titled = false;
    session.list(&Request::Sources, "source nodes", |console, names, response| {
        let Response::Sources { nodes } = response else {
            return Err(Error::Unexpected("source nodes"));
        };
        for node in &nodes {
            if !titled {
                titles.print(console.out, "SOURCE TRACKING NODES")?;
                titled = true;
            }
            source_nodes::print(console.out, node, verbosity, names)?;
        }
        Ok(())
    })
}

/// State limiters or source limiters; with `-v` what each source limiter tracks.
fn show_limiters(
    session: &mut Session<'_, '_>,
    titles: &mut Titles,
    of_sources: bool,
) -> Result<(), Error> {
    let limiters = match session.call(&Request::Limiters)? {
        Response::Limiters { sources, .. } if of_sources => sources,
        Response::Limiters { states, .. } => states,
        other => return Err(Error::from_answer(other, "limiters")),
    };
    if limiters.is_empty() {
        return Ok(());
    }
    let title = if of_sources { "SOURCE LIMITERS" } else { "STATE LIMITERS" };
    titles.print(session.console.out, title)?;
    limiters::print_header(session.console.out, of_sources)?;
    for limiter in &limiters {
        limiters::print(session.console.out, limiter)?;
        if !of_sources || session.flags.verbosity == 0 {
            continue;
        }
        let request = Request::LimiterSources { id: limiter.id };
        session.list(&request, "sources of a limiter", |console, _, response| {
            let Response::LimiterSources { sources } = response else {
                return Err(Error::Unexpected("sources of a limiter"));
            };
            for source in &sources {
                limiters::print_source(console.out, source)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn show_info(session: &mut Session<'_, '_>, titles: &mut Titles) -> Result<(), Error> {
    titles.print(session.console.out, "INFO")?;
    match session.call(&Request::Info)? {
        Response::Info { info } => {
            Ok(info::print(session.console.out, &info, session.flags.verbosity > 0)?)
        }
        other => Err(Error::from_answer(other, "info")),
    }
}

fn show_interfaces(session: &mut Session<'_, '_>) -> Result<(), Error> {
    let verbosity = session.flags.verbosity;
    let wanted = session.flags.interface.clone();
    let clock = Clock::system();
    session.list(&Request::Interfaces, "interfaces", |console, _, response| {
        let Response::Interfaces { interfaces: all } = response else {
            return Err(Error::Unexpected("interfaces"));
        };
        let wanted =
            |report: &&InterfaceReport| wanted.as_ref().is_none_or(|name| *name == report.name);
        for report in all.iter().filter(wanted) {
            interfaces::print(console.out, report, verbosity, &clock)?;
        }
        Ok(())
    })
}

fn show_timeouts(session: &mut Session<'_, '_>, titles: &mut Titles) -> Result<(), Error> {
    titles.print(session.console.out, "TIMEOUTS")?;
    match session.call(&Request::Timeouts)? {
        Response::Timeouts { timeouts } => {
            Ok(lists::print_timeouts(session.console.out, &timeouts)?)
        }
        other => Err(Error::from_answer(other, "timeouts")),
    }
}

fn show_limits(session: &mut Session<'_, '_>, titles: &mut Titles) -> Result<(), Error> {
    titles.print(session.console.out, "LIMITS")?;
    match session.call(&Request::Limits)? {
        Response::Limits { limits } => Ok(lists::print_limits(session.console.out, &limits)?),
        other => Err(Error::from_answer(other, "limits")),
    }
}

fn show_tables(session: &mut Session<'_, '_>, titles: &mut Titles) -> Result<(), Error> {
    let anchor = session.flags.anchor_path();
    let (top, below) = match anchor.strip_suffix('*') {
        Some(top) => (top.trim_end_matches('/').to_owned(), true),
        None => (anchor.to_owned(), false),
    };
    let shown = |table: &TableReport| {
        is_active(table) && (table.anchor == top || below && is_below(&top, &table.anchor))
    };
    let reports: Vec<_> = table_reports(session)?.into_iter().filter(shown).collect();
    if reports.is_empty() {
        return Ok(());
    }
    titles.print(session.console.out, "TABLES")?;
    let clock = Clock::system();
    for report in &reports {
        tables::print(session.console.out, report, session.flags.verbosity, &clock)?;
    }
    Ok(())
}

/// Systems whose fingerprints the daemon knows.
fn systems(session: &mut Session<'_, '_>) -> Result<Vec<OsName>, Error> {
    let mut all = Vec::new();
    session.list(&Request::Fingerprints, "fingerprints", |_, _, response| {
        let Response::Fingerprints { systems } = response else {
            return Err(Error::Unexpected("fingerprints"));
        };
        all.extend(systems);
        Ok(())
    })?;
    Ok(all)
}

fn table_reports(session: &mut Session<'_, '_>) -> Result<Vec<TableReport>, Error> {
    let mut all = Vec::new();
    session.list(&Request::Tables, "tables", |_, _, response| {
        let Response::Tables { tables } = response else { return Err(Error::Unexpected("tables")) };
        all.extend(tables);
        Ok(())
    })?;
    Ok(all)
}
