//! All queues of one interface.
//!
//! A packet goes into the queue that rules gave it, or into the default one; the tree says which
//! queue sends next. Invariants: a leaf is active in the tree exactly while packets wait in it;
//! [`Shaper::waiting_octets`] never exceeds [`OCTETS_MAX`] by more than one packet.

use std::sync::Arc;

use pfapi::units::Uptime;

use super::fifo::Fifo;
use super::flows::FlowQueue;
use super::plan::LinkPlan;
use super::tree::{ClassCurves, Order, Tree, Turn};
use super::{OCTETS_MAX, QueueId, Waiting};

/// What waits in one class.
#[derive(Debug)]
enum Leaf<T> {
    /// A class with others below it: nothing ever waits here.
    Branch,
    Fifo(Fifo<T>),
    Flows(FlowQueue<T>),
}

/// The queues of one interface.
#[derive(Debug)]
pub struct Shaper<T> {
    plan: Arc<LinkPlan>,
    tree: Tree,
    /// By position in the plan.
    leaves: Vec<Leaf<T>>,
    waiting: usize,
    waiting_octets: u64,
}

/// What [`Shaper::pop`] has.
#[derive(Debug)]
pub enum Next<T> {
    /// A packet to send now.
    Packet(T),
    /// Nothing before this moment.
    Wait(Uptime),
    /// Nothing at all.
    Idle,
}

impl<T> Shaper<T> {
    /// Empty queues as the plan has them.
    pub fn new(plan: Arc<LinkPlan>) -> Self {
        let mut tree = Tree::new(if plan.strict { Order::Priority } else { Order::Share });
        let mut leaves = Vec::with_capacity(plan.classes.len());
        for class in &plan.classes {
            // Position 0 of the tree is above all classes.
            let parent = class.parent.map_or(super::tree::TOP, |parent| parent + 1);
            tree.add(
                parent,
                ClassCurves {
                    realtime: class.realtime,
                    share: class.share,
                    limit: class.limit,
                    priority: class.priority,
                },
            );
            leaves.push(match &class.flows {
                _ if !class.leaf => Leaf::Branch,
                Some(flows) => Leaf::Flows(FlowQueue::new(flows, class.qlimit)),
                None => Leaf::Fifo(Fifo::new(class.qlimit)),
            });
        }
        Self { plan, tree, leaves, waiting: 0, waiting_octets: 0 }
    }

    /// What the queues are made from.
    pub const fn plan(&self) -> &Arc<LinkPlan> {
        &self.plan
    }

    /// Packets that wait; a super-packet is one.
    pub const fn len(&self) -> usize {
        self.waiting
    }

    /// Adds a packet to a queue, or to the default one when this interface has no leaf of that
    /// name. What is dropped for it, maybe the packet itself, goes to `dropped`.
    pub fn push(&mut self, queue: Option<QueueId>, packet: Waiting<T>, dropped: &mut Vec<T>) {
        let named = queue.and_then(|queue| self.plan.by_id.get(&queue).copied());
        let named = named.filter(|&at| self.plan.classes[at].leaf);
        let Some(at) = named.or(self.plan.default) else {
            dropped.push(packet.item);
            return;
        };
        let counters = &self.plan.classes[at].counters;
        let charge = packet.charge;
        if self.waiting_octets + u64::from(charge.octets) > OCTETS_MAX {
            counters.refused(charge);
            dropped.push(packet.item);
            return;
        }
        let now = packet.since.as_nanos();
        let leaf = &mut self.leaves[at];
        let was_empty = leaf.next_octets().is_none();
        let lost = match leaf {
            Leaf::Branch => Some(packet),
            Leaf::Fifo(fifo) => match fifo.push(packet) {
                Err(packet) => {
                    counters.refused(charge);
                    dropped.push(packet.item);
                    return;
                }
                Ok(()) => None,
            },
            Leaf::Flows(flows) => flows.push(packet),
        };
        counters.came(charge);
        self.waiting += 1;
        self.waiting_octets += u64::from(charge.octets);
        if let Some(lost) = lost {
            counters.dropped(lost.charge);
            self.waiting -= 1;
            self.waiting_octets -= u64::from(lost.charge.octets);
            dropped.push(lost.item);
        }
        match leaf.next_octets() {
            Some(octets) if was_empty => self.tree.activate(at + 1, octets, now),
            _ => {}
        }
    }

    /// The packet to send now. What CoDel drops goes to `dropped`.
    pub fn pop(&mut self, now: Uptime, dropped: &mut Vec<T>) -> Next<T> {
        loop {
            let (leaf, urgent) = match self.tree.turn(now.as_nanos()) {
                Turn::Leaf { leaf, urgent } => (leaf, urgent),
                Turn::Wait(until) => return Next::Wait(Uptime::from_nanos(until)),
                Turn::Idle => return Next::Idle,
            };
            let at = leaf - 1;
            let counters = &self.plan.classes[at].counters;
            let (waiting, waiting_octets) = (&mut self.waiting, &mut self.waiting_octets);
            let queue = &mut self.leaves[at];
            let packet = queue.pop(now, &mut |lost| {
                counters.dropped(lost.charge);
                *waiting -= 1;
                *waiting_octets -= u64::from(lost.charge.octets);
                dropped.push(lost.item);
            });
            let octets = packet.as_ref().map_or(0, |packet| packet.charge.octets);
            let next = queue.next_octets();
            self.tree.sent(leaf, octets, urgent, next, now.as_nanos());
            if let Some(packet) = packet {
                counters.sent(packet.charge);
                self.waiting -= 1;
                self.waiting_octets -= u64::from(octets);
                return Next::Packet(packet.item);
            }
        }
    }

    /// Takes everything out that waits, queue by queue, each in its order.
    pub fn drain(mut self, mut each: impl FnMut(Option<QueueId>, Waiting<T>)) {
        for (class, leaf) in self.plan.classes.iter().zip(&mut self.leaves) {
            while let Some(packet) = leaf.take() {
                class.counters.left(packet.charge);
                each(class.id, packet);
            }
        }
    }
}

impl<T> Leaf<T> {
    fn pop(&mut self, now: Uptime, dropped: &mut impl FnMut(Waiting<T>)) -> Option<Waiting<T>> {
        match self {
            Self::Branch => None,
            Self::Fifo(fifo) => fifo.pop(),
            Self::Flows(flows) => flows.pop(now, dropped),
        }
    }

    fn take(&mut self) -> Option<Waiting<T>> {
        match self {
            Self::Branch => None,
            Self::Fifo(fifo) => fifo.pop(),
            Self::Flows(flows) => flows.take(),
        }
    }

    fn next_octets(&self) -> Option<u32> {
        match self {
            Self::Branch => None,
            Self::Fifo(fifo) => fifo.next_octets(),
            Self::Flows(flows) => flows.next_octets(),
        }
    }
}
