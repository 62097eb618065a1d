use pfapi::check::check;
use pfapi::ruleset::{Draft, QueueDef, ServiceCurve};
use pfapi::units::{IfIndex, Uptime};
use pfengine::{Checksum, Engine, EngineConfig, Loader, Offload};

use super::*;
use crate::router::RouterOptions;
use crate::testing::{self, Collected, ip, packet, udp};

fn forwarder() -> Forwarder {
    forwarder_with(None)
}

/// With one root queue of this bandwidth on the second interface.
fn forwarder_with(bandwidth: Option<u64>) -> Forwarder {
    let config = testing::config();
    let facts = config.facts();
    let router = Router::new(&RouterOptions { facts: &facts, routes: &config.routes });
    let engine = Engine::new(EngineConfig { facts, seed: [7; 32], hostid: 1 }, Uptime::ZERO);
    let queue = |rate| QueueDef {
        name: "root".to_owned(),
        interface: Some("tun1".to_owned()),
        bandwidth: Some(ServiceCurve { rate, burst: None }),
        default: true,
        ..QueueDef::default()
    };
    let queues = bandwidth.map(queue).into_iter().collect();
    let ruleset = check(Draft::<()> { queues, ..Draft::default() }).unwrap();
    engine.load(&ruleset, Loader::default(), Uptime::ZERO).unwrap();
    Forwarder::new(engine.worker(), router)
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
