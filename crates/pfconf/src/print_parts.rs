//! Prints pools, queues, tables and settings as pfctl does.
//!
//! Source: OpenBSD sbin/pfctl/pfctl_parser.c `print_pool`, `print_queuespec`, `print_bwspec`,
//! `print_tabledef`.

use pfapi::addr::Af;
use pfapi::ruleset::{
    Pool, PoolKind, PoolPorts, QueueDef, Rule, Scrub, ServiceCurve, Syncookies, TableDef,
    TableEntry,
};

use crate::dialect::Dialect;
use crate::digits::put_prefix;
use crate::print::{Form, put, put_addr, word};
use crate::server;

/// What a pool is printed for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolWord {
    Nat,
    Rdr,
    Route,
}

/// Appends a pool of a rule of a family.
pub(crate) fn put_pool(text: &mut String, pool: &Pool, af: Option<Af>, word: PoolWord, form: Form) {
    put_addr(text, &pool.addr, af, form);
    match (word, pool.ports) {
        (PoolWord::Nat, Some(ports)) if ports == PoolPorts::NAT_DEFAULT => {}
        (PoolWord::Nat, Some(PoolPorts::Range(low, high))) if low == high => {
            put(text, format_args!(" port {low}"));
        }
        (PoolWord::Nat, Some(PoolPorts::Range(low, high))) => {
            put(text, format_args!(" port {low}:{high}"));
        }
        (PoolWord::Rdr, Some(PoolPorts::Range(low, high))) if low > 0 => {
            put(text, format_args!(" port {low}"));
            if high > 0 && high != low {
                put(text, format_args!(":{high}"));
            }
        }
        _ => {}
    }
    pool_kind(text, pool.kind);
    if pool.sticky {
        text.push_str(" sticky-address");
    }
    if word == PoolWord::Nat && pool.ports == Some(PoolPorts::Static) {
        text.push_str(" static-port");
    }
}

/// How a pool chooses.
pub(crate) fn pool_kind(text: &mut String, kind: PoolKind) {
    match kind {
        PoolKind::Single => {}
        PoolKind::Bitmask => text.push_str(" bitmask"),
        PoolKind::Random => text.push_str(" random"),
        PoolKind::SourceHash([a, b, c, d]) => {
            put(text, format_args!(" source-hash 0x{a:08x}{b:08x}{c:08x}{d:08x}"));
        }
        PoolKind::RoundRobin => text.push_str(" round-robin"),
        PoolKind::LeastStates => text.push_str(" least-states"),
    }
}

/// `scrub` with its options, where there are some.
pub(crate) fn scrub(line: &mut String, rule: &Rule) {
    let Scrub { no_df, random_id, min_ttl, reassemble_tcp, max_mss, .. } = rule.scrub;
    let mut words = Vec::new();
    words.extend(no_df.then(|| "no-df".to_owned()));
    words.extend(random_id.then(|| "random-id".to_owned()));
    words.extend((min_ttl > 0).then(|| format!("min-ttl {min_ttl}")));
    words.extend(reassemble_tcp.then(|| "reassemble tcp".to_owned()));
    words.extend((max_mss > 0).then(|| format!("max-mss {max_mss}")));
    if !words.is_empty() {
        put(line, format_args!(" scrub ({})", words.join(" ")));
    }
}

/// A queue definition.
#[must_use]
pub fn queue(queue: &QueueDef) -> String {
    let mut line = format!("queue {}", word(&queue.name, Dialect::OpenBsd));
    if let Some(parent) = &queue.parent {
        put(&mut line, format_args!(" parent {}", word(parent, Dialect::OpenBsd)));
    } else if let Some(interface) = &queue.interface {
        put(&mut line, format_args!(" on {}", word(interface, Dialect::OpenBsd)));
    }
    if let Some(flows) = queue.flows {
        put(&mut line, format_args!(" flows {}", flows.flows));
        if flows.quantum > 0 {
            put(&mut line, format_args!(" quantum {}", flows.quantum));
        }
    }
    let share = queue.bandwidth.unwrap_or_default();
    // pfctl leaves a bandwidth of 0 out even where the queue cannot be read without one.
    let is_needed = queue.bandwidth.is_some() && queue.flows.is_none();
    if is_needed || share.rate > 0 || share.burst.is_some_and(|(rate, _)| rate > 0) {
        line.push_str(&curve(" bandwidth ", queue.bandwidth));
        if share.rate == 0 && share.burst.is_none() {
            line.push_str(" bandwidth 0");
        }
        line.push_str(&curve(", min ", queue.min));
        line.push_str(&curve(", max ", queue.max));
    }
    if queue.default {
        line.push_str(" default");
    }
    if queue.qlimit > 0 {
        put(&mut line, format_args!(" qlimit {}", queue.qlimit));
    }
    line
}

fn curve(prefix: &str, curve: Option<ServiceCurve>) -> String {
    let Some(curve) = curve else { return String::new() };
    let mut text = bandwidth(prefix, curve.rate);
    if let Some((rate, ms)) = curve.burst {
        if curve.rate == 0 {
            put(&mut text, format_args!("{prefix}0"));
        }
        let rate = if rate == 0 { "0".to_owned() } else { bandwidth("", rate) };
        put(&mut text, format_args!(" burst {rate} for {ms}ms"));
    }
    text
}

/// Bits per second in the largest unit that leaves a whole number; nothing for 0.
fn bandwidth(prefix: &str, rate: u64) -> String {
    const UNITS: [&str; 4] = [" ", "K", "M", "G"];
    if rate == 0 {
        return String::new();
    }
    let mut rate = rate;
    let mut unit = 0;
    while rate >= 1000 && rate.is_multiple_of(1000) && unit + 1 < UNITS.len() {
        rate /= 1000;
        unit += 1;
    }
    format!("{prefix}{rate}{}", UNITS[unit])
}

/// A table definition, addresses in one list.
#[must_use]
pub fn table(table: &TableDef) -> String {
    let mut line = table_head(table, Dialect::OpenBsd);
    if let Some(entries) = &table.entries {
        line.push_str(" {");
        put_entries(&mut line, entries);
        line.push_str(" }");
    }
    line
}

/// Appends addresses of a table.
pub(crate) fn put_entries(line: &mut String, entries: &[TableEntry]) {
    for entry in entries {
        line.push_str(if entry.negated { " !" } else { " " });
        if entry.prefix.len() == 0 {
            line.push_str("any");
        } else {
            put_prefix(line, entry.prefix);
        }
    }
}

/// The part of a table definition in front of its addresses.
pub(crate) fn table_head(table: &TableDef, dialect: Dialect) -> String {
    let mut line = format!("table <{}>", word(&table.name, dialect));
    for (set, word) in
        [(table.constant, " const"), (table.persist, " persist"), (table.counters, " counters")]
    {
        if set {
            line.push_str(word);
        }
    }
    line
}

/// `set syncookies …` with the percentages as they were given.
pub(crate) fn syncookies(
    setting: Syncookies,
    percent: Option<(u32, u32)>,
    destination: Option<u32>,
) -> String {
    let mut words = Vec::new();
    if let Some((start, end)) = percent {
        words.push(format!("start {start}%"));
        words.push(format!("end {end}%"));
    }
    words.extend(destination.map(|share| format!("destination {share}%")));
    if setting.classic {
        words.push("classic".to_owned());
    } else if !setting.probe {
        words.push("no-probe".to_owned());
    }
    words.extend(setting.server.as_ref().map(server::words));
    let mode = setting.mode.name();
    if words.is_empty() {
        format!("set syncookies {mode}")
    } else {
        format!("set syncookies {mode} ({})", words.join(", "))
    }
}
