//! `set` lines.
//!
//! Source: pf.conf(5) "OPTIONS"; OpenBSD sbin/pfctl/pfctl.c `pfctl_set_syncookies`,
//! `pfctl_init_options`, `pfctl_load_options`.

use pfapi::check::INTERFACE_NAME_MAX;
use pfapi::limit::Limit;
use pfapi::ruleset::{Options, SyncookieMode, Syncookies, Watermarks};
use pfapi::timeout::{Optimization, Timeout};

use crate::diag::{Code, Diagnostic};
use crate::parser::{Fallible, Pair, Rule, place, string};
use crate::print;
use crate::scan::Statement;
use crate::suggest::nearest;

/// What the `set` lines of a file have said so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    options: Options,
    /// `set block-policy return`: what a plain `block` means from here on.
    pub(crate) block_returns: bool,
    states_limit_given: bool,
    adaptive_given: bool,
    /// Percentages of syncookies, until the limit of states is known for sure.
    percent: Option<(u32, u32)>,
}

impl Settings {
    /// Carries out one `set` statement and gives the lines that `pfctl -v` prints for it.
    ///
    /// # Errors
    /// The message about what cannot be set.
    pub(crate) fn set(&mut self, statement: &Statement, parts: &[Pair]) -> Fallible<Vec<String>> {
        let mut lines = Vec::new();
        for part in parts {
            match part.as_rule() {
                Rule::set_limit | Rule::set_timeout => {
                    let limit = part.as_rule() == Rule::set_limit;
                    for value in part.clone().into_inner() {
                        if value.as_rule() == Rule::setting_value {
                            lines.push(self.number(statement, &value, limit)?);
                        }
                    }
                }
                Rule::set_block_policy => {
                    self.block_returns =
                        part.clone().into_inner().any(|word| word.as_rule() == Rule::kw_return);
                    let policy = if self.block_returns { "return" } else { "drop" };
                    lines.push(format!("set block-policy {policy}"));
                }
                Rule::set_optimization => lines.push(self.optimization(statement, part)?),
                Rule::set_syncookies => lines.push(self.syncookies(statement, part)?),
                Rule::set_skip => lines.push(self.skip(statement, part)?),
                _ => {}
            }
        }
        Ok(lines)
    }

    /// Carries out the complete part of a `set limit` or `set timeout` that goes on wrongly.
    pub(crate) fn set_prefix(&mut self, statement: &Statement, parts: &[Pair]) -> Option<String> {
        let limit = parts.iter().any(|part| part.as_rule() == Rule::kw_limit);
        let value = parts.iter().find(|part| part.as_rule() == Rule::setting_value)?;
        self.number(statement, value, limit).ok()
    }

    /// The settings as a whole, with what follows from the limit of states.
    pub(crate) fn finish(mut self) -> Options {
        let states = self.options.limits.get(Limit::States);
        if self.states_limit_given && !self.adaptive_given {
            let tenth = states / 10;
            self.options.timeouts.set(Timeout::AdaptiveStart, tenth.saturating_mul(6));
            self.options.timeouts.set(Timeout::AdaptiveEnd, tenth.saturating_mul(12));
        }
        if let (Some(setting), Some((start, end))) = (&mut self.options.syncookies, self.percent) {
            setting.watermarks = Some(Watermarks::from_percent(states, start, end));
        }
        self.options
    }

    /// One name and number of `set limit` or `set timeout`.
    fn number(&mut self, statement: &Statement, pair: &Pair, limit: bool) -> Fallible<String> {
        let code = if limit { Code::Limit } else { Code::Timeout };
        let mut words = pair.clone().into_inner();
        let name = words.next().map(|word| string(&word)).unwrap_or_default();
        let text = words.next().map(|word| word.as_str().to_owned()).unwrap_or_default();
        let Ok(value) = text.parse::<u32>() else {
            return Err(Box::new(
                Diagnostic::error(code, "only positive values permitted")
                    .at(&place(statement, pair), format!("{text} is not from 0 to {}", u32::MAX)),
            ));
        };
        if limit {
            let Some(limit) = Limit::from_name(&name) else {
                let text = format!("unable to set limit {name} {value}");
                let known: Vec<&str> = Limit::ALL.iter().map(|limit| limit.name()).collect();
                return Err(Box::new(unknown(code, text, "limit", statement, pair, &name, &known)));
            };
            self.options.limits.set(limit, value);
            self.states_limit_given |= limit == Limit::States;
            return Ok(format!("set limit {name} {value}"));
        }
        let Some(timeout) = Timeout::from_name(&name) else {
            let text = format!("unknown timeout {name}");
            let known: Vec<&str> = Timeout::ALL.iter().map(|timeout| timeout.name()).collect();
            return Err(Box::new(unknown(code, text, "timeout", statement, pair, &name, &known)));
        };
        self.options.timeouts.set(timeout, value);
        self.adaptive_given |= matches!(timeout, Timeout::AdaptiveStart | Timeout::AdaptiveEnd);
        Ok(format!("set timeout {name} {value}"))
    }

    fn optimization(&mut self, statement: &Statement, pair: &Pair) -> Fallible<String> {
        let Some(word) = pair.clone().into_inner().find(|part| part.as_rule() == Rule::string)
        else {
            return Ok(String::new());
        };
        let name = string(&word);
        let optimization = match name.as_str() {
            "normal" => Optimization::Normal,
            "satellite" | "high-latency" => Optimization::Satellite,
            "aggressive" => Optimization::Aggressive,
            "conservative" => Optimization::Conservative,
            _ => {
                let known = ["normal", "satellite", "high-latency", "aggressive", "conservative"];
                let text = format!("unknown optimization {name}");
                return Err(Box::new(unknown(
                    Code::Optimization,
                    text,
                    "optimization",
                    statement,
                    &word,
                    &name,
                    &known,
                )));
            }
        };
        self.options.timeouts.optimize(optimization);
        Ok(format!("set optimization {name}"))
    }

    fn syncookies(&mut self, statement: &Statement, pair: &Pair) -> Fallible<String> {
        let here = place(statement, pair);
        let error = |text: &str| Diagnostic::error(Code::Syncookies, text);
        let mut setting = Syncookies::default();
        let mut given = CookieWords::default();
        for part in pair.clone().into_inner() {
            match part.as_rule() {
                Rule::string => {
                    setting.mode = match string(&part).as_str() {
                        "never" => SyncookieMode::Never,
                        "always" => SyncookieMode::Always,
                        "adaptive" => SyncookieMode::Adaptive,
                        _ => {
                            return Err(Box::new(
                                error("illegal value for syncookies")
                                    .at(&place(statement, &part), "no mode of syncookies")
                                    .help("the modes are never, always and adaptive"),
                            ));
                        }
                    }
                }
                Rule::cookie_options => given = cookie_words(statement, &part)?,
                _ => {}
            }
        }
        setting.classic = given.classic;
        let mut percent = None;
        if given.any_mark {
            if setting.mode != SyncookieMode::Adaptive {
                return Err(Box::new(
                    error("error setting syncookies")
                        .before("pfctl: syncookies start/end only apply to adaptive")
                        .title("syncookies start/end only apply to adaptive")
                        .at(&here, "marks on a mode that is not adaptive")
                        .help("write `set syncookies adaptive (…)`, or leave start and end out"),
                ));
            }
            // Zero is "not given": pf cuts the fraction off, so `0.5%` counts as nothing.
            let start =
                if given.start == 0 { Watermarks::DEFAULT_START_PERCENT } else { given.start };
            let end = if given.end == 0 { start / 2 } else { given.end };
            if start <= end {
                return Err(Box::new(
                    error("error setting syncookies")
                        .before("pfctl: start must be higher than end")
                        .title("start must be higher than end")
                        .at(&here, format!("cookies would start at {start} % and end at {end} %"))
                        .help("`end` is the lower mark; half of `start` is usual"),
                ));
            }
            percent = Some((start, end));
        }
        self.options.syncookies = Some(setting);
        self.percent = percent;
        Ok(print::syncookies(setting, percent))
    }

    fn skip(&mut self, statement: &Statement, pair: &Pair) -> Fallible<String> {
        let mut names = Vec::new();
        let items = pair.clone().into_inner().flatten();
        for item in items.filter(|part| part.as_rule() == Rule::if_item) {
            let here = place(statement, &item);
            let negated = item.clone().into_inner().any(|part| part.as_rule() == Rule::not);
            let name = item.clone().into_inner().find(|part| part.as_rule() == Rule::string);
            let error = |text: &str| Diagnostic::error(Code::Skip, text);
            if negated {
                return Err(Box::new(
                    error("skip on ! <interface> is not supported")
                        .at(&here, "`!` cannot be used here")
                        .help("name the interfaces that are to be skipped"),
                ));
            }
            let Some(name) = name.map(|name| string(&name)) else {
                return Err(Box::new(
                    error("skip on any is not supported")
                        .at(&here, "this would switch the filter off")
                        .help("name the interfaces that are to be skipped"),
                ));
            };
            if name.is_empty() || name.len() > INTERFACE_NAME_MAX {
                return Err(Box::new(
                    error("interface name too long")
                        .at(&here, format!("1 to {INTERFACE_NAME_MAX} octets are possible")),
                ));
            }
            names.push(name);
        }
        if names == ["none"] {
            self.options.skip.clear();
            return Ok("set skip on none".to_owned());
        }
        let shown: Vec<String> = names.iter().map(|name| print::word(name)).collect();
        let line = format!("set skip on {{ {} }}", shown.join(" "));
        for name in names {
            if !self.options.skip.contains(&name) {
                self.options.skip.push(name);
            }
        }
        Ok(line)
    }
}

/// What stands in the brackets of `set syncookies`.
#[derive(Clone, Copy, Default)]
struct CookieWords {
    start: u32,
    end: u32,
    any_mark: bool,
    classic: bool,
}

fn cookie_words(statement: &Statement, pair: &Pair) -> Fallible<CookieWords> {
    let mut given = CookieWords::default();
    for option in pair.clone().into_inner() {
        if option.as_rule() != Rule::cookie_option {
            continue;
        }
        let words: Vec<String> = option
            .clone()
            .into_inner()
            .filter(|part| part.as_rule() == Rule::string)
            .map(|part| string(&part))
            .collect();
        let [name, text] = words.as_slice() else {
            given.classic = true;
            continue;
        };
        let here = place(statement, &option);
        let Some(percent) = percentage(text) else {
            return Err(Box::new(
                Diagnostic::error(Code::Syncookies, "illegal percentage value")
                    .at(&here, "not a percentage above 0 and up to 100")
                    .help("the sign follows the number directly: `start 25%`"),
            ));
        };
        given.any_mark = true;
        match name.as_str() {
            "start" => given.start = percent,
            "end" => given.end = percent,
            _ => {
                return Err(Box::new(
                    Diagnostic::error(Code::Syncookies, "illegal syncookie option")
                        .at(&here, "neither `start` nor `end`")
                        .help("the options are `start N%`, `end N%` and `classic`"),
                ));
            }
        }
    }
    Ok(given)
}

/// A percentage above 0 and up to 100, its fraction cut off.
fn percentage(text: &str) -> Option<u32> {
    let value: f64 = text.strip_suffix('%')?.parse().ok()?;
    if !(value > 0.0 && value <= 100.0) {
        return None;
    }
    (0..=100_u32).rev().find(|&whole| f64::from(whole) <= value)
}

fn unknown(
    code: Code,
    text: String,
    what: &str,
    statement: &Statement,
    pair: &Pair,
    name: &str,
    known: &[&str],
) -> Diagnostic {
    let diagnostic = Diagnostic::error(code, text)
        .at(&place(statement, pair), format!("no {what} of this name"));
    match nearest(name, known.iter().copied()) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic.help(format!("known names: {}", known.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_cut_to_whole_numbers() {
        assert_eq!(percentage("25%"), Some(25));
        assert_eq!(percentage("12.9%"), Some(12));
        assert_eq!(percentage("0.5%"), Some(0));
        assert_eq!(percentage("100%"), Some(100));
        for wrong in ["25", "0%", "-1%", "100.1%", "nan%", "inf%", "%", "x%"] {
            assert_eq!(percentage(wrong), None, "{wrong}");
        }
    }
}
