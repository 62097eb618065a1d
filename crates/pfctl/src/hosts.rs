//! Addresses on the command line and in address files: numbers, interface names, host names.
//!
//! Source: OpenBSD sbin/pfctl/pfctl_parser.c `append_addr`, `host`, `host_if`; pfctl_radix.c
//! `pfr_buf_load`; pfctl.c `pfctl_addrprefix`.

use std::net::{IpAddr, Ipv4Addr};

use pfapi::addr::{Af, Prefix};
use pfapi::facts::{Facts, InterfaceAddress};
use pfapi::ruleset::{DynamicPart, TableEntry};

use crate::sources::lookup_host;

/// Why a word gave no addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing of that name.
    #[error("no IP address found for {0}")]
    Unknown(String),
    /// A prefix length that is none.
    #[error("invalid network mask {0}")]
    Mask(String),
}

/// What words may refer to.
pub struct Context<'a> {
    /// Interfaces that may be named.
    pub facts: &'a Facts,
    /// Whether hosts may be looked up; `-N` forbids it.
    pub lookup: bool,
}

/// Entries of a table that a word means; every `!` in front turns the meaning round.
///
/// # Errors
/// See [`HostError`].
pub fn table_entries(word: &str, context: &Context<'_>) -> Result<Vec<TableEntry>, HostError> {
    let host = word.trim_start_matches('!');
    let negated = (word.len() - host.len()) % 2 == 1;
    let prefixes = prefixes(host, context)?;
    Ok(prefixes.into_iter().map(|prefix| TableEntry { prefix, negated }).collect())
}

/// Networks that a word without `!` means; never empty.
///
/// # Errors
/// See [`HostError`].
pub fn prefixes(word: &str, context: &Context<'_>) -> Result<Vec<Prefix>, HostError> {
    let (host, mask) = word.split_once('/').map_or((word, None), |(host, mask)| (host, Some(mask)));
    let mask = match mask {
        None => None,
        Some(text) => {
            let bits: u8 = text.parse().map_err(|_| HostError::Mask(word.to_owned()))?;
            Some(bits)
        }
    };
    let addrs = if let Ok(addr) = host.parse::<IpAddr>() {
        vec![addr]
    } else if let (Some(addr), Some(_)) = (short_ipv4(host), mask) {
        vec![addr]
    } else if let Some(found) = interface_prefixes(host, context.facts) {
        if mask.is_none() {
            return non_empty(found, word);
        }
        found.into_iter().map(Prefix::addr).collect()
    } else if context.lookup {
        lookup_host(host)
    } else {
        Vec::new()
    };
    let cut = |addr: IpAddr| match mask {
        Some(bits) if bits > Af::of(addr).bits() => Err(HostError::Mask(word.to_owned())),
        Some(bits) => Ok(Prefix::new(addr, bits)),
        None => Ok(Prefix::host(addr)),
    };
    non_empty(addrs.into_iter().map(cut).collect::<Result<_, _>>()?, word)
}

fn non_empty(prefixes: Vec<Prefix>, word: &str) -> Result<Vec<Prefix>, HostError> {
    if prefixes.is_empty() { Err(HostError::Unknown(word.to_owned())) } else { Ok(prefixes) }
}

/// `10` or `192.168` in front of a mask: the missing octets are zero, as in inet_net_pton(3).
fn short_ipv4(text: &str) -> Option<IpAddr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let Some(part) = parts.next() else { break };
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets).into())
}

/// `tun0`, `tun0:network`, `tun0:0` and the like; `None` when there is no such interface.
fn interface_prefixes(word: &str, facts: &Facts) -> Option<Vec<Prefix>> {
    let mut parts = word.split(':');
    let name = parts.next()?;
    let mut part = DynamicPart::Address;
    let mut no_aliases = false;
    for modifier in parts {
        match modifier {
            "network" => part = DynamicPart::Network,
            "broadcast" => part = DynamicPart::Broadcast,
            "peer" => part = DynamicPart::Peer,
            "0" => no_aliases = true,
            _ => return None,
        }
    }
    let mut found = Vec::new();
    let mut known = false;
    for interface in facts.members(name) {
        known = true;
        let mut seen = Vec::new();
        for own in &interface.addresses {
            let af = Af::of(own.addr);
            if no_aliases && seen.contains(&af) {
                continue;
            }
            seen.push(af);
            let prefix = match part {
                DynamicPart::Address => Some(Prefix::host(own.addr)),
                DynamicPart::Network => Some(own.network()),
                DynamicPart::Broadcast => broadcast_of(*own).map(Prefix::host),
                DynamicPart::Peer => own.peer.map(Prefix::host),
            };
            found.extend(prefix.filter(|prefix| !found.contains(prefix)));
        }
    }
    known.then_some(found)
}

fn broadcast_of(own: InterfaceAddress) -> Option<IpAddr> {
    let IpAddr::V4(addr) = own.addr else { return None };
    let host_bits = u32::MAX.checked_shr(own.prefix_len.into()).unwrap_or(0);
    Some(Ipv4Addr::from_bits(addr.to_bits() | host_bits).into())
}

/// Words of an address file: separated by white space, `#` starts a comment.
#[must_use]
pub fn file_words(text: &str) -> Vec<&str> {
    let words = |line| str::split_whitespace(str::split(line, '#').next().unwrap_or_default());
    text.lines().flat_map(words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pfapi::facts::InterfaceFacts;

    fn show(word: &str) -> Result<String, String> {
        let own = |text: &str, prefix_len| InterfaceAddress::new(text.parse().unwrap(), prefix_len);
        let tun0 = InterfaceFacts {
            groups: vec!["tun".to_owned()],
            addresses: vec![
                own("10.0.1.1", 24),
                InterfaceAddress { peer: Some("10.0.1.9".parse().unwrap()), ..own("10.0.1.2", 24) },
                own("fd00::1", 64),
            ],
            ..InterfaceFacts::new("tun0")
        };
        let facts = Facts { interfaces: vec![tun0] };
        let context = Context { facts: &facts, lookup: false };
        table_entries(word, &context)
            .map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn words_become_entries() {
        for (word, entries) in [
            ("192.0.2.1", "192.0.2.1"),
            ("!192.0.2.1/24", "!192.0.2.0/24"),
            ("!!2001:db8::1", "2001:db8::1"),
            ("10/8", "10.0.0.0/8"),
            ("192.168/16", "192.168.0.0/16"),
            ("tun0", "10.0.1.1 10.0.1.2 fd00::1"),
            ("tun:0", "10.0.1.1 fd00::1"),
            ("!tun0:network", "!10.0.1.0/24 !fd00::/64"),
            ("tun0:broadcast", "10.0.1.255"),
            ("tun0:peer", "10.0.1.9"),
        ] {
            assert_eq!(show(word).as_deref(), Ok(entries), "{word}");
        }
    }

    #[test]
    fn wrong_words_are_named() {
        for (word, text) in [
            ("host.example", "no IP address found for host.example"),
            ("10", "no IP address found for 10"),
            ("", "no IP address found for "),
            ("192.0.2.1/33", "invalid network mask 192.0.2.1/33"),
            ("192.0.2.1/x", "invalid network mask 192.0.2.1/x"),
            ("tun0:odd", "no IP address found for tun0:odd"),
        ] {
            assert_eq!(show(word), Err(text.to_owned()), "{word}");
        }
    }

    #[test]
    fn files_have_comments() {
        assert_eq!(
            file_words("# a\n192.0.2.1 192.0.2.2 # b\n\n!10/8\n"),
            ["192.0.2.1", "192.0.2.2", "!10/8"]
        );
    }
}
