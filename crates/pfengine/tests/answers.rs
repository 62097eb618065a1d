//! Answers that are due in odd places: behind extension headers, in tight buffers, to senders
//! that nobody can be.

mod common;

use common::{Ends, Rig, Tcp, V4, V6, chain, flags, icmp, ip, ipv4, proto};
use pfapi::reason::Reason;
use pfapi::ruleset::{Action, BlockAnswer, Options, Rule, SyncookieMode, Syncookies};
use pfapi::units::Direction;
use pfengine::wire::checksum::packet_is_intact;
use pfengine::{Batch, Output, Packet, Verdict};

fn cookies() -> Options {
    let setting = Syncookies {
        mode: SyncookieMode::Always,
        classic: false,
        watermarks: None,
        ..Syncookies::default()
    };
    Options { syncookies: Some(setting), ..Options::default() }
}

fn behind_authentication(ends: Ends, segment: &[u8], count: usize) -> Vec<u8> {
    let header = vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (next, payload) = chain(&vec![(proto::AH, header); count], proto::TCP, segment);
    ip(ends, next, &payload)
}

/// The ACK that brings back the cookie of a SYN|ACK.
fn acknowledge(ends: Ends, answer: &[u8]) -> Vec<u8> {
    let at = if ends.src.is_ipv4() { 24 } else { 44 };
    let cookie = u32::from_be_bytes(answer[at..at + 4].try_into().expect("four octets"));
    let ack = cookie.wrapping_add(1);
    Tcp { seq: 1_001, ack, flags: flags::ACK, ..Tcp::default() }.packet(ends)
}

#[test]
fn syn_behind_authentication_headers_gets_its_cookie() {
    for ends in [V4, V6] {
        for count in [1, 9, 19] {
            let mut rig = Rig::new(cookies(), vec![Rule::new(Action::Pass)]);
            let syn = behind_authentication(ends, &Tcp::default().octets(ends), count);
            let answer = rig.send(Direction::In, &syn);
            assert_eq!(answer.verdict, Verdict::Answer, "{count} headers");
            assert!(packet_is_intact(&answer.octets));
            assert_eq!(rig.engine.info(rig.now).states, 0);
        }
    }
}

#[test]
fn syn_that_cannot_be_answered_makes_no_state_past_the_cookies() {
    let mut rig = Rig::new(cookies(), vec![Rule::new(Action::Pass)]);
    for src in ["224.0.0.1", "0.0.0.0", "255.255.255.255"] {
        let ends = Ends { src: src.parse().unwrap(), ..V4 };
        let outcome = rig.send(Direction::In, &Tcp::default().packet(ends));
        assert_eq!(outcome.verdict, Verdict::Drop(Reason::Normalize), "{src}");
    }
    assert_eq!(rig.engine.info(rig.now).states, 0);
}

#[test]
fn blocked_tcp_behind_an_authentication_header_gets_its_reset() {
    let block = Rule::new(Action::Block(BlockAnswer::Return));
    for ends in [V4, V6] {
        let mut rig = Rig::new(Options::default(), vec![block.clone()]);
        let syn = behind_authentication(ends, &Tcp::default().octets(ends), 1);
        let answer = rig.send(Direction::In, &syn);
        assert_eq!(answer.verdict, Verdict::Answer);
        assert!(packet_is_intact(&answer.octets));
        let wrong = behind_authentication(ends, &[0x40; 24], 1);
        let (_, moved) = rig.moved_by(Direction::In, &wrong, pfengine::Offload::default());
        assert_eq!(moved, [(Reason::Short, 1)], "data offset 4");
    }
}

#[test]
fn icmp_error_about_an_authenticated_packet_finds_its_state() {
    for ends in [V4, V6] {
        let block = Rule::new(Action::Block(BlockAnswer::Drop));
        let mut pass = Rule::new(Action::Pass);
        pass.proto = Some(proto::TCP);
        let mut rig = Rig::new(Options::default(), vec![block, pass]);
        let syn = behind_authentication(ends, &Tcp::default().octets(ends), 1);
        assert_eq!(rig.send(Direction::In, &syn).verdict, Verdict::Pass);
        let (icmp_type, number) =
            if ends.src.is_ipv4() { (3, proto::ICMP) } else { (1, proto::ICMPV6) };
        let back = ends.turned();
        let error = ip(back, number, &icmp(back, icmp_type, 1, [0; 4], &syn));
        assert_eq!(rig.send(Direction::Out, &error).verdict, Verdict::Pass);
    }
}

#[test]
fn blocked_syn_of_a_cookie_is_answered_in_both_families() {
    for (ends, len) in [(V4, 56), (V6, 112)] {
        let answer = BlockAnswer::ReturnIcmp { code: 3, code6: 4 };
        // Only `classic` gives SYNs a cookie that the rules block.
        let mut classic = cookies();
        classic.syncookies = classic.syncookies.map(|c| Syncookies { classic: true, ..c });
        let mut rig = Rig::new(classic, vec![Rule::new(Action::Block(answer))]);
        let cookie = rig.send(Direction::In, &Tcp::default().packet(ends));
        assert_eq!(cookie.verdict, Verdict::Answer);
        rig.send(Direction::In, &acknowledge(ends, &cookie.octets));
        let outputs = rig.outputs();
        let [Output::Send { packet, filtered: false, .. }] = outputs.as_slice() else {
            panic!("one ICMP error, not {outputs:?}")
        };
        assert_eq!(packet.data().len(), len);
        assert!(packet_is_intact(packet.data()));
    }
}

#[test]
fn buffer_without_room_for_the_answer_drops_the_packet() {
    for ends in [V4, V6] {
        let mut rig = Rig::new(cookies(), vec![Rule::new(Action::Pass)]);
        let cookie = rig.send(Direction::In, &Tcp::default().packet(ends));
        let ack = acknowledge(ends, &cookie.octets);
        let mut packet = Packet::new(0, ack.len());
        packet.fill(&ack);
        let mut batch = Batch { packets: vec![packet] };
        rig.worker.process(rig.now, &mut batch);
        // The SYN to the server carries an option that the ACK had no room for.
        assert_eq!(batch.packets[0].meta.verdict, Verdict::Drop(Reason::Memory));
        rig.engine.check_invariants().unwrap();
    }
}

#[test]
fn options_of_the_blocked_packet_are_quoted() {
    let mut rig = Rig::new(Options::default(), vec![Rule::new(Action::Block(BlockAnswer::Return))]);
    let octets = ipv4(V4, 253, &[7, 7, 4, 0, 0, 0, 0, 0], &[1; 40]);
    let answer = rig.send(Direction::In, &octets);
    assert_eq!(answer.verdict, Verdict::Answer);
    assert_eq!(answer.octets.len(), 20 + 8 + 28 + 8);
    assert_eq!(answer.octets[28..], octets[..36]);
}

#[test]
fn states_of_multicast_senders_are_not_answered() {
    let ends = Ends { src: "224.0.0.1".parse().unwrap(), ..V4 };
    let mut rig = Rig::new(Options::default(), vec![Rule::new(Action::Pass)]);
    assert_eq!(rig.send(Direction::In, &Tcp::default().packet(ends)).verdict, Verdict::Pass);
    let other = Tcp {
        sport: 80,
        dport: 40_000,
        flags: flags::SYN | flags::ACK,
        ack: 0x7000_0000,
        ..Tcp::default()
    };
    let offload = pfengine::Offload::default();
    let (outcome, moved) = rig.moved_by(Direction::Out, &other.packet(ends.turned()), offload);
    assert_eq!(outcome.verdict, Verdict::Drop(Reason::StateMismatch));
    assert_eq!(moved, [(Reason::StateMismatch, 1)]);
}
