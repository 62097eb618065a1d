//! What is known of ports behind the filter: open, closed, unreachable, or just being asked.
//!
//! A cookie says "open" before the server was asked. So that a closed port looks closed all the
//! same, a SYN gets a cookie only where a SYN|ACK was seen lately. Where nothing is known, one SYN
//! per second and port goes on to the server as it would without cookies; its answer goes to the
//! client and is remembered here, and other SYNs to that port wait (their clients repeat them).
//! A RST or an ICMP error answers further SYNs for a few seconds without asking again each time.
//!
//! A flood of SYNs to unknown ports must not become a flood of real SYNs, so the number of
//! questions in a second has bounds: for each network of clients, beyond which its SYNs wait, which
//! makes a port scan slower but not wrong; and for all, beyond which unknown ports get cookies, as
//! forged sources are without number (docs/notes/0011). Those that nobody answers have lower bounds
//! than those that are answered, whose states end with the answer.
//!
//! 65,536 entries in buckets of four; a question or an answer replaces the oldest of its bucket.
//! Entries are single words, so there are no locks and no halves.

use core::hash::Hasher;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;

use pfapi::units::Uptime;
use siphasher::sip::SipHasher13;

/// Entries in all.
const ENTRIES: usize = 65_536;
/// Entries of a bucket.
const WAYS: usize = 4;
/// Seconds for which a port counts as open after its last SYN|ACK.
const OPEN_S: u64 = 600;
/// Seconds for which a refusal answers further SYNs.
const REFUSED_S: u64 = 3;
/// Networks of clients that are told apart; those of one place share their bound.
const NETWORKS: usize = 4_096;

/// What a port has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// SYN|ACK.
    Open,
    /// RST.
    Closed,
    /// ICMP unreachable with this code, up to 15.
    Unreachable(u8),
}

/// What a SYN to a port should meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// A cookie: the port is open, or too many SYNs go to unknown ports.
    Cookie,
    /// Nobody: it goes on to the server, whose answer will be remembered.
    Probe,
    /// A RST.
    Reset,
    /// An ICMP error with this code.
    Unreachable(u8),
    /// Nothing: the port is being asked, or its network asks too much.
    Wait,
}

/// Seconds for which the states of a question stay that nobody has answered with a segment.
pub const PROBE_LIFE_S: u32 = 5;

/// Questions that are allowed in one second without an answer. With answers it may be more,
/// [`ASKED`].
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// By all.
    pub total: u32,
    /// By one network of clients.
    pub network: u32,
}

impl Allowance {
    /// So many that the states of questions without answers fill a fifth of the table at most: each
    /// has two, for [`PROBE_LIFE_S`] and until the purge comes by, 10 s later.
    pub fn of_limit(states: u32) -> Self {
        let total = (states / 160).clamp(8, 2_048);
        Self { total, network: (total / 2).max(4) }
    }
}

/// Questions in one second by all and by one network, answered or not: what servers may have to
/// refuse, and fast enough for a scan of all ports of a host in ten seconds.
const ASKED: Allowance = Allowance { total: 16_384, network: 8_192 };

/// Kinds of entries: the value in the word.
mod kind {
    pub const ASKED: u64 = 0;
    pub const OPEN: u64 = 1;
    pub const CLOSED: u64 = 2;
    pub const UNREACHABLE: u64 = 3;
}

/// An entry as one word: mark 24, kind 2, code 4, second of the last question 10, second of
/// the answer 24. Seconds are the last bits of the uptime; 0 as a word is a free entry.
#[derive(Clone, Copy)]
struct Entry(u64);

impl Entry {
    const SECONDS: u64 = (1 << 24) - 1;
    const ASKED: u64 = (1 << 10) - 1;

    const fn new(mark: u64, kind: u64, code: u64, asked_s: u64, learned_s: u64) -> Self {
        let times = (asked_s & Self::ASKED) << 24 | learned_s & Self::SECONDS;
        Self(mark << 40 | kind << 38 | (code & 15) << 34 | times)
    }

    const fn mark(self) -> u64 {
        self.0 >> 40
    }

    const fn kind(self) -> u64 {
        self.0 >> 38 & 3
    }

    const fn code(self) -> u64 {
        self.0 >> 34 & 15
    }

    /// Seconds since the answer, or since the first question without one.
    const fn age_s(self, now_s: u64) -> u64 {
        now_s.wrapping_sub(self.0) & Self::SECONDS
    }

    /// Seconds since the last question; a multiple of 1024 s ago looks like now, which costs the
    /// next one a second.
    const fn asked_s(self, now_s: u64) -> u64 {
        now_s.wrapping_sub(self.0 >> 24) & Self::ASKED
    }

    const fn is_alive(self, now_s: u64) -> bool {
        let life = if self.kind() == kind::OPEN { OPEN_S } else { REFUSED_S };
        self.0 != 0 && self.age_s(now_s) <= life
    }
}

/// Questions of the present second in one word: second 24, those without an answer 20, all 20.
#[derive(Debug, Default)]
struct Second(AtomicU64);

impl Second {
    const COUNT: u64 = (1 << 20) - 1;

    /// Counts a question; false when it would be more than `waiting` without an answer or `asked`
    /// in all.
    fn take(&self, waiting: u32, asked: u32, now_s: u64) -> bool {
        let here = now_s & Entry::SECONDS;
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let is_present = word >> 40 == here;
            let counts =
                if is_present { (word >> 20 & Self::COUNT, word & Self::COUNT) } else { (0, 0) };
            let may = counts.0 < u64::from(waiting) && counts.1 < u64::from(asked);
            may.then_some(here << 40 | (counts.0 + 1) << 20 | (counts.1 + 1))
        });
        taken.is_ok()
    }

    /// A question was answered in the same second; later it counts no more anyway.
    fn answer(&self, now_s: u64) {
        let here = now_s & Entry::SECONDS;
        // Nothing to do is no failure.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            (word >> 40 == here && word >> 20 & Self::COUNT > 0).then(|| word - (1 << 20))
        });
    }
}

/// What is known of ports.
#[derive(Debug, Default)]
pub struct Ports {
    /// Made when the first port is learned or asked.
    entries: OnceLock<Box<[AtomicU64]>>,
    networks: OnceLock<Box<[Second]>>,
    total: Second,
}

impl Ports {
    /// Makes room now, so that the first SYN of a flood need not.
    pub fn prepare(&self) {
        let _ = (self.entries(), self.networks());
    }

    fn entries(&self) -> &[AtomicU64] {
        self.entries.get_or_init(|| (0..ENTRIES).map(|_| AtomicU64::new(0)).collect())
    }

    fn networks(&self) -> &[Second] {
        self.networks.get_or_init(|| (0..NETWORKS).map(|_| Second::default()).collect())
    }

    fn bucket(&self, hash: u64) -> (&[AtomicU64], u64) {
        let entries = self.entries();
        let first = usize::try_from(hash >> 40).unwrap_or(0) % (ENTRIES / WAYS) * WAYS;
        (&entries[first..first + WAYS], hash & 0xff_ffff)
    }

    /// The entry of a port, when there is one.
    fn find(bucket: &[AtomicU64], mark: u64) -> Option<(&AtomicU64, Entry)> {
        bucket.iter().find_map(|place| {
            let entry = Entry(place.load(Ordering::Relaxed));
            (entry.0 != 0 && entry.mark() == mark).then_some((place, entry))
        })
    }

    /// The entry that another may take: a free one, else the one that says least.
    fn victim(bucket: &[AtomicU64], now_s: u64) -> &AtomicU64 {
        let worth = |place: &&AtomicU64| {
            let entry = Entry(place.load(Ordering::Relaxed));
            (entry.is_alive(now_s), entry.kind() == kind::OPEN, u64::MAX - entry.age_s(now_s))
        };
        bucket.iter().min_by_key(worth).unwrap_or(&bucket[0])
    }

    /// Remembers what the port of this hash has answered. Hashes are those of
    /// [`super::Backlog::hashes`].
    pub fn learn(&self, hash: u64, answer: Answer, now: Uptime) {
        let now_s = now.as_secs();
        let (bucket, mark) = self.bucket(hash);
        let (kind, code) = match answer {
            Answer::Open => (kind::OPEN, 0),
            Answer::Closed => (kind::CLOSED, 0),
            Answer::Unreachable(code) => (kind::UNREACHABLE, u64::from(code)),
        };
        let (place, asked_s) = match Self::find(bucket, mark) {
            Some((place, entry)) => (place, now_s.wrapping_sub(entry.asked_s(now_s))),
            None => (Self::victim(bucket, now_s), now_s),
        };
        place.store(Entry::new(mark, kind, code, asked_s, now_s).0, Ordering::Relaxed);
    }

    /// Whether a port is known to be open: its SYNs get cookies without further questions.
    pub fn is_open(&self, hash: u64, now: Uptime) -> bool {
        let (bucket, mark) = self.bucket(hash);
        Self::find(bucket, mark)
            .is_some_and(|(_, entry)| entry.kind() == kind::OPEN && entry.is_alive(now.as_secs()))
    }

    /// What a SYN of `source` to the port of this hash should meet. [`Advice::Probe`] is given to
    /// one SYN per second; who gets it sends the SYN on. `room` is whether there is room for the
    /// states of more questions.
    pub fn advise(
        &self,
        hash: u64,
        source: u64,
        (allowance, room): (Allowance, bool),
        now: Uptime,
    ) -> Advice {
        let now_s = now.as_secs();
        let (bucket, mark) = self.bucket(hash);
        let known = Self::find(bucket, mark).filter(|(_, entry)| entry.is_alive(now_s));
        let refusal = match known {
            Some((_, entry)) => match entry.kind() {
                kind::OPEN => return Advice::Cookie,
                kind::CLOSED => Advice::Reset,
                kind::UNREACHABLE => Advice::Unreachable(u8::try_from(entry.code()).unwrap_or(0)),
                _ => Advice::Wait,
            },
            None => Advice::Wait,
        };
        if known.is_some_and(|(_, entry)| entry.asked_s(now_s) == 0) {
            return refusal;
        }
        // Ports that were asked before leave half of the share to those that never were, so that a
        // scan comes to its end.
        let part = if known.is_some() { 2 } else { 1 };
        if !self.network(source).take(allowance.network / part, ASKED.network / part, now_s) {
            return refusal;
        }
        if !room || !self.total.take(allowance.total, ASKED.total, now_s) {
            // A port that refuses is no reason for a cookie; one that nobody knows may be open.
            return if known.is_some() { refusal } else { Advice::Cookie };
        }
        // Two threads may come here at once: the one whose entry stands asks.
        let (place, before, next) = if let Some((place, entry)) = known {
            let learned_s = now_s.wrapping_sub(entry.age_s(now_s));
            let next = Entry::new(mark, entry.kind(), entry.code(), now_s, learned_s);
            (place, entry.0, next)
        } else {
            let place = Self::find(bucket, mark)
                .map_or_else(|| Self::victim(bucket, now_s), |(place, _)| place);
            let next = Entry::new(mark, kind::ASKED, 0, now_s, now_s);
            (place, place.load(Ordering::Relaxed), next)
        };
        let asked = place.compare_exchange(before, next.0, Ordering::Relaxed, Ordering::Relaxed);
        if asked.is_ok() { Advice::Probe } else { refusal }
    }

    /// The server of a question of `source` has answered, so that another may be asked.
    pub fn note_answer(&self, source: u64, now: Uptime) {
        self.network(source).answer(now.as_secs());
        self.total.answer(now.as_secs());
    }

    fn network(&self, source: u64) -> &Second {
        &self.networks()[usize::try_from(source).unwrap_or(0) % NETWORKS]
    }
}

/// The network of a client, hashed: 24 bits of an IPv4 address, 64 of an IPv6 one.
pub fn network_of(client: IpAddr, secret: &[u8; 16]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(secret);
    match client {
        IpAddr::V4(addr) => hasher.write(&addr.octets()[..3]),
        IpAddr::V6(addr) => hasher.write(&addr.octets()[..8]),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: (Allowance, bool) = (Allowance { total: 1_000, network: 500 }, true);

    fn at(tenths: u64) -> Uptime {
        Uptime::from_nanos(tenths * 100_000_000 + 5_000_000_000_000)
    }

    /// Hash of port number `n`.
    fn port(n: u64) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&[4; 16]);
        hasher.write_u64(n);
        hasher.finish()
    }

    #[test]
    fn an_open_port_is_asked_once() {
        let ports = Ports::default();
        assert_eq!(ports.advise(port(1), 7, PLENTY, at(0)), Advice::Probe);
        assert_eq!(ports.advise(port(1), 7, PLENTY, at(1)), Advice::Wait);
        ports.learn(port(1), Answer::Open, at(2));
        for later in [2, 100, 6_000] {
            assert_eq!(ports.advise(port(1), 7, PLENTY, at(later)), Advice::Cookie, "{later}");
        }
        assert_eq!(ports.advise(port(1), 7, PLENTY, at(6_020)), Advice::Probe);
    }

    #[test]
    fn a_silent_port_is_asked_every_second_and_never_gets_a_cookie() {
        let ports = Ports::default();
        for second in 0..30 {
            assert_eq!(ports.advise(port(1), 7, PLENTY, at(second * 10)), Advice::Probe);
            for tenth in 1..10 {
                let advice = ports.advise(port(1), 7, PLENTY, at(second * 10 + tenth));
                assert_eq!(advice, Advice::Wait, "{second}.{tenth}");
            }
        }
    }

    #[test]
    fn a_closed_port_answers_at_once_and_is_asked_again_now_and_then() {
        let ports = Ports::default();
        for (answer, advice) in
            [(Answer::Closed, Advice::Reset), (Answer::Unreachable(10), Advice::Unreachable(10))]
        {
            assert_eq!(ports.advise(port(2), 7, PLENTY, at(0)), Advice::Probe);
            ports.learn(port(2), answer, at(1));
            assert_eq!(ports.advise(port(2), 7, PLENTY, at(2)), advice);
            assert_eq!(ports.advise(port(2), 7, PLENTY, at(10)), Advice::Probe);
            assert_eq!(ports.advise(port(2), 7, PLENTY, at(11)), advice);
            // The server answers no more: nothing is known after a while.
            assert_eq!(ports.advise(port(2), 7, PLENTY, at(45)), Advice::Probe);
            assert_eq!(ports.advise(port(2), 7, PLENTY, at(46)), Advice::Wait);
            ports.learn(port(2), Answer::Open, at(47));
            assert_eq!(ports.advise(port(2), 7, PLENTY, at(48)), Advice::Cookie);
            ports.learn(port(2), Answer::Closed, at(49));
            assert_eq!(ports.advise(port(2), 7, PLENTY, at(49)), Advice::Reset);
            assert_eq!(ports.advise(port(2), 7, PLENTY, at(200)), Advice::Probe);
            assert_eq!(ports.advise(port(2), 7, PLENTY, at(201)), Advice::Wait);
        }
    }

    #[test]
    fn a_scan_of_all_ports_from_one_network_sees_each_port_as_it_is() {
        let ports = Ports::default();
        let allowance = Allowance::of_limit(100_000);
        let is_open = |number: u64| number.is_multiple_of(1_000);
        let mut left: Vec<u64> = (1..=65_535).collect();
        let (mut tenth, mut seen, mut silent) = (0, 0, 0);
        while !left.is_empty() {
            // The scanner repeats what was not answered, as fast as it can.
            left.retain(|&number| {
                match ports.advise(port(number), 7, (allowance, true), at(tenth)) {
                    Advice::Probe if number.is_multiple_of(1_024) => {
                        // Nobody answers.
                        silent += 1;
                        false
                    }
                    Advice::Probe => {
                        let open = is_open(number);
                        let answer = if open { Answer::Open } else { Answer::Closed };
                        ports.learn(port(number), answer, at(tenth));
                        ports.note_answer(7, at(tenth));
                        seen += u32::from(open);
                        false
                    }
                    Advice::Cookie => panic!("port {number} looks open"),
                    _ => true,
                }
            });
            tenth += 5;
        }
        assert_eq!((seen, silent), (65, 63));
        let wanted_s = 65_535 / u64::from(ASKED.network) + 1;
        assert!(tenth / 10 <= wanted_s + 1, "{tenth}");
    }

    #[test]
    fn questions_that_nobody_answers_use_the_allowance_up_and_answers_do_not() {
        let ports = Ports::default();
        let allowance = Allowance { total: 100, network: 50 };
        let ask = |number, at| ports.advise(port(number), 7, (allowance, true), at);
        let asked = |range: core::ops::Range<u64>, tenth| {
            range.filter(|&number| ask(number, at(tenth)) == Advice::Probe).count()
        };
        assert_eq!(asked(0..200, 0), 50, "nobody answers");
        (0..20).for_each(|_| ports.note_answer(7, at(1)));
        assert_eq!(asked(200..400, 2), 20, "twenty were answered");
        // Answers of the second before give nothing back.
        assert_eq!(asked(400..600, 10), 50);
        (0..1_000).for_each(|_| ports.note_answer(7, at(11)));
        assert_eq!(asked(600..800, 12), 50, "never more than were asked");
        // However fast servers refuse.
        let answered = (1_000..40_000).filter(|&number| {
            let may = ask(number, at(20)) == Advice::Probe;
            ports.note_answer(7, at(20));
            may
        });
        assert_eq!(answered.count(), 8_192);
    }

    #[test]
    fn forged_sources_ask_no_more_than_all_may_and_the_rest_gets_cookies() {
        let ports = Ports::default();
        let allowance = Allowance { total: 100, network: 50 };
        let mut probes = 0;
        for number in 0..10_000 {
            match ports.advise(port(number), port(number + 77), (allowance, true), at(0)) {
                Advice::Probe => probes += 1,
                Advice::Cookie => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(probes, 100);
        // No room for states: no questions.
        assert_eq!(ports.advise(port(99_999), 1, (allowance, false), at(10)), Advice::Cookie);
    }

    #[test]
    fn forged_questions_do_not_push_open_ports_out() {
        let ports = Ports::default();
        (0..2_000).for_each(|number| ports.learn(port(number), Answer::Open, at(0)));
        let many = (Allowance { total: u32::MAX, network: u32::MAX }, true);
        for number in 10_000..400_000 {
            let _ = ports.advise(port(number), number, many, at(1));
        }
        let known = (0..2_000)
            .filter(|&n| {
                ports.advise(port(n), n, (Allowance { total: 0, network: 0 }, true), at(2))
                    == Advice::Cookie
            })
            .count();
        assert_eq!(known, 2_000);
    }

    #[test]
    fn allowances_fit_the_table() {
        for states in [10, 100, 10_000, 100_000, 10_000_000] {
            let Allowance { total, network } = Allowance::of_limit(states);
            assert!(network <= total && network > 0);
            let held = u64::from(total) * 2 * (u64::from(PROBE_LIFE_S) + 10);
            assert!(states < 2_000 || held <= u64::from(states) / 5, "{states}");
        }
        let secret = [1; 16];
        let net = |text: &str| network_of(text.parse().unwrap(), &secret);
        assert_eq!(net("192.0.2.1"), net("192.0.2.200"));
        assert_ne!(net("192.0.2.1"), net("192.0.3.1"));
        assert_eq!(net("2001:db8::1"), net("2001:db8::ffff:1"));
        assert_ne!(net("2001:db8:0:1::1"), net("2001:db8:0:2::1"));
    }
}
