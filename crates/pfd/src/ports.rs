//! Where packets leave and buffers come from: the I/O loop, or a test.

use pfapi::units::IfIndex;
use pfengine::Packet;

use crate::io::IoLoop;

/// The sending side of packet I/O.
pub trait Ports {
    /// Queues a packet for sending.
    fn send(&mut self, interface: IfIndex, packet: Packet);
    /// Gives a buffer back.
    fn recycle(&mut self, packet: Packet);
    /// An empty buffer; `None` when all are in use.
    fn buffer(&mut self) -> Option<Packet>;
}

impl Ports for IoLoop {
    fn send(&mut self, interface: IfIndex, packet: Packet) {
        Self::send(self, interface, packet);
    }

    fn recycle(&mut self, packet: Packet) {
        Self::recycle(self, packet);
    }

    fn buffer(&mut self) -> Option<Packet> {
        Self::buffer(self)
    }
}
