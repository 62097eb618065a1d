//! Virtual-time tests of the mode machine.

use core::net::IpAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Barrier;
use std::thread;

use pfapi::control::SyncookieInfo;
use pfapi::reason::CookieCounter;
use pfapi::ruleset::{SyncookieMode, Syncookies as Setting, Watermarks};
use pfapi::units::Uptime;
use proptest::prelude::*;

use super::{
    Backlog, Baked, Baking, Content, Decoded, Events, Master, Syncookies, Terms, Tuple, Wish,
};
use crate::syncookie::layout::{OWN_SHIFT, Shifts};
use crate::wire::tcp_options::SynOptions;

const OFFERED: SynOptions =
    SynOptions { mss: Some(1460), wscale: Some(7), sack_permitted: true, timestamps: None };
/// 10 % and 5 % of 100 states.
const MARKS: Watermarks = Watermarks { start: 10, end: 5 };
const ON: Events =
    Events { activated: true, deactivated: false, flooded: Vec::new(), calmed: Vec::new() };
const OFF: Events =
    Events { activated: false, deactivated: true, flooded: Vec::new(), calmed: Vec::new() };
const NOTHING: Events =
    Events { activated: false, deactivated: false, flooded: Vec::new(), calmed: Vec::new() };

fn setting(mode: SyncookieMode, classic: bool) -> Setting {
    Setting { mode, classic, watermarks: Some(MARKS), ..Setting::default() }
}

fn cookies(mode: SyncookieMode, classic: bool) -> Syncookies {
    let cookies = Syncookies::new([7; 32]);
    cookies.configure(setting(mode, classic), Uptime::ZERO);
    cookies
}

fn at(tenths: u64) -> Uptime {
    Uptime::from_nanos(tenths * 100_000_000)
}

fn client(number: u16) -> Tuple {
    Tuple {
        src: IpAddr::from([198, 51, 100, 9]),
        dst: IpAddr::from([192, 0, 2, 1]),
        sport: number,
        dport: 80,
    }
}

/// A cookie for everything that client `number` offers.
fn make(cookies: &Syncookies, number: u16, isn: u32, offered: &SynOptions, now: Uptime) -> Baked {
    let wish = Wish::everything(client(number).src, offered);
    let mut baking = Baking::default();
    let cookie = cookies.make_cookie(&mut baking, (&client(number), isn), offered, &wish, now);
    cookies.settle(&mut baking);
    cookie
}

const fn seq(baked: Baked) -> u32 {
    match baked {
        Baked::Classic(seq) => seq,
        Baked::Terms(cookie) => cookie.seq,
    }
}

/// Answers a SYN of client `number`, whose sequence number is 1000.
fn send(cookies: &Syncookies, number: u16, now: Uptime) -> u32 {
    seq(make(cookies, number, 1000, &OFFERED, now))
}

/// The ACK that returns `cookie`.
fn ack(cookies: &Syncookies, number: u16, cookie: u32, now: Uptime) -> Option<Decoded> {
    cookies.validate(&client(number), (1001, cookie.wrapping_add(1)), None, now)
}

fn is_active(cookies: &Syncookies) -> bool {
    cookies.is_active()
}

fn status(cookies: &Syncookies) -> SyncookieInfo {
    cookies.report(at(0), &Backlog::default())
}

/// SYNs answered, cookies that came back.
fn counts(cookies: &Syncookies) -> (u64, u64) {
    cookies.totals()
}

fn tick(cookies: &Syncookies, now: Uptime, half_open: u64) -> Events {
    cookies.handle_timeout(now, half_open, &Backlog::default())
}

#[test]
fn never_answers_nothing() {
    let cookies = cookies(SyncookieMode::Never, false);
    assert!(!cookies.should_answer(u64::MAX, at(0)));
    assert_eq!(cookies.poll_timeout(), None);
    assert_eq!(ack(&cookies, 1, 0x1234_5678, at(0)), None);
}

#[test]
fn always_answers_at_once_and_a_reload_does_not_rotate() {
    for classic in [false, true] {
        let cookies = cookies(SyncookieMode::Always, classic);
        assert!(cookies.should_answer(0, at(0)) && is_active(&cookies));
        let first = send(&cookies, 1, at(10));
        cookies.configure(setting(SyncookieMode::Always, classic), at(20));
        assert_eq!(send(&cookies, 1, at(30)), first, "a repeated SYN gets the same cookie");
        assert_eq!(cookies.synfloods(), 0);
    }
}

#[test]
fn cookie_says_what_the_syn_offered() {
    let cookies = cookies(SyncookieMode::Always, false);
    let cookie = send(&cookies, 1, at(0));
    let shifts = Some(Shifts { client: 7, announced: OWN_SHIFT });
    let terms = Terms { mss: 1460, shifts, sack: true, ecn: false };
    let content = Content::Terms { terms, stamp: None };
    let expected = Decoded { content, client_isn: 1000, cookie };
    assert_eq!(ack(&cookies, 1, cookie, at(1)), Some(expected));
    assert_eq!(ack(&cookies, 2, cookie, at(1)), None, "another client");
    assert_eq!((counts(&cookies), status(&cookies).in_flight), ((1, 1), 0));
}

#[test]
fn cookie_of_a_client_with_timestamps_needs_its_stamp() {
    let cookies = cookies(SyncookieMode::Always, false);
    let offered = SynOptions { timestamps: Some((5, 0)), mss: Some(1370), ..OFFERED };
    let Baked::Terms(made) = make(&cookies, 1, 1000, &offered, at(0)) else {
        panic!("a cookie with terms")
    };
    assert_eq!((made.terms.mss, made.stamp.is_some()), (1368, true));
    let validate =
        |echo| cookies.validate(&client(1), (1001, made.seq.wrapping_add(1)), echo, at(1));
    assert_eq!(validate(None), None);
    assert_eq!(validate(made.stamp.map(|stamp| stamp ^ 1)), None);
    let content = Content::Terms { terms: made.terms, stamp: made.stamp };
    assert_eq!(validate(made.stamp), Some(Decoded { content, client_isn: 1000, cookie: made.seq }));
}

#[test]
fn classic_cookie_forgets_scale_and_sack() {
    let cookies = cookies(SyncookieMode::Always, true);
    let cookie = send(&cookies, 1, at(0));
    let decoded = ack(&cookies, 1, cookie, at(1)).unwrap();
    let Content::Classic(code) = decoded.content else { panic!("a code of pf") };
    assert_eq!((code.mss(), code.wscale()), (1460, Some(8)));
}

#[test]
fn sequence_numbers_wrap() {
    let cookies = cookies(SyncookieMode::Always, false);
    let cookie = seq(make(&cookies, 1, u32::MAX, &OFFERED, at(0)));
    let decoded = cookies.validate(&client(1), (0, cookie.wrapping_add(1)), None, at(0)).unwrap();
    assert_eq!(decoded.client_isn, u32::MAX);
}

#[test]
fn adaptive_starts_strictly_above_the_high_mark() {
    for classic in [false, true] {
        let cookies = cookies(SyncookieMode::Adaptive, classic);
        // One state per SYN that is not answered.
        let mut states = 0;
        let first_answered = (1..=20).find(|_| {
            let answered = cookies.should_answer(states, at(0));
            states += u64::from(!answered);
            answered
        });
        assert_eq!((first_answered, states), (Some(12), 11));
        assert!(cookies.should_answer(0, at(1)), "below the marks it stays on");
        assert_eq!(cookies.synfloods(), 1);
    }
}

#[test]
fn activation_is_told_once() {
    let cookies = cookies(SyncookieMode::Adaptive, false);
    assert!(cookies.should_answer(11, at(30)));
    assert_eq!(cookies.poll_timeout(), Some(at(30)));
    assert_eq!(tick(&cookies, at(30), 11), ON);
    assert_eq!(cookies.poll_timeout(), Some(at(80)));
    assert_eq!(tick(&cookies, at(30), 11), NOTHING);
}

#[test]
fn classic_decides_at_its_rotation() {
    // Half-open connections and cookies in flight at 15 s; whether cookies end.
    for (half_open, in_flight, ends) in
        [(0, 0, true), (4, 0, true), (5, 0, false), (0, 4, true), (0, 5, false), (2, 3, false)]
    {
        let cookies = cookies(SyncookieMode::Adaptive, true);
        assert!(cookies.should_answer(11, at(0)));
        for number in 0..in_flight {
            send(&cookies, number, at(1));
        }
        assert_eq!(tick(&cookies, at(0), 0), ON);
        assert_eq!(cookies.poll_timeout(), Some(at(150)));
        assert_eq!(tick(&cookies, at(149), 0), NOTHING);
        let expected = if ends { OFF } else { NOTHING };
        assert_eq!(tick(&cookies, at(150), half_open), expected, "{half_open} {in_flight}");
        assert_eq!(is_active(&cookies), !ends);
    }
}

#[test]
fn classic_drops_unanswered_cookies_when_their_slot_is_used_again() {
    let cookies = cookies(SyncookieMode::Adaptive, true);
    assert!(cookies.should_answer(11, at(0)));
    for number in 0..1000 {
        send(&cookies, number, at(10));
    }
    assert_eq!(tick(&cookies, at(150), 0), ON);
    assert_eq!(status(&cookies).in_flight, 1000);
    assert_eq!(tick(&cookies, at(300), 0), NOTHING);
    assert_eq!(status(&cookies).in_flight, 0);
    assert_eq!(tick(&cookies, at(450), 0), OFF);
    assert_eq!(cookies.poll_timeout(), None, "no cookie is out, so the keys are gone");
}

#[test]
fn classic_keys_live_on_for_cookies_in_flight() {
    let cookies = cookies(SyncookieMode::Adaptive, true);
    assert!(cookies.should_answer(11, at(0)));
    let sent: Vec<_> = (0..3).map(|number| send(&cookies, number, at(100))).collect();
    let _ = tick(&cookies, at(0), 0);
    assert_eq!(tick(&cookies, at(150), 0), OFF);
    assert!(ack(&cookies, 0, sent[0], at(160)).is_some());
    assert!(!cookies.should_answer(10, at(160)));
    assert_eq!(tick(&cookies, at(300), 0), NOTHING);
    assert_eq!(ack(&cookies, 1, sent[1], at(301)), None, "its key was overwritten");
    assert_eq!(tick(&cookies, at(450), 0), NOTHING);
    assert_eq!(cookies.poll_timeout(), None);
}

#[test]
fn classic_accepts_cookies_only_while_some_are_in_flight() {
    for (classic, repeated) in [(true, false), (false, true)] {
        let cookies = cookies(SyncookieMode::Always, classic);
        let cookie = send(&cookies, 1, at(0));
        assert!(ack(&cookies, 1, cookie, at(1)).is_some());
        assert_eq!(ack(&cookies, 1, cookie, at(2)).is_some(), repeated);
        send(&cookies, 2, at(3));
        assert!(ack(&cookies, 1, cookie, at(4)).is_some(), "as in pf, a cookie can be replayed");
        assert_eq!(status(&cookies).in_flight, 0, "the count never goes below zero");
    }
}

#[test]
fn cookies_live_15_to_30_seconds() {
    for classic in [false, true] {
        let cookies = cookies(SyncookieMode::Always, classic);
        assert_eq!(tick(&cookies, at(150), 0), NOTHING);
        let early = send(&cookies, 1, at(150));
        let late = send(&cookies, 2, at(299));
        for (tenths, early_lives, late_lives) in
            [(299, true, true), (300, true, true), (449, true, true), (450, false, false)]
        {
            let _ = tick(&cookies, at(tenths), 0);
            for number in 10..20 {
                send(&cookies, number, at(tenths));
            }
            assert_eq!(ack(&cookies, 1, early, at(tenths)).is_some(), early_lives, "{tenths}");
            assert_eq!(ack(&cookies, 2, late, at(tenths)).is_some(), late_lives, "{tenths}");
            // Again one in flight, which classic wants.
            if tenths < 300 {
                send(&cookies, 1, at(tenths));
                send(&cookies, 2, at(tenths));
            }
        }
    }
}

#[test]
fn a_late_timer_does_not_lengthen_the_life_of_cookies() {
    let cookies = cookies(SyncookieMode::Always, false);
    let cookie = send(&cookies, 1, at(0));
    assert!(ack(&cookies, 1, cookie, at(299)).is_some());
    assert_eq!(ack(&cookies, 1, cookie, at(300)), None);
    let fresh = send(&cookies, 2, at(600));
    assert!(ack(&cookies, 2, fresh, at(890)).is_some(), "made with a new key all the same");
}

#[test]
fn default_ends_after_two_quiet_looks_in_a_row() {
    // Per look: half-open connections, cookies sent since the last one, how many of them came
    // back. Then the look that ends it, counted from 1.
    type Look = (u64, u16, u16);
    let tables: [(&[Look], Option<usize>); 8] = [
        (&[(0, 0, 0), (0, 0, 0)], Some(2)),
        (&[(4, 0, 0), (4, 0, 0)], Some(2)),
        (&[(5, 0, 0), (5, 0, 0), (5, 0, 0)], None),
        (&[(0, 5, 0), (0, 5, 0), (0, 5, 0)], None),
        (&[(2, 3, 0), (2, 2, 0), (0, 4, 0)], Some(3)),
        (&[(4, 0, 0), (5, 0, 0), (4, 0, 0), (4, 0, 0)], Some(4)),
        (&[(0, 100, 100), (0, 100, 96)], Some(2)),
        (&[(0, 100, 95), (0, 100, 100), (0, 100, 100)], Some(3)),
    ];
    for (looks, ends) in tables {
        let cookies = cookies(SyncookieMode::Adaptive, false);
        assert!(cookies.should_answer(11, at(0)));
        assert_eq!(tick(&cookies, at(0), 11), ON);
        let mut ended = None;
        for (number, &(half_open, sent, returned)) in (1_u64..).zip(looks) {
            let time = at(number * 50 - 1);
            assert_eq!(tick(&cookies, time, 0), NOTHING, "no look before its time");
            for port in 0..sent {
                let cookie = send(&cookies, port, time);
                assert!(port >= returned || ack(&cookies, port, cookie, time).is_some());
            }
            if tick(&cookies, at(number * 50), half_open).deactivated {
                ended = Some(usize::try_from(number).unwrap());
                break;
            }
        }
        assert_eq!(ended, ends, "{looks:?}");
        assert_eq!(is_active(&cookies), ends.is_none());
    }
}

#[test]
fn default_with_a_low_mark_of_zero_ends_when_nothing_is_left() {
    let cookies = Syncookies::new([1; 32]);
    let watermarks = Some(Watermarks { start: 2, end: 0 });
    let setting =
        Setting { mode: SyncookieMode::Adaptive, classic: false, watermarks, ..Setting::default() };
    cookies.configure(setting, at(0));
    assert!(cookies.should_answer(3, at(0)));
    assert_eq!(tick(&cookies, at(50), 1), ON);
    assert_eq!(tick(&cookies, at(100), 0), NOTHING);
    assert_eq!(tick(&cookies, at(150), 0), OFF);
}

#[test]
fn default_cookies_stay_valid_after_the_flood() {
    let cookies = cookies(SyncookieMode::Adaptive, false);
    assert!(cookies.should_answer(11, at(0)));
    let cookie = send(&cookies, 1, at(20));
    let _ = tick(&cookies, at(50), 0);
    assert_eq!(tick(&cookies, at(100), 0), OFF);
    assert_eq!(tick(&cookies, at(150), 0), NOTHING);
    assert!(ack(&cookies, 1, cookie, at(299)).is_some());
    assert_eq!(cookies.poll_timeout(), None);
    assert_eq!(ack(&cookies, 1, cookie, at(300)), None);
}

#[test]
fn second_flood_is_detected_again() {
    for (classic, quiet) in [(false, [50, 100]), (true, [150, 300])] {
        let cookies = cookies(SyncookieMode::Adaptive, classic);
        assert!(cookies.should_answer(11, at(0)));
        for time in quiet {
            let _ = tick(&cookies, at(time), 0);
        }
        assert!(!is_active(&cookies) && !cookies.should_answer(10, at(400)));
        assert!(cookies.should_answer(11, at(400)));
        assert_eq!(cookies.synfloods(), 2);
        assert!(tick(&cookies, at(400), 11).activated);
    }
}

#[test]
fn mode_never_sends_nothing_but_still_validates() {
    for (classic, ends_at) in [(false, 60), (true, 150)] {
        let cookies = cookies(SyncookieMode::Always, classic);
        let sent = [send(&cookies, 1, at(5)), send(&cookies, 2, at(5))];
        cookies.configure(setting(SyncookieMode::Never, classic), at(10));
        assert!(!cookies.should_answer(1000, at(10)) && is_active(&cookies));
        assert!(ack(&cookies, 1, sent[0], at(11)).is_some());
        assert_eq!(tick(&cookies, at(ends_at - 1), 1000), NOTHING);
        assert_eq!(tick(&cookies, at(ends_at), 1000), OFF);
        assert!(ack(&cookies, 2, sent[1], at(ends_at)).is_some());
        for time in [ends_at + 150, ends_at + 300, ends_at + 450] {
            let _ = tick(&cookies, at(time), 0);
        }
        assert_eq!(cookies.poll_timeout(), None);
    }
}

#[test]
fn always_to_adaptive_stays_on_until_it_is_quiet() {
    for (classic, quiet) in [(false, [60, 110]), (true, [100, 150])] {
        let cookies = cookies(SyncookieMode::Always, classic);
        cookies.configure(setting(SyncookieMode::Adaptive, classic), at(10));
        assert!(cookies.should_answer(0, at(10)));
        assert_eq!(tick(&cookies, at(quiet[0]), 0), NOTHING);
        assert_eq!(tick(&cookies, at(quiet[1]), 0), OFF);
        assert_eq!(cookies.synfloods(), 0);
    }
}

#[test]
fn marks_that_are_not_given_stay() {
    let cookies = cookies(SyncookieMode::Adaptive, false);
    let bare = Setting {
        mode: SyncookieMode::Adaptive,
        classic: false,
        watermarks: None,
        ..Setting::default()
    };
    cookies.configure(bare, at(0));
    assert_eq!(status(&cookies).watermarks, MARKS);
    assert_eq!(status(&Syncookies::new([0; 32])).watermarks, Watermarks::default());
}

#[test]
fn change_of_behaviour_changes_the_next_cookie_and_keeps_the_last_ones() {
    let cookies = cookies(SyncookieMode::Always, true);
    let old = send(&cookies, 1, at(10));
    cookies.configure(setting(SyncookieMode::Always, false), at(20));
    let new = send(&cookies, 1, at(20));
    let content = |cookie| ack(&cookies, 1, cookie, at(30)).unwrap().content;
    assert!(matches!(content(old), Content::Classic(_)));
    assert!(matches!(content(new), Content::Terms { .. }));
}

#[test]
fn a_rule_gets_cookies_under_mode_never() {
    let cookies = cookies(SyncookieMode::Never, false);
    let first = send(&cookies, 1, at(0));
    assert_eq!(send(&cookies, 1, at(149)), first);
    let second = send(&cookies, 1, at(150));
    assert_ne!(second, first, "a key makes cookies for 15 s");
    assert!(ack(&cookies, 1, first, at(299)).is_some());
    assert!(ack(&cookies, 1, second, at(300)).is_some());
    assert!(!is_active(&cookies));
    assert_eq!(cookies.poll_timeout(), None);
}

#[test]
fn same_seed_same_cookies() {
    let run = |seed| {
        let cookies = Syncookies::new([seed; 32]);
        cookies.configure(setting(SyncookieMode::Always, false), at(0));
        let first = send(&cookies, 1, at(0));
        let _ = tick(&cookies, at(150), 0);
        [first, send(&cookies, 1, at(150))]
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    assert_ne!(run(1)[0], run(1)[1]);
}

#[test]
fn random_acks_are_not_accepted() {
    let cookies = cookies(SyncookieMode::Always, false);
    let mut number = 1_u32;
    let accepted = (0..1 << 17)
        .filter(|_| {
            // Marsaglia's xorshift: the same guesses in every run; 2^-10 of them are expected.
            number ^= number << 13;
            number ^= number >> 17;
            number ^= number << 5;
            let numbers = (number, number.rotate_left(16));
            cookies.validate(&client(1), numbers, None, at(1)).is_some()
                || cookies.validate(&client(1), numbers, Some(number ^ 0x5555), at(1)).is_some()
        })
        .count();
    assert_eq!(accepted, 0);
}

#[test]
fn flood_on_all_threads_is_detected_once() {
    for _ in 0..50 {
        let cookies = cookies(SyncookieMode::Adaptive, false);
        let barrier = Barrier::new(4);
        thread::scope(|scope| {
            for number in 0..4 {
                let (cookies, barrier) = (&cookies, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    assert!(cookies.should_answer(11, at(0)));
                    let cookie = send(cookies, number, at(0));
                    assert!(ack(cookies, number, cookie, at(0)).is_some());
                });
            }
        });
        assert_eq!((cookies.synfloods(), counts(&cookies)), (1, (4, 4)));
        assert_eq!(status(&cookies).in_flight, 0, "all with one key");
        assert_eq!(tick(&cookies, at(0), 11), ON);
    }
}

#[test]
fn cookies_stay_valid_while_other_threads_come_to_the_next_epoch() {
    let cookies = cookies(SyncookieMode::Always, false);
    let epoch = AtomicU64::new(0);
    let (cookies, epoch) = (&cookies, &epoch);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2000 {
                let next = epoch.fetch_add(1, Ordering::SeqCst) + 1;
                send(cookies, 9, at(next * 150));
            }
        });
        for number in 0..3 {
            scope.spawn(move || {
                for _ in 0..2000 {
                    let before = epoch.load(Ordering::SeqCst);
                    let cookie = send(cookies, number, at(before * 150));
                    let is_valid = ack(cookies, number, cookie, at(before * 150)).is_some();
                    // Two epochs in between are the one way to lose it.
                    let passed = epoch.load(Ordering::SeqCst) - before;
                    assert!(is_valid || passed >= 2, "lost within {passed} epochs");
                }
            });
        }
    });
}

#[test]
fn cookies_that_come_too_late_are_told_from_forged_ones() {
    let cookies = cookies(SyncookieMode::Always, false);
    let counts = || {
        [CookieCounter::CookieValid, CookieCounter::Expired, CookieCounter::CookieInvalid]
            .map(|counter| cookies.counters.get(counter))
    };
    let cookie = send(&cookies, 1, at(0));
    for (tenths, expected) in
        [(290, [1, 0, 0]), (310, [1, 1, 0]), (590, [1, 2, 0]), (600, [1, 2, 1])]
    {
        assert_eq!(ack(&cookies, 1, cookie, at(tenths)).is_some(), tenths == 290);
        assert_eq!(counts(), expected, "after {tenths} tenths of a second");
    }
    assert_eq!(ack(&cookies, 1, cookie ^ 0x0100, at(310)), None);
    assert_eq!(counts(), [1, 2, 2]);
}

#[test]
fn acks_cost_no_mac_when_no_cookie_can_come_back() {
    let cookies = cookies(SyncookieMode::Always, false);
    assert!(!cookies.expects_cookies(at(0)));
    let cookie = send(&cookies, 1, at(0));
    assert!(cookies.expects_cookies(at(300)) && !cookies.expects_cookies(at(310)));
    // Another firewall with the same secret may have sent some.
    let other = Syncookies::new([9; 32]);
    assert_eq!(ack(&other, 1, cookie, at(1)), None);
    for firewall in [&cookies, &other] {
        firewall.share(&[Master::new([5; 32])], at(0));
    }
    let shared = send(&cookies, 1, at(1));
    assert!(ack(&other, 1, shared, at(2)).is_some());
    other.share(&[], at(2));
    assert_eq!(ack(&other, 1, shared, at(3)), None);
}

proptest! {
    /// Whatever happens, marks and modes are obeyed and the deadline never passes unseen.
    #[test]
    fn any_history_keeps_the_promises(
        classic: bool,
        steps in prop::collection::vec((0..5_u8, 0..20_u64, 1..80_u64), 1..100),
    ) {
        let cookies = cookies(SyncookieMode::Adaptive, classic);
        let mut tenths = 0;
        for (action, half_open, pause) in steps {
            tenths += pause;
            let now = at(tenths);
            let was_active = is_active(&cookies);
            match action {
                0 | 1 => {
                    let answered = cookies.should_answer(half_open, now);
                    prop_assert_eq!(answered, was_active || half_open > 10);
                }
                2 => {
                    let cookie = send(&cookies, 1, now);
                    prop_assert!(ack(&cookies, 1, cookie, now).is_some());
                }
                3 => {
                    send(&cookies, 2, now);
                }
                _ => {
                    let events = tick(&cookies, now, half_open);
                    prop_assert_eq!(is_active(&cookies), was_active && !events.deactivated);
                    prop_assert!(!events.deactivated || half_open < 5);
                    prop_assert!(cookies.poll_timeout().is_none_or(|next| next > now));
                }
            }
            prop_assert!(!is_active(&cookies) || cookies.poll_timeout().is_some());
        }
    }
}
