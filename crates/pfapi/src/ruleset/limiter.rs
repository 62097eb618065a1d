//! Limiters: bounds on states that several rules share.
//!
//! Source: FreeBSD and OpenBSD pf.conf(5) "STATE LIMITERS", "SOURCE LIMITERS";
//! sys/net/pfvar.h `pfioc_statelim`, `pfioc_sourcelim`.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::Rate;

/// Highest number of a limiter (`PF_STATELIM_ID_MAX`).
pub const LIMITER_ID_MAX: u8 = 255;
/// Most states of a state limiter (`PF_STATELIM_LIMIT_MAX`).
pub const STATE_LIMITER_MAX: u32 = 1 << 24;
/// Longest name of a limiter in octets (`PF_STATELIM_NAME_LEN` less the terminator).
pub const LIMITER_NAME_MAX: usize = 15;

/// `state limiter`: a bound on the states of all rules that use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateLimiter {
    /// Name.
    pub name: String,
    /// Number, from 1.
    pub id: u8,
    /// States at most.
    pub limit: u32,
    /// New states at most in so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// `source limiter`: a bound on the states of each source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceLimiter {
    /// Name.
    pub name: String,
    /// Number, from 1.
    pub id: u8,
    /// Sources at most.
    pub entries: u32,
    /// States of one source at most.
    pub limit: u32,
    /// New states of one source at most in so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Where sources with many states are put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<LimiterTable>,
    /// `inet mask`: bits that one IPv4 source is.
    pub inet_mask: u8,
    /// `inet6 mask`: bits that one IPv6 source is.
    pub inet6_mask: u8,
}

/// `table <name> above N below N`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimiterTable {
    /// Table.
    pub name: String,
    /// States from which a source is put into it.
    pub above: u32,
    /// States below which it is taken out again; 0 is never.
    pub below: u32,
}

/// `state limiter name` or `source limiter name` of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimiterUse {
    /// Name of the limiter.
    pub name: String,
    /// Its number, which listings show.
    #[serde(default)]
    pub id: u8,
    /// `block`: packets beyond the limit are blocked; else the rule does not match them.
    pub block: bool,
}

/// Words that options of limiters start with.
const OPTIONS: [&str; 7] = ["id", "entries", "limit", "rate", "table", "inet", "inet6"];

/// A name; in quotes where it could not be read again without.
struct Name<'n>(&'n str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |word: &str| {
            word.starts_with(|first: char| first.is_ascii_alphabetic())
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
                && !OPTIONS.contains(&word)
        };
        let quote = if self.0.split(' ').all(plain) { "" } else { "\"" };
        write!(f, "{quote}{}{quote}", self.0)
    }
}

impl fmt::Display for StateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, id, limit, rate } = self;
        write!(f, "state limiter {} id {id} limit {limit}", Name(name))?;
        rate.map_or(Ok(()), |rate| write!(f, " rate {rate}"))
    }
}

impl fmt::Display for SourceLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, id, entries, limit, .. } = self;
        let name = Name(name);
        write!(f, "source limiter {name} id {id} entries {entries} limit {limit}")?;
        if let Some(rate) = self.rate {
            write!(f, " rate {rate}")?;
        }
        if let Some(LimiterTable { name, above, below }) = &self.table {
            write!(f, " table <{name}> above {above}")?;
            if *below > 0 {
                write!(f, " below {below}")?;
            }
        }
        if self.inet_mask < 32 {
            write!(f, " inet mask {}", self.inet_mask)?;
        }
        if self.inet6_mask < 128 {
            write!(f, " inet6 mask {}", self.inet6_mask)?;
        }
        Ok(())
    }
}
