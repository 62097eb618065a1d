//! Evaluation: the last matching rule decides, `quick` ends the walk.
//!
//! A plain scan in rule order; a rule is evaluated when the walk comes to it. Order of the tests in
//! one rule: OpenBSD sys/net/pf.c `pf_match_rule`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pfapi::addr::Af;
use pfapi::ruleset::{Action, StatePolicy, proto};
use pfapi::units::{Direction, IfIndex};

use super::load::{CompiledAddr, CompiledEndpoint, CompiledRule, LoadedRule, LoadedRules};
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
}

/// Outcome of an evaluation.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// The rule that decides; the default rule when none matched.
    pub rule: &'a Arc<LoadedRule>,
}

impl LoadedRules {
    /// The rule that decides this packet.
    pub fn evaluate(&self, packet: &PacketView<'_>) -> Decision<'_> {
        let mut decider = &self.default_rule;
        let mut end = self.rules.len();
        for (at, rule) in self.rules.iter().enumerate() {
            if !rule.test.matches(rule.rule.state, packet) {
                continue;
            }
            match rule.rule.action {
                Action::Pass | Action::Block(_) => decider = rule,
                Action::Match => rule.counters.count(packet.direction, packet.desc.total),
            }
            if rule.rule.quick {
                end = at + 1;
                break;
            }
        }
        if let Some(last) = end.checked_sub(1).and_then(|last| self.ends.get(last)) {
            last.fetch_add(1, Ordering::Relaxed);
        }
        Decision { rule: decider }
    }
}

impl CompiledRule {
    fn matches(&self, state: StatePolicy, packet: &PacketView<'_>) -> bool {
        let desc = packet.desc;
        self.interfaces.as_ref().is_none_or(|set| set.contains(packet.interface.0))
            && self.direction.is_none_or(|direction| direction == packet.direction)
            && self.af.is_none_or(|af| af == desc.af)
            && self.proto.is_none_or(|number| number == desc.proto)
            && self.from.matches_addr(desc.af, desc.src)
            && self.to.matches_addr(desc.af, desc.dst)
            && self.matches_transport(state, desc)
    }

    fn matches_transport(&self, state: StatePolicy, desc: &PacketDesc) -> bool {
        match desc.transport {
            Transport::Tcp(tcp) => {
                self.matches_ports(tcp.sport, tcp.dport)
                    && self.flags.is_none_or(|flags| tcp.flags & flags.mask == flags.want)
            }
            Transport::Udp { sport, dport } => self.matches_ports(sport, dport),
            Transport::Icmp { icmp_type, code, .. } => {
                let wanted = self.icmp.is_none_or(|wanted| {
                    wanted.icmp_type == icmp_type && wanted.code.is_none_or(|c| c == code)
                });
                // A reply cannot begin an exchange, so it makes no state.
                wanted && (state == StatePolicy::None || !icmp::is_reply(desc.af, icmp_type))
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

    fn matches_ports(&self, sport: u16, dport: u16) -> bool {
        self.from.port.is_none_or(|port| port.matches(sport))
            && self.to.port.is_none_or(|port| port.matches(dport))
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
