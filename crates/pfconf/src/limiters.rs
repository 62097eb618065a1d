//! `state limiter` and `source limiter` lines, and rules that use them.
//!
//! Source: FreeBSD pf.conf(5) "State Limiters", "Source Limiters"; sys/net/pfvar.h
//! `pfioc_statelim`, `pfioc_sourcelim`.

use pfapi::addr::Af;
use pfapi::ruleset::{
    LIMITER_ID_MAX, LIMITER_NAME_MAX, LimiterTable, LimiterUse, Rate, STATE_LIMITER_MAX,
    SourceLimiter, StateLimiter,
};

use crate::address::table_name;
use crate::diag::{Code, Diagnostic};
use crate::parser::{Fallible, Pair, Rule, place, string};
use crate::rules::family;
use crate::scan::Statement;
use crate::suggest::nearest;

/// The limiters of a ruleset.
#[derive(Debug, Default)]
pub(crate) struct Limiters {
    pub(crate) states: Vec<StateLimiter>,
    pub(crate) sources: Vec<SourceLimiter>,
}

/// Options of a limiter as far as they were given.
#[derive(Default)]
struct Given {
    id: Option<u8>,
    limit: Option<u32>,
    entries: Option<u32>,
    rate: Option<Rate>,
    table: Option<LimiterTable>,
    masks: [Option<u8>; 2],
}

impl Limiters {
    /// Adds the limiter of a `state_limiter` or `source_limiter` node, and gives its line of the
    /// listing.
    ///
    /// # Errors
    /// The message about the first part that cannot be.
    pub(crate) fn add(&mut self, statement: &Statement, parts: &[Pair]) -> Fallible<String> {
        let source = parts.iter().any(|part| part.as_rule() == Rule::kw_source);
        let kind = if source { "source limiter" } else { "state limiter" };
        let whole = statement.locate(0, statement.text.trim_end().len());
        let wrong = |text: String, label: &str| {
            Box::new(
                Diagnostic::error(Code::Limiter, text).at(&whole, label).line_at(statement.end),
            )
        };
        let words = parts.iter().find(|part| part.as_rule() == Rule::limiter_name);
        let words = words.into_iter().flat_map(|name| name.clone().into_inner());
        let name = words.map(|word| string(&word)).collect::<Vec<_>>().join(" ");
        if name.is_empty() {
            return Err(wrong(format!("{kind} name is too short"), "1 to 15 octets are possible"));
        }
        if name.len() > LIMITER_NAME_MAX {
            return Err(wrong(format!("{kind} name is too long"), "1 to 15 octets are possible"));
        }
        let mut given = Given::default();
        let mut none = true;
        for part in parts {
            if matches!(part.as_rule(), Rule::state_limit | Rule::source_limit) {
                for option in part.clone().into_inner() {
                    none = false;
                    given.read(statement, &option, source)?;
                }
            }
        }
        if none {
            return Err(wrong(format!("{kind} missing options"), "add `id number limit number`"));
        }
        let missing = |what: &str, word: &str| {
            wrong(format!("{what} not specified"), &format!("add `{word} number`"))
        };
        let id = given.id.ok_or_else(|| missing("id", "id"))?;
        let entries = given.entries.or_else(|| (!source).then_some(0));
        let entries = entries.ok_or_else(|| missing("entries", "entries"))?;
        let limit = given.limit;
        let what = if source { "state limit" } else { "limit" };
        let limit = limit.ok_or_else(|| missing(what, "limit"))?;
        if self.known(source).any(|(known, number)| known == name || number == id) {
            return Err(wrong(
                format!("{kind} {name} id {id} already exists"),
                "a second one of this name or id",
            ));
        }
        if !source {
            let limiter = StateLimiter { name, id, limit, rate: given.rate };
            let line = limiter.to_string();
            self.states.push(limiter);
            return Ok(line);
        }
        let limiter = SourceLimiter {
            name,
            id,
            entries,
            limit,
            rate: given.rate,
            table: given.table,
            inet_mask: given.masks[0].unwrap_or(32),
            inet6_mask: given.masks[1].unwrap_or(128),
        };
        let line = limiter.to_string();
        self.sources.push(limiter);
        Ok(line)
    }

    /// What a `limiter_use` node says, and whether it is about sources.
    ///
    /// # Errors
    /// The message about a limiter that does not exist.
    pub(crate) fn using(&self, statement: &Statement, pair: &Pair) -> Fallible<(bool, LimiterUse)> {
        let has = |rule| pair.clone().into_inner().any(|part| part.as_rule() == rule);
        let source = has(Rule::kw_source);
        let kind = if source { "source limiter" } else { "state limiter" };
        let unknown = |label: &str| {
            Diagnostic::error(Code::Limiter, format!("{kind} not found"))
                .at(&place(statement, pair), label)
        };
        let inner = || pair.clone().into_inner();
        let found = if let Some(number) = inner().find(|part| part.as_rule() == Rule::limit_id) {
            let mut given = Given::default();
            given.read(statement, &number, source)?;
            let Some(found) = self.known(source).find(|&(_, id)| Some(id) == given.id) else {
                let error = unknown("no line above has this id");
                return Err(Box::new(error.help(format!("define it above: `{kind} name id …`"))));
            };
            found
        } else {
            let word = inner().find(|part| part.as_rule() == Rule::string);
            let name = word.as_ref().map(string).unwrap_or_default();
            let Some(found) = self.known(source).find(|&(known, _)| known == name) else {
                let error = unknown("no line above defines it").about(&name);
                return Err(Box::new(match nearest(&name, self.known(source).map(|(n, _)| n)) {
                    Some(near) => error.help(format!("did you mean `{near}`?")),
                    None => error
                        .help(format!("define it before its first use: `{kind} \"{name}\" id …`")),
                }));
            };
            found
        };
        let (name, id) = (found.0.to_owned(), found.1);
        Ok((source, LimiterUse { name, id, block: has(Rule::kw_block) }))
    }

    /// Names and numbers of one kind.
    fn known(&self, source: bool) -> impl Iterator<Item = (&str, u8)> {
        let states = self.states.iter().filter(move |_| !source);
        let states = states.map(|known| (known.name.as_str(), known.id));
        let sources = self.sources.iter().filter(move |_| source);
        states.chain(sources.map(|known| (known.name.as_str(), known.id)))
    }
}

impl Given {
    fn read(&mut self, statement: &Statement, pair: &Pair, source: bool) -> Fallible<()> {
        let wrong = |text: &str, label: &str| {
            Box::new(Diagnostic::error(Code::Limiter, text).at(&place(statement, pair), label))
        };
        let words: Vec<String> = pair
            .clone()
            .into_inner()
            .filter(|part| part.as_rule() == Rule::number)
            .map(|number| number.as_str().trim().to_owned())
            .collect();
        let word = |index: usize| words.get(index).map_or("", String::as_str);
        let number = |index: usize, least: u32, most: u32, text: &str| {
            let number = word(index).parse().ok();
            number
                .filter(|number| (least..=most).contains(number))
                .ok_or_else(|| wrong(text, &format!("goes from {least} to {most}")))
        };
        let octet = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
        let kind = if source { "source" } else { "state" };
        // What pfctl calls a second `id` or `table` of a source limiter is wrong, and kept.
        let (again, what) = match pair.as_rule() {
            Rule::limit_id => {
                let text = format!("{kind} limiter id {}: invalid identifier", word(0));
                let id = number(0, 1, u32::from(LIMITER_ID_MAX), &text)?;
                let what = if source { "entries" } else { "id" };
                (self.id.replace(octet(id)).is_some(), what)
            }
            Rule::limit_states => {
                let most = if source { u32::MAX } else { STATE_LIMITER_MAX };
                let limit = number(0, 1, most, &format!("invalid {kind} limiter limit"))?;
                let what = if source { "state limit" } else { "limit" };
                (self.limit.replace(limit).is_some(), what)
            }
            Rule::limit_entries => {
                let entries = number(0, 1, u32::MAX, "invalid source limiter entries")?;
                (self.entries.replace(entries).is_some(), "entries")
            }
            Rule::limit_rate => {
                let limit = number(0, 1, u32::MAX, &format!("invalid rate limit {}", word(0)))?;
                let text = format!("invalid rate seconds {}", word(1));
                let seconds = number(1, 1, u32::MAX, &text)?;
                (self.rate.replace(Rate { limit, seconds }).is_some(), "rate")
            }
            Rule::limit_mask => {
                let named = pair.clone().into_inner().find(|part| part.as_rule() == Rule::family);
                let v6 = named.is_some_and(|named| family(&named) == Af::Inet6);
                let (what, most) = if v6 { ("inet6 mask", 128) } else { ("inet mask", 32) };
                let mask = octet(number(0, 1, most, &format!("{what} length out of range"))?);
                (self.masks[usize::from(v6)].replace(mask).is_some(), what)
            }
            Rule::limit_table => {
                let mut name = String::new();
                for part in pair.clone().into_inner() {
                    if part.as_rule() == Rule::table_ref {
                        name = table_name(statement, &part)?;
                    }
                }
                let above = number(0, 0, u32::MAX, "above limit is invalid")?;
                let below = if words.len() > 1 {
                    let below = number(1, 1, u32::MAX, "below limit is invalid")?;
                    if below > above {
                        let text = "below limit higher than above limit";
                        return Err(wrong(text, "sources would be put in and taken out at once"));
                    }
                    below
                } else {
                    0
                };
                (self.table.replace(LimiterTable { name, above, below }).is_some(), "rate")
            }
            _ => (false, ""),
        };
        if again {
            let text = format!("{what} cannot be respecified");
            return Err(wrong(&text, "given a second time"));
        }
        Ok(())
    }
}
