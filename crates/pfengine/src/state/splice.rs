//! A connection whose two ends have shaken hands with the filter, not with each other.
//!
//! The client has agreed with the filter on terms, in a cookie or in the state of a `synproxy state`
//! rule. The filter then opens the connection to the server with what the client has offered, its
//! own initial sequence number included, and joins both by translating from then on.
//!
//! Names: C is the client's initial sequence number, N the one that the server sees (C, or a random
//! one with `modulate state`), I the filter's towards the client, S the server's.
//!
//! Life-cycle: made with the state; [`TcpState::is_proxying`] until [`Splice::join`]; from then on
//! [`Splice::edits`] says for every segment what must change besides its numbers. `classic` has no
//! splice and goes pf's way (`proxy`). Source: RFC 4987 section 3.6; RFC 7323; RFC 3168; the notes on
//! syncookies, docs/notes/0010.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pfapi::addr::Af;
use pfapi::reason::Reason;
use pfapi::units::IfIndex;

use super::proxy::Numbers;
use super::tcp::{Level, TcpState};
use crate::harmonize::{Edits, Stamps};
use crate::normalize::timestamps::Introduction;
use crate::packet::{Offload, Packet};
use crate::packet_desc::TcpDesc;
use crate::seq::SeqNum;
use crate::syncookie::layout::{Shifts, Terms};
use crate::syncookie::servers::{Requested, Support};
use crate::wire::build::flags::{ACK, CWR, ECE, FIN, RST, SYN};
use crate::wire::tcp_options::SynOptions;

/// Octets of a timestamp option with its padding.
const STAMP_OCTETS: u16 = 12;
/// Segments with data that are kept of one connection until its server is there.
const EARLY_SEGMENTS: usize = 8;
/// Octets of all such segments of all connections. Only clients that have shaken hands get here.
const EARLY_OCTETS: usize = 4 << 20;
/// Least MSS that the filter asks a server for.
const MSS_MIN: u16 = 64;
/// Octets without a word from the client that make a reply large: sent in some three round trips
/// from an initial window of ten segments (RFC 6928).
const LARGE_REPLY: u32 = 64 << 10;

/// A segment with data that came before the server was there.
#[derive(Debug)]
pub struct Early {
    /// The packet as it came.
    pub octets: Box<[u8]>,
    /// What its device said of it.
    pub offload: Offload,
    /// Where it came in.
    pub interface: IfIndex,
    /// Sequence number behind its data.
    next: SeqNum,
    _room: Room,
}

/// A part of what all early data may take; given back when dropped.
#[derive(Debug)]
struct Room {
    taken: Arc<AtomicUsize>,
    octets: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.octets, Ordering::Relaxed);
    }
}

impl Early {
    /// Copies a packet; `None` when `taken`, the octets of all such copies, would exceed the limit.
    pub fn of(packet: &Packet, taken: &Arc<AtomicUsize>) -> Option<Self> {
        let octets = packet.len();
        let room = Room { taken: Arc::clone(taken), octets };
        if taken.fetch_add(octets, Ordering::Relaxed) + octets > EARLY_OCTETS {
            return None;
        }
        Some(Self {
            octets: packet.data().into(),
            offload: packet.meta.offload,
            interface: packet.meta.interface,
            next: SeqNum(0),
            _room: room,
        })
    }
}

/// What the filter knows of a connection that it has joined, or is about to join.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what was asked and is awaited, in any combination"
)]
pub struct Splice {
    /// I, the filter's initial sequence number.
    pub cookie: SeqNum,
    /// What client and filter have agreed on.
    pub terms: Terms,
    /// Timestamp value of the SYN|ACK; `None` when timestamps are not in use.
    pub stamp: Option<u32>,
    /// Latest timestamp value of the client.
    pub client_stamp: u32,
    /// Latest window field of the client, before the two are joined.
    window: u16,
    /// Type of service of the client's packets, without the ECN bits.
    pub tos: u8,
    /// Whether the ruleset says that the server sends timestamps.
    pub expects_stamps: bool,
    /// With `scrub (reassemble tcp)` what is added to the client's timestamps; [`Meeting::stamps`]
    /// begins the record of both ends.
    pub stamp_shift: Option<u32>,
    /// Timestamp value of the client in the first SYN to the server.
    first_stamp: u32,
    /// Timestamp value of the first segment that is kept.
    early_stamp: u32,
    /// Whether a SYN was sent to the server.
    has_asked: bool,
    /// Whether the SYN to the server asks for ECN; not when it was repeated in vain.
    asks_ecn: bool,
    /// Whether the server waits for the client's word on its SYN|ACK, see [`Splice::await_word`].
    awaits_word: bool,
    /// Where the reply begins that the server sends now, in its numbers; `None` when it was found
    /// large already.
    reply: Option<SeqNum>,
    /// What the client has sent before the server was there, in order.
    early: Vec<Early>,
    joined: Joined,
}

/// What was found out when the server answered.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "what a server lacks, in any combination")]
struct Joined {
    /// Shift of the server; `None` when it does not scale windows.
    shift: Option<u8>,
    /// Added to the server's sequence numbers.
    seqdiff: u32,
    /// Timestamp value of the server's SYN|ACK.
    server_stamp: u32,
    /// Subtracted from the server's timestamps.
    stamp_offset: u32,
    /// Timestamps are in use with the client alone.
    stamps_missing: bool,
    sack_missing: bool,
    ecn_missing: bool,
    /// With `ecn_missing`: a packet of the client came marked, and it has not said that it sends
    /// slower.
    congested: bool,
    /// MSS of the server.
    mss: Option<u16>,
}

/// What the filter does with a segment that comes before the ends are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The segment is used up.
    Drop,
    /// Repeat the SYN|ACK to the client.
    Offer,
    /// Send the SYN to the server, [`Splice::syn`]; data in the segment is kept.
    Connect,
    /// Keep the segment, whose data comes early: [`Splice::keep_early`].
    Keep,
    /// The server has answered: [`Splice::join`].
    Join,
    /// A SYN of another connection: answered by an ACK, so that its sender can clear it away.
    Challenge,
    /// The server knows another connection on these ports: an RST with this number clears it away.
    Clear {
        /// Sequence number of the RST.
        seq: SeqNum,
    },
    /// The server refused: the client gets [`Splice::refusal`].
    Refuse,
}

/// A SYN to the server, without addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syn {
    /// N.
    pub seq: SeqNum,
    /// Window, unscaled as in every SYN.
    pub window: u16,
    /// SYN, and ECE and CWR to ask for ECN.
    pub flags: u8,
    /// Options.
    pub options: SynOptions,
}

/// What the SYN to the server depends on besides the terms.
#[derive(Clone, Copy, Debug)]
pub struct Onward {
    /// `max-mss` of the rules; 0 is none.
    pub max_mss: u16,
    /// Families on the client's and the server's side.
    pub families: (Af, Af),
    /// Whether the server sends timestamps, as far as that was learnt.
    pub stamps: Support,
}

/// The two ACKs that join a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// To the server, in the name of the client.
    pub to_server: (Numbers, SynOptions),
    /// To the client, in the name of the server: opens its window.
    pub to_client: (Numbers, SynOptions),
    /// Timestamps of both ends, where both use them.
    pub stamps: Option<Introduction>,
}

impl Meeting {
    /// The ACK to the client as a keep-alive: its number is one lower, so that every client answers
    /// at once (RFC 9293 sections 3.8.4 and 3.10.7.4).
    pub const fn question(&self) -> (Numbers, SynOptions) {
        let (numbers, options) = self.to_client;
        (Numbers { seq: numbers.seq.retreat(1), ..numbers }, options)
    }
}

impl Splice {
    /// For a client with these terms, which was sent I and `stamp`.
    pub const fn new(cookie: SeqNum, terms: Terms, stamp: Option<u32>) -> Self {
        Self {
            cookie,
            terms,
            stamp,
            client_stamp: 0,
            window: 0,
            tos: 0,
            expects_stamps: false,
            stamp_shift: None,
            first_stamp: 0,
            early_stamp: 0,
            has_asked: false,
            asks_ecn: terms.ecn,
            awaits_word: false,
            reply: None,
            early: Vec::new(),
            joined: Joined {
                shift: None,
                seqdiff: 0,
                server_stamp: 0,
                stamp_offset: 0,
                stamps_missing: false,
                sack_missing: false,
                ecn_missing: false,
                congested: false,
                mss: None,
            },
        }
    }

    /// Takes note of the ACK that completes the client's handshake.
    pub fn hear(&mut self, tcp: &TcpDesc, stamp: Option<u32>, tos: u8) {
        self.client_stamp = stamp.unwrap_or(0);
        self.window = tcp.window;
        self.tos = tos & !3;
    }

    /// Keeps a segment with data that comes before the server is there; false when it is no use to
    /// keep it. `keep` makes the copy, if there is room.
    pub fn keep_early(
        &mut self,
        body: &TcpState,
        tcp: &TcpDesc,
        keep: impl FnOnce() -> Option<Early>,
    ) -> bool {
        // Before the ends are joined the state knows the client's SYN alone.
        let first = body.src.seqlo.advance(u32::from(!self.awaits_word));
        let next = self.early.last().map_or(first, |early| early.next);
        // Behind a FIN comes nothing; before the join one alone is not kept.
        let length = tcp.payload + u32::from(tcp.has(FIN) && self.awaits_word);
        if length == 0 || SeqNum(tcp.seq) != next || self.early.len() >= EARLY_SEGMENTS {
            return false;
        }
        let Some(mut early) = keep() else { return false };
        early.next = next.advance(length);
        if self.early.is_empty() {
            self.early_stamp = self.client_stamp;
        }
        self.early.push(early);
        true
    }

    /// Leaves the server's SYN|ACK unanswered until the client has answered [`Meeting::question`]:
    /// what the server measures is then the round trip to the client. A server whose congestion
    /// control relies on the least round trip (BBR) would otherwise believe in the one to the filter.
    pub const fn await_word(&mut self) {
        self.awaits_word = true;
    }

    /// Whether segments of the client go to [`Self::hear_word`] first.
    pub const fn awaits_word(&self) -> bool {
        self.awaits_word
    }

    /// Takes note that the client has spoken, or been silent while data came.
    pub const fn hear_word(&mut self) {
        self.awaits_word = false;
    }

    /// Whether a segment shows, for the first time, that the server sends large replies; numbers are
    /// those before translation.
    pub fn finds_large_reply(&mut self, tcp: &TcpDesc, forward: bool) -> bool {
        let Some(start) = self.reply else { return false };
        if forward {
            if tcp.payload > 0 {
                self.reply = Some(self.server_number(tcp.ack));
            }
            return false;
        }
        let sent = SeqNum(tcp.seq.wrapping_sub(start.0));
        let is_large = sent.0 > LARGE_REPLY && sent.0 < 1 << 31;
        if is_large {
            self.reply = None;
        }
        is_large
    }

    /// The client's timestamp that the server is told, not shifted: no later than those of the data
    /// that is to follow, which the server would drop as old (RFC 7323 section 5.3).
    const fn onward_stamp(&self) -> u32 {
        if self.early.is_empty() { self.client_stamp } else { self.early_stamp }
    }

    /// Likewise as the server sees it.
    fn shifted_stamp(&self) -> u32 {
        self.onward_stamp().wrapping_add(self.stamp_shift.unwrap_or(0))
    }

    /// A number of the server as it counts, from one that the client knows.
    const fn server_number(&self, seen: u32) -> SeqNum {
        SeqNum(seen.wrapping_sub(self.joined.seqdiff))
    }

    /// Hands out what was kept.
    pub fn take_early(&mut self) -> Vec<Early> {
        core::mem::take(&mut self.early)
    }

    /// Options of the SYN|ACK to the client: what was agreed on, and the MSS of the server.
    pub fn announcement(
        terms: Terms,
        stamp: Option<u32>,
        mss: u16,
        client_stamp: u32,
    ) -> SynOptions {
        SynOptions {
            mss: Some(mss),
            wscale: terms.shifts.map(|shifts| shifts.announced),
            sack_permitted: terms.sack,
            timestamps: stamp.map(|stamp| (stamp, client_stamp)),
        }
    }

    /// The SYN of the client, as far as it is known: what rules decide about.
    pub fn offered_syn(&self) -> Syn {
        Syn {
            seq: SeqNum(0),
            window: self.unscaled_window(),
            flags: if self.terms.ecn { SYN | ECE | CWR } else { SYN },
            options: self.offer(self.terms.mss),
        }
    }

    /// Moves on by one segment before the ends are joined; `stamp` is its timestamp value.
    pub fn step(
        &mut self,
        body: &mut TcpState,
        tcp: &TcpDesc,
        stamp: Option<u32>,
        forward: bool,
    ) -> Step {
        if forward { self.hear_client(body, tcp, stamp) } else { Self::hear_server(body, tcp) }
    }

    fn hear_client(&mut self, body: &mut TcpState, tcp: &TcpDesc, stamp: Option<u32>) -> Step {
        let (isn, next) = (body.src.seqlo, body.src.seqlo.advance(1));
        let shakes_hands = body.src.level == Level::ProxySrc;
        let seq = SeqNum(tcp.seq);
        if tcp.flags & (SYN | ACK | RST | FIN) == SYN {
            return match (shakes_hands, seq == isn) {
                (true, true) => {
                    self.client_stamp = stamp.unwrap_or(0);
                    Step::Offer
                }
                // A SYN that was on its way while its ACK came.
                (false, true) => Step::Drop,
                (_, false) => Step::Challenge,
            };
        }
        let acknowledges = tcp.flags & (SYN | ACK) == ACK
            && SeqNum(tcp.ack) == self.cookie.advance(1)
            && self.stamp.is_some() <= stamp.is_some();
        if tcp.has(RST) {
            if seq == next {
                body.close();
            }
            return Step::Drop;
        }
        let is_first = !core::mem::replace(&mut self.has_asked, acknowledges && seq == next);
        if !acknowledges || is_first && seq != next {
            self.has_asked = !is_first;
            return Step::Drop;
        }
        self.has_asked = true;
        self.hear(tcp, stamp, self.tos);
        if is_first {
            self.first_stamp = self.client_stamp;
        }
        body.src.level = Level::ProxyDst;
        match (is_first, tcp.payload > 0) {
            (true, _) => Step::Connect,
            // What was kept already comes again after the client's own timeout, a fifth of a second
            // or so: the server may not have heard of it, or its answer was lost.
            (false, true) if seq == next && !self.early.is_empty() => Step::Connect,
            (false, true) => Step::Keep,
            // A bare ACK or a probe of the window asks for another SYN to the server.
            (false, false) if seq == next || seq == isn => Step::Connect,
            (false, false) => Step::Drop,
        }
    }

    fn hear_server(body: &mut TcpState, tcp: &TcpDesc) -> Step {
        if body.src.level == Level::ProxySrc || !tcp.has(ACK) {
            return Step::Drop;
        }
        let answers = SeqNum(tcp.ack) == Self::isn(body).advance(1);
        match (tcp.has(RST), answers) {
            (true, true) => {
                body.close();
                Step::Refuse
            }
            (false, true) if tcp.has(SYN) => Step::Join,
            (true, false) | (false, true) => Step::Drop,
            (false, false) => Step::Clear { seq: SeqNum(tcp.ack) },
        }
    }

    /// N; one more when the ends are joined.
    const fn isn(body: &TcpState) -> SeqNum {
        body.src.seqlo.advance(body.src.seqdiff)
    }

    /// The client's window as SYNs and unscaled segments tell it.
    fn unscaled_window(&self) -> u16 {
        unscaled(self.window, self.terms.shifts.map_or(0, |shifts| shifts.client))
    }

    /// The SYN to the server.
    pub fn syn(&self, body: &TcpState, onward: Onward) -> Syn {
        let mut mss = self.terms.mss;
        if onward.max_mss != 0 {
            mss = mss.min(onward.max_mss);
        }
        if onward.families == (Af::Inet, Af::Inet6) {
            // The header of IPv6 is 20 octets longer.
            mss = mss.saturating_sub(20);
        }
        let sends_stamps = match onward.stamps {
            Support::Yes => true,
            // What was said of it is wrong, or no longer right.
            Support::No => false,
            Support::Unknown => self.expects_stamps,
        };
        if self.stamp.is_some() && !sends_stamps {
            // Room for the option that the filter adds if the server sends none.
            mss = mss.saturating_sub(STAMP_OCTETS);
        }
        Syn {
            seq: Self::isn(body),
            window: self.unscaled_window(),
            flags: if self.asks_ecn { SYN | ECE | CWR } else { SYN },
            options: self.offer(mss.max(MSS_MIN)),
        }
    }

    /// What the client offers, with this MSS.
    pub fn offer(&self, mss: u16) -> SynOptions {
        SynOptions {
            mss: Some(mss),
            wscale: self.terms.shifts.map(|shifts| shifts.client),
            sack_permitted: self.terms.sack,
            timestamps: self.stamp.map(|_| (self.shifted_stamp(), 0)),
        }
    }

    /// What the SYN to the server asks for.
    pub fn asks(&self) -> Requested {
        Requested::new(&self.offer(0), self.asks_ecn)
    }

    /// Asks the server without ECN from now on: some devices drop SYNs that ask for it.
    /// Source: RFC 3168 section 6.1.1.1.
    pub const fn give_up_ecn(&mut self) {
        self.asks_ecn = false;
    }

    /// Joins the ends: `tcp` and `answer` are the server's SYN|ACK.
    pub fn join(&mut self, body: &mut TcpState, tcp: &TcpDesc, answer: &SynOptions) -> Meeting {
        let client_next = body.src.seqlo.advance(1);
        let server_isn = SeqNum(tcp.seq);
        let server_next = server_isn.advance(1);
        let server_stamp = answer.timestamps.map(|(tsval, _)| tsval);
        self.joined = Joined {
            shift: answer.wscale.filter(|_| self.terms.shifts.is_some()),
            seqdiff: self.cookie.0.wrapping_sub(server_isn.0),
            server_stamp: server_stamp.unwrap_or(0),
            // The record of `reassemble tcp` shifts timestamps, where there is one.
            stamp_offset: match (server_stamp, self.stamp) {
                (Some(theirs), Some(ours)) if self.stamp_shift.is_none() => {
                    theirs.wrapping_sub(ours)
                }
                _ => 0,
            },
            stamps_missing: self.stamp.is_some() && server_stamp.is_none(),
            sack_missing: self.terms.sack && !answer.sack_permitted,
            ecn_missing: self.terms.ecn && tcp.flags & (ECE | CWR) != ECE,
            congested: false,
            mss: answer.mss,
        };
        let window_to_client = match self.terms.shifts {
            // The window of a SYN|ACK is not scaled, that of the ACK is.
            Some(Shifts { announced, .. }) => rescaled(tcp.window, 0, announced),
            None => tcp.window,
        };
        let to_client =
            Numbers { seq: self.cookie.advance(1), ack: client_next, window: window_to_client };
        let stamps_to_client = self.stamp.map(|stamp| (stamp, self.client_stamp));
        // From here on both ends are tracked by their own numbers and shifts.
        let (client_shift, server_shift) = match self.terms.shifts {
            Some(shifts) => (Some(shifts.client), Some(self.joined.shift.unwrap_or(0))),
            None => (None, None),
        };
        let client_window = u32::from(self.window) << client_shift.unwrap_or(0);
        let server_window = u32::from(tcp.window);
        body.src.wscale = client_shift;
        body.src.max_win = u32::from(self.window).max(1);
        body.src.seqhi = Some(client_next.advance(server_window.max(1)));
        body.dst.wscale = server_shift;
        body.dst.max_win = server_window.div_ceil(1 << server_shift.unwrap_or(0)).max(1);
        body.dst.seqhi = Some(server_next.advance(client_window.max(1)));
        body.src.seqlo = client_next;
        body.dst.seqlo = server_next;
        body.dst.seen = true;
        body.dst.seqdiff = self.joined.seqdiff;
        self.reply = Some(server_next);
        body.src.level = Level::Established;
        body.dst.level = Level::Established;
        Meeting {
            to_server: self.acknowledgement(body),
            to_client: (to_client, stamped(stamps_to_client)),
            stamps: server_stamp.zip(self.stamp).map(|(server, told)| Introduction {
                client: (self.first_stamp, self.client_stamp),
                server,
                told,
            }),
        }
    }

    /// The ACK that completes the server's handshake, when the ends are joined and the client's
    /// first data is yet to go on.
    pub fn acknowledgement(&self, body: &TcpState) -> (Numbers, SynOptions) {
        let window = if self.joined.shift.is_some() { self.window } else { self.unscaled_window() };
        let numbers = Numbers { seq: Self::isn(body), ack: body.dst.seqlo, window };
        let stamps = self.stamp.filter(|_| !self.joined.stamps_missing);
        (numbers, stamped(stamps.map(|_| (self.shifted_stamp(), self.joined.server_stamp))))
    }

    /// Numbers of the RST that tells the client that its connection came to nothing.
    pub const fn refusal(&self, body: &TcpState) -> Numbers {
        Numbers { seq: self.cookie.advance(1), ack: body.src.seqlo.advance(1), window: 0 }
    }

    /// Whether [`Self::edits`] asks for the timestamp value of segments.
    pub const fn makes_stamps(&self) -> bool {
        self.joined.stamps_missing
    }

    /// What must change in a segment of a joined connection besides its numbers: `stamp` is its
    /// timestamp value, `is_marked` whether it came with CE, `now_ms` the time since the state was
    /// made.
    ///
    /// Where the client alone uses ECN the filter is its receiver as to congestion on the way here:
    /// it takes ECT and CE out and answers CE by ECE until CWR. The server's packets are not ECT, so
    /// they are dropped where others are marked. Source: RFC 3168 sections 5 and 6.1.3.
    pub fn edits(
        &mut self,
        tcp: &TcpDesc,
        (stamp, is_marked): (Option<u32>, bool),
        forward: bool,
        now_ms: u32,
    ) -> Edits {
        let Joined { shift, stamp_offset, stamps_missing, sack_missing, ecn_missing, mss, .. } =
            self.joined;
        let is_syn = tcp.has(SYN);
        if ecn_missing && forward {
            self.joined.congested = is_marked || self.joined.congested && !tcp.has(CWR);
        }
        let window = self.terms.shifts.filter(|_| !is_syn).map_or(tcp.window, |shifts| {
            match (forward, shift) {
                (true, Some(_)) => tcp.window,
                (true, None) => unscaled(tcp.window, shifts.client),
                (false, shift) => rescaled(tcp.window, shift.unwrap_or(0), shifts.announced),
            }
        });
        let stamps = match (stamps_missing, forward) {
            (true, true) => {
                // What the client said last is echoed in the name of the server.
                if let Some(latest) = stamp
                    && SeqNum(latest).is_at_or_after(SeqNum(self.client_stamp))
                {
                    self.client_stamp = latest;
                }
                Stamps::Blank
            }
            (true, false) if tcp.has(RST) => Stamps::Keep,
            (true, false) => {
                let tsval = self.stamp.unwrap_or(0).wrapping_add(now_ms);
                Stamps::Add { tsval, tsecr: self.client_stamp }
            }
            (false, _) if self.stamp.is_none() || stamp_offset == 0 => Stamps::Keep,
            (false, true) => Stamps::Shift { tsval: 0, tsecr: stamp_offset },
            (false, false) => Stamps::Shift { tsval: stamp_offset.wrapping_neg(), tsecr: 0 },
        };
        Edits {
            window,
            stamps,
            blank_sack: sack_missing && forward,
            bleach: ecn_missing,
            echo: self.joined.congested && !forward && !is_syn,
            mss: mss.filter(|_| forward),
        }
    }
}

/// Options of an ACK.
const fn stamped(timestamps: Option<(u32, u32)>) -> SynOptions {
    SynOptions { timestamps, ..SynOptions::of_mss(None) }
}

/// A scaled window field as an unscaled one: as much of it as a field can say.
fn unscaled(field: u16, shift: u8) -> u16 {
    u16::try_from(u32::from(field) << shift).unwrap_or(u16::MAX)
}

/// A window field in units of another shift: rounded down, but never closed by that.
fn rescaled(field: u16, from: u8, to: u8) -> u16 {
    if from == to {
        return field;
    }
    let octets = u32::from(field) << from;
    u16::try_from(octets >> to).unwrap_or(u16::MAX).max(u16::from(field != 0))
}

/// Why a segment before the join does not go on.
pub const REASON: Reason = Reason::Synproxy;

#[cfg(test)]
mod tests;
