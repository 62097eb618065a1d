//! The list of cases that are known to pass.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::case::Case;

const HEAD: &str = "\
# Cases that pass: SUITE NAME. A listed case that fails is a regression.
# `make conformance ARGS=--update` writes this file; look at the difference before a commit.
";

/// Cases that are known to pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(BTreeSet<(String, String)>);

impl Known {
    /// The list of the repository.
    ///
    /// # Errors
    /// A file that cannot be read, or a line that is not understood.
    pub fn read() -> Result<Self, String> {
        let path = path();
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut known = BTreeSet::new();
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((suite, name)) = line.split_once(' ') else {
                return Err(format!("expected.txt:{}: a line is SUITE NAME", index + 1));
            };
            known.insert((suite.to_owned(), name.to_owned()));
        }
        Ok(Self(known))
    }

    /// Whether the case is listed.
    #[must_use]
    pub fn has(&self, case: &Case) -> bool {
        self.0.contains(&(case.suite.to_owned(), case.name.clone()))
    }

    /// Listed cases that `cases` has not: their names are wrong, or the data lacks them.
    pub fn missing<'a>(&'a self, cases: &'a [Case]) -> impl Iterator<Item = String> {
        let is_there = |suite: &str, name: &str| {
            cases.iter().any(|case| case.suite == suite && case.name == name)
        };
        let missing = self.0.iter().filter(move |(suite, name)| !is_there(suite, name));
        missing.map(|(suite, name)| format!("{suite} {name}"))
    }

    /// The list of the cases that passed.
    #[must_use]
    pub fn of<'a>(passed: impl IntoIterator<Item = &'a Case>) -> Self {
        let names = passed.into_iter().map(|case| (case.suite.to_owned(), case.name.clone()));
        Self(names.collect())
    }

    /// Writes the list of the repository.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self) -> io::Result<()> {
        let lines = self.0.iter().map(|(suite, name)| format!("{suite} {name}\n"));
        fs::write(path(), HEAD.to_owned() + &lines.collect::<String>())
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("expected.txt")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Task;

    #[test]
    fn lists_have_comments() {
        let case = |name: &str| Case {
            suite: "openbsd/pf",
            name: name.to_owned(),
            task: Task::Unable("a test"),
        };
        let known = Known::parse("# head\n\nopenbsd/pf pf1\nopenbsd/pf pf2\n").unwrap();
        assert!(known.has(&case("pf1")) && !known.has(&case("pf3")));
        assert_eq!(known.missing(&[case("pf1")]).collect::<Vec<_>>(), ["openbsd/pf pf2"]);
        assert_eq!(Known::of(&[case("pf1"), case("pf2")]), known);
        assert!(Known::parse("pf1\n").is_err());
    }
}
