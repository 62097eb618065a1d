//! State and source limiters: bounds on states that several rules share.
//!
//! A rule that names limiters matches only while each of them has room. The place is taken when
//! the rule matches and given back when another rule decides or no state comes of it, so threads
//! never pass a limit together. A state holds its place until it ends; a load that keeps a
//! limiter's number keeps its states. Source: FreeBSD and OpenBSD pf.conf(5) "STATE LIMITERS",
//! "SOURCE LIMITERS"; OpenBSD sys/net/pf.c `pf_match_rule`, `pf_source_used`, `pf_source_rele`,
//! `pf_source_purge`; sys/net/pf_ioctl.c `pf_statelim_commit`, `pf_sourcelim_commit`.
//!
//! Lock order: an index group or a slot, then one limiter, then one table.

mod bucket;
mod source;
mod state;

use std::sync::Arc;

use pfapi::control::{LimiterReport, LimiterSourceReport};
use pfapi::reason::Reason;
use pfapi::ruleset::{FreeBsdWords, LimiterUse, TableEntry};
use pfapi::units::Uptime;

use crate::addr::Addr;
use crate::table::Tables;
use source::{SourceLimiter, SourcePlace};
use state::{StateLimiter, StatePlace};

/// Why a ruleset's limiters cannot be put in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimiterError {
    /// Addresses that are tracked were counted with other masks, or put into another table.
    #[error(
        "source limiter {name} tracks sources, so its table and masks cannot change; give the new \
         one another id"
    )]
    Busy {
        /// The limiter.
        name: String,
    },
    /// Limiters belong to the main ruleset.
    #[error(
        "{kind} {name} is not as the main ruleset defines it; define it there, and repeat that \
         line here"
    )]
    NotInMain {
        /// `state limiter` or `source limiter`.
        kind: &'static str,
        /// The limiter.
        name: String,
    },
}

/// Why a limiter has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    /// As many states as there may be.
    States,
    /// As many new states as there may be in this time.
    Rate,
    /// As many sources as there may be.
    Sources,
}

/// What a limiter has counted.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    admitted: u64,
    hard: u64,
    rate: u64,
    sources: u64,
}

impl Counts {
    fn refuse(&mut self, full: Full) {
        match full {
            Full::States => self.hard += 1,
            Full::Rate => self.rate += 1,
            Full::Sources => self.sources += 1,
        }
    }
}

/// The limiters in force.
#[derive(Clone, Debug, Default)]
pub struct Limiters {
    states: Vec<Arc<StateLimiter>>,
    sources: Vec<Arc<SourceLimiter>>,
    /// Names of the tables that they fill.
    tables: Vec<String>,
}

impl Limiters {
    /// The limiters of a main ruleset. Those that have the number of one in force go on as that
    /// one; they keep their settings until [`Self::apply`].
    ///
    /// # Errors
    /// [`LimiterError::Busy`].
    pub fn new(
        states: &[pfapi::ruleset::StateLimiter],
        sources: &[pfapi::ruleset::SourceLimiter],
        old: &Self,
        now: Uptime,
    ) -> Result<Self, LimiterError> {
        let state = |wanted: &pfapi::ruleset::StateLimiter| {
            let known = old.states.iter().find(|limiter| limiter.id() == wanted.id);
            known.cloned().unwrap_or_else(|| Arc::new(StateLimiter::new(wanted, now)))
        };
        let source = |wanted: &pfapi::ruleset::SourceLimiter| {
            let known = old.sources.iter().find(|limiter| limiter.id() == wanted.id);
            match known {
                Some(known) if known.may_become(wanted) => Ok(Arc::clone(known)),
                Some(_) => Err(LimiterError::Busy { name: wanted.name.clone() }),
                None => Ok(Arc::new(SourceLimiter::new(wanted))),
            }
        };
        Ok(Self {
            states: states.iter().map(state).collect(),
            sources: sources.iter().map(source).collect::<Result<_, _>>()?,
            tables: sources
                .iter()
                .filter_map(|wanted| wanted.table.as_ref().map(|table| table.name.clone()))
                .collect(),
        })
    }

    /// Gives the limiters, which [`Self::new`] has made for the same lines, their settings and
    /// tables.
    pub fn apply(
        &self,
        states: &[pfapi::ruleset::StateLimiter],
        sources: &[pfapi::ruleset::SourceLimiter],
        tables: &Tables,
        now: Uptime,
    ) {
        for (limiter, wanted) in self.states.iter().zip(states) {
            limiter.set(wanted, now);
        }
        for (limiter, wanted) in self.sources.iter().zip(sources) {
            let table = wanted.table.as_ref();
            let table = table.and_then(|table| tables.resolve("", &table.name));
            limiter.set(wanted, table.map(|(_, table)| Arc::clone(table)));
        }
    }

    /// Whether these lines, in the text of an anchor, are those of the main ruleset.
    ///
    /// # Errors
    /// [`LimiterError::NotInMain`].
    pub fn check_repeated(
        &self,
        states: &[pfapi::ruleset::StateLimiter],
        sources: &[pfapi::ruleset::SourceLimiter],
    ) -> Result<(), LimiterError> {
        for wanted in states {
            if !self.states.iter().any(|limiter| limiter.is(wanted)) {
                let (kind, name) = ("state limiter", wanted.name.clone());
                return Err(LimiterError::NotInMain { kind, name });
            }
        }
        for wanted in sources {
            if !self.sources.iter().any(|limiter| limiter.is(wanted)) {
                let (kind, name) = ("source limiter", wanted.name.clone());
                return Err(LimiterError::NotInMain { kind, name });
            }
        }
        Ok(())
    }

    /// The lines that they were made from.
    pub fn lines(&self) -> (Vec<pfapi::ruleset::StateLimiter>, Vec<pfapi::ruleset::SourceLimiter>) {
        let states = self.states.iter().map(|limiter| limiter.line()).collect();
        (states, self.sources.iter().map(|limiter| limiter.line()).collect())
    }

    /// Names of the tables that limiters fill.
    pub fn tables(&self) -> &[String] {
        &self.tables
    }

    /// What a rule asks of limiters; `None` when it names none.
    pub fn asked_by(&self, words: &FreeBsdWords) -> Option<Box<Asked>> {
        let FreeBsdWords { state_limiter, source_limiter, .. } = words;
        if state_limiter.is_none() && source_limiter.is_none() {
            return None;
        }
        let state = state_limiter.as_ref().map(|LimiterUse { name, block, .. }| {
            let limiter = self.states.iter().find(|limiter| limiter.has_name(name));
            Use { limiter: limiter.cloned(), block: *block }
        });
        let source = source_limiter.as_ref().map(|LimiterUse { name, block, .. }| {
            let limiter = self.sources.iter().find(|limiter| limiter.has_name(name));
            Use { limiter: limiter.cloned(), block: *block }
        });
        Some(Box::new(Asked { state, source }))
    }

    /// Looks at up to `share` sources of each limiter and forgets those that are over.
    pub fn purge(&self, share: usize, now: Uptime) {
        self.sources.iter().for_each(|limiter| limiter.purge(share, now));
    }

    /// Whether sources are tracked.
    pub fn are_tracking(&self) -> bool {
        self.sources.iter().any(|limiter| limiter.is_tracking())
    }

    /// State limiters and source limiters, by number.
    pub fn report(&self) -> (Vec<LimiterReport>, Vec<LimiterReport>) {
        let mut states: Vec<_> = self.states.iter().map(|limiter| limiter.report()).collect();
        let mut sources: Vec<_> = self.sources.iter().map(|limiter| limiter.report()).collect();
        states.sort_by_key(|report| report.id);
        sources.sort_by_key(|report| report.id);
        (states, sources)
    }

    /// The sources of one source limiter, in address order.
    pub fn sources(&self, id: u8) -> Vec<LimiterSourceReport> {
        let limiter = self.sources.iter().find(|limiter| limiter.id() == id);
        limiter.map(|limiter| limiter.sources()).unwrap_or_default()
    }
}

/// What a rule asks of limiters.
#[derive(Debug)]
pub struct Asked {
    state: Option<Use<StateLimiter>>,
    source: Option<Use<SourceLimiter>>,
}

/// How a rule uses a limiter; one that a later load has taken away has no room.
#[derive(Debug)]
struct Use<T> {
    limiter: Option<Arc<T>>,
    /// Packets beyond the limit are blocked; else the rule does not match them.
    block: bool,
}

impl Asked {
    /// Takes the places of a state of this source; `None` when the rule does not match for lack of
    /// them.
    ///
    /// # Errors
    /// The reason for which the packet is blocked at once.
    pub fn reserve(&self, source: (bool, Addr), now: Uptime) -> Result<Option<Places>, Reason> {
        let mut places = Places::default();
        if let Some(Use { limiter, block }) = &self.state {
            places.state = limiter.as_ref().and_then(|limiter| limiter.reserve(now));
            if places.state.is_none() {
                return if *block { Err(Reason::StateLimit) } else { Ok(None) };
            }
        }
        if let Some(Use { limiter, block }) = &self.source {
            places.source = limiter.as_ref().and_then(|limiter| limiter.reserve(source, now));
            if places.source.is_none() {
                return if *block { Err(Reason::SrcLimit) } else { Ok(None) };
            }
        }
        Ok(Some(places))
    }

    /// The same for a packet that is only thought of: whether there is room.
    ///
    /// # Errors
    /// As [`Self::reserve`].
    pub fn foresee(&self, source: (bool, Addr), now: Uptime) -> Result<bool, Reason> {
        if let Some(Use { limiter, block }) = &self.state
            && !limiter.as_ref().is_some_and(|limiter| limiter.has_room(now))
        {
            return if *block { Err(Reason::StateLimit) } else { Ok(false) };
        }
        if let Some(Use { limiter, block }) = &self.source
            && !limiter.as_ref().is_some_and(|limiter| limiter.has_room(source, now))
        {
            return if *block { Err(Reason::SrcLimit) } else { Ok(false) };
        }
        Ok(true)
    }
}

/// The places of one state in limiters; given back when dropped.
#[derive(Debug, Default)]
pub struct Places {
    state: Option<StatePlace>,
    source: Option<SourcePlace>,
}

impl Places {
    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.state.is_none() && self.source.is_none()
    }

    /// Puts the source into the table of its limiter if it has too many states now; `put` gets the
    /// name of the table in the main ruleset.
    pub fn tell_table(&self, put: impl FnOnce(&str, TableEntry)) {
        if let Some(source) = &self.source {
            source.tell_table(put);
        }
    }

    /// Counts the state, which exists now.
    pub fn begin(&mut self) {
        if let Some(state) = &mut self.state {
            state.begin();
        }
        if let Some(source) = &mut self.source {
            source.begin();
        }
    }
}

#[cfg(test)]
mod tests;
