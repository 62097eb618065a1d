//! The way out of all interfaces: delay first, then the queues.
//!
//! Life-cycle of a packet: [`Egress::send`] → delay line → queue of its interface →
//! [`Egress::next`], or [`Egress::poll_dropped`]. After any `send` call `next` until it gives
//! nothing; then nothing is due before [`Egress::poll_timeout`].

use std::collections::VecDeque;
use std::sync::Arc;

use pfapi::units::{IfIndex, Uptime};

use super::delay::DelayLine;
use super::plan::QueuePlan;
use super::priority::Priority;
use super::shaper::{Next, Shaper};
use super::{Charge, OCTETS_MAX, QueueId, Waiting};

/// A packet that leaves, with the marks of the rules.
#[derive(Debug)]
pub struct Leaving<T> {
    /// Interface that it leaves by.
    pub interface: IfIndex,
    /// `set queue`.
    pub queue: Option<QueueId>,
    /// `set prio`, 0 to 7.
    pub prio: u8,
    /// `set delay` in milliseconds; 0 is none.
    pub delay_ms: u16,
    /// Number of its flow, see [`super::FlowKey`].
    pub flow: u32,
    /// What it costs.
    pub charge: Charge,
    /// The packet.
    pub item: T,
}

impl<T> Leaving<T> {
    /// The same way for another thing.
    pub fn map<U>(self, item: U) -> Leaving<U> {
        let Self { interface, queue, prio, delay_ms, flow, charge, item: _ } = self;
        Leaving { interface, queue, prio, delay_ms, flow, charge, item }
    }
}

/// The way out of one interface.
#[derive(Debug)]
enum Link<T> {
    /// Packets leave in the order of their priority.
    Open(Box<Priority<T>>),
    Shaped(Box<Shaper<T>>),
}

/// The way out of all interfaces; one per thread that sends.
#[derive(Debug)]
pub struct Egress<T> {
    plan: Arc<QueuePlan>,
    /// By interface; interfaces that nothing was ever sent to may be missing.
    links: Vec<Link<T>>,
    delayed: DelayLine<Leaving<T>>,
    delayed_octets: u64,
    dropped: Vec<T>,
    /// Drops that no queue counts: delayed packets without room.
    drops: u64,
    /// Packets that wait.
    waiting: usize,
    /// When the first limit allows the next packet, as of the last call of [`Self::next`].
    wake: Option<Uptime>,
    /// Interface that is asked first.
    first: usize,
    /// What queues of an earlier load still held for interfaces that have none any more.
    released: VecDeque<(IfIndex, T)>,
}

impl<T> Egress<T> {
    /// Empty queues.
    #[must_use]
    pub fn new(plan: Arc<QueuePlan>) -> Self {
        let mut egress = Self {
            delayed: DelayLine::new(plan.delayed_max),
            plan: Arc::new(QueuePlan::default()),
            links: Vec::new(),
            delayed_octets: 0,
            dropped: Vec::new(),
            drops: 0,
            waiting: 0,
            wake: None,
            first: 0,
            released: VecDeque::new(),
        };
        egress.reload(Uptime::ZERO, plan);
        egress
    }

    /// What the queues are made from.
    #[must_use]
    pub const fn plan(&self) -> &Arc<QueuePlan> {
        &self.plan
    }

    /// Whether a packet may be sent at once without asking: its interface has no queues, nothing is
    /// ordered by priority, and it is not delayed.
    #[must_use]
    pub fn lets_by(&self, interface: IfIndex, delay_ms: u16) -> bool {
        let is_open = self.plan.links.is_empty() || !self.is_shaped(interface);
        delay_ms == 0 && is_open && !self.plan.prioritized
    }

    /// Whether an interface has queues.
    #[must_use]
    pub fn is_shaped(&self, interface: IfIndex) -> bool {
        matches!(self.links.get(usize::from(interface.0)), Some(Link::Shaped(_)))
    }

    /// Whether super-packets should be cut before they are sent to this interface.
    #[must_use]
    pub fn cuts(&self, interface: IfIndex) -> bool {
        match self.links.get(usize::from(interface.0)) {
            Some(Link::Shaped(shaper)) => shaper.plan().cuts,
            _ => false,
        }
    }

    /// Puts a packet on its way.
    pub fn send(&mut self, now: Uptime, mut packet: Leaving<T>) {
        let delay_ms = core::mem::take(&mut packet.delay_ms);
        if delay_ms == 0 {
            return self.enqueue(now, packet);
        }
        let octets = u64::from(packet.charge.octets);
        if self.delayed_octets + octets > OCTETS_MAX {
            self.drops += 1;
            self.dropped.push(packet.item);
            return;
        }
        let due = now.plus_nanos(u64::from(delay_ms) * 1_000_000);
        match self.delayed.push(due, packet) {
            Ok(()) => {
                self.waiting += 1;
                self.delayed_octets += octets;
            }
            Err(packet) => {
                self.drops += 1;
                self.dropped.push(packet.item);
            }
        }
    }

    /// Puts a packet into its queue.
    fn enqueue(&mut self, now: Uptime, packet: Leaving<T>) {
        let at = usize::from(packet.interface.0);
        if at >= self.links.len() {
            self.links.resize_with(at + 1, || Link::Open(Box::default()));
        }
        let Leaving { queue, prio, flow, charge, item, .. } = packet;
        let waiting = Waiting { charge, flow, since: now, item };
        self.wake = Some(now);
        match &mut self.links[at] {
            Link::Open(levels) => {
                let before = levels.len();
                if let Some(lost) = levels.push(prio, waiting) {
                    self.drops += 1;
                    self.dropped.push(lost.item);
                }
                self.waiting += levels.len() - before;
            }
            Link::Shaped(shaper) => {
                let before = shaper.len();
                shaper.push(queue, waiting, &mut self.dropped);
                self.waiting = self.waiting + shaper.len() - before;
            }
        }
    }

    /// The next packet that may be sent now.
    pub fn next(&mut self, now: Uptime) -> Option<(IfIndex, T)> {
        if let Some(released) = self.released.pop_front() {
            self.waiting -= 1;
            return Some(released);
        }
        while let Some(packet) = self.delayed.pop(now) {
            self.waiting -= 1;
            self.delayed_octets -= u64::from(packet.charge.octets);
            self.enqueue(now, packet);
        }
        if self.wake.is_none_or(|wake| wake > now) {
            return None;
        }
        let mut wake: Option<Uptime> = None;
        for step in 0..self.links.len() {
            let at = (self.first + step) % self.links.len();
            let (before, link) = (self.links[at].len(), &mut self.links[at]);
            let next = match link {
                Link::Open(levels) => {
                    levels.pop().map_or(Next::Idle, |packet| Next::Packet(packet.item))
                }
                Link::Shaped(shaper) => shaper.pop(now, &mut self.dropped),
            };
            // What CoDel drops has left, too.
            self.waiting -= before - link.len();
            match next {
                Next::Packet(item) => {
                    self.first = at + 1;
                    let interface = IfIndex(u16::try_from(at).unwrap_or(u16::MAX));
                    return Some((interface, item));
                }
                Next::Wait(until) => {
                    wake = Some(wake.map_or(until, |wake| wake.min(until)));
                }
                Next::Idle => {}
            }
        }
        self.wake = wake;
        None
    }

    /// When [`Self::next`] has something next; `None` when nothing waits.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Uptime> {
        [self.wake, self.delayed.due()].into_iter().flatten().min()
    }

    /// A packet that was dropped; call it until it gives nothing.
    pub fn poll_dropped(&mut self) -> Option<T> {
        self.dropped.pop()
    }

    /// Packets that wait; a super-packet is one.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Packets that were dropped and that no queue has counted, since the last call.
    #[must_use]
    pub const fn take_drops(&mut self) -> u64 {
        core::mem::replace(&mut self.drops, 0)
    }

    /// Goes over to other queues. Interfaces whose queues are the same keep everything; else what
    /// waits goes into the queue of the same name, or the default one, or out when there is none.
    pub fn reload(&mut self, now: Uptime, plan: Arc<QueuePlan>) {
        let mut old = core::mem::take(&mut self.links);
        let count = plan.links.iter().map(|link| usize::from(link.interface.0) + 1).max();
        self.links.resize_with(count.unwrap_or(0).max(old.len()), || Link::Open(Box::default()));
        for link in &plan.links {
            let at = usize::from(link.interface.0);
            self.links[at] = Link::Shaped(Box::new(Shaper::new(Arc::clone(link))));
        }
        self.delayed.set_limit(plan.delayed_max);
        self.plan = plan;
        for (at, link) in old.drain(..).enumerate() {
            let interface = IfIndex(u16::try_from(at).unwrap_or(u16::MAX));
            match (link, &mut self.links[at]) {
                (Link::Shaped(old), Link::Shaped(new)) if Arc::ptr_eq(old.plan(), new.plan()) => {
                    *new = old;
                }
                (Link::Shaped(old), Link::Shaped(new)) => {
                    old.drain(|queue, packet| {
                        new.push(queue, Waiting { since: now, ..packet }, &mut self.dropped);
                    });
                }
                (Link::Shaped(old), Link::Open(_)) => {
                    old.drain(|_, packet| self.released.push_back((interface, packet.item)));
                }
                (Link::Open(mut levels), _) => {
                    while let Some(packet) = levels.pop() {
                        self.released.push_back((interface, packet.item));
                    }
                }
            }
        }
        self.waiting = self.delayed.len()
            + self.released.len()
            + self.links.iter().map(Link::len).sum::<usize>();
        self.wake = (self.waiting > self.delayed.len()).then_some(now);
    }
}

impl<T> Link<T> {
    const fn len(&self) -> usize {
        match self {
            Self::Open(levels) => levels.len(),
            Self::Shaped(shaper) => shaper.len(),
        }
    }
}
