//! The outcome of a check for programs: `--format json`, `sarif`, `github`, `ruleset`.
//!
//! The first three leave out the messages that only follow from another one.

mod github;
mod json;
mod place;
mod ruleset;
mod sarif;

use std::io::{self, Write};

use pfconf::{Compiled, Diagnostic, Dialect, Input, Lines};

use crate::flags::classic::OutputForm;

/// What there is to report.
#[derive(Clone, Copy)]
pub struct Outcome<'a> {
    /// What was compiled.
    pub input: &'a Input<'a>,
    /// Whose language it was read in.
    pub dialect: Dialect,
    /// What became of it.
    pub compiled: &'a Compiled,
    /// The listing, if it is wanted.
    pub listing: Option<&'a Lines>,
}

impl<'a> Outcome<'a> {
    fn messages(self) -> impl Iterator<Item = &'a Diagnostic> {
        let Compiled { diagnostics, remarks, .. } = self.compiled;
        diagnostics.iter().chain(remarks).filter(|found| !found.is_consequence())
    }

    /// Writes it; nothing for people, who get their text in other ways.
    ///
    /// # Errors
    /// Failures of `out`.
    pub fn write(self, form: OutputForm, out: &mut dyn Write) -> io::Result<()> {
        match form {
            OutputForm::Text => Ok(()),
            OutputForm::Json => json::write(out, self),
            OutputForm::Sarif => sarif::write(out, self),
            OutputForm::GitHub => github::write(out, self),
            OutputForm::Ruleset => match &self.compiled.ruleset {
                Some(ruleset) => ruleset::write(out, ruleset),
                None => Ok(()),
            },
        }
    }
}
