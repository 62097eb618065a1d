//! Whose pf.conf a ruleset comes from.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::addr::Af;
use crate::timeout::Timeout;

/// A system with its own grammar, name orders, checks and form of listings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// OpenBSD.
    #[default]
    OpenBsd,
    /// FreeBSD.
    FreeBsd,
    /// macOS: FreeBSD's language, and anchors for `scrub` rules and for dummynet.
    MacOs,
}

impl Dialect {
    /// The system's name in lower case, as in file names.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::OpenBsd => "openbsd",
            Self::FreeBsd => "freebsd",
            Self::MacOs => "macos",
        }
    }

    /// Addresses of a host in the order of the system: OpenBSD has IPv4 first, FreeBSD IPv6. The
    /// order within a family stays.
    #[must_use]
    pub fn order(self, addrs: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
        let (v4, v6): (Vec<_>, Vec<_>) =
            addrs.into_iter().partition(|&addr| Af::of(addr) == Af::Inet);
        match self {
            Self::OpenBsd => [v4, v6].concat(),
            Self::FreeBsd | Self::MacOs => [v6, v4].concat(),
        }
    }

    /// The dialect of a name in lower case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::OpenBsd, Self::FreeBsd, Self::MacOs].into_iter().find(|found| found.word() == word)
    }

    /// The system's name as its makers write it.
    #[must_use]
    pub const fn system(self) -> &'static str {
        match self {
            Self::OpenBsd => "OpenBSD",
            Self::FreeBsd => "FreeBSD",
            Self::MacOs => "macOS",
        }
    }

    /// Whether it is the one that counts when nobody says otherwise.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// The timeouts that its pf.conf can name.
    pub fn timeouts(self) -> impl Iterator<Item = Timeout> {
        Timeout::ALL.into_iter().filter(move |timeout| self == Self::FreeBsd || !timeout.is_sctp())
    }

    /// The timeout with this name in its pf.conf.
    #[must_use]
    pub fn timeout(self, name: &str) -> Option<Timeout> {
        self.timeouts().find(|timeout| timeout.name() == name)
    }

    /// Whether it is FreeBSD's or has come from it.
    #[must_use]
    pub const fn is_freebsd(self) -> bool {
        matches!(self, Self::FreeBsd | Self::MacOs)
    }
}
