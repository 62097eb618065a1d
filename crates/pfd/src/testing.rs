//! Helpers of unit tests: packets by hand, ports that collect, a small router.

use core::net::IpAddr;

use pfapi::units::{Direction, IfIndex};
use pfengine::wire::checksum::Sum;
use pfengine::{Packet, Verdict};

use crate::config::{self, Config};
use crate::ports::Ports;
use crate::router::{Router, RouterOptions};

/// Ports that keep what is sent.
#[derive(Debug)]
pub(crate) struct Collected {
    pub sent: Vec<(IfIndex, Packet)>,
    pub recycled: usize,
    pub buffers: usize,
}

impl Collected {
    pub fn new() -> Self {
        Self { sent: Vec::new(), recycled: 0, buffers: 1000 }
    }
}

impl Ports for Collected {
    fn send(&mut self, interface: IfIndex, packet: Packet) {
        self.sent.push((interface, packet));
    }

    fn recycle(&mut self, _packet: Packet) {
        self.recycled += 1;
    }

    fn buffer(&mut self) -> Option<Packet> {
        self.buffers = self.buffers.checked_sub(1)?;
        Some(Packet::new(64, 66_000))
    }
}

/// Two interfaces: `tun0` with MTU 1500, `tun1` with MTU 1280 and the IPv4 default route.
pub(crate) fn config() -> Config {
    config::parse(
        r#"
        [[interface]]
        name = "tun0"
        address = ["10.77.1.1/24", "fd77:1::1/64"]
        [[interface]]
        name = "tun1"
        address = ["10.77.2.1/24", "fd77:2::1/64"]
        mtu = 1280
        [[route]]
        to = "0.0.0.0/0"
        dev = "tun1"
        "#,
    )
    .unwrap()
}

pub(crate) fn router() -> Router {
    let config = config();
    Router::new(&RouterOptions { facts: &config.facts(), routes: &config.routes })
}

/// A packet that arrived on the first interface.
pub(crate) fn packet(octets: &[u8]) -> Packet {
    let mut packet = Packet::new(128, 70_000);
    packet.fill(octets);
    packet.meta.interface = IfIndex(0);
    packet.meta.direction = Direction::In;
    packet.meta.verdict = Verdict::Pass;
    packet
}

/// Header with a right checksum, time to live 64 and this payload.
pub(crate) fn ip(src: &str, dst: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match (src.parse().unwrap(), dst.parse().unwrap()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            out.extend([0x45, 0]);
            out.extend(u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
            out.extend([0x12, 0x34, 0, 0, 64, protocol, 0, 0]);
            out.extend(src.octets());
            out.extend(dst.octets());
            mend(&mut out);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            out.extend([0x60, 0, 0, 0]);
            out.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            out.extend([protocol, 64]);
            out.extend(src.octets());
            out.extend(dst.octets());
        }
        _ => panic!("two families"),
    }
    out.extend_from_slice(payload);
    out
}

/// Writes the checksum of the IPv4 header.
pub(crate) fn mend(octets: &mut [u8]) {
    let header = usize::from(octets[0] & 15) * 4;
    octets[10..12].fill(0);
    let sum = Sum::of(&octets[..header]).checksum();
    octets[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// A UDP datagram without checksum.
pub(crate) fn udp(len: usize) -> Vec<u8> {
    let mut out = vec![0x30, 0x39, 0, 53];
    out.extend(u16::try_from(8 + len).unwrap().to_be_bytes());
    out.extend([0, 0]);
    out.extend((0..len).map(|at| u8::try_from(at % 251).unwrap()));
    out
}
