//! Addresses that a name stands for: literals, interfaces, groups, host names.
//!
//! Source: OpenBSD sbin/pfctl/pfctl_parser.c `host`, `host_if`, `host_ip`, `host_dns`,
//! `ifa_lookup`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pfapi::addr::{Af, Prefix};
use pfapi::facts::{Facts, InterfaceFacts, InterfaceFlag};
use pfapi::ruleset::DynamicPart;

use crate::address::{Host, World};
use crate::criteria::c_number;
use crate::dialect::Dialect;

/// Addresses that a word means; it may end in a prefix length and in `@interface`.
///
/// # Errors
/// The lines that pfctl writes when there are none.
pub(crate) fn find(world: World, text: &str) -> Result<Vec<Host>, Vec<String>> {
    let (named, via) = text.rsplit_once('@').map_or((text, None), |(name, via)| (name, Some(via)));
    let (base, len) = named.split_once('/').map_or((named, None), |(base, len)| (base, Some(len)));
    let bits = len
        .map(|len| prefix_length(len).map_err(|wrong| vec![format!("netmask is {wrong}: /{len}")]));
    let bits = bits.transpose()?;
    let mut lines = Vec::new();
    let mut hosts = interface_hosts(world.facts, base, bits).unwrap_or_else(|line| {
        lines.push(line.to_owned());
        Vec::new()
    });
    if hosts.is_empty() {
        hosts.extend(literal(world, base, bits));
    }
    if hosts.is_empty() && world.dialect == Dialect::FreeBsd {
        let addr = c_address(base).map(|addr| masked(Prefix::host(addr.into()), bits));
        hosts.extend(addr);
    }
    if hosts.is_empty() && !world.numeric_only && may_be_host_name(base) {
        let (name, single) = base.strip_suffix(":0").map_or((base, false), |name| (name, true));
        let mut addresses = world.sources.lookup_host(name);
        if single {
            let mut seen = Vec::new();
            addresses.retain(|&addr| {
                let new = !seen.contains(&Af::of(addr));
                seen.push(Af::of(addr));
                new
            });
        }
        hosts.extend(addresses.into_iter().map(|addr| masked(Prefix::host(addr), bits)));
    }
    if hosts.is_empty() {
        lines.push(format!("no IP address found for {text}"));
        return Err(lines);
    }
    if let Some(via) = via.filter(|via| !via.is_empty()) {
        for host in &mut hosts {
            host.rare.via = Some(via.to_owned());
        }
    }
    Ok(hosts)
}

/// A host with another prefix length. One that IPv4 has not is kept for a message: pfctl finds it
/// when it expands the rule.
fn masked(prefix: Prefix, bits: Option<u8>) -> Host {
    let Some(bits) = bits else { return Host::net(prefix) };
    if bits > prefix.af().bits() {
        let mut host = Host::net(prefix);
        host.rare.too_long = Some(bits);
        return host;
    }
    Host::net(Prefix::new(prefix.addr(), bits))
}

/// A prefix length, or what is wrong with it in the words of strtonum(3).
fn prefix_length(text: &str) -> Result<u8, &'static str> {
    match text.parse::<i64>() {
        Ok(..0) => Err("too small"),
        Ok(bits) => u8::try_from(bits).ok().filter(|&bits| bits <= 128).ok_or("too large"),
        Err(_) => Err("invalid"),
    }
}

/// Whether a resolver may be asked. Not about numbers: it reads `10.1` as 10.0.0.1.
fn may_be_host_name(text: &str) -> bool {
    let name = text.strip_suffix(":0").unwrap_or(text);
    !name.starts_with(['-', '.'])
        && !name.contains(':')
        && name.bytes().any(|octet| octet.is_ascii_alphabetic())
}

/// An address as text, with an abbreviated IPv4 network or an IPv6 scope.
fn literal(world: World, text: &str, bits: Option<u8>) -> Option<Host> {
    let short = || bits.and_then(|_| abbreviated(text));
    let zeros = || if world.dialect == Dialect::OpenBsd { with_zeros(text) } else { None };
    if let Some(addr) = text.parse::<Ipv4Addr>().ok().or_else(short).or_else(zeros) {
        return Some(masked(Prefix::host(addr.into()), bits));
    }
    let (addr, scope) = text.split_once('%').map_or((text, None), |(a, s)| (a, Some(s)));
    let addr: Ipv6Addr = addr.parse().ok()?;
    let scope = match scope {
        Some(scope) if !names_interface(world.facts, addr, scope) => {
            scope.parse::<u32>().ok()?;
            None
        }
        scope => scope.map(str::to_owned),
    };
    Some(Host::net(Prefix::new(addr.into(), bits.unwrap_or(128))).scoped(scope))
}

/// Whether the scope of an address names an interface. Only addresses of a link or an interface
/// may have one by name; which interface has a number is known to the machine alone. Source:
/// OpenBSD lib/libc/asr/asr_utils.c.
fn names_interface(facts: &Facts, addr: Ipv6Addr, scope: &str) -> bool {
    let [first, second, ..] = addr.octets();
    let of_link =
        addr.is_unicast_link_local() || (first == 0xff && matches!(second & 0x0f, 0x01 | 0x02));
    of_link && facts.interface(scope).is_some()
}

/// Four numbers with zeros in front, which OpenBSD's inet_pton(3) takes.
fn with_zeros(text: &str) -> Option<Ipv4Addr> {
    (text.split('.').count() == 4).then(|| abbreviated(text))?
}

/// One to four numbers as FreeBSD's getaddrinfo(3) reads them: also octal and hexadecimal, and the
/// last one fills what is left.
fn c_address(text: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<u64> = text.split('.').map(c_number).collect::<Option<_>>()?;
    let signs = |c: char| !(c.is_ascii_hexdigit() || matches!(c, '.' | 'x' | 'X'));
    if text.contains(signs) {
        return None;
    }
    let (&last, front) = numbers.split_last()?;
    if front.len() > 3 || front.iter().any(|&number| number > 255) {
        return None;
    }
    let room = 32 - 8 * u32::try_from(front.len()).ok()?;
    if last >> room != 0 {
        return None;
    }
    let front = front.iter().fold(0, |bits, &number| (bits << 8) | number);
    let bits = front.checked_shl(room).unwrap_or(0) | last;
    Some(Ipv4Addr::from_bits(u32::try_from(bits).ok()?))
}

/// `10` or `10.1` in front of a prefix length: the missing numbers are zero.
fn abbreviated(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut places = octets.iter_mut();
    for number in text.split('.') {
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *places.next()? = number.parse().ok()?;
    }
    Some(octets.into())
}

/// Which of an interface's addresses are meant.
#[derive(Clone, Copy, Default)]
struct Wanted {
    part: Option<DynamicPart>,
    no_aliases: bool,
}

/// Addresses of an interface, a group or `self`; empty when `text` names none of them.
///
/// # Errors
/// A line that pfctl writes about modifiers that exclude each other.
fn interface_hosts(facts: &Facts, text: &str, bits: Option<u8>) -> Result<Vec<Host>, &'static str> {
    let Some((name, wanted)) = modifiers(text)? else { return Ok(Vec::new()) };
    let widened = matches!(wanted.part, Some(DynamicPart::Network | DynamicPart::Broadcast));
    if widened && bits.is_some() {
        return Err("network or broadcast lookup, but extra netmask given");
    }
    Ok(members(facts, name)
        .flat_map(|interface| addresses(interface, wanted))
        .map(|(prefix, scope)| masked(prefix, bits).scoped(scope))
        .collect())
}

/// Networks, or else addresses, of an interface, for `antispoof`.
pub(crate) fn antispoof_hosts(facts: &Facts, name: &str, networks: bool) -> Vec<Host> {
    let part = networks.then_some(DynamicPart::Network);
    let wanted = Wanted { part, no_aliases: false };
    members(facts, name)
        .flat_map(|interface| addresses(interface, wanted))
        .map(|(prefix, scope)| Host::net(prefix).scoped(scope))
        .collect()
}

fn members<'a>(facts: &'a Facts, name: &'a str) -> impl Iterator<Item = &'a InterfaceFacts> {
    let every = name == "self" || name == "all";
    let first = name.bytes().next();
    // Most names are numbers, and no interface is called like one.
    let known = |interface: &InterfaceFacts| {
        let groups = interface.groups.iter().map(String::as_str);
        groups.chain([interface.name.as_str()]).any(|name| name.bytes().next() == first)
    };
    let interfaces: &[InterfaceFacts] =
        if every || facts.interfaces.iter().any(known) { &facts.interfaces } else { &[] };
    // A name without a number stands for all interfaces that it is the front of.
    let front = !interfaces.is_empty()
        && !name.ends_with(|last: char| last.is_ascii_digit())
        && facts.members(name).next().is_none();
    interfaces.iter().filter(move |interface| {
        every
            || interface.name == name
            || interface.groups.iter().any(|group| group == name)
            || (front
                && interface
                    .name
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit())))
    })
}

/// Cuts the modifiers off; `None` where one is unknown, so that the text names no interface.
fn modifiers(text: &str) -> Result<Option<(&str, Wanted)>, &'static str> {
    let mut name = text;
    let mut wanted = Wanted::default();
    while let Some((front, modifier)) = name.rsplit_once(':') {
        let part = match modifier {
            "network" => DynamicPart::Network,
            "broadcast" => DynamicPart::Broadcast,
            "peer" => DynamicPart::Peer,
            "0" => {
                wanted.no_aliases = true;
                name = front;
                continue;
            }
            _ => return Ok(None),
        };
        if wanted.part.replace(part).is_some_and(|before| before != part) {
            return Err("illegal combination of interface modifiers");
        }
        name = front;
    }
    Ok(Some((name, wanted)))
}

/// Addresses that the modifiers choose, as networks where they say so.
fn addresses(
    interface: &InterfaceFacts,
    wanted: Wanted,
) -> impl Iterator<Item = (Prefix, Option<String>)> {
    let has = |flag| interface.flags.has(flag);
    let (broadcast, peers) = (has(InterfaceFlag::Broadcast), has(InterfaceFlag::PointToPoint));
    let mut seen: Vec<Af> = Vec::new();
    interface.addresses.iter().filter_map(move |&address| {
        let link_local = match address.addr {
            IpAddr::V6(addr) => addr.is_unicast_link_local(),
            IpAddr::V4(_) => false,
        };
        let prefix = match wanted.part.unwrap_or(DynamicPart::Address) {
            DynamicPart::Address => Prefix::host(address.addr),
            // Link-local networks are on every interface.
            DynamicPart::Network if link_local => return None,
            DynamicPart::Network => address.network(),
            DynamicPart::Broadcast => match address.addr {
                IpAddr::V4(addr) if broadcast && address.prefix_len < 31 => {
                    let host_bits = u32::MAX.checked_shr(address.prefix_len.into()).unwrap_or(0);
                    Prefix::host(Ipv4Addr::from_bits(addr.to_bits() | host_bits).into())
                }
                _ => return None,
            },
            DynamicPart::Peer if peers => Prefix::host(address.peer?),
            DynamicPart::Peer => return None,
        };
        let af = Af::of(address.addr);
        if wanted.no_aliases && seen.contains(&af) {
            return None;
        }
        seen.push(af);
        Some((prefix, link_local.then(|| interface.name.clone())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pfapi::facts::{InterfaceAddress, InterfaceFlags};
    use pfapi::ruleset::AddrMatch;

    fn facts() -> Facts {
        let address = |text: &str| {
            let (addr, len) = text.split_once('/').unwrap();
            InterfaceAddress::new(addr.parse().unwrap(), len.parse().unwrap())
        };
        Facts {
            interfaces: vec![InterfaceFacts {
                groups: vec!["tun".into()],
                addresses: ["10.1.2.3/24", "fd00::1/64", "fe80::1/64", "10.1.2.4/24"]
                    .map(address)
                    .to_vec(),
                flags: InterfaceFlags::from_iter([InterfaceFlag::Broadcast]),
                ..InterfaceFacts::new("tun0")
            }],
        }
    }

    fn shown(text: &str) -> Vec<String> {
        interface_hosts(&facts(), text, None)
            .unwrap()
            .into_iter()
            .map(|host| match host.addr {
                AddrMatch::Net(prefix) => prefix.to_string(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn modifiers_choose_addresses() {
        assert_eq!(shown("tun0"), ["10.1.2.3", "fd00::1", "fe80::1", "10.1.2.4"]);
        assert_eq!(shown("tun:network"), ["10.1.2.0/24", "fd00::/64", "10.1.2.0/24"]);
        assert_eq!(shown("tun0:0"), ["10.1.2.3", "fd00::1"]);
        assert_eq!(shown("self:broadcast:0"), ["10.1.2.255"]);
        assert_eq!(shown("tun0:peer"), [""; 0]);
        assert_eq!(shown("tun1"), [""; 0]);
    }

    #[test]
    fn a_resolver_is_asked_for_names_only() {
        for name in ["www.example.org", "www.example.org:0", "3com.example", "localhost"] {
            assert!(may_be_host_name(name), "{name}");
        }
        for number in ["10.0.0.1", "10.1", "10", "::1", "fe80::1", "", ":0", "-x"] {
            assert!(!may_be_host_name(number), "{number}");
        }
    }

    #[test]
    fn networks_may_be_abbreviated() {
        let facts = Facts::default();
        let sources = &crate::source::NoSources;
        let (dialect, parts) = (Dialect::OpenBsd, pfapi::load::Parts::ALL);
        let world = World { facts: &facts, sources, numeric_only: false, dialect, parts };
        for (word, prefix) in [
            ("10/8", "10.0.0.0/8"),
            ("192.168/16", "192.168.0.0/16"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("192.0.2.7", "192.0.2.7"),
        ] {
            let found = find(world, word).unwrap();
            assert_eq!(found[0].addr, AddrMatch::Net(prefix.parse().unwrap()), "{word}");
        }
        for word in ["10", "192.0.2.1/", "2001:db8::/129", "x/8", "/8", ""] {
            assert!(find(world, word).is_err(), "{word}");
        }
    }

    #[test]
    fn literals_may_be_abbreviated_only_as_networks() {
        let facts = facts();
        let sources = &crate::source::NoSources;
        let (dialect, parts) = (Dialect::OpenBsd, pfapi::load::Parts::ALL);
        let world = World { facts: &facts, sources, numeric_only: false, dialect, parts };
        let literal = |text, bits| super::literal(world, text, bits);
        assert_eq!(
            literal("10", Some(8)).unwrap().addr,
            AddrMatch::Net("10.0.0.0/8".parse().unwrap())
        );
        assert!(literal("10", None).is_none());
        assert!(literal("10.1", None).is_none());
        assert_eq!(literal("10.0.0.1", Some(33)).unwrap().rare.too_long, Some(33));
        assert!(literal("10.1.2.3.4", Some(8)).is_none());
        assert_eq!(literal("fe80::1%tun0", None).unwrap().rare.scope.as_deref(), Some("tun0"));
        assert!(literal("fe80::1%tun1", None).is_none());
        assert!(literal("2001:db8::1%tun0", None).is_none());
        assert_eq!(literal("2001:db8::1%7", None).unwrap().rare.scope, None);
        assert_eq!(
            literal("010.0.0.08", None).unwrap().addr,
            AddrMatch::Net("10.0.0.8".parse().unwrap())
        );
    }

    #[test]
    fn freebsd_reads_addresses_as_c_does() {
        let read = |text| c_address(text).map(|addr| addr.to_string());
        assert_eq!(read("10.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(read("0x0a000001").as_deref(), Some("10.0.0.1"));
        assert_eq!(read("010.0.0.1").as_deref(), Some("8.0.0.1"));
        assert_eq!(read("1.2.65535").as_deref(), Some("1.2.255.255"));
        for wrong in ["", "1.2.3.256", "256.1", "1.2.3.4.5", "4294967296", "-1", "1.x", "1..2"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
