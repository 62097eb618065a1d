//! The one table of flags: parser, usage text, `--help` and the test of `man/pfctl.8` read it.
//!
//! Letters and meanings are those of OpenBSD pfctl(8); long flags without a letter are our own.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};
use pfconf::Dialect;

/// A flag of the classic face.
#[derive(Clone, Copy)]
pub struct Flag {
    /// Letter behind one dash.
    pub short: Option<char>,
    /// Word behind two dashes.
    pub long: Option<&'static str>,
    /// Name of the argument, when the flag takes one.
    pub value: Option<&'static str>,
    /// How often the flag counts.
    pub repeat: Repeat,
    /// Whether this version does it.
    pub support: Support,
    /// One sentence for `--help`, without a full stop.
    pub summary: &'static str,
}

/// What a second occurrence of a flag means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The last one wins.
    Last,
    /// Every one counts.
    All,
}

/// Whether this version does what the flag asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It does.
    Done,
    /// It is for the daemon and the tests; not shown.
    Hidden,
    /// pfctl(8) has it, this version refuses it and says what is missing.
    Refused(&'static str),
}

impl Flag {
    /// Key under which the parser keeps the flag.
    #[must_use]
    pub fn id(&self) -> String {
        self.long.map_or_else(|| self.short.map(String::from).unwrap_or_default(), str::to_owned)
    }

    /// As a user types it: `-f` or `--config`.
    #[must_use]
    pub fn spelled(&self) -> String {
        match (self.short, self.long) {
            (Some(short), _) => format!("-{short}"),
            (None, Some(long)) => format!("--{long}"),
            (None, None) => String::new(),
        }
    }

    fn to_arg(self) -> Arg {
        let mut arg = Arg::new(self.id()).help(self.summary);
        if let Some(short) = self.short {
            arg = arg.short(short);
        }
        if let Some(long) = self.long {
            arg = arg.long(long);
        }
        arg = match (self.value, self.repeat) {
            // As getopt does: whatever follows is the argument, even when it looks like a flag.
            (Some(value), Repeat::Last) => {
                let id = self.id();
                arg.action(ArgAction::Set).overrides_with(id).value_name(value).num_args(1)
            }
            (Some(value), Repeat::All) => {
                arg.action(ArgAction::Append).value_name(value).num_args(1)
            }
            (None, _) => arg.action(ArgAction::Count),
        };
        arg.allow_hyphen_values(self.value.is_some()).hide(self.support != Support::Done)
    }
}

/// Key of the addresses behind `-T command`.
pub const WORDS: &str = "address";

/// Whose letters the flags are.
///
/// OpenBSD and FreeBSD have given `-N`, `-R` and `-S` different meanings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letters {
    /// OpenBSD's: `-N` looks up no names, `-R` shows one rule, `-S` stores states.
    OpenBsd,
    /// FreeBSD's, with `--dialect freebsd` or `macos`: `-N` loads what translates, `-R` what
    /// filters, `-S` looks up no names.
    FreeBsd,
}

impl Letters {
    /// What the arguments behind the program's name ask for.
    #[must_use]
    pub fn of(args: &[OsString]) -> Self {
        let words = || args.iter().filter_map(|arg| arg.to_str());
        let pairs = words().zip(words().skip(1));
        let apart = pairs.filter(|&(flag, _)| flag == "--dialect").map(|(_, name)| name);
        let joined = words().filter_map(|word| word.strip_prefix("--dialect="));
        let last = apart.chain(joined).filter_map(Dialect::from_word).last();
        if last.is_some_and(Dialect::is_freebsd) { Self::FreeBsd } else { Self::OpenBsd }
    }
}

/// What letters mean on FreeBSD, where that is something else.
pub const FREEBSD_FLAGS: &[Flag] = &[
    switch('N', "Load only the rules that translate"),
    switch('R', "Load only the rules that filter"),
    switch('S', "Do not look up host names"),
];

/// Every flag by the letters of one system.
pub fn flags_of(letters: Letters) -> impl Iterator<Item = Flag> {
    FLAGS.iter().map(move |flag| {
        let other = FREEBSD_FLAGS.iter().find(|other| other.short == flag.short);
        *other.filter(|_| letters == Letters::FreeBsd && flag.short.is_some()).unwrap_or(flag)
    })
}

/// The parser of the classic face.
#[must_use]
pub fn classic_command(letters: Letters) -> Command {
    Command::new("pfctl")
        .about("Administers the packet filter")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args(flags_of(letters).map(Flag::to_arg))
        .arg(Arg::new(WORDS).num_args(0..).help("Addresses for -T"))
}

const fn switch(short: char, summary: &'static str) -> Flag {
    Flag {
        short: Some(short),
        long: None,
        value: None,
        repeat: Repeat::Last,
        support: Support::Done,
        summary,
    }
}

const fn option(short: char, value: &'static str, summary: &'static str) -> Flag {
    Flag { value: Some(value), ..switch(short, summary) }
}

const fn long(long: &'static str, value: Option<&'static str>, summary: &'static str) -> Flag {
    Flag {
        short: None,
        long: Some(long),
        value,
        repeat: Repeat::Last,
        support: Support::Done,
        summary,
    }
}

const fn refused(short: char, value: Option<&'static str>, missing: &'static str) -> Flag {
    Flag { value, support: Support::Refused(missing), ..switch(short, missing) }
}

const fn repeated(flag: Flag) -> Flag {
    Flag { repeat: Repeat::All, ..flag }
}

const fn hidden(flag: Flag) -> Flag {
    Flag { support: Support::Hidden, ..flag }
}

/// Every flag, in the order of usage text and manual.
pub const FLAGS: &[Flag] = &[
    switch('A', "Load only the queues of the file"),
    option('a', "anchor", "Load, show or flush the rules and tables of this anchor"),
    repeated(option('D', "macro=value", "Define a macro; it wins over the one in the file")),
    switch('d', "Disable the packet filter"),
    switch('e', "Enable the packet filter"),
    option('F', "modifier", "Flush: rules, states, Sources, info, Tables, osfp, Reset or all"),
    option('f', "file", "Load the rules of a file; - is standard input"),
    refused('g', None, "rules are found by an index, there are no skip steps to show"),
    switch('h', "Show the usage and fail"),
    option(
        'i',
        "interface",
        "Only this interface: its states, queues, counters (-F info), itself (-s Interfaces)",
    ),
    repeated(option('K', "key", "Remove source nodes by host")),
    repeated(option('k', "key", "Kill states by host, two hosts, label, id or key")),
    refused('L', Some("statefile"), "there are no state files"),
    switch('m', "Leave settings as they are that the file does not name"),
    switch('N', "Do not look up host names"),
    switch('n', "Parse the rules, change nothing"),
    switch('O', "Load only the settings of the file"),
    option('o', "level", "How rules are optimized: none, basic (the default) or profile"),
    switch('P', "Show ports in rules by name"),
    option('p', "socket", "Talk to the daemon that listens on this socket"),
    switch('q', "Print errors and warnings only"),
    option('R', "id", "Show only the rule with this number, or its states"),
    switch('r', "Look up the names of addresses when showing states and tables"),
    refused('S', Some("statefile"), "there are no state files"),
    option(
        's',
        "modifier",
        "Show: nat, queue, rules, Anchors, Sources, LimiterStates, LimiterSrcs, states, info, \
         Interfaces, labels, timeouts, memory, Tables, osfp or all",
    ),
    option(
        'T',
        "command",
        "Table command: show, add, delete, test, replace, flush, kill, zero, expire or load",
    ),
    option('t', "table", "Table for -T"),
    refused('V', Some("rdomain"), "there are no routing domains"),
    switch('v', "Show more; twice, even more"),
    refused('x', Some("level"), "the daemon has no debug levels"),
    switch('z', "Clear the counters of the rules"),
    long("config", Some("file"), "Take interfaces from this file when no daemon can be asked"),
    long("dialect", Some("name"), "Whose pf.conf the rules are: auto, openbsd, freebsd or macos"),
    long("env", Some("folder"), "With -n: the machine of this folder instead of this one"),
    long("errors", Some("form"), "Form of messages about the rules: classic or pretty"),
    long("explain", Some("code"), "Explain the messages with a code such as PF0011"),
    long(
        "format",
        Some("form"),
        "With -n: what a check writes: text, json, sarif, github or ruleset",
    ),
    long("help", None, "Show this help"),
    long("strict", None, "Refuse warnings, and words that no BSD has"),
    long("version", None, "Show the version"),
    hidden(long("compile", Some("name"), "Compile standard input for the daemon")),
    hidden(long("facts", Some("json"), "Interfaces for --compile")),
];
