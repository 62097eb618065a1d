//! TCP packets that the filter makes itself.
//!
//! Source: RFC 9293 section 3.1; OpenBSD sys/net/pf.c `pf_build_tcp`.

use core::net::IpAddr;

use pfapi::ruleset::proto;

use super::checksum::Sum;
use super::ip::{IPV4_HEADER, IPV6_HEADER};
use super::tcp_options::{SynOptions, kind};

/// Bits of the TCP flags octet.
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment field counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
    /// ECN echo.
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;
}

/// Octets of a TCP header without options.
pub const TCP_HEADER: usize = 20;
/// Octets of the longest packet that [`TcpSegment::write`] makes.
pub const TCP_SEGMENT_MAX: usize = IPV6_HEADER + TCP_HEADER + OPTIONS_MAX;
/// Octets of all options that a segment can have: MSS, SACK permitted with timestamps, window scale.
const OPTIONS_MAX: usize = 4 + 12 + 4;
/// TOS of the packets that pf makes: low delay. Source: OpenBSD `pf_build_tcp`.
pub const TOS_LOW_DELAY: u8 = 0x10;
/// Default time to live and hop limit. Source: RFC 1700; OpenBSD `ip_defttl`.
pub const TTL_DEFAULT: u8 = 64;

/// Whether an address can be that of one host.
#[must_use]
pub fn is_one_host(addr: IpAddr) -> bool {
    let broadcast = addr == IpAddr::V4(core::net::Ipv4Addr::BROADCAST);
    !(addr.is_unspecified() || addr.is_multicast() || broadcast)
}

/// A TCP segment without payload, to be written as an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSegment {
    /// Source address, of the same family as `dst`.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flags, see [`flags`].
    pub flags: u8,
    /// Window field, as it goes on the wire.
    pub window: u16,
    /// Options, those of a SYN or the timestamps of any segment.
    pub options: SynOptions,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// IPv4 type of service; IPv6 packets have class 0.
    pub tos: u8,
    /// IPv4 "don't fragment".
    pub dont_fragment: bool,
    /// IPv4 identification.
    pub id: u16,
}

impl TcpSegment {
    /// Whether both ends can be one host each, so that the segment may be sent.
    #[must_use]
    pub fn is_between_hosts(&self) -> bool {
        is_one_host(self.src) && is_one_host(self.dst)
    }

    /// Octets of the whole IP packet.
    #[must_use]
    pub const fn packet_len(&self) -> usize {
        let ip = if self.src.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER };
        ip + self.segment_len()
    }

    const fn segment_len(&self) -> usize {
        let options = &self.options;
        let mss = if options.mss.is_some() { 4 } else { 0 };
        let timestamps = match (options.timestamps, options.sack_permitted) {
            (Some(_), _) => 12,
            (None, true) => 4,
            (None, false) => 0,
        };
        let wscale = if options.wscale.is_some() { 4 } else { 0 };
        TCP_HEADER + mss + timestamps + wscale
    }

    /// Writes the whole IP packet with its checksums to the front of `out`; its length, or 0
    /// and nothing written when `out` is too short or the families differ.
    #[must_use]
    pub fn write(&self, out: &mut [u8]) -> usize {
        let len = self.packet_len();
        let Some(out) = out.get_mut(..len) else { return 0 };
        let mut words = [0; TCP_SEGMENT_MAX / 4];
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let (src, dst) = (src.to_bits(), dst.to_bits());
                let head = 0x4500_0000 | u32::from(self.tos) << 16 | u32::from(clamp_u16(len));
                let fragment = u32::from(self.id) << 16 | u32::from(self.dont_fragment) << 14;
                let hops = u32::from(self.ttl) << 24 | u32::from(proto::TCP) << 16;
                let sum = Sum::of_words([head, fragment, hops, src, dst]);
                words[..5].copy_from_slice(&[
                    head,
                    fragment,
                    hops | u32::from(sum.checksum()),
                    src,
                    dst,
                ]);
                let (_, segment) = words.split_at_mut(IPV4_HEADER / 4);
                self.write_segment(segment, Sum::of_words([src, dst]));
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let next = u32::from(proto::TCP) << 8 | u32::from(self.ttl);
                let payload = u32::from(clamp_u16(self.segment_len()));
                let (src, dst) = (quarters(src.to_bits()), quarters(dst.to_bits()));
                words[..2].copy_from_slice(&[0x6000_0000, payload << 16 | next]);
                words[2..6].copy_from_slice(&src);
                words[6..10].copy_from_slice(&dst);
                let ends = Sum::of_words(src).plus(Sum::of_words(dst));
                let (_, segment) = words.split_at_mut(IPV6_HEADER / 4);
                self.write_segment(segment, ends);
            }
            _ => return 0,
        }
        for (place, word) in out.as_chunks_mut().0.iter_mut().zip(words) {
            *place = word.to_be_bytes();
        }
        len
    }

    /// Writes the TCP header as words in the order of the host, behind which `words` are 0; `ends`
    /// is the sum of the addresses.
    #[inline]
    fn write_segment(&self, words: &mut [u32], ends: Sum) {
        let len = u32::from(clamp_u16(self.segment_len()));
        let ports = u32::from(self.sport) << 16 | u32::from(self.dport);
        let flags = len << 26 | u32::from(self.flags) << 16 | u32::from(self.window);
        let Some(words) = words.first_chunk_mut::<10>() else { return };
        words[..4].copy_from_slice(&[ports, self.seq, self.ack, flags]);
        if let Some(options) = words.last_chunk_mut::<5>() {
            write_options(&self.options, options);
        }
        let pseudo = ends.plus_u16(u16::from(proto::TCP)).plus_u32(len);
        // Behind the checksum the urgent pointer.
        words[4] = u32::from(pseudo.plus(Sum::of_words(*words)).checksum()) << 16;
    }
}

/// Four parts of 128 bits, the highest first.
#[inline]
const fn quarters(bits: u128) -> [u32; 4] {
    #[expect(clippy::cast_possible_truncation, reason = "four quarters")]
    let quarters = [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32];
    quarters
}

/// Writes options in words of four octets, in the order of common stacks.
#[inline]
fn write_options(options: &SynOptions, words: &mut [u32; 5]) {
    const NOPS: u32 = 0x0101;
    const SACK: u32 = (kind::SACK_PERMITTED as u32) << 8 | 0x02;
    const STAMPS: u32 = (kind::TIMESTAMPS as u32) << 8 | 0x0a;
    let mut places = words.iter_mut();
    let mut append = |word: u32| {
        if let Some(place) = places.next() {
            *place = word;
        }
    };
    if let Some(mss) = options.mss {
        append(u32::from(kind::MSS) << 24 | 0x0004_0000 | u32::from(mss));
    }
    match (options.timestamps, options.sack_permitted) {
        (Some((tsval, tsecr)), sack) => {
            append((if sack { SACK } else { NOPS }) << 16 | STAMPS);
            append(tsval);
            append(tsecr);
        }
        (None, true) => append(NOPS << 16 | SACK),
        (None, false) => {}
    }
    if let Some(shift) = options.wscale {
        append(0x0100_0000 | u32::from(kind::WSCALE) << 16 | 0x0300 | u32::from(shift));
    }
}

/// The fields of an IPv4 header that differ between the packets that the filter makes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ipv4Fields {
    pub tos: u8,
    pub id: u16,
    pub dont_fragment: bool,
    pub ttl: u8,
    pub protocol: u8,
}

/// An IPv4 header without options in front of `payload` octets, at most 65,515.
pub(crate) fn ipv4_header(
    fields: Ipv4Fields,
    src: [u8; 4],
    dst: [u8; 4],
    payload: usize,
) -> [u8; IPV4_HEADER] {
    let mut header = [0; IPV4_HEADER];
    header[0] = 0x45;
    header[1] = fields.tos;
    header[2..4].copy_from_slice(&clamp_u16(IPV4_HEADER + payload).to_be_bytes());
    header[4..6].copy_from_slice(&fields.id.to_be_bytes());
    header[6] = if fields.dont_fragment { 0x40 } else { 0 };
    header[8] = fields.ttl;
    header[9] = fields.protocol;
    header[12..16].copy_from_slice(&src);
    header[16..20].copy_from_slice(&dst);
    let sum = Sum::of(&header).checksum();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

/// An IPv6 header with class 0 and flow label 0 in front of `payload` octets, at most 65,535.
pub(crate) fn ipv6_header(
    hop_limit: u8,
    next: u8,
    src: [u8; 16],
    dst: [u8; 16],
    payload: usize,
) -> [u8; IPV6_HEADER] {
    let mut header = [0; IPV6_HEADER];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&clamp_u16(payload).to_be_bytes());
    header[6] = next;
    header[7] = hop_limit;
    header[8..24].copy_from_slice(&src);
    header[24..40].copy_from_slice(&dst);
    header
}

fn clamp_u16(len: usize) -> u16 {
    debug_assert!(u16::try_from(len).is_ok(), "the filter makes only short packets");
    u16::try_from(len).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::{ipv4_header_is_intact, packet_is_intact};
    use crate::wire::ip::Layout;
    use crate::wire::tcp_options::scan;
    use proptest::prelude::*;

    fn segment(src: IpAddr, dst: IpAddr) -> TcpSegment {
        TcpSegment {
            src,
            dst,
            sport: 443,
            dport: 40000,
            seq: 0x4da6_f1b1,
            ack: 0x1122_3345,
            flags: flags::SYN | flags::ACK,
            window: 0,
            options: SynOptions::of_mss(Some(1460)),
            ttl: 64,
            tos: TOS_LOW_DELAY,
            dont_fragment: true,
            id: 0xbeef,
        }
    }

    #[test]
    fn ipv4_packet_has_every_field_in_its_place() {
        let mut out = [0xee; 50];
        let segment = segment([198, 51, 100, 1].into(), [192, 0, 2, 10].into());
        assert_eq!(segment.write(&mut out), 44);
        assert_eq!(out[..10], [0x45, 0x10, 0, 44, 0xbe, 0xef, 0x40, 0, 64, 6]);
        assert_eq!(out[12..20], [198, 51, 100, 1, 192, 0, 2, 10]);
        assert_eq!(out[20..36], *b"\x01\xbb\x9c\x40\x4d\xa6\xf1\xb1\x11\x22\x33\x45\x60\x12\0\0");
        assert_eq!(out[38..44], [0, 0, 2, 4, 0x05, 0xb4]);
        assert_eq!(out[44..], [0xee; 6], "nothing behind the packet");
        assert!(ipv4_header_is_intact(&out[..20]) && packet_is_intact(&out[..44]));
    }

    #[test]
    fn ipv6_packet_has_class_and_flow_zero() {
        let mut out = [0; 64];
        let bare = segment([1_u16; 8].into(), [2_u16; 8].into());
        let segment = TcpSegment { options: SynOptions::default(), ..bare };
        assert_eq!(segment.write(&mut out), 60);
        assert_eq!(out[..8], [0x60, 0, 0, 0, 0, 20, 6, 64]);
        assert_eq!(out[52], 5 << 4);
        assert!(packet_is_intact(&out[..60]));
    }

    #[test]
    fn short_buffers_and_mixed_families_write_nothing() {
        let v4 = segment([198, 51, 100, 1].into(), [192, 0, 2, 10].into());
        assert_eq!(v4.write(&mut [0; 43]), 0);
        let mixed = TcpSegment { dst: [2_u16; 8].into(), ..v4 };
        let mut out = [0; 64];
        assert_eq!(mixed.write(&mut out), 0);
        assert_eq!(out, [0; 64]);
    }

    proptest! {
        #[test]
        fn every_segment_has_right_checksums(
            ends in prop_oneof![
                any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
                any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
            ],
            numbers: (u16, u16, u32, u32, u8, u16), id: u16,
            offered: (Option<u16>, Option<u8>, bool, Option<(u32, u32)>),
        ) {
            let (sport, dport, seq, ack, flags, window) = numbers;
            let base = segment(ends.0, ends.1);
            let (mss, wscale, sack_permitted, timestamps) = offered;
            let wscale = wscale.map(|shift| shift % 15);
            let options = SynOptions { mss, wscale, sack_permitted, timestamps };
            let segment = TcpSegment { sport, dport, seq, ack, flags, window, options, id, ..base };
            let mut out = [0; TCP_SEGMENT_MAX];
            let len = segment.write(&mut out);
            let layout = Layout::of(&out[..len]).unwrap();
            prop_assert_eq!((layout.src, layout.dst, layout.end), (ends.0, ends.1, len));
            prop_assert!(packet_is_intact(&out[..len]));
            let header = &out[layout.transport..len];
            prop_assert_eq!(usize::from(header[12] >> 4) * 4, header.len());
            prop_assert_eq!(scan(&header[TCP_HEADER..]), options);
        }
    }
}
