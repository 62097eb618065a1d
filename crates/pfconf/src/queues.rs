//! `queue` lines, and the tree that they make.
//!
//! Source: pf.conf(5) "QUEUEING"; OpenBSD sbin/pfctl/parse.y `queuespec`, `bandwidth`,
//! `expand_queue`; sbin/pfctl/pfctl.c `pfctl_find_childqs`, `pfctl_load_queues`.

use pfapi::check::QUEUE_NAME_MAX;
use pfapi::ruleset::{FlowQueue, QueueDef, ServiceCurve};

use crate::address::World;
use crate::criteria::number_of;
use crate::diag::{Code, Diagnostic};
use crate::parser::{Fallible, Pair, Rule, place, string};
use crate::print;
use crate::rules::{On, interfaces};
use crate::scan::Statement;

/// The message about a bandwidth that is a share of another one.
pub(crate) const SHARE: &str = "no bandwidth in % yet";
/// Most queues below all interfaces together; a loop of parents would have no end.
const MATCHES_MAX: usize = 10_000;

/// The message about a part of a queue that cannot be.
pub(crate) fn wrong(
    statement: &Statement,
    pair: &Pair,
    text: impl Into<String>,
    label: &str,
) -> Box<Diagnostic> {
    Box::new(Diagnostic::error(Code::Queue, text).at(&place(statement, pair), label))
}

/// The queues of a `queue` node: one for each interface.
///
/// # Errors
/// The message about the first part that cannot be.
pub(crate) fn queue(
    world: World,
    statement: &Statement,
    parts: &[Pair],
) -> Fallible<Vec<QueueDef>> {
    let (mut queue, on, quantum) = words(statement, parts)?;
    if quantum > 0
        && let Some(flows) = &mut queue.flows
    {
        flows.quantum = quantum;
    }
    let whole = statement.locate(0, statement.text.trim_end().len());
    let end = |text: &str, label: &str, help: &str| {
        Box::new(
            Diagnostic::error(Code::Queue, text)
                .at(&whole, label)
                .line_at(statement.end)
                .help(help),
        )
    };
    if on.is_empty() && queue.parent.is_none() {
        let help = "add `on interface` for a root queue, `parent name` for the others";
        return Err(end("root queue without interface", "this queue", help));
    }
    // pfctl looks at the first of a list only; the queue would be missing on the others.
    let is_missing = |on: &On| matches!(on, On::Interface(interface) if world.facts.interface(&interface.name).is_none());
    if on.iter().any(is_missing) {
        let help = "queues need an interface that exists, and no group";
        return Err(end("not an interface", "on this machine", help));
    }
    if queue.bandwidth.is_none() && queue.flows.is_none() {
        let help = "add `bandwidth 10M` or `flows 1024`";
        return Err(end("no bandwidth or flow specification", "this queue", help));
    }
    for (name, text) in
        [(Some(&queue.name), "queuename too long"), (queue.parent.as_ref(), "parent too long")]
    {
        if name.is_some_and(|name| name.len() > QUEUE_NAME_MAX) {
            return Err(end(text, "more than 63 octets", "choose a shorter name"));
        }
    }
    if on.is_empty() {
        return Ok(vec![queue]);
    }
    let on = on.into_iter().map(|on| match on {
        On::Interface(interface) => Some(interface.into_inner().name),
        On::Rdomain { .. } => None,
    });
    Ok(on.map(|interface| QueueDef { interface, ..queue.clone() }).collect())
}

/// The words of a `queue` node: the queue, its interfaces, its quantum. What pfctl understands
/// before the end of the statement.
///
/// # Errors
/// The message about the first part that cannot be.
pub(crate) fn words(statement: &Statement, parts: &[Pair]) -> Fallible<(QueueDef, Vec<On>, u16)> {
    let mut queue = QueueDef::default();
    let mut on = Vec::new();
    let mut given: Vec<Rule> = Vec::new();
    let mut quantum = 0;
    for part in parts {
        match part.as_rule() {
            Rule::string => queue.name = string(part),
            Rule::on => on = interfaces(statement, part)?,
            Rule::queue_option => {
                let Some(option) = part.clone().into_inner().next() else { continue };
                let kind = option.as_rule();
                read_option(statement, &option, &mut queue, &mut quantum, given.contains(&kind))?;
                given.push(kind);
            }
            _ => {}
        }
    }
    Ok((queue, on, quantum))
}

fn read_option(
    statement: &Statement,
    pair: &Pair,
    queue: &mut QueueDef,
    quantum: &mut u16,
    again: bool,
) -> Fallible<()> {
    let (name, most) = match pair.as_rule() {
        Rule::queue_bandwidth => ("bandwidth", 0),
        Rule::queue_parent => ("parent", 0),
        Rule::qlimit => ("qlimit", 65_535),
        Rule::flows => ("number of flows", 32_767),
        Rule::quantum => ("quantum", 65_535),
        _ => ("default", 0),
    };
    // A bandwidth is read before it is found to be the second one.
    let curves = if pair.as_rule() == Rule::queue_bandwidth {
        bandwidths(statement, pair)?
    } else {
        [None; 3]
    };
    if again {
        let text = format!("{name} cannot be respecified");
        return Err(wrong(statement, pair, text, "given a second time"));
    }
    let least = i64::from(name != "qlimit");
    let number = || {
        let number = number_of(pair).unwrap_or_default();
        u16::try_from(number).ok().filter(|_| (least..=most).contains(&number)).ok_or_else(|| {
            let text = format!("{name} out of range: max {most}");
            wrong(statement, pair, text, &format!("goes from {least} to {most}"))
        })
    };
    match pair.as_rule() {
        Rule::queue_bandwidth => [queue.bandwidth, queue.min, queue.max] = curves,
        Rule::queue_parent => queue.parent = pair.clone().into_inner().last().map(|w| string(&w)),
        Rule::qlimit => queue.qlimit = number()?,
        Rule::flows => queue.flows = Some(FlowQueue { flows: number()?, quantum: 0 }),
        Rule::quantum => *quantum = number()?,
        _ => queue.default = true,
    }
    Ok(())
}

/// `bandwidth`, `min` and `max` of a `queue_bandwidth` node.
fn bandwidths(statement: &Statement, pair: &Pair) -> Fallible<[Option<ServiceCurve>; 3]> {
    let mut found = [None; 3];
    for part in pair.clone().into_inner() {
        let (at, node) = match part.as_rule() {
            Rule::curve => (0, Some(part)),
            Rule::queue_min => (1, part.into_inner().find(|p| p.as_rule() == Rule::curve)),
            Rule::queue_max => (2, part.into_inner().find(|p| p.as_rule() == Rule::curve)),
            _ => continue,
        };
        if let Some(node) = node {
            found[at] = Some(curve(statement, &node)?);
        }
    }
    Ok(found)
}

fn curve(statement: &Statement, pair: &Pair) -> Fallible<ServiceCurve> {
    let mut rates = Vec::new();
    let mut percent = false;
    let mut duration = None;
    for part in pair.clone().into_inner() {
        match part.as_rule() {
            Rule::bandwidth => {
                let (rate, relative) = bandwidth(statement, &part)?;
                rates.push(rate);
                percent |= relative;
            }
            Rule::string => {
                let text = string(&part);
                let ms = text.strip_suffix("ms").and_then(|digits| digits.parse::<u32>().ok());
                duration = Some(ms.ok_or_else(|| {
                    wrong(statement, &part, "time in scspec must be in ms", "as in `100ms`")
                })?);
            }
            _ => {}
        }
    }
    if percent {
        return Err(wrong(statement, pair, SHARE, "write it in bits per second"));
    }
    let rate = rates.first().copied().unwrap_or_default();
    let burst = rates.get(1).copied().zip(duration).filter(|&(_, ms)| ms > 0);
    Ok(ServiceCurve { rate, burst })
}

/// Bits per second, and whether it is a share.
fn bandwidth(statement: &Statement, pair: &Pair) -> Fallible<(u64, bool)> {
    /// Above the largest number that pfctl takes.
    const TOO_MUCH: f64 = 9_223_372_036_854_775_808.0;
    let too_big = || {
        let text = "bandwidth number too big";
        wrong(statement, pair, text, "goes from 0 to 9223372036854775807 bits per second")
    };
    if let Some(number) = number_of(pair) {
        let rate = u64::try_from(number).map_err(|_| too_big())?;
        return Ok((rate, false));
    }
    let text = string(pair);
    let (number, mut unit) = leading_number(&text);
    let end = unit.chars().next().map_or(0, char::len_utf8);
    if ["Bit", "B", "bit", "b"].contains(&&unit[end..]) {
        unit = &unit[..end];
    }
    let factor = match unit {
        "b" => 1.0,
        "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "%" if !(0.0..=100.0).contains(&number) => {
            return Err(wrong(statement, pair, "bandwidth spec out of range", "more than all"));
        }
        "%" => return Ok((0, number >= 1.0)),
        _ => {
            let text = format!("unknown unit \"{unit}\"");
            return Err(wrong(statement, pair, text, "the units are b, K, M and G"));
        }
    };
    let rate = number * factor;
    if !(0.0..TOO_MUCH).contains(&rate) {
        return Err(too_big());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both ends were looked at"
    )]
    let rate = rate as u64;
    Ok((rate, false))
}

/// The decimal number at the start of a text, 0 for none, and what stands behind it, as
/// strtod(3) reads it.
fn leading_number(text: &str) -> (f64, &str) {
    let text = text.trim_start();
    let is_digit = |octet: &u8| octet.is_ascii_digit();
    let octets = text.as_bytes();
    let run = |from: usize| octets[from..].iter().take_while(|octet| is_digit(octet)).count();
    let sign = usize::from(text.starts_with(['+', '-']));
    let whole = run(sign);
    let mut end = sign + whole;
    if octets.get(end) == Some(&b'.') {
        let part = run(end + 1);
        if whole + part == 0 {
            return (0.0, text);
        }
        end += 1 + part;
    } else if whole == 0 {
        return (0.0, text);
    }
    if matches!(octets.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(octets.get(end + 1), Some(b'+' | b'-')));
        let power = run((end + 1 + sign).min(octets.len()));
        if power > 0 {
            end += 1 + sign + power;
        }
    }
    (text[..end].parse().unwrap_or(0.0), &text[end..])
}

/// pfctl's line about a second root queue on an interface.
pub(crate) fn occupied(queues: &[QueueDef], queue: &QueueDef) -> Option<String> {
    if queue.parent.is_some() {
        return None;
    }
    let mut roots = queues.iter().filter(|known| known.parent.is_none());
    let known = roots.find(|known| known.interface == queue.interface)?;
    let interface = known.interface.as_deref().unwrap_or_default();
    Some(format!("A root queue is already defined on {interface}"))
}

/// A queue and those below it.
struct Node<'q> {
    queue: &'q QueueDef,
    children: Vec<Node<'q>>,
}

/// Lines of all queues, each root with those below it.
///
/// # Errors
/// pfctl's text about what is wrong with the tree.
pub(crate) fn tree(queues: &[QueueDef]) -> Result<Vec<String>, String> {
    let mut matches = vec![0_usize; queues.len()];
    let mut roots = Vec::new();
    for queue in queues.iter().filter(|queue| queue.parent.is_none()) {
        let (root, default) = grow(queues, queue, queue.interface.as_deref(), &mut matches, 0)?;
        let is_class = queue.bandwidth.is_some();
        if !is_class && !root.children.is_empty() {
            return Err(if queue.flows.is_some() {
                format!("root queue {} doesn't support hierarchy", queue.name)
            } else {
                format!("no bandwidth was specified for root queue {}", queue.name)
            });
        }
        if is_class && !default {
            return Err("no default queue specified".to_owned());
        }
        roots.push(root);
    }
    for (queue, matches) in queues.iter().zip(&matches) {
        let Some(parent) = &queue.parent else { continue };
        if *matches == 0 {
            return Err(format!("queue {}: parent {parent} not found", queue.name));
        }
        let rate = queue.bandwidth.unwrap_or_default();
        if rate.rate == 0 && rate.burst.is_none_or(|(rate, _)| rate == 0) {
            return Err(format!("queue {}: no bandwidth was specified", queue.name));
        }
    }
    let mut lines = Vec::new();
    for root in &roots {
        show(root, &mut lines);
    }
    Ok(lines)
}

/// The tree below `queue`, and whether a default queue is in it.
fn grow<'q>(
    queues: &'q [QueueDef],
    queue: &'q QueueDef,
    interface: Option<&str>,
    matches: &mut [usize],
    depth: usize,
) -> Result<(Node<'q>, bool), String> {
    let excessive = || "pfctl_find_childqs: excessive matches, loop?".to_owned();
    if depth > 100 {
        return Err(excessive());
    }
    let mut below: Vec<&QueueDef> = Vec::new();
    for (child, matches) in queues.iter().zip(matches.iter_mut()) {
        if child.parent.as_ref() != Some(&queue.name) {
            continue;
        }
        // A queue inside the tree has its interface only where it was given.
        let own = if depth == 0 { interface } else { queue.interface.as_deref() };
        if child.interface.is_some() && child.interface.as_deref() != own {
            continue;
        }
        *matches += 1;
        if *matches > MATCHES_MAX {
            return Err(excessive());
        }
        match below.iter_mut().find(|known| known.name == child.name) {
            None => below.push(child),
            Some(known) => match (&known.interface, &child.interface) {
                (Some(interface), Some(_)) => {
                    return Err(format!("queue {} on {interface} respecified", known.name));
                }
                (None, None) => return Err(format!("queue {} respecified", known.name)),
                // The one of the interface wins.
                (None, Some(_)) => *known = child,
                (Some(_), None) => {}
            },
        }
    }
    let mut default = queue.default;
    let mut children = Vec::new();
    for child in below {
        let (node, found) = grow(queues, child, interface, matches, depth + 1)?;
        default |= found;
        children.push(node);
    }
    if !children.is_empty() {
        if queue.default {
            return Err(format!("default queue {} is not a leaf queue", queue.name));
        }
        if queue.flows.is_some() {
            return Err(format!("flow queue {} is not a leaf queue", queue.name));
        }
    }
    Ok((Node { queue, children }, default))
}

fn show(node: &Node, lines: &mut Vec<String>) {
    lines.push(print::queue(node.queue));
    for child in &node.children {
        show(child, lines);
    }
}
