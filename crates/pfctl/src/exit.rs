//! How a run of pfctl ends.

use std::process::ExitCode;

/// Exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Success,
    /// Something failed.
    Failure,
    /// `-T test`: not all addresses are in the table.
    NoMatch,
    /// No daemon answers a subcommand.
    NoDaemon,
    /// Wrong use of a subcommand.
    Usage,
    /// The reader of standard output went away; as if SIGPIPE had ended pfctl.
    ClosedPipe,
    /// A table command failed: pfctl(8) returns -1 there.
    TableFailure,
}

impl Exit {
    /// The number that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::NoMatch | Self::Usage => 2,
            Self::ClosedPipe => 128 + 13,
            Self::NoDaemon => 3,
            Self::TableFailure => 255,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
