//! `flows`: every flow has a queue of its own with CoDel, and they take turns.
//!
//! Flows that have just begun go before those that have used their turn up, so that sparse
//! traffic hardly waits. When the queue is full, the flow with most octets loses its oldest packet.
//! Sources: RFC 8290 section 4; OpenBSD sys/net/fq_codel.c.

use std::collections::VecDeque;

use pfapi::units::Uptime;

use super::Waiting;
use super::codel::{Codel, Params};

/// Packets that wait at most when nothing is said. Source: OpenBSD `fqcodel_qlimit`.
pub const QLIMIT_DEFAULT: u32 = 1024;

/// What a queue of flows looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowsPlan {
    /// Flows that are told apart; never zero.
    pub flows: u16,
    /// Octets of one turn; never zero.
    pub quantum: u32,
    /// When packets have waited too long.
    pub target_ns: u64,
    /// For how long.
    pub interval_ns: u64,
}

#[derive(Debug)]
struct Flow<T> {
    codel: Codel<T>,
    /// Octets left of its turn; below zero after a large packet.
    credit: i64,
    listed: bool,
}

/// Flows that take turns.
#[derive(Debug)]
pub struct FlowQueue<T> {
    flows: Box<[Flow<T>]>,
    /// Positions of flows that have just begun.
    fresh: VecDeque<u16>,
    /// Positions of the others.
    old: VecDeque<u16>,
    params: Params,
    quantum: i64,
    /// Packets on the wire that wait.
    length: u32,
    limit: u32,
}

impl<T> FlowQueue<T> {
    /// Room for `limit` packets.
    pub fn new(plan: &FlowsPlan, limit: u32) -> Self {
        let flow = || Flow { codel: Codel::default(), credit: 0, listed: false };
        Self {
            flows: (0..plan.flows.max(1)).map(|_| flow()).collect(),
            fresh: VecDeque::new(),
            old: VecDeque::new(),
            params: Params {
                target_ns: plan.target_ns,
                interval_ns: plan.interval_ns,
                backlog_octets: u64::from(plan.quantum),
            },
            quantum: i64::from(plan.quantum.max(1)),
            length: 0,
            limit,
        }
    }

    /// Adds a packet; gives the one that is dropped for it when the queue is full.
    pub fn push(&mut self, packet: Waiting<T>) -> Option<Waiting<T>> {
        let count = u32::try_from(self.flows.len()).unwrap_or(u32::MAX);
        let at = u16::try_from(packet.flow % count).unwrap_or(0);
        self.length += packet.charge.packets;
        let flow = &mut self.flows[usize::from(at)];
        flow.codel.push(packet);
        if !flow.listed {
            flow.listed = true;
            flow.credit = self.quantum;
            self.fresh.push_back(at);
        }
        if self.length > self.limit { self.drop_longest() } else { None }
    }

    fn drop_longest(&mut self) -> Option<Waiting<T>> {
        let listed = self.fresh.iter().chain(&self.old);
        let longest = listed.max_by_key(|&&at| self.flows[usize::from(at)].codel.octets())?;
        let packet = self.flows[usize::from(*longest)].codel.pop()?;
        self.length -= packet.charge.packets;
        Some(packet)
    }

    /// The packet to send; those that are dropped before it go to `dropped`.
    pub fn pop(&mut self, now: Uptime, dropped: &mut impl FnMut(Waiting<T>)) -> Option<Waiting<T>> {
        loop {
            let is_fresh = !self.fresh.is_empty();
            let list = if is_fresh { &mut self.fresh } else { &mut self.old };
            let at = list.pop_front()?;
            let flow = &mut self.flows[usize::from(at)];
            if flow.credit <= 0 {
                flow.credit += self.quantum;
                self.old.push_back(at);
                continue;
            }
            let length = &mut self.length;
            let packet = flow.codel.dequeue(now, &self.params, &mut |packet| {
                *length -= packet.charge.packets;
                dropped(packet);
            });
            let Some(packet) = packet else {
                // A fresh flow that has nothing more must wait for its turn once, or it could stay
                // fresh by pausing (RFC 8290 section 4.2).
                if is_fresh && !self.old.is_empty() {
                    self.old.push_back(at);
                } else {
                    flow.listed = false;
                }
                continue;
            };
            flow.credit -= i64::from(packet.charge.octets);
            self.length -= packet.charge.packets;
            if is_fresh {
                self.fresh.push_front(at);
            } else {
                self.old.push_front(at);
            }
            return Some(packet);
        }
    }

    /// Any packet, whatever CoDel thinks of it: for emptying the queue.
    pub fn take(&mut self) -> Option<Waiting<T>> {
        loop {
            let list = if self.fresh.is_empty() { &mut self.old } else { &mut self.fresh };
            let at = *list.front()?;
            let flow = &mut self.flows[usize::from(at)];
            if let Some(packet) = flow.codel.pop() {
                self.length -= packet.charge.packets;
                return Some(packet);
            }
            flow.listed = false;
            list.pop_front();
        }
    }

    /// About the octets of the packet that goes next; `None` when nothing waits.
    pub fn next_octets(&self) -> Option<u32> {
        if self.length == 0 {
            return None;
        }
        let mut listed = self.fresh.iter().chain(&self.old);
        listed.find_map(|&at| self.flows[usize::from(at)].codel.next_octets())
    }
}
