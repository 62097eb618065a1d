//! The I/O loop of one engine thread: the queue of packets to send, and when to sleep.
//!
//! Life-cycle of a buffer: the pool → a read → the batch → [`IoLoop::send`] or
//! [`IoLoop::recycle`] → a write → the pool. What the engine keeps is missing from the pool until
//! it comes back.
//! Invariants: packets for one device leave in the order in which they were sent; no call but the
//! sleep at the end of [`IoLoop::turn`] waits for a device.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use pfapi::units::IfIndex;
use pfengine::{Batch, Checksum, Gso, Packet};

use super::device::Device;
use super::exchange::{Driver, ROUND};
use super::pool::Pool;
use super::{DeviceCounters, DeviceStats, Waker, vnet};
use crate::segment::{Segmenter, complete_checksum};
use crate::sys::poll::{Poller, Readiness, Source};
use crate::sys::uring::Ring;
use crate::tun::{HEADER_OCTETS, Port};

/// How packets move between the process and the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoMethod {
    /// io_uring where it is allowed, else read and write.
    #[default]
    Auto,
    /// io_uring; an error where it is not allowed.
    Uring,
    /// One system call per packet.
    ReadWrite,
}

/// Size and manner of an I/O loop.
#[derive(Clone, Copy, Debug)]
pub struct IoOptions {
    /// How packets move.
    pub method: IoMethod,
    /// Packet buffers of 64 KiB, allocated at once; the pool never grows.
    pub buffers: usize,
    /// Empty turns of reading before the thread sleeps.
    pub spin: u32,
}

impl Default for IoOptions {
    fn default() -> Self {
        Self { method: IoMethod::Auto, buffers: 1024, spin: 32 }
    }
}

/// Buffers for segments cut in software: two rounds of writes.
const SEGMENT_BUFFERS: usize = 2 * ROUND;

/// Packet I/O of one engine thread over all its devices.
#[derive(Debug)]
pub struct IoLoop {
    pub(super) devices: Vec<Device>,
    /// Position in `devices` by interface index.
    positions: Vec<Option<usize>>,
    /// Packets to be written, with the position of their device; the device's header is in front.
    pub(super) outgoing: VecDeque<(usize, Packet)>,
    /// Packets of this round that the device had no room for.
    pub(super) stalled: Vec<(usize, Packet)>,
    pub(super) pool: Pool,
    pub(super) driver: Driver,
    /// Device that is served first in this turn.
    pub(super) first: usize,
    poller: Poller,
    waker: Waker,
    spin: u32,
    /// An error met while sending, to be reported by the next turn.
    failure: Option<io::Error>,
    counters: Vec<(IfIndex, Arc<DeviceCounters>)>,
}

impl IoLoop {
    /// Takes over the ports; packets may be sent to and come from each of them.
    ///
    /// May be made on one thread and used on another, but only one thread may ever call
    /// [`Self::turn`] and [`Self::send`].
    ///
    /// # Errors
    /// What the kernel says of the loop's own descriptors; with [`IoMethod::Uring`], that it is
    /// not allowed.
    pub fn new(ports: Vec<Port>, options: &IoOptions) -> io::Result<Self> {
        let devices: Vec<_> = ports.into_iter().map(Device::new).collect();
        let waker = Waker::new()?;
        let files: Vec<_> = devices.iter().map(|device| Arc::clone(&device.queue.file)).collect();
        let mut sources: Vec<Arc<dyn Source>> = Vec::with_capacity(files.len() + 1);
        sources.extend(files.iter().map(|file| Arc::clone(file) as Arc<dyn Source>));
        sources.push(waker.descriptor());
        let driver = match options.method {
            IoMethod::ReadWrite => Driver::ReadWrite,
            IoMethod::Uring => Driver::Uring(Box::new(Ring::new(files, Driver::OPERATIONS)?)),
            IoMethod::Auto => Ring::new(files, Driver::OPERATIONS)
                .map_or(Driver::ReadWrite, |ring| Driver::Uring(Box::new(ring))),
        };
        let mut positions = vec![];
        for (position, device) in devices.iter().enumerate() {
            let index = usize::from(device.interface.0);
            positions.resize(positions.len().max(index + 1), None);
            positions[index] = Some(position);
        }
        // Only a device that lacks an offload needs buffers for segments.
        let all_offload = devices.iter().all(|device| device.queue.offloads.udp);
        let small = if all_offload { 0 } else { SEGMENT_BUFFERS };
        let mtu = devices.iter().map(|device| device.queue.mtu).max().unwrap_or(0) as usize;
        let counters =
            devices.iter().map(|device| (device.interface, Arc::clone(&device.counters))).collect();
        Ok(Self {
            devices,
            positions,
            outgoing: VecDeque::with_capacity(options.buffers + small),
            stalled: Vec::with_capacity(ROUND),
            pool: Pool::new(options.buffers, small, mtu),
            driver,
            first: 0,
            poller: Poller::new(sources),
            waker,
            spin: options.spin,
            failure: None,
            counters,
        })
    }

    /// How packets move now: never [`IoMethod::Auto`].
    #[must_use]
    pub fn method(&self) -> IoMethod {
        match self.driver {
            Driver::Uring(_) => IoMethod::Uring,
            Driver::ReadWrite => IoMethod::ReadWrite,
        }
    }

    /// Queues a packet for sending on a device at the next turn.
    ///
    /// `packet.meta.offload` goes into the device's header, or is resolved in software for a
    /// device without offload. A packet for an interface that the loop does not serve is dropped.
    pub fn send(&mut self, interface: IfIndex, packet: Packet) {
        let position = self.positions.get(usize::from(interface.0)).copied().flatten();
        let Some(position) = position else {
            self.pool.give(packet);
            return;
        };
        let offloads = self.devices[position].queue.offloads;
        let whole = match packet.meta.offload.gso {
            Gso::None => true,
            Gso::Tcp { .. } => offloads.header,
            Gso::Udp => offloads.udp,
        };
        if whole {
            self.enqueue(position, packet);
        } else {
            self.cut(position, packet);
        }
    }

    /// Gives a buffer back.
    pub fn recycle(&mut self, packet: Packet) {
        self.pool.give(packet);
    }

    /// An empty buffer for a generated packet; `None` when all are in use.
    pub fn buffer(&mut self) -> Option<Packet> {
        self.pool.take()
    }

    /// Writes what was queued and reads up to [`Batch::SIZE`] packets into `batch`.
    ///
    /// Packets still in `batch` are recycled first. When nothing is there, waits at most
    /// `timeout` (`None`: until a packet or a wake comes) and may return with an empty batch.
    ///
    /// # Errors
    /// What the kernel says when it can no longer be asked at all; errors of single packets and
    /// devices are counted instead.
    pub fn turn(&mut self, batch: &mut Batch, timeout: Option<Duration>) -> io::Result<()> {
        for packet in batch.packets.drain(..) {
            self.pool.give(packet);
        }
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        self.first = (self.first + 1) % self.devices.len().max(1);
        let result = self.turn_over(batch, timeout);
        self.publish();
        result
    }

    /// A handle by which other threads end the loop's sleep.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The counters of each port, in the order given to [`Self::new`]; they may be read from
    /// other threads at any time.
    #[must_use]
    pub fn counters(&self) -> &[(IfIndex, Arc<DeviceCounters>)] {
        &self.counters
    }

    /// The counts so far, per port.
    pub fn stats(&self) -> impl Iterator<Item = (IfIndex, DeviceStats)> + '_ {
        self.counters.iter().map(|(interface, counters)| (*interface, counters.snapshot()))
    }

    fn turn_over(&mut self, batch: &mut Batch, timeout: Option<Duration>) -> io::Result<()> {
        self.exchange(Some(batch))?;
        if !batch.packets.is_empty() || timeout == Some(Duration::ZERO) {
            return Ok(());
        }
        // Being woken costs more than a short spin, and the sender of the packet pays for it.
        for _ in 0..self.spin {
            std::hint::spin_loop();
            self.exchange(Some(batch))?;
            if !batch.packets.is_empty() {
                return Ok(());
            }
        }
        // Others may read the counters while we sleep.
        self.publish();
        if !self.poller.wait(timeout)? {
            return Ok(());
        }
        if self.poller.readiness(self.devices.len()) != Readiness::Quiet {
            self.waker.clear();
        }
        for (position, device) in self.devices.iter_mut().enumerate() {
            if self.poller.readiness(position) == Readiness::Broken {
                device.gone = true;
                self.poller.forget(position);
            }
        }
        self.exchange(Some(batch))
    }

    fn publish(&mut self) {
        for device in &mut self.devices {
            device.counters.add(&mut device.turn);
        }
    }

    /// Queues a packet that leaves in one piece, its header in front or its checksum finished.
    fn enqueue(&mut self, position: usize, mut packet: Packet) {
        let device = &mut self.devices[position];
        let ready = if device.queue.offloads.header {
            prepend(&mut packet)
        } else if let Checksum::Partial { start, offset } = packet.meta.offload.checksum {
            complete_checksum(packet.data_mut(), start, offset).is_ok()
        } else {
            !packet.is_empty()
        };
        if ready && !device.gone {
            self.outgoing.push_back((position, packet));
        } else {
            device.turn.tx_errors += 1;
            self.pool.give(packet);
        }
    }

    /// Cuts a super-packet for a device that takes none, and queues the segments.
    fn cut(&mut self, position: usize, whole: Packet) {
        let Ok(mut segmenter) = Segmenter::new(whole.data(), &whole.meta.offload) else {
            self.devices[position].turn.tx_errors += 1;
            self.pool.give(whole);
            return;
        };
        while let Some(mut segment) = self.segment_buffer() {
            match segmenter.next_into(whole.data(), &mut segment) {
                Ok(true) => self.enqueue(position, segment),
                Ok(false) => {
                    self.pool.give(segment);
                    self.pool.give(whole);
                    return;
                }
                Err(_) => {
                    self.pool.give(segment);
                    break;
                }
            }
        }
        self.devices[position].turn.tx_errors += 1;
        self.pool.give(whole);
    }

    /// A buffer for a segment; when all are queued, they are written first.
    fn segment_buffer(&mut self) -> Option<Packet> {
        if let Some(segment) = self.pool.take_small() {
            return Some(segment);
        }
        if let Err(error) = self.exchange(None) {
            self.failure = Some(error);
        }
        self.pool.take_small()
    }
}

/// Puts the virtio-net header in front of a packet; false when there is no room for it.
fn prepend(packet: &mut Packet) -> bool {
    if packet.is_empty() {
        return false;
    }
    let header = vnet::encode(&packet.meta.offload, packet.data());
    if !packet.grow_front(HEADER_OCTETS) {
        // The engine used the headroom up: move the packet towards the end instead.
        let len = packet.len();
        if !packet.resize(len + HEADER_OCTETS) {
            return false;
        }
        packet.data_mut().copy_within(..len, HEADER_OCTETS);
    }
    packet.data_mut()[..HEADER_OCTETS].copy_from_slice(&header);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_finds_room_without_headroom() {
        let octets: Vec<u8> = (0x45..0x45 + 40).collect();
        for headroom in [0, 9, 10, 128] {
            let mut packet = Packet::new(headroom, 60);
            packet.fill(&octets);
            assert!(prepend(&mut packet), "{headroom}");
            assert_eq!(packet.data()[HEADER_OCTETS..], octets, "{headroom}");
        }
        let mut full = Packet::new(0, 40);
        full.fill(&octets);
        assert!(!prepend(&mut full));
    }
}
