//! Addresses of rules and tables: literals, networks, interface names, host names.
//!
//! Source: pf.conf(5) "from", "to"; OpenBSD sbin/pfctl/pfctl_parser.c `host`, `host_if`,
//! `ifa_lookup`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pfapi::addr::{Af, Prefix};
use pfapi::check::{INTERFACE_NAME_MAX, ROUTE_LABEL_MAX, TABLE_NAME_MAX};
use pfapi::facts::{Facts, InterfaceFacts, InterfaceFlag};
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
    /// `weight`, in pools and tables.
    pub(crate) weight: Option<u16>,
    /// `@interface` behind the address.
    pub(crate) via: Option<String>,
}

impl Host {
    pub(crate) fn any() -> Self {
        Self {
            addr: AddrMatch::Any,
            negated: false,
            af: None,
            scope: None,
            weight: None,
            via: None,
        }
    }

    fn of(addr: AddrMatch) -> Self {
        Self { addr, ..Self::any() }
    }

    pub(crate) fn net(prefix: Prefix) -> Self {
        Self { af: Some(prefix.af()), ..Self::of(AddrMatch::Net(prefix)) }
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

/// Hosts of a `host_list` or `host_item`; lists in lists are one list. Empty for `any`, and for
/// a list with `any` in it.
pub(crate) fn hosts(world: World, statement: &Statement, pair: &Pair) -> Fallible<Vec<Host>> {
    if pair.as_rule() == Rule::host_item {
        return host_item(world, statement, pair);
    }
    let mut found = Vec::new();
    let mut any = false;
    // Flattened, the nodes of a list come in the order of the text.
    for node in pair.clone().into_inner().flatten() {
        match node.as_rule() {
            Rule::host_item => found.extend(host_item(world, statement, &node)?),
            Rule::kw_any => any = true,
            _ => {}
        }
    }
    if any {
        found.clear();
    }
    Ok(found)
}

/// Hosts that one item of a list means: several where a name has several addresses.
pub(crate) fn host_item(world: World, statement: &Statement, item: &Pair) -> Fallible<Vec<Host>> {
    let mut negated = false;
    let mut hosts = Vec::new();
    let mut weighted = None;
    for part in item.clone().into_inner() {
        match part.as_rule() {
            Rule::not => negated = true,
            Rule::kw_no_route => hosts.push(Host::of(AddrMatch::NoRoute)),
            Rule::kw_urpf_failed => hosts.push(Host::of(AddrMatch::UrpfFailed)),
            Rule::route_label => hosts.push(route_label(statement, &part)?),
            Rule::dynamic => hosts.push(dynamic(statement, &part)?),
            Rule::table_ref => {
                hosts.push(Host::of(AddrMatch::Table(table_name(statement, &part)?)));
            }
            Rule::range => hosts.push(range(world, statement, &part)?),
            Rule::network | Rule::host => {
                let words = words(&part).map(|word| string(&word));
                let text: String = words.fold(String::new(), |text, word| {
                    if text.is_empty() { word } else { text + "/" + &word }
                });
                hosts.extend(resolve(world, statement, &part, &text)?);
            }
            Rule::weight => weighted = Some(weight(statement, &part)?),
            Rule::host_item => hosts.extend(host_item(world, statement, &part)?),
            _ => {}
        }
    }
    for host in &mut hosts {
        host.negated |= negated;
        host.weight = weighted.or(host.weight);
        if let AddrMatch::Net(prefix) = host.addr
            && prefix.len() == 0
        {
            host.addr = AddrMatch::Any;
        }
    }
    Ok(hosts)
}

fn weight(statement: &Statement, pair: &Pair) -> Fallible<u16> {
    let number = pair.clone().into_inner().find(|part| part.as_rule() == Rule::number);
    let number = number.and_then(|number| number.as_str().parse::<u16>().ok());
    number.filter(|&number| number > 0).ok_or_else(|| {
        Box::new(
            Diagnostic::error(Code::Value, "weight out of range")
                .at(&place(statement, pair), "a weight goes from 1 to 65535"),
        )
    })
}

fn route_label(statement: &Statement, pair: &Pair) -> Fallible<Host> {
    let label = pair.clone().into_inner().find(|part| part.as_rule() == Rule::string);
    let label = label.map(|word| string(&word)).unwrap_or_default();
    if label.len() > ROUTE_LABEL_MAX {
        return Err(Box::new(
            Diagnostic::error(
                Code::Address,
                format!("route label too long, max {ROUTE_LABEL_MAX} chars"),
            )
            .at(&place(statement, pair), format!("{} octets", label.len())),
        ));
    }
    Ok(Host::of(AddrMatch::RouteLabel(label)))
}

/// The names and numbers in a node, without its signs.
fn words<'s>(pair: &Pair<'s>) -> impl Iterator<Item = Pair<'s>> {
    pair.clone()
        .into_inner()
        .filter(|part| matches!(part.as_rule(), Rule::string | Rule::number | Rule::table_number))
}

/// Name in `<name>`.
pub(crate) fn table_name(statement: &Statement, pair: &Pair) -> Fallible<String> {
    let name = words(pair).next().map(|word| string(&word)).unwrap_or_default();
    if name.is_empty() || name.len() > TABLE_NAME_MAX {
        return Err(Box::new(
            Diagnostic::error(Code::Table, format!("table name '{name}' too long"))
                .at(&place(statement, pair), format!("{} octets", name.len())),
        ));
    }
    Ok(name)
}

fn dynamic(statement: &Statement, pair: &Pair) -> Fallible<Host> {
    let mut words = words(pair);
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
    let mut prefix_len = None;
    if let Some(number) = words.next() {
        let len = number.as_str().parse::<u8>().ok().filter(|&len| len <= 128);
        let Some(len) = len else {
            return Err(Box::new(
                error("bit number too big".into()).at(&here, "a prefix has at most 128 bits"),
            ));
        };
        prefix_len = Some(len).filter(|&len| len < 128);
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
    Ok(Host::of(AddrMatch::Dynamic(DynamicAddr { interface, part, no_aliases, prefix_len })))
}

fn range(world: World, statement: &Statement, pair: &Pair) -> Fallible<Host> {
    let mut ends = Vec::new();
    for word in words(pair) {
        let text = string(&word);
        let mut found = resolve(world, statement, &word, &text)?;
        if found.len() == 1 {
            ends.append(&mut found);
        }
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

/// Addresses that a word means; it may end in a prefix length and in `@interface`.
pub(crate) fn resolve(
    world: World,
    statement: &Statement,
    pair: &Pair,
    text: &str,
) -> Fallible<Vec<Host>> {
    let (named, via) = text.rsplit_once('@').map_or((text, None), |(name, via)| (name, Some(via)));
    let (base, len) = named.split_once('/').map_or((named, None), |(base, len)| (base, Some(len)));
    let bits = match len.map(|len| prefix_length(len).map_err(|wrong| (len, wrong))) {
        None => None,
        Some(Ok(bits)) => Some(bits),
        Some(Err((len, wrong))) => {
            let line = format!("netmask is {wrong}: /{len}");
            return Err(Box::new(
                unresolved(statement, pair, text, base, Some(len)).replace_before(line),
            ));
        }
    };
    let mut hosts = interface_hosts(world.facts, base, bits).map_err(|line| {
        Box::new(unresolved(statement, pair, text, base, len).before_first(line))
    })?;
    if hosts.is_empty() {
        hosts.extend(literal(base, bits));
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
        hosts.extend(addresses.into_iter().map(|addr| {
            Host::net(bits.map_or(Prefix::host(addr), |bits| Prefix::new(addr, bits)))
        }));
    }
    if hosts.is_empty() {
        return Err(Box::new(unresolved(statement, pair, text, base, len)));
    }
    for host in &mut hosts {
        host.via = via.filter(|via| !via.is_empty()).map(str::to_owned);
    }
    Ok(hosts)
}

/// A prefix length, or what is wrong with it in the words of strtonum(3).
fn prefix_length(text: &str) -> Result<u8, &'static str> {
    match text.parse::<i64>() {
        Ok(..0) => Err("too small"),
        Ok(bits) => u8::try_from(bits).ok().filter(|&bits| bits <= 128).ok_or("too large"),
        Err(_) => Err("invalid"),
    }
}

fn unresolved(
    statement: &Statement,
    pair: &Pair,
    whole: &str,
    text: &str,
    len: Option<&str>,
) -> Diagnostic {
    let end = pair.as_span().start() + pair.as_str().trim_end().len();
    let diagnostic = Diagnostic::error(Code::Address, "could not parse host specification")
        .before(format!("no IP address found for {whole}"))
        .title(format!("no IP address found for `{whole}`"))
        .at(&place(statement, pair), "no address, interface or host name that resolves")
        .line_at(statement.next_token(end));
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
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return diagnostic
            .help("an IPv4 address has four numbers from 0 to 255; only networks may be shorter, as in `10/8`");
    }
    diagnostic.help("an interface that has no address yet can be written in brackets: `(tun0)`")
}

fn may_be_host_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with([':', '-', '.'])
}

/// An address as text, with an abbreviated IPv4 network or an IPv6 scope.
fn literal(text: &str, bits: Option<u8>) -> Option<Host> {
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
///
/// # Errors
/// A line that pfctl writes about modifiers that exclude each other.
fn interface_hosts(facts: &Facts, text: &str, bits: Option<u8>) -> Result<Vec<Host>, &'static str> {
    let Some((name, wanted)) = modifiers(text)? else { return Ok(Vec::new()) };
    let widened = matches!(wanted.part, Some(DynamicPart::Network | DynamicPart::Broadcast));
    if widened && bits.is_some() {
        return Err("network or broadcast lookup, but extra netmask given");
    }
    let masked = |prefix: Prefix| bits.map_or(prefix, |bits| Prefix::new(prefix.addr(), bits));
    Ok(members(facts, name)
        .flat_map(|interface| addresses(interface, wanted))
        .map(|(prefix, scope)| Host { scope, ..Host::net(masked(prefix)) })
        .collect())
}

/// Networks, or else addresses, of an interface, for `antispoof`.
pub(crate) fn antispoof_hosts(facts: &Facts, name: &str, networks: bool) -> Vec<Host> {
    let part = networks.then_some(DynamicPart::Network);
    let wanted = Wanted { part, no_aliases: false };
    members(facts, name)
        .flat_map(|interface| addresses(interface, wanted))
        .map(|(prefix, scope)| Host { scope, ..Host::net(prefix) })
        .collect()
}

fn members<'a>(facts: &'a Facts, name: &'a str) -> impl Iterator<Item = &'a InterfaceFacts> {
    let every = name == "self";
    // A name without a number stands for all interfaces that it is the front of.
    let front =
        !name.ends_with(|last: char| last.is_ascii_digit()) && facts.members(name).next().is_none();
    facts.interfaces.iter().filter(move |interface| {
        every
            || interface.name == name
            || (name != "all" && interface.groups.iter().any(|group| group == name))
            || (name == "all")
            || front
                && interface
                    .name
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
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
