//! What `pfctl -vsi` shows of cookies.

use core::sync::atomic::Ordering;

use pfapi::control::{CookieDestination, CookieSwitch, SyncookieInfo};
use pfapi::units::Uptime;

use super::Syncookies;
use crate::syncookie::Backlog;

impl Syncookies {
    /// Everything that an operator may ask.
    #[must_use]
    pub fn report(&self, now: Uptime, backlog: &Backlog) -> SyncookieInfo {
        let control = self.lock();
        let entries = self.watch.entries();
        let destinations = entries.iter().map(|entry| {
            let hashes = backlog.hashes(&entry.destination);
            let port = entry.destination.port;
            CookieDestination {
                addr: entry.destination.ip(),
                port,
                active_s: now.secs_since(entry.since),
                half_open: backlog.count(port.map_or(hashes.address, |_| hashes.port)),
                sent: entry.sent.load(Ordering::Relaxed),
                validated: entry.validated.load(Ordering::Relaxed),
            }
        });
        let mut destinations: Vec<_> = destinations.collect();
        destinations.sort_by_key(|destination| (destination.addr, destination.port));
        let history = control.history.iter().map(|change| CookieSwitch {
            ago_s: now.secs_since(change.at),
            on: change.on,
            destination: change.destination.map(|to| (to.ip(), to.port)),
            reason: change.reason,
            half_open: change.half_open,
        });
        SyncookieInfo {
            mode: control.setting.mode,
            classic: control.setting.classic,
            active: self.is_active() || !destinations.is_empty(),
            active_for_all: self.is_active(),
            watermarks: control.watermarks,
            in_flight: self.in_flight(now),
            destination_watermarks: control.destination_marks(),
            shared_secret: self.shared.load(Ordering::Relaxed),
            counters: self.counters.list(),
            destinations,
            history: history.collect(),
        }
    }
}
