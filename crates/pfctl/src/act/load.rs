//! `-f`.
//!
//! Source: OpenBSD sbin/pfctl/pfctl.c `pfctl_rules`, sbin/pfctl/parse.y `parse_config`.

use std::cell::RefCell;
use std::path::Path;

use pfapi::check::CheckedRuleset;
use pfapi::control::{Request, Response};
use pfapi::facts::Facts;
use pfconf::{
    Compiled, Counted, Dialect, FingerprintMistake, Input, Listing, Optimization, Part, Parts,
    Sources, name_ports,
};

use crate::console::{os_text, printable};
use crate::env::Env;
use crate::error::Error;
use crate::exit::Exit;
use crate::facts::{self, DEFAULT_CONFIG};
use crate::flags::classic::{Classic, ErrorForm, Names, OutputForm};
use crate::load::{self, Setting, Style, Target};
use crate::machine;
use crate::report::Outcome;
use crate::session::Session;
use crate::sources::{FINGERPRINTS, SystemSources, lossy, read_lossy};

/// Loads the rules of a file, or with `-n` only compiles them.
///
/// # Errors
/// The connection's and the daemon's refusals. Mistakes in the rules are shown here and give
/// [`Exit::Failure`].
pub fn load(session: &mut Session<'_, '_>, file: &str) -> Result<Exit, Error> {
    let text = match read(session, file) {
        Ok(text) => text,
        Err(error) => {
            session.console.warn(format_args!("{}: {}", printable(file), os_text(&error)));
            return Ok(not_loaded(session));
        }
    };
    let flags = session.flags;
    let dialect = dialect(session, file, &text);
    let world = World::find(session, dialect)?;
    let defines = load::defines(&flags.defines, session.console);
    let input = Input { name: if file == "-" { "stdin" } else { file }, text: &text };
    let mut compiled = {
        let session = RefCell::new(&mut *session);
        let setting = Setting {
            facts: world.facts(),
            sources: world.sources(),
            defines: &defines,
            numeric_only: flags.names == Names::Never,
            dialect,
            listing: match flags.verbosity {
                0 => Listing::Short,
                1 => Listing::Rules,
                _ if flags.format == OutputForm::Json => Listing::Rules,
                _ => Listing::Numbered,
            },
            optimize: Optimization {
                level: flags.optimize,
                running: Some(&|| running(&mut session.borrow_mut())),
                for_load: !flags.no_action,
            },
            parts: flags.parts,
        };
        load::compile(&input, &setting)
    };
    // `-P` asks OpenBSD's pfctl for names, and FreeBSD's for numbers.
    if flags.port_names != dialect.is_freebsd() {
        let named = compiled.listing.iter().map(|line| name_ports(line, world.sources()));
        compiled.listing = named.collect();
    }
    if flags.strict {
        compiled.diagnostics.append(&mut compiled.extensions);
    }
    if is_refused(&compiled, flags) {
        compiled.ruleset = None;
    }
    if flags.strict
        && let Some(ruleset) = &compiled.ruleset
    {
        let words = pfconf::cookies::extensions(ruleset);
        for word in &words {
            session.console.note(format_args!("{word}"));
        }
        if !words.is_empty() {
            compiled.ruleset = None;
        }
    }
    let people = matches!(flags.format, OutputForm::Text | OutputForm::Ruleset);
    if people {
        tell(session, &compiled, &input);
    }
    if flags.format != OutputForm::Text {
        let listing = (flags.verbosity > 0).then_some(&compiled.listing);
        let (compiled, input) = (&compiled, &input);
        let outcome = Outcome { input, dialect, compiled, listing };
        outcome.write(flags.format, session.console.out)?;
        return Ok(if compiled.ruleset.is_some() { Exit::Success } else { Exit::Failure });
    }
    if flags.verbosity > 1 {
        for name in &compiled.unused {
            session.console.note(format_args!("warning: macro '{name}' not used"));
        }
    }
    if flags.verbosity > 0 {
        print_listing(session, &compiled)?;
        for surprise in compiled.ruleset.iter().flat_map(pfconf::cookies::surprises) {
            session.console.note(format_args!("warning: {surprise}"));
        }
    }
    let Some(ruleset) = compiled.ruleset else { return Ok(not_loaded(session)) };
    if !flags.no_action {
        let target = Target {
            anchor: flags.anchor_path().to_owned(),
            parts: if flags.merge { parts_to_merge(&ruleset, flags.parts) } else { flags.parts },
            given: flags.merge.then_some(compiled.given),
        };
        load::transact(session.client()?, ruleset, target)?;
    }
    Ok(Exit::Success)
}

/// Tells what is wrong with the file, and with `-v` which anchors were loaded in between.
fn tell(session: &mut Session<'_, '_>, compiled: &Compiled, input: &Input<'_>) {
    for mistake in &compiled.fingerprint_mistakes {
        session.console.note(printable(mistake));
    }
    let loud = session.flags.verbosity > 0 && session.flags.format == OutputForm::Text;
    let mut told = 0;
    for (before, text) in compiled.progress.iter().filter(|_| loud) {
        let diagnostics = &compiled.diagnostics[told..*before];
        load::show_all(diagnostics, input, style(session), session.console);
        session.console.note(text);
        told = *before;
    }
    load::show_all(&compiled.diagnostics[told..], input, style(session), session.console);
    let style = style(session);
    // To the lines that pfctl(8) has for a check nothing is added.
    let as_pf = session.flags.no_action && style.form == ErrorForm::Classic;
    if session.flags.strict || !as_pf {
        load::show_all(&compiled.remarks, input, style, session.console);
    }
}

/// `-m`: a file of settings alone leaves rules and queues as they are. FreeBSD's pfctl would take
/// them away, although its manual says otherwise.
fn parts_to_merge(ruleset: &CheckedRuleset, parts: Parts) -> Parts {
    let settings_only = ruleset.rules().len() == 0
        && ruleset.tables().len() == 0
        && ruleset.queues().is_empty()
        && ruleset.altq().is_empty()
        && ruleset.state_limiters().is_empty()
        && ruleset.source_limiters().is_empty()
        && ruleset.anchors().is_empty();
    if settings_only && parts.has(Part::Options) {
        Parts::from_iter([Part::Options])
    } else {
        parts
    }
}

/// The rules in force with their counters. Without them the optimizer does what it can, as with
/// `-o basic`.
fn running(session: &mut Session<'_, '_>) -> Vec<Counted> {
    if session.flags.env.is_some() {
        return Vec::new();
    }
    let mut rules = Vec::new();
    let asked =
        session.list(&Request::Rules { anchor: String::new() }, "rules", |_, _, response| {
            let Response::Rules { rules: part, .. } = response else {
                return Err(Error::Unexpected("rules"));
            };
            rules.extend(part.into_iter().map(|report| Counted {
                packets: report.packets[0].saturating_add(report.packets[1]),
                rule: report.rule,
            }));
            Ok(())
        });
    match asked {
        Ok(()) => rules,
        Err(error) => {
            session.console.warn(format_args!("no counters to optimize by: {error}"));
            Vec::new()
        }
    }
}

/// The dialect of `--dialect`, or the one that the text is written in.
fn dialect(session: &mut Session<'_, '_>, file: &str, text: &str) -> Dialect {
    if let Some(dialect) = session.flags.dialect {
        return dialect;
    }
    let (found, word) = pfconf::detect(text);
    // OpenBSD's is the usual one; nothing may be added to what its pfctl says.
    if let (true, Some(word), true) = (found.is_freebsd(), word, session.flags.verbosity > 0) {
        let (file, system) = (printable(file), found.system());
        session.console.warn(format_args!(
            "{file}: read as rules of {system} because of '{word}'; --dialect openbsd reads it otherwise"
        ));
    }
    found
}

/// `--strict`: a warning is as bad as an error, and so is a word that no BSD has.
fn is_refused(compiled: &Compiled, flags: &Classic) -> bool {
    flags.strict && !(compiled.diagnostics.is_empty() && compiled.remarks.is_empty())
}

/// What rules refer to.
enum World {
    /// `--env`
    Env(Env),
    /// Interfaces of the daemon or of a configuration, everything else of this machine.
    System(Facts, SystemSources),
}

impl World {
    fn find(session: &mut Session<'_, '_>, dialect: Dialect) -> Result<Self, Error> {
        let flags = session.flags;
        if let Some(folder) = &flags.env {
            let (env, mistakes) = Env::read(folder, dialect)
                .map_err(|error| Error::Plain(printable(&error.to_string())))?;
            warn_of_fingerprints(session, &folder.join("pf.os").to_string_lossy(), &mistakes);
            return Ok(Self::Env(env));
        }
        let facts =
            if flags.no_action { facts_without_daemon(session)? } else { session.facts()? };
        let sources = SystemSources::new(flags.names != Names::Never, dialect);
        warn_of_fingerprints(session, FINGERPRINTS, &sources.fingerprint_mistakes);
        Ok(Self::System(facts, sources))
    }

    const fn facts(&self) -> &Facts {
        match self {
            Self::Env(env) => env.facts(),
            Self::System(facts, _) => facts,
        }
    }

    fn sources(&self) -> &dyn Sources {
        match self {
            Self::Env(env) => env,
            Self::System(_, sources) => sources,
        }
    }
}

/// Lines of the fingerprint database that do not count, in the form of pfctl(8).
fn warn_of_fingerprints(
    session: &mut Session<'_, '_>,
    file: &str,
    mistakes: &[FingerprintMistake],
) {
    for mistake in mistakes {
        session.console.note(format_args!("{}:{} {mistake}", printable(file), mistake.line));
    }
}

/// Prints the file as it was understood; with `-vv` the rules are numbered.
fn print_listing(session: &mut Session<'_, '_>, compiled: &Compiled) -> Result<(), Error> {
    session.console.out.write_all(compiled.listing.as_str().as_bytes())?;
    Ok(())
}

/// The last line of a failed load; with `-n` the messages before it are enough.
fn not_loaded(session: &mut Session<'_, '_>) -> Exit {
    if !session.flags.no_action {
        session.console.warn("Syntax error in config file: pf rules not loaded");
    }
    Exit::Failure
}

fn read(session: &mut Session<'_, '_>, file: &str) -> std::io::Result<String> {
    if file != "-" {
        return read_lossy(Path::new(file));
    }
    let mut octets = Vec::new();
    session.console.input.read_to_end(&mut octets)?;
    Ok(lossy(octets))
}

fn style(session: &Session<'_, '_>) -> Style {
    let usual = Style::usual(session.console);
    Style { form: session.flags.errors.unwrap_or(usual.form), ..usual }
}

/// Interfaces for `-n`: of the daemon, of a configuration file, of this machine.
fn facts_without_daemon(session: &mut Session<'_, '_>) -> Result<Facts, Error> {
    if session.is_connected()
        && let Ok(facts) = session.facts()
    {
        return Ok(facts);
    }
    if let Some(config) = &session.flags.config {
        return facts::from_config(config)
            .map_err(|error| Error::Plain(format!("{}: {error}", config.display())));
    }
    match facts::from_config(Path::new(DEFAULT_CONFIG)) {
        Ok(facts) => return Ok(facts),
        // A machine without the daemon, or a user who may not read its configuration.
        Err(facts::ConfigError::Read(_)) => {}
        Err(error) => session.console.warn(format_args!("{DEFAULT_CONFIG}: {error}")),
    }
    machine::facts()
        .map_err(|error| Error::Plain(format!("interfaces of this machine: {}", os_text(&error))))
}
