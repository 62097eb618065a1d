//! Limits of rules: how many states, sources and connections they allow.

use std::sync::Arc;

use pfapi::reason::{LimitCounter, Reason, TableCounter};
use pfapi::ruleset::{Flush, TableEntry};
use pfapi::units::Direction;

use super::Filter;
use crate::packet_desc::PacketDesc;
use crate::purge;
use crate::rules::LoadedRule;
use crate::source::{SourceHold, SourceRefusal};
use crate::state::key::Side;
use crate::state::store::Held;

/// A place among the states that `max` allows a rule; given back unless a state takes it.
#[must_use]
pub(super) struct MaxPlace<'r>(Option<&'r LoadedRule>);

impl<'r> MaxPlace<'r> {
    /// A place of this rule; `None` when there is none left.
    fn take(rule: &'r LoadedRule) -> Option<Self> {
        let Some(most) = rule.rule.state_options.max else { return Some(Self(None)) };
        rule.counters.reserve(most).then(|| Self(Some(rule)))
    }

    /// The state is there: its end gives the place back.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for MaxPlace<'_> {
    fn drop(&mut self) {
        if let Some(rule) = self.0 {
            rule.counters.give_back();
        }
    }
}

impl<'a> Filter<'a> {
    /// Asks the limits of a rule for another state, and takes its place in them. Source: OpenBSD
    /// sys/net/pf.c `pf_test_rule`.
    pub(super) fn admit<'r>(
        &self,
        rule: &'r Arc<LoadedRule>,
        desc: &PacketDesc,
    ) -> Result<(Option<SourceHold>, MaxPlace<'r>), Reason> {
        let source = (desc.af, desc.src);
        let hold = self.engine.sources.admit(rule, source, self.now).map_err(|refusal| {
            if let SourceRefusal::Rule(counter) = refusal {
                self.engine.limit_counters.count(counter);
            }
            Reason::SrcLimit
        })?;
        let place = MaxPlace::take(rule).ok_or_else(|| {
            self.engine.limit_counters.count(LimitCounter::MaxStates);
            Reason::StateLimit
        })?;
        Ok((hold, place))
    }

    /// Counts a completed handshake with its source. Past a limit the source goes into the
    /// overload table, its states end as the rule says, and this one always. Source: OpenBSD
    /// sys/net/pf.c `pf_src_connlimit`.
    pub(super) fn complete_handshake(&mut self, mut state: Held<'a>) -> Result<Held<'a>, Reason> {
        let rule = Arc::clone(state.rule());
        let options = &rule.rule.state_options;
        let source = state.rare.as_mut().and_then(|rare| rare.source.as_mut());
        let Some(source) = source.filter(|source| !source.is_connected()) else {
            return Ok(state);
        };
        let exceeded = source.connect(options.max_src_conn, options.max_src_conn_rate, self.now);
        if exceeded == [None, None] {
            return Ok(state);
        }
        exceeded.into_iter().flatten().for_each(|limit| self.engine.limit_counters.count(limit));
        let key = state.key(Side::Wire);
        let (af, addr) = (key.af, key.addr[usize::from(state.direction == Direction::Out)]);
        let (slot, id) = (state.slot, state.id);
        state.purge = true;
        drop(state);
        self.remove(slot, id);
        if let Some(overload) = &options.overload {
            let prefix = pfapi::addr::Prefix::host(addr.to_ip(af));
            if self.engine.add_offender(
                &rule.path,
                &overload.table,
                TableEntry { prefix, negated: false },
                self.now,
            ) {
                self.engine.limit_counters.count(LimitCounter::OverloadTable);
            }
            let rule = match overload.flush {
                Flush::No => return Err(Reason::SrcLimit),
                Flush::Rule => Some(rule),
                Flush::Global => None,
            };
            self.engine.limit_counters.count(LimitCounter::OverloadFlush);
            while !self.parts.flushes.add((af, addr), rule.as_ref()) {
                let flushed = self.parts.flushes.sweep(&self.view, *purge::SHARE.end());
                self.parts.stats.state_table(TableCounter::Removals, flushed);
            }
        }
        Err(Reason::SrcLimit)
    }
}
