use pfapi::check::check;
use pfapi::ruleset::{
    Action, AddrMatch, BlockAnswer, Draft, Endpoint, InterfaceMatch, Pool, QueueDef, Route,
    RouteKind, Rule, ServiceCurve, StatePolicy,
};
use pfapi::units::{IfIndex, Uptime};
use pfengine::{Checksum, Engine, EngineConfig, Loader, Offload};

use super::*;
use crate::router::RouterOptions;
use crate::testing::{self, Collected, ip, mend, packet, udp};

fn forwarder() -> Forwarder {
    forwarder_with(None)
}

/// With one root queue of this bandwidth on the second interface.
fn forwarder_with(bandwidth: Option<u64>) -> Forwarder {
    let queue = |rate| QueueDef {
        name: "root".to_owned(),
        interface: Some("tun1".to_owned()),
        bandwidth: Some(ServiceCurve { rate, burst: None }),
        default: true,
        ..QueueDef::default()
    };
    loaded(Draft { queues: bandwidth.map(queue).into_iter().collect(), ..Draft::default() }).0
}

fn loaded(draft: Draft<()>) -> (Forwarder, Arc<Engine>) {
    let config = testing::config();
    let facts = config.facts();
    let router = Router::new(&RouterOptions { facts: &facts, routes: &config.routes });
    let engine = Engine::new(EngineConfig { facts, seed: [7; 32], hostid: 1 }, Uptime::ZERO);
    engine.use_routes(Box::new(router.routes()));
    engine.load(&check(draft).unwrap(), Loader::default(), Uptime::ZERO).unwrap();
    (Forwarder::new(engine.worker(), router), engine)
}

/// A filter with these rules behind `pass`.
fn filtering(rules: impl IntoIterator<Item = Rule>) -> (Forwarder, Arc<Engine>) {
    let rules = [Rule::new(Action::Pass)].into_iter().chain(rules).collect();
    let (forwarder, engine) = loaded(Draft { rules, ..Draft::default() });
    let _ = engine.set_enabled(true, Uptime::ZERO);
    (forwarder, engine)
}

fn out_on(interface: &str, action: Action) -> Rule {
    let interface = InterfaceMatch { negated: false, name: interface.to_owned() };
    Rule { direction: Some(Direction::Out), interface: Some(interface.into()), ..Rule::new(action) }
}

fn pool(addr: &str) -> Pool {
    Pool::new(AddrMatch::Net(addr.parse().unwrap()))
}

/// What leaves because of one packet.
fn turn(forwarder: &mut Forwarder, octets: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut ports = Collected::new();
    let mut batch = Batch::new();
    batch.packets.push(packet(octets));
    forwarder.turn(Uptime::from_secs(1), &mut batch, &mut ports);
    assert_eq!(ports.sent.len() + ports.recycled, 1 + (1000 - ports.buffers), "buffers");
    ports.sent.iter().map(|(to, packet)| (to.0, packet.data().to_vec())).collect()
}

/// A datagram of 1428 octets, too long for the second interface, that must not be cut.
fn whole_or_nothing(dst: &str) -> Vec<u8> {
    let mut octets = ip("10.77.1.2", dst, 17, &udp(1400));
    octets[6] = 0x40;
    mend(&mut octets);
    octets
}

fn states(engine: &Engine) -> Vec<String> {
    let states = engine.states(&mut 0, 100, Uptime::from_secs(1));
    states.iter().map(|state| format!("{:?}", state.direction)).collect()
}

#[test]
fn disabled_filter_forwards_and_loses_no_buffer() {
    let mut forwarder = forwarder();
    let mut ports = Collected::new();
    let mut batch = Batch::new();
    for at in 0..Batch::SIZE {
        let dst = if at % 2 == 0 { "198.51.100.7" } else { "224.0.0.1" };
        batch.packets.push(packet(&ip("10.77.1.2", dst, 17, &udp(10))));
    }
    forwarder.turn(Uptime::from_secs(1), &mut batch, &mut ports);
    assert!(batch.packets.is_empty());
    assert_eq!(ports.sent.len(), 32);
    assert_eq!(ports.recycled, 32);
    assert!(ports.sent.iter().all(|(interface, _)| *interface == IfIndex(1)));
}

#[test]
fn long_packet_leaves_in_fragments() {
    let mut forwarder = forwarder();
    let mut ports = Collected::new();
    let mut batch = Batch::new();
    batch.packets.push(packet(&ip("10.77.1.2", "198.51.100.7", 17, &udp(1400))));
    forwarder.turn(Uptime::from_secs(1), &mut batch, &mut ports);
    assert_eq!(ports.sent.len(), 2);
    assert_eq!(ports.recycled, 1);
}

/// The outbound rules come before the length: what they block is not told of it.
#[test]
fn blocked_packet_that_does_not_fit_vanishes() {
    let (mut forwarder, engine) = filtering([out_on("tun1", Action::Block(BlockAnswer::Drop))]);
    assert_eq!(turn(&mut forwarder, &whole_or_nothing("198.51.100.7")), []);
    assert_eq!(forwarder.path.router.counters().get(Event::TooBig), 0);
    assert_eq!(states(&engine).len(), 1, "the outbound rules made none");
    let v6 = ip("fd77:1::2", "fd77:2::2", 17, &udp(1400));
    assert_eq!(turn(&mut forwarder, &v6), []);
    assert_eq!(forwarder.path.router.counters().get(Event::TooBig), 0);
}

#[test]
fn translated_packet_that_does_not_fit_is_told_to_its_sender() {
    let mut nat = out_on("tun1", Action::Pass);
    nat.af = Some(pfapi::addr::Af::Inet);
    nat.nat = Some(pool("10.77.2.1").into());
    let (mut forwarder, engine) = filtering([nat]);
    let octets = whole_or_nothing("198.51.100.7");
    let sent = turn(&mut forwarder, &octets);
    let [(0, error)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((error[20], error[21], &error[24..28]), (3, 4, &[0, 0, 5, 0][..]));
    assert_eq!(error[12..20], [10, 77, 1, 1, 10, 77, 1, 2]);
    assert_eq!(error[28..56], octets[..28]);
    assert_eq!(states(&engine).len(), 2, "as in pf the packet has made both");
}

/// In by the wide interface, and out by it but for `route-to`.
#[test]
fn narrow_interface_that_a_rule_chooses_is_told_to_the_sender() {
    let mut away = out_on("tun0", Action::Pass);
    away.af = Some(pfapi::addr::Af::Inet);
    away.nat = Some(pool("10.77.2.1").into());
    away.route = Some(Route { kind: RouteKind::RouteTo, pool: pool("10.77.2.9") }.into());
    let (mut forwarder, _) = filtering([away]);
    let octets = whole_or_nothing("10.77.1.9");
    let sent = turn(&mut forwarder, &octets);
    let [(0, error)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((error[20], error[21]), (3, 4));
    assert_eq!(error[12..20], [10, 77, 1, 1, 10, 77, 1, 2]);
    assert_eq!(error[28..56], octets[..28]);
    // What may be cut is cut there.
    let sent = turn(&mut forwarder, &ip("10.77.1.2", "10.77.1.9", 17, &udp(1400)));
    assert_eq!(sent.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(sent[0].1[12..16], [10, 77, 2, 1]);
}

#[test]
fn changed_destination_leaves_by_its_own_interface() {
    let mut away = out_on("tun1", Action::Pass);
    away.af = Some(pfapi::addr::Af::Inet);
    away.rdr = Some(pool("10.77.1.9").into());
    // No rule is asked again: this one would block.
    let (mut forwarder, _) = filtering([out_on("tun0", Action::Block(BlockAnswer::Drop)), away]);
    let sent = turn(&mut forwarder, &ip("10.77.1.2", "198.51.100.7", 17, &udp(10)));
    let [(0, moved)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((&moved[12..20], moved[8]), (&[10, 77, 1, 2, 10, 77, 1, 9][..], 63));
    // The wide interface is the one that counts.
    let sent = turn(&mut forwarder, &whole_or_nothing("198.51.100.7"));
    assert_eq!(
        sent.iter().map(|(to, octets)| (*to, octets.len())).collect::<Vec<_>>(),
        [(0, 1428)]
    );
}

#[test]
fn answers_of_the_router_do_not_fail_urpf() {
    // With states the answers would pass by those of the questions.
    let stateless = Rule { state: StatePolicy::None, ..Rule::new(Action::Pass) };
    let from = Endpoint { addr: AddrMatch::UrpfFailed, ..Endpoint::default() };
    let block = out_on("tun0", Action::Block(BlockAnswer::Drop));
    let (mut forwarder, _) = filtering([stateless, Rule { from, ..block }]);
    let echo = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    let sent = turn(&mut forwarder, &ip("10.77.1.2", "10.77.1.1", 1, &echo));
    assert_eq!(sent.len(), 1);
    for (src, dst, ttl) in [("10.77.1.2", "198.51.100.7", 8), ("fd77:1::2", "fd77:2::2", 7)] {
        let mut octets = ip(src, dst, 17, &udp(10));
        octets[ttl] = 1;
        if ttl == 8 {
            mend(&mut octets);
        }
        assert_eq!(turn(&mut forwarder, &octets).len(), 1, "{src}");
    }
}

#[test]
fn sleep_is_bounded() {
    assert!(forwarder().timeout(Uptime::from_secs(1)) <= SLEEP_MAX);
}

#[test]
fn queue_holds_packets_until_their_time() {
    // 1028 octets at 8224 bit/s: one packet per second.
    let mut forwarder = forwarder_with(Some(8_224));
    let mut ports = Collected::new();
    let mut batch = Batch::new();
    let start = Uptime::from_secs(10);
    for _ in 0..3 {
        batch.packets.push(packet(&ip("10.77.1.2", "198.51.100.7", 17, &udp(1000))));
    }
    batch.packets.push(packet(&ip("198.51.100.7", "10.77.1.2", 17, &udp(1000))));
    forwarder.turn(start, &mut batch, &mut ports);
    let interfaces: Vec<u16> = ports.sent.iter().map(|(interface, _)| interface.0).collect();
    assert_eq!(interfaces, [0, 1], "the other interface has no queue");
    assert_eq!(ports.sent[1].1.len(), 1028);
    assert_eq!(forwarder.timeout(start), Duration::from_secs(1));
    forwarder.turn(start.plus_nanos(999_999_999), &mut batch, &mut ports);
    assert_eq!(ports.sent.len(), 2);
    forwarder.turn(start.plus_secs(1), &mut batch, &mut ports);
    assert_eq!(ports.sent.len(), 3);
    // Without a buffer the packet waits on, and the next turn comes at once.
    ports.buffers = 0;
    forwarder.turn(start.plus_secs(2), &mut batch, &mut ports);
    assert_eq!((ports.sent.len(), forwarder.timeout(start)), (3, Duration::ZERO));
    ports.buffers = 9;
    forwarder.turn(start.plus_secs(2), &mut batch, &mut ports);
    assert_eq!(ports.sent.len(), 4);
    let held = [2, 3].map(|at: usize| ports.sent[at].1.data().to_vec());
    assert_eq!(held[0], held[1]);
    assert_eq!(held[0], ports.sent[1].1.data());
}

#[test]
fn super_packet_leaves_a_slow_queue_in_segments() {
    let whole = || {
        let mut whole = packet(&ip("10.77.1.2", "198.51.100.7", 17, &udp(10_000)));
        whole.meta.offload = Offload {
            gso: Gso::Udp,
            gso_size: 1_000,
            checksum: Checksum::Partial { start: 20, offset: 6 },
        };
        whole
    };
    let start = Uptime::from_secs(10);
    let mut batch = Batch::new();
    for (bandwidth, lengths) in
        [(Some(1_000_000_000), vec![10_028]), (Some(8_224), vec![1_028]), (None, vec![10_028])]
    {
        let mut forwarder = forwarder_with(bandwidth);
        let mut ports = Collected::new();
        batch.packets.push(whole());
        forwarder.turn(start, &mut batch, &mut ports);
        let sent: Vec<usize> = ports.sent.iter().map(|(_, packet)| packet.len()).collect();
        assert_eq!(sent, lengths, "{bandwidth:?}");
        if bandwidth == Some(8_224) {
            forwarder.turn(start.plus_secs(1), &mut batch, &mut ports);
            assert_eq!(ports.sent[1].1.len(), 1_028);
            assert_eq!(ports.sent[1].1.meta.offload, Offload::default());
        }
        if bandwidth == Some(1_000_000_000) {
            // It has cost as much as ten packets: the next one waits for 82 us.
            batch.packets.push(whole());
            forwarder.turn(start, &mut batch, &mut ports);
            assert_eq!(forwarder.timeout(start), Duration::from_nanos(82_240));
        }
    }
}
