//! A queue in the order of arrival that refuses what comes when it is full.
//!
//! Source: OpenBSD sys/net/hfsc.c `hfsc_class_enq`; `HFSC_DEFAULT_QLIMIT`.

use std::collections::VecDeque;

use super::Waiting;

/// Packets in the order of their arrival.
#[derive(Debug)]
pub struct Fifo<T> {
    packets: VecDeque<Waiting<T>>,
    /// Packets on the wire that wait.
    length: u32,
    limit: u32,
}

impl<T> Fifo<T> {
    /// Room for `limit` packets.
    pub const fn new(limit: u32) -> Self {
        Self { packets: VecDeque::new(), length: 0, limit }
    }

    /// Adds a packet, or gives it back when the queue is full. A super-packet comes in whole when
    /// there is room for one packet.
    pub fn push(&mut self, packet: Waiting<T>) -> Result<(), Waiting<T>> {
        if self.length >= self.limit {
            return Err(packet);
        }
        self.length += packet.charge.packets;
        self.packets.push_back(packet);
        Ok(())
    }

    /// The oldest packet.
    pub fn pop(&mut self) -> Option<Waiting<T>> {
        let packet = self.packets.pop_front()?;
        self.length -= packet.charge.packets;
        Some(packet)
    }

    /// Octets of the oldest packet; `None` when nothing waits.
    pub fn next_octets(&self) -> Option<u32> {
        self.packets.front().map(|packet| packet.charge.octets)
    }
}
