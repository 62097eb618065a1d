//! One case: what to run, and what must come out.

use std::path::PathBuf;

use crate::env::EnvFolder;
use crate::run;

/// One case of a suite.
#[derive(Clone, Debug)]
pub struct Case {
    /// Suite, such as `openbsd/pf`.
    pub suite: &'static str,
    /// Name in its suite, such as `pf1`.
    pub name: String,
    pub(crate) task: Task,
}

/// What a case does.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// One call of pfctl.
    Call(Box<Call>),
    /// Address words: what each stands for in a rule.
    Words { env: EnvFolder, words: PathBuf, wanted: PathBuf },
    /// It cannot run here, for this reason.
    Unable(&'static str),
}

/// A call of pfctl, and what it must do.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Working directory.
    pub folder: PathBuf,
    /// The described machine.
    pub env: EnvFolder,
    pub args: Vec<String>,
    /// File on standard input.
    pub input: Option<PathBuf>,
    pub wanted: Wanted,
}

/// What a call must do.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// Succeed, with this file on standard output.
    Output(PathBuf),
    /// Succeed, with the numbered rules of this listing on standard output.
    Rules(PathBuf),
    /// Write this file: standard error, then standard output, as when both go to one pipe.
    Both(PathBuf),
    /// Fail, and write this file, likewise.
    Failure(PathBuf),
    /// Fail, with this text in standard error.
    Message(String),
    /// Succeed.
    Success,
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As wanted.
    Passed,
    /// Different; the text shows how.
    Failed(String),
    /// Not run, for this reason.
    Skipped(&'static str),
}

impl Case {
    /// Runs the case. It changes the working directory of the process, so one at a time.
    ///
    /// # Errors
    /// Reference data that cannot be read.
    pub fn run(&self) -> Result<Outcome, String> {
        match &self.task {
            Task::Call(call) => run::call(call),
            Task::Words { env, words, wanted } => run::words(env, words, wanted),
            Task::Unable(reason) => Ok(Outcome::Skipped(reason)),
        }
    }
}
