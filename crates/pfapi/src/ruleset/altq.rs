//! ALTQ: queues on the way out of an interface, as FreeBSD has them.
//!
//! Source: FreeBSD pf.conf(5) "QUEUEING"; sbin/pfctl/pfctl_altq.c; sys/net/altq.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Packets that wait in a queue at most, when nothing is said (`DEFAULT_QLIMIT`).
pub const ALTQ_QLIMIT_DEFAULT: u16 = 50;
/// Priority of a queue when nothing is said (`DEFAULT_PRIORITY`).
pub const ALTQ_PRIORITY_DEFAULT: u8 = 1;

/// One `altq on` line on one interface, with the queues that were defined for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Altq {
    /// Interface.
    pub interface: String,
    /// Which packet goes next.
    pub scheduler: Scheduler,
    /// What stands in the brackets behind the scheduler.
    #[serde(default, skip_serializing_if = "SchedulerOptions::is_empty")]
    pub options: SchedulerOptions,
    /// Bits per second of the interface.
    pub bandwidth: u64,
    /// Size of the token bucket in octets.
    pub bucket: u32,
    /// Packets that wait at most.
    pub qlimit: u16,
    /// Its queues in the order of their definitions, without the root.
    pub queues: Vec<AltqQueue>,
}

/// One `queue` line on one interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AltqQueue {
    /// Name.
    pub name: String,
    /// The queue above; `None` directly below the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Higher goes first.
    pub priority: u8,
    /// Packets that wait at most.
    pub qlimit: u16,
    /// Bits per second; 0 for `priq`, which shares nothing out.
    pub bandwidth: u64,
    /// What stands in the brackets behind the scheduler.
    #[serde(default, skip_serializing_if = "SchedulerOptions::is_empty")]
    pub options: SchedulerOptions,
}

/// Which packet goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheduler {
    /// `cbq`: class based queueing.
    Cbq,
    /// `priq`: the highest priority first.
    Priq,
    /// `hfsc`: hierarchical fair service curve.
    Hfsc,
    /// `fairq`: fair shares for flows.
    Fairq,
    /// `codel`: one queue with controlled delay.
    Codel,
}

impl Scheduler {
    /// The word of pf.conf(5).
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cbq => "cbq",
            Self::Priq => "priq",
            Self::Hfsc => "hfsc",
            Self::Fairq => "fairq",
            Self::Codel => "codel",
        }
    }

    /// Whether its queues share the bandwidth of their parents, the first of which is the
    /// interface's root queue.
    #[must_use]
    pub const fn shares_bandwidth(self) -> bool {
        matches!(self, Self::Cbq | Self::Hfsc | Self::Fairq)
    }
}

/// What stands in the brackets behind a scheduler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SchedulerOptions {
    /// Words without a value.
    pub flags: BTreeSet<QueueFlag>,
    /// `realtime`: what the queue gets at least.
    pub realtime: Option<AltqCurve>,
    /// `linkshare`: its share of what is left.
    pub linkshare: Option<AltqCurve>,
    /// `upperlimit`: what it gets at most.
    pub upperlimit: Option<AltqCurve>,
    /// `hogs`: bits per second from which a flow of `fairq` is one; 0 is not given.
    pub hogs: u64,
    /// `buckets` of `fairq`; 0 is not given.
    pub buckets: u32,
    /// `target` of `codel` in milliseconds; 0 is not given.
    pub target: u32,
    /// `interval` of `codel` in milliseconds; 0 is not given.
    pub interval: u32,
}

impl SchedulerOptions {
    /// Whether nothing was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether packets without a queue come here.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.flags.contains(&QueueFlag::Default)
    }
}

/// A word in the brackets behind a scheduler; the order is that of printing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueFlag {
    /// `red`: random early detection.
    Red,
    /// `ecn`: marks packets instead of dropping them; brings `red` where the scheduler has it.
    Ecn,
    /// `rio`: `red` that tells packets in and out of their contract apart.
    Rio,
    /// `codel`: controlled delay within the queue.
    Codel,
    /// `borrow`: may use what the parent has left.
    Borrow,
    /// `default`: for packets without a queue.
    Default,
}

impl QueueFlag {
    /// Every flag.
    pub const ALL: [Self; 6] =
        [Self::Red, Self::Ecn, Self::Rio, Self::Codel, Self::Borrow, Self::Default];

    /// The word of pf.conf(5).
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Ecn => "ecn",
            Self::Rio => "rio",
            Self::Codel => "codel",
            Self::Borrow => "borrow",
            Self::Default => "default",
        }
    }
}

/// A service curve of two pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AltqCurve {
    /// Bits per second in the beginning.
    pub first: u64,
    /// Milliseconds that the beginning lasts.
    pub duration: u32,
    /// Bits per second from then on.
    pub rate: u64,
}
