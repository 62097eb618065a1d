//! Honest web client: opens connections, asks, reads to the end, and counts what it did not get.
//!
//! One thread, edge-triggered epoll, a fixed number of slots. A request is ok when the status is
//! 200 and the body is as long as announced; everything else is a failure of a named kind.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};
use serde::Serialize;

use crate::histogram::Histogram;
use crate::sys;

/// A request that takes as long has waited for a retransmission: the first SYN is repeated after
/// one second (RFC 6298, section 2).
pub const STALL: Duration = Duration::from_secs(1);
/// Longest reply head in octets.
const HEAD_MAX: usize = 4096;

/// Whom to ask, how often, and how patiently.
#[derive(Clone, Debug)]
pub struct Options {
    /// Web server.
    pub server: SocketAddr,
    /// What to ask for.
    pub path: String,
    /// Own addresses, taken in turn; empty: the kernel chooses.
    pub sources: Vec<IpAddr>,
    /// Most connections at a time.
    pub concurrent: usize,
    /// Connections per second; `None`: the next starts as one ends.
    pub rate: Option<f64>,
    /// From the start of `connect` to the end of the reply.
    pub timeout: Duration,
    /// No new connections after this time. The last ones may take `timeout` longer.
    pub duration: Duration,
    /// No new connections after this many.
    pub count: Option<u64>,
    /// How often to report.
    pub interval: Duration,
}

/// Requests that failed, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Failures {
    /// No complete reply in time.
    pub timeout: u64,
    /// The connection was refused (RST to the SYN).
    pub refused: u64,
    /// The connection was reset later.
    pub reset: u64,
    /// An ICMP error came.
    pub unreachable: u64,
    /// The reply was cut short or had another status than 200.
    pub bad_reply: u64,
    /// The client itself could not start the connection.
    pub local: u64,
}

impl Failures {
    /// All kinds together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        let Self { timeout, refused, reset, unreachable, bad_reply, local } = *self;
        timeout + refused + reset + unreachable + bad_reply + local
    }

    /// The kinds that occurred, in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        let Self { timeout, refused, reset, unreachable, bad_reply, local } = *self;
        [
            (timeout, "timed out"),
            (refused, "refused"),
            (reset, "reset"),
            (unreachable, "unreachable"),
            (bad_reply, "cut short"),
            (local, "not started"),
        ]
        .into_iter()
        .filter(|&(count, _)| count > 0)
        .map(|(count, kind)| format!("{count} {kind}"))
        .collect::<Vec<_>>()
        .join(", ")
    }

    /// Adds the counts of another stretch.
    pub const fn add(&mut self, other: &Self) {
        self.timeout += other.timeout;
        self.refused += other.refused;
        self.reset += other.reset;
        self.unreachable += other.unreachable;
        self.bad_reply += other.bad_reply;
        self.local += other.local;
    }

    fn count(&mut self, failure: Failure) {
        *match failure {
            Failure::Timeout => &mut self.timeout,
            Failure::Refused => &mut self.refused,
            Failure::Reset => &mut self.reset,
            Failure::Unreachable => &mut self.unreachable,
            Failure::BadReply => &mut self.bad_reply,
            Failure::Local => &mut self.local,
        } += 1;
    }
}

/// Outcome of some stretch of time. A request counts where it ends.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Length of the stretch.
    pub seconds: f64,
    /// Complete replies.
    pub ok: u64,
    /// Others.
    pub failures: Failures,
    /// Microseconds from `connect` to the end of the reply, of complete ones.
    pub latency: Histogram,
    /// Of the complete ones and the others: those that took [`STALL`] or longer.
    pub stalled: u64,
    /// Connections that were due by the rate but had no free slot.
    pub not_started: u64,
}

impl Report {
    /// Adds another stretch.
    pub fn add(&mut self, other: &Self) {
        self.seconds += other.seconds;
        self.ok += other.ok;
        self.failures.add(&other.failures);
        self.latency.merge(&other.latency);
        self.stalled += other.stalled;
        self.not_started += other.not_started;
    }

    /// The form in which reports are printed.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "seconds": self.seconds,
            "ok": self.ok,
            "ok_per_second": self.ok as f64 / self.seconds.max(1e-9),
            "failed": self.failures.total(),
            "failures": self.failures,
            "stalled": self.stalled,
            "not_started": self.not_started,
            "p50_us": self.latency.per_mille(500),
            "p99_us": self.latency.per_mille(990),
            "p999_us": self.latency.per_mille(999),
            "max_us": self.latency.max(),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Timeout,
    Refused,
    Reset,
    Unreachable,
    BadReply,
    Local,
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        match error {
            Errno::CONNREFUSED => Self::Refused,
            Errno::CONNRESET | Errno::PIPE => Self::Reset,
            Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::ACCESS | Errno::PROTO => {
                Self::Unreachable
            }
            Errno::TIMEDOUT => Self::Timeout,
            _ => Self::Local,
        }
    }
}

/// Runs until duration or count is reached or `stop` is set, then waits for the open connections,
/// at most for the timeout. Calls `on_interval` with the outcome of every interval.
///
/// # Errors
///
/// When the options cannot work at all: no descriptors, a source address that is not local.
pub fn run(
    options: &Options,
    stop: &AtomicBool,
    mut on_interval: impl FnMut(&Report),
) -> io::Result<Report> {
    let mut client = Client::new(options)?;
    let mut total = Report::default();
    let mut interval_start = Instant::now();
    let start = interval_start;
    let mut events = Vec::with_capacity(256);
    loop {
        let now = Instant::now();
        client.expire(now);
        let over = now - start >= options.duration
            || stop.load(Ordering::Relaxed)
            || options.count.is_some_and(|count| client.started >= count);
        if !over {
            client.start_due(now)?;
        }
        let finished = over && client.open == 0;
        if finished || now - interval_start >= options.interval {
            let mut report = std::mem::take(&mut client.report);
            report.seconds = (now - interval_start).as_secs_f64();
            interval_start = now;
            on_interval(&report);
            total.add(&report);
        }
        if finished {
            return Ok(total);
        }
        events.clear();
        // Two milliseconds: new starts and timeouts need no finer clock than that.
        let wait = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
        match epoll::wait(&client.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            client.on_event(event.data.u64());
        }
    }
}

struct Connection {
    socket: OwnedFd,
    started: Instant,
    asked: bool,
    reply: Reply,
}

#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    /// Tells events and deadlines of an earlier connection from those of this one.
    generation: u32,
}

struct Client<'a> {
    options: &'a Options,
    request: Vec<u8>,
    epoll: OwnedFd,
    slots: Vec<Slot>,
    free: Vec<u32>,
    open: usize,
    started: u64,
    /// In order of time, as all connections have the same timeout.
    deadlines: VecDeque<(Instant, u64)>,
    next_start: Instant,
    report: Report,
    buffer: Vec<u8>,
}

impl<'a> Client<'a> {
    fn new(options: &'a Options) -> io::Result<Self> {
        let slots = u32::try_from(options.concurrent).unwrap_or(u32::MAX).max(1);
        crate::serve::raise_descriptor_limit();
        Ok(Self {
            options,
            request: format!("GET {} HTTP/1.0\r\nHost: {}\r\n\r\n", options.path, options.server)
                .into_bytes(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            slots: (0..slots).map(|_| Slot::default()).collect(),
            free: (0..slots).rev().collect(),
            open: 0,
            started: 0,
            deadlines: VecDeque::new(),
            next_start: Instant::now(),
            report: Report::default(),
            buffer: vec![0; 64 << 10],
        })
    }

    fn start_due(&mut self, now: Instant) -> io::Result<()> {
        let Some(rate) = self.options.rate else {
            for _ in 0..self.free.len() {
                self.start_counted(now)?;
            }
            return Ok(());
        };
        while self.next_start <= now {
            self.next_start += Duration::from_secs_f64(1.0 / rate);
            if self.free.is_empty() {
                self.report.not_started += 1;
            } else {
                self.start_counted(now)?;
            }
        }
        Ok(())
    }

    fn start_counted(&mut self, now: Instant) -> io::Result<()> {
        if self.options.count.is_some_and(|count| self.started >= count) {
            return Ok(());
        }
        let turn = self.started;
        self.started += 1;
        match self.start(now, turn) {
            Ok(()) => Ok(()),
            Err(error @ (Errno::ADDRNOTAVAIL | Errno::NETUNREACH | Errno::HOSTUNREACH)) => {
                self.report.failures.count(error.into());
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn start(&mut self, now: Instant, turn: u64) -> rustix::io::Result<()> {
        let family =
            if self.options.server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        if !self.options.sources.is_empty() {
            let turn = usize::try_from(turn).unwrap_or(0) % self.options.sources.len();
            sys::bind_address_no_port(&socket).map_err(|_| Errno::INVAL)?;
            // A source that is not local shows here, and ends the run.
            rustix::net::bind(&socket, &SocketAddr::new(self.options.sources[turn], 0))
                .map_err(|error| if error == Errno::ADDRNOTAVAIL { Errno::INVAL } else { error })?;
        }
        match rustix::net::connect(&socket, &self.options.server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let Some(index) = self.free.pop() else { return Ok(()) };
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let token = u64::from(slot.generation) << 32 | u64::from(index);
        let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(token), interest)?;
        slot.connection =
            Some(Connection { socket, started: now, asked: false, reply: Reply::default() });
        self.open += 1;
        self.deadlines.push_back((now + self.options.timeout, token));
        Ok(())
    }

    fn slot_of(&mut self, token: u64) -> Option<&mut Slot> {
        let slot = self.slots.get_mut((token & 0xffff_ffff) as usize)?;
        (u64::from(slot.generation) == token >> 32).then_some(slot)
    }

    fn on_event(&mut self, token: u64) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let request = std::mem::take(&mut self.request);
        if let Some(connection) = self.slot_of(token).and_then(|slot| slot.connection.as_mut())
            && let Some(outcome) = connection.go_on(&request, &mut buffer)
        {
            let latency = connection.started.elapsed();
            self.report.stalled += u64::from(latency >= STALL);
            match outcome {
                Ok(()) => {
                    self.report.ok += 1;
                    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                    self.report.latency.record(micros);
                }
                Err(failure) => self.report.failures.count(failure),
            }
            self.close(token);
        }
        self.buffer = buffer;
        self.request = request;
    }

    fn close(&mut self, token: u64) {
        if let Some(slot) = self.slot_of(token)
            && slot.connection.take().is_some()
        {
            self.open -= 1;
            self.free.push((token & 0xffff_ffff) as u32);
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some(&(deadline, token)) = self.deadlines.front()
            && deadline <= now
        {
            self.deadlines.pop_front();
            if self.slot_of(token).is_some_and(|slot| slot.connection.is_some()) {
                self.report.failures.count(Failure::Timeout);
                self.report.stalled += u64::from(self.options.timeout >= STALL);
                self.close(token);
            }
        }
    }
}

impl Connection {
    /// Does what can be done without waiting; `Some` when the request is over.
    fn go_on(&mut self, request: &[u8], buffer: &mut [u8]) -> Option<Result<(), Failure>> {
        if !self.asked {
            match sockopt::socket_error(&self.socket) {
                Ok(Ok(())) => {}
                Ok(Err(error)) | Err(error) => return Some(Err(error.into())),
            }
            match rustix::net::send(&self.socket, request, SendFlags::NOSIGNAL) {
                Ok(_) => self.asked = true, // A few dozen octets fit into an empty send buffer.
                Err(Errno::AGAIN | Errno::NOTCONN) => return None,
                Err(error) => return Some(Err(error.into())),
            }
        }
        loop {
            match rustix::io::read(&self.socket, &mut *buffer) {
                Ok(0) if self.reply.is_complete() => return Some(Ok(())),
                Ok(0) => return Some(Err(Failure::BadReply)),
                Ok(length) => {
                    if !self.reply.take(&buffer[..length]) {
                        return Some(Err(Failure::BadReply));
                    }
                }
                Err(Errno::AGAIN) => return None,
                Err(Errno::INTR) => {}
                Err(error) => return Some(Err(error.into())),
            }
        }
    }
}

/// An HTTP reply as it comes in.
#[derive(Debug, Default)]
struct Reply {
    head: Vec<u8>,
    /// Octets of the body still missing, once the head is complete.
    missing: Option<u64>,
}

impl Reply {
    /// Takes the next octets; false when they cannot belong to a good reply.
    fn take(&mut self, octets: &[u8]) -> bool {
        let body = if self.missing.is_some() {
            octets.len()
        } else {
            let before = self.head.len();
            self.head.extend_from_slice(&octets[..octets.len().min(HEAD_MAX)]);
            let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
                return self.head.len() < HEAD_MAX;
            };
            let Some(length) = announced_length(&self.head[..end]) else { return false };
            self.missing = Some(length);
            before + octets.len() - (end + 4)
        };
        let left = self.missing.and_then(|missing| missing.checked_sub(body as u64));
        self.missing = left;
        left.is_some()
    }

    fn is_complete(&self) -> bool {
        self.missing == Some(0)
    }
}

/// Content-Length of a reply whose status is 200.
fn announced_length(head: &[u8]) -> Option<u64> {
    let mut lines = core::str::from_utf8(head).ok()?.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?;
    if !status.get(1..)?.starts_with(" 200") {
        return None;
    }
    lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 5\r\n\r\n";

    #[test]
    fn reply_may_come_in_any_pieces() {
        let whole = [HEAD, b"hello"].concat();
        for cut in 0..whole.len() {
            let mut reply = Reply::default();
            assert!(reply.take(&whole[..cut]) && !reply.is_complete(), "{cut}");
            assert!(reply.take(&whole[cut..]) && reply.is_complete(), "{cut}");
        }
    }

    #[test]
    fn short_long_and_strange_replies_are_bad() {
        let mut short = Reply::default();
        assert!(short.take(&[HEAD, b"hell"].concat()) && !short.is_complete());
        assert!(!Reply::default().take(&[HEAD, b"hello!"].concat()));
        assert!(!Reply::default().take(b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n"));
        assert!(!Reply::default().take(&[b'x'; HEAD_MAX]));
        assert!(!Reply::default().take(b"HTTP/1.1 200 OK\r\n\r\n"));
    }

    #[test]
    fn kinds_of_failure_add_up() {
        let mut failures = Failures::default();
        failures.count(Errno::CONNREFUSED.into());
        failures.count(Errno::CONNRESET.into());
        failures.count(Failure::Timeout);
        assert_eq!(failures, Failures { timeout: 1, refused: 1, reset: 1, ..Failures::default() });
        assert_eq!(failures.total(), 3);
    }
}
