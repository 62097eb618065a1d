//! FreeBSD's queues in terms of ours.
//!
//! | scheduler | here |
//! |---|---|
//! | `hfsc` | the same: `realtime`, `linkshare`, `upperlimit` |
//! | `cbq` | shares by `bandwidth`; without `borrow` that is the limit too |
//! | `priq` | the highest priority first, within the bandwidth of the interface |
//! | `fairq` | shares by `bandwidth`, and `flows` within each queue |
//! | `codel` | one queue with CoDel |
//!
//! `codel` in the brackets of a queue is CoDel there. What means less here than there, the compiler
//! tells when it reads it. Source: FreeBSD sys/net/altq; pf.conf(5) "QUEUEING".

use std::sync::Arc;

use pfapi::control::QueueDefinition;
use pfapi::ruleset::{Altq, AltqCurve, AltqQueue, QueueFlag, Scheduler};

use super::codel;
use super::curve::Curve;
use super::flows::FlowsPlan;
use super::plan::{ClassPlan, LinkPlan, PlanError, Source, interface, mtu};

/// Flows of `fairq` when nothing is said. Source: FreeBSD sys/net/altq/altq_fairq.h
/// `FAIRQ_MAX_BUCKETS`, `FAIRQ_BITS_DEFAULT`.
const FAIRQ_BUCKETS: u16 = 256;

/// The queues of one `altq on` line.
pub fn link(source: &Source<'_>, altq: &Altq) -> Result<LinkPlan, PlanError> {
    let at = interface(source, "altq", &altq.interface)?;
    let codel = |target_ms: u32, interval_ms: u32| {
        let nanos = |ms: u32, usual: core::time::Duration| match ms {
            0 => u64::try_from(usual.as_nanos()).unwrap_or(0),
            ms => u64::from(ms) * 1_000_000,
        };
        FlowsPlan {
            flows: 1,
            quantum: mtu(source, at),
            target_ns: nanos(target_ms, codel::TARGET),
            interval_ns: nanos(interval_ms, codel::INTERVAL),
        }
    };
    let is_codel = altq.scheduler == Scheduler::Codel;
    let whole = (altq.bandwidth > 0).then(|| Curve::linear(altq.bandwidth));
    let mut classes = vec![ClassPlan {
        id: None,
        parent: None,
        leaf: is_codel,
        realtime: None,
        share: whole.unwrap_or(Curve::linear(1)),
        limit: whole,
        flows: is_codel.then(|| codel(altq.options.target, altq.options.interval)),
        qlimit: u32::from(altq.qlimit).max(1),
        priority: 0,
        definition: QueueDefinition::Altq(Altq { queues: Vec::new(), ..altq.clone() }),
        counters: Arc::default(),
    }];
    let mut default = is_codel.then_some(0);
    for queue in &altq.queues {
        let name = || queue.name.clone();
        let parent = match &queue.parent {
            None => 0,
            // Parents are defined first.
            Some(parent) => {
                let known = altq.queues.iter().position(|known| known.name == *parent);
                let known = known.map(|at| at + 1).filter(|&at| at < classes.len());
                let (queue, parent) = (name(), parent.clone());
                known.ok_or(PlanError::NoParent { queue, parent })?
            }
        };
        if altq.queues.iter().take(classes.len() - 1).any(|known| known.name == queue.name) {
            return Err(PlanError::Twice { queue: name() });
        }
        let leaf = !altq.queues.iter().any(|child| child.parent.as_ref() == Some(&queue.name));
        if queue.options.is_default() {
            if !leaf {
                return Err(PlanError::NotALeaf { queue: name() });
            }
            default = Some(classes.len());
        }
        let flows = match altq.scheduler {
            Scheduler::Fairq => Some(FlowsPlan {
                flows: match queue.options.buckets {
                    0 => FAIRQ_BUCKETS,
                    given => u16::try_from(given).unwrap_or(u16::MAX),
                },
                ..codel(0, 0)
            }),
            _ => queue.options.flags.contains(&QueueFlag::Codel).then(|| codel(0, 0)),
        };
        let (realtime, share, limit) = curves(altq.scheduler, queue);
        classes.push(ClassPlan {
            id: source.ids.get(&queue.name).copied(),
            parent: Some(parent),
            leaf,
            realtime,
            share,
            limit,
            flows: flows.filter(|_| leaf),
            qlimit: u32::from(queue.qlimit).max(1),
            priority: queue.priority,
            definition: QueueDefinition::AltqQueue {
                interface: altq.interface.clone(),
                scheduler: altq.scheduler,
                queue: queue.clone(),
            },
            counters: Arc::default(),
        });
    }
    let strict = altq.scheduler == Scheduler::Priq;
    LinkPlan::new((at, &altq.interface), strict, classes, default)
}

/// What a queue gets at least, its share, and what it gets at most.
fn curves(scheduler: Scheduler, queue: &AltqQueue) -> (Option<Curve>, Curve, Option<Curve>) {
    let own = Some(Curve::linear(queue.bandwidth)).filter(|own| !own.is_zero());
    // Who has no share still gets what nobody else wants.
    let share = own.unwrap_or(Curve::linear(1));
    match scheduler {
        Scheduler::Hfsc => {
            let options = &queue.options;
            let share = options.linkshare.and_then(curve).unwrap_or(share);
            (options.realtime.and_then(curve), share, options.upperlimit.and_then(curve))
        }
        Scheduler::Cbq if !queue.options.flags.contains(&QueueFlag::Borrow) => (None, share, own),
        Scheduler::Cbq | Scheduler::Priq | Scheduler::Fairq | Scheduler::Codel => {
            (None, share, None)
        }
    }
}

fn curve(given: AltqCurve) -> Option<Curve> {
    let first_ns = u64::from(given.duration) * 1_000_000;
    let curve = Curve { first_bps: given.first, first_ns, bps: given.rate };
    (!curve.is_zero()).then_some(curve)
}
