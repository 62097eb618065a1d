//! Passive operating system fingerprints: what a SYN tells of the system that sent it.
//!
//! Source: pf.os(5); OpenBSD sys/net/pfvar.h `struct pf_osfp_ioctl`.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Most TCP options that a fingerprint can have.
pub const OPTIONS_MAX: usize = 16;

/// Most entries of a database, and most names of systems in all of them together.
pub const FINGERPRINTS_MAX: usize = 1 << 14;
/// Longest name of a class, version or subtype in octets (`PF_OSFP_LEN` less the terminator).
pub const OS_WORD_MAX: usize = 31;

/// One entry of the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Window size.
    pub window: WindowSize,
    /// Initial time to live.
    pub ttl: u8,
    /// Whether IPv4 packets have "don't fragment" set.
    pub dont_fragment: bool,
    /// Length of an IPv4 packet in octets; IPv6 packets are 20 octets longer.
    pub size: Quantity,
    /// TCP options in their order.
    pub options: Vec<TcpOption>,
    /// Value of the MSS option, if there is one.
    pub mss: Quantity,
    /// Value of the window scale option, if there is one.
    pub wscale: Quantity,
    /// Whether the own time stamp is zero.
    pub timestamp_zero: bool,
    /// Systems that answer to it: more than one where the version is a range.
    pub systems: Vec<OsName>,
}

/// A number of a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// `*`
    Any,
    /// Exactly this.
    Is(u16),
    /// `%N`: a multiple of this.
    MultipleOf(u16),
}

/// Window size of a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WindowSize {
    /// A number or any.
    Octets(Quantity),
    /// `SN`: this many times the MSS.
    TimesMss(u16),
    /// `TN`: this many times the MSS with its 40 octets of headers.
    TimesMtu(u16),
}

/// A TCP option that fingerprints know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TcpOption {
    /// `M`
    MaximumSegmentSize,
    /// `N`
    NoOperation,
    /// `S`
    SelectiveAck,
    /// `T`
    Timestamp,
    /// `W`
    WindowScale,
}

/// Name of an operating system as precise as it is given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OsName {
    /// Such as `Linux`.
    pub class: String,
    /// Such as `2.6`; `None` is every version.
    pub version: Option<String>,
    /// Such as `SP2`; `None` is every subtype. There is none without a version.
    pub subtype: Option<String>,
}

impl OsName {
    /// Whether a rule with this name fits a system of the name `system`.
    #[must_use]
    pub fn covers(&self, system: &Self) -> bool {
        let fits =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        self.class == system.class
            && fits(&self.version, &system.version)
            && fits(&self.subtype, &system.subtype)
    }
}

impl fmt::Display for OsName {
    /// As in rules. A numeric subtype follows a version with a dot behind another dot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.class)?;
        let Some(version) = &self.version else { return Ok(()) };
        write!(f, " {version}")?;
        let Some(subtype) = &self.subtype else { return Ok(()) };
        let numeric = subtype.starts_with(|first: char| first.is_ascii_digit());
        let dotted = !version.contains(' ') && version.contains('.') && numeric;
        write!(f, "{}{subtype}", if dotted { '.' } else { ' ' })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(class: &str, version: &str, subtype: &str) -> OsName {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        OsName { class: class.to_owned(), version: some(version), subtype: some(subtype) }
    }

    #[test]
    fn names_are_shown_as_in_rules() {
        for (class, version, subtype, shown) in [
            ("Linux", "", "", "Linux"),
            ("Linux", "2.2", "14", "Linux 2.2.14"),
            ("FreeBSD", "4.0", "STABLE", "FreeBSD 4.0 STABLE"),
            ("Windows", "2000", "3", "Windows 2000 3"),
            ("NMAP", "syn scan", "1", "NMAP syn scan 1"),
        ] {
            assert_eq!(name(class, version, subtype).to_string(), shown);
        }
    }

    #[test]
    fn less_precise_names_cover_more() {
        let system = name("Linux", "2.6", "1");
        assert!(name("Linux", "", "").covers(&system));
        assert!(name("Linux", "2.6", "").covers(&system));
        assert!(!name("Linux", "2.6", "2").covers(&system));
        assert!(!name("Linux", "2.6", "1").covers(&name("Linux", "2.6", "")));
    }
}
