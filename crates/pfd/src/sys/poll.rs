//! Sleeping until one of a fixed set of descriptors is ready.
//!
//! Not epoll: its callback runs at every packet that a device queues, also while nobody sleeps.
//! The set is kept between calls, so that a sleep allocates nothing.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

/// A descriptor that the set keeps open.
pub trait Source: AsRawFd + Send + Sync {}
impl<T: AsRawFd + Send + Sync> Source for T {}

/// What became of a descriptor during a sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Nothing.
    Quiet,
    /// It can be read.
    Readable,
    /// It is broken: the device behind it is gone.
    Broken,
}

/// A set of descriptors, waited for together.
pub struct Poller {
    entries: Vec<libc::pollfd>,
    // Keeps the numbers in `entries` ours.
    sources: Vec<Arc<dyn Source>>,
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller").field("descriptors", &self.sources.len()).finish_non_exhaustive()
    }
}

impl Poller {
    /// The descriptors, in the order in which [`Self::readiness`] counts them.
    #[must_use]
    pub fn new(sources: Vec<Arc<dyn Source>>) -> Self {
        let entries = sources
            .iter()
            .map(|source| libc::pollfd { fd: source.as_raw_fd(), events: libc::POLLIN, revents: 0 })
            .collect();
        Self { entries, sources }
    }

    /// Sleeps until a descriptor is ready, a signal comes or `timeout` (`None`: never) is over;
    /// says whether a descriptor is ready.
    ///
    /// # Errors
    /// What poll(2) says, interruption excepted.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let timespec = timeout.map(|timeout| libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(timeout.subsec_nanos().cast_signed()),
        });
        let timespec = timespec.as_ref().map_or(ptr::null(), ptr::from_ref);
        let count = self.entries.len() as libc::nfds_t;
        // SAFETY: `entries` is a live array of `count` structures that the call may write to, and
        // `timespec` is null or points at a local that outlives the call. No signal mask is given.
        let ready = unsafe { libc::ppoll(self.entries.as_mut_ptr(), count, timespec, ptr::null()) };
        if ready >= 0 {
            return Ok(ready > 0);
        }
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::Interrupted {
            for entry in &mut self.entries {
                entry.revents = 0;
            }
            return Ok(false);
        }
        Err(error)
    }

    /// What the last sleep said of the descriptor at `position`.
    #[must_use]
    pub fn readiness(&self, position: usize) -> Readiness {
        let events = self.entries[position].revents;
        if events & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0 {
            Readiness::Broken
        } else if events & libc::POLLIN != 0 {
            Readiness::Readable
        } else {
            Readiness::Quiet
        }
    }

    /// Waits for the descriptor at `position` no longer: the call skips negative numbers.
    pub fn forget(&mut self, position: usize) {
        self.entries[position].fd = -1;
        self.entries[position].revents = 0;
    }
}
