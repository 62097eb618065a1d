//! What the ruleset asks for: the queues of every interface, ready for use.
//!
//! A plan is made when a ruleset is loaded and shared by the thread that sends and those that read
//! counters. Interfaces whose queues a load does not change keep their plan and with it their
//! counters and what waits. Source: OpenBSD sys/net/pf_ioctl.c `pf_create_queues`; pf.conf(5)
//! "QUEUEING".

use core::num::NonZeroU16;
use std::collections::BTreeMap;
use std::sync::Arc;

use pfapi::control::{QueueDefinition, QueueReport};
use pfapi::facts::Facts;
use pfapi::ruleset::{Altq, QueueDef, Rule, ServiceCurve};
use pfapi::units::IfIndex;

use super::altq;
use super::counters::QueueCounters;
use super::curve::Curve;
use super::flows::{self, FlowsPlan};
use super::{QueueId, codel};

/// Queues of all interfaces together.
pub const CLASSES_MAX: usize = 1024;
/// Queues one below the other.
const DEPTH_MAX: usize = 100;
/// Flows of all queues together: each costs about a hundred octets at once.
pub const FLOWS_MAX: usize = 1 << 17;
/// Packets that wait when nothing is said. Source: OpenBSD sys/net/hfsc.c `HFSC_DEFAULT_QLIMIT`.
const QLIMIT_DEFAULT: u32 = 50;
/// Rate below which a super-packet is cut before it waits: whole, it would keep all others
/// waiting for more than a millisecond.
const CUT_BELOW_BPS: u64 = 500_000_000;

/// Why queues cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The interface of a queue is not one of the router's.
    #[error("queue {queue}: there is no interface {interface}")]
    NoInterface {
        /// The queue.
        queue: String,
        /// The name.
        interface: String,
    },
    /// A root queue without interface.
    #[error("queue {queue}: root queue without interface")]
    RootWithoutInterface {
        /// The queue.
        queue: String,
    },
    /// Two root queues, or two kinds of queues.
    #[error("a root queue is already defined on {interface}")]
    Occupied {
        /// The interface.
        interface: String,
    },
    /// The parent is not there, or the parents go in circles.
    #[error("queue {queue}: parent {parent} not found")]
    NoParent {
        /// The queue.
        queue: String,
        /// Its parent.
        parent: String,
    },
    /// A queue twice below one parent.
    #[error("queue {queue} respecified")]
    Twice {
        /// The queue.
        queue: String,
    },
    /// A queue that shares bandwidth and has none.
    #[error("queue {queue}: no bandwidth was specified")]
    NoBandwidth {
        /// The queue.
        queue: String,
    },
    /// Packets without a queue have none.
    #[error("no default queue specified on {interface}")]
    NoDefault {
        /// The interface.
        interface: String,
    },
    /// A default or flow queue with queues below it.
    #[error("queue {queue} is not a leaf queue")]
    NotALeaf {
        /// The queue.
        queue: String,
    },
    /// Too many queues.
    #[error("more than {CLASSES_MAX} queues")]
    TooManyQueues,
    /// Too many flows.
    #[error("the queues have {flows} flows together, more than {FLOWS_MAX}: lower some `flows`")]
    TooManyFlows {
        /// How many.
        flows: usize,
    },
    /// Queues in a ruleset that is not the main one.
    #[error("queues belong to the main ruleset")]
    InAnchor,
    /// There are 65535 names already.
    #[error("no number is left for the names of the queues")]
    TooManyNames,
    /// A rule names a queue that is not there.
    #[error("queue {queue} is not defined")]
    Unknown {
        /// The name.
        queue: String,
    },
}

/// The queues of all interfaces.
#[derive(Clone, Debug, Default)]
pub struct QueuePlan {
    /// Interfaces that have queues.
    pub(super) links: Vec<Arc<LinkPlan>>,
    /// Whether a rule sets priorities.
    pub(super) prioritized: bool,
    /// Packets of `set delay` that wait at most.
    pub(super) delayed_max: usize,
    /// The lines that the queues were made from.
    pub(crate) lines: Arc<Lines>,
}

/// Lines of a ruleset about queues.
#[derive(Debug, Default)]
pub struct Lines {
    pub queues: Vec<QueueDef>,
    pub altq: Vec<Altq>,
}

/// The queues of one interface.
#[derive(Debug)]
pub struct LinkPlan {
    pub interface: IfIndex,
    /// Priority decides, not shares.
    pub strict: bool,
    /// Parents come before their children.
    pub classes: Vec<ClassPlan>,
    /// Leaves by name.
    pub by_id: BTreeMap<QueueId, usize>,
    /// The leaf of packets that have no other.
    pub default: Option<usize>,
    /// Whether super-packets are cut before they wait.
    pub cuts: bool,
}

/// One queue.
#[derive(Clone, Debug)]
pub struct ClassPlan {
    /// `None` for the interface itself, which no rule can name.
    pub id: Option<QueueId>,
    pub parent: Option<usize>,
    pub leaf: bool,
    pub realtime: Option<Curve>,
    pub share: Curve,
    pub limit: Option<Curve>,
    pub flows: Option<FlowsPlan>,
    pub qlimit: u32,
    pub priority: u8,
    pub definition: QueueDefinition,
    pub counters: Arc<QueueCounters>,
}

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub queues: &'a [QueueDef],
    pub altq: &'a [Altq],
    pub facts: &'a Facts,
    /// Numbers of the names of all queues.
    pub ids: &'a BTreeMap<String, QueueId>,
}

/// Gives names that have none a number; false when there are too many.
#[must_use]
pub fn number<'a>(
    ids: &mut BTreeMap<String, QueueId>,
    names: impl Iterator<Item = &'a str>,
) -> bool {
    let mut next = ids.values().max().map_or(1, |last| u32::from(last.0.get()) + 1);
    for name in names {
        if ids.contains_key(name) {
            continue;
        }
        let Some(number) = u16::try_from(next).ok().and_then(NonZeroU16::new) else {
            return false;
        };
        ids.insert(name.to_owned(), QueueId(number));
        next += 1;
    }
    true
}

/// A curve with anything in it.
pub fn curve(given: Option<ServiceCurve>) -> Option<Curve> {
    let given = given?;
    let (first_bps, ms) = given.burst.unwrap_or((given.rate, 0));
    let curve = Curve { first_bps, first_ns: u64::from(ms) * 1_000_000, bps: given.rate };
    (!curve.is_zero()).then_some(curve)
}

impl QueuePlan {
    /// Makes the queues of a ruleset. Interfaces whose queues are as in `old` keep them.
    ///
    /// # Errors
    /// [`PlanError`].
    pub(crate) fn new(source: &Source<'_>, old: &Self) -> Result<Self, PlanError> {
        // Most of them make a queue, so that more than this cannot be right; it bounds the search.
        let altq = source.altq.iter().map(|altq| altq.queues.len() + 1).sum::<usize>();
        if source.queues.len() + altq > 2 * CLASSES_MAX {
            return Err(PlanError::TooManyQueues);
        }
        let mut links = Vec::new();
        let mut matched = vec![false; source.queues.len()];
        let mut room = CLASSES_MAX;
        for root in source.queues.iter().filter(|queue| queue.parent.is_none()) {
            links.push(link(source, root, &mut matched, &mut room)?);
        }
        for (queue, matched) in source.queues.iter().zip(&matched) {
            if let (Some(parent), false) = (&queue.parent, matched) {
                let (queue, parent) = (queue.name.clone(), parent.clone());
                return Err(PlanError::NoParent { queue, parent });
            }
        }
        for altq in source.altq {
            let link = altq::link(source, altq)?;
            room = room.checked_sub(link.classes.len()).ok_or(PlanError::TooManyQueues)?;
            links.push(link);
        }
        links.sort_by_key(|link| link.interface);
        if let Some(twice) = links.windows(2).find(|pair| pair[0].interface == pair[1].interface) {
            let at = usize::from(twice[0].interface.0);
            let interface = source.facts.interfaces[at].name.clone();
            return Err(PlanError::Occupied { interface });
        }
        let classes = links.iter().flat_map(|link| &link.classes);
        let flows = classes.filter_map(|class| class.flows);
        let flows = flows.map(|flows| usize::from(flows.flows)).sum();
        if flows > FLOWS_MAX {
            return Err(PlanError::TooManyFlows { flows });
        }
        let keep = |link: LinkPlan| {
            let same = old.links.iter().find(|old| old.is_same(&link));
            same.map_or_else(|| Arc::new(link), Arc::clone)
        };
        let links = links.into_iter().map(keep).collect();
        let lines = Lines { queues: source.queues.to_vec(), altq: source.altq.to_vec() };
        let (prioritized, delayed_max) = (old.prioritized, old.delayed_max);
        Ok(Self { links, prioritized, delayed_max, lines: Arc::new(lines) })
    }

    /// Checks that every queue that a rule names exists on some interface.
    ///
    /// # Errors
    /// [`PlanError::Unknown`].
    pub(crate) fn check<'a>(
        &self,
        ids: &BTreeMap<String, QueueId>,
        rules: impl Iterator<Item = &'a Rule>,
    ) -> Result<(), PlanError> {
        let named = rules.filter_map(|rule| rule.set.queue.as_ref());
        for name in named.flat_map(|(queue, fast)| [Some(queue), fast.as_ref()]).flatten() {
            if !ids.get(name).is_some_and(|&id| self.has(id)) {
                return Err(PlanError::Unknown { queue: name.clone() });
            }
        }
        Ok(())
    }

    /// The same queues with other settings.
    pub(crate) fn with(&self, prioritized: bool, delayed_max: usize) -> Self {
        let (links, lines) = (self.links.clone(), Arc::clone(&self.lines));
        Self { links, prioritized, delayed_max, lines }
    }

    /// Whether a queue of this name exists on some interface.
    pub(crate) fn has(&self, id: QueueId) -> bool {
        self.links.iter().any(|link| link.classes.iter().any(|class| class.id == Some(id)))
    }

    /// Every queue with its counters, interface by interface, parents before children.
    #[must_use]
    pub fn report(&self, facts: &Facts) -> Vec<QueueReport> {
        let classes =
            self.links.iter().flat_map(|link| link.classes.iter().map(move |class| (link, class)));
        let name = |at: IfIndex| facts.interfaces.get(usize::from(at.0)).map(|at| at.name.clone());
        classes
            .map(|(link, class)| {
                let counts = class.counters.read();
                QueueReport {
                    interface: name(link.interface).unwrap_or_default(),
                    definition: class.definition.clone(),
                    packets: counts.packets,
                    bytes: counts.octets,
                    dropped_packets: counts.dropped_packets,
                    dropped_bytes: counts.dropped_octets,
                    qlength: counts.length,
                    qlimit: class.qlimit,
                }
            })
            .collect()
    }
}

impl LinkPlan {
    /// Puts together what follows from the classes.
    ///
    /// # Errors
    /// [`PlanError::NoDefault`] when packets without a queue would have none.
    pub fn new(
        interface: (IfIndex, &str),
        strict: bool,
        classes: Vec<ClassPlan>,
        default: Option<usize>,
    ) -> Result<Self, PlanError> {
        let (interface, name) = interface;
        if default.is_none() {
            return Err(PlanError::NoDefault { interface: name.to_owned() });
        }
        let leaves = classes.iter().enumerate().filter(|(_, class)| class.leaf);
        let by_id = leaves.filter_map(|(at, class)| Some((class.id?, at))).collect();
        let cuts =
            classes.iter().filter_map(|class| class.limit).any(|limit| limit.bps < CUT_BELOW_BPS);
        Ok(Self { interface, strict, classes, by_id, default, cuts })
    }

    fn is_same(&self, other: &Self) -> bool {
        let Self { interface, strict, classes, by_id: _, default, cuts: _ } = self;
        *interface == other.interface
            && *strict == other.strict
            && *default == other.default
            && classes.len() == other.classes.len()
            && classes.iter().zip(&other.classes).all(|(one, other)| one.is_same(other))
    }
}

impl ClassPlan {
    fn is_same(&self, other: &Self) -> bool {
        // All but the counters; the rest follows from these.
        self.id == other.id
            && self.parent == other.parent
            && self.definition == other.definition
            && self.flows == other.flows
            && self.limit == other.limit
    }
}

/// Position of an interface.
pub fn interface(source: &Source<'_>, queue: &str, name: &str) -> Result<IfIndex, PlanError> {
    let at = source.facts.interfaces.iter().position(|interface| interface.name == name);
    at.and_then(|at| u16::try_from(at).ok()).map(IfIndex).ok_or_else(|| PlanError::NoInterface {
        queue: queue.to_owned(),
        interface: name.to_owned(),
    })
}

/// MTU of an interface in octets.
pub fn mtu(source: &Source<'_>, at: IfIndex) -> u32 {
    let facts = source.facts.interfaces.get(usize::from(at.0));
    facts.map_or(1500, |facts| facts.mtu).clamp(256, 65_535)
}

/// The queues below one root.
fn link(
    source: &Source<'_>,
    root: &QueueDef,
    matched: &mut [bool],
    room: &mut usize,
) -> Result<LinkPlan, PlanError> {
    let Some(name) = &root.interface else {
        return Err(PlanError::RootWithoutInterface { queue: root.name.clone() });
    };
    let mut grower = Grower {
        source,
        name,
        at: interface(source, &root.name, name)?,
        matched,
        room,
        classes: Vec::new(),
        default: None,
    };
    grower.grow(root, None, 0)?;
    let Grower { at, classes, mut default, .. } = grower;
    if root.bandwidth.is_none() && root.flows.is_some() {
        // A flow queue without bandwidth takes everything.
        default = Some(0);
    }
    LinkPlan::new((at, name), false, classes, default)
}

struct Grower<'a> {
    source: &'a Source<'a>,
    name: &'a str,
    at: IfIndex,
    matched: &'a mut [bool],
    room: &'a mut usize,
    classes: Vec<ClassPlan>,
    default: Option<usize>,
}

impl<'a> Grower<'a> {
    /// Adds a queue and those below it.
    fn grow(
        &mut self,
        queue: &QueueDef,
        parent: Option<usize>,
        depth: usize,
    ) -> Result<(), PlanError> {
        *self.room = self.room.checked_sub(1).ok_or(PlanError::TooManyQueues)?;
        if depth > DEPTH_MAX {
            let (queue, parent) = (queue.name.clone(), queue.parent.clone().unwrap_or_default());
            return Err(PlanError::NoParent { queue, parent });
        }
        let children = self.children(queue)?;
        let name = || queue.name.clone();
        if !children.is_empty() && (queue.default || queue.flows.is_some()) {
            return Err(PlanError::NotALeaf { queue: name() });
        }
        let share = curve(queue.bandwidth);
        if share.is_none() && (parent.is_some() || queue.flows.is_none() || !children.is_empty()) {
            return Err(PlanError::NoBandwidth { queue: name() });
        }
        let max = curve(queue.max);
        // No wire holds a TUN device back: the root's bandwidth is the speed of the link.
        let limit = if parent.is_none() { max.or(share) } else { max };
        let flows = queue.flows.map(|flows| FlowsPlan {
            flows: flows.flows.max(1),
            quantum: match flows.quantum {
                0 => mtu(self.source, self.at),
                given => u32::from(given),
            },
            target_ns: u64::try_from(codel::TARGET.as_nanos()).unwrap_or(0),
            interval_ns: u64::try_from(codel::INTERVAL.as_nanos()).unwrap_or(0),
        });
        let qlimit = match (queue.qlimit, flows) {
            (0, Some(_)) => flows::QLIMIT_DEFAULT,
            (0, None) => QLIMIT_DEFAULT,
            (given, _) => u32::from(given),
        };
        let at = self.classes.len();
        if queue.default && self.default.replace(at).is_some() {
            return Err(PlanError::Twice { queue: name() });
        }
        self.classes.push(ClassPlan {
            id: self.source.ids.get(&queue.name).copied(),
            parent,
            leaf: children.is_empty(),
            realtime: curve(queue.min),
            share: share.unwrap_or(Curve::linear(1)),
            limit,
            flows,
            qlimit,
            priority: 0,
            definition: QueueDefinition::Queue(queue.clone()),
            counters: Arc::default(),
        });
        for child in children {
            self.grow(child, Some(at), depth + 1)?;
        }
        Ok(())
    }

    /// The queues right below one, on this interface; one that names it wins over one for all.
    fn children(&mut self, queue: &QueueDef) -> Result<Vec<&'a QueueDef>, PlanError> {
        let mut found: Vec<&QueueDef> = Vec::new();
        for (at, child) in self.source.queues.iter().enumerate() {
            let here = child.interface.as_deref().is_none_or(|name| name == self.name);
            if !here || child.parent.as_ref() != Some(&queue.name) {
                continue;
            }
            self.matched[at] = true;
            match found.iter_mut().find(|known| known.name == child.name) {
                None => found.push(child),
                Some(known) if known.interface.is_none() && child.interface.is_some() => {
                    *known = child;
                }
                Some(known) if known.interface.is_some() && child.interface.is_none() => {}
                Some(_) => return Err(PlanError::Twice { queue: child.name.clone() }),
            }
        }
        Ok(found)
    }
}
