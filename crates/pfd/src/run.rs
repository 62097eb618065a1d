//! The engine thread: packets in, two passes of the filter with the router between them, packets
//! out.
//!
//! Life-cycle: [`run`] holds the devices from the start until it is told to stop.
//! Invariants: work per turn is bounded by the batch and [`OUTPUTS_PER_TURN`]; nothing is
//! allocated per packet.

mod outbound;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pfapi::units::{Direction, Uptime};
use pfengine::{Batch, Gso, Output, Packet, Verdict, Worker};

use outbound::Outbound;

use crate::io::IoLoop;
use crate::log;
use crate::outlet::{Outlet, Queued};
use crate::pflog::PacketLog;
use crate::ports::Ports;
use crate::router::{
    Before, Event, FragmentError, Onward, Original, Router, fragment, is_v6, refragment,
};
use crate::segment::Segmenter;

/// Longest sleep of the engine thread: a load on another thread may have made something due.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Packets that the filter made and that are sent in one turn; the others wait for the next.
pub const OUTPUTS_PER_TURN: usize = 4 * Batch::SIZE;

/// Monotonic time since the daemon's start; copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts at zero.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// What the wall clock shows, in nanoseconds since 1970.
    #[must_use]
    pub fn unix_nanos() -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Time since the start.
    #[must_use]
    pub fn now(self) -> Uptime {
        Uptime::from_nanos(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
/// Rounds of a turn through the outbound rules: packets, what answers those that go no way, and
/// what answers an answer. An error about an error there is not.
const ROUNDS_MAX: usize = 4;

/// Moves packets until `stop` is set; whoever sets it wakes the loop afterwards.
///
/// # Errors
/// When the kernel refuses packet I/O altogether.
pub fn run(
    mut io: IoLoop,
    worker: Worker,
    router: Router,
    clock: Clock,
    packet_log: &PacketLog,
    stop: &Arc<AtomicBool>,
) -> io::Result<()> {
    let mut forwarder = Forwarder::new(worker, router);
    let mut batch = Batch::new();
    let mut told_s = u64::MAX;
    while !stop.load(Relaxed) {
        let timeout = forwarder.timeout(clock.now());
        io.turn(&mut batch, Some(timeout))?;
        // The wall clock may be set at any time; cookies follow it.
        let now = clock.now();
        if now.as_secs() != told_s {
            told_s = now.as_secs();
            forwarder.path.worker.engine().set_unix_time(Clock::unix_nanos(), now);
        }
        forwarder.turn(clock.now(), &mut batch, &mut io);
        packet_log.take(&mut forwarder.path.worker);
    }
    Ok(())
}

/// The path of packets between the devices, without the devices.
#[derive(Debug)]
pub struct Forwarder {
    path: Path,
    outlet: Outlet,
}

/// From where packets come in to where they wait for their turn to leave.
#[derive(Debug)]
struct Path {
    worker: Worker,
    router: Router,
    /// Packets on their way to the outbound rules.
    outbound: Outbound,
    /// Those that are there; empty between two rounds.
    leaving: Outbound,
    /// Errors on their way through the inbound rules.
    inbound: Batch,
    /// Whether the filter has more to send than one turn allowed.
    backlog: bool,
}

impl Forwarder {
    /// A path through this worker and router.
    #[must_use]
    pub fn new(worker: Worker, router: Router) -> Self {
        let outlet = Outlet::new(worker.engine().flow_key());
        let (outbound, leaving) = (Outbound::new(), Outbound::new());
        let inbound = Batch::new();
        let path = Path { worker, router, outbound, leaving, inbound, backlog: false };
        Self { path, outlet }
    }

    /// How long nothing has to be done when no packet comes.
    #[must_use]
    pub fn timeout(&self, now: Uptime) -> Duration {
        if self.path.backlog {
            return Duration::ZERO;
        }
        let timeouts = [self.path.worker.poll_timeout(), self.outlet.poll_timeout(now)];
        let due = timeouts.into_iter().flatten().min();
        due.map_or(SLEEP_MAX, |due| Duration::from_nanos(due.nanos_since(now)).min(SLEEP_MAX))
    }

    /// Brings every packet of `batch` to its end and does what is due; leaves `batch` empty.
    pub fn turn(&mut self, now: Uptime, batch: &mut Batch, ports: &mut impl Ports) {
        if self.path.worker.has_new_queues(self.outlet.plan()) {
            self.outlet.reload(now, self.path.worker.queues());
        }
        let mut queued = Queued { outlet: &mut self.outlet, ports, now };
        self.path.turn(now, batch, &mut queued);
        self.outlet.turn(now, ports);
        for _ in 0..self.outlet.take_drops() {
            self.path.router.count(Event::DelayFull);
        }
    }
}

impl Path {
    /// Brings every packet of `batch` to the devices or their queues and does what is due.
    fn turn(&mut self, now: Uptime, batch: &mut Batch, ports: &mut impl Ports) {
        let router = &self.router;
        for noise in batch.packets.extract_if(.., |packet| !router.admit(packet)) {
            ports.recycle(noise);
        }
        self.worker.process(now, batch);
        for packet in batch.packets.drain(..) {
            self.after_inbound(now, packet, ports);
        }
        self.pass_out(now, ports);
        if self.worker.poll_timeout().is_some_and(|due| due <= now) {
            self.worker.handle_timeout(now);
        }
        self.drain_outputs(now, ports);
    }

    /// Routes what passed; the rest ends here.
    fn after_inbound(&mut self, now: Uptime, mut packet: Packet, ports: &mut impl Ports) {
        match packet.meta.verdict {
            Verdict::Pass => {
                self.send_copy(&packet, ports);
                let arrival = packet.meta.interface;
                if self.router.may_not_fit(&packet) {
                    self.outbound.keep(&packet);
                }
                match self.router.forward(now, &mut packet) {
                    Onward::Forwarded => self.outbound.push(packet, Some(arrival)),
                    end => {
                        self.outbound.forget();
                        self.finish(end, packet, ports);
                    }
                }
            }
            Verdict::Answer => self.send_unfiltered(packet, ports),
            Verdict::Drop(_) | Verdict::Held => ports.recycle(packet),
        }
    }

    /// Sends what the router has made of a packet through the rules for it.
    fn finish(&mut self, end: Onward, packet: Packet, ports: &mut impl Ports) {
        match (end, packet.meta.direction) {
            (Onward::Nothing, _) => ports.recycle(packet),
            (_, Direction::Out) => self.outbound.push(packet, None),
            (_, Direction::In) => self.inbound.packets.push(packet),
        }
    }

    /// Takes everything in `outbound` through the outbound rules and sends what passes; then what
    /// the router has answered on the way.
    fn pass_out(&mut self, now: Uptime, ports: &mut impl Ports) {
        for _ in 0..ROUNDS_MAX {
            self.take_back_in(now, ports);
            if self.outbound.is_empty() {
                return;
            }
            self.pass_out_once(now, ports);
        }
        debug_assert!(self.outbound.is_empty() && self.inbound.packets.is_empty());
    }

    fn pass_out_once(&mut self, now: Uptime, ports: &mut impl Ports) {
        std::mem::swap(&mut self.outbound, &mut self.leaving);
        self.worker.process(now, &mut self.leaving.batch);
        let mut leaving = std::mem::take(&mut self.leaving);
        leaving.drain(|packet, before, original| match packet.meta.verdict {
            Verdict::Pass => self.leave(now, packet, before, original, ports),
            Verdict::Answer => self.send_unfiltered(packet, ports),
            Verdict::Drop(_) | Verdict::Held => ports.recycle(packet),
        });
        // The lists go back with their memory.
        self.leaving = leaving;
    }

    /// Takes errors about packets of another family back in, from where their states bring them
    /// to the sender. An error causes none, so nothing is left for another round.
    fn take_back_in(&mut self, now: Uptime, ports: &mut impl Ports) {
        if self.inbound.packets.is_empty() {
            return;
        }
        let mut inbound = std::mem::take(&mut self.inbound);
        self.worker.process(now, &mut inbound);
        for packet in inbound.packets.drain(..) {
            self.after_inbound(now, packet, ports);
        }
        for packet in self.inbound.packets.drain(..) {
            ports.recycle(packet);
        }
        self.inbound = inbound;
    }

    /// Sends a packet that passed the outbound rules.
    fn leave(
        &mut self,
        now: Uptime,
        mut packet: Packet,
        before: Before,
        original: Option<Original<'_>>,
        ports: &mut impl Ports,
    ) {
        self.send_copy(&packet, ports);
        match self.router.depart(now, &mut packet, before, original) {
            Onward::Forwarded => self.send(packet, ports),
            end => self.finish(end, packet, ports),
        }
    }

    /// Sends a copy where `dup-to` says.
    fn send_copy(&self, packet: &Packet, ports: &mut impl Ports) {
        let Some(hop) = packet.meta.next_hop.filter(|hop| hop.copy) else { return };
        let Some(interface) = self.router.route_of(hop) else {
            return self.router.count(Event::NoRoute);
        };
        let Some(mut copy) = ports.buffer() else { return self.router.count(Event::NoBuffer) };
        copy.fill(packet.data());
        let mark = copy.meta.mark;
        copy.meta = packet.meta;
        copy.meta.mark = mark;
        copy.meta.interface = interface;
        copy.meta.direction = Direction::Out;
        self.send(copy, ports);
    }

    /// Sends the filter's own packets.
    fn drain_outputs(&mut self, now: Uptime, ports: &mut impl Ports) {
        self.backlog = false;
        for _ in 0..OUTPUTS_PER_TURN {
            let (small, filtered, next_hop, marks) = match self.worker.poll_output() {
                Some(Output::Send { packet, filtered, next_hop, marks }) => {
                    (packet, filtered, next_hop, marks)
                }
                Some(Output::Event(event)) => {
                    log::warn(&event.to_string());
                    continue;
                }
                None => {
                    self.pass_out(now, ports);
                    return;
                }
            };
            let Some(mut packet) = ports.buffer() else {
                self.router.count(Event::NoBuffer);
                continue;
            };
            packet.fill(small.data());
            packet.meta.offload = small.offload();
            packet.meta.start();
            packet.meta.next_hop = next_hop;
            packet.meta.put_marks(marks);
            if !filtered {
                self.send_unfiltered(packet, ports);
                continue;
            }
            self.send_copy(&packet, ports);
            let Some(interface) = self.router.way_out(&packet) else {
                ports.recycle(packet);
                continue;
            };
            packet.meta.interface = interface;
            packet.meta.direction = Direction::Out;
            self.outbound.push(packet, None);
            if self.outbound.batch.packets.len() >= Batch::SIZE {
                self.pass_out(now, ports);
            }
        }
        self.pass_out(now, ports);
        self.backlog = true;
    }

    /// Sends a packet that the filter made, by its destination or as the rules say.
    fn send_unfiltered(&self, mut packet: Packet, ports: &mut impl Ports) {
        self.send_copy(&packet, ports);
        match self.router.way_out(&packet) {
            Some(interface) => {
                packet.meta.interface = interface;
                packet.meta.direction = Direction::Out;
                self.send(packet, ports);
            }
            None => ports.recycle(packet),
        }
    }

    /// Sends a packet on its interface, in fragments where the link is too small for it or where
    /// it came so.
    fn send(&self, mut packet: Packet, ports: &mut impl Ports) {
        if let Some(cut) = packet.meta.refragment.filter(|_| is_v6(packet.data())) {
            let outcome = refragment(&mut packet, cut, ports);
            return self.finish_cut(outcome, packet, ports);
        }
        let Some(mtu) = self.router.fragment_size(&packet) else {
            let interface = packet.meta.interface;
            return ports.send(interface, packet);
        };
        let outcome = if packet.meta.offload.gso == Gso::None {
            fragment(&mut packet, mtu, ports)
        } else {
            cut_twice(&packet, mtu, ports)
        };
        self.finish_cut(outcome, packet, ports);
    }

    /// Counts what became of a packet that was cut, and gives its buffer back.
    fn finish_cut(
        &self,
        outcome: Result<(), FragmentError>,
        packet: Packet,
        ports: &mut impl Ports,
    ) {
        self.router.count(match outcome {
            Ok(()) => Event::Fragmented,
            Err(FragmentError::NotAllowed) => Event::TooBig,
            Err(FragmentError::NoBuffer) => Event::NoBuffer,
        });
        ports.recycle(packet);
    }
}

/// Cuts a super-packet into segments and these into fragments.
fn cut_twice(packet: &Packet, mtu: usize, ports: &mut impl Ports) -> Result<(), FragmentError> {
    let offload = packet.meta.offload;
    let mut segmenter =
        Segmenter::new(packet.data(), &offload).map_err(|_| FragmentError::NotAllowed)?;
    loop {
        let mut segment = ports.buffer().ok_or(FragmentError::NoBuffer)?;
        segment.meta = packet.meta;
        let outcome = match segmenter.next_into(packet.data(), &mut segment) {
            Ok(true) => fragment(&mut segment, mtu, ports),
            Ok(false) => {
                ports.recycle(segment);
                return Ok(());
            }
            Err(_) => Err(FragmentError::NotAllowed),
        };
        ports.recycle(segment);
        outcome?;
    }
}

#[cfg(test)]
mod tests;
