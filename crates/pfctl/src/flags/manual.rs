//! Test that `man/pfctl.8` has every flag of the table, in its order, and nothing else.

use super::defs::{FLAGS, Flag, Support};
use super::help::usage;

const MANUAL: &str = include_str!("../../../../man/pfctl.8");

/// The line that opens a flag's entry.
fn entry(flag: &Flag) -> String {
    let name = match (flag.short, flag.long) {
        (Some(short), _) => short.to_string(),
        (None, long) => format!("-{}", long.unwrap_or_default()),
    };
    let value = match flag.value {
        // mdoc writes the two parts and the sign between them apart.
        Some("macro=value") => " Ar macro Ns = Ns Ar value".to_owned(),
        Some(value) => format!(" Ar {value}"),
        None => String::new(),
    };
    format!(".It Fl {name}{value}")
}

fn shown() -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().filter(|flag| flag.support == Support::Done)
}

#[test]
fn manual_has_the_flags_of_the_table() {
    // Entries of one list level only: the forms of -k open with `.It Fl` too.
    let mut depth = 0;
    let mut entries = Vec::new();
    for line in MANUAL.lines() {
        match line.split(' ').next() {
            Some(".Bl") => depth += 1,
            Some(".El") => depth -= 1,
            _ if depth == 1 && line.starts_with(".It Fl ") => entries.push(line.to_owned()),
            _ => {}
        }
    }
    assert_eq!(entries, shown().map(entry).collect::<Vec<_>>());
}

#[test]
fn manual_names_the_refused_flags() {
    let (_, refused) = MANUAL.split_once(".Ss Flags that are refused").unwrap();
    let named: Vec<char> = refused
        .lines()
        .take_while(|line| !line.starts_with(".Sh"))
        .filter_map(|line| line.strip_prefix(".Fl ")?.chars().next())
        .collect();
    let is_refused = |flag: &&Flag| matches!(flag.support, Support::Refused(_));
    let refused: Vec<char> =
        FLAGS.iter().filter(is_refused).filter_map(|flag| flag.short).collect();
    assert_eq!(named, refused);
}

#[test]
fn synopsis_has_the_flags_of_the_usage_text() {
    let (_, synopsis) = MANUAL.split_once(".Sh SYNOPSIS").unwrap();
    let (synopsis, _) = synopsis.split_once(".Sh DESCRIPTION").unwrap();
    for flag in shown().filter(|flag| flag.value.is_some() && flag.short != Some('T')) {
        let entry = entry(flag).replace(".It ", ".Op ");
        assert!(synopsis.contains(&entry), "{entry}");
    }
    let usage = usage();
    let (_, letters) = usage.split_once("[-").unwrap();
    let (letters, _) = letters.split_once(']').unwrap();
    assert!(synopsis.contains(&format!(".Op Fl {letters}\n")), "{letters}");
}
