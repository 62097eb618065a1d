//! `pass`, `block`, `match` and `anchor` lines before their lists are expanded.
//!
//! Source: pf.conf(5) "PACKET FILTERING"; OpenBSD sbin/pfctl/parse.y `pfrule`, `anchorrule`,
//! `blockspec`, `logopt`.

use pfapi::addr::Af;
use pfapi::check::{INTERFACE_NAME_MAX, RTABLE_MAX};
use pfapi::port::PortMatch;
use pfapi::ruleset::{
    Action, BlockAnswer, IcmpMatch, IdMatch, InterfaceMatch, Log, RouteKind, Rule as Finished,
    StatePolicy,
};
use pfapi::shared::Shared;
use pfapi::units::Direction;

use crate::address::{Host, World, hosts};
use crate::criteria::{Flags, answer_code, number_of, port, protocol};
use crate::diag::{Code, Diagnostic};
use crate::dialect::Dialect;
use crate::filter::option;
use crate::limiters::Limiters;
use crate::parser::{Fallible, Pair, Rule, place, string};
use crate::pool::PoolSpec;
use crate::scan::{Place, Statement};
use crate::state::StateItem;
use crate::translate::DivertSpec;

/// Code of `port-unr` in ICMP type 3 and in ICMPv6 type 1: the default of `return-icmp`.
const PORT_UNREACHABLE: u8 = 3;
const PORT_UNREACHABLE6: u8 = 4;

/// Where rules apply: an interface or a routing domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Interface(Shared<InterfaceMatch>),
    Rdomain { negated: bool, id: u32 },
}

/// One end of a rule with its lists.
#[derive(Clone, Debug, Default)]
pub(crate) struct Side {
    pub(crate) hosts: Vec<Host>,
    pub(crate) ports: Vec<PortMatch>,
}

/// A rule with its lists, and where its parts are.
#[derive(Clone, Debug)]
pub(crate) struct RuleSpec {
    /// What all combinations share.
    pub(crate) rule: Finished,
    pub(crate) interfaces: Vec<On>,
    pub(crate) protocols: Vec<u8>,
    pub(crate) from: Side,
    pub(crate) systems: Vec<String>,
    pub(crate) to: Side,
    pub(crate) users: Vec<IdMatch>,
    pub(crate) groups: Vec<IdMatch>,
    pub(crate) flags: Option<Flags>,
    /// Family of the word `icmp-type` or `icmp6-type`, and the types.
    pub(crate) icmp: Option<(Af, Vec<IcmpMatch>)>,
    /// `None` when the rule says nothing about state.
    pub(crate) state: Option<StatePolicy>,
    pub(crate) state_items: Vec<StateItem>,
    pub(crate) divert: Option<DivertSpec>,
    pub(crate) nat: Option<PoolSpec>,
    /// The pool of `nat` is that of `binat-to`.
    pub(crate) binat: bool,
    pub(crate) rdr: Option<PoolSpec>,
    pub(crate) route: Option<(RouteKind, PoolSpec)>,
    /// `af-to` was given.
    pub(crate) af_to: bool,
    pub(crate) places: Places,
}

/// Where the parts of a rule are that its combinations can be wrong about.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) rule: Place,
    pub(crate) action: Place,
    /// Where pfctl has read the rule to its end.
    pub(crate) end: usize,
    parts: Vec<(&'static str, Place)>,
}

impl Places {
    /// Where the part is; the rule as a whole when it was not given.
    pub(crate) fn of(&self, part: &str) -> &Place {
        self.parts.iter().find(|(name, _)| *name == part).map_or(&self.rule, |(_, place)| place)
    }

    pub(crate) fn has(&self, part: &str) -> Option<&Place> {
        self.parts.iter().find(|(name, _)| *name == part).map(|(_, place)| place)
    }

    pub(crate) fn add(&mut self, part: &'static str, place: Place) {
        self.parts.push((part, place));
    }
}

impl RuleSpec {
    /// A rule that says nothing but its action.
    pub(crate) fn new(statement: &Statement, action: Action) -> Self {
        let trimmed = statement.text.trim_end().len();
        let start = statement.text.len() - statement.text.trim_start().len();
        let whole = statement.locate(start, trimmed);
        Self {
            rule: Finished { state: StatePolicy::None, ..Finished::new(action) },
            interfaces: Vec::new(),
            protocols: Vec::new(),
            from: Side::default(),
            systems: Vec::new(),
            to: Side::default(),
            users: Vec::new(),
            groups: Vec::new(),
            flags: None,
            icmp: None,
            state: None,
            state_items: Vec::new(),
            divert: None,
            nat: None,
            binat: false,
            rdr: None,
            route: None,
            af_to: false,
            places: Places {
                rule: whole.clone(),
                action: whole,
                end: statement.end,
                parts: Vec::new(),
            },
        }
    }
}

/// What earlier `set` lines and queues mean for a rule.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) world: World<'a>,
    /// `set block-policy return`
    pub(crate) block_returns: bool,
    /// Not `set reassemble no`.
    pub(crate) reassembles: bool,
    /// Names of queues that packets can be put into.
    pub(crate) queues: &'a [pfapi::ruleset::QueueDef],
    pub(crate) limiters: &'a Limiters,
}

/// Reads the parts of a `filter` or `anchor` node.
///
/// # Errors
/// The message about the first part that means nothing.
pub(crate) fn rule(context: Context, statement: &Statement, parts: &[Pair]) -> Fallible<RuleSpec> {
    let mut spec = RuleSpec::new(statement, Action::Pass);
    for part in parts {
        let here = || place(statement, part);
        match part.as_rule() {
            Rule::action => {
                spec.rule.action = action(context, statement, part)?;
                spec.places.action = here();
            }
            Rule::kw_anchor => spec.places.action = here(),
            Rule::direction => {
                let out = part.clone().into_inner().any(|word| word.as_rule() == Rule::kw_out);
                spec.rule.direction = Some(if out { Direction::Out } else { Direction::In });
            }
            Rule::log_quick => (spec.rule.log, spec.rule.quick) = log_quick(statement, part)?,
            Rule::kw_quick => spec.rule.quick = true,
            Rule::on => spec.interfaces = interfaces(statement, part)?,
            Rule::family => spec.rule.af = Some(family(part)),
            Rule::proto => {
                spec.places.add("proto", here());
                for item in part.clone().into_inner() {
                    if item.as_rule() == Rule::proto_item {
                        spec.protocols.push(protocol(context.world, statement, &item)?);
                    }
                }
            }
            Rule::hosts => {
                spec.places.add("hosts", here());
                for side in part.clone().into_inner() {
                    endpoint(context.world, statement, &side, &mut spec)?;
                }
            }
            Rule::option | Rule::freebsd_option => {
                for part in part.clone().into_inner() {
                    option(context, statement, &part, &mut spec)?;
                }
            }
            Rule::routing => option(context, statement, part, &mut spec)?,
            _ => {}
        }
    }
    Ok(spec)
}

/// The family that a `family` node names.
pub(crate) fn family(pair: &Pair) -> Af {
    let v6 = pair.clone().into_inner().any(|word| word.as_rule() == Rule::kw_inet6);
    if v6 { Af::Inet6 } else { Af::Inet }
}

/// Reads a `log_quick` node.
///
/// # Errors
/// The message about an interface that is none for logs.
pub(crate) fn log_quick(statement: &Statement, pair: &Pair) -> Fallible<(Option<Log>, bool)> {
    let mut log = None;
    let mut quick = false;
    for part in pair.clone().into_inner() {
        match part.as_rule() {
            Rule::kw_quick => quick = true,
            Rule::log => log = Some(self::log(statement, &part)?),
            _ => {}
        }
    }
    Ok((log, quick))
}

/// Reads a `log` node.
///
/// # Errors
/// The message about an interface that is none for logs.
pub(crate) fn log(statement: &Statement, pair: &Pair) -> Fallible<Log> {
    let mut log = Log::default();
    for item in pair.clone().into_inner().filter(|part| part.as_rule() == Rule::log_option) {
        let mut words = item.clone().into_inner();
        match words.next().map(|word| word.as_rule()) {
            Some(Rule::kw_all) => log.all = true,
            Some(Rule::kw_matches) => log.matches = true,
            Some(Rule::kw_user | Rule::kw_group) => log.user = true,
            _ => {
                let name = words.map(|word| string(&word)).collect::<Vec<_>>().join(" ");
                let wrong = |text: String, label: &str| {
                    Box::new(
                        Diagnostic::error(Code::Log, text)
                            .at(&place(statement, &item), label)
                            .line_at(statement.next_token(item.as_span().end()))
                            .help("logs go to pflog0 up to pflog255"),
                    )
                };
                let Some(number) = name.strip_prefix("pflog") else {
                    let text = format!("{name}: should be a pflog interface");
                    return Err(wrong(text, "not an interface for logs"));
                };
                let last = match number.parse::<i64>() {
                    Ok(..0) => Err("too small"),
                    Ok(number) => u8::try_from(number).map_err(|_| "too large"),
                    Err(_) => Err("invalid"),
                };
                let number = last.map_err(|why| wrong(format!("{name}: {why}"), "this number"))?;
                if number > 0 {
                    log.interface = number;
                }
            }
        }
    }
    Ok(log)
}

fn action(context: Context, statement: &Statement, pair: &Pair) -> Fallible<Action> {
    let block_returns = context.block_returns;
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
                    action =
                        Action::Block(block_answer(context.world.dialect, statement, &answer)?);
                }
            }
            _ => {}
        }
    }
    Ok(action)
}

fn block_answer(dialect: Dialect, statement: &Statement, answer: &Pair) -> Fallible<BlockAnswer> {
    let words = || answer.clone().into_inner();
    let codes: Vec<Pair> = words().filter(|part| part.as_rule() == Rule::icmp_word).collect();
    let code_of = |index: usize, af: Af| {
        let (icmp_type, default) = match af {
            Af::Inet => (3, PORT_UNREACHABLE),
            Af::Inet6 => (1, PORT_UNREACHABLE6),
        };
        let code = |word| answer_code(dialect, statement, word, af, icmp_type);
        codes.get(index).map_or(Ok(default), code)
    };
    Ok(match answer.as_rule() {
        Rule::kw_return => BlockAnswer::Return,
        Rule::return_rst => {
            let Some(number) = words().find(|part| part.as_rule() == Rule::number) else {
                return Ok(BlockAnswer::ReturnRst { ttl: None });
            };
            match number.as_str().parse::<u8>() {
                Ok(ttl) => BlockAnswer::ReturnRst { ttl: Some(ttl).filter(|&ttl| ttl > 0) },
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

/// Reads an `on` node.
///
/// # Errors
/// The message about a name that is too long.
pub(crate) fn interfaces(statement: &Statement, pair: &Pair) -> Fallible<Vec<On>> {
    let mut found = Vec::new();
    for item in pair.clone().into_inner().filter(|part| part.as_rule() == Rule::if_item) {
        let negated = item.clone().into_inner().any(|part| part.as_rule() == Rule::not);
        found.push(interface(statement, &item, negated)?);
    }
    Ok(found)
}

/// The interface or routing domain named somewhere in `pair`.
///
/// # Errors
/// The message about a name that is too long.
pub(crate) fn interface(statement: &Statement, pair: &Pair, negated: bool) -> Fallible<On> {
    let mut name = "any".to_owned();
    for word in pair.clone().into_inner().flatten() {
        match word.as_rule() {
            Rule::rdomain => {
                let id = number_of(&word).and_then(|id| u32::try_from(id).ok());
                let Some(id) = id.filter(|&id| id <= RTABLE_MAX) else {
                    let number = number_of(&word).unwrap_or_default();
                    return Err(Box::new(
                        Diagnostic::error(Code::Rtable, format!("rdomain {number} outside range"))
                            .at(&place(statement, &word), "routing domains go from 0 to 255"),
                    ));
                };
                return Ok(On::Rdomain { negated, id });
            }
            Rule::string => name = string(&word),
            _ => {}
        }
    }
    if name.len() > INTERFACE_NAME_MAX {
        return Err(Box::new(Diagnostic::error(Code::Interface, "interface name too long").at(
            &place(statement, pair),
            format!("{} octets, {INTERFACE_NAME_MAX} at most", name.len()),
        )));
    }
    Ok(On::Interface(InterfaceMatch { negated, name }.into()))
}

/// Reads one of `from`, `os`, `to`.
fn endpoint(world: World, statement: &Statement, pair: &Pair, spec: &mut RuleSpec) -> Fallible<()> {
    match pair.as_rule() {
        Rule::from => spec.from = read_side(world, statement, pair, &mut spec.places)?,
        Rule::to => {
            spec.to = read_side(world, statement, pair, &mut spec.places)?;
            let failed = |host: &Host| host.addr == pfapi::ruleset::AddrMatch::UrpfFailed;
            if spec.to.hosts.iter().any(failed) {
                let text = "\"urpf-failed\" is not permitted in a destination address";
                return Err(Box::new(
                    Diagnostic::error(Code::Address, text)
                        .at(&place(statement, pair), "only a source can have come the wrong way")
                        .line_at(statement.next_token(pair.as_span().end())),
                ));
            }
        }
        Rule::os => {
            spec.places.add("os", place(statement, pair));
            let names = pair.clone().into_inner().filter(|part| part.as_rule() == Rule::os_item);
            for name in names {
                for word in name.into_inner() {
                    spec.systems.push(string(&word));
                }
            }
        }
        _ => {}
    }
    Ok(())
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
                places.add("port", place(statement, &part));
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
