//! Half-open connections by destination, counted while somebody asks for them.
//!
//! A connection counts from its first SYN until its initiator's third packet, once for the port and
//! once for the whole address: a flood on random ports shows at the address alone.

use core::sync::atomic::{AtomicBool, Ordering};

use super::destination::{Destination, DestinationSecret, Hashes};
use super::sketch::Sketch;

/// Half-open connections by destination.
#[derive(Debug, Default)]
pub struct Backlog {
    secret: DestinationSecret,
    sketch: Sketch,
    /// Whether connections that begin now are counted; each remembers whether it was.
    counting: AtomicBool,
}

impl Backlog {
    /// Nothing counted yet.
    pub fn new(secret: [u8; 16]) -> Self {
        Self { secret: DestinationSecret(secret), ..Self::default() }
    }

    /// Counts connections from now on, or no more.
    pub fn set_counting(&self, counting: bool) {
        self.counting.store(counting, Ordering::Relaxed);
    }

    /// Whether connections that begin are to be counted.
    pub fn is_counting(&self) -> bool {
        self.counting.load(Ordering::Relaxed)
    }

    /// Hashes of a destination with a port.
    pub fn hashes(&self, destination: &Destination) -> Hashes {
        let port = destination.port.unwrap_or(0);
        self.secret.hashes(destination.af, destination.addr, port)
    }

    /// Counts a connection.
    pub fn add(&self, destination: &Destination) {
        let hashes = self.hashes(destination);
        self.sketch.add(hashes.port);
        self.sketch.add(hashes.address);
    }

    /// Takes back what [`Self::add`] has counted.
    pub fn remove(&self, destination: &Destination) {
        let hashes = self.hashes(destination);
        self.sketch.remove(hashes.port);
        self.sketch.remove(hashes.address);
    }

    /// Half-open connections of one hash, or a few more.
    pub fn count(&self, hash: u64) -> u64 {
        u64::from(self.sketch.count(hash))
    }

    /// Whether nothing is counted but one connection to each of these; for recounts.
    pub fn holds_only(&self, destinations: impl Iterator<Item = Destination>) -> bool {
        let recount = Self { secret: self.secret, ..Self::default() };
        destinations.for_each(|destination| recount.add(&destination));
        recount.sketch == self.sketch
    }
}
