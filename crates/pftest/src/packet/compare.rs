//! What a scenario expects against what came.

use core::fmt;

use super::{
    End, Field, Host, Kind, Number, Packet, TcpOption, Value, Variables, checksums_are_right,
    dissect,
};

/// How a packet differs from what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference(String);

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn differs<T>(
    what: &str,
    wanted: impl fmt::Display,
    got: impl fmt::Display,
) -> Result<T, Difference> {
    Err(Difference(format!("{what}: expected {wanted}, got {got}")))
}

impl Packet {
    /// Compares the fields that are given with the octets of a packet. Variables without a value
    /// get the one that the packet has. Checksums must be right, unless a wrong one is expected.
    ///
    /// # Errors
    /// The first field that differs.
    pub fn compare(&self, octets: &[u8], variables: &mut Variables) -> Result<(), Difference> {
        if let Kind::Raw(wanted) = &self.kind {
            if wanted != octets {
                return differs("octets", hex(wanted), hex(octets));
            }
            return Ok(());
        }
        let claimed = super::dissect::Layout::of(octets).map(|layout| layout.claimed);
        if !self.has(Field::Cut) && claimed.is_some_and(|claimed| claimed != octets.len()) {
            return Err(Difference("its length is not the one in its IP header".to_owned()));
        }
        if !self.has(Field::BadSum) && !self.has(Field::BadIpSum) && !checksums_are_right(octets) {
            return Err(Difference("a checksum is wrong".to_owned()));
        }
        let fragment;
        let wanted = if self.has(Field::Frag) {
            fragment = self.as_fragment(variables)?;
            &fragment
        } else {
            self
        };
        wanted.compare_words(&dissect(octets), variables)
    }

    /// The fragment that the packet asks for, as a packet of its protocol number.
    fn as_fragment(&self, variables: &Variables) -> Result<Self, Difference> {
        let octets = self.build(variables).map_err(|error| Difference(error.to_string()))?;
        let mut fragment = dissect(&octets);
        // What was not said is not compared.
        for field in [Field::Ttl, Field::Tos, Field::Id, Field::Flow, Field::IpOpts] {
            if !self.has(field) {
                fragment.fields.remove(&field);
            }
        }
        Ok(fragment)
    }

    fn compare_words(&self, got: &Self, variables: &mut Variables) -> Result<(), Difference> {
        if self.kind != got.kind {
            return differs("protocol", self.kind.word(), got.kind.word());
        }
        compare_end("source", &self.src, &got.src, variables)?;
        compare_end("destination", &self.dst, &got.dst, variables)?;
        for (field, value) in &self.fields {
            // How the packet was to be built, not what it says.
            if matches!(
                field,
                Field::Frag | Field::BadSum | Field::BadIpSum | Field::Patch | Field::QuoteLen
            ) {
                continue;
            }
            let name = field.word();
            match (value, got.fields.get(field)) {
                (Value::Set, None) if *field == Field::NoSum => {}
                // What an ICMP error quotes may end before the flags.
                (Value::Flags(0), None) => {}
                (Value::Number(wanted), Some(Value::Number(found))) => {
                    compare_number(name, wanted, found.offset, variables)?;
                }
                (Value::Number(wanted), None) if variables.number(wanted) == Some(0) => {}
                (Value::Options(wanted), Some(Value::Options(found))) => {
                    compare_options(wanted, found, variables)?;
                }
                (Value::Packet(wanted), Some(Value::Packet(found))) => wanted
                    .compare_words(found, variables)
                    .map_err(|inner| Difference(format!("in the quoted packet: {inner}")))?,
                (wanted, Some(found)) if wanted == found => {}
                (wanted, Some(found)) => return differs(name, wanted, found),
                (wanted, None) => return differs(name, wanted, "none"),
            }
        }
        // These are single bits: not given means not set.
        for field in [Field::Df, Field::More] {
            if field == Field::More && !self.has(field) && got.has(field) {
                return differs(field.word(), "none", "set");
            }
        }
        if self.has(Field::Flags) || self.kind != Kind::Tcp {
            return Ok(());
        }
        Err(Difference("a TCP packet is expected without its flags".to_owned()))
    }
}

fn compare_end(
    what: &str,
    wanted: &End,
    got: &End,
    variables: &mut Variables,
) -> Result<(), Difference> {
    let Host::Addr(found) = got.host else { return Ok(()) };
    match (&wanted.host, variables.host(&wanted.host)) {
        (_, Some(addr)) if addr == found => {}
        (_, Some(addr)) => return differs(what, addr, found),
        (Host::Variable(name), None) => variables.learn_host(name, found),
        (Host::Addr(_), None) => {}
    }
    match (&wanted.port, &got.port) {
        (Some(wanted), Some(found)) => {
            compare_number(&format!("{what} port"), wanted, found.offset, variables)
        }
        _ => Ok(()),
    }
}

fn compare_number(
    what: &str,
    wanted: &Number,
    found: i64,
    variables: &mut Variables,
) -> Result<(), Difference> {
    match variables.number(wanted) {
        // Sequence numbers are the only fields of 32 bits that variables run over.
        Some(value) if value == found || value.rem_euclid(1 << 32) == found => Ok(()),
        Some(value) => differs(what, value, found),
        None => {
            variables.learn_number(wanted, found);
            Ok(())
        }
    }
}

fn compare_options(
    wanted: &[TcpOption],
    found: &[TcpOption],
    variables: &mut Variables,
) -> Result<(), Difference> {
    let differ =
        || differs("opts", Value::Options(wanted.to_vec()), Value::Options(found.to_vec()));
    // Padding at the end does not count.
    let padded = found.len() > wanted.len();
    let padding = |option: &TcpOption| matches!(option, TcpOption::Nop | TcpOption::End);
    if found.len() < wanted.len() || padded && !found[wanted.len()..].iter().all(padding) {
        return differ();
    }
    for (wanted, found) in wanted.iter().zip(found) {
        match (wanted, found) {
            (TcpOption::Mss(wanted), TcpOption::Mss(found))
            | (TcpOption::WindowScale(wanted), TcpOption::WindowScale(found)) => {
                compare_number("opts", wanted, found.offset, variables)?;
            }
            (TcpOption::Timestamp(value, echo), TcpOption::Timestamp(got, answered)) => {
                compare_number("ts", value, got.offset, variables)?;
                compare_number("ts echo", echo, answered.offset, variables)?;
            }
            (TcpOption::Sack(wanted), TcpOption::Sack(found)) if wanted.len() == found.len() => {
                for ((start, end), (first, last)) in wanted.iter().zip(found) {
                    compare_number("sack", start, first.offset, variables)?;
                    compare_number("sack", end, last.offset, variables)?;
                }
            }
            (wanted, found) if wanted == found => {}
            _ => return differ(),
        }
    }
    Ok(())
}

/// Octets in hex.
pub(super) fn hex(octets: &[u8]) -> String {
    use core::fmt::Write;
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}
