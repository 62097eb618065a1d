//! Addresses of rules and tables: literals, networks, interface names, host names.
//!
//! Source: pf.conf(5) "from", "to"; OpenBSD sbin/pfctl/pfctl_parser.c `host`, `host_if`,
//! `ifa_lookup`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pfapi::addr::{Af, Prefix};
use pfapi::check::{INTERFACE_NAME_MAX, TABLE_NAME_MAX};
use pfapi::facts::{Facts, InterfaceAddress, InterfaceFacts, InterfaceFlag};
use pfapi::ruleset::{AddrMatch, DynamicAddr, DynamicPart};

use crate::diag::{Code, Diagnostic};
use crate::parser::{Fallible, Pair, Rule, place, string};
use crate::scan::Statement;
use crate::source::Sources;

/// An address condition before expansion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) addr: AddrMatch,
    pub(crate) negated: bool,
    /// Family that the address fixes.
    pub(crate) af: Option<Af>,
    /// Interface of a link-local address: the rule applies only there.
    pub(crate) scope: Option<String>,
}

impl Host {
    pub(crate) fn any() -> Self {
        Self { addr: AddrMatch::Any, negated: false, af: None, scope: None }
    }

    fn net(prefix: Prefix) -> Self {
        let af = Some(prefix.af());
        Self { addr: AddrMatch::Net(prefix), negated: false, af, scope: None }
    }
}

/// What addresses need to know of the world.
#[derive(Clone, Copy)]
pub(crate) struct World<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) sources: &'a dyn Sources,
    /// Names are not resolved.
    pub(crate) numeric_only: bool,
}

/// Hosts of a `host_list` or `host_item`; lists in lists are one list.
pub(crate) fn hosts(world: World, statement: &Statement, pair: &Pair) -> Fallible<Vec<Host>> {
    let mut found = Vec::new();
    // Flattened, the nodes of a list come in the order of the text.
    for node in pair.clone().into_inner().flatten() {
        if node.as_rule() == Rule::host_item {
            found.extend(host_item(world, statement, &node)?);
        }
    }
    if pair.as_rule() == Rule::host_item {
        found.extend(host_item(world, statement, pair)?);
    }
    Ok(found)
}

/// Hosts that one `host_item` means: several where a name has several addresses.
pub(crate) fn host_item(world: World, statement: &Statement, item: &Pair) -> Fallible<Vec<Host>> {
    let mut negated = false;
    let mut hosts = Vec::new();
    for part in item.clone().into_inner() {
        match part.as_rule() {
            Rule::not => negated = true,
            Rule::kw_any => hosts.push(Host::any()),
            Rule::dynamic => hosts.push(dynamic(statement, &part)?),
            Rule::table_ref => {
                let name = table_name(statement, &part)?;
                hosts.push(Host { addr: AddrMatch::Table(name), ..Host::any() });
            }
            Rule::range => hosts.push(range(world, statement, &part)?),
            Rule::network => {
                let mut words = part.clone().into_inner();
                let base = words.next().map(|word| string(&word)).unwrap_or_default();
                let len = words.next().map(|word| word.as_str().to_owned());
                hosts.extend(resolve(world, statement, &part, &base, len.as_deref())?);
            }
            Rule::host => {
                let text = string(&part);
                let (base, len) =
                    text.split_once('/').map_or((&*text, None), |(b, l)| (b, Some(l)));
                hosts.extend(resolve(world, statement, &part, base, len)?);
            }
            _ => {
                let word = part.as_str().trim();
                return Err(Box::new(
                    Diagnostic::error(
                        Code::Unsupported,
                        format!("`{word}` is not supported by this version"),
                    )
                    .at(&place(statement, &part), "not supported"),
                ));
            }
        }
    }
    for host in &mut hosts {
        host.negated = negated;
        if let AddrMatch::Net(prefix) = host.addr
            && prefix.len() == 0
            && !negated
        {
            host.addr = AddrMatch::Any;
        }
    }
    Ok(hosts)
}

/// Name in `<name>`.
pub(crate) fn table_name(statement: &Statement, pair: &Pair) -> Fallible<String> {
    let name = pair.clone().into_inner().next().map(|word| string(&word)).unwrap_or_default();
    if name.is_empty() || name.len() > TABLE_NAME_MAX {
        return Err(Box::new(
            Diagnostic::error(
                Code::Table,
                format!("table name too long, max {TABLE_NAME_MAX} chars"),
            )
            .at(&place(statement, pair), format!("{} octets", name.len())),
        ));
    }
    Ok(name)
}

fn dynamic(statement: &Statement, pair: &Pair) -> Fallible<Host> {
    let mut words = pair.clone().into_inner();
    let text = words.next().map(|word| string(&word)).unwrap_or_default();
    let error = |text: String| Diagnostic::error(Code::Interface, text);
    let here = place(statement, pair);
    if !text.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return Err(Box::new(
            error(format!("invalid interface name '{text}'"))
                .at(&here, "an interface name starts with a letter")
                .help("brackets stand around interface names only; write an address without them"),
        ));
    }
    if words.next().is_some() {
        return Err(Box::new(
            Diagnostic::error(
                Code::Unsupported,
                "a prefix length behind `(interface)` is not supported by this version",
            )
            .at(&here, "not supported")
            .help("`(interface:network)` means the network that the address is in"),
        ));
    }
    let mut parts = text.split(':');
    let interface = parts.next().unwrap_or_default().to_owned();
    let mut part = None;
    let mut no_aliases = false;
    for modifier in parts {
        let chosen = match modifier {
            "network" => DynamicPart::Network,
            "broadcast" => DynamicPart::Broadcast,
            "peer" => DynamicPart::Peer,
            "0" => {
                no_aliases = true;
                continue;
            }
            _ => {
                return Err(Box::new(
                    error(format!("interface {text} has bad modifier"))
                        .at(&here, format!("`:{modifier}` is no modifier"))
                        .help("the modifiers are :network, :broadcast, :peer and :0"),
                ));
            }
        };
        if part.replace(chosen).is_some_and(|before| before != chosen) {
            return Err(Box::new(
                error("illegal combination of interface modifiers".into())
                    .at(&here, "only one of :network, :broadcast and :peer"),
            ));
        }
    }
    if interface.len() > INTERFACE_NAME_MAX {
        return Err(Box::new(
            error("interface name too long".into())
                .at(&here, format!("{} octets, {INTERFACE_NAME_MAX} at most", interface.len())),
        ));
    }
    let part = part.unwrap_or(DynamicPart::Address);
    let addr = AddrMatch::Dynamic(DynamicAddr { interface, part, no_aliases });
    Ok(Host { addr, ..Host::any() })
}

fn range(world: World, statement: &Statement, pair: &Pair) -> Fallible<Host> {
    let mut ends = Vec::new();
    for word in pair.clone().into_inner() {
        let text = string(&word);
        ends.extend(resolve(world, statement, &word, &text, None)?.into_iter().take(1));
    }
    if let [Host { addr: AddrMatch::Net(low), .. }, Host { addr: AddrMatch::Net(high), .. }] =
        ends.as_slice()
        && low.af() == high.af()
        && low <= high
        && low.is_host()
        && high.is_host()
    {
        let addr = AddrMatch::Range(low.addr(), high.addr());
        return Ok(Host { addr, af: Some(low.af()), ..Host::any() });
    }
    Err(Box::new(
        Diagnostic::error(Code::AddressRange, "invalid address range")
            .at(&place(statement, pair), "no address lies in this range")
            .help("write the lower address first, both of one family"),
    ))
}

/// Addresses that a word means, with the prefix length that was written behind it.
fn resolve(
    world: World,
    statement: &Statement,
    pair: &Pair,
    text: &str,
    len: Option<&str>,
) -> Fallible<Vec<Host>> {
    let bits = match len.map(str::parse::<u8>) {
        None => None,
        Some(Ok(bits)) if bits <= 128 => Some(bits),
        Some(_) => return Err(Box::new(unresolved(statement, pair, text, len))),
    };
    let mut hosts = match bits {
        Some(bits) => masked(world.facts, text, bits),
        None => interface_hosts(world.facts, text),
    };
    if hosts.is_empty() {
        hosts.extend(literal(text, bits));
    }
    if hosts.is_empty() && !world.numeric_only && may_be_host_name(text) {
        let (name, single) = text.strip_suffix(":0").map_or((text, false), |name| (name, true));
        let mut addresses = world.sources.lookup_host(name);
        if single {
            let mut seen = Vec::new();
            addresses.retain(|&addr| {
                let new = !seen.contains(&Af::of(addr));
                seen.push(Af::of(addr));
                new
            });
        }
        hosts.extend(addresses.into_iter().map(|addr| {
            Host::net(bits.map_or(Prefix::host(addr), |bits| Prefix::new(addr, bits)))
        }));
    }
    if hosts.is_empty() {
        return Err(Box::new(unresolved(statement, pair, text, len)));
    }
    Ok(hosts)
}

fn unresolved(statement: &Statement, pair: &Pair, text: &str, len: Option<&str>) -> Diagnostic {
    let whole = len.map_or_else(|| text.to_owned(), |len| format!("{text}/{len}"));
    let diagnostic = Diagnostic::error(Code::Address, "could not parse host specification")
        .before(format!("no IP address found for {whole}"))
        .title(format!("no IP address found for `{whole}`"))
        .at(&place(statement, pair), "no address, interface or host name that resolves");
    if let Some(len) = len {
        let v4 = text.parse::<Ipv4Addr>().is_ok();
        if v4 || text.parse::<Ipv6Addr>().is_ok() {
            let max = if v4 { 32 } else { 128 };
            return diagnostic
                .help(format!("/{len} is too long: this family has prefixes from 0 to {max}"));
        }
    }
    if text.contains('-') && text.split('-').all(|end| end.parse::<IpAddr>().is_ok()) {
        return diagnostic.help("put blanks around the dash of a range: `10.0.0.1 - 10.0.0.9`");
    }
    if let Some((addr, port)) = text.split_once(':')
        && addr.parse::<Ipv4Addr>().is_ok()
    {
        return diagnostic.help(format!("a port has a word of its own: `{addr} port {port}`"));
    }
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return diagnostic
            .help("an IPv4 address has four numbers from 0 to 255; only networks may be shorter, as in `10/8`");
    }
    diagnostic.help("an interface that has no address yet can be written in brackets: `(tun0)`")
}

/// Whether a resolver may be asked. Not about numbers: it reads `10.1` as 10.0.0.1, and an address
/// whose prefix is too long for its family as the address alone.
fn may_be_host_name(text: &str) -> bool {
    let name = text.strip_suffix(":0").unwrap_or(text);
    !name.starts_with(['-', '.'])
        && !name.contains(':')
        && name.bytes().any(|octet| octet.is_ascii_alphabetic())
}

/// An address as text, with an abbreviated IPv4 network or an IPv6 scope.
pub(crate) fn literal(text: &str, bits: Option<u8>) -> Option<Host> {
    if let Ok(addr) = text.parse::<Ipv4Addr>() {
        let bits = bits.unwrap_or(32);
        return (bits <= 32).then(|| Host::net(Prefix::new(addr.into(), bits)));
    }
    if let Some(bits) = bits.filter(|&bits| bits <= 32)
        && let Some(addr) = abbreviated(text)
    {
        return Some(Host::net(Prefix::new(addr.into(), bits)));
    }
    let (addr, scope) = text.split_once('%').map_or((text, None), |(a, s)| (a, Some(s)));
    let addr: Ipv6Addr = addr.parse().ok()?;
    let scope = scope.filter(|scope| !scope.is_empty()).map(str::to_owned);
    Some(Host { scope, ..Host::net(Prefix::new(addr.into(), bits.unwrap_or(128))) })
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
fn interface_hosts(facts: &Facts, text: &str) -> Vec<Host> {
    let (name, wanted) = modifiers(text);
    members(facts, name)
        .flat_map(|interface| addresses(interface, wanted))
        .map(|(prefix, scope)| Host { scope, ..Host::net(prefix) })
        .collect()
}

/// As `interface_hosts`, every address with the prefix length `bits`.
fn masked(facts: &Facts, text: &str, bits: u8) -> Vec<Host> {
    let (name, wanted) = modifiers(text);
    members(facts, name)
        .flat_map(|interface| chosen(interface, wanted))
        .map(|(address, scope)| Host { scope, ..Host::net(Prefix::new(address.addr, bits)) })
        .collect()
}

fn members<'a>(facts: &'a Facts, name: &'a str) -> impl Iterator<Item = &'a InterfaceFacts> {
    facts.members(if name == "self" { "all" } else { name }).filter(move |_| name != "all")
}

/// Cuts the modifiers off; an unknown one stays part of the name, which then names no interface.
fn modifiers(text: &str) -> (&str, Wanted) {
    let mut name = text;
    let mut wanted = Wanted::default();
    while let Some((front, modifier)) = name.rsplit_once(':') {
        match modifier {
            "network" => wanted.part = Some(DynamicPart::Network),
            "broadcast" => wanted.part = Some(DynamicPart::Broadcast),
            "peer" => wanted.part = Some(DynamicPart::Peer),
            "0" => wanted.no_aliases = true,
            _ => break,
        }
        name = front;
    }
    (name, wanted)
}

/// Addresses that the modifiers choose, before they are turned into networks.
fn chosen(
    interface: &InterfaceFacts,
    wanted: Wanted,
) -> impl Iterator<Item = (InterfaceAddress, Option<String>)> {
    let mut seen: Vec<Af> = Vec::new();
    interface.addresses.iter().filter_map(move |&address| {
        let af = Af::of(address.addr);
        let link_local = match address.addr {
            IpAddr::V6(addr) => addr.is_unicast_link_local(),
            IpAddr::V4(_) => false,
        };
        // pf leaves link-local networks and aliases out: they are on every interface.
        if link_local && (wanted.part == Some(DynamicPart::Network) || wanted.no_aliases) {
            return None;
        }
        if wanted.no_aliases && seen.contains(&af) {
            return None;
        }
        seen.push(af);
        Some((address, link_local.then(|| interface.name.clone())))
    })
}

fn addresses(
    interface: &InterfaceFacts,
    wanted: Wanted,
) -> impl Iterator<Item = (Prefix, Option<String>)> {
    let has_broadcast = interface.flags.has(InterfaceFlag::Broadcast);
    chosen(interface, wanted).filter_map(move |(address, scope)| {
        let prefix = match wanted.part.unwrap_or(DynamicPart::Address) {
            DynamicPart::Address => Prefix::host(address.addr),
            DynamicPart::Network => address.network(),
            DynamicPart::Broadcast => match address.addr {
                IpAddr::V4(addr) if has_broadcast && address.prefix_len < 31 => {
                    let host_bits = u32::MAX.checked_shr(address.prefix_len.into()).unwrap_or(0);
                    Prefix::host(Ipv4Addr::from_bits(addr.to_bits() | host_bits).into())
                }
                _ => return None,
            },
            DynamicPart::Peer => Prefix::host(address.peer?),
        };
        Some((prefix, scope))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pfapi::facts::InterfaceFlags;

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
        interface_hosts(&facts(), text)
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
        assert_eq!(shown("all"), [""; 0]);
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
    fn literals_may_be_abbreviated_only_as_networks() {
        assert_eq!(
            literal("10", Some(8)).unwrap().addr,
            AddrMatch::Net("10.0.0.0/8".parse().unwrap())
        );
        assert!(literal("10", None).is_none());
        assert!(literal("10.1", None).is_none());
        assert!(literal("10.0.0.1", Some(33)).is_none());
        assert!(literal("10.1.2.3.4", Some(8)).is_none());
        assert_eq!(literal("fe80::1%lo0", None).unwrap().scope.as_deref(), Some("lo0"));
    }
}
