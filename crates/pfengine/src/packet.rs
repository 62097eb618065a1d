//! A packet on its way through the filter: octets with headroom, and what the device said of it.
//!
//! Buffers belong to the caller and are reused; the engine writes answers into the buffer of the
//! packet that they answer, so nothing is allocated per packet.

use core::num::NonZeroU32;

use pfapi::reason::Reason;
use pfapi::units::{Direction, IfIndex};

use crate::normalize::fragment::cut::Refragment;
use crate::queue::QueueId;
use crate::rules::Tag;

/// An IP packet in a buffer with room in front of it.
#[derive(Debug)]
pub struct Packet {
    storage: Box<[u8]>,
    start: usize,
    len: usize,
    /// What is known of the packet besides its octets.
    pub meta: PacketMeta,
}

/// What is known of a packet besides its octets.
#[derive(Clone, Copy, Debug)]
pub struct PacketMeta {
    /// Interface that the packet crosses now.
    pub interface: IfIndex,
    /// Direction in which it crosses the interface.
    pub direction: Direction,
    /// What the TUN's virtio-net header said.
    pub offload: Offload,
    /// State that let the packet in, set by the inbound pass; the outbound pass reads it.
    pub link: Option<StateRef>,
    /// How to cut the packet before it is sent: an IPv6 packet that was put together from
    /// fragments leaves in fragments of the size that its sender chose.
    pub refragment: Option<Refragment>,
    /// State on the other interface that goes with `link`.
    pub(crate) pair: Option<StateRef>,
    /// Whether the outbound pass lets the packet by as it is: `af-to` has decided both ways.
    pub(crate) unfiltered: bool,
    /// Whether the packet asks an unknown port: its states go soon when nobody answers.
    pub(crate) probe: bool,
    /// Another way than that of its destination, set by each pass of the filter.
    pub next_hop: Option<NextHop>,
    /// Tag that rules wrote onto the packet; cleared by the inbound pass.
    pub(crate) tag: Option<Tag>,
    /// Interface by which the packet came into this host, set by the inbound pass.
    pub(crate) received_on: Option<IfIndex>,
    /// Priority, 0 to 7; reset by the inbound pass.
    pub(crate) prio: u8,
    /// Queue of the interface that it leaves by; reset by the inbound pass.
    pub(crate) queue: Option<QueueId>,
    /// Milliseconds that it waits before it leaves; reset by the inbound pass.
    pub(crate) delay_ms: u16,
    /// The engine's decision.
    pub verdict: Verdict,
    /// The caller's own mark (a buffer index, say); the engine leaves it alone.
    pub mark: u32,
}

/// What rules have written onto a packet and the outbound ones read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    pub(crate) tag: Option<Tag>,
    pub(crate) prio: u8,
    pub(crate) queue: Option<QueueId>,
    pub(crate) delay_ms: u16,
}

impl Marks {
    /// Of a packet that no rule has seen.
    pub const NONE: Self =
        Self { tag: None, prio: PacketMeta::PRIO_DEFAULT, queue: None, delay_ms: 0 };
}

impl PacketMeta {
    /// Priority of packets that nobody gave one. Source: OpenBSD sys/net/if_var.h `IFQ_DEFPRIO`.
    pub const PRIO_DEFAULT: u8 = 3;

    /// Forgets what earlier packets in this buffer have left: for a packet of this host itself,
    /// which has no inbound pass.
    pub const fn start(&mut self) {
        self.link = None;
        self.pair = None;
        self.refragment = None;
        self.tag = None;
        self.received_on = None;
        self.prio = Self::PRIO_DEFAULT;
        self.queue = None;
        self.delay_ms = 0;
        self.unfiltered = false;
        self.probe = false;
        self.next_hop = None;
    }

    /// What rules have written onto the packet.
    pub(crate) const fn marks(&self) -> Marks {
        Marks { tag: self.tag, prio: self.prio, queue: self.queue, delay_ms: self.delay_ms }
    }

    /// Writes onto a packet what belongs to it.
    pub const fn put_marks(&mut self, marks: Marks) {
        self.tag = marks.tag;
        self.prio = marks.prio;
        self.queue = marks.queue;
        self.delay_ms = marks.delay_ms;
    }

    /// Priority, 0 to 7, as rules have left it.
    #[must_use]
    pub const fn prio(&self) -> u8 {
        self.prio
    }

    /// Queue that rules have put the packet into.
    #[must_use]
    pub const fn queue(&self) -> Option<QueueId> {
        self.queue
    }

    /// Milliseconds that the packet waits before it leaves.
    #[must_use]
    pub const fn delay_ms(&self) -> u16 {
        self.delay_ms
    }
}

/// Another way than that of the destination: `route-to`, `reply-to`, `dup-to`.
///
/// After the inbound pass the packet goes to the interface of the next hop and through the
/// outbound rules there; after the outbound pass it is sent by that interface as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The router to which it goes.
    pub addr: core::net::IpAddr,
    /// The interface by which it goes there, whatever the routes say, as in `route-to (em0 addr)`.
    pub interface: Option<IfIndex>,
    /// Whether only a copy goes there, which is sent as it is (`dup-to`).
    pub copy: bool,
}

/// A state as another packet or state refers to it; may be stale.
///
/// Packed, so that an optional one fits twelve octets of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(Rust, packed(4))]
pub struct StateRef {
    /// Slot plus one.
    place: NonZeroU32,
    id: u64,
}

impl StateRef {
    /// The state with this id in this slot.
    pub(crate) const fn new(slot: u32, id: u64) -> Self {
        Self { place: NonZeroU32::MIN.saturating_add(slot), id }
    }

    pub(crate) const fn slot(self) -> u32 {
        let place = self.place;
        place.get() - 1
    }

    pub(crate) const fn id(self) -> u64 {
        self.id
    }
}

/// Segmentation and checksum offload, as the virtio-net header gives them.
///
/// Source: virtio 1.2 section 5.1.6; Linux include/uapi/linux/virtio_net.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Kind of super-packet.
    pub gso: Gso,
    /// Payload octets per segment; 0 without GSO.
    pub gso_size: u16,
    /// State of the transport checksum.
    pub checksum: Checksum,
}

impl Offload {
    /// Whether the checksum of the transport header at `l4` is still to be summed up. A partial
    /// checksum elsewhere is that of a packet inside this one.
    #[must_use]
    pub fn is_partial_at(&self, l4: usize) -> bool {
        matches!(self.checksum, Checksum::Partial { start, .. } if usize::from(start) == l4)
    }
}

/// Kind of super-packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gso {
    /// An ordinary packet.
    #[default]
    None,
    /// TCP segments; `ecn` says that they carry CWR, which only the first may keep.
    Tcp {
        /// VIRTIO_NET_HDR_GSO_ECN.
        ecn: bool,
    },
    /// UDP datagrams of equal size (USO).
    Udp,
}

/// State of the transport checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// The field holds the checksum.
    #[default]
    Complete,
    /// The field holds the folded, not inverted sum of the pseudo-header; who sends the packet
    /// sums from `start` to the end and writes at `start + offset` (octets from the IP header).
    Partial {
        /// First octet that is summed.
        start: u16,
        /// Where the field lies behind `start`.
        offset: u16,
    },
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on: to the router after the inbound pass, to the wire after the outbound one. Its
    /// addresses may have changed.
    Pass,
    /// It is gone; the reason was counted, but for fragments that came twice.
    Drop(Reason),
    /// It is gone, and the buffer now holds the filter's own answer (RST, ICMP error, SYN|ACK):
    /// to be routed by its destination and sent without filtering.
    Answer,
    /// The filter keeps a copy of this fragment until its datagram is whole; the buffer is free. The
    /// whole datagram goes on in the buffer of the last fragment to come, so buffers should hold
    /// 64 KiB: a datagram that does not fit is dropped for [`Reason::Memory`].
    Held,
}

impl PacketMeta {
    /// Whether `af-to` has made the packet: no outbound rules apply, and an error about it is met
    /// by its state when it comes in like an answer.
    #[must_use]
    pub const fn changed_family(&self) -> bool {
        self.unfiltered
    }
}

impl Packet {
    /// A buffer for packets of up to `capacity` octets behind `headroom` octets.
    #[must_use]
    pub fn new(headroom: usize, capacity: usize) -> Self {
        Self {
            storage: vec![0; headroom + capacity].into_boxed_slice(),
            start: headroom,
            len: 0,
            meta: PacketMeta {
                interface: IfIndex(0),
                direction: Direction::In,
                offload: Offload::default(),
                link: None,
                refragment: None,
                pair: None,
                unfiltered: false,
                probe: false,
                next_hop: None,
                tag: None,
                received_on: None,
                prio: PacketMeta::PRIO_DEFAULT,
                queue: None,
                delay_ms: 0,
                verdict: Verdict::Pass,
                mark: 0,
            },
        }
    }

    /// The packet's octets, from the IP header on.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.storage[self.start..self.start + self.len]
    }

    /// The packet's octets for change.
    #[must_use]
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.len]
    }

    /// Octets of the packet.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the buffer holds nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Octets free in front of the packet.
    #[must_use]
    pub const fn headroom(&self) -> usize {
        self.start
    }

    /// The whole buffer, headroom included: for the device that fills or sends it.
    #[must_use]
    pub fn storage_mut(&mut self) -> &mut [u8] {
        &mut self.storage
    }

    /// Says that the packet lies at `start` and is `len` octets long.
    ///
    /// # Panics
    /// When that lies outside the buffer.
    pub fn set_span(&mut self, start: usize, len: usize) {
        assert!(
            start.checked_add(len).is_some_and(|end| end <= self.storage.len()),
            "span {start}+{len} outside a buffer of {}",
            self.storage.len()
        );
        self.start = start;
        self.len = len;
    }

    /// Copies `octets` to where the packet starts.
    ///
    /// # Panics
    /// When they do not fit behind the headroom.
    pub fn fill(&mut self, octets: &[u8]) {
        self.set_span(self.start, octets.len());
        self.data_mut().copy_from_slice(octets);
    }

    /// Moves the start `octets` forward into the headroom; false when there is too little.
    #[must_use]
    pub fn grow_front(&mut self, octets: usize) -> bool {
        if octets > self.start {
            return false;
        }
        self.start -= octets;
        self.len += octets;
        true
    }

    /// Grows or cuts the packet at its end; false when the buffer is too small.
    #[must_use]
    pub fn resize(&mut self, len: usize) -> bool {
        if self.start + len > self.storage.len() {
            return false;
        }
        self.len = len;
        true
    }
}

/// Packets that are processed together.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order of their arrival.
    pub packets: Vec<Packet>,
}

impl Batch {
    /// Packets that a batch should hold at most: more gain nothing.
    pub const SIZE: usize = 64;

    /// An empty batch with room for [`Self::SIZE`] packets.
    #[must_use]
    pub fn new() -> Self {
        Self { packets: Vec::with_capacity(Self::SIZE) }
    }
}
