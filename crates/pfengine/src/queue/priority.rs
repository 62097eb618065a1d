//! Strict priority: of what waits, the highest level goes first.
//!
//! For interfaces without queues. Source: OpenBSD sys/net/ifq.c `priq_enq`, `priq_deq_begin`;
//! `IFQ_NQUEUES`.

use std::collections::VecDeque;

use super::Waiting;

/// Levels.
const LEVELS: usize = 8;
/// Packets that wait at most: far more than one turn of the sender brings.
const LIMIT: usize = 2048;

/// Packets by level, in the order of arrival within each.
#[derive(Debug)]
pub struct Priority<T> {
    levels: [VecDeque<Waiting<T>>; LEVELS],
    length: usize,
}

impl<T> Default for Priority<T> {
    fn default() -> Self {
        Self { levels: core::array::from_fn(|_| VecDeque::new()), length: 0 }
    }
}

impl<T> Priority<T> {
    /// Adds a packet at a level from 0 to 7; gives the packet that is dropped when all room is
    /// used: the oldest of the lowest level below, else the new one.
    pub fn push(&mut self, level: u8, packet: Waiting<T>) -> Option<Waiting<T>> {
        let level = usize::from(level).min(LEVELS - 1);
        let mut dropped = None;
        if self.length >= LIMIT {
            let Some(lower) = self.levels[..level].iter_mut().find(|queue| !queue.is_empty())
            else {
                return Some(packet);
            };
            dropped = lower.pop_front();
        } else {
            self.length += 1;
        }
        self.levels[level].push_back(packet);
        dropped
    }

    /// The oldest packet of the highest level.
    pub fn pop(&mut self) -> Option<Waiting<T>> {
        let packet = self.levels.iter_mut().rev().find_map(VecDeque::pop_front)?;
        self.length -= 1;
        Some(packet)
    }

    /// Packets that wait.
    pub const fn len(&self) -> usize {
        self.length
    }
}
