//! The smaller conditions of a rule: protocols, ports, TCP flags, ICMP types.
//!
//! Source: pf.conf(5); OpenBSD sbin/pfctl/parse.y `proto_item`, `port_item`, `parse_flags`,
//! `icmp_item`.

use pfapi::addr::Af;
use pfapi::port::PortMatch;
use pfapi::ruleset::{IcmpMatch, TcpFlagsMatch};

use crate::address::World;
use crate::diag::{Code, Diagnostic};
use crate::names;
use crate::parser::{Fallible, Pair, Rule, place, string};
use crate::scan::Statement;
use crate::suggest::nearest;

/// Number of a protocol given by name or number.
pub(crate) fn protocol(world: World, statement: &Statement, pair: &Pair) -> Fallible<u8> {
    let text = string(pair);
    let here = || place(statement, pair);
    if let Some(number) = decimal(&text) {
        return u8::try_from(number).map_err(|_| {
            Box::new(
                Diagnostic::error(Code::Protocol, "protocol outside range")
                    .at(&here(), "protocol numbers go from 0 to 255"),
            )
        });
    }
    world.sources.protocol(&text).ok_or_else(|| {
        let diagnostic = Diagnostic::error(Code::Protocol, format!("unknown protocol {text}"))
            .at(&here(), "no protocol of this name");
        Box::new(match nearest(&text, names::protocols()) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic.help("the number of the protocol is always understood"),
        })
    })
}

/// A port condition.
pub(crate) fn port(world: World, statement: &Statement, item: &Pair) -> Fallible<PortMatch> {
    let mut operator = None;
    let mut values = Vec::new();
    for part in item.clone().into_inner() {
        match part.as_rule() {
            Rule::port_value => values.push(port_value(world, statement, &part)?),
            _ => operator = Some(part.as_str().trim().to_owned()),
        }
    }
    let combined = || {
        Box::new(
            Diagnostic::error(Code::Port, "':' cannot be used with an other port operator")
                .at(&place(statement, item), "a range and a comparison at once")
                .help("`a:b` includes both ends, `a >< b` excludes them"),
        )
    };
    Ok(match (operator.as_deref(), values.as_slice()) {
        (None, &[(a, None)]) => PortMatch::Equal(a),
        (None, &[(a, Some(b))]) => {
            ordered(statement, item, a, b)?;
            PortMatch::Range(a, b)
        }
        (Some("><"), &[(a, None), (b, None)]) => {
            ordered(statement, item, a, b)?;
            PortMatch::Inside(a, b)
        }
        (Some("<>"), &[(a, None), (b, None)]) => {
            ordered(statement, item, a, b)?;
            PortMatch::Outside(a, b)
        }
        (Some(operator), &[(a, None)]) => match operator {
            "!=" => PortMatch::NotEqual(a),
            "<" => PortMatch::Less(a),
            "<=" => PortMatch::LessOrEqual(a),
            ">" => PortMatch::Greater(a),
            ">=" => PortMatch::GreaterOrEqual(a),
            _ => PortMatch::Equal(a),
        },
        _ => return Err(combined()),
    })
}

fn ordered(statement: &Statement, item: &Pair, low: u16, high: u16) -> Fallible<()> {
    if low <= high {
        return Ok(());
    }
    Err(Box::new(
        Diagnostic::error(Code::PortRange, "invalid port range")
            .at(&place(statement, item), format!("{low} is higher than {high}"))
            .help("write the lower port first"),
    ))
}

/// `a` or `a:b`; a range of one port is that port.
fn port_value(world: World, statement: &Statement, pair: &Pair) -> Fallible<(u16, Option<u16>)> {
    let text = string(pair);
    let Some((low, high)) = text.split_once(':') else {
        return Ok((port_number(world, statement, pair, &text)?, None));
    };
    let low = port_number(world, statement, pair, low)?;
    let high = port_number(world, statement, pair, high)?;
    Ok((low, (low != high).then_some(high)))
}

fn port_number(world: World, statement: &Statement, pair: &Pair, text: &str) -> Fallible<u16> {
    let here = || place(statement, pair);
    let hexadecimal = || u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    if let Some(number) = decimal(text).or_else(hexadecimal) {
        return u16::try_from(number).map_err(|_| {
            Box::new(
                Diagnostic::error(Code::Port, format!("illegal port value {number}"))
                    .at(&here(), "ports go from 0 to 65535"),
            )
        });
    }
    world.sources.service(text, None).ok_or_else(|| {
        let diagnostic = Diagnostic::error(Code::Port, format!("unknown port {text}"))
            .at(&here(), "no service of this name");
        Box::new(match nearest(text, names::services()) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic.help("the number of the port is always understood"),
        })
    })
}

/// A number in decimal digits; too large ones saturate.
fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// What a rule says about TCP flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flags {
    /// `flags any`
    Any,
    /// `flags a/b`
    Match(TcpFlagsMatch),
}

/// `flags any`, `flags a/b` or `flags /b`.
pub(crate) fn flags(statement: &Statement, pair: &Pair) -> Fallible<Flags> {
    let mut sets = Vec::new();
    for part in pair.clone().into_inner() {
        match part.as_rule() {
            Rule::kw_any => return Ok(Flags::Any),
            Rule::flag_set => sets.push(flag_set(statement, &part)?),
            _ => {}
        }
    }
    Ok(Flags::Match(match sets.as_slice() {
        [want, mask] => TcpFlagsMatch { want: *want, mask: *mask },
        [mask] => TcpFlagsMatch { want: 0, mask: *mask },
        _ => TcpFlagsMatch { want: 0, mask: 0 },
    }))
}

fn flag_set(statement: &Statement, pair: &Pair) -> Fallible<u8> {
    let text = string(pair);
    let mut set = 0;
    for letter in text.chars() {
        let Some(bit) = TcpFlagsMatch::LETTERS.iter().position(|&known| known == letter) else {
            return Err(Box::new(
                Diagnostic::error(Code::Flags, format!("bad flags {text}"))
                    .at(&place(statement, pair), format!("`{letter}` is no TCP flag"))
                    .help("the flags are F, S, R, P, A, U, E and W, in capital letters"),
            ));
        };
        set |= 1 << bit;
    }
    Ok(set)
}

/// Types of an `icmp-type` or `icmp6-type`, and the family of the word.
pub(crate) fn icmp(statement: &Statement, pair: &Pair) -> Fallible<(Af, Vec<IcmpMatch>)> {
    let mut af = Af::Inet;
    let mut items = Vec::new();
    for part in pair.clone().into_inner() {
        match part.as_rule() {
            Rule::kw_icmp6_type => af = Af::Inet6,
            Rule::icmp_item => items.push(icmp_item(statement, &part, af)?),
            _ => {}
        }
    }
    Ok((af, items))
}

fn icmp_item(statement: &Statement, item: &Pair, af: Af) -> Fallible<IcmpMatch> {
    let words: Vec<Pair> =
        item.clone().into_inner().filter(|part| part.as_rule() == Rule::icmp_word).collect();
    let mut icmp_type = 0;
    if let Some(word) = words.first() {
        let text = string(word);
        let named = names::icmp_type_number(af, &text);
        let known: Vec<&str> = names::icmp_types(af).collect();
        icmp_type = number_or_name(statement, word, &icmp_word(af, "type"), named, &known)?;
    }
    let mut code = None;
    if let Some(word) = words.get(1) {
        code = Some(icmp_code(statement, word, af, icmp_type)?);
    }
    Ok(IcmpMatch { icmp_type, code })
}

/// A code of an ICMP type by name or number.
pub(crate) fn icmp_code(statement: &Statement, word: &Pair, af: Af, icmp_type: u8) -> Fallible<u8> {
    let named = names::icmp_code_number(af, icmp_type, &string(word));
    let known: Vec<&str> = names::icmp_codes(af, icmp_type).collect();
    number_or_name(statement, word, &icmp_word(af, "code"), named, &known)
}

fn icmp_word(af: Af, what: &str) -> String {
    format!("{}-{what}", if af == Af::Inet6 { "icmp6" } else { "icmp" })
}

fn number_or_name(
    statement: &Statement,
    word: &Pair,
    what: &str,
    named: Option<u8>,
    known: &[&str],
) -> Fallible<u8> {
    let text = string(word);
    if let Some(number) = decimal(&text) {
        return u8::try_from(number).map_err(|_| {
            Box::new(
                Diagnostic::error(Code::Icmp, format!("illegal {what} {text}"))
                    .at(&place(statement, word), "numbers go from 0 to 255"),
            )
        });
    }
    named.ok_or_else(|| {
        let diagnostic = Diagnostic::error(Code::Icmp, format!("unknown {what} {text}"))
            .at(&place(statement, word), "not known by this name");
        Box::new(match nearest(&text, known.iter().copied()) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None if known.is_empty() => {
                diagnostic.help("this type has no named codes: use a number")
            }
            None if known.len() > 20 => diagnostic.help("the number is always understood"),
            None => diagnostic.help(format!("known names: {}", known.join(", "))),
        })
    })
}
