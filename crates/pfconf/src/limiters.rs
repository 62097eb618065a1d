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
        let word = parts.iter().find(|part| part.as_rule() == Rule::string);
        let name = word.map(string).unwrap_or_default();
        if name.is_empty() || name.len() > LIMITER_NAME_MAX {
            let text = format!("{kind} name '{name}' too long (max {LIMITER_NAME_MAX} chars)");
            return Err(wrong(text, "1 to 15 octets are possible"));
        }
        let mut given = Given::default();
        for part in parts {
            if matches!(part.as_rule(), Rule::state_limit | Rule::source_limit) {
                for option in part.clone().into_inner() {
                    given.read(statement, &option, source)?;
                }
            }
        }
        let missing = |word: &str| {
            wrong(format!("{kind} {name} has no {word}"), &format!("add `{word} number`"))
        };
        let id = given.id.ok_or_else(|| missing("id"))?;
        let limit = given.limit.ok_or_else(|| missing("limit"))?;
        let known: Vec<(&str, u8)> = if source {
            self.sources.iter().map(|known| (known.name.as_str(), known.id)).collect()
        } else {
            self.states.iter().map(|known| (known.name.as_str(), known.id)).collect()
        };
        if known.iter().any(|&(known, _)| known == name) {
            return Err(wrong(
                format!("{kind} {name} already exists"),
                "a second one of this name",
            ));
        }
        if known.iter().any(|&(_, known)| known == id) {
            return Err(wrong(format!("{kind} id {id} already exists"), "a second one of this id"));
        }
        if !source {
            let limiter = StateLimiter { name, id, limit, rate: given.rate };
            let line = limiter.to_string();
            self.states.push(limiter);
            return Ok(line);
        }
        let entries = given.entries.ok_or_else(|| missing("entries"))?;
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
        let word = pair.clone().into_inner().find(|part| part.as_rule() == Rule::string);
        let name = word.as_ref().map(string).unwrap_or_default();
        let names: Vec<&str> = if source {
            self.sources.iter().map(|known| known.name.as_str()).collect()
        } else {
            self.states.iter().map(|known| known.name.as_str()).collect()
        };
        if !names.contains(&name.as_str()) {
            let kind = if source { "source limiter" } else { "state limiter" };
            let unknown = Diagnostic::error(Code::Limiter, format!("{kind} {name} not found"))
                .at(&place(statement, pair), "no line above defines it");
            return Err(Box::new(match nearest(&name, names.iter().copied()) {
                Some(near) => unknown.help(format!("did you mean `{near}`?")),
                None => {
                    unknown.help(format!("define it before its first use: `{kind} \"{name}\"`"))
                }
            }));
        }
        Ok((source, LimiterUse { name, block: !has(Rule::kw_no_match) }))
    }
}

impl Given {
    fn read(&mut self, statement: &Statement, pair: &Pair, source: bool) -> Fallible<()> {
        let wrong = |text: &str, label: &str| {
            Box::new(Diagnostic::error(Code::Limiter, text).at(&place(statement, pair), label))
        };
        let numbers: Vec<Option<u32>> = pair
            .clone()
            .into_inner()
            .filter(|part| part.as_rule() == Rule::number)
            .map(|number| number.as_str().parse().ok())
            .collect();
        let number = |index: usize, least: u32, most: u32| {
            let number = numbers.get(index).copied().flatten();
            number.filter(|number| (least..=most).contains(number)).ok_or_else(|| {
                wrong("number out of range", &format!("goes from {least} to {most}"))
            })
        };
        let octet = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
        let again = match pair.as_rule() {
            Rule::limit_id => {
                let id = number(0, 1, u32::from(LIMITER_ID_MAX))?;
                self.id.replace(octet(id)).is_some()
            }
            Rule::limit_states => {
                let most = if source { u32::MAX } else { STATE_LIMITER_MAX };
                self.limit.replace(number(0, 1, most)?).is_some()
            }
            Rule::limit_entries => self.entries.replace(number(0, 1, u32::MAX)?).is_some(),
            Rule::limit_rate => {
                let limit = number(0, 1, u32::MAX)?;
                let seconds = number(1, 1, u32::MAX)?;
                self.rate.replace(Rate { limit, seconds }).is_some()
            }
            Rule::limit_mask => {
                let named = pair.clone().into_inner().find(|part| part.as_rule() == Rule::family);
                let v6 = named.is_some_and(|named| family(&named) == Af::Inet6);
                let most = if v6 { 128 } else { 32 };
                let mask = octet(number(0, 0, most)?);
                self.masks[usize::from(v6)].replace(mask).is_some()
            }
            Rule::limit_table => {
                let mut name = String::new();
                for part in pair.clone().into_inner() {
                    if part.as_rule() == Rule::table_ref {
                        name = table_name(statement, &part)?;
                    }
                }
                let above = number(0, 1, u32::MAX)?;
                let below = if numbers.len() > 1 { number(1, 0, above)? } else { 0 };
                self.table.replace(LimiterTable { name, above, below }).is_some()
            }
            _ => false,
        };
        if again {
            return Err(wrong("limiter option cannot be respecified", "given a second time"));
        }
        Ok(())
    }
}
