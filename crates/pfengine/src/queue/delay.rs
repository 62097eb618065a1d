//! Packets of `set delay`, until their time has come.
//!
//! Source: OpenBSD sys/net/pf.c `pf_delay_pkt`, `pf_pktenqueue_delayed`.

use core::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use pfapi::units::Uptime;

/// Packets by the moment at which they go on; those of the same moment in the order of arrival.
#[derive(Debug)]
pub struct DelayLine<T> {
    heap: BinaryHeap<Reverse<Delayed<T>>>,
    arrivals: u64,
    limit: usize,
}

#[derive(Debug)]
struct Delayed<T> {
    due: Uptime,
    arrival: u64,
    item: T,
}

impl<T> DelayLine<T> {
    /// Room for `limit` packets.
    pub const fn new(limit: usize) -> Self {
        Self { heap: BinaryHeap::new(), arrivals: 0, limit }
    }

    /// Changes the room; what is there stays.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Keeps a packet, or gives it back when there is no room.
    pub fn push(&mut self, due: Uptime, item: T) -> Result<(), T> {
        if self.heap.len() >= self.limit {
            return Err(item);
        }
        self.arrivals += 1;
        self.heap.push(Reverse(Delayed { due, arrival: self.arrivals, item }));
        Ok(())
    }

    /// A packet whose time has come.
    pub fn pop(&mut self, now: Uptime) -> Option<T> {
        if self.due()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(delayed)| delayed.item)
    }

    /// When the next packet goes on.
    pub fn due(&self) -> Option<Uptime> {
        self.heap.peek().map(|Reverse(first)| first.due)
    }

    /// Packets that wait.
    pub fn len(&self) -> usize {
        self.heap.len()
    }
}

impl<T> Ord for Delayed<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.arrival).cmp(&(other.due, other.arrival))
    }
}

impl<T> PartialOrd for Delayed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Delayed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Delayed<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_by_time_then_arrival_and_room_is_bounded() {
        let mut line = DelayLine::new(3);
        let at = Uptime::from_secs;
        line.push(at(5), 'a').unwrap();
        line.push(at(3), 'b').unwrap();
        line.push(at(3), 'c').unwrap();
        assert_eq!(line.push(at(1), 'd'), Err('d'));
        assert_eq!((line.due(), line.pop(at(2))), (Some(at(3)), None));
        assert_eq!(
            [line.pop(at(9)), line.pop(at(9)), line.pop(at(4))],
            [Some('b'), Some('c'), None]
        );
        assert_eq!((line.pop(at(5)), line.due()), (Some('a'), None));
    }
}
