//! Options of a rule, from `flags` to `set`.
//!
//! Source: pf.conf(5) "PARAMETERS"; OpenBSD sbin/pfctl/parse.y `filter_opt`, `scrub_opt`,
//! `filter_set`, `map_tos`.

use pfapi::check::{QUEUE_NAME_MAX, RTABLE_MAX};
use pfapi::ruleset::{Rate, StatePolicy, TagMatch};
use pfapi::shared::Shared;

use crate::address::World;
use crate::criteria::{Owner, c_number, flags, icmp, number_of, owners};
use crate::diag::{Code, Diagnostic};
use crate::dialect::Dialect;
use crate::ether::dummynet;
use crate::freebsd;
use crate::parser::{Fallible, Pair, Rule, place, string};
use crate::rules::{Context, On, RuleSpec, interface};
use crate::scan::{Place, Statement};
use crate::state::{items, positive};
use crate::suggest::nearest;
use crate::translate::{divert, routing, translation};

/// Names of types of service, in any case of letters.
const TOS_NAMES: &[(&str, u8)] = &[
    ("af11", 0x28),
    ("af12", 0x30),
    ("af13", 0x38),
    ("af21", 0x48),
    ("af22", 0x50),
    ("af23", 0x58),
    ("af31", 0x68),
    ("af32", 0x70),
    ("af33", 0x78),
    ("af41", 0x88),
    ("af42", 0x90),
    ("af43", 0x98),
    ("critical", 0xa0),
    ("cs0", 0x00),
    ("cs1", 0x20),
    ("cs2", 0x40),
    ("cs3", 0x60),
    ("cs4", 0x80),
    ("cs5", 0xa0),
    ("cs6", 0xc0),
    ("cs7", 0xe0),
    ("ef", 0xb8),
    ("inetcontrol", 0xc0),
    ("lowdelay", 0x10),
    ("netcontrol", 0xe0),
    ("reliability", 0x04),
    ("throughput", 0x08),
];

/// FreeBSD's name besides them: voice that was admitted (RFC 5865).
const VOICE_ADMIT: (&str, u8) = ("va", 0xb0);

/// Reads one option.
///
/// # Errors
/// The message about a value that cannot be, or an option that is given twice.
#[expect(clippy::too_many_lines, reason = "one arm for each option")]
pub(crate) fn option(
    context: Context,
    statement: &Statement,
    pair: &Pair,
    spec: &mut RuleSpec,
) -> Fallible<()> {
    let world = context.world;
    if world.dialect.is_freebsd() && freebsd::option(world, statement, pair, spec)? {
        return Ok(());
    }
    let here = place(statement, pair);
    let rule = &mut spec.rule;
    match pair.as_rule() {
        Rule::flags => {
            let flags = flags(statement, pair)?;
            once(spec, "flags", "flags cannot be redefined", here)?;
            spec.flags = Some(flags);
        }
        Rule::icmp => {
            let types = icmp(context.world.dialect, statement, pair)?;
            once(spec, "icmp-type", "icmp-type cannot be redefined", here)?;
            spec.icmp = Some(types);
        }
        Rule::no_state | Rule::keep_state => {
            let items = items(world.dialect, statement, pair)?;
            once(spec, "state", "modulate or keep cannot be redefined", here)?;
            let words = pair.clone().into_inner();
            let policy = words.map(|word| word.as_rule()).find_map(|kind| match kind {
                Rule::kw_keep => Some(StatePolicy::Keep),
                Rule::kw_modulate => Some(StatePolicy::Modulate),
                Rule::kw_synproxy => Some(StatePolicy::Synproxy),
                _ => None,
            });
            spec.state = Some(policy.unwrap_or(StatePolicy::None));
            spec.state_items = items;
        }
        Rule::label => {
            once(spec, "label", "label cannot be redefined", here)?;
            spec.rule.label = Some(text(pair).into());
        }
        Rule::user => {
            let mut found = owners(world, statement, pair, Owner::User)?;
            // A later option comes first, as in pfctl.
            found.append(&mut spec.users);
            spec.users = found;
            spec.places.add("user", here);
        }
        Rule::group => {
            let mut found = owners(world, statement, pair, Owner::Group)?;
            found.append(&mut spec.groups);
            spec.groups = found;
            spec.places.add("group", here);
        }
        Rule::prio => {
            once(spec, "prio", "prio cannot be redefined", here.clone())?;
            spec.rule.prio = Some(priority(pair, &here)?);
        }
        Rule::tos => {
            let tos = tos(context.world, statement, pair)?;
            once(spec, "tos", "tos cannot be redefined", here)?;
            spec.rule.tos = Some(tos).filter(|&tos| tos > 0);
        }
        Rule::kw_fragment => {
            rule.fragment = true;
            spec.places.add("fragment", here);
        }
        Rule::kw_allow_opts => {
            rule.allow_opts = true;
            spec.places.add("allow-opts", here);
        }
        Rule::kw_once => {
            rule.once = true;
            spec.places.add("once", here);
        }
        Rule::queue_names => queue(context, statement, pair, spec)?,
        Rule::tag | Rule::one_tag => {
            rule.tag = Some(words(pair)).filter(|tag| !tag.is_empty()).map(Shared::from);
            spec.places.add("tag", here);
        }
        Rule::tagged => {
            let negated = has(pair, Rule::not);
            let tagged = TagMatch { negated, name: words(pair) };
            rule.tagged = Some(tagged).filter(|tagged| !tagged.name.is_empty()).map(Shared::from);
            spec.places.add("tag", here);
        }
        Rule::probability => rule.rare.probability = Some(probability(pair, &here)?),
        Rule::rtable => rule.rare.rtable = Some(rtable(world, pair, &here)?),
        Rule::divert_to | Rule::kw_divert_reply | Rule::divert_packet => {
            divert(context, statement, pair, spec)?;
        }
        Rule::scrub => scrub(world, statement, pair, spec)?,
        Rule::nat_to | Rule::binat_to | Rule::rdr_to | Rule::af_to => {
            translation(world, statement, pair, spec)?;
        }
        Rule::routing => routing(world, statement, pair, spec)?,
        Rule::received_on => {
            let found = interface(statement, pair, has(pair, Rule::not))?;
            once(spec, "received-on", "cannot respecify received-on", here)?;
            if let On::Interface(found) = found
                && !found.name.is_empty()
            {
                spec.rule.rare.received_on = Some(found.into_inner());
            }
        }
        Rule::max_pkt_rate => {
            let numbers: Vec<Pair> = numbers(pair).collect();
            let limit = positive(numbers.first(), &here)?;
            let seconds = positive(numbers.get(1), &here)?;
            if rule.rare.max_pkt_rate.is_some() {
                return Err(twice("cannot respecify max-pkt-rate", &here));
            }
            rule.rare.max_pkt_rate = Some(Rate { limit, seconds }).filter(|rate| rate.limit > 0);
        }
        Rule::dummynet => {
            if let Some(dummynet) = dummynet(statement, pair)? {
                spec.rule.freebsd.dummynet = Some(dummynet);
            }
        }
        Rule::limiter_use => {
            let (source, used) = context.limiters.using(statement, pair)?;
            if source {
                once(spec, "source limiter", "source limiter already specified", here)?;
                spec.rule.freebsd.source_limiter = Some(used);
            } else {
                once(spec, "state limiter", "state limiter already specified", here)?;
                spec.rule.freebsd.state_limiter = Some(used);
            }
        }
        Rule::set_actions => {
            for action in pair.clone().into_inner().filter(|p| p.as_rule() == Rule::set_action) {
                for part in action.into_inner() {
                    set_action(context, statement, &part, spec)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn numbers<'s>(pair: &Pair<'s>) -> impl Iterator<Item = Pair<'s>> {
    pair.clone().into_inner().filter(|part| part.as_rule() == Rule::number)
}

/// Whether a node has a part of this kind.
pub(crate) fn has(pair: &Pair, rule: Rule) -> bool {
    pair.clone().into_inner().any(|part| part.as_rule() == rule)
}

/// The one string in a node.
pub(crate) fn text(pair: &Pair) -> String {
    let found = pair.clone().into_inner().find(|part| part.as_rule() == Rule::string);
    found.map(|word| string(&word)).unwrap_or_default()
}

/// All strings in a node, with blanks between them.
fn words(pair: &Pair) -> String {
    let found = pair.clone().into_inner().filter(|part| part.as_rule() == Rule::string);
    found.map(|word| string(&word)).collect::<Vec<_>>().join(" ")
}

/// The message about an option that is given twice.
pub(crate) fn twice(text: &str, here: &Place) -> Box<Diagnostic> {
    Box::new(Diagnostic::error(Code::Twice, text).at(here, "given a second time"))
}

/// Notes where an option is; the second of its kind is an error.
fn once(spec: &mut RuleSpec, part: &'static str, text: &str, here: Place) -> Fallible<()> {
    if let Some(before) = spec.places.has(part) {
        let mut diagnostic = twice(text, &here);
        *diagnostic = diagnostic.and(before.span, "given before");
        return Err(diagnostic);
    }
    spec.places.add(part, here);
    Ok(())
}

fn priority(pair: &Pair, here: &Place) -> Fallible<u8> {
    let number = number_of(pair).and_then(|number| u8::try_from(number).ok());
    number.filter(|&number| number <= 7).ok_or_else(|| {
        Box::new(
            Diagnostic::error(Code::Value, "prio must be 0 - 7")
                .at(here, "0 is the lowest priority, 7 the highest"),
        )
    })
}

/// The type of service that a node names.
///
/// # Errors
/// The message about a word or number that is none.
pub(crate) fn tos(world: World, statement: &Statement, pair: &Pair) -> Fallible<u8> {
    let Some(word) = pair.clone().into_inner().find(|part| part.as_rule() == Rule::numstr) else {
        return Ok(0);
    };
    let text = number_of(&word).map_or_else(|| string(&word), |number| number.to_string());
    let more = world.dialect.is_freebsd().then_some(&VOICE_ADMIT);
    let mut names = TOS_NAMES.iter().chain(more);
    let named = names.find(|(name, _)| name.eq_ignore_ascii_case(&text));
    let value = match (named, number_of(&word)) {
        (Some((_, value)), _) => Some(*value),
        (None, Some(number)) => u8::try_from(number).ok(),
        (None, None) if text.starts_with("0x") => c_number(&text).and_then(|n| n.try_into().ok()),
        (None, None) => None,
    };
    value.ok_or_else(|| {
        let diagnostic = Diagnostic::error(Code::Value, format!("illegal tos value {text}"))
            .at(&place(statement, &word), "no type of service");
        Box::new(match nearest(&text, TOS_NAMES.iter().map(|(name, _)| *name)) {
            Some(near) => diagnostic.did_you_mean(near),
            None => diagnostic.help("a number from 0 to 255 is always understood"),
        })
    })
}

/// A share of one as pf keeps it: 2^32 - 1 is always.
fn probability(pair: &Pair, here: &Place) -> Fallible<u32> {
    let wrong = |text: String| {
        Box::new(
            Diagnostic::error(Code::Value, text)
                .at(here, "not a share from 0 to 1 or from 0% to 100%"),
        )
    };
    let Some(word) = pair.clone().into_inner().find(|part| part.as_rule() == Rule::numstr) else {
        return Ok(u32::MAX);
    };
    let text = string(&word);
    let (digits, factor) = text.strip_suffix('%').map_or((&*text, 1.0), |digits| (digits, 0.01));
    let known =
        digits.starts_with(|first: char| first.is_ascii_digit() || first == '.' || first == '-');
    let share = digits.parse::<f64>().ok().filter(|_| known);
    let Some(share) = share.map(|share| share * factor) else {
        return Err(wrong(format!("invalid probability: {text}")));
    };
    let scaled = (share * f64::from(u32::MAX) + 0.5).floor();
    if !(0.0..=f64::from(u32::MAX)).contains(&scaled) {
        return Err(wrong(format!("invalid probability: {}%", share * 100.0)));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range was checked in the lines above"
    )]
    let scaled = scaled as u32;
    Ok(scaled.max(1))
}

/// The number of a routing table that exists.
///
/// # Errors
/// The message about one that does not.
pub(crate) fn rtable(world: World, pair: &Pair, here: &Place) -> Fallible<u32> {
    let number = number_of(pair).unwrap_or_default();
    let wrong =
        |text: String, label: &str| Box::new(Diagnostic::error(Code::Rtable, text).at(here, label));
    let id = u32::try_from(number).ok().filter(|&id| id <= RTABLE_MAX);
    let Some(id) = id else {
        return Err(wrong("invalid rtable id".into(), "routing tables go from 0 to 255"));
    };
    if !world.sources.has_rtable(id) {
        let text = match world.dialect {
            Dialect::OpenBsd => format!("rtable {id} does not exist"),
            Dialect::FreeBsd | Dialect::MacOs => "invalid rtable id".to_owned(),
        };
        return Err(wrong(text, "no such routing table"));
    }
    Ok(id)
}

fn queue(
    context: Context,
    statement: &Statement,
    pair: &Pair,
    spec: &mut RuleSpec,
) -> Fallible<()> {
    let here = place(statement, pair);
    let words = pair.clone().into_inner().filter(|part| part.as_rule() == Rule::string);
    let mut names = Vec::new();
    for word in words {
        let name = string(&word);
        let known = || context.queues.iter().filter(|queue| queue.parent.is_some());
        if context.world.dialect.is_freebsd() {
            // FreeBSD's pfctl leaves it to the kernel whether there is such a queue.
            if name.len() > QUEUE_NAME_MAX {
                let text = format!("rule qname too long (max {QUEUE_NAME_MAX} chars)");
                let label = format!("{} octets", name.len());
                return Err(Box::new(Diagnostic::error(Code::Queue, text).at(&here, label)));
            }
        } else if !known().any(|queue| queue.name == name) {
            let diagnostic = Diagnostic::error(Code::Queue, format!("queue {name} is not defined"))
                .about(&name)
                .at(&place(statement, &word), "no queue of this name has a parent");
            let near = nearest(&name, known().map(|queue| queue.name.as_str()));
            return Err(Box::new(match near {
                Some(near) => diagnostic.did_you_mean(near),
                None => diagnostic.help("define it above: `queue name parent root bandwidth 1M`"),
            }));
        }
        names.push(name);
    }
    once(spec, "queue", "queue cannot be redefined", here)?;
    let mut names = names.into_iter();
    spec.rule.set.queue = names.next().map(|queue| (queue, names.next()));
    Ok(())
}

fn set_action(
    context: Context,
    statement: &Statement,
    pair: &Pair,
    spec: &mut RuleSpec,
) -> Fallible<()> {
    let here = place(statement, pair);
    match pair.as_rule() {
        Rule::set_prio => {
            let mut found = numbers(pair);
            let first = found.next().map_or(Ok(0), |number| priority(&number, &here))?;
            let second = found.next().map_or(Ok(first), |number| priority(&number, &here))?;
            once(spec, "set prio", "prio cannot be redefined", here)?;
            spec.rule.set.prio = Some((first, second));
        }
        Rule::queue_names => queue(context, statement, pair, spec)?,
        Rule::tos => {
            let tos = tos(context.world, statement, pair)?;
            if spec.rule.set.tos.is_some() {
                return Err(twice("tos cannot be respecified", &here));
            }
            once(spec, "set tos", "tos cannot be respecified", here)?;
            spec.rule.set.tos = Some(tos);
        }
        Rule::delay => {
            let number = number_of(pair).unwrap_or_default();
            if spec.rule.set.delay.is_some_and(|delay| delay > 0) {
                return Err(twice("delay cannot be respecified", &here));
            }
            let Ok(delay) = u16::try_from(number) else {
                let text = format!("illegal delay value {number} (0-65535)");
                return Err(Box::new(
                    Diagnostic::error(Code::Value, text)
                        .at(&here, "milliseconds that packets wait"),
                ));
            };
            spec.rule.set.delay = Some(delay);
        }
        _ => {}
    }
    Ok(())
}

fn scrub(world: World, statement: &Statement, pair: &Pair, spec: &mut RuleSpec) -> Fallible<()> {
    // A second `scrub` takes the place of the first, but for what a number was given to.
    let mut scrub = pfapi::ruleset::Scrub {
        reassemble_tcp: spec.rule.scrub.reassemble_tcp,
        ..pfapi::ruleset::Scrub::default()
    };
    let mut given: Vec<(Rule, Place)> = Vec::new();
    for item in pair.clone().into_inner().filter(|part| part.as_rule() == Rule::scrub_option) {
        let here = place(statement, &item);
        let Some(word) = item.clone().into_inner().next() else { continue };
        let (kind, name) = (word.as_rule(), word.as_str().trim());
        let again = given.iter().find(|(known, _)| *known == kind);
        let respecified = || {
            let name = match kind {
                Rule::kw_reassemble => "reassemble tcp",
                Rule::scrub_fragment => "fragcache",
                _ => name,
            };
            again.map_or(Ok(()), |(_, before)| {
                let mut error = twice(&format!("{name} cannot be respecified"), &here);
                error.code_is(Code::Scrub);
                *error = error.and(before.span, "given before");
                Err(error)
            })
        };
        let number = number_of(&item).unwrap_or_default();
        let illegal = |most: u32| {
            Box::new(
                Diagnostic::error(Code::Scrub, format!("illegal {name} value {number}"))
                    .at(&here, format!("goes from 0 to {most}")),
            )
        };
        match kind {
            Rule::kw_reassemble => {
                let what = text(&item);
                if !what.eq_ignore_ascii_case("tcp") {
                    let text = format!("scrub reassemble supports only tcp, not '{what}'");
                    return Err(Box::new(
                        Diagnostic::error(Code::Scrub, text)
                            .at(&here, "only tcp")
                            .help("fragments are put together with `set reassemble yes`"),
                    ));
                }
                respecified()?;
                scrub.reassemble_tcp = true;
            }
            Rule::kw_min_ttl => {
                respecified()?;
                scrub.min_ttl = u8::try_from(number).map_err(|_| illegal(255))?;
            }
            Rule::kw_max_mss => {
                respecified()?;
                scrub.max_mss = u16::try_from(number).map_err(|_| illegal(65535))?;
            }
            Rule::kw_random_id => {
                respecified()?;
                scrub.random_id = true;
            }
            Rule::kw_set_tos => {
                let value = tos(world, statement, &item)?;
                respecified()?;
                spec.rule.set.tos = Some(value);
            }
            // Of the options of `scrub` rules these mean nothing here.
            Rule::rtable => {
                rtable(world, &word, &here)?;
            }
            Rule::tagged => {}
            Rule::scrub_fragment => respecified()?,
            _ => {
                respecified()?;
                scrub.no_df = true;
            }
        }
        given.push((kind, here));
    }
    spec.places.add("scrub", place(statement, pair));
    spec.rule.scrub = scrub;
    Ok(())
}
