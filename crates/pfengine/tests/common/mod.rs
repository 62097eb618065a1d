//! Packets with right checksums, and an engine to send them through.
//!
//! The checksums are computed here word by word, not with the engine's own code, so that the
//! two check each other.
#![allow(dead_code, reason = "each test binary uses a part of this")]

pub mod session;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use pfapi::check::{CheckedRuleset, check};
use pfapi::facts::{Facts, InterfaceAddress, InterfaceFacts};
use pfapi::reason::Reason;
use pfapi::ruleset::{Draft, Options, Rule};
use pfapi::units::{Direction, IfIndex, Uptime};
use pfengine::{
    Batch, Engine, EngineConfig, Loader, Offload, Output, Packet, StateRef, Verdict, Worker,
};

/// TCP flags.
pub mod flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
}

/// IP protocol numbers.
pub mod proto {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const IGMP: u8 = 2;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const GRE: u8 = 47;
    pub const AH: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const DESTINATION: u8 = 60;
}

/// Source and destination.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub src: IpAddr,
    pub dst: IpAddr,
}

/// A client and a server behind the router.
pub const V4: Ends = Ends {
    src: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    dst: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
};
/// The same over IPv6.
pub const V6: Ends = Ends {
    src: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1)),
    dst: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1)),
};

impl Ends {
    /// The way back.
    pub const fn turned(self) -> Self {
        Self { src: self.dst, dst: self.src }
    }

    /// From the client with number `n`.
    pub fn client(self, n: u32) -> Self {
        let src = match self.src {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)),
            IpAddr::V6(src) => IpAddr::V6(Ipv6Addr::from_bits(src.to_bits() + u128::from(n))),
        };
        Self { src, ..self }
    }
}

fn be16(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

/// A length as a header field.
pub fn len16(len: usize) -> [u8; 2] {
    u16::try_from(len).expect("a test packet is short").to_be_bytes()
}

/// RFC 1071 section 3, one word after the other.
pub fn checksum(octets: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in octets.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

/// Checksum of a transport header and its payload.
pub fn transport_checksum(ends: Ends, number: u8, segment: &[u8]) -> u16 {
    let mut all = Vec::new();
    if number != proto::ICMP {
        all.extend(octets(ends.src));
        all.extend(octets(ends.dst));
        all.extend(u32::try_from(segment.len()).expect("short").to_be_bytes());
        all.extend([0, 0, 0, number]);
    }
    all.extend(segment);
    checksum(&all)
}

/// A TCP segment.
#[derive(Clone, Debug)]
pub struct Tcp {
    pub sport: u16,
    pub dport: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            sport: 40_000,
            dport: 80,
            seq: 1_000,
            ack: 0,
            flags: flags::SYN,
            window: 64_240,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }
}

impl Tcp {
    /// A segment with options and payload.
    pub fn with_all() -> Self {
        Self {
            options: vec![2, 4, 5, 180, 4, 2, 1, 3, 3, 7, 1, 1],
            payload: b"hello".to_vec(),
            ..Self::default()
        }
    }

    /// Header and payload with their checksum.
    pub fn octets(&self, ends: Ends) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(self.sport.to_be_bytes());
        segment.extend(self.dport.to_be_bytes());
        segment.extend(self.seq.to_be_bytes());
        segment.extend(self.ack.to_be_bytes());
        let words = u8::try_from((20 + self.options.len()) / 4).expect("options fit");
        segment.extend([words << 4, self.flags]);
        segment.extend(self.window.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend(&self.options);
        segment.extend(&self.payload);
        let sum = transport_checksum(ends, proto::TCP, &segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        segment
    }

    /// The whole packet.
    pub fn packet(&self, ends: Ends) -> Vec<u8> {
        ip(ends, proto::TCP, &self.octets(ends))
    }
}

/// The ACK that brings the cookie of a SYN|ACK back.
pub fn returning(answer: &[u8], ends: Ends) -> Vec<u8> {
    let at = if ends.src.is_ipv4() { 24 } else { 44 };
    let cookie = u32::from_be_bytes(answer[at..at + 4].try_into().expect("four octets"));
    let third = Tcp {
        seq: Tcp::default().seq + 1,
        ack: cookie.wrapping_add(1),
        flags: flags::ACK,
        options: echoed(&answer[at - 4..]).unwrap_or_default(),
        ..Tcp::default()
    };
    third.packet(ends)
}

/// The timestamps option that answers those of a SYN|ACK, when it has some.
fn echoed(segment: &[u8]) -> Option<Vec<u8>> {
    let header = usize::from(segment[12] >> 4) * 4;
    let mut at = 20;
    while at < header {
        match segment[at] {
            0 => return None,
            1 => at += 1,
            8 => {
                let mut option = vec![1, 1, 8, 10, 0, 0, 0, 1];
                option.extend(&segment[at + 2..at + 6]);
                return Some(option);
            }
            _ => at += usize::from(segment[at + 1].max(2)),
        }
    }
    None
}

/// A UDP datagram with its checksum.
pub fn udp(ends: Ends, sport: u16, dport: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(sport.to_be_bytes());
    datagram.extend(dport.to_be_bytes());
    datagram.extend(len16(8 + payload.len()));
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let sum = transport_checksum(ends, proto::UDP, &datagram);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

/// An ICMP or ICMPv6 message with its checksum, by the family of `ends`.
pub fn icmp(ends: Ends, icmp_type: u8, code: u8, word: [u8; 4], body: &[u8]) -> Vec<u8> {
    let number = if ends.src.is_ipv4() { proto::ICMP } else { proto::ICMPV6 };
    let mut message = vec![icmp_type, code, 0, 0];
    message.extend(word);
    message.extend(body);
    let sum = transport_checksum(ends, number, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// An IP packet of the family of `ends`, without options.
pub fn ip(ends: Ends, number: u8, payload: &[u8]) -> Vec<u8> {
    match ends.src {
        IpAddr::V4(_) => ipv4(ends, number, &[], payload),
        IpAddr::V6(_) => ipv6(ends, 64, number, payload),
    }
}

/// An IPv4 packet.
pub fn ipv4(ends: Ends, number: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut packet = vec![0x40 | u8::try_from(header / 4).expect("options fit"), 0];
    packet.extend(len16(header + payload.len()));
    packet.extend([0x12, 0x34, 0, 0, 64, number, 0, 0]);
    packet.extend(octets(ends.src));
    packet.extend(octets(ends.dst));
    packet.extend(options);
    packet.extend(payload);
    fix_ipv4(&mut packet);
    packet
}

/// Sets the header checksum of an IPv4 packet whose header length lies inside it.
pub fn fix_ipv4(packet: &mut [u8]) {
    let header = usize::from(packet[0] & 0x0f) * 4;
    if header < 20 || header > packet.len() {
        return;
    }
    packet[10..12].fill(0);
    let sum = checksum(&packet[..header]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// An IPv6 packet.
pub fn ipv6(ends: Ends, hop_limit: u8, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(len16(payload.len()));
    packet.extend([next, hop_limit]);
    packet.extend(octets(ends.src));
    packet.extend(octets(ends.dst));
    packet.extend(payload);
    packet
}

/// An IPv6 payload: extension headers, whose first octet is filled in here, and a transport.
/// Gives the first next-header number and the octets.
pub fn chain(headers: &[(u8, Vec<u8>)], number: u8, transport: &[u8]) -> (u8, Vec<u8>) {
    let mut payload = Vec::new();
    for (position, (_, body)) in headers.iter().enumerate() {
        let start = payload.len();
        payload.extend(body);
        payload[start] = headers.get(position + 1).map_or(number, |next| next.0);
    }
    payload.extend(transport);
    (headers.first().map_or(number, |first| first.0), payload)
}

/// An IPv6 packet with extension headers.
pub fn ipv6_chain(ends: Ends, headers: &[(u8, Vec<u8>)], number: u8, transport: &[u8]) -> Vec<u8> {
    let (next, payload) = chain(headers, number, transport);
    ipv6(ends, 64, next, &payload)
}

/// Cuts a packet to `total` octets, and its IP header says so.
pub fn cut(packet: &[u8], total: usize) -> Vec<u8> {
    let mut cut = packet[..total].to_vec();
    if packet[0] >> 4 == 4 {
        cut[2..4].copy_from_slice(&len16(total));
        fix_ipv4(&mut cut);
    } else {
        cut[4..6].copy_from_slice(&len16(total - 40));
    }
    cut
}

/// Sets the IPv4 word of flags and fragment offset.
pub fn fragment(mut packet: Vec<u8>, word: u16) -> Vec<u8> {
    packet[6..8].copy_from_slice(&word.to_be_bytes());
    fix_ipv4(&mut packet);
    packet
}

/// What came of one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    pub octets: Vec<u8>,
    pub link: Option<StateRef>,
}

/// An engine with one worker.
pub struct Rig {
    pub engine: Arc<Engine>,
    pub worker: Worker,
    pub now: Uptime,
    batch: Batch,
}

/// Octets in front of packets in the buffers of a rig.
pub const HEADROOM: usize = 64;
/// Octets of packet that fit.
pub const CAPACITY: usize = 2048;

/// Two interfaces with one address per family each.
pub fn facts() -> Facts {
    let interface = |name: &str, v4: &str, v6: &str| InterfaceFacts {
        groups: vec!["tun".to_owned()],
        addresses: vec![
            InterfaceAddress::new(v4.parse().expect("an address"), 24),
            InterfaceAddress::new(v6.parse().expect("an address"), 64),
        ],
        ..InterfaceFacts::new(name)
    };
    Facts {
        interfaces: vec![
            interface("tun0", "198.51.100.254", "2001:db8:1::fe"),
            interface("tun1", "192.0.2.254", "2001:db8:2::fe"),
        ],
    }
}

/// A ruleset without tables and queues.
pub fn checked(options: Options, rules: Vec<Rule>) -> CheckedRuleset {
    check(Draft::<()> { options, rules, ..Draft::default() }).expect("a valid ruleset")
}

/// An engine with these rules, enabled.
pub fn engine(options: Options, rules: Vec<Rule>, seed: u8) -> Arc<Engine> {
    let config = EngineConfig { facts: facts(), seed: [seed; 32], hostid: 1 };
    let now = Uptime::from_secs(1_000);
    let engine = Engine::new(config, now);
    let ruleset = checked(options, rules);
    engine.load(&ruleset, Loader::default(), now).expect("the ruleset loads");
    assert!(engine.set_enabled(true, now));
    engine
}

/// A packet in a buffer of its own.
pub fn packet(direction: Direction, octets: &[u8]) -> Packet {
    let mut packet = Packet::new(HEADROOM, CAPACITY.max(octets.len()));
    packet.fill(octets);
    packet.meta.direction = direction;
    packet.meta.interface = IfIndex(u16::from(direction == Direction::Out));
    packet
}

impl Rig {
    pub fn new(options: Options, rules: Vec<Rule>) -> Self {
        let engine = engine(options, rules, 7);
        let worker = engine.worker();
        Self { engine, worker, now: Uptime::from_secs(1_000), batch: Batch::new() }
    }

    /// Sends one packet.
    pub fn send(&mut self, direction: Direction, octets: &[u8]) -> Outcome {
        self.send_with(direction, octets, Offload::default())
    }

    /// Sends one packet with what its device says of it.
    pub fn send_with(&mut self, direction: Direction, octets: &[u8], offload: Offload) -> Outcome {
        let mut packet = packet(direction, octets);
        packet.meta.offload = offload;
        self.batch.packets.push(packet);
        self.worker.process(self.now, &mut self.batch);
        let packet = self.batch.packets.pop().expect("the packet stays in its batch");
        Outcome {
            verdict: packet.meta.verdict,
            octets: packet.data().to_vec(),
            link: packet.meta.link,
        }
    }

    /// Reason counters.
    pub fn reasons(&self) -> Vec<(Reason, u64)> {
        self.engine.info(self.now).reasons
    }

    /// Everything that waits.
    pub fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.worker.poll_output()).collect()
    }

    /// Sends one packet and says which reason counters moved, and by how much.
    pub fn moved_by(
        &mut self,
        direction: Direction,
        octets: &[u8],
        offload: Offload,
    ) -> (Outcome, Vec<(Reason, u64)>) {
        let before = self.reasons();
        let outcome = self.send_with(direction, octets, offload);
        let moved = self
            .reasons()
            .into_iter()
            .zip(before)
            .filter(|(after, before)| after.1 != before.1)
            .map(|(after, before)| (after.0, after.1 - before.1))
            .collect();
        (outcome, moved)
    }
}
