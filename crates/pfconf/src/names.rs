//! Names of protocols, services and ICMP types and codes.
//!
//! Protocols print by these names whatever the machine's databases say, so that a listing means
//! the same everywhere. Sources: pf.conf(5); OpenBSD sbin/pfctl/pfctl_parser.c `icmp_type`,
//! `icmp6_type`, `icmp_code`, `icmp6_code`; IANA protocol and port registries.

use pfapi::addr::Af;

use crate::dialect::Dialect;

/// Name, number.
type Named = (&'static str, u8);

/// Protocol names; the first name of a number is the one that prints.
const PROTOCOLS: &[Named] = &[
    ("ip", 0),
    ("icmp", 1),
    ("igmp", 2),
    ("ggp", 3),
    ("ipencap", 4),
    ("ipip", 4),
    ("tcp", 6),
    ("egp", 8),
    ("udp", 17),
    ("rdp", 27),
    ("dccp", 33),
    ("ipv6", 41),
    ("ipv6-route", 43),
    ("ipv6-frag", 44),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ipsec-esp", 50),
    ("ah", 51),
    ("ipsec-ah", 51),
    ("ipv6-icmp", 58),
    ("icmp6", 58),
    ("icmpv6", 58),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("eigrp", 88),
    ("ospf", 89),
    ("etherip", 97),
    ("encap", 98),
    ("pim", 103),
    ("ipcomp", 108),
    ("vrrp", 112),
    ("carp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("mobility-header", 135),
    ("udplite", 136),
    ("mpls-in-ip", 137),
    ("hip", 139),
    ("divert", 254),
];

/// Services that rulesets name most; the same number for tcp and udp.
const SERVICES: &[(&str, u16)] = &[
    ("echo", 7),
    ("discard", 9),
    ("daytime", 13),
    ("chargen", 19),
    ("ftp-data", 20),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("mail", 25),
    ("time", 37),
    ("whois", 43),
    ("tacacs", 49),
    ("domain", 53),
    ("bootps", 67),
    ("dhcps", 67),
    ("bootpc", 68),
    ("dhcpc", 68),
    ("tftp", 69),
    ("gopher", 70),
    ("finger", 79),
    ("www", 80),
    ("http", 80),
    ("kerberos", 88),
    ("pop3", 110),
    ("sunrpc", 111),
    ("portmap", 111),
    ("auth", 113),
    ("ident", 113),
    ("nntp", 119),
    ("ntp", 123),
    ("netbios-ns", 137),
    ("netbios-dgm", 138),
    ("netbios-ssn", 139),
    ("imap", 143),
    ("imap2", 143),
    ("snmp", 161),
    ("snmp-trap", 162),
    ("snmptrap", 162),
    ("bgp", 179),
    ("irc", 194),
    ("ldap", 389),
    ("https", 443),
    ("microsoft-ds", 445),
    ("submissions", 465),
    ("smtps", 465),
    ("isakmp", 500),
    ("biff", 512),
    ("exec", 512),
    ("login", 513),
    ("who", 513),
    ("shell", 514),
    ("syslog", 514),
    ("printer", 515),
    ("route", 520),
    ("dhcpv6-client", 546),
    ("dhcpv6-server", 547),
    ("rtsp", 554),
    ("submission", 587),
    ("ipp", 631),
    ("ldaps", 636),
    ("ldp", 646),
    ("domain-s", 853),
    ("rsync", 873),
    ("imaps", 993),
    ("pop3s", 995),
    ("socks", 1080),
    ("openvpn", 1194),
    ("ms-sql-s", 1433),
    ("l2tp", 1701),
    ("pptp", 1723),
    ("radius", 1812),
    ("radius-acct", 1813),
    ("ssdp", 1900),
    ("nfsd", 2049),
    ("nfs", 2049),
    ("cvspserver", 2401),
    ("mysql", 3306),
    ("rdp", 3389),
    ("svn", 3690),
    ("ipsec-nat-t", 4500),
    ("sip", 5060),
    ("sip-tls", 5061),
    ("xmpp-client", 5222),
    ("xmpp-server", 5269),
    ("mdns", 5353),
    ("postgresql", 5432),
    ("x11", 6000),
    ("http-alt", 8080),
    ("spamd", 8025),
    ("bacula-dir", 9101),
    ("git", 9418),
];

const ICMP_TYPES: &[Named] = &[
    ("echoreq", 8),
    ("echorep", 0),
    ("unreach", 3),
    ("squench", 4),
    ("redir", 5),
    ("althost", 6),
    ("routeradv", 9),
    ("routersol", 10),
    ("timex", 11),
    ("paramprob", 12),
    ("timereq", 13),
    ("timerep", 14),
    ("inforeq", 15),
    ("inforep", 16),
    ("maskreq", 17),
    ("maskrep", 18),
    ("trace", 30),
    ("dataconv", 31),
    ("mobredir", 32),
    ("ipv6-where", 33),
    ("ipv6-here", 34),
    ("mobregreq", 35),
    ("mobregrep", 36),
    ("skip", 39),
    ("photuris", 40),
];

const ICMP6_TYPES: &[Named] = &[
    ("unreach", 1),
    ("toobig", 2),
    ("timex", 3),
    ("paramprob", 4),
    ("echoreq", 128),
    ("echorep", 129),
    ("groupqry", 130),
    ("listqry", 130),
    ("grouprep", 131),
    ("listenrep", 131),
    ("groupterm", 132),
    ("listendone", 132),
    ("routersol", 133),
    ("routeradv", 134),
    ("neighbrsol", 135),
    ("neighbradv", 136),
    ("redir", 137),
    ("routrrenum", 138),
    ("wrureq", 139),
    ("wrurep", 140),
    ("fqdnreq", 139),
    ("fqdnrep", 140),
    ("niqry", 139),
    ("nirep", 140),
    ("mtraceresp", 200),
    ("mtrace", 201),
    ("listenrepv2", 143),
];

/// Codes by name; the first number is the type that they belong to.
const ICMP_CODES: &[(u8, &str, u8)] = &[
    (3, "net-unr", 0),
    (3, "host-unr", 1),
    (3, "proto-unr", 2),
    (3, "port-unr", 3),
    (3, "needfrag", 4),
    (3, "srcfail", 5),
    (3, "net-unk", 6),
    (3, "host-unk", 7),
    (3, "isolate", 8),
    (3, "net-prohib", 9),
    (3, "host-prohib", 10),
    (3, "net-tos", 11),
    (3, "host-tos", 12),
    (3, "filter-prohib", 13),
    (3, "host-preced", 14),
    (3, "cutoff-preced", 15),
    (5, "redir-net", 0),
    (5, "redir-host", 1),
    (5, "redir-tos-net", 2),
    (5, "redir-tos-host", 3),
    (9, "normal-adv", 0),
    (9, "common-adv", 16),
    (11, "transit", 0),
    (11, "reassemb", 1),
    (12, "badhead", 0),
    (12, "optmiss", 1),
    (12, "badlen", 2),
    (40, "unknown-ind", 1),
    (40, "auth-fail", 2),
    (40, "decrypt-fail", 3),
];

/// Older name of `beyond-unr`: FreeBSD knows both and prints this one, OpenBSD has given it up.
const NOT_A_NEIGHBOUR: &str = "notnbr-unr";

const ICMP6_CODES: &[(u8, &str, u8)] = &[
    (1, "noroute-unr", 0),
    (1, "admin-unr", 1),
    (1, "beyond-unr", 2),
    (1, NOT_A_NEIGHBOUR, 2),
    (1, "addr-unr", 3),
    (1, "port-unr", 4),
    (3, "transit", 0),
    (3, "reassemb", 1),
    (4, "badhead", 0),
    (4, "nxthdr", 1),
    (137, "redironlink", 0),
    (137, "redirrouter", 1),
];

/// Number of a protocol by its built-in name.
#[must_use]
pub fn protocol_number(name: &str) -> Option<u8> {
    PROTOCOLS.iter().find(|(known, _)| *known == name).map(|&(_, number)| number)
}

/// Name of a protocol, as rules print it.
#[must_use]
pub fn protocol_name(number: u8) -> Option<&'static str> {
    PROTOCOLS.iter().find(|&&(_, known)| known == number).map(|&(name, _)| name)
}

/// Built-in protocol names, for suggestions and completions.
pub fn protocols() -> impl Iterator<Item = &'static str> {
    PROTOCOLS.iter().map(|&(name, _)| name)
}

/// Port of a service by its built-in name.
#[must_use]
pub fn service_port(name: &str) -> Option<u16> {
    SERVICES.iter().find(|(known, _)| *known == name).map(|&(_, port)| port)
}

/// Name of a service by its port.
#[must_use]
pub fn service_name(port: u16) -> Option<&'static str> {
    SERVICES.iter().find(|&&(_, known)| known == port).map(|&(name, _)| name)
}

/// Built-in service names, for suggestions and completions.
pub fn services() -> impl Iterator<Item = &'static str> {
    SERVICES.iter().map(|&(name, _)| name)
}

/// Number of an ICMP or ICMPv6 type by name.
#[must_use]
pub fn icmp_type_number(af: Af, name: &str) -> Option<u8> {
    icmp_type_table(af).iter().find(|(known, _)| *known == name).map(|&(_, number)| number)
}

/// Name of an ICMP or ICMPv6 type; the first one where a number has several.
#[must_use]
pub fn icmp_type_name(af: Af, number: u8) -> Option<&'static str> {
    icmp_type_table(af).iter().find(|&&(_, known)| known == number).map(|&(name, _)| name)
}

/// Names of the ICMP or ICMPv6 types, for suggestions and completions.
pub fn icmp_types(af: Af) -> impl Iterator<Item = &'static str> {
    icmp_type_table(af).iter().map(|&(name, _)| name)
}

/// Number of a code of an ICMP or ICMPv6 type by name.
#[must_use]
pub fn icmp_code_number(dialect: Dialect, af: Af, icmp_type: u8, name: &str) -> Option<u8> {
    icmp_code_table(af)
        .iter()
        .find(|&&(of, known, _)| of == icmp_type && known == name && is_in(dialect, known))
        .map(|&(_, _, number)| number)
}

/// Whether a dialect has a name of a code.
fn is_in(dialect: Dialect, name: &str) -> bool {
    dialect.is_freebsd() || name != NOT_A_NEIGHBOUR
}

/// Name of a code of an ICMP or ICMPv6 type.
#[must_use]
pub fn icmp_code_name(af: Af, icmp_type: u8, number: u8) -> Option<&'static str> {
    icmp_code_table(af)
        .iter()
        .find(|&&(of, _, known)| of == icmp_type && known == number)
        .map(|&(_, name, _)| name)
}

/// Name of a code of an ICMP or ICMPv6 type, as FreeBSD prints it.
#[must_use]
pub fn icmp_code_name_freebsd(af: Af, icmp_type: u8, number: u8) -> Option<&'static str> {
    match (af, icmp_type, number) {
        (Af::Inet6, 1, 2) => Some(NOT_A_NEIGHBOUR),
        _ => icmp_code_name(af, icmp_type, number),
    }
}

/// Names of the codes of an ICMP or ICMPv6 type.
pub fn icmp_codes(dialect: Dialect, af: Af, icmp_type: u8) -> impl Iterator<Item = &'static str> {
    icmp_code_table(af)
        .iter()
        .filter(move |&&(of, name, _)| of == icmp_type && is_in(dialect, name))
        .map(|&(_, name, _)| name)
}

const fn icmp_type_table(af: Af) -> &'static [Named] {
    match af {
        Af::Inet => ICMP_TYPES,
        Af::Inet6 => ICMP6_TYPES,
    }
}

const fn icmp_code_table(af: Af) -> &'static [(u8, &'static str, u8)] {
    match af {
        Af::Inet => ICMP_CODES,
        Af::Inet6 => ICMP6_CODES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_name_of_a_number_prints() {
        assert_eq!(protocol_name(58), Some("ipv6-icmp"));
        assert_eq!(protocol_number("icmp6"), Some(58));
        assert_eq!(icmp_type_name(Af::Inet6, 130), Some("groupqry"));
        assert_eq!(icmp_type_name(Af::Inet6, 139), Some("wrureq"));
        assert_eq!(service_port("https"), Some(443));
        assert_eq!(service_name(443), Some("https"));
    }

    #[test]
    fn codes_belong_to_their_type() {
        let number = |af, of, name| icmp_code_number(Dialect::OpenBsd, af, of, name);
        assert_eq!(number(Af::Inet, 3, "needfrag"), Some(4));
        assert_eq!(number(Af::Inet, 11, "needfrag"), None);
        assert_eq!(number(Af::Inet6, 1, NOT_A_NEIGHBOUR), None);
        assert_eq!(icmp_code_number(Dialect::FreeBsd, Af::Inet6, 1, NOT_A_NEIGHBOUR), Some(2));
        assert_eq!(icmp_code_name(Af::Inet6, 3, 1), Some("reassemb"));
    }
}
