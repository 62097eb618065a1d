use super::*;
use crate::state::tcp::{Segment, Tracked};

const C: u32 = 0x1122_3344;
const I: u32 = 0x4da6_f1b1;
const S: u32 = 0xa0b0_c0d0;
const STAMP: u32 = 0xbeef_7a85;
const TERMS: Terms =
    Terms { mss: 1_400, shifts: Some(Shifts { client: 7, announced: 8 }), sack: true, ecn: false };
const ONWARD: Onward = Onward { max_mss: 0, families: (Af::Inet, Af::Inet), stamps: Support::Yes };

fn tcp(seq: u32, ack: u32, flags: u8, window: u16) -> TcpDesc {
    TcpDesc { sport: 40_000, dport: 443, seq, ack, flags, window, header: 20, payload: 0 }
}

/// A connection that waits for its server, and its client's ACK.
fn waiting(terms: Terms, stamp: Option<u32>) -> (TcpState, Splice) {
    let mut body = TcpState::new(&tcp(C, 0, SYN, 64_240), None);
    body.begin_splice();
    let mut splice = Splice::new(SeqNum(I), terms, stamp);
    let ack = tcp(C + 1, I + 1, ACK, 500);
    let step = splice.step(&mut body, &ack, stamp.map(|_| 77), true);
    assert_eq!(step, Step::Connect);
    (body, splice)
}

const ANSWER: SynOptions = SynOptions {
    mss: Some(1_460),
    wscale: Some(9),
    sack_permitted: true,
    timestamps: Some((5_000, 77)),
};

fn joined(terms: Terms, stamp: Option<u32>, answer: &SynOptions) -> (TcpState, Splice, Meeting) {
    let (mut body, mut splice) = waiting(terms, stamp);
    let syn_ack = tcp(S, C + 1, SYN | ACK, 60_000);
    assert_eq!(splice.step(&mut body, &syn_ack, None, false), Step::Join);
    let meeting = splice.join(&mut body, &syn_ack, answer);
    (body, splice, meeting)
}

#[test]
fn the_server_sees_the_syn_of_the_client() {
    let (body, splice) = waiting(TERMS, Some(STAMP));
    let syn = splice.syn(&body, ONWARD);
    assert_eq!((syn.seq, syn.flags, syn.window), (SeqNum(C), SYN, 64_000));
    let options = SynOptions {
        mss: Some(1_400),
        wscale: Some(7),
        sack_permitted: true,
        timestamps: Some((77, 0)),
    };
    assert_eq!(syn.options, options);
    let ecn = waiting(Terms { ecn: true, ..TERMS }, Some(STAMP));
    assert_eq!(ecn.1.syn(&ecn.0, ONWARD).flags, SYN | ECE | CWR);
}

#[test]
fn mss_of_the_syn_is_lowered_by_rules_families_and_doubt() {
    let mss = |onward: Onward, stamp| {
        let (body, splice) = waiting(TERMS, stamp);
        splice.syn(&body, onward).options.mss.unwrap()
    };
    assert_eq!(mss(Onward { max_mss: 1_300, ..ONWARD }, Some(STAMP)), 1_300);
    assert_eq!(mss(Onward { max_mss: 1_450, ..ONWARD }, Some(STAMP)), 1_400);
    assert_eq!(mss(Onward { families: (Af::Inet, Af::Inet6), ..ONWARD }, Some(STAMP)), 1_380);
    assert_eq!(mss(Onward { stamps: Support::No, ..ONWARD }, Some(STAMP)), 1_388);
    assert_eq!(mss(Onward { stamps: Support::No, ..ONWARD }, None), 1_400);
}

/// What the ruleset says counts until the server has said something else.
#[test]
fn room_for_stamps_is_left_unless_the_server_is_expected_to_send_them() {
    for (stamps, expected, wanted) in [
        (Support::Unknown, false, 1_388),
        (Support::Unknown, true, 1_400),
        (Support::No, true, 1_388),
        (Support::Yes, false, 1_400),
    ] {
        let (body, mut splice) = waiting(TERMS, Some(STAMP));
        splice.expects_stamps = expected;
        let syn = splice.syn(&body, Onward { stamps, ..ONWARD });
        assert_eq!(syn.options.mss, Some(wanted), "{stamps:?}, expected {expected}");
    }
}

#[test]
fn joining_translates_the_server_side_alone() {
    let (body, _, meeting) = joined(TERMS, Some(STAMP), &ANSWER);
    let (to_server, options) = meeting.to_server;
    let numbers = Numbers { seq: SeqNum(C + 1), ack: SeqNum(S + 1), window: 500 };
    assert_eq!((to_server, options.timestamps), (numbers, Some((77, 5_000))));
    let (to_client, options) = meeting.to_client;
    let numbers = Numbers { seq: SeqNum(I + 1), ack: SeqNum(C + 1), window: 60_000 >> 8 };
    assert_eq!((to_client, options.timestamps), (numbers, Some((STAMP, 77))));
    assert_eq!((body.src.seqdiff, body.dst.seqdiff), (0, I.wrapping_sub(S)));
    assert_eq!((body.src.wscale, body.dst.wscale), (Some(7), Some(9)));
    assert!(body.is_established() && !body.is_half_open());
}

#[test]
fn with_modulation_the_server_sees_another_number() {
    let (mut body, mut splice) = waiting(TERMS, None);
    assert_eq!(body.modulate(C + 1_000), 1_000);
    assert_eq!(splice.syn(&body, ONWARD).seq, SeqNum(C + 1_000));
    let syn_ack = tcp(S, C + 1_001, SYN | ACK, 60_000);
    assert_eq!(splice.step(&mut body, &syn_ack, None, false), Step::Join);
    let meeting = splice.join(&mut body, &syn_ack, &ANSWER);
    assert_eq!(meeting.to_server.0.seq, SeqNum(C + 1_001));
    assert_eq!((meeting.to_client.0.seq, meeting.to_client.0.ack), (SeqNum(I + 1), SeqNum(C + 1)));
    assert_eq!((body.src.seqdiff, body.dst.seqdiff), (1_000, I.wrapping_sub(S)));
}

#[test]
fn first_segments_may_fill_the_windows() {
    let (mut body, _, _) = joined(TERMS, Some(STAMP), &ANSWER);
    let fills = |seq, ack, payload| TcpDesc { payload, ..tcp(seq, ack, ACK, 500) };
    for (segment, forward) in
        [(fills(C + 1, I + 1, 60_000), true), (fills(S + 1, C + 1, 64_000), false)]
    {
        let mut body = body;
        let segment = Segment { tcp: &segment, wscale: None, forward, random: 0 };
        assert!(matches!(body.track(&segment), Tracked::Accept(_)), "{segment:?}");
    }
    let beyond = fills(C + 1, I + 1, 60_001);
    let beyond = Segment { tcp: &beyond, wscale: None, forward: true, random: 0 };
    assert!(matches!(body.track(&beyond), Tracked::Drop(_)));
}

#[test]
fn timestamps_keep_their_offset_for_life() {
    let (_, mut splice, _) = joined(TERMS, Some(STAMP), &ANSWER);
    let segment = tcp(0, 0, ACK, 100);
    let back = splice.edits(&segment, (Some(5_010), false), false, 0);
    let Stamps::Shift { tsval, tsecr: 0 } = back.stamps else { panic!("{back:?}") };
    assert_eq!(5_010_u32.wrapping_add(tsval), STAMP + 10);
    let forth = splice.edits(&segment, (Some(78), false), true, 0);
    let Stamps::Shift { tsval: 0, tsecr } = forth.stamps else { panic!("{forth:?}") };
    assert_eq!((STAMP + 10).wrapping_add(tsecr), 5_010);
}

#[test]
fn windows_are_told_in_the_units_of_their_reader() {
    let edits = |answer: &SynOptions, field, forward| {
        let (_, mut splice, _) = joined(TERMS, Some(STAMP), answer);
        splice.edits(&tcp(0, 0, ACK, field), (Some(1), false), forward, 0).window
    };
    // The server counts in 512 octets, the client was told 256.
    assert_eq!(edits(&ANSWER, 100, false), 200);
    assert_eq!(edits(&ANSWER, 40_000, false), u16::MAX, "as much as a field can say");
    assert_eq!(edits(&ANSWER, 100, true), 100);
    let small = SynOptions { wscale: Some(0), ..ANSWER };
    assert_eq!(edits(&small, 100, false), 1, "a small window is not closed");
    assert_eq!(edits(&small, 0, false), 0, "a closed one is not opened");
    let unscaled = SynOptions { wscale: None, ..ANSWER };
    assert_eq!(edits(&unscaled, 51_200, false), 200);
    assert_eq!(edits(&unscaled, 100, true), 12_800);
    assert_eq!(edits(&unscaled, 1_000, true), u16::MAX);
    // A SYN is never scaled.
    let (_, mut splice, _) = joined(TERMS, Some(STAMP), &ANSWER);
    let again = splice.edits(&tcp(S, C + 1, SYN | ACK, 60_000), (Some(1), false), false, 0);
    assert_eq!(again.window, 60_000);
}

#[test]
fn clients_without_scaling_are_left_alone() {
    let terms = Terms { shifts: None, ..TERMS };
    let (body, mut splice, meeting) = joined(terms, None, &ANSWER);
    assert_eq!((meeting.to_client.0.window, meeting.to_server.0.window), (60_000, 500));
    assert_eq!((body.src.wscale, body.dst.wscale), (None, None));
    for forward in [false, true] {
        let edits = splice.edits(&tcp(0, 0, ACK, 1_234), (None, false), forward, 0);
        assert_eq!((edits.window, edits.stamps), (1_234, Stamps::Keep));
    }
}

#[test]
fn what_the_server_lacks_is_taken_out_and_put_in() {
    let bare = SynOptions::of_mss(Some(1_300));
    let (_, mut splice, meeting) = joined(Terms { ecn: true, ..TERMS }, Some(STAMP), &bare);
    assert_eq!(meeting.to_server.1.timestamps, None);
    assert_eq!(meeting.to_client.1.timestamps, Some((STAMP, 77)));
    let forth = splice.edits(&tcp(0, 0, ACK, 9), (Some(90), false), true, 0);
    assert_eq!((forth.stamps, forth.blank_sack, forth.bleach), (Stamps::Blank, true, true));
    assert_eq!(forth.mss, Some(1_300));
    let back = splice.edits(&tcp(0, 0, ACK, 9), (None, false), false, 250);
    assert_eq!(back.stamps, Stamps::Add { tsval: STAMP + 250, tsecr: 90 });
    assert_eq!((back.blank_sack, back.bleach, back.mss), (false, true, None));
    let rst = splice.edits(&tcp(0, 0, RST, 9), (None, false), false, 250);
    assert_eq!(rst.stamps, Stamps::Keep);
}

#[test]
fn other_segments_are_used_up_and_change_nothing() {
    for (segment, stamp, forward) in [
        (tcp(C + 2, I + 1, ACK, 1), Some(1), true),
        (tcp(C + 1, I + 2, ACK, 1), Some(1), true),
        (tcp(C + 1, I + 1, ACK, 1), None, true),
        (tcp(C + 1, I + 1, SYN | ACK, 1), Some(1), true),
        (tcp(C, 0, SYN, 1), Some(1), true),
        (tcp(C + 2, 0, RST, 1), None, true),
        (tcp(S, C + 1, ACK, 1), None, false),
        (tcp(S, 0, SYN, 1), None, false),
        (tcp(S, C + 2, RST | ACK, 1), None, false),
    ] {
        let (mut body, mut splice) = waiting(TERMS, Some(STAMP));
        assert_eq!(splice.step(&mut body, &segment, stamp, forward), Step::Drop, "{segment:?}");
        assert!(body.is_waiting_for_server());
    }
}

#[test]
fn acks_and_probes_repeat_the_syn_and_data_is_kept() {
    let (mut body, mut splice) = waiting(TERMS, Some(STAMP));
    let mut step = |segment: &TcpDesc| splice.step(&mut body, segment, Some(80), true);
    assert_eq!(step(&tcp(C + 1, I + 1, ACK, 1)), Step::Connect);
    assert_eq!(step(&tcp(C, I + 1, ACK, 1)), Step::Connect, "a probe");
    let data = TcpDesc { payload: 10, ..tcp(C + 1, I + 1, ACK, 1) };
    assert_eq!(step(&data), Step::Keep);
}

#[test]
fn early_data_is_kept_in_order_and_within_limits() {
    let taken = Arc::new(AtomicUsize::new(0));
    let mut packet = Packet::new(0, 64);
    packet.fill(&[7; 50]);
    let data = |at: u32| TcpDesc { payload: 10, ..tcp(C + 1 + at, I + 1, ACK, 1) };
    let (body, mut splice) = waiting(TERMS, None);
    let mut keep = |at| splice.keep_early(&body, &data(at), || Early::of(&packet, &taken));
    assert!(!keep(10), "a hole");
    for at in (0..80).step_by(10) {
        assert!(keep(at), "{at}");
        assert!(!keep(at), "a repetition");
    }
    assert!(!keep(80), "no more segments");
    assert_eq!(taken.load(Ordering::Relaxed), 8 * 50);
    assert_eq!(splice.take_early().len(), 8);
    assert_eq!(taken.load(Ordering::Relaxed), 0, "room is given back");
    taken.store(EARLY_OCTETS - 10, Ordering::Relaxed);
    assert!(Early::of(&packet, &taken).is_none());
    assert_eq!(taken.load(Ordering::Relaxed), EARLY_OCTETS - 10);
}

#[test]
fn refusal_reaches_the_client_with_its_number() {
    let (mut body, mut splice) = waiting(TERMS, Some(STAMP));
    let rst = tcp(0, C + 1, RST | ACK, 0);
    assert_eq!(splice.step(&mut body, &rst, None, false), Step::Refuse);
    let numbers = Numbers { seq: SeqNum(I + 1), ack: SeqNum(C + 1), window: 0 };
    assert_eq!(splice.refusal(&body), numbers);
    assert!(body.is_closed());
}

#[test]
fn old_connections_are_cleared_away_on_both_sides() {
    let (mut body, mut splice) = waiting(TERMS, Some(STAMP));
    let old = tcp(900, 800, ACK, 9);
    assert_eq!(splice.step(&mut body, &old, None, false), Step::Clear { seq: SeqNum(800) });
    let other = tcp(C + 9_999, 0, SYN, 9);
    assert_eq!(splice.step(&mut body, &other, None, true), Step::Challenge);
    // What a client answers to the challenge.
    let rst = tcp(C + 1, 0, RST, 0);
    assert_eq!(splice.step(&mut body, &rst, None, true), Step::Drop);
    assert!(body.is_closed());
}

#[test]
fn synproxy_repeats_its_answer_until_the_ack() {
    let mut body = TcpState::new(&tcp(C, 0, SYN, 64_240), None);
    body.offer_splice(1_460);
    let mut splice = Splice::new(SeqNum(I), TERMS, Some(STAMP));
    assert_eq!(splice.step(&mut body, &tcp(C, 0, SYN, 9), Some(60), true), Step::Offer);
    assert_eq!(splice.client_stamp, 60);
    let early = tcp(C, I + 1, ACK, 9);
    assert_eq!(splice.step(&mut body, &early, Some(61), true), Step::Drop);
    assert!(body.is_half_open());
    let ack = tcp(C + 1, I + 1, ACK, 9);
    assert_eq!(splice.step(&mut body, &ack, Some(61), true), Step::Connect);
    assert!(body.is_waiting_for_server());
}

/// RFC 3168 section 6.1.3: CE is answered by ECE until CWR, by the filter where the server knows no
/// ECN.
#[test]
fn marks_are_echoed_in_the_name_of_a_server_without_ecn() {
    let echoes = |with_ecn: bool| {
        let (_, mut splice, _) = joined(Terms { ecn: with_ecn, ..TERMS }, None, &ANSWER);
        let mut go = |flags, is_marked, forward| {
            splice.edits(&tcp(0, 0, ACK | flags, 9), (None, is_marked), forward, 0)
        };
        let mut seen = Vec::new();
        for (flags, is_marked) in [(0, false), (0, true), (0, false), (CWR, true), (CWR, false)] {
            let forth = go(flags, is_marked, true);
            assert_eq!((forth.bleach, forth.echo), (with_ecn, false));
            seen.push(go(0, false, false).echo);
        }
        seen
    };
    assert_eq!(echoes(true), [false, true, true, true, false]);
    assert_eq!(echoes(false), [false; 5], "nobody uses ECN");
}

#[test]
fn a_syn_that_is_repeated_asks_for_no_ecn() {
    let (body, mut splice) = waiting(Terms { ecn: true, ..TERMS }, Some(STAMP));
    assert_eq!(splice.asks(), Requested::new(&ANSWER, true));
    splice.give_up_ecn();
    assert_eq!(splice.syn(&body, ONWARD).flags, SYN);
    assert_eq!(splice.asks(), Requested::new(&ANSWER, false));
}

#[test]
fn a_reply_counts_from_the_last_word_of_the_client() {
    let (_, mut splice, _) = joined(TERMS, None, &ANSWER);
    let mut sends =
        |sent: u32| splice.finds_large_reply(&tcp((S + 1).wrapping_add(sent), 0, ACK, 9), false);
    assert!(!sends(0) && !sends(LARGE_REPLY) && !sends(0_u32.wrapping_sub(2)));
    let question = TcpDesc { payload: 5, ..tcp(C + 1, I + 1 + 60_000, ACK, 9) };
    assert!(!splice.finds_large_reply(&question, true));
    let mut sends =
        |sent: u32| splice.finds_large_reply(&tcp((S + 1).wrapping_add(sent), 0, ACK, 9), false);
    assert!(!sends(60_000 + LARGE_REPLY));
    assert!(sends(60_001 + LARGE_REPLY));
    assert!(!sends(60_002 + LARGE_REPLY), "it is told once");
}

#[test]
fn a_client_that_is_asked_gets_a_number_below_its_window() {
    let (_, _, meeting) = joined(TERMS, Some(STAMP), &ANSWER);
    let (question, options) = meeting.question();
    assert_eq!((question.seq, question.ack), (SeqNum(I), SeqNum(C + 1)));
    assert_eq!((question.window, options), (60_000 >> 8, meeting.to_client.1));
}
