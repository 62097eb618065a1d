//! The conditions of one rule.
//!
//! Order of the tests: OpenBSD sys/net/pf.c `pf_match_rule`. Addresses and ports are those that
//! the rules before have left, everything else is the packet's own.

use pfapi::addr::Af;
use pfapi::ruleset::proto;
use pfapi::units::{Direction, IfIndex};

use super::compile::{CompiledAddr, CompiledEndpoint, CompiledRule};
use super::tag::Tag;
use super::translate::Addresses;
use crate::addr::Addr;
use crate::packet_desc::{PacketDesc, Transport};
use crate::state::icmp;

/// A packet with its place, as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct PacketView<'a> {
    /// The packet.
    pub desc: &'a PacketDesc,
    /// Interface it crosses.
    pub interface: IfIndex,
    /// Direction in which it crosses.
    pub direction: Direction,
    /// Tag that it carries.
    pub tag: Option<Tag>,
}

/// What changes while rules are walked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Working {
    pub addresses: Addresses,
    pub tag: Option<Tag>,
}

impl CompiledRule {
    /// Whether the rule matches.
    pub(super) fn matches(&self, packet: &PacketView<'_>, working: &Working) -> bool {
        let desc = packet.desc;
        let now = &working.addresses;
        self.interfaces.as_ref().is_none_or(|set| set.contains(packet.interface.0))
            && self.direction.is_none_or(|direction| direction == packet.direction)
            && self.af.is_none_or(|af| af == desc.af)
            && self.proto.is_none_or(|number| number == desc.proto)
            && self.from.matches_addr(now.af, now.src)
            && self.to.matches_addr(now.af, now.dst)
            && self.matches_transport(desc, now)
            && self.tagged.is_none_or(|wanted| {
                (wanted.tag.is_some() && wanted.tag == working.tag) != wanted.negated
            })
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
            && self.to.port.is_none_or(|port| port.matches(now.dport))
    }
}

impl CompiledEndpoint {
    fn matches_addr(&self, af: Af, addr: Addr) -> bool {
        let inside = match &self.addr {
            CompiledAddr::Any => return true,
            CompiledAddr::Net(net) => net.contains(af, addr),
            CompiledAddr::Nets(nets) => nets.iter().any(|net| net.contains(af, addr)),
            CompiledAddr::Range(family, low, high) => {
                *family == af && (*low..=*high).contains(&addr)
            }
            CompiledAddr::Table(table) => table.lookup(af, addr),
        };
        inside != self.negated
    }
}
