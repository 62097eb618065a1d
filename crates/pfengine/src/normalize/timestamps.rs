//! `scrub (reassemble tcp)`: time to live and timestamps of a connection.
//!
//! The time to live of each end never falls, so that nobody can make packets die between the
//! filter and their receiver. Timestamps are shifted by a random number per end, which hides how
//! long a host has run, and packets with timestamps that the connection cannot have are dropped
//! (PAWS, RFC 7323 section 5). In spite of the name nothing is reassembled.
//!
//! Life-cycle: made with the state of the connection, one record per end with its first packet;
//! nothing is known of timestamps unless both SYNs were seen.
//! Invariant: `tsval`, `tsecr` and `tsval0` are numbers as their sender wrote them, not shifted.
//! Source: OpenBSD sys/net/pf_norm.c `pf_normalize_tcp_init`, `pf_normalize_tcp_stateful`.

use pfapi::addr::Af;
use pfapi::reason::Reason;
use pfapi::units::Uptime;

use crate::packet::Packet;
use crate::packet_desc::{PacketDesc, TcpDesc, u16_at, u32_at};
use crate::rng::Rng;
use crate::seq::SeqNum;
use crate::wire::build::TCP_HEADER;
use crate::wire::build::flags::{RST, SYN};
use crate::wire::checksum::Delta;
use crate::wire::tcp_options;

/// Seconds of silence after which the timestamps of an end say nothing any more: the fastest
/// clock of RFC 7323, 1 ms, is round after 24 days.
const IDLE_MAX_S: u64 = 24 * 24 * 60 * 60;
/// Age of a connection in seconds after which half of the clock's circle has passed.
const AGE_MAX_S: u64 = 12 * 24 * 60 * 60;
/// Ticks per second of the fastest clock, with some tolerance.
const TICKS_PER_S: u64 = 1_100;
/// Microseconds per tick of that clock.
const MICROS_PER_TICK: u64 = 1_000_000 / TICKS_PER_S;

const TCP_CHECKSUM_AT: usize = 16;

/// What is known of the timestamps of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timestamps {
    /// The end that sent the first packet.
    pub src: Option<End>,
    /// The other end.
    pub dst: Option<End>,
}

/// What is known of one end.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Highest time to live or hop limit seen.
    ttl: u8,
    clock: Option<Clock>,
}

/// The timestamps of an end whose SYN carried one.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// Added to the timestamps of this end.
    shift: u32,
    /// Latest timestamp, latest echo, and the lowest timestamp before PAWS began.
    tsval: SeqNum,
    tsecr: SeqNum,
    tsval0: SeqNum,
    last: Uptime,
    paws: Paws,
    data: Data,
}

/// Whether the timestamps of an end can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paws {
    /// None of its packets has echoed a timestamp.
    NotYet,
    Active,
    /// The clock may have gone round.
    Over,
}

/// Whether data packets carry timestamps, by the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Data {
    None,
    Stamped,
    Bare,
}

/// What the connection is besides its timestamps.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// Whether the packet flows in the direction of the first one.
    pub forward: bool,
    /// Whether both ends are established or further, before this packet.
    pub established: bool,
    /// When the state was made.
    pub created: Uptime,
    /// Timeout `tcp.tsdiff`, in seconds.
    pub tsdiff_s: u32,
}

impl End {
    /// Reads the first packet of an end.
    pub fn new(
        packet: &Packet,
        desc: &PacketDesc,
        tcp: &TcpDesc,
        now: Uptime,
        rng: &mut Rng,
    ) -> Self {
        let stamp = find(&packet.data()[desc.l4..desc.l4 + tcp.header]).0;
        let clock = stamp.filter(|_| tcp.has(SYN)).map(|stamp| Clock {
            shift: rng.next_u32(),
            tsval: stamp.tsval,
            tsecr: stamp.tsecr,
            tsval0: stamp.tsval,
            last: now,
            paws: Paws::NotYet,
            data: Data::None,
        });
        Self { ttl: packet.data()[ttl_at(desc.af)], clock }
    }

    /// Added to the timestamps of this end on their way.
    pub fn shift(&self) -> u32 {
        self.clock.map_or(0, |clock| clock.shift)
    }

    /// Latest timestamp of this end, as it wrote it; `None` when its SYN had none.
    pub fn latest(&self) -> Option<u32> {
        self.clock.map(|clock| clock.tsval.0)
    }

    /// Begins again with the time to live of `packet`.
    pub fn begin_with(&mut self, packet: &Packet, af: Af) {
        self.ttl = packet.data()[ttl_at(af)];
    }

    fn is_checked(end: Option<&Self>) -> bool {
        end.and_then(|end| end.clock.as_ref()).is_some_and(|clock| clock.paws == Paws::Active)
    }
}

impl Clock {
    /// Stops the checks when the clock may have gone round.
    fn age(&mut self, now: Uptime, too_old: bool) {
        let idle = now.secs_since(self.last) > IDLE_MAX_S;
        if self.paws == Paws::Active && (idle || too_old) {
            self.paws = Paws::Over;
        }
    }

    /// Moves on with a timestamp of this end.
    fn learn(&mut self, stamp: &Stamp, now: Uptime) {
        if self.paws == Paws::Over {
            return;
        }
        self.last = now;
        let first = self.paws == Paws::NotYet;
        if first || stamp.tsval.is_at_or_after(self.tsval) {
            self.tsval = stamp.tsval;
        }
        if stamp.tsecr == SeqNum(0) {
            return;
        }
        if first || stamp.tsecr.is_at_or_after(self.tsecr) {
            self.tsecr = stamp.tsecr;
        }
        if first && (!stamp.tsval.is_at_or_after(self.tsval0) || self.tsval0 == SeqNum(0)) {
            self.tsval0 = stamp.tsval;
        }
        self.paws = Paws::Active;
    }
}

/// Timestamps of two ends that have shaken hands with the filter, each as its end wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Of the client: the earliest that the server was told, and the latest.
    pub client: (u32, u32),
    /// Of the server's SYN|ACK.
    pub server: u32,
    /// What the client was told in its place.
    pub told: u32,
}

impl Timestamps {
    /// The record of a connection that the filter has joined: checks begin at once, since both ends
    /// have echoed a timestamp. `client` is the end as its first packet has shown it, `packet` the
    /// server's SYN|ACK; without `stamps` the time to live alone is looked after.
    pub fn of_joined(
        client: &End,
        (packet, af): (&Packet, Af),
        stamps: Option<Introduction>,
        now: Uptime,
    ) -> Self {
        let clock = |shift, tsval0, tsval, tsecr| Clock {
            shift,
            tsval: SeqNum(tsval),
            tsecr: SeqNum(tsecr),
            tsval0: SeqNum(tsval0),
            last: now,
            paws: Paws::Active,
            data: Data::None,
        };
        let (src, dst) = stamps.map_or((None, None), |stamps| {
            let Introduction { client: (first, latest), server, told } = stamps;
            let src = clock(client.shift(), first, latest, server);
            (Some(src), Some(clock(told.wrapping_sub(server), server, server, first)))
        });
        Self {
            src: Some(End { clock: src, ..*client }),
            dst: Some(End { ttl: packet.data()[ttl_at(af)], clock: dst }),
        }
    }

    /// Puts the packet right, or says why it is dropped; `packet` may be changed then, too.
    ///
    /// # Errors
    /// [`Reason::BadTimestamp`].
    pub fn normalize(
        &mut self,
        packet: &mut Packet,
        desc: &PacketDesc,
        tcp: &TcpDesc,
        connection: &Connection,
        now: Uptime,
    ) -> Result<(), Reason> {
        let (sender, receiver) = if connection.forward {
            (&mut self.src, &mut self.dst)
        } else {
            (&mut self.dst, &mut self.src)
        };
        if let Some(sender) = sender {
            sender.ttl = raise_ttl(packet, desc.af, sender.ttl);
        }
        let sender_shift = sender.and_then(|end| end.clock).map(|clock| clock.shift);
        let receiver_shift = receiver.and_then(|end| end.clock).map(|clock| clock.shift);
        let mut stamp = None;
        if sender_shift.is_some() || receiver_shift.is_some() {
            let (found, several) = find(&packet.data()[desc.l4..desc.l4 + tcp.header]);
            if several {
                return Err(Reason::BadTimestamp);
            }
            stamp =
                found.map(|found| shift(packet, desc.l4, tcp, found, sender_shift, receiver_shift));
        }
        if let Some(clock) = sender.as_mut().and_then(|end| end.clock.as_mut()) {
            clock.age(now, now.secs_since(connection.created) > AGE_MAX_S);
        }
        if let Some(clock) = receiver.as_mut().and_then(|end| end.clock.as_mut()) {
            clock.age(now, false);
        }
        let checked = End::is_checked(sender.as_ref()) && End::is_checked(receiver.as_ref());
        let clocks = (
            sender.as_mut().and_then(|end| end.clock.as_mut()),
            receiver.as_ref().and_then(|end| end.clock.as_ref()),
        );
        let (Some(sender), receiver) = clocks else { return Ok(()) };
        let is_bad = match (&stamp, receiver) {
            (Some(stamp), Some(receiver)) if checked && connection.established => {
                !is_plausible(stamp, sender, receiver, connection, now)
            }
            // Only data must have one: some hosts send none in empty segments.
            (None, Some(_)) if checked && !tcp.has(RST) => {
                tcp.payload > 0 && sender.data == Data::Stamped
            }
            _ => false,
        };
        if is_bad {
            return Err(Reason::BadTimestamp);
        }
        if tcp.payload > 0 && sender.data == Data::None {
            sender.data = if stamp.is_some() { Data::Stamped } else { Data::Bare };
        }
        if let Some(stamp) = &stamp {
            sender.learn(stamp, now);
        }
        Ok(())
    }
}

/// Whether a timestamp can be one of this connection.
fn is_plausible(
    stamp: &Stamp,
    sender: &Clock,
    receiver: &Clock,
    connection: &Connection,
    now: Uptime,
) -> bool {
    let micros = now.nanos_since(sender.last) / 1_000;
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let ahead = (seconds + u64::from(connection.tsdiff_s)) * TICKS_PER_S + micros / MICROS_PER_TICK;
    let latest = sender.tsval.advance(u32::try_from(ahead).unwrap_or(u32::MAX));
    let echo_fits = stamp.tsecr == SeqNum(0)
        || receiver.tsval.is_at_or_after(stamp.tsecr)
            && stamp.tsecr.is_at_or_after(receiver.tsval0);
    stamp.tsval.is_at_or_after(receiver.tsecr) && latest.is_at_or_after(stamp.tsval) && echo_fits
}

/// A timestamp option.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    /// Where its numbers begin, in octets from the TCP header.
    at: usize,
    tsval: SeqNum,
    tsecr: SeqNum,
}

/// The first timestamp option of a TCP header, and whether there are several.
fn find(header: &[u8]) -> (Option<Stamp>, bool) {
    let mut stamps = tcp_options::options(&header[TCP_HEADER..]).filter_map(|option| {
        let (tsval, tsecr) = option.timestamps()?;
        let at = TCP_HEADER + option.offset + 2;
        Some(Stamp { at, tsval: SeqNum(tsval), tsecr: SeqNum(tsecr) })
    });
    (stamps.next(), stamps.next().is_some())
}

/// Shifts the timestamps of a packet: its own by that of its sender, the echo back by that of its
/// receiver. Gives the numbers as the two ends know them.
fn shift(
    packet: &mut Packet,
    l4: usize,
    tcp: &TcpDesc,
    stamp: Stamp,
    sender: Option<u32>,
    receiver: Option<u32>,
) -> Stamp {
    let complete = !packet.meta.offload.is_partial_at(l4);
    let header = &mut packet.data_mut()[l4..l4 + tcp.header];
    let mut delta = Delta::NONE;
    let mut write = |header: &mut [u8], at: usize, new: SeqNum| {
        delta = delta.and(Delta::u32(u32_at(header, at), new.0).at(at));
        header[at..at + 4].copy_from_slice(&new.0.to_be_bytes());
    };
    let mut known = stamp;
    if let Some(by) = sender.filter(|_| stamp.tsval != SeqNum(0)) {
        write(header, stamp.at, stamp.tsval.advance(by));
    }
    if let Some(by) = receiver.filter(|_| stamp.tsecr != SeqNum(0)) {
        known.tsecr = stamp.tsecr.retreat(by);
        write(header, stamp.at + 4, known.tsecr);
    }
    // A partial checksum covers only the pseudo-header.
    if complete {
        let sum = delta.complete(u16_at(header, TCP_CHECKSUM_AT));
        header[TCP_CHECKSUM_AT..TCP_CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
    }
    known
}

const fn ttl_at(af: Af) -> usize {
    match af {
        Af::Inet => 8,
        Af::Inet6 => 7,
    }
}

/// Raises the time to live of a packet to `least`; gives the higher of both.
fn raise_ttl(packet: &mut Packet, af: Af, least: u8) -> u8 {
    let data = packet.data_mut();
    let ttl = data[ttl_at(af)];
    if ttl >= least {
        return ttl;
    }
    if af == Af::Inet {
        let old = u16_at(data, 8);
        let new = u16::from(least) << 8 | old & 0xff;
        let sum = Delta::u16(old, new).complete(u16_at(data, 10));
        data[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    data[ttl_at(af)] = least;
    least
}

#[cfg(test)]
mod tests;
