//! From the parse tree to what `altq` and `queue` lines say.
//!
//! Source: FreeBSD sbin/pfctl/parse.y `altqif`, `queuespec`, `queue_opt`, `scheduler`,
//! `hfscopts_item`, `fairqopts_item`, `codelopts_item`.

use pfapi::check::QUEUE_NAME_MAX;
use pfapi::ruleset::{QueueFlag, Scheduler};

use super::bandwidth::{Bandwidth, BandwidthError};
use super::given::{AltqSpec, Curve, Given, Interface, Options, QueueSpec};
use crate::criteria::{c_number, number_of};
use crate::diag::{Code, Diagnostic};
use crate::parser::{Fallible, Pair, Rule, string};
use crate::queues::wrong;
use crate::rules::{On, interfaces};
use crate::scan::Statement;
use crate::span::Span;

/// What an `altq` line says.
///
/// # Errors
/// The message about the first part that cannot be.
pub(crate) fn altq(statement: &Statement, parts: &[Pair]) -> Fallible<AltqSpec> {
    let (interfaces, given, queues) = common(statement, parts)?;
    let whole = statement.locate(0, statement.text.trim_end().len());
    let missing = |text: &str, label: &str, help: &str| {
        Box::new(
            Diagnostic::error(Code::Queue, text)
                .at(&whole, label)
                .line_at(statement.end)
                .help(help),
        )
    };
    let Some(scheduler) = given.scheduler else {
        let help = "add one of cbq, priq, hfsc, fairq and codelq";
        return Err(missing("no scheduler specified!", "which packet goes next?", help));
    };
    let assigned = parts.iter().any(|part| part.as_rule() == Rule::kw_queue);
    if !assigned && scheduler != Scheduler::Codel {
        let help = "add `queue { name ... }` at the end";
        return Err(Box::new(
            Diagnostic::error(Code::Syntax, "syntax error")
                .title("the line ends too early")
                .at_span(Span::new(statement.end, statement.end), "expected `queue`")
                .line_at(statement.end)
                .help(help),
        ));
    }
    if queues.is_empty() && scheduler != Scheduler::Codel {
        let help = "add `queue { name ... }` at the end";
        return Err(missing("no child queues specified", "no queue for packets", help));
    }
    if interfaces.is_empty() {
        let help = "add `on interface` behind `altq`";
        return Err(missing("no interface specified", "packets of which interface?", help));
    }
    Ok(AltqSpec { interfaces, scheduler, given, queues })
}

/// What a `queue` line says.
///
/// # Errors
/// The message about the first part that cannot be.
pub(crate) fn queue(statement: &Statement, parts: &[Pair]) -> Fallible<QueueSpec> {
    let (interfaces, given, queues) = common(statement, parts)?;
    let name = parts.iter().find(|part| part.as_rule() == Rule::string);
    let Some(pair) = name else {
        let whole = statement.locate(0, statement.text.trim_end().len());
        return Err(Box::new(
            Diagnostic::error(Code::Queue, "a queue needs a name").at(&whole, "this queue"),
        ));
    };
    let name = string(pair);
    if name.is_empty() || name.len() > QUEUE_NAME_MAX {
        let text = format!("queue name too long (max {QUEUE_NAME_MAX} chars)");
        return Err(wrong(statement, pair, text, "1 to 63 octets are possible"));
    }
    if given.bucket > 0 {
        let text = "cannot specify tbrsize for queue";
        return Err(wrong(statement, pair, text, "only interfaces have a token bucket"));
    }
    Ok(QueueSpec { name, interfaces, given, queues })
}

/// Interfaces, options, and the queues below.
type Common = (Vec<Interface>, Given, Vec<String>);

fn common(statement: &Statement, parts: &[Pair]) -> Fallible<Common> {
    let mut on = Vec::new();
    let mut given = Given::default();
    let mut seen: Vec<Rule> = Vec::new();
    let mut queues = Vec::new();
    for part in parts {
        match part.as_rule() {
            Rule::on => {
                on = interfaces(statement, part)?
                    .into_iter()
                    .filter_map(|on| match on {
                        On::Interface(on) => {
                            Some(Interface { negated: on.negated, name: on.into_inner().name })
                        }
                        On::Rdomain { .. } => None,
                    })
                    .collect();
            }
            Rule::altq_option => {
                let Some(option) = part.clone().into_inner().next() else { continue };
                read_option(statement, &option, &mut given, seen.contains(&option.as_rule()))?;
                seen.push(option.as_rule());
            }
            Rule::queue_list => queues = names(statement, part)?,
            _ => {}
        }
    }
    Ok((on, given, queues))
}

fn names(statement: &Statement, pair: &Pair) -> Fallible<Vec<String>> {
    let words = pair.clone().into_inner().filter(|part| part.as_rule() == Rule::string);
    words
        .map(|word| {
            let name = string(&word);
            if name.is_empty() || name.len() > QUEUE_NAME_MAX {
                let text = format!("queue name '{name}' too long (max {QUEUE_NAME_MAX} chars)");
                return Err(wrong(statement, &word, text, "1 to 63 octets are possible"));
            }
            Ok(name)
        })
        .collect()
}

fn read_option(statement: &Statement, pair: &Pair, given: &mut Given, again: bool) -> Fallible<()> {
    let number = |text: String, most: u32| {
        let number = pair.clone().into_inner().find(|part| part.as_rule() == Rule::number);
        let number = number.as_ref().and_then(number_of).and_then(|n| u32::try_from(n).ok());
        number
            .filter(|&number| number <= most)
            .ok_or_else(|| wrong(statement, pair, text, &format!("goes from 0 to {most}")))
    };
    let name = match pair.as_rule() {
        Rule::altq_bandwidth => "bandwidth",
        Rule::altq_priority => "priority",
        Rule::qlimit => "qlimit",
        Rule::tbrsize => "tbrsize",
        _ => "scheduler",
    };
    // What stands behind the word is read before it is found to be given twice.
    let mut after = given.clone();
    match pair.as_rule() {
        Rule::altq_bandwidth => after.bandwidth = only_rate(statement, pair)?,
        Rule::altq_scheduler => {
            (after.scheduler, after.options) = scheduler(statement, pair)?;
        }
        _ => {}
    }
    if again {
        let text = format!("{name} cannot be respecified");
        return Err(wrong(statement, pair, text, "given a second time"));
    }
    *given = after;
    match pair.as_rule() {
        Rule::altq_priority => {
            let priority = number("priority out of range: max 255".to_owned(), 255)?;
            given.priority = u8::try_from(priority).unwrap_or(u8::MAX);
        }
        Rule::qlimit => {
            let qlimit = number("qlimit out of range: max 65535".to_owned(), 65_535)?;
            given.qlimit = u16::try_from(qlimit).unwrap_or(u16::MAX);
        }
        Rule::tbrsize => {
            given.bucket = number(format!("tbrsize too big: max {}", u32::MAX), u32::MAX)?;
        }
        _ => {}
    }
    Ok(())
}

/// The bandwidth in a node that has one.
fn only_rate(statement: &Statement, pair: &Pair) -> Fallible<Bandwidth> {
    let rates = rates(statement, pair)?;
    Ok(rates.first().copied().unwrap_or(Bandwidth::ALL))
}

fn rates(statement: &Statement, pair: &Pair) -> Fallible<Vec<Bandwidth>> {
    let rates = pair.clone().into_inner().filter(|part| part.as_rule() == Rule::altq_rate);
    rates.map(|rate| read_rate(statement, &rate)).collect()
}

fn read_rate(statement: &Statement, pair: &Pair) -> Fallible<Bandwidth> {
    let number = pair.clone().into_inner().find(|part| part.as_rule() == Rule::number);
    if let Some(number) = number {
        return match number_of(&number).and_then(|number| u64::try_from(number).ok()) {
            Some(number) => Ok(Bandwidth::Absolute(number)),
            None => Err(wrong(statement, pair, "bandwidth number too big", "no bandwidth")),
        };
    }
    Bandwidth::parse(&string(pair)).map_err(|error| match error {
        BandwidthError::OutOfRange => {
            wrong(statement, pair, "bandwidth spec out of range", "more than all")
        }
        BandwidthError::Unit(unit) => {
            let text = format!("unknown unit {unit}");
            wrong(statement, pair, text, "the units are b, Kb, Mb, Gb and %")
        }
    })
}

fn scheduler(statement: &Statement, pair: &Pair) -> Fallible<(Option<Scheduler>, Options)> {
    let mut scheduler = None;
    let mut options = Options::default();
    for part in pair.clone().into_inner() {
        match part.as_rule() {
            Rule::kw_cbq => scheduler = Some(Scheduler::Cbq),
            Rule::kw_priq => scheduler = Some(Scheduler::Priq),
            Rule::kw_hfsc => scheduler = Some(Scheduler::Hfsc),
            Rule::kw_fairq => scheduler = Some(Scheduler::Fairq),
            Rule::kw_codelq | Rule::kw_codel => scheduler = Some(Scheduler::Codel),
            Rule::altq_flag => flag(statement, &part, scheduler, &mut options)?,
            Rule::altq_curve | Rule::fairq_curve => curve(statement, &part, &mut options)?,
            Rule::fairq_hogs => options.hogs = Some(only_rate(statement, &part)?),
            Rule::fairq_buckets => options.buckets = value(statement, &part)?,
            Rule::codel_time => {
                let interval = has(&part, Rule::kw_interval);
                let (slot, name) = if interval {
                    (&mut options.interval, "interval")
                } else {
                    (&mut options.target, "target")
                };
                if *slot > 0 {
                    let text = format!("{name} already specified");
                    return Err(wrong(statement, &part, text, "given a second time"));
                }
                *slot = value(statement, &part)?;
            }
            _ => {}
        }
    }
    Ok((scheduler, options))
}

fn has(pair: &Pair, rule: Rule) -> bool {
    pair.clone().into_inner().any(|part| part.as_rule() == rule)
}

/// A number that may be hexadecimal.
fn value(statement: &Statement, pair: &Pair) -> Fallible<u32> {
    let word = pair.clone().into_inner().find(|part| part.as_rule() == Rule::numstr);
    let text = word.as_ref().map(string).unwrap_or_default();
    let number = match word.as_ref().and_then(number_of) {
        Some(number) => u64::try_from(number).ok(),
        None => c_number(&text),
    };
    number.and_then(|number| u32::try_from(number).ok()).ok_or_else(|| {
        let text = format!("{text} is not a number");
        wrong(statement, pair, text, &format!("goes from 0 to {}", u32::MAX))
    })
}

fn flag(
    statement: &Statement,
    pair: &Pair,
    scheduler: Option<Scheduler>,
    options: &mut Options,
) -> Fallible<()> {
    let word = string(pair);
    let known = QueueFlag::ALL.into_iter().find(|flag| flag.word() == word);
    let codel = scheduler == Some(Scheduler::Codel);
    let possible = |flag: QueueFlag| match flag {
        QueueFlag::Ecn => true,
        QueueFlag::Borrow => scheduler == Some(Scheduler::Cbq),
        _ => !codel,
    };
    let Some(flag) = known.filter(|&flag| possible(flag)) else {
        let name = scheduler.map_or("", Scheduler::word);
        let kind = if codel { "option" } else { "flag" };
        let text = format!("unknown {name} {kind} \"{word}\"");
        let flags = QueueFlag::ALL.into_iter().filter(|&flag| possible(flag));
        let flags: Vec<&str> = flags.map(QueueFlag::word).collect();
        let label = format!("`{name}` has {}", flags.join(", "));
        return Err(wrong(statement, pair, text, &label));
    };
    options.flags.insert(flag);
    if flag == QueueFlag::Ecn && !codel {
        options.flags.insert(QueueFlag::Red);
    }
    Ok(())
}

fn curve(statement: &Statement, pair: &Pair, options: &mut Options) -> Fallible<()> {
    let (name, slot) = if has(pair, Rule::kw_realtime) {
        ("realtime", &mut options.realtime)
    } else if has(pair, Rule::kw_upperlimit) {
        ("upperlimit", &mut options.upperlimit)
    } else {
        ("linkshare", &mut options.linkshare)
    };
    let rates = rates(statement, pair)?;
    let time = pair
        .clone()
        .into_inner()
        .find(|part| matches!(part.as_rule(), Rule::number | Rule::numstr));
    let duration = match &time {
        None => 0,
        Some(_) if pair.as_rule() == Rule::fairq_curve => value(statement, pair)?,
        Some(number) => {
            let number = number_of(number).and_then(|number| i32::try_from(number).ok());
            let number = number.and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| {
                let label = format!("milliseconds go from 0 to {}", i32::MAX);
                wrong(statement, pair, "timing in curve out of range", &label)
            })?
        }
    };
    if slot.is_some() {
        let text = format!("{name} already specified");
        return Err(wrong(statement, pair, text, "given a second time"));
    }
    let (first, rate) = match rates.as_slice() {
        [first, rate] => (*first, *rate),
        [rate] => (Bandwidth::Absolute(0), *rate),
        _ => (Bandwidth::Absolute(0), Bandwidth::Absolute(0)),
    };
    *slot = Some(Curve { first, duration, rate });
    Ok(())
}
