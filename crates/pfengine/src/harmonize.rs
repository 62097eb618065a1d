//! Segments of two ends that have agreed on different options, made to fit in place.
//!
//! Behind a SYN cookie the client has agreed with the filter before the server was asked. What the
//! server then does otherwise is evened out in every segment: window fields in other units,
//! timestamps with an offset, options that one side does not know, ECN. Checksums follow by
//! difference (RFC 1624, eqn. 3); a partial one covers only the pseudo-header, which changes with the
//! length alone. The headers of a super-packet are those of all its segments.
//!
//! Sources: RFC 7323 sections 2.2 and 3.2; RFC 2018; RFC 3168; RFC 6691.

use pfapi::addr::Af;

use crate::packet::{Checksum, Gso, Packet};
use crate::packet_desc::{PacketDesc, TcpDesc, u16_at, u32_at};
use crate::wire::build::TCP_HEADER;
use crate::wire::build::flags::{CWR, ECE};
use crate::wire::bytes::put;
use crate::wire::checksum::{Delta, Sum};
use crate::wire::tcp_options::{self, kind};

const OFFSET_AND_FLAGS_AT: usize = 12;
const WINDOW_AT: usize = 14;
const CHECKSUM_AT: usize = 16;
/// Octets of a timestamp option with its padding.
const STAMP_OCTETS: usize = 12;
/// Octets that a TCP header has at most.
const TCP_HEADER_MAX: usize = 60;
const NOP: u8 = 1;

/// What must change in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edits {
    /// Window field.
    pub window: u16,
    /// Timestamps.
    pub stamps: Stamps,
    /// Whether SACK blocks are taken out.
    pub blank_sack: bool,
    /// Whether every trace of ECN is taken out.
    pub bleach: bool,
    /// With `bleach`: whether ECE is set after that.
    pub echo: bool,
    /// Largest segment that the receiver takes, options included, the fixed header not.
    pub mss: Option<u16>,
}

/// What becomes of timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamps {
    /// They stay.
    Keep,
    /// These are added to value and echo.
    Shift {
        /// To the value.
        tsval: u32,
        /// To the echo.
        tsecr: u32,
    },
    /// They are taken out.
    Blank,
    /// The option is put in, [`add_stamps`].
    Add {
        /// The value.
        tsval: u32,
        /// The echo.
        tsecr: u32,
    },
}

/// A TCP header with the difference that changes make to its checksum.
struct Header<'a> {
    octets: &'a mut [u8],
    delta: Delta,
}

impl Header<'_> {
    fn put16(&mut self, at: usize, new: u16) {
        self.delta = self.delta.and(Delta::u16(u16_at(self.octets, at), new).at(at));
        self.octets[at..at + 2].copy_from_slice(&new.to_be_bytes());
    }

    fn put32(&mut self, at: usize, new: u32) {
        self.delta = self.delta.and(Delta::u32(u32_at(self.octets, at), new).at(at));
        self.octets[at..at + 4].copy_from_slice(&new.to_be_bytes());
    }

    /// Puts no-operations in the place of every option of a kind.
    fn blank(&mut self, unwanted: u8) {
        let mut at = TCP_HEADER;
        while let Some(option) = tcp_options::options(&self.octets[at..]).next() {
            let start = at + option.offset;
            let end = (start + usize::from(option.length).max(2)).min(self.octets.len());
            if option.kind == unwanted {
                for place in start..end {
                    let even = place & !1;
                    let [mut high, mut low] = u16_at(self.octets, even).to_be_bytes();
                    if place == even {
                        high = NOP;
                    } else {
                        low = NOP;
                    }
                    self.put16(even, u16::from_be_bytes([high, low]));
                }
            }
            at = end;
        }
    }

    fn shift_stamps(&mut self, tsval: u32, tsecr: u32) {
        let options = &self.octets[TCP_HEADER..];
        let found = match tcp_options::stamps_in_front(options) {
            0 => tcp_options::options(options)
                .find(|option| option.timestamps().is_some())
                .map(|option| option.offset + 2),
            end => Some(end - 8),
        };
        let Some(at) = found.map(|at| TCP_HEADER + at) else { return };
        if tsval != 0 {
            self.put32(at, u32_at(self.octets, at).wrapping_add(tsval));
        }
        if tsecr != 0 {
            self.put32(at + 4, u32_at(self.octets, at + 4).wrapping_add(tsecr));
        }
    }
}

/// Changes a segment as `edits` say, but for timestamps that are to be added.
pub fn apply(packet: &mut Packet, desc: &PacketDesc, tcp: &TcpDesc, edits: &Edits) {
    if edits.bleach {
        bleach_ip(packet, desc.af);
        if let Gso::Tcp { ecn } = &mut packet.meta.offload.gso {
            *ecn = false;
        }
    }
    let partial = packet.meta.offload.is_partial_at(desc.l4);
    let octets = &mut packet.data_mut()[desc.l4..desc.l4 + tcp.header];
    let mut header = Header { octets, delta: Delta::NONE };
    if edits.window != tcp.window {
        header.put16(WINDOW_AT, edits.window);
    }
    if edits.bleach {
        let word = u16_at(header.octets, OFFSET_AND_FLAGS_AT) & !u16::from(ECE | CWR);
        let echo = if edits.echo { u16::from(ECE) } else { 0 };
        header.put16(OFFSET_AND_FLAGS_AT, word | echo);
    }
    if edits.blank_sack {
        header.blank(kind::SACK);
    }
    match edits.stamps {
        Stamps::Keep | Stamps::Add { .. } => {}
        Stamps::Shift { tsval, tsecr } => header.shift_stamps(tsval, tsecr),
        Stamps::Blank => header.blank(kind::TIMESTAMPS),
    }
    let Header { octets, delta } = header;
    if !partial {
        let sum = delta.complete(u16_at(octets, CHECKSUM_AT));
        put(octets, CHECKSUM_AT, sum.to_be_bytes());
    }
    if let Some(mss) = edits.mss {
        limit_segments(packet, desc, tcp, mss);
    }
}

/// Takes the ECN bits out of the IP header.
fn bleach_ip(packet: &mut Packet, af: Af) {
    let data = packet.data_mut();
    match af {
        Af::Inet => {
            let old = u16_at(data, 0);
            let new = old & !3;
            let sum = Delta::u16(old, new).complete(u16_at(data, 10));
            put(data, 0, new.to_be_bytes());
            put(data, 10, sum.to_be_bytes());
        }
        // The last two bits of the class are the upper half of the second octet's first half.
        Af::Inet6 => data[1] &= 0xcf,
    }
}

/// Lets a packet leave in segments that its receiver takes: a super-packet is cut smaller, a
/// segment that is too large becomes a super-packet.
///
/// Only full segments of senders that were told a larger MSS come here.
fn limit_segments(packet: &mut Packet, desc: &PacketDesc, tcp: &TcpDesc, mss: u16) {
    let options = tcp.header - TCP_HEADER;
    let Some(most) = usize::from(mss).checked_sub(options).filter(|&most| most > 0) else { return };
    let Ok(most) = u16::try_from(most) else { return };
    let offload = packet.meta.offload;
    match offload.gso {
        Gso::Tcp { .. } => packet.meta.offload.gso_size = offload.gso_size.min(most),
        Gso::None if tcp.payload > u32::from(most) => {
            let (Ok(start), Some(field)) =
                (u16::try_from(desc.l4), desc.l4.checked_add(CHECKSUM_AT))
            else {
                return;
            };
            if !offload.is_partial_at(desc.l4) {
                // From now on who cuts it sums up each segment.
                let (src, dst) = (desc.src.to_ip(desc.af), desc.dst.to_ip(desc.af));
                let len = u32::try_from(desc.total - desc.l4).unwrap_or(u32::MAX);
                let sum = Sum::pseudo(src, dst, desc.proto, len).folded();
                put(packet.data_mut(), field, sum.to_be_bytes());
            }
            packet.meta.offload.gso = Gso::Tcp { ecn: tcp.flags & CWR != 0 };
            packet.meta.offload.gso_size = most;
            packet.meta.offload.checksum =
                Checksum::Partial { start, offset: u16::try_from(CHECKSUM_AT).unwrap_or(16) };
        }
        Gso::None | Gso::Udp => {}
    }
}

/// Puts a timestamp option behind the others of a segment that has none; false, and nothing changed,
/// when header, packet or buffer have no room for it.
pub fn add_stamps(
    packet: &mut Packet,
    desc: &PacketDesc,
    tcp: &TcpDesc,
    stamps: (u32, u32),
) -> bool {
    let (old_header, old_total) = (tcp.header, desc.total);
    let (new_header, new_total) = (old_header + STAMP_OCTETS, old_total + STAMP_OCTETS);
    let ip_length = match desc.af {
        Af::Inet => new_total,
        Af::Inet6 => new_total - crate::wire::ip::IPV6_HEADER,
    };
    let Ok(ip_length) = u16::try_from(ip_length) else { return false };
    if new_header > TCP_HEADER_MAX {
        return false;
    }
    let options_end = desc.l4 + old_header;
    if packet.grow_front(STAMP_OCTETS) {
        packet.data_mut().copy_within(STAMP_OCTETS..STAMP_OCTETS + options_end, 0);
    } else if packet.resize(new_total) {
        packet.data_mut().copy_within(options_end..old_total, options_end + STAMP_OCTETS);
    } else {
        return false;
    }
    let partial = packet.meta.offload.is_partial_at(desc.l4);
    let data = packet.data_mut();
    let mut option = [NOP, NOP, kind::TIMESTAMPS, 10, 0, 0, 0, 0, 0, 0, 0, 0];
    put(&mut option, 4, stamps.0.to_be_bytes());
    put(&mut option, 8, stamps.1.to_be_bytes());
    put(data, options_end, option);
    let old_words = u16_at(data, desc.l4 + OFFSET_AND_FLAGS_AT);
    // Three words more in the upper four bits.
    let new_words = old_words + (3 << 12);
    put(data, desc.l4 + OFFSET_AND_FLAGS_AT, new_words.to_be_bytes());
    match desc.af {
        Af::Inet => {
            let sum = Delta::u16(u16_at(data, 2), ip_length).complete(u16_at(data, 10));
            put(data, 2, ip_length.to_be_bytes());
            put(data, 10, sum.to_be_bytes());
        }
        Af::Inet6 => {
            put(data, 4, ip_length.to_be_bytes());
        }
    }
    // The pseudo-header has the length of the segment.
    let segment = |total: usize| u32::try_from(total - desc.l4).unwrap_or(u32::MAX);
    let length = Delta::u32(segment(old_total), segment(new_total));
    let field = desc.l4 + CHECKSUM_AT;
    let old = u16_at(data, field);
    let sum = if partial {
        length.partial(old)
    } else {
        let words = Delta::u16(old_words, new_words).and(Delta::gain(Sum::of(&option)));
        length.and(words).complete(old)
    };
    put(data, field, sum.to_be_bytes());
    true
}

#[cfg(test)]
mod tests;
