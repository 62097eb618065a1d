//! Plays a scenario: a router around the filter, a virtual clock, and checks after each step.

use core::fmt;
use core::net::IpAddr;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use pfapi::facts::Facts;
use pfapi::reason::{LimitCounter, Reason};
use pfapi::units::{Direction, IfIndex, Uptime};
use pfconf::{BuiltinSources, CompileOptions, Fingerprints, Input, Sources};
use pfengine::queue::{Charge, Egress, FlowKey, Leaving};
use pfengine::{
    Batch, Engine, EngineConfig, Loader, NextHop, Output, Packet as Buffer, Verdict, Way, Worker,
};

use crate::files::Files;
use crate::packet::{Packet, Variables, dissect};
use crate::scenario::{
    Action, Command, Counter, Outcome, RulesetSource, Scenario, Step, TableChange,
};

/// Room in front of a packet, and for it.
const HEADROOM: usize = 128;
const CAPACITY: usize = 65_535;
/// Where the clock of a scenario starts: timeouts count from a moment that is not zero.
const START: Uptime = Uptime::from_secs(1_000);
/// Rounds in which the filter may make packets because of packets.
const ROUNDS_MAX: usize = 8;
/// Most timeouts within one wait.
const TIMEOUTS_MAX: usize = 1_000_000;

/// What went otherwise than a scenario says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    /// Name of the scenario's file.
    pub file: String,
    /// Line whose step failed, from 1.
    pub line: usize,
    /// What was expected and what came.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// A packet that left the filter.
#[derive(Clone, Debug)]
pub(crate) struct Departure {
    /// Interface that it leaves by; `None` for the router's own host.
    pub link: Option<IfIndex>,
    /// The packet.
    pub octets: Vec<u8>,
}

/// Counters of `pfctl -si` that a scenario must account for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Accounted {
    reasons: Vec<(Reason, u64)>,
    limits: Vec<(LimitCounter, u64)>,
}

/// A scenario at play.
pub(crate) struct Play<'a> {
    pub scenario: &'a Scenario,
    files: &'a dyn Files,
    /// Interfaces as they are now.
    facts: Facts,
    pub engine: Arc<Engine>,
    worker: Worker,
    pub now: Uptime,
    pub variables: Variables,
    /// What left and was not yet looked at.
    pub departures: VecDeque<Departure>,
    /// Drops that were not yet looked at: where, and why.
    pub drops: VecDeque<(String, Reason)>,
    /// Packets that the filter kept and nobody asked for yet.
    pub consumed: usize,
    /// Packets that queues have dropped and nobody asked for yet.
    pub queue_drops: usize,
    /// What waits before it leaves.
    egress: Egress<Departure>,
    flow_key: FlowKey,
    /// Messages to the operator.
    pub events: VecDeque<String>,
    /// What the counters said when the last packet was sent, plus what was accounted for.
    accounted: Accounted,
    /// Counters when `expect counters` was last used.
    pub before: pfapi::control::Info,
}

/// Path and name of `name@path`.
pub(crate) fn table_name(text: &str) -> (&str, &str) {
    text.split_once('@').map_or(("", text), |(name, path)| (path, name))
}

/// Plays a scenario to its end.
///
/// # Errors
/// The first step that goes otherwise than it says.
pub fn run(scenario: &Scenario, files: &dyn Files) -> Result<(), Failure> {
    let mut play = Play::new(scenario, files);
    let fail =
        |line: usize, message: String| Failure { file: scenario.name.clone(), line, message };
    let mut line = 0;
    for step in &scenario.steps {
        if !matches!(step.action, Action::Expect(_)) {
            play.settle().map_err(|message| fail(line, message))?;
        }
        line = step.line;
        play.step(step).map_err(|message| fail(line, message))?;
    }
    play.settle().map_err(|message| fail(line, message))?;
    play.engine.check_invariants().map_err(|message| fail(line, message))
}

/// The scenario's files before those beside it; names are the built-in ones.
struct ScenarioSources<'a> {
    scenario: &'a Scenario,
    files: &'a dyn Files,
    /// From the scenario's file `pf.os`.
    fingerprints: Fingerprints,
}

impl Sources for ScenarioSources<'_> {
    fn read(&self, path: &str) -> io::Result<String> {
        match self.scenario.files.get(path) {
            Some(text) => Ok(text.clone()),
            None => self.files.read(path),
        }
    }

    fn lookup_host(&self, _name: &str) -> Vec<IpAddr> {
        Vec::new()
    }

    fn service(&self, name: &str, proto: Option<&str>) -> Option<u16> {
        BuiltinSources.service(name, proto)
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        BuiltinSources.protocol(name)
    }

    fn fingerprints(&self) -> Option<&Fingerprints> {
        Some(&self.fingerprints)
    }
}

impl<'a> Play<'a> {
    fn new(scenario: &'a Scenario, files: &'a dyn Files) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&scenario.seed.to_le_bytes());
        let facts = scenario.world.facts.clone();
        let engine = Engine::new(EngineConfig { facts, seed, hostid: 1 }, START);
        let _ = engine.set_enabled(true, START);
        engine.use_routes(Box::new(scenario.world.clone()));
        if !scenario.ports_unknown {
            engine.never_probe_ports();
        }
        let before = engine.info(START);
        Self {
            facts: scenario.world.facts.clone(),
            scenario,
            files,
            worker: engine.worker(),
            now: START,
            variables: Variables::default(),
            departures: VecDeque::new(),
            drops: VecDeque::new(),
            consumed: 0,
            queue_drops: 0,
            egress: Egress::new(Arc::default()),
            flow_key: engine.flow_key(),
            events: VecDeque::new(),
            accounted: Accounted::default(),
            before,
            engine,
        }
    }

    /// Everything that happened must have been expected.
    fn settle(&mut self) -> Result<(), String> {
        if let Some(departure) = self.departures.pop_front() {
            return Err(format!("unexpected: {}", self.told(&departure)));
        }
        if let Some((place, reason)) = self.drops.pop_front() {
            return Err(format!("unexpected: dropped {place}, reason {}", reason.name()));
        }
        if self.consumed > 0 {
            return Err(format!("unexpected: the filter kept {} packets", self.consumed));
        }
        if self.queue_drops > 0 {
            return Err(format!("unexpected: queues dropped {} packets", self.queue_drops));
        }
        if let Some(event) = self.events.pop_front() {
            return Err(format!("unexpected message to the operator: {event}"));
        }
        let info = self.engine.info(self.now);
        let moved = |now: u64, name: &str, accounted: u64| {
            if now == accounted {
                return Ok(());
            }
            let by = now.wrapping_sub(accounted).cast_signed();
            Err(format!("counter {name} moved by {by:+} more than the scenario says"))
        };
        for (reason, now) in &info.reasons {
            // Passed packets count as `match`, too.
            if *reason != Reason::Match {
                moved(*now, reason.name(), *self.accounted.reason(*reason))?;
            }
        }
        for (limit, now) in &info.limit_counters {
            moved(*now, &limit.name().replace(' ', "-"), *self.accounted.limit(*limit))?;
        }
        Ok(())
    }

    /// A scenario has said of so many packets why they were dropped.
    pub fn account(&mut self, reason: Reason, packets: u64) {
        *self.accounted.reason(reason) += packets;
    }

    /// A scenario has said how far a counter moved since it last spoke of counters.
    pub fn account_all(&mut self, counter: Counter, now: u64) {
        match counter {
            Counter::Reason(reason) => *self.accounted.reason(reason) = now,
            Counter::Limit(limit) => *self.accounted.limit(limit) = now,
            Counter::State(_) | Counter::Source(_) | Counter::Fragment(_) | Counter::Cookie(_) => {}
        }
    }

    /// A departure in words.
    pub fn told(&self, departure: &Departure) -> String {
        let packet = dissect(&departure.octets);
        match departure.link {
            Some(link) => format!("out {} {packet}", self.scenario.world.name(link)),
            None => format!("host {packet}"),
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match &step.action {
            Action::Load { source, refused } => self.load(source, refused.as_deref()),
            Action::At(nanos) => {
                let target = START.plus_nanos(*nanos);
                if target.as_nanos() < self.now.as_nanos() {
                    return Err("the clock does not run backwards".to_owned());
                }
                self.advance(target)
            }
            Action::Wait(nanos) => self.advance(self.now.plus_nanos(*nanos)),
            Action::Send { direction, interface, packets, outcome } => packets
                .iter()
                .try_for_each(|packet| self.send(*direction, interface, packet, outcome.as_ref())),
            Action::Expect(expect) => self.check(expect),
            Action::Do(command) => self.command(command),
        }
    }

    fn load(&mut self, source: &RulesetSource, refused: Option<&str>) -> Result<(), String> {
        let (name, text) = match source {
            RulesetSource::Text(text) => ("config", text.clone()),
            RulesetSource::File(path) => {
                let text = self.files.read(path).map_err(|error| format!("{path}: {error}"))?;
                (path.as_str(), text)
            }
        };
        let outcome = self.try_load(name, &text);
        match (outcome, refused) {
            (Ok(()), None) => Ok(()),
            (Err(error), None) => Err(format!("the ruleset was refused:\n{error}")),
            (Ok(()), Some(words)) => {
                Err(format!("the ruleset was loaded, but must be refused with \"{words}\""))
            }
            (Err(error), Some(words)) if error.contains(words) => Ok(()),
            (Err(error), Some(words)) => {
                Err(format!("refused, but not with \"{words}\" in the message:\n{error}"))
            }
        }
    }

    fn try_load(&mut self, name: &str, text: &str) -> Result<(), String> {
        let database = self.scenario.files.get("pf.os").map_or("", String::as_str);
        let (fingerprints, mistakes) = Fingerprints::parse(database);
        if let Some(mistake) = mistakes.first() {
            return Err(format!("pf.os:{}: {mistake}", mistake.line));
        }
        let sources = ScenarioSources { scenario: self.scenario, files: self.files, fingerprints };
        let options = CompileOptions {
            facts: &self.facts,
            sources: &sources,
            defines: &[],
            numeric_only: true,
            dialect: pfconf::detect(text).0,
            listing: pfconf::Listing::Short,
            optimize: pfconf::Optimization::default(),
            parts: pfconf::Parts::ALL,
        };
        let compiled = pfconf::compile(&Input { name, text }, &options);
        let Some(ruleset) = compiled.ruleset else {
            let lines: Vec<String> =
                compiled.diagnostics.iter().map(pfconf::Diagnostic::classic).collect();
            return Err(lines.join("\n"));
        };
        let loaded = self.engine.load(&ruleset, Loader::default(), self.now);
        loaded.map_err(|error| error.to_string())?;
        self.dequeue();
        Ok(())
    }

    /// Lets time pass; what is due is done at its moment.
    fn advance(&mut self, target: Uptime) -> Result<(), String> {
        for _ in 0..TIMEOUTS_MAX {
            let timeouts = [self.worker.poll_timeout(), self.egress.poll_timeout()];
            let due = timeouts.into_iter().flatten().min().unwrap_or(target);
            if due.as_nanos() > target.as_nanos() {
                self.now = target;
                return Ok(());
            }
            let at = due.as_nanos().max(self.now.as_nanos());
            self.now = Uptime::from_nanos(at);
            if self.worker.poll_timeout().is_some_and(|due| due <= self.now) {
                self.worker.handle_timeout(self.now);
                self.outputs()?;
            }
            self.dequeue();
            if at >= target.as_nanos() {
                return Ok(());
            }
        }
        Err("the filter has something to do all the time".to_owned())
    }

    fn send(
        &mut self,
        direction: Direction,
        interface: &str,
        packet: &Packet,
        outcome: Option<&Outcome>,
    ) -> Result<(), String> {
        let octets = packet.build(&self.variables).map_err(|error| error.to_string())?;
        let mut arriving = buffer(&octets);
        match direction {
            Direction::In => {
                let world = &self.scenario.world;
                let link = world.index(interface).ok_or("no such interface")?;
                arriving.meta.interface = link;
                arriving.meta.direction = Direction::In;
                self.filter(arriving)?;
            }
            Direction::Out => self.leave_host(arriving)?,
        }
        self.outputs()?;
        self.dequeue();
        match outcome {
            Some(outcome) => self.outcome(outcome, &octets, direction),
            None => Ok(()),
        }
    }

    /// One packet through the filter, and on its way.
    fn filter(&mut self, packet: Buffer) -> Result<(), String> {
        let (link, direction) = (packet.meta.interface, packet.meta.direction);
        let planned = destination(packet.data());
        let mut batch = Batch::new();
        batch.packets.push(packet);
        self.worker.process(self.now, &mut batch);
        for packet in batch.packets {
            match (packet.meta.verdict, direction) {
                (Verdict::Pass, Direction::In) => self.forward(packet)?,
                (Verdict::Pass, Direction::Out) => self.leave(&packet, link, planned)?,
                (Verdict::Answer, _) => self.depart(&packet)?,
                (Verdict::Drop(reason), _) => {
                    let word = if direction == Direction::In { "in" } else { "out" };
                    let place = format!("{word} {}", self.scenario.world.name(link));
                    self.drops.push_back((place, reason));
                }
                (Verdict::Held, _) => self.consumed += 1,
            }
        }
        Ok(())
    }

    /// The way to another router.
    fn way_of(&self, hop: NextHop) -> Way {
        let way = || self.scenario.world.way(hop.addr);
        hop.interface.map_or_else(way, Way::Interface)
    }

    /// A copy that `dup-to` sends to another router.
    fn send_copy(&mut self, packet: &Buffer, hop: NextHop) -> Result<(), String> {
        let Way::Interface(link) = self.way_of(hop) else {
            return Err(format!("there is no route to {}", hop.addr));
        };
        self.enqueue(packet, packet.data(), link);
        Ok(())
    }

    /// A packet that has passed all outbound rules: by its interface, or as they say, or, when they
    /// have changed its destination, by the way to the new one.
    fn leave(
        &mut self,
        packet: &Buffer,
        link: IfIndex,
        planned: Option<IpAddr>,
    ) -> Result<(), String> {
        match packet.meta.next_hop {
            Some(hop) if hop.copy => self.send_copy(packet, hop)?,
            Some(hop) => {
                let Way::Interface(link) = self.way_of(hop) else {
                    return Err(format!("there is no route to {}", hop.addr));
                };
                return self.send_off(packet, link);
            }
            None => {}
        }
        match destination(packet.data()).filter(|dst| planned != Some(*dst)) {
            None => self.send_off(packet, link),
            Some(dst) => match self.scenario.world.way(dst) {
                Way::Interface(link) => self.send_off(packet, link),
                Way::Here => {
                    let octets = packet.data().to_vec();
                    self.departures.push_back(Departure { link: None, octets });
                    Ok(())
                }
                Way::None => Err(format!("there is no route to {dst}")),
            },
        }
    }

    /// A packet that has passed all rules; what came in IPv6 fragments leaves in fragments.
    fn send_off(&mut self, packet: &Buffer, link: IfIndex) -> Result<(), String> {
        let is_v6 = packet.data().first().is_some_and(|first| first >> 4 == 6);
        let Some(cut) = packet.meta.refragment.filter(|_| is_v6) else {
            self.enqueue(packet, packet.data(), link);
            return Ok(());
        };
        let mut done = 0;
        while !cut.is_done(packet.data(), done) {
            let mut piece = buffer(&[]);
            let next = cut.write(packet.data(), done, &mut piece);
            done = next.ok_or("the packet cannot be cut into fragments again")?;
            self.enqueue(packet, piece.data(), link);
        }
        Ok(())
    }

    /// Between the inbound and the outbound pass.
    fn forward(&mut self, mut packet: Buffer) -> Result<(), String> {
        let Some(dst) = destination(packet.data()) else {
            return Err("the filter passed something that is no IP packet".to_owned());
        };
        let hop = packet.meta.next_hop;
        if let Some(hop) = hop.filter(|hop| hop.copy) {
            self.send_copy(&packet, hop)?;
        }
        let hop = hop.filter(|hop| !hop.copy);
        let target = hop.map_or(dst, |hop| hop.addr);
        match hop.map_or_else(|| self.scenario.world.way(dst), |hop| self.way_of(hop)) {
            Way::Here => {
                let octets = packet.data().to_vec();
                self.departures.push_back(Departure { link: None, octets });
                Ok(())
            }
            Way::None => Err(format!("there is no route to {target}")),
            Way::Interface(link) => {
                if !take_hop(packet.data_mut()) {
                    return Err("the time to live of the packet ends at the router".to_owned());
                }
                packet.meta.interface = link;
                packet.meta.direction = Direction::Out;
                self.filter(packet)
            }
        }
    }

    /// The way of a packet of the router itself, for which rules may have said another one; a copy
    /// is sent on the way.
    fn way_out(&mut self, packet: &Buffer) -> Result<Way, String> {
        let hop = packet.meta.next_hop;
        if let Some(hop) = hop.filter(|hop| hop.copy) {
            self.send_copy(packet, hop)?;
        }
        let own =
            || destination(packet.data()).map_or(Way::None, |dst| self.scenario.world.way(dst));
        Ok(hop.filter(|hop| !hop.copy).map_or_else(own, |hop| self.way_of(hop)))
    }

    /// A packet of the router's own host on its way out.
    fn leave_host(&mut self, mut packet: Buffer) -> Result<(), String> {
        let dst = destination(packet.data()).ok_or("this is no IP packet")?;
        match self.way_out(&packet)? {
            Way::Interface(link) => {
                packet.meta.interface = link;
                packet.meta.direction = Direction::Out;
                self.filter(packet)
            }
            Way::Here | Way::None => Err(format!("there is no route to {dst}")),
        }
    }

    /// A packet that is sent as it is.
    fn depart(&mut self, packet: &Buffer) -> Result<(), String> {
        let octets = packet.data();
        match self.way_out(packet)? {
            Way::Interface(link) => self.enqueue(packet, octets, link),
            Way::Here | Way::None => {
                let octets = octets.to_vec();
                self.departures.push_back(Departure { link: None, octets });
            }
        }
        Ok(())
    }

    /// Puts `octets` into the queue of `packet` on an interface.
    fn enqueue(&mut self, packet: &Buffer, octets: &[u8], link: IfIndex) {
        if self.worker.has_new_queues(self.egress.plan()) {
            self.egress.reload(self.now, self.worker.queues());
        }
        let departure = Departure { link: Some(link), octets: octets.to_vec() };
        if self.egress.lets_by(link, packet.meta.delay_ms()) {
            self.departures.push_back(departure);
            return;
        }
        let leaving = Leaving {
            interface: link,
            queue: packet.meta.queue(),
            prio: packet.meta.prio(),
            delay_ms: packet.meta.delay_ms(),
            flow: self.flow_key.flow_of(octets),
            charge: Charge::one(u32::try_from(octets.len()).unwrap_or(u32::MAX)),
            item: departure,
        };
        self.egress.send(self.now, leaving);
    }

    /// Sends what may leave now.
    fn dequeue(&mut self) {
        if self.worker.has_new_queues(self.egress.plan()) {
            self.egress.reload(self.now, self.worker.queues());
        }
        while let Some((_, departure)) = self.egress.next(self.now) {
            self.departures.push_back(departure);
        }
        while self.egress.poll_dropped().is_some() {
            self.queue_drops += 1;
        }
    }

    /// Does what the filter wants done.
    fn outputs(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            let mut filtered = Vec::new();
            while let Some(output) = self.worker.poll_output() {
                match output {
                    Output::Send { packet, filtered: is_filtered, next_hop, marks } => {
                        let mut copy = buffer(packet.data());
                        copy.meta.offload = packet.offload();
                        copy.meta.next_hop = next_hop;
                        copy.meta.put_marks(marks);
                        if is_filtered {
                            filtered.push(copy);
                        } else {
                            self.depart(&copy)?;
                        }
                    }
                    Output::Event(event) => self.events.push_back(event.to_string()),
                }
            }
            if filtered.is_empty() {
                return Ok(());
            }
            filtered.into_iter().try_for_each(|packet| self.leave_host(packet))?;
        }
        Err("the filter makes packets of its own packets without end".to_owned())
    }

    /// What became of one packet against what was said of it.
    fn outcome(
        &mut self,
        outcome: &Outcome,
        octets: &[u8],
        direction: Direction,
    ) -> Result<(), String> {
        match outcome {
            Outcome::Through(name) => {
                let mut wanted = octets.to_vec();
                if direction == Direction::In {
                    take_hop(&mut wanted);
                }
                let departure = self.next_departure(&format!("the packet out by {name}"))?;
                let told = self.told(&departure);
                if departure.link != self.scenario.world.index(name) {
                    return Err(format!("expected the packet out by {name}\n     got {told}"));
                }
                if departure.octets != wanted {
                    let wanted = dissect(&wanted);
                    return Err(format!(
                        "the packet changed on its way\nexpected out {name} {wanted}\n     got {told}"
                    ));
                }
                Ok(())
            }
            Outcome::Leaves(name, packet) => self.expect_departure(Some(name), packet),
            Outcome::Host => {
                let departure = self.next_departure("the packet at the host")?;
                if departure.link.is_some() || departure.octets != octets {
                    let told = self.told(&departure);
                    return Err(format!("expected the packet at the host, got {told}"));
                }
                Ok(())
            }
            Outcome::Drop(reason) => self.expect_drop(*reason),
            Outcome::Consumed => self.expect_consumed(1),
        }
    }

    /// What is left to look at, in words.
    pub fn next_departure(&mut self, wanted: &str) -> Result<Departure, String> {
        if let Some(departure) = self.departures.pop_front() {
            return Ok(departure);
        }
        let got = match self.drops.front() {
            Some((place, reason)) => format!("it was dropped {place}, reason {}", reason.name()),
            None if self.consumed > 0 => "the filter kept it".to_owned(),
            None => "nothing left".to_owned(),
        };
        Err(format!("expected {wanted}, but {got}"))
    }

    fn command(&mut self, command: &Command) -> Result<(), String> {
        match command {
            Command::Enable(enabled) => {
                if self.engine.set_enabled(*enabled, self.now) {
                    return Ok(());
                }
                Err("the filter is so already".to_owned())
            }
            Command::Flush(what) => {
                let _ = self.engine.flush(what, self.now);
                self.dequeue();
                if matches!(what, pfapi::control::Flush::Info { .. }) {
                    self.accounted.reasons.clear();
                }
                Ok(())
            }
            Command::Kill(filter) => {
                let _ = self.engine.kill_states(filter, self.now);
                Ok(())
            }
            Command::Addresses(name, addresses) => {
                for interface in &mut self.facts.interfaces {
                    if interface.name == *name {
                        interface.addresses.clone_from(addresses);
                    }
                }
                self.engine.set_facts(self.facts.clone())
            }
            Command::ClearCounters => {
                self.engine.clear_rule_counters();
                Ok(())
            }
            Command::Table(name, change, entries) => {
                let table = table_name(name);
                let changed = match change {
                    TableChange::Add => self.engine.table_add(table, entries, self.now).map(|_| ()),
                    TableChange::Delete => self.engine.table_delete(table, entries).map(|_| ()),
                    TableChange::Zero => {
                        self.engine.table_zero(table, entries, self.now).map(|_| ())
                    }
                    TableChange::Expire(age_s) => {
                        self.engine.table_expire(table, *age_s, self.now).map(|_| ())
                    }
                    TableChange::Kill => self.engine.table_kill(table),
                };
                changed.map_err(|error| error.to_string())
            }
        }
    }
}

/// A buffer that holds a packet.
fn buffer(octets: &[u8]) -> Buffer {
    let mut buffer = Buffer::new(HEADROOM, CAPACITY);
    buffer.fill(octets);
    buffer
}

impl Accounted {
    fn reason(&mut self, reason: Reason) -> &mut u64 {
        entry(&mut self.reasons, reason)
    }

    fn limit(&mut self, limit: LimitCounter) -> &mut u64 {
        entry(&mut self.limits, limit)
    }
}

fn entry<K: Copy + PartialEq>(list: &mut Vec<(K, u64)>, key: K) -> &mut u64 {
    let at = list.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
        list.push((key, 0));
        list.len() - 1
    });
    &mut list[at].1
}

/// Destination of an IP packet.
fn destination(octets: &[u8]) -> Option<IpAddr> {
    match octets.first()? >> 4 {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(octets.get(16..20)?).ok()?)),
        6 => Some(IpAddr::from(<[u8; 16]>::try_from(octets.get(24..40)?).ok()?)),
        _ => None,
    }
}

/// Takes one hop off a packet's life; false when it ends here. RFC 791, RFC 1624.
fn take_hop(octets: &mut [u8]) -> bool {
    let v6 = octets.first().is_some_and(|first| first >> 4 == 6);
    let at = if v6 { 7 } else { 8 };
    let Some(ttl) = octets.get(at).copied().filter(|&ttl| ttl > 1) else { return false };
    octets[at] = ttl - 1;
    if !v6 && octets.len() > 11 {
        let sum = u32::from(u16::from_be_bytes([octets[10], octets[11]])) + 0x100;
        let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(0);
        octets[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    true
}
