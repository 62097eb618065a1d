//! A SYN with any options gets a cookie; the ACK that brings it back opens exactly one
//! connection, and an ACK with any other number opens none.
#![no_main]

#[path = "../../crates/pfengine/tests/common/mod.rs"]
mod common;

use common::{Rig, Tcp, V4, V6, flags};
use libfuzzer_sys::fuzz_target;
use pfapi::ruleset::{Action, Options, Rule, SyncookieMode, Syncookies};
use pfapi::units::Direction;
use pfengine::Verdict;
use pfengine::wire::tcp_options::scan;

fuzz_target!(|input: &[u8]| {
    let Some((&[kind, s0, s1, s2, s3, e0, e1, e2, e3], options)) = input.split_first_chunk() else {
        return;
    };
    let ends = if kind & 1 == 0 { V4 } else { V6 };
    let setting = Syncookies {
        mode: SyncookieMode::Always,
        classic: kind & 2 != 0,
        watermarks: None,
        ..Syncookies::default()
    };
    let all = Options { syncookies: Some(setting), ..Options::default() };
    let mut rule = Rule::new(Action::Pass);
    rule.flags = Some(pfapi::ruleset::TcpFlagsMatch::S_SA);
    let mut block = Rule::new(Action::Block(pfapi::ruleset::BlockAnswer::Drop));
    block.direction = Some(Direction::In);
    let mut rig = Rig::new(all, vec![block, rule]);
    let seq = u32::from_be_bytes([s0, s1, s2, s3]);
    let error = u32::from_be_bytes([e0, e1, e2, e3]);
    let mut options = options[..options.len().min(40)].to_vec();
    options.resize(options.len().next_multiple_of(4), 0);
    let offered = scan(&options);
    let syn = Tcp { seq, options, ..Tcp::default() };
    let answer = rig.send(Direction::In, &syn.packet(ends));
    assert_eq!(answer.verdict, Verdict::Answer);
    let at = if kind & 1 == 0 { 24 } else { 44 };
    let cookie = u32::from_be_bytes(answer.octets[at..at + 4].try_into().expect("four octets"));
    // A client that was given a timestamp sends it back.
    let header = &answer.octets[at - 4..];
    let announced = scan(&header[20..usize::from(header[12] >> 4) * 4]);
    let mut options = Vec::new();
    if let Some((stamp, _)) = announced.timestamps {
        options.extend([1, 1, 8, 10, 0, 0, 0, 9]);
        options.extend(stamp.to_be_bytes());
    }
    let ack = Tcp {
        seq: seq.wrapping_add(1),
        ack: cookie.wrapping_add(1).wrapping_add(error),
        flags: flags::ACK,
        options,
        ..Tcp::default()
    };
    let outcome = rig.send(Direction::In, &ack.packet(ends));
    let info = rig.engine.info(rig.now);
    if error == 0 {
        assert_eq!(outcome.verdict, Verdict::Pass, "the SYN to the server");
        // The client has sent its third packet, so nothing is half open.
        assert_eq!((info.states, info.half_open), (1, 0));
        // The server is offered nothing that the client has not offered.
        let at = if kind & 1 == 0 { 20 } else { 40 };
        let header = &outcome.octets[at..];
        let relayed = scan(&header[20..usize::from(header[12] >> 4) * 4]);
        assert!(relayed.wscale <= offered.wscale, "{relayed:?} of {offered:?}");
        assert!(relayed.sack_permitted <= offered.sack_permitted);
        assert!(relayed.timestamps.is_some() <= offered.timestamps.is_some());
    } else if info.states == 1 {
        // A guess may be right: not all bits are a secret hash.
        assert_eq!(outcome.verdict, Verdict::Pass);
    } else {
        assert!(matches!(outcome.verdict, Verdict::Drop(_)), "{:?}", outcome.verdict);
    }
    rig.engine.check_invariants().expect("the gauges agree");
});
