//! What can end an action of the classic face.

use std::io;

use pfapi::control::{FailureKind, Response};

use crate::client::ClientError;
use crate::console::{os_text, printable};

/// Failure of an action.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Standard output could not be written.
    #[error("stdout: {}", os_text(.0))]
    Output(#[from] io::Error),
    /// The daemon could not be asked.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// The daemon refused.
    #[error("{}", refusal(*.kind, .message))]
    Refused {
        /// What kind of refusal.
        kind: FailureKind,
        /// The daemon's words.
        message: String,
    },
    /// The daemon answered something else than asked for.
    #[error("the daemon gave an answer of the wrong kind to {0}")]
    Unexpected(&'static str),
    /// Wrong arguments; the usage text follows.
    #[error("{0}")]
    Usage(String),
    /// Any other failure.
    #[error("{0}")]
    Plain(String),
}

impl Error {
    /// From an answer that is none to the request `what`.
    #[must_use]
    pub fn from_answer(response: Response, what: &'static str) -> Self {
        match response {
            Response::Failed { kind, message } => Self::Refused { kind, message },
            _ => Self::Unexpected(what),
        }
    }

    /// What to try next, when there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Client(error) => error.hint(),
            _ => None,
        }
    }
}

fn refusal(kind: FailureKind, message: &str) -> String {
    if !message.is_empty() {
        return printable(message);
    }
    match kind {
        FailureKind::Malformed => "Invalid argument",
        FailureKind::Permission | FailureKind::Constant => "Operation not permitted",
        FailureKind::Busy => "Device busy",
        FailureKind::Invalid => "the daemon refuses the ruleset",
        FailureKind::NotFound => "No such process",
        FailureKind::Limit => "Cannot allocate memory",
        FailureKind::Unchanged => "File exists",
    }
    .to_owned()
}
