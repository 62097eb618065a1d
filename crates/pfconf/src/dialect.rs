//! Whose pf.conf a file is.

use serde::{Deserialize, Serialize};

/// A system with its own grammar, name orders and form of listings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// OpenBSD.
    #[default]
    OpenBsd,
    /// FreeBSD.
    FreeBsd,
}

impl Dialect {
    /// The system's name in lower case, as in file names.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::OpenBsd => "openbsd",
            Self::FreeBsd => "freebsd",
        }
    }
}
