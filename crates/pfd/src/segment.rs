//! What a device without offload leaves to us: finishing checksums, cutting super-packets.
//!
//! A super-packet is cut as the kernel would cut it: every segment gets the headers of the whole,
//! then lengths, IPv4 identification, TCP sequence number and flags, and checksums of its own.
//! FIN and PSH stay with the last segment, CWR with the first (RFC 3168 section 6.1.2).
//! Sources: RFC 1071; Linux net/ipv4/tcp_offload.c `tcp_gso_segment`, net/ipv4/udp_offload.c.

use pfengine::queue::Charge;
use pfengine::{Checksum, Gso, Offload, Packet};

const PROTO_TCP: u8 = 6;
const PROTO_UDP: u8 = 17;
const TCP_FIN: u8 = 0x01;
const TCP_PSH: u8 = 0x08;
const TCP_CWR: u8 = 0x80;
/// Octets of a UDP header.
const UDP_HEADER: usize = 8;
/// Where the checksum lies in a TCP and in a UDP header.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// The packet's headers do not hold what its offload says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("packet does not hold what its offload says")]
pub struct Malformed;

/// Finishes a partial checksum: sums from `start` to the end and writes at `start + offset`.
///
/// # Errors
/// [`Malformed`] when the field lies outside the packet; the packet is unchanged.
pub fn complete_checksum(data: &mut [u8], start: u16, offset: u16) -> Result<(), Malformed> {
    let (start, offset) = (usize::from(start), usize::from(offset));
    let covered = data.get(start..).ok_or(Malformed)?;
    if offset + 2 > covered.len() {
        return Err(Malformed);
    }
    // The field holds the sum of the pseudo-header, so that it counts by being there. A sum of
    // zero means "none" in UDP; all ones is the same number (RFC 768) and right for TCP too.
    let sum = non_zero(!fold(sum_of(covered, 0)));
    data[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
    Ok(())
}

/// Cuts one super-packet into segments, one call per segment.
#[derive(Clone, Copy, Debug)]
pub struct Segmenter {
    kind: Kind,
    ipv6: bool,
    /// Where the transport header begins.
    transport: usize,
    /// Octets of all headers.
    headers: usize,
    /// Payload octets per segment.
    step: usize,
    /// Payload octets already handed out.
    done: usize,
    segments: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
}

impl Segmenter {
    /// Reads where to cut.
    ///
    /// # Errors
    /// [`Malformed`] when the packet is no TCP or UDP packet, is shorter than its headers, is a
    /// fragment, or has no segment size.
    pub fn new(data: &[u8], offload: &Offload) -> Result<Self, Malformed> {
        let (kind, protocol) = match offload.gso {
            Gso::None => return Err(Malformed),
            Gso::Tcp { .. } => (Kind::Tcp, PROTO_TCP),
            Gso::Udp => (Kind::Udp, PROTO_UDP),
        };
        let ipv6 = match data.first().map(|octet| octet >> 4) {
            Some(4) if data.len() >= 20 => false,
            Some(6) if data.len() >= 40 => true,
            _ => return Err(Malformed),
        };
        let transport = transport_offset(data, ipv6, protocol, offload.checksum)?;
        let headers = transport
            + match kind {
                Kind::Tcp => {
                    let octets = usize::from(*data.get(transport + 12).ok_or(Malformed)? >> 4) * 4;
                    if octets < 20 {
                        return Err(Malformed);
                    }
                    octets
                }
                Kind::Udp => UDP_HEADER,
            };
        if offload.gso_size == 0 || headers > data.len() {
            return Err(Malformed);
        }
        let step = usize::from(offload.gso_size);
        Ok(Self { kind, ipv6, transport, headers, step, done: 0, segments: 0 })
    }

    /// Octets of the longest segment.
    #[must_use]
    pub fn longest(&self, data: &[u8]) -> usize {
        data.len().min(self.headers + self.step)
    }

    /// What the segments cost: each has all the headers.
    #[must_use]
    pub fn charge(&self, data: &[u8]) -> Charge {
        let payload = data.len().saturating_sub(self.headers);
        let packets = payload.div_ceil(self.step).max(1);
        let count = |octets: usize| u32::try_from(octets).unwrap_or(u32::MAX);
        Charge { packets: count(packets), octets: count(payload + packets * self.headers) }
    }

    /// Writes the next segment of `data` into `segment`; false when there is none left.
    ///
    /// `data` is the packet that [`Self::new`] saw.
    ///
    /// # Errors
    /// [`Malformed`] when `segment` is too small a buffer.
    pub fn next_into(&mut self, data: &[u8], segment: &mut Packet) -> Result<bool, Malformed> {
        let payload = &data[self.headers..];
        let first = self.segments == 0;
        if self.done >= payload.len() && !first {
            return Ok(false);
        }
        let end = payload.len().min(self.done + self.step);
        let last = end == payload.len();
        let part = &payload[self.done..end];
        if !segment.resize(self.headers + part.len()) {
            return Err(Malformed);
        }
        let out = segment.data_mut();
        out[..self.headers].copy_from_slice(&data[..self.headers]);
        out[self.headers..].copy_from_slice(part);
        self.write_network(out);
        self.write_transport(out, first, last);
        segment.meta.offload = Offload::default();
        self.done = end;
        self.segments = self.segments.wrapping_add(1);
        Ok(true)
    }

    /// Length, identification and checksum of the IP header.
    fn write_network(&self, out: &mut [u8]) {
        if self.ipv6 {
            put(out, 4, out.len() - 40);
            return;
        }
        put(out, 2, out.len());
        let identification = u16::from_be_bytes([out[4], out[5]]).wrapping_add(self.segments);
        put(out, 4, usize::from(identification));
        put(out, 10, 0);
        let header = usize::from(out[0] & 0x0f) * 4;
        let sum = !fold(sum_of(&out[..header], 0));
        put(out, 10, usize::from(sum));
    }

    /// Sequence number and flags or length, and checksum of the transport header.
    fn write_transport(&self, out: &mut [u8], first: bool, last: bool) {
        let at = self.transport;
        let (protocol, field) = match self.kind {
            Kind::Tcp => {
                let sequence: [u8; 4] = [out[at + 4], out[at + 5], out[at + 6], out[at + 7]];
                let done = u32::try_from(self.done).unwrap_or(0); // at most 64 KiB
                let sequence = u32::from_be_bytes(sequence).wrapping_add(done);
                out[at + 4..at + 8].copy_from_slice(&sequence.to_be_bytes());
                if !first {
                    out[at + 13] &= !TCP_CWR;
                }
                if !last {
                    out[at + 13] &= !(TCP_FIN | TCP_PSH);
                }
                (PROTO_TCP, at + TCP_CHECKSUM)
            }
            Kind::Udp => {
                put(out, at + 4, out.len() - at);
                (PROTO_UDP, at + UDP_CHECKSUM)
            }
        };
        put(out, field, 0);
        let addresses = if self.ipv6 { 8..40 } else { 12..20 };
        let pseudo = sum_of(&out[addresses], (out.len() - at) as u64 + u64::from(protocol));
        let sum = !fold(sum_of(&out[at..], pseudo));
        let sum = if self.kind == Kind::Udp { non_zero(sum) } else { sum };
        put(out, field, usize::from(sum));
    }
}

/// Where the transport header begins; with a partial checksum that is where its sum begins.
fn transport_offset(
    data: &[u8],
    ipv6: bool,
    protocol: u8,
    checksum: Checksum,
) -> Result<usize, Malformed> {
    if ipv6 {
        return match checksum {
            Checksum::Partial { start, .. } if start >= 40 => Ok(usize::from(start)),
            _ if data[6] == protocol => Ok(40),
            _ => Err(Malformed),
        };
    }
    let header = usize::from(data[0] & 0x0f) * 4;
    let fragment = u16::from_be_bytes([data[6], data[7]]) & 0x3fff;
    if header < 20 || header > data.len() || data[9] != protocol || fragment != 0 {
        return Err(Malformed);
    }
    Ok(header)
}

/// Writes the lower 16 bits of `value` at `at`, in network order.
fn put(out: &mut [u8], at: usize, value: usize) {
    let value = u16::try_from(value & 0xffff).unwrap_or(0);
    out[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn non_zero(sum: u16) -> u16 {
    if sum == 0 { 0xffff } else { sum }
}

/// Adds `octets` as 16-bit words in network order to `sum` (RFC 1071).
///
/// Takes 32 bits at a time: 2^32 is 1 modulo 2^16 - 1, so that the wider sum folds to the same.
fn sum_of(octets: &[u8], sum: u64) -> u64 {
    let (words, rest) = octets.as_chunks::<4>();
    let sum = words.iter().fold(sum, |sum, word| sum + u64::from(u32::from_be_bytes(*word)));
    let mut tail = [0; 4];
    tail[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_be_bytes(tail))
}

/// Folds a sum into 16 bits.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests;
