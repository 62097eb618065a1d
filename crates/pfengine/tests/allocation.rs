//! The way of a packet allocates nothing once the engine is warm.
//!
//! Growth of the slab is the one exception: a chunk of slots for every 512 states above the
//! highest count so far.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{Rig, Tcp, V4, V6, flags, ip, packet, proto, udp};
use pfapi::addr::Af;
use pfapi::ruleset::{
    Action, AddrMatch, Anchor, BlockAnswer, Options, Pool, PoolPorts, Rule, SyncookieMode,
    Syncookies,
};
use pfapi::units::{Direction, IfIndex};
use pfengine::{Batch, Verdict};

struct Counting;

thread_local! {
    /// Of this thread: what runs the test allocates besides.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the contract of `dealloc`, and `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

const SIZE: usize = Batch::SIZE;

/// A full batch of packets that `make` builds, all with `verdict` expected.
struct Traffic {
    octets: Vec<Vec<u8>>,
    direction: Direction,
    batch: Batch,
}

impl Traffic {
    fn new(direction: Direction, octets: Vec<Vec<u8>>) -> Self {
        let packets = octets.iter().map(|octets| packet(direction, octets)).collect();
        Self { octets, direction, batch: Batch { packets } }
    }

    /// Puts the packets back as they were.
    fn refill(&mut self) {
        for (packet, octets) in self.batch.packets.iter_mut().zip(&self.octets) {
            packet.set_span(common::HEADROOM, octets.len());
            packet.data_mut().copy_from_slice(octets);
            packet.meta.direction = self.direction;
            packet.meta.link = None;
        }
    }

    /// Allocations of one round through the filter.
    fn allocations(&mut self, rig: &mut Rig, expected: fn(Verdict) -> bool) -> u64 {
        self.refill();
        let before = ALLOCATIONS.get();
        rig.worker.process(rig.now, &mut self.batch);
        let after = ALLOCATIONS.get();
        for packet in &self.batch.packets {
            assert!(expected(packet.meta.verdict), "{:?}", packet.meta.verdict);
        }
        after - before
    }
}

fn numbers() -> impl Iterator<Item = u16> {
    1..=u16::try_from(SIZE).expect("a batch is short")
}

fn segments(direction: Direction, segment: impl Fn(u16) -> Tcp) -> Traffic {
    Traffic::new(direction, numbers().map(|n| segment(n).packet(V4)).collect())
}

fn syn(n: u16) -> Tcp {
    Tcp { sport: 1_000 + n, ..Tcp::with_all() }
}

fn is_pass(verdict: Verdict) -> bool {
    verdict == Verdict::Pass
}

fn is_answer(verdict: Verdict) -> bool {
    verdict == Verdict::Answer
}

fn is_drop(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Drop(_))
}

#[test]
fn packets_allocate_nothing() {
    state_hits();
    new_states();
    match_rules_and_anchors();
    blocked_packets();
    translated_packets();
    flood_and_cookies();
}

fn state_hits() {
    let mut rig = Rig::new(Options::default(), vec![Rule::new(Action::Pass)]);
    let mut first = segments(Direction::In, syn);
    first.allocations(&mut rig, is_pass);
    let answer = |n: u16| {
        let tcp = Tcp {
            sport: 80,
            dport: 1_000 + n,
            seq: 5_000,
            ack: 1_006,
            flags: flags::SYN | flags::ACK,
            ..Tcp::default()
        };
        tcp.packet(V4.turned())
    };
    let mut second = Traffic::new(Direction::Out, numbers().map(answer).collect());
    // What servers support is noted in chunks that are made when first used.
    assert!(second.allocations(&mut rig, is_pass) <= 1, "SYN|ACK");
    let mut data = segments(Direction::In, |n| Tcp {
        seq: 1_006,
        ack: 5_001,
        flags: flags::ACK | flags::PSH,
        payload: vec![7; 1_000],
        options: Vec::new(),
        ..syn(n)
    });
    assert_eq!(data.allocations(&mut rig, is_pass), 0, "data");
    // The same packets on their way out, with the link that the way in has left.
    for round in 0..3 {
        data.allocations(&mut rig, is_pass);
        for packet in &mut data.batch.packets {
            packet.meta.direction = Direction::Out;
            packet.meta.interface = IfIndex(1);
        }
        let before = ALLOCATIONS.get();
        rig.worker.process(rig.now, &mut data.batch);
        let allocations = ALLOCATIONS.get() - before;
        for packet in &mut data.batch.packets {
            assert_eq!(packet.meta.verdict, Verdict::Pass);
            packet.meta.interface = IfIndex(0);
        }
        assert_eq!(allocations, 0, "outbound, round {round}");
    }
    let datagrams = numbers().map(|n| ip(V6, proto::UDP, &udp(V6, n, 53, b"query"))).collect();
    let mut datagrams = Traffic::new(Direction::In, datagrams);
    datagrams.allocations(&mut rig, is_pass);
    assert_eq!(datagrams.allocations(&mut rig, is_pass), 0, "datagrams");
    rig.engine.check_invariants().expect("the gauges agree");
}

fn translated_packets() {
    let mut nat = Rule::new(Action::Pass);
    nat.direction = Some(Direction::Out);
    nat.af = Some(Af::Inet);
    let mut pool = Pool::new(AddrMatch::Net("203.0.113.1".parse().expect("an address")));
    pool.ports = Some(PoolPorts::NAT_DEFAULT);
    nat.nat = Some(pool.into());
    let mut rig = Rig::new(Options::default(), vec![nat]);
    let mut first = segments(Direction::Out, syn);
    // The directory, the first chunk of slots, and what the worker remembers of the decision.
    assert_eq!(first.allocations(&mut rig, is_pass), 4, "new translated states");
    assert_eq!(first.allocations(&mut rig, is_pass), 0, "packets of translated states");
}

fn new_states() {
    let mut rig = Rig::new(Options::default(), vec![Rule::new(Action::Pass)]);
    segments(Direction::In, syn).allocations(&mut rig, is_pass);
    let mut allocations = 0;
    let rounds = 32_u16;
    for round in 1..=rounds {
        let base = 1_000 + round * 64;
        let mut fresh = segments(Direction::In, |n| Tcp { sport: base + n, ..syn(n) });
        allocations += fresh.allocations(&mut rig, is_pass);
    }
    let states = rig.engine.info(rig.now).states;
    assert_eq!(states, 64 * 33);
    let chunks = states / 512;
    assert_eq!(allocations, chunks, "one allocation for each further chunk of slots");
    // Slots that were freed are used again without growing.
    let flushed = rig.engine.flush(&pfapi::control::Flush::States { interface: None }, rig.now);
    assert_eq!(flushed, states);
    for round in 1..=rounds {
        let base = 20_000 + round * 64;
        let mut fresh = segments(Direction::In, |n| Tcp { sport: base + n, ..syn(n) });
        assert_eq!(fresh.allocations(&mut rig, is_pass), 0, "new states in used slots");
    }
}

/// States with match rules and tags, from rules in anchors.
fn match_rules_and_anchors() {
    let tag = |action, name: &str| {
        let mut rule = Rule::new(action);
        rule.tag = Some(name.into());
        rule
    };
    let inner = vec![tag(Action::Match, "a"), tag(Action::Match, "b"), Rule::new(Action::Pass)];
    let anchor = Anchor { path: "inner".to_owned(), rules: Some(inner) };
    let anchor = Rule { anchor: Some(Box::new(anchor)), ..Rule::new(Action::Pass) };
    let rules = vec![tag(Action::Match, "c"), anchor];
    let mut rig = Rig::new(Options::default(), rules);
    segments(Direction::In, syn).allocations(&mut rig, is_pass);
    let mut fresh = segments(Direction::In, |n| Tcp { sport: 2_000 + n, ..syn(n) });
    assert_eq!(fresh.allocations(&mut rig, is_pass), 0, "states with match rules");
}

fn blocked_packets() {
    for (answer, expected) in [
        (BlockAnswer::Drop, is_drop as fn(Verdict) -> bool),
        (BlockAnswer::Return, is_answer),
        (BlockAnswer::ReturnIcmp { code: 3, code6: 4 }, |_| true),
    ] {
        let mut rig = Rig::new(Options::default(), vec![Rule::new(Action::Block(answer))]);
        let mut blocked = segments(Direction::In, syn);
        blocked.allocations(&mut rig, expected);
        assert_eq!(blocked.allocations(&mut rig, expected), 0, "block {answer:?}");
    }
}

fn flood_and_cookies() {
    let setting = Syncookies {
        mode: SyncookieMode::Always,
        classic: false,
        watermarks: None,
        ..Syncookies::default()
    };
    let options = Options { syncookies: Some(setting), ..Options::default() };
    let mut rig = Rig::new(options, vec![Rule::new(Action::Pass)]);
    let mut flood = segments(Direction::In, syn);
    flood.allocations(&mut rig, is_answer);
    assert_eq!(flood.allocations(&mut rig, is_answer), 0, "SYN flood");
    // Clients that come back: the first round grows the slab, the second repeats the SYNs.
    let cookies: Vec<u32> = flood
        .batch
        .packets
        .iter()
        .map(|packet| u32::from_be_bytes(packet.data()[24..28].try_into().expect("four octets")))
        .collect();
    let mut third = segments(Direction::In, |n| Tcp {
        seq: 1_001,
        ack: cookies[usize::from(n) - 1].wrapping_add(1),
        flags: flags::ACK,
        options: Vec::new(),
        payload: Vec::new(),
        ..syn(n)
    });
    let growth = third.allocations(&mut rig, is_pass);
    // Two for each connection, which remembers what its client was told; else slots, what rules said,
    // and the list of SYNs that may have to be repeated.
    assert!(growth <= 2 * 64 + 12, "{growth} allocations");
    assert_eq!(third.allocations(&mut rig, is_pass), 0, "repeated ACKs");
    let wrong = |n: u16| Tcp { seq: 9, ack: 9, flags: flags::ACK, ..syn(n) };
    let mut wrong = segments(Direction::In, |n| Tcp { sport: 40_000 + n, ..wrong(n) });
    assert!(wrong.allocations(&mut rig, is_pass) <= 1, "an ACK without a cookie meets the rules");
    rig.engine.check_invariants().expect("the gauges agree");
}
