//! The smaller conditions of a rule: protocols, ports, TCP flags, ICMP types.
//!
//! Source: pf.conf(5); OpenBSD sbin/pfctl/parse.y `proto_item`, `port_item`, `parse_flags`,
//! `icmp_item`.

use pfapi::addr::Af;
use pfapi::port::PortMatch;
use pfapi::ruleset::{IcmpMatch, Id, IdMatch, TcpFlagsMatch};

use crate::address::World;
use crate::diag::{Code, Diagnostic};
use crate::dialect::Dialect;
use crate::names;
use crate::parser::{Fallible, Pair, Rule, place, string, value};
use crate::scan::{Place, Statement};
use crate::suggest::nearest;

/// Number of a protocol given by name or number.
pub(crate) fn protocol(world: World, statement: &Statement, pair: &Pair) -> Fallible<u8> {
    let text = value(pair);
    let here = || place(statement, pair);
    if let Some(number) = number_of(pair) {
        let number = u8::try_from(number).map_err(|_| {
            Box::new(
                Diagnostic::error(Code::Protocol, "protocol outside range")
                    .at(&here(), "protocol numbers go from 1 to 255"),
            )
        })?;
        return not_zero(number, &here());
    }
    let number = world.sources.protocol(&text).ok_or_else(|| {
        let diagnostic = Diagnostic::error(Code::Protocol, format!("unknown protocol {text}"))
            .at(&here(), "no protocol of this name");
        Box::new(match nearest(&text, names::protocols()) {
            Some(near) => diagnostic.did_you_mean(near),
            None => diagnostic.help("the number of the protocol is always understood"),
        })
    })?;
    not_zero(number, &here())
}

fn not_zero(number: u8, here: &Place) -> Fallible<u8> {
    if number > 0 {
        return Ok(number);
    }
    Err(Box::new(
        Diagnostic::error(Code::Protocol, "proto 0 cannot be used")
            .at(here, "0 would mean every protocol")
            .help("leave `proto` out to mean every protocol"),
    ))
}

/// A port condition.
pub(crate) fn port(world: World, statement: &Statement, item: &Pair) -> Fallible<PortMatch> {
    let mut operator = None;
    let mut values = [(0, None); 2];
    let mut count = 0;
    for part in item.clone().into_inner() {
        match part.as_rule() {
            Rule::port_value => {
                let found = port_value(world, statement, &part)?;
                // The grammar has no third.
                if let Some(value) = values.get_mut(count) {
                    *value = found;
                    count += 1;
                }
            }
            _ => operator = Some(part.as_str().trim()),
        }
    }
    let combined = || {
        Box::new(
            Diagnostic::error(Code::Port, "':' cannot be used with an other port operator")
                .at(&place(statement, item), "a range and a comparison at once")
                .help("`a:b` includes both ends, `a >< b` excludes them"),
        )
    };
    Ok(match (operator, &values[..count]) {
        (None, &[(a, None)]) => PortMatch::Equal(a),
        (None, &[(a, Some(b))]) => {
            ordered(statement, item, a <= b, (a, b))?;
            PortMatch::Range(a, b)
        }
        (Some("><"), &[(a, None), (b, None)]) => {
            ordered(statement, item, a < b, (a, b))?;
            PortMatch::Inside(a, b)
        }
        (Some("<>"), &[(a, None), (b, None)]) => {
            ordered(statement, item, a <= b, (a, b))?;
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

fn ordered(statement: &Statement, item: &Pair, holds: bool, ends: (u16, u16)) -> Fallible<()> {
    if holds {
        return Ok(());
    }
    let (low, high) = ends;
    let label = if low > high {
        format!("{low} is higher than {high}")
    } else {
        "no port lies between these".to_owned()
    };
    let diagnostic = Diagnostic::error(Code::PortRange, "invalid port range")
        .at(&place(statement, item), label)
        .line_at(statement.next_token(item.as_span().end()))
        .help("write the lower port first");
    Err(Box::new(match item.as_str().trim().split_once(':') {
        Some((first, last)) => diagnostic.instead(&format!("{last}:{first}")),
        None => diagnostic,
    }))
}

/// `a` or `a:b`; a range of one port is that port.
fn port_value(world: World, statement: &Statement, pair: &Pair) -> Fallible<(u16, Option<u16>)> {
    if let Some(port) = number_of(pair).and_then(|number| u16::try_from(number).ok()) {
        return Ok((port, None));
    }
    let text = decimal_text(pair);
    let Some((low, high)) = text.split_once(':') else {
        return Ok((port_number(world, statement, pair, &text)?, None));
    };
    let low = port_number(world, statement, pair, low)?;
    let high = port_number(world, statement, pair, high)?;
    Ok((low, (low != high).then_some(high)))
}

fn port_number(world: World, statement: &Statement, pair: &Pair, text: &str) -> Fallible<u16> {
    let here = || place(statement, pair);
    if let Some(number) = c_number(text) {
        return u16::try_from(number).map_err(|_| {
            Box::new(
                Diagnostic::error(Code::Port, format!("illegal port value {number}"))
                    .at(&here(), "ports go from 0 to 65535"),
            )
        });
    }
    let service = |proto| world.sources.service(text, Some(proto));
    service("tcp").or_else(|| service("udp")).ok_or_else(|| {
        let diagnostic = Diagnostic::error(Code::Port, format!("unknown port {text}"))
            .at(&here(), "no service of this name");
        Box::new(match nearest(text, names::services()) {
            Some(near) => diagnostic.did_you_mean(near),
            None => diagnostic.help("the number of the port is always understood"),
        })
    })
}

/// `port P` of an option, without a range.
///
/// # Errors
/// The message about what is no port.
pub(crate) fn plain_port(world: World, statement: &Statement, pair: &Pair) -> Fallible<u16> {
    let text = decimal_text(pair);
    if text.contains(':') {
        return Err(Box::new(
            Diagnostic::error(Code::Port, format!("port is invalid: {text}"))
                .at(&place(statement, pair), "one port is meant here, no range"),
        ));
    }
    port_number(world, statement, pair, &text)
}

/// Ports of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortSpan {
    One(u16),
    Range(u16, u16),
    /// `P:*`: as many ports from the first as the rule's destination has.
    Star(u16),
}

/// `port P`, `port P:Q` or `port P:*` of a pool.
///
/// # Errors
/// The message about what is no port.
pub(crate) fn pool_port(world: World, statement: &Statement, pair: &Pair) -> Fallible<PortSpan> {
    let text = decimal_text(pair);
    let Some((low, high)) = text.split_once(':') else {
        return Ok(PortSpan::One(port_number(world, statement, pair, &text)?));
    };
    let low = port_number(world, statement, pair, low)?;
    if high == "*" {
        return Ok(PortSpan::Star(low));
    }
    let high = port_number(world, statement, pair, high)?;
    Ok(if low == high { PortSpan::One(low) } else { PortSpan::Range(low, high) })
}

/// The number that a node is, unless it is a word.
pub(crate) fn number_of(pair: &Pair) -> Option<i64> {
    let number = pair.clone().into_inner().flatten().chain([pair.clone()]);
    let mut number = number.filter(|part| part.as_rule() == Rule::number);
    number.next()?.as_str().parse().ok()
}

/// The text of a node; numbers lose leading zeros, as in pfctl.
pub(crate) fn decimal_text(pair: &Pair) -> String {
    number_of(pair).map_or_else(|| string(pair), |number| number.to_string())
}

/// A number as strtoul(3) reads it: with `0x` hexadecimal, with a leading zero octal; a negative
/// one counts from the other end. Too large ones are none. Source: OpenBSD sbin/pfctl/parse.y
/// `atoul`.
pub(crate) fn c_number(text: &str) -> Option<u64> {
    let text = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}');
    let (text, negative) = match text.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (text.strip_prefix('+').unwrap_or(text), false),
    };
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let number = u64::from_str_radix(digits, radix).ok()?;
    Some(if negative { number.wrapping_neg() } else { number })
}

/// Whose ids they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    User,
    Group,
}

/// Items of `user` or `group`.
///
/// # Errors
/// The message about an unknown name or an impossible comparison.
pub(crate) fn owners(
    world: World,
    statement: &Statement,
    pair: &Pair,
    owner: Owner,
) -> Fallible<Vec<IdMatch>> {
    let items = pair.clone().into_inner().filter(|part| part.as_rule() == Rule::id_item);
    items.map(|item| owner_item(world, statement, &item, owner)).collect()
}

fn owner_item(world: World, statement: &Statement, item: &Pair, owner: Owner) -> Fallible<IdMatch> {
    let mut operator = None;
    let mut ids = Vec::new();
    for part in item.clone().into_inner() {
        match part.as_rule() {
            Rule::id => ids.push(owner_id(world, statement, &part, owner)?),
            _ => operator = Some(part.as_str().trim().to_owned()),
        }
    }
    let word = if owner == Owner::User { "user" } else { "group" };
    Ok(match (operator.as_deref(), ids.as_slice()) {
        (None | Some("="), &[a]) => IdMatch::Equal(a),
        (Some("!="), &[a]) => IdMatch::NotEqual(a),
        (Some("<"), &[Id::Number(a)]) => IdMatch::Less(a),
        (Some("<="), &[Id::Number(a)]) => IdMatch::LessOrEqual(a),
        (Some(">"), &[Id::Number(a)]) => IdMatch::Greater(a),
        (Some(">="), &[Id::Number(a)]) => IdMatch::GreaterOrEqual(a),
        (Some("><"), &[Id::Number(a), Id::Number(b)]) => IdMatch::Inside(a, b),
        (Some("<>"), &[Id::Number(a), Id::Number(b)]) => IdMatch::Outside(a, b),
        _ => {
            return Err(Box::new(
                Diagnostic::error(Code::Owner, format!("{word} unknown requires operator = or !="))
                    .at(&place(statement, item), "`unknown` has no order"),
            ));
        }
    })
}

fn owner_id(world: World, statement: &Statement, pair: &Pair, owner: Owner) -> Fallible<Id> {
    let (word, short) = if owner == Owner::User { ("user", "uid") } else { ("group", "gid") };
    let error = |text: String, label: &str| {
        Box::new(Diagnostic::error(Code::Owner, text).at(&place(statement, pair), label))
    };
    if let Some(number) = number_of(pair) {
        let id = u32::try_from(number).ok().filter(|&id| id < u32::MAX);
        return id.map(Id::Number).ok_or_else(|| {
            error(format!("illegal {short} value {number}"), "ids go from 0 to 4294967294")
        });
    }
    let text = string(pair);
    if text == "unknown" {
        return Ok(Id::Unknown);
    }
    let found = match owner {
        Owner::User => world.sources.user(&text),
        Owner::Group => world.sources.group(&text),
    };
    found.map(Id::Number).ok_or_else(|| {
        let mut diagnostic = error(format!("unknown {word} {text}"), "not known on this machine");
        *diagnostic = diagnostic.help("a number is always understood");
        diagnostic
    })
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
    // No letters at all mean every flag.
    Ok(if set == 0 { 0xff } else { set })
}

/// Types of an `icmp-type` or `icmp6-type`, and the family of the word.
pub(crate) fn icmp(
    dialect: Dialect,
    statement: &Statement,
    pair: &Pair,
) -> Fallible<(Af, Vec<IcmpMatch>)> {
    let mut af = Af::Inet;
    let mut items = Vec::new();
    for part in pair.clone().into_inner() {
        match part.as_rule() {
            Rule::kw_icmp6_type => af = Af::Inet6,
            Rule::icmp_item => items.push(icmp_item(dialect, statement, &part, af)?),
            _ => {}
        }
    }
    Ok((af, items))
}

fn icmp_item(dialect: Dialect, statement: &Statement, item: &Pair, af: Af) -> Fallible<IcmpMatch> {
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
        code = Some(icmp_code(dialect, statement, word, af, icmp_type)?);
    }
    Ok(IcmpMatch { icmp_type, code })
}

/// The code of `return-icmp` or `return-icmp6`.
pub(crate) fn answer_code(
    dialect: Dialect,
    statement: &Statement,
    word: &Pair,
    af: Af,
    icmp_type: u8,
) -> Fallible<u8> {
    let text = decimal_text(word);
    let error = |text: String, label: &str| {
        Diagnostic::error(Code::Icmp, text).at(&place(statement, word), label)
    };
    if let Some(number) =
        number_of(word).or_else(|| c_number(&text).and_then(|n| n.try_into().ok()))
    {
        return u8::try_from(number).map_err(|_| {
            Box::new(error(format!("invalid icmp code {number}"), "codes go from 0 to 255"))
        });
    }
    names::icmp_code_number(dialect, af, icmp_type, &text).ok_or_else(|| {
        let known: Vec<&str> = names::icmp_codes(dialect, af, icmp_type).collect();
        let diagnostic = error(format!("unknown icmp code {text}"), "not known by this name");
        Box::new(match nearest(&text, known.iter().copied()) {
            Some(near) => diagnostic.did_you_mean(near),
            None => diagnostic.help(format!("known names: {}", known.join(", "))),
        })
    })
}

/// A code of an ICMP type by name or number.
fn icmp_code(
    dialect: Dialect,
    statement: &Statement,
    word: &Pair,
    af: Af,
    icmp_type: u8,
) -> Fallible<u8> {
    let named = names::icmp_code_number(dialect, af, icmp_type, &string(word));
    let known: Vec<&str> = names::icmp_codes(dialect, af, icmp_type).collect();
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
    if let Some(number) = number_of(word) {
        return u8::try_from(number).map_err(|_| {
            // pfctl names both families alike here.
            let what = if what == "icmp6-code" { "icmp-code" } else { what };
            Box::new(
                Diagnostic::error(Code::Icmp, format!("illegal {what} {number}"))
                    .at(&place(statement, word), "numbers go from 0 to 255"),
            )
        });
    }
    named.ok_or_else(|| {
        let diagnostic = Diagnostic::error(Code::Icmp, format!("unknown {what} {text}"))
            .at(&place(statement, word), "not known by this name");
        Box::new(match nearest(&text, known.iter().copied()) {
            Some(near) => diagnostic.did_you_mean(near),
            None if known.is_empty() => {
                diagnostic.help("this type has no named codes: use a number")
            }
            None if known.len() > 20 => diagnostic.help("the number is always understood"),
            None => diagnostic.help(format!("known names: {}", known.join(", "))),
        })
    })
}
