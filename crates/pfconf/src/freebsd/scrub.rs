//! `scrub` rules: packets are cleaned before they are translated and filtered.
//!
//! Source: pf.conf(5) of FreeBSD, "TRAFFIC NORMALIZATION"; FreeBSD sbin/pfctl/parse.y `scrubrule`,
//! `scrub_opt`.

use pfapi::check::TAG_MAX;
use pfapi::ruleset::{Action, RuleKind, StatePolicy};

use crate::criteria::number_of;
use crate::diag::{Code, Diagnostic};
use crate::filter::{text, tos, twice};
use crate::parser::{Fallible, Pair, Rule, place};
use crate::rules::{Context, RuleSpec, rule};
use crate::scan::Statement;

/// Reads a `scrub` rule, or one that excepts from them.
///
/// # Errors
/// The message about the first part that cannot be.
pub(crate) fn scrub(context: Context, statement: &Statement, parts: &[Pair]) -> Fallible<RuleSpec> {
    let mut spec = rule(context, statement, parts)?;
    spec.rule.kind = RuleKind::Scrub;
    spec.rule.action = Action::Pass;
    spec.rule.state = StatePolicy::None;
    let mut given: Vec<&str> = Vec::new();
    for part in parts {
        match part.as_rule() {
            Rule::kw_no => spec.rule.freebsd.except = true,
            Rule::scrub_rule_option => {
                for word in part.clone().into_inner().take(1) {
                    option(context, statement, part, &word, &mut spec, &mut given)?;
                }
            }
            _ => {}
        }
    }
    let wrong = |text: &str, label: &str| {
        Err(Box::new(
            Diagnostic::error(Code::Scrub, text)
                .at(&spec.places.rule, label)
                .line_at(spec.places.end),
        ))
    };
    if spec.rule.quick {
        return wrong("scrub rules do not support 'quick'", "the first that matches counts");
    }
    if spec.rule.scrub.reassemble_tcp && spec.rule.direction.is_some() {
        let text = "reassemble tcp rules can not specify direction";
        return wrong(text, "take `in` or `out` out");
    }
    if spec.rule.tagged.as_ref().is_some_and(|tagged| tagged.name.len() > TAG_MAX) {
        return wrong(&format!("tag too long, max {TAG_MAX} chars"), "in this rule");
    }
    Ok(spec)
}

fn option<'w>(
    context: Context,
    statement: &Statement,
    pair: &Pair,
    word: &Pair<'w>,
    spec: &mut RuleSpec,
    given: &mut Vec<&'w str>,
) -> Fallible<()> {
    let here = place(statement, pair);
    let name = match word.as_rule() {
        Rule::rtable | Rule::tagged => {
            return crate::filter::option(context, statement, word, spec);
        }
        Rule::scrub_fragment => "fragcache",
        Rule::kw_reassemble => "reassemble tcp",
        _ => word.as_str().trim(),
    };
    let number = number_of(pair).unwrap_or_default();
    let illegal = |most: u32| {
        Box::new(
            Diagnostic::error(Code::Scrub, format!("illegal {name} value {number}"))
                .at(&here, format!("goes from 0 to {most}")),
        )
    };
    let what = text(pair);
    if word.as_rule() == Rule::kw_reassemble && !what.eq_ignore_ascii_case("tcp") {
        let text = format!("scrub reassemble supports only tcp, not '{what}'");
        return Err(Box::new(
            Diagnostic::error(Code::Scrub, text)
                .at(&here, "only tcp")
                .help("fragments are put together with `fragment reassemble`"),
        ));
    }
    if given.contains(&name) {
        let mut error = twice(&format!("{name} cannot be respecified"), &here);
        error.code_is(Code::Scrub);
        return Err(error);
    }
    given.push(name);
    let scrub = &mut spec.rule.scrub;
    match word.as_rule() {
        Rule::kw_no_df => scrub.no_df = true,
        Rule::kw_random_id => scrub.random_id = true,
        Rule::kw_min_ttl => scrub.min_ttl = u8::try_from(number).map_err(|_| illegal(255))?,
        Rule::kw_max_mss => scrub.max_mss = u16::try_from(number).map_err(|_| illegal(65535))?,
        Rule::kw_set_tos => scrub.set_tos = Some(tos(context.world, statement, pair)?),
        Rule::kw_reassemble => scrub.reassemble_tcp = true,
        // `crop` and `drop-ovl` of old releases mean nothing since.
        _ => {
            let keeps = word.clone().into_inner().any(|word| word.as_rule() == Rule::kw_no);
            scrub.keep_fragments = keeps;
        }
    }
    Ok(())
}
