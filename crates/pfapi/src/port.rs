//! Port conditions of rules.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A port condition, as in pf.conf(5) "port". Ports are in host order.
///
/// Source: OpenBSD sys/net/pf.c `pf_match`.
///
/// ```
/// use pfapi::port::PortMatch;
///
/// let condition = PortMatch::Inside(1024, 2000);
/// assert!(condition.matches(1025) && !condition.matches(1024));
/// assert_eq!(condition.to_string(), "1024 >< 2000");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortMatch {
    /// `= a`
    Equal(u16),
    /// `!= a`
    NotEqual(u16),
    /// `< a`
    Less(u16),
    /// `<= a`
    LessOrEqual(u16),
    /// `> a`
    Greater(u16),
    /// `>= a`
    GreaterOrEqual(u16),
    /// `a:b`, both ends included
    Range(u16, u16),
    /// `a >< b`, both ends excluded
    Inside(u16, u16),
    /// `a <> b`, below the first or above the second
    Outside(u16, u16),
}

impl PortMatch {
    /// Whether `port` fulfils the condition.
    #[must_use]
    pub const fn matches(self, port: u16) -> bool {
        match self {
            Self::Equal(a) => port == a,
            Self::NotEqual(a) => port != a,
            Self::Less(a) => port < a,
            Self::LessOrEqual(a) => port <= a,
            Self::Greater(a) => port > a,
            Self::GreaterOrEqual(a) => port >= a,
            Self::Range(a, b) => a <= port && port <= b,
            Self::Inside(a, b) => a < port && port < b,
            Self::Outside(a, b) => port < a || port > b,
        }
    }
}

/// As pf prints it behind the word `port`.
impl fmt::Display for PortMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Equal(a) => write!(f, "= {a}"),
            Self::NotEqual(a) => write!(f, "!= {a}"),
            Self::Less(a) => write!(f, "< {a}"),
            Self::LessOrEqual(a) => write!(f, "<= {a}"),
            Self::Greater(a) => write!(f, "> {a}"),
            Self::GreaterOrEqual(a) => write!(f, ">= {a}"),
            Self::Range(a, b) => write!(f, "{a}:{b}"),
            Self::Inside(a, b) => write!(f, "{a} >< {b}"),
            Self::Outside(a, b) => write!(f, "{a} <> {b}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PortMatch::*;

    #[test]
    fn ends_of_every_operator() {
        for (condition, inside, outside) in [
            (Equal(80), 80, 81),
            (NotEqual(80), 79, 80),
            (Less(80), 79, 80),
            (LessOrEqual(80), 80, 81),
            (Greater(80), 81, 80),
            (GreaterOrEqual(80), 80, 79),
            (Range(80, 90), 90, 91),
            (Inside(80, 90), 81, 90),
            (Outside(80, 90), 91, 90),
        ] {
            assert!(condition.matches(inside), "{condition} must match {inside}");
            assert!(!condition.matches(outside), "{condition} must not match {outside}");
        }
    }
}
