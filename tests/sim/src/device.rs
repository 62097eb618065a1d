//! The network card of a simulated host: two queues.

use std::collections::VecDeque;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Queues of whole IP packets.
#[derive(Debug)]
pub struct Card {
    /// Packets for the host.
    pub received: VecDeque<Vec<u8>>,
    /// Packets of the host.
    pub sent: VecDeque<Vec<u8>>,
    mtu: usize,
}

impl Card {
    /// A card without packets.
    #[must_use]
    pub const fn new(mtu: usize) -> Self {
        Self { received: VecDeque::new(), sent: VecDeque::new(), mtu }
    }
}

/// A packet that the host reads.
#[derive(Debug)]
pub struct Incoming(Vec<u8>);

/// Room for a packet that the host sends.
#[derive(Debug)]
pub struct Outgoing<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Card {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Incoming, Outgoing<'_>)> {
        let packet = self.received.pop_front()?;
        Some((Incoming(packet), Outgoing(&mut self.sent)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}
