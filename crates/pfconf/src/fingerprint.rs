//! Reader of the fingerprint database, pf.os(5), and the search for names in it.
//!
//! A line that is wrong is reported and left out, as pfctl does; the others count.
//! Source: OpenBSD sbin/pfctl/pfctl_osfp.c.

use std::fmt;

use pfapi::osfp::{
    FINGERPRINTS_MAX, Fingerprint, OPTIONS_MAX, OS_WORD_MAX, OsName, Quantity, TcpOption,
    WindowSize,
};

/// The class that stands for "no entry of the database".
const NO_MATCH: &str = "nomatch";
/// The name for packets that fit no entry.
const UNKNOWN: &str = "unknown";

/// A fingerprint database.
#[derive(Clone, Debug, Default)]
pub struct Fingerprints {
    entries: Vec<Fingerprint>,
    classes: Names,
    systems: usize,
}

/// What a name behind `os` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OsMatch {
    /// `unknown`: every system that fits no fingerprint.
    Unknown,
    /// Systems of this name.
    System(OsName),
    /// The database has no such name: the rule matches nothing.
    NoMatch,
}

impl fmt::Display for OsMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str(UNKNOWN),
            Self::System(name) => name.fmt(f),
            Self::NoMatch => f.write_str(NO_MATCH),
        }
    }
}

/// A line of the database that is left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct FingerprintMistake {
    /// Line number from 1.
    pub line: usize,
    /// What is wrong; pfctl shows it as `FILE:LINE text`.
    pub text: String,
}

impl Fingerprints {
    /// Reads a database; mistakes come in the order of their lines.
    ///
    /// ```
    /// use pfconf::{Fingerprints, OsMatch};
    ///
    /// let (known, mistakes) = Fingerprints::parse("5840:64:1:60:M*,S,T,N,W7:Linux:2.6::Linux 2.6\n");
    /// assert!(mistakes.is_empty());
    /// assert_ne!(known.find("Linux"), OsMatch::NoMatch);
    /// assert_eq!(known.find("Plan 9"), OsMatch::NoMatch);
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> (Self, Vec<FingerprintMistake>) {
        let mut database = Self::default();
        let mut mistakes = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let added = entry(line).and_then(|(entry, name)| database.add(entry, &name));
            if let Err(text) = added {
                mistakes.push(FingerprintMistake { line: index + 1, text });
            }
        }
        (database, mistakes)
    }

    /// The entries in the order of the file; the first that fits a packet names its system.
    #[must_use]
    pub fn entries(&self) -> &[Fingerprint] {
        &self.entries
    }

    /// What the name behind `os` in a rule means. Capital and small letters are the same.
    ///
    /// Class and version are separated by a blank, version and subtype by a blank, a dot or a
    /// dash: `Linux 2.2.14`, `FreeBSD 4.0-STABLE`.
    #[must_use]
    pub fn find(&self, name: &str) -> OsMatch {
        if name.eq_ignore_ascii_case(UNKNOWN) {
            return OsMatch::Unknown;
        }
        if let Some(class) = self.classes.get(name) {
            return system(class, None, None);
        }
        let Some((class, rest)) = name.split_once(' ') else { return OsMatch::NoMatch };
        let Some(class) = self.classes.get(class) else { return OsMatch::NoMatch };
        if let Some(version) = class.below.get(rest) {
            return system(class, Some(version), None);
        }
        for version in &class.below.0 {
            let Some(front) = rest.get(..version.name.len()) else { continue };
            if !front.eq_ignore_ascii_case(&version.name) {
                continue;
            }
            let behind = &rest[front.len()..];
            let Some(subtype) = behind.strip_prefix(['.', ' ', '\t', '-']) else { continue };
            if let Some(subtype) = version.below.get(subtype) {
                return system(class, Some(version), Some(subtype));
            }
        }
        OsMatch::NoMatch
    }

    fn add(&mut self, mut entry: Fingerprint, name: &OsName) -> Result<(), String> {
        if name.class.eq_ignore_ascii_case(NO_MATCH) {
            return Err(format!("fingerprint class \"{NO_MATCH}\" is reserved"));
        }
        // Ranges of versions could multiply without end.
        let room = FINGERPRINTS_MAX - self.systems;
        expand(name, room, &mut entry.systems)
            .map_err(|TooMany| "too many systems in this file".to_owned())?;
        for name in &mut entry.systems {
            *name = self.intern(name);
        }
        self.systems += entry.systems.len();
        self.entries.push(entry);
        Ok(())
    }

    /// Adds a name and gives it in the letters in which it was first written.
    fn intern(&mut self, name: &OsName) -> OsName {
        let class = self.classes.touch(&name.class);
        let mut known = OsName { class: class.name.clone(), version: None, subtype: None };
        if let Some(version) = &name.version {
            let version = class.below.touch(version);
            known.version = Some(version.name.clone());
            known.subtype =
                name.subtype.as_ref().map(|subtype| version.below.touch(subtype).name.clone());
        }
        known
    }
}

fn system(class: &Name, version: Option<&Name>, subtype: Option<&Name>) -> OsMatch {
    let text = |name: &Name| name.name.clone();
    OsMatch::System(OsName {
        class: class.name.clone(),
        version: version.map(text),
        subtype: subtype.map(text),
    })
}

/// Names of one level, the one that was mentioned last in front: so the search finds them.
#[derive(Clone, Debug, Default)]
struct Names(Vec<Name>);

#[derive(Clone, Debug)]
struct Name {
    name: String,
    below: Names,
}

impl Names {
    fn get(&self, name: &str) -> Option<&Name> {
        self.0.iter().find(|known| known.name.eq_ignore_ascii_case(name))
    }

    /// The entry of `name`, made if need be, moved to the front.
    fn touch(&mut self, name: &str) -> &mut Name {
        let known = self.0.iter().position(|known| known.name.eq_ignore_ascii_case(name));
        let entry = known.map_or_else(
            || Name { name: name.to_owned(), below: Self::default() },
            |position| self.0.remove(position),
        );
        self.0.insert(0, entry);
        &mut self.0[0]
    }
}

struct TooMany;

/// The name with its ranges of versions and subtypes spelled out, and last the name itself.
fn expand(name: &OsName, room: usize, found: &mut Vec<OsName>) -> Result<(), TooMany> {
    for version in name.version.as_deref().map(range).unwrap_or_default() {
        expand(&OsName { version: Some(version), ..name.clone() }, room, found)?;
    }
    for subtype in name.subtype.as_deref().map(range).unwrap_or_default() {
        expand(&OsName { subtype: Some(subtype), ..name.clone() }, room, found)?;
    }
    if found.len() == room {
        return Err(TooMany);
    }
    found.push(name.clone());
    Ok(())
}

/// Members of `#-#` or `#.#-#.#` with equal first numbers; nothing for other texts.
fn range(text: &str) -> Vec<String> {
    let Some((low, high)) = text.split_once('-') else { return Vec::new() };
    let major = |end: &str| match end.as_bytes() {
        [digit, b'.', ..] if digit.is_ascii_digit() => Some(char::from(*digit)),
        _ => None,
    };
    let minor = |end: &str, digits: usize| -> Option<u16> {
        let number = if major(end).is_some() { &end[2..] } else { end };
        let fits = (1..=digits).contains(&number.len());
        (fits && number.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| number.parse().ok())
            .flatten()
    };
    // pfctl reads two digits of the first number and three of the last.
    match (minor(low, 2), minor(high, 3)) {
        (Some(from), Some(to)) if major(low) == major(high) => (from..=to)
            .map(|number| match major(low) {
                Some(major) => format!("{major}.{number}"),
                None => number.to_string(),
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// One line without its comment: `window:ttl:df:size:options:class:version:subtype:description`.
fn entry(line: &str) -> Result<(Fingerprint, OsName), String> {
    let mut fields = line.split(':').map(str::trim);
    let mut field = || fields.next().unwrap_or_default();
    let window = window(field())?;
    let ttl = plain(field(), "ttl", 0xff)?;
    let dont_fragment = plain(field(), "don't fragment frag", 1)? == 1;
    let size = size(field())?;
    let options = text(field(), "TCP Options", 1)?;
    let class = word(field(), "OS class", 1)?;
    let version = word(field(), "OS version", 0)?;
    let subtype = word(field(), "OS subtype", 0)?;
    text(field(), "OS description", 2)?;
    let mut fingerprint = Fingerprint {
        window,
        ttl: u8::try_from(ttl).unwrap_or(u8::MAX),
        dont_fragment,
        size,
        options: Vec::new(),
        mss: Quantity::Any,
        wscale: Quantity::Any,
        timestamp_zero: false,
        systems: Vec::new(),
    };
    tcp_options(options, &mut fingerprint)?;
    if fields.next().is_some() {
        return Err("excess field".to_owned());
    }
    // `@` marks a generic entry, `*` one without detail; neither is part of the name.
    let class = class.strip_prefix(['@', '*']).unwrap_or(class);
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let version = some(version);
    let subtype = some(subtype).filter(|_| version.is_some());
    Ok((fingerprint, OsName { class: class.to_owned(), version, subtype }))
}

fn text<'a>(field: &'a str, name: &str, min: usize) -> Result<&'a str, String> {
    if field.len() < min { Err(format!("too short {name}")) } else { Ok(field) }
}

/// A part of a name, cut like pfctl's own.
fn word<'a>(field: &'a str, name: &str, min: usize) -> Result<&'a str, String> {
    let field = text(field, name, min)?;
    if field.chars().any(char::is_control) {
        return Err(format!("unprintable character in {name}"));
    }
    Ok(&field[..field.floor_char_boundary(OS_WORD_MAX)])
}

fn window(field: &str) -> Result<WindowSize, String> {
    const NAME: &str = "window size";
    let times = |digits: &str| {
        if digits.is_empty() { Ok(0) } else { digits_up_to(digits, NAME, u16::MAX) }
    };
    if let Some(digits) = field.strip_prefix('S') {
        return times(digits).map(WindowSize::TimesMss);
    }
    if let Some(digits) = field.strip_prefix('T') {
        return times(digits).map(WindowSize::TimesMtu);
    }
    quantity(field, NAME, u16::MAX).map(WindowSize::Octets)
}

fn size(field: &str) -> Result<Quantity, String> {
    const NAME: &str = "overall packet size";
    if let Some(letter) = field.chars().next().filter(|letter| matches!(letter, 'S' | 'T')) {
        return Err(format!("does not allow {letter} in {NAME}"));
    }
    quantity(field, NAME, 8192)
}

/// `N`, `%N` or `*`.
fn quantity(field: &str, name: &str, max: u16) -> Result<Quantity, String> {
    match field.strip_prefix('%') {
        Some("") => Err(format!("modulus {name} must have a value")),
        Some(digits) => digits_up_to(digits, name, max).map(Quantity::MultipleOf),
        None if field == "*" => Ok(Quantity::Any),
        None if field.starts_with('*') => Err(format!("long '*' {name}")),
        None => plain(field, name, max).map(Quantity::Is),
    }
}

fn plain(field: &str, name: &str, max: u16) -> Result<u16, String> {
    match field.chars().next() {
        None => Err(format!("empty {name}")),
        Some(letter @ ('%' | 'S' | 'T' | '*')) => Err(format!("does not allow {letter} in {name}")),
        Some(_) => digits_up_to(field, name, max),
    }
}

fn digits_up_to(digits: &str, name: &str, max: u16) -> Result<u16, String> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("non-digit character in {name}"));
    }
    match digits.parse::<u64>() {
        Ok(value) => u16::try_from(value)
            .ok()
            .filter(|value| *value <= max)
            .ok_or_else(|| format!("{name} value {value} > {max}")),
        Err(_) => Err(format!("{name} overflowed")),
    }
}

/// `M*,S,T,N,W7`, or `.` for none.
fn tcp_options(text: &str, fingerprint: &mut Fingerprint) -> Result<(), String> {
    if text == "." {
        return Ok(());
    }
    for word in text.split(',').take(OPTIONS_MAX) {
        let mut letters = word.chars();
        let letter = letters.next().map_or(' ', |letter| letter.to_ascii_uppercase());
        let value = letters.as_str();
        let option = match letter {
            'N' => TcpOption::NoOperation,
            'S' => TcpOption::SelectiveAck,
            'T' => TcpOption::Timestamp,
            'M' => TcpOption::MaximumSegmentSize,
            'W' => TcpOption::WindowScale,
            _ => return Err(format!("unknown TCP opt '{}'", letter.escape_default())),
        };
        match (option, value) {
            (TcpOption::MaximumSegmentSize, value) => {
                fingerprint.mss = option_value(value, letter)?;
            }
            (TcpOption::WindowScale, value) => fingerprint.wscale = option_value(value, letter)?,
            (TcpOption::Timestamp, "0") => fingerprint.timestamp_zero = true,
            (_, "") => {}
            _ => return Err(format!("unknown option to {letter} TCP opt")),
        }
        fingerprint.options.push(option);
    }
    Ok(())
}

fn option_value(text: &str, letter: char) -> Result<Quantity, String> {
    if text == "*" {
        return Ok(Quantity::Any);
    }
    let (digits, multiple) = match text.strip_prefix('%') {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    if let Some(odd) = digits.chars().find(|digit| !digit.is_ascii_digit()) {
        let odd = odd.escape_default();
        return Err(format!("unknown character '{odd}' in {letter} TCP opt"));
    }
    let number = digits.parse().map_err(|_| format!("value of {letter} TCP opt is no number"))?;
    Ok(if multiple { Quantity::MultipleOf(number) } else { Quantity::Is(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# comment\n\
        5840:64:1:60:M*,S,T,N,W7:\tLinux:2.6::Linux 2.6 # more\n\
        \n\
        S4:64:1:%8:M%4,s,T0:Linux:2.2-3:14:Linux, a range that is none\n\
        T:255:0:*:.:@FreeBSD:4.0-4.2:STABLE:FreeBSD\n\
        *:128:1:48:N:Windows:2000:SP2:Windows\n\
        *:128:1:48:N,N:NMAP:syn scan:1-2:scanner\n";

    fn database() -> Fingerprints {
        let (database, mistakes) = Fingerprints::parse(FILE);
        assert_eq!(mistakes, []);
        database
    }

    #[test]
    fn lines_become_entries() {
        let database = database();
        let [linux, range, freebsd, ..] = database.entries() else { panic!("{database:?}") };
        assert_eq!(linux.window, WindowSize::Octets(Quantity::Is(5840)));
        assert_eq!((linux.ttl, linux.dont_fragment, linux.size), (64, true, Quantity::Is(60)));
        assert_eq!((linux.mss, linux.wscale), (Quantity::Any, Quantity::Is(7)));
        assert_eq!(linux.options.len(), 5);
        assert_eq!(linux.systems.len(), 1);
        assert_eq!(range.window, WindowSize::TimesMss(4));
        assert_eq!((range.size, range.mss), (Quantity::MultipleOf(8), Quantity::MultipleOf(4)));
        assert!(range.timestamp_zero);
        assert_eq!(freebsd.window, WindowSize::TimesMtu(0));
        assert!(freebsd.options.is_empty());
        let names: Vec<_> = freebsd.systems.iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "FreeBSD 4.0 STABLE",
                "FreeBSD 4.1 STABLE",
                "FreeBSD 4.2 STABLE",
                "FreeBSD 4.0-4.2 STABLE"
            ]
        );
    }

    #[test]
    fn the_example_has_no_mistakes() {
        let (database, mistakes) = Fingerprints::parse(include_str!("../../../examples/pf.os"));
        assert_eq!(mistakes, []);
        for name in ["Linux", "Windows 10", "FreeBSD", "OpenBSD", "MacOS", "NMAP syn scan"] {
            assert_ne!(database.find(name), OsMatch::NoMatch, "{name}");
        }
    }

    #[test]
    fn names_are_found_as_in_rules() {
        let database = database();
        for (name, found) in [
            ("linux", "Linux"),
            ("Linux 2.6", "Linux 2.6"),
            ("FreeBSD 4.1", "FreeBSD 4.1"),
            ("freebsd 4.0-stable", "FreeBSD 4.0 STABLE"),
            ("Windows 2000 SP2", "Windows 2000 SP2"),
            ("Windows 2000.sp2", "Windows 2000 SP2"),
            ("NMAP syn scan 2", "NMAP syn scan 2"),
            ("UNKNOWN", "unknown"),
            ("Linux 2.6.1", "nomatch"),
            ("Windows 2000SP2", "nomatch"),
            ("Plan9", "nomatch"),
            ("Plan9 4", "nomatch"),
            ("", "nomatch"),
        ] {
            assert_eq!(database.find(name).to_string(), found, "{name}");
        }
    }

    #[test]
    fn mistakes_have_their_line_and_leave_it_out() {
        for (line, text) in [
            ("", ""),
            ("65536:64:1:60:.:A:1::ab", "window size value 65536 > 65535"),
            ("x:64:1:60:.:A:1::ab", "non-digit character in window size"),
            ("%:64:1:60:.:A:1::ab", "modulus window size must have a value"),
            ("*1:64:1:60:.:A:1::ab", "long '*' window size"),
            (":64:1:60:.:A:1::ab", "empty window size"),
            ("1:*:1:60:.:A:1::ab", "does not allow * in ttl"),
            ("1:64:2:60:.:A:1::ab", "don't fragment frag value 2 > 1"),
            ("1:64:1:S1:.:A:1::ab", "does not allow S in overall packet size"),
            ("99999999999999999999:64:1:60:.:A:1::ab", "window size overflowed"),
            ("1:64:1:60::A:1::ab", "too short TCP Options"),
            ("1:64:1:60:.::1::ab", "too short OS class"),
            ("1:64:1:60:.:A:1::a", "too short OS description"),
            ("1:64:1:60", "too short TCP Options"),
            ("1:64:1:60:Mx:A:1::ab", "unknown character 'x' in M TCP opt"),
            ("1:64:1:60:N1:A:1::ab", "unknown option to N TCP opt"),
            ("1:64:1:60:Q:A:1::ab", "unknown TCP opt 'Q'"),
            ("1:64:1:60:M:A:1::ab", "value of M TCP opt is no number"),
            ("1:64:1:60:.:A:1::ab:cd", "excess field"),
            ("1:64:1:60:.:A\u{7}:1::ab", "unprintable character in OS class"),
            ("1:64:1:60:.:nomatch:1::ab", "fingerprint class \"nomatch\" is reserved"),
            ("1:64:1:60:.:A:0-999:0-999:ab", "too many systems in this file"),
        ] {
            let (database, mistakes) = Fingerprints::parse(&format!("# first\n{line}\n"));
            assert!(database.entries().is_empty(), "{line}");
            let shown: Vec<_> = mistakes.iter().map(|m| (m.line, m.to_string())).collect();
            let wanted = if text.is_empty() { vec![] } else { vec![(2, text.to_owned())] };
            assert_eq!(shown, wanted, "{line}");
        }
    }
}
