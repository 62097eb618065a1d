//! Which class sends next: the hierarchical fair service curve (HFSC) scheduler.
//!
//! Classes with a `realtime` curve that fall behind it go first, by deadline. What is left of the
//! link is shared out from the root down: among the children of a class the one that has had least
//! for its share goes next. A class whose `limit` is used up waits, and so do those below it, the
//! realtime ones included: a limit is never exceeded, even where `min` asks for more.
//!
//! Time is the virtual time of each class: nanoseconds that its `share` curve needs for what it has
//! sent. Leaves have packets; what they are is not known here.
//! Invariants: a class is in `active` of its parent exactly while a leaf below it has packets;
//! `fit` of a class is the earliest moment at which something below it may be sent, zero for "any".
//! Sources: Stoica, Zhang, Ng 1997; OpenBSD sys/net/hfsc.c. Differences: limits bind realtime
//! classes too (there they do not), and lists are searched instead of kept in order, because there
//! are few classes.

use core::cmp::Reverse;

use super::curve::{Curve, Running};

/// Time for which a class may catch up when it could not send although it was allowed to, because
/// the thread slept too long. OpenBSD's sys/net/hfsc.c `hfsc_update_vf` has one clock tick, 10 ms;
/// a thread of a busy machine wakes later than a kernel: on two cores with 20 threads that want to
/// run one wake-up in a hundred was 18 ms late, and with 10 ms a tenth of the rate was lost.
pub const CATCH_UP_NS: u64 = 25_000_000;

/// The class above the root queue of the interface; it has no limit of its own.
pub const TOP: usize = 0;

/// Curves of a class.
#[derive(Clone, Copy, Debug)]
pub struct ClassCurves {
    /// What it gets at least.
    pub realtime: Option<Curve>,
    /// Its share of what is left; never zero.
    pub share: Curve,
    /// What it gets at most.
    pub limit: Option<Curve>,
    /// With [`Order::Priority`]: higher goes first.
    pub priority: u8,
}

/// How siblings compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By their shares.
    Share,
    /// The highest priority first (ALTQ's `priq`).
    Priority,
}

#[derive(Debug)]
struct Class {
    parent: usize,
    curves: ClassCurves,
    /// Children with packets below them.
    active: Vec<usize>,
    /// Octets sent.
    total: u64,

    // Realtime; of leaves with packets alone.
    deadline_curve: Running,
    eligible_curve: Running,
    /// Octets sent by deadline.
    urgent_total: u64,
    /// From when on the class may go by its deadline.
    eligible: u64,
    deadline: u64,

    // Shares.
    virtual_curve: Running,
    /// Virtual time.
    vt: u64,
    /// Added to what the curve says, for times in which a limit held the class back.
    vt_adjust: u64,
    /// Backlogged periods begun, of this class and of the parent when this class began.
    period: u64,
    parent_period: u64,
    /// Least virtual time of the children in the current period.
    children_min: u64,
    /// Greatest virtual time of children that have left.
    children_left: u64,

    // Limits.
    limit_curve: Running,
    /// When the limit of this class itself allows the next packet.
    own_fit: u64,
    /// When something may be sent: this limit and those below together.
    fit: u64,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// This leaf sends one packet.
    Leaf {
        /// The leaf.
        leaf: usize,
        /// Whether its deadline is why.
        urgent: bool,
    },
    /// Limits hold everything back until this moment.
    Wait(u64),
    /// Nothing waits.
    Idle,
}

/// The classes of one interface.
#[derive(Debug)]
pub struct Tree {
    classes: Vec<Class>,
    order: Order,
    /// Leaves with packets and a realtime curve.
    urgent: Vec<usize>,
}

impl Tree {
    /// A tree with nothing below [`TOP`].
    pub fn new(order: Order) -> Self {
        let curves =
            ClassCurves { realtime: None, share: Curve::linear(1), limit: None, priority: 0 };
        Self { classes: vec![Class::new(TOP, curves)], order, urgent: Vec::new() }
    }

    /// Adds a class; parents come before their children. Gives its number.
    pub fn add(&mut self, parent: usize, curves: ClassCurves) -> usize {
        self.classes.push(Class::new(parent, curves));
        self.classes.len() - 1
    }

    /// A leaf has its first packet, of so many octets.
    pub fn activate(&mut self, leaf: usize, octets: u32, now: u64) {
        let class = &mut self.classes[leaf];
        if let Some(curve) = &class.curves.realtime {
            class.deadline_curve.lower(curve, now, class.urgent_total);
            class.eligible_curve = class.deadline_curve.eligible(curve);
            class.set_eligible();
            class.set_deadline(octets);
            self.urgent.push(leaf);
        }
        let mut at = leaf;
        let mut joins = true;
        while at != TOP {
            let parent = self.classes[at].parent;
            if joins {
                joins = self.classes[parent].active.is_empty();
                self.join(at, parent, now);
            }
            self.refit(at, parent);
            at = parent;
        }
    }

    /// A class begins a backlogged period among its siblings.
    fn join(&mut self, at: usize, parent: usize, now: u64) {
        let above = &self.classes[parent];
        let latest = above.active.iter().map(|&sibling| self.classes[sibling].vt).max();
        let (above_period, above_min) = (above.period, above.children_min);
        let above_left = above.children_left;
        let class = &mut self.classes[at];
        match latest {
            Some(latest) => {
                // In the middle of its siblings: no credit for the time away, no penalty either.
                let vt = if above_min == 0 { latest } else { above_min.midpoint(latest) };
                if above_period != class.parent_period || vt > class.vt {
                    class.vt = vt;
                }
            }
            None => class.vt = above_left,
        }
        class.virtual_curve.lower(&class.curves.share, class.vt, class.total);
        class.vt_adjust = 0;
        class.period += 1;
        // A parent that begins with this class counts its own period afterwards.
        class.parent_period = above_period + u64::from(latest.is_none());
        class.fit = 0;
        class.own_fit = 0;
        if let Some(limit) = &class.curves.limit {
            class.limit_curve.lower(limit, now, class.total);
            class.own_fit = class.limit_curve.time_of(class.total);
        }
        let above = &mut self.classes[parent];
        if above.active.is_empty() {
            above.children_min = 0;
        }
        if parent == TOP && above.active.is_empty() {
            above.period += 1;
        }
        above.active.push(at);
    }

    /// Works out when something below a class may be sent.
    fn refit(&mut self, at: usize, parent: usize) {
        let class = &self.classes[at];
        let below = class.active.iter().map(|&child| self.classes[child].fit).min().unwrap_or(0);
        self.classes[at].fit = class.own_fit.max(below);
        debug_assert!(self.classes[parent].active.contains(&at), "an active class is listed");
    }

    /// Whose turn it is.
    pub fn turn(&mut self, now: u64) -> Turn {
        if self.classes[TOP].active.is_empty() {
            return Turn::Idle;
        }
        if let Some(leaf) = self.most_urgent(now) {
            return Turn::Leaf { leaf, urgent: true };
        }
        let mut at = TOP;
        loop {
            if self.classes[at].active.is_empty() {
                return Turn::Leaf { leaf: at, urgent: false };
            }
            let Some(next) = self.first_fit(at, now) else { return Turn::Wait(self.wake()) };
            let vt = self.classes[next].vt;
            let class = &mut self.classes[at];
            class.children_min = class.children_min.max(vt);
            at = next;
        }
    }

    /// The child of a class that goes next.
    fn first_fit(&self, at: usize, now: u64) -> Option<usize> {
        let fitting =
            self.classes[at].active.iter().copied().filter(|&at| self.classes[at].fit <= now);
        match self.order {
            Order::Share => fitting.min_by_key(|&at| (self.classes[at].vt, at)),
            Order::Priority => {
                fitting.min_by_key(|&at| (Reverse(self.classes[at].curves.priority), at))
            }
        }
    }

    /// The leaf with the first deadline, of those that may go by it.
    fn most_urgent(&self, now: u64) -> Option<usize> {
        let may_go = |&leaf: &usize| self.classes[leaf].eligible <= now && self.chain(leaf) <= now;
        self.urgent
            .iter()
            .copied()
            .filter(may_go)
            .min_by_key(|&leaf| (self.classes[leaf].deadline, leaf))
    }

    /// When the limits of a leaf and of all classes above it allow a packet.
    fn chain(&self, leaf: usize) -> u64 {
        let mut fit = 0;
        let mut at = leaf;
        while at != TOP {
            fit = fit.max(self.classes[at].own_fit);
            at = self.classes[at].parent;
        }
        fit
    }

    /// When something may be sent.
    fn wake(&self) -> u64 {
        let shared = self.classes[TOP].active.iter().map(|&child| self.classes[child].fit).min();
        let urgent =
            self.urgent.iter().map(|&leaf| self.classes[leaf].eligible.max(self.chain(leaf))).min();
        shared.into_iter().chain(urgent).min().unwrap_or(u64::MAX)
    }

    /// A leaf has sent so many octets, or given packets up (zero octets); `next` are the octets of
    /// its next packet, `None` when it has no more.
    pub fn sent(&mut self, leaf: usize, octets: u32, urgent: bool, next: Option<u32>, now: u64) {
        self.settle_urgent(leaf, octets, urgent, next);
        let mut leaves = next.is_none();
        let mut at = leaf;
        while at != TOP {
            let parent = self.classes[at].parent;
            let above_min = self.classes[parent].children_min;
            let class = &mut self.classes[at];
            class.spend(octets, now);
            class.vt = class.virtual_curve.time_of(class.total).saturating_add(class.vt_adjust);
            if class.vt < above_min {
                // It was held back by a limit; what its siblings had meanwhile is theirs.
                class.vt_adjust += above_min - class.vt;
                class.vt = above_min;
            }
            leaves &= class.active.is_empty();
            if leaves {
                let vt = class.vt;
                let above = &mut self.classes[parent];
                above.children_left = above.children_left.max(vt);
                above.active.retain(|&child| child != at);
            } else {
                self.refit(at, parent);
            }
            at = parent;
        }
    }

    /// The realtime part of [`Self::sent`].
    fn settle_urgent(&mut self, leaf: usize, octets: u32, urgent: bool, next: Option<u32>) {
        let class = &mut self.classes[leaf];
        if class.curves.realtime.is_none() {
            return;
        }
        if urgent {
            class.urgent_total += u64::from(octets);
        }
        match next {
            Some(next) => {
                if urgent {
                    class.set_eligible();
                }
                class.set_deadline(next);
            }
            None => self.urgent.retain(|&other| other != leaf),
        }
    }
}

impl Class {
    fn new(parent: usize, curves: ClassCurves) -> Self {
        let realtime = curves.realtime.unwrap_or(Curve::linear(0));
        Self {
            parent,
            active: Vec::new(),
            total: 0,
            deadline_curve: Running::new(&realtime),
            eligible_curve: Running::new(&realtime),
            urgent_total: 0,
            eligible: 0,
            deadline: 0,
            virtual_curve: Running::new(&curves.share),
            vt: 0,
            vt_adjust: 0,
            period: 0,
            parent_period: 0,
            children_min: 0,
            children_left: 0,
            limit_curve: Running::new(&curves.limit.unwrap_or(Curve::linear(0))),
            own_fit: 0,
            fit: 0,
            curves,
        }
    }

    fn set_eligible(&mut self) {
        self.eligible = self.eligible_curve.time_of(self.urgent_total);
    }

    fn set_deadline(&mut self, octets: u32) {
        self.deadline = self.deadline_curve.time_of(self.urgent_total + u64::from(octets));
    }

    /// Sends so many octets: works out when the limit allows the next ones. A class that was allowed
    /// to send long ago has no more credit than [`CATCH_UP_NS`].
    fn spend(&mut self, octets: u32, now: u64) {
        if self.curves.limit.is_some() {
            let oldest = now.saturating_sub(CATCH_UP_NS);
            self.limit_curve.shift(oldest.saturating_sub(self.own_fit));
            self.total += u64::from(octets);
            self.own_fit = self.limit_curve.time_of(self.total);
        } else {
            self.total += u64::from(octets);
        }
    }
}
