//! What servers are known to support, learnt from their SYN|ACKs.
//!
//! A SYN|ACK with a cookie is sent before the server is asked, so what it announces is a guess
//! unless the server was seen before. Every SYN|ACK that fits a connection is noted here, on calm
//! days too, under the address that it comes from and the one that its client sees.
//!
//! 65,536 entries in sets of four, no locks, no growth: the newest replaces the one of its set that
//! was seen longest ago. An entry is two words of which the first holds the hash of the server mixed
//! with the second, so that halves of two writers fit no server. An entry is a hint: a wrong one
//! costs some rewriting, never a connection.

use core::array;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;

use pfapi::ruleset::ServerOptions;
use pfapi::units::Uptime;

use crate::siphash::{sip13, words};
use crate::wire::tcp_options::{SynOptions, WSCALE_MAX};

/// Entries of a set: one cache line.
const WAYS: usize = 4;
/// Sets that are allocated together, when the first of them is used.
const SETS: usize = 64;
const CHUNKS: usize = 256;
/// Seconds for which an entry is believed.
const LIFE_S: u32 = 600;
/// Bits of the time when an entry was seen, in seconds.
const SECOND_BITS: u32 = 28;
const SECONDS: u32 = (1 << SECOND_BITS) - 1;

/// Whether a server does something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Support {
    /// It has not been asked.
    #[default]
    Unknown,
    /// It was asked and did not take it up.
    No,
    /// It does.
    Yes,
}

impl Support {
    /// What an answer says: nothing, when it was not asked.
    const fn of(asked: bool, answered: bool) -> Self {
        match (asked, answered) {
            (_, true) => Self::Yes,
            (true, false) => Self::No,
            (false, false) => Self::Unknown,
        }
    }

    const fn or(self, before: Self) -> Self {
        if matches!(self, Self::Unknown) { before } else { self }
    }

    const fn bits(self) -> u64 {
        self as u64
    }

    const fn of_bits(bits: u64) -> Self {
        match bits & 3 {
            1 => Self::No,
            2 => Self::Yes,
            _ => Self::Unknown,
        }
    }
}

/// What is known of one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// MSS that it announces; `None` when it has named none.
    pub mss: Option<u16>,
    /// Window scale, and its shift.
    pub wscale: Support,
    /// Shift, when `wscale` says yes.
    pub shift: u8,
    /// SACK.
    pub sack: Support,
    /// Timestamps.
    pub timestamps: Support,
    /// ECN.
    pub ecn: Support,
    /// Connections since a large reply was last seen, or since the server became known, at most
    /// [`BRIEF_MAX`]. Calm ones do not count, as nobody looks at their replies.
    pub brief: u8,
}

/// Where [`Known::brief`] ends: from then on a server is taken for one of small replies.
pub const BRIEF_MAX: u8 = 15;

/// What a SYN asked for besides the MSS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requested(u8);

impl Requested {
    const WSCALE: u8 = 1;
    const SACK: u8 = 2;
    const TIMESTAMPS: u8 = 4;
    const ECN: u8 = 8;

    /// What the options of a SYN ask for, and its flags as to ECN.
    pub const fn new(options: &SynOptions, ecn: bool) -> Self {
        let mut asked = 0;
        if options.wscale.is_some() {
            asked |= Self::WSCALE;
        }
        if options.sack_permitted {
            asked |= Self::SACK;
        }
        if options.timestamps.is_some() {
            asked |= Self::TIMESTAMPS;
        }
        if ecn {
            asked |= Self::ECN;
        }
        Self(asked)
    }

    const fn has(self, what: u8) -> bool {
        self.0 & what != 0
    }
}

impl Known {
    /// What a SYN|ACK tells of its sender; `ecn` when it takes ECN up.
    pub fn of_answer(requested: Requested, answer: &SynOptions, ecn: bool) -> Self {
        Self {
            mss: answer.mss,
            wscale: Support::of(requested.has(Requested::WSCALE), answer.wscale.is_some()),
            shift: answer.wscale.unwrap_or(0).min(WSCALE_MAX),
            sack: Support::of(requested.has(Requested::SACK), answer.sack_permitted),
            timestamps: Support::of(
                requested.has(Requested::TIMESTAMPS),
                answer.timestamps.is_some(),
            ),
            ecn: Support::of(requested.has(Requested::ECN), ecn),
            brief: 0,
        }
    }

    /// What to announce: what the ruleset says of the server, where it does, else what was learnt.
    /// The ruleset names everything but the MSS, as with SYNPROXY of Linux.
    pub fn told(learnt: Option<Self>, told: Option<ServerOptions>) -> Option<Self> {
        let Some(ServerOptions { mss, wscale, sack_perm, timestamp, ecn }) = told else {
            return learnt;
        };
        let before = learnt.unwrap_or_default();
        Some(Self {
            mss: mss.or(before.mss),
            wscale: Support::of(true, wscale.is_some()),
            shift: wscale.unwrap_or(0).min(WSCALE_MAX),
            sack: Support::of(true, sack_perm),
            timestamps: Support::of(true, timestamp),
            ecn: Support::of(true, ecn),
            brief: before.brief,
        })
    }

    /// Keeps what was known before where this says nothing.
    fn or(self, before: Self) -> Self {
        let shift = if self.wscale == Support::Unknown { before.shift } else { self.shift };
        Self {
            mss: self.mss,
            wscale: self.wscale.or(before.wscale),
            shift,
            sack: self.sack.or(before.sack),
            timestamps: self.timestamps.or(before.timestamps),
            ecn: self.ecn.or(before.ecn),
            brief: before.brief,
        }
    }

    /// As a word that is never zero: a mark, the shift, four answers, the MSS, the count of brief
    /// connections and when it was seen.
    fn pack(self, seen_s: u32) -> u64 {
        1 << 63
            | u64::from(self.mss.is_some()) << 62
            | u64::from(self.shift) << 56
            | self.wscale.bits() << 54
            | self.sack.bits() << 52
            | self.timestamps.bits() << 50
            | self.ecn.bits() << 48
            | u64::from(self.mss.unwrap_or(0)) << 32
            | u64::from(self.brief.min(BRIEF_MAX)) << SECOND_BITS
            | u64::from(seen_s & SECONDS)
    }

    fn unpack(word: u64) -> Self {
        let [_, _, high, low, ..] = word.to_be_bytes();
        let shift = (word >> 56 & 15) as u8;
        Self {
            mss: (word >> 62 & 1 != 0).then_some(u16::from_be_bytes([high, low])),
            wscale: Support::of_bits(word >> 54),
            shift: shift.min(WSCALE_MAX),
            sack: Support::of_bits(word >> 52),
            timestamps: Support::of_bits(word >> 50),
            ecn: Support::of_bits(word >> 48),
            brief: (word >> SECOND_BITS & 15) as u8,
        }
    }
}

#[derive(Default)]
struct Way {
    /// Hash of the server, mixed with `known`.
    tag: AtomicU64,
    known: AtomicU64,
}

impl Way {
    fn get(&self, hash: u64) -> Option<u64> {
        let known = self.known.load(Ordering::Relaxed);
        (known != 0 && self.tag.load(Ordering::Relaxed) ^ known == hash).then_some(known)
    }

    fn put(&self, hash: u64, known: u64) {
        self.known.store(known, Ordering::Relaxed);
        self.tag.store(hash ^ known, Ordering::Relaxed);
    }
}

#[derive(Default)]
#[repr(align(64))]
struct Set([Way; WAYS]);

/// What servers are known to support.
pub struct Servers {
    secret: [u8; 16],
    chunks: [OnceLock<Box<[Set; SETS]>>; CHUNKS],
}

impl Servers {
    /// Nothing known; `secret` keeps hostile servers from choosing their sets.
    pub fn new(secret: [u8; 16]) -> Self {
        Self { secret, chunks: array::from_fn(|_| OnceLock::new()) }
    }

    /// What is known of a server.
    pub fn get(&self, addr: IpAddr, port: u16, now: Uptime) -> Option<Known> {
        let hash = self.hash(addr, port);
        let set = &self.chunks[chunk_of(hash)].get()?[set_of(hash)];
        let word = set.0.iter().find_map(|way| way.get(hash))?;
        (since(second(now), seen(word)) <= LIFE_S).then(|| Known::unpack(word))
    }

    /// Notes what a SYN|ACK has told.
    pub fn learn(&self, addr: IpAddr, port: u16, told: Known, now: Uptime) {
        let hash = self.hash(addr, port);
        let chunk = self.chunks[chunk_of(hash)]
            .get_or_init(|| Box::new(array::from_fn(|_| Set::default())));
        let ways = &chunk[set_of(hash)].0;
        let now_s = second(now);
        if let Some((way, word)) = ways.iter().find_map(|way| Some((way, way.get(hash)?))) {
            let fresh = since(now_s, seen(word)) <= LIFE_S;
            let before = if fresh { Known::unpack(word) } else { Known::default() };
            let next = told.or(before).pack(now_s);
            // Most SYN|ACKs tell nothing new: no line is taken from other threads for them.
            if next != word {
                way.put(hash, next);
            }
            return;
        }
        let age = |way: &&Way| match way.known.load(Ordering::Relaxed) {
            0 => u32::MAX,
            word => since(now_s, seen(word)),
        };
        if let Some(oldest) = ways.iter().max_by_key(age) {
            oldest.put(hash, told.pack(now_s));
        }
    }

    /// Notes that a connection begins whose replies are looked at. Gives whether large ones are to be
    /// expected: nothing is known, or there was one lately.
    pub fn begin(&self, addr: IpAddr, port: u16, now: Uptime) -> bool {
        let mut brief = 0;
        self.change(addr, port, now, |known| {
            brief = known.brief;
            known.brief = (brief + 1).min(BRIEF_MAX);
        });
        brief < BRIEF_MAX
    }

    /// Notes a large reply.
    pub fn note_large_reply(&self, addr: IpAddr, port: u16, now: Uptime) {
        self.change(addr, port, now, |known| known.brief = 0);
    }

    /// Changes an entry that is still believed; when it was seen stays.
    fn change(&self, addr: IpAddr, port: u16, now: Uptime, change: impl FnOnce(&mut Known)) {
        let hash = self.hash(addr, port);
        let Some(chunk) = self.chunks[chunk_of(hash)].get() else { return };
        let ways = &chunk[set_of(hash)].0;
        let Some((way, word)) = ways.iter().find_map(|way| Some((way, way.get(hash)?))) else {
            return;
        };
        if since(second(now), seen(word)) > LIFE_S {
            return;
        }
        let mut known = Known::unpack(word);
        change(&mut known);
        let next = known.pack(seen(word));
        if next != word {
            way.put(hash, next);
        }
    }

    fn hash(&self, addr: IpAddr, port: u16) -> u64 {
        // Address and port in network order.
        let port = u64::from(port.swap_bytes());
        match addr {
            IpAddr::V4(addr) => {
                let addr = u64::from(addr.to_bits().swap_bytes());
                sip13(&self.secret, &[], addr | port << 32, 6)
            }
            IpAddr::V6(addr) => sip13(&self.secret, &words(addr.to_bits().swap_bytes()), port, 18),
        }
    }
}

impl core::fmt::Debug for Servers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let chunks = self.chunks.iter().filter(|chunk| chunk.get().is_some()).count();
        write!(f, "Servers({chunks} of {CHUNKS} chunks)")
    }
}

const fn chunk_of(hash: u64) -> usize {
    (hash >> 56) as usize
}

const fn set_of(hash: u64) -> usize {
    (hash >> 48) as usize % SETS
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits; they go round in 8 years")]
const fn second(now: Uptime) -> u32 {
    now.as_secs() as u32 & SECONDS
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits")]
const fn seen(word: u64) -> u32 {
    word as u32 & SECONDS
}

/// Seconds between two times of entries.
const fn since(now_s: u32, seen_s: u32) -> u32 {
    now_s.wrapping_sub(seen_s) & SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WEB: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 80));
    const FULL: SynOptions = SynOptions {
        mss: Some(1460),
        wscale: Some(9),
        sack_permitted: true,
        timestamps: Some((5, 6)),
    };

    fn everything() -> Requested {
        Requested::new(&FULL, true)
    }

    fn servers() -> Servers {
        Servers::new([4; 16])
    }

    fn at(seconds: u64) -> Uptime {
        Uptime::from_secs(seconds)
    }

    #[test]
    fn an_answer_is_remembered_for_its_port_and_time() {
        let servers = servers();
        let told = Known::of_answer(everything(), &FULL, true);
        servers.learn(WEB, 80, told, at(100));
        assert_eq!(servers.get(WEB, 80, at(700)), Some(told));
        assert_eq!(servers.get(WEB, 81, at(100)), None);
        assert_eq!(servers.get(WEB, 80, at(701)), None);
        assert_eq!((told.wscale, told.shift, told.ecn), (Support::Yes, 9, Support::Yes));
    }

    #[test]
    fn what_was_not_asked_for_stays_as_it_was_known() {
        let servers = servers();
        servers.learn(WEB, 80, Known::of_answer(everything(), &FULL, false), at(1));
        let bare = SynOptions::of_mss(Some(1400));
        servers.learn(WEB, 80, Known::of_answer(Requested::default(), &bare, false), at(2));
        let known = servers.get(WEB, 80, at(3)).unwrap();
        assert_eq!((known.mss, known.shift), (Some(1400), 9));
        assert_eq!((known.sack, known.timestamps), (Support::Yes, Support::Yes));
        assert_eq!(known.ecn, Support::No);
        servers.learn(WEB, 80, Known::of_answer(everything(), &bare, false), at(4));
        let known = servers.get(WEB, 80, at(5)).unwrap();
        assert_eq!(
            (known.sack, known.timestamps, known.wscale),
            (Support::No, Support::No, Support::No)
        );
    }

    #[test]
    fn what_the_ruleset_says_comes_before_what_was_learnt() {
        let learnt = Known::of_answer(everything(), &FULL, true);
        assert_eq!(Known::told(Some(learnt), None), Some(learnt));
        let told = ServerOptions { wscale: Some(7), sack_perm: true, ..ServerOptions::default() };
        let known = Known::told(Some(learnt), Some(told)).unwrap();
        assert_eq!((known.mss, known.shift), (Some(1460), 7), "the MSS alone is found out");
        assert_eq!((known.wscale, known.sack), (Support::Yes, Support::Yes));
        assert_eq!((known.timestamps, known.ecn), (Support::No, Support::No));
        let told = ServerOptions { mss: Some(1400), ..ServerOptions::default() };
        let known = Known::told(None, Some(told)).unwrap();
        assert_eq!((known.mss, known.wscale), (Some(1400), Support::No));
    }

    #[test]
    fn what_is_too_old_is_not_carried_on() {
        let servers = servers();
        servers.learn(WEB, 80, Known::of_answer(everything(), &FULL, true), at(1));
        let bare = SynOptions::of_mss(None);
        servers.learn(WEB, 80, Known::of_answer(Requested::default(), &bare, false), at(1_000));
        assert_eq!(servers.get(WEB, 80, at(1_000)), Some(Known::default()));
    }

    #[test]
    fn a_flood_of_servers_replaces_the_oldest_and_grows_no_further() {
        let servers = servers();
        for number in 0..300_000_u32 {
            let addr = IpAddr::from(number.to_be_bytes());
            servers.learn(
                addr,
                80,
                Known::of_answer(everything(), &FULL, true),
                at(u64::from(number) / 1_000),
            );
        }
        let known = |numbers: core::ops::Range<u32>| {
            numbers
                .filter(|n| servers.get(IpAddr::from(n.to_be_bytes()), 80, at(300)).is_some())
                .count()
        };
        // A few sets may have met fewer servers than they have room for.
        assert!((65_500..=CHUNKS * SETS * WAYS).contains(&known(0..300_000)));
        assert!(known(0..100_000) < 500, "the first were replaced");
        assert!(known(290_000..300_000) > 9_900, "the last are there");
    }

    #[test]
    fn large_replies_are_expected_for_a_while_after_one() {
        let servers = servers();
        assert!(servers.begin(WEB, 80, at(1)), "of an unknown server");
        servers.learn(WEB, 80, Known::of_answer(everything(), &FULL, true), at(1));
        let expected = || (0..40).take_while(|_| servers.begin(WEB, 80, at(4))).count();
        assert_eq!((expected(), expected()), (15, 0));
        servers.note_large_reply(WEB, 80, at(3));
        assert_eq!(expected(), 15);
        // An answer tells nothing of replies; after ten minutes all is forgotten.
        servers.learn(WEB, 80, Known::of_answer(everything(), &FULL, true), at(4));
        assert_eq!(expected(), 0);
        assert!(servers.begin(WEB, 80, at(605)));
    }

    proptest! {
        #[test]
        fn words_hold_what_they_are_given(
            mss: Option<u16>, shift in 0..=14_u8, answers in prop::array::uniform4(0..3_u64),
            brief in 0..=BRIEF_MAX, seen_s in 0..=SECONDS,
        ) {
            let [wscale, sack, timestamps, ecn] = answers.map(Support::of_bits);
            let known = Known { mss, wscale, shift, sack, timestamps, ecn, brief };
            let word = known.pack(seen_s);
            prop_assert!(word != 0);
            prop_assert_eq!((Known::unpack(word), seen(word)), (known, seen_s));
        }

        #[test]
        fn halves_of_two_writers_are_nobodys(hash: u64, first: u64, second: u64) {
            prop_assume!(first != second && second != 0);
            let way = Way::default();
            way.put(hash, first);
            way.known.store(second, Ordering::Relaxed);
            prop_assert_eq!(way.get(hash), None);
        }
    }
}
