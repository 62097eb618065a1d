//! Usage text and `--help`, made from the table of flags.

use std::fmt::Write;

use super::defs::{FLAGS, Flag, Support};
use crate::subcommands;

/// Column after which the usage text goes on in a new line.
const USAGE_WIDTH: usize = 72;

fn shown() -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().filter(|flag| flag.support == Support::Done)
}

/// The usage text of pfctl(8), with a newline at its end.
#[must_use]
pub fn usage() -> String {
    let letters: String =
        shown().filter(|flag| flag.value.is_none()).filter_map(|flag| flag.short).collect();
    let mut pieces = vec![format!("[-{}]", sorted(&letters))];
    for flag in shown() {
        match (flag.short, flag.value) {
            (Some('T'), _) | (_, None) => {}
            (Some('t'), _) => pieces.push("[-t table -T command [address ...]]".to_owned()),
            (_, Some(value)) => pieces.push(format!("[{} {value}]", flag.spelled())),
        }
    }
    let mut text = String::from("usage: pfctl");
    let mut column = text.len();
    for piece in pieces {
        if column + 1 + piece.len() > USAGE_WIDTH {
            text.push_str("\n\t");
            column = 8;
        } else {
            text.push(' ');
            column += 1;
        }
        column += piece.len();
        text.push_str(&piece);
    }
    text.push('\n');
    for usage in subcommands::usages() {
        let _ = writeln!(text, "       pfctl {usage}");
    }
    text
}

/// Letters in the order of pfctl's own usage text: by letter, capitals first.
fn sorted(letters: &str) -> String {
    let mut letters: Vec<char> = letters.chars().collect();
    letters.sort_by_key(|letter| (letter.to_ascii_lowercase(), letter.is_ascii_lowercase()));
    letters.into_iter().collect()
}

/// The answer to `--help`: usage, then one line per flag.
#[must_use]
pub fn help() -> String {
    let mut text = usage();
    text.push('\n');
    for flag in shown() {
        let value = flag.value.map(|value| format!(" {value}")).unwrap_or_default();
        let name = format!("{}{value}", flag.spelled());
        let _ = writeln!(text, "  {name:<16}  {}", flag.summary);
    }
    text.push_str("\nFlags of pfctl(8) that this version refuses:\n");
    for flag in FLAGS {
        if let Support::Refused(missing) = flag.support {
            let _ = writeln!(text, "  {:<16}  {missing}", flag.spelled());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_names_every_flag_and_fits_a_terminal() {
        assert_eq!(
            usage(),
            "usage: pfctl [-AdehmNnOPqrvz] [-a anchor] [-D macro=value] [-F modifier]\n\
             \t[-f file] [-i interface] [-K key] [-k key] [-o level]\n\
             \t[-p socket] [-R id] [-s modifier]\n\
             \t[-t table -T command [address ...]] [--config file]\n\
             \t[--dialect name] [--env folder] [--errors form] [--explain code]\n\
             \t[--format form]\n       pfctl completions shell\n\
             \x20      pfctl fmt [--check] [--dialect name] [-D macro=value] [file ...]\n\
             \x20      pfctl log [-p socket] [pflogN]\n"
        );
    }

    #[test]
    fn help_has_a_line_for_every_flag() {
        let help = help();
        for flag in FLAGS.iter().filter(|flag| flag.support != Support::Hidden) {
            let start = format!("\n  {}", flag.spelled());
            assert!(help.contains(&start), "{} is missing in\n{help}", flag.spelled());
        }
        assert!(!help.contains("compile NAME"));
    }
}
