//! Packets as they go through an interface: what of them the measurements look at.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use pf_load::lab::Place;
use pf_load::sys::Sniffer;

use crate::place::{at, named};

/// A TCP segment on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// TTL or hop limit.
    pub ttl: u8,
    /// Sender.
    pub from: (IpAddr, u16),
    /// Receiver.
    pub to: (IpAddr, u16),
    /// Sequence number.
    pub seq: u32,
    /// Acknowledged sequence number.
    pub ack: u32,
    /// FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.
    pub flags: u8,
    /// Window field, not scaled.
    pub window: u16,
    /// Number of SACK blocks.
    pub sack_blocks: usize,
    /// Octets of data.
    pub length: usize,
    /// The whole packet.
    pub octets: Vec<u8>,
}

/// SYN and ACK.
pub const SYN_ACK: u8 = 0x12;

impl Segment {
    /// Reads an IP packet; `None` for all but whole TCP segments without extension headers.
    #[must_use]
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let (ttl, addresses, at, end): (_, (IpAddr, IpAddr), _, _) = match octets.first()? >> 4 {
            4 => {
                let header = octets.first_chunk::<20>()?;
                let address = |at: usize| octets[at..at + 4].first_chunk::<4>().copied();
                if header[9] != 6 || u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0 {
                    return None;
                }
                let end = usize::from(u16::from_be_bytes([header[2], header[3]]));
                let addresses = (address(12)?.into(), address(16)?.into());
                (header[8], addresses, usize::from(header[0] & 0xf) * 4, end)
            }
            6 => {
                let header = octets.first_chunk::<40>()?;
                let address = |at: usize| octets[at..at + 16].first_chunk::<16>().copied();
                if header[6] != 6 {
                    return None;
                }
                let end = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
                (header[7], (address(8)?.into(), address(24)?.into()), 40, end)
            }
            _ => return None,
        };
        let tcp = octets.get(at..)?;
        let header = tcp.first_chunk::<20>()?;
        let half = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let word = |at: usize| u32::from(half(at)) << 16 | u32::from(half(at + 2));
        let offset = usize::from(header[12] >> 4) * 4;
        Some(Self {
            ttl,
            from: (addresses.0, half(0)),
            to: (addresses.1, half(2)),
            seq: word(4),
            ack: word(8),
            flags: header[13],
            window: half(14),
            sack_blocks: sack_blocks(tcp.get(20..offset)?),
            length: end.saturating_sub(at + offset),
            octets: octets.to_vec(),
        })
    }
}

fn sack_blocks(mut options: &[u8]) -> usize {
    loop {
        match *options {
            [1, ref rest @ ..] => options = rest,
            [5, length, ..] => return usize::from(length.saturating_sub(2)) / 8,
            [0, ..] | [] | [_] => return 0,
            [_, length, ..] => match options.get(usize::from(length).max(2)..) {
                Some(rest) => options = rest,
                None => return 0,
            },
        }
    }
}

/// Keeps what goes through the interface of a place while it is there.
#[derive(Debug)]
pub struct Capture(Sniffer);

impl Capture {
    /// Begins now.
    ///
    /// # Errors
    ///
    /// When there is no such interface.
    pub fn start(place: Place) -> Result<Self, String> {
        at(place, || Sniffer::open(place.interface).map_err(named("capture"))).map(Self)
    }

    /// The first segment that is wanted, if it has come or comes in time.
    ///
    /// # Errors
    ///
    /// When the interface has gone.
    pub fn find(
        &self,
        patience: Duration,
        wanted: impl Fn(&Segment) -> bool,
    ) -> Result<Option<Segment>, String> {
        let start = Instant::now();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let rest = patience.saturating_sub(start.elapsed());
            let Some(octets) = self.0.next(&mut buffer, rest).map_err(named("capture"))? else {
                return Ok(None);
            };
            if let Some(segment) = Segment::parse(octets).filter(&wanted) {
                return Ok(Some(segment));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_behind_other_options() {
        let blocks = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 5, 18];
        let mut options = blocks.to_vec();
        options.extend([0; 16]);
        assert_eq!(sack_blocks(&options), 2);
        assert_eq!(sack_blocks(&[2, 4, 5, 180]), 0);
        assert_eq!(sack_blocks(&[2, 200, 5]), 0);
        assert_eq!(sack_blocks(&[9, 0, 0, 0]), 0);
    }

    #[test]
    fn short_and_foreign_packets_are_passed_over() {
        assert_eq!(Segment::parse(&[]), None);
        assert_eq!(Segment::parse(&[0x45; 19]), None);
        assert_eq!(Segment::parse(&[0x60; 40]), None);
        let mut packet = [0; 40];
        (packet[0], packet[3], packet[9], packet[32]) = (0x45, 40, 6, 0x50);
        assert_eq!(Segment::parse(&packet).unwrap().length, 0);
        packet[32] = 0xf0;
        assert_eq!(Segment::parse(&packet), None);
    }
}
