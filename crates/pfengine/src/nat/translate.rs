//! What the rules ask of the addresses of one packet that begins a state.
//!
//! During the evaluation only working copies change; they become real with the state. Source:
//! OpenBSD sys/net/pf_lb.c `pf_get_transaddr`, `pf_get_transaddr_af`, `pf_get_sport`.

use core::net::IpAddr;
use std::sync::Arc;

use pfapi::addr::Af;
use pfapi::port::PortMatch;
use pfapi::reason::Reason;
use pfapi::ruleset::{PoolPorts, RuleKind, proto};
use pfapi::units::{Direction, Uptime};

use super::embed::{embed, extract};
use super::family::{other, protocol};
use super::family_icmp;
use super::mapping::{MappingHold, Mappings};
use super::pool::{Asked, Choice, Pool};
use super::port::{self, Candidates, ICMP_IDS, PortSet};
use crate::addr::Addr;
use crate::packet_desc::{PacketDesc, Transport};
use crate::rng::Rng;
use crate::rules::{Addresses, LoadedRule, Translate};
use crate::source::{NodeKind, SourceHold, SourceNodes};
use crate::state::icmp::{self, IcmpClass};
use crate::state::key::{Key, Side};
use crate::state::store::View;
use crate::table::Share;

/// Candidates for ports and addresses that are looked at for one packet at most: every port
/// of one address.
const CANDIDATES_MAX: u32 = 65_536;
/// Times that a source may lose its new outer end to another packet.
const MAPPING_ATTEMPTS: u32 = 4;
/// Prefix length where an IPv6 destination is too wide to hold an IPv4 address.
const EMBEDDED_LEN: u8 = 96;

/// Chooses new addresses for one packet.
pub struct Translator<'a, 'v> {
    view: &'a View<'v>,
    sources: &'a SourceNodes,
    mappings: &'a Mappings,
    now: Uptime,
    af: Af,
    direction: Direction,
    number: u8,
    kind: Kind,
    family: Option<Family>,
    changed: bool,
    /// Parts of the state in the load of addresses.
    pub shares: Shares,
}

/// What stands in the place of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// TCP and UDP: the ports are in the working copy.
    Ports,
    /// An ICMP query.
    Query { id: u16, has_id: bool, virtual_type: u16 },
    /// Nothing.
    None,
    /// No state can be made, so nothing is translated.
    Untranslatable,
}

/// Working copy in the family that `af-to` gives.
#[derive(Clone, Copy, Debug)]
struct Family {
    af: Af,
    src: Addr,
    dst: Addr,
    sport: u16,
    dport: u16,
}

/// A pool with the rule that it belongs to.
#[derive(Clone, Copy)]
pub struct PoolOf<'a> {
    /// The pool.
    pub pool: &'a Pool,
    /// Its rule.
    pub rule: &'a Arc<LoadedRule>,
    /// Which of the rule's pools it is.
    pub kind: NodeKind,
    /// Family of the packet.
    pub af: Af,
}

/// Parts of a state in the loads of addresses and in source nodes: source, destination, next hop.
#[derive(Debug, Default)]
pub struct Shares {
    loads: [Option<Share>; 3],
    sources: [Option<SourceHold>; 3],
    mapping: Option<MappingHold>,
}

impl Shares {
    /// Whether the state holds nothing.
    pub fn is_empty(&self) -> bool {
        self.loads.iter().all(Option::is_none)
            && self.sources.iter().all(Option::is_none)
            && self.mapping.is_none()
    }

    /// Whether it keeps an address for its source.
    pub fn is_sticky(&self) -> bool {
        self.sources.iter().any(Option::is_some)
    }

    /// Holds one more for as long as the state lives. A later translation of the same address
    /// leaves the earlier one as it is: both pools were used.
    pub fn keep(&mut self, share: Option<Share>) {
        let Some(share) = share else { return };
        if let Some(place) = self.loads.iter_mut().find(|place| place.is_none()) {
            *place = Some(share);
        }
    }

    /// Keeps a source node, and with it the address, for as long as the state lives.
    pub fn stick(&mut self, hold: SourceHold) {
        if let Some(place) = self.sources.iter_mut().find(|place| place.is_none()) {
            *place = Some(hold);
        }
    }

    /// An address of a pool: the one that the source has already with `sticky-address`, else a
    /// new choice, which [`Self::settle`] makes last.
    pub fn choose(
        &mut self,
        pool: &PoolOf<'_>,
        sources: &SourceNodes,
        asked: &Asked,
        rng: &mut Rng,
    ) -> Option<(Choice, bool)> {
        if pool.pool.sticky && asked.before.is_none() {
            let source = (pool.af, asked.source);
            let is_there = |addr: IpAddr| {
                Af::of(addr) == asked.af && pool.pool.contains(asked.af, Addr::from(addr))
            };
            if let Some((addr, hold)) = sources.mapped(pool.rule, pool.kind, source, is_there) {
                self.stick(hold);
                return Some((Choice::from(Addr::from(addr)), true));
            }
        }
        Some((pool.pool.choose(asked, rng)?, false))
    }

    /// Keeps what was chosen anew.
    ///
    /// # Errors
    /// [`Reason::SrcLimit`] when there is no room for another source node.
    pub fn settle(
        &mut self,
        pool: &PoolOf<'_>,
        sources: &SourceNodes,
        (asked, now): (&Asked, Uptime),
        (choice, stuck): (Choice, bool),
    ) -> Result<(), Reason> {
        if pool.pool.sticky && !stuck {
            let mapped = choice.addr.to_ip(asked.af);
            let hold = sources.map(pool.rule, pool.kind, (pool.af, asked.source), mapped, now);
            self.stick(hold.map_err(|_| Reason::SrcLimit)?);
        }
        self.keep(choice.share);
        Ok(())
    }
}

impl<'a, 'v> Translator<'a, 'v> {
    /// For a packet that crosses in `direction`; `view` tells which ports are taken.
    pub fn new(
        view: &'a View<'v>,
        (sources, mappings, now): (&'a SourceNodes, &'a Mappings, Uptime),
        direction: Direction,
        desc: &PacketDesc,
    ) -> Self {
        let kind = match desc.transport {
            Transport::Tcp(_) | Transport::Udp { .. } => Kind::Ports,
            Transport::Icmp { icmp_type, id, .. } => match icmp::classify(desc.af, icmp_type) {
                IcmpClass::Query { virtual_type, has_id, reply: false } => {
                    Kind::Query { id: if has_id { id } else { 0 }, has_id, virtual_type }
                }
                _ => Kind::Untranslatable,
            },
            Transport::Other => Kind::None,
            Transport::Fragment => Kind::Untranslatable,
        };
        Self {
            view,
            sources,
            mappings,
            now,
            af: desc.af,
            direction,
            number: desc.proto,
            kind,
            family: None,
            changed: false,
            shares: Shares::default(),
        }
    }

    /// The key of the packet's state beyond the translation; `None` when no rule asked for one.
    pub fn key(&self, addresses: &Addresses) -> Option<Key> {
        if !self.changed {
            return None;
        }
        // Packets of the other family come in like answers.
        if let Some(Family { af, src, dst, sport, dport }) = self.family {
            let proto = protocol(self.number);
            let direction = self.direction.reversed();
            return Some(Key::of_packet(direction, (af, proto), (src, sport), (dst, dport)));
        }
        let (sport, dport) = self.ports(addresses);
        let ends = ((addresses.src, sport), (addresses.dst, dport));
        Some(Key::of_packet(self.direction, (addresses.af, self.number), ends.0, ends.1))
    }

    fn ports(&self, addresses: &Addresses) -> (u16, u16) {
        match self.kind {
            Kind::Ports => (addresses.sport, addresses.dport),
            Kind::Query { id, virtual_type, .. } => (id, virtual_type),
            Kind::None | Kind::Untranslatable => (0, 0),
        }
    }

    /// `nat-to`: a new source that no other state has towards the same destination.
    fn change_source(
        &mut self,
        pool: &PoolOf<'_>,
        addresses: &mut Addresses,
        rng: &mut Rng,
    ) -> Result<(), Reason> {
        let (wanted, dport) = self.ports(addresses);
        let (af, dst) = (addresses.af, (addresses.dst, dport));
        let (view, direction, number) = (self.view, self.direction, self.number);
        let side = Side::of(direction).other();
        let is_free = |addr, port| {
            let key = Key::of_packet(direction, (af, number), (addr, port), dst);
            !view.is_taken(&key, side)
        };
        let inner = (af, addresses.src, wanted);
        let (addr, port) = if pool.pool.endpoint_independent && number == proto::UDP {
            self.choose_mapping(pool, rng, inner, is_free)?
        } else {
            self.choose_source(pool, rng, inner, is_free)?
        };
        addresses.src = addr;
        match &mut self.kind {
            Kind::Ports => addresses.sport = port,
            Kind::Query { id, .. } => *id = port,
            Kind::None | Kind::Untranslatable => {}
        }
        Ok(())
    }

    /// The outer address and port that a source of UDP has, or else a new one that no other source
    /// has.
    fn choose_mapping(
        &mut self,
        pool: &PoolOf<'_>,
        rng: &mut Rng,
        inner: (Af, Addr, u16),
        is_free: impl Fn(Addr, u16) -> bool,
    ) -> Result<(Addr, u16), Reason> {
        let mappings = self.mappings;
        for _ in 0..MAPPING_ATTEMPTS {
            if let Some((outer, hold)) = mappings.find(inner) {
                // The same source and target have a state already, which is on its way out.
                if !is_free(outer.0, outer.1) {
                    return Err(Reason::Translate);
                }
                self.shares.mapping = Some(hold);
                return Ok(outer);
            }
            let outer = self.choose_source(pool, rng, inner, |addr, port| {
                is_free(addr, port) && !mappings.is_taken((inner.0, addr, port))
            })?;
            if let Some(hold) = mappings.insert(inner, (inner.0, outer.0, outer.1)) {
                self.shares.mapping = Some(hold);
                return Ok(outer);
            }
        }
        Err(Reason::Translate)
    }

    /// An address of the pool and a port there for which `is_free` says yes.
    fn choose_source(
        &mut self,
        pool: &PoolOf<'_>,
        rng: &mut Rng,
        (af, source, wanted): (Af, Addr, u16),
        is_free: impl Fn(Addr, u16) -> bool,
    ) -> Result<(Addr, u16), Reason> {
        let ports = pool.pool.ports.unwrap_or(PoolPorts::NAT_DEFAULT);
        let has_id = matches!(self.kind, Kind::Query { has_id: true, .. });
        let range = match (self.kind, ports) {
            (Kind::Ports | Kind::Query { .. }, PoolPorts::MapE { offset, len, psid })
                if has_id || self.kind == Kind::Ports =>
            {
                // The set of one customer bounds ids of queries, too (RFC 7597 section 5.1).
                Some(Candidates::Set(PortSet::new(offset, len, psid)))
            }
            (Kind::Query { .. }, _) if has_id => Some(Candidates::Range(ICMP_IDS)),
            (Kind::Ports, PoolPorts::Range(low, high)) if (low, high) != (0, 0) => {
                Some(Candidates::Range(low..=high))
            }
            _ => None,
        };
        let mut asked = Asked { af, source, host: source, before: None };
        let mut first = None;
        let mut looked_at = 0;
        while looked_at < CANDIDATES_MAX {
            let (choice, stuck) =
                self.shares.choose(pool, self.sources, &asked, rng).ok_or(Reason::Translate)?;
            if first == Some(choice.addr) {
                break;
            }
            first = first.or(Some(choice.addr));
            let found = match &range {
                None => {
                    looked_at += 1;
                    is_free(choice.addr, wanted).then_some(wanted)
                }
                Some(range) => range.choose(rng, |port| {
                    looked_at += 1;
                    is_free(choice.addr, port)
                }),
            };
            if let Some(port) = found {
                let addr = choice.addr;
                let kept = (&asked, self.now);
                self.shares.settle(pool, self.sources, kept, (choice, stuck))?;
                return Ok((addr, port));
            }
            if stuck || !pool.pool.has_others() {
                break;
            }
            asked.before = Some(choice.addr);
        }
        Err(Reason::Translate)
    }

    /// `rdr-to`: a new destination. `first` is where the ports of the rule's destination begin.
    fn change_target(
        &mut self,
        pool: &PoolOf<'_>,
        first: u16,
        addresses: &mut Addresses,
        rng: &mut Rng,
    ) -> Result<(), Reason> {
        let Addresses { af, src, dst, .. } = *addresses;
        let asked = Asked { af, source: src, host: dst, before: None };
        addresses.dst = self.choose(pool, &asked, rng)?;
        if let (Kind::Ports, Some(PoolPorts::Range(low, high))) = (self.kind, pool.pool.ports) {
            addresses.dport = port::redirect(addresses.dport, first, low, high);
        }
        Ok(())
    }

    /// An address for which no port is needed.
    fn choose(&mut self, pool: &PoolOf<'_>, asked: &Asked, rng: &mut Rng) -> Result<Addr, Reason> {
        let chosen = self.shares.choose(pool, self.sources, asked, rng);
        let chosen = chosen.ok_or(Reason::Translate)?;
        let addr = chosen.0.addr;
        self.shares.settle(pool, self.sources, (asked, self.now), chosen)?;
        Ok(addr)
    }

    /// `af-to`: addresses of the other family.
    fn change_family(
        &mut self,
        rule: &Arc<LoadedRule>,
        addresses: &Addresses,
        rng: &mut Rng,
    ) -> Result<(), Reason> {
        let af = other(addresses.af);
        let pool_of = |pool, kind| PoolOf { pool, rule, kind, af: addresses.af };
        let Some(nat) = &rule.pools.nat else { return Err(Reason::Translate) };
        let nat = pool_of(nat, NodeKind::Nat);
        let (mut sport, mut dport) = self.ports(addresses);
        if let Kind::Query { virtual_type, .. } = self.kind {
            let there = u8::try_from(virtual_type).ok();
            let there = there.and_then(|there| family_icmp::query(addresses.af, there));
            dport = u16::from(there.ok_or(Reason::Translate)?);
        }
        let target = rule.pools.rdr.as_ref();
        let to = match target {
            Some(pool) => {
                let asked = Asked { af, source: addresses.src, host: addresses.dst, before: None };
                let addr = self.choose(&pool_of(pool, NodeKind::Rdr), &asked, rng)?;
                if let (Kind::Ports, Some(PoolPorts::Range(low, _))) = (self.kind, pool.ports) {
                    dport = low;
                }
                Some((addr, pool.prefix_len(af)))
            }
            None => None,
        };
        // The destination may depend on the source and never the other way round.
        let dst = |src: Addr| match (af, to) {
            (Af::Inet, Some((addr, len))) => {
                let host = u128::from(u32::MAX.checked_shr(u32::from(len)).unwrap_or(0));
                Addr(addr.0 & !host | addresses.dst.0 & host)
            }
            (Af::Inet, None) => {
                let len = match &rule.rule.to.addr {
                    pfapi::ruleset::AddrMatch::Net(prefix) if prefix.len() >= 32 => prefix.len(),
                    _ => EMBEDDED_LEN,
                };
                extract(addresses.dst, len)
            }
            (Af::Inet6, Some((addr, len))) => embed(addr, len, addresses.dst),
            (Af::Inet6, None) => {
                embed(src, nat.pool.prefix_len(af).min(EMBEDDED_LEN), addresses.dst)
            }
        };
        let number = protocol(self.number);
        let (view, direction) = (self.view, self.direction.reversed());
        let (src, port) =
            self.choose_source(&nat, rng, (af, addresses.src, sport), |addr, port| {
                let key = Key::of_packet(direction, (af, number), (addr, port), (dst(addr), dport));
                !view.is_taken(&key, Side::Stack)
            })?;
        sport = port;
        self.family = Some(Family { af, src, dst: dst(src), sport, dport });
        Ok(())
    }
}

impl Translate for Translator<'_, '_> {
    fn translate(
        &mut self,
        rule: &Arc<LoadedRule>,
        addresses: &mut Addresses,
        rng: &mut Rng,
    ) -> Result<(), Reason> {
        if self.kind == Kind::Untranslatable {
            return Ok(());
        }
        self.changed = true;
        if rule.rule.af_to.is_some() {
            return self.change_family(rule, addresses, rng);
        }
        // A rule with both changes the source first.
        let af = self.af;
        let pool_of = |pool, kind| PoolOf { pool, rule, kind, af };
        let (source, target) = match (rule.rule.kind, self.direction) {
            // The two pools of `binat` are for one direction each.
            (RuleKind::Binat, Direction::In) => (None, rule.pools.rdr.as_ref()),
            (RuleKind::Binat, Direction::Out) => (rule.pools.nat.as_ref(), None),
            _ => (rule.pools.nat.as_ref(), rule.pools.rdr.as_ref()),
        };
        if let Some(pool) = source {
            self.change_source(&pool_of(pool, NodeKind::Nat), addresses, rng)?;
        }
        if let Some(pool) = target {
            let first = first_port(rule.rule.to.port);
            self.change_target(&pool_of(pool, NodeKind::Rdr), first, addresses, rng)?;
        }
        Ok(())
    }
}

/// Where the ports of a condition begin, as `rdr-to port a:b` counts them.
pub(super) const fn first_port(ports: Option<PortMatch>) -> u16 {
    match ports {
        None => 0,
        Some(
            PortMatch::Equal(port)
            | PortMatch::NotEqual(port)
            | PortMatch::Less(port)
            | PortMatch::LessOrEqual(port)
            | PortMatch::Greater(port)
            | PortMatch::GreaterOrEqual(port)
            | PortMatch::Range(port, _)
            | PortMatch::Inside(port, _)
            | PortMatch::Outside(port, _),
        ) => port,
    }
}
