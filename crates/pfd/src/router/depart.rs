//! One packet after the outbound rules: by which interface it leaves, and whether it fits.
//!
//! As in BSD the rules come first: a packet that they block is not measured, and the interface that
//! they choose is the one whose MTU counts. Sources: OpenBSD sys/netinet/ip_output.c, sys/netinet/
//! ip_input.c `ip_forward`, sys/netinet6/ip6_forward.c, sys/net/pf.c `pf_route`.

use core::net::IpAddr;

use pfapi::units::{IfIndex, Uptime};
use pfengine::reply::IcmpError;
use pfengine::wire::ip::{Fragment, Layout};
use pfengine::{Gso, Packet, PacketMeta, Refragment};

use super::counters::Event;
use super::forward::{Onward, Router};
use super::header;

/// Octets that outbound rules may add to a segment: timestamps of a client whose server has none.
const GROWTH: usize = 12;

/// What a packet was before the outbound rules.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    /// Where it went.
    pub dst: Option<IpAddr>,
    /// Interface by which it came in; `None` for a packet of this host.
    pub arrival: Option<IfIndex>,
}

impl Before {
    /// Of a packet that came in by `arrival`, or of one of this host.
    #[must_use]
    pub fn of(packet: &Packet, arrival: Option<IfIndex>) -> Self {
        Self { dst: header::destination(packet.data()), arrival }
    }
}

/// A packet between the two passes of the filter, as far as an error about it says.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    /// Its first octets: all that rules may change and an error quotes.
    pub head: &'a [u8],
    /// Its length.
    pub len: usize,
    /// What was known of it besides.
    pub meta: &'a PacketMeta,
}

impl Router {
    /// Whether some link may be too small for a packet, and it must not be cut.
    #[must_use]
    pub fn may_not_fit(&self, packet: &Packet) -> bool {
        is_too_long(packet, self.smallest_mtu.saturating_sub(GROWTH))
    }

    /// Finds the interface by which a packet leaves that passed the outbound rules: where they say,
    /// or where its new destination lies when they changed it. Nothing of that is filtered again.
    ///
    /// A packet that does not fit there becomes the error that its sender gets, about what it has
    /// sent: `original`, which forwarded packets have for which [`Self::may_not_fit`] holds.
    #[must_use]
    pub fn depart(
        &mut self,
        now: Uptime,
        packet: &mut Packet,
        before: Before,
        original: Option<Original<'_>>,
    ) -> Onward {
        let planned = packet.meta.interface;
        // Should it have no way, the error comes from where it came in.
        let way = match (packet.meta.next_hop, header::destination(packet.data())) {
            (Some(hop), _) if !hop.copy => {
                packet.meta.interface = before.arrival.unwrap_or(planned);
                self.by_hop(now, packet, hop)
            }
            // Source: OpenBSD sys/netinet/ip_output.c, PF_TAG_REROUTE with PF_TAG_GENERATED.
            (_, Some(dst)) if before.dst != Some(dst) => {
                packet.meta.interface = before.arrival.unwrap_or(planned);
                self.by_destination(now, packet, dst)
            }
            _ => Ok(planned),
        };
        match way {
            Ok(interface) => packet.meta.interface = interface,
            Err(end) => return end,
        }
        match original {
            Some(original) if is_too_long(packet, self.mtu(packet.meta.interface)) => {
                self.refuse(now, packet, original)
            }
            None if before.arrival.is_none() && packet.meta.interface != planned => {
                let id = packet.meta.refragment.map(|refragment| refragment.id());
                self.cut_for_link(packet, id);
                Onward::Forwarded
            }
            // Only these rules have put it together, from fragments that are too long for the link.
            // Their sender alone may cut them otherwise, but has not sent this datagram.
            None if before.arrival.is_some()
                && header::is_v6(packet.data())
                && packet.meta.refragment.is_some()
                && is_too_long(packet, self.mtu(packet.meta.interface)) =>
            {
                self.count(Event::TooBig);
                Onward::Nothing
            }
            _ => Onward::Forwarded,
        }
    }

    /// Turns a packet that does not fit its link into the error about its original.
    fn refuse(&mut self, now: Uptime, packet: &mut Packet, original: Original<'_>) -> Onward {
        self.count(Event::TooBig);
        let mtu = self.mtu(packet.meta.interface);
        // The filter may have added timestamps, for which the sender has to leave room; whether in
        // front or behind, what the segment carries lies at the end.
        let Some(added) = packet.len().checked_sub(original.len) else { return Onward::Nothing };
        packet.set_span(packet.headroom() + added, original.len);
        packet.data_mut()[..original.head.len()].copy_from_slice(original.head);
        packet.meta = *original.meta;
        // A fragment has become the datagram that it ended: nobody has sent what we have.
        let whole = || Layout::of(packet.data()).is_some_and(|is| is.fragment == Fragment::Whole);
        if added > 0 && !whole() {
            return Onward::Nothing;
        }
        let mtu = u32::try_from(mtu.saturating_sub(added)).unwrap_or(u32::MAX);
        self.error(now, packet, IcmpError::TooBig { mtu })
    }

    /// Says how a packet of this host is cut when its link is too small for it, into fragments with
    /// this identification or a new one.
    pub(super) fn cut_for_link(&self, packet: &mut Packet, id: Option<u32>) {
        let mtu = self.mtu(packet.meta.interface);
        // Segments that are still in one piece are cut as segments.
        if packet.len() > mtu
            && header::is_v6(packet.data())
            && packet.meta.offload.gso == Gso::None
        {
            let id = id.unwrap_or_else(|| self.next_id());
            packet.meta.refragment = Refragment::for_link(mtu, id);
        }
    }
}

/// Whether a packet is longer than a link's MTU and must not be cut.
fn is_too_long(packet: &Packet, mtu: usize) -> bool {
    // Most packets are shorter than any link; only the others are looked at closely.
    (packet.len() > mtu || packet.meta.refragment.is_some())
        && header::must_not_fragment(packet.data())
        && header::wire_len(packet) > mtu
}
