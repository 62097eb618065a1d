//! Where the headers of an IP packet lie, as far as the filter's own answers need it.
//!
//! Sources: RFC 791 section 3.1; RFC 8200 sections 3 and 4; RFC 4302 section 2.2 (AH).

use core::net::IpAddr;

use super::bytes::{array, be16};

/// Octets of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Octets of an IPv6 header without extension headers.
pub const IPV6_HEADER: usize = 40;
/// Octets of an IPv6 fragment header. Source: RFC 8200 section 4.5.
pub const FRAGMENT_HEADER: usize = 8;

/// Headers before the transport header that are walked before a packet is given up: as many as
/// the filter walks, so that whatever it lets into a state can be answered too.
const EXTENSIONS_MAX: usize = 20;

/// Next-header numbers of extension headers; IPv4 has authentication headers alone.
pub(crate) mod next_header {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// The first fragment: the transport header is there.
    First,
    /// A later fragment.
    Later,
}

/// What the answers need to know of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// Transport protocol, behind all extension headers.
    pub protocol: u8,
    /// Where the transport header begins.
    pub transport: usize,
    /// Where the packet ends by its own length field; padding may follow.
    pub end: usize,
    /// Which part of a datagram it is.
    pub fragment: Fragment,
}

impl Layout {
    /// Reads the headers; `None` when the packet is shorter than it says or is not IP.
    #[must_use]
    pub fn of(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::of_v4(packet),
            6 => Self::of_v6(packet),
            _ => None,
        }
    }

    fn of_v4(packet: &[u8]) -> Option<Self> {
        let header = array::<IPV4_HEADER>(packet, 0)?;
        let transport = usize::from(header[0] & 0x0f) * 4;
        let end = usize::from(be16(&header, 2)?);
        if transport < IPV4_HEADER || end < transport || end > packet.len() {
            return None;
        }
        let fragment = match be16(&header, 6)? & 0x3fff {
            0 => Fragment::Whole,
            0x2000 => Fragment::First,
            _ => Fragment::Later,
        };
        let mut layout = Self {
            src: IpAddr::from(array::<4>(&header, 12)?),
            dst: IpAddr::from(array::<4>(&header, 16)?),
            protocol: header[9],
            transport,
            end,
            fragment,
        };
        for _ in 0..EXTENSIONS_MAX {
            if layout.protocol != next_header::AUTHENTICATION || fragment == Fragment::Later {
                return Some(layout);
            }
            let [next, length] = array::<2>(packet, layout.transport)?;
            layout.transport += (usize::from(length) + 2) * 4;
            layout.protocol = next;
            if layout.transport > end {
                return None;
            }
        }
        None
    }

    fn of_v6(packet: &[u8]) -> Option<Self> {
        let header = array::<IPV6_HEADER>(packet, 0)?;
        let end = IPV6_HEADER + usize::from(be16(&header, 4)?);
        if end > packet.len() {
            return None;
        }
        let mut layout = Self {
            src: IpAddr::from(array::<16>(&header, 8)?),
            dst: IpAddr::from(array::<16>(&header, 24)?),
            protocol: header[6],
            transport: IPV6_HEADER,
            end,
            fragment: Fragment::Whole,
        };
        for _ in 0..EXTENSIONS_MAX {
            let [next, length] = match layout.protocol {
                next_header::HOP_BY_HOP
                | next_header::ROUTING
                | next_header::FRAGMENT
                | next_header::AUTHENTICATION
                | next_header::DESTINATION_OPTIONS
                    if layout.fragment != Fragment::Later =>
                {
                    array::<2>(packet, layout.transport)?
                }
                _ => return Some(layout),
            };
            layout.transport += match layout.protocol {
                next_header::FRAGMENT => {
                    layout.fragment = match be16(packet, layout.transport + 2)? & 0xfff9 {
                        // An "atomic" fragment is a whole datagram (RFC 6946).
                        0 => layout.fragment,
                        1 => Fragment::First,
                        _ => Fragment::Later,
                    };
                    8
                }
                next_header::AUTHENTICATION => (usize::from(length) + 2) * 4,
                _ => (usize::from(length) + 1) * 8,
            };
            layout.protocol = next;
            if layout.transport > end {
                return None;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        packet[5] = u8::try_from(payload.len()).unwrap();
        packet.extend([0x20; 32]);
        packet.extend(payload);
        packet
    }

    #[test]
    fn ipv4_length_fields_bound_the_packet() {
        let mut packet = [0; 28];
        packet[0] = 0x45;
        packet[3] = 24;
        packet[9] = 17;
        let layout = Layout::of(&packet).unwrap();
        assert_eq!((layout.transport, layout.end, layout.protocol), (20, 24, 17));
        packet[3] = 29;
        assert_eq!(Layout::of(&packet), None, "longer than the buffer");
        packet[3] = 28;
        packet[0] = 0x44;
        assert_eq!(Layout::of(&packet), None, "header of 16 octets");
        packet[0] = 0x48;
        assert_eq!(Layout::of(&packet), None, "header longer than the packet");
    }

    #[test]
    fn ipv4_fragments_are_told_apart() {
        let mut packet = [0; 20];
        packet[0] = 0x45;
        packet[3] = 20;
        for (word, fragment) in [
            (0x4000_u16, Fragment::Whole),
            (0x2000, Fragment::First),
            (0x2001, Fragment::Later),
            (0x0001, Fragment::Later),
        ] {
            packet[6..8].copy_from_slice(&word.to_be_bytes());
            assert_eq!(Layout::of(&packet).unwrap().fragment, fragment);
        }
    }

    #[test]
    fn ipv6_extension_headers_are_walked() {
        let mut chain = [0; 8 + 16 + 8 + 4];
        chain[0] = next_header::DESTINATION_OPTIONS;
        chain[8] = next_header::FRAGMENT;
        chain[9] = 1;
        chain[24] = 17;
        chain[27] = 1;
        let layout = Layout::of(&v6(next_header::HOP_BY_HOP, &chain)).unwrap();
        assert_eq!(
            (layout.protocol, layout.transport, layout.fragment),
            (17, 40 + 32, Fragment::First)
        );
        chain[27] = 8;
        let layout = Layout::of(&v6(next_header::HOP_BY_HOP, &chain)).unwrap();
        assert_eq!(layout.fragment, Fragment::Later);
    }

    #[test]
    fn ipv6_chain_past_the_end_or_too_long_is_refused() {
        assert_eq!(Layout::of(&v6(next_header::HOP_BY_HOP, &[6, 1, 0, 0, 0, 0, 0, 0])), None);
        assert_eq!(Layout::of(&v6(next_header::HOP_BY_HOP, &[0; 160])), None);
    }

    proptest! {
        #[test]
        fn any_octets_are_safe(mut octets in prop::collection::vec(any::<u8>(), 0..200), six: bool) {
            if let Some(first) = octets.first_mut() {
                *first = if six { 0x60 } else { 0x40 | (*first & 0x0f) };
            }
            if let Some(layout) = Layout::of(&octets) {
                prop_assert!(layout.transport <= layout.end && layout.end <= octets.len());
            }
        }
    }
}
