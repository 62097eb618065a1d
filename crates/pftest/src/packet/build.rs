//! Words into octets.

use core::net::IpAddr;

use pfapi::ruleset::proto;

use super::{Field, Kind, Number, Packet, TcpOption, Value, Variables, sum};

/// Usual values of fields that are not given.
const TTL: i64 = 64;
const WINDOW: i64 = 65_535;
const ID: i64 = 0x1234;

/// Why a packet cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A variable is used before a packet gave it a value.
    #[error("`${0}` has no value yet")]
    Unknown(String),
    /// The two ends are of different families, or not of the protocol's.
    #[error("the addresses are not of one family, or not of that of the protocol")]
    Family,
    /// A number does not fit its field.
    #[error("{value} does not fit a field of {bits} bits")]
    TooBig {
        /// The number.
        value: i64,
        /// Bits of the field.
        bits: u32,
    },
    /// An IPv6 extension header that this program does not know.
    #[error("`{0}` is no extension header: hop, hop-ra, dst, routing, ah")]
    Header(String),
    /// Longer than an IP packet can be, or options longer than a header can hold.
    #[error("the packet or its options are too long")]
    TooLong,
    /// Octets outside of the packet.
    #[error("octets {0} to {1} lie outside of the packet")]
    Outside(usize, usize),
}

struct Builder<'a> {
    packet: &'a Packet,
    variables: &'a Variables,
}

impl Packet {
    /// The octets of the packet, with right checksums unless it asks for wrong ones.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(&self, variables: &Variables) -> Result<Vec<u8>, BuildError> {
        let builder = Builder { packet: self, variables };
        let mut octets = match &self.kind {
            Kind::Raw(octets) => octets.clone(),
            _ => builder.whole()?,
        };
        builder.patch(&mut octets)?;
        Ok(octets)
    }
}

fn outside(at: usize, end: usize) -> BuildError {
    BuildError::Outside(at, end)
}

impl Builder<'_> {
    fn value(&self, number: &Number) -> Result<i64, BuildError> {
        self.variables
            .number(number)
            .ok_or_else(|| BuildError::Unknown(number.variable.clone().unwrap_or_default()))
    }

    fn field(&self, field: Field, default: i64) -> Result<i64, BuildError> {
        match self.packet.fields.get(&field) {
            Some(Value::Number(number)) => self.value(number),
            _ => Ok(default),
        }
    }

    fn octet(&self, field: Field, default: i64) -> Result<u8, BuildError> {
        let value = self.field(field, default)?;
        u8::try_from(value).map_err(|_| BuildError::TooBig { value, bits: 8 })
    }

    fn half(&self, field: Field, default: i64) -> Result<u16, BuildError> {
        half(self.field(field, default)?)
    }

    /// Sequence numbers wrap around.
    fn word(&self, field: Field, default: i64) -> Result<u32, BuildError> {
        Ok(wrap(self.field(field, default)?))
    }

    fn addr(&self, host: &super::Host) -> Result<IpAddr, BuildError> {
        self.variables.host(host).ok_or_else(|| match host {
            super::Host::Variable(name) => BuildError::Unknown(name.clone()),
            super::Host::Addr(_) => BuildError::Family,
        })
    }

    fn whole(&self) -> Result<Vec<u8>, BuildError> {
        let (src, dst) = (self.addr(&self.packet.src.host)?, self.addr(&self.packet.dst.host)?);
        let addresses: Vec<u8> = match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => [src.octets(), dst.octets()].concat(),
            (IpAddr::V6(src), IpAddr::V6(dst)) => [src.octets(), dst.octets()].concat(),
            _ => return Err(BuildError::Family),
        };
        let v6 = src.is_ipv6();
        let (number, mut segment) = self.segment(v6)?;
        if let Some(at) = sum::offset(number)
            && !matches!(self.packet.kind, Kind::Ip(_))
            && segment.len() >= at + 2
        {
            let mut sum = sum::transport(&addresses, number, &segment);
            // A UDP checksum of zero would say that there is none (RFC 768).
            if number == proto::UDP && sum == 0 {
                sum = 0xffff;
            }
            if self.packet.has(Field::BadSum) {
                sum ^= 0x5555;
            }
            if self.packet.has(Field::NoSum) {
                sum = 0;
            }
            segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        let mut fragment = None;
        if let Some(&Value::Span(start, end)) = self.packet.fields.get(&Field::Frag) {
            let (start, end) = (start as usize, end as usize);
            segment = segment.get(start..end).ok_or(outside(start, end))?.to_vec();
            fragment = Some(start);
        }
        if let Some(Value::Number(offset)) = self.packet.fields.get(&Field::Off) {
            let offset = self.value(offset)?;
            fragment = usize::try_from(offset).ok();
        }
        if v6 {
            self.ipv6(&addresses, number, &segment, fragment)
        } else {
            self.ipv4(&addresses, number, &segment, fragment)
        }
    }

    fn ipv4(
        &self,
        addresses: &[u8],
        number: u8,
        segment: &[u8],
        fragment: Option<usize>,
    ) -> Result<Vec<u8>, BuildError> {
        let options = match self.packet.fields.get(&Field::IpOpts) {
            Some(Value::Octets(octets)) => octets.as_slice(),
            _ => &[],
        };
        let header = 20 + options.len().next_multiple_of(4);
        let words = u8::try_from(header / 4).ok().filter(|&words| words < 16);
        let total = u16::try_from(header + segment.len()).map_err(|_| BuildError::TooLong)?;
        let mut octets = vec![0x40 | words.ok_or(BuildError::TooLong)?];
        octets.push(self.octet(Field::Tos, 0)?);
        octets.extend(total.to_be_bytes());
        octets.extend(self.half(Field::Id, ID)?.to_be_bytes());
        let offset = fragment.unwrap_or(0) / 8;
        let mut word = u16::try_from(offset).map_err(|_| BuildError::TooLong)?;
        word |= u16::from(self.packet.has(Field::Df)) << 14;
        word |= u16::from(self.packet.has(Field::More)) << 13;
        octets.extend(word.to_be_bytes());
        octets.extend([self.octet(Field::Ttl, TTL)?, number, 0, 0]);
        octets.extend(addresses);
        octets.extend(options);
        octets.resize(header, 0);
        let mut sum = sum::internet(&[&octets]);
        if self.packet.has(Field::BadIpSum) {
            sum ^= 0x5555;
        }
        octets[10..12].copy_from_slice(&sum.to_be_bytes());
        octets.extend(segment);
        Ok(octets)
    }

    fn ipv6(
        &self,
        addresses: &[u8],
        number: u8,
        segment: &[u8],
        fragment: Option<usize>,
    ) -> Result<Vec<u8>, BuildError> {
        let mut headers: Vec<(u8, Vec<u8>)> = Vec::new();
        if let Some(Value::Headers(names)) = self.packet.fields.get(&Field::Ext) {
            for name in names {
                headers.push(extension(name)?);
            }
        }
        if let Some(offset) = fragment {
            let offset = u16::try_from(offset).map_err(|_| BuildError::TooLong)?;
            let word = offset & 0xfff8 | u16::from(self.packet.has(Field::More));
            let mut header = vec![0, 0];
            header.extend(word.to_be_bytes());
            header.extend(self.word(Field::Id, ID)?.to_be_bytes());
            headers.push((44, header));
        }
        let mut chain = Vec::new();
        for at in 0..headers.len() {
            let next = headers.get(at + 1).map_or(number, |(number, _)| *number);
            let header = &mut headers[at].1;
            header[0] = next;
            chain.extend_from_slice(header);
        }
        let first = headers.first().map_or(number, |(number, _)| *number);
        let len = u16::try_from(chain.len() + segment.len()).map_err(|_| BuildError::TooLong)?;
        let flow = self.word(Field::Flow, 0)?;
        let word = 6 << 28 | u32::from(self.octet(Field::Tos, 0)?) << 20 | flow & 0xf_ffff;
        let mut octets = word.to_be_bytes().to_vec();
        octets.extend(len.to_be_bytes());
        octets.extend([first, self.octet(Field::Ttl, TTL)?]);
        octets.extend(addresses);
        octets.extend(chain);
        octets.extend(segment);
        Ok(octets)
    }

    /// Protocol number, transport header and payload, without a checksum.
    fn segment(&self, v6: bool) -> Result<(u8, Vec<u8>), BuildError> {
        let mut segment = Vec::new();
        let number = match self.packet.kind {
            Kind::Tcp => {
                self.tcp(&mut segment)?;
                proto::TCP
            }
            Kind::Udp => {
                segment.extend(self.ports()?);
                let len = u16::try_from(8 + self.payload().len());
                segment.extend(len.map_err(|_| BuildError::TooLong)?.to_be_bytes());
                segment.extend([0, 0]);
                proto::UDP
            }
            Kind::Icmp | Kind::Icmp6 => {
                if v6 != (self.packet.kind == Kind::Icmp6) {
                    return Err(BuildError::Family);
                }
                self.icmp(v6, &mut segment)?;
                if v6 { proto::ICMPV6 } else { proto::ICMP }
            }
            Kind::Ip(number) => number,
            Kind::Raw(_) => 0,
        };
        if let Some(Value::Packet(inner)) = self.packet.fields.get(&Field::Quote) {
            let mut quoted = inner.build(self.variables)?;
            if let Some(len) = self.packet.number(Field::QuoteLen, self.variables) {
                quoted.truncate(usize::try_from(len).unwrap_or(usize::MAX));
            }
            segment.extend(quoted);
        }
        segment.extend(self.payload());
        Ok((number, segment))
    }

    fn payload(&self) -> Vec<u8> {
        if let Some(Value::Octets(data)) = self.packet.fields.get(&Field::Data) {
            return data.clone();
        }
        let len = self.packet.number(Field::Len, self.variables).unwrap_or(0);
        pattern(usize::try_from(len).unwrap_or(0))
    }

    fn ports(&self) -> Result<[u8; 4], BuildError> {
        let mut ports = [0; 4];
        for (at, end) in [(0, &self.packet.src), (2, &self.packet.dst)] {
            let port = match &end.port {
                Some(port) => half(self.value(port)?)?,
                None => 0,
            };
            ports[at..at + 2].copy_from_slice(&port.to_be_bytes());
        }
        Ok(ports)
    }

    fn tcp(&self, segment: &mut Vec<u8>) -> Result<(), BuildError> {
        let mut options = Vec::new();
        if let Some(Value::Options(list)) = self.packet.fields.get(&Field::Opts) {
            for option in list {
                self.tcp_option(option, &mut options)?;
            }
        }
        options.resize(options.len().next_multiple_of(4), 0);
        let words = u8::try_from((20 + options.len()) / 4).ok().filter(|&words| words < 16);
        let flags = match self.packet.fields.get(&Field::Flags) {
            Some(&Value::Flags(flags)) => flags,
            _ => 0,
        };
        segment.extend(self.ports()?);
        segment.extend(self.word(Field::Seq, 0)?.to_be_bytes());
        segment.extend(self.word(Field::Ack, 0)?.to_be_bytes());
        segment.extend([words.ok_or(BuildError::TooLong)? << 4, flags]);
        segment.extend(self.half(Field::Win, WINDOW)?.to_be_bytes());
        segment.extend([0, 0]);
        segment.extend(self.half(Field::Urg, 0)?.to_be_bytes());
        segment.extend(options);
        Ok(())
    }

    fn tcp_option(&self, option: &TcpOption, out: &mut Vec<u8>) -> Result<(), BuildError> {
        match option {
            TcpOption::End => out.push(0),
            TcpOption::Nop => out.push(1),
            TcpOption::Mss(mss) => {
                out.extend([2, 4]);
                out.extend(half(self.value(mss)?)?.to_be_bytes());
            }
            TcpOption::WindowScale(shift) => {
                let value = self.value(shift)?;
                let shift =
                    u8::try_from(value).map_err(|_| BuildError::TooBig { value, bits: 8 })?;
                out.extend([3, 3, shift]);
            }
            TcpOption::SackPermitted => out.extend([4, 2]),
            TcpOption::Timestamp(value, echo) => {
                out.extend([8, 10]);
                out.extend(wrap(self.value(value)?).to_be_bytes());
                out.extend(wrap(self.value(echo)?).to_be_bytes());
            }
            TcpOption::Sack(blocks) => {
                let len = u8::try_from(2 + 8 * blocks.len()).map_err(|_| BuildError::TooLong)?;
                out.extend([5, len]);
                for (start, end) in blocks {
                    out.extend(wrap(self.value(start)?).to_be_bytes());
                    out.extend(wrap(self.value(end)?).to_be_bytes());
                }
            }
            TcpOption::Other(kind, body) => {
                let len = u8::try_from(2 + body.len()).map_err(|_| BuildError::TooLong)?;
                out.extend([*kind, len]);
                out.extend(body);
            }
        }
        Ok(())
    }

    fn icmp(&self, v6: bool, segment: &mut Vec<u8>) -> Result<(), BuildError> {
        segment.extend([self.octet(Field::Type, 0)?, self.octet(Field::Code, 0)?, 0, 0]);
        if self.packet.has(Field::Mtu) {
            let mtu = self.field(Field::Mtu, 0)?;
            // ICMP has 16 bits for it, behind 16 unused ones (RFC 1191).
            let mtu = if v6 { wrap(mtu) } else { half(mtu)?.into() };
            segment.extend(mtu.to_be_bytes());
        } else {
            segment.extend(self.half(Field::EchoId, 0)?.to_be_bytes());
            segment.extend(self.half(Field::Seq, 0)?.to_be_bytes());
        }
        Ok(())
    }

    /// Changes to the finished packet.
    fn patch(&self, octets: &mut Vec<u8>) -> Result<(), BuildError> {
        if let Some(Value::Patches(patches)) = self.packet.fields.get(&Field::Patch) {
            for (at, new) in patches {
                let (at, end) = (*at as usize, *at as usize + new.len());
                octets.get_mut(at..end).ok_or(outside(at, end))?.copy_from_slice(new);
            }
        }
        if self.packet.has(Field::Cut) {
            let len = self.field(Field::Cut, 0)?;
            octets.truncate(usize::try_from(len).unwrap_or(0));
        }
        Ok(())
    }
}

/// Payload of a length: octets that count, so that lost and swapped parts show.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap_or(0)).collect()
}

fn half(value: i64) -> Result<u16, BuildError> {
    u16::try_from(value).map_err(|_| BuildError::TooBig { value, bits: 16 })
}

/// The number on the circle of 2^32.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "modulo 2^32")]
const fn wrap(value: i64) -> u32 {
    value as u32
}

/// An extension header by its name: number and octets; the first octet is filled in later.
fn extension(name: &str) -> Result<(u8, Vec<u8>), BuildError> {
    Ok(match name {
        // PadN of 4.
        "hop" => (0, vec![0, 0, 1, 4, 0, 0, 0, 0]),
        // Router alert (RFC 2711).
        "hop-ra" => (0, vec![0, 0, 5, 2, 0, 0, 1, 0]),
        "dst" => (60, vec![0, 0, 1, 4, 0, 0, 0, 0]),
        // Type 0, no segments left, no addresses.
        "routing" => (43, vec![0, 0, 0, 0, 0, 0, 0, 0]),
        "ah" => {
            (51, vec![0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
        }
        _ => return Err(BuildError::Header(name.to_owned())),
    })
}
