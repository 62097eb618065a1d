//! The virtio-net header that precedes each packet on a device with offload.
//!
//! Ten octets: flags, kind of super-packet, header length, segment size, start and offset of the
//! checksum. TUN devices use the order of octets of the host unless told otherwise.
//! Sources: virtio 1.2 section 5.1.6; Linux include/uapi/linux/virtio_net.h.

use pfengine::{Checksum, Gso, Offload};

use crate::router::is_v6;
use crate::tun::HEADER_OCTETS;

const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// Reads a header.
///
/// `None` for a kind of super-packet that was never agreed on. DATA_VALID needs no mark: the
/// checksum field is right then.
pub(super) fn decode(header: [u8; HEADER_OCTETS]) -> Option<Offload> {
    let [flags, kind, _, _, size @ .., s0, s1, o0, o1] = header;
    let checksum = if flags & NEEDS_CSUM == 0 {
        Checksum::Complete
    } else {
        Checksum::Partial {
            start: u16::from_ne_bytes([s0, s1]),
            offset: u16::from_ne_bytes([o0, o1]),
        }
    };
    let ecn = kind & GSO_ECN != 0;
    let gso = match kind & !GSO_ECN {
        GSO_NONE => Gso::None,
        GSO_TCPV4 | GSO_TCPV6 => Gso::Tcp { ecn },
        GSO_UDP_L4 => Gso::Udp,
        _ => return None,
    };
    let gso_size = if gso == Gso::None { 0 } else { u16::from_ne_bytes(size) };
    Some(Offload { gso, gso_size, checksum })
}

/// Writes the header for a packet.
///
/// A complete checksum is not vouched for: whether it is right, the receiver finds out.
pub(super) fn encode(offload: &Offload, data: &[u8]) -> [u8; HEADER_OCTETS] {
    let mut header = [0; HEADER_OCTETS];
    let ipv6 = is_v6(data);
    header[1] = match offload.gso {
        Gso::None => GSO_NONE,
        Gso::Tcp { ecn } => {
            (if ipv6 { GSO_TCPV6 } else { GSO_TCPV4 }) | (if ecn { GSO_ECN } else { 0 })
        }
        Gso::Udp => GSO_UDP_L4,
    };
    if offload.gso != Gso::None {
        header[2..4].copy_from_slice(&header_length(offload, data).to_ne_bytes());
        header[4..6].copy_from_slice(&offload.gso_size.to_ne_bytes());
    }
    if let Checksum::Partial { start, offset } = offload.checksum {
        header[0] = NEEDS_CSUM;
        header[6..8].copy_from_slice(&start.to_ne_bytes());
        header[8..10].copy_from_slice(&offset.to_ne_bytes());
    }
    header
}

/// Octets of all headers of a super-packet: what the kernel had best keep together. Zero, which is
/// always allowed, where that is not known.
fn header_length(offload: &Offload, data: &[u8]) -> u16 {
    let Checksum::Partial { start, .. } = offload.checksum else {
        return 0;
    };
    let transport = match (offload.gso, data.get(usize::from(start) + 12)) {
        (Gso::Udp, _) => 8,
        (Gso::Tcp { .. }, Some(octet)) => u16::from(octet >> 4) * 4,
        _ => return 0,
    };
    let length = start.saturating_add(transport);
    if usize::from(length) <= data.len() { length } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(offload: Offload, version: u8) {
        let mut data = [0; 80];
        data[0] = version << 4;
        assert_eq!(decode(encode(&offload, &data)), Some(offload));
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        round_trip(Offload::default(), 4);
        let checksum = Checksum::Partial { start: 20, offset: 16 };
        round_trip(Offload { checksum, ..Offload::default() }, 4);
        for gso in [Gso::Tcp { ecn: false }, Gso::Tcp { ecn: true }, Gso::Udp] {
            for version in [4, 6] {
                round_trip(Offload { gso, gso_size: 1448, checksum }, version);
            }
        }
    }

    #[test]
    fn kinds_never_agreed_on_are_refused() {
        for kind in [2, 3, 6, 0x20, 0x40, 0x7f] {
            assert_eq!(decode([0, kind, 0, 0, 0, 0, 0, 0, 0, 0]), None, "{kind}");
        }
    }

    #[test]
    fn header_length_never_exceeds_the_packet() {
        let checksum = Checksum::Partial { start: 20, offset: 16 };
        let offload = Offload { gso: Gso::Tcp { ecn: false }, gso_size: 1448, checksum };
        let mut data = [0; 100];
        data[0] = 0x45;
        data[32] = 0x80;
        assert_eq!(header_length(&offload, &data), 52);
        assert_eq!(header_length(&offload, &data[..40]), 0);
    }
}
