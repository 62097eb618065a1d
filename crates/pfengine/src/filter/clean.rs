//! FreeBSD's `scrub` rules: what comes before states and rules that filter.
//!
//! The first rule that matches decides, `no scrub` leaves the packet alone. Where there are such
//! rules, fragments are put together only if one says so, and `set reassemble` counts for nothing.
//! Source: FreeBSD sys/netpfil/pf/pf_norm.c `pf_normalize_ip`, `pf_normalize_tcp`, `pf_scrub`.
//! Different from there: a rule with ports is for packets with these ports alone, and never for a
//! fragment; FreeBSD cleans the IP header without a look at them.

use std::sync::Arc;

use pfapi::ruleset::Reassemble;

use super::{Filter, Flow};
use crate::normalize::scrub;
use crate::packet::Packet;
use crate::packet_desc::{PacketDesc, Transport};
use crate::rules::{LoadedRule, Surroundings};

impl<'a> Filter<'a> {
    /// The `scrub` rule for a packet.
    fn scrub_rule(&mut self, packet: &Packet, desc: &PacketDesc) -> Option<&'a Arc<LoadedRule>> {
        let snapshot = self.snapshot;
        let view = Self::view(packet, desc);
        let surroundings = Surroundings {
            rng: &mut self.parts.rng,
            now: self.now,
            routes: self.engine.routes.get().map(|routes| &**routes),
            sockets: self.engine.sockets.get().map(|sockets| &**sockets),
        };
        snapshot.rules.cleaning(&view, surroundings, &mut self.parts.scratch)
    }

    /// What becomes of a fragment.
    pub(super) fn reassembly(&mut self, packet: &Packet, desc: &PacketDesc) -> Reassemble {
        if !self.snapshot.rules.cleans() {
            return self.snapshot.reassemble;
        }
        match self.scrub_rule(packet, desc).map(|rule| rule.rule.scrub) {
            Some(scrub) if scrub.keep_fragments => Reassemble::No,
            Some(scrub) if scrub.no_df => Reassemble::NoDf,
            Some(_) => Reassemble::Yes,
            None => Reassemble::No,
        }
    }

    /// Cleans a packet, and says so in its flow.
    pub(super) fn clean(&mut self, packet: &mut Packet, flow: &mut Flow) {
        let Some(rule) = self.scrub_rule(packet, &flow.desc) else { return };
        rule.counters.count(packet.meta.direction, flow.desc.total);
        scrub::apply(packet, &flow.desc, &rule.actions, &mut self.parts.rng);
        flow.reassemble_tcp =
            rule.actions.reassemble_tcp && matches!(flow.desc.transport, Transport::Tcp(_));
        if let Some(tos) = rule.actions.tos {
            // The rules see the packet as it is now; two bits of the field are not theirs.
            flow.desc.tos = tos | flow.desc.tos & 0x03;
        }
    }
}
