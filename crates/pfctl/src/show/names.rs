//! Names of protocols and addresses in listings.

use std::collections::HashMap;
use std::net::IpAddr;

/// Names of IP protocols as /etc/protocols of OpenBSD and Linux agree on them.
///
/// Fixed, so that a listing does not depend on the machine it is made on.
#[must_use]
pub const fn protocol(number: u8) -> Option<&'static str> {
    Some(match number {
        1 => "icmp",
        2 => "igmp",
        4 => "ipencap",
        6 => "tcp",
        8 => "egp",
        17 => "udp",
        41 => "ipv6",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "ipv6-icmp",
        89 => "ospf",
        94 => "ipip",
        97 => "etherip",
        103 => "pim",
        108 => "ipcomp",
        112 => "vrrp",
        132 => "sctp",
        240 => "pfsync",
        _ => return None,
    })
}

/// Number of a protocol by name or number.
#[must_use]
pub fn protocol_number(word: &str) -> Option<u8> {
    word.parse().ok().or_else(|| (0..=u8::MAX).find(|&number| protocol(number) == Some(word)))
}

/// Names of addresses, for `-r`; each address is looked up once.
#[derive(Default)]
pub struct HostNames {
    active: bool,
    known: HashMap<IpAddr, Option<String>>,
}

impl HostNames {
    /// `active` is whether names are wanted at all.
    #[must_use]
    pub fn new(active: bool) -> Self {
        Self { active, known: HashMap::new() }
    }

    /// The name of an address, when names are wanted and it has one.
    pub fn get(&mut self, addr: IpAddr) -> Option<&str> {
        if !self.active {
            return None;
        }
        self.known
            .entry(addr)
            .or_insert_with(|| {
                // Without a name the resolver gives the address back.
                let name = dns_lookup::lookup_addr(&addr).ok();
                name.filter(|name| *name != addr.to_string())
                    .map(|name| crate::console::printable(&name))
            })
            .as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_have_names_both_ways() {
        assert_eq!(protocol_number("tcp"), Some(6));
        assert_eq!(protocol_number("200"), Some(200));
        assert_eq!(protocol_number("nope"), None);
        assert_eq!(protocol(200), None);
    }
}
