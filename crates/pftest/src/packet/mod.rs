//! Packets in words: what a scenario sends and what it expects.
//!
//! A packet is a kind, two ends and a set of fields. To build octets, missing fields get usual
//! values; to compare, only the fields that are given count. [`dissect`] gives all of them.

mod build;
mod compare;
mod dissect;
mod names;
mod read;
mod sum;
mod write;

use core::net::IpAddr;
use std::collections::BTreeMap;

pub use build::BuildError;
pub use compare::Difference;
pub use dissect::dissect;
pub use names::{icmp_name, icmp_number};
pub(crate) use read::packet;
pub use read::parse;
pub use sum::checksums_are_right;

/// What a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP for IPv4.
    Icmp,
    /// ICMPv6.
    Icmp6,
    /// Any other protocol, by its number; fragments too.
    Ip(u8),
    /// Octets as they are.
    Raw(Vec<u8>),
}

/// A number that may depend on what a scenario has seen: `$name`, `$name+1`, `7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// The variable, without `$`.
    pub variable: Option<String>,
    /// What is added to it, or the number itself.
    pub offset: i64,
}

impl Number {
    /// A number that is known.
    #[must_use]
    pub const fn known(value: i64) -> Self {
        Self { variable: None, offset: value }
    }
}

/// An address that may be a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Addr(IpAddr),
    /// `$name`.
    Variable(String),
}

/// One end of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Address.
    pub host: Host,
    /// Port; `None` where the protocol has none.
    pub port: Option<Number>,
}

/// A field of a header, or a change to the finished packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// Time to live, hop limit.
    Ttl,
    /// Type of service, traffic class.
    Tos,
    /// IPv4 identification, or that of an IPv6 fragment header.
    Id,
    /// `df`: must not be fragmented.
    Df,
    /// `more`: more fragments follow.
    More,
    /// Offset of a fragment in octets.
    Off,
    /// IPv6 flow label.
    Flow,
    /// IPv4 options, in hex.
    IpOpts,
    /// IPv6 extension headers, by name.
    Ext,
    /// TCP flags.
    Flags,
    /// TCP sequence number, or that of an echo.
    Seq,
    /// TCP acknowledgement number.
    Ack,
    /// TCP window as written in the header.
    Win,
    /// TCP urgent pointer.
    Urg,
    /// TCP options.
    Opts,
    /// ICMP type.
    Type,
    /// ICMP code.
    Code,
    /// Identification of an ICMP query.
    EchoId,
    /// MTU that an ICMP error tells.
    Mtu,
    /// The packet that an ICMP error quotes.
    Quote,
    /// Only so many octets of the quoted packet are there.
    QuoteLen,
    /// Length of the payload in octets.
    Len,
    /// The payload.
    Data,
    /// `frag A..B`: these octets of the IP payload only.
    Frag,
    /// `badsum`: the transport checksum is wrong.
    BadSum,
    /// `nosum`: UDP without a checksum.
    NoSum,
    /// `badipsum`: the IPv4 header checksum is wrong.
    BadIpSum,
    /// The packet ends after so many octets.
    Cut,
    /// Octets that are overwritten in the finished packet.
    Patch,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(Number),
    /// The field is there.
    Set,
    /// Octets.
    Octets(Vec<u8>),
    /// TCP options.
    Options(Vec<TcpOption>),
    /// TCP flags, a bit each.
    Flags(u8),
    /// Names of extension headers.
    Headers(Vec<String>),
    /// A packet.
    Packet(Box<Packet>),
    /// Octets from the first up to the second.
    Span(u32, u32),
    /// Octets at an offset; several.
    Patches(Vec<(u32, Vec<u8>)>),
}

/// One TCP option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpOption {
    /// `nop`
    Nop,
    /// `eol`
    End,
    /// `mss N`
    Mss(Number),
    /// `wscale N`
    WindowScale(Number),
    /// `sackok`
    SackPermitted,
    /// `ts VALUE:ECHO`
    Timestamp(Number, Number),
    /// `sack A:B`
    Sack(Vec<(Number, Number)>),
    /// `opt KIND:HEX`
    Other(u8, Vec<u8>),
}

/// A packet in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What it carries.
    pub kind: Kind,
    /// Sender; meaningless for raw octets.
    pub src: End,
    /// Receiver; likewise.
    pub dst: End,
    /// Everything that is said besides.
    pub fields: BTreeMap<Field, Value>,
}

/// What the variables of a scenario hold.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    numbers: BTreeMap<String, i64>,
    hosts: BTreeMap<String, IpAddr>,
}

impl Variables {
    /// The value of a number; `None` when its variable holds nothing yet.
    #[must_use]
    pub fn number(&self, number: &Number) -> Option<i64> {
        match &number.variable {
            None => Some(number.offset),
            Some(name) => self.numbers.get(name).map(|value| value.wrapping_add(number.offset)),
        }
    }

    /// The address of a host; likewise.
    #[must_use]
    pub fn host(&self, host: &Host) -> Option<IpAddr> {
        match host {
            Host::Addr(addr) => Some(*addr),
            Host::Variable(name) => self.hosts.get(name).copied(),
        }
    }

    /// Lets a number's variable be such that the number is `value`.
    fn learn_number(&mut self, number: &Number, value: i64) {
        if let Some(name) = &number.variable {
            self.numbers.insert(name.clone(), value.wrapping_sub(number.offset));
        }
    }

    fn learn_host(&mut self, name: &str, addr: IpAddr) {
        self.hosts.insert(name.to_owned(), addr);
    }
}

impl Packet {
    /// A field's number, when it is given and known.
    fn number(&self, field: Field, variables: &Variables) -> Option<i64> {
        match self.fields.get(&field) {
            Some(Value::Number(number)) => variables.number(number),
            _ => None,
        }
    }

    fn has(&self, field: Field) -> bool {
        self.fields.contains_key(&field)
    }
}

/// Letters of TCP flags, from the lowest bit: as tcpdump(1) names them.
const FLAG_LETTERS: [char; 8] = ['F', 'S', 'R', 'P', 'A', 'U', 'E', 'W'];
