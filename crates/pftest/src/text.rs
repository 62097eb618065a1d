//! A line of a scenario, read from left to right.

use core::net::{IpAddr, Ipv6Addr};

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while1};
use nom::character::complete::{char, digit1, hex_digit1, i64 as decimal};
use nom::combinator::{map_res, opt, recognize, verify};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

use crate::packet::{End, Host, Number};

/// What is wrong in a line, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// Octets from the start of the line to the place.
    pub offset: usize,
    /// What is wrong.
    pub message: String,
}

/// The rest of a line.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    line: &'a str,
    rest: &'a str,
}

type Parsed<'a, T> = IResult<&'a str, T, nom::error::Error<&'a str>>;

fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "_-./*@".contains(letter)
}

/// A word: letters, digits and the signs of names.
fn word(input: &str) -> Parsed<'_, &str> {
    take_while1(is_word)(input)
}

fn name(input: &str) -> Parsed<'_, &str> {
    preceded(char('$'), take_while1(|letter: char| letter.is_ascii_alphanumeric() || letter == '_'))
        .parse(input)
}

fn hexadecimal(input: &str) -> Parsed<'_, i64> {
    map_res(preceded(tag("0x"), hex_digit1), |digits| i64::from_str_radix(digits, 16)).parse(input)
}

/// `7`, `0x1f`, `$name`, `$name+1`, `$name-1`.
fn number(input: &str) -> Parsed<'_, Number> {
    let signed = recognize((alt((char('+'), char('-'))), digit1));
    let offset = opt(map_res(signed, str::parse::<i64>));
    let variable = (name, offset).map(|(name, offset)| Number {
        variable: Some(name.to_owned()),
        offset: offset.unwrap_or(0),
    });
    alt((variable, hexadecimal.map(Number::known), decimal.map(Number::known))).parse(input)
}

fn ipv4(input: &str) -> Parsed<'_, IpAddr> {
    let text = take_while1(|letter: char| letter.is_ascii_digit() || letter == '.');
    map_res(verify(text, |text: &str| text.contains('.')), str::parse).parse(input)
}

fn ipv6(input: &str) -> Parsed<'_, IpAddr> {
    let text = take_while1(|letter: char| letter.is_ascii_hexdigit() || ":.".contains(letter));
    map_res(verify(text, |text: &str| text.contains(':')), |text: &str| {
        text.parse::<Ipv6Addr>().map(IpAddr::V6)
    })
    .parse(input)
}

fn host(input: &str) -> Parsed<'_, Host> {
    let variable = name.map(|name| Host::Variable(name.to_owned()));
    alt((ipv4.map(Host::Addr), ipv6.map(Host::Addr), variable)).parse(input)
}

/// `192.0.2.1:80`, `[2001:db8::1]:80`, `$server:80`, or without a port.
fn end(input: &str) -> Parsed<'_, End> {
    let bracketed = delimited(char('['), ipv6, char(']')).map(Host::Addr);
    let port = opt(preceded(char(':'), number));
    let short = alt((ipv4.map(Host::Addr), name.map(|name| Host::Variable(name.to_owned()))));
    alt((
        (bracketed, port).map(|(host, port)| End { host, port }),
        (ipv6).map(|addr| End { host: Host::Addr(addr), port: None }),
        (short, opt(preceded(char(':'), number))).map(|(host, port)| End { host, port }),
    ))
    .parse(input)
}

fn quoted(input: &str) -> Parsed<'_, &str> {
    delimited(char('"'), take_while(|letter| letter != '"'), char('"')).parse(input)
}

impl<'a> Cursor<'a> {
    /// At the start of a line.
    #[must_use]
    pub const fn new(line: &'a str) -> Self {
        Self { line, rest: line }
    }

    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// What is left.
    #[must_use]
    pub fn rest(&self) -> &'a str {
        self.rest.trim_start()
    }

    /// Goes on to where `left` octets are left.
    pub(crate) fn skip_to(&mut self, left: usize) {
        self.rest = &self.line[self.line.len() - left.min(self.line.len())..];
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.rest().is_empty()
    }

    /// A fault at the next word.
    #[must_use]
    pub fn fault(&self, message: impl Into<String>) -> Fault {
        Fault { offset: self.line.len() - self.rest().len(), message: message.into() }
    }

    fn take<T>(
        &mut self,
        parser: impl Fn(&'a str) -> Parsed<'a, T>,
        what: &str,
    ) -> Result<T, Fault> {
        self.skip();
        match parser(self.rest) {
            Ok((rest, value)) => {
                self.rest = rest;
                Ok(value)
            }
            Err(_) if self.rest.is_empty() => {
                Err(self.fault(format!("expected {what} at the end of the line")))
            }
            Err(_) => {
                let found = self.rest.split_whitespace().next().unwrap_or_default();
                Err(self.fault(format!("expected {what}, found `{found}`")))
            }
        }
    }

    /// A word.
    ///
    /// # Errors
    /// When none follows.
    pub fn word(&mut self, what: &str) -> Result<&'a str, Fault> {
        self.take(word, what)
    }

    /// Takes a word or sign if it is next.
    pub fn accept(&mut self, wanted: &str) -> bool {
        self.skip();
        let Some(rest) = self.rest.strip_prefix(wanted) else { return false };
        let whole = !wanted.ends_with(char::is_alphanumeric) || !rest.starts_with(is_word);
        if whole {
            self.rest = rest;
        }
        whole
    }

    /// Takes a word or sign.
    ///
    /// # Errors
    /// When something else follows.
    pub fn expect(&mut self, wanted: &str) -> Result<(), Fault> {
        if self.accept(wanted) {
            return Ok(());
        }
        let found = self.rest().split_whitespace().next().unwrap_or("the end of the line");
        Err(self.fault(format!("expected `{wanted}`, found `{found}`")))
    }

    /// Everything up to the next blank.
    #[must_use]
    pub fn token(&mut self) -> &'a str {
        self.skip();
        let end = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        token
    }

    /// The next word without taking it.
    #[must_use]
    pub fn peek(&self) -> &'a str {
        word(self.rest()).map_or("", |(_, word)| word)
    }

    /// A number.
    ///
    /// # Errors
    /// When none follows.
    pub fn number(&mut self) -> Result<Number, Fault> {
        self.take(number, "a number")
    }

    /// A number without variables, in the range of `T`.
    ///
    /// # Errors
    /// When none follows, or it is out of range.
    pub fn plain<T: TryFrom<i64>>(&mut self) -> Result<T, Fault> {
        let before = *self;
        let number = self.number()?;
        if number.variable.is_some() {
            return Err(before.fault("a number is needed here, not a variable"));
        }
        T::try_from(number.offset).map_err(|_| before.fault("this number is out of range"))
    }

    /// An address.
    ///
    /// # Errors
    /// When none follows.
    pub fn host(&mut self) -> Result<Host, Fault> {
        self.take(host, "an address")
    }

    /// An address with or without a port.
    ///
    /// # Errors
    /// When none follows.
    pub fn end(&mut self) -> Result<End, Fault> {
        self.take(end, "an address such as 192.0.2.1:80 or [2001:db8::1]:80")
    }

    /// Text in quotes.
    ///
    /// # Errors
    /// When none follows.
    pub fn quoted(&mut self) -> Result<&'a str, Fault> {
        self.take(quoted, "text in quotes")
    }

    /// Octets in hex, with or without `0x`.
    ///
    /// # Errors
    /// When there are none, or half an octet.
    pub fn hex(&mut self) -> Result<Vec<u8>, Fault> {
        let before = *self;
        self.skip();
        self.rest = self.rest.strip_prefix("0x").unwrap_or(self.rest);
        let digits = self.take(hex_digit1, "octets in hex")?;
        unhex(digits).ok_or_else(|| before.fault("an odd number of hex digits"))
    }

    /// `1s`, `500ms`, `2m`, `1h`: nanoseconds.
    ///
    /// # Errors
    /// When no time follows.
    pub fn time(&mut self) -> Result<u64, Fault> {
        let before = *self;
        let text = self.word("a time such as 5s, 250ms or 2m")?;
        let split = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let scale = match unit {
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000_u64,
            _ => return Err(before.fault("a time needs a unit: us, ms, s, m or h")),
        };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let bad = || before.fault(format!("`{text}` is no time"));
        let mut nanos =
            whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(scale)).ok_or_else(bad)?;
        let mut worth = scale;
        for digit in part.chars() {
            worth /= 10;
            nanos += u64::from(digit.to_digit(10).ok_or_else(bad)?) * worth;
        }
        Ok(nanos)
    }
}

/// Hex digits as octets.
fn unhex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect()
}
