//! Forged packets: a template with the constant part summed up once, stamped per packet.
//!
//! Invariant: every stamped packet carries right checksums, so that a filter can only refuse it
//! for what it is. Sources: RFC 1071 (Internet checksum), RFC 9293, RFC 8200, RFC 768.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest packet that a template makes, in octets.
pub const LENGTH_MAX: usize = 1500;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Options of a SYN as Linux sends it: MSS 1460, SACK permitted, timestamps, window scale 7.
const SYN_OPTIONS: [u8; 20] =
    [2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0x5a, 0x1c, 0x33, 0x07, 0, 0, 0, 0, 1, 3, 3, 7];
/// Options of an ACK with timestamps; the echoed one is stamped.
const STAMPS: [u8; 12] = [1, 1, 8, 10, 0x5a, 0x1c, 0x33, 0x07, 0, 0, 0, 0];
/// Ports that random sources use: Linux' own default range begins at 32768, others lower.
const SOURCE_PORT_MIN: u16 = 1024;

/// What to forge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// First packet of a TCP connection, with the options of a Linux SYN.
    Syn,
    /// TCP acknowledgement that belongs to no connection.
    Ack,
    /// As `Ack`, with the timestamps option: it echoes a stamp that nobody has sent.
    AckStamped,
    /// UDP datagram.
    Udp,
}

/// Addresses to forge senders from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceNet {
    base: IpAddr,
    length: u8,
}

impl SourceNet {
    /// All addresses of a prefix.
    #[must_use]
    pub const fn new(base: IpAddr, length: u8) -> Self {
        Self { base, length }
    }

    /// Whether the prefix is of IPv4.
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        self.base.is_ipv4()
    }
}

impl core::str::FromStr for SourceNet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text} is no prefix such as 198.18.0.0/15");
        let (base, length) = text.split_once('/').ok_or_else(bad)?;
        let base: IpAddr = base.parse().map_err(|_| bad())?;
        let length: u8 = length.parse().map_err(|_| bad())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        if length > most {
            return Err(bad());
        }
        Ok(Self { base, length })
    }
}

/// Small fast generator (xorshift64*); good enough to spread addresses, never for secrets.
#[derive(Clone, Copy, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Any seed will do.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self((seed ^ 0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Next 64 bits.
    pub const fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// A packet with room for sender, source port and sequence number.
#[derive(Clone, Debug)]
pub struct Template {
    octets: Vec<u8>,
    kind: Kind,
    source: SourceNet,
    transport_at: usize,
    /// Sum of the IPv4 header without the sender; unused for IPv6.
    header_sum: u32,
    /// Sum of pseudo-header and transport without sender, source port and numbers.
    transport_sum: u32,
}

impl Template {
    /// Prepares packets of one kind. `udp_length` is the length of the whole IP packet in octets,
    /// taken for UDP only.
    ///
    /// # Errors
    ///
    /// When the families of source and destination differ or the length does not fit.
    pub fn new(
        kind: Kind,
        source: SourceNet,
        destination: IpAddr,
        port: u16,
        udp_length: usize,
    ) -> Result<Self, String> {
        if source.is_ipv4() != destination.is_ipv4() {
            return Err("source and destination are of different families".to_owned());
        }
        let transport_at = if destination.is_ipv4() { 20 } else { 40 };
        let transport_length = match kind {
            Kind::Syn => 20 + SYN_OPTIONS.len(),
            Kind::Ack => 20,
            Kind::AckStamped => 20 + STAMPS.len(),
            Kind::Udp => udp_length
                .checked_sub(transport_at)
                .filter(|&n| n >= 8)
                .ok_or("a UDP packet needs 28 octets over IPv4 and 48 over IPv6")?,
        };
        let length = transport_at + transport_length;
        if length > LENGTH_MAX {
            return Err(format!("{length} octets are more than {LENGTH_MAX}"));
        }
        let mut octets = vec![0; length];
        let protocol = if kind == Kind::Udp { UDP } else { TCP };
        let pseudo_sum = match destination {
            IpAddr::V4(to) => ipv4_header(&mut octets, protocol, to),
            IpAddr::V6(to) => ipv6_header(&mut octets, protocol, to, transport_length),
        };
        transport_header(&mut octets[transport_at..], kind, port);
        let pseudo_sum = pseudo_sum + u32::from(protocol) + be16(transport_length);
        let transport_sum = sum(&octets[transport_at..], pseudo_sum);
        let header_sum = sum(&octets[..20], 0);
        Ok(Self { octets, kind, source, transport_at, header_sum, transport_sum })
    }

    /// The constant part; a buffer starts as a copy of it.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Writes the sender of one packet into a copy of the template, chosen by `address_dice`, and
    /// numbers chosen by `number_dice`. The same dice give the same packet.
    pub fn stamp(&self, packet: &mut [u8], address_dice: u64, number_dice: u64) {
        let sender_sum = self.stamp_sender(packet, address_dice);
        let port = SOURCE_PORT_MIN
            + (((number_dice & 0xffff) * u64::from(u16::MAX - SOURCE_PORT_MIN)) >> 16) as u16;
        let transport = &mut packet[self.transport_at..];
        transport[..2].copy_from_slice(&port.to_be_bytes());
        let mut total = self.transport_sum + sender_sum + u32::from(port);
        let checksum_at = match self.kind {
            Kind::Udp => 6,
            Kind::Syn | Kind::Ack | Kind::AckStamped => {
                let sequence = (number_dice >> 16) as u32;
                transport[4..8].copy_from_slice(&sequence.to_be_bytes());
                total += (sequence >> 16) + (sequence & 0xffff);
                if self.kind == Kind::AckStamped {
                    let echoed = (number_dice.rotate_left(24) ^ address_dice) as u32;
                    transport[28..32].copy_from_slice(&echoed.to_be_bytes());
                    total += (echoed >> 16) + (echoed & 0xffff);
                }
                if self.kind != Kind::Syn {
                    let acknowledged = sequence.rotate_left(11) ^ (number_dice >> 32) as u32;
                    transport[8..12].copy_from_slice(&acknowledged.to_be_bytes());
                    total += (acknowledged >> 16) + (acknowledged & 0xffff);
                }
                16
            }
        };
        let mut checksum = fold(total);
        if self.kind == Kind::Udp && checksum == 0 {
            checksum = 0xffff; // Zero would say that there is none (RFC 768).
        }
        transport[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
    }

    fn stamp_sender(&self, packet: &mut [u8], dice: u64) -> u32 {
        match self.source.base {
            IpAddr::V4(base) => {
                let host_bits = u32::MAX.checked_shr(u32::from(self.source.length)).unwrap_or(0);
                let sender = base.to_bits() & !host_bits | (dice as u32) & host_bits;
                packet[12..16].copy_from_slice(&sender.to_be_bytes());
                let sender_sum = (sender >> 16) + (sender & 0xffff);
                let checksum = fold(self.header_sum + sender_sum);
                packet[10..12].copy_from_slice(&checksum.to_be_bytes());
                sender_sum
            }
            IpAddr::V6(base) => {
                let host_bits = u128::MAX.checked_shr(u32::from(self.source.length)).unwrap_or(0);
                let spread = u128::from(dice) << 64 | u128::from(dice.rotate_left(32) ^ dice << 7);
                let sender = base.to_bits() & !host_bits | spread & host_bits;
                packet[8..24].copy_from_slice(&sender.to_be_bytes());
                sum(&packet[8..24], 0)
            }
        }
    }
}

/// Fills an IPv4 header and returns the part of the pseudo-header sum that it knows.
fn ipv4_header(octets: &mut [u8], protocol: u8, destination: Ipv4Addr) -> u32 {
    let length = octets.len();
    octets[0] = 0x45;
    octets[2..4].copy_from_slice(&u16::try_from(length).expect("at most LENGTH_MAX").to_be_bytes());
    octets[6] = 0x40; // Do not fragment, as Linux sets it on TCP.
    octets[8] = 64;
    octets[9] = protocol;
    octets[16..20].copy_from_slice(&destination.octets());
    sum(&destination.octets(), 0)
}

/// As [`ipv4_header`], for IPv6.
fn ipv6_header(octets: &mut [u8], protocol: u8, destination: Ipv6Addr, payload: usize) -> u32 {
    octets[0] = 0x60;
    octets[4..6]
        .copy_from_slice(&u16::try_from(payload).expect("at most LENGTH_MAX").to_be_bytes());
    octets[6] = protocol;
    octets[7] = 64;
    octets[24..40].copy_from_slice(&destination.octets());
    sum(&destination.octets(), 0)
}

fn transport_header(transport: &mut [u8], kind: Kind, port: u16) {
    transport[2..4].copy_from_slice(&port.to_be_bytes());
    match kind {
        Kind::Udp => {
            let length = u16::try_from(transport.len()).expect("at most LENGTH_MAX");
            transport[4..6].copy_from_slice(&length.to_be_bytes());
            for (index, octet) in transport[8..].iter_mut().enumerate() {
                *octet = index.to_le_bytes()[0];
            }
        }
        Kind::Syn | Kind::Ack | Kind::AckStamped => {
            transport[12] = u8::try_from((transport.len() / 4) << 4).expect("at most 60 octets");
            transport[13] = if kind == Kind::Syn { 0x02 } else { 0x10 };
            transport[14..16].copy_from_slice(&64240_u16.to_be_bytes());
            match kind {
                Kind::Syn => transport[20..40].copy_from_slice(&SYN_OPTIONS),
                Kind::AckStamped => transport[20..32].copy_from_slice(&STAMPS),
                Kind::Ack | Kind::Udp => {}
            }
        }
    }
}

fn be16(length: usize) -> u32 {
    u32::try_from(length).expect("at most LENGTH_MAX")
}

/// Sum of 16-bit words in network order, not yet folded; an odd last octet counts as a high one.
#[must_use]
pub fn sum(octets: &[u8], start: u32) -> u32 {
    let (words, rest) = octets.as_chunks::<2>();
    let total =
        words.iter().fold(start, |total, &word| total + u32::from(u16::from_be_bytes(word)));
    total + rest.first().map_or(0, |&octet| u32::from(octet) << 8)
}

/// Internet checksum of a sum (RFC 1071).
#[must_use]
pub const fn fold(mut sum: u32) -> u16 {
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V4: (&str, &str) = ("198.18.0.0/15", "10.77.3.2");
    const V6: (&str, &str) = ("2001:db8:7::/48", "fd77:3::2");

    fn template(kind: Kind, (source, destination): (&str, &str), length: usize) -> Template {
        let source = source.parse().unwrap();
        Template::new(kind, source, destination.parse().unwrap(), 80, length).unwrap()
    }

    /// Adds the pseudo-header up from the packet itself, independent of the template.
    fn transport_is_sound(packet: &[u8]) -> bool {
        let (addresses, at, protocol) = if packet[0] >> 4 == 4 {
            (&packet[12..20], 20, packet[9])
        } else {
            (&packet[8..40], 40, packet[6])
        };
        let start = sum(addresses, 0) + u32::from(protocol) + be16(packet.len() - at);
        fold(sum(&packet[at..], start)) == 0
    }

    proptest! {
        #[test]
        fn stamped_packets_have_right_checksums(address: u64, number: u64, v6: bool, kind in 0..4_usize) {
            let kind = [Kind::Syn, Kind::Ack, Kind::AckStamped, Kind::Udp][kind];
            let template = template(kind, if v6 { V6 } else { V4 }, 65);
            let mut packet = template.octets().to_vec();
            template.stamp(&mut packet, address, number);
            prop_assert!(transport_is_sound(&packet));
            prop_assert!(v6 || fold(sum(&packet[..20], 0)) == 0);
            // A buffer is stamped again and again.
            template.stamp(&mut packet, number, address);
            prop_assert!(transport_is_sound(&packet));
        }

        #[test]
        fn senders_stay_in_their_net(dice: u64) {
            let mut packet = template(Kind::Syn, V4, 0).octets().to_vec();
            template(Kind::Syn, V4, 0).stamp(&mut packet, dice, 0);
            prop_assert_eq!(packet[12], 198);
            prop_assert_eq!(packet[13] & 0xfe, 18);
            let mut packet = template(Kind::Syn, V6, 0).octets().to_vec();
            template(Kind::Syn, V6, 0).stamp(&mut packet, dice, 0);
            prop_assert_eq!(&packet[8..14], &[0x20, 0x01, 0x0d, 0xb8, 0, 7]);
        }
    }

    #[test]
    fn syn_looks_like_one_of_linux() {
        let packet = template(Kind::Syn, V4, 0);
        assert_eq!(packet.octets().len(), 60);
        assert_eq!(packet.octets()[32], 10 << 4, "ten words of TCP header");
        assert_eq!(template(Kind::Syn, V6, 0).octets().len(), 80);
    }

    #[test]
    fn whole_prefix_and_single_address_work() {
        for source in ["0.0.0.0/0", "192.0.2.7/32"] {
            let template = template(Kind::Ack, (source, V4.1), 0);
            let mut packet = template.octets().to_vec();
            template.stamp(&mut packet, u64::MAX, 1);
            let last = if source.starts_with('0') { 255 } else { 7 };
            assert_eq!(packet[15], last);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!("10.0.0.0/33".parse::<SourceNet>().is_err());
        assert!("10.0.0.0".parse::<SourceNet>().is_err());
        let v4: SourceNet = V4.0.parse().unwrap();
        assert!(Template::new(Kind::Syn, v4, V6.1.parse().unwrap(), 80, 0).is_err());
        assert!(Template::new(Kind::Udp, v4, V4.1.parse().unwrap(), 80, 20).is_err());
        assert!(Template::new(Kind::Udp, v4, V4.1.parse().unwrap(), 80, 3000).is_err());
    }
}
