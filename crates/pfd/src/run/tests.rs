use pfapi::units::{IfIndex, Uptime};
use pfengine::{Engine, EngineConfig};

use super::*;
use crate::router::RouterOptions;
use crate::testing::{self, Collected, ip, packet, udp};

fn forwarder() -> Forwarder {
    let config = testing::config();
    let facts = config.facts();
    let router = Router::new(&RouterOptions { facts: &facts, routes: &config.routes });
    let engine = Engine::new(EngineConfig { facts, seed: [7; 32], hostid: 1 }, Uptime::ZERO);
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
