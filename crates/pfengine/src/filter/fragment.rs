//! Fragments: kept until their datagram is whole, or left to the rules as they are.
//!
//! Source: OpenBSD sys/net/pf_norm.c `pf_normalize_ip`, `pf_normalize_ip6`; pf.conf(5)
//! "set reassemble".

use pfapi::addr::Af;
use pfapi::reason::Reason;
use pfapi::ruleset::Reassemble;
use pfapi::timeout::Timeout;

use super::{Arrival, Filter};
use crate::normalize::fragment::arriving::Arriving;
use crate::normalize::fragment::cache::Outcome;
use crate::packet::{Packet, Verdict};
use crate::packet_desc::{PacketDesc, Transport, u16_at};
use crate::wire::checksum::Delta;

/// Where the word of flags and offset of an IPv4 header lies, and its checksum.
const WORD_AT: usize = 6;
const CHECKSUM_AT: usize = 10;
/// Bits of that word.
const RESERVED: u16 = 0x8000;
const DONT_FRAGMENT: u16 = 0x4000;

impl Filter<'_> {
    /// Takes a fragment; the last one of a datagram becomes the whole datagram.
    pub(super) fn receive_fragment(&mut self, packet: &mut Packet, desc: &PacketDesc) -> Arrival {
        let setting = self.reassembly(packet, desc);
        if setting != Reassemble::NoDf && has_dont_fragment(packet, desc) {
            // No host sends a fragment that must not be one.
            return Arrival::Refused(Reason::Fragment);
        }
        if setting == Reassemble::No {
            return Arrival::Parsed(self.flow(*desc, packet.meta.direction));
        }
        let Some(arriving) = Arriving::of(packet.data(), desc) else {
            return Arrival::Refused(Reason::Fragment);
        };
        let timeout = self.snapshot.timeouts.get(Timeout::Frag);
        let now = self.now;
        let (outcome, operations) = self.engine.fragments.with(|cache| {
            let outcome = cache.add(&arriving, now, timeout);
            (outcome, cache.take_operations())
        });
        self.parts.stats.fragments(operations);
        match outcome {
            Outcome::Held => Arrival::Settled(Verdict::Held),
            Outcome::Duplicate => Arrival::Settled(Verdict::Drop(Reason::Fragment)),
            Outcome::Refused => Arrival::Refused(Reason::Fragment),
            Outcome::Full => Arrival::Refused(Reason::Memory),
            Outcome::Whole(queue) => {
                let id = self.parts.rng.next_u32();
                match queue.write(packet, id) {
                    Ok(()) => self.receive_whole(packet),
                    Err(reason) => Arrival::Refused(reason),
                }
            }
        }
    }

    /// Parses a datagram that was put together.
    fn receive_whole(&self, packet: &Packet) -> Arrival {
        match PacketDesc::parse(packet.data()) {
            // A fragment of a fragment, whose second header lay behind the first fragment.
            Ok(PacketDesc { transport: Transport::Fragment, .. }) => {
                Arrival::Refused(Reason::Fragment)
            }
            Ok(desc) => Arrival::Parsed(self.flow(desc, packet.meta.direction)),
            Err(reason) => Arrival::Refused(reason),
        }
    }
}

/// Clears the reserved bit beside "don't fragment" of an IPv4 packet that is no fragment.
pub(super) fn clear_reserved_bit(packet: &mut Packet, desc: &PacketDesc) {
    if desc.af != Af::Inet || packet.data()[WORD_AT] & 0x80 == 0 {
        return;
    }
    let data = packet.data_mut();
    let old = u16_at(data, WORD_AT);
    let sum = Delta::u16(old, old & !RESERVED).complete(u16_at(data, CHECKSUM_AT));
    data[WORD_AT..WORD_AT + 2].copy_from_slice(&(old & !RESERVED).to_be_bytes());
    data[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Whether the packet is an IPv4 fragment that says it must not be one.
fn has_dont_fragment(packet: &Packet, desc: &PacketDesc) -> bool {
    desc.af == Af::Inet && u16_at(packet.data(), WORD_AT) & DONT_FRAGMENT != 0
}
