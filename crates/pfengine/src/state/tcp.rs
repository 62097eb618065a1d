//! TCP part of a state: which segments belong to it, and when it is over.
//!
//! Life-cycle: made from the first packet, moved only by [`TcpState::track`] and by the handshake
//! proxy, ended by the purge or `pfctl -k`. Each peer is tracked in its own sequence space;
//! `seqdiff` is added to what the peer sends on its way to the other end (connections that went
//! through a SYN cookie). Invariants: `seqlo` never moves back but by a reset handshake; levels
//! never go back. Sources: OpenBSD sys/net/pf.c `pf_create_state`, `pf_tcp_track_full`;
//! Guido van Rooij, "Real stateful TCP packet filtering in IP Filter" (2001).

use core::num::NonZeroU16;

use pfapi::control::PeerReport;
use pfapi::reason::Reason;
use pfapi::timeout::Timeout;

use crate::fault::{self, Fault};
use crate::packet_desc::TcpDesc;
use crate::seq::SeqNum;
use crate::syncookie::servers::Requested;
use crate::wire::build::flags::{ACK, FIN, RST, SYN};

/// Octets by which an acknowledgement may lie off: a full unscaled window and a packet.
/// OpenBSD sys/net/pf.c `MAXACKWINDOW`.
const ACK_SLACK: u32 = 65_535 + 1_500;

/// How far one end of a connection has come.
///
/// The numbers are those of OpenBSD sys/netinet/tcp_fsm.h, with pf's two for the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Nothing seen from this end.
    Closed = 0,
    /// Not used by the filter; the lower end of the range that pf counts as half open.
    Listen = 1,
    /// First packet seen, not acknowledged.
    SynSent = 2,
    /// The other end has acknowledged the first packet.
    Established = 4,
    /// FIN seen.
    Closing = 7,
    /// The FIN was acknowledged.
    FinWait2 = 9,
    /// RST seen.
    TimeWait = 10,
    /// `synproxy state`: the filter has answered the client's SYN and waits for its ACK.
    ProxySrc = 11,
    /// The client has completed its handshake; the server has not answered yet.
    ProxyDst = 12,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// How far it has come.
    pub level: Level,
    /// Whether `seqlo` is known: a packet of this end was seen.
    pub seen: bool,
    /// Highest end of a segment that this end sent.
    pub seqlo: SeqNum,
    /// What the other end allows this one to send; `None` before anything was allowed.
    pub seqhi: Option<SeqNum>,
    /// Largest window that this end announced, in units of its own scale.
    pub max_win: u32,
    /// Window scale, when this end sent the option.
    pub wscale: Option<u8>,
    /// Added to this end's sequence numbers on their way to the other.
    pub seqdiff: u32,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            level: Level::Closed,
            seen: false,
            seqlo: SeqNum(0),
            seqhi: None,
            max_win: 1,
            wscale: None,
            seqdiff: 0,
        }
    }
}

impl Peer {
    /// The peer as pfctl prints it.
    pub fn report(&self) -> PeerReport {
        PeerReport {
            level: self.level as u8,
            seqlo: self.seqlo.0,
            seqhi: self.seqhi.map_or(1, |seqhi| seqhi.0),
            seqdiff: self.seqdiff,
            wscale: self.wscale,
        }
    }

    fn raise(&mut self, level: Level) {
        self.level = self.level.max(level);
    }

    /// Forgets the first packet, so that the next one counts as the first.
    const fn forget(&mut self) {
        self.seen = false;
        self.seqlo = SeqNum(0);
        self.seqhi = None;
        self.max_win = 1;
    }

    /// Allows this end to send up to `limit`, if that is farther than before.
    fn allow(&mut self, limit: SeqNum, at_least: SeqNum) {
        if self.seqhi.is_none_or(|seqhi| limit.is_at_or_after(seqhi)) {
            self.seqhi = Some(at_least);
        }
    }
}

/// TCP part of a state.
#[derive(Clone, Copy, Debug)]
pub struct TcpState {
    /// The end that sent the first packet.
    pub src: Peer,
    /// The other end.
    pub dst: Peer,
    /// MSS that `synproxy state` announces to the client; in `classic` also the one of the SYN to the
    /// server.
    pub proxy_mss: Option<NonZeroU16>,
    /// What the first packet asked for, when it was a SYN.
    pub requested: Requested,
}

/// What the filter must do with an accepted segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Timeout that runs from now on; `None` leaves the clock alone (loose match).
    pub timeout: Option<Timeout>,
    /// Changes of the header.
    pub translation: Translation,
}

/// Changes of sequence numbers on the way through; all zero for most connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// Added to the sequence number.
    pub seq: u32,
    /// Subtracted from the acknowledgement number and from SACK blocks.
    pub ack: u32,
}

/// What becomes of a segment that meets a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracked {
    /// It passes.
    Accept(Accepted),
    /// It is dropped.
    Drop(Reason),
    /// It is dropped, and its sender is told by an RST that its sequence number is off: both
    /// ends are opening and this one has a connection that the filter does not know.
    Reset,
    /// A SYN on an established connection: dropped, and answered by an ACK with these numbers.
    Challenge {
        /// Sequence number of the answer.
        seq: SeqNum,
        /// Acknowledgement number of the answer.
        ack: SeqNum,
    },
    /// The connection is over on both sides and this SYN begins another.
    Reuse,
}

/// A segment as the tracking sees it.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Header.
    pub tcp: &'a TcpDesc,
    /// Window scale option, of SYNs.
    pub wscale: Option<u8>,
    /// Whether it flows in the direction of the first packet.
    pub forward: bool,
    /// A random number, for the end of a modulated connection that speaks for the first time.
    pub random: u32,
}

impl TcpState {
    /// State after the first packet, whatever its flags.
    pub fn new(tcp: &TcpDesc, wscale: Option<u8>) -> Self {
        let syn = tcp.has(SYN);
        let end = SeqNum(tcp.seq).advance(segment_octets(tcp));
        let mut window = u32::from(tcp.window).max(1);
        let wscale = wscale.filter(|_| syn);
        if let Some(shift) = wscale {
            // Windows are kept in scaled units, but that of a SYN is not scaled itself.
            window = window.div_ceil(1 << shift);
        }
        let src = Peer {
            level: Level::SynSent,
            seen: true,
            seqlo: SeqNum(tcp.seq),
            seqhi: Some(end.advance(1)),
            max_win: window,
            wscale,
            seqdiff: 0,
        };
        Self { src, dst: Peer::default(), proxy_mss: None, requested: Requested::default() }
    }

    /// Whether the third packet of the handshake has not come and neither end has closed.
    pub fn is_half_open(&self) -> bool {
        self.src.level == Level::ProxySrc
            || self.src.level.min(self.dst.level) < Level::Established
                && self.src.level.max(self.dst.level) < Level::Closing
    }

    /// Whether both ends have completed the handshake and neither has closed.
    pub fn is_established(&self) -> bool {
        self.src.level == Level::Established && self.dst.level == Level::Established
    }

    /// Whether both ends have closed, so that the ports may be used again.
    pub fn is_closed(&self) -> bool {
        self.src.level >= Level::FinWait2
            && !self.is_proxying()
            && self.dst.level >= Level::FinWait2
    }

    /// Timeout by the levels. Source: OpenBSD sys/net/pf.c `pf_tcp_track_full`.
    pub fn timeout(&self) -> Timeout {
        let low = self.src.level.min(self.dst.level);
        let high = self.src.level.max(self.dst.level);
        if low >= Level::FinWait2 {
            Timeout::TcpClosed
        } else if low >= Level::Closing {
            Timeout::TcpFinwait
        } else if low < Level::Established {
            Timeout::TcpOpening
        } else if high >= Level::Closing {
            Timeout::TcpClosing
        } else {
            Timeout::TcpEstablished
        }
    }

    /// Decides whether a segment belongs to this connection, and moves the state on.
    pub fn track(&mut self, segment: &Segment<'_>) -> Tracked {
        let flags = segment.tcp.flags;
        if flags & (SYN | ACK) == SYN {
            if self.is_closed() {
                return Tracked::Reuse;
            }
            if self.src.level.min(self.dst.level) >= Level::Established {
                let (sender, receiver) = self.peers(segment.forward);
                // In the sender's eyes the other end's numbers carry their difference.
                return Tracked::Challenge {
                    seq: receiver.seqlo.advance(receiver.seqdiff),
                    ack: sender.seqlo,
                };
            }
        }
        self.track_window(segment)
    }

    /// Gives the initiator random sequence numbers, for `modulate state`; gives the difference to
    /// its own. Source: OpenBSD sys/net/pf.c `pf_create_state`.
    pub const fn modulate(&mut self, isn: u32) -> u32 {
        let difference = isn.wrapping_sub(self.src.seqlo.0);
        self.src.seqdiff = if difference == 0 { 1 } else { difference };
        self.src.seqdiff
    }

    /// Moves a `sloppy` state on: levels by flags alone, any sequence number. Source: OpenBSD
    /// sys/net/pf.c `pf_tcp_track_sloppy`.
    pub fn track_sloppy(&mut self, segment: &Segment<'_>) -> Tracked {
        let tcp = segment.tcp;
        if tcp.flags & (SYN | ACK) == SYN && self.is_closed() {
            return Tracked::Reuse;
        }
        let (sender, receiver) = self.peers(segment.forward);
        if tcp.has(SYN) {
            sender.raise(Level::SynSent);
        }
        if tcp.has(FIN) {
            sender.raise(Level::Closing);
        }
        if tcp.has(ACK) {
            match (sender.level, receiver.level) {
                (_, Level::SynSent) => receiver.level = Level::Established,
                (_, Level::Closing) => receiver.level = Level::FinWait2,
                // Only this half of the connection comes by here.
                (Level::SynSent, Level::Closed | Level::Listen) => {
                    sender.level = Level::Established;
                    receiver.level = Level::Established;
                }
                (Level::Closing, Level::Established) if !receiver.seen => {
                    receiver.level = Level::Closing;
                }
                _ => {}
            }
        }
        if tcp.has(RST) {
            self.src.raise(Level::TimeWait);
            self.dst.raise(Level::TimeWait);
        }
        // Only a connection behind a SYN cookie has differences here.
        let (sender, receiver) = self.peers(segment.forward);
        let translation = Translation {
            seq: sender.seqdiff,
            ack: if tcp.has(ACK) { receiver.seqdiff } else { 0 },
        };
        Tracked::Accept(Accepted { timeout: Some(self.timeout()), translation })
    }

    /// Sender and receiver of a segment.
    pub const fn peers(&mut self, forward: bool) -> (&mut Peer, &mut Peer) {
        if forward { (&mut self.src, &mut self.dst) } else { (&mut self.dst, &mut self.src) }
    }

    fn track_window(&mut self, segment: &Segment<'_>) -> Tracked {
        let tcp = segment.tcp;
        let (syn, fin, rst) = (tcp.has(SYN), tcp.has(FIN), tcp.has(RST));
        let (sender, receiver) = self.peers(segment.forward);
        let mut scale = Scales::of(sender, receiver, syn);
        let mut window = u32::from(tcp.window);

        if !sender.seen {
            if receiver.seqdiff != 0 && sender.seqdiff == 0 {
                // `modulate state`: this end gets numbers of the filter's choice too.
                sender.seqdiff = segment.random.wrapping_sub(tcp.seq).max(1);
            }
            if syn && receiver.wscale.is_some() {
                window = negotiate_scale(sender, receiver, segment.wscale, window, &mut scale);
            }
            open(sender, receiver, tcp, window, scale);
        }

        let seq = SeqNum(tcp.seq);
        let mut data_end = seq.advance(tcp.payload + u32::from(syn));
        let mut end = data_end.advance(u32::from(fin));
        let mut start = seq;
        let no_ack = !tcp.has(ACK)
            || (tcp.ack == 0 && tcp.has(RST | ACK))
            || receiver.level < Level::SynSent;
        let ack = if no_ack { receiver.seqlo } else { SeqNum(tcp.ack).retreat(receiver.seqdiff) };
        if start == end {
            // Without octets of its own a segment is as good as the newest: keep-alives, old RSTs.
            start = sender.seqlo;
            end = start;
            data_end = start;
        }

        let ack_skew = ack.distance_to(receiver.seqlo);
        let seqhi = sender.seqhi.unwrap_or(sender.seqlo);
        let receiver_window = receiver.max_win << scale.receiver;
        let rst_fits = !rst || seq.distance_to(sender.seqlo).unsigned_abs() <= 1;
        let ack_fits = ack_skew >= -ACK_SLACK.cast_signed()
            && i64::from(ack_skew) <= i64::from(ACK_SLACK) << scale.sender;
        let in_window = (seqhi.is_at_or_after(data_end) || fault::is(Fault::WindowHasNoEnd))
            && (start.is_at_or_after(sender.seqlo.retreat(receiver_window))
                || fault::is(Fault::WindowHasNoStart))
            && (ack_fits || fault::is(Fault::AnyAcknowledgement))
            && (rst_fits || fault::is(Fault::AnyReset));
        let loose = (receiver.level < Level::SynSent
            || receiver.level >= Level::FinWait2
            || sender.level >= Level::FinWait2)
            && seqhi.advance(ACK_SLACK).is_at_or_after(data_end)
            && start.is_at_or_after(sender.seqlo.retreat(ACK_SLACK));
        if !in_window && !loose {
            return self.mismatch(segment);
        }

        sender.max_win = sender.max_win.max(window);
        if !sender.seqlo.is_at_or_after(end) {
            sender.seqlo = end;
        }
        let allowed = window << scale.sender;
        if receiver.seen {
            receiver.allow(ack.advance(allowed), ack.advance(allowed.max(1)));
        }
        if syn {
            sender.raise(Level::SynSent);
        }
        if fin {
            sender.raise(Level::Closing);
        }
        if in_window && tcp.has(ACK) {
            match receiver.level {
                Level::SynSent => receiver.level = Level::Established,
                Level::Closing => receiver.level = Level::FinWait2,
                _ => {}
            }
        }
        let translation = Translation {
            seq: sender.seqdiff,
            ack: if tcp.has(ACK) { receiver.seqdiff } else { 0 },
        };
        if rst {
            self.src.raise(Level::TimeWait);
            self.dst.raise(Level::TimeWait);
        }
        let timeout = in_window.then(|| self.timeout());
        Tracked::Accept(Accepted { timeout, translation })
    }

    /// A segment outside the window is dropped. While both ends open, its sender is reset and
    /// forgotten too: it has an old connection that the filter does not know.
    fn mismatch(&mut self, segment: &Segment<'_>) -> Tracked {
        if self.src.level != Level::SynSent || self.dst.level != Level::SynSent {
            return Tracked::Drop(Reason::StateMismatch);
        }
        self.peers(segment.forward).0.forget();
        if segment.tcp.has(RST) { Tracked::Drop(Reason::StateMismatch) } else { Tracked::Reset }
    }
}

/// Shifts of both windows for one segment: zero unless both ends sent the option, and in SYNs.
#[derive(Clone, Copy, Debug)]
struct Scales {
    sender: u8,
    receiver: u8,
}

impl Scales {
    fn of(sender: &Peer, receiver: &Peer, syn: bool) -> Self {
        match (sender.wscale, receiver.wscale) {
            (Some(sender), Some(receiver)) if !syn && !fault::is(Fault::ScaleIgnored) => {
                Self { sender, receiver }
            }
            _ => Self { sender: 0, receiver: 0 },
        }
    }
}

/// Reads the answer to a window scale offer. Gives the sender's window in its scaled units.
fn negotiate_scale(
    sender: &mut Peer,
    receiver: &mut Peer,
    offered: Option<u8>,
    window: u32,
    scale: &mut Scales,
) -> u32 {
    let theirs = receiver.wscale.unwrap_or(0);
    sender.wscale = offered;
    if let Some(shift) = offered {
        *scale = Scales { sender: shift, receiver: theirs };
        window.div_ceil(1 << shift)
    } else {
        receiver.max_win = (receiver.max_win << theirs).min(65_535);
        receiver.wscale = None;
        window
    }
}

/// Notes the first packet of an end.
fn open(sender: &mut Peer, receiver: &Peer, tcp: &TcpDesc, window: u32, scale: Scales) {
    let seq = SeqNum(tcp.seq);
    let end = seq.advance(segment_octets(tcp));
    sender.seen = true;
    sender.seqlo = seq;
    sender.raise(Level::SynSent);
    let limit = end.advance((receiver.max_win << scale.receiver).max(1));
    sender.allow(limit, limit);
    sender.max_win = sender.max_win.max(window);
}

/// Octets of sequence space: payload, and one each for SYN and FIN.
fn segment_octets(tcp: &TcpDesc) -> u32 {
    tcp.payload + u32::from(tcp.has(SYN)) + u32::from(tcp.has(FIN))
}
