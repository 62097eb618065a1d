//! What ends states, tables, rules and counters before their time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pfapi::addr::Prefix;
use pfapi::control::{Flush, KillFilter};
use pfapi::limit::{Limit, Limits};
use pfapi::ruleset::{
    Options, Reassemble, SyncookieMode, Syncookies as SyncookieSetting, Watermarks,
};
use pfapi::timeout::Timeouts;
use pfapi::units::Uptime;

use super::{Engine, Snapshot, adapt};
use crate::fault::{self, Fault};
use crate::limiter::Limiters;
use crate::queue::QueuePlan;
use crate::rules::{LoadedRules, settle_anchors, settle_tables, skipped};
use crate::state::entry::{Body, State};
use crate::state::key::Side;

/// Both sides of a state's translation.
const SIDES: [Side; 2] = [Side::Wire, Side::Stack];

impl Engine {
    /// Flushes; gives the number of items that ended where pfctl prints one (states, tables).
    #[must_use]
    pub fn flush(&self, what: &Flush, now: Uptime) -> u64 {
        let count = self.end(what, now);
        if matches!(what, Flush::Rules { .. } | Flush::Reset) {
            self.follow_cookie_rules(now);
        }
        count
    }

    fn end(&self, what: &Flush, now: Uptime) -> u64 {
        match what {
            Flush::Rules { anchor } => {
                let mut control = self.control();
                control.epoch += 1;
                let epoch = control.epoch;
                self.change(&control, |old| {
                    let mut parts = old.rules.parts();
                    let unnamed =
                        if anchor.is_empty() { "_".to_owned() } else { format!("{anchor}/_") };
                    parts.rulesets.retain(|path, _| {
                        !path.starts_with(&unnamed) && (path.is_empty() || path != anchor)
                    });
                    if anchor.is_empty() {
                        parts.rulesets.extend(LoadedRules::empty(&old.facts, epoch).rulesets);
                        parts.limiters = Limiters::default();
                    }
                    settle_tables(&mut parts.tables, &parts.rulesets, &parts.limiters);
                    settle_anchors(&mut parts.rulesets, &parts.tables);
                    let rules = LoadedRules::new(parts, &old.facts, epoch);
                    // Queues come and go with the main rules, as in pf's `pf_commit_queues`.
                    let (none, is_main) = (QueuePlan::default(), anchor.is_empty());
                    let queues = if is_main { &none } else { old.queues.as_ref() };
                    let queues = adapt(queues, &rules, &old.limits);
                    let queues_epoch = if is_main { epoch } else { old.queues_epoch };
                    Snapshot { rules, queues, queues_epoch, ..old.share() }
                });
                0
            }
            Flush::States { interface } => {
                self.end_states(|state| self.is_on(state, interface.as_deref()))
            }
            Flush::Info { interface: Some(name) } => {
                self.clear_interface(&mut self.control(), name, now);
                0
            }
            Flush::Info { interface: None } => {
                let mut control = self.control();
                if let Some(name) = self.snapshot.load().log_interface.clone() {
                    self.clear_interface(&mut control, &name, now);
                }
                control.cleared = self.totals();
                control.cleared_removals = self.control_removals.load(Ordering::Relaxed);
                control.cleared_sources = self.sources.operations();
                control.counting_since = now;
                0
            }
            Flush::Sources => self.sources.end(|_, _| true),
            Flush::Tables { anchor } => self.drop_tables(|path, _| path == anchor),
            Flush::Fingerprints => {
                let control = self.control();
                let mut count = 0;
                let epoch = control.epoch;
                self.change(&control, |old| {
                    let mut parts = old.rules.parts();
                    count = parts.fingerprints.entries().len() as u64;
                    parts.fingerprints = Arc::default();
                    let rules = LoadedRules::new(parts, &old.facts, epoch);
                    Snapshot { rules, ..old.share() }
                });
                count
            }
            Flush::Reset => {
                let mut control = self.control();
                control.options = Options::default();
                let limits = Limits::default();
                self.store.set_limit(limits.get(Limit::States));
                self.set_other_limits(&limits);
                self.change(&control, |old| {
                    let rules = old.rules.with_skip(skipped(&[], &old.facts));
                    let queues = adapt(&old.queues, &rules, &limits);
                    let timeouts = Timeouts::default();
                    let log_interface = None;
                    let server = None;
                    let reassemble = Reassemble::Yes;
                    Snapshot {
                        rules,
                        timeouts,
                        limits,
                        reassemble,
                        server,
                        log_interface,
                        queues,
                        ..old.share()
                    }
                });
                self.configure_syncookies(
                    SyncookieSetting {
                        mode: SyncookieMode::Never,
                        classic: false,
                        // pfctl's own default for the end is 12 %, not the kernel's 12.5 %.
                        watermarks: Some(Watermarks::from_percent(
                            limits.get(Limit::States),
                            Watermarks::DEFAULT_START_PERCENT,
                            Watermarks::DEFAULT_START_PERCENT / 2,
                        )),
                        ..SyncookieSetting::default()
                    },
                    now,
                );
                0
            }
        }
    }

    /// Ends states; gives how many. Addresses are those of either side: pf compares only those
    /// before translation.
    #[must_use]
    pub fn kill_states(&self, filter: &KillFilter, _now: Uptime) -> u64 {
        self.end_states(|state| match filter {
            KillFilter::Hosts { sources, destinations, interface } => {
                self.is_on(state, interface.as_deref())
                    && SIDES.iter().any(|&side| {
                        let [(source, _), (destination, _)] = state.ends(side);
                        sources.iter().any(|net| net.contains(source))
                            && (destinations.is_empty()
                                || destinations.iter().any(|net| net.contains(destination)))
                    })
            }
            KillFilter::Label { label } => state.rule().rule.labels().any(|known| known == label),
            KillFilter::Id { id, creator } => {
                state.id == *id && creator.is_none_or(|creator| creator == self.hostid())
            }
            KillFilter::Key { proto, source, destination } => SIDES.iter().any(|&side| {
                state.key(side).proto == *proto && state.ends(side) == [*source, *destination]
            }),
        })
    }

    /// Removes source nodes of these sources; gives how many. Their states go on untracked. With
    /// `destinations` only nodes are chosen that keep one of these addresses for their source.
    #[must_use]
    pub fn kill_sources(&self, sources: &[Prefix], destinations: &[Prefix]) -> u64 {
        self.sources.end(|addr, mapped| {
            sources.iter().any(|net| net.contains(addr))
                && (destinations.is_empty()
                    || mapped
                        .is_some_and(|mapped| destinations.iter().any(|net| net.contains(mapped))))
        })
    }

    /// Ends every state for which `which` holds.
    pub(super) fn end_states(&self, which: impl Fn(&State) -> bool) -> u64 {
        let view = self.store.open();
        let (mut count, mut left) = (0, 0);
        for slot in 0..self.store.slots() {
            let mut waits = false;
            let removed = view.remove_if(slot, |state| {
                let ends = which(state) && !fault::is(Fault::KillSpares);
                waits = ends && waits_for_server(state);
                ends && !waits
            });
            if let Some(state) = removed {
                state.retire();
                count += u64::from(!state.purge);
            }
            if waits {
                left += self.leave_to_purge(slot, &which);
            }
        }
        self.control_removals.fetch_add(count, Ordering::Relaxed);
        count + left
    }

    /// Ends a state whose client waits for its server: the purge removes it, and tells the client.
    /// Gives how many states that were, 0 or 1.
    fn leave_to_purge(&self, slot: u32, which: impl Fn(&State) -> bool) -> u64 {
        let held = self.store.lock(slot);
        let Some(mut state) = held.filter(|state| which(state) && waits_for_server(state)) else {
            return 0;
        };
        u64::from(!core::mem::replace(&mut state.purge, true))
    }

    /// Whether `-i interface` names the state; floating states are on `all`.
    fn is_on(&self, state: &State, interface: Option<&str>) -> bool {
        interface.is_none_or(|name| name == self.interface_name(state.interface))
    }

    /// Zeroes the counters of all rules.
    pub fn clear_rule_counters(&self) {
        self.snapshot.load().rules.clear_counters();
        for slot in 0..self.store.slots() {
            if let Some(mut state) = self.store.lock(slot) {
                state.clear_counted();
            }
        }
    }
}

/// Whether a client has shaken hands with the filter, and its server not yet.
fn waits_for_server(state: &State) -> bool {
    matches!(&state.body, Body::Tcp(tcp) if tcp.is_waiting_for_server())
}
