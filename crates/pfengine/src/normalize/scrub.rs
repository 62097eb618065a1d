//! `scrub` and `set tos`: fields of packets that pass are changed as rules ask.
//!
//! Source: OpenBSD sys/net/pf_norm.c `pf_scrub`, `pf_normalize_mss`; pf.conf(5) "scrub", "set tos".

use pfapi::addr::Af;

use crate::packet::Packet;
use crate::packet_desc::{PacketDesc, TcpDesc, Transport, u16_at};
use crate::rng::Rng;
use crate::rules::Actions;
use crate::wire::build::TCP_HEADER;
use crate::wire::bytes::be16;
use crate::wire::checksum::Delta;
use crate::wire::ip::IPV4_HEADER;
use crate::wire::tcp_options::{self, kind};

/// Where fields of the IPv4 header lie: words of the version and type of service, of the
/// identification, of flags and offset, of the time to live, and the checksum.
const TOS_WORD_AT: usize = 0;
const ID_AT: usize = 4;
const FLAGS_AT: usize = 6;
const TTL_WORD_AT: usize = 8;
const IPV4_CHECKSUM_AT: usize = 10;
const DONT_FRAGMENT: u16 = 0x4000;
/// Where the hop limit of IPv6 lies.
const HOP_LIMIT_AT: usize = 7;
/// Bits of the type of service that tell of congestion (RFC 3168); the others are the class.
const ECN: u8 = 0x03;
const TCP_CHECKSUM_AT: usize = 16;

/// Whether the actions change anything.
const fn is_idle(actions: &Actions) -> bool {
    !actions.no_df
        && !actions.random_id
        && actions.min_ttl == 0
        && actions.max_mss == 0
        && actions.tos.is_none()
}

/// Does to a packet what rules ask for; `desc` describes it as it is now.
pub fn apply(packet: &mut Packet, desc: &PacketDesc, actions: &Actions, rng: &mut Rng) {
    // Most packets end here.
    if is_idle(actions) {
        return;
    }
    match desc.af {
        Af::Inet => scrub_ipv4(packet.data_mut(), actions, rng),
        Af::Inet6 => scrub_ipv6(packet.data_mut(), actions),
    }
    if let Transport::Tcp(tcp) = &desc.transport
        && actions.max_mss != 0
    {
        clamp_mss(packet, desc.l4, tcp, actions.max_mss);
    }
}

fn scrub_ipv4(data: &mut [u8], actions: &Actions, rng: &mut Rng) {
    let before: [u8; IPV4_HEADER] = *data.first_chunk().expect("a parsed packet has its header");
    let flags = u16_at(&before, FLAGS_AT);
    if actions.no_df {
        let cleared = flags & !DONT_FRAGMENT;
        data[FLAGS_AT..FLAGS_AT + 2].copy_from_slice(&cleared.to_be_bytes());
    }
    data[TTL_WORD_AT] = data[TTL_WORD_AT].max(actions.min_ttl);
    if let Some(tos) = actions.tos {
        data[TOS_WORD_AT + 1] = tos | data[TOS_WORD_AT + 1] & ECN;
    }
    // The fragments of one datagram must keep their common identification.
    if actions.random_id && flags & !DONT_FRAGMENT == 0 {
        data[ID_AT..ID_AT + 2].copy_from_slice(&rng.next_u16().to_be_bytes());
    }
    let delta = [TOS_WORD_AT, ID_AT, FLAGS_AT, TTL_WORD_AT]
        .into_iter()
        .map(|at| Delta::u16(u16_at(&before, at), u16_at(data, at)))
        .fold(Delta::NONE, Delta::and);
    let sum = delta.complete(u16_at(data, IPV4_CHECKSUM_AT));
    data[IPV4_CHECKSUM_AT..IPV4_CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
}

fn scrub_ipv6(data: &mut [u8], actions: &Actions) {
    data[HOP_LIMIT_AT] = data[HOP_LIMIT_AT].max(actions.min_ttl);
    if let Some(tos) = actions.tos {
        // The class lies across the first two octets; its last two bits stay set.
        data[0] = data[0] & 0xf0 | tos >> 4;
        data[1] = data[1] & 0x3f | tos << 4;
    }
}

/// Lowers every MSS option above `most`; `l4` is where the TCP header starts.
fn clamp_mss(packet: &mut Packet, l4: usize, tcp: &TcpDesc, most: u16) {
    if tcp.header == TCP_HEADER {
        return;
    }
    let complete = !packet.meta.offload.is_partial_at(l4);
    let header = &mut packet.data_mut()[l4..l4 + tcp.header];
    let mut delta = Delta::NONE;
    let mut at = TCP_HEADER;
    while let Some(option) = tcp_options::options(&header[at..]).next() {
        let (start, length) = (at + option.offset, usize::from(option.length).max(2));
        let is_mss = option.kind == kind::MSS && option.length >= 4;
        at = (start + length).min(header.len());
        let place = start + 2;
        if let Some(mss) = be16(header, place).filter(|&mss| is_mss && mss > most) {
            header[place..place + 2].copy_from_slice(&most.to_be_bytes());
            // Options need no alignment; the sum is over words.
            delta = delta.and(Delta::u16(mss, most).at(place));
        }
    }
    // A partial checksum covers only the pseudo-header.
    if complete {
        let sum = delta.complete(u16_at(header, TCP_CHECKSUM_AT));
        header[TCP_CHECKSUM_AT..TCP_CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
