//! What `altq` and `queue` lines say, before it is worked out.
//!
//! Source: FreeBSD sbin/pfctl/parse.y `altqif`, `queuespec`, `queue_opts`, `scheduler`.

use std::collections::BTreeSet;

use pfapi::ruleset::{ALTQ_PRIORITY_DEFAULT, ALTQ_QLIMIT_DEFAULT, QueueFlag, Scheduler};

use super::bandwidth::Bandwidth;

/// An `altq` line.
#[derive(Clone, Debug)]
pub(crate) struct AltqSpec {
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) scheduler: Scheduler,
    pub(crate) given: Given,
    /// Queues directly below the interface.
    pub(crate) queues: Vec<String>,
}

/// A `queue` line.
#[derive(Clone, Debug)]
pub(crate) struct QueueSpec {
    pub(crate) name: String,
    /// Empty for every interface that has the queue.
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) given: Given,
    /// Queues directly below it.
    pub(crate) queues: Vec<String>,
}

/// An interface of an `on` list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) negated: bool,
    pub(crate) name: String,
}

/// Options that both kinds of lines have.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) bandwidth: Bandwidth,
    pub(crate) priority: u8,
    pub(crate) qlimit: u16,
    /// `tbrsize`; 0 is worked out.
    pub(crate) bucket: u32,
    /// `None` for queues that leave it to their interface.
    pub(crate) scheduler: Option<Scheduler>,
    pub(crate) options: Options,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            bandwidth: Bandwidth::ALL,
            priority: ALTQ_PRIORITY_DEFAULT,
            qlimit: ALTQ_QLIMIT_DEFAULT,
            bucket: 0,
            scheduler: None,
            options: Options::default(),
        }
    }
}

/// What stands in the brackets behind a scheduler.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) flags: BTreeSet<QueueFlag>,
    pub(crate) realtime: Option<Curve>,
    pub(crate) linkshare: Option<Curve>,
    pub(crate) upperlimit: Option<Curve>,
    pub(crate) hogs: Option<Bandwidth>,
    pub(crate) buckets: u32,
    pub(crate) target: u32,
    pub(crate) interval: u32,
}

/// A service curve as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Curve {
    pub(crate) first: Bandwidth,
    pub(crate) duration: u32,
    pub(crate) rate: Bandwidth,
}
