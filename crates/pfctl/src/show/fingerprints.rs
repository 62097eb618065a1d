//! `-s osfp`.
//!
//! Source: OpenBSD sbin/pfctl/pfctl_osfp.c `pfctl_show_fingerprints`, `sort_name_list`,
//! `print_name_list`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use pfapi::osfp::OsName;

use crate::console::printable;

/// Names of one level by their small letters, each with its spelling and the names below it.
#[derive(Default)]
struct Names(BTreeMap<String, (String, Names)>);

impl Names {
    fn add(&mut self, words: &[&str]) {
        let Some((word, rest)) = words.split_first() else { return };
        let known = self.0.entry(word.to_ascii_lowercase());
        known.or_insert_with(|| ((*word).to_owned(), Self::default())).1.add(rest);
    }

    fn print(&self, out: &mut dyn Write, before: &str) -> io::Result<()> {
        for (name, below) in self.0.values() {
            let line = format!("{before}{}\t", printable(name));
            writeln!(out, "{line}")?;
            below.print(out, &line)?;
        }
        Ok(())
    }
}

/// Prints the names of systems.
///
/// # Errors
/// Failures of `out`.
pub fn print(out: &mut dyn Write, systems: &[OsName]) -> io::Result<()> {
    if systems.is_empty() {
        return Ok(());
    }
    let mut names = Names::default();
    for system in systems {
        let words = [Some(&system.class), system.version.as_ref(), system.subtype.as_ref()];
        let words: Vec<&str> =
            words.into_iter().map_while(|word| word.map(String::as_str)).collect();
        names.add(&words);
    }
    writeln!(out, "Class\tVersion\tSubtype(subversion)")?;
    writeln!(out, "-----\t-------\t-------------------")?;
    names.print(out, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_each_stands_once() {
        let name = |class: &str, version: &str, subtype: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            OsName { class: class.to_owned(), version: some(version), subtype: some(subtype) }
        };
        let systems = [
            name("Windows", "2000", "SP2"),
            name("linux", "2.6", ""),
            name("Linux", "2.4", ""),
            name("Linux", "2.4", ""),
        ];
        let mut out = Vec::new();
        print(&mut out, &systems).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "Class\tVersion\tSubtype(subversion)\n\
             -----\t-------\t-------------------\n\
             linux\t\nlinux\t2.4\t\nlinux\t2.6\t\n\
             Windows\t\nWindows\t2000\t\nWindows\t2000\tSP2\t\n"
        );
        let mut out = Vec::new();
        print(&mut out, &[]).unwrap();
        assert!(out.is_empty());
    }
}
