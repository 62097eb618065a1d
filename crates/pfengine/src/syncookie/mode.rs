//! When cookies are sent, which keys are alive, and what is counted: the part that threads share.
//!
//! ```text
//!            half_open > start                        key older than 15 s
//! inactive ─────────────────────► active (new key) ──────────────────────► active (new key)
//!     ▲                             │
//!     └─────────────────────────────┘  quiet: see `Setting::classic`
//! ```
//!
//! A destination that alone has too many half-open connections gets cookies alone (`watch`); the
//! switch drawn here is for all, the fall-back when floods are spread. A rule may ask for cookies,
//! or for none, whatever the setting says.
//!
//! Two behaviours:
//! * *classic*, exactly pf: the 15 s rotation decides whether adaptive mode ends (half-open
//!   connections and cookies in flight below the low mark); a cookie is only valid while some
//!   cookie of its key is in flight; the window scale is coded as in the BSDs.
//! * *default*: keys by epochs of the wall clock (`keys`), cookies that carry what the client offers
//!   (`layout`), the count of cookies in flight only for display, and an off-switch that looks every 5 s
//!   and wants two quiet looks in a row. A look is quiet when half-open connections and the cookies
//!   that were sent since the last look and did not come back are below the low mark.
//!
//! Nothing on the path of a SYN or ACK takes a lock: mode, activity and marks are atomics, the
//! keys an immutable ring that is replaced as a whole. The lock orders activation, rotation and
//! configuration, so a flood that begins on all threads at once is detected once.
//!
//! Sources: OpenBSD sys/net/pf_syncookies.c `pf_syncookies_setmode`, `pf_synflood_check`,
//! `pf_syncookie_rotate`, `pf_syncookie_validate`; RFC 4987 section 3.6.

use core::cell::OnceCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use pfapi::control::SwitchReason;
use pfapi::reason::CookieCounter;
use pfapi::ruleset::{SyncookieMode, Syncookies as Setting, Watermarks};
use pfapi::units::Uptime;

use super::backlog::Backlog;
use super::baking::Baking;
use super::cookie::{self, Code, Parity, Tuple};
use super::counters::Counters;
use super::destination::{Destination, Hashes};
use super::flight::Flight;
use super::history::{Change, History};
use super::keys::{EPOCH_S, EpochKeys, Master};
use super::layout::{self, Cookie, Terms, Wish};
use super::meter::Meter;
use super::ports::{Ports, network_of};
use super::replay::Replay;
use super::ring::{KeySource, ROTATION_S, Ring, Slot};
use super::switch::Switch;
use super::watch::{Added, Entry, Look, Watch};
use crate::rng::Rng;
use crate::wire::tcp_options::SynOptions;

/// SYN cookies of one filter, shared by all its threads.
pub struct Syncookies {
    mode: AtomicU8,
    /// Cookies are being sent to all, or were until the mode became "never".
    active: Switch,
    /// High mark.
    start: AtomicU32,
    /// High mark of a single destination; `u32::MAX` when destinations have none.
    destination_start: AtomicU32,
    /// Destinations that get cookies while others do not.
    watch: Watch,
    /// Whether unknown ports are asked before they get cookies.
    probe: AtomicBool,
    /// The caller's word that all ports are open.
    never_probe: AtomicBool,
    /// Whether the behaviour is pf's.
    classic: AtomicBool,
    epochs: EpochKeys,
    flight: Flight,
    /// Second of the uptime in which the last cookie was sent; `u64::MAX` before the first.
    last_sent_s: AtomicU64,
    /// Whether other firewalls may have sent cookies that come back here.
    shared: AtomicBool,
    /// Keys of `classic`.
    ring: ArcSwap<Ring>,
    /// Events around cookies; those that were sent and came back among them.
    pub counters: Counters,
    /// What is known of ports.
    pub ports: Ports,
    /// Credit of networks for answers that are longer than their SYNs.
    pub meter: Meter,
    /// Secret of the hashes of networks.
    secret: [u8; 16],
    replay: Replay,
    synfloods: AtomicU64,
    /// Nanoseconds of the earliest deadline; `u64::MAX` when there is none.
    deadline: AtomicU64,
    control: Mutex<Control>,
}

/// What only slow events touch.
struct Control {
    source: KeySource,
    setting: Setting,
    watermarks: Watermarks,
    rotate_at: Option<Uptime>,
    check: Option<Look>,
    /// Activations that no `handle_timeout` has told yet, and when the first one was.
    activated_at: Option<Uptime>,
    /// Likewise of destinations.
    flooded: Vec<Destination>,
    /// Whether some rule asks for adaptive cookies, whatever the setting says.
    rules_adapt: bool,
    history: History,
}

impl Control {
    /// Whether marks switch cookies on and off, for all or for some rules.
    fn adapts(&self) -> bool {
        self.setting.mode == SyncookieMode::Adaptive || self.rules_adapt && !self.setting.classic
    }

    /// Marks of a single destination.
    fn destination_marks(&self) -> Option<Watermarks> {
        if self.setting.classic || !self.adapts() {
            return None;
        }
        self.setting.destination.or_else(|| self.watermarks.of_destination())
    }
}

/// What [`Syncookies::handle_timeout`] has to tell; for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Events {
    /// "synflood detected, enabling syncookies"
    pub activated: bool,
    /// "syncookies disabled"
    pub deactivated: bool,
    /// Destinations that get cookies from now on.
    pub flooded: Vec<Destination>,
    /// Destinations that get none any more.
    pub calmed: Vec<Destination>,
}

/// A SYN that may get a cookie.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// `syncookies` of the rule that passes it.
    pub policy: Option<SyncookieMode>,
    /// Half-open connections of all destinations.
    pub half_open: u64,
    /// Where it goes.
    pub destination: Destination,
    /// Half-open connections of each destination.
    pub backlog: &'a Backlog,
    hashes: OnceCell<Hashes>,
}

impl<'a> Asked<'a> {
    /// A SYN to `destination`.
    pub const fn new(
        policy: Option<SyncookieMode>,
        half_open: u64,
        destination: Destination,
        backlog: &'a Backlog,
    ) -> Self {
        Self { policy, half_open, destination, backlog, hashes: OnceCell::new() }
    }

    /// Hashes of the destination.
    pub fn hashes(&self) -> Hashes {
        *self.hashes.get_or_init(|| self.backlog.hashes(&self.destination))
    }
}

/// A cookie, and what its SYN|ACK may announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baked {
    /// The sequence number of pf's layout; the SYN|ACK announces an MSS alone.
    Classic(u32),
    /// A cookie with terms.
    Terms(Cookie),
}

/// What a valid cookie says of the SYN that it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// pf's code.
    Classic(Code),
    /// The terms on which client and filter have shaken hands.
    Terms {
        /// The terms.
        terms: Terms,
        /// Timestamp value of the SYN|ACK, when timestamps are in use.
        stamp: Option<u32>,
    },
}

/// A valid cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// What it says.
    pub content: Content,
    /// The client's initial sequence number.
    pub client_isn: u32,
    /// The cookie: the filter's initial sequence number.
    pub cookie: u32,
}

impl Syncookies {
    /// Mode "never", pf's marks, no keys. Everything random comes from `seed`.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        let watermarks = Watermarks::default();
        let mut rng = Rng::new(seed);
        Self {
            mode: AtomicU8::new(encode_mode(SyncookieMode::Never)),
            active: Switch::default(),
            start: AtomicU32::new(watermarks.start),
            destination_start: AtomicU32::new(u32::MAX),
            watch: Watch::default(),
            probe: AtomicBool::new(false),
            never_probe: AtomicBool::new(false),
            classic: AtomicBool::new(false),
            epochs: EpochKeys::new(Master::new(rng.seed())),
            flight: Flight::default(),
            last_sent_s: AtomicU64::new(u64::MAX),
            shared: AtomicBool::new(false),
            ring: ArcSwap::default(),
            counters: Counters::default(),
            ports: Ports::default(),
            meter: Meter::default(),
            secret: rng.key(),
            replay: Replay::new(rng.key()),
            synfloods: AtomicU64::new(0),
            deadline: AtomicU64::new(u64::MAX),
            control: Mutex::new(Control {
                source: KeySource::new(rng.seed()),
                setting: Setting::default(),
                watermarks,
                rotate_at: None,
                check: None,
                activated_at: None,
                flooded: Vec::new(),
                rules_adapt: false,
                history: History::default(),
            }),
        }
    }

    /// Puts a setting in force; marks that it does not name stay.
    ///
    /// A change to "always" starts at once, in `classic` with a new key. Cookies that were sent stay
    /// valid, also under "never" and after a change of `classic`. Setting what is set already does
    /// nothing, so a reload does not rotate.
    pub fn configure(&self, setting: Setting, now: Uptime) {
        let mut control = self.lock();
        let old = core::mem::replace(&mut control.setting, setting);
        if let Some(watermarks) = setting.watermarks {
            control.watermarks = watermarks;
            self.start.store(watermarks.start, Ordering::Relaxed);
        }
        let was_active = self.is_active();
        let starts = setting.mode == SyncookieMode::Always && old.mode != setting.mode;
        if setting.mode != SyncookieMode::Never && !setting.classic {
            self.prepare();
        }
        self.classic.store(setting.classic, Ordering::Release);
        self.probe.store(setting.probe && !setting.classic, Ordering::Relaxed);
        if setting.classic && (starts || was_active && !old.classic) {
            self.new_key(&mut control, now);
        }
        if starts && self.active.turn_on() {
            control.remember(now, true, None, SwitchReason::Configured, 0);
        }
        self.mode.store(encode_mode(setting.mode), Ordering::Release);
        self.follow_setting(&mut control, now);
    }

    /// Takes the memory that cookies need, so that a flood need not: what is known of ports, of
    /// networks and of cookies that were used.
    fn prepare(&self) {
        self.ports.prepare();
        let _ = (self.replay.prepare(), self.meter.prepare());
    }

    /// Half-open connections that there may be before cookies begin; `None` when no mark is in force.
    pub fn expected_half_open(&self) -> Option<u32> {
        let control = self.lock();
        control.adapts().then_some(control.watermarks.start)
    }

    /// Says whether some rule asks for adaptive cookies, so that marks count even where the
    /// setting is "never".
    pub fn set_rules_adapt(&self, rules_adapt: bool, now: Uptime) {
        let mut control = self.lock();
        control.rules_adapt = rules_adapt;
        if rules_adapt {
            self.prepare();
        }
        self.follow_setting(&mut control, now);
    }

    /// Brings marks, watched destinations and timers to where the setting is.
    fn follow_setting(&self, control: &mut Control, now: Uptime) {
        let marks = control.destination_marks();
        let start = marks.map_or(u32::MAX, |marks| marks.start);
        self.destination_start.store(start, Ordering::Relaxed);
        if marks.is_none() {
            control.flooded.clear();
            for destination in self.watch.clear() {
                let destination = Some(destination);
                control.remember(now, false, destination, SwitchReason::Configured, 0);
            }
        }
        self.arm_check(control, now);
        self.publish_deadline(control);
    }

    /// Whether destinations are to be counted one by one.
    pub fn wants_backlog(&self) -> bool {
        self.destination_start.load(Ordering::Relaxed) != u32::MAX
    }

    /// Whether any SYN may get a cookie now: a quick answer for calm days. `rules_ask` is whether
    /// a rule asks for cookies of its own.
    pub fn may_answer(&self, half_open: u64, rules_ask: bool) -> bool {
        match decode_mode(self.mode.load(Ordering::Acquire)) {
            SyncookieMode::Always => true,
            SyncookieMode::Never => rules_ask,
            SyncookieMode::Adaptive => {
                rules_ask
                    || self.is_active()
                    || self.watch.len() > 0
                    || half_open > u64::from(self.start.load(Ordering::Relaxed))
                    || half_open > u64::from(self.destination_start.load(Ordering::Relaxed))
            }
        }
    }

    /// Whether the setting alone, without rules and destinations, gives a SYN a cookie: the way
    /// of `classic`. `half_open` is the count that drives adaptive mode.
    ///
    /// Adaptive mode switches on when `half_open` is above the high mark.
    pub fn should_answer(&self, half_open: u64, now: Uptime) -> bool {
        match decode_mode(self.mode.load(Ordering::Acquire)) {
            SyncookieMode::Never => false,
            SyncookieMode::Always => true,
            SyncookieMode::Adaptive => self.is_above_marks(half_open, now),
        }
    }

    /// Whether a SYN that the rules pass gets a cookie.
    ///
    /// To be asked for every inbound SYN without ACK and RST that is not one re-created from a
    /// cookie and that belongs to no connection.
    pub fn answers(&self, asked: &Asked<'_>, now: Uptime) -> bool {
        let mode = asked.policy.unwrap_or_else(|| decode_mode(self.mode.load(Ordering::Acquire)));
        match mode {
            SyncookieMode::Never => false,
            SyncookieMode::Adaptive if !self.is_above_marks(asked.half_open, now) => {
                self.is_flooded(asked, now)
            }
            SyncookieMode::Always | SyncookieMode::Adaptive => {
                self.tally(|| asked.hashes(), |entry| &entry.sent);
                true
            }
        }
    }

    /// Counts for the destination, where it is one that gets cookies of its own; whether it is.
    fn tally(
        &self,
        hashes: impl FnOnce() -> Hashes,
        counter: impl Fn(&Entry) -> &AtomicU64,
    ) -> bool {
        if self.watch.len() == 0 {
            return false;
        }
        let hashes = hashes();
        let count = |entry: &Entry| counter(entry).fetch_add(1, Ordering::Relaxed);
        [hashes.port, hashes.address].into_iter().any(|hash| self.watch.with(hash, count).is_some())
    }

    fn is_above_marks(&self, half_open: u64, now: Uptime) -> bool {
        self.is_active()
            || half_open > u64::from(self.start.load(Ordering::Relaxed))
                && self.activate(half_open, SwitchReason::HighMark, now)
    }

    /// Whether the destination of a SYN gets cookies alone; counts the one that it gets.
    fn is_flooded(&self, asked: &Asked<'_>, now: Uptime) -> bool {
        let start = u64::from(self.destination_start.load(Ordering::Relaxed));
        if self.watch.len() == 0 && asked.half_open <= start {
            return false;
        }
        if self.tally(|| asked.hashes(), |entry| &entry.sent) {
            return true;
        }
        let hashes = asked.hashes();
        // A flood on one port stays below the mark of the address, as it ends at that of the port.
        let whole = (asked.destination.whole_address(), hashes.address, 2 * start);
        for (destination, hash, mark) in [(asked.destination, hashes.port, start), whole] {
            let half_open = asked.backlog.count(hash);
            if half_open > mark {
                return self.activate_destination((destination, hash), half_open, now);
            }
        }
        false
    }

    /// Switches adaptive mode on, unless another thread was faster or the setting has changed.
    #[cold]
    fn activate(&self, half_open: u64, reason: SwitchReason, now: Uptime) -> bool {
        let mut control = self.lock();
        let is_above = half_open > u64::from(control.watermarks.start);
        if !control.adapts() || reason == SwitchReason::HighMark && !is_above {
            return self.is_active() && control.adapts();
        }
        self.activate_all(&mut control, half_open, reason, now);
        true
    }

    fn activate_all(
        &self,
        control: &mut Control,
        half_open: u64,
        reason: SwitchReason,
        now: Uptime,
    ) {
        // The key comes first: who sees the switch on makes cookies at once.
        if control.setting.classic && !self.is_active() {
            self.new_key(control, now);
        }
        if !self.active.turn_on() {
            return;
        }
        self.synfloods.fetch_add(1, Ordering::Relaxed);
        control.remember(now, true, None, reason, half_open);
        control.activated_at.get_or_insert(now);
        self.arm_check(control, now);
        self.publish_deadline(control);
    }

    /// Gives a destination cookies alone, unless another thread was faster or the setting has
    /// changed.
    #[cold]
    fn activate_destination(
        &self,
        (destination, hash): (Destination, u64),
        half_open: u64,
        now: Uptime,
    ) -> bool {
        let mut control = self.lock();
        if control.destination_marks().is_none() {
            return self.is_active();
        }
        match self.watch.add(destination, hash, now) {
            Added::Known => {}
            Added::New => {
                self.synfloods.fetch_add(1, Ordering::Relaxed);
                control.remember(now, true, Some(destination), SwitchReason::HighMark, half_open);
                control.flooded.push(destination);
                self.publish_deadline(&control);
            }
            Added::Full => {
                self.activate_all(&mut control, half_open, SwitchReason::TooMany, now);
            }
        }
        true
    }

    /// Times that adaptive mode went on, for all or for a destination.
    pub fn synfloods(&self) -> u64 {
        self.synfloods.load(Ordering::Relaxed)
    }

    /// Cookies that are out and would still be accepted.
    fn in_flight(&self, now: Uptime) -> u64 {
        self.ring.load().in_flight() + self.flight.out(self.epochs.current(now).0)
    }

    /// Whether an unknown port is asked before it gets cookies.
    pub fn probes(&self) -> bool {
        self.probe.load(Ordering::Relaxed) && !self.never_probe.load(Ordering::Relaxed)
    }

    /// Takes every port for open from now on, whatever the setting says.
    pub fn never_probe(&self) {
        self.never_probe.store(true, Ordering::Relaxed);
    }

    /// The high mark of all destinations.
    pub fn high_mark(&self) -> u64 {
        u64::from(self.start.load(Ordering::Relaxed))
    }

    /// A cookie for a SYN. `baking` is the thread's own, made anew for each batch;
    /// [`Self::settle`] counts what it has made.
    ///
    /// `isn` is the sequence number of the SYN, `offered` what its options say, `wish` what of it the
    /// filter would take up. Works in every mode: a rule may ask for cookies of its own.
    pub fn make_cookie(
        &self,
        baking: &mut Baking,
        (tuple, isn): (&Tuple, u32),
        offered: &SynOptions,
        wish: &Wish,
        now: Uptime,
    ) -> Baked {
        // pf's keys count what is out one by one: a cookie is valid only while some are.
        if self.classic.load(Ordering::Acquire) {
            self.note_sending(now);
            self.counters.count(CookieCounter::SynReceived);
            return Baked::Classic(self.make_classic(tuple, isn, offered, now));
        }
        let (epoch, key) = *baking.current.get_or_insert_with(|| {
            self.note_sending(now);
            self.epochs.current(now)
        });
        baking.sent += 1;
        Baked::Terms(layout::make(&key, epoch.parity(), tuple, isn, wish))
    }

    /// Notes that a cookie may come back from now on.
    fn note_sending(&self, now: Uptime) {
        // A plain store would take the line from all other threads for every SYN.
        if self.last_sent_s.load(Ordering::Relaxed) != now.as_secs() {
            self.last_sent_s.store(now.as_secs(), Ordering::Relaxed);
        }
    }

    /// Counts what was made: at the end of a batch, and before one of its ACKs is looked at.
    pub fn settle(&self, baking: &mut Baking) {
        let sent = core::mem::take(&mut baking.sent);
        if let (Some((epoch, _)), 1..) = (baking.current, sent) {
            self.counters.count_many(CookieCounter::SynReceived, sent);
            self.flight.count_sent(epoch, sent);
        }
    }

    fn make_classic(&self, tuple: &Tuple, isn: u32, offered: &SynOptions, now: Uptime) -> u32 {
        loop {
            let ring = self.ring.load();
            if let Some(slot) = ring.current().filter(|slot| self.is_usable(slot, now)) {
                let code = Code::new(offered, slot.parity);
                slot.count_sent();
                return cookie::make(&slot.key, tuple, isn, code);
            }
            drop(ring);
            self.ensure_key(now);
        }
    }

    /// Whether a key may make more cookies. While cookies are active the timer rotates keys and
    /// may come a little late; else there may be no timer that makes new ones.
    fn is_usable(&self, slot: &Slot, now: Uptime) -> bool {
        let slack = if self.is_active() { ROTATION_S / 3 } else { 0 };
        now.secs_since(slot.born) < ROTATION_S + slack
    }

    /// Makes a key, when the current one is missing or stale.
    #[cold]
    fn ensure_key(&self, now: Uptime) {
        let mut control = self.lock();
        if !self.ring.load().current().is_some_and(|slot| self.is_usable(slot, now)) {
            self.new_key(&mut control, now);
            self.publish_deadline(&control);
        }
    }

    /// What the cookie says that an ACK returns; `None` when it returns none of ours.
    ///
    /// `tuple` is the packet's own, `seq` and `ack` its numbers. To be asked for inbound packets
    /// with ACK and without SYN and RST that belong to no state, or to one that is over.
    ///
    /// `echo` is the timestamp that the packet sends back.
    ///
    /// # Security
    /// A cookie that has opened a connection ([`Self::note_used`]) is not accepted again; with
    /// `classic` it is, while its key lives. Blind guesses: see [`layout::open`].
    pub fn validate(
        &self,
        tuple: &Tuple,
        (seq, ack): (u32, u32),
        echo: Option<u32>,
        now: Uptime,
    ) -> Option<Decoded> {
        let client_isn = seq.wrapping_sub(1);
        let cookie = ack.wrapping_sub(1);
        let classic = self.validate_classic(tuple, client_isn, cookie, now);
        let content = if let Some(code) = classic {
            Content::Classic(code)
        } else if let Some(terms) = self.validate_by_epoch(tuple, (client_isn, cookie), echo, now) {
            Content::Terms { terms, stamp: echo }
        } else {
            let late = self.is_late(tuple, (client_isn, cookie), echo, now);
            let counter = if late { CookieCounter::Expired } else { CookieCounter::CookieInvalid };
            self.counters.count(counter);
            return None;
        };
        if !self.classic.load(Ordering::Relaxed) && self.replay.was_used(tuple, cookie, now) {
            self.counters.count(CookieCounter::Replayed);
            return None;
        }
        self.counters.count(CookieCounter::CookieValid);
        Some(Decoded { content, client_isn, cookie })
    }

    /// A cookie of `classic`; there are no keys unless it is or was set.
    fn validate_classic(&self, tuple: &Tuple, isn: u32, cookie: u32, now: Uptime) -> Option<Code> {
        let ring = self.ring.load();
        let slot = ring.slot(Code::of_cookie(cookie).parity())?;
        if slot.is_expired(now) || slot.in_flight() == 0 {
            return None;
        }
        // pf takes every code, also those that it never makes.
        let code = cookie::decode(&slot.key, tuple, isn, cookie)?;
        slot.count_validated();
        Some(code)
    }

    fn validate_by_epoch(
        &self,
        tuple: &Tuple,
        (isn, cookie): (u32, u32),
        echo: Option<u32>,
        now: Uptime,
    ) -> Option<Terms> {
        let bits = u64::from(layout::parity(cookie) == Parity::Odd);
        let (epoch, terms) = self.epochs.find(now, (bits, 1), |epoch, key| {
            Some((epoch, layout::open(key, tuple, isn, cookie, echo)?))
        })?;
        self.flight.count_returned(epoch);
        Some(terms)
    }

    /// Whether an epoch that is over made the cookie; one more MAC for an ACK that is refused.
    fn is_late(
        &self,
        tuple: &Tuple,
        (isn, cookie): (u32, u32),
        echo: Option<u32>,
        now: Uptime,
    ) -> bool {
        let bits = u64::from(layout::parity(cookie) == Parity::Odd);
        self.epochs
            .knows_late(now, (bits, 1), |key| layout::open(key, tuple, isn, cookie, echo).is_some())
    }

    /// Counts a cookie that came back for its destination: what comes back is no flood.
    pub fn note_returned(&self, destination: &Destination, backlog: &Backlog) {
        self.tally(|| backlog.hashes(destination), |entry| &entry.validated);
    }

    /// Remembers that a cookie has opened a connection, so that it opens no other.
    pub fn note_used(&self, tuple: &Tuple, cookie: u32, now: Uptime) {
        if !self.classic.load(Ordering::Relaxed) {
            self.replay.note_used(tuple, cookie, now);
        }
    }

    /// The network of a client, for what is shared by all of it.
    pub fn network(&self, client: core::net::IpAddr) -> u64 {
        network_of(client, &self.secret)
    }

    /// Whether a cookie may come back at all: one was sent here in the last 30 s, or others share
    /// the secret. An ACK flood costs no MAC otherwise.
    pub fn expects_cookies(&self, now: Uptime) -> bool {
        let last = self.last_sent_s.load(Ordering::Relaxed);
        self.shared.load(Ordering::Relaxed)
            || last != u64::MAX && now.as_secs().saturating_sub(last) <= 2 * EPOCH_S
    }

    /// Shares cookies with other firewalls: the first secret makes them, all are accepted. An empty
    /// list goes back to a random secret of this start.
    pub fn share(&self, masters: &[Master], now: Uptime) {
        self.shared.store(!masters.is_empty(), Ordering::Relaxed);
        self.epochs.set_masters(masters, now);
    }

    /// Says what the wall clock shows at `now`, in nanoseconds since 1970.
    pub fn set_unix_time(&self, unix_nanos: u64, now: Uptime) {
        self.epochs.set_unix_time(unix_nanos, now);
    }

    /// Rotates keys and switches adaptive mode off, as far as that is due.
    pub fn handle_timeout(&self, now: Uptime, half_open: u64, backlog: &Backlog) -> Events {
        let mut events = Events::default();
        if now.as_nanos() < self.deadline.load(Ordering::Acquire) {
            return events;
        }
        let mut control = self.lock();
        events.activated = control.activated_at.take().is_some();
        events.flooded = core::mem::take(&mut control.flooded);
        if self.watch.due().is_some_and(|due| due <= now) {
            events.calmed = self.look_at_destinations(&mut control, now, backlog);
        }
        if let Some(check) = control.check.filter(|check| check.at <= now) {
            events.deactivated = self.look(&mut control, check, now, half_open);
        }
        if control.rotate_at.is_some_and(|at| at <= now) {
            events.deactivated |= self.rotate(&mut control, now, half_open);
        }
        self.publish_deadline(&control);
        events
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Uptime> {
        match self.deadline.load(Ordering::Acquire) {
            u64::MAX => None,
            nanos => Some(Uptime::from_nanos(nanos)),
        }
    }

    /// The off-switch of the default behaviour; true when it switched off.
    fn look(&self, control: &mut Control, mut check: Look, now: Uptime, half_open: u64) -> bool {
        let low = control.watermarks.end;
        if check.take(now, half_open, self.totals(), low) || !control.adapts() {
            self.active.turn_off();
            control.check = None;
            let adapts = control.adapts();
            let reason = if adapts { SwitchReason::LowMark } else { SwitchReason::Configured };
            control.remember(now, false, None, reason, half_open);
            return true;
        }
        control.check = Some(check);
        false
    }

    /// The off-switches of single destinations.
    fn look_at_destinations(
        &self,
        control: &mut Control,
        now: Uptime,
        backlog: &Backlog,
    ) -> Vec<Destination> {
        let low = control.destination_marks().map_or(0, |marks| marks.end);
        let low_of = |destination: &Destination| match destination.port {
            Some(_) => low,
            None => low.saturating_mul(2),
        };
        let gone = self.watch.look(now, backlog, low_of);
        for &(destination, half_open) in &gone {
            control.remember(now, false, Some(destination), SwitchReason::LowMark, half_open);
        }
        gone.into_iter().map(|(destination, _)| destination).collect()
    }

    /// The 15 s timer; true when it switched cookies off, which only classic does here.
    fn rotate(&self, control: &mut Control, now: Uptime, half_open: u64) -> bool {
        let Setting { mode, classic, .. } = control.setting;
        let ring = self.ring.load();
        let in_flight = ring.in_flight();
        let is_quiet = match mode {
            SyncookieMode::Never => true,
            SyncookieMode::Always => false,
            SyncookieMode::Adaptive => {
                half_open.saturating_add(in_flight) < u64::from(control.watermarks.end)
            }
        };
        let ends = classic && self.is_active() && is_quiet;
        if ends {
            self.active.turn_off();
            let adapts = mode == SyncookieMode::Adaptive;
            let reason = if adapts { SwitchReason::LowMark } else { SwitchReason::Configured };
            control.remember(now, false, None, reason, half_open);
        }
        if classic && (self.is_active() || in_flight > 0) {
            self.new_key(control, now);
        } else {
            // Classic has no cookie out and forgets at once; who was classic a moment ago waits
            // until the last cookie is too old.
            let next = if classic { Ring::default() } else { ring.without_expired(now) };
            control.rotate_at = (!next.is_empty()).then(|| now.plus_secs(ROTATION_S));
            self.ring.store(next.into());
        }
        ends
    }

    fn new_key(&self, control: &mut Control, now: Uptime) {
        let slot = control.source.next(now);
        self.ring.store(self.ring.load().with_new(slot).into());
        control.rotate_at = Some(now.plus_secs(ROTATION_S));
    }

    /// Arms the default off-switch where it has something to decide, and only there.
    fn arm_check(&self, control: &mut Control, now: Uptime) {
        let Setting { mode, classic, .. } = control.setting;
        if classic || mode == SyncookieMode::Always || !self.is_active() {
            control.check = None;
        } else if control.check.is_none() {
            control.check = Some(Look::first(now, self.totals()));
        }
    }

    fn publish_deadline(&self, control: &Control) {
        let flooded = (!control.flooded.is_empty()).then_some(Uptime::ZERO);
        let check = control.check.map(|check| check.at);
        let all = [control.activated_at, flooded, control.rotate_at, check, self.watch.due()];
        let earliest = all.into_iter().flatten().min();
        self.deadline.store(earliest.map_or(u64::MAX, Uptime::as_nanos), Ordering::Release);
    }

    fn is_active(&self) -> bool {
        self.active.is_on()
    }

    fn totals(&self) -> (u64, u64) {
        // Validated first: what comes back in between was sent before.
        let validated = self.counters.get(CookieCounter::CookieValid);
        (self.counters.get(CookieCounter::SynReceived), validated)
    }

    /// A thread that panicked leaves every field in a state that was valid at some moment.
    fn lock(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows no keys.
impl fmt::Debug for Syncookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, counters, .. } = self;
        let mut shown = f.debug_struct("Syncookies");
        shown.field("mode", mode).field("counters", counters).finish_non_exhaustive()
    }
}

impl Control {
    fn remember(
        &mut self,
        at: Uptime,
        on: bool,
        destination: Option<Destination>,
        reason: SwitchReason,
        half_open: u64,
    ) {
        self.history.push(Change { at, on, destination, reason, half_open });
    }
}

const fn encode_mode(mode: SyncookieMode) -> u8 {
    match mode {
        SyncookieMode::Never => 0,
        SyncookieMode::Always => 1,
        SyncookieMode::Adaptive => 2,
    }
}

const fn decode_mode(octet: u8) -> SyncookieMode {
    match octet {
        1 => SyncookieMode::Always,
        2 => SyncookieMode::Adaptive,
        _ => SyncookieMode::Never,
    }
}

mod report;
#[cfg(test)]
mod tests;
