//! Settings of the whole filter.
//!
//! Source: pf.conf(5) "OPTIONS".

use serde::{Deserialize, Serialize};

use crate::limit::Limits;
use crate::timeout::Timeouts;

/// Settings of the whole filter.
///
/// A load of the main ruleset resets every limit and timeout that the file does not mention, so
/// both come as complete sets. Settings that keep their value when not mentioned are `Option`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// `set limit`.
    pub limits: Limits,
    /// `set timeout` and `set optimization`.
    pub timeouts: Timeouts,
    /// `set skip on`: interface and group names.
    pub skip: Vec<String>,
    /// `set syncookies`; `None` keeps what is in force.
    pub syncookies: Option<Syncookies>,
    /// `set reassemble`; `None` keeps what is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reassemble: Option<Reassemble>,
    /// `set debug`; `None` keeps what is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug: Option<DebugLevel>,
    /// `set hostid`; `None` keeps what is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostid: Option<u32>,
    /// `set loginterface`; `None` keeps what is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_interface: Option<LogInterface>,
    /// `set fail-policy return`: packets that a `pass` rule cannot let pass are answered.
    #[serde(default)]
    pub fail_returns: bool,
    /// `set keepcounters`: rules that stay the same keep their counters over a load.
    #[serde(default)]
    pub keep_counters: bool,
}

/// `set reassemble`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reassemble {
    /// Fragments are evaluated one by one.
    No,
    /// Fragments are put together.
    Yes,
    /// As `Yes`, also where the don't-fragment bit is set, which is cleared.
    NoDf,
}

/// `set loginterface`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogInterface {
    /// No interface has statistics of its own.
    None,
    /// This interface or group has.
    Name(String),
}

/// `set debug`: least important message that is still logged, as in syslog(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DebugLevel {
    /// The system is unusable.
    Emerg,
    /// Something must be done at once.
    Alert,
    /// Critical conditions.
    Crit,
    /// Errors; the default.
    Err,
    /// Warnings.
    Warning,
    /// Normal but significant.
    Notice,
    /// Informational.
    Info,
    /// For debugging.
    Debug,
}

impl DebugLevel {
    /// Names of the levels and the levels, synonyms included.
    pub const NAMES: &[(&str, Self)] = &[
        ("alert", Self::Alert),
        ("crit", Self::Crit),
        ("debug", Self::Debug),
        ("emerg", Self::Emerg),
        ("err", Self::Err),
        ("error", Self::Err),
        ("info", Self::Info),
        ("notice", Self::Notice),
        ("panic", Self::Emerg),
        ("warn", Self::Warning),
        ("warning", Self::Warning),
    ];

    /// Names of the levels on FreeBSD.
    pub const FREEBSD_NAMES: &[(&str, Self)] = &[
        ("none", Self::Emerg),
        ("urgent", Self::Err),
        ("misc", Self::Notice),
        ("loud", Self::Debug),
    ];

    /// The level with this name, upper and lower case alike, or with this number from 0 to 7.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        const NUMBERED: [DebugLevel; 8] = [
            DebugLevel::Emerg,
            DebugLevel::Alert,
            DebugLevel::Crit,
            DebugLevel::Err,
            DebugLevel::Warning,
            DebugLevel::Notice,
            DebugLevel::Info,
            DebugLevel::Debug,
        ];
        if let Ok(number) = name.parse::<usize>() {
            return NUMBERED.get(number).copied();
        }
        let found = Self::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|&(_, level)| level)
    }
}

/// `set syncookies`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Syncookies {
    /// When cookies are sent.
    pub mode: SyncookieMode,
    /// The word `classic`: exactly pf's behaviour, its half-open counter included.
    pub classic: bool,
    /// Marks of adaptive mode in states; `None` keeps what is in force.
    pub watermarks: Option<Watermarks>,
    /// `destination N%`: marks of a single destination in half-open connections; `None` derives them
    /// from those of the whole ([`Watermarks::of_destination`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Watermarks>,
    /// Whether a port of which nothing is known is asked by a real SYN before it gets cookies, so
    /// that closed ports look closed. Never with `classic`.
    #[serde(default)]
    pub probe: bool,
    /// What servers support of which no rule says it. Never with `classic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerOptions>,
}

/// What a server supports, as the SYN|ACK says that is sent in its name before it is asked.
///
/// What is not named is not supported, as with SYNPROXY of Linux; the MSS alone is then found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerOptions {
    /// `mss`, in octets; [`Self::MSS_MIN`] at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mss: Option<u16>,
    /// `wscale`: shift of its window, [`Self::WSCALE_MAX`] at most; `None` is no window scaling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wscale: Option<u8>,
    /// `sack-perm`: selective acknowledgements.
    pub sack_perm: bool,
    /// `timestamp`: timestamps.
    pub timestamp: bool,
    /// `ecn`: explicit congestion notification, which a cookie remembers beside timestamps alone.
    pub ecn: bool,
}

impl ServerOptions {
    /// Least MSS, in octets: what the filter sends at least.
    pub const MSS_MIN: u16 = 64;
    /// Largest shift of a window. Source: RFC 7323 section 2.3.
    pub const WSCALE_MAX: u8 = 14;

    /// Whether it can be.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.mss.is_none_or(|mss| mss >= Self::MSS_MIN)
            && self.wscale.is_none_or(|shift| shift <= Self::WSCALE_MAX)
            && self.ecn <= self.timestamp
    }
}

/// When SYN cookies are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncookieMode {
    /// Never.
    #[default]
    Never,
    /// For every SYN.
    Always,
    /// While more connections are half open than the marks allow.
    Adaptive,
}

impl SyncookieMode {
    /// The word of pf.conf(5).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Always => "always",
            Self::Adaptive => "adaptive",
        }
    }

    /// The mode with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Never, Self::Always, Self::Adaptive].into_iter().find(|mode| mode.name() == name)
    }
}

/// High and low count of half-open connections that switch adaptive syncookies with hysteresis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watermarks {
    /// Cookies start when more connections than this are half open.
    pub start: u32,
    /// Cookies end when fewer than this are half open.
    pub end: u32,
}

impl Watermarks {
    /// Share of the limit at which cookies start when the file does not say, in percent.
    pub const DEFAULT_START_PERCENT: u32 = 25;

    /// Marks at `start` and `end` percent of `limit states`, in 64 bits so that large limits do
    /// not overflow (pf does at 2^32).
    #[must_use]
    pub fn from_percent(states_limit: u32, start: u32, end: u32) -> Self {
        let share = |percent: u32| {
            let mark = u64::from(states_limit) * u64::from(percent) / 100;
            u32::try_from(mark).unwrap_or(u32::MAX)
        };
        Self { start: share(start), end: share(end) }
    }

    /// Fewest half-open connections at which one destination gets cookies when the file does not
    /// say: less is normal for a busy server far away.
    pub const DESTINATION_MIN: u32 = 100;

    /// Marks of a single destination when the file names none: a fifth of the whole, with the same
    /// hysteresis. `None` when that is no less than the marks of the whole, which then decide alone.
    #[must_use]
    pub fn of_destination(self) -> Option<Self> {
        let start = (self.start / 5).max(Self::DESTINATION_MIN);
        self.share_of_destination(start)
    }

    /// Marks of a single destination that start at `start`, with the hysteresis of the whole.
    #[must_use]
    pub fn share_of_destination(self, start: u32) -> Option<Self> {
        let end = u64::from(start) * u64::from(self.end) / u64::from(self.start.max(1));
        let end = u32::try_from(end).unwrap_or(u32::MAX);
        (start < self.start).then_some(Self { start, end })
    }

    /// The same share of another `limit states`.
    #[must_use]
    pub fn scaled(self, from: u32, to: u32) -> Self {
        let share = |mark: u32| {
            let scaled = u64::from(mark) * u64::from(to) / u64::from(from.max(1));
            u32::try_from(scaled).unwrap_or(u32::MAX)
        };
        Self { start: share(self.start), end: share(self.end) }
    }
}

impl Default for Watermarks {
    /// The marks before any ruleset is loaded: 25 % and 12.5 % of 100,000 states.
    fn default() -> Self {
        Self { start: 25_000, end: 12_500 }
    }
}
