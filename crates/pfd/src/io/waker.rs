//! Waking an engine thread that sleeps in its I/O loop.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

/// Ends the sleep of one I/O loop; clones wake the same loop.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?)))
    }

    /// Lets the loop's present or next sleep end at once.
    pub fn wake(&self) {
        // Full counter: the loop is about to wake already.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }

    /// Forgets the wakes so far.
    pub(super) fn clear(&self) {
        // Nothing to read: nobody has woken us.
        let _ = rustix::io::read(&*self.0, &mut [0_u8; 8]);
    }

    pub(super) fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.0)
    }
}
