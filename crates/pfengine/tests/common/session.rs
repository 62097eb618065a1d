//! A session with hostile neighbours, and what must hold after each of its batches.
//!
//! Property tests draw [`Op`]s, the fuzzer decodes them from octets; both run the same session,
//! so an input that the fuzzer found is replayed by the tests.

use core::net::IpAddr;
use std::sync::{Arc, OnceLock};

use pfapi::addr::Af;
use pfapi::check::check;
use pfapi::limit::Limit;
use pfapi::port::PortMatch;
use pfapi::ruleset::{
    Action, AddrMatch, BlockAnswer, Draft, Log, Options, Pool, PoolKind, PoolPorts, Rate, Route,
    RouteKind, Rule, Scrub, ServerOptions, SourceTrack, StatePolicy, SyncookieMode, Syncookies,
    TcpFlagsMatch, Watermarks,
};
use pfapi::units::{Direction, Uptime};
use pfengine::wire::checksum::packet_is_intact;
use pfengine::{Batch, Checksum, Engine, Gso, Offload, Output, Packet, Verdict, Worker};

use super::{
    Ends, Tcp, V4, V6, cut, fix_ipv4, flags, fragment, icmp, ip, ipv4, ipv6, ipv6_chain, proto,
    transport_checksum, udp,
};

/// States that the filter may hold: few, so that the limit is met.
const STATES: u32 = 24;

/// Filter under test.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Rules: each octet is one.
    pub rules: [u8; 4],
    /// What each of them does besides passing or blocking; zero is nothing.
    pub actions: [u8; 4],
    /// Syncookies.
    pub syncookies: u8,
    /// Packets per batch.
    pub batch: usize,
}

/// One step of a session.
#[derive(Clone, Debug)]
pub enum Op {
    /// A packet: one of [`templates`], changed.
    Send { template: u8, outbound: bool, edits: Vec<Edit>, repair: bool, offload: u8 },
    /// Any octets.
    Raw { octets: Vec<u8>, outbound: bool },
    /// The ACK that brings back the last cookie.
    ReturnCookie,
    /// The server's answer to the last SYN that went its way.
    Accept { refuse: bool },
    /// The last packet that came in goes out by the other interface.
    Forward,
    /// An ICMP error about the last packet that passed, whose quote is changed.
    Error { kind: u8, outbound: bool, edits: Vec<Edit> },
    /// Time passes.
    Wait { milliseconds: u16 },
}

/// A change of a packet.
#[derive(Clone, Copy, Debug)]
pub enum Edit {
    Flip { at: u16, bit: u8 },
    Set { at: u16, value: u8 },
    Insert { at: u16, value: u8 },
    Delete { at: u16 },
    Duplicate { at: u16, len: u8 },
    Cut { at: u16 },
}

impl Edit {
    fn apply(self, octets: &mut Vec<u8>) {
        if octets.is_empty() {
            return;
        }
        let place = |at: u16| usize::from(at) % octets.len();
        match self {
            Self::Flip { at, bit } => {
                let at = place(at);
                octets[at] ^= 1 << (bit % 8);
            }
            Self::Set { at, value } => {
                let at = place(at);
                octets[at] = value;
            }
            Self::Insert { at, value } => octets.insert(place(at), value),
            Self::Delete { at } => {
                octets.remove(place(at));
            }
            Self::Duplicate { at, len } => {
                let at = place(at);
                let end = (at + usize::from(len)).min(octets.len());
                let copy = octets[at..end].to_vec();
                octets.splice(at..at, copy);
            }
            Self::Cut { at } => octets.truncate(place(at)),
        }
        octets.truncate(super::CAPACITY);
    }
}

/// Makes lengths and checksums right again, as far as the packet has them.
fn repair(octets: &mut Vec<u8>) {
    let minimum = match octets.first().map(|first| first >> 4) {
        Some(4) => 20,
        Some(6) => 40,
        _ => return,
    };
    if octets.len() < minimum {
        return;
    }
    *octets = cut(octets, octets.len());
    let header = if minimum == 20 { usize::from(octets[0] & 0x0f) * 4 } else { 40 };
    let number = octets[if minimum == 20 { 9 } else { 6 }];
    if header < minimum || header > octets.len() {
        return;
    }
    let address = |at: usize| -> IpAddr {
        if minimum == 20 {
            <[u8; 4]>::try_from(&octets[at..at + 4]).expect("four octets").into()
        } else {
            <[u8; 16]>::try_from(&octets[at..at + 16]).expect("sixteen octets").into()
        }
    };
    let ends = if minimum == 20 {
        Ends { src: address(12), dst: address(16) }
    } else {
        Ends { src: address(8), dst: address(24) }
    };
    let field = match number {
        proto::TCP => 16,
        proto::UDP => 6,
        proto::ICMP | proto::ICMPV6 => 2,
        _ => return,
    };
    let segment = &mut octets[header..];
    if segment.len() >= field + 2 {
        segment[field..field + 2].fill(0);
        let sum = transport_checksum(ends, number, segment);
        segment[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Valid packets, between few ends so that they meet each other's states.
pub fn templates() -> &'static [Vec<u8>] {
    static TEMPLATES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    TEMPLATES.get_or_init(|| {
        let mut all = Vec::new();
        for ends in [V4, V6, V4.client(9), V6.client(9)] {
            conversation(ends, &mut all);
        }
        let multicast = Ends { src: "224.0.0.1".parse().expect("an address"), ..V4 };
        conversation(multicast, &mut all);
        all.push(ipv4(V4, proto::IGMP, &[148, 4, 0, 0], &[0x16, 0, 0, 0, 224, 0, 0, 9]));
        all.push(ipv4(V4, proto::TCP, &[7, 7, 4, 0, 0, 0, 0, 0], &Tcp::default().octets(V4)));
        all.push(fragment(Tcp::with_all().packet(V4), 0x2000));
        all.push(fragment(Tcp::with_all().packet(V4), 7));
        let datagram = udp(V4, 4_000, 53, &[7; 32]);
        all.push(fragment(ip(V4, proto::UDP, &datagram[..24]), 0x2000));
        all.push(fragment(ip(V4, proto::UDP, &datagram[16..]), 2));
        let datagram = udp(V6, 4_000, 53, &[7; 32]);
        for (word, part) in [(1, &datagram[..24]), (24, &datagram[24..])] {
            let header = vec![0, 0, 0, word, 0, 0, 0, 9];
            all.push(ipv6_chain(V6, &[(proto::FRAGMENT, header)], proto::UDP, part));
        }
        all.push(ipv6(V6, 255, proto::ICMPV6, &icmp(V6, 135, 0, [0; 4], &[0x20; 24])));
        for kind in [proto::HOP_BY_HOP, proto::ROUTING, proto::DESTINATION, proto::FRAGMENT] {
            let header = vec![0, 0, 1, 4, 0, 0, 0, 0];
            all.push(ipv6_chain(V6, &[(kind, header)], proto::TCP, &Tcp::default().octets(V6)));
        }
        all
    })
}

fn conversation(ends: Ends, all: &mut Vec<Vec<u8>>) {
    use flags::{ACK, FIN, RST, SYN};
    let back = ends.turned();
    let from = |seq, ack, flags, payload: usize| Tcp {
        seq,
        ack,
        flags,
        payload: vec![7; payload],
        ..Tcp::default()
    };
    let to = |seq, ack, flags| Tcp { sport: 80, dport: 40_000, seq, ack, flags, ..Tcp::default() };
    for segment in [
        Tcp { options: Tcp::with_all().options, ..Tcp::default() },
        from(1_001, 5_001, ACK, 0),
        from(1_001, 5_001, ACK, 9),
        from(1_010, 5_001, ACK | FIN, 0),
        from(1_001, 5_001, RST | ACK, 0),
        Tcp { dport: 81, ..Tcp::default() },
    ] {
        all.push(segment.packet(ends));
    }
    for segment in [
        to(5_000, 1_001, SYN | ACK),
        to(5_001, 1_010, ACK),
        to(5_001, 1_011, ACK | FIN),
        to(0, 1_001, RST | ACK),
    ] {
        all.push(segment.packet(back));
    }
    all.push(ip(ends, proto::UDP, &udp(ends, 53, 53, b"query")));
    all.push(ip(back, proto::UDP, &udp(back, 53, 53, b"answer")));
    let v4 = ends.src.is_ipv4();
    let number = if v4 { proto::ICMP } else { proto::ICMPV6 };
    let (echo, reply, unreachable) = if v4 { (8, 0, 3) } else { (128, 129, 1) };
    all.push(ip(ends, number, &icmp(ends, echo, 0, [0, 1, 0, 1], b"data")));
    all.push(ip(back, number, &icmp(back, reply, 0, [0, 1, 0, 1], b"data")));
    let quote = Tcp::default().packet(ends);
    all.push(ip(back, number, &icmp(back, unreachable, 1, [0; 4], &quote)));
    all.push(ip(ends, proto::GRE, &[0, 0, 8, 0, 1, 2, 3, 4]));
}

fn rule(octet: u8) -> Rule {
    let mut rule = Rule::new(match octet & 7 {
        0 | 1 => Action::Block(BlockAnswer::Return),
        2 => Action::Block(BlockAnswer::Drop),
        3 => Action::Block(BlockAnswer::ReturnIcmp { code: 1, code6: 3 }),
        4 => Action::Match,
        _ => Action::Pass,
    });
    match octet >> 3 & 3 {
        0 => {}
        1 => rule.proto = Some(proto::TCP),
        2 => rule.direction = Some(Direction::In),
        _ => {
            rule.proto = Some(proto::TCP);
            rule.to.port = Some(PortMatch::Equal(80));
            rule.flags = (octet & 0x80 != 0).then_some(TcpFlagsMatch::S_SA);
        }
    }
    if rule.action == Action::Pass && octet & 0x60 == 0x60 {
        rule.state = StatePolicy::None;
    }
    rule.quick = octet & 0x40 != 0;
    rule
}

/// A rule that does more: translates, chooses a way, cleans, counts or logs. What no ruleset may say
/// stays undone.
fn with_action(rule: Rule, octet: u8) -> Rule {
    let pool = |v4: &str, v6: &str, af: Af| {
        let text = if af == Af::Inet { v4 } else { v6 };
        Pool::new(AddrMatch::Net(text.parse().expect("a network")))
    };
    let af = if octet & 0x10 == 0 { Af::Inet } else { Af::Inet6 };
    let other = if octet & 0x10 == 0 { Af::Inet6 } else { Af::Inet };
    let more = octet & 0x20 != 0;
    let mut changed = rule.clone();
    match octet & 15 {
        0 => {}
        1 => {
            changed.direction = Some(Direction::Out);
            changed.af = Some(af);
            let mut nat = pool("203.0.113.1", "2001:db8:3::1", af);
            nat.ports =
                Some(if more { PoolPorts::Static } else { PoolPorts::Range(50_001, 50_004) });
            changed.nat = Some(nat.into());
        }
        2 => {
            changed.direction = Some(Direction::In);
            changed.af = Some(af);
            let mut rdr = pool("192.0.2.64/30", "2001:db8:2::40/126", af);
            rdr.kind = if more { PoolKind::RoundRobin } else { PoolKind::Random };
            rdr.sticky = more;
            changed.rdr = Some(rdr.into());
        }
        3 | 4 => {
            changed.direction = Some(Direction::In);
            changed.af = Some(af);
            changed.af_to = Some(other);
            changed.state = StatePolicy::Keep;
            changed.nat = Some(pool("203.0.113.1", "2001:db8:3::1", other).into());
            changed.rdr = more.then(|| pool("192.0.2.9", "2001:db8:2::9", other).into());
        }
        5 => changed.state = StatePolicy::Modulate,
        6 => changed.state = StatePolicy::Synproxy,
        7 => changed.state_options.sloppy = true,
        8 | 9 => {
            changed.direction = Some(if more { Direction::In } else { Direction::Out });
            changed.af = Some(af);
            let kind = match octet & 0xc1 {
                0 | 1 => RouteKind::RouteTo,
                0x40 | 0x41 => RouteKind::ReplyTo,
                _ => RouteKind::DupTo,
            };
            let route = Route { kind, pool: pool("192.0.2.200", "2001:db8:2::200", af) };
            changed.route = Some(route.into());
        }
        10 => {
            changed.scrub = Scrub {
                no_df: true,
                random_id: more,
                min_ttl: 100,
                reassemble_tcp: octet & 0x40 != 0,
                max_mss: 1_000,
                ..Scrub::default()
            };
        }
        11 => changed.rare.max_pkt_rate = Some(Rate { limit: 3, seconds: 1 }),
        12 => {
            changed.state_options.source_track =
                Some(if more { SourceTrack::Global } else { SourceTrack::Rule });
            changed.state_options.max_src_states = Some(2);
        }
        13 => changed.log = Some(Log { all: more, matches: octet & 0x40 != 0, ..Log::default() }),
        14 => changed.allow_opts = true,
        _ => {
            changed.set.prio = Some((1, 6));
            changed.set.tos = more.then_some(0x10);
            changed.state_options.if_bound = octet & 0x40 != 0;
        }
    }
    let draft = Draft::<()> { rules: vec![changed.clone()], ..Draft::default() };
    if check(draft).is_ok() { changed } else { rule }
}

impl Setup {
    fn rules(&self) -> Vec<Rule> {
        let octets = self.rules.into_iter().zip(self.actions);
        octets.map(|(octet, action)| with_action(rule(octet), action)).collect()
    }

    fn options(&self) -> Options {
        let mode = match self.syncookies % 3 {
            0 => SyncookieMode::Never,
            1 => SyncookieMode::Always,
            _ => SyncookieMode::Adaptive,
        };
        let mut options = Options {
            syncookies: Some(Syncookies {
                mode,
                classic: self.syncookies & 0x80 != 0,
                watermarks: Some(Watermarks { start: 3, end: 1 }),
                destination: (self.syncookies & 0x40 != 0)
                    .then_some(Watermarks { start: 1, end: 1 }),
                probe: self.syncookies & 0x20 != 0,
                server: (self.syncookies & 0x90 == 0x10).then_some(ServerOptions {
                    mss: Some(1_400),
                    wscale: Some(7),
                    sack_perm: true,
                    timestamp: true,
                    ecn: true,
                }),
            }),
            ..Options::default()
        };
        options.limits.set(Limit::States, STATES);
        options
    }
}

/// A filter, its neighbours, and the record of what happened.
pub struct Session {
    engine: Arc<Engine>,
    worker: Worker,
    now: Uptime,
    size: usize,
    translates: bool,
    batch: Batch,
    sent: Vec<(Vec<u8>, Offload)>,
    passed: Option<Vec<u8>>,
    cookie: Option<Vec<u8>>,
    connect: Option<Vec<u8>>,
    /// Verdicts and octets in their order, and what the worker wanted to be done.
    pub record: Vec<(Verdict, Vec<u8>)>,
    /// Outputs in their order.
    pub outputs: Vec<Output>,
}

/// Runs a session; gives its record.
pub fn run(setup: Setup, ops: &[Op]) -> Session {
    let rules = setup.rules();
    let translates = rules.iter().any(|rule| rule.nat.is_some() || rule.rdr.is_some());
    let engine = super::engine(setup.options(), rules, 3);
    let mut session = Session {
        worker: engine.worker(),
        engine,
        now: Uptime::from_secs(1_000),
        size: setup.batch.clamp(1, Batch::SIZE),
        translates,
        batch: Batch::new(),
        sent: Vec::new(),
        passed: None,
        cookie: None,
        connect: None,
        record: Vec::new(),
        outputs: Vec::new(),
    };
    for op in ops {
        session.step(op);
    }
    session.flush();
    session.engine.check_invariants().expect("the gauges agree");
    session
}

impl Session {
    fn step(&mut self, op: &Op) {
        match op {
            Op::Send { template, outbound, edits, repair: repaired, offload } => {
                let all = templates();
                let mut octets = all[usize::from(*template) % all.len()].clone();
                for edit in edits {
                    edit.apply(&mut octets);
                }
                if *repaired {
                    repair(&mut octets);
                }
                self.push(*outbound, &octets, offload_of(*offload));
            }
            Op::Raw { octets, outbound } => self.push(*outbound, octets, Offload::default()),
            Op::ReturnCookie => {
                self.flush();
                if let Some(ack) = self.cookie.as_deref().and_then(return_of) {
                    self.push(false, &ack, Offload::default());
                }
            }
            Op::Accept { refuse } => {
                self.flush();
                if let Some(answer) = self.connect.as_deref().and_then(|syn| accept(syn, *refuse)) {
                    self.push(true, &answer, Offload::default());
                }
            }
            Op::Forward => {
                self.flush();
                let Some(mut packet) = self.batch.packets.pop() else { return };
                let passed = packet.meta.verdict == Verdict::Pass;
                if passed && packet.meta.direction == Direction::In {
                    packet.meta.direction = Direction::Out;
                    packet.meta.interface = pfapi::units::IfIndex(1);
                    self.batch.packets.clear();
                    self.sent.clear();
                    self.sent.push((packet.data().to_vec(), packet.meta.offload));
                    self.batch.packets.push(packet);
                    self.process();
                }
            }
            Op::Error { kind, outbound, edits } => {
                self.flush();
                let error = self.passed.clone().and_then(|octets| error(*kind, octets, edits));
                if let Some(error) = error {
                    self.push(*outbound, &error, Offload::default());
                }
            }
            Op::Wait { milliseconds } => {
                self.flush();
                self.now = self.now.plus_nanos(u64::from(*milliseconds) * 1_000_000);
                self.worker.handle_timeout(self.now);
                self.drain();
                self.check_engine();
            }
        }
    }

    fn push(&mut self, outbound: bool, octets: &[u8], offload: Offload) {
        if self.sent.is_empty() {
            self.batch.packets.clear();
        }
        let direction = if outbound { Direction::Out } else { Direction::In };
        let mut packet = super::packet(direction, octets);
        packet.meta.offload = offload;
        self.batch.packets.push(packet);
        self.sent.push((octets.to_vec(), offload));
        if self.sent.len() >= self.size {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.sent.is_empty() {
            self.process();
        }
    }

    fn process(&mut self) {
        self.worker.process(self.now, &mut self.batch);
        let sent = core::mem::take(&mut self.sent);
        assert_eq!(sent.len(), self.batch.packets.len());
        for ((before, offload), packet) in sent.iter().zip(&self.batch.packets) {
            judge((before, *offload), packet, self.translates);
            let octets = packet.data();
            self.record.push((packet.meta.verdict, octets.to_vec()));
            if packet.meta.verdict == Verdict::Pass {
                self.passed = Some(octets.to_vec());
            }
            match (packet.meta.verdict, tcp_flags(octets)) {
                (Verdict::Answer, Some(0x12)) => self.cookie = Some(octets.to_vec()),
                (Verdict::Pass, Some(0x02)) => self.connect = Some(octets.to_vec()),
                _ => {}
            }
        }
        self.drain();
        self.check_engine();
    }

    fn drain(&mut self) {
        while let Some(output) = self.worker.poll_output() {
            if let Output::Send { packet, .. } = &output {
                assert_sendable(packet.data(), packet.offload());
            }
            self.outputs.push(output);
        }
    }

    fn check_engine(&self) {
        self.engine.check_gauges().expect("the gauges agree");
        assert!(self.engine.info(self.now).states <= u64::from(STATES));
    }
}

/// An error about a packet, from a router on its way.
fn error(kind: u8, mut quote: Vec<u8>, edits: &[Edit]) -> Option<Vec<u8>> {
    let (src, sender) = match quote.first()? >> 4 {
        4 if quote.len() >= 20 => ("192.0.2.77", ends_of(&quote).src),
        6 if quote.len() >= 40 => ("2001:db8:2::77", ends_of(&quote).src),
        _ => return None,
    };
    let ends = Ends { src: src.parse().expect("an address"), dst: sender };
    let types = if sender.is_ipv4() { [3, 11, 12, 3] } else { [1, 3, 4, 2] };
    for edit in edits {
        edit.apply(&mut quote);
    }
    quote.truncate(1_200);
    let number = if sender.is_ipv4() { proto::ICMP } else { proto::ICMPV6 };
    let word = [0, 0, 5, kind];
    let icmp_type = types[usize::from(kind & 3)];
    Some(ip(ends, number, &icmp(ends, icmp_type, kind >> 2 & 15, word, &quote)))
}

fn offload_of(octet: u8) -> Offload {
    let checksum = match octet & 3 {
        0 | 1 => Checksum::Complete,
        2 => Checksum::Partial { start: 20, offset: 16 },
        _ => Checksum::Partial { start: u16::from(octet) << 8, offset: 0xffff },
    };
    let gso = match octet >> 2 & 7 {
        0 => Gso::Tcp { ecn: octet & 0x80 != 0 },
        1 => Gso::Udp,
        _ => Gso::None,
    };
    let gso_size = if gso == Gso::None { 0 } else { u16::from(octet) };
    Offload { gso, gso_size, checksum }
}

fn header_of(octets: &[u8]) -> Option<(usize, u8)> {
    match octets.first()? >> 4 {
        4 => Some((usize::from(octets[0] & 0x0f) * 4, *octets.get(9)?)),
        6 => Some((40, *octets.get(6)?)),
        _ => None,
    }
}

fn tcp_flags(octets: &[u8]) -> Option<u8> {
    let (header, number) = header_of(octets)?;
    let flags = octets.get(header + 13)?;
    (number == proto::TCP).then_some(*flags)
}

fn ends_of(octets: &[u8]) -> Ends {
    let address = |at: usize, len: usize| -> IpAddr {
        match len {
            4 => <[u8; 4]>::try_from(&octets[at..at + 4]).expect("four octets").into(),
            _ => <[u8; 16]>::try_from(&octets[at..at + 16]).expect("sixteen octets").into(),
        }
    };
    if octets[0] >> 4 == 4 {
        Ends { src: address(12, 4), dst: address(16, 4) }
    } else {
        Ends { src: address(8, 16), dst: address(24, 16) }
    }
}

/// Segment back to the sender of a segment.
fn reply(octets: &[u8], flags: u8, seq: impl Fn(u32, u32) -> u32) -> Option<Vec<u8>> {
    let (header, _) = header_of(octets)?;
    let segment = octets.get(header..header + 20)?;
    let be16 = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
    let be32 = |at: usize| u32::from(be16(at)) << 16 | u32::from(be16(at + 2));
    let answer = Tcp {
        sport: be16(2),
        dport: be16(0),
        seq: seq(be32(4), be32(8)),
        ack: be32(4).wrapping_add(1),
        flags,
        ..Tcp::default()
    };
    Some(answer.packet(ends_of(octets).turned()))
}

fn return_of(syn_ack: &[u8]) -> Option<Vec<u8>> {
    reply(syn_ack, flags::ACK, |_, ack| ack)
}

fn accept(syn: &[u8], refuse: bool) -> Option<Vec<u8>> {
    if refuse {
        reply(syn, flags::RST | flags::ACK, |_, _| 0)
    } else {
        reply(syn, flags::SYN | flags::ACK, |seq, _| seq ^ 0x5555)
    }
}

/// What must hold of a packet that the filter has decided.
fn judge((before, offload): (&[u8], Offload), packet: &Packet, translates: bool) {
    let octets = packet.data();
    match packet.meta.verdict {
        Verdict::Answer => {
            assert_sendable(octets, Offload::default());
            assert_eq!(packet.meta.offload, Offload::default());
            let most = match tcp_flags(octets) {
                Some(_) => 80,
                None if octets[0] >> 4 == 6 => 1_280,
                None => 28 + before.len(),
            };
            assert!(octets.len() <= most, "an answer of {} octets", octets.len());
            let (asked, answered) = (ends_of(before), ends_of(octets));
            // An error about the SYN to a server becomes an RST to the client, as it knows itself.
            let to_an_end = [asked.src, asked.dst].contains(&answered.dst);
            assert!(to_an_end || translates, "{asked:?} {answered:?}");
        }
        // The last fragment of a datagram becomes the whole of it, with whatever the others held.
        Verdict::Pass if is_fragment(before) => assert_whole(octets),
        Verdict::Pass => {
            assert_whole(octets);
            // Options are added, and in the other family headers are longer, also quoted ones.
            let other = before.first().map(|first| first >> 4) != Some(octets[0] >> 4);
            let most = before.len() + if other { 60 } else { 20 };
            assert!(octets.len() <= most, "{before:02x?} became {octets:02x?}");
            // A device that leaves the checksum of something else open damages the packet itself.
            let is_complete = [offload, packet.meta.offload] == [Offload::default(); 2];
            if is_complete && packet_is_intact(before) {
                assert!(packet_is_intact(octets), "{before:02x?} became {octets:02x?}");
            }
        }
        // It may have been dropped when it was whole.
        Verdict::Drop(_) if is_fragment(before) => {}
        Verdict::Drop(_) | Verdict::Held => assert!(octets.len() <= before.len()),
    }
}

/// Whether a packet is a fragment, as far as its first headers tell.
fn is_fragment(octets: &[u8]) -> bool {
    match octets.first().map(|first| first >> 4) {
        Some(4) => octets.len() >= 20 && (octets[6] & 0x3f != 0 || octets[7] != 0),
        Some(6) => octets.len() >= 40 && !is_plain(octets[6]),
        _ => false,
    }
}

/// Whether a next-header number is that of a transport.
const fn is_plain(next: u8) -> bool {
    !matches!(
        next,
        proto::HOP_BY_HOP | proto::ROUTING | proto::FRAGMENT | proto::AH | proto::DESTINATION
    )
}

/// The packet ends where its header says.
fn assert_whole(octets: &[u8]) {
    let total = match octets[0] >> 4 {
        4 => usize::from(u16::from_be_bytes([octets[2], octets[3]])),
        6 => 40 + usize::from(u16::from_be_bytes([octets[4], octets[5]])),
        version => panic!("version {version}"),
    };
    assert_eq!(total, octets.len(), "{octets:02x?}");
    if octets[0] >> 4 == 4 {
        let mut again = octets.to_vec();
        fix_ipv4(&mut again);
        assert_eq!(super::checksum(&octets[..usize::from(octets[0] & 0x0f) * 4]), 0);
    }
}

/// A packet of the filter itself, or one that it has kept: whole, right checksums as far as it is
/// not its device that makes them, to one host.
fn assert_sendable(octets: &[u8], offload: Offload) {
    assert_whole(octets);
    assert!(offload != Offload::default() || packet_is_intact(octets), "{octets:02x?}");
    let ends = ends_of(octets);
    assert!(!ends.dst.is_multicast() && !ends.dst.is_unspecified(), "to {}", ends.dst);
    assert!(!ends.src.is_multicast(), "from {}", ends.src);
}

/// Decodes a session from the fuzzer's octets.
pub fn decode(input: &[u8]) -> Option<(Setup, Vec<Op>)> {
    let (head, mut rest) = input.split_first_chunk::<6>()?;
    // Inputs of the first fuzzers have no actions and no errors.
    let wide = head[5] & 0x80 != 0;
    let mut actions = [0; 4];
    if wide {
        let (octets, behind) = rest.split_first_chunk::<4>()?;
        (actions, rest) = (*octets, behind);
    }
    let setup = Setup {
        rules: [head[0], head[1], head[2], head[3]],
        actions,
        syncookies: head[4],
        batch: usize::from(head[5] % 64) + 1,
    };
    let mut ops = Vec::new();
    while let Some((&kind, behind)) = rest.split_first() {
        rest = behind;
        let outbound = kind & 0x80 != 0;
        ops.push(match kind & 7 {
            0..=2 => {
                let Some((&[template, offload], behind)) = rest.split_first_chunk() else { break };
                rest = behind;
                let edits = decode_edits(kind >> 3 & 7, &mut rest);
                Op::Send { template, outbound, edits, repair: kind & 0x40 != 0, offload }
            }
            3 => {
                let Some((&len, behind)) = rest.split_first() else { break };
                let (octets, behind) = behind.split_at(usize::from(len).min(behind.len()));
                rest = behind;
                Op::Raw { octets: octets.to_vec(), outbound }
            }
            4 => Op::ReturnCookie,
            5 => Op::Accept { refuse: outbound },
            6 if wide && kind & 0x40 != 0 => {
                let Some((&what, behind)) = rest.split_first() else { break };
                rest = behind;
                let edits = decode_edits(kind >> 3 & 7, &mut rest);
                Op::Error { kind: what, outbound, edits }
            }
            6 => Op::Forward,
            _ => {
                let Some((time, behind)) = rest.split_first_chunk() else { break };
                rest = behind;
                Op::Wait { milliseconds: u16::from_be_bytes(*time) }
            }
        });
    }
    Some((setup, ops))
}

fn decode_edits(count: u8, rest: &mut &[u8]) -> Vec<Edit> {
    let mut edits = Vec::new();
    for _ in 0..count {
        let Some((edit, behind)) = rest.split_first_chunk::<4>() else { break };
        *rest = behind;
        edits.push(decode_edit(*edit));
    }
    edits
}

const fn decode_edit([kind, high, low, value]: [u8; 4]) -> Edit {
    let at = u16::from_be_bytes([high, low]);
    match kind % 6 {
        0 => Edit::Flip { at, bit: value },
        1 => Edit::Set { at, value },
        2 => Edit::Insert { at, value },
        3 => Edit::Delete { at },
        4 => Edit::Duplicate { at, len: value },
        _ => Edit::Cut { at },
    }
}
