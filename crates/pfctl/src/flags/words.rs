//! Words behind -s, -F, -T and -o, which may be cut to any prefix that only one of them has.
//!
//! Source: OpenBSD sbin/pfctl/pfctl.c `pfctl_lookup_option`, with its spelling of "ambigious".

use pfapi::load::Part;
use pfconf::Level;

/// Why a word was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// More than one word starts like this.
    #[error("{0} is ambigious")]
    Ambiguous(String),
    /// No word starts like this; pfctl shows its usage after it.
    #[error("Unknown {kind} '{word}'")]
    Unknown {
        /// What the word should have been.
        kind: &'static str,
        /// The word.
        word: String,
    },
    /// pfctl(8) has it, this version does not.
    #[error("{flag} {word}: not supported, {missing}")]
    Refused {
        /// The flag in front of the word.
        flag: &'static str,
        /// The whole word.
        word: &'static str,
        /// What is missing.
        missing: &'static str,
    },
}

/// A word that a flag takes, or that pfctl(8) takes and this version refuses.
type Entry<T> = (&'static str, Result<T, &'static str>);

fn look_up<T: Copy>(
    flag: &'static str,
    kind: &'static str,
    list: &[Entry<T>],
    word: &str,
) -> Result<T, WordError> {
    let mut found = list.iter().filter(|(name, _)| name.starts_with(word));
    let Some((name, meaning)) = found.next() else {
        return Err(WordError::Unknown { kind, word: word.to_owned() });
    };
    if found.next().is_some() {
        return Err(WordError::Ambiguous(word.to_owned()));
    }
    meaning.map_err(|missing| WordError::Refused { flag, word: name, missing })
}

/// What `-s` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Rules of FreeBSD that translate.
    Nat,
    /// The rules in force.
    Rules,
    /// Queues.
    Queues,
    /// Paths of anchors.
    Anchors,
    /// Source nodes.
    Sources,
    /// The state table.
    States,
    /// Status and counters.
    Info,
    /// Interfaces with their counters.
    Interfaces,
    /// Counters of rules that have a label.
    Labels,
    /// Timeouts in force.
    Timeouts,
    /// Hard limits in force.
    Memory,
    /// Tables without their contents.
    Tables,
    /// Systems whose fingerprints are known.
    Fingerprints,
    /// All of these.
    All,
}

impl Show {
    /// The argument of `-s`.
    ///
    /// # Errors
    /// Unknown, ambiguous or refused words.
    pub fn parse(word: &str) -> Result<Self, WordError> {
        const LIST: &[Entry<Show>] = &[
            ("nat", Ok(Show::Nat)),
            ("queue", Ok(Show::Queues)),
            ("rules", Ok(Show::Rules)),
            ("Anchors", Ok(Show::Anchors)),
            ("Sources", Ok(Show::Sources)),
            ("states", Ok(Show::States)),
            ("info", Ok(Show::Info)),
            ("Interfaces", Ok(Show::Interfaces)),
            ("labels", Ok(Show::Labels)),
            ("timeouts", Ok(Show::Timeouts)),
            ("memory", Ok(Show::Memory)),
            ("Tables", Ok(Show::Tables)),
            ("osfp", Ok(Show::Fingerprints)),
            ("all", Ok(Show::All)),
        ];
        look_up("-s", "show modifier", LIST, word)
    }
}

/// What `-F` flushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clear {
    /// All rules.
    Rules,
    /// All source nodes.
    Sources,
    /// All states.
    States,
    /// Counters of `-s info`.
    Info,
    /// All tables.
    Tables,
    /// The fingerprint database.
    Fingerprints,
    /// Options back to their defaults.
    Reset,
    /// All of these.
    All,
    /// FreeBSD's lists, each of its own.
    Part(Part),
}

impl Clear {
    /// The argument of FreeBSD's `-F`, where rules that translate and queues are other lists than
    /// `rules`.
    ///
    /// # Errors
    /// Unknown, ambiguous or refused words.
    pub fn parse_freebsd(word: &str) -> Result<Self, WordError> {
        const LIST: &[Entry<Part>] = &[
            ("nat", Ok(Part::Translation)),
            ("queue", Ok(Part::Queues)),
            ("rules", Ok(Part::Filter)),
        ];
        let part = look_up("-F", "flush modifier", LIST, word).map(Self::Part);
        if word.is_empty() { Self::parse(word) } else { part.or_else(|_| Self::parse(word)) }
    }

    /// The argument of `-F`.
    ///
    /// # Errors
    /// Unknown, ambiguous or refused words.
    pub fn parse(word: &str) -> Result<Self, WordError> {
        const LIST: &[Entry<Clear>] = &[
            ("rules", Ok(Clear::Rules)),
            ("Sources", Ok(Clear::Sources)),
            ("states", Ok(Clear::States)),
            ("info", Ok(Clear::Info)),
            ("Tables", Ok(Clear::Tables)),
            ("osfp", Ok(Clear::Fingerprints)),
            ("Reset", Ok(Clear::Reset)),
            ("all", Ok(Clear::All)),
        ];
        look_up("-F", "flush modifier", LIST, word)
    }
}

/// What `-T` does with the table of `-t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableCommand {
    /// Removes all addresses.
    Flush,
    /// Adds addresses.
    Add,
    /// Removes addresses.
    Delete,
    /// Makes the contents equal to the addresses.
    Replace,
    /// Lists the contents.
    Show,
    /// Looks addresses up.
    Test,
    /// Deletes the table.
    Kill,
    /// Zeroes counters.
    Zero,
    /// Removes addresses by their age.
    Expire,
}

impl TableCommand {
    /// The argument of `-T`; `None` for FreeBSD's `load`, which is about a file of rules.
    ///
    /// # Errors
    /// Unknown, ambiguous or refused words.
    pub fn parse(word: &str) -> Result<Option<Self>, WordError> {
        const LIST: &[Entry<Option<TableCommand>>] = &[
            ("kill", Ok(Some(TableCommand::Kill))),
            ("flush", Ok(Some(TableCommand::Flush))),
            ("add", Ok(Some(TableCommand::Add))),
            ("delete", Ok(Some(TableCommand::Delete))),
            ("replace", Ok(Some(TableCommand::Replace))),
            ("show", Ok(Some(TableCommand::Show))),
            ("test", Ok(Some(TableCommand::Test))),
            ("load", Ok(None)),
            ("zero", Ok(Some(TableCommand::Zero))),
            ("expire", Ok(Some(TableCommand::Expire))),
        ];
        look_up("-T", "table command", LIST, word)
    }
}

/// The argument of `-o`.
///
/// # Errors
/// Unknown or ambiguous words.
pub fn optimization(word: &str) -> Result<Level, WordError> {
    const LIST: &[Entry<Level>] =
        &[("none", Ok(Level::None)), ("basic", Ok(Level::Basic)), ("profile", Ok(Level::Profile))];
    look_up("-o", "optimization", LIST, word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_unambiguous_prefix_is_enough() {
        for (word, show) in [
            ("r", Show::Rules),
            ("st", Show::States),
            ("s", Show::States),
            ("info", Show::Info),
            ("l", Show::Labels),
            ("t", Show::Timeouts),
            ("m", Show::Memory),
            ("T", Show::Tables),
            ("Tab", Show::Tables),
            ("a", Show::All),
        ] {
            assert_eq!(Show::parse(word), Ok(show), "{word}");
        }
        assert_eq!(Clear::parse("R"), Ok(Clear::Reset));
        assert_eq!(Clear::parse("r"), Ok(Clear::Rules));
        assert_eq!(Clear::parse_freebsd("r"), Ok(Clear::Part(Part::Filter)));
        assert_eq!(Clear::parse_freebsd("n"), Ok(Clear::Part(Part::Translation)));
        assert_eq!(Clear::parse_freebsd("queue"), Ok(Clear::Part(Part::Queues)));
        assert_eq!(Clear::parse_freebsd("a"), Ok(Clear::All));
        assert_eq!(TableCommand::parse("te"), Ok(Some(TableCommand::Test)));
        assert_eq!(optimization("b"), Ok(Level::Basic));
    }

    #[test]
    fn refusals_have_the_texts_of_pfctl() {
        let text = |word| Show::parse(word).unwrap_err().to_string();
        assert_eq!(text(""), " is ambigious");
        assert_eq!(text("statesx"), "Unknown show modifier 'statesx'");
        assert_eq!(text("RULES"), "Unknown show modifier 'RULES'");
        assert_eq!(Show::parse("So"), Ok(Show::Sources));
        assert_eq!(Show::parse("A"), Ok(Show::Anchors));
        assert_eq!(Clear::parse("nat").unwrap_err().to_string(), "Unknown flush modifier 'nat'");
        assert_eq!(Clear::parse_freebsd("").unwrap_err().to_string(), " is ambigious");
        assert_eq!(TableCommand::parse("x").unwrap_err().to_string(), "Unknown table command 'x'");
        assert_eq!(optimization("x").unwrap_err().to_string(), "Unknown optimization 'x'");
    }
}
