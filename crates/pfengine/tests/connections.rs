//! Connections through the filter: handshakes, half-open counts, SYN cookies, ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod router;

use pfapi::control::{Flush, KillFilter};
use pfapi::limit::Limit;
use pfapi::port::PortMatch;
use pfapi::reason::Reason;
use pfapi::ruleset::{
    Action, BlockAnswer, Options, Rule, SyncookieMode, Syncookies, TcpFlagsMatch, Watermarks, proto,
};
use pfapi::timeout::Timeout;
use pfapi::units::{Direction, IfIndex};
use pfengine::wire::build::TcpSegment;
use pfengine::wire::build::flags::{ACK, FIN, RST, SYN};
use pfengine::wire::bytes::{be16, be32};
use pfengine::wire::tcp_options::{SynOptions, scan};
use router::{CLIENT, INSIDE, OUTSIDE, Router, SERVER, Seen, octets, tcp, with_payload};

/// `pass proto tcp to port 80 flags S/SA`, behind `block <answer>`.
fn web(answer: BlockAnswer) -> Vec<Rule> {
    let mut pass = Rule::new(Action::Pass);
    pass.proto = Some(proto::TCP);
    pass.to.port = Some(PortMatch::Equal(80));
    pass.flags = Some(TcpFlagsMatch::S_SA);
    vec![Rule::new(Action::Block(answer)), pass]
}

fn cookies(mode: SyncookieMode, classic: bool, marks: Option<(u32, u32)>) -> Options {
    Options {
        syncookies: Some(Syncookies {
            mode,
            classic,
            watermarks: marks.map(|(start, end)| Watermarks { start, end }),
            ..Syncookies::default()
        }),
        ..Options::default()
    }
}

/// The TCP header of what came out: flags, sequence and acknowledgement number, window.
#[track_caller]
fn header(seen: &Seen, interface: IfIndex) -> (u8, u32, u32, u16) {
    let Seen::Out(at, octets) = seen else { panic!("dropped: {seen:?}") };
    assert_eq!(*at, interface);
    let l4 = if octets[0] >> 4 == 4 { 20 } else { 40 };
    let number = |at| be32(octets, l4 + at).unwrap();
    (octets[l4 + 13], number(4), number(8), be16(octets, l4 + 14).unwrap())
}

struct Talk {
    client: (&'static str, u16),
    server: (&'static str, u16),
}

const TALK: Talk = Talk { client: (CLIENT, 40_000), server: (SERVER, 80) };
const TALK6: Talk = Talk { client: ("2001:db8:1::10", 40_000), server: ("2001:db8:2::80", 80) };

impl Talk {
    fn up(&self, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
        octets(&tcp(self.client, self.server, flags, seq, ack))
    }

    fn down(&self, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
        octets(&tcp(self.server, self.client, flags, seq, ack))
    }

    fn connect(&self, router: &mut Router) {
        assert_eq!(router.send(&self.up(SYN, 100, 0)), Seen::Out(INSIDE, self.up(SYN, 100, 0)));
        let answer = self.down(SYN | ACK, 900, 101);
        assert_eq!(router.send(&answer), Seen::Out(OUTSIDE, answer));
        let ack = self.up(ACK, 101, 901);
        assert_eq!(router.send(&ack), Seen::Out(INSIDE, ack));
    }
}

#[test]
fn a_connection_is_half_open_once_until_its_third_packet() {
    for talk in [TALK, TALK6] {
        let mut router = Router::new(Options::default(), web(BlockAnswer::Drop));
        let counts = |router: &Router| {
            let info = router.info();
            (info.states, info.half_open, info.half_open_pf)
        };
        router.send(&talk.up(SYN, 100, 0));
        assert_eq!(counts(&router), (2, 1, Some(2)));
        router.send(&talk.down(SYN | ACK, 900, 101));
        assert_eq!(counts(&router), (2, 1, Some(0)), "pf counts no more after the SYN|ACK");
        router.send(&talk.up(ACK, 101, 901));
        assert_eq!(counts(&router), (2, 0, Some(0)));
    }
}

#[test]
fn levels_and_timeouts_of_a_whole_connection() {
    let mut router = Router::new(Options::default(), web(BlockAnswer::Drop));
    TALK.connect(&mut router);
    let report = |router: &Router| router.engine.states(&mut 0, 9, router.now)[0].clone();
    let state = report(&router);
    assert_eq!((state.src.level, state.dst.level, state.expires_s), (4, 4, 86_400));
    assert_eq!((state.packets, state.rule), ([2, 1], Some(1)));
    router.send(&TALK.up(FIN | ACK, 101, 901));
    assert_eq!(report(&router).expires_s, 900);
    router.send(&TALK.down(FIN | ACK, 901, 102));
    assert_eq!(report(&router).src.level, 9);
    router.send(&TALK.up(ACK, 102, 902));
    let state = report(&router);
    assert_eq!((state.src.level, state.dst.level, state.expires_s), (9, 9, 90));
    // The ports may be used again at once.
    router.send(&TALK.up(SYN, 5_000_000, 0));
    assert_eq!(report(&router).src.level, 2);
    assert_eq!(router.info().states, 2);
    router.wait(200);
    assert_eq!(router.info().states, 0);
    assert_eq!(router.info().half_open, 0);
}

#[test]
fn segments_outside_the_window_are_dropped_and_change_nothing() {
    let mut router = Router::new(Options::default(), web(BlockAnswer::Drop));
    TALK.connect(&mut router);
    let far = 0x4000_0000;
    for hostile in [
        TALK.up(ACK | FIN, 101 + far, 901),
        TALK.down(ACK | FIN, 901_u32.wrapping_sub(far), 101),
        TALK.up(RST, 101 + 500, 0),
        TALK.down(RST | ACK, 901 + 2, 101),
    ] {
        assert_eq!(router.send(&hostile), Seen::Dropped(Reason::StateMismatch));
    }
    assert_eq!(router.reason(Reason::StateMismatch), 4);
    let states = router.engine.states(&mut 0, 9, router.now);
    assert!(states.iter().all(|state| (state.src.level, state.dst.level) == (4, 4)));
    // The exact sequence number is believed.
    router.send(&TALK.up(RST, 101, 0));
    let states = router.engine.states(&mut 0, 9, router.now);
    assert!(states.iter().all(|state| (state.src.level, state.dst.level) == (10, 10)));
}

#[test]
fn a_syn_on_an_established_connection_is_challenged() {
    let mut router = Router::new(Options::default(), web(BlockAnswer::Drop));
    TALK.connect(&mut router);
    let seen = router.send(&TALK.up(SYN, 77_777, 0));
    // The filter knows the client up to its SYN; the RST that the client answers with has the
    // acknowledged number and is believed.
    assert_eq!(header(&seen, OUTSIDE), (ACK, 901, 100, 0));
    let rst = TALK.up(RST, 100, 0);
    assert_eq!(router.send(&rst), Seen::Out(INSIDE, rst));
}

#[test]
fn blocked_syns_are_answered_as_the_rule_says() {
    let blocked = Talk { server: (SERVER, 81), ..TALK };
    let mut router = Router::new(Options::default(), web(BlockAnswer::Drop));
    assert_eq!(router.send(&blocked.up(SYN, 100, 0)), Seen::Dropped(Reason::Match));
    let mut router = Router::new(Options::default(), web(BlockAnswer::Return));
    let seen = router.send(&blocked.up(SYN, 100, 0));
    assert_eq!(header(&seen, OUTSIDE), (RST | ACK, 0, 101, 0));
    assert_eq!(router.info().states, 0);
    let mut damaged = blocked.up(SYN, 100, 0);
    damaged[36] ^= 1;
    assert_eq!(router.send(&damaged), Seen::Dropped(Reason::ProtoCksum));
}

#[test]
fn a_full_table_refuses_and_counts_memory() {
    let mut options = Options::default();
    options.limits.set(Limit::States, 4);
    let mut router = Router::new(options, web(BlockAnswer::Drop));
    for port in 1..=3 {
        let talk = Talk { client: (CLIENT, port), ..TALK };
        let seen = router.send(&talk.up(SYN, 1, 0));
        assert_eq!(seen == Seen::Dropped(Reason::Memory), port == 3, "port {port}");
    }
    assert_eq!(router.reason(Reason::Memory), 1);
    assert_eq!(router.info().states, 4);
}

#[test]
fn a_full_table_has_room_for_a_connection_that_begins_again() {
    let mut options = Options::default();
    options.limits.set(Limit::States, 2);
    let mut router = Router::new(options, web(BlockAnswer::Drop));
    TALK.connect(&mut router);
    router.send(&TALK.up(RST, 101, 901));
    let again = TALK.up(SYN, 9_000_000, 0);
    assert_eq!(router.send(&again), Seen::Out(INSIDE, again));
    assert_eq!(router.info().states, 2);
}

/// Limit 100, 10 % and 5 %, one state per SYN.
#[test]
fn adaptive_mode_goes_on_above_the_high_mark_and_off_below_the_low_one() {
    for classic in [false, true] {
        let mut options = cookies(SyncookieMode::Adaptive, classic, Some((10, 5)));
        options.limits.set(Limit::States, 100);
        options.timeouts.set(Timeout::TcpFirst, 5);
        let mut rules = web(BlockAnswer::Drop);
        // One state per SYN: the way out makes none.
        rules[1].direction = Some(Direction::In);
        let mut out = Rule::new(Action::Pass);
        out.direction = Some(Direction::Out);
        out.state = pfapi::ruleset::StatePolicy::None;
        rules.push(out);
        let mut router = Router::new(options, rules);
        for port in 1..=20 {
            let talk = Talk { client: (CLIENT, port), ..TALK };
            let seen = router.send(&talk.up(SYN, 100, 0));
            let active = port >= 12;
            let answered = matches!(seen, Seen::Out(OUTSIDE, _));
            assert_eq!(answered, active, "SYN {port}, classic {classic}");
            assert_eq!(router.info().syncookies.active, active);
        }
        let info = router.info();
        assert_eq!((info.states, info.half_open), (11, 11));
        assert_eq!(info.limit_counters[7].1, 1, "synfloods detected");
        assert_eq!(info.limit_counters[8].1, 9, "syncookies sent");
        // pf holds on until a rotation forgets the unanswered cookies; ours looks every 5 s.
        router.wait(if classic { 44 } else { 9 });
        assert!(router.info().syncookies.active, "classic {classic}");
        router.wait(if classic { 2 } else { 11 });
        assert!(!router.info().syncookies.active, "classic {classic}");
        assert_eq!(router.info().half_open, 0);
    }
}

/// Opens a connection through a cookie; gives the cookie, the number that the server sees, and the
/// server's own.
fn connect_by_cookie(
    router: &mut Router,
    talk: &Talk,
    client_isn: u32,
    classic: bool,
) -> (u32, u32, u32) {
    let options = SynOptions::of_mss(Some(1460));
    let syn = TcpSegment { options, ..tcp(talk.client, talk.server, SYN, client_isn, 0) };
    let (flags, cookie, ack, window) = header(&router.send(&octets(&syn)), OUTSIDE);
    let next = client_isn.wrapping_add(1);
    assert_eq!((flags, ack), (SYN | ACK, next));
    assert_eq!(window == 0, classic, "room for the first data");
    assert_eq!(router.info().states, 0, "a cookie keeps nothing");

    let isn = if classic { cookie } else { client_isn };
    let seen = router.send(&talk.up(ACK, next, cookie.wrapping_add(1)));
    let window = if classic { 0 } else { 8_000 };
    assert_eq!(header(&seen, INSIDE), (SYN, isn, 0, window));
    let server_isn = 0xa0b0_c0d0;
    let seen = router.send(&talk.down(SYN | ACK, server_isn, isn.wrapping_add(1)));
    let opened = (ACK, cookie.wrapping_add(1), next, 8_000);
    assert_eq!(header(&seen, OUTSIDE), opened, "the window of the client opens");
    let to_server = router.outputs();
    assert_eq!(to_server.len(), 1);
    let acked = (ACK, isn.wrapping_add(1), server_isn + 1, 8_000);
    if classic {
        assert_eq!(header(&to_server[0], INSIDE), acked);
    } else {
        // The server hears of the client when that has answered a keep-alive.
        assert_eq!(header(&to_server[0], OUTSIDE), (ACK, cookie, next, 8_000));
        let word = router.send(&talk.up(ACK, next, cookie.wrapping_add(1)));
        assert_eq!(header(&word, INSIDE), acked);
    }
    (cookie, isn, server_isn)
}

#[test]
fn a_cookie_becomes_a_connection_with_translated_numbers() {
    for (classic, talk) in [(false, TALK), (true, TALK), (false, TALK6), (true, TALK6)] {
        for client_isn in [0x1122_3344, u32::MAX] {
            let options = cookies(SyncookieMode::Always, classic, None);
            let mut router = Router::new(options, web(BlockAnswer::Drop));
            let (cookie, isn, server_isn) =
                connect_by_cookie(&mut router, &talk, client_isn, classic);
            assert_eq!(router.info().half_open, 0);
            let next = client_isn.wrapping_add(1);
            let seen = router.send(&talk.up(ACK, next.wrapping_add(10), cookie.wrapping_add(31)));
            let numbers = header(&seen, INSIDE);
            assert_eq!((numbers.1, numbers.2), (isn.wrapping_add(11), server_isn + 31));
            let seen = router.send(&talk.down(ACK, server_isn + 31, isn.wrapping_add(11)));
            let numbers = header(&seen, OUTSIDE);
            assert_eq!((numbers.1, numbers.2), (cookie.wrapping_add(31), next.wrapping_add(10)));
            let limits = router.info().limit_counters;
            assert_eq!((limits[8].1, limits[9].1), (1, 1), "sent and validated");
        }
    }
}

/// A SYN with every option, and the cookie and stamp that answer it.
fn ask_with_options(router: &mut Router, talk: &Talk) -> (u32, SynOptions) {
    let options = SynOptions {
        mss: Some(1_460),
        wscale: Some(7),
        sack_permitted: true,
        timestamps: Some((1_000, 0)),
    };
    let syn = TcpSegment { options, ..tcp(talk.client, talk.server, SYN, 100, 0) };
    let seen = router.send(&octets(&syn));
    let (flags, cookie, ..) = header(&seen, OUTSIDE);
    assert_eq!(flags & (SYN | ACK), SYN | ACK);
    (cookie, options_of(&seen))
}

fn options_of(seen: &Seen) -> SynOptions {
    let Seen::Out(_, octets) = seen else { panic!("dropped: {seen:?}") };
    let l4 = if octets[0] >> 4 == 4 { 20 } else { 40 };
    scan(&octets[l4 + 20..l4 + usize::from(octets[l4 + 12] >> 4) * 4])
}

fn stamped(segment: TcpSegment, stamps: (u32, u32)) -> TcpSegment {
    TcpSegment { options: SynOptions { timestamps: Some(stamps), ..segment.options }, ..segment }
}

#[test]
fn a_client_with_timestamps_keeps_every_option() {
    for talk in [TALK, TALK6] {
        let options = cookies(SyncookieMode::Always, false, None);
        let mut router = Router::new(options, web(BlockAnswer::Drop));
        let (cookie, announced) = ask_with_options(&mut router, &talk);
        let Some((stamp, 1_000)) = announced.timestamps else { panic!("{announced:?}") };
        assert_eq!((announced.wscale, announced.sack_permitted), (Some(8), true));
        let ack = tcp(talk.client, talk.server, ACK, 101, cookie.wrapping_add(1));
        let bare = router.send(&octets(&ack));
        assert_eq!(bare, Seen::Dropped(Reason::Match), "the stamp is part of the proof");
        let syn = router.send(&octets(&stamped(ack, (1_003, stamp))));
        let relayed = options_of(&syn);
        // The server has not been heard yet: room for an option that it may not know.
        assert_eq!(relayed.mss, Some(1_448));
        assert_eq!((relayed.wscale, relayed.sack_permitted), (Some(7), true));
        assert_eq!(relayed.timestamps, Some((1_003, 0)));
        assert_eq!(header(&syn, INSIDE).3, u16::MAX, "8000 in units of 128 octets");
        let answer = SynOptions { timestamps: Some((70_000, 1_003)), wscale: Some(9), ..relayed };
        let syn_ack = tcp(talk.server, talk.client, SYN | ACK, 500, 101);
        let opened = router.send(&octets(&TcpSegment { options: answer, ..syn_ack }));
        assert_eq!(header(&opened, OUTSIDE), (ACK, cookie.wrapping_add(1), 101, 8_000 >> 8));
        assert_eq!(options_of(&opened).timestamps, Some((stamp, 1_003)));
        let question = router.outputs();
        assert_eq!(header(&question[0], OUTSIDE).1, cookie);
        assert_eq!(options_of(&question[0]).timestamps, Some((stamp, 1_003)));
        let to_server = router.send(&octets(&stamped(ack, (1_004, stamp))));
        assert_eq!(options_of(&to_server).timestamps, Some((1_004, 70_000)));
        let data = tcp(talk.server, talk.client, ACK, 501, 101);
        let seen = router.send(&octets(&stamped(data, (70_020, 1_003))));
        assert_eq!(options_of(&seen).timestamps, Some((stamp.wrapping_add(20), 1_003)));
        assert_eq!(header(&seen, OUTSIDE).3, 16_000, "512 octets are twice 256");
        // From now on the server is known: nothing needs to be rewritten for it.
        let next = Talk { client: (talk.client.0, 40_001), ..talk };
        let (_, announced) = ask_with_options(&mut router, &next);
        assert_eq!((announced.wscale, announced.mss), (Some(9), Some(1_448)));
    }
}

#[test]
fn early_data_waits_for_the_server() {
    let options = cookies(SyncookieMode::Always, false, None);
    let mut router = Router::new(options, web(BlockAnswer::Drop));
    let (_, cookie, _, window) = header(&router.send(&TALK.up(SYN, 100, 0)), OUTSIDE);
    assert!(window >= 1_000);
    let data = |seq: u32, payload: &[u8]| {
        let segment = tcp(TALK.client, TALK.server, ACK, seq, cookie.wrapping_add(1));
        with_payload(&segment, payload)
    };
    // The ACK that proves the client carries data, and more comes before the server is there.
    assert_eq!(header(&router.send(&data(101, b"hello ")), INSIDE).0, SYN);
    assert_eq!(router.send(&data(107, b"world")), Seen::Held);
    assert_eq!(router.send(&data(107, b"world")), Seen::Dropped(Reason::Synproxy));
    router.send(&TALK.down(SYN | ACK, 900, 101));
    assert_eq!(router.outputs().len(), 1, "the client is asked for its word");
    assert_eq!(router.send(&TALK.up(ACK, 112, cookie.wrapping_add(1))), Seen::Held);
    let sent = router.outputs();
    assert_eq!(sent.len(), 2);
    for (seen, seq, payload) in [(&sent[0], 101, &b"hello "[..]), (&sent[1], 107, b"world")] {
        assert_eq!(header(seen, INSIDE), (ACK, seq, 901, 8_000));
        let Seen::Out(_, octets) = seen else { panic!("{seen:?}") };
        assert!(octets.ends_with(payload));
    }
}

#[test]
fn a_lost_syn_is_repeated_and_a_silent_server_given_up() {
    let options = cookies(SyncookieMode::Always, false, None);
    let mut router = Router::new(options, web(BlockAnswer::Drop));
    let (_, cookie, _, _) = header(&router.send(&TALK.up(SYN, 100, 0)), OUTSIDE);
    let first = router.send(&TALK.up(ACK, 101, cookie + 1));
    for at in 1..=15 {
        router.wait(1);
        let seen = router.outputs();
        match at {
            1..=5 | 7 | 11 => {
                assert_eq!(header(&seen[0], INSIDE), header(&first, INSIDE), "{at} s");
            }
            15 => assert_eq!(header(&seen[0], OUTSIDE), (RST | ACK, cookie + 1, 101, 0)),
            _ => assert!(seen.is_empty(), "{at} s: {seen:?}"),
        }
    }
    // The client may connect anew at once.
    assert_eq!(header(&router.send(&TALK.up(SYN, 7_000, 0)), OUTSIDE).0, SYN | ACK);
}

#[test]
fn an_unreachable_server_is_told_to_the_client_as_an_rst() {
    for (talk, icmp_type) in [(TALK, 3), (TALK6, 1)] {
        let options = cookies(SyncookieMode::Always, false, None);
        let mut router = Router::new(options, web(BlockAnswer::Drop));
        let (_, cookie, _, _) = header(&router.send(&talk.up(SYN, 100, 0)), OUTSIDE);
        let syn = router.send(&talk.up(ACK, 101, cookie.wrapping_add(1)));
        let Seen::Out(INSIDE, quoted) = &syn else { panic!("{syn:?}") };
        let error = router::icmp_error(icmp_type, 1, quoted);
        let told = router.send(&error);
        assert_eq!(header(&told, OUTSIDE), (RST | ACK, cookie.wrapping_add(1), 101, 0));
        router.wait(20);
        assert!(router.outputs().is_empty(), "the wait is over");
    }
}

#[test]
fn forged_and_stale_cookies_open_nothing() {
    let options = cookies(SyncookieMode::Always, false, None);
    let mut router = Router::new(options, web(BlockAnswer::Drop));
    let syn = octets(&tcp(TALK.client, TALK.server, SYN, 100, 0));
    let (_, cookie, _, _) = header(&router.send(&syn), OUTSIDE);
    let other = Talk { client: ("198.51.100.11", 40_000), ..TALK };
    for forged in [
        TALK.up(ACK, 101, cookie + 2),
        TALK.up(ACK, 102, cookie + 1),
        other.up(ACK, 101, cookie + 1),
        TALK.up(RST | ACK, 101, cookie + 1),
    ] {
        assert_eq!(router.send(&forged), Seen::Dropped(Reason::Match));
    }
    assert_eq!(router.info().states, 0);
    router.wait(31);
    assert_eq!(router.send(&TALK.up(ACK, 101, cookie + 1)), Seen::Dropped(Reason::Match));
}

#[test]
fn a_cookie_for_a_blocked_port_ends_in_the_answer_of_the_rule() {
    let options = cookies(SyncookieMode::Always, false, None);
    let blocked = Talk { server: (SERVER, 81), ..TALK };
    let mut router = Router::new(options, web(BlockAnswer::Return));
    let (_, cookie, _, _) = header(&router.send(&blocked.up(SYN, 100, 0)), OUTSIDE);
    let seen = router.send(&blocked.up(ACK, 101, cookie + 1));
    // The client is connected in its own eyes: only this RST has the number that it expects.
    assert_eq!(header(&seen, OUTSIDE), (RST | ACK, cookie + 1, 101, 0));
    assert_eq!(router.info().states, 0);
}

#[test]
fn refusal_by_the_server_reaches_a_client_with_a_cookie() {
    let options = cookies(SyncookieMode::Always, false, None);
    let mut router = Router::new(options, web(BlockAnswer::Drop));
    let (_, cookie, _, _) = header(&router.send(&TALK.up(SYN, 100, 0)), OUTSIDE);
    router.send(&TALK.up(ACK, 101, cookie + 1));
    let seen = router.send(&TALK.down(RST | ACK, 0, 101));
    assert_eq!(header(&seen, OUTSIDE), (RST | ACK, cookie + 1, 101, 0));
}

#[test]
fn a_silent_server_ends_in_an_rst_when_the_state_expires() {
    let mut options = cookies(SyncookieMode::Always, false, None);
    options.timeouts.set(Timeout::TcpFirst, 5);
    options.timeouts.set(Timeout::Interval, 1);
    let mut router = Router::new(options, web(BlockAnswer::Drop));
    let (_, cookie, _, _) = header(&router.send(&TALK.up(SYN, 100, 0)), OUTSIDE);
    router.send(&TALK.up(ACK, 101, cookie + 1));
    router.wait(8);
    let seen = router.outputs();
    let last = seen.last().unwrap();
    assert_eq!(header(last, OUTSIDE), (RST | ACK, cookie + 1, 101, 0));
}

#[test]
fn states_outlive_a_load_and_show_no_rule_then() {
    let mut router = Router::new(Options::default(), web(BlockAnswer::Drop));
    TALK.connect(&mut router);
    router.load(Options::default(), vec![Rule::new(Action::Block(BlockAnswer::Drop))]);
    let data = TALK.up(ACK, 101, 901);
    assert_eq!(router.send(&data), Seen::Out(INSIDE, data));
    assert_eq!(router.engine.states(&mut 0, 1, router.now)[0].rule, None);
    assert_eq!(router.engine.rules(0, 9)[0].packets, [0; 2]);
}

#[test]
fn rules_count_the_packets_of_their_states_in_both_directions() {
    let mut router = Router::new(Options::default(), web(BlockAnswer::Drop));
    TALK.connect(&mut router);
    let blocked = Talk { server: (SERVER, 81), ..TALK };
    router.send(&blocked.up(SYN, 1, 0));
    let counts = |router: &Router| {
        let rules = router.engine.rules(0, 9);
        [0, 1].map(|at| {
            let rule = &rules[at];
            (rule.evaluations, rule.packets, rule.bytes, rule.states, rule.states_total)
        })
    };
    // Two packets up and one down, each in on one interface and out on the other.
    let web = (3, [3, 3], [120, 120], 2, 2);
    assert_eq!(counts(&router), [(3, [1, 0], [40, 0], 0, 0), web]);
    assert_eq!(router.engine.flush(&Flush::States { interface: None }, router.now), 2);
    let ended = (3, [3, 3], [120, 120], 0, 2);
    assert_eq!(counts(&router)[1], ended, "the end of a state loses nothing");
    TALK.connect(&mut router);
    router.engine.clear_rule_counters();
    assert_eq!(counts(&router), [(0, [0, 0], [0, 0], 0, 0), (0, [0, 0], [0, 0], 2, 0)]);
    router.send(&TALK.up(ACK, 101, 901));
    assert_eq!(counts(&router)[1], (0, [1, 1], [40, 40], 2, 0));
}

#[test]
fn match_rules_count_packets_of_states_by_the_direction_of_the_packet() {
    let mut rule = Rule::new(Action::Match);
    rule.direction = Some(Direction::In);
    let rules = [vec![rule], web(BlockAnswer::Drop)].concat();
    let mut router = Router::new(Options::default(), rules);
    router.send(&TALK.up(SYN, 100, 0));
    let packets = |router: &Router| router.engine.rules(0, 9)[0].packets;
    assert_eq!(packets(&router), [1, 0]);
    // The answer leaves through the state that the rule took part in.
    router.send(&TALK.down(SYN | ACK, 900, 101));
    assert_eq!(packets(&router), [1, 1]);
    router.send(&TALK.up(ACK, 101, 901));
    assert_eq!(packets(&router), [2, 1]);
}

#[test]
fn kill_and_flush_end_what_they_name() {
    let mut router = Router::new(Options::default(), web(BlockAnswer::Drop));
    TALK.connect(&mut router);
    TALK6.connect(&mut router);
    let hosts = |source: &str| KillFilter::Hosts {
        sources: vec![source.parse().unwrap()],
        destinations: vec![],
        interface: None,
    };
    let now = router.now;
    assert_eq!(router.engine.kill_states(&hosts("198.51.100.99"), now), 0);
    assert_eq!(router.engine.kill_states(&hosts("198.51.100.0/24"), now), 2);
    assert_eq!(router.send(&TALK.up(ACK, 101, 901)), Seen::Dropped(Reason::Match));
    let key = KillFilter::Key {
        proto: proto::TCP,
        source: (TALK6.client.0.parse().unwrap(), 40_000),
        destination: (TALK6.server.0.parse().unwrap(), 80),
    };
    assert_eq!(router.engine.kill_states(&key, now), 2);
    TALK.connect(&mut router);
    assert_eq!(router.engine.flush(&Flush::States { interface: Some("tun0".into()) }, now), 0);
    assert_eq!(router.engine.flush(&Flush::States { interface: None }, now), 2);
    router.engine.check_invariants().unwrap();
    assert_eq!(router.info().states, 0);
}

#[test]
fn what_the_engine_cannot_evaluate_is_refused_and_changes_nothing() {
    let mut router = Router::new(Options::default(), web(BlockAnswer::Drop));
    let mut elsewhere = Rule::new(Action::Pass);
    elsewhere.rare.rtable = Some(1);
    let draft = pfapi::ruleset::Draft::<()> { rules: vec![elsewhere], ..Default::default() };
    let ruleset = pfapi::check::check(draft).unwrap();
    let error = router.engine.load(&ruleset, pfengine::Loader::default(), router.now).unwrap_err();
    assert_eq!(
        error.to_string(),
        "rule 0: `rtable` cannot be used: this router has one routing table, number 0; \
         route-to sends packets another way"
    );
    TALK.connect(&mut router);
}
