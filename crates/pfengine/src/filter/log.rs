//! Which packets go into the packet log.
//!
//! Source: OpenBSD sys/net/pf.c `pf_test`, `pf_test_rule`, `pf_log_matches`; pf.conf(5) "log".

use std::sync::Arc;

use pfapi::reason::Reason;
use pfapi::units::Direction;

use super::Filter;
use crate::packet::Packet;
use crate::packet_desc::{PacketDesc, Transport};
use crate::pflog::Cause;
use crate::rules::{Addresses, Evaluation, LogCall};
use crate::state::entry::State;
use crate::state::icmp::{self, IcmpClass};
use crate::state::key::Key;

/// N of the `pflogN` of packets that are logged though no rule says so.
const DEFAULT_LOG: u8 = 0;

impl Filter<'_> {
    /// Logs a packet that no rule has seen.
    pub(super) fn log_refused(&mut self, packet: &Packet, reason: Reason) {
        let cause = Cause {
            interface: DEFAULT_LOG,
            rule: &self.snapshot.rules.default_rule,
            anchor: None,
            reason,
            uid: None,
            rewritten: None,
        };
        self.parts.log.add(packet, &self.snapshot.facts, &cause);
    }

    /// Logs a packet that rules have decided, as match rules and the deciding rule say; `beyond` is
    /// the key of its state beyond the translation, `refused` why it is dropped though that rule
    /// lets it pass.
    ///
    /// Packets with IP options that the rule does not allow are logged whether it says so or not.
    pub(super) fn log_decided(
        &mut self,
        packet: &Packet,
        desc: &PacketDesc,
        found: &Evaluation<'_>,
        beyond: Option<Key>,
        refused: Option<Reason>,
    ) {
        let forced = (refused == Some(Reason::IpOption)).then_some(DEFAULT_LOG);
        let decider = found.rule.rule.log.map(|log| log.interface).or(forced);
        if decider.is_none() && self.parts.scratch.logs.is_empty() {
            return;
        }
        let uid = if found.actions.log_user { self.owner(packet, desc) } else { None };
        let direction = packet.meta.direction;
        let rewritten = beyond.and_then(|key| {
            let crosses = key.af != desc.af;
            let new =
                Addresses::of_key(&key, if crosses { direction.reversed() } else { direction });
            (crosses || found.addresses != Addresses::of(desc)).then_some(new)
        });
        let rules = &self.snapshot.rules;
        let calls = self.parts.scratch.logs.iter().map(|call| {
            let anchor = call.anchor.map(|step| &**rules.rule(step));
            (call.interface, &**rules.rule(call.step), anchor)
        });
        let asked = |&interface: &u8| {
            found.steps.is_some_and(|(step, anchor)| {
                self.parts.scratch.logs.contains(&LogCall { step, anchor, interface })
            })
        };
        let own = decider
            .filter(|interface| !asked(interface))
            .map(|interface| (interface, &**found.rule, found.anchor.map(|rule| &**rule)));
        for (interface, rule, anchor) in calls.chain(own) {
            let dropped = refused.filter(|_| core::ptr::eq(rule, Arc::as_ptr(found.rule)));
            let reason = dropped.unwrap_or(Reason::Match);
            let cause = Cause { interface, rule, anchor, reason, uid, rewritten };
            self.parts.log.add(packet, &self.snapshot.facts, &cause);
        }
    }

    /// Logs a packet of a state where its rules say `log (all)`, or when it is `forced`.
    pub(super) fn log_known(
        &mut self,
        packet: &Packet,
        desc: &PacketDesc,
        state: &State,
        forced: Option<Reason>,
    ) {
        if !state.actions().log_all && forced.is_none() {
            return;
        }
        // An ICMP error about the connection does not have the addresses of its key.
        let has_key = !matches!(desc.transport, Transport::Icmp { icmp_type, .. }
            if icmp::classify(desc.af, icmp_type) == IcmpClass::Error);
        let rewritten = (has_key && state.is_translated()).then(|| {
            let keys = state.keys();
            let (key, direction) = keys.beyond(packet.meta.direction, desc.af);
            Addresses::of_key(key, direction)
        });
        let uid = if state.actions().log_user { self.owner(packet, desc) } else { None };
        let decision = &state.decision;
        let anchor = decision.anchor.as_deref();
        let own = Some(&*decision.rule)
            .filter(|rule| forced.is_some() || rule.rule.log.is_some_and(|log| log.all));
        let matches = decision.matches.iter().map(|rule| &**rule);
        let matches = matches.filter(|rule| rule.rule.log.is_some_and(|log| log.all));
        for rule in own.into_iter().chain(matches) {
            let cause = Cause {
                interface: rule.rule.log.map_or(DEFAULT_LOG, |log| log.interface),
                rule,
                anchor,
                reason: forced.unwrap_or(Reason::Match),
                uid,
                rewritten,
            };
            self.parts.log.add(packet, &self.snapshot.facts, &cause);
        }
    }

    /// User that owns the packet's socket on this host.
    fn owner(&self, packet: &Packet, desc: &PacketDesc) -> Option<u32> {
        let sockets = self.engine.sockets.get()?;
        let (sport, dport) = desc.ports();
        let src = (desc.src.to_ip(desc.af), sport);
        let dst = (desc.dst.to_ip(desc.af), dport);
        let (local, remote) = match packet.meta.direction {
            Direction::In => (dst, src),
            Direction::Out => (src, dst),
        };
        sockets.owner(desc.proto, local, remote).map(|owner| owner.uid)
    }
}
