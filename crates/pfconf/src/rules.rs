//! `pass`, `block` and `match` lines before their lists are expanded.
//!
//! Source: pf.conf(5) "PACKET FILTERING"; OpenBSD sbin/pfctl/parse.y `pfrule`, `blockspec`,
//! `filter_opt`.

use pfapi::addr::Af;
use pfapi::check::{INTERFACE_NAME_MAX, LABEL_MAX};
use pfapi::port::PortMatch;
use pfapi::ruleset::{Action, BlockAnswer, IcmpMatch, InterfaceMatch, StatePolicy, proto};
use pfapi::units::Direction;

use crate::address::{Host, World, hosts};
use crate::criteria::{Flags, flags, icmp, icmp_code, port, protocol};
use crate::diag::{Code, Diagnostic};
use crate::parser::{Fallible, Pair, Rule, place, string};
use crate::scan::{Place, Statement};

/// Code of `port-unr` in ICMP type 3 and in ICMPv6 type 1: the default of `return-icmp`.
const PORT_UNREACHABLE: u8 = 3;
const PORT_UNREACHABLE6: u8 = 4;

/// One end of a rule with its lists.
#[derive(Clone, Debug, Default)]
pub(crate) struct Side {
    pub(crate) hosts: Vec<Host>,
    pub(crate) ports: Vec<PortMatch>,
}

/// A rule with its lists, and where its parts are.
#[derive(Clone, Debug)]
pub(crate) struct RuleSpec {
    pub(crate) action: Action,
    pub(crate) direction: Option<Direction>,
    pub(crate) quick: bool,
    pub(crate) interfaces: Vec<InterfaceMatch>,
    pub(crate) af: Option<Af>,
    pub(crate) protocols: Vec<u8>,
    pub(crate) from: Side,
    pub(crate) to: Side,
    pub(crate) flags: Option<Flags>,
    /// Family of the word `icmp-type` or `icmp6-type`, and the types.
    pub(crate) icmp: Option<(Af, Vec<IcmpMatch>)>,
    /// `None` when the rule says nothing about state.
    pub(crate) state: Option<StatePolicy>,
    pub(crate) label: Option<String>,
    pub(crate) places: Places,
}

/// Where the parts of a rule are that its combinations can be wrong about.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) rule: Place,
    pub(crate) action: Place,
    pub(crate) family: Option<Place>,
    pub(crate) protocol: Option<Place>,
    pub(crate) hosts: Option<Place>,
    pub(crate) port: Option<Place>,
    pub(crate) flags: Option<Place>,
    pub(crate) icmp: Option<Place>,
    pub(crate) state: Option<Place>,
    pub(crate) label: Option<Place>,
}

/// Reads the parts of a rule.
///
/// # Errors
/// The message about the first part that means nothing.
pub(crate) fn rule(
    world: World,
    statement: &Statement,
    parts: &[Pair],
    block_returns: bool,
) -> Fallible<RuleSpec> {
    let trimmed = statement.text.trim_end().len();
    let start = statement.text.len() - statement.text.trim_start().len();
    let whole = statement.locate(start, trimmed);
    let mut spec = RuleSpec {
        action: Action::Pass,
        direction: None,
        quick: false,
        interfaces: Vec::new(),
        af: None,
        protocols: Vec::new(),
        from: Side::default(),
        to: Side::default(),
        flags: None,
        icmp: None,
        state: None,
        label: None,
        places: Places {
            rule: whole.clone(),
            action: whole,
            family: None,
            protocol: None,
            hosts: None,
            port: None,
            flags: None,
            icmp: None,
            state: None,
            label: None,
        },
    };
    for part in parts {
        let here = || Some(place(statement, part));
        match part.as_rule() {
            Rule::action => {
                spec.action = action(statement, part, block_returns)?;
                spec.places.action = place(statement, part);
            }
            Rule::direction => {
                let out = part.clone().into_inner().any(|word| word.as_rule() == Rule::kw_out);
                spec.direction = Some(if out { Direction::Out } else { Direction::In });
            }
            Rule::kw_quick => spec.quick = true,
            Rule::on => spec.interfaces = interfaces(statement, part)?,
            Rule::family => {
                let v6 = part.clone().into_inner().any(|word| word.as_rule() == Rule::kw_inet6);
                spec.af = Some(if v6 { Af::Inet6 } else { Af::Inet });
                spec.places.family = here();
            }
            Rule::proto => {
                spec.places.protocol = here();
                for item in part.clone().into_inner() {
                    if item.as_rule() == Rule::proto_item {
                        spec.protocols.push(protocol(world, statement, &item)?);
                    }
                }
            }
            Rule::hosts => {
                spec.places.hosts = here();
                for side in part.clone().into_inner() {
                    match side.as_rule() {
                        Rule::from => {
                            spec.from = read_side(world, statement, &side, &mut spec.places)?;
                        }
                        Rule::to => {
                            spec.to = read_side(world, statement, &side, &mut spec.places)?;
                        }
                        _ => {}
                    }
                }
            }
            Rule::option => {
                for option in part.clone().into_inner() {
                    read_option(statement, &option, &mut spec)?;
                }
            }
            _ => {}
        }
    }
    flags_need_tcp(&spec)?;
    Ok(spec)
}

fn action(statement: &Statement, pair: &Pair, block_returns: bool) -> Fallible<Action> {
    let mut action = Action::Pass;
    for word in pair.clone().into_inner() {
        match word.as_rule() {
            Rule::kw_match => action = Action::Match,
            Rule::kw_block => {
                let answer = if block_returns { BlockAnswer::Return } else { BlockAnswer::Drop };
                action = Action::Block(answer);
            }
            Rule::answer => {
                for answer in word.into_inner() {
                    action = Action::Block(block_answer(statement, &answer)?);
                }
            }
            _ => {}
        }
    }
    Ok(action)
}

fn block_answer(statement: &Statement, answer: &Pair) -> Fallible<BlockAnswer> {
    let words = || answer.clone().into_inner();
    let codes: Vec<Pair> = words().filter(|part| part.as_rule() == Rule::icmp_word).collect();
    let code_of = |index: usize, af: Af| {
        let (icmp_type, default) = match af {
            Af::Inet => (3, PORT_UNREACHABLE),
            Af::Inet6 => (1, PORT_UNREACHABLE6),
        };
        codes.get(index).map_or(Ok(default), |word| icmp_code(statement, word, af, icmp_type))
    };
    Ok(match answer.as_rule() {
        Rule::kw_return => BlockAnswer::Return,
        Rule::return_rst => {
            let Some(number) = words().find(|part| part.as_rule() == Rule::number) else {
                return Ok(BlockAnswer::ReturnRst { ttl: None });
            };
            match number.as_str().parse::<u8>() {
                Ok(ttl) => BlockAnswer::ReturnRst { ttl: Some(ttl) },
                Err(_) => {
                    return Err(Box::new(
                        Diagnostic::error(
                            Code::ReturnRst,
                            format!("illegal ttl value {}", number.as_str()),
                        )
                        .at(&place(statement, &number), "a ttl goes from 0 to 255"),
                    ));
                }
            }
        }
        Rule::return_icmp => {
            BlockAnswer::ReturnIcmp { code: code_of(0, Af::Inet)?, code6: code_of(1, Af::Inet6)? }
        }
        Rule::return_icmp6 => {
            BlockAnswer::ReturnIcmp { code: PORT_UNREACHABLE, code6: code_of(0, Af::Inet6)? }
        }
        _ => BlockAnswer::Drop,
    })
}

fn interfaces(statement: &Statement, pair: &Pair) -> Fallible<Vec<InterfaceMatch>> {
    let mut found = Vec::new();
    for item in pair.clone().into_inner().filter(|part| part.as_rule() == Rule::if_item) {
        let mut interface = InterfaceMatch { negated: false, name: "any".to_owned() };
        for word in item.clone().into_inner() {
            match word.as_rule() {
                Rule::not => interface.negated = true,
                Rule::string => interface.name = string(&word),
                _ => {}
            }
        }
        if interface.name.is_empty() || interface.name.len() > INTERFACE_NAME_MAX {
            return Err(Box::new(
                Diagnostic::error(Code::Interface, "interface name too long").at(
                    &place(statement, &item),
                    format!("1 to {INTERFACE_NAME_MAX} octets are possible"),
                ),
            ));
        }
        found.push(interface);
    }
    Ok(found)
}

fn read_side(
    world: World,
    statement: &Statement,
    pair: &Pair,
    places: &mut Places,
) -> Fallible<Side> {
    let mut side = Side::default();
    for part in pair.clone().into_inner() {
        match part.as_rule() {
            Rule::host_list | Rule::host_item => side.hosts = hosts(world, statement, &part)?,
            Rule::ports => {
                places.port.get_or_insert_with(|| place(statement, &part));
                for item in part.into_inner() {
                    if item.as_rule() == Rule::port_item {
                        side.ports.push(port(world, statement, &item)?);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(side)
}

fn read_option(statement: &Statement, option: &Pair, spec: &mut RuleSpec) -> Fallible<()> {
    let here = place(statement, option);
    let taken = match option.as_rule() {
        Rule::flags => spec.places.flags.replace(here.clone()).map(|place| (place, "flags")),
        Rule::icmp => spec.places.icmp.replace(here.clone()).map(|place| (place, "icmp-type")),
        Rule::no_state | Rule::keep_state => {
            spec.places.state.replace(here.clone()).map(|place| (place, "modulate or keep"))
        }
        Rule::label => spec.places.label.replace(here.clone()).map(|place| (place, "label")),
        _ => None,
    };
    if let Some((before, name)) = taken {
        return Err(Box::new(
            Diagnostic::error(Code::Twice, format!("{name} cannot be redefined"))
                .at(&here, "given a second time")
                .and(before.span, "given before"),
        ));
    }
    match option.as_rule() {
        Rule::flags => spec.flags = Some(flags(statement, option)?),
        Rule::icmp => spec.icmp = Some(icmp(statement, option)?),
        Rule::no_state => spec.state = Some(StatePolicy::None),
        Rule::keep_state => {
            let mut words = option.clone().into_inner();
            if let Some(options) = words.find(|word| word.as_rule() == Rule::state_options) {
                let start = options.as_span().start();
                return Err(Box::new(
                    Diagnostic::error(
                        Code::Unsupported,
                        "state options are not supported by this version",
                    )
                    .at(&statement.locate(start, start + 1), "not supported"),
                ));
            }
            spec.state = Some(StatePolicy::Keep);
        }
        Rule::label => {
            let text = option.clone().into_inner().find(|word| word.as_rule() == Rule::string);
            let text = text.map(|word| string(&word)).unwrap_or_default();
            if text.len() > LABEL_MAX {
                return Err(Box::new(label_too_long(&here, text.len())));
            }
            spec.label = Some(text);
        }
        _ => {}
    }
    Ok(())
}

/// A label that has no room in a rule.
pub(crate) fn label_too_long(here: &Place, len: usize) -> Diagnostic {
    Diagnostic::error(Code::Label, format!("rule label too long (max {LABEL_MAX} chars)"))
        .at(here, format!("{len} octets"))
}

/// `flags` is an error when no protocol of the rule can be TCP; else the others lose it.
fn flags_need_tcp(spec: &RuleSpec) -> Fallible<()> {
    let useless = !spec.protocols.is_empty() && !spec.protocols.contains(&proto::TCP);
    match (&spec.places.flags, spec.flags) {
        (Some(here), Some(Flags::Match(_))) if useless => Err(Box::new(
            Diagnostic::error(Code::Flags, "flags only apply to tcp")
                .at(here, "no protocol of this rule has flags")
                .help("take `flags` out, or add `tcp` to the protocols"),
        )),
        _ => Ok(()),
    }
}
