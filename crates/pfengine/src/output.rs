//! What the caller must do besides carrying out verdicts.

use core::fmt;
use core::net::IpAddr;

use crate::packet::{Marks, NextHop, Offload, Packet};
use crate::wire::build::TcpSegment;

/// Something the caller must do, drained by [`crate::Worker::poll_output`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a packet that the filter made, routed by its destination unless `next_hop` says more.
    Send {
        /// The packet.
        packet: Octets,
        /// Whether it must pass the outbound rules first, as a packet of this host.
        filtered: bool,
        /// Another way than that of its destination, as rules have said for its connection.
        next_hop: Option<NextHop>,
        /// What the inbound rules have written onto the packets of its connection, for
        /// [`crate::PacketMeta::put_marks`].
        marks: Marks,
    },
    /// Tell the operator.
    Event(Event),
}

/// Something an operator should read in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Adaptive syncookies went on.
    SynfloodDetected,
    /// Adaptive syncookies went off.
    SyncookiesDisabled,
    /// Syncookies went on for one destination.
    DestinationFlooded {
        /// Address, as clients see it.
        addr: IpAddr,
        /// Port; `None` is every port of the address.
        port: Option<u16>,
    },
    /// Syncookies went off for one destination.
    DestinationCalm {
        /// Address, as clients see it.
        addr: IpAddr,
        /// Port; `None` is every port of the address.
        port: Option<u16>,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, addr, port, after) = match self {
            Self::SynfloodDetected => return f.write_str("synflood detected, enabling syncookies"),
            Self::SyncookiesDisabled => return f.write_str("syncookies disabled"),
            Self::DestinationFlooded { addr, port } => {
                ("synflood on ", addr, port, " detected, enabling syncookies for it")
            }
            Self::DestinationCalm { addr, port } => ("syncookies for ", addr, port, " disabled"),
        };
        write!(f, "{before}{addr}")?;
        if let Some(port) = port {
            write!(f, " port {port}")?;
        }
        f.write_str(after)
    }
}

/// A packet of any length by value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Octets {
    /// One that the filter has made.
    Short(SmallPacket),
    /// One of a client, kept until its server was there.
    Long(Box<[u8]>, Offload),
}

impl Octets {
    /// Takes a copy.
    pub(crate) fn of(packet: &Packet) -> Self {
        Self::Long(packet.data().into(), packet.meta.offload)
    }

    /// The octets, from the IP header on.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match self {
            Self::Short(packet) => packet.data(),
            Self::Long(octets, _) => octets,
        }
    }

    /// What the device that sends the packet must do to it.
    #[must_use]
    pub fn offload(&self) -> Offload {
        match self {
            Self::Short(_) => Offload::default(),
            Self::Long(_, offload) => *offload,
        }
    }
}

impl From<SmallPacket> for Octets {
    fn from(packet: SmallPacket) -> Self {
        Self::Short(packet)
    }
}

/// A short packet by value: every packet that the filter makes besides answers in place fits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SmallPacket {
    octets: [u8; Self::CAPACITY],
    len: u8,
}

impl SmallPacket {
    /// Octets that fit: an ICMPv6 error that quotes a SYN with every option.
    pub const CAPACITY: usize = 128;

    /// Takes a copy; `None` when `octets` is longer than [`Self::CAPACITY`].
    #[must_use]
    pub fn new(octets: &[u8]) -> Option<Self> {
        let len = u8::try_from(octets.len()).ok()?;
        let mut copy = Self { octets: [0; Self::CAPACITY], len };
        copy.octets.get_mut(..octets.len())?.copy_from_slice(octets);
        Some(copy)
    }

    /// Writes a segment.
    pub(crate) fn of_segment(segment: &TcpSegment) -> Self {
        let mut packet = Self { octets: [0; Self::CAPACITY], len: 0 };
        let len = segment.write(&mut packet.octets);
        packet.len = u8::try_from(len).expect("a segment without payload is short");
        packet
    }

    /// The octets, from the IP header on.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }
}

impl fmt::Debug for SmallPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmallPacket({:02x?})", self.data())
    }
}

#[cfg(test)]
mod tests {
    use super::SmallPacket;

    #[test]
    fn only_short_packets_fit() {
        assert_eq!(SmallPacket::new(&[7; 128]).unwrap().data(), [7; 128]);
        assert!(SmallPacket::new(&[7; 129]).is_none());
        assert!(SmallPacket::new(&[7; 300]).is_none());
    }
}
