//! TCP flags that no honest stack sends.
//!
//! Source: OpenBSD sys/net/pf_norm.c `pf_normalize_tcp`; RFC 9293 section 3.1.

use pfapi::reason::Reason;

use crate::packet::Packet;
use crate::packet_desc::{TcpDesc, u16_at};
use crate::wire::build::flags::{ACK, FIN, PSH, RST, SYN, URG};
use crate::wire::checksum::Delta;

/// Where the flags lie behind the start of the TCP header: reserved bits and flags.
const FLAGS_AT: usize = 12;
const CHECKSUM_AT: usize = 16;
const URGENT_AT: usize = 18;

/// Refuses impossible flags and clears what has no meaning; `l4` is where the TCP header starts.
///
/// # Errors
/// [`Reason::Normalize`] for packets that belong to no connection.
pub fn normalize(packet: &mut Packet, l4: usize, tcp: &mut TcpDesc) -> Result<(), Reason> {
    let mut flags = tcp.flags;
    if tcp.has(SYN) {
        if tcp.has(RST) {
            return Err(Reason::Normalize);
        }
        flags &= !FIN;
    } else if flags & (ACK | RST) == 0 {
        return Err(Reason::Normalize);
    }
    if flags & ACK == 0 && flags & (FIN | PSH | URG) != 0 {
        return Err(Reason::Normalize);
    }
    let header = &packet.data()[l4..];
    let (offset, urgent) = (header[FLAGS_AT], u16_at(header, URGENT_AT));
    let clears_urgent = flags & URG == 0 && urgent != 0;
    if flags == tcp.flags && offset.trailing_zeros() >= 4 && !clears_urgent {
        return Ok(());
    }
    let old = u16::from_be_bytes([offset, tcp.flags]);
    let new = u16::from_be_bytes([offset & 0xf0, flags]);
    let mut delta = Delta::u16(old, new);
    let complete = !packet.meta.offload.is_partial_at(l4);
    let header = &mut packet.data_mut()[l4..];
    header[FLAGS_AT..FLAGS_AT + 2].copy_from_slice(&new.to_be_bytes());
    if clears_urgent {
        delta = delta.and(Delta::u16(urgent, 0));
        header[URGENT_AT..URGENT_AT + 2].fill(0);
    }
    if complete {
        let sum = delta.complete(u16_at(header, CHECKSUM_AT));
        header[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
    }
    tcp.flags = flags;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet_desc::{PacketDesc, Transport};
    use crate::wire::build::TcpSegment;
    use crate::wire::checksum::packet_is_intact;
    use crate::wire::tcp_options::SynOptions;

    fn packet(flags: u8) -> Packet {
        let mut octets = [0; 64];
        let len = TcpSegment {
            src: "192.0.2.1".parse().unwrap(),
            dst: "192.0.2.2".parse().unwrap(),
            sport: 1,
            dport: 2,
            seq: 3,
            ack: 4,
            flags,
            window: 5,
            options: SynOptions::default(),
            ttl: 64,
            tos: 0,
            dont_fragment: true,
            id: 0,
        }
        .write(&mut octets);
        let mut packet = Packet::new(0, 64);
        packet.fill(&octets[..len]);
        packet
    }

    fn normalized(packet: &mut Packet) -> Result<TcpDesc, Reason> {
        let desc = PacketDesc::parse(packet.data()).unwrap();
        let Transport::Tcp(mut header) = desc.transport else { panic!("a TCP packet") };
        normalize(packet, desc.l4, &mut header).map(|()| header)
    }

    #[test]
    fn every_combination_of_flags() {
        for flags in 0..=u8::MAX {
            let has = |flag: u8| flags & flag != 0;
            let refused = has(SYN) && has(RST)
                || !has(SYN) && !has(ACK) && !has(RST)
                || !has(ACK) && (has(FIN) && !has(SYN) || has(PSH) || has(URG));
            let mut packet = packet(flags);
            let outcome = normalized(&mut packet);
            assert_eq!(outcome.is_err(), refused, "flags {flags:#010b}");
            if let Ok(tcp) = outcome {
                assert_eq!(tcp.flags, if has(SYN) { flags & !FIN } else { flags });
                assert_eq!(packet.data()[33], tcp.flags);
                assert!(packet_is_intact(packet.data()));
            }
        }
    }

    #[test]
    fn reserved_bits_and_stray_urgent_pointers_are_cleared() {
        let mut packet = packet(ACK);
        let data = packet.data_mut();
        data[32] |= 0x0a;
        data[39] = 7;
        let sum = Delta::u16(0x5010, 0x5a10).and(Delta::u16(0, 7)).complete(u16_at(data, 36));
        data[36..38].copy_from_slice(&sum.to_be_bytes());
        assert!(packet_is_intact(packet.data()));
        normalized(&mut packet).unwrap();
        assert_eq!(packet.data()[32], 0x50);
        assert_eq!(packet.data()[39], 0);
        assert!(packet_is_intact(packet.data()));
    }
}
