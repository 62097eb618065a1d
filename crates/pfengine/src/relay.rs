//! SYNs to servers that have not answered: repeated after 1, 2, 3, 4, 5, 7 and 11 s; after 15 s the
//! client hears that its connection came to nothing.
//!
//! A client that the filter has shaken hands with repeats nothing, so the filter does. Life-cycle of
//! an entry: made when the first SYN goes to the server, gone when the wait is over. Entries of one
//! wait are due in the order in which they were made, so a list for each wait is enough. There are at
//! most [`WAITING_MAX`]; for more connections the client's own probes repeat the SYN, as does data that a
//! client sends again.
//!
//! Four repetitions a second apart before the wait doubles are what clients do by now, and for the
//! same reason: over a line on which a fifth of all exchanges fails, one connection in 600 loses four
//! SYNs in a row, one in 400,000 loses eight.
//!
//! Servers that wait for their client's word ([`Splice::await_word`]) and are known for brief replies
//! are not kept longer than [`PATIENCE_NS`].
//!
//! Source: RFC 6298 section 2 (one second at first, then doubled); Linux
//! Documentation/networking/ip-sysctl.rst `tcp_syn_linear_timeouts`.
//!
//! [`Splice::await_word`]: crate::state::splice::Splice::await_word

use core::net::IpAddr;
use std::collections::VecDeque;

use pfapi::units::{Direction, Uptime};

use crate::engine::Engine;
use crate::output::{Output, SmallPacket};
use crate::packet::StateRef;
use crate::state::entry::{Body, State};
use crate::state::key::Side;
use crate::state::proxy::Numbers;
use crate::state::splice::Onward;
use crate::syncookie::servers::{Known, Support};
use crate::wire::build::flags::{ACK, RST};
use crate::wire::build::{TOS_LOW_DELAY, TTL_DEFAULT, TcpSegment};
use crate::wire::tcp_options::SynOptions;
use crate::worker::Parts;

/// Seconds after each SYN.
const WAITS_S: [u64; 8] = [1, 1, 1, 1, 1, 2, 4, 4];
/// Entries at most, of one thread: 1.5 MiB.
pub const WAITING_MAX: usize = 65_536;
/// Entries looked at in one call.
pub const SHARE: usize = 256;
/// How long a server of brief replies waits for its client's word: clients nearby have answered by
/// then, and to those far away it adds little.
const PATIENCE_NS: u64 = 2_000_000;

/// What one thread has sent to servers, and which it lets wait.
#[derive(Debug, Default)]
pub struct Relays {
    waits: [VecDeque<(Uptime, StateRef)>; WAITS_S.len()],
    words: VecDeque<(Uptime, StateRef)>,
}

impl Relays {
    /// Notes the first SYN of a connection.
    pub fn begin(&mut self, state: StateRef, now: Uptime) {
        self.push(0, state, now);
    }

    fn push(&mut self, wait: usize, state: StateRef, now: Uptime) {
        if self.waits[wait].len() < WAITING_MAX {
            self.waits[wait].push_back((now.plus_secs(WAITS_S[wait]), state));
        }
    }

    /// Notes that a server waits for its client's word; false when there is no room, so that it must
    /// not.
    pub fn await_word(&mut self, state: StateRef, now: Uptime) -> bool {
        let has_room = self.words.len() < WAITING_MAX;
        if has_room {
            self.words.push_back((now.plus_nanos(PATIENCE_NS), state));
        }
        has_room
    }

    /// A state whose server has waited long enough.
    pub fn pop_word(&mut self, now: Uptime) -> Option<StateRef> {
        self.words.front().filter(|(due, _)| *due <= now)?;
        Some(self.words.pop_front()?.1)
    }

    /// When the next one is due.
    pub fn due(&self) -> Option<Uptime> {
        let lists = self.waits.iter().chain([&self.words]);
        lists.filter_map(|list| Some(list.front()?.0)).min()
    }

    fn pop(&mut self, now: Uptime) -> Option<(usize, StateRef)> {
        let wait = self.waits.iter().position(|list| list.front().is_some_and(|f| f.0 <= now))?;
        let (_, state) = self.waits[wait].pop_front()?;
        Some((wait, state))
    }
}

/// Does what is due, a bounded share of it.
pub fn run(engine: &Engine, parts: &mut Parts, now: Uptime) {
    for _ in 0..SHARE {
        let Some((wait, reference)) = parts.relays.pop(now) else { return };
        let Some(mut state) = engine.store.follow(reference) else { continue };
        let waits = matches!(&state.body, Body::Tcp(body) if body.is_waiting_for_server());
        if !waits || state.purge || state.splice().is_none() {
            continue;
        }
        if wait + 1 == WAITS_S.len() {
            if let Some(segment) = refusal(&state, parts.rng.next_u16()) {
                send(parts, &segment, &state, false);
            }
            if let Body::Tcp(body) = &mut state.body {
                body.close();
                state.timeout = body.timeout();
                state.last_used = now;
            }
            state.update_half_open(&engine.store.half_open);
            continue;
        }
        if let Some(splice) = state.rare.as_mut().and_then(|rare| rare.splice.as_deref_mut()) {
            splice.give_up_ecn();
        }
        let known = server_of(&state).and_then(|(addr, port)| engine.servers.get(addr, port, now));
        if let Some(segment) = syn(&state, known.as_ref(), parts.rng.next_u16()) {
            send(parts, &segment, &state, true);
        }
        drop(state);
        parts.relays.push(wait + 1, reference, now);
    }
}

/// Sends a segment in the name of the client, or of the server to it.
fn send(parts: &mut Parts, segment: &TcpSegment, state: &State, forward: bool) {
    if segment.is_between_hosts() {
        let packet = SmallPacket::of_segment(segment).into();
        let filtered = forward && !state.changes_family();
        let (next_hop, marks) = (state.next_hop(forward), state.marks(!forward));
        parts.outputs.push_back(Output::Send { packet, filtered, next_hop, marks });
    }
}

/// Address and port of the server itself.
pub fn server_of(state: &State) -> Option<(IpAddr, u16)> {
    let onward = onward(state)?;
    Some((onward.dst, onward.dport))
}

/// A segment to the server of an inbound state, without numbers, flags and options.
fn onward(state: &State) -> Option<TcpSegment> {
    let af = state.key(Side::Wire).af;
    let keys = state.keys();
    let (key, direction) = keys.beyond(Direction::In, af);
    let source = usize::from(direction == Direction::Out);
    let tos = state.splice()?.tos;
    Some(TcpSegment {
        src: key.addr[source].to_ip(key.af),
        dst: key.addr[1 - source].to_ip(key.af),
        sport: key.port[source],
        dport: key.port[1 - source],
        tos,
        ..BLANK
    })
}

/// The SYN to the server of an inbound state; `None` when it has no splice.
pub fn syn(state: &State, known: Option<&Known>, id: u16) -> Option<TcpSegment> {
    let (Body::Tcp(body), Some(splice)) = (&state.body, state.splice()) else { return None };
    let families = (state.key(Side::Wire).af, state.key(Side::Stack).af);
    let stamps = known.map_or(Support::Unknown, |known| known.timestamps);
    let max_mss = state.actions().max_mss;
    let syn = splice.syn(body, Onward { max_mss, families, stamps });
    Some(TcpSegment {
        seq: syn.seq.0,
        flags: syn.flags,
        window: syn.window,
        options: syn.options,
        id,
        ..onward(state)?
    })
}

/// The ACK that completes the handshake with the server of an inbound state; `None` when it has no
/// splice.
pub fn ack(state: &State, id: u16) -> Option<TcpSegment> {
    let (Body::Tcp(body), Some(splice)) = (&state.body, state.splice()) else { return None };
    let (Numbers { seq, ack, window }, options) = splice.acknowledgement(body);
    let segment = onward(state)?;
    Some(TcpSegment { seq: seq.0, ack: ack.0, window, flags: ACK, options, id, ..segment })
}

/// The RST that tells the client of an inbound state that its connection came to nothing; `None`
/// when it does not wait for one.
pub fn refusal(state: &State, id: u16) -> Option<TcpSegment> {
    let Body::Tcp(body) = &state.body else { return None };
    if !body.is_waiting_for_server() {
        return None;
    }
    let Numbers { seq, ack, window } = match state.splice() {
        Some(splice) => splice.refusal(body),
        None => body.proxy_abort(),
    };
    // The proxy only works on inbound states, whose first key has the client first.
    let key = state.key(Side::Wire);
    Some(TcpSegment {
        src: key.addr[1].to_ip(key.af),
        dst: key.addr[0].to_ip(key.af),
        sport: key.port[1],
        dport: key.port[0],
        seq: seq.0,
        ack: ack.0,
        flags: RST | ACK,
        window,
        id,
        ..BLANK
    })
}

const BLANK: TcpSegment = TcpSegment {
    src: IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED),
    dst: IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED),
    sport: 0,
    dport: 0,
    seq: 0,
    ack: 0,
    flags: 0,
    window: 0,
    options: SynOptions::of_mss(None),
    ttl: TTL_DEFAULT,
    tos: TOS_LOW_DELAY,
    dont_fragment: true,
    id: 0,
};
