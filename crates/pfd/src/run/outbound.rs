//! Packets on their way to the outbound rules, and what they were before.
//!
//! Rules may translate a packet. Afterwards the router has to know whether its destination is
//! another one, and what its sender would recognise in an error about it. The pass changes headers
//! alone, so that its head is all that has to be kept, and only of packets that may not fit their
//! link. Source: OpenBSD sys/netinet/ip_input.c `ip_forward`, which keeps 68 octets.

use pfapi::units::IfIndex;
use pfengine::{Batch, Packet, PacketMeta};

use crate::router::{Before, Original, is_v6};

/// Octets of an IPv4 packet that are kept: the longest IP and TCP headers.
const HEAD_V4: usize = 120;
/// Octets of an IPv6 packet that are kept: all that an error quotes (RFC 4443 section 2.4).
const HEAD_V6: usize = 1232;

/// Packets for the outbound rules, in order.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    pub batch: Batch,
    /// One for each packet.
    before: Vec<Before>,
    /// Of few packets; `at` rises.
    heads: Vec<Head>,
    octets: Vec<u8>,
}

/// What is kept of the packet at this position of the batch.
#[derive(Debug)]
struct Head {
    at: usize,
    /// Where its octets begin; they end where those of the next one begin.
    start: usize,
    /// Length of the whole packet.
    len: usize,
    meta: PacketMeta,
}

impl Outbound {
    pub fn new() -> Self {
        let before = Vec::with_capacity(Batch::SIZE);
        Self { batch: Batch::new(), before, ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.batch.packets.is_empty()
    }

    /// Keeps the head of the packet that will be pushed next.
    pub fn keep(&mut self, packet: &Packet) {
        let data = packet.data();
        let most = if is_v6(data) { HEAD_V6 } else { HEAD_V4 };
        self.heads.push(Head {
            at: self.batch.packets.len(),
            start: self.octets.len(),
            len: data.len(),
            meta: packet.meta,
        });
        self.octets.extend_from_slice(&data[..most.min(data.len())]);
    }

    /// Forgets what [`Self::keep`] has kept: the packet will not be pushed.
    pub fn forget(&mut self) {
        let next = self.batch.packets.len();
        if let Some(head) = self.heads.pop_if(|head| head.at == next) {
            self.octets.truncate(head.start);
        }
    }

    /// Adds a packet that came in by `arrival`, or one of this host.
    pub fn push(&mut self, packet: Packet, arrival: Option<IfIndex>) {
        self.before.push(Before::of(&packet, arrival));
        self.batch.packets.push(packet);
    }

    /// Hands out every packet with what it was, and is empty afterwards.
    pub fn drain(&mut self, mut each: impl FnMut(Packet, Before, Option<Original<'_>>)) {
        let mut heads = self.heads.iter().peekable();
        let packets = self.batch.packets.drain(..).zip(self.before.drain(..));
        for (at, (packet, before)) in packets.enumerate() {
            let original = heads.next_if(|head| head.at == at).map(|head| {
                let end = heads.peek().map_or(self.octets.len(), |next| next.start);
                Original { head: &self.octets[head.start..end], len: head.len, meta: &head.meta }
            });
            each(packet, before, original);
        }
        self.heads.clear();
        self.octets.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ip, packet, udp};

    #[test]
    fn heads_belong_to_their_packets() {
        let of_length = |len| packet(&ip("10.77.1.2", "198.51.100.7", 17, &udp(len)));
        let mut outbound = Outbound::new();
        for round in 0..2 {
            for len in [10, 1000, 20, 2000, 30] {
                let packet = of_length(len);
                if len >= 1000 {
                    outbound.keep(&of_length(3000));
                    outbound.forget();
                    outbound.keep(&packet);
                } else {
                    outbound.forget();
                }
                outbound.push(packet, Some(IfIndex(round)));
            }
            let mut seen = Vec::new();
            outbound.drain(|packet, before, original| {
                assert_eq!(before.arrival, Some(IfIndex(round)));
                let original = original.map(|original| {
                    assert_eq!(original.head, &packet.data()[..HEAD_V4]);
                    original.len
                });
                seen.push((packet.len(), original));
            });
            let long = |len| (len, Some(len));
            assert_eq!(seen, [(38, None), long(1028), (48, None), long(2028), (58, None)]);
            assert!(outbound.is_empty() && outbound.octets.is_empty());
        }
    }
}
