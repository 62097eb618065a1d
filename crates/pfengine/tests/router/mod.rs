//! A router of two interfaces around the engine: every packet crosses the filter inwards on one
//! and outwards on the other, as in the daemon.

use std::sync::Arc;

use core::net::IpAddr;

use pfapi::check::check;
use pfapi::control::Info;
use pfapi::facts::{Facts, InterfaceAddress, InterfaceFacts};
use pfapi::reason::Reason;
use pfapi::ruleset::{Draft, Options, Rule};
use pfapi::units::{Direction, IfIndex, Uptime};
use pfengine::wire::build::TcpSegment;
use pfengine::wire::checksum::{Sum, packet_is_intact};
use pfengine::wire::ip::Layout;
use pfengine::wire::tcp_options::SynOptions;
use pfengine::{Batch, Engine, EngineConfig, Loader, Output, Packet, Verdict, Worker};

pub const CLIENT: &str = "198.51.100.10";
pub const SERVER: &str = "192.0.2.80";
/// Index of the interface towards clients, 198.51.100.0/24 and 2001:db8:1::/64.
pub const OUTSIDE: IfIndex = IfIndex(0);
/// Index of the interface towards servers, 192.0.2.0/24 and 2001:db8:2::/64.
pub const INSIDE: IfIndex = IfIndex(1);

/// What came out of the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// On this interface.
    Out(IfIndex, Vec<u8>),
    /// Nothing, for this reason.
    Dropped(Reason),
    /// Nothing yet.
    Held,
}

pub struct Router {
    pub engine: Arc<Engine>,
    pub worker: Worker,
    pub now: Uptime,
}

fn facts() -> Facts {
    let interface = |name: &str, v4: [u8; 4], v6: &str| InterfaceFacts {
        groups: vec!["tun".to_owned()],
        addresses: vec![
            InterfaceAddress::new(IpAddr::from(v4), 24),
            InterfaceAddress::new(v6.parse().unwrap(), 64),
        ],
        ..InterfaceFacts::new(name)
    };
    Facts {
        interfaces: vec![
            interface("tun0", [198, 51, 100, 1], "2001:db8:1::1"),
            interface("tun1", [192, 0, 2, 1], "2001:db8:2::1"),
        ],
    }
}

impl Router {
    pub fn new(options: Options, rules: Vec<Rule>) -> Self {
        let now = Uptime::from_secs(1_000);
        let config = EngineConfig { facts: facts(), seed: [5; 32], hostid: 1 };
        let engine = Engine::new(config, now);
        let router = Self { worker: engine.worker(), engine, now };
        router.load(options, rules);
        assert!(router.engine.set_enabled(true, now));
        router
    }

    pub fn load(&self, options: Options, rules: Vec<Rule>) {
        let ruleset = check(Draft::<()> { options, rules, ..Draft::default() }).unwrap();
        self.engine.load(&ruleset, Loader::default(), self.now).unwrap();
    }

    pub fn info(&self) -> Info {
        self.engine.info(self.now)
    }

    pub fn reason(&self, reason: Reason) -> u64 {
        self.info().reasons[reason as usize].1
    }

    /// Lets time pass, with every timeout at its moment.
    pub fn wait(&mut self, seconds: u64) {
        let end = self.now.plus_secs(seconds);
        while let Some(due) = self.worker.poll_timeout().filter(|&due| due <= end) {
            self.now = due.max(self.now);
            self.worker.handle_timeout(self.now);
        }
        self.now = end;
        self.engine.check_invariants().unwrap();
    }

    /// What the filter has to send on its own.
    pub fn outputs(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        while let Some(output) = self.worker.poll_output() {
            let Output::Send { packet, filtered, .. } = output else { continue };
            let mut copy = Packet::new(128, 2048);
            copy.fill(packet.data());
            let interface = route(copy.data());
            seen.push(if filtered { self.pass_out(copy) } else { out(interface, &copy) });
        }
        seen
    }

    /// Sends a packet into the interface on its sender's side.
    pub fn send(&mut self, octets: &[u8]) -> Seen {
        let mut packet = Packet::new(128, 2048);
        packet.fill(octets);
        packet.meta.interface = if route(octets) == OUTSIDE { INSIDE } else { OUTSIDE };
        packet.meta.direction = Direction::In;
        let packet = self.process(packet);
        let seen = match packet.meta.verdict {
            Verdict::Pass => self.pass_out(packet),
            Verdict::Answer => out(route(packet.data()), &packet),
            Verdict::Drop(reason) => Seen::Dropped(reason),
            Verdict::Held => Seen::Held,
        };
        self.engine.check_invariants().unwrap();
        seen
    }

    fn pass_out(&mut self, mut packet: Packet) -> Seen {
        packet.meta.interface = route(packet.data());
        packet.meta.direction = Direction::Out;
        let packet = self.process(packet);
        match packet.meta.verdict {
            Verdict::Pass | Verdict::Answer => out(route(packet.data()), &packet),
            Verdict::Drop(reason) => Seen::Dropped(reason),
            Verdict::Held => panic!("nothing here is kept"),
        }
    }

    fn process(&mut self, packet: Packet) -> Packet {
        let mut batch = Batch::new();
        batch.packets.push(packet);
        self.worker.process(self.now, &mut batch);
        batch.packets.remove(0)
    }
}

fn out(interface: IfIndex, packet: &Packet) -> Seen {
    assert!(packet_is_intact(packet.data()), "the checksum of {packet:?} is wrong");
    Seen::Out(interface, packet.data().to_vec())
}

fn route(octets: &[u8]) -> IfIndex {
    let dst = Layout::of(octets).expect("tests send whole packets").dst;
    let outside = match dst {
        IpAddr::V4(v4) => v4.octets()[..3] == [198, 51, 100],
        IpAddr::V6(v6) => v6.segments()[2] == 1,
    };
    if outside { OUTSIDE } else { INSIDE }
}

/// A TCP segment as text: `flags seq ack`.
pub fn tcp(from: (&str, u16), to: (&str, u16), flags: u8, seq: u32, ack: u32) -> TcpSegment {
    TcpSegment {
        src: from.0.parse().unwrap(),
        dst: to.0.parse().unwrap(),
        sport: from.1,
        dport: to.1,
        seq,
        ack,
        flags,
        window: 8_000,
        options: SynOptions::default(),
        ttl: 64,
        tos: 0,
        dont_fragment: true,
        id: 7,
    }
}

/// A segment with data.
pub fn with_payload(segment: &TcpSegment, payload: &[u8]) -> Vec<u8> {
    let mut packet = octets(segment);
    let l4 = packet.len() - 20;
    packet.extend(payload);
    let len = u32::try_from(packet.len() - l4).unwrap();
    let total = u16::try_from(packet.len()).unwrap();
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[10..12].fill(0);
    let sum = Sum::of(&packet[..l4]).checksum();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet[l4 + 16..l4 + 18].fill(0);
    let pseudo = Sum::pseudo(segment.src, segment.dst, 6, len);
    let sum = pseudo.plus(Sum::of(&packet[l4..])).checksum();
    packet[l4 + 16..l4 + 18].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// An ICMP error from the destination of `quoted` to its source.
pub fn icmp_error(icmp_type: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
    let ends = Layout::of(quoted).unwrap();
    let mut message = vec![icmp_type, code, 0, 0, 0, 0, 0, 0];
    message.extend(quoted);
    let len = u16::try_from(message.len()).unwrap();
    let mut packet = match (ends.dst, ends.src) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let sum = Sum::of(&message).checksum();
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0];
            header[2..4].copy_from_slice(&(len + 20).to_be_bytes());
            header.extend(src.octets());
            header.extend(dst.octets());
            let sum = Sum::of(&header).checksum();
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header
        }
        (src, dst) => {
            let pseudo = Sum::pseudo(src, dst, 58, u32::from(len));
            let sum = pseudo.plus(Sum::of(&message)).checksum();
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            let mut header = vec![0x60, 0, 0, 0, 0, 0, 58, 64];
            header[4..6].copy_from_slice(&len.to_be_bytes());
            for addr in [src, dst] {
                let IpAddr::V6(addr) = addr else { panic!("one family") };
                header.extend(addr.octets());
            }
            header
        }
    };
    packet.extend(message);
    packet
}

pub fn octets(segment: &TcpSegment) -> Vec<u8> {
    let mut octets = vec![0; segment.packet_len()];
    assert_ne!(segment.write(&mut octets), 0);
    octets
}
