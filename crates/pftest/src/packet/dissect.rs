//! Octets into words.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;

use pfapi::ruleset::proto;

use super::{End, Field, Host, Kind, Number, Packet, TcpOption, Value};

/// Next headers of IPv6 that are extension headers.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// Where the parts of a packet lie.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// 4 or 6.
    pub version: u8,
    /// Octets of the IP header, options included, extension headers not.
    pub network_len: usize,
    /// Where the transport header starts.
    pub transport: usize,
    /// Where the packet ends by its own length, at most where the octets do.
    pub end: usize,
    /// Octets of the packet by its own length.
    pub claimed: usize,
    /// Protocol behind all extension headers.
    pub proto: u8,
    /// Offset, more, identification of a fragment.
    pub fragment: Option<(u32, bool, u32)>,
    /// Names of the extension headers.
    pub extensions: Vec<String>,
}

fn be16(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

fn be32(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(octets.get(at..at + 4)?.try_into().ok()?))
}

impl Layout {
    /// The layout of octets that begin with a whole IP header.
    pub fn of(octets: &[u8]) -> Option<Self> {
        match octets.first()? >> 4 {
            4 => Self::v4(octets),
            6 => Self::v6(octets),
            _ => None,
        }
    }

    fn v4(octets: &[u8]) -> Option<Self> {
        let header = usize::from(octets[0] & 0x0f) * 4;
        let total = usize::from(be16(octets, 2)?);
        if header < 20 || octets.len() < header {
            return None;
        }
        let word = be16(octets, 6)?;
        let (offset, more) = (u32::from(word & 0x1fff) * 8, word & 0x2000 != 0);
        let id = u32::from(be16(octets, 4)?);
        Some(Self {
            version: 4,
            network_len: header,
            transport: header,
            end: total.clamp(header, octets.len()),
            claimed: total,
            proto: octets[9],
            fragment: (offset > 0 || more).then_some((offset, more, id)),
            extensions: Vec::new(),
        })
    }

    fn v6(octets: &[u8]) -> Option<Self> {
        if octets.len() < 40 {
            return None;
        }
        let claimed = 40 + usize::from(be16(octets, 4)?);
        let end = claimed.min(octets.len());
        let mut layout = Self {
            version: 6,
            network_len: 40,
            transport: 40,
            end,
            claimed,
            proto: octets[6],
            fragment: None,
            extensions: Vec::new(),
        };
        loop {
            let at = layout.transport;
            let (name, len) = match layout.proto {
                HOP_BY_HOP => ("hop", 8 * (usize::from(*octets.get(at + 1)?) + 1)),
                ROUTING => ("routing", 8 * (usize::from(*octets.get(at + 1)?) + 1)),
                DESTINATION => ("dst", 8 * (usize::from(*octets.get(at + 1)?) + 1)),
                AUTHENTICATION => ("ah", 4 * (usize::from(*octets.get(at + 1)?) + 2)),
                FRAGMENT => {
                    let word = be16(octets, at + 2)?;
                    let place = (u32::from(word & 0xfff8), word & 1 != 0, be32(octets, at + 4)?);
                    layout.fragment = Some(place);
                    layout.proto = octets[at];
                    layout.transport = at + 8;
                    if place.0 > 0 {
                        return Some(layout);
                    }
                    continue;
                }
                _ => return Some(layout),
            };
            if at + len > end {
                return None;
            }
            layout.extensions.push(name.to_owned());
            layout.proto = octets[at];
            layout.transport = at + len;
        }
    }

    /// Source and destination address as they stand in the header.
    pub fn addresses<'a>(&self, octets: &'a [u8]) -> &'a [u8] {
        if self.version == 4 { &octets[12..20] } else { &octets[8..40] }
    }
}

/// Octets into words; everything that cannot be told apart becomes [`Kind::Raw`].
///
/// A transport header that is cut short, as in an ICMP error, gives the fields that are there.
#[must_use]
pub fn dissect(octets: &[u8]) -> Packet {
    whole(octets).unwrap_or_else(|| {
        let nowhere = End { host: Host::Addr(Ipv4Addr::UNSPECIFIED.into()), port: None };
        Packet {
            kind: Kind::Raw(octets.to_vec()),
            src: nowhere.clone(),
            dst: nowhere,
            fields: BTreeMap::new(),
        }
    })
}

fn whole(octets: &[u8]) -> Option<Packet> {
    let layout = Layout::of(octets)?;
    let mut fields = BTreeMap::new();
    let mut put = |field: Field, value: i64| {
        fields.insert(field, Value::Number(Number::known(value)));
    };
    let (src, dst): (IpAddr, IpAddr) = if layout.version == 4 {
        put(Field::Ttl, octets[8].into());
        put(Field::Tos, octets[1].into());
        put(Field::Id, be16(octets, 4)?.into());
        let addr = |at: usize| Some(Ipv4Addr::from_bits(be32(octets, at)?));
        (addr(12)?.into(), addr(16)?.into())
    } else {
        put(Field::Ttl, octets[7].into());
        put(Field::Tos, (be16(octets, 0)? >> 4 & 0xff).into());
        put(Field::Flow, (be32(octets, 0)? & 0xf_ffff).into());
        if let Some((_, _, id)) = layout.fragment {
            put(Field::Id, id.into());
        }
        let addr = |at: usize| {
            let octets: [u8; 16] = octets.get(at..at + 16)?.try_into().ok()?;
            Some(Ipv6Addr::from(octets))
        };
        (addr(8)?.into(), addr(24)?.into())
    };
    if let Some((offset, _, _)) = layout.fragment {
        put(Field::Off, offset.into());
    }
    if layout.version == 4 && octets[6] & 0x40 != 0 {
        fields.insert(Field::Df, Value::Set);
    }
    if layout.fragment.is_some_and(|(_, more, _)| more) {
        fields.insert(Field::More, Value::Set);
    }
    if layout.network_len > 20 && layout.version == 4 {
        let options = octets[20..layout.network_len].to_vec();
        fields.insert(Field::IpOpts, Value::Octets(options));
    }
    if !layout.extensions.is_empty() {
        fields.insert(Field::Ext, Value::Headers(layout.extensions.clone()));
    }
    let mut packet = Packet {
        kind: Kind::Ip(layout.proto),
        src: End { host: Host::Addr(src), port: None },
        dst: End { host: Host::Addr(dst), port: None },
        fields,
    };
    packet.carry(&octets[layout.transport..layout.end], &layout);
    Some(packet)
}

impl Packet {
    fn put(&mut self, field: Field, value: Option<impl Into<i64>>) {
        if let Some(value) = value {
            self.fields.insert(field, Value::Number(Number::known(value.into())));
        }
    }

    fn carry(&mut self, segment: &[u8], layout: &Layout) {
        // A fragment that is whole is a packet (RFC 6946).
        let whole = layout.fragment.is_none_or(|(offset, more, _)| offset == 0 && !more);
        let payload = match layout.proto {
            proto::TCP if whole => self.tcp(segment),
            proto::UDP if whole => {
                self.kind = Kind::Udp;
                self.ports(segment);
                8
            }
            proto::ICMP if whole && layout.version == 4 => self.icmp(segment, false),
            proto::ICMPV6 if whole && layout.version == 6 => self.icmp(segment, true),
            _ => 0,
        };
        // What an ICMP error quotes is its payload.
        if self.has(Field::Quote) {
            return;
        }
        let data = segment.get(payload..).unwrap_or_default();
        self.put(Field::Len, i64::try_from(data.len()).ok());
        self.fields.insert(Field::Data, Value::Octets(data.to_vec()));
    }

    fn ports(&mut self, segment: &[u8]) {
        let port = |at| be16(segment, at).map(|port| Number::known(port.into()));
        self.src.port = port(0);
        self.dst.port = port(2);
    }

    fn tcp(&mut self, segment: &[u8]) -> usize {
        self.kind = Kind::Tcp;
        self.ports(segment);
        self.put(Field::Seq, be32(segment, 4));
        self.put(Field::Ack, be32(segment, 8));
        self.put(Field::Win, be16(segment, 14));
        self.put(Field::Urg, be16(segment, 18).filter(|&urgent| urgent != 0));
        if let Some(&flags) = segment.get(13) {
            self.fields.insert(Field::Flags, Value::Flags(flags));
        }
        let header = segment.get(12).map_or(20, |octet| usize::from(octet >> 4) * 4).max(20);
        if let Some(options) = segment.get(20..header) {
            self.fields.insert(Field::Opts, Value::Options(tcp_options(options)));
        }
        header
    }

    fn icmp(&mut self, segment: &[u8], v6: bool) -> usize {
        self.kind = if v6 { Kind::Icmp6 } else { Kind::Icmp };
        self.put(Field::Type, segment.first().copied());
        self.put(Field::Code, segment.get(1).copied());
        let Some(&icmp_type) = segment.first() else { return 8 };
        let is_error = if v6 { icmp_type < 128 } else { matches!(icmp_type, 3 | 4 | 5 | 11 | 12) };
        if is_error {
            let mtu = if v6 { be32(segment, 4) } else { be16(segment, 6).map(u32::from) };
            self.put(Field::Mtu, mtu.filter(|&mtu| mtu != 0));
            if let Some(inner) = segment.get(8..).and_then(whole) {
                self.fields.insert(Field::Quote, Value::Packet(Box::new(inner)));
            }
        } else {
            self.put(Field::EchoId, be16(segment, 4));
            self.put(Field::Seq, be16(segment, 6));
        }
        8
    }
}

fn tcp_options(mut octets: &[u8]) -> Vec<TcpOption> {
    let mut options = Vec::new();
    while let Some((&kind, rest)) = octets.split_first() {
        let (option, len) = match kind {
            0 => (TcpOption::End, 1),
            1 => (TcpOption::Nop, 1),
            _ => {
                let len = rest.first().map_or(0, |&len| usize::from(len));
                let Some(body) = octets.get(2..len) else {
                    options.push(TcpOption::Other(kind, rest.to_vec()));
                    return options;
                };
                (tcp_option(kind, body), len)
            }
        };
        options.push(option);
        octets = &octets[len.max(1)..];
    }
    options
}

fn tcp_option(kind: u8, body: &[u8]) -> TcpOption {
    let word = |at| be32(body, at).map(|word| Number::known(word.into()));
    let known = match (kind, body.len()) {
        (2, 2) => be16(body, 0).map(|mss| TcpOption::Mss(Number::known(mss.into()))),
        (3, 1) => Some(TcpOption::WindowScale(Number::known(body[0].into()))),
        (4, 0) => Some(TcpOption::SackPermitted),
        (5, len) if len % 8 == 0 => (0..len / 8)
            .map(|block| Some((word(block * 8)?, word(block * 8 + 4)?)))
            .collect::<Option<_>>()
            .map(TcpOption::Sack),
        (8, 8) => word(0).zip(word(4)).map(|(value, echo)| TcpOption::Timestamp(value, echo)),
        _ => None,
    };
    known.unwrap_or_else(|| TcpOption::Other(kind, body.to_vec()))
}
