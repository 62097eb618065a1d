//! Between the filter and the devices: queues, priorities and delay.
//!
//! Without queues, `set prio` and `set delay` a packet goes straight to its device. A packet that
//! has to wait is copied out of its buffer, so that waiting packets never use up the buffers that
//! the devices read into; its own memory is bounded by [`pfengine::queue`]. Super-packets are cut
//! before they wait behind a slow limit, and otherwise cost as much as their segments.
//!
//! A TUN device tells nobody when the kernel has used a packet, and takes one at once: there is no
//! line that could be full. So packets wait here for the rate that the rules give, and for nothing
//! else; without queues a priority orders what one turn of the engine thread sends.

use std::sync::Arc;

use pfapi::units::{IfIndex, Uptime};
use pfengine::queue::{Charge, Egress, FlowKey, Leaving, QueuePlan};
use pfengine::{Gso, Offload, Packet};

use crate::ports::Ports;
use crate::segment::Segmenter;

/// Packets that leave queues in one turn; the others wait for the next.
const PER_TURN: usize = 256;
/// Copies whose memory is kept for the next ones.
const SPARE_MAX: usize = 2048;
/// Room of the buffer in which super-packets are cut: the longest packet.
const CUT_OCTETS: usize = 65_536;

/// A packet on its way out.
#[derive(Debug)]
enum Parcel {
    /// In the buffer that it came in; it leaves within the turn.
    Whole(Packet),
    /// A copy.
    Copy { octets: Vec<u8>, offload: Offload },
}

/// The way from the filter to the devices; one per engine thread.
#[derive(Debug)]
pub struct Outlet {
    egress: Egress<Parcel>,
    key: FlowKey,
    spare: Vec<Vec<u8>>,
    /// Where segments are written before they are copied.
    segment: Packet,
    /// Whether more is due than the last turn has sent.
    backlog: bool,
}

/// The ports as the filter sees them: what it sends goes through the queues.
#[derive(Debug)]
pub struct Queued<'a, P> {
    /// The queues.
    pub outlet: &'a mut Outlet,
    /// The devices.
    pub ports: &'a mut P,
    /// The time.
    pub now: Uptime,
}

impl<P: Ports> Ports for Queued<'_, P> {
    fn send(&mut self, interface: IfIndex, packet: Packet) {
        // Most packets end here.
        if self.outlet.egress.lets_by(interface, packet.meta.delay_ms()) {
            return self.ports.send(interface, packet);
        }
        self.outlet.send(self.now, interface, packet, self.ports);
    }

    fn recycle(&mut self, packet: Packet) {
        self.ports.recycle(packet);
    }

    fn buffer(&mut self) -> Option<Packet> {
        self.ports.buffer()
    }
}

impl Outlet {
    /// No queues; `key` keeps it secret which flows share one.
    #[must_use]
    pub fn new(key: FlowKey) -> Self {
        Self {
            egress: Egress::new(Arc::default()),
            key,
            spare: Vec::new(),
            segment: Packet::new(0, CUT_OCTETS),
            backlog: false,
        }
    }

    /// The queues in force.
    #[must_use]
    pub const fn plan(&self) -> &Arc<QueuePlan> {
        self.egress.plan()
    }

    /// Packets that were lost since the last call and that no queue has counted.
    #[must_use]
    pub fn take_drops(&mut self) -> u64 {
        self.egress.take_drops()
    }

    /// Goes over to other queues.
    pub fn reload(&mut self, now: Uptime, plan: Arc<QueuePlan>) {
        self.egress.reload(now, plan);
    }

    /// When a packet may leave next; `None` when nothing waits.
    #[must_use]
    pub fn poll_timeout(&self, now: Uptime) -> Option<Uptime> {
        if self.backlog { Some(now) } else { self.egress.poll_timeout() }
    }

    /// Sends what may leave now.
    pub fn turn(&mut self, now: Uptime, ports: &mut impl Ports) {
        self.backlog = false;
        if self.egress.waiting() == 0 {
            return;
        }
        for _ in 0..PER_TURN {
            // What leaves a queue is counted as sent, so it must have a buffer first.
            let Some(mut buffer) = ports.buffer() else { break };
            let next = self.egress.next(now);
            self.clear_dropped(ports);
            match next {
                None => return ports.recycle(buffer),
                Some((interface, Parcel::Whole(packet))) => {
                    ports.recycle(buffer);
                    ports.send(interface, packet);
                }
                Some((interface, Parcel::Copy { octets, offload })) => {
                    buffer.fill(&octets);
                    buffer.meta.offload = offload;
                    ports.send(interface, buffer);
                    self.keep(octets);
                }
            }
        }
        self.backlog = true;
    }

    /// Puts a packet into its queue.
    fn send(&mut self, now: Uptime, interface: IfIndex, packet: Packet, ports: &mut impl Ports) {
        let meta = &packet.meta;
        let leaving = Leaving {
            interface,
            queue: meta.queue(),
            prio: meta.prio(),
            delay_ms: meta.delay_ms(),
            flow: 0,
            charge: Charge::one(u32::try_from(packet.len()).unwrap_or(u32::MAX)),
            item: (),
        };
        if !self.egress.is_shaped(interface) && leaving.delay_ms == 0 {
            self.egress.send(now, leaving.map(Parcel::Whole(packet)));
            return self.clear_dropped(ports);
        }
        let leaving = Leaving { flow: self.key.flow_of(packet.data()), ..leaving };
        let offload = packet.meta.offload;
        if offload.gso == Gso::None {
            let octets = self.copy(packet.data());
            self.egress.send(now, leaving.map(Parcel::Copy { octets, offload }));
        } else if let Ok(segmenter) = Segmenter::new(packet.data(), &offload) {
            if self.egress.cuts(interface) {
                self.cut(now, &leaving, packet.data(), segmenter);
            } else {
                let charge = segmenter.charge(packet.data());
                let octets = self.copy(packet.data());
                let leaving = Leaving { charge, ..leaving };
                self.egress.send(now, leaving.map(Parcel::Copy { octets, offload }));
            }
        }
        ports.recycle(packet);
        self.clear_dropped(ports);
    }

    /// Puts the segments of a super-packet into its queue.
    fn cut(&mut self, now: Uptime, leaving: &Leaving<()>, data: &[u8], mut segmenter: Segmenter) {
        while let Ok(true) = segmenter.next_into(data, &mut self.segment) {
            let mut octets = self.spare.pop().unwrap_or_default();
            octets.extend_from_slice(self.segment.data());
            let charge = Charge::one(u32::try_from(octets.len()).unwrap_or(u32::MAX));
            let offload = self.segment.meta.offload;
            let leaving = Leaving { charge, ..*leaving };
            self.egress.send(now, leaving.map(Parcel::Copy { octets, offload }));
        }
    }

    fn copy(&mut self, data: &[u8]) -> Vec<u8> {
        let mut octets = self.spare.pop().unwrap_or_default();
        octets.extend_from_slice(data);
        octets
    }

    /// Keeps the memory of a copy, unless it is large.
    fn keep(&mut self, mut octets: Vec<u8>) {
        if self.spare.len() < SPARE_MAX && octets.capacity() <= 4096 {
            octets.clear();
            self.spare.push(octets);
        }
    }

    fn clear_dropped(&mut self, ports: &mut impl Ports) {
        while let Some(parcel) = self.egress.poll_dropped() {
            match parcel {
                Parcel::Whole(packet) => ports.recycle(packet),
                Parcel::Copy { octets, .. } => self.keep(octets),
            }
        }
    }
}
