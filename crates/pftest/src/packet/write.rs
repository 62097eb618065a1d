//! Packets as text, in the form in which they are read.

use core::fmt;

use super::compare::hex;
use super::{End, FLAG_LETTERS, Field, Host, Kind, Number, Packet, TcpOption, Value, icmp_name};

/// Payloads up to this many octets are shown whole.
const SHOWN_MAX: usize = 64;

impl Kind {
    /// The word in scenarios.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Icmp6 => "icmp6",
            Self::Ip(_) => "ip",
            Self::Raw(_) => "raw",
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.variable {
            None => write!(f, "{}", self.offset),
            Some(name) if self.offset == 0 => write!(f, "${name}"),
            Some(name) => write!(f, "${name}{:+}", self.offset),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, &self.port) {
            (Host::Variable(name), _) => write!(f, "${name}")?,
            (Host::Addr(addr), Some(_)) if addr.is_ipv6() => write!(f, "[{addr}]")?,
            (Host::Addr(addr), _) => write!(f, "{addr}")?,
        }
        match &self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

fn join<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    write: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    f.write_str("[")?;
    for (at, item) in items.iter().enumerate() {
        f.write_str(if at > 0 { ", " } else { "" })?;
        write(f, item)?;
    }
    f.write_str("]")
}

impl fmt::Display for TcpOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nop => f.write_str("nop"),
            Self::End => f.write_str("eol"),
            Self::Mss(mss) => write!(f, "mss {mss}"),
            Self::WindowScale(shift) => write!(f, "wscale {shift}"),
            Self::SackPermitted => f.write_str("sackok"),
            Self::Timestamp(value, echo) => write!(f, "ts {value}:{echo}"),
            Self::Sack(blocks) => {
                f.write_str("sack")?;
                blocks.iter().try_for_each(|(start, end)| write!(f, " {start}:{end}"))
            }
            Self::Other(kind, body) => write!(f, "opt {kind}:{}", hex(body)),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Set => f.write_str("set"),
            Self::Octets(octets) => write!(f, "0x{}", hex(octets)),
            Self::Options(options) => join(f, options, |f, option| option.fmt(f)),
            Self::Flags(0) => f.write_str("none"),
            Self::Flags(bits) => FLAG_LETTERS
                .iter()
                .enumerate()
                .filter(|(at, _)| bits & 1 << at != 0)
                .try_for_each(|(_, letter)| write!(f, "{letter}")),
            Self::Headers(names) => join(f, names, |f, name| f.write_str(name)),
            Self::Packet(packet) => write!(f, "{{ {packet} }}"),
            Self::Span(start, end) => write!(f, "{start}..{end}"),
            Self::Patches(patches) => {
                let mut parts = patches.iter();
                parts.try_for_each(|(at, octets)| write!(f, "{at}:{}", hex(octets)))
            }
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Kind::Raw(octets) = &self.kind {
            return write!(f, "raw {}", hex(octets));
        }
        write!(f, "{} {} > {}", self.kind.word(), self.src, self.dst)?;
        match (&self.kind, self.fields.get(&Field::Type)) {
            (Kind::Tcp, _) => {
                let flags = self.fields.get(&Field::Flags).cloned().unwrap_or(Value::Flags(0));
                write!(f, " {flags}")?;
            }
            (Kind::Ip(number), _) => write!(f, " proto {number}")?,
            (kind @ (Kind::Icmp | Kind::Icmp6), Some(Value::Number(number))) => {
                let value = u8::try_from(number.offset).ok().filter(|_| number.variable.is_none());
                match value.and_then(|value| icmp_name(value, *kind == Kind::Icmp6)) {
                    Some(name) => write!(f, " {name}")?,
                    None => write!(f, " type {number}")?,
                }
            }
            _ => {}
        }
        for (field, value) in &self.fields {
            match (field, value) {
                (Field::Flags | Field::Type, _) => {}
                (Field::Data, Value::Octets(octets)) if octets.is_empty() => {}
                (Field::Data, Value::Octets(octets)) if octets.len() > SHOWN_MAX => {}
                (Field::Opts, Value::Options(options)) if options.is_empty() => {}
                (_, Value::Set) => write!(f, " {}", field.word())?,
                _ => write!(f, " {} {value}", field.word())?,
            }
        }
        Ok(())
    }
}
