//! Random rulesets decide random packets the same, optimized or not.
//!
//! Left out is what pfctl's optimizer is known to change: addresses behind `!` that are combined,
//! and rules that differ only in what it does not look at (see `docs/notes/0004`).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pf_sim::rng::Rng;
use pf_sim::seeds;
use pf_sim::segment::{Segment, flags};
use pfapi::facts::{Facts, InterfaceFacts};
use pfapi::units::{Direction, IfIndex, Uptime};
use pfconf::{BuiltinSources, CompileOptions, Dialect, Input, Level, Listing, Optimization};
use pfengine::{Batch, Engine, EngineConfig, Loader, Packet, Verdict, Worker};

const INTERFACES: [&str; 3] = ["tun0", "tun1", "tun2"];
const PACKETS: usize = 100;

fn facts() -> Facts {
    let interface = |name: &&str| InterfaceFacts {
        groups: vec!["tun".to_owned()],
        ..InterfaceFacts::new(name)
    };
    Facts { interfaces: INTERFACES.iter().map(interface).collect() }
}

/// One of 16 hosts per family.
fn host(rng: &mut Rng, v6: bool) -> IpAddr {
    let low = u8::try_from(rng.below(16)).unwrap();
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(low)).into()
    } else {
        Ipv4Addr::new(192, 0, 2, low).into()
    }
}

/// An address of a rule; networks hold some of the hosts.
fn address(rng: &mut Rng, v6: bool) -> String {
    match rng.below(10) {
        0..5 => "any".to_owned(),
        5 => "<known>".to_owned(),
        _ => {
            let host = host(rng, v6);
            let most = if v6 { 128 } else { 32 };
            format!("{host}/{}", most - rng.below(5))
        }
    }
}

/// A rule; most of what it may say it does not.
fn rule(rng: &mut Rng) -> String {
    let mut line =
        rng.pick(&["pass", "pass", "block", "block return", "match", "block drop"]).to_owned();
    let is_match = line == "match";
    line += rng.pick(&["", " in", " out"]);
    if !is_match && rng.chance(300) {
        line += " quick";
    }
    match rng.below(6) {
        0 | 1 => write!(line, " on {}", rng.pick(&INTERFACES)).unwrap(),
        2 => write!(line, " on ! {}", rng.pick(&INTERFACES)).unwrap(),
        3 if rng.chance(300) => line += " on tun",
        _ => {}
    }
    let v6 = rng.chance(300);
    if rng.chance(500) {
        line += if v6 { " inet6" } else { " inet" };
    }
    let proto = rng.pick(&["", "", " proto tcp", " proto udp", " proto { tcp udp }"]);
    line += proto;
    let (from, to) = (address(rng, v6), address(rng, v6));
    let port = |rng: &mut Rng| {
        if proto.is_empty() { "" } else { rng.pick(&["", "", " port 1", " port 2", " port > 2"]) }
    };
    write!(line, " from {from}{} to {to}{}", port(rng), port(rng)).unwrap();
    if rng.chance(300) && (proto.is_empty() || proto == " proto tcp") {
        line += rng.pick(&[" flags S/SA", " flags any", " flags A/A"]);
    }
    if rng.chance(150) {
        line += if is_match { " tag a" } else { rng.pick(&[" tagged a", " !tagged a"]) };
    }
    if line.starts_with("pass") {
        line += " no state";
    }
    line
}

/// Rules, some of them again and again with other addresses.
fn ruleset(rng: &mut Rng) -> String {
    let mut text = "table <known> { 192.0.2.3 192.0.2.8/30 2001:db8::5 }\n".to_owned();
    for _ in 0..rng.between(1, 40) {
        let line = rule(rng);
        if rng.chance(150) {
            let list = " from { 192.0.2.1 192.0.2.2 192.0.2.5 192.0.2.6 192.0.2.9 192.0.2.10 \
                        192.0.2.13 2001:db8::1 } to ";
            if let Some((head, tail)) =
                line.split_once(" from any to ").filter(|(head, _)| !head.contains("inet6"))
            {
                writeln!(text, "{head}{list}{tail}").unwrap();
            }
        }
        writeln!(text, "{line}").unwrap();
    }
    text
}

struct Filter {
    worker: Worker,
    batch: Batch,
    now: Uptime,
    rules: usize,
}

impl Filter {
    fn new(text: &str, level: Level) -> Option<Self> {
        let facts = facts();
        let options = CompileOptions {
            facts: &facts,
            sources: &BuiltinSources,
            defines: &[],
            numeric_only: true,
            dialect: Dialect::OpenBsd,
            listing: Listing::Short,
            optimize: Optimization { level: Some(level), ..Optimization::default() },
            parts: pfconf::Parts::ALL,
        };
        let compiled = pfconf::compile(&Input { name: "random", text }, &options);
        // A rule whose addresses do not go together is a mistake.
        let ruleset = compiled.ruleset?;
        let now = Uptime::from_secs(1);
        let engine = Engine::new(EngineConfig { facts, seed: [1; 32], hostid: 1 }, now);
        engine.load(&ruleset, Loader::default(), now).unwrap();
        assert!(engine.set_enabled(true, now));
        let rules = ruleset.rules().len();
        Some(Self { worker: engine.worker(), batch: Batch::new(), now, rules })
    }

    /// What becomes of a packet, and what is sent because of it.
    fn decide(
        &mut self,
        octets: &[u8],
        direction: Direction,
        interface: u16,
    ) -> (Verdict, Vec<String>) {
        let mut packet = Packet::new(64, 2048);
        packet.fill(octets);
        packet.meta.direction = direction;
        packet.meta.interface = IfIndex(interface);
        self.batch.packets.push(packet);
        self.worker.process(self.now, &mut self.batch);
        let verdict = self.batch.packets.pop().unwrap().meta.verdict;
        let outputs = std::iter::from_fn(|| self.worker.poll_output());
        (verdict, outputs.map(|output| format!("{output:?}")).collect())
    }
}

fn udp(src: (IpAddr, u16), dst: (IpAddr, u16)) -> Vec<u8> {
    // A TCP segment made into UDP: ports are in the same place, the rest is length and payload.
    let mut octets =
        Segment { src, dst, seq: 0, ack: 0, flags: flags::ACK, window: 0, payload: 0 }.write();
    let (header, proto) = if octets[0] >> 4 == 4 { (20, 9) } else { (40, 6) };
    octets[proto] = 17;
    let len = u16::try_from(octets.len() - header).unwrap();
    octets[header + 4..header + 6].copy_from_slice(&len.to_be_bytes());
    octets[header + 6..header + 8].copy_from_slice(&[0, 0]);
    if header == 20 {
        octets[10..12].copy_from_slice(&[0, 0]);
        let sum: u32 =
            octets[..20].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = (folded & 0xffff) + (folded >> 16);
        let check = !u16::try_from(folded).unwrap();
        octets[10..12].copy_from_slice(&check.to_be_bytes());
    } else {
        // Over IPv6 a checksum is a must; the pseudo-header is all there is besides the header.
        let mut sum: u32 = u32::from(len) + 17;
        sum += octets[8..40].chunks(2).map(|p| u32::from(p[0]) << 8 | u32::from(p[1])).sum::<u32>();
        sum += octets[40..].chunks(2).map(|p| u32::from(p[0]) << 8 | u32::from(p[1])).sum::<u32>();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let check = !u16::try_from(sum).unwrap();
        octets[46..48].copy_from_slice(&check.to_be_bytes());
    }
    octets
}

fn packet(rng: &mut Rng) -> Vec<u8> {
    let v6 = rng.chance(300);
    let end = |rng: &mut Rng| (host(rng, v6), u16::try_from(rng.between(1, 4)).unwrap());
    let (src, dst) = (end(rng), end(rng));
    if rng.chance(500) {
        return udp(src, dst);
    }
    let flags = rng.pick(&[flags::SYN, flags::ACK, flags::SYN | flags::ACK]);
    Segment { src, dst, seq: 1, ack: 0, flags, window: 1000, payload: 0 }.write()
}

#[test]
fn optimized_rules_decide_the_same() {
    let (mut removed, mut compared, mut passed, mut blocked) = (0, 0, 0, 0);
    for seed in seeds(60) {
        let mut rng = Rng::new(seed);
        let text = ruleset(&mut rng);
        let Some(mut plain) = Filter::new(&text, Level::None) else { continue };
        let mut optimized = Filter::new(&text, Level::Basic).unwrap();
        removed += plain.rules - optimized.rules;
        compared += 1;
        for _ in 0..PACKETS {
            let octets = packet(&mut rng);
            let direction = rng.pick(&[Direction::In, Direction::Out]);
            let interface = u16::try_from(rng.below(3)).unwrap();
            let wanted = plain.decide(&octets, direction, interface);
            let got = optimized.decide(&octets, direction, interface);
            assert_eq!(got, wanted, "seed {seed}, {direction:?} {interface} {octets:?}\n{text}");
            passed += usize::from(wanted.0 == Verdict::Pass);
            blocked += usize::from(wanted.0 != Verdict::Pass);
        }
    }
    // The cases are worth something: rules went, and packets met both fates.
    assert!(compared > 10 && removed > compared, "{removed} rules removed in {compared} rulesets");
    assert!(passed > 100 && blocked > 100, "{passed} passed, {blocked} blocked");
}
