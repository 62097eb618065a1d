//! Names of ICMP types.

/// Type numbers of ICMP: name, IPv4, IPv6.
///
/// Source: IANA ICMP and ICMPv6 parameters; names as in pf.conf(5) where it has them.
const TYPES: &[(&str, Option<u8>, Option<u8>)] = &[
    ("echo-reply", Some(0), Some(129)),
    ("unreach", Some(3), Some(1)),
    ("quench", Some(4), None),
    ("redirect", Some(5), Some(137)),
    ("echo-request", Some(8), Some(128)),
    ("too-big", None, Some(2)),
    ("time-exceeded", Some(11), Some(3)),
    ("param-problem", Some(12), Some(4)),
    ("timestamp-request", Some(13), None),
    ("timestamp-reply", Some(14), None),
    ("mask-request", Some(17), None),
    ("mask-reply", Some(18), None),
    ("mld-query", None, Some(130)),
    ("router-solicitation", None, Some(133)),
    ("router-advertisement", None, Some(134)),
    ("neighbor-solicitation", None, Some(135)),
    ("neighbor-advertisement", None, Some(136)),
];

/// Number of an ICMP type by its name.
#[must_use]
pub fn icmp_number(name: &str, v6: bool) -> Option<u8> {
    let (_, four, six) = TYPES.iter().find(|(known, ..)| *known == name)?;
    if v6 { *six } else { *four }
}

/// Name of an ICMP type.
#[must_use]
pub fn icmp_name(number: u8, v6: bool) -> Option<&'static str> {
    TYPES
        .iter()
        .find(|(_, four, six)| if v6 { *six == Some(number) } else { *four == Some(number) })
        .map(|(name, ..)| *name)
}
