//! Pools of one combination: which addresses fit, and what is made of several.
//!
//! Source: OpenBSD sbin/pfctl/parse.y `collapse_redirspec`, `apply_redirspec`;
//! sbin/pfctl/pfctl_optimize.c `add_opt_table`.

use pfapi::addr::{Af, Prefix};
use pfapi::port::PortMatch;
use pfapi::ruleset::{
    AddrMatch, DynamicPart, Pool, PoolKind, PoolMember, PoolPorts, Rule, TableDef, TableEntry,
};

use crate::address::Host;
use crate::criteria::PortSpan;
use crate::dialect::Dialect;
use crate::pool::PoolSpec;
use crate::tables::entry;

/// What a pool is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Source,
    Target,
    Route,
    /// Of a `binat` rule: for packets of both directions, ports stay.
    Both,
}

impl Purpose {
    const fn word(self) -> &'static str {
        match self {
            Self::Route => "routing",
            Self::Source | Self::Target | Self::Both => "translation",
        }
    }
}

/// Tables that pfctl makes of lists.
///
/// With `-n` a table is called by its number among all that could have become one. Before a load
/// it gets a name that no other ruleset has: with an identifier in it, and by its number among
/// those that were made.
#[derive(Debug, Default)]
pub(crate) struct AutoTables {
    pub(crate) made: Vec<TableDef>,
    count: usize,
    /// For a load: what tells this ruleset from others, and how many tables there are.
    loaded: Option<(u32, usize)>,
    /// Addresses in the tables of pools so far.
    held: usize,
    /// How many more tables, and addresses in them, `set limit` leaves to the optimizer.
    room: Option<(usize, usize)>,
}

/// The address of the pool for a combination; several become a table. The family of the rule is
/// fixed by it where nothing else has.
///
/// # Errors
/// The texts of what is wrong, as pfctl has them.
pub(crate) fn collapse(
    spec: Option<&PoolSpec>,
    rule: &mut Rule,
    purpose: Purpose,
    dialect: Dialect,
    tables: &mut AutoTables,
) -> Result<Option<Chosen>, String> {
    let Some(spec) = spec.filter(|spec| !spec.hosts.is_empty()) else { return Ok(None) };
    if spec.af.is_some() {
        rule.af_to = spec.af;
    }
    let openbsd = dialect == Dialect::OpenBsd;
    let any_family = spec.prefer_ipv6_nexthop;
    let mut af = None;
    let mut chosen: Vec<&Host> = Vec::new();
    for host in &spec.hosts {
        if let (Purpose::Route, AddrMatch::Dynamic(dynamic)) = (purpose, &host.addr)
            && openbsd
            && (dynamic.part != DynamicPart::Peer || dynamic.no_aliases)
        {
            return Err("route spec requires :peer with dynamic interface addresses".to_owned());
        }
        if openbsd && rule.af.is_none() && af.is_none() && spec.af.is_some() {
            // The packets of the rule have the other family.
            af = rule.af_to.map(other);
        }
        match (host.af, rule.af_to) {
            (Some(found), None) if !any_family => {
                if rule.af.is_some_and(|af| af != found) {
                    continue;
                }
                if rule.af.is_none() && af.is_some_and(|af| af != found) {
                    let what = purpose.word();
                    return Err(format!(
                        "{what} spec contains addresses with different address families"
                    ));
                }
            }
            (Some(found), Some(_)) if spec.af.is_some_and(|af| af != found) => {
                let what = purpose.word();
                return Err(format!(
                    "{what} spec contains addresses that don't match target address family"
                ));
            }
            _ => {}
        }
        if rule.af.is_none() && af.is_none() && !any_family && (openbsd || spec.af.is_none()) {
            af = host.af;
        }
        if let Some(before) = chosen.last() {
            if openbsd && spec.kind.is_some_and(|kind| !kind.is_dynamic()) {
                return Err("pool type is not valid for multiple translation or routing addresses"
                    .to_owned());
            }
            if openbsd && chosen.len() == 1 && !is_plain(before) && !is_plain(host) {
                return Err("multiple tables or dynamic interfaces not supported for translation \
                            or routing"
                    .to_owned());
            }
        }
        if openbsd && host.rare.via.is_some() {
            return Err(format!("@if not permitted for {}", purpose.word()));
        }
        chosen.push(host);
    }
    rule.af = rule.af.or(af);
    match chosen.as_slice() {
        [] => Err(format!("af mismatch in {} spec", purpose.word())),
        [one] => Ok(Some(Chosen::one(one))),
        many if openbsd => Ok(Some(Chosen::of(tables.make(many)?))),
        [first, more @ ..] => {
            let member =
                |host: &&Host| PoolMember { addr: host.addr.clone(), via: host.rare.via.clone() };
            Ok(Some(Chosen { more: more.iter().map(member).collect(), ..Chosen::one(first) }))
        }
    }
}

/// The addresses of a pool that fit a combination.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub(crate) addr: AddrMatch,
    pub(crate) via: Option<String>,
    pub(crate) more: Vec<PoolMember>,
}

impl Chosen {
    pub(crate) const fn of(addr: AddrMatch) -> Self {
        Self { addr, via: None, more: Vec::new() }
    }

    fn one(host: &Host) -> Self {
        Self { via: host.rare.via.clone(), ..Self::of(host.addr.clone()) }
    }
}

const fn other(af: Af) -> Af {
    match af {
        Af::Inet => Af::Inet6,
        Af::Inet6 => Af::Inet,
    }
}

const fn is_plain(host: &Host) -> bool {
    matches!(host.addr, AddrMatch::Net(_) | AddrMatch::Any)
}

/// Most addresses of all pools that become tables.
const POOLS_MAX: usize = 2_000_000;

impl AutoTables {
    /// `ruleset` tells it from others; `None` when it is not to be loaded.
    pub(crate) const fn new(ruleset: Option<u32>) -> Self {
        let loaded = match ruleset {
            Some(ruleset) => Some((ruleset, 0)),
            None => None,
        };
        Self { made: Vec::new(), count: 0, loaded, held: 0, room: None }
    }

    /// Whether pools have had too many addresses: no further combination can do without.
    pub(crate) const fn is_full(&self) -> bool {
        self.held > POOLS_MAX
    }

    /// Leaves room for `tables` more, with `addresses` in all of them.
    pub(crate) const fn limit(&mut self, tables: usize, addresses: usize) {
        self.room = Some((tables, addresses));
    }

    /// Takes the room for a table; `false` when there is none. pfctl does not ask, and such a load
    /// fails.
    pub(crate) const fn take_room(&mut self, addresses: usize) -> bool {
        match &mut self.room {
            None => true,
            Some((tables, left)) if *tables > 0 && *left >= addresses => {
                *tables -= 1;
                *left -= addresses;
                true
            }
            Some(_) => false,
        }
    }

    /// The number of the next table, whether it will be made or not.
    pub(crate) const fn reserve(&mut self) -> usize {
        self.count += 1;
        self.count - 1
    }

    /// Makes the table with this number; gives its name.
    pub(crate) fn define(
        &mut self,
        number: usize,
        entries: Vec<TableEntry>,
        weights: Vec<(Prefix, u16)>,
    ) -> String {
        let name = match &mut self.loaded {
            Some((ruleset, made)) => {
                *made += 1;
                format!("__automatic_{ruleset:x}_{}", *made - 1)
            }
            None => format!("__automatic_{number}"),
        };
        self.made.push(TableDef {
            name: name.clone(),
            constant: true,
            entries: Some(entries),
            weights,
            ..TableDef::default()
        });
        name
    }

    /// A table with these addresses, and its name as an address.
    fn make(&mut self, hosts: &[&Host]) -> Result<AddrMatch, String> {
        self.held += hosts.len();
        if self.held > POOLS_MAX {
            return Err(format!(
                "pools of several addresses have more than {POOLS_MAX} in all combinations"
            ));
        }
        let number = self.reserve();
        let mut entries: Vec<TableEntry> = Vec::new();
        let mut weights = Vec::new();
        for host in hosts {
            let Some(entry) = entry(host) else {
                return Err("only addresses can be listed in a pool".to_owned());
            };
            weights.extend(host.rare.weight.map(|weight| (entry.prefix, weight)));
            entries.push(entry);
        }
        Ok(AddrMatch::Table(self.define(number, entries, weights).into()))
    }
}

/// The pool with its ports and its way of choosing.
///
/// # Errors
/// The text of what is wrong, as pfctl has it.
pub(crate) fn apply(
    spec: &PoolSpec,
    chosen: Chosen,
    purpose: Purpose,
    is_freebsd: bool,
    target_port: Option<PortMatch>,
) -> Result<Pool, String> {
    let Chosen { addr, via, more } = chosen;
    let ports = match purpose {
        Purpose::Source => Some(source_ports(spec.port)),
        Purpose::Target => target_ports(spec.port, target_port)?,
        Purpose::Both | Purpose::Route => None,
    };
    // FreeBSD's pfctl leaves the interface of `af-to` as it is.
    let changes_family = is_freebsd && spec.af.is_some();
    let multiple = match &addr {
        _ if purpose == Purpose::Both => false,
        _ if !more.is_empty() => true,
        AddrMatch::Table(_) => true,
        AddrMatch::Dynamic(_) if changes_family => false,
        AddrMatch::Dynamic(dynamic) => dynamic.is_multiple(),
        _ => false,
    };
    let usual = if multiple { PoolKind::RoundRobin } else { PoolKind::Single };
    let mut pool = Pool {
        addr,
        via,
        more,
        ports,
        kind: spec.kind.unwrap_or(usual),
        sticky: spec.sticky,
        endpoint_independent: spec.endpoint_independent,
        prefer_ipv6_nexthop: spec.prefer_ipv6_nexthop,
    };
    let unasked = changes_family && pool.kind == PoolKind::Single;
    if !pool.kind.is_dynamic() && !unasked {
        for host in &spec.hosts {
            match &host.addr {
                AddrMatch::Table(_) => {
                    return Err("tables are not supported by pool type".to_owned());
                }
                AddrMatch::Dynamic(dynamic) if dynamic.is_multiple() => {
                    let name = &dynamic.interface;
                    return Err(format!("interface ({name}) is not supported by pool type"));
                }
                _ => {}
            }
        }
    }
    if is_freebsd && !pool.more.is_empty() && pool.kind != PoolKind::RoundRobin {
        return Err("r.route.opts must be PF_POOL_ROUNDROBIN".to_owned());
    }
    if spec.static_port {
        if purpose != Purpose::Source {
            return Err("the 'static-port' option is only valid with nat rules".to_owned());
        }
        if let Some(PoolPorts::Range(low, high)) = pool.ports
            && low != pfapi::ruleset::NAT_PORT_LOW
            && high != pfapi::ruleset::NAT_PORT_HIGH
        {
            return Err(
                "the 'static-port' option can't be used when specifying a port range".to_owned()
            );
        }
        pool.ports = Some(PoolPorts::Static);
    }
    if let Some((offset, len, psid)) = spec.map_e {
        let text = if purpose != Purpose::Source {
            "the 'map-e-portset' option is only valid with nat rules"
        } else if spec.static_port {
            "the 'map-e-portset' option can't be used 'static-port'"
        } else if pool.ports != Some(PoolPorts::NAT_DEFAULT) {
            "the 'map-e-portset' option can't be used when specifying a port range"
        } else {
            pool.ports = Some(PoolPorts::MapE { offset, len, psid });
            return Ok(pool);
        };
        return Err(text.to_owned());
    }
    Ok(pool)
}

fn source_ports(port: Option<PortSpan>) -> PoolPorts {
    match port {
        None | Some(PortSpan::One(0) | PortSpan::Star(0)) => PoolPorts::NAT_DEFAULT,
        Some(PortSpan::One(port) | PortSpan::Star(port)) => PoolPorts::Range(port, port),
        Some(PortSpan::Range(low, high)) => {
            PoolPorts::Range(low, if high == 0 { low } else { high })
        }
    }
}

fn target_ports(
    port: Option<PortSpan>,
    target_port: Option<PortMatch>,
) -> Result<Option<PoolPorts>, String> {
    Ok(match port {
        None => None,
        Some(PortSpan::One(port)) => Some(PoolPorts::Range(port, 0)),
        Some(PortSpan::Range(low, high)) if low > high => {
            return Err("invalid rdr-to port range".to_owned());
        }
        Some(PortSpan::Range(low, high)) => Some(PoolPorts::Range(low, high)),
        Some(PortSpan::Star(low)) => {
            // As pfctl computes it: an operator with one port has none behind it.
            let (first, last) = match target_port {
                None => (0, 0),
                Some(
                    PortMatch::Range(first, last)
                    | PortMatch::Inside(first, last)
                    | PortMatch::Outside(first, last),
                ) => (first, last),
                Some(
                    PortMatch::Equal(port)
                    | PortMatch::NotEqual(port)
                    | PortMatch::Less(port)
                    | PortMatch::LessOrEqual(port)
                    | PortMatch::Greater(port)
                    | PortMatch::GreaterOrEqual(port),
                ) => (port, 0),
            };
            Some(PoolPorts::Range(low, low.wrapping_add(last.wrapping_sub(first))))
        }
    })
}
