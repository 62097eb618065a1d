//! The conditions of one rule.
//!
//! Order of the tests: OpenBSD sys/net/pf.c `pf_match_rule`. Addresses and ports are those that
//! the rules before have left, everything else is the packet's own.

use core::cell::OnceCell;
use std::sync::Arc;

use pfapi::reason::Reason;
use pfapi::ruleset::{Id, IdMatch, proto};
use pfapi::units::{Direction, IfIndex, Uptime};

use super::compile::{CompiledAddr, CompiledEndpoint, CompiledRule, Rest};
use super::fingerprint::{Fingerprints, SynFacts};
use super::rule::LoadedRule;
use super::tag::Tag;
use super::threshold::SharedThreshold;
use super::translate::{Addresses, Translate};
use crate::addr::Addr;
use crate::environment::{Owner, Routes, Sockets, Way};
use crate::fault::{self, Fault};
use crate::packet_desc::{PacketDesc, Transport};
use crate::rng::Rng;
use crate::state::icmp;

/// A packet with its place, as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct PacketView<'a> {
    /// The packet.
    pub desc: &'a PacketDesc,
    /// Its octets, from the IP header on.
    pub data: &'a [u8],
    /// Interface it crosses.
    pub interface: IfIndex,
    /// Direction in which it crosses.
    pub direction: Direction,
    /// Interface by which it came into this host; `None` for packets of this host itself.
    pub received_on: Option<IfIndex>,
    /// Tag that it carries.
    pub tag: Option<Tag>,
    /// Its priority.
    pub prio: u8,
}

/// What conditions ask besides the packet.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// For `probability`.
    pub rng: &'a mut Rng,
    /// For `max-pkt-rate`.
    pub now: Uptime,
    /// For `no-route` and `urpf-failed`; without them neither ever matches.
    pub routes: Option<&'a dyn Routes>,
    /// For `user` and `group`; without them every owner is unknown.
    pub sockets: Option<&'a dyn Sockets>,
}

/// What changes while rules are walked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Working {
    pub addresses: Addresses,
    pub tag: Option<Tag>,
}

/// Evaluation of a packet that is only thought of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    /// What a condition gives that is left to chance: true for a rule that passes, false for one
    /// that blocks, so that a packet is never blocked for less than certainty.
    pub chance: bool,
}

/// A packet in front of the conditions of one rule after the other.
#[derive(Debug)]
pub(super) struct Subject<'p> {
    pub packet: &'p PacketView<'p>,
    pub working: Working,
    surroundings: Surroundings<'p>,
    fingerprints: &'p Fingerprints,
    /// Whether the packet is only thought of: nothing is counted or used up.
    pub trial: Option<Trial>,
    /// The entry of the sender's system, once a rule has asked.
    system: OnceCell<Option<u32>>,
    /// Owner of the socket, once a rule has asked.
    owner: OnceCell<Option<Owner>>,
}

impl<'p> Subject<'p> {
    pub fn new(
        packet: &'p PacketView<'p>,
        surroundings: Surroundings<'p>,
        fingerprints: &'p Fingerprints,
    ) -> Self {
        let working = Working { addresses: Addresses::of(packet.desc), tag: packet.tag };
        Self {
            packet,
            working,
            surroundings,
            fingerprints,
            trial: None,
            system: OnceCell::new(),
            owner: OnceCell::new(),
        }
    }

    /// The moment of the packet.
    pub fn now(&self) -> Uptime {
        self.surroundings.now
    }

    /// The same, as a trial.
    pub fn tried(self, trial: Option<Trial>) -> Self {
        Self { trial, ..self }
    }

    /// Lets a rule translate.
    ///
    /// # Errors
    /// As [`Translate::translate`].
    pub fn translate(
        &mut self,
        rule: &Arc<LoadedRule>,
        translate: &mut impl Translate,
    ) -> Result<(), Reason> {
        translate.translate(rule, &mut self.working.addresses, self.surroundings.rng)
    }

    fn system(&self) -> Option<u32> {
        let (packet, fingerprints) = (self.packet, self.fingerprints);
        *self.system.get_or_init(|| {
            SynFacts::read(packet.data, packet.desc).and_then(|facts| fingerprints.find(&facts))
        })
    }

    fn owner(&self) -> Option<Owner> {
        let (packet, sockets) = (self.packet, self.surroundings.sockets);
        *self.owner.get_or_init(|| {
            // A packet that came in and goes out belongs to no socket of this host.
            if packet.direction == Direction::Out && packet.received_on.is_some() {
                return None;
            }
            let desc = packet.desc;
            let (sport, dport) = desc.ports();
            let src = (desc.src.to_ip(desc.af), sport);
            let dst = (desc.dst.to_ip(desc.af), dport);
            let (local, remote) = match packet.direction {
                Direction::In => (dst, src),
                Direction::Out => (src, dst),
            };
            sockets?.owner(desc.proto, local, remote)
        })
    }

    fn way_to(&self, addr: Addr) -> Option<Way> {
        let routes = self.surroundings.routes?;
        Some(routes.way_to(addr.to_ip(self.working.addresses.af)))
    }

    fn way_back(&self, addr: Addr) -> Option<Way> {
        let routes = self.surroundings.routes?;
        Some(routes.way_back(addr.to_ip(self.working.addresses.af)))
    }
}

impl CompiledRule {
    /// Whether the rule matches. `rate` is what `max-pkt-rate` has counted.
    pub(super) fn matches(&self, subject: &mut Subject<'_>, rate: &SharedThreshold) -> bool {
        let packet = subject.packet;
        let desc = packet.desc;
        let now = subject.working.addresses;
        self.interfaces.as_ref().is_none_or(|set| set.contains(packet.interface.0))
            && self.direction.is_none_or(|direction| direction == packet.direction)
            && self.af.is_none_or(|af| af == desc.af)
            && self.proto.is_none_or(|number| number == desc.proto)
            && self.from.matches_addr(now.src, subject)
            && self.to.matches_addr(now.dst, subject)
            && self.matches_transport(desc, &now)
            && self.rest.as_ref().is_none_or(|rest| rest.matches(subject, rate))
    }

    fn matches_transport(&self, desc: &PacketDesc, now: &Addresses) -> bool {
        match desc.transport {
            Transport::Tcp(tcp) => {
                self.matches_ports(now)
                    && self.flags.is_none_or(|flags| tcp.flags & flags.mask == flags.want)
            }
            Transport::Udp { .. } => self.matches_ports(now),
            Transport::Icmp { icmp_type, code, .. } => {
                let wanted = self.icmp.is_none_or(|wanted| {
                    wanted.icmp_type == icmp_type && wanted.code.is_none_or(|c| c == code)
                });
                // A reply cannot begin an exchange, so it makes no state.
                wanted && !(self.stateful && icmp::is_reply(desc.af, icmp_type))
            }
            Transport::Other => true,
            // Conditions on headers that a fragment may not have never hold.
            Transport::Fragment => {
                self.from.port.is_none()
                    && self.to.port.is_none()
                    && self.icmp.is_none()
                    && (self.flags.is_none() || desc.proto != proto::TCP)
            }
        }
    }

    fn matches_ports(&self, now: &Addresses) -> bool {
        self.from.port.is_none_or(|port| port.matches(now.sport))
            && (self.to.port.is_none_or(|port| port.matches(now.dport))
                || fault::is(Fault::PortsIgnored))
    }
}

impl Rest {
    fn matches(&self, subject: &mut Subject<'_>, rate: &SharedThreshold) -> bool {
        self.matches_ends(subject)
            && (!self.fragment || subject.packet.desc.transport == Transport::Fragment)
            && self.tos.is_none_or(|tos| tos == subject.packet.desc.tos & !ECN)
            // Source: OpenBSD `pf_match_rule`: the random number is from 1 to 2^32 - 2.
            && self.probability.is_none_or(|share| {
                if let Some(trial) = subject.trial {
                    return trial.chance;
                }
                let range = u64::from(u32::MAX - 1);
                let random = (u64::from(subject.surroundings.rng.next_u32()) * range) >> 32;
                u64::from(share) > random + 1
            })
            && self.tagged.is_none_or(|wanted| {
                (wanted.tag.is_some() && wanted.tag == subject.working.tag) != wanted.negated
            })
            && self.received_on.as_ref().is_none_or(|wanted| {
                let from = subject.packet.received_on;
                from.is_some_and(|from| wanted.interfaces.contains(from.0)) != wanted.negated
            })
            && self.prio.is_none_or(|prio| prio == subject.packet.prio)
            // Last, because asking counts the packet.
            && self.max_pkt_rate.is_none_or(|most| {
                let now = subject.surroundings.now;
                !match subject.trial {
                    Some(_) => rate.would_be_exceeded(most, now),
                    None => rate.exceeded_by_one_more(most, now),
                }
            })
    }

    /// Who sends or gets the packet: `os`, `user`, `group`. Only TCP and UDP rules have them.
    fn matches_ends(&self, subject: &Subject<'_>) -> bool {
        let Self { os, user, group, .. } = self;
        if os.is_none() && user.is_none() && group.is_none() {
            return true;
        }
        if subject.packet.desc.transport == Transport::Fragment {
            return false;
        }
        os.as_ref().is_none_or(|os| os.matches(subject.system()))
            && user.is_none_or(|id| matches_id(id, subject.owner().map(|owner| owner.uid)))
            && group.is_none_or(|id| matches_id(id, subject.owner().map(|owner| owner.gid)))
    }
}

/// The two bits of the TOS field that belong to ECN (RFC 3168).
const ECN: u8 = 0x03;

/// Whether an owner's id is as a rule wants it. Source: OpenBSD sys/net/pf.c `pf_match_uid`:
/// of an unknown owner only equality can be asked.
fn matches_id(wanted: IdMatch, id: Option<u32>) -> bool {
    let is = |wanted: Id| match wanted {
        Id::Unknown => id.is_none(),
        Id::Number(number) => id == Some(number),
    };
    match wanted {
        IdMatch::Equal(wanted) => is(wanted),
        IdMatch::NotEqual(wanted) => !is(wanted),
        IdMatch::Less(a) => id.is_some_and(|id| id < a),
        IdMatch::LessOrEqual(a) => id.is_some_and(|id| id <= a),
        IdMatch::Greater(a) => id.is_some_and(|id| id > a),
        IdMatch::GreaterOrEqual(a) => id.is_some_and(|id| id >= a),
        IdMatch::Inside(a, b) => id.is_some_and(|id| id > a && id < b),
        IdMatch::Outside(a, b) => id.is_some_and(|id| id < a || id > b),
    }
}

impl CompiledEndpoint {
    fn matches_addr(&self, addr: Addr, subject: &Subject<'_>) -> bool {
        let af = subject.working.addresses.af;
        let inside = match &self.addr {
            CompiledAddr::Any => return true,
            CompiledAddr::Net(net) => net.contains(af, addr),
            CompiledAddr::Nets(nets) => nets.iter().any(|net| net.contains(af, addr)),
            CompiledAddr::Range(family, low, high) => {
                *family == af && (*low..=*high).contains(&addr)
            }
            CompiledAddr::Table(table) if subject.trial.is_some() => table.holds(af, addr),
            CompiledAddr::Table(table) => table.lookup(af, addr),
            CompiledAddr::NoRoute => subject.way_to(addr) == Some(Way::None),
            CompiledAddr::UrpfFailed => {
                let back = Way::Interface(subject.packet.interface);
                subject.way_back(addr).is_some_and(|way| way != back)
            }
        };
        inside != self.negated
    }
}
