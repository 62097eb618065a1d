//! Addresses of rules and tables: literals, networks, interface names, host names.
//!
//! Source: pf.conf(5) "from", "to"; OpenBSD sbin/pfctl/pfctl_parser.c `host`, `host_if`,
//! `ifa_lookup`.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pfapi::addr::{Af, Prefix};
use pfapi::check::{INTERFACE_NAME_MAX, ROUTE_LABEL_MAX, TABLE_NAME_MAX};
use pfapi::facts::Facts;
use pfapi::load::Parts;
use pfapi::rare::{Rare, Usual};
use pfapi::ruleset::{AddrMatch, DynamicAddr, DynamicPart};

use crate::diag::{Code, Diagnostic};
use crate::dialect::Dialect;
use crate::lookup::find;
use crate::parser::{Fallible, Pair, Rule, place, string, value};
use crate::scan::Statement;
use crate::source::Sources;

/// An address condition before expansion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) addr: AddrMatch,
    pub(crate) negated: bool,
    /// Family that the address fixes.
    pub(crate) af: Option<Af>,
    /// What few addresses say: lists may have hundreds of thousands.
    pub(crate) rare: Rare<HostWords>,
}

/// What few addresses say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostWords {
    /// Interface of a link-local address: the rule applies only there.
    pub(crate) scope: Option<String>,
    /// `weight`, in pools and tables.
    pub(crate) weight: Option<u16>,
    /// `@interface` behind the address.
    pub(crate) via: Option<String>,
    /// Prefix length of an IPv4 address that it cannot have.
    pub(crate) too_long: Option<u8>,
}

impl Usual for HostWords {
    fn usual() -> &'static Self {
        static USUAL: HostWords =
            HostWords { scope: None, weight: None, via: None, too_long: None };
        &USUAL
    }
}

impl Host {
    pub(crate) fn any() -> Self {
        Self { addr: AddrMatch::Any, negated: false, af: None, rare: Rare::usual() }
    }

    fn of(addr: AddrMatch) -> Self {
        Self { addr, ..Self::any() }
    }

    pub(crate) fn net(prefix: Prefix) -> Self {
        Self { af: Some(prefix.af()), ..Self::of(AddrMatch::Net(prefix)) }
    }

    /// The same, bound to an interface.
    pub(crate) fn scoped(mut self, scope: Option<String>) -> Self {
        if scope.is_some() {
            self.rare.scope = scope;
        }
        self
    }
}

/// What addresses need to know of the world.
#[derive(Clone, Copy)]
pub(crate) struct World<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) sources: &'a dyn Sources,
    /// Names are not resolved.
    pub(crate) numeric_only: bool,
    pub(crate) dialect: Dialect,
    /// What of the file is listed and kept.
    pub(crate) parts: Parts,
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
                hosts.push(Host::of(AddrMatch::Table(table_name(statement, &part)?.into())));
            }
            Rule::range => hosts.push(range(world, statement, &part)?),
            Rule::network | Rule::host => {
                let mut found = resolve(world, statement, &part, &host_text(&part))?;
                if hosts.is_empty() {
                    hosts = found;
                } else {
                    hosts.append(&mut found);
                }
            }
            Rule::weight => weighted = Some(weight(statement, &part)?),
            Rule::host_item => hosts.extend(host_item(world, statement, &part)?),
            _ => {}
        }
    }
    for host in &mut hosts {
        host.negated |= negated;
        if weighted.is_some() {
            host.rare.weight = weighted;
        }
        if let AddrMatch::Net(prefix) = host.addr
            && prefix.len() == 0
        {
            host.addr = AddrMatch::Any;
        }
    }
    Ok(hosts)
}

/// `address` or `network/length` as one word.
fn host_text<'s>(pair: &Pair<'s>) -> Cow<'s, str> {
    let text = pair.as_str().trim();
    if !text.contains(['"', '\'', ' ', '\t', '\r']) {
        return text.into();
    }
    let words: Vec<Cow<str>> = words(pair).map(|word| value(&word)).collect();
    words.join("/").into()
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
    Ok(Host::of(AddrMatch::RouteLabel(label.into())))
}

/// The names and numbers in a node, without its signs.
fn words<'s>(pair: &Pair<'s>) -> impl Iterator<Item = Pair<'s>> {
    pair.clone()
        .into_inner()
        .filter(|part| matches!(part.as_rule(), Rule::string | Rule::number | Rule::table_number))
}

/// Name in `<name>`, of whatever length.
pub(crate) fn raw_table_name(pair: &Pair) -> String {
    words(pair).next().map(|word| string(&word)).unwrap_or_default()
}

/// Name in `<name>` of a rule.
pub(crate) fn table_name(statement: &Statement, pair: &Pair) -> Fallible<String> {
    let name = raw_table_name(pair);
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
    let addr = DynamicAddr { interface, part, no_aliases, prefix_len };
    Ok(Host::of(AddrMatch::Dynamic(addr.into())))
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
        let addr = AddrMatch::range(low.addr(), high.addr());
        return Ok(Host { addr, af: Some(low.af()), ..Host::any() });
    }
    Err(Box::new(
        Diagnostic::error(Code::AddressRange, "invalid address range")
            .at(&place(statement, pair), "no address lies in this range")
            .help("write the lower address first, both of one family"),
    ))
}

/// Addresses that a word means; it may end in a prefix length and in `@interface`.
///
/// # Errors
/// The message about a word that means none.
pub(crate) fn resolve(
    world: World,
    statement: &Statement,
    pair: &Pair,
    text: &str,
) -> Fallible<Vec<Host>> {
    find(world, text).map_err(|lines| Box::new(unresolved(statement, pair, text, &lines)))
}

fn unresolved(statement: &Statement, pair: &Pair, whole: &str, lines: &[String]) -> Diagnostic {
    let (text, len) = whole.split_once('/').map_or((whole, None), |(text, len)| (text, Some(len)));
    let end = pair.as_span().start() + pair.as_str().trim_end().len();
    let mut diagnostic = Diagnostic::error(Code::Address, "could not parse host specification")
        .title(format!("no IP address found for `{whole}`"))
        .at(&place(statement, pair), "no address, interface or host name that resolves")
        .line_at(statement.next_token(end));
    for line in lines {
        diagnostic = diagnostic.before(line);
    }
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
