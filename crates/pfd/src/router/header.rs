//! The few fields of IP headers that a router reads and writes.
//!
//! Sources: RFC 791 section 3.1, RFC 8200 section 3.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pfengine::wire::bytes::{array, be16};
use pfengine::wire::checksum::Delta;
use pfengine::wire::ip::{IPV4_HEADER, IPV6_HEADER, Layout};
use pfengine::{Gso, Packet};

/// Whether a packet is one of IPv6; one without octets is not.
pub(crate) fn is_v6(data: &[u8]) -> bool {
    data.first().is_some_and(|first| first >> 4 == 6)
}

/// Source and destination, when the header is there and agrees with the packet's length.
pub(super) fn addresses(data: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match data.first()? >> 4 {
        4 => {
            let header = usize::from(data[0] & 0x0f) * 4;
            let total = usize::from(be16(data, 2)?);
            // Super-packets may say 0 where their length does not fit.
            let fits = total <= data.len() && (total >= header || total == 0);
            if header < IPV4_HEADER || header > data.len() || !fits {
                return None;
            }
            let (src, dst) = (array::<4>(data, 12)?, array::<4>(data, 16)?);
            Some((Ipv4Addr::from(src).into(), Ipv4Addr::from(dst).into()))
        }
        6 => {
            let total = IPV6_HEADER + usize::from(be16(data, 4)?);
            if total > data.len() {
                return None;
            }
            let (src, dst) = (array::<16>(data, 8)?, array::<16>(data, 24)?);
            Some((Ipv6Addr::from(src).into(), Ipv6Addr::from(dst).into()))
        }
        _ => None,
    }
}

/// Where a packet goes, without more checks than reading it needs.
pub(super) fn destination(data: &[u8]) -> Option<IpAddr> {
    match data.first()? >> 4 {
        4 => array::<4>(data, 16).map(|addr| Ipv4Addr::from(addr).into()),
        6 => array::<16>(data, 24).map(|addr| Ipv6Addr::from(addr).into()),
        _ => None,
    }
}

/// Time to live or hop limit of a packet that [`addresses`] accepted.
pub(super) fn time_to_live(data: &[u8]) -> u8 {
    if data[0] >> 4 == 4 { data[8] } else { data[7] }
}

/// Counts the time to live down by one and puts the header checksum right.
///
/// # Panics
/// When [`addresses`] does not accept the packet.
pub(super) fn count_down(data: &mut [u8]) {
    if data[0] >> 4 == 6 {
        data[7] = data[7].saturating_sub(1);
        return;
    }
    let word = |data: &[u8], at: usize| u16::from_be_bytes([data[at], data[at + 1]]);
    let old = word(data, 8);
    data[8] = data[8].saturating_sub(1);
    let sum = Delta::u16(old, word(data, 8)).complete(word(data, 10));
    data[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Whether an IPv4 packet must not be cut; IPv6 packets never are.
pub(super) fn must_not_fragment(data: &[u8]) -> bool {
    let octet = |at: usize| data.get(at).copied().unwrap_or(0);
    octet(0) >> 4 == 6 || octet(6) & 0x40 != 0
}

/// Octets of the largest packet that goes onto the wire: of a super-packet one segment, of a
/// packet that was put together one fragment.
pub(super) fn wire_len(packet: &Packet) -> usize {
    let offload = packet.meta.offload;
    let data = packet.data();
    if let Some(refragment) = packet.meta.refragment {
        return refragment.longest(data.len());
    }
    if offload.gso == Gso::None {
        return data.len();
    }
    let Some(layout) = Layout::of(data) else { return data.len() };
    let transport = match offload.gso {
        Gso::Udp => 8,
        _ => data.get(layout.transport + 12).map_or(20, |offset| usize::from(offset >> 4) * 4),
    };
    (layout.transport + transport + usize::from(offload.gso_size)).min(data.len())
}
