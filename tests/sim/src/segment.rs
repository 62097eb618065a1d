//! Headers of TCP packets as the simulation reads and writes them, without the filter's parsers.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pfengine::wire::build::{TTL_DEFAULT, TcpSegment};
use pfengine::wire::checksum::Sum;
use pfengine::wire::ip::Layout;
use pfengine::wire::tcp_options::SynOptions;
use pfengine::{Gso, Offload};

/// TCP flag bits.
pub use pfengine::wire::build::flags;

/// Address and port of one end.
pub type End = (IpAddr, u16);

/// The headers of a TCP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sender.
    pub src: End,
    /// Receiver.
    pub dst: End,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Window field.
    pub window: u16,
    /// Payload octets.
    pub payload: usize,
}

fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// Destination of an IP packet without options or extension headers.
#[must_use]
pub fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(Ipv4Addr::from_bits(u32_at(packet, 16)?).into()),
        _ => Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(24..40)?).ok()?).into()),
    }
}

impl Segment {
    /// Reads a packet; `None` when it is not TCP.
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let (src, l4, total): (IpAddr, _, _) = match packet.first()? >> 4 {
            4 if packet.get(9) == Some(&6) => {
                (Ipv4Addr::from_bits(u32_at(packet, 12)?).into(), 20, u16_at(packet, 2)?.into())
            }
            6 if packet.get(6) == Some(&6) => {
                let src = Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(8..24)?).ok()?);
                (src.into(), 40, 40 + usize::from(u16_at(packet, 4)?))
            }
            _ => return None,
        };
        let header = usize::from(packet.get(l4 + 12)? >> 4) * 4;
        Some(Self {
            src: (src, u16_at(packet, l4)?),
            dst: (destination(packet)?, u16_at(packet, l4 + 2)?),
            seq: u32_at(packet, l4 + 4)?,
            ack: u32_at(packet, l4 + 8)?,
            flags: *packet.get(l4 + 13)?,
            window: u16_at(packet, l4 + 14)?,
            payload: total.saturating_sub(l4 + header),
        })
    }

    /// Writes a packet without payload; SYNs offer an MSS of 1,400.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let segment = TcpSegment {
            src: self.src.0,
            dst: self.dst.0,
            sport: self.src.1,
            dport: self.dst.1,
            seq: self.seq,
            ack: self.ack,
            flags: self.flags,
            window: self.window,
            options: SynOptions::of_mss(self.has(flags::SYN).then_some(1_400)),
            ttl: TTL_DEFAULT,
            tos: 0,
            dont_fragment: true,
            id: 0,
        };
        let mut octets = vec![0; segment.packet_len()];
        let written = segment.write(&mut octets);
        debug_assert_eq!(written, octets.len());
        octets
    }

    /// Whether a flag of `flags` is set.
    #[must_use]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Whether the segment asks for a new connection.
    #[must_use]
    pub const fn opens(&self) -> bool {
        self.flags & (flags::SYN | flags::ACK | flags::RST) == flags::SYN
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} > {}:{} ", self.src.0, self.src.1, self.dst.0, self.dst.1)?;
        for (bit, letter) in "FSRPAUEW".chars().enumerate() {
            if self.flags & 1 << bit != 0 {
                write!(f, "{letter}")?;
            }
        }
        write!(
            f,
            " seq {:08x} ack {:08x} win {} len {}",
            self.seq, self.ack, self.window, self.payload
        )
    }
}

/// Cuts a super-packet as a device would: TCP segments of at most `gso_size` octets.
///
/// # Panics
/// When the packet is none.
#[must_use]
pub fn cut(packet: &[u8], offload: Offload) -> Vec<Vec<u8>> {
    let Gso::Tcp { .. } = offload.gso else { return vec![packet.to_vec()] };
    let ends = Layout::of(packet).expect("an IP packet");
    let l4 = ends.transport;
    let headers = l4 + usize::from(packet[l4 + 12] >> 4) * 4;
    let (head, payload) = packet.split_at(headers);
    let seq = u32::from_be_bytes(packet[l4 + 4..l4 + 8].try_into().expect("four octets"));
    assert!(payload.len() > usize::from(offload.gso_size), "nothing to cut");
    let pieces: Vec<&[u8]> = payload.chunks(usize::from(offload.gso_size)).collect();
    let mut at = seq;
    let mut cuts = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        let mut cut = [head, piece].concat();
        let total = u16::try_from(cut.len()).expect("a short segment");
        if ends.src.is_ipv4() {
            cut[2..4].copy_from_slice(&total.to_be_bytes());
            cut[10..12].fill(0);
            let sum = Sum::of(&cut[..l4]).checksum();
            cut[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            cut[4..6].copy_from_slice(&(total - 40).to_be_bytes());
        }
        cut[l4 + 4..l4 + 8].copy_from_slice(&at.to_be_bytes());
        at = at.wrapping_add(u32::try_from(piece.len()).expect("a short segment"));
        if number + 1 < pieces.len() {
            cut[l4 + 13] &= !(flags::FIN | flags::PSH);
        }
        if number > 0 {
            cut[l4 + 13] &= !flags::CWR;
        }
        cut[l4 + 16..l4 + 18].fill(0);
        let len = u32::try_from(cut.len() - l4).expect("a short segment");
        let sum = Sum::pseudo(ends.src, ends.dst, 6, len).plus(Sum::of(&cut[l4..])).checksum();
        cut[l4 + 16..l4 + 18].copy_from_slice(&sum.to_be_bytes());
        cuts.push(cut);
    }
    cuts
}
