//! A port scan sees the same ports whether SYNs get cookies or not.

mod common;

use std::collections::{BTreeMap, VecDeque};

use common::{Rig, Tcp, V4, V6, flags, icmp, ip, proto};
use pfapi::limit::Limit;
use pfapi::port::PortMatch;
use pfapi::ruleset::{Action, BlockAnswer, Endpoint, Options, Rule, SyncookieMode, Syncookies};
use pfapi::units::{Direction, Uptime};
use pfengine::Verdict;

/// What a scanner says of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Open,
    Closed,
    /// Nothing came back, or an ICMP error.
    Filtered,
}

/// What is behind the firewall.
const fn service(port: u16) -> Seen {
    match port % 50 {
        0 => Seen::Open,
        1..=40 => Seen::Closed,
        _ => Seen::Filtered,
    }
}

/// Ports from 30,000 to 30,999 are blocked with an answer, from 31,000 to 31,999 without.
fn rules() -> Vec<Rule> {
    let to =
        |low, high| Endpoint { port: Some(PortMatch::Range(low, high)), ..Endpoint::default() };
    let blocked = |answer, low, high| {
        let mut rule = Rule::new(Action::Block(answer));
        rule.proto = Some(proto::TCP);
        rule.to = to(low, high);
        rule
    };
    vec![
        Rule::new(Action::Pass),
        blocked(BlockAnswer::Return, 30_000, 30_999),
        blocked(BlockAnswer::Drop, 31_000, 31_999),
    ]
}

fn options(mode: SyncookieMode) -> Options {
    let setting = Syncookies { mode, probe: true, ..Syncookies::default() };
    let mut options = Options { syncookies: Some(setting), ..Options::default() };
    options.limits.set(Limit::States, 100_000);
    options
}

/// SYNs that the scanner sends in half a second, and how often it tries a port that stays silent.
const WINDOW: usize = 120;
const TRIES: u16 = 10;

/// Sends one SYN to each port; silent ones are tried again, with another port of its own, as nmap
/// does. Gives what each port was taken for, and how many cookies were sent.
fn scan(mode: SyncookieMode, ends: common::Ends, step: usize) -> (BTreeMap<u16, Seen>, u64) {
    let mut rig = Rig::new(options(mode), rules());
    let mut seen = BTreeMap::new();
    let mut left: VecDeque<(u16, u16)> =
        (1..=u16::MAX).step_by(step).map(|port| (port, 0)).collect();
    while !left.is_empty() {
        // The purge takes its share every 20 ms.
        for _ in 0..25 {
            rig.now = Uptime::from_nanos(rig.now.as_nanos() + 20_000_000);
            rig.worker.handle_timeout(rig.now);
        }
        for _ in 0..WINDOW.min(left.len()) {
            let Some((dport, tries)) = left.pop_front() else { break };
            match probe(&mut rig, ends, 40_000 + tries, dport) {
                Some(found) => _ = seen.insert(dport, found),
                None if tries == TRIES => _ = seen.insert(dport, Seen::Filtered),
                None => left.push_back((dport, tries + 1)),
            }
        }
    }
    let counters = rig.engine.info(rig.now).syncookies.counters;
    let cookies =
        counters.iter().find(|(name, _)| name.name() == "syn_received").map_or(0, |c| c.1);
    (seen, cookies)
}

/// One SYN on its way to the server and back.
fn probe(rig: &mut Rig, ends: common::Ends, sport: u16, dport: u16) -> Option<Seen> {
    let syn = Tcp { sport, dport, ..Tcp::with_all() };
    let octets = syn.packet(ends);
    let first = rig.send(Direction::In, &octets);
    match first.verdict {
        Verdict::Pass => {}
        Verdict::Answer => return Some(answer(&first.octets, ends)),
        _ => return None,
    }
    let back = Tcp { sport: dport, dport: sport, ack: syn.seq + 1, ..Tcp::default() };
    let reply = match service(dport) {
        Seen::Open => Tcp { flags: flags::SYN | flags::ACK, ..back },
        Seen::Closed => Tcp { seq: 0, flags: flags::RST | flags::ACK, ..back },
        Seen::Filtered if dport % 50 < 45 => return None,
        Seen::Filtered => {
            // A router on the way says that nobody may go there.
            let (icmp_type, code, number) =
                if ends.src.is_ipv4() { (3, 13, proto::ICMP) } else { (1, 1, proto::ICMPV6) };
            let error = icmp(ends.turned(), icmp_type, code, [0; 4], &octets);
            let error = ip(ends.turned(), number, &error);
            let back = rig.send(Direction::Out, &error);
            return Some(answer(&back.octets, ends));
        }
    };
    let reply = rig.send(Direction::Out, &reply.packet(ends.turned()));
    assert_eq!(reply.verdict, Verdict::Pass);
    Some(answer(&reply.octets, ends))
}

/// What a scanner takes an answer for.
fn answer(octets: &[u8], ends: common::Ends) -> Seen {
    let header = if ends.src.is_ipv4() { 20 } else { 40 };
    let number = if ends.src.is_ipv4() { octets[9] } else { octets[6] };
    match (number, octets[header + 13]) {
        (proto::TCP, found) if found & flags::RST != 0 => Seen::Closed,
        (proto::TCP, found) if found & (flags::SYN | flags::ACK) != 0 => Seen::Open,
        _ => Seen::Filtered,
    }
}

#[test]
fn a_scan_of_all_ports_sees_the_same_with_and_without_cookies() {
    for (ends, step) in [(V4, 1), (V6, 7)] {
        let (without, none) = scan(SyncookieMode::Never, ends, step);
        let (with, cookies) = scan(SyncookieMode::Always, ends, step);
        assert_eq!(none, 0);
        assert_eq!(cookies, 0, "each port is asked once, by a SYN of its own");
        assert_eq!(without.len(), usize::from(u16::MAX).div_ceil(step));
        let differ: Vec<_> = with.iter().filter(|(port, seen)| without[port] != **seen).collect();
        assert!(
            differ.is_empty(),
            "{} ports differ: {:?}",
            differ.len(),
            &differ[..differ.len().min(9)]
        );
        let open = without.values().filter(|seen| **seen == Seen::Open).count();
        assert!(open * step > 1_200, "{open}");
    }
}

#[test]
fn a_second_scan_meets_cookies_at_open_ports_and_sees_the_same() {
    let ends = V4;
    let mut rig = Rig::new(options(SyncookieMode::Always), rules());
    // What other clients have found out.
    for port in (50..=2_000).step_by(50) {
        assert_eq!(probe(&mut rig, ends, 9_000, port), Some(Seen::Open));
    }
    for port in (50..=2_000).step_by(50) {
        assert_eq!(probe(&mut rig, ends.client(7), 9_001, port), Some(Seen::Open));
        assert_eq!(probe(&mut rig, ends, 9_001, port + 1), Some(Seen::Closed));
        assert_eq!(probe(&mut rig, ends.client(7), 9_001, port + 1), Some(Seen::Closed));
    }
    let counters = rig.engine.info(rig.now).syncookies.counters;
    let count = |wanted| counters.iter().find(|(name, _)| name.name() == wanted).map(|c| c.1);
    assert_eq!(count("syn_received"), Some(40));
    assert_eq!(count("probes"), Some(80));
    assert_eq!(count("early-reset"), Some(40));
}
