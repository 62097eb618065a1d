//! The packet buffers of one I/O loop.
//!
//! All are allocated at the start. The buffer given back last is given out first, so that as few
//! of them as possible are warm in the caches; the system maps the rest only when first used.
//! Invariant: the pool never holds more buffers than it began with.

use pfengine::{Offload, Packet, Verdict};

use crate::tun::HEADER_OCTETS;

/// Octets in front of each packet: an ICMP error is prepended there (an IPv6 header, eight octets
/// and room to spare), and then the device's header.
pub(super) const HEADROOM: usize = 128 + HEADER_OCTETS.next_multiple_of(16);

/// Starts of packets are spread over this many cache lines: were all of them equally far into a
/// page, the headers of a batch would fight for a few sets of the first-level cache.
const STAGGER_LINES: u32 = 32;
const LINE_OCTETS: usize = 64;

/// Longest packet, and what an answer or a translation from IPv4 to IPv6 may add.
const LONGEST: usize = 65536 + 64;

/// Large buffers for packets and super-packets, small ones for segments cut in software.
#[derive(Debug)]
pub(super) struct Pool {
    large: Shelf,
    small: Shelf,
}

#[derive(Debug)]
struct Shelf {
    free: Vec<Packet>,
    /// Octets of storage of each buffer: tells whose a returned buffer is.
    storage: usize,
    capacity: usize,
}

impl Pool {
    /// `large` buffers of 64 KiB and `small` ones for segments of up to `segment` octets.
    pub(super) fn new(large: usize, small: usize, segment: usize) -> Self {
        let spread = STAGGER_LINES as usize * LINE_OCTETS;
        Self {
            large: Shelf::new(large, LONGEST + spread),
            small: Shelf::new(small, segment.min(LONGEST - 1) + spread),
        }
    }

    /// A large buffer, empty.
    pub(super) fn take(&mut self) -> Option<Packet> {
        self.large.free.pop()
    }

    /// A small buffer, empty.
    pub(super) fn take_small(&mut self) -> Option<Packet> {
        self.small.free.pop()
    }

    /// Takes a buffer back. One that is not of this pool is dropped.
    pub(super) fn give(&mut self, mut packet: Packet) {
        let storage = packet.storage_mut().len();
        let shelf = if storage == self.large.storage {
            &mut self.large
        } else if storage == self.small.storage {
            &mut self.small
        } else {
            return;
        };
        if shelf.free.len() < shelf.capacity {
            reset(&mut packet);
            shelf.free.push(packet);
        }
    }

    /// Large buffers that lie ready.
    pub(super) fn ready(&self) -> usize {
        self.large.free.len()
    }
}

impl Shelf {
    fn new(count: usize, octets: usize) -> Self {
        let free = (0..count)
            .map(|number| {
                let mut packet = Packet::new(HEADROOM, octets);
                packet.meta.mark = u32::try_from(number).unwrap_or(u32::MAX);
                reset(&mut packet);
                packet
            })
            .collect();
        Self { free, storage: HEADROOM + octets, capacity: count }
    }
}

/// Makes a buffer empty, its start where its number says.
fn reset(packet: &mut Packet) {
    let line = (packet.meta.mark % STAGGER_LINES) as usize;
    packet.set_span(HEADROOM + line * LINE_OCTETS, 0);
    packet.meta.offload = Offload::default();
    packet.meta.start();
    packet.meta.verdict = Verdict::Pass;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_neither_grows_nor_mixes_sizes() {
        let mut pool = Pool::new(2, 1, 1500);
        let first = pool.take().unwrap();
        let second = pool.take().unwrap();
        assert!(pool.take().is_none());
        pool.give(pool_stranger());
        assert!(pool.take().is_none());
        let small = pool.take_small().unwrap();
        pool.give(first);
        pool.give(second);
        pool.give(Packet::new(HEADROOM, LONGEST + 2048));
        assert_eq!(pool.ready(), 2);
        assert!(pool.take_small().is_none());
        pool.give(small);
        assert!(pool.take_small().is_some());
    }

    fn pool_stranger() -> Packet {
        Packet::new(0, 100)
    }

    #[test]
    fn returned_buffers_are_empty_with_headroom() {
        let mut pool = Pool::new(40, 0, 0);
        let mut packet = pool.take().unwrap();
        packet.fill(&[1, 2, 3]);
        assert!(packet.grow_front(100));
        pool.give(packet);
        let packet = pool.take().unwrap();
        assert!(packet.is_empty());
        assert!(packet.headroom() >= HEADROOM);
    }
}
