//! Between the engine thread and the thread that writes.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pfengine::{LogRecord, Worker};

use super::file::LogFiles;
use super::ring::Ring;
use crate::log;

/// Octets of records that wait for the writer at most.
const SPOOL: usize = 4 << 20;
/// Records that wait at most.
const RECORDS: usize = 16_384;
/// How often lost records are told at most.
const TELL_PAUSE: Duration = Duration::from_secs(10);

/// The engine thread's end of the packet log; copies are the same log.
#[derive(Clone, Debug)]
pub struct PacketLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    spool: Mutex<Spool>,
    ready: Condvar,
    ring: Mutex<Ring>,
}

/// Records that wait for the writer.
#[derive(Debug, Default)]
struct Spool {
    octets: Vec<u8>,
    entries: Vec<Entry>,
    lost: u64,
    reopen: bool,
    stop: bool,
}

/// One record in the spool.
#[derive(Clone, Copy, Debug)]
struct Entry {
    interface: u8,
    time_us: u64,
    kept: usize,
    len: usize,
}

impl Spool {
    fn push(&mut self, record: &LogRecord<'_>, time_us: u64) {
        let kept = record.octets.len();
        if self.octets.len() + kept > SPOOL || self.entries.len() == RECORDS {
            self.lost += 1;
            return;
        }
        self.octets.extend_from_slice(record.octets);
        let (interface, len) = (record.interface, record.len);
        self.entries.push(Entry { interface, time_us, kept, len });
    }

    fn is_idle(&self) -> bool {
        self.entries.is_empty() && self.lost == 0 && !self.reopen && !self.stop
    }
}

impl PacketLog {
    /// A log that nobody writes yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            spool: Mutex::default(),
            ready: Condvar::new(),
            ring: Mutex::default(),
        }))
    }

    /// Takes over what the worker has logged. Waits for nobody but, for the moment of a swap, the
    /// writer.
    pub fn take(&self, worker: &mut Worker) {
        if !worker.has_log() {
            return;
        }
        let time_us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let time_us = u64::try_from(time_us).unwrap_or(u64::MAX);
        let mut spool = self.spool();
        let lost = worker.drain_log(|record| spool.push(&record, time_us));
        spool.lost += lost;
        drop(spool);
        self.0.ready.notify_one();
    }

    /// The records of late, for who follows.
    pub fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the writer.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn start(&self, files: LogFiles) -> io::Result<Recorder> {
        let log = self.clone();
        let thread =
            thread::Builder::new().name("pflog".to_owned()).spawn(move || log.write(files))?;
        Ok(Recorder { log: self.clone(), thread })
    }

    fn spool(&self) -> MutexGuard<'_, Spool> {
        self.0.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's life.
    fn write(&self, mut files: LogFiles) {
        let mut taken = Spool::default();
        let mut told: Option<SystemTime> = None;
        let mut untold = 0;
        loop {
            taken.octets.clear();
            taken.entries.clear();
            let mut spool = self
                .0
                .ready
                .wait_while(self.spool(), |spool| spool.is_idle())
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut spool.octets, &mut taken.octets);
            std::mem::swap(&mut spool.entries, &mut taken.entries);
            let lost = std::mem::take(&mut spool.lost);
            let (reopen, stop) = (std::mem::take(&mut spool.reopen), spool.stop);
            drop(spool);
            self.publish(&taken, lost, &mut files);
            if reopen {
                files.reopen();
            }
            untold += lost;
            let now = SystemTime::now();
            let silent =
                told.is_none_or(|told| now.duration_since(told).is_ok_and(|age| age >= TELL_PAUSE));
            if untold > 0 && (silent || stop) {
                log::warn(&format!("packet log: {untold} records lost, more than can be written"));
                (told, untold) = (Some(now), 0);
            }
            if stop {
                return;
            }
        }
    }

    fn publish(&self, taken: &Spool, lost: u64, files: &mut LogFiles) {
        let mut ring = self.ring();
        ring.lose(lost);
        let mut at = 0;
        for entry in &taken.entries {
            let octets = &taken.octets[at..at + entry.kept];
            at += entry.kept;
            ring.push(entry.interface, entry.time_us, octets, entry.len);
        }
        drop(ring);
        let mut at = 0;
        for entry in &taken.entries {
            let octets = &taken.octets[at..at + entry.kept];
            at += entry.kept;
            files.add(entry.interface, entry.time_us, octets, entry.len);
        }
        files.flush();
    }
}

impl Default for PacketLog {
    fn default() -> Self {
        Self::new()
    }
}

/// The writer as the daemon's main thread sees it.
#[derive(Debug)]
pub struct Recorder {
    log: PacketLog,
    thread: JoinHandle<()>,
}

impl Recorder {
    /// Opens the files again, for who has moved them away.
    pub fn reopen(&self) {
        self.log.spool().reopen = true;
        self.log.0.ready.notify_one();
    }

    /// Writes what waits and ends the writer.
    pub fn stop(self) {
        self.log.spool().stop = true;
        self.log.0.ready.notify_one();
        if self.thread.join().is_err() {
            log::error("the thread of the packet log panicked");
        }
    }
}
