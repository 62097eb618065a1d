//! `scrub` and `set tos` on the way through the filter.

mod common;

use common::{Rig, Tcp, V4, V6, fix_ipv4, flags, ip, proto, udp};
use pfapi::reason::Reason;
use pfapi::ruleset::{Action, Options, Rule, Scrub, SetActions, StatePolicy};
use pfapi::units::Direction;
use pfengine::Verdict;
use pfengine::wire::checksum::packet_is_intact;
use pfengine::wire::tcp_options;

fn scrub(scrub: Scrub) -> Rule {
    let mut rule = Rule::new(Action::Match);
    rule.scrub = scrub;
    rule
}

fn rig(rules: Vec<Rule>) -> Rig {
    Rig::new(Options::default(), rules)
}

const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 3, 0xe8, 0, 0, 0, 0];

fn mss(packet: &[u8]) -> Option<u16> {
    let l4 = if packet[0] >> 4 == 4 { 20 } else { 40 };
    tcp_options::scan(&packet[l4 + 20..]).mss
}

#[test]
fn max_mss_of_a_match_rule_holds_for_the_whole_state() {
    let rules =
        || vec![scrub(Scrub { max_mss: 1_200, ..Scrub::default() }), Rule::new(Action::Pass)];
    for ends in [V4, V6] {
        let mut rig = rig(rules());
        let syn = Tcp { options: vec![2, 4, 5, 0xb4], ..Tcp::default() };
        let sent = rig.send(Direction::In, &syn.packet(ends));
        assert_eq!((sent.verdict, mss(&sent.octets)), (Verdict::Pass, Some(1_200)));
        assert!(packet_is_intact(&sent.octets));
        let answer = Tcp {
            sport: 80,
            dport: 40_000,
            flags: flags::SYN | flags::ACK,
            seq: 9,
            ack: 1_001,
            options: vec![2, 4, 5, 0xa0],
            ..Tcp::default()
        };
        let back = rig.send(Direction::Out, &answer.packet(ends.turned()));
        assert_eq!((back.verdict, mss(&back.octets)), (Verdict::Pass, Some(1_200)));
    }
}

#[test]
fn header_options_of_rules() {
    let mut rule = Rule::new(Action::Pass);
    rule.scrub = Scrub { no_df: true, random_id: true, min_ttl: 100, ..Scrub::default() };
    rule.set = SetActions { tos: Some(0x48), ..SetActions::default() }.into();
    let mut rig = rig(vec![rule]);
    let mut octets = ip(V4, proto::UDP, &udp(V4, 1, 53, b"query"));
    octets[6] = 0x40;
    fix_ipv4(&mut octets);
    // The packet that makes the state, and one that meets it.
    let mut ids = Vec::new();
    for _ in 0..2 {
        let seen = rig.send(Direction::In, &octets).octets;
        assert_eq!((seen[1], seen[6], seen[8]), (0x48, 0, 100));
        assert_eq!(common::checksum(&seen[..20]), 0);
        ids.push([seen[4], seen[5]]);
    }
    assert_ne!(ids[0], ids[1]);
    let octets = ip(V6, proto::UDP, &udp(V6, 1, 53, b"query"));
    let seen = rig.send(Direction::In, &octets).octets;
    assert_eq!((seen[0], seen[1], seen[7]), (0x64, 0x80, 100));
}

/// Without a state, the words of the deciding rule alone count.
#[test]
fn match_rules_do_not_scrub_stateless_packets() {
    let mut pass = Rule::new(Action::Pass);
    pass.state = StatePolicy::None;
    pass.scrub = Scrub { min_ttl: 70, ..Scrub::default() };
    let rules = vec![scrub(Scrub { no_df: true, min_ttl: 200, ..Scrub::default() }), pass];
    let mut rig = rig(rules);
    let mut octets = ip(V4, proto::UDP, &udp(V4, 1, 53, b"query"));
    octets[6] = 0x40;
    fix_ipv4(&mut octets);
    let seen = rig.send(Direction::In, &octets).octets;
    assert_eq!((seen[6], seen[8]), (0x40, 70));
}

#[test]
fn reassemble_tcp_shifts_timestamps_and_drops_strangers() {
    let rules =
        vec![scrub(Scrub { reassemble_tcp: true, ..Scrub::default() }), Rule::new(Action::Pass)];
    let mut rig = rig(rules);
    let stamps = |packet: &[u8]| {
        assert!(packet_is_intact(packet));
        tcp_options::scan(&packet[40..]).timestamps.expect("a timestamp")
    };
    let stamped = |tsval: u32, tsecr: u32| {
        let mut options = TIMESTAMPS.to_vec();
        options[4..8].copy_from_slice(&tsval.to_be_bytes());
        options[8..12].copy_from_slice(&tsecr.to_be_bytes());
        options
    };
    let client = Tcp { options: stamped(1_000, 0), ..Tcp::default() };
    let syn = rig.send(Direction::In, &client.packet(V4));
    let (shifted, _) = stamps(&syn.octets);
    assert_ne!(shifted, 1_000);
    let server = Tcp {
        sport: 80,
        dport: 40_000,
        flags: flags::SYN | flags::ACK,
        seq: 9,
        ack: 1_001,
        options: stamped(5_000, shifted),
        ..Tcp::default()
    };
    let answer = rig.send(Direction::Out, &server.packet(V4.turned()));
    let (server_shifted, echo) = stamps(&answer.octets);
    assert_eq!(echo, 1_000);
    let third = Tcp {
        seq: 1_001,
        ack: 10,
        flags: flags::ACK,
        options: stamped(1_001, server_shifted),
        ..Tcp::default()
    };
    let seen = rig.send(Direction::In, &third.packet(V4));
    assert_eq!(stamps(&seen.octets), (shifted.wrapping_add(1), 5_000));
    // An old timestamp: dropped, and the state is as it was.
    let data = Tcp {
        options: stamped(900, server_shifted),
        payload: vec![1; 100],
        flags: flags::ACK | flags::PSH,
        ..third.clone()
    };
    let (outcome, moved) =
        rig.moved_by(Direction::In, &data.packet(V4), pfengine::Offload::default());
    assert_eq!(outcome.verdict, Verdict::Drop(Reason::BadTimestamp));
    assert_eq!(moved, [(Reason::BadTimestamp, 1)]);
    let state = rig.engine.states(&mut 0, 10, rig.now).remove(0);
    assert_eq!((state.src.seqlo, state.src.level), (1_000, 4), "the data did not count");
    let good = Tcp { options: stamped(1_002, server_shifted), ..data };
    assert_eq!(rig.send(Direction::In, &good.packet(V4)).verdict, Verdict::Pass);
    rig.engine.check_invariants().expect("the gauges agree");
}

/// The SYN that opens the connection to the server behind a cookie has a lower MSS, too.
#[test]
fn max_mss_reaches_the_server_of_a_cookie() {
    use pfapi::ruleset::{SyncookieMode, Syncookies};
    let setting = Syncookies {
        mode: SyncookieMode::Always,
        classic: false,
        watermarks: None,
        ..Syncookies::default()
    };
    let options = Options { syncookies: Some(setting), ..Options::default() };
    let mut rule = Rule::new(Action::Pass);
    rule.scrub = Scrub { max_mss: 1_000, ..Scrub::default() };
    let mut rig = Rig::new(options, vec![rule]);
    let syn = Tcp { options: vec![2, 4, 5, 0xb4], ..Tcp::default() };
    let cookie = rig.send(Direction::In, &syn.packet(V4));
    let number = u32::from_be_bytes(cookie.octets[24..28].try_into().expect("four octets"));
    let ack = Tcp { seq: 1_001, ack: number.wrapping_add(1), flags: flags::ACK, ..Tcp::default() };
    let to_server = rig.send(Direction::In, &ack.packet(V4));
    assert_eq!((to_server.verdict, to_server.octets[33]), (Verdict::Pass, flags::SYN));
    assert_eq!(mss(&to_server.octets), Some(1_000));
}
