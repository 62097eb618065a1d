//! What became of packets in the router. The engine thread counts, others read.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A packet was routed from one interface to another; the outbound rules come after that.
    Forwarded,
    /// A packet for the router itself.
    Local,
    /// Source or destination that no packet may have.
    Martian,
    /// Multicast, broadcast and link-local noise.
    Noise,
    /// A header that makes no sense.
    Malformed,
    /// No route to the destination.
    NoRoute,
    /// Time to live or hop limit ran out.
    Expired,
    /// Too big for the next link, and must not be cut.
    TooBig,
    /// A packet was cut into fragments.
    Fragmented,
    /// An ICMP error was not sent: too many in this second.
    ErrorLimited,
    /// A packet was lost because all buffers are in use.
    NoBuffer,
    /// A packet was lost because too many are delayed or ordered by priority.
    DelayFull,
}

impl Event {
    const ALL: [(Self, &'static str); 12] = [
        (Self::Forwarded, "forwarded"),
        (Self::Local, "local"),
        (Self::Martian, "martian"),
        (Self::Noise, "noise"),
        (Self::Malformed, "malformed"),
        (Self::NoRoute, "no-route"),
        (Self::Expired, "ttl-expired"),
        (Self::TooBig, "too-big"),
        (Self::Fragmented, "fragmented"),
        (Self::ErrorLimited, "error-limited"),
        (Self::NoBuffer, "no-buffer"),
        (Self::DelayFull, "delay-full"),
    ];
}

/// One count per [`Event`].
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; Event::ALL.len()]);

impl Counters {
    /// Counts one. Only the engine thread calls this, so a plain store is enough.
    pub(crate) fn count(&self, event: Event) {
        let counter = &self.0[event as usize];
        counter.store(counter.load(Relaxed) + 1, Relaxed);
    }

    /// How often `event` happened.
    #[must_use]
    pub fn get(&self, event: Event) -> u64 {
        self.0[event as usize].load(Relaxed)
    }
}

/// One line: `forwarded 5, local 0, …`
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (event, name)) in Event::ALL.into_iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{name} {}", self.get(event))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_its_own_place() {
        let counters = Counters::default();
        for (at, (event, _)) in Event::ALL.into_iter().enumerate() {
            assert_eq!(event as usize, at);
        }
        counters.count(Event::Martian);
        assert_eq!(counters.get(Event::Martian), 1);
        assert!(counters.to_string().starts_with("forwarded 0, local 0, martian 1, noise 0, "));
    }
}
