//! Conditions of a scenario against what the filter shows.

use core::net::IpAddr;

use pfapi::addr::{Af, Prefix};
use pfapi::control::{
    Info, OTHER_LEVELS, QueueDefinition, QueueReport, StateReport, TCP_LEVELS, TableTraffic,
};
use pfapi::reason::{CookieCounter, Reason, TableCounter};
use pfapi::ruleset::proto;
use pfapi::units::Direction;

use crate::packet::{End, Packet, Variables};
use crate::run::{Play, table_name};
use crate::scenario::{
    Counter, Expect, Gauge, InterfaceWanted, LimiterCounter, QueueCounter, RuleCounter,
    StateNumber, StateWanted, TableWanted,
};

/// States and rules that are read at a time.
const READ_MAX: usize = 1_000_000;

/// Levels of the end that the handshake proxy speaks for. Source: OpenBSD sys/net/pfvar.h.
const PROXY_LEVELS: [(u8, &str); 2] = [(11, "PROXY_SRC"), (12, "PROXY_DST")];

fn must<T: Copy + PartialEq + core::fmt::Display>(
    what: &str,
    wanted: T,
    got: T,
) -> Result<(), String> {
    if wanted == got { Ok(()) } else { Err(format!("{what}: expected {wanted}, got {got}")) }
}

impl Play<'_> {
    /// Checks one condition.
    pub fn check(&mut self, expect: &Expect) -> Result<(), String> {
        match expect {
            Expect::Out(name, packets) => {
                packets.iter().try_for_each(|packet| self.expect_departure(Some(name), packet))
            }
            Expect::Host(packets) => {
                packets.iter().try_for_each(|packet| self.expect_departure(None, packet))
            }
            Expect::Drop(reason, times) => (0..*times).try_for_each(|_| self.expect_drop(*reason)),
            Expect::Consumed(times) => self.expect_consumed(*times),
            Expect::Gauge(gauge, wanted) => self.gauge(*gauge, *wanted),
            Expect::State(wanted, there) => self.state(wanted, *there),
            Expect::Counters(counters) => self.counters(counters),
            Expect::Rule(number, counters) => self.rule(*number, counters),
            Expect::Table(name, wanted) => {
                wanted.iter().try_for_each(|wanted| self.table(name, wanted))
            }
            Expect::Interface(name, wanted) => {
                wanted.iter().try_for_each(|wanted| self.interface(name, wanted))
            }
            Expect::Hostid(wanted) => {
                must("hostid", *wanted, self.engine.info(self.now).hostid.into())?;
                let states = self.engine.states(&mut 0, READ_MAX, self.now);
                let creators = states.iter().map(|state| u64::from(state.creator));
                creators.into_iter().try_for_each(|got| must("creator of a state", *wanted, got))
            }
            Expect::Event(text) => match self.events.pop_front() {
                Some(event) if event.contains(text.as_str()) => Ok(()),
                Some(event) => Err(format!("expected the message \"{text}\", got \"{event}\"")),
                None => Err(format!("expected the message \"{text}\", got none")),
            },
            Expect::Syncookies(wanted) => {
                let active = self.engine.info(self.now).syncookies.active;
                let word = |on: bool| if on { "on" } else { "off" };
                must("syncookies", word(*wanted), word(active))
            }
            Expect::QueueDrops(times) => {
                must("packets dropped by queues", *times, self.queue_drops)?;
                self.queue_drops = 0;
                Ok(())
            }
            Expect::Queue(name, interface, counters) => {
                self.queue(name, interface.as_deref(), counters)
            }
            Expect::Limiter(name, counters) => self.limiter(name, counters),
        }
    }

    fn queue(
        &self,
        name: &str,
        interface: Option<&str>,
        counters: &[(QueueCounter, u64)],
    ) -> Result<(), String> {
        let is_named = |report: &QueueReport| match &report.definition {
            QueueDefinition::Queue(queue) => queue.name == name,
            QueueDefinition::Altq(_) => false,
            QueueDefinition::AltqQueue { queue, .. } => queue.name == name,
        };
        let is_there = |report: &QueueReport| interface.is_none_or(|on| report.interface == on);
        let mut queues = self.engine.queues().1.into_iter();
        let Some(queue) = queues.find(|queue| is_named(queue) && is_there(queue)) else {
            return Err(format!("there is no queue {name}"));
        };
        counters.iter().try_for_each(|&(counter, wanted)| {
            let (what, got) = match counter {
                QueueCounter::Packets => ("packets", queue.packets),
                QueueCounter::Bytes => ("bytes", queue.bytes),
                QueueCounter::Dropped => ("dropped", queue.dropped_packets),
                QueueCounter::Length => ("length", queue.qlength),
            };
            must(&format!("queue {name}: {what}"), wanted, got)
        })
    }

    fn limiter(&self, name: &str, counters: &[(LimiterCounter, u64)]) -> Result<(), String> {
        let (states, sources) = self.engine.limiters();
        let Some(limiter) = states.iter().chain(&sources).find(|limiter| limiter.name == name)
        else {
            return Err(format!("there is no limiter {name}"));
        };
        counters.iter().try_for_each(|&(counter, wanted)| {
            let (what, got) = match counter {
                LimiterCounter::States => ("states", limiter.states),
                LimiterCounter::Sources => {
                    ("sources", limiter.entries.map_or(0, |entries| entries.count))
                }
                LimiterCounter::Admitted => ("admitted", limiter.admitted),
                LimiterCounter::HardLimited => ("hard-limited", limiter.hard_limited),
                LimiterCounter::RateLimited => ("rate-limited", limiter.rate_limited),
                LimiterCounter::SourcesRefused => {
                    ("sources-refused", limiter.entries.map_or(0, |entries| entries.refused))
                }
            };
            must(&format!("limiter {name}: {what}"), wanted, got)
        })
    }

    /// The next packet that leaves must be this one.
    pub fn expect_departure(&mut self, name: Option<&str>, packet: &Packet) -> Result<(), String> {
        let wanted = match name {
            Some(name) => format!("out {name} {packet}"),
            None => format!("host {packet}"),
        };
        let departure = self.next_departure(&wanted)?;
        let told = self.told(&departure);
        if departure.link != name.and_then(|name| self.scenario.world.index(name)) {
            return Err(format!("it leaves elsewhere\nexpected {wanted}\n     got {told}"));
        }
        packet
            .compare(&departure.octets, &mut self.variables)
            .map_err(|difference| format!("{difference}\nexpected {wanted}\n     got {told}"))
    }

    /// The next drop must be for this reason.
    pub fn expect_drop(&mut self, reason: Reason) -> Result<(), String> {
        match self.drops.pop_front() {
            Some((_, got)) if got == reason => {
                self.account(reason, 1);
                Ok(())
            }
            Some((place, got)) => Err(format!(
                "expected a drop for {}, got one {place} for {}",
                reason.name(),
                got.name()
            )),
            None => {
                let got = match self.departures.front() {
                    Some(departure) => self.told(departure),
                    None if self.consumed > 0 => "the filter kept it".to_owned(),
                    None => "nothing was dropped".to_owned(),
                };
                Err(format!("expected a drop for {}, but: {got}", reason.name()))
            }
        }
    }

    /// The filter must have kept so many packets.
    pub fn expect_consumed(&mut self, times: usize) -> Result<(), String> {
        let Some(left) = self.consumed.checked_sub(times) else {
            let got = match (self.departures.front(), self.drops.front()) {
                (Some(departure), _) => self.told(departure),
                (None, Some((place, reason))) => format!("dropped {place}, {}", reason.name()),
                (None, None) => format!("it kept {}", self.consumed),
            };
            return Err(format!("expected that the filter keeps {times} packets, but: {got}"));
        };
        self.consumed = left;
        Ok(())
    }

    fn gauge(&self, gauge: Gauge, wanted: u64) -> Result<(), String> {
        let info = self.engine.info(self.now);
        let (what, got) = match gauge {
            Gauge::States => ("states", info.states),
            Gauge::HalfOpen => ("half-open", info.half_open),
            Gauge::SourceNodes => ("source-nodes", info.source_nodes),
            Gauge::Fragments => ("fragments", info.fragments),
        };
        must(what, wanted, got)
    }

    /// Counters since this was last asked.
    fn counters(&mut self, counters: &[(Counter, u64)]) -> Result<(), String> {
        let info = self.engine.info(self.now);
        for &(counter, by) in counters {
            let (name, now) = read(&info, counter);
            let (_, before) = read(&self.before, counter);
            must(&format!("counter {name}"), by, now.wrapping_sub(before))?;
            self.account_all(counter, now);
        }
        self.before = info;
        Ok(())
    }

    fn rule(&self, number: u32, counters: &[(RuleCounter, u64)]) -> Result<(), String> {
        let rules = self.engine.rules(number as usize, 1);
        let Some(rule) = rules.into_iter().find(|rule| rule.number == number) else {
            return Err(format!("there is no rule {number}"));
        };
        for (counter, wanted) in counters {
            let (what, got) = match counter {
                RuleCounter::Evaluations => ("evaluations", rule.evaluations),
                RuleCounter::Packets => ("packets", rule.packets.iter().sum()),
                RuleCounter::Bytes => ("bytes", rule.bytes.iter().sum()),
                RuleCounter::States => ("states", rule.states),
                RuleCounter::StatesTotal => ("states-total", rule.states_total),
            };
            must(&format!("rule {number}, {what}"), *wanted, got)?;
        }
        Ok(())
    }

    fn table(&self, name: &str, wanted: &TableWanted) -> Result<(), String> {
        let table = table_name(name);
        let hit = |addr: &IpAddr| {
            let found =
                self.engine.table_test(table, &[*addr]).map_err(|error| error.to_string())?;
            Ok::<bool, String>(found.iter().flatten().any(|entry| !entry.negated))
        };
        match wanted {
            TableWanted::Has(addr) if !hit(addr)? => Err(format!("<{name}> does not have {addr}")),
            TableWanted::Lacks(addr) if hit(addr)? => Err(format!("<{name}> has {addr}")),
            TableWanted::Has(_) | TableWanted::Lacks(_) => Ok(()),
            TableWanted::Addresses(wanted) => {
                let entries =
                    self.engine.table_entries(table).map_err(|error| error.to_string())?;
                must(&format!("addresses of <{name}>"), *wanted, entries.len())
            }
            TableWanted::Cleared(of, wanted) => {
                let (cleared_s, _) = self.table_counters(name, *of)?;
                must(&format!("seconds since <{name}> was cleared"), *wanted, cleared_s)
            }
            TableWanted::Traffic { of, direction, used, packets, bytes } => {
                let (_, traffic) = self.table_counters(name, *of)?;
                let side = usize::from(*direction == Direction::Out);
                let what = format!("{direction:?}/{} of <{name}>", used.name());
                let at = *used as usize;
                must(&format!("packets {what}"), *packets, traffic.packets[side][at])?;
                bytes.map_or(Ok(()), |wanted| {
                    must(&format!("bytes {what}"), wanted, traffic.bytes[side][at])
                })
            }
        }
    }

    fn interface(&self, name: &str, wanted: &InterfaceWanted) -> Result<(), String> {
        let all = self.engine.interfaces(self.now);
        let found = all.iter().find(|report| report.name == name);
        let traffic = found.ok_or_else(|| format!("there is no interface {name}"))?.traffic;
        let (family, side) =
            (usize::from(wanted.af == Af::Inet6), usize::from(wanted.direction == Direction::Out));
        let outcome = usize::from(!wanted.passed);
        let word = if wanted.passed { "passed" } else { "blocked" };
        let what = format!("{} {:?} {word} of {name}", wanted.af, wanted.direction);
        let packets = traffic.packets[family][side][outcome];
        must(&format!("packets {what}"), wanted.packets, packets)?;
        let bytes = traffic.bytes[family][side][outcome];
        wanted.bytes.map_or(Ok(()), |wanted| must(&format!("bytes {what}"), wanted, bytes))
    }

    /// Counters of a table, or of one of its entries, and when they were cleared.
    fn table_counters(
        &self,
        name: &str,
        of: Option<IpAddr>,
    ) -> Result<(u64, TableTraffic), String> {
        let (path, plain) = table_name(name);
        let Some(addr) = of else {
            let tables = self.engine.tables(self.now);
            let found = tables.iter().find(|table| table.anchor == path && table.name == plain);
            let found = found.ok_or_else(|| format!("there is no <{name}>"))?;
            return Ok((found.cleared_s, found.traffic));
        };
        let all = self.engine.table_statistics((path, plain), self.now);
        let all = all.map_err(|error| error.to_string())?;
        let found = all.iter().find(|report| report.entry.prefix == Prefix::host(addr));
        let found = found.ok_or_else(|| format!("<{name}> has no entry {addr}"))?;
        let traffic = found.traffic.ok_or_else(|| format!("<{name}> has no counters"))?;
        Ok((found.cleared_s, traffic))
    }

    fn state(&mut self, wanted: &StateWanted, there: bool) -> Result<(), String> {
        let states = self.engine.states(&mut 0, READ_MAX, self.now);
        let mut nearest = None;
        for state in &states {
            match wanted.compare(state, &self.variables) {
                Ok(()) if there => return Ok(()),
                Ok(()) => return Err(format!("there is such a state: {}", told(state))),
                Err(difference) => nearest = nearest.or(difference),
            }
        }
        match (there, nearest) {
            (false, _) => Ok(()),
            (true, Some(difference)) => Err(difference),
            (true, None) => {
                let all: Vec<String> = states.iter().map(told).collect();
                Err(format!("there is no such state, but:\n{}", all.join("\n")))
            }
        }
    }
}

/// Name and value of a counter.
/// Name of a counter of cookies in a scenario.
pub fn cookie_word(counter: CookieCounter) -> String {
    counter.name().replace('_', "-")
}

fn read(info: &Info, counter: Counter) -> (String, u64) {
    let of = |list: &[(TableCounter, u64)], wanted: TableCounter| {
        list.iter().find(|(name, _)| *name == wanted).map_or(0, |(_, value)| *value)
    };
    match counter {
        Counter::Reason(reason) => {
            let found = info.reasons.iter().find(|(name, _)| *name == reason);
            (reason.name().to_owned(), found.map_or(0, |(_, value)| *value))
        }
        Counter::Limit(limit) => {
            let found = info.limit_counters.iter().find(|(name, _)| *name == limit);
            (limit.name().replace(' ', "-"), found.map_or(0, |(_, value)| *value))
        }
        Counter::Cookie(name) => {
            let found = info.syncookies.counters.iter().find(|(other, _)| *other == name);
            (format!("cookie-{}", cookie_word(name)), found.map_or(0, |(_, value)| *value))
        }
        Counter::State(name) => (name.name().to_owned(), of(&info.state_table, name)),
        Counter::Source(name) => (format!("source-{}", name.name()), of(&info.source_table, name)),
        Counter::Fragment(name) => {
            (format!("fragment-{}", name.name()), of(&info.fragment_table, name))
        }
    }
}

/// Names of the levels of a state: the one who began first.
fn levels(state: &StateReport) -> String {
    let names: &[&str] = match state.proto {
        proto::TCP => &TCP_LEVELS,
        proto::ICMP | proto::ICMPV6 => &[],
        _ => &OTHER_LEVELS,
    };
    let name = |level: u8| {
        let proxy =
            PROXY_LEVELS.iter().find(|(number, _)| *number == level && state.proto == proto::TCP);
        match names.get(usize::from(level)).or(proxy.map(|(_, name)| name)) {
            Some(name) => (*name).to_owned(),
            None => level.to_string(),
        }
    };
    format!("{}:{}", name(state.src.level), name(state.dst.level))
}

/// The one who began and the other, of a key.
fn ends(direction: Direction, key: [(IpAddr, u16); 2]) -> [(IpAddr, u16); 2] {
    match direction {
        Direction::In => key,
        Direction::Out => [key[1], key[0]],
    }
}

/// A state in the words of scenarios.
fn told(state: &StateReport) -> String {
    let [src, dst] = ends(state.direction, state.wire);
    let host = |(addr, port): (IpAddr, u16)| match addr {
        IpAddr::V4(addr) => format!("{addr}:{port}"),
        IpAddr::V6(addr) => format!("[{addr}]:{port}"),
    };
    let [inner_src, inner_dst] = ends(state.direction, state.stack);
    let stack = if state.stack == state.wire {
        String::new()
    } else {
        format!(" stack {} > {}", host(inner_src), host(inner_dst))
    };
    let rule = state.rule.map(|rule| format!(" rule {rule}")).unwrap_or_default();
    let word = if state.direction == Direction::In { "in" } else { "out" };
    let [there, back] = state.packets;
    format!(
        "{} {} > {}{stack} {word} if {} levels {} packets {there}:{back} expires {}{rule}",
        proto_word(state.proto),
        host(src),
        host(dst),
        state.interface,
        levels(state),
        state.expires_s
    )
}

fn proto_word(number: u8) -> String {
    match number {
        proto::TCP => "tcp".to_owned(),
        proto::UDP => "udp".to_owned(),
        proto::ICMP => "icmp".to_owned(),
        proto::ICMPV6 => "icmp6".to_owned(),
        _ => format!("proto {number}"),
    }
}

fn is_end(wanted: &End, got: (IpAddr, u16), variables: &Variables) -> bool {
    variables.host(&wanted.host) == Some(got.0)
        && wanted.port.as_ref().is_none_or(|port| variables.number(port) == Some(got.1.into()))
}

impl StateWanted {
    /// Compares with a state. `Err(None)` when it is another one, `Err(Some)` says what differs.
    fn compare(&self, state: &StateReport, variables: &Variables) -> Result<(), Option<String>> {
        let [src, dst] = ends(state.direction, state.wire);
        let same = state.proto == self.proto
            && is_end(&self.src, src, variables)
            && is_end(&self.dst, dst, variables)
            && self.direction.is_none_or(|direction| direction == state.direction);
        if !same {
            return Err(None);
        }
        let differ = |what: &str, wanted: &str, got: &str| {
            Err(Some(format!(
                "{what} of the state: expected {wanted}, got {got}\n     in {}",
                told(state)
            )))
        };
        if let Some((wanted_src, wanted_dst)) = &self.stack {
            let [src, dst] = ends(state.direction, state.stack);
            if !is_end(wanted_src, src, variables) || !is_end(wanted_dst, dst, variables) {
                return differ("stack side", &format!("{wanted_src} > {wanted_dst}"), "another");
            }
        }
        if let Some(wanted) = &self.interface
            && *wanted != state.interface
        {
            return differ("interface", wanted, &state.interface);
        }
        if let Some(wanted) = &self.levels
            && *wanted != levels(state)
        {
            return differ("levels", wanted, &levels(state));
        }
        for (number, wanted) in &self.numbers {
            let (what, got) = match number {
                StateNumber::Rule => ("rule", state.rule.map_or(u64::MAX, u64::from)),
                StateNumber::Age => ("age", state.age_s),
                StateNumber::Expires => ("expires", state.expires_s),
                StateNumber::PacketsThere => ("packets there", state.packets[0]),
                StateNumber::PacketsBack => ("packets back", state.packets[1]),
            };
            if got != *wanted {
                return differ(what, &wanted.to_string(), &got.to_string());
            }
        }
        Ok(())
    }
}
