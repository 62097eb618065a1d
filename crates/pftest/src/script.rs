//! Text of a scenario file into steps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pfapi::addr::{Af, Prefix};
use pfapi::control::TableUse;
use pfapi::control::{Flush, KillFilter};
use pfapi::facts::Facts;
use pfapi::reason::{CookieCounter, LimitCounter, Reason, TableCounter};
use pfapi::ruleset::{TableEntry, proto};
use pfapi::units::Direction;

use crate::check;
use crate::packet::{self, End, Packet};
use crate::scenario::{
    Action, Command, Counter, Expect, Gauge, InterfaceWanted, LimiterCounter, Outcome,
    QueueCounter, RuleCounter, RulesetSource, Scenario, ScriptError, StateNumber, StateWanted,
    Step, TableChange, TableWanted, only,
};
use crate::text::{Cursor, Fault};
use crate::world::{self, World};

/// Most packets that one line may send.
const PACKETS_MAX: usize = 100_000;

struct Script<'a> {
    scenario: Scenario,
    /// Interfaces that the file names; the usual ones when it names none.
    facts: Facts,
    lines: std::iter::Peekable<std::iter::Enumerate<std::str::Lines<'a>>>,
    /// Text of `config` lines that follow each other, and the line of the first.
    config: Option<(usize, String)>,
}

/// Reads a whole file.
pub fn parse(name: &str, text: &str) -> Result<Scenario, ScriptError> {
    let title = text
        .lines()
        .find_map(|line| line.strip_prefix('#'))
        .map(|title| title.trim().to_owned())
        .unwrap_or_default();
    let mut script = Script {
        scenario: Scenario {
            name: name.to_owned(),
            title,
            world: World::default(),
            seed: 1,
            ports_unknown: false,
            files: BTreeMap::new(),
            steps: Vec::new(),
        },
        facts: Facts::default(),
        lines: text.lines().enumerate().peekable(),
        config: None,
    };
    while let Some((at, line)) = script.lines.next() {
        script.line(at + 1, line).map_err(|fault| ScriptError {
            file: name.to_owned(),
            line: at + 1,
            column: fault.offset + 1,
            message: fault.message,
        })?;
    }
    script.flush_config();
    Ok(script.scenario)
}

/// The line without its comment.
fn code(line: &str) -> &str {
    let mut quoted = false;
    for (at, letter) in line.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '#' if !quoted => return &line[..at],
            _ => {}
        }
    }
    line
}

impl Script<'_> {
    fn line(&mut self, number: usize, line: &str) -> Result<(), Fault> {
        let mut cursor = Cursor::new(code(line));
        if cursor.is_done() {
            return Ok(());
        }
        let before = cursor;
        let word = cursor.word("a statement")?;
        if word == "config" {
            return self.config_line(number, &mut cursor, line);
        }
        self.flush_config();
        let action = match word {
            "interface" => return self.interface(&mut cursor),
            "route" => return self.route(&mut cursor),
            "seed" => {
                self.scenario.seed = cursor.plain()?;
                return end(&cursor);
            }
            "ports" => {
                let before = cursor;
                self.scenario.ports_unknown = match cursor.word("known or unknown")? {
                    "unknown" => true,
                    "known" => false,
                    _ => return Err(before.fault("expected known or unknown")),
                };
                return end(&cursor);
            }
            "file" => return self.file(&mut cursor),
            "ruleset" => {
                let source = RulesetSource::File(cursor.quoted()?.to_owned());
                Action::Load { source, refused: None }
            }
            "refused" => {
                let words = cursor.quoted()?.to_owned();
                cursor.expect("config")?;
                let text = self.ruleset_text(&mut cursor, line)?;
                let source = RulesetSource::Text(text);
                self.push(number, Action::Load { source, refused: Some(words) });
                return Ok(());
            }
            "at" => Action::At(cursor.time()?),
            "wait" => Action::Wait(cursor.time()?),
            "in" | "out" | "expect" | "do" => self.event(word, &mut cursor)?,
            _ => {
                return Err(before.fault(format!(
                    "`{word}` is no statement: interface, route, seed, ports, file, config, ruleset, \
                     refused, at, wait, in, out, expect or do"
                )));
            }
        };
        // `at 5s in em0 ...` may stand on one line.
        if let Action::At(_) | Action::Wait(_) = action
            && !cursor.is_done()
        {
            self.push(number, action);
            let before = cursor;
            let word = cursor.word("a statement")?;
            if !matches!(word, "in" | "out" | "expect" | "do") {
                return Err(before.fault("after a time may follow: in, out, expect or do"));
            }
            let action = self.event(word, &mut cursor)?;
            end(&cursor)?;
            self.push(number, action);
            return Ok(());
        }
        end(&cursor)?;
        self.push(number, action);
        Ok(())
    }

    /// What happens, or must be so, at one moment.
    fn event(&self, word: &str, cursor: &mut Cursor) -> Result<Action, Fault> {
        Ok(match word {
            "expect" => Action::Expect(self.expect(cursor)?),
            "do" => Action::Do(command(cursor)?),
            _ => self.send(word, cursor)?,
        })
    }

    fn push(&mut self, line: usize, action: Action) {
        self.scenario.steps.push(Step { line, action });
    }

    fn flush_config(&mut self) {
        if let Some((line, text)) = self.config.take() {
            let source = RulesetSource::Text(text);
            self.push(line, Action::Load { source, refused: None });
        }
    }

    fn config_line(&mut self, number: usize, cursor: &mut Cursor, line: &str) -> Result<(), Fault> {
        let text = self.ruleset_text(cursor, line)?;
        let (_, config) = self.config.get_or_insert((number, String::new()));
        config.push_str(&text);
        Ok(())
    }

    /// Rules behind `config`: the rest of the line, cut at `;`, or after `config:` the indented
    /// lines that follow.
    fn ruleset_text(&mut self, cursor: &mut Cursor, line: &str) -> Result<String, Fault> {
        if cursor.accept(":") {
            end(cursor)?;
            return Ok(self.block());
        }
        let at = line.find("config").unwrap_or(0) + "config".len();
        let mut text = String::new();
        let mut quoted = false;
        for letter in line[at..].trim().chars() {
            quoted ^= letter == '"';
            text.push(if letter == ';' && !quoted { '\n' } else { letter });
        }
        text.push('\n');
        Ok(text)
    }

    /// Lines that are indented, up to the first that is not.
    fn block(&mut self) -> String {
        let mut text = String::new();
        while let Some((_, line)) = self.lines.peek() {
            if !line.is_empty() && !line.starts_with([' ', '\t']) {
                break;
            }
            text.push_str(line.trim_start());
            text.push('\n');
            self.lines.next();
        }
        text
    }

    fn file(&mut self, cursor: &mut Cursor) -> Result<(), Fault> {
        let name = cursor.quoted()?.to_owned();
        cursor.expect(":")?;
        end(cursor)?;
        let text = self.block();
        self.scenario.files.insert(name, text);
        Ok(())
    }

    fn interface(&mut self, cursor: &mut Cursor) -> Result<(), Fault> {
        let name = cursor.word("the name of an interface")?;
        let mut made = world::interface(name);
        while !cursor.is_done() {
            let before = *cursor;
            if cursor.accept("group") {
                made.groups.push(cursor.word("the name of a group")?.to_owned());
            } else if cursor.accept("mtu") {
                made.mtu = cursor.plain()?;
            } else if cursor.accept("baud") {
                made.baud = Some(cursor.plain()?);
            } else if cursor.accept("loopback") {
                let name = made.name.clone();
                made = world::loopback(&name);
            } else if cursor.accept("peer") {
                let peer = addr(cursor)?;
                let Some(last) = made.addresses.last_mut() else {
                    return Err(before.fault("`peer` belongs behind an address"));
                };
                last.peer = Some(peer);
            } else {
                let word = cursor.token();
                let Some(address) = world::address(word) else {
                    return Err(before.fault(format!(
                        "`{word}` is none of: address/length, peer, group, mtu, baud, loopback"
                    )));
                };
                made.addresses.push(address);
            }
        }
        self.facts.interfaces.push(made);
        self.scenario.world.facts = self.facts.clone();
        Ok(())
    }

    fn route(&mut self, cursor: &mut Cursor) -> Result<(), Fault> {
        let before = *cursor;
        let to: Prefix = cursor
            .token()
            .parse()
            .map_err(|_| before.fault("expected a network such as 0.0.0.0/0"))?;
        let before = *cursor;
        let name = cursor.word("the name of an interface")?;
        let link = self
            .scenario
            .world
            .index(name)
            .ok_or_else(|| before.fault(format!("there is no interface `{name}`")))?;
        self.scenario.world.routes.push((to, link));
        end(cursor)
    }

    fn interface_name(&self, cursor: &mut Cursor) -> Result<String, Fault> {
        let before = *cursor;
        let name = cursor.word("the name of an interface")?;
        if self.scenario.world.index(name).is_none() {
            return Err(before.fault(format!("there is no interface `{name}`")));
        }
        Ok(name.to_owned())
    }

    fn send(&self, word: &str, cursor: &mut Cursor) -> Result<Action, Fault> {
        let direction = if word == "in" { Direction::In } else { Direction::Out };
        let interface = match direction {
            Direction::In => self.interface_name(cursor)?,
            Direction::Out => String::new(),
        };
        let packets = packets(cursor)?;
        let outcome = if cursor.accept("->") { Some(self.outcome(cursor)?) } else { None };
        Ok(Action::Send { direction, interface, packets, outcome })
    }

    fn outcome(&self, cursor: &mut Cursor) -> Result<Outcome, Fault> {
        Ok(match cursor.peek() {
            "drop" => {
                cursor.expect("drop")?;
                Outcome::Drop(reason(cursor)?)
            }
            "host" => {
                cursor.expect("host")?;
                Outcome::Host
            }
            "consumed" => {
                cursor.expect("consumed")?;
                Outcome::Consumed
            }
            _ => {
                let name = self.interface_name(cursor)?;
                if cursor.is_done() {
                    Outcome::Through(name)
                } else {
                    Outcome::Leaves(name, Box::new(packet::packet(cursor)?))
                }
            }
        })
    }

    fn expect(&self, cursor: &mut Cursor) -> Result<Expect, Fault> {
        let before = *cursor;
        Ok(match cursor.word("what is expected")? {
            "out" => {
                let name = self.interface_name(cursor)?;
                Expect::Out(name, packets(cursor)?)
            }
            "host" => Expect::Host(packets(cursor)?),
            "drop" => {
                let reason = reason(cursor)?;
                Expect::Drop(reason, if cursor.is_done() { 1 } else { cursor.plain()? })
            }
            "consumed" => Expect::Consumed(if cursor.is_done() { 1 } else { cursor.plain()? }),
            "states" => Expect::Gauge(Gauge::States, cursor.plain()?),
            "half-open" => Expect::Gauge(Gauge::HalfOpen, cursor.plain()?),
            "source-nodes" => Expect::Gauge(Gauge::SourceNodes, cursor.plain()?),
            "fragments" => Expect::Gauge(Gauge::Fragments, cursor.plain()?),
            "state" => Expect::State(Box::new(state(cursor)?), true),
            "no" => {
                cursor.expect("state")?;
                Expect::State(Box::new(state(cursor)?), false)
            }
            "counters" => {
                let mut counters = Vec::new();
                while !cursor.is_done() {
                    let counter = counter(cursor)?;
                    cursor.accept("+");
                    counters.push((counter, cursor.plain()?));
                }
                Expect::Counters(counters)
            }
            "rule" => Expect::Rule(cursor.plain()?, rule_counters(cursor)?),
            "table" => table(cursor)?,
            "interface" => interface_counters(cursor)?,
            "hostid" => Expect::Hostid(cursor.plain()?),
            "event" => Expect::Event(cursor.quoted()?.to_owned()),
            "syncookies" => {
                let before = *cursor;
                match cursor.word("on or off")? {
                    "on" => Expect::Syncookies(true),
                    "off" => Expect::Syncookies(false),
                    _ => return Err(before.fault("expected on or off")),
                }
            }
            "queue-drop" => {
                Expect::QueueDrops(if cursor.is_done() { 1 } else { cursor.plain()? })
            }
            "queue" => queue(cursor)?,
            "limiter" => limiter(cursor)?,
            word => {
                return Err(before.fault(format!(
                    "`{word}` cannot be expected: out, host, drop, consumed, states, half-open, \
                     source-nodes, fragments, state, no state, counters, rule, table, queue, \
                     queue-drop, limiter, event or syncookies"
                )));
            }
        })
    }
}

/// `queue NAME [on IF] [packets N] [bytes N] [dropped N] [length N]`
fn queue(cursor: &mut Cursor) -> Result<Expect, Fault> {
    let name = cursor.word("the name of a queue")?.to_owned();
    let interface =
        if cursor.accept("on") { Some(cursor.word("an interface")?.to_owned()) } else { None };
    let mut counters = Vec::new();
    while !cursor.is_done() {
        let before = *cursor;
        let counter = match cursor.word("a counter")? {
            "packets" => QueueCounter::Packets,
            "bytes" => QueueCounter::Bytes,
            "dropped" => QueueCounter::Dropped,
            "length" => QueueCounter::Length,
            word => {
                let text = format!("`{word}` is no counter: packets, bytes, dropped, length");
                return Err(before.fault(text));
            }
        };
        counters.push((counter, cursor.plain()?));
    }
    Ok(Expect::Queue(name, interface, counters))
}

fn limiter(cursor: &mut Cursor) -> Result<Expect, Fault> {
    let name = cursor.word("the name of a limiter")?.to_owned();
    let mut counters = Vec::new();
    while !cursor.is_done() {
        let before = *cursor;
        let counter = match cursor.word("a counter")? {
            "states" => LimiterCounter::States,
            "sources" => LimiterCounter::Sources,
            "admitted" => LimiterCounter::Admitted,
            "hard-limited" => LimiterCounter::HardLimited,
            "rate-limited" => LimiterCounter::RateLimited,
            "sources-refused" => LimiterCounter::SourcesRefused,
            word => {
                return Err(before.fault(format!(
                    "`{word}` is no counter: states, sources, admitted, hard-limited, \
                     rate-limited, sources-refused"
                )));
            }
        };
        counters.push((counter, cursor.plain()?));
    }
    Ok(Expect::Limiter(name, counters))
}

fn end(cursor: &Cursor) -> Result<(), Fault> {
    if cursor.is_done() {
        return Ok(());
    }
    let found = cursor.rest().split_whitespace().next().unwrap_or_default();
    Err(cursor.fault(format!("nothing may follow here, found `{found}`")))
}

/// `[N x] PACKET`, where `{A..B}` in the packet stands for one packet per number.
fn packets(cursor: &mut Cursor) -> Result<Vec<Packet>, Fault> {
    let mut times = 1_usize;
    let start = *cursor;
    if cursor.rest().starts_with(|letter: char| letter.is_ascii_digit()) {
        times = cursor.plain()?;
        if !cursor.accept("x") && !cursor.accept("×") {
            return Err(cursor.fault("expected `x` behind the number of packets"));
        }
    }
    let text = cursor.rest();
    let ranges = ranges(text).map_err(|message| cursor.fault(message))?;
    let count = ranges.iter().map(|&(_, _, first, last)| last - first + 1).max().unwrap_or(1);
    if count.saturating_mul(times) > PACKETS_MAX {
        return Err(start.fault(format!("more than {PACKETS_MAX} packets in one line")));
    }
    if ranges.is_empty() {
        let packet = packet::packet(cursor)?;
        return Ok(vec![packet; times]);
    }
    let mut packets = Vec::new();
    let mut left = 0;
    for at in 0..count {
        let line = substitute(text, &ranges, at);
        let mut one = Cursor::new(&line);
        packets.push(packet::packet(&mut one).map_err(|fault| cursor.fault(fault.message))?);
        left = one.rest().len();
    }
    // What follows the packet has no ranges, so it is as long here as in each line.
    cursor.skip_to(left);
    Ok((0..times).flat_map(|_| packets.iter().cloned()).collect())
}

/// Ranges `{A..B}` of a text: first and last octet, first and last number.
fn ranges(text: &str) -> Result<Vec<(usize, usize, usize, usize)>, String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('{') {
        let Some(len) = text[at..].find('}') else { break };
        let Some((first, last)) = text[at + 1..at + len].split_once("..") else { continue };
        let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse()) else { continue };
        if last < first {
            return Err(format!("the range {first}..{last} runs backwards"));
        }
        found.push((at, at + len + 1, first, last));
    }
    Ok(found)
}

fn substitute(text: &str, ranges: &[(usize, usize, usize, usize)], at: usize) -> String {
    let mut out = String::new();
    let mut done = 0;
    for &(start, end, first, last) in ranges {
        out.push_str(&text[done..start]);
        out.push_str(&(first + at % (last - first + 1)).to_string());
        done = end;
    }
    out.push_str(&text[done..]);
    out
}

fn addr(cursor: &mut Cursor) -> Result<IpAddr, Fault> {
    let before = *cursor;
    match cursor.host()? {
        packet::Host::Addr(addr) => Ok(addr),
        packet::Host::Variable(_) => Err(before.fault("an address is needed here, no variable")),
    }
}

fn reason(cursor: &mut Cursor) -> Result<Reason, Fault> {
    let before = *cursor;
    let word = cursor.word("a reason such as match or state-mismatch")?;
    Reason::ALL.into_iter().find(|reason| reason.name() == word).ok_or_else(|| {
        let known: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        before.fault(format!("`{word}` is no reason: {}", known.join(", ")))
    })
}

fn counter(cursor: &mut Cursor) -> Result<Counter, Fault> {
    let before = *cursor;
    let word = cursor.word("the name of a counter")?;
    if let Some(rest) = word.strip_prefix("cookie-")
        && let Some(found) =
            CookieCounter::ALL.into_iter().find(|counter| check::cookie_word(*counter) == rest)
    {
        return Ok(Counter::Cookie(found));
    }
    let (table, rest): (fn(TableCounter) -> Counter, &str) =
        if let Some(rest) = word.strip_prefix("source-") {
            (Counter::Source, rest)
        } else if let Some(rest) = word.strip_prefix("fragment-") {
            (Counter::Fragment, rest)
        } else {
            (Counter::State, word)
        };
    let of_table = TableCounter::ALL.into_iter().find(|counter| counter.name() == rest).map(table);
    let of_reason =
        Reason::ALL.into_iter().find(|reason| reason.name() == word).map(Counter::Reason);
    let of_limit = LimitCounter::ALL
        .into_iter()
        .find(|counter| counter.name().replace(' ', "-") == word)
        .map(Counter::Limit);
    of_table
        .or(of_reason)
        .or(of_limit)
        .ok_or_else(|| before.fault(format!("`{word}` is no counter of `pfctl -si`")))
}

fn rule_counters(cursor: &mut Cursor) -> Result<Vec<(RuleCounter, u64)>, Fault> {
    let mut counters = Vec::new();
    while !cursor.is_done() {
        let before = *cursor;
        let counter = match cursor.word("a counter of the rule")? {
            "evaluations" => RuleCounter::Evaluations,
            "packets" => RuleCounter::Packets,
            "bytes" => RuleCounter::Bytes,
            "states" => RuleCounter::States,
            "states-total" => RuleCounter::StatesTotal,
            word => {
                return Err(before.fault(format!(
                    "`{word}` is no counter of a rule: evaluations, packets, bytes, states, \
                     states-total"
                )));
            }
        };
        counters.push((counter, cursor.plain()?));
    }
    Ok(counters)
}

fn table(cursor: &mut Cursor) -> Result<Expect, Fault> {
    let name = cursor.word("the name of a table")?.to_owned();
    let mut wanted = Vec::new();
    // The address whose counters are meant; none is the table.
    let mut of = None;
    while !cursor.is_done() {
        let before = *cursor;
        wanted.push(match cursor.word("a condition on a table")? {
            "has" => TableWanted::Has(addr(cursor)?),
            "lacks" => TableWanted::Lacks(addr(cursor)?),
            "addresses" => TableWanted::Addresses(cursor.plain()?),
            "of" => {
                of = Some(addr(cursor)?);
                continue;
            }
            "cleared" => TableWanted::Cleared(of, cursor.plain()?),
            word => {
                let (direction, used) = table_use(word).ok_or_else(|| {
                    before.fault(
                        "expected has, lacks, addresses, of, cleared, or in- or out- with block, \
                         match, pass or xpass",
                    )
                })?;
                let packets = cursor.plain()?;
                let bytes = cursor.accept("bytes").then(|| cursor.plain()).transpose()?;
                TableWanted::Traffic { of, direction, used, packets, bytes }
            }
        });
    }
    Ok(Expect::Table(name, wanted))
}

/// `expect interface NAME inet in-pass N bytes N ...`
fn interface_counters(cursor: &mut Cursor) -> Result<Expect, Fault> {
    let name = cursor.word("the name of an interface")?.to_owned();
    let mut wanted = Vec::new();
    let mut af = Af::Inet;
    while !cursor.is_done() {
        let before = *cursor;
        let (direction, passed) = match cursor.word("a counter of an interface")? {
            "inet" => {
                af = Af::Inet;
                continue;
            }
            "inet6" => {
                af = Af::Inet6;
                continue;
            }
            "in-pass" => (Direction::In, true),
            "in-block" => (Direction::In, false),
            "out-pass" => (Direction::Out, true),
            "out-block" => (Direction::Out, false),
            _ => {
                return Err(before.fault("expected inet, inet6, or in- or out- with pass or block"));
            }
        };
        let packets = cursor.plain()?;
        let bytes = cursor.accept("bytes").then(|| cursor.plain()).transpose()?;
        wanted.push(InterfaceWanted { af, direction, passed, packets, bytes });
    }
    Ok(Expect::Interface(name, wanted))
}

/// `in-pass` and its like.
fn table_use(word: &str) -> Option<(Direction, TableUse)> {
    let (direction, used) = word.split_once('-')?;
    let direction = match direction {
        "in" => Direction::In,
        "out" => Direction::Out,
        _ => return None,
    };
    let used = TableUse::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(used));
    Some((direction, used?))
}

fn state(cursor: &mut Cursor) -> Result<StateWanted, Fault> {
    let before = *cursor;
    let proto = match cursor.word("a protocol")? {
        "tcp" => proto::TCP,
        "udp" => proto::UDP,
        "icmp" => proto::ICMP,
        "icmp6" => proto::ICMPV6,
        "proto" => cursor.plain()?,
        word => {
            return Err(
                before.fault(format!("`{word}` is no protocol: tcp, udp, icmp, icmp6, proto N"))
            );
        }
    };
    let (src, dst) = ends(cursor)?;
    let mut wanted = StateWanted {
        proto,
        src,
        dst,
        stack: None,
        direction: None,
        interface: None,
        levels: None,
        numbers: Vec::new(),
    };
    while !cursor.is_done() {
        let before = *cursor;
        let number = match cursor.word("more of the state")? {
            "stack" => {
                wanted.stack = Some(ends(cursor)?);
                continue;
            }
            "in" => {
                wanted.direction = Some(Direction::In);
                continue;
            }
            "out" => {
                wanted.direction = Some(Direction::Out);
                continue;
            }
            "if" => {
                wanted.interface = Some(cursor.word("an interface, or all")?.to_owned());
                continue;
            }
            "levels" => {
                let first = cursor.word("two levels such as ESTABLISHED:SYN_SENT")?;
                cursor.expect(":")?;
                let second = cursor.word("the second level")?;
                wanted.levels = Some(format!("{first}:{second}"));
                continue;
            }
            "packets" => {
                wanted.numbers.push((StateNumber::PacketsThere, cursor.plain()?));
                cursor.expect(":")?;
                StateNumber::PacketsBack
            }
            "rule" => StateNumber::Rule,
            "age" => StateNumber::Age,
            "expires" => StateNumber::Expires,
            word => {
                return Err(before.fault(format!(
                    "`{word}` says nothing of a state: stack, in, out, if, levels, packets, rule, \
                     age or expires"
                )));
            }
        };
        wanted.numbers.push((number, cursor.plain()?));
    }
    Ok(wanted)
}

fn ends(cursor: &mut Cursor) -> Result<(End, End), Fault> {
    let src = cursor.end()?;
    cursor.expect(">")?;
    Ok((src, cursor.end()?))
}

fn command(cursor: &mut Cursor) -> Result<Command, Fault> {
    let before = *cursor;
    Ok(match cursor.word("a command")? {
        "enable" => Command::Enable(true),
        "disable" => Command::Enable(false),
        "clear-counters" => Command::ClearCounters,
        "flush" => {
            let before = *cursor;
            Command::Flush(match cursor.word("what to flush")? {
                "rules" => Flush::Rules { anchor: String::new() },
                "states" => Flush::States { interface: None },
                "info" => Flush::Info { interface: None },
                "tables" => Flush::Tables { anchor: String::new() },
                "reset" => Flush::Reset,
                word => {
                    return Err(before.fault(format!(
                        "`{word}` cannot be flushed: rules, states, info, tables or reset"
                    )));
                }
            })
        }
        "kill" => {
            if cursor.accept("label") {
                return Ok(Command::Kill(KillFilter::Label { label: cursor.quoted()?.to_owned() }));
            }
            let mut hosts = Vec::new();
            while !cursor.is_done() && hosts.len() < 2 {
                let before = *cursor;
                let host = only(&cursor.host()?);
                hosts.push(host.ok_or_else(|| before.fault("an address is needed here"))?);
            }
            let mut hosts = hosts.into_iter();
            let sources = hosts.next().into_iter().collect();
            let destinations = hosts.collect();
            Command::Kill(KillFilter::Hosts { sources, destinations, interface: None })
        }
        "addresses" => {
            let name = cursor.word("the name of an interface")?.to_owned();
            let mut addresses = Vec::new();
            while !cursor.is_done() {
                let before = *cursor;
                let address = world::address(cursor.token());
                addresses.push(address.ok_or_else(|| before.fault("expected address/length"))?);
            }
            Command::Addresses(name, addresses)
        }
        "table" => {
            let name = cursor.word("the name of a table")?.to_owned();
            let before = *cursor;
            let change = match cursor.word("add, delete, zero or expire")? {
                "add" => TableChange::Add,
                "delete" => TableChange::Delete,
                "zero" => TableChange::Zero,
                "kill" => TableChange::Kill,
                "expire" => TableChange::Expire(cursor.plain()?),
                _ => return Err(before.fault("expected add, delete, zero, kill or expire")),
            };
            let mut entries = Vec::new();
            while !cursor.is_done() {
                let negated = cursor.accept("!");
                let prefix = Prefix::host(addr(cursor)?);
                entries.push(TableEntry { prefix, negated });
            }
            Command::Table(name, change, entries)
        }
        word => {
            return Err(before.fault(format!(
                "`{word}` is no command: enable, disable, flush, kill, table, addresses or \
                 clear-counters"
            )));
        }
    })
}
