//! What a load brings: whole rulesets, or some parts of a file, or some settings only.
//!
//! Source: FreeBSD pfctl(8) `-A`, `-N`, `-O`, `-R`, `-T load` and `-m`; sbin/pfctl/pfctl.c
//! `loadopt`, `pfctl_load_options`.

use serde::{Deserialize, Serialize};

use crate::limit::Limit;
use crate::ruleset::{Options, RuleKind, Syncookies};
use crate::timeout::Timeout;

/// A part of a file of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// What `set` lines say of the whole filter.
    Options,
    /// Queues.
    Queues,
    /// Definitions of tables.
    Tables,
    /// FreeBSD's rules that translate. OpenBSD translates with rules that filter.
    Translation,
    /// Rules that filter, and FreeBSD's that clean packets.
    Filter,
}

impl Part {
    /// Every part, in the order of their bits.
    pub const ALL: [Self; 5] =
        [Self::Options, Self::Queues, Self::Tables, Self::Translation, Self::Filter];

    /// The part that rules of a kind belong to.
    #[must_use]
    pub const fn of(kind: RuleKind) -> Self {
        match kind {
            RuleKind::Nat | RuleKind::Rdr | RuleKind::Binat => Self::Translation,
            RuleKind::Scrub | RuleKind::Dummynet | RuleKind::Filter => Self::Filter,
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Parts of a file of rules. As text of messages it is a list of words.
///
/// ```
/// use pfapi::load::{Part, Parts};
///
/// let parts = Parts::from_iter([Part::Tables, Part::Filter]);
/// assert!(parts.has(Part::Filter) && !parts.has(Part::Options));
/// assert_eq!(serde_json::to_string(&parts).unwrap(), r#"["tables","filter"]"#);
/// assert!(Parts::ALL.is_all());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Part>", into = "Vec<Part>")]
pub struct Parts(u8);

impl Parts {
    /// A whole file.
    pub const ALL: Self = Self(0b1_1111);

    /// Whether a part is among them.
    #[must_use]
    pub const fn has(self, part: Part) -> bool {
        self.0 & part.bit() != 0
    }

    /// Whether nothing is left out.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.0 == Self::ALL.0
    }
}

impl Default for Parts {
    fn default() -> Self {
        Self::ALL
    }
}

impl FromIterator<Part> for Parts {
    fn from_iter<I: IntoIterator<Item = Part>>(parts: I) -> Self {
        Self(parts.into_iter().fold(0, |bits, part| bits | part.bit()))
    }
}

impl From<Vec<Part>> for Parts {
    fn from(parts: Vec<Part>) -> Self {
        parts.into_iter().collect()
    }
}

impl From<Parts> for Vec<Part> {
    fn from(parts: Parts) -> Self {
        Part::ALL.into_iter().filter(|&part| parts.has(part)).collect()
    }
}

/// Which settings a file names, for those that always have a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Given {
    /// `set limit`
    pub limits: Vec<Limit>,
    /// `set timeout`, `set optimization`, and the adaptive timeouts that follow from a limit.
    pub timeouts: Vec<Timeout>,
    /// `set skip`
    pub skip: bool,
    /// `set fail-policy`
    pub fail_policy: bool,
}

impl Options {
    /// These settings where they are given, `before` where they are not: `pfctl -m`.
    ///
    /// ```
    /// use pfapi::limit::Limit;
    /// use pfapi::load::Given;
    /// use pfapi::ruleset::Options;
    ///
    /// let mut new = Options::default();
    /// new.limits.set(Limit::States, 5000);
    /// let mut before = Options { skip: vec!["lo".into()], ..Options::default() };
    /// before.limits.set(Limit::Frags, 7);
    /// let merged =
    ///     new.merged(before, &Given { limits: vec![Limit::States], ..Given::default() });
    /// assert_eq!((merged.limits.get(Limit::States), merged.limits.get(Limit::Frags)), (5000, 7));
    /// assert_eq!(merged.skip, ["lo"]);
    /// ```
    #[must_use]
    pub fn merged(self, before: Self, given: &Given) -> Self {
        let (mut limits, mut timeouts) = (before.limits, before.timeouts);
        let states = self.limits.get(Limit::States);
        let syncookies = self.syncookies.map(|setting| {
            let limit = if given.limits.contains(&Limit::States) {
                states
            } else {
                before.limits.get(Limit::States)
            };
            // Marks are a share of the limit, whichever it turns out to be.
            let watermarks = setting.watermarks.map(|marks| marks.scaled(states, limit));
            let destination = setting.destination.map(|marks| marks.scaled(states, limit));
            Syncookies { watermarks, destination, ..setting }
        });
        for &limit in &given.limits {
            limits.set(limit, self.limits.get(limit));
        }
        for &timeout in &given.timeouts {
            timeouts.set(timeout, self.timeouts.get(timeout));
        }
        Self {
            limits,
            timeouts,
            skip: if given.skip { self.skip } else { before.skip },
            syncookies: syncookies.or(before.syncookies),
            reassemble: self.reassemble.or(before.reassemble),
            debug: self.debug.or(before.debug),
            hostid: self.hostid.or(before.hostid),
            log_interface: self.log_interface.or(before.log_interface),
            fail_returns: if given.fail_policy { self.fail_returns } else { before.fail_returns },
            keep_counters: self.keep_counters || before.keep_counters,
        }
    }
}
