//! Answers that the filter or router writes into the buffer of the packet that they answer.
//!
//! Every function says `false` when no answer is due or the buffer has no room for it; the packet
//! is then as it was, or has its checksum completed. An answer is complete: its offload metadata is reset. Limits on the
//! rate of answers are the caller's.
//!
//! Sources: OpenBSD sys/net/pf.c `pf_send_tcp`, `pf_send_icmp`, `pf_build_tcp`,
//! sys/netinet/ip_icmp.c `icmp_do_error`, `icmp_reflect`, sys/netinet6/icmp6.c
//! `icmp6_do_error`, `icmp6_reflect`; RFC 792, RFC 1122 section 3.2.2, RFC 4443 section 2.4.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pfapi::ruleset::proto;

use crate::packet::{Checksum, Gso, Offload, Packet};
use crate::packet_desc::{PacketDesc, TcpDesc};
use crate::siphash::sip13;
use crate::wire::build::{
    Ipv4Fields, TCP_HEADER, TOS_LOW_DELAY, TTL_DEFAULT, TcpSegment, flags, ipv4_header,
    ipv6_header, is_one_host,
};
use crate::wire::bytes::{array, be16, be32, put};
use crate::wire::checksum::{Sum, packet_is_intact};
use crate::wire::ip::{Fragment, IPV4_HEADER, IPV6_HEADER, Layout};
use crate::wire::tcp_options::SynOptions;

/// Octets of an ICMP header.
const ICMP_HEADER: usize = 8;
/// Octets behind the IPv4 header that an ICMP error quotes. RFC 792.
const ICMP_QUOTE: usize = 8;
/// Octets of a packet that tell it from others, whole words of eight: its headers.
const IDENTIFYING: usize = 64;
/// Octets of an ICMPv6 error at most: the minimum MTU of IPv6. RFC 4443 section 2.4 (c).
const ICMPV6_ERROR_MAX: usize = 1280;
/// Time to live of ICMP answers over IPv4. Source: OpenBSD `icmp_reflect` (MAXTTL).
const ICMP_TTL: u8 = 255;

/// ICMP message types.
mod icmp {
    pub const ECHO_REPLY: u8 = 0;
    pub const UNREACHABLE: u8 = 3;
    pub const ECHO: u8 = 8;
    pub const TIME_EXCEEDED: u8 = 11;
    pub const V6_UNREACHABLE: u8 = 1;
    pub const V6_TOO_BIG: u8 = 2;
    pub const V6_TIME_EXCEEDED: u8 = 3;
    pub const V6_ECHO: u8 = 128;
    pub const V6_ECHO_REPLY: u8 = 129;
    pub const V6_REDIRECT: u8 = 137;
}

/// What an ICMP error says; the message follows from the family of the packet it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// No route: ICMP 3/0, ICMPv6 1/0.
    NetUnreachable,
    /// The next hop does not answer: ICMP 3/1, ICMPv6 1/3.
    HostUnreachable,
    /// `block return`: ICMP 3/3, ICMPv6 1/4.
    PortUnreachable,
    /// `return-icmp(code, code6)`: ICMP 3/`code`, ICMPv6 1/`code6`.
    Unreachable {
        /// Code for IPv4.
        code: u8,
        /// Code for IPv6.
        code6: u8,
    },
    /// The time to live ran out: ICMP 11/0, ICMPv6 3/0.
    TimeExceeded,
    /// The packet does not fit the next link and must not be cut: ICMP 3/4, ICMPv6 2/0.
    TooBig {
        /// MTU of that link.
        mtu: u32,
    },
}

impl IcmpError {
    /// Type, code and second word of the header for IPv4.
    fn v4(self) -> (u8, u8, u32) {
        match self {
            Self::NetUnreachable => (icmp::UNREACHABLE, 0, 0),
            Self::HostUnreachable => (icmp::UNREACHABLE, 1, 0),
            Self::PortUnreachable => (icmp::UNREACHABLE, 3, 0),
            Self::Unreachable { code, .. } => (icmp::UNREACHABLE, code, 0),
            Self::TimeExceeded => (icmp::TIME_EXCEEDED, 0, 0),
            // RFC 1191 section 4: the MTU stands in the low 16 bits.
            Self::TooBig { mtu } => (icmp::UNREACHABLE, 4, mtu.min(0xffff)),
        }
    }

    /// Type, code and second word of the header for IPv6.
    fn v6(self) -> (u8, u8, u32) {
        match self {
            Self::NetUnreachable => (icmp::V6_UNREACHABLE, 0, 0),
            Self::HostUnreachable => (icmp::V6_UNREACHABLE, 3, 0),
            Self::PortUnreachable => (icmp::V6_UNREACHABLE, 4, 0),
            Self::Unreachable { code6, .. } => (icmp::V6_UNREACHABLE, code6, 0),
            Self::TimeExceeded => (icmp::V6_TIME_EXCEEDED, 0, 0),
            Self::TooBig { mtu } => (icmp::V6_TOO_BIG, 0, mtu),
        }
    }
}

/// Whether the transport checksum of a packet is right, as far as it exists.
///
/// A packet whose checksum its device fills in later, or that is cut into segments later, comes
/// from a local stack and is taken as right. pf asks before it sends an RST (`proto-cksum`).
#[must_use]
pub fn checksum_is_intact(packet: &Packet) -> bool {
    match packet.meta.offload {
        Offload { gso: Gso::None, checksum: Checksum::Complete, .. } => {
            packet_is_intact(packet.data())
        }
        _ => true,
    }
}

/// Fills in the checksum that was left to the device; false when the metadata points outside the
/// packet. Does nothing to a complete checksum. Not for super-packets: every segment has its own.
pub fn complete_checksum(packet: &mut Packet) -> bool {
    let Checksum::Partial { start, offset } = packet.meta.offload.checksum else { return true };
    let (start, offset) = (usize::from(start), usize::from(offset));
    let data = packet.data_mut();
    let Some(summed) = data.get(start..) else { return false };
    if offset + 2 > summed.len() {
        return false;
    }
    // UDP's "none" must not come out; for TCP both forms of zero are the same.
    let sum = Sum::of(summed).udp_checksum();
    let written = put(data, start + offset, sum.to_be_bytes());
    packet.meta.offload.checksum = Checksum::Complete;
    written
}

/// Turns a TCP packet into the RST that answers it.
///
/// `ttl` is that of the IPv4 answer (64 when the rule gives none); IPv6 answers have hop limit
/// 64 as in pf. The acknowledgment covers the whole payload, of super-packets too.
///
/// No answer to an RST, to fragments, to a wrong checksum, and to senders that nobody can be
/// (multicast, unspecified; pf leaves those to its routing).
pub fn tcp_reset(packet: &mut Packet, ttl: u8) -> bool {
    let Some(tcp) = TcpFields::of(packet) else { return false };
    if tcp.flags & flags::RST != 0 || !tcp.can_answer() || !checksum_is_intact(packet) {
        return false;
    }
    let occupied = tcp
        .payload
        .wrapping_add(u32::from(tcp.flags & flags::SYN != 0))
        .wrapping_add(u32::from(tcp.flags & flags::FIN != 0));
    let answer = TcpSegment {
        src: tcp.dst,
        dst: tcp.src,
        sport: tcp.dport,
        dport: tcp.sport,
        seq: tcp.ack,
        ack: tcp.seq.wrapping_add(occupied),
        flags: flags::RST | flags::ACK,
        window: 0,
        options: SynOptions::default(),
        ttl: if tcp.src.is_ipv4() { ttl } else { TTL_DEFAULT },
        tos: TOS_LOW_DELAY,
        dont_fragment: true,
        id: identification(packet),
    };
    place_segment(packet, &answer)
}

/// A SYN|ACK that the filter sends in the name of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SynAck {
    /// Sequence number: a cookie, say.
    pub seq: u32,
    /// Whether it takes ECN up.
    pub ecn: bool,
    /// Window, unscaled as in every SYN. While it is 0 a client holds its data back.
    pub window: u16,
    /// Options.
    pub options: SynOptions,
    /// Identification of the IPv4 header.
    pub id: u16,
}

/// Turns a SYN, parsed as `desc` and `tcp`, into the SYN|ACK that answers it.
///
/// Data in the SYN is ignored. Source: OpenBSD sys/net/pf_syncookies.c `pf_syncookie_send`.
pub(crate) fn syn_ack(
    packet: &mut Packet,
    desc: &PacketDesc,
    tcp: &TcpDesc,
    answer: &SynAck,
) -> bool {
    let SynAck { seq, ecn, window, options, id } = *answer;
    let answer = TcpSegment {
        src: desc.dst.to_ip(desc.af),
        dst: desc.src.to_ip(desc.af),
        sport: tcp.dport,
        dport: tcp.sport,
        seq,
        ack: tcp.seq.wrapping_add(1),
        flags: flags::SYN | flags::ACK | if ecn { flags::ECE } else { 0 },
        window,
        options,
        ttl: TTL_DEFAULT,
        tos: TOS_LOW_DELAY,
        dont_fragment: true,
        id,
    };
    answer.is_between_hosts() && place_segment(packet, &answer)
}

/// Turns a packet into the ICMP or ICMPv6 error that answers it, sent from `source`.
///
/// IPv4 errors quote the header with its options and 8 octets, IPv6 errors as much as fits into
/// 1280 octets. No answer where the RFCs and pf forbid one:
/// * IPv4: later fragments; ICMP that is not informational (0, 8, 9, 10, 13 to 18); senders that
///   are multicast, class E or in 0/8; multicast and broadcast destinations;
/// * IPv6: multicast destinations, unless the packet is too big; unspecified or multicast
///   senders; ICMPv6 errors (type below 128) and redirects.
pub fn icmp_error(packet: &mut Packet, kind: IcmpError, source: IpAddr) -> bool {
    let Some(layout) = Layout::of(packet.data()) else { return false };
    match (layout.src, layout.dst, source) {
        (IpAddr::V4(src), IpAddr::V4(dst), IpAddr::V4(source)) => {
            deserves_error_v4(packet.data(), &layout, src, dst)
                && icmp_error_v4(packet, &layout, kind, source, src)
        }
        (IpAddr::V6(src), IpAddr::V6(dst), IpAddr::V6(source)) => {
            deserves_error_v6(packet.data(), &layout, src, dst, kind)
                && icmp_error_v6(packet, &layout, kind, source, src)
        }
        _ => false,
    }
}

fn deserves_error_v4(data: &[u8], layout: &Layout, src: Ipv4Addr, dst: Ipv4Addr) -> bool {
    let invalid = src.is_multicast() || src.octets()[0] >= 240 || src.octets()[0] == 0;
    if layout.fragment == Fragment::Later
        || invalid
        || dst.is_multicast()
        || dst == Ipv4Addr::BROADCAST
    {
        return false;
    }
    layout.protocol != proto::ICMP
        || matches!(data.get(layout.transport..layout.end), Some([0 | 8 | 9 | 10 | 13..=18, ..]))
}

fn deserves_error_v6(
    data: &[u8],
    layout: &Layout,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    kind: IcmpError,
) -> bool {
    let too_big = matches!(kind, IcmpError::TooBig { .. });
    if src.is_unspecified() || src.is_multicast() || (dst.is_multicast() && !too_big) {
        return false;
    }
    if layout.protocol != proto::ICMPV6 {
        return true;
    }
    // The type of a later fragment is not known, so it may be an error.
    layout.fragment != Fragment::Later
        && matches!(
            data.get(layout.transport..layout.end),
            Some(&[icmp_type, ..]) if icmp_type >= 128 && icmp_type != icmp::V6_REDIRECT
        )
}

fn icmp_error_v4(
    packet: &mut Packet,
    layout: &Layout,
    kind: IcmpError,
    source: Ipv4Addr,
    to: Ipv4Addr,
) -> bool {
    let quoted = (layout.transport + ICMP_QUOTE).min(layout.end);
    let id = identification(packet);
    if !quote(packet, IPV4_HEADER + ICMP_HEADER, quoted) {
        return false;
    }
    let (icmp_type, code, word) = kind.v4();
    let fields =
        Ipv4Fields { tos: 0, id, dont_fragment: false, ttl: ICMP_TTL, protocol: proto::ICMP };
    let ip = ipv4_header(fields, source.octets(), to.octets(), ICMP_HEADER + quoted);
    let data = packet.data_mut();
    put(data, 0, ip);
    write_icmp(&mut data[IPV4_HEADER..], icmp_type, code, word, Sum::ZERO);
    true
}

fn icmp_error_v6(
    packet: &mut Packet,
    layout: &Layout,
    kind: IcmpError,
    source: Ipv6Addr,
    to: Ipv6Addr,
) -> bool {
    let quoted = layout.end.min(ICMPV6_ERROR_MAX - IPV6_HEADER - ICMP_HEADER);
    if !quote(packet, IPV6_HEADER + ICMP_HEADER, quoted) {
        return false;
    }
    let (icmp_type, code, word) = kind.v6();
    let len = ICMP_HEADER + quoted;
    let ip = ipv6_header(TTL_DEFAULT, proto::ICMPV6, source.octets(), to.octets(), len);
    let data = packet.data_mut();
    put(data, 0, ip);
    let pseudo = Sum::pseudo(source.into(), to.into(), proto::ICMPV6, short(len));
    write_icmp(&mut data[IPV6_HEADER..], icmp_type, code, word, pseudo);
    true
}

/// Moves the first `quoted` octets behind room for `headers` octets and cuts the rest off.
fn quote(packet: &mut Packet, headers: usize, quoted: usize) -> bool {
    // The quote is what the packet's receiver would have seen; a super-packet it never sees.
    if packet.meta.offload.gso == Gso::None && !complete_checksum(packet) {
        return false;
    }
    if packet.headroom() >= headers {
        let fits = packet.grow_front(headers) && packet.resize(headers + quoted);
        debug_assert!(fits, "the quote is not longer than the packet");
    } else if packet.resize(headers + quoted) {
        packet.data_mut().copy_within(..quoted, headers);
    } else {
        return false;
    }
    packet.meta.offload = Offload::default();
    true
}

/// Writes an ICMP header in front of the quote in `message`.
fn write_icmp(message: &mut [u8], icmp_type: u8, code: u8, word: u32, pseudo: Sum) {
    put(message, 0, [icmp_type, code, 0, 0]);
    put(message, 4, word.to_be_bytes());
    let sum = pseudo.plus(Sum::of(message)).checksum();
    put(message, 2, sum.to_be_bytes());
}

/// Turns an echo request into its reply.
///
/// The reply has fresh headers without IP options or extension headers, and the request's type
/// of service. No answer to fragments, to requests with a wrong checksum, and to or from
/// addresses that are not one host's.
pub fn echo_reply(packet: &mut Packet) -> bool {
    let Some(layout) = Layout::of(packet.data()) else { return false };
    let message = packet.data().get(layout.transport..layout.end);
    let Some(&[icmp_type, 0, _, _, _, _, _, _, ..]) = message else { return false };
    let reply_type = match (layout.protocol, icmp_type, layout.src) {
        (proto::ICMP, icmp::ECHO, IpAddr::V4(_)) => icmp::ECHO_REPLY,
        (proto::ICMPV6, icmp::V6_ECHO, IpAddr::V6(_)) => icmp::V6_ECHO_REPLY,
        _ => return false,
    };
    if layout.fragment != Fragment::Whole
        || packet.meta.offload.gso != Gso::None
        || !is_one_host(layout.src)
        || !is_one_host(layout.dst)
        || !checksum_is_intact(packet)
    {
        return false;
    }
    let id = identification(packet);
    let len = layout.end - layout.transport;
    let data = packet.data_mut();
    let tos = data[1];
    // The address swap does not change the sum of the pseudo-header.
    let (headers, pseudo) = match (layout.src, layout.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            data.copy_within(layout.transport..layout.end, IPV4_HEADER);
            let fields =
                Ipv4Fields { tos, id, dont_fragment: false, ttl: ICMP_TTL, protocol: proto::ICMP };
            put(data, 0, ipv4_header(fields, dst.octets(), src.octets(), len));
            (IPV4_HEADER, Sum::ZERO)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            data.copy_within(layout.transport..layout.end, IPV6_HEADER);
            let ip = ipv6_header(TTL_DEFAULT, proto::ICMPV6, dst.octets(), src.octets(), len);
            put(data, 0, ip);
            let pseudo = Sum::pseudo(layout.src, layout.dst, proto::ICMPV6, short(len));
            (IPV6_HEADER, pseudo)
        }
        _ => return false,
    };
    let message = &mut data[headers..headers + len];
    put(message, 0, [reply_type, 0, 0, 0]);
    let sum = pseudo.plus(Sum::of(message)).checksum();
    put(message, 2, sum.to_be_bytes());
    packet.meta.offload = Offload::default();
    packet.resize(headers + len)
}

/// What the answers need of a TCP packet.
struct TcpFields {
    src: IpAddr,
    dst: IpAddr,
    sport: u16,
    dport: u16,
    seq: u32,
    ack: u32,
    flags: u8,
    /// Octets of payload, by the IP length: of a super-packet all of it.
    payload: u32,
}

impl TcpFields {
    fn of(packet: &Packet) -> Option<Self> {
        let data = packet.data();
        let layout = Layout::of(data)?;
        if layout.protocol != proto::TCP || layout.fragment != Fragment::Whole {
            return None;
        }
        let segment = data.get(layout.transport..layout.end)?;
        let header = array::<TCP_HEADER>(segment, 0)?;
        let header_len = usize::from(header[12] >> 4) * 4;
        if header_len < TCP_HEADER {
            return None;
        }
        Some(Self {
            src: layout.src,
            dst: layout.dst,
            sport: be16(&header, 0)?,
            dport: be16(&header, 2)?,
            seq: be32(&header, 4)?,
            ack: be32(&header, 8)?,
            flags: header[13],
            payload: u32::try_from(segment.len().checked_sub(header_len)?).ok()?,
        })
    }

    fn can_answer(&self) -> bool {
        is_one_host(self.src) && is_one_host(self.dst)
    }
}

/// Puts a segment in the place of a packet, using the headroom when it is longer; false and
/// nothing changed when the buffer is too small.
pub(crate) fn place_segment(packet: &mut Packet, answer: &TcpSegment) -> bool {
    let len = answer.packet_len();
    let missing = len.saturating_sub(packet.len());
    if answer.src.is_ipv4() != answer.dst.is_ipv4()
        || !(packet.resize(len) || (packet.grow_front(missing) && packet.resize(len)))
    {
        return false;
    }
    let written = answer.write(packet.data_mut());
    debug_assert_eq!(written, len, "the packet is as long as the segment");
    packet.meta.offload = Offload::default();
    true
}

/// An IPv4 identification for the answer to `packet`.
///
/// pf takes a random one. Mixing the packet's own words keeps the answer a function of its input,
/// and two requests are hardly ever alike: their identifications, numbers and checksums differ.
/// A sum would not do, as checksums make sums constant.
fn identification(packet: &Packet) -> u16 {
    let head = packet.data();
    let head = &head[..head.len().min(IDENTIFYING)];
    let (words, rest) = head.as_chunks::<8>();
    let mut filled = [0; IDENTIFYING / 8];
    for (place, word) in filled.iter_mut().zip(words) {
        *place = u64::from_le_bytes(*word);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let filled = &filled[..words.len()];
    let mixed = sip13(&[0; 16], filled, u64::from_le_bytes(last), head.len());
    let [low, high, ..] = mixed.to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// A length below 64 KiB, as the pseudo-header wants it.
fn short(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
