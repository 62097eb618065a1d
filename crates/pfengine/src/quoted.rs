//! The packet that an ICMP error quotes, as far as its state must be found.
//!
//! Source: OpenBSD sys/net/pf.c `pf_test_state_icmp`.

use pfapi::addr::Af;
use pfapi::reason::Reason;
use pfapi::ruleset::proto;

use crate::addr::Addr;
use crate::packet_desc::{PacketDesc, u16_at, u32_at};
use crate::state::icmp::{self, IcmpClass};
use crate::wire::ip::{IPV4_HEADER, IPV6_HEADER};

/// Octets of an ICMP header before the quoted packet.
pub const ICMP_HEADER: usize = 8;
/// Octets of the quoted transport header that an error must carry. RFC 792.
const QUOTED_TRANSPORT: usize = 8;
/// Extension headers of a quoted packet that are walked at most; as many as of a packet itself.
const EXTENSIONS_MAX: usize = 20;

/// The start of the packet that an error quotes.
#[derive(Clone, Copy, Debug)]
pub struct Quoted {
    /// Source.
    pub src: Addr,
    /// Destination.
    pub dst: Addr,
    /// Protocol behind all IP and extension headers.
    pub proto: u8,
    /// Where its IP header starts in the whole packet.
    pub start: usize,
    /// Where its transport header starts in the whole packet.
    pub l4: usize,
    /// What stands there.
    pub transport: QuotedTransport,
}

/// Start of a quoted transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotedTransport {
    /// TCP; the sequence number is in the first eight octets too.
    Tcp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
        /// Sequence number.
        seq: u32,
    },
    /// UDP.
    Udp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// An ICMP message; an error about an error has no state.
    Icmp {
        /// Type.
        icmp_type: u8,
        /// Identifier, where the type has one.
        id: u16,
    },
    /// A protocol without ports.
    Other,
}

impl Quoted {
    /// Reads what the error behind `desc` quotes.
    ///
    /// # Errors
    /// The reason for which an error that quotes too little is dropped.
    pub fn parse(data: &[u8], desc: &PacketDesc) -> Result<Self, Reason> {
        let at = desc.l4 + ICMP_HEADER;
        let mut quoted = match desc.af {
            Af::Inet => Self::parse_ipv4(data, at)?,
            Af::Inet6 => Self::parse_ipv6(data, at)?,
        };
        if quoted.l4 > desc.total {
            return Err(Reason::Short);
        }
        quoted.transport = quoted.read_transport(data, desc.af)?;
        Ok(quoted)
    }

    fn read_transport(&self, data: &[u8], af: Af) -> Result<QuotedTransport, Reason> {
        let first = data.get(self.l4..).and_then(<[u8]>::first_chunk::<QUOTED_TRANSPORT>);
        let ports = |first: &[u8; QUOTED_TRANSPORT]| (u16_at(first, 0), u16_at(first, 2));
        match (self.proto, af) {
            (proto::TCP, _) => {
                let first = first.ok_or(Reason::Short)?;
                let (sport, dport) = ports(first);
                Ok(QuotedTransport::Tcp { sport, dport, seq: u32_at(first, 4) })
            }
            (proto::UDP, _) => {
                let (sport, dport) = ports(first.ok_or(Reason::Short)?);
                Ok(QuotedTransport::Udp { sport, dport })
            }
            (proto::ICMP, Af::Inet) | (proto::ICMPV6, Af::Inet6) => {
                let first = first.ok_or(Reason::Short)?;
                Ok(QuotedTransport::Icmp { icmp_type: first[0], id: u16_at(first, 4) })
            }
            (proto::ICMP, Af::Inet6) => Err(Reason::Normalize),
            _ => Ok(QuotedTransport::Other),
        }
    }

    /// Ports of its state's key, source first; `None` when it is itself an error.
    pub fn ports(&self, af: Af) -> Option<(u16, u16)> {
        match self.transport {
            QuotedTransport::Tcp { sport, dport, .. } | QuotedTransport::Udp { sport, dport } => {
                Some((sport, dport))
            }
            QuotedTransport::Icmp { icmp_type, id } => match icmp::classify(af, icmp_type) {
                IcmpClass::Error => None,
                IcmpClass::Query { virtual_type, has_id, reply } => {
                    let id = if has_id { id } else { 0 };
                    Some(if reply { (virtual_type, id) } else { (id, virtual_type) })
                }
            },
            QuotedTransport::Other => Some((0, 0)),
        }
    }

    /// Whether it is an answer to an ICMP query; `None` when it is neither.
    pub fn is_reply(&self, af: Af) -> Option<bool> {
        let QuotedTransport::Icmp { icmp_type, .. } = self.transport else { return None };
        match icmp::classify(af, icmp_type) {
            IcmpClass::Query { reply, .. } => Some(reply),
            IcmpClass::Error => None,
        }
    }

    fn parse_ipv4(data: &[u8], at: usize) -> Result<Self, Reason> {
        let header: &[u8; IPV4_HEADER] =
            data.get(at..).and_then(<[u8]>::first_chunk).ok_or(Reason::Short)?;
        let length = usize::from(header[0] & 0x0f) * 4;
        if header[0] >> 4 != 4 || length < IPV4_HEADER {
            return Err(Reason::Short);
        }
        if u16_at(header, 6) & 0x1fff != 0 {
            return Err(Reason::Fragment);
        }
        let quoted = Self {
            src: Addr::from_ipv4([header[12], header[13], header[14], header[15]]),
            dst: Addr::from_ipv4([header[16], header[17], header[18], header[19]]),
            proto: header[9],
            start: at,
            l4: at + length,
            transport: QuotedTransport::Other,
        };
        quoted.walk(data, Af::Inet)
    }

    fn parse_ipv6(data: &[u8], at: usize) -> Result<Self, Reason> {
        let header: &[u8; IPV6_HEADER] =
            data.get(at..).and_then(<[u8]>::first_chunk).ok_or(Reason::Short)?;
        if header[0] >> 4 != 6 {
            return Err(Reason::Short);
        }
        let addr = |at: usize| {
            Addr(
                u128::from(u32_at(header, at)) << 96
                    | u128::from(u32_at(header, at + 4)) << 64
                    | u128::from(u32_at(header, at + 8)) << 32
                    | u128::from(u32_at(header, at + 12)),
            )
        };
        let quoted = Self {
            src: addr(8),
            dst: addr(24),
            proto: header[6],
            start: at,
            l4: at + IPV6_HEADER,
            transport: QuotedTransport::Other,
        };
        quoted.walk(data, Af::Inet6)
    }

    /// Walks to the transport header.
    fn walk(mut self, data: &[u8], af: Af) -> Result<Self, Reason> {
        for _ in 0..EXTENSIONS_MAX {
            let unit = match (af, self.proto) {
                (_, 51) => 4,
                (Af::Inet6, 0 | 43 | 60) => 8,
                (Af::Inet6, 44) => 0,
                _ => return Ok(self),
            };
            let rest = data.get(self.l4..).unwrap_or_default();
            let [next, units, offset, flags] = *rest.first_chunk().ok_or(Reason::Short)?;
            if self.proto == 44 && (offset != 0 || flags & 0xf8 != 0) {
                return Err(Reason::Fragment);
            }
            self.l4 += 8 + unit * usize::from(units);
            self.proto = next;
        }
        Err(Reason::IpOption)
    }
}
