//! What every later stage reads of a packet: parsed once, lengths checked once.
//!
//! Octets are hostile input. [`PacketDesc::parse`] either gives a description whose offsets are
//! all inside the packet, or the [`Reason`] why the packet is dropped. Sources: OpenBSD
//! sys/net/pf.c `pf_setup_pdesc`, `pf_walk_header`, `pf_walk_option`, `pf_walk_header6`,
//! `pf_walk_option6`; RFC 791, RFC 8200, RFC 9293.

use pfapi::addr::Af;
use pfapi::reason::Reason;
use pfapi::ruleset::proto;

use crate::addr::Addr;
use crate::wire::build::TCP_HEADER;
use crate::wire::checksum;
use crate::wire::ip::next_header::{
    AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING,
};
use crate::wire::ip::{IPV4_HEADER, IPV6_HEADER};

/// Headers that may follow an IPv6 header before the packet is refused.
const HEADERS_MAX: usize = 20;

const IGMP: u8 = 2;

/// A packet as the filter sees it.
#[derive(Clone, Copy, Debug)]
pub struct PacketDesc {
    /// Family.
    pub af: Af,
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Protocol behind all IP and extension headers; of a fragment as far as it is known.
    pub proto: u8,
    /// Type of service or traffic class, ECN bits included.
    pub tos: u8,
    /// Octets of the IP packet.
    pub total: usize,
    /// Where the transport header starts.
    pub l4: usize,
    /// IP options or extension headers that need `allow-opts`.
    pub has_options: bool,
    /// Transport header.
    pub transport: Transport,
}

/// Transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp(TcpDesc),
    /// UDP.
    Udp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// ICMP or ICMPv6, by the protocol.
    Icmp {
        /// Type.
        icmp_type: u8,
        /// Code.
        code: u8,
        /// Identifier of queries.
        id: u16,
    },
    /// A protocol without ports.
    Other,
    /// A fragment that nobody put together.
    Fragment,
}

/// TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpDesc {
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flag bits 0 to 7: FIN, SYN, RST, PSH, ACK, URG, ECE, CWR.
    pub flags: u8,
    /// Window field, unscaled.
    pub window: u16,
    /// Octets of the header with its options.
    pub header: usize,
    /// Octets of payload; of all segments of a super-packet.
    pub payload: u32,
}

impl TcpDesc {
    /// Whether all of `flags` are set.
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

impl Transport {
    /// Whether rules see ports.
    pub const fn has_ports(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Udp { .. })
    }
}

impl PacketDesc {
    /// Source and destination port; the ICMP id and 0 where there are none.
    pub const fn ports(&self) -> (u16, u16) {
        match self.transport {
            Transport::Tcp(TcpDesc { sport, dport, .. }) | Transport::Udp { sport, dport } => {
                (sport, dport)
            }
            Transport::Icmp { .. } | Transport::Other | Transport::Fragment => (0, 0),
        }
    }

    /// Whether the whole transport header is there.
    pub const fn has_transport(&self) -> bool {
        !matches!(self.transport, Transport::Fragment | Transport::Other)
    }

    /// Parses an IP packet. `data` may have octets behind the packet; `total` says where it ends.
    ///
    /// # Errors
    /// The reason for which a malformed packet is dropped.
    pub fn parse(data: &[u8]) -> Result<Self, Reason> {
        match data.first().map(|first| first >> 4) {
            Some(4) => Self::parse_ipv4(data),
            Some(6) => Self::parse_ipv6(data),
            _ => Err(Reason::Short),
        }
    }

    fn parse_ipv4(data: &[u8]) -> Result<Self, Reason> {
        let header: &[u8; IPV4_HEADER] = data.first_chunk().ok_or(Reason::Short)?;
        let header_len = usize::from(header[0] & 0x0f) * 4;
        let total = usize::from(u16_at(header, 2));
        if header_len < IPV4_HEADER || header_len > total || total > data.len() {
            return Err(Reason::Short);
        }
        if !checksum::ipv4_header_is_intact(&data[..header_len]) {
            return Err(Reason::Short);
        }
        let mut desc = Self {
            af: Af::Inet,
            src: Addr::from_ipv4([header[12], header[13], header[14], header[15]]),
            dst: Addr::from_ipv4([header[16], header[17], header[18], header[19]]),
            proto: header[9],
            tos: header[1],
            total,
            l4: header_len,
            has_options: header_len > IPV4_HEADER,
            transport: Transport::Other,
        };
        if desc.has_options {
            let options = walk_ipv4_options(&data[IPV4_HEADER..header_len])?;
            // A router alert is what IGMP is meant to carry (RFC 2113), so it needs no allow-opts.
            desc.has_options = !(options == OptionKinds::RouterAlert && desc.proto == IGMP);
        }
        let all_hosts = [header[16], header[17], header[18], header[19]] == [224, 0, 0, 1];
        if desc.proto == IGMP && all_hosts && header[8] != 1 {
            return Err(Reason::IpOption);
        }
        if u16_at(header, 6) & 0x3fff != 0 {
            desc.transport = Transport::Fragment;
            return Ok(desc);
        }
        desc.walk_authentication_headers(data)?;
        desc.transport = desc.parse_transport(&data[..total])?;
        Ok(desc)
    }

    /// Skips the authentication headers (RFC 4302) of an IPv4 packet.
    fn walk_authentication_headers(&mut self, data: &[u8]) -> Result<(), Reason> {
        for _ in 0..HEADERS_MAX {
            if self.proto != AUTHENTICATION {
                return Ok(());
            }
            let [next, len] = *data[self.l4..self.total].first_chunk().ok_or(Reason::Short)?;
            self.l4 += (usize::from(len) + 2) * 4;
            self.proto = next;
            if self.l4 > self.total {
                return Err(Reason::Short);
            }
        }
        Err(Reason::IpOption)
    }

    fn parse_ipv6(data: &[u8]) -> Result<Self, Reason> {
        let header: &[u8; IPV6_HEADER] = data.first_chunk().ok_or(Reason::Short)?;
        let payload = usize::from(u16_at(header, 4));
        let total = IPV6_HEADER + payload;
        if total > data.len() {
            return Err(Reason::Short);
        }
        let mut desc = Self {
            af: Af::Inet6,
            src: Addr::from_ipv6(*chunk(header, 8)),
            dst: Addr::from_ipv6(*chunk(header, 24)),
            proto: header[6],
            tos: header[0] << 4 | header[1] >> 4,
            total,
            l4: IPV6_HEADER,
            has_options: false,
            transport: Transport::Other,
        };
        if payload == 0 && desc.proto == HOP_BY_HOP {
            // Either a jumbogram, which this filter does not support, or a header cut off.
            return Err(Reason::IpOption);
        }
        let alert = desc.walk_extension_headers(data)?;
        if desc.transport == Transport::Fragment {
            desc.has_options |= alert;
            return Ok(desc);
        }
        desc.transport = desc.parse_transport(&data[..total])?;
        let mut is_mld = false;
        if let Transport::Icmp { icmp_type, .. } = desc.transport
            && desc.proto == proto::ICMPV6
        {
            is_mld = matches!(icmp_type, 130..=132 | 143);
            desc.check_icmpv6(data, header[7], icmp_type)?;
        }
        // It is what MLD is meant to carry (RFC 2710), so that this needs no allow-opts.
        desc.has_options |= alert && !is_mld;
        Ok(desc)
    }

    /// Walks to the transport header; tells whether a router alert option was on the way.
    ///
    /// At a fragment header the walk ends. What a first fragment has of the headers behind it is
    /// checked, too, but may be cut off.
    fn walk_extension_headers(&mut self, data: &[u8]) -> Result<bool, Reason> {
        let mut first = None;
        let router_alert = match self.walk_to_transport(data, &mut first) {
            Err(Reason::Short) if first.is_some() => Ok(false),
            other => other,
        };
        if let Some((header, next)) = first {
            self.l4 = header;
            self.proto = next;
            self.transport = Transport::Fragment;
        }
        router_alert
    }

    /// As [`Self::walk_extension_headers`]; puts into `first` where the header of a first
    /// fragment lies and what it names.
    fn walk_to_transport(
        &mut self,
        data: &[u8],
        first: &mut Option<(usize, u8)>,
    ) -> Result<bool, Reason> {
        let mut router_alert = false;
        let mut routing_seen = false;
        let mut fragment_seen = false;
        for position in 0..HEADERS_MAX {
            let rest = &data[self.l4..self.total];
            let length = match self.proto {
                HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                    let [_, len] = *rest.first_chunk().ok_or(Reason::Short)?;
                    (usize::from(len) + 1) * 8
                }
                AUTHENTICATION => {
                    let [_, len] = *rest.first_chunk().ok_or(Reason::Short)?;
                    (usize::from(len) + 2) * 4
                }
                FRAGMENT => 8,
                _ => return Ok(router_alert),
            };
            let body = rest.get(..length).ok_or(Reason::Short)?;
            match self.proto {
                HOP_BY_HOP => {
                    if position != 0 {
                        return Err(Reason::IpOption);
                    }
                    let options = walk_ipv6_options(&body[2..])?;
                    router_alert = options == OptionKinds::RouterAlert;
                    self.has_options |= options == OptionKinds::Other;
                }
                ROUTING => {
                    // Type 0 is deprecated (RFC 5095); a second routing header has no use.
                    if routing_seen || body[2] == 0 {
                        return Err(Reason::IpOption);
                    }
                    routing_seen = true;
                    self.has_options = true;
                }
                DESTINATION_OPTIONS => self.has_options = true,
                FRAGMENT if fragment_seen => return Err(Reason::Fragment),
                FRAGMENT => {
                    fragment_seen = true;
                    match u16_at(body, 2) & 0xfff9 {
                        // An atomic fragment (RFC 6946) is a whole packet.
                        0 => {}
                        1 => *first = Some((self.l4, body[0])),
                        _ => {
                            self.proto = body[0];
                            self.transport = Transport::Fragment;
                            return Ok(router_alert);
                        }
                    }
                }
                _ => {}
            }
            self.proto = body[0];
            self.l4 += length;
        }
        Err(Reason::IpOption)
    }

    /// Hop limits and sources that RFC 4861 and RFC 2710 demand.
    fn check_icmpv6(&self, data: &[u8], hop_limit: u8, icmp_type: u8) -> Result<(), Reason> {
        let needed = match icmp_type {
            130..=132 | 135 | 136 => 24,
            _ => 8,
        };
        if self.total - self.l4 < needed {
            return Err(Reason::Short);
        }
        match icmp_type {
            130..=132 | 143 => {
                let link_local = data[8] == 0xfe && data[9] & 0xc0 == 0x80;
                if hop_limit != 1 || !link_local {
                    return Err(Reason::IpOption);
                }
            }
            133..=137 if hop_limit != 255 => return Err(Reason::Normalize),
            _ => {}
        }
        Ok(())
    }

    /// Reads the transport header; `data` ends with the packet.
    fn parse_transport(&self, data: &[u8]) -> Result<Transport, Reason> {
        let rest = &data[self.l4..];
        match (self.proto, self.af) {
            (proto::TCP, _) => {
                let header: &[u8; TCP_HEADER] = rest.first_chunk().ok_or(Reason::Short)?;
                let length = usize::from(header[12] >> 4) * 4;
                let dport = u16_at(header, 2);
                if length < TCP_HEADER || length > rest.len() || dport == 0 {
                    return Err(Reason::Short);
                }
                Ok(Transport::Tcp(TcpDesc {
                    sport: u16_at(header, 0),
                    dport,
                    seq: u32_at(header, 4),
                    ack: u32_at(header, 8),
                    flags: header[13],
                    window: u16_at(header, 14),
                    header: length,
                    payload: u32::try_from(rest.len() - length).unwrap_or(u32::MAX),
                }))
            }
            (proto::UDP, _) => {
                let header: &[u8; 8] = rest.first_chunk().ok_or(Reason::Short)?;
                let length = usize::from(u16_at(header, 4));
                let dport = u16_at(header, 2);
                if length < 8 || length > rest.len() || dport == 0 {
                    return Err(Reason::Short);
                }
                Ok(Transport::Udp { sport: u16_at(header, 0), dport })
            }
            (proto::ICMP, Af::Inet) | (proto::ICMPV6, Af::Inet6) => {
                let header: &[u8; 8] = rest.first_chunk().ok_or(Reason::Short)?;
                Ok(Transport::Icmp { icmp_type: header[0], code: header[1], id: u16_at(header, 4) })
            }
            (proto::ICMP, Af::Inet6) | (proto::ICMPV6, Af::Inet) => Err(Reason::Normalize),
            _ => Ok(Transport::Other),
        }
    }
}

/// Walks IPv4 options.
fn walk_ipv4_options(mut options: &[u8]) -> Result<OptionKinds, Reason> {
    let mut kinds = None;
    loop {
        match *options {
            [] | [0, ..] => return Ok(kinds.unwrap_or(OptionKinds::Other)),
            [1, ref rest @ ..] => options = rest,
            [kind, len, ..] if len >= 2 && usize::from(len) <= options.len() => {
                match kind {
                    148 => kinds = kinds.or(Some(OptionKinds::RouterAlert)),
                    _ => kinds = Some(OptionKinds::Other),
                }
                options = &options[usize::from(len)..];
            }
            _ => return Err(Reason::IpOption),
        }
    }
}

/// What the options of an IPv4 or hop-by-hop header are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OptionKinds {
    /// A router alert, and padding.
    RouterAlert,
    /// Anything else, padding alone included.
    Other,
}

fn walk_ipv6_options(mut options: &[u8]) -> Result<OptionKinds, Reason> {
    let mut kinds = None;
    loop {
        match *options {
            [] => return Ok(kinds.unwrap_or(OptionKinds::Other)),
            [0, ref rest @ ..] => options = rest,
            [kind, len, ..] if usize::from(len) + 2 <= options.len() => {
                match kind {
                    1 => {}
                    5 => kinds = kinds.or(Some(OptionKinds::RouterAlert)),
                    // Jumbo payload (RFC 2675): its length never fits the packets of a TUN.
                    0xc2 => return Err(Reason::IpOption),
                    _ => kinds = Some(OptionKinds::Other),
                }
                options = &options[usize::from(len) + 2..];
            }
            _ => return Err(Reason::IpOption),
        }
    }
}

/// Big-endian 16 bits at `at`; the caller has checked the length.
pub fn u16_at(data: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(*chunk(data, at))
}

/// Big-endian 32 bits at `at`; the caller has checked the length.
pub fn u32_at(data: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(*chunk(data, at))
}

fn chunk<const N: usize>(data: &[u8], at: usize) -> &[u8; N] {
    data[at..].first_chunk().expect("the caller has checked the length")
}
