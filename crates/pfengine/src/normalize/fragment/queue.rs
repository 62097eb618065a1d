//! The fragments of one datagram.
//!
//! Life-cycle: made for the first fragment, grown by [`Queue::add`], ended by [`Queue::write`] when
//! the datagram is whole, or dropped by the cache.
//! Invariants: pieces are sorted and do not overlap; `covered` is the sum of their lengths.
//! Sources: OpenBSD sys/net/pf_norm.c `pf_fillup_fragment`, `pf_frent_insert`, `pf_isfull_fragment`,
//! `pf_join_fragment`; RFC 791 section 3.2; RFC 8200 section 4.5; RFC 5722.

use pfapi::addr::Af;
use pfapi::reason::Reason;

use super::arriving::Arriving;
use super::cut::Refragment;
use crate::packet::{Offload, Packet};
use crate::wire::checksum::Sum;
use crate::wire::ip::{IPV4_HEADER, IPV6_HEADER};

/// Parts of a datagram whose fragments are counted on their own, of [`PART_OCTETS`] each.
const PARTS: usize = 16;
/// Octets of one part.
const PART_OCTETS: usize = 0x1_0000 / PARTS;
/// Fragments in one part at most: what needs more is an attack. Source: `PF_FRAG_ENTRY_LIMIT`.
const PART_PIECES_MAX: u8 = 64;
/// Memory that a fragment costs besides its octets.
const PIECE_OVERHEAD: usize = 96;
/// Longest IP packet.
const PACKET_MAX: usize = 65_535;

/// The fragments of one datagram.
#[derive(Debug)]
pub struct Queue {
    af: Af,
    pieces: Vec<Piece>,
    per_part: [u8; PARTS],
    /// Octets of the datagram that are there.
    covered: usize,
    /// Octets of the longest fragment.
    longest: usize,
    /// Octets of memory.
    memory: usize,
}

/// A fragment without what other fragments gave already.
#[derive(Debug)]
struct Piece {
    /// First octet in the datagram.
    start: usize,
    /// Octets at the front that do not count any more.
    skip: usize,
    octets: Box<[u8]>,
    more: bool,
    /// Of the first fragment: the headers in front of the data.
    head: Option<Head>,
}

/// Headers of the first fragment.
#[derive(Debug)]
struct Head {
    octets: Box<[u8]>,
    /// IPv6: where the next-header field that named the fragment header lies.
    next_at: usize,
    /// IPv6: what the fragment header named.
    next: u8,
}

impl Piece {
    fn data(&self) -> &[u8] {
        &self.octets[self.skip..]
    }

    fn end(&self) -> usize {
        self.start + self.octets.len() - self.skip
    }

    fn memory(&self) -> usize {
        PIECE_OVERHEAD + self.octets.len() + self.head.as_ref().map_or(0, |head| head.octets.len())
    }

    /// Loses octets at the front.
    fn trim_front(&mut self, octets: usize) {
        self.start += octets;
        self.skip += octets;
    }
}

/// What became of a fragment that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is kept.
    Kept,
    /// It is kept, and the datagram is whole.
    Whole,
    /// All its octets were there already.
    Duplicate,
    /// It is dropped; the others stay.
    Refused,
    /// The whole datagram is lost.
    Ruined,
}

impl Queue {
    /// A queue without fragments.
    pub const fn new(af: Af) -> Self {
        Self { af, pieces: Vec::new(), per_part: [0; PARTS], covered: 0, longest: 0, memory: 0 }
    }

    /// Fragments that are held.
    pub const fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// Octets of memory that they cost.
    pub const fn memory(&self) -> usize {
        self.memory
    }

    /// Memory that a fragment will cost.
    pub const fn memory_of(arriving: &Arriving<'_>) -> usize {
        PIECE_OVERHEAD
            + arriving.data.len()
            + match &arriving.head {
                Some(head) => head.len(),
                None => 0,
            }
    }

    /// Adds a fragment.
    ///
    /// IPv4: octets that overlap an earlier fragment in front of it are taken from that one,
    /// octets that overlap those behind it from the new one. IPv6: every overlap, a duplicate too,
    /// ruins the datagram (RFC 5722).
    pub fn add(&mut self, arriving: &Arriving<'_>) -> Added {
        let (mut start, end) = (arriving.start, arriving.end());
        let bad = match self.af {
            Af::Inet => Added::Refused,
            Af::Inet6 => Added::Ruined,
        };
        self.longest = self.longest.max(arriving.data.len());
        if let Some(last) = self.pieces.last() {
            let total = last.end();
            let contradicts = if last.more {
                end <= total && !arriving.more
            } else {
                end > total || (end == total && arriving.more) || (end < total && !arriving.more)
            };
            if contradicts {
                return bad;
            }
        }
        let at = self.pieces.partition_point(|piece| piece.start <= start);
        let taken = at.checked_sub(1).map_or(0, |before| self.pieces[before].end());
        let skip = taken.saturating_sub(start);
        if skip > 0 {
            if self.af == Af::Inet6 {
                return Added::Ruined;
            }
            if skip >= arriving.data.len() {
                return Added::Duplicate;
            }
            start += skip;
        }
        while let Some(after) = self.pieces.get_mut(at)
            && after.start < end
        {
            if self.af == Af::Inet6 {
                return Added::Ruined;
            }
            if after.end() <= end {
                self.remove(at);
                continue;
            }
            let cut = end - after.start;
            let (from, to) = (after.start / PART_OCTETS, end / PART_OCTETS);
            if from != to && self.per_part[to] >= PART_PIECES_MAX {
                return Added::Ruined;
            }
            self.per_part[from] -= 1;
            after.trim_front(cut);
            self.per_part[to] += 1;
            self.covered -= cut;
            break;
        }
        if self.per_part[start / PART_OCTETS] >= PART_PIECES_MAX {
            return Added::Ruined;
        }
        let head = arriving.head.as_ref().map(|head| Head {
            octets: Box::from(*head),
            next_at: arriving.next_at,
            next: arriving.next,
        });
        let octets = Box::from(&arriving.data[skip..]);
        let piece = Piece { start, skip: 0, octets, more: arriving.more, head };
        self.per_part[start / PART_OCTETS] += 1;
        self.covered += piece.data().len();
        self.memory += piece.memory();
        self.pieces.insert(at, piece);
        if self.is_whole() { Added::Whole } else { Added::Kept }
    }

    fn remove(&mut self, at: usize) {
        let piece = self.pieces.remove(at);
        self.per_part[piece.start / PART_OCTETS] -= 1;
        self.covered -= piece.data().len();
        self.memory -= piece.memory();
    }

    /// Whether there are no holes and the last fragment is there.
    fn is_whole(&self) -> bool {
        self.pieces.last().is_some_and(|last| !last.more && last.end() == self.covered)
    }

    /// Writes the datagram over `packet`, with the header of the first fragment. IPv6: without the
    /// fragment header; the packet remembers how to cut it again, under the new identification
    /// `id`.
    ///
    /// # Errors
    /// [`Reason::Short`] when header and data are longer than an IP packet can be,
    /// [`Reason::Memory`] when the packet's buffer is too small, [`Reason::Fragment`] when the
    /// datagram is not whole.
    pub fn write(&self, packet: &mut Packet, id: u32) -> Result<(), Reason> {
        let first = self.pieces.first().filter(|_| self.is_whole()).ok_or(Reason::Fragment)?;
        let head = first.head.as_ref().ok_or(Reason::Fragment)?;
        let header = head.octets.len();
        let total = header + self.covered;
        let fits = match self.af {
            Af::Inet => total <= PACKET_MAX,
            Af::Inet6 => total - IPV6_HEADER <= PACKET_MAX,
        };
        if !fits {
            return Err(Reason::Short);
        }
        let missing = total.saturating_sub(packet.len());
        if !(packet.resize(total) || packet.grow_front(missing) && packet.resize(total)) {
            return Err(Reason::Memory);
        }
        let data = packet.data_mut();
        data[..header].copy_from_slice(&head.octets);
        for piece in &self.pieces {
            data[header + piece.start..header + piece.end()].copy_from_slice(piece.data());
        }
        packet.meta.offload = Offload::default();
        packet.meta.refragment = None;
        match self.af {
            Af::Inet => write_ipv4_header(&mut packet.data_mut()[..header], total),
            Af::Inet6 => {
                let data = packet.data_mut();
                put16(data, 4, total - IPV6_HEADER);
                data[head.next_at] = head.next;
                packet.meta.refragment = Refragment::new(header, head.next_at, self.longest, id);
            }
        }
        Ok(())
    }
}

/// Makes the header of a first fragment that of a whole packet.
fn write_ipv4_header(header: &mut [u8], total: usize) {
    debug_assert!(header.len() >= IPV4_HEADER, "a fragment has an IPv4 header");
    put16(header, 2, total);
    // "don't fragment" was cleared or never there.
    put16(header, 6, 0);
    put16(header, 10, 0);
    let sum = Sum::of(header).checksum();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn put16(data: &mut [u8], at: usize, value: usize) {
    let value = u16::try_from(value).unwrap_or(u16::MAX);
    data[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests;
