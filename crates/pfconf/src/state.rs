//! `keep state` with its options.
//!
//! Source: pf.conf(5) "STATEFUL TRACKING OPTIONS"; OpenBSD sbin/pfctl/parse.y `keep`,
//! `state_opt_item`, `pfrule`.

use pfapi::ruleset::{
    Flush, Overload, Rate, ServerOptions, SourceTrack, StateOptions, SyncookieMode,
};
use pfapi::timeout::Timeout;

use crate::address::table_name;
use crate::criteria::number_of;
use crate::diag::{Code, Diagnostic};
use crate::dialect::Dialect;
use crate::parser::{Fallible, Pair, Rule, place, string};
use crate::scan::{Place, Statement};
use crate::server::server_options;
use crate::suggest::nearest;

/// Highest number of events of `max-src-conn-rate` (`PF_THRESHOLD_MAX`).
const RATE_MAX: u32 = u32::MAX / 1000;

/// One option as written, and where.
#[derive(Clone, Debug)]
pub(crate) struct StateItem {
    kind: Kind,
    place: Place,
}

#[derive(Clone, Debug)]
enum Kind {
    Max(u32),
    NoSync,
    MaxSrcStates(u32),
    MaxSrcConn(u32),
    MaxSrcConnRate(Rate),
    MaxSrcNodes(u32),
    Overload(Overload),
    /// `None` is the word alone.
    SourceTrack(Option<SourceTrack>),
    Lock {
        if_bound: bool,
    },
    Sloppy,
    Pflow,
    AllowRelated,
    Syncookies(Option<SyncookieMode>, Option<ServerOptions>),
    Timeout(Timeout, u32),
}

/// The options of a `keep_state` or `set_state_defaults` node.
///
/// # Errors
/// The message about a value that cannot be.
pub(crate) fn items(
    dialect: Dialect,
    statement: &Statement,
    pair: &Pair,
) -> Fallible<Vec<StateItem>> {
    let found = pair.clone().into_inner().flatten();
    found
        .filter(|part| part.as_rule() == Rule::state_option)
        .map(|part| {
            let place = place(statement, &part);
            Ok(StateItem { kind: item(dialect, statement, &part, &place)?, place })
        })
        .collect()
}

fn item(dialect: Dialect, statement: &Statement, pair: &Pair, here: &Place) -> Fallible<Kind> {
    let mut parts = pair.clone().into_inner().filter(|part| part.as_rule() != Rule::slash);
    let Some(word) = parts.next() else { return Ok(Kind::NoSync) };
    let mut number = || positive(parts.next().as_ref(), here);
    Ok(match word.as_rule() {
        Rule::kw_max => Kind::Max(number()?),
        Rule::kw_no_sync => Kind::NoSync,
        Rule::kw_max_src_states => Kind::MaxSrcStates(number()?),
        Rule::kw_max_src_conn => Kind::MaxSrcConn(number()?),
        Rule::kw_max_src_nodes => Kind::MaxSrcNodes(number()?),
        Rule::kw_max_src_conn_rate => {
            let limit = number()?;
            Kind::MaxSrcConnRate(Rate { limit, seconds: number()? })
        }
        Rule::overload => Kind::Overload(overload(statement, &word)?),
        Rule::kw_source_track => Kind::SourceTrack(parts.next().map(|word| {
            if word.as_rule() == Rule::kw_global { SourceTrack::Global } else { SourceTrack::Rule }
        })),
        Rule::kw_if_bound => Kind::Lock { if_bound: true },
        Rule::kw_floating => Kind::Lock { if_bound: false },
        Rule::kw_sloppy => Kind::Sloppy,
        Rule::kw_pflow => Kind::Pflow,
        Rule::kw_allow_related => Kind::AllowRelated,
        Rule::kw_syncookies => syncookies(statement, parts, here)?,
        _ => timeout(dialect, &word, here)?,
    })
}

/// A number from 0 to 2^32 - 1.
pub(crate) fn positive(pair: Option<&Pair>, here: &Place) -> Fallible<u32> {
    let number = pair.and_then(number_of).and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| {
        Box::new(
            Diagnostic::error(Code::Value, "only positive values permitted")
                .at(here, format!("not from 0 to {}", u32::MAX)),
        )
    })
}

/// What stands behind `syncookies`: when, and what the server supports; an extension of ours.
fn syncookies<'p>(
    statement: &Statement,
    parts: impl Iterator<Item = Pair<'p>>,
    here: &Place,
) -> Fallible<Kind> {
    let (mut mode, mut server) = (None, None);
    for part in parts {
        if part.as_rule() == Rule::server_options {
            server = Some(server_options(statement, &part)?);
            continue;
        }
        mode = Some(SyncookieMode::from_name(&string(&part)).ok_or_else(|| {
            Box::new(
                Diagnostic::error(Code::Syncookies, "illegal value for syncookies")
                    .at(here, "not a policy of syncookies")
                    .help("the policies are never, always and adaptive"),
            )
        })?);
    }
    Ok(Kind::Syncookies(mode, server))
}

fn timeout(dialect: Dialect, pair: &Pair, here: &Place) -> Fallible<Kind> {
    let mut words = pair.clone().into_inner();
    let name = words.next().map(|word| string(&word)).unwrap_or_default();
    let seconds = positive(words.next().as_ref(), here)?;
    let wrong = |text: String| Diagnostic::error(Code::Timeout, text);
    let Some(timeout) = dialect.timeout(&name) else {
        let diagnostic = wrong(format!("illegal timeout name {name}"))
            .at(here, "neither a state option nor a timeout");
        let known = dialect.timeouts().map(Timeout::name);
        return Err(Box::new(match nearest(&name, known) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic,
        }));
    };
    if !name.contains('.') {
        return Err(Box::new(
            wrong(format!("illegal state timeout {name}")).at(here, "states have no such timeout"),
        ));
    }
    Ok(Kind::Timeout(timeout, seconds))
}

fn overload(statement: &Statement, pair: &Pair) -> Fallible<Overload> {
    let mut table = String::new();
    let mut flush = Flush::No;
    for part in pair.clone().into_inner() {
        match part.as_rule() {
            Rule::table_ref => table = table_name(statement, &part)?,
            Rule::kw_flush => flush = Flush::Rule,
            Rule::kw_global => flush = Flush::Global,
            _ => {}
        }
    }
    Ok(Overload { table, flush })
}

/// Puts the options of a rule together.
///
/// # Errors
/// The message about options that are given twice or exclude each other; pfctl finds them when
/// it has read the whole rule.
#[expect(clippy::too_many_lines, reason = "one arm for each option")]
pub(crate) fn combine(
    items: &[StateItem],
    stateful: bool,
    if_bound: bool,
) -> Fallible<StateOptions> {
    let mut options = StateOptions::default();
    let mut track: Option<Option<SourceTrack>> = None;
    let mut by_rule = false;
    let mut locked = false;
    for StateItem { kind, place } in items {
        let wrong = |text: &str| {
            Box::new(Diagnostic::error(Code::StateOption, text).at(place, "this option"))
        };
        let once = |given: bool, what: &str| {
            if given { Err(wrong(&format!("{what} multiple definitions"))) } else { Ok(()) }
        };
        let above_zero = |value: u32, name: &str| {
            if value == 0 { Err(wrong(&format!("'{name}' must be > 0"))) } else { Ok(Some(value)) }
        };
        match kind {
            Kind::Max(max) => {
                once(options.max.is_some(), "state option 'max'")?;
                options.max = Some(*max).filter(|&max| max > 0);
            }
            Kind::NoSync => {
                once(options.no_sync, "state option 'sync'")?;
                options.no_sync = true;
            }
            Kind::SourceTrack(by) => {
                once(track.is_some(), "state option 'source-track'")?;
                track = Some(*by);
            }
            Kind::MaxSrcStates(max) => {
                once(options.max_src_states.is_some(), "state option 'max-src-states'")?;
                options.max_src_states = above_zero(*max, "max-src-states")?;
            }
            Kind::Overload(overload) => {
                if options.overload.is_some() {
                    return Err(wrong("multiple 'overload' table definitions"));
                }
                options.overload = Some(overload.clone());
            }
            Kind::MaxSrcConn(max) => {
                once(options.max_src_conn.is_some(), "state option 'max-src-conn'")?;
                options.max_src_conn = above_zero(*max, "max-src-conn")?;
                by_rule = true;
            }
            Kind::MaxSrcConnRate(rate) => {
                once(options.max_src_conn_rate.is_some(), "state option 'max-src-conn-rate'")?;
                if rate.limit == 0 || rate.seconds == 0 {
                    return Err(wrong("'max-src-conn-rate' values must be > 0"));
                }
                if rate.limit > RATE_MAX {
                    let text = format!("'max-src-conn-rate' maximum rate must be < {RATE_MAX}");
                    return Err(wrong(&text));
                }
                options.max_src_conn_rate = Some(*rate);
                by_rule = true;
            }
            Kind::MaxSrcNodes(max) => {
                once(options.max_src_nodes.is_some(), "state option 'max-src-nodes'")?;
                options.max_src_nodes = above_zero(*max, "max-src-nodes")?;
                by_rule = true;
            }
            Kind::Lock { if_bound } => {
                once(locked, "state locking option:")?;
                locked = true;
                options.if_bound = *if_bound;
            }
            Kind::Sloppy => {
                once(options.sloppy, "state sloppy option:")?;
                options.sloppy = true;
            }
            Kind::Pflow => {
                once(options.pflow, "state pflow option:")?;
                options.pflow = true;
            }
            Kind::AllowRelated => {
                once(options.allow_related, "state allow-related option:")?;
                options.allow_related = true;
            }
            Kind::Syncookies(mode, server) => {
                let given = options.syncookies.is_some() || options.server.is_some();
                once(given, "state syncookies option:")?;
                (options.syncookies, options.server) = (*mode, *server);
            }
            Kind::Timeout(timeout, seconds) => {
                let given = options.timeouts.iter().any(|(known, _)| known == timeout);
                once(given, &format!("state timeout {timeout}"))?;
                if *seconds > 0 {
                    options.timeouts.push((*timeout, *seconds));
                }
            }
        }
    }
    let adaptive = items.iter().any(|item| {
        matches!(item.kind, Kind::Timeout(Timeout::AdaptiveStart | Timeout::AdaptiveEnd, _))
    });
    if let (false, Some(max)) = (adaptive, options.max) {
        let tenth = max / 10;
        for (timeout, value) in [(Timeout::AdaptiveStart, 6), (Timeout::AdaptiveEnd, 12)] {
            let value = tenth.wrapping_mul(value);
            if value > 0 {
                options.timeouts.push((timeout, value));
            }
        }
    }
    if track.is_some() || by_rule || options.max_src_states.is_some() {
        let global = track == Some(Some(SourceTrack::Global));
        let by_rule = by_rule || track == Some(Some(SourceTrack::Rule));
        track_sources(&mut options, items, global, by_rule)?;
    }
    options.timeouts.sort_by_key(|&(timeout, _)| timeout as usize);
    if stateful && !locked {
        options.if_bound = if_bound;
    }
    Ok(options)
}

fn track_sources(
    options: &mut StateOptions,
    items: &[StateItem],
    global: bool,
    by_rule: bool,
) -> Fallible<()> {
    let given = [
        (options.max_src_nodes.is_some(), "max-src-nodes"),
        (options.max_src_conn.is_some(), "max-src-conn"),
        (options.max_src_conn_rate.is_some(), "max-src-conn-rate"),
    ];
    let clash = given.into_iter().find(|&(given, _)| given && global);
    if let Some((_, name)) = clash {
        let text = format!("'{name}' is incompatible with 'source-track global'");
        let diagnostic = Diagnostic::error(Code::StateOption, text)
            .help("write `source-track rule`: this option counts per rule");
        let track = items.iter().find(|item| matches!(item.kind, Kind::SourceTrack(_)));
        return Err(Box::new(match track {
            Some(item) => diagnostic.at(&item.place, "this option counts over all rules"),
            None => diagnostic,
        }));
    }
    if let Some(rate) = options.max_src_conn_rate {
        let known = options.timeouts.iter_mut().find(|(timeout, _)| *timeout == Timeout::SrcTrack);
        match known {
            Some((_, seconds)) => *seconds = rate.seconds.max(*seconds),
            None => options.timeouts.push((Timeout::SrcTrack, rate.seconds)),
        }
    }
    options.source_track = Some(if by_rule { SourceTrack::Rule } else { SourceTrack::Global });
    Ok(())
}
