//! `ether` rules before and after the expansion of their lists.
//!
//! Source: FreeBSD pf.conf(5) "ETHERNET FILTERING"; sbin/pfctl/parse.y `etherrule`,
//! `etherfilter_opt`, `l3fromto`, `expand_eth_rule`, `node_mac_from_string`.

use pfapi::addr::Af;
use pfapi::check::{LABEL_MAX, QUEUE_NAME_MAX, RULES_MAX, TAG_MAX};
use pfapi::ruleset::{
    AddrMatch, Dummynet, DummynetKind, Endpoint, EtherAction, EtherRule, InterfaceMatch, MacMatch,
    TagMatch,
};
use pfapi::units::Direction;

use super::show::{TYPE_IPV4, TYPE_IPV6};
use crate::address::{Host, World, hosts};
use crate::criteria::{c_number, number_of};
use crate::diag::{Code, Diagnostic, Severity};
use crate::parser::{Fallible, Pair, Rule, place, string};
use crate::rules::{On, interface, interfaces};
use crate::scan::Statement;

/// Most labels of a rule (`PF_RULE_MAX_LABEL_COUNT`).
const LABELS_MAX: usize = 5;

/// An `ether` line with its lists.
#[derive(Clone, Debug)]
pub(crate) struct EtherSpec {
    /// What all combinations share.
    pub(crate) rule: EtherRule,
    interfaces: Vec<InterfaceMatch>,
    types: Vec<u16>,
    from: Vec<MacMatch>,
    to: Vec<MacMatch>,
    l3_from: Vec<Host>,
    l3_to: Vec<Host>,
    /// What pfctl reads and forgets.
    pub(crate) warning: Option<Box<Diagnostic>>,
}

fn wrong(
    statement: &Statement,
    pair: &Pair,
    code: Code,
    text: &str,
    label: &str,
) -> Box<Diagnostic> {
    Box::new(Diagnostic::error(code, text).at(&place(statement, pair), label))
}

/// What an `ether_rule` or `ether_anchor` node says.
///
/// # Errors
/// The message about the first part that cannot be.
pub(crate) fn spec(world: World, statement: &Statement, parts: &[Pair]) -> Fallible<EtherSpec> {
    let mut spec = EtherSpec {
        rule: EtherRule::new(EtherAction::Pass),
        interfaces: Vec::new(),
        types: Vec::new(),
        from: Vec::new(),
        to: Vec::new(),
        l3_from: Vec::new(),
        l3_to: Vec::new(),
        warning: None,
    };
    for part in parts {
        let has = |rule| part.clone().into_inner().any(|word| word.as_rule() == rule);
        match part.as_rule() {
            Rule::action if has(Rule::kw_block) => spec.rule.action = EtherAction::Block,
            Rule::action if has(Rule::kw_match) => spec.rule.action = EtherAction::Match,
            Rule::direction => {
                let out = has(Rule::kw_out);
                spec.rule.direction = Some(if out { Direction::Out } else { Direction::In });
            }
            Rule::kw_quick => spec.rule.quick = true,
            Rule::on => {
                for on in interfaces(statement, part)? {
                    if let On::Interface(on) = on {
                        spec.interfaces.push(on.into_inner());
                    }
                }
            }
            Rule::bridge_to => {
                if let On::Interface(on) = interface(statement, part, false)? {
                    spec.rule.bridge_to = Some(on.into_inner().name);
                }
            }
            Rule::ether_proto => spec.types = types(statement, part)?,
            Rule::ether_hosts => {
                for end in part.clone().into_inner() {
                    let macs = macs(statement, &end)?;
                    match end.as_rule() {
                        Rule::ether_from => spec.from = macs,
                        _ => spec.to = macs,
                    }
                }
            }
            Rule::ether_l3 => l3(world, statement, part, &mut spec)?,
            Rule::ether_option => {
                for part in part.clone().into_inner() {
                    option(statement, &part, &mut spec.rule)?;
                }
            }
            _ => {}
        }
    }
    Ok(spec)
}

fn types(statement: &Statement, pair: &Pair) -> Fallible<Vec<u16>> {
    let items = pair.clone().into_inner().filter(|part| part.as_rule() == Rule::ether_type);
    items.map(|item| ether_type(statement, &item)).collect()
}

fn ether_type(statement: &Statement, pair: &Pair) -> Fallible<u16> {
    let wrong = |text: &str, label: &str| Err(wrong(statement, pair, Code::Protocol, text, label));
    let number = if let Some(number) = number_of(pair) {
        match u16::try_from(number) {
            Ok(number) => number,
            Err(_) => return wrong("protocol outside range", "EtherTypes go from 1 to 65535"),
        }
    } else {
        let text = string(pair);
        let Some(digits) = text.strip_prefix("0x") else {
            let text = "Symbolic EtherType not yet supported";
            return wrong(text, "give the number, such as 0x0806 for ARP");
        };
        match u16::from_str_radix(digits, 16) {
            Ok(number) if !digits.starts_with('+') => number,
            _ => return wrong("invalid EtherType hex", "four hexadecimal digits at most"),
        }
    };
    if number == 0 {
        return wrong("proto 0 cannot be used", "0 would mean every protocol");
    }
    Ok(number)
}

fn macs(statement: &Statement, pair: &Pair) -> Fallible<Vec<MacMatch>> {
    let items = pair.clone().into_inner().filter(|part| part.as_rule() == Rule::mac);
    items.map(|item| mac(statement, &item)).collect()
}

fn mac(statement: &Statement, pair: &Pair) -> Fallible<MacMatch> {
    let wrong = |text: &str, label: &str| wrong(statement, pair, Code::Address, text, label);
    let mut parts = pair.clone().into_inner();
    let negated = parts.clone().any(|part| part.as_rule() == Rule::not);
    let word = parts.clone().find(|part| part.as_rule() == Rule::string);
    let text = word.as_ref().map(string).unwrap_or_default();
    let (text, mask) = text.split_once('&').map_or((&*text, None), |(mac, mask)| (mac, Some(mask)));
    let length = parts.find(|part| part.as_rule() == Rule::number);
    let mut mac = MacMatch { negated, addr: [0; 6], mask: [0xff; 6] };
    if let Some(length) = &length {
        let bits = number_of(length).and_then(|bits| u8::try_from(bits).ok());
        let bits = bits.filter(|&bits| bits <= 48);
        let bits = bits.ok_or_else(|| wrong("invalid MAC mask length", "goes from 0 to 48"))?;
        mac.mask = MacMatch::mask_of(bits);
    }
    mac.addr = octets(text)
        .filter(|_| mask.is_none() || length.is_none())
        .ok_or_else(|| wrong("invalid MAC address", "six octets, as in 00:00:5e:00:53:01"))?;
    if let Some(mask) = mask {
        mac.mask = octets(mask).ok_or_else(|| wrong("invalid MAC mask", "six octets"))?;
    }
    Ok(mac)
}

/// Six octets of one or two hexadecimal digits with colons between them.
fn octets(text: &str) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        let digits = parts.next().filter(|part| (1..=2).contains(&part.len()))?;
        *octet = u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
    }
    parts.next().is_none().then_some(octets)
}

fn l3(world: World, statement: &Statement, pair: &Pair, spec: &mut EtherSpec) -> Fallible<()> {
    let Some(ends) = pair.clone().into_inner().find(|part| part.as_rule() == Rule::hosts) else {
        return Ok(());
    };
    for end in ends.into_inner() {
        let mut found = Vec::new();
        let mut forgotten = end.as_rule() == Rule::os;
        for part in end.clone().into_inner() {
            match part.as_rule() {
                Rule::host_list | Rule::host_item => found = hosts(world, statement, &part)?,
                Rule::ports => forgotten = true,
                _ => {}
            }
        }
        if forgotten {
            let text = "ports and systems are not looked at behind l3";
            let warning = Diagnostic::new(Severity::Warning, Code::Address, text)
                .at(&place(statement, &end), "only addresses are")
                .help("put the condition into a rule for packets");
            spec.warning = Some(Box::new(warning));
        }
        let known = |host: &Host| {
            matches!(host.addr, AddrMatch::Any | AddrMatch::Net(_) | AddrMatch::Table(_))
        };
        let from = end.as_rule() == Rule::from;
        if found.iter().any(|host| !known(host)) {
            let name = if from { "from" } else { "to" };
            let text = format!("{name} must be an address or table");
            return Err(wrong(statement, &end, Code::Address, &text, "neither of them"));
        }
        match end.as_rule() {
            Rule::from => spec.l3_from = found,
            Rule::to => spec.l3_to = found,
            _ => {}
        }
    }
    Ok(())
}

fn option(statement: &Statement, pair: &Pair, rule: &mut EtherRule) -> Fallible<()> {
    let words = || {
        let words = pair.clone().into_inner().filter(|word| word.as_rule() == Rule::string);
        words.map(|word| string(&word)).collect::<Vec<_>>().join(" ")
    };
    let long = |what: &str, max: usize| {
        let text = format!("{what} too long, max {max} chars");
        wrong(statement, pair, Code::Tag, &text, "too long")
    };
    match pair.as_rule() {
        Rule::ether_queue => {
            if rule.queue.is_some() {
                let text = "queue cannot be redefined";
                return Err(wrong(statement, pair, Code::Twice, text, "given a second time"));
            }
            let name = words();
            if name.is_empty() || name.len() > QUEUE_NAME_MAX {
                return Err(long("queue name", QUEUE_NAME_MAX));
            }
            rule.queue = Some(name);
        }
        Rule::tag => {
            let name = words();
            if name.len() > TAG_MAX {
                return Err(long("tag", TAG_MAX));
            }
            rule.tag = Some(name).filter(|name| !name.is_empty());
        }
        Rule::tagged => {
            let negated = pair.clone().into_inner().any(|part| part.as_rule() == Rule::not);
            let name = words();
            if name.len() > TAG_MAX {
                return Err(long("tag", TAG_MAX));
            }
            rule.tagged = Some(TagMatch { negated, name }).filter(|tag| !tag.name.is_empty());
        }
        Rule::ether_dummynet => rule.dummynet = dummynet(statement, pair)?,
        Rule::label => {
            let label = words();
            if rule.labels.len() >= LABELS_MAX {
                let text = format!("label can only be used {LABELS_MAX} times");
                return Err(wrong(statement, pair, Code::Twice, &text, "one too many"));
            }
            if label.len() > LABEL_MAX {
                let text = format!("rule label too long (max {LABEL_MAX} chars)");
                return Err(wrong(statement, pair, Code::Label, &text, "too long"));
            }
            rule.labels.extend(Some(label).filter(|label| !label.is_empty()));
        }
        Rule::ridentifier => {
            let number = number(statement, pair)?;
            rule.ridentifier = Some(number).filter(|&number| number > 0);
        }
        _ => {}
    }
    Ok(())
}

fn number(statement: &Statement, pair: &Pair) -> Fallible<u32> {
    let word = pair.clone().into_inner().find(|part| part.as_rule() == Rule::numstr);
    value(statement, &word.unwrap_or_else(|| pair.clone()), u32::MAX)
}

/// A number that may be hexadecimal.
fn value(statement: &Statement, pair: &Pair, most: u32) -> Fallible<u32> {
    let number = match number_of(pair) {
        Some(number) => u64::try_from(number).ok(),
        None => c_number(&string(pair)),
    };
    let number = number.and_then(|number| u32::try_from(number).ok());
    number.filter(|&number| number <= most).ok_or_else(|| {
        let text = format!("{} is not a number", string(pair));
        wrong(statement, pair, Code::Value, &text, &format!("goes from 0 to {most}"))
    })
}

/// What a `dummynet` node says; `None` for the number 0, which is none.
///
/// # Errors
/// The message about a number that no pipe can have.
pub(crate) fn dummynet(statement: &Statement, pair: &Pair) -> Fallible<Option<Dummynet>> {
    let pipe = pair.clone().into_inner().any(|part| part.as_rule() == Rule::kw_dnpipe);
    let kind = if pipe { DummynetKind::Pipe } else { DummynetKind::Queue };
    let mut numbers = [0_u16; 2];
    let words = pair.clone().into_inner().filter(|part| part.as_rule() == Rule::numstr);
    for (slot, word) in numbers.iter_mut().zip(words) {
        let number = value(statement, &word, u32::from(u16::MAX))?;
        *slot = u16::try_from(number).unwrap_or(u16::MAX);
    }
    let [number, back] = numbers;
    Ok(Some(Dummynet { kind, number, back }).filter(|_| number > 0 || back > 0))
}

/// The rules that `spec` stands for; combinations of two address families are left out.
///
/// # Errors
/// The message about too many of them, or none.
pub(crate) fn expand(
    statement: &Statement,
    spec: &EtherSpec,
    known: usize,
) -> Fallible<Vec<EtherRule>> {
    let lengths = [
        spec.interfaces.len(),
        spec.types.len(),
        spec.from.len(),
        spec.to.len(),
        spec.l3_from.len(),
        spec.l3_to.len(),
    ];
    let whole = statement.locate(0, statement.text.trim_end().len());
    let count = lengths.into_iter().fold(1_usize, |n, len| n.saturating_mul(len.max(1)));
    if count.saturating_add(known) > RULES_MAX {
        let text = format!(
            "rule expands to {count} rules, with {known} before it more than the limit of \
             {RULES_MAX}"
        );
        return Err(Box::new(
            Diagnostic::error(Code::TooMany, text)
                .at(&whole, "the lists of this rule multiply")
                .line_at(statement.end)
                .help("put long lists of addresses into a table"),
        ));
    }
    let mut rules = Vec::new();
    for number in 0..count {
        // The last list goes first.
        let mut rest = number;
        let mut at = [0; 6];
        for (at, len) in at.iter_mut().zip(lengths).rev() {
            *at = rest % len.max(1);
            rest /= len.max(1);
        }
        rules.extend(one(spec, at));
    }
    if rules.is_empty() {
        return Err(Box::new(
            Diagnostic::error(Code::NoCombination, "rule expands to no valid combination")
                .at(&whole, "all combinations mix address families")
                .line_at(statement.end),
        ));
    }
    Ok(rules)
}

/// One combination.
fn one(spec: &EtherSpec, at: [usize; 6]) -> Option<EtherRule> {
    let mut rule = spec.rule.clone();
    rule.interface = spec.interfaces.get(at[0]).cloned();
    let any = Host::any();
    let from = spec.l3_from.get(at[4]).unwrap_or(&any);
    let to = spec.l3_to.get(at[5]).unwrap_or(&any);
    if from.af.zip(to.af).is_some_and(|(from, to)| from != to) {
        return None;
    }
    let family = from.af.or(to.af).map(|af| match af {
        Af::Inet => TYPE_IPV4,
        Af::Inet6 => TYPE_IPV6,
    });
    rule.proto = spec.types.get(at[1]).copied().or(family);
    rule.from = spec.from.get(at[2]).copied();
    rule.to = spec.to.get(at[3]).copied();
    let end = |host: &Host| Endpoint { negated: host.negated, addr: host.addr.clone(), port: None };
    rule.l3_from = end(from);
    rule.l3_to = end(to);
    Some(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_have_six_octets() {
        assert_eq!(octets("0:1:02:a:ff:5"), Some([0, 1, 2, 10, 255, 5]));
        for text in
            ["", "0:1:2:3:4", "0:1:2:3:4:5:6", "000:1:2:3:4:5", "0:1:2:3:4:+5", "x:1:2:3:4:5"]
        {
            assert_eq!(octets(text), None, "{text}");
        }
    }
}
