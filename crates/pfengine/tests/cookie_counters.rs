//! Each counter of SYN cookies moves when what it counts happens, and at no other time.

mod common;

use common::{Outcome, Rig, Tcp, V4, V6, flags, proto, returning};
use pfapi::reason::CookieCounter;
use pfapi::ruleset::{
    Action, BlockAnswer, Options, Rule, SyncookieMode, Syncookies, TcpFlagsMatch,
};
use pfapi::units::Direction;
use pfengine::Verdict;

fn rig(mode: SyncookieMode) -> Rig {
    let setting = Syncookies { mode, ..Syncookies::default() };
    let options = Options { syncookies: Some(setting), ..Options::default() };
    let pass = Rule {
        proto: Some(proto::TCP),
        flags: Some(TcpFlagsMatch::S_SA),
        ..Rule::new(Action::Pass)
    };
    Rig::new(options, vec![Rule::new(Action::Block(BlockAnswer::Drop)), pass])
}

/// Sends one packet that comes in, and says which counters have moved.
fn send(rig: &mut Rig, octets: &[u8]) -> (Outcome, Vec<(CookieCounter, u64)>) {
    let counters = |rig: &Rig| rig.engine.info(rig.now).syncookies.counters;
    let before = counters(rig);
    let outcome = rig.send(Direction::In, octets);
    let moved = counters(rig).into_iter().zip(before);
    let moved = moved.map(|((name, after), (_, before))| (name, after - before));
    (outcome, moved.filter(|(_, by)| *by > 0).collect())
}

fn segment(seq: u32, ack: u32, flags: u8) -> Tcp {
    Tcp { seq, ack, flags, ..Tcp::default() }
}

#[test]
fn cookies_that_come_back_are_right_or_wrong_or_late_or_used() {
    for ends in [V4, V6] {
        let mut rig = rig(SyncookieMode::Always);
        let (answer, moved) = send(&mut rig, &Tcp::with_all().packet(ends));
        assert_eq!(
            (answer.verdict, moved),
            (Verdict::Answer, vec![(CookieCounter::SynReceived, 1)])
        );
        let wrong = segment(1_001, 12_345, flags::ACK).packet(ends);
        assert_eq!(send(&mut rig, &wrong).1, [(CookieCounter::CookieInvalid, 1)]);
        let right = returning(&answer.octets, ends);
        assert_eq!(send(&mut rig, &right).1, [(CookieCounter::CookieValid, 1)]);
        // The server has not answered, so the client's word goes on as another SYN.
        rig.now = rig.now.plus_secs(2);
        assert_eq!(send(&mut rig, &right).1, [(CookieCounter::CookieRetrans, 1)]);
        let all = pfapi::control::Flush::States { interface: None };
        let _ = rig.engine.flush(&all, rig.now);
        assert_eq!(send(&mut rig, &right).1, [(CookieCounter::Replayed, 1)]);

        let other = ends.client(7);
        let (late, _) = send(&mut rig, &Tcp::with_all().packet(other));
        rig.now = rig.now.plus_secs(31);
        let (fresh, _) = send(&mut rig, &Tcp::with_all().packet(ends.client(8)));
        assert_eq!(fresh.verdict, Verdict::Answer);
        let late = returning(&late.octets, other);
        assert_eq!(send(&mut rig, &late).1, [(CookieCounter::Expired, 1)]);
    }
}

#[test]
fn a_connection_between_the_same_ports_is_reopened() {
    for ends in [V4, V6] {
        let mut rig = rig(SyncookieMode::Never);
        let back = ends.turned();
        let turn = |segment: Tcp| Tcp { sport: 80, dport: 40_000, ..segment };
        let reset = flags::RST | flags::ACK;
        rig.send(Direction::In, &segment(1_000, 0, flags::SYN).packet(ends));
        rig.send(Direction::Out, &turn(segment(0, 1_001, reset)).packet(back));
        let again = segment(900_000, 0, flags::SYN).packet(ends);
        let (outcome, moved) = send(&mut rig, &again);
        assert_eq!(
            (outcome.verdict, moved),
            (Verdict::Pass, vec![(CookieCounter::ConnReopened, 1)])
        );
    }
}

#[test]
fn answers_longer_than_their_syns_end_with_the_credit() {
    for ends in [V4, V6] {
        let mut rig = rig(SyncookieMode::Always);
        let syn = |n: u16| Tcp { sport: n, ..Tcp::default() }.packet(ends);
        let answered = (1..).take_while(|&n| {
            let (outcome, moved) = send(&mut rig, &syn(n));
            let withheld = moved.contains(&(CookieCounter::Withheld, 1));
            assert_eq!(outcome.verdict == Verdict::Answer, !withheld);
            !withheld
        });
        // Four octets more than the SYN each: the MSS.
        assert_eq!(answered.count(), 1_024);
        assert_eq!(send(&mut rig, &Tcp::with_all().packet(ends)).0.verdict, Verdict::Answer);
    }
}

#[test]
fn so_many_acks_are_checked_in_a_second_and_no_more() {
    let mut rig = rig(SyncookieMode::Always);
    let (answer, _) = send(&mut rig, &Tcp::with_all().packet(V4));
    let wrong = segment(1_001, 12_345, flags::ACK).packet(V4.client(9));
    for _ in 0..1 << 18 {
        rig.send(Direction::In, &wrong);
    }
    assert_eq!(send(&mut rig, &wrong).1, [(CookieCounter::Unchecked, 1)]);
    rig.now = rig.now.plus_secs(1);
    let right = returning(&answer.octets, V4);
    assert_eq!(send(&mut rig, &right).1, [(CookieCounter::CookieValid, 1)]);
}
