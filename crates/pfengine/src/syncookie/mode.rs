//! When cookies are sent, which keys are alive, and what is counted: the part that threads share.
//!
//! ```text
//!            half_open > start                        key older than 15 s
//! inactive ─────────────────────► active (new key) ──────────────────────► active (new key)
//!     ▲                             │
//!     └─────────────────────────────┘  quiet: see `Setting::classic`
//! ```
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

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use pfapi::ruleset::{SyncookieMode, Syncookies as Setting, Watermarks};
use pfapi::units::Uptime;

use super::cookie::{self, Code, Parity, Tuple};
use super::flight::Flight;
use super::keys::{EPOCH_S, EpochKeys, Master};
use super::layout::{self, Cookie, Terms, Wish};
use super::ring::{KeySource, ROTATION_S, Ring, Slot};
use crate::rng::Rng;
use crate::wire::tcp_options::SynOptions;

/// Seconds between two looks of the default off-switch (docs/notes/0002).
const CHECK_S: u64 = 5;
/// Quiet looks in a row that switch adaptive cookies off by default.
const QUIET_CHECKS: u8 = 2;

/// SYN cookies of one filter, shared by all its threads.
pub struct Syncookies {
    mode: AtomicU8,
    /// Cookies are being sent, or were until the mode became "never".
    active: AtomicBool,
    /// High mark.
    start: AtomicU32,
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
    sent: AtomicU64,
    validated: AtomicU64,
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
    check: Option<Check>,
    /// Activations that no `handle_timeout` has told yet, and when the first one was.
    activated_at: Option<Uptime>,
}

/// The off-switch of the default behaviour.
#[derive(Clone, Copy)]
struct Check {
    at: Uptime,
    quiet: u8,
    /// Counters at the last look.
    sent: u64,
    validated: u64,
}

/// What [`Syncookies::handle_timeout`] has to tell; for the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Events {
    /// "synflood detected, enabling syncookies"
    pub activated: bool,
    /// "syncookies disabled"
    pub deactivated: bool,
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

/// What `pfctl -si` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// As configured.
    pub mode: SyncookieMode,
    /// Whether the behaviour is pf's.
    pub classic: bool,
    /// Whether cookies are being sent, or were until the mode became "never" a moment ago.
    pub active: bool,
    /// Marks of adaptive mode.
    pub watermarks: Watermarks,
    /// Cookies sent and not validated, of keys that are alive.
    pub in_flight: u64,
    /// Cookies sent.
    pub sent: u64,
    /// Cookies that came back valid.
    pub validated: u64,
    /// Times that adaptive mode switched on.
    pub synfloods: u64,
}

impl Syncookies {
    /// Mode "never", pf's marks, no keys. Everything random comes from `seed`.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        let watermarks = Watermarks::default();
        let mut rng = Rng::new(seed);
        Self {
            mode: AtomicU8::new(encode_mode(SyncookieMode::Never)),
            active: AtomicBool::new(false),
            start: AtomicU32::new(watermarks.start),
            classic: AtomicBool::new(false),
            epochs: EpochKeys::new(Master::new(rng.seed())),
            flight: Flight::default(),
            last_sent_s: AtomicU64::new(u64::MAX),
            shared: AtomicBool::new(false),
            ring: ArcSwap::default(),
            sent: AtomicU64::new(0),
            validated: AtomicU64::new(0),
            synfloods: AtomicU64::new(0),
            deadline: AtomicU64::new(u64::MAX),
            control: Mutex::new(Control {
                source: KeySource::new(rng.seed()),
                setting: Setting::default(),
                watermarks,
                rotate_at: None,
                check: None,
                activated_at: None,
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
        self.classic.store(setting.classic, Ordering::Release);
        if setting.classic && (starts || was_active && !old.classic) {
            self.new_key(&mut control, now);
        }
        if starts {
            self.active.store(true, Ordering::Release);
        }
        self.mode.store(encode_mode(setting.mode), Ordering::Release);
        self.arm_check(&mut control, now);
        self.publish_deadline(&control);
    }

    /// Whether a SYN gets a cookie; `half_open` is the count that drives adaptive mode.
    ///
    /// To be asked for every inbound SYN without ACK that is not one re-created from a cookie.
    /// Adaptive mode switches on when `half_open` is above the high mark.
    pub fn should_answer(&self, half_open: u64, now: Uptime) -> bool {
        match decode_mode(self.mode.load(Ordering::Acquire)) {
            SyncookieMode::Never => false,
            SyncookieMode::Always => true,
            SyncookieMode::Adaptive => {
                self.is_active()
                    || half_open > u64::from(self.start.load(Ordering::Relaxed))
                        && self.activate(half_open, now)
            }
        }
    }

    /// Switches adaptive mode on, unless another thread was faster or the setting has changed.
    #[cold]
    fn activate(&self, half_open: u64, now: Uptime) -> bool {
        let mut control = self.lock();
        if control.setting.mode != SyncookieMode::Adaptive
            || half_open <= u64::from(control.watermarks.start)
        {
            return self.is_active() && control.setting.mode == SyncookieMode::Adaptive;
        }
        if !self.is_active() {
            if control.setting.classic {
                self.new_key(&mut control, now);
            }
            self.active.store(true, Ordering::Release);
            self.synfloods.fetch_add(1, Ordering::Relaxed);
            control.activated_at.get_or_insert(now);
            self.arm_check(&mut control, now);
            self.publish_deadline(&control);
        }
        true
    }

    /// A cookie for a SYN, counted as sent.
    ///
    /// `isn` is the sequence number of the SYN, `offered` what its options say, `wish` what of it the
    /// filter would take up. Works in every mode: a rule may ask for cookies of its own.
    pub fn make_cookie(
        &self,
        tuple: &Tuple,
        isn: u32,
        offered: &SynOptions,
        wish: &Wish,
        now: Uptime,
    ) -> Baked {
        self.sent.fetch_add(1, Ordering::Relaxed);
        // A plain store would take the line from all other threads for every SYN.
        if self.last_sent_s.load(Ordering::Relaxed) != now.as_secs() {
            self.last_sent_s.store(now.as_secs(), Ordering::Relaxed);
        }
        if self.classic.load(Ordering::Acquire) {
            return Baked::Classic(self.make_classic(tuple, isn, offered, now));
        }
        let (epoch, key) = self.epochs.current(now);
        self.flight.count_sent(epoch);
        Baked::Terms(layout::make(&key, epoch.parity(), tuple, isn, wish))
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
    /// A cookie is accepted again while its key lives (up to 30 s); the state of the connection
    /// usually catches that. Blind guesses: see [`layout::open`].
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
        } else {
            let terms = self.validate_by_epoch(tuple, (client_isn, cookie), echo, now)?;
            Content::Terms { terms, stamp: echo }
        };
        self.validated.fetch_add(1, Ordering::Relaxed);
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
        if !self.expects_cookies(now) {
            return None;
        }
        let bits = u64::from(layout::parity(cookie) == Parity::Odd);
        let (epoch, terms) = self.epochs.find(now, (bits, 1), |epoch, key| {
            Some((epoch, layout::open(key, tuple, isn, cookie, echo)?))
        })?;
        self.flight.count_returned(epoch);
        Some(terms)
    }

    /// Whether a cookie may come back at all: one was sent here in the last 30 s, or others share
    /// the secret. An ACK flood costs no MAC otherwise.
    fn expects_cookies(&self, now: Uptime) -> bool {
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
    pub fn handle_timeout(&self, now: Uptime, half_open: u64) -> Events {
        let mut events = Events::default();
        if now.as_nanos() < self.deadline.load(Ordering::Acquire) {
            return events;
        }
        let mut control = self.lock();
        events.activated = control.activated_at.take().is_some();
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

    /// A snapshot for `pfctl -si`.
    #[must_use]
    pub fn status(&self, now: Uptime) -> Status {
        let control = self.lock();
        Status {
            mode: control.setting.mode,
            classic: control.setting.classic,
            active: self.is_active(),
            watermarks: control.watermarks,
            in_flight: self.ring.load().in_flight() + self.flight.out(self.epochs.current(now).0),
            sent: self.sent.load(Ordering::Relaxed),
            validated: self.validated.load(Ordering::Relaxed),
            synfloods: self.synfloods.load(Ordering::Relaxed),
        }
    }

    /// The off-switch of the default behaviour; true when it switched off.
    fn look(&self, control: &mut Control, check: Check, now: Uptime, half_open: u64) -> bool {
        let (sent, validated) = self.totals();
        let unanswered = (sent - check.sent).saturating_sub(validated - check.validated);
        // A low mark of 0 means "nothing at all": pf, which wants less than 0, never ends then.
        let low = u64::from(control.watermarks.end).max(1);
        let is_quiet = half_open.saturating_add(unanswered) < low;
        let quiet = if is_quiet { check.quiet + 1 } else { 0 };
        if control.setting.mode == SyncookieMode::Never || quiet >= QUIET_CHECKS {
            self.active.store(false, Ordering::Release);
            control.check = None;
            return true;
        }
        control.check = Some(Check { at: now.plus_secs(CHECK_S), quiet, sent, validated });
        false
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
            self.active.store(false, Ordering::Release);
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
            let (sent, validated) = self.totals();
            control.check = Some(Check { at: now.plus_secs(CHECK_S), quiet: 0, sent, validated });
        }
    }

    fn publish_deadline(&self, control: &Control) {
        let earliest = [control.activated_at, control.rotate_at, control.check.map(|c| c.at)]
            .into_iter()
            .flatten()
            .min();
        self.deadline.store(earliest.map_or(u64::MAX, Uptime::as_nanos), Ordering::Release);
    }

    fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    fn totals(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.validated.load(Ordering::Relaxed))
    }

    /// A thread that panicked leaves every field in a state that was valid at some moment.
    fn lock(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows no keys.
impl fmt::Debug for Syncookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mode, sent) = (&self.mode, &self.sent);
        f.debug_struct("Syncookies").field("mode", mode).field("sent", sent).finish_non_exhaustive()
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

#[cfg(test)]
mod tests;
