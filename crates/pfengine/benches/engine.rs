//! Nanoseconds per packet on the ways that most packets take, in batches of 64.
//!
//! A round is one batch; the figures that divan prints as items per second are packets. Packets
//! are put back as they were before each round, outside the measured time.
//! `cargo bench -p pfengine --bench engine`
#![allow(missing_docs, reason = "benchmarks are named after what they measure")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Rig, Tcp, V4, flags, ip, packet, proto, udp};
use divan::Bencher;
use divan::counter::ItemsCount;
use pfapi::addr::Prefix;
use pfapi::limit::Limit;
use pfapi::port::PortMatch;
use pfapi::ruleset::{
    Action, AddrMatch, BlockAnswer, Endpoint, Options, Rule, SyncookieMode, Syncookies, Watermarks,
};
use pfapi::units::{Direction, IfIndex};
use pfengine::{Batch, Loader, Verdict};

fn main() {
    // The first rounds meet cold memory, so few samples would show little else.
    divan::Divan::default().sample_count(10_000).config_with_args().main();
}

const SIZE: u32 = 64;
const STATES: [u32; 3] = [1_000, 10_000, 100_000];

fn pass() -> Vec<Rule> {
    vec![Rule::new(Action::Pass)]
}

fn options(cookies: bool) -> Options {
    let mode = if cookies { SyncookieMode::Always } else { SyncookieMode::Never };
    let setting = Syncookies { mode, classic: false, watermarks: None, ..Syncookies::default() };
    let mut options = Options { syncookies: Some(setting), ..Options::default() };
    options.limits.set(Limit::States, 250_000);
    options
}

/// Packets of one round and what they look like before it.
struct Round {
    batch: Batch,
    octets: Vec<Vec<u8>>,
    direction: Direction,
}

impl Round {
    fn new(direction: Direction, octets: Vec<Vec<u8>>) -> Self {
        let packets = octets.iter().map(|octets| packet(direction, octets)).collect();
        Self { batch: Batch { packets }, octets, direction }
    }

    fn refill(&mut self) {
        for (packet, octets) in self.batch.packets.iter_mut().zip(&self.octets) {
            packet.set_span(common::HEADROOM, octets.len());
            packet.data_mut().copy_from_slice(octets);
            packet.meta.direction = self.direction;
            packet.meta.interface = IfIndex(0);
            packet.meta.link = None;
        }
    }
}

fn syn(n: u32) -> Vec<u8> {
    Tcp::with_all().packet(V4.client(n))
}

fn data(n: u32) -> Vec<u8> {
    let segment = Tcp { seq: 1_006, ack: 5_001, flags: flags::ACK, ..Tcp::default() };
    Tcp { payload: vec![7; 40], ..segment }.packet(V4.client(n))
}

/// The server's answer to the SYN of a client.
fn syn_ack(n: u32, ack: u32, options: Vec<u8>) -> Vec<u8> {
    let flags = flags::SYN | flags::ACK;
    Tcp { sport: 80, dport: 40_000, seq: 5_000, ack, flags, options, ..Tcp::default() }
        .packet(V4.client(n).turned())
}

/// `states` established connections, with a state on each interface when `both`.
fn established(states: u32, both: bool) -> Rig {
    let mut rig = Rig::new(options(false), pass());
    for n in 0..states {
        let outcome = rig.send(Direction::In, &syn(n));
        assert_eq!(outcome.verdict, Verdict::Pass);
        if both {
            assert_eq!(rig.send(Direction::Out, &syn(n)).verdict, Verdict::Pass);
        }
        let answer = syn_ack(n, 1_006, Vec::new());
        if both {
            assert_eq!(rig.send(Direction::In, &answer).verdict, Verdict::Pass);
        }
        assert_eq!(rig.send(Direction::Out, &answer).verdict, Verdict::Pass);
    }
    rig
}

/// No-operations and a timestamp option, as common stacks write them.
fn stamps(tsval: u32, tsecr: u32) -> Vec<u8> {
    [&[1, 1, 8, 10][..], &tsval.to_be_bytes(), &tsecr.to_be_bytes()].concat()
}

/// A segment of a connection with timestamps.
fn stamped_data(n: u32, ack: u32) -> Vec<u8> {
    let segment = Tcp { seq: 1_001, ack, flags: flags::ACK, ..Tcp::default() };
    Tcp { options: stamps(200, 300), payload: vec![7; 40], ..segment }.packet(V4.client(n))
}

/// Connections behind cookies with a server whose numbers and timestamps are others; with the
/// acknowledgement number of each client.
fn spliced(states: u32) -> (Rig, Vec<u32>) {
    let mut rig = Rig::new(options(true), pass());
    let offer = |tsval, tsecr| {
        [&[2, 4, 5, 180, 4, 2, 1, 1, 1, 3, 3, 7][..], &stamps(tsval, tsecr)].concat()
    };
    let word = |octets: &[u8], at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|n| octets[at + n]));
    let mut acks = Vec::new();
    for n in 0..states {
        let syn = Tcp { options: offer(100, 0), ..Tcp::default() }.packet(V4.client(n));
        let cookie = rig.send(Direction::In, &syn);
        assert_eq!(cookie.verdict, Verdict::Answer);
        let options = cookie.octets[40..].windows(2).position(|pair| pair == [8, 10]);
        let stamp = word(&cookie.octets, 40 + options.expect("timestamps") + 2);
        let ack = word(&cookie.octets, 24).wrapping_add(1);
        let third = Tcp { seq: 1_001, ack, flags: flags::ACK, ..Tcp::default() };
        let third = Tcp { options: stamps(101, stamp), ..third }.packet(V4.client(n));
        assert_eq!(rig.send(Direction::In, &third).verdict, Verdict::Pass);
        let answer = syn_ack(n, 1_001, offer(700, 101));
        assert_eq!(rig.send(Direction::Out, &answer).verdict, Verdict::Answer);
        // Where the server waits for the client's word: data, and its repetition.
        for _ in 0..2 {
            let _ = rig.send(Direction::In, &stamped_data(n, ack));
        }
        let _ = rig.outputs();
        acks.push(ack);
    }
    (rig, acks)
}

/// Numbers of connections, spread so that neighbours in time are strangers in memory.
fn spread(states: u32, round: u32) -> impl Iterator<Item = u32> {
    (0..SIZE).map(move |n| (round * SIZE + n).wrapping_mul(7_919) % states)
}

/// Measures batches drawn in turn from `rounds`.
fn measure(bencher: Bencher, rig: &mut Rig, rounds: &mut [Round]) {
    let now = rig.now;
    let count = rounds.len();
    let rounds = core::cell::RefCell::new(rounds);
    let next = core::cell::Cell::new(0);
    bencher
        .counter(ItemsCount::new(SIZE))
        .with_inputs(|| {
            let at = next.get();
            next.set((at + 1) % count);
            rounds.borrow_mut()[at].refill();
            at
        })
        .bench_local_values(|at| {
            rig.worker.process(now, &mut rounds.borrow_mut()[at].batch);
        });
}

fn rounds(states: u32, make: impl Fn(u32) -> Vec<u8>) -> Vec<Round> {
    (0..128)
        .map(|round| Round::new(Direction::In, spread(states, round).map(&make).collect()))
        .collect()
}

fn all_are(rig: &mut Rig, octets: &[u8], expected: Verdict) {
    assert_eq!(rig.send(Direction::In, octets).verdict, expected);
}

#[divan::bench(args = STATES)]
fn tcp_state_hit(bencher: Bencher, states: u32) {
    let mut rig = established(states, false);
    all_are(&mut rig, &data(0), Verdict::Pass);
    measure(bencher, &mut rig, &mut rounds(states, data));
}

/// The same with timestamps, to compare the next one with.
#[divan::bench(args = [1_000, 10_000])]
fn stamped_state_hit(bencher: Bencher, states: u32) {
    let mut rig = established(states, false);
    let data = |n| stamped_data(n, 5_001);
    all_are(&mut rig, &data(0), Verdict::Pass);
    measure(bencher, &mut rig, &mut rounds(states, data));
}

/// Numbers and timestamps are translated.
#[divan::bench(args = [1_000, 10_000])]
fn spliced_state_hit(bencher: Bencher, states: u32) {
    let (mut rig, acks) = spliced(states);
    let data = |n| stamped_data(n, acks[n as usize]);
    all_are(&mut rig, &data(0), Verdict::Pass);
    measure(bencher, &mut rig, &mut rounds(states, data));
}

/// Each packet passes twice: in by one interface, out by the other.
#[divan::bench(args = STATES)]
fn tcp_state_hit_in_and_out(bencher: Bencher, states: u32) {
    let mut rig = established(states, true);
    all_are(&mut rig, &data(0), Verdict::Pass);
    let now = rig.now;
    let rounds = core::cell::RefCell::new(rounds(states, data));
    let next = core::cell::Cell::new(0);
    bencher
        .counter(ItemsCount::new(SIZE))
        .with_inputs(|| {
            let at = next.get();
            next.set((at + 1) % 128);
            rounds.borrow_mut()[at].refill();
            at
        })
        .bench_local_values(|at| {
            let batch = &mut rounds.borrow_mut()[at].batch;
            rig.worker.process(now, batch);
            for packet in &mut batch.packets {
                packet.meta.direction = Direction::Out;
                packet.meta.interface = IfIndex(1);
            }
            rig.worker.process(now, batch);
        });
}

#[divan::bench(args = STATES)]
fn udp_state_hit(bencher: Bencher, states: u32) {
    let mut rig = Rig::new(options(false), pass());
    let datagram = |n| {
        let ends = V4.client(n);
        ip(ends, proto::UDP, &udp(ends, 53, 53, b"query"))
    };
    for n in 0..states {
        rig.send(Direction::In, &datagram(n));
    }
    measure(bencher, &mut rig, &mut rounds(states, datagram));
}

/// Every round makes 64 states; the store is emptied between rounds, outside the measured time.
#[divan::bench]
fn new_tcp_state(bencher: Bencher) {
    let mut rig = Rig::new(options(false), pass());
    let mut round = Round::new(Direction::In, spread(100_000, 0).map(syn).collect());
    let now = rig.now;
    let engine = rig.engine.clone();
    let round = core::cell::RefCell::new(&mut round);
    bencher
        .counter(ItemsCount::new(SIZE))
        .with_inputs(|| {
            let all = pfapi::control::Flush::States { interface: None };
            let _ = engine.flush(&all, now);
            round.borrow_mut().refill();
        })
        .bench_local_values(|()| rig.worker.process(now, &mut round.borrow_mut().batch));
}

#[divan::bench]
fn block_return_rst(bencher: Bencher) {
    let mut rig = Rig::new(options(false), vec![Rule::new(Action::Block(BlockAnswer::Return))]);
    all_are(&mut rig, &syn(0), Verdict::Answer);
    measure(bencher, &mut rig, &mut rounds(100_000, syn));
}

#[divan::bench]
fn syn_to_cookie(bencher: Bencher) {
    let mut rig = Rig::new(options(true), pass());
    all_are(&mut rig, &syn(0), Verdict::Answer);
    measure(bencher, &mut rig, &mut rounds(100_000, syn));
}

/// A SYN that gets a cookie after the rules were asked: so many rules about other networks and
/// ports, then one that passes.
#[divan::bench(args = [10_u32, 100, 10_000])]
fn syn_to_cookie_behind_rules(bencher: Bencher, count: u32) {
    let mut rules: Vec<Rule> = (0..count)
        .map(|n| {
            let net = core::net::Ipv4Addr::from_bits(0xac10_0000 + n * 256);
            let mut rule = Rule::new(Action::Block(BlockAnswer::Drop));
            rule.proto = Some(proto::TCP);
            rule.from = Endpoint {
                addr: AddrMatch::Net(Prefix::new(net.into(), 24)),
                ..Endpoint::default()
            };
            rule
        })
        .collect();
    rules.insert(0, Rule::new(Action::Pass));
    let mut rig = Rig::new(options(true), rules);
    all_are(&mut rig, &syn(0), Verdict::Answer);
    measure(bencher, &mut rig, &mut rounds(100_000, syn));
}

/// SYNs to one destination while only another one is under flood: what the watch costs everybody.
#[divan::bench]
fn block_while_another_is_flooded(bencher: Bencher) {
    let mut options = options(false);
    let watermarks = Some(Watermarks { start: 10_000, end: 5_000 });
    let destination = Some(Watermarks { start: 50, end: 25 });
    let mode = SyncookieMode::Adaptive;
    options.syncookies =
        Some(Syncookies { mode, watermarks, destination, ..Syncookies::default() });
    let mut blocked = Rule::new(Action::Block(BlockAnswer::Drop));
    blocked.proto = Some(proto::TCP);
    blocked.to.port = Some(PortMatch::Equal(80));
    let mut rig = Rig::new(options, vec![Rule::new(Action::Pass), blocked]);
    for n in 0..60 {
        let flood = Tcp { dport: 443, ..Tcp::with_all() }.packet(V4.client(n));
        rig.send(Direction::In, &flood);
    }
    assert_eq!(rig.engine.info(rig.now).syncookies.destinations.len(), 1);
    measure(bencher, &mut rig, &mut rounds(100_000, syn));
}

/// A long access list: networks of clients, some of them nested, servers and ports, so that a
/// packet matches few rules and which ones differs from packet to packet.
fn access_list(count: u32) -> Vec<Rule> {
    let mut random = 1_u32;
    let mut below = |end: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % end
    };
    let net = |bits: u32, len: u8| {
        AddrMatch::Net(Prefix::new(core::net::Ipv4Addr::from_bits(bits).into(), len))
    };
    let mut rules = vec![Rule::new(Action::Block(BlockAnswer::Drop))];
    rules.extend((1..count).map(|_| {
        let mut rule = Rule::new(Action::Block(BlockAnswer::Drop));
        rule.proto = Some(if below(4) == 0 { proto::UDP } else { proto::TCP });
        rule.from.addr = match below(8) {
            0 => AddrMatch::Any,
            1 => net(0x0a00_0000 + below(16) * 0x1_0000, 16),
            _ => net(0x0a00_0000 + below(4_096) * 256, 24),
        };
        rule.to.addr = match below(4) {
            0 => AddrMatch::Any,
            _ => net(0xc000_0200 + below(256), 32),
        };
        rule.to.port = Some(match below(4) {
            0 => PortMatch::Greater(1_023),
            _ => PortMatch::Equal(u16::try_from(1 + below(1_000)).expect("a port")),
        });
        rule
    }));
    rules
}

fn walk(bencher: Bencher, count: u32, plainly: bool) {
    let mut rig = Rig::new(options(false), access_list(count));
    rig.engine.ask_every_rule(plainly);
    measure(bencher, &mut rig, &mut rounds(100_000, syn));
}

/// The first packet of a connection against an access list.
#[divan::bench(args = [10_u32, 100, 1_000, 10_000])]
fn access_list_indexed(bencher: Bencher, count: u32) {
    walk(bencher, count, false);
}

/// The same without indexes.
#[divan::bench(args = [10_u32, 100, 1_000, 10_000])]
fn access_list_plain(bencher: Bencher, count: u32) {
    walk(bencher, count, true);
}

/// Rules that differ in the source network, none of which matches; then one that blocks.
#[divan::bench(args = [10_u32, 100, 1_000])]
fn rules_that_miss(bencher: Bencher, count: u32) {
    let mut rules = vec![Rule::new(Action::Block(BlockAnswer::Drop))];
    rules.extend((0..count).map(|n| {
        let net = core::net::Ipv4Addr::from_bits(0xac10_0000 + n * 256);
        let mut rule = Rule::new(Action::Pass);
        rule.proto = Some(proto::TCP);
        rule.from =
            Endpoint { addr: AddrMatch::Net(Prefix::new(net.into(), 24)), ..Endpoint::default() };
        rule
    }));
    let mut rig = Rig::new(options(false), rules);
    measure(bencher, &mut rig, &mut rounds(100_000, syn));
}

/// Putting an access list in force.
#[divan::bench(args = [1_000_u32, 10_000, 100_000], sample_count = 20)]
fn load_rules(bencher: Bencher, count: u32) {
    let rig = Rig::new(options(false), pass());
    let checked = common::checked(options(false), access_list(count));
    bencher.bench_local(|| {
        rig.engine.load(&checked, Loader::default(), rig.now).expect("the rules are sound");
    });
}
