//! Exit codes. Source: sysexits.h, whose numbers service managers know.

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Stopped as asked, or the check found nothing.
    Success = 0,
    /// `-n` found mistakes.
    Check = 1,
    /// Wrong use of the command line.
    Usage = 2,
    /// The ruleset does not load (`EX_DATAERR`).
    Ruleset = 65,
    /// A thread of the daemon failed (`EX_SOFTWARE`).
    Software = 70,
    /// The system lacks something: a name is taken, another daemon runs (`EX_OSERR`).
    System = 71,
    /// Packet I/O failed for good (`EX_IOERR`).
    Io = 74,
    /// The process may not make devices (`EX_NOPERM`).
    Permission = 77,
    /// The configuration has mistakes (`EX_CONFIG`).
    Config = 78,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
