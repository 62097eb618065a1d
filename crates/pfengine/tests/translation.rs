//! Translation as a whole: keys stay unique, ports run out with a reason, both ways are inverse.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeSet;

use common::{Ends, Rig, Tcp, V4, V6, flags, ip, proto, transport_checksum, udp};
use pfapi::addr::{Af, Prefix};
use pfapi::reason::Reason;
use pfapi::ruleset::{Action, AddrMatch, Options, Pool, PoolKind, PoolPorts, Rule};
use pfapi::units::Direction;
use pfengine::Verdict;
use proptest::prelude::*;

/// `pass`, and `pass out nat-to addr port low:high` in the family of the address.
fn nat(addr: &str, low: u16, high: u16) -> Vec<Rule> {
    let prefix: Prefix = addr.parse().unwrap();
    let mut rule = Rule::new(Action::Pass);
    rule.direction = Some(Direction::Out);
    rule.af = Some(prefix.af());
    let mut pool = Pool::new(AddrMatch::Net(prefix));
    pool.ports = Some(PoolPorts::Range(low, high));
    if !prefix.is_host() {
        pool.kind = PoolKind::RoundRobin;
    }
    rule.nat = Some(pool.into());
    vec![Rule::new(Action::Pass), rule]
}

/// Source and destination, ports included, of what came out.
fn tuple(octets: &[u8]) -> (Vec<u8>, [u8; 4]) {
    let v4 = octets[0] >> 4 == 4;
    let (addrs, l4) = if v4 { (12..20, 20) } else { (8..40, 40) };
    (octets[addrs].to_vec(), octets[l4..l4 + 4].try_into().unwrap())
}

/// Whether the checksum of a transport without options in front is right, summed up anew.
fn is_right(ends: Ends, number: u8, segment: &[u8]) -> bool {
    transport_checksum(ends, number, segment) == 0
}

fn ends_of(octets: &[u8]) -> Ends {
    if octets[0] >> 4 == 4 {
        let addr = |at: usize| <[u8; 4]>::try_from(&octets[at..at + 4]).unwrap().into();
        Ends { src: addr(12), dst: addr(16) }
    } else {
        let addr = |at: usize| <[u8; 16]>::try_from(&octets[at..at + 16]).unwrap().into();
        Ends { src: addr(8), dst: addr(24) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// However connections come, no two of them look the same outside, answers find the one that
    /// they belong to, and what finds no port is dropped for that reason.
    #[test]
    fn two_connections_never_share_a_wire_key(
        v6: bool, wide: bool,
        flows in prop::collection::vec((0u32..6, 1u16..4, 0u16..3), 1..60),
    ) {
        let (ends, addr) = match (v6, wide) {
            (false, false) => (V4, "203.0.113.1"),
            (false, true) => (V4, "203.0.113.2/31"),
            (true, false) => (V6, "2001:db8:3::1"),
            (true, true) => (V6, "2001:db8:3::2/127"),
        };
        let mut rig = Rig::new(Options::default(), nat(addr, 50_001, 50_004));
        let mut seen = BTreeSet::new();
        let mut known = BTreeSet::new();
        for (client, sport, dport) in flows {
            let ends = ends.client(client);
            let (sport, dport) = (1_000 + sport, 53 + dport);
            let octets = ip(ends, proto::UDP, &udp(ends, sport, dport, b"query"));
            let outcome = rig.send(Direction::Out, &octets);
            let again = !known.insert((client, sport, dport));
            if outcome.verdict == Verdict::Drop(Reason::Translate) {
                known.remove(&(client, sport, dport));
                prop_assert!(!again, "a known flow keeps its port");
                let used = if wide { 8 } else { 4 };
                let taken = seen.iter().filter(|(_, ports): &&(Vec<u8>, [u8; 4])| {
                    ports[2..] == dport.to_be_bytes()
                });
                prop_assert_eq!(taken.count(), used, "all ports are in use");
                continue;
            }
            prop_assert_eq!(outcome.verdict, Verdict::Pass);
            let outside = tuple(&outcome.octets);
            prop_assert_eq!(seen.insert(outside), !again);
            let new = ends_of(&outcome.octets);
            let l4 = if v6 { 40 } else { 20 };
            prop_assert!(is_right(new, proto::UDP, &outcome.octets[l4..]));
            let sport_out = u16::from_be_bytes([outcome.octets[l4], outcome.octets[l4 + 1]]);
            prop_assert!((50_001..=50_004).contains(&sport_out));
            // The answer comes back to where the question was asked, in every octet.
            let back = new.turned();
            let answer = ip(back, proto::UDP, &udp(back, dport, sport_out, b"answer"));
            let outcome = rig.send(Direction::In, &answer);
            prop_assert_eq!(outcome.verdict, Verdict::Pass);
            let back = ends.turned();
            let wanted = ip(back, proto::UDP, &udp(back, dport, sport, b"answer"));
            prop_assert_eq!(outcome.octets, wanted);
        }
    }
}

/// A state that ends makes room for another one with its port.
#[test]
fn a_state_that_ends_gives_its_port_back() {
    let mut rig = Rig::new(Options::default(), nat("203.0.113.1", 50_001, 50_001));
    let segment = |client: u32, flags: u8, seq: u32| {
        Tcp { seq, flags, ..Tcp::default() }.packet(V4.client(client))
    };
    assert_eq!(rig.send(Direction::Out, &segment(1, flags::SYN, 1)).verdict, Verdict::Pass);
    let other = segment(2, flags::SYN, 1);
    assert_eq!(rig.send(Direction::Out, &other).verdict, Verdict::Drop(Reason::Translate));
    assert_eq!(rig.engine.flush(&pfapi::control::Flush::States { interface: None }, rig.now), 1);
    assert_eq!(rig.send(Direction::Out, &other).verdict, Verdict::Pass);
    rig.engine.check_invariants().unwrap();
}

/// Bound states are met on their interface alone, and come before floating ones.
#[test]
fn states_bound_to_an_interface_are_met_there() {
    let mut bound = Rule::new(Action::Pass);
    bound.direction = Some(Direction::In);
    bound.state_options.if_bound = true;
    let mut out = Rule::new(Action::Block(pfapi::ruleset::BlockAnswer::Drop));
    out.direction = Some(Direction::Out);
    let mut rig = Rig::new(Options::default(), vec![bound, out]);
    let query = ip(V4, proto::UDP, &udp(V4, 99, 53, b"query"));
    assert_eq!(rig.send(Direction::In, &query).verdict, Verdict::Pass);
    // The answer leaves by another interface than the query came in by, so no state lets it by.
    let back = V4.turned();
    let answer = ip(back, proto::UDP, &udp(back, 53, 99, b"answer"));
    assert_eq!(rig.send(Direction::Out, &answer).verdict, Verdict::Drop(Reason::Match));
    let reports = rig.engine.states(&mut 0, 10, rig.now);
    assert_eq!(reports.len(), 1);
    assert_eq!((reports[0].interface.as_str(), reports[0].af), ("tun0", Af::Inet));
}
