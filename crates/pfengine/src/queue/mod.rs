//! Queues on the way out: shaping by service curves, fair queueing, priorities, delay.
//!
//! A library without I/O and without a clock: [`Egress`] takes the packets that leave, with the
//! marks that rules have put on them, and gives them back when they may be sent. What waits is
//! bounded: packets by `qlimit`, octets by [`OCTETS_MAX`], delayed packets by
//! `set limit pktdelay-pkts`. Every packet that comes in goes out or is counted as dropped.
//!
//! - `curve`: service curves, the arithmetic of the scheduler.
//! - `tree`: which class sends next (HFSC), or until when nobody may.
//! - `fifo`, `flows`, `codel`: what waits in one class.
//! - `priority`: eight levels, for interfaces without queues.
//! - `delay`: packets of `set delay`.
//! - `shaper`: all queues of one interface.
//! - `plan`, `altq`: what the ruleset asks for, and what its words mean here.
//!
//! Sources: Stoica, Zhang, Ng, "A Hierarchical Fair Service Curve Algorithm" (SIGCOMM 1997);
//! OpenBSD sys/net/hfsc.c, sys/net/fq_codel.c, sys/net/ifq.c `priq_*`; RFC 8289; RFC 8290.

mod altq;
mod codel;
mod counters;
mod curve;
mod delay;
mod egress;
mod fifo;
mod flow;
mod flows;
mod plan;
mod priority;
mod shaper;
mod tree;

pub use counters::QueueCounters;
pub use egress::{Egress, Leaving};
pub use flow::FlowKey;
pub use plan::{PlanError, QueuePlan};
pub(crate) use plan::{Source as QueueSource, number as number_queues};

use core::num::NonZeroU16;

use pfapi::units::Uptime;

/// Octets that wait on one interface at most, whatever its queues allow.
pub const OCTETS_MAX: u64 = 32 << 20;

/// A queue name as a small number, the same on every interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub(crate) NonZeroU16);

/// What a packet costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Packets on the wire: the segments of a super-packet.
    pub packets: u32,
    /// Octets of all of them, headers included.
    pub octets: u32,
}

impl Charge {
    /// One packet of so many octets.
    #[must_use]
    pub const fn one(octets: u32) -> Self {
        Self { packets: 1, octets }
    }
}

/// A packet that waits.
#[derive(Debug)]
struct Waiting<T> {
    charge: Charge,
    /// Which flow it belongs to, for `flows`.
    flow: u32,
    /// When it came.
    since: Uptime,
    item: T,
}

#[cfg(test)]
mod tests;
