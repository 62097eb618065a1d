//! `set` lines.
//!
//! Source: pf.conf(5) "OPTIONS"; OpenBSD sbin/pfctl/pfctl.c `pfctl_set_syncookies`,
//! `pfctl_init_options`, `pfctl_load_options`.

use std::borrow::Cow;

use pfapi::limit::Limit;
use pfapi::load::{Given, Part};
use pfapi::ruleset::{
    DebugLevel, InterfaceMatch, LogInterface, Options, Reassemble, ServerOptions, SyncookieMode,
    Syncookies, Watermarks,
};
use pfapi::timeout::{Optimization, Timeout};

use crate::address::World;
use crate::criteria::{c_number, decimal_text};
use crate::diag::{Code, Diagnostic};
use crate::dialect::Dialect;
use crate::fingerprint::Fingerprints;
use crate::optimize::Level;
use crate::parser::{Fallible, Pair, Rule, place, string};
use crate::print;
use crate::reader::Shared;
use crate::rules::{On, interfaces};
use crate::scan::Statement;
use crate::server;
use crate::state::items;
use crate::suggest::nearest;

/// What the `set` lines of a file have said so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    options: Options,
    /// `set block-policy return`: what a plain `block` means from here on.
    pub(crate) block_returns: bool,
    states_limit_given: bool,
    adaptive_given: bool,
    /// What was named of the settings that always have a value.
    given: Given,
    /// Words that no pfctl of BSD knows, for who wants to do without them.
    pub(crate) extensions: Vec<Diagnostic>,
    /// Percentages of syncookies, until the limit of states is known for sure.
    percent: Option<CookiePercent>,
}

impl Settings {
    /// Whether fragments are put together.
    pub(crate) fn reassembles(&self) -> bool {
        self.options.reassemble != Some(Reassemble::No)
    }

    /// Carries out one `set` statement; `lines` gets what `pfctl -v` prints for it.
    ///
    /// # Errors
    /// The message about what cannot be set.
    pub(crate) fn set(
        &mut self,
        world: World,
        statement: &Statement,
        parts: &[Pair],
        shared: &mut Shared,
        in_anchor: bool,
        lines: &mut Vec<String>,
    ) -> Fallible<()> {
        let mut ignored = Vec::new();
        for part in parts {
            // As in pfctl: what goes to the filter is not even shown, the rest is.
            let lines = if world.parts.has(Part::Options) || is_for_rules(part.as_rule()) {
                &mut *lines
            } else {
                &mut ignored
            };
            match part.as_rule() {
                Rule::set_limit
                | Rule::set_timeout
                | Rule::set_limit_one
                | Rule::set_timeout_one => {
                    let limit = matches!(part.as_rule(), Rule::set_limit | Rule::set_limit_one);
                    for value in part.clone().into_inner() {
                        if value.as_rule() == Rule::setting_value {
                            lines.push(self.number(world.dialect, statement, &value, limit)?);
                        }
                    }
                }
                Rule::set_block_policy => {
                    self.block_returns = has(part, Rule::kw_return);
                    lines.push(plain(part));
                }
                Rule::set_optimization => lines.push(self.optimization(statement, part)?),
                Rule::set_syncookies => lines.push(self.syncookies(statement, part)?),
                Rule::set_skip => self.skip(world, statement, part, lines)?,
                Rule::set_reassemble => lines.push(self.reassemble(statement, part)?),
                Rule::set_ruleset_optimization => {
                    let level = Self::ruleset_optimization(statement, part)?;
                    shared.optimize.get_or_insert(level);
                }
                Rule::set_loginterface => {
                    let name = if has(part, Rule::kw_all) { "all".to_owned() } else { text(part) };
                    lines.push(format!("set loginterface {name}"));
                    self.options.log_interface = Some(match name.as_str() {
                        "none" => LogInterface::None,
                        _ => LogInterface::Name(name),
                    });
                }
                Rule::set_hostid => lines.push(self.hostid(statement, part)?),
                Rule::set_fingerprints => {
                    let file = text(part);
                    lines.push(plain(part));
                    if in_anchor {
                        shared.fingerprints.get_or_insert_default();
                    } else {
                        let database = database(world, statement, part, &file)?;
                        let (known, mistakes) = Fingerprints::parse(&database);
                        let told =
                            mistakes.iter().map(|found| format!("{file}:{} {found}", found.line));
                        shared.fingerprint_mistakes.extend(told);
                        shared.fingerprints = Some(known);
                    }
                }
                Rule::set_state_policy => {
                    shared.if_bound = has(part, Rule::kw_if_bound);
                    let policy = if shared.if_bound { "if-bound" } else { "floating" };
                    lines.push(format!("set state-policy {policy}"));
                }
                Rule::set_state_defaults => {
                    let items = items(world.dialect, statement, part)?;
                    if shared.state_items.is_some() {
                        return Err(Box::new(
                            Diagnostic::error(Code::Twice, "cannot redefine state-defaults")
                                .at(&place(statement, part), "given a second time")
                                .line_at(statement.end),
                        ));
                    }
                    shared.state_items = Some(items);
                }
                Rule::set_debug => lines.push(self.debug(world, statement, part)?),
                Rule::set_fail_policy => {
                    self.given.fail_policy = true;
                    self.options.fail_returns = has(part, Rule::kw_return);
                    lines.push(plain(part));
                }
                Rule::set_require_order => {
                    let no = has(part, Rule::kw_no);
                    yes_or_no(statement, part)?;
                    lines.push(format!("set require-order {}", if no { "no" } else { "yes" }));
                }
                Rule::set_keepcounters => self.options.keep_counters = true,
                _ => {}
            }
        }
        Ok(())
    }

    fn reassemble(&mut self, statement: &Statement, pair: &Pair) -> Fallible<String> {
        let no_df = has(pair, Rule::kw_no_df);
        let on = !has(pair, Rule::kw_no);
        yes_or_no(statement, pair)?;
        self.options.reassemble = Some(match (on, no_df) {
            (false, _) => Reassemble::No,
            (true, false) => Reassemble::Yes,
            (true, true) => Reassemble::NoDf,
        });
        // The blank at the end is pfctl's.
        let (word, no_df) = (if on { "yes" } else { "no" }, if no_df { "no-df" } else { "" });
        Ok(format!("set reassemble {word} {no_df}"))
    }

    fn ruleset_optimization(statement: &Statement, pair: &Pair) -> Fallible<Level> {
        let words = pair.clone().into_inner().filter(|part| part.as_rule() == Rule::string);
        let name = words.map(|word| string(&word)).collect::<Vec<_>>().join(" ");
        if let Some(&(_, level)) = Level::NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(level);
        }
        let known: Vec<&str> = Level::NAMES.iter().map(|(known, _)| *known).collect();
        let text = format!("unknown ruleset-optimization {name}");
        let diagnostic =
            unknown(Code::Setting, text, "optimization", statement, pair, &name, &known);
        Err(Box::new(diagnostic.line_at(statement.end)))
    }

    fn hostid(&mut self, statement: &Statement, pair: &Pair) -> Fallible<String> {
        let wrong = |text: String, label: &str| {
            Box::new(Diagnostic::error(Code::Setting, text).at(&place(statement, pair), label))
        };
        let word = pair.clone().into_inner().find(|part| part.as_rule() == Rule::numstr);
        let word = word.map(|word| decimal_text(&word)).unwrap_or_default();
        let number = word.parse::<i64>().ok().or_else(|| c_number(&word).map(u64::cast_signed));
        let Some(number) = number else {
            return Err(wrong(format!("{word} is not a number"), "no number"));
        };
        // Of a negative number pfctl takes the last 32 bits.
        let bits = u32::try_from(number & i64::from(u32::MAX)).unwrap_or_default();
        let Some(id) = Some(bits).filter(|&id| id > 0 && number <= i64::from(u32::MAX)) else {
            return Err(wrong("hostid must be non-zero".into(), "goes from 1 to 4294967295"));
        };
        self.options.hostid = Some(id);
        Ok(format!("set hostid 0x{id:08x}"))
    }

    fn debug(&mut self, world: World, statement: &Statement, pair: &Pair) -> Fallible<String> {
        let mut words = pair.clone().into_inner();
        let word = words.nth(1);
        let name = match &word {
            Some(word) if word.as_rule() == Rule::string => string(word),
            _ => "debug".to_owned(),
        };
        let names = match world.dialect {
            Dialect::OpenBsd => DebugLevel::NAMES,
            Dialect::FreeBsd | Dialect::MacOs => DebugLevel::FREEBSD_NAMES,
        };
        let level = match world.dialect {
            Dialect::OpenBsd => DebugLevel::from_name(&name),
            Dialect::FreeBsd | Dialect::MacOs => {
                names.iter().find(|(known, _)| *known == name).map(|&(_, level)| level)
            }
        };
        let Some(level) = level else {
            let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            let text = format!("error setting debuglevel {name}");
            return Err(Box::new(
                unknown(Code::Setting, text, "level", statement, pair, &name, &known)
                    .before(format!("pfctl: unknown debug level \"{name}\"")),
            ));
        };
        self.options.debug = Some(level);
        Ok(format!("set debug {name}"))
    }

    /// The settings as a whole, with what follows from the limit of states, and which were named.
    pub(crate) fn finish(mut self) -> (Options, Given) {
        let states = self.options.limits.get(Limit::States);
        if self.states_limit_given && !self.adaptive_given {
            let tenth = states / 10;
            self.options.timeouts.set(Timeout::AdaptiveStart, tenth.saturating_mul(6));
            self.options.timeouts.set(Timeout::AdaptiveEnd, tenth.saturating_mul(12));
            self.given.timeouts.extend([Timeout::AdaptiveStart, Timeout::AdaptiveEnd]);
        }
        if let (Some(setting), Some(percent)) = (&mut self.options.syncookies, self.percent) {
            let CookiePercent { marks, start, end, destination } = percent;
            setting.watermarks = marks.then(|| Watermarks::from_percent(states, start, end));
            // The same hysteresis as for the whole, reckoned in connections so that small shares
            // keep it.
            setting.destination = destination.map(|share| {
                let high = Watermarks::from_percent(states, share, 0).start;
                let low = u64::from(high) * u64::from(end) / u64::from(start);
                Watermarks { start: high, end: u32::try_from(low).unwrap_or(high) }
            });
        }
        (self.options, self.given)
    }

    /// One name and number of `set limit` or `set timeout`.
    fn number(
        &mut self,
        dialect: Dialect,
        statement: &Statement,
        pair: &Pair,
        limit: bool,
    ) -> Fallible<String> {
        let code = if limit { Code::Limit } else { Code::Timeout };
        let mut words = pair.clone().into_inner();
        let name = words.next().map(|word| string(&word)).unwrap_or_default();
        let text = words.next().map(|word| decimal_text(&word)).unwrap_or_default();
        let Ok(value) = text.parse::<u32>() else {
            return Err(Box::new(
                Diagnostic::error(code, "only positive values permitted")
                    .at(&place(statement, pair), format!("{text} is not from 0 to {}", u32::MAX)),
            ));
        };
        if limit {
            let Some(limit) = Limit::from_name(&name.to_ascii_lowercase()) else {
                let text = format!("unable to set limit {name} {value}");
                let known: Vec<&str> = Limit::ALL.iter().map(|limit| limit.name()).collect();
                return Err(Box::new(
                    unknown(code, text, "limit", statement, pair, &name, &known)
                        .before("pfctl: Bad pool name."),
                ));
            };
            self.options.limits.set(limit, value);
            self.given.limits.push(limit);
            self.states_limit_given |= limit == Limit::States;
            // pfctl prints these numbers with a sign.
            return Ok(format!("set limit {name} {}", value.cast_signed()));
        }
        let Some(timeout) = dialect.timeout(&name.to_ascii_lowercase()) else {
            let text = format!("unknown timeout {name}");
            let known: Vec<&str> = dialect.timeouts().map(Timeout::name).collect();
            return Err(Box::new(
                unknown(code, text, "timeout", statement, pair, &name, &known)
                    .before("pfctl: Bad timeout name."),
            ));
        };
        self.options.timeouts.set(timeout, value);
        self.given.timeouts.push(timeout);
        self.adaptive_given |= matches!(timeout, Timeout::AdaptiveStart | Timeout::AdaptiveEnd);
        Ok(format!("set timeout {name} {}", value.cast_signed()))
    }

    fn optimization(&mut self, statement: &Statement, pair: &Pair) -> Fallible<String> {
        let Some(word) = pair.clone().into_inner().find(|part| part.as_rule() == Rule::string)
        else {
            return Ok(String::new());
        };
        let name = string(&word);
        let optimization = match name.to_ascii_lowercase().as_str() {
            "normal" => Optimization::Normal,
            "satellite" | "high-latency" => Optimization::Satellite,
            "aggressive" => Optimization::Aggressive,
            "conservative" => Optimization::Conservative,
            _ => {
                let known = ["normal", "satellite", "high-latency", "aggressive", "conservative"];
                let text = format!("unknown optimization {name}");
                let code = Code::Optimization;
                return Err(Box::new(
                    unknown(code, text, "optimization", statement, &word, &name, &known)
                        .before("pfctl: invalid state timeouts optimization"),
                ));
            }
        };
        self.options.timeouts.optimize(optimization);
        self.given.timeouts.extend(Optimization::TIMEOUTS);
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
                    let Some(mode) = SyncookieMode::from_name(&string(&part)) else {
                        return Err(Box::new(
                            error("illegal value for syncookies")
                                .at(&place(statement, &part), "no mode of syncookies")
                                .help("the modes are never, always and adaptive"),
                        ));
                    };
                    setting.mode = mode;
                }
                Rule::cookie_options => given = cookie_words(statement, &part)?,
                _ => {}
            }
        }
        setting.classic = given.classic;
        setting.probe = !given.classic && !given.no_probe;
        setting.server = given.server;
        if let Some(server) = given.server {
            server::check(server, &here)?;
            if given.classic {
                return Err(Box::new(
                    error("error setting syncookies")
                        .title("`classic` knows nothing of servers")
                        .at(&here, "options of servers beside `classic`")
                        .help("leave `classic` out, or the options of servers"),
                ));
            }
        }
        if given.classic {
            let text = "'classic' is no part of pf.conf on any BSD";
            let found = error(text).at(&here, "a word of this program only").line_at(statement.end);
            self.extensions.push(found.help("leave it out, or check without --strict"));
        }
        let mut percent = None;
        let destination = given.destination.filter(|&share| share > 0);
        if given.any_mark || destination.is_some() {
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
            if destination.is_some_and(|share| share > start)
                || destination.is_some() && given.classic
            {
                return Err(Box::new(
                    error("error setting syncookies")
                        .title("the mark of a destination does not fit")
                        .at(&here, "this mark")
                        .help("`destination` is at most `start`, and `classic` has none"),
                ));
            }
            percent = Some(CookiePercent { marks: given.any_mark, start, end, destination });
        }
        self.options.syncookies = Some(setting);
        self.percent = percent;
        let marks = percent.filter(|percent| percent.marks).map(|found| (found.start, found.end));
        Ok(print::syncookies(setting, marks, destination))
    }

    fn skip(
        &mut self,
        world: World,
        statement: &Statement,
        pair: &Pair,
        lines: &mut Vec<String>,
    ) -> Fallible<()> {
        self.given.skip = true;
        let on = pair.clone().into_inner().find(|part| part.as_rule() == Rule::on);
        let found =
            on.as_ref().map(|on| interfaces(statement, on)).transpose()?.unwrap_or_default();
        let here = on.as_ref().map_or_else(|| place(statement, pair), |on| place(statement, on));
        let none = On::Interface(InterfaceMatch { negated: false, name: "none".to_owned() }.into());
        if found.is_empty() || found == [none] {
            self.options.skip.clear();
            lines.push("set skip on none".to_owned());
            return Ok(());
        }
        let mut shown = String::from("set skip on {");
        let mut names = Vec::new();
        let mut refused = Vec::new();
        for on in found {
            shown.push(' ');
            match on {
                On::Interface(on) => {
                    let InterfaceMatch { negated, name } = on.into_inner();
                    shown.push_str(&if name == "any" {
                        Cow::from(&name)
                    } else {
                        print::word(&name, world.dialect)
                    });
                    if negated {
                        refused.push("skip on ! <interface> is not supported");
                    } else if name == "any" {
                        refused.push("skip on any is not supported");
                    } else if !name.is_empty() {
                        names.push(name);
                    }
                }
                On::Rdomain { .. } => refused.push("skip on rdomain <num> is not supported"),
            }
        }
        lines.push(shown + " }");
        let mut texts = refused.into_iter();
        if let Some(first) = texts.next() {
            let mut diagnostic = Diagnostic::error(Code::Skip, first);
            for text in texts {
                diagnostic = diagnostic.after(text);
            }
            return Err(Box::new(
                diagnostic
                    .after("error setting skip interface(s)")
                    .at(&here, "these cannot be skipped")
                    .help("name the interfaces that are to be skipped"),
            ));
        }
        for name in names {
            if !self.options.skip.contains(&name) {
                self.options.skip.push(name);
            }
        }
        Ok(())
    }
}

/// The line that `pfctl -v` prints for a setting that has a word alone.
pub(crate) fn plain(pair: &Pair) -> String {
    let returns = if has(pair, Rule::kw_return) { "return" } else { "drop" };
    match pair.as_rule() {
        Rule::set_block_policy => format!("set block-policy {returns}"),
        Rule::set_fail_policy => format!("set fail-policy {returns}"),
        _ => format!("set fingerprints \"{}\"", text(pair)),
    }
}

/// A word other than `no` must be `yes`.
fn yes_or_no(statement: &Statement, pair: &Pair) -> Fallible<()> {
    let word = text(pair);
    if has(pair, Rule::kw_no) || word == "yes" {
        return Ok(());
    }
    let text = format!("invalid value '{word}', expected 'yes' or 'no'");
    Err(Box::new(
        Diagnostic::error(Code::Setting, text)
            .at(&place(statement, pair), "neither `yes` nor `no`"),
    ))
}

fn has(pair: &Pair, rule: Rule) -> bool {
    pair.clone().into_inner().any(|part| part.as_rule() == rule)
}

/// The one string in a node.
fn text(pair: &Pair) -> String {
    let found = pair.clone().into_inner().find(|part| part.as_rule() == Rule::string);
    found.map(|word| string(&word)).unwrap_or_default()
}

/// Text of a fingerprint file.
fn database(world: World, statement: &Statement, pair: &Pair, file: &str) -> Fallible<String> {
    let error = match world.sources.read(file) {
        Ok(text) => return Ok(text),
        Err(error) => error,
    };
    let cause = crate::tables::cause(&error);
    Err(Box::new(
        Diagnostic::error(Code::Setting, format!("error loading fingerprints {file}"))
            .before(format!("pfctl: {file}: {cause}"))
            .title(format!("cannot read {file:?}: {cause}"))
            .at(&place(statement, pair), "this file"),
    ))
}

/// Marks of `set syncookies` in percent of the limit of states.
#[derive(Clone, Copy, Debug)]
struct CookiePercent {
    /// Whether those of the whole were given.
    marks: bool,
    start: u32,
    end: u32,
    destination: Option<u32>,
}

/// What stands in the brackets of `set syncookies`.
#[derive(Clone, Copy, Default)]
struct CookieWords {
    start: u32,
    end: u32,
    any_mark: bool,
    destination: Option<u32>,
    classic: bool,
    no_probe: bool,
    server: Option<ServerOptions>,
}

fn cookie_words(statement: &Statement, pair: &Pair) -> Fallible<CookieWords> {
    let mut given = CookieWords::default();
    for option in pair.clone().into_inner() {
        if option.as_rule() != Rule::cookie_option {
            continue;
        }
        let parts = || option.clone().into_inner();
        if let Some(part) = parts().find(|part| part.as_rule() == Rule::server_option) {
            server::take(&mut given.server, statement, &part)?;
            continue;
        }
        let words: Vec<String> = parts()
            .filter(|part| part.as_rule() == Rule::string)
            .map(|part| string(&part))
            .collect();
        let [name, text] = words.as_slice() else {
            let is = |rule| parts().any(|part| part.as_rule() == rule);
            given.classic |= is(Rule::classic);
            given.no_probe |= is(Rule::no_probe);
            continue;
        };
        let here = place(statement, &option);
        if matches!(name.as_str(), "mss" | "wscale") {
            return Err(server::out_of_range(name, &here));
        }
        let Some(percent) = percentage(text) else {
            return Err(Box::new(
                Diagnostic::error(Code::Syncookies, "illegal percentage value")
                    .at(&here, "not a percentage above 0 and up to 100")
                    .help("the sign follows the number directly: `start 25%`"),
            ));
        };
        match name.as_str() {
            "start" => (given.any_mark, given.start) = (true, percent),
            "end" => (given.any_mark, given.end) = (true, percent),
            "destination" => given.destination = Some(percent),
            _ => {
                return Err(Box::new(
                    Diagnostic::error(Code::Syncookies, "illegal syncookie option")
                        .at(&here, "neither `start` nor `end`")
                        .help("the options are `start N%`, `end N%`, `destination N%`, `no-probe`, `classic`, and those of servers: `mss N`, `wscale N`, `sack-perm`, `timestamp`, `ecn`"),
                ));
            }
        }
    }
    Ok(given)
}

/// Settings for the rules that follow in the file.
const fn is_for_rules(kind: Rule) -> bool {
    matches!(
        kind,
        Rule::set_block_policy
            | Rule::set_fail_policy
            | Rule::set_fingerprints
            | Rule::set_ruleset_optimization
            | Rule::set_state_policy
            | Rule::set_state_defaults
            | Rule::set_require_order
    )
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
        Some(near) => diagnostic.did_you_mean(near),
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
