//! Parser of the classic face: the command line of OpenBSD pfctl(8).
//!
//! Source: OpenBSD sbin/pfctl/pfctl.c `main`, pfctl(8).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use pfapi::control::DEFAULT_SOCKET;
use pfapi::dialect::Dialect;
use pfconf::{Code, Level, Part, Parts};

use super::defs::{Letters, Support, WORDS, classic_command, flags_of};
use super::words::{Clear, Show, TableCommand, WordError, optimization};

/// What one call asks for. The order of the actions is fixed: see `crate::session`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one per flag of pfctl(8)")]
pub struct Classic {
    /// `-d`
    pub disable: bool,
    /// `-e`
    pub enable: bool,
    /// `-n`
    pub no_action: bool,
    /// `-P`
    pub port_names: bool,
    /// `-q`
    pub quiet: bool,
    /// `-z`
    pub clear_rule_counters: bool,
    /// How often `-v` was given.
    pub verbosity: u8,
    /// `-N` or `-r`.
    pub names: Names,
    /// `-s`
    pub show: Option<Show>,
    /// `-F`
    pub clear: Option<Clear>,
    /// `-k`, at most two.
    pub kill: Vec<String>,
    /// `-K`: one or two hosts.
    pub kill_sources: Vec<String>,
    /// `-t` and `-T`.
    pub table: Option<(String, TableCommand)>,
    /// Addresses for the table command.
    pub words: Vec<String>,
    /// `-f`: a file with rules, or with addresses for the table command.
    pub file: Option<String>,
    /// `-a`; only with `-n`.
    pub anchor: Option<String>,
    /// `-D` as written; checked where macros are used.
    pub defines: Vec<String>,
    /// `-i`
    pub interface: Option<String>,
    /// `-o`
    pub optimize: Option<Level>,
    /// `-A`, `-O`, `-T load`, and FreeBSD's `-N` and `-R`: what of the file is loaded.
    pub parts: Parts,
    /// `-m`: settings that the file does not name stay as they are.
    pub merge: bool,
    /// `-R`
    pub rule: Option<u32>,
    /// `-p`
    pub socket: PathBuf,
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--errors`
    pub errors: Option<ErrorForm>,
    /// `--env`; only with `-n`.
    pub env: Option<PathBuf>,
    /// `--format`; other than text only with `-n` and `-f`.
    pub format: OutputForm,
    /// `--strict`
    pub strict: bool,
    /// `--dialect`; `None` is `auto`.
    pub dialect: Option<Dialect>,
}

/// What a check writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputForm {
    /// Messages to standard error, the listing of `-v` to standard output.
    #[default]
    Text,
    /// One JSON object to standard output.
    Json,
    /// A SARIF 2.1.0 log to standard output.
    Sarif,
    /// Workflow commands of GitHub to standard output.
    GitHub,
    /// Messages to standard error, the checked ruleset as JSON to standard output.
    Ruleset,
}

/// Whether names are looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Of hosts in rules and arguments.
    #[default]
    Forward,
    /// `-N`: never.
    Never,
    /// `-r`: also of addresses that are shown.
    Reverse,
}

/// How messages about the rules look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorForm {
    /// One line each, as pfctl(8) has them.
    Classic,
    /// With the line at fault and a way out.
    Pretty,
}

/// What a command line of the classic face asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// The usual actions.
    Classic(Box<Classic>),
    /// `--compile`
    Compile {
        /// Name of the ruleset in messages.
        name: String,
        /// Interfaces as JSON.
        facts: String,
    },
    /// `--explain`
    Explain(Code),
    /// `--help`
    Help,
    /// `--version`
    Version,
}

/// Why a command line was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// `-h`, or flags that do not go together: only the usage text is shown.
    #[error("usage")]
    Usage,
    /// A message, then the usage text.
    #[error("{0}")]
    Explained(String),
    /// A message alone.
    #[error("{0}")]
    Plain(String),
}

impl From<WordError> for FlagError {
    fn from(error: WordError) -> Self {
        match error {
            WordError::Unknown { .. } => Self::Explained(error.to_string()),
            WordError::Ambiguous(_) | WordError::Refused { .. } => Self::Plain(error.to_string()),
        }
    }
}

/// Parses the arguments behind the program's name.
///
/// # Errors
/// Everything that pfctl(8) refuses, and its flags that this version does not do.
pub fn parse(args: &[OsString]) -> Result<Call, FlagError> {
    let name = OsString::from("pfctl");
    let letters = Letters::of(args);
    let matches = classic_command(letters)
        .try_get_matches_from(std::iter::once(&name).chain(args))
        .map_err(|error| explain(&error))?;
    let count = |id: &str| matches.get_count(id);
    if count("h") > 0 {
        return Err(FlagError::Usage);
    }
    if count("help") > 0 {
        return Ok(Call::Help);
    }
    if count("version") > 0 {
        return Ok(Call::Version);
    }
    if let Some(code) = text(&matches, "explain") {
        let code = code.parse::<Code>().map_err(|error| FlagError::Plain(error.to_string()))?;
        return Ok(Call::Explain(code));
    }
    refuse_missing(&matches, letters)?;
    if let Some(name) = text(&matches, "compile") {
        let facts = text(&matches, "facts")
            .ok_or_else(|| FlagError::Explained("--compile needs --facts".to_owned()))?;
        return Ok(Call::Compile { name, facts });
    }
    classic(&matches, letters).map(|classic| Call::Classic(Box::new(classic)))
}

fn text(matches: &ArgMatches, id: &str) -> Option<String> {
    matches.get_one::<String>(id).cloned()
}

fn texts(matches: &ArgMatches, id: &str) -> Vec<String> {
    matches.get_many::<String>(id).into_iter().flatten().cloned().collect()
}

impl Classic {
    /// The anchor of `-a` without slashes around it; empty for the main ruleset.
    #[must_use]
    pub fn anchor_path(&self) -> &str {
        self.anchor.as_deref().unwrap_or_default().trim_matches('/')
    }

    /// The anchor of `-a 'x/*'`, which means those below it, too; empty for the main ruleset.
    pub fn anchor_and_below(&self) -> Option<&str> {
        Some(self.anchor_path().strip_suffix('*')?.trim_end_matches('/'))
    }
}

fn refuse_missing(matches: &ArgMatches, letters: Letters) -> Result<(), FlagError> {
    for flag in flags_of(letters) {
        let Support::Refused(missing) = flag.support else { continue };
        let given = match flag.value {
            Some(_) => matches.contains_id(&flag.id()),
            None => matches.get_count(&flag.id()) > 0,
        };
        if given {
            return Err(FlagError::Plain(format!("{}: not supported, {missing}", flag.spelled())));
        }
    }
    Ok(())
}

fn classic(matches: &ArgMatches, letters: Letters) -> Result<Classic, FlagError> {
    let given = |id: &str| matches.get_count(id) > 0;
    let kill = texts(matches, "k");
    if kill.len() > 2 {
        return Err(FlagError::Explained("can only specify -k twice".to_owned()));
    }
    let kill_sources = texts(matches, "K");
    if kill_sources.len() > 2 {
        return Err(FlagError::Explained("can only specify -K twice".to_owned()));
    }
    let command = text(matches, "T").map(|word| TableCommand::parse(&word)).transpose()?;
    let loads_tables = command == Some(None);
    let name = text(matches, "t").filter(|_| !loads_tables);
    let table = table(name, command.flatten())?;
    let freebsd = letters == Letters::FreeBsd;
    let selected = [
        (Part::Queues, given("A")),
        (Part::Options, given("O")),
        (Part::Tables, loads_tables),
        (Part::Translation, freebsd && given("N")),
        (Part::Filter, freebsd && given("R")),
    ];
    let parts =
        selected.into_iter().filter(|&(_, given)| given).map(|(part, _)| part).collect::<Parts>();
    let classic = Classic {
        disable: given("d"),
        enable: given("e"),
        no_action: given("n"),
        port_names: given("P"),
        quiet: given("q"),
        clear_rule_counters: given("z"),
        verbosity: matches.get_count("v"),
        names: match letters {
            Letters::OpenBsd => names(given("N"), given("r"))?,
            Letters::FreeBsd => names(given("S"), given("r"))?,
        },
        show: text(matches, "s").map(|word| Show::parse(&word)).transpose()?,
        clear: text(matches, "F")
            .map(|word| match letters {
                Letters::OpenBsd => Clear::parse(&word),
                Letters::FreeBsd => Clear::parse_freebsd(&word),
            })
            .transpose()?,
        kill,
        kill_sources,
        table,
        words: texts(matches, WORDS),
        file: text(matches, "f"),
        anchor: text(matches, "a"),
        defines: texts(matches, "D"),
        interface: text(matches, "i"),
        optimize: text(matches, "o").map(|level| optimization(&level)).transpose()?,
        rule: match letters {
            Letters::OpenBsd => text(matches, "R").map(|id| rule_number(&id)).transpose()?,
            Letters::FreeBsd => None,
        },
        parts: if parts == Parts::from_iter([]) { Parts::ALL } else { parts },
        merge: given("m"),
        socket: text(matches, "p").map_or_else(|| PathBuf::from(DEFAULT_SOCKET), PathBuf::from),
        config: text(matches, "config").map(PathBuf::from),
        errors: text(matches, "errors").map(|form| error_form(&form)).transpose()?,
        env: text(matches, "env").map(PathBuf::from),
        format: text(matches, "format").map_or(Ok(OutputForm::Text), |form| output_form(&form))?,
        strict: given("strict"),
        dialect: text(matches, "dialect").map_or(Ok(None), |name| dialect(&name))?,
    };
    check_dry_run(&classic)?;
    match (&classic.table, classic.words.first()) {
        (None, Some(word)) => {
            Err(FlagError::Explained(format!("unknown command line argument: {word} ...")))
        }
        (Some((_, TableCommand::Show | TableCommand::Flush | TableCommand::Kill)), word)
            if word.is_some() || classic.file.is_some() =>
        {
            Err(FlagError::Usage)
        }
        _ if classic.clear == Some(Clear::All) && classic.interface.is_some() => {
            Err(FlagError::Explained("don't specify an interface with -Fall".to_owned()))
        }
        _ => Ok(classic),
    }
}

/// Flags that only a check understands.
fn check_dry_run(classic: &Classic) -> Result<(), FlagError> {
    let plain = |text: &str| Err(FlagError::Plain(text.to_owned()));
    if let Some(anchor) = &classic.anchor {
        if anchor.is_empty() {
            return plain("anchor name must not be empty");
        }
        let reserved = anchor.starts_with('_') || anchor.contains("/_");
        let loads = classic.file.is_some() && classic.table.is_none();
        if reserved && (loads || classic.clear.is_some()) {
            return plain(
                "anchor names beginning with '_' cannot be modified from the command line",
            );
        }
        if anchor.ends_with('*') && (classic.file.is_some() || classic.table.is_some()) {
            return plain(
                "anchor names ending in '*' are for showing and flushing rules and tables",
            );
        }
    }
    if classic.env.is_some() && !classic.no_action {
        return plain("--env needs -n: rules for another machine are not loaded");
    }
    if classic.format != OutputForm::Text
        && (!classic.no_action || classic.file.is_none() || classic.table.is_some())
    {
        return plain("--format is for checks of rules: it needs -n and -f");
    }
    Ok(())
}

fn dialect(name: &str) -> Result<Option<Dialect>, FlagError> {
    match (name, Dialect::from_word(name)) {
        ("auto", _) => Ok(None),
        (_, Some(dialect)) => Ok(Some(dialect)),
        _ => {
            let text = format!("Unknown dialect '{name}': it is auto, openbsd, freebsd or macos");
            Err(FlagError::Explained(text))
        }
    }
}

fn output_form(word: &str) -> Result<OutputForm, FlagError> {
    match word {
        "text" => Ok(OutputForm::Text),
        "json" => Ok(OutputForm::Json),
        "sarif" => Ok(OutputForm::Sarif),
        "github" => Ok(OutputForm::GitHub),
        "ruleset" => Ok(OutputForm::Ruleset),
        _ => {
            let text =
                format!("Unknown output form '{word}': it is text, json, sarif, github or ruleset");
            Err(FlagError::Explained(text))
        }
    }
}

fn names(never: bool, reverse: bool) -> Result<Names, FlagError> {
    match (never, reverse) {
        (true, true) => Err(FlagError::Plain("-N and -r are mutually exclusive".to_owned())),
        (true, false) => Ok(Names::Never),
        (false, true) => Ok(Names::Reverse),
        (false, false) => Ok(Names::Forward),
    }
}

fn table(
    name: Option<String>,
    command: Option<TableCommand>,
) -> Result<Option<(String, TableCommand)>, FlagError> {
    match (name, command) {
        (None, None) => Ok(None),
        (Some(name), Some(command)) => Ok(Some((name, command))),
        _ => Err(FlagError::Usage),
    }
}

fn rule_number(id: &str) -> Result<u32, FlagError> {
    id.parse().map_err(|_| {
        let hint = if id.starts_with('-') { " (for FreeBSD's -R: --dialect freebsd)" } else { "" };
        FlagError::Explained(format!("Invalid rule number '{id}'{hint}"))
    })
}

fn error_form(word: &str) -> Result<ErrorForm, FlagError> {
    match word {
        "classic" => Ok(ErrorForm::Classic),
        "pretty" => Ok(ErrorForm::Pretty),
        _ => {
            let text = format!("Unknown error form '{word}': it is classic or pretty");
            Err(FlagError::Explained(text))
        }
    }
}

/// The words of getopt(3) for what clap found.
fn explain(error: &clap::Error) -> FlagError {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let name = argument.split([' ', '=']).next().unwrap_or_default();
    let letters = name.strip_prefix("--").or_else(|| name.strip_prefix('-')).unwrap_or(name);
    FlagError::Explained(match error.kind() {
        ErrorKind::UnknownArgument => format!("unknown option -- {letters}"),
        ErrorKind::InvalidValue | ErrorKind::WrongNumberOfValues | ErrorKind::TooFewValues => {
            format!("option requires an argument -- {letters}")
        }
        ErrorKind::InvalidUtf8 => "arguments must be UTF-8".to_owned(),
        _ => error.render().to_string().lines().next().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Result<Call, FlagError> {
        parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    fn classic(line: &str) -> Classic {
        match call(line) {
            Ok(Call::Classic(classic)) => *classic,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn letters_may_stand_together() {
        let flags = classic("-vvsT -qeP");
        assert_eq!((flags.verbosity, flags.show), (2, Some(Show::Tables)));
        assert!(flags.quiet && flags.enable && flags.port_names && !flags.disable);
        let flags = classic("-nf- -Da=b -D c=d -f /etc/pf.conf");
        assert!(flags.no_action);
        assert_eq!(flags.file.as_deref(), Some("/etc/pf.conf"));
        assert_eq!(flags.defines, ["a=b", "c=d"]);
        assert_eq!(classic("-Fa").clear, Some(Clear::All));
        assert_eq!(classic("-o none -op -e").optimize, Some(Level::Profile));
        assert_eq!(classic("-f -").file.as_deref(), Some("-"));
    }

    #[test]
    fn table_commands_take_addresses() {
        let flags = classic("-t bad -T add 192.0.2.1 !198.51.100.0/24 -");
        assert_eq!(flags.table, Some(("bad".to_owned(), TableCommand::Add)));
        assert_eq!(flags.words, ["192.0.2.1", "!198.51.100.0/24", "-"]);
        let loads = classic("-t ignored -T load -f x");
        assert_eq!((loads.table, loads.parts), (None, Parts::from_iter([Part::Tables])));
        for line in ["-t bad", "-T show", "-t bad -T show 192.0.2.1", "-h"] {
            assert_eq!(call(line), Err(FlagError::Usage), "{line}");
        }
    }

    #[test]
    fn letters_of_freebsd_come_with_its_dialect() {
        let flags = classic("-NR 3 -f x");
        assert_eq!((flags.names, flags.rule, flags.parts), (Names::Never, Some(3), Parts::ALL));
        for line in ["--dialect freebsd -NRSf x", "-NRf x -S --dialect=macos"] {
            let flags = classic(line);
            assert_eq!((flags.names, flags.rule), (Names::Never, None), "{line}");
            assert_eq!(flags.parts, Parts::from_iter([Part::Translation, Part::Filter]), "{line}");
        }
        let flags = classic("-mAOf x");
        assert!(flags.merge);
        assert_eq!(flags.parts, Parts::from_iter([Part::Queues, Part::Options]));
        let text = "Invalid rule number '-f' (for FreeBSD's -R: --dialect freebsd)";
        assert_eq!(call("-R -f x"), Err(FlagError::Explained(text.to_owned())));
    }

    #[test]
    fn wrong_lines_have_the_texts_of_pfctl() {
        for (line, text) in [
            ("-y", "unknown option -- y"),
            ("-vy", "unknown option -- y"),
            ("--nope", "unknown option -- nope"),
            ("-f", "option requires an argument -- f"),
            ("-vk", "option requires an argument -- k"),
            ("-k a -k b -k c", "can only specify -k twice"),
            ("-s nope", "Unknown show modifier 'nope'"),
            ("-F nope", "Unknown flush modifier 'nope'"),
            ("-e word", "unknown command line argument: word ..."),
            ("-F all -i tun0", "don't specify an interface with -Fall"),
            ("--errors loud -e", "Unknown error form 'loud': it is classic or pretty"),
            (
                "--format xml -n",
                "Unknown output form 'xml': it is text, json, sarif, github or ruleset",
            ),
            (
                "--dialect plan9 -n",
                "Unknown dialect 'plan9': it is auto, openbsd, freebsd or macos",
            ),
        ] {
            assert_eq!(call(line), Err(FlagError::Explained(text.to_owned())), "{line}");
        }
        for (line, text) in [
            ("-N -r -s states", "-N and -r are mutually exclusive"),
            (
                "-a x/_1 -F rules",
                "anchor names beginning with '_' cannot be modified from the command line",
            ),
            (
                "-a a/* -f x",
                "anchor names ending in '*' are for showing and flushing rules and tables",
            ),
            ("-n -a= -f x", "anchor name must not be empty"),
            ("--env x -f y", "--env needs -n: rules for another machine are not loaded"),
            (
                "-n --format json -t a -T show",
                "--format is for checks of rules: it needs -n and -f",
            ),
            (
                "-gsr",
                "-g: not supported, rules are found by an index, there are no skip steps to show",
            ),
        ] {
            assert_eq!(call(line), Err(FlagError::Plain(text.to_owned())), "{line}");
        }
    }

    #[test]
    fn every_refused_flag_is_refused_by_name() {
        for flag in flags_of(Letters::OpenBsd) {
            let Support::Refused(missing) = flag.support else { continue };
            let line =
                format!("{} {}", flag.spelled(), if flag.value.is_some() { "1" } else { "" });
            let text = format!("{}: not supported, {missing}", flag.spelled());
            assert_eq!(call(&line), Err(FlagError::Plain(text)));
        }
    }

    #[test]
    fn own_flags() {
        assert_eq!(call("--help"), Ok(Call::Help));
        assert_eq!(call("--version"), Ok(Call::Version));
        assert_eq!(
            call("--compile pf.conf --facts {}"),
            Ok(Call::Compile { name: "pf.conf".to_owned(), facts: "{}".to_owned() })
        );
        let flags = classic("-nf x --config=pfd.toml --errors pretty -p /tmp/s");
        assert_eq!(flags.config, Some(PathBuf::from("pfd.toml")));
        assert_eq!(flags.errors, Some(ErrorForm::Pretty));
        assert_eq!(flags.socket, PathBuf::from("/tmp/s"));
        let flags = classic("-na regress/x -f y --env here --format=json --strict --dialect auto");
        assert_eq!(flags.anchor.as_deref(), Some("regress/x"));
        assert_eq!(flags.env, Some(PathBuf::from("here")));
        assert_eq!((flags.format, flags.strict), (OutputForm::Json, true));
        assert_eq!(flags.dialect, None);
        assert_eq!(classic("--dialect freebsd -nf x").dialect, Some(Dialect::FreeBsd));
        assert_eq!(classic("--dialect=openbsd -nf x").dialect, Some(Dialect::OpenBsd));
        assert_eq!(classic("-e").socket, PathBuf::from(DEFAULT_SOCKET));
    }
}
