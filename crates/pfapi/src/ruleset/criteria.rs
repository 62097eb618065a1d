//! Conditions of rules besides addresses and ports.

use core::fmt;

use serde::{Deserialize, Serialize};

/// `on [!] interface`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceMatch {
    /// `!`
    pub negated: bool,
    /// Interface or group; `any` is every interface that is not a loopback.
    pub name: String,
}

/// `on [!] rdomain N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RdomainMatch {
    /// `!`
    pub negated: bool,
    /// Routing domain.
    pub id: u32,
}

/// `user` or `group`: a comparison with the id of the socket's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdMatch {
    /// `= a`
    Equal(Id),
    /// `!= a`
    NotEqual(Id),
    /// `< a`
    Less(u32),
    /// `<= a`
    LessOrEqual(u32),
    /// `> a`
    Greater(u32),
    /// `>= a`
    GreaterOrEqual(u32),
    /// `a >< b`, both ends excluded
    Inside(u32, u32),
    /// `a <> b`, below the first or above the second
    Outside(u32, u32),
}

/// A user or group id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Id {
    /// `unknown`: no socket on this host, as for every forwarded packet.
    Unknown,
    /// A number.
    Number(u32),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// As pf prints it behind the word `user` or `group`.
impl fmt::Display for IdMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Equal(a) => write!(f, "= {a}"),
            Self::NotEqual(a) => write!(f, "!= {a}"),
            Self::Less(a) => write!(f, "< {a}"),
            Self::LessOrEqual(a) => write!(f, "<= {a}"),
            Self::Greater(a) => write!(f, "> {a}"),
            Self::GreaterOrEqual(a) => write!(f, ">= {a}"),
            Self::Inside(a, b) => write!(f, "{a} >< {b}"),
            Self::Outside(a, b) => write!(f, "{a} <> {b}"),
        }
    }
}

/// `[!] tagged name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagMatch {
    /// `!`
    pub negated: bool,
    /// Name of the tag.
    pub name: String,
}

/// So many events in so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Events.
    pub limit: u32,
    /// Seconds.
    pub seconds: u32,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.limit, self.seconds)
    }
}

/// `flags want/mask`: the packet's flags in `mask` are exactly `want`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpFlagsMatch {
    /// Flags that must be set, a subset of `mask`.
    pub want: u8,
    /// Flags that are looked at.
    pub mask: u8,
}

impl TcpFlagsMatch {
    /// `flags S/SA`, the default of stateful pass rules.
    pub const S_SA: Self = Self { want: 0x02, mask: 0x12 };

    /// Letters of the flag bits 0 to 7 as pf.conf(5) writes them.
    pub const LETTERS: [char; 8] = ['F', 'S', 'R', 'P', 'A', 'U', 'E', 'W'];
}

/// Prints `S/SA`.
impl fmt::Display for TcpFlagsMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = |f: &mut fmt::Formatter<'_>, flags: u8| {
            for (bit, letter) in Self::LETTERS.iter().enumerate() {
                if flags & (1 << bit) != 0 {
                    write!(f, "{letter}")?;
                }
            }
            Ok(())
        };
        letters(f, self.want)?;
        f.write_str("/")?;
        letters(f, self.mask)
    }
}

/// `icmp-type T code C`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IcmpMatch {
    /// ICMP or `ICMPv6` type, by the family of the rule.
    pub icmp_type: u8,
    /// Code; `None` is any.
    pub code: Option<u8>,
}
