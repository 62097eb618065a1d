//! Text into a packet.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::BTreeMap;

use super::{End, FLAG_LETTERS, Field, Host, Kind, Number, Packet, TcpOption, Value, icmp_number};
use crate::text::{Cursor, Fault};

/// Fields that are followed by a number.
const NUMBERS: &[(&str, Field)] = &[
    ("ttl", Field::Ttl),
    ("tos", Field::Tos),
    ("ipid", Field::Id),
    ("off", Field::Off),
    ("flow", Field::Flow),
    ("seq", Field::Seq),
    ("ack", Field::Ack),
    ("win", Field::Win),
    ("urg", Field::Urg),
    ("type", Field::Type),
    ("code", Field::Code),
    ("id", Field::EchoId),
    ("mtu", Field::Mtu),
    ("quotelen", Field::QuoteLen),
    ("len", Field::Len),
    ("cut", Field::Cut),
];

/// Fields that stand alone.
const FLAGS: &[(&str, Field)] = &[
    ("df", Field::Df),
    ("more", Field::More),
    ("badsum", Field::BadSum),
    ("nosum", Field::NoSum),
    ("badipsum", Field::BadIpSum),
];

/// Fields with a syntax of their own.
const OTHERS: &[(&str, Field)] = &[
    ("ipopts", Field::IpOpts),
    ("ext", Field::Ext),
    ("opts", Field::Opts),
    ("quote", Field::Quote),
    ("data", Field::Data),
    ("frag", Field::Frag),
    ("patch", Field::Patch),
];

impl Field {
    /// The word in scenarios.
    #[must_use]
    pub fn word(self) -> &'static str {
        let all = [NUMBERS, FLAGS, OTHERS];
        let known = all.into_iter().flatten().find(|(_, field)| *field == self);
        known.map_or("flags", |(word, _)| word)
    }
}

/// Reads a packet that fills the text.
///
/// # Errors
/// The first mistake, with its place.
pub fn parse(text: &str) -> Result<Packet, Fault> {
    let mut cursor = Cursor::new(text);
    let packet = packet(&mut cursor)?;
    if cursor.is_done() { Ok(packet) } else { Err(cursor.fault("nothing may follow here")) }
}

/// Reads a packet up to the end of the line, a closing brace or `->`.
pub fn packet(cursor: &mut Cursor) -> Result<Packet, Fault> {
    let before = *cursor;
    let word = cursor.word("a packet: tcp, udp, icmp, icmp6, ip or raw")?;
    let kind = match word {
        "tcp" => Kind::Tcp,
        "udp" => Kind::Udp,
        "icmp" => Kind::Icmp,
        "icmp6" => Kind::Icmp6,
        "ip" => Kind::Ip(0),
        "raw" => {
            let octets = cursor.hex()?;
            let nowhere = End { host: Host::Addr(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port: None };
            let mut packet = Packet {
                kind: Kind::Raw(octets),
                src: nowhere.clone(),
                dst: nowhere,
                fields: BTreeMap::new(),
            };
            packet.read_fields(cursor)?;
            return Ok(packet);
        }
        _ => {
            return Err(
                before.fault(format!("`{word}` is no packet: tcp, udp, icmp, icmp6, ip or raw"))
            );
        }
    };
    let src = cursor.end()?;
    cursor.expect(">")?;
    let dst = cursor.end()?;
    let mut packet = Packet { kind, src, dst, fields: BTreeMap::new() };
    packet.read_head(cursor)?;
    packet.read_fields(cursor)?;
    packet.check(&before)?;
    Ok(packet)
}

impl Packet {
    /// What must follow the ends: flags, the ICMP type, the protocol number.
    fn read_head(&mut self, cursor: &mut Cursor) -> Result<(), Fault> {
        let before = *cursor;
        match self.kind {
            Kind::Tcp => {
                let word = cursor.word("TCP flags such as S, SA or none")?;
                let bits = flags(word).ok_or_else(|| {
                    before.fault(format!("`{word}` are no TCP flags: F S R P A U E W, or none"))
                })?;
                self.fields.insert(Field::Flags, Value::Flags(bits));
            }
            Kind::Icmp | Kind::Icmp6 => {
                let v6 = self.kind == Kind::Icmp6;
                if let Some(number) = icmp_number(cursor.peek(), v6) {
                    cursor.word("an ICMP type")?;
                    let number = Value::Number(Number::known(number.into()));
                    self.fields.insert(Field::Type, number);
                } else if cursor.peek() != "type" {
                    return Err(cursor.fault("expected an ICMP type: its name, or `type N`"));
                }
            }
            Kind::Ip(_) => {
                cursor.expect("proto")?;
                self.kind = Kind::Ip(cursor.plain()?);
            }
            Kind::Udp | Kind::Raw(_) => {}
        }
        Ok(())
    }

    fn read_fields(&mut self, cursor: &mut Cursor) -> Result<(), Fault> {
        loop {
            let rest = cursor.rest();
            if rest.is_empty() || rest.starts_with('}') || rest.starts_with("->") {
                return Ok(());
            }
            let before = *cursor;
            let word = cursor.word("a field of the packet")?;
            let find = |list: &[(&str, Field)]| {
                list.iter().find(|(known, _)| *known == word).map(|&(_, field)| field)
            };
            let (field, value) = if let Some(field) = find(NUMBERS) {
                (field, Value::Number(cursor.number()?))
            } else if let Some(field) = find(FLAGS) {
                (field, Value::Set)
            } else if let Some(field) = find(OTHERS) {
                (field, self.read_value(field, cursor)?)
            } else {
                return Err(before.fault(format!("`{word}` is no field of a packet")));
            };
            if field != Field::Patch && self.fields.contains_key(&field) {
                return Err(before.fault(format!("`{word}` is given twice")));
            }
            self.fields.insert(field, value);
        }
    }

    fn read_value(&self, field: Field, cursor: &mut Cursor) -> Result<Value, Fault> {
        Ok(match field {
            Field::Data if cursor.rest().starts_with('"') => {
                Value::Octets(cursor.quoted()?.as_bytes().to_vec())
            }
            Field::IpOpts | Field::Data => Value::Octets(cursor.hex()?),
            Field::Ext => {
                let mut names = Vec::new();
                list(cursor, |cursor| {
                    names.push(cursor.word("an extension header")?.to_owned());
                    Ok(())
                })?;
                Value::Headers(names)
            }
            Field::Opts => {
                let mut options = Vec::new();
                list(cursor, |cursor| {
                    options.push(tcp_option(cursor)?);
                    Ok(())
                })?;
                Value::Options(options)
            }
            Field::Quote => {
                cursor.expect("{")?;
                let inner = packet(cursor)?;
                cursor.expect("}")?;
                Value::Packet(Box::new(inner))
            }
            Field::Frag => {
                let start = cursor.plain()?;
                cursor.expect("..")?;
                Value::Span(start, cursor.plain()?)
            }
            _ => {
                let at = cursor.plain()?;
                cursor.expect(":")?;
                let mut patches = match self.fields.get(&Field::Patch) {
                    Some(Value::Patches(patches)) => patches.clone(),
                    _ => Vec::new(),
                };
                patches.push((at, cursor.hex()?));
                Value::Patches(patches)
            }
        })
    }

    /// Fields that do not go with the protocol.
    fn check(&self, start: &Cursor) -> Result<(), Fault> {
        let has_ports = matches!(self.kind, Kind::Tcp | Kind::Udp);
        let whole = !self.has(Field::Off);
        for end in [&self.src, &self.dst] {
            if has_ports && whole && end.port.is_none() {
                return Err(start.fault("both ends need a port, such as 192.0.2.1:80"));
            }
            if !has_ports && end.port.is_some() {
                return Err(start.fault("only tcp and udp have ports"));
            }
        }
        let tcp = [Field::Ack, Field::Win, Field::Urg, Field::Opts];
        let icmp = [Field::Type, Field::Code, Field::EchoId, Field::Mtu, Field::Quote];
        let is_icmp = matches!(self.kind, Kind::Icmp | Kind::Icmp6);
        for field in self.fields.keys() {
            if tcp.contains(field) && self.kind != Kind::Tcp
                || icmp.contains(field) && !is_icmp
                || *field == Field::NoSum && self.kind != Kind::Udp
                || *field == Field::Seq && !is_icmp && self.kind != Kind::Tcp
            {
                let (field, kind) = (field.word(), self.kind.word());
                return Err(start.fault(format!("`{field}` does not go with {kind}")));
            }
        }
        Ok(())
    }
}

fn list(
    cursor: &mut Cursor,
    mut item: impl FnMut(&mut Cursor) -> Result<(), Fault>,
) -> Result<(), Fault> {
    cursor.expect("[")?;
    while !cursor.accept("]") {
        item(cursor)?;
        if !cursor.accept(",") && !cursor.rest().starts_with(']') {
            return Err(cursor.fault("expected `,` or `]`"));
        }
    }
    Ok(())
}

fn flags(word: &str) -> Option<u8> {
    if word == "none" {
        return Some(0);
    }
    word.chars().try_fold(0, |bits, letter| {
        let at = FLAG_LETTERS.iter().position(|&known| known == letter)?;
        Some(bits | 1 << at)
    })
}

fn tcp_option(cursor: &mut Cursor) -> Result<TcpOption, Fault> {
    let before = *cursor;
    Ok(match cursor.word("a TCP option")? {
        "nop" => TcpOption::Nop,
        "eol" => TcpOption::End,
        "mss" => TcpOption::Mss(cursor.number()?),
        "wscale" => TcpOption::WindowScale(cursor.number()?),
        "sackok" => TcpOption::SackPermitted,
        "ts" => {
            let value = cursor.number()?;
            cursor.expect(":")?;
            TcpOption::Timestamp(value, cursor.number()?)
        }
        "sack" => {
            let mut blocks = Vec::new();
            while !cursor.rest().starts_with([',', ']']) {
                let start = cursor.number()?;
                cursor.expect(":")?;
                blocks.push((start, cursor.number()?));
            }
            TcpOption::Sack(blocks)
        }
        "opt" => {
            let kind = cursor.plain()?;
            cursor.expect(":")?;
            let body =
                if cursor.rest().starts_with([',', ']']) { Vec::new() } else { cursor.hex()? };
            TcpOption::Other(kind, body)
        }
        word => {
            return Err(before.fault(format!(
                "`{word}` is no TCP option: mss, wscale, sackok, ts, sack, nop, eol or opt"
            )));
        }
    })
}
