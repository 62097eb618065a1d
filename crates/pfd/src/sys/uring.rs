//! Rounds of reads and writes through io_uring.
//!
//! A round is filled with [`Ring::push`], carried out with [`Ring::run`] and emptied with
//! [`Ring::finish`], in the order in which it was filled. Every operation says `RWF_NOWAIT`: a
//! device that has nothing, or no room, answers at once (`O_NONBLOCK` alone would arm a poll and
//! make the round wait). So the kernel carries each out while it takes it in, one after another:
//! packets for one device keep their order.
//!
//! Invariants: the ring owns each buffer from `push` until its completion has been seen; a buffer
//! whose completion cannot be had any more is leaked, never freed.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use io_uring::{IoUring, opcode, types};
use pfengine::Packet;

/// What is done with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is filled from the device.
    Read,
    /// It is sent to the device.
    Write,
}

/// An operation that is over.
#[derive(Debug)]
pub struct Completion {
    /// What was done.
    pub operation: Operation,
    /// Position of the device in the list given to [`Ring::new`].
    pub device: usize,
    /// The buffer, its span as it was.
    pub packet: Packet,
    /// Octets moved, or a negative error number.
    pub result: i32,
}

/// An io_uring and the buffers under way in it.
pub struct Ring {
    uring: IoUring,
    round: Vec<Completion>,
    capacity: usize,
    /// Operations pushed whose completion has not been seen.
    pending: usize,
    enabled: bool,
    // Keeps the registered descriptors from being taken by another file.
    _files: Vec<Arc<File>>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("pending", &self.pending).finish_non_exhaustive()
    }
}

/// Result of an operation not yet over; no error number is as low.
const UNDER_WAY: i32 = i32::MIN;
/// `RWF_NOWAIT`: fail with `EAGAIN` rather than wait.
const NOWAIT: i32 = libc::RWF_NOWAIT;

impl Ring {
    /// A ring for rounds of up to `operations` on `files`.
    ///
    /// The thread that first calls [`Self::run`] is the only one that may call it.
    ///
    /// # Errors
    /// What the kernel says: `EPERM` or `ENOSYS` where io_uring is not allowed.
    pub fn new(files: Vec<Arc<File>>, operations: usize) -> io::Result<Self> {
        let uring = build(u32::try_from(operations).map_err(io::Error::other)?)?;
        let numbers: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        uring.submitter().register_files(&numbers)?;
        let capacity = uring.params().sq_entries() as usize;
        Ok(Self {
            uring,
            round: Vec::with_capacity(capacity),
            capacity,
            pending: 0,
            enabled: false,
            _files: files,
        })
    }

    /// Operations that fit into this round yet.
    #[must_use]
    pub fn room(&self) -> usize {
        self.capacity - self.round.len()
    }

    /// Puts an operation on `octets` of the packet's buffer into the round.
    ///
    /// # Panics
    /// When the round is full, `octets` lies outside the buffer, or the last round is not over.
    pub fn push(
        &mut self,
        operation: Operation,
        device: usize,
        packet: Packet,
        octets: Range<usize>,
    ) {
        assert!(self.room() > 0, "round is full");
        assert!(self.pending == self.round.len(), "the last round is not over");
        let slot = self.round.len();
        self.round.push(Completion { operation, device, packet, result: UNDER_WAY });
        // The pointer is taken from the buffer where it will stay until the round is over.
        let window = &mut self.round[slot].packet.storage_mut()[octets];
        let len = u32::try_from(window.len()).expect("buffers are far smaller than 4 GiB");
        let start = window.as_mut_ptr();
        let file = types::Fixed(u32::try_from(device).expect("few devices"));
        let entry = match operation {
            Operation::Read => opcode::Read::new(file, start, len).rw_flags(NOWAIT).build(),
            Operation::Write => opcode::Write::new(file, start, len).rw_flags(NOWAIT).build(),
        };
        // SAFETY: `start` and `len` describe part of a heap buffer that `round` owns and nobody
        // touches until `finish`, which asserts that every completion was seen; `drop` leaks it
        // otherwise. `round` never grows beyond its capacity, and the buffer would not move if
        // it did. The file is registered.
        let pushed = unsafe { self.uring.submission().push(&entry.user_data(slot as u64)) };
        pushed.expect("a round is no longer than the submission queue");
        self.pending += 1;
    }

    /// Carries the round out; returns when every operation is over.
    ///
    /// # Errors
    /// What the kernel says when it takes no more operations; the ring is of no use then.
    pub fn run(&mut self) -> io::Result<()> {
        if !self.enabled {
            self.uring.submitter().register_enable_rings()?;
            self.enabled = true;
        }
        let mut patience = 1000;
        while self.pending > 0 {
            match self.uring.submit_and_wait(self.pending) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Out of memory for the moment.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && patience > 0 => {
                    patience -= 1;
                }
                Err(error) => return Err(error),
            }
            for entry in self.uring.completion() {
                let slot = usize::try_from(entry.user_data()).unwrap_or(usize::MAX);
                if let Some(completion) = self.round.get_mut(slot)
                    && completion.result == UNDER_WAY
                {
                    completion.result = entry.result();
                    self.pending -= 1;
                }
            }
        }
        Ok(())
    }

    /// Hands out what the round did, in the order in which it was filled; the next may begin.
    ///
    /// # Panics
    /// When the round is not over.
    pub fn finish(&mut self) -> impl Iterator<Item = Completion> + '_ {
        assert!(self.pending == 0, "the round is not over");
        self.round.drain(..)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.pending > 0 {
            // The kernel may still write into these buffers, even after the ring is closed.
            std::mem::forget(std::mem::take(&mut self.round));
        }
        // The kernel takes a closed ring apart when it has time; the devices should go now. A ring
        // that was never used, or whose thread is gone, refuses, and they go a moment later.
        let _ = self.uring.submitter().unregister_files();
    }
}

/// Builds a ring with the cheapest completion that the kernel knows.
///
/// Deferred task work came with Linux 6.1, cooperative with 5.19. The ring starts disabled, so
/// that the thread that uses it, not the one that makes it, becomes its single issuer.
fn build(operations: u32) -> io::Result<IoUring> {
    let deferred = IoUring::builder()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_defer_taskrun()
        .setup_r_disabled()
        .build(operations);
    match deferred {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
        other => return other,
    }
    let cooperative = IoUring::builder().setup_coop_taskrun().setup_r_disabled().build(operations);
    match cooperative {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
        other => return other,
    }
    IoUring::builder().setup_r_disabled().build(operations)
}
