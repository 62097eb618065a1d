//! Works out what `altq` and `queue` lines mean, and whether it can be.
//!
//! A queue belongs to the interfaces whose `altq` line, or whose queues, name it; it is defined on
//! each of them. Source: FreeBSD sbin/pfctl/parse.y `expand_altq`, `expand_queue`;
//! sbin/pfctl/pfctl_altq.c `eval_pfaltq`, `eval_pfqueue`, `check_commit_altq`.

use std::collections::BTreeSet;

use pfapi::facts::{DEFAULT_MTU, Facts};
use pfapi::ruleset::{
    ALTQ_QLIMIT_DEFAULT, Altq, AltqCurve, AltqQueue, Scheduler, SchedulerOptions,
};

use super::bandwidth::{Bandwidth, rate};
use super::curves::Sum;
use super::given::{AltqSpec, Curve, Options, QueueSpec};
use super::show::{Entry, line, name};
use crate::diag::{Code, Diagnostic, Severity};

/// Highest priority of a queue of `cbq` (`CBQ_MAXPRI` less one).
const CBQ_PRIORITY_MAX: u8 = 7;
/// Highest priority of a queue of `priq` (`PRIQ_MAXPRI` less one).
const PRIQ_PRIORITY_MAX: u8 = 15;
/// Most queues that lines may name, on all interfaces together.
const QUEUES_MAX: usize = 10_000;

/// What pfctl has to say about a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// An error that pfctl reports with file and line.
    At(String),
    /// An error in a line of its own.
    Bare(String),
    /// Nothing that stops it, in a line of its own.
    Warning(String),
    /// pfctl gives up.
    Fatal(String),
}

impl Trouble {
    /// A line that starts with the program's name.
    fn program(text: impl std::fmt::Display) -> Self {
        Self::Bare(format!("pfctl: {text}"))
    }

    /// Whether the file cannot be loaded.
    pub(crate) const fn is_error(&self) -> bool {
        !matches!(self, Self::Warning(_))
    }

    /// The message without its place.
    pub(crate) fn diagnostic(self) -> Diagnostic {
        let bare = |severity, line: String| {
            let title = line.strip_prefix("pfctl: ").unwrap_or(&line).to_owned();
            Diagnostic::bare(severity, Code::Queue, line).title(title)
        };
        match self {
            Self::At(text) => Diagnostic::error(Code::Queue, text),
            Self::Bare(line) => bare(Severity::Error, line),
            Self::Warning(line) => bare(Severity::Warning, line),
            Self::Fatal(text) => Diagnostic::fatal(Code::Queue, text),
        }
    }
}

/// Interfaces and queues so far.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    interfaces: Vec<Interface>,
    /// Queues that lines have named, in the order of naming.
    named: Vec<Named>,
    /// What was worked out last: pfctl prints it again where it could not work out a line.
    last: Option<Entry>,
}

/// A queue that a line has named.
#[derive(Debug)]
struct Named {
    queue: String,
    /// Empty below an interface that shares nothing out.
    parent: String,
    interface: String,
    scheduler: Scheduler,
}

/// An interface with its queues.
#[derive(Debug)]
struct Interface {
    altq: Altq,
    mtu: u32,
    /// Queues that are the default, and root queues.
    defaults: usize,
    roots: usize,
    priorities: BTreeSet<u8>,
    nodes: Vec<Node>,
}

/// A queue, or the root of them.
#[derive(Debug)]
struct Node {
    name: String,
    bandwidth: u64,
    is_default: bool,
    linkshare: AltqCurve,
    /// Bandwidth of the queues below it.
    shared: u64,
    realtimes: Sum,
    linkshares: Sum,
}

impl Plan {
    /// The interfaces with their queues, once all lines are read.
    pub(crate) fn finish(self) -> Vec<Altq> {
        self.interfaces.into_iter().map(|interface| interface.altq).collect()
    }

    /// The scheduler of a queue that lines have named.
    pub(crate) fn scheduler_of(&self, queue: &str) -> Option<Scheduler> {
        self.named.iter().find(|named| named.queue == queue).map(|named| named.scheduler)
    }

    /// Carries out an `altq` line; `lines` gets what `pfctl -v` prints for it.
    pub(crate) fn altq(
        &mut self,
        facts: &Facts,
        spec: &AltqSpec,
        lines: &mut Vec<String>,
    ) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        for interface in &spec.interfaces {
            if interface.negated {
                troubles.push(Trouble::At("altq on ! <interface> is not supported".to_owned()));
                continue;
            }
            let name = interface.name.as_str();
            self.interface(facts, spec, name, &mut troubles);
            if matches!(troubles.last(), Some(Trouble::Fatal(_))) {
                break;
            }
            if let Some(last) = &self.last {
                let below = below("queue ", &spec.queues);
                lines.push(format!("{}{below}", line(last, &spec.given, true)));
            }
            let root = if spec.scheduler.shares_bandwidth() {
                let root = format!("root_{name}");
                self.root(spec, name, &root, &mut troubles);
                root
            } else {
                String::new()
            };
            for queue in &spec.queues {
                self.name(queue, &root, name, spec.scheduler, &mut troubles);
            }
        }
        troubles
    }

    fn name(
        &mut self,
        queue: &str,
        parent: &str,
        interface: &str,
        scheduler: Scheduler,
        troubles: &mut Vec<Trouble>,
    ) {
        if self.named.len() >= QUEUES_MAX {
            if self.named.len() == QUEUES_MAX {
                troubles.push(Trouble::At(format!("more than {QUEUES_MAX} queues")));
            }
            return;
        }
        self.named.push(Named {
            queue: queue.to_owned(),
            parent: parent.to_owned(),
            interface: interface.to_owned(),
            scheduler,
        });
    }

    fn interface(
        &mut self,
        facts: &Facts,
        spec: &AltqSpec,
        name: &str,
        troubles: &mut Vec<Trouble>,
    ) {
        let known = facts.interface(name);
        let mut bandwidth = match (spec.given.bandwidth, known) {
            (Bandwidth::Absolute(rate), _) if rate > 0 => rate,
            (_, None) => {
                troubles.push(Trouble::Fatal("SIOCGIFDATA: Device not configured".to_owned()));
                return;
            }
            (share, Some(known)) => {
                // pfctl keeps the lower half of the rate only.
                let baud = known.baud.unwrap_or(0) & u64::from(u32::MAX);
                if baud == 0 {
                    troubles.push(Trouble::Bare(format!(
                        "interface {name} does not know its bandwidth, please specify an \
                         absolute bandwidth"
                    )));
                    return;
                }
                Some(share.of(baud)).filter(|&rate| rate > 0).unwrap_or(baud)
            }
        };
        let limit = u64::from(u32::MAX);
        if spec.scheduler != Scheduler::Hfsc && bandwidth > limit {
            bandwidth = limit;
            troubles.push(Trouble::Warning(format!(
                "pfctl: interface {name} bandwidth limited to {limit} bps because selected \
                 scheduler is 32-bit limited"
            )));
        }
        let mtu = known.map_or(DEFAULT_MTU, |known| known.mtu);
        let bucket = if spec.given.bucket > 0 { spec.given.bucket } else { bucket(bandwidth, mtu) };
        let options = evaluated(&spec.given.options, spec.scheduler, bandwidth);
        let qlimit = spec.given.qlimit;
        self.last = Some(Entry {
            interface: name.to_owned(),
            queue: None,
            scheduler: spec.scheduler,
            bandwidth,
            priority: 0,
            qlimit,
            bucket,
            options: options.clone(),
        });
        self.interfaces.push(Interface {
            altq: Altq {
                interface: name.to_owned(),
                scheduler: spec.scheduler,
                options,
                bandwidth,
                bucket,
                qlimit,
                queues: Vec::new(),
            },
            mtu,
            defaults: 0,
            roots: 0,
            priorities: BTreeSet::new(),
            nodes: Vec::new(),
        });
    }

    /// The root of the queues of an interface that shares its bandwidth out.
    fn root(&mut self, spec: &AltqSpec, interface: &str, root: &str, troubles: &mut Vec<Trouble>) {
        let Some(on) = find(&mut self.interfaces, interface) else {
            troubles.push(Trouble::Bare(format!("altq not defined on {interface}")));
            return;
        };
        if on.node(root).is_some() {
            let text = format!("queue {root} already exists on interface {interface}");
            troubles.push(Trouble::Bare(text));
            return;
        }
        let bandwidth = on.altq.bandwidth;
        let scheduler = on.altq.scheduler;
        let options = evaluated(&spec.given.options, scheduler, bandwidth);
        if scheduler == Scheduler::Cbq {
            on.roots += 1;
            on.defaults += usize::from(options.is_default());
            troubles.extend(too_slow(root, bandwidth, on));
        }
        on.nodes.push(Node {
            name: root.to_owned(),
            bandwidth,
            is_default: options.is_default(),
            linkshare: AltqCurve { first: bandwidth, duration: 0, rate: bandwidth },
            shared: 0,
            realtimes: Sum::default(),
            linkshares: Sum::default(),
        });
        self.last = Some(Entry {
            interface: interface.to_owned(),
            queue: Some(root.to_owned()),
            scheduler,
            bandwidth,
            priority: 0,
            qlimit: spec.given.qlimit,
            bucket: 0,
            options,
        });
    }

    /// Carries out a `queue` line; `lines` gets what `pfctl -v` prints for it.
    pub(crate) fn queue(&mut self, spec: &QueueSpec, lines: &mut Vec<String>) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        let found = self.define(spec, lines, &mut troubles);
        if matches!(found, Some(0)) {
            troubles.push(Trouble::At(format!("queue {} has no parent", spec.name)));
        }
        if troubles.iter().any(Trouble::is_error) {
            troubles.push(Trouble::At("errors in queue definition".to_owned()));
        }
        troubles
    }

    /// Defines a queue everywhere; `None` when pfctl stops at a mistake.
    fn define(
        &mut self,
        spec: &QueueSpec,
        lines: &mut Vec<String>,
        troubles: &mut Vec<Trouble>,
    ) -> Option<usize> {
        let mut found = 0;
        let anywhere = [None];
        let listed: Vec<Option<&super::given::Interface>> =
            spec.interfaces.iter().map(Some).collect();
        let listed = if listed.is_empty() { &anywhere[..] } else { &listed };
        for on in listed {
            for index in 0..self.named.len() {
                let named = &self.named[index];
                let is_here = on.is_none_or(|on| on.negated != (on.name == named.interface));
                if named.queue != spec.name || !is_here {
                    continue;
                }
                found += 1;
                let (interface, parent) = (named.interface.clone(), named.parent.clone());
                let scheduler = named.scheduler;
                if let Some(text) = mismatch(spec, scheduler) {
                    troubles.push(Trouble::At(text.to_owned()));
                    return None;
                }
                match self.one(spec, &interface, &parent, troubles) {
                    Ok(entry) => self.last = Some(entry),
                    Err(trouble) => troubles.push(trouble),
                }
                for queue in &spec.queues {
                    if *queue == spec.name {
                        let text = "queue cannot have itself as child";
                        troubles.push(Trouble::At(text.to_owned()));
                    } else {
                        self.name(queue, &spec.name, &interface, scheduler, troubles);
                    }
                }
                if let Some(last) = self.last.as_ref().filter(|_| found == 1 || on.is_some()) {
                    let below = below("", &spec.queues);
                    lines.push(format!("{}{below}", line(last, &spec.given, on.is_some())));
                }
            }
        }
        Some(found)
    }

    /// Defines a queue on one interface.
    fn one(
        &mut self,
        spec: &QueueSpec,
        interface: &str,
        parent: &str,
        troubles: &mut Vec<Trouble>,
    ) -> Result<Entry, Trouble> {
        let name = spec.name.as_str();
        let Some(on) = find(&mut self.interfaces, interface) else {
            return Err(Trouble::Bare(format!("altq not defined on {interface}")));
        };
        let exists = on.altq.queues.iter().any(|queue| queue.name == name);
        if exists || on.node(name).is_some() {
            let text = format!("queue {name} already exists on interface {interface}");
            return Err(Trouble::Bare(text));
        }
        let above = if parent.is_empty() { None } else { on.node(parent) };
        if above.is_none() && !parent.is_empty() {
            return Err(Trouble::Bare(format!("parent {parent} not found for {name}")));
        }
        let qlimit = if spec.given.qlimit == 0 { ALTQ_QLIMIT_DEFAULT } else { spec.given.qlimit };
        let reference = above.map_or(on.altq.bandwidth, |at| on.nodes[at].bandwidth);
        let scheduler = on.altq.scheduler;
        let mut bandwidth = 0;
        if scheduler.shares_bandwidth() {
            bandwidth = spec.given.bandwidth.of(reference);
            if let Some(at) = above.filter(|_| scheduler != Scheduler::Hfsc) {
                let above = &mut on.nodes[at];
                above.shared += bandwidth;
                if above.shared > above.bandwidth {
                    troubles.push(Trouble::Warning(format!(
                        "pfctl: the sum of the child bandwidth ({}) higher than parent \"{}\" ({})",
                        above.shared, above.name, above.bandwidth
                    )));
                }
            }
        }
        let mut options = evaluated(&spec.given.options, scheduler, reference);
        let priority = spec.given.priority;
        match scheduler {
            Scheduler::Cbq => {
                if priority > CBQ_PRIORITY_MAX {
                    let text = format!("priority out of range: max {CBQ_PRIORITY_MAX}");
                    return Err(Trouble::program(text));
                }
                on.defaults += usize::from(options.is_default());
                troubles.extend(too_slow(name, bandwidth, on));
            }
            Scheduler::Priq => {
                if priority > PRIQ_PRIORITY_MAX {
                    let text = format!("priority out of range: max {PRIQ_PRIORITY_MAX}");
                    return Err(Trouble::program(text));
                }
                if !on.priorities.insert(priority) {
                    return Err(Trouble::program(format!(
                        "{name} does not have a unique priority on interface {interface}"
                    )));
                }
                on.defaults += usize::from(options.is_default());
            }
            Scheduler::Hfsc | Scheduler::Fairq => {
                if let Some(at) = above {
                    curves(on, at, name, bandwidth, &mut options)?;
                }
            }
            Scheduler::Codel => {}
        }
        on.nodes.push(Node {
            name: name.to_owned(),
            bandwidth,
            is_default: options.is_default(),
            linkshare: options.linkshare.unwrap_or_default(),
            shared: 0,
            realtimes: Sum::default(),
            linkshares: Sum::default(),
        });
        on.altq.queues.push(AltqQueue {
            name: name.to_owned(),
            parent: Some(parent).filter(|&up| !up.is_empty() && above != Some(0)).map(Into::into),
            priority,
            qlimit,
            bandwidth,
            options: options.clone(),
        });
        Ok(Entry {
            interface: interface.to_owned(),
            queue: Some(name.to_owned()),
            scheduler,
            bandwidth,
            priority,
            qlimit,
            bucket: 0,
            options,
        })
    }

    /// What is wrong with the whole, for the end of the file. As in pfctl, only the last interface
    /// decides whether something is.
    pub(crate) fn check(&self) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        let mut failed = false;
        for Interface { altq, defaults, roots, .. } in &self.interfaces {
            failed &= altq.scheduler == Scheduler::Codel;
            let mut should = |what: &str| {
                let text = format!("should have one {what} queue on {}", altq.interface);
                troubles.push(Trouble::program(text));
                failed = true;
            };
            if altq.scheduler == Scheduler::Cbq && *roots != 1 {
                should("root");
            }
            if altq.scheduler != Scheduler::Codel && *defaults != 1 {
                should("default");
            }
        }
        if failed {
            troubles.push(Trouble::Fatal("errors in altq config".to_owned()));
            return troubles;
        }
        let warn = |trouble| match trouble {
            Trouble::Bare(text) => Trouble::Warning(text),
            other => other,
        };
        troubles.into_iter().map(warn).collect()
    }
}

impl Interface {
    fn node(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }
}

/// The first line about an interface counts.
fn find<'i>(interfaces: &'i mut [Interface], name: &str) -> Option<&'i mut Interface> {
    interfaces.iter_mut().find(|interface| interface.altq.interface == name)
}

/// `queue { a b }` behind a line.
fn below(intro: &str, queues: &[String]) -> String {
    if queues.is_empty() {
        return String::new();
    }
    let names: String = queues.iter().map(|queue| name(queue) + " ").collect();
    format!("{intro}{{ {names}}}")
}

/// Why a queue cannot be what its interface makes of it.
fn mismatch(spec: &QueueSpec, scheduler: Scheduler) -> Option<&'static str> {
    if spec.given.scheduler.is_some_and(|given| given != scheduler) {
        return Some("exactly one scheduler type per interface allowed");
    }
    if scheduler != Scheduler::Priq {
        return None;
    }
    if !spec.queues.is_empty() {
        return Some("priq queues cannot have child queues");
    }
    (spec.given.bandwidth != Bandwidth::ALL).then_some("priq doesn't take bandwidth")
}

/// Size of the token bucket in octets: so many packets that the interface is kept busy.
fn bucket(bandwidth: u64, mtu: u32) -> u32 {
    const STEPS: [(u64, u32); 4] =
        [(1_000_000, 1), (10_000_000, 4), (200_000_000, 8), (2_500_000_000, 24)];
    let step = STEPS.iter().find(|(rate, _)| bandwidth <= *rate);
    let packets = step.map_or(128, |&(_, packets)| packets);
    packets.saturating_mul(mtu)
}

/// Shares become bits per second, for what the scheduler knows.
fn evaluated(given: &Options, scheduler: Scheduler, reference: u64) -> SchedulerOptions {
    let curve = |curve: Curve| AltqCurve {
        first: curve.first.of(reference),
        duration: curve.duration,
        rate: curve.rate.of(reference),
    };
    SchedulerOptions {
        flags: given.flags.clone(),
        realtime: given.realtime.map(curve),
        linkshare: given.linkshare.map(curve),
        upperlimit: given.upperlimit.map(curve),
        hogs: match scheduler {
            Scheduler::Fairq => given.hogs.map_or(0, |hogs| hogs.of(reference)),
            _ => 0,
        },
        buckets: given.buckets,
        target: given.target,
        interval: given.interval,
    }
}

/// A queue of `cbq` that sends less than a packet in two seconds.
fn too_slow(name: &str, bandwidth: u64, on: &Interface) -> Option<Trouble> {
    // Nanoseconds for the largest packet must fit into 31 bits.
    let least = 8e9 * f64::from(on.mtu) / f64::from(i32::MAX);
    #[expect(clippy::cast_precision_loss, reason = "compared with a rough bound")]
    let slow = bandwidth > 0 && (bandwidth as f64) < least;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some thousands of bits per second"
    )]
    let least = least as u64;
    slow.then(|| {
        Trouble::Warning(format!(
            "pfctl: queue bandwidth must be larger than {}\ncbq: queue {name} is too slow!",
            rate(least)
        ))
    })
}

/// Checks the curves of a queue against those of its parent.
fn curves(
    on: &mut Interface,
    at: usize,
    name: &str,
    bandwidth: u64,
    options: &mut SchedulerOptions,
) -> Result<(), Trouble> {
    let above = &mut on.nodes[at];
    if above.is_default {
        return Err(Trouble::program(format!(
            "adding {name} would make default queue {} not a leaf",
            above.name
        )));
    }
    on.defaults += usize::from(options.is_default());
    let linkshare = options.linkshare.get_or_insert_default();
    if linkshare.rate == 0 {
        linkshare.rate = bandwidth;
    }
    let linkshare = *linkshare;
    let hfsc = on.altq.scheduler == Scheduler::Hfsc;
    if hfsc {
        let [realtime, upperlimit] =
            [options.realtime, options.upperlimit].map(Option::unwrap_or_default);
        let all = [realtime, linkshare, upperlimit];
        if all.iter().any(|curve| curve.first > 0 && curve.rate == 0) {
            return Err(Trouble::program(format!("m2 is zero for {name}")));
        }
        if all.iter().any(|curve| curve.first < curve.rate && curve.first != 0) {
            let text = format!("m1 must be zero for convex curve: {name}");
            return Err(Trouble::program(text));
        }
        if realtime.rate > 0 {
            above.realtimes.add(realtime);
            // A fifth is kept free.
            let most = on.altq.bandwidth / 100 * 80;
            if !above.realtimes.fits(AltqCurve { first: 0, duration: 0, rate: most }) {
                return Err(Trouble::program(format!(
                    "real-time sc exceeds 80% of the interface bandwidth ({})",
                    rate(most)
                )));
            }
        }
    }
    if linkshare.rate > 0 {
        above.linkshares.add(linkshare);
        if !above.linkshares.fits(above.linkshare) {
            return Err(Trouble::program(if hfsc {
                "linkshare sc exceeds parent's sc"
            } else {
                "link-sharing sc exceeds parent's sc"
            }));
        }
    }
    let Some(upperlimit) = options.upperlimit.filter(|curve| hfsc && curve.rate > 0) else {
        return Ok(());
    };
    if upperlimit.first.max(upperlimit.rate) > on.altq.bandwidth {
        return Err(Trouble::program("upper-limit larger than interface bandwidth"));
    }
    if options.realtime.is_some_and(|realtime| realtime.rate > upperlimit.rate) {
        return Err(Trouble::program("upper-limit sc smaller than real-time sc"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pfapi::facts::InterfaceFacts;
    use pfapi::ruleset::QueueFlag;

    use super::super::given::{Given, Interface as On};
    use super::*;

    fn facts() -> Facts {
        let mut em0 = InterfaceFacts::new("em0");
        em0.baud = Some(100_000_000);
        Facts { interfaces: vec![em0, InterfaceFacts::new("em1")] }
    }

    fn altq(scheduler: Scheduler, bandwidth: Bandwidth, queues: &[&str]) -> AltqSpec {
        AltqSpec {
            interfaces: vec![On { negated: false, name: "em0".to_owned() }],
            scheduler,
            given: Given { bandwidth, scheduler: Some(scheduler), ..Given::default() },
            queues: queues.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    fn queue(name: &str, bandwidth: Bandwidth, flags: &[QueueFlag]) -> QueueSpec {
        let options = Options { flags: flags.iter().copied().collect(), ..Options::default() };
        QueueSpec {
            name: name.to_owned(),
            interfaces: Vec::new(),
            given: Given { bandwidth, options, ..Given::default() },
            queues: Vec::new(),
        }
    }

    /// Carries the lines out; what is printed, and what is said.
    fn run(plan: &mut Plan, altq: &AltqSpec, queues: &[QueueSpec]) -> (Vec<String>, Vec<Trouble>) {
        let mut lines = Vec::new();
        let mut troubles = plan.altq(&facts(), altq, &mut lines);
        for queue in queues {
            troubles.extend(plan.queue(queue, &mut lines));
        }
        troubles.extend(plan.check());
        (lines, troubles)
    }

    const DEFAULT: &[QueueFlag] = &[QueueFlag::Default];

    #[test]
    fn shares_and_buckets_are_worked_out() {
        let mut plan = Plan::default();
        let line = altq(Scheduler::Cbq, Bandwidth::Percent(20), &["a", "b"]);
        let queues = [
            queue("a", Bandwidth::Percent(60), DEFAULT),
            queue("b", Bandwidth::Absolute(8_000_000), &[]),
        ];
        let (lines, troubles) = run(&mut plan, &line, &queues);
        assert_eq!(
            lines,
            [
                "altq on em0 cbq bandwidth 20% tbrsize 12000 queue { a b }",
                "queue a bandwidth 60% cbq( default ) ",
                "queue b bandwidth 8Mb ",
            ]
        );
        assert_eq!(troubles, []);
        let altq = &plan.finish()[0];
        assert_eq!((altq.bandwidth, altq.bucket), (20_000_000, 12_000));
        assert_eq!((altq.queues[0].bandwidth, &altq.queues[0].parent), (12_000_000, &None));
    }

    #[test]
    fn one_default_and_unique_priorities() {
        let line = altq(Scheduler::Priq, Bandwidth::Absolute(1_000_000), &["a", "b"]);
        let queues = [queue("a", Bandwidth::ALL, &[]), queue("b", Bandwidth::ALL, &[])];
        let (_, troubles) = run(&mut Plan::default(), &line, &queues);
        assert_eq!(
            troubles,
            [
                Trouble::program("b does not have a unique priority on interface em0"),
                Trouble::At("errors in queue definition".into()),
                Trouble::program("should have one default queue on em0"),
                Trouble::Fatal("errors in altq config".into()),
            ]
        );
        let wide = [queue("a", Bandwidth::Percent(50), DEFAULT)];
        let (_, troubles) = run(&mut Plan::default(), &line, &wide);
        assert_eq!(troubles[0], Trouble::At("priq doesn't take bandwidth".into()));
    }

    #[test]
    fn too_much_is_shared_out() {
        let line = altq(Scheduler::Cbq, Bandwidth::Absolute(1_000_000), &["a", "b"]);
        let queues =
            [queue("a", Bandwidth::Percent(60), DEFAULT), queue("b", Bandwidth::Percent(50), &[])];
        let (lines, troubles) = run(&mut Plan::default(), &line, &queues);
        assert_eq!(lines.len(), 3);
        let text = "pfctl: the sum of the child bandwidth (1100000) higher than parent \
                    \"root_em0\" (1000000)";
        assert_eq!(troubles, [Trouble::Warning(text.into())]);
        let line = altq(Scheduler::Hfsc, Bandwidth::Absolute(1_000_000), &["a", "b"]);
        let (_, troubles) = run(&mut Plan::default(), &line, &queues);
        assert_eq!(troubles[0], Trouble::program("linkshare sc exceeds parent's sc"));
    }

    #[test]
    fn queues_belong_to_lines_that_name_them() {
        let line = altq(Scheduler::Cbq, Bandwidth::Absolute(1_000_000), &["a"]);
        let queues = [queue("x", Bandwidth::ALL, &[]), queue("a", Bandwidth::ALL, DEFAULT)];
        let (_, troubles) = run(&mut Plan::default(), &line, &queues);
        assert_eq!(troubles[0], Trouble::At("queue x has no parent".into()));
        let twice = [queue("a", Bandwidth::ALL, DEFAULT), queue("a", Bandwidth::ALL, &[])];
        let (lines, troubles) = run(&mut Plan::default(), &line, &twice);
        // As in pfctl, the line is printed with what was worked out last.
        assert_eq!(lines.len(), 3);
        let text = "queue a already exists on interface em0";
        assert_eq!(troubles[0], Trouble::Bare(text.into()));
    }

    #[test]
    fn an_interface_must_know_its_rate() {
        let mut line = altq(Scheduler::Codel, Bandwidth::ALL, &[]);
        line.interfaces[0].name = "em1".to_owned();
        let (_, troubles) = run(&mut Plan::default(), &line, &[]);
        assert!(matches!(&troubles[0], Trouble::Bare(text) if text.contains("em1 does not know")));
        line.interfaces[0].name = "gone".to_owned();
        let (lines, troubles) = run(&mut Plan::default(), &line, &[]);
        assert!(matches!(&troubles[0], Trouble::Fatal(_)) && lines.is_empty());
    }

    #[test]
    fn curves_of_hfsc_are_printed() {
        let mut plan = Plan::default();
        let line = altq(Scheduler::Hfsc, Bandwidth::Absolute(14_800_000), &["a"]);
        let mut web = queue("a", Bandwidth::Percent(15), DEFAULT);
        let share = |percent| Bandwidth::Percent(percent);
        web.given.options.realtime =
            Some(Curve { first: share(10), duration: 10_000, rate: share(5) });
        web.given.options.upperlimit =
            Some(Curve { first: Bandwidth::Absolute(0), duration: 0, rate: share(80) });
        let (lines, troubles) = run(&mut plan, &line, &[web]);
        assert_eq!(
            lines[1],
            "queue a bandwidth 15% hfsc( default realtime(10% 10000 5%) upperlimit 80% ) "
        );
        assert_eq!(troubles, []);
    }
}
