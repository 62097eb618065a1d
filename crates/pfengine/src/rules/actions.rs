//! What rules ask to be done to packets that pass.
//!
//! Match rules add to it in the order in which they match, then the deciding rule: later values
//! replace earlier ones, words that only switch something on add up. Source: OpenBSD
//! sys/net/pf.c `pf_rule_to_actions`.

use pfapi::reason::Reason;
use pfapi::ruleset::Rule;

use super::tag::{Tag, Tags};
use crate::packet::Marks;
use crate::queue::QueueId;

/// What rules ask to be done to packets that pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "words of the language, in any combination")]
pub struct Actions {
    /// `set prio`: the priority, and the one of acknowledgements and low-delay packets.
    pub prio: Option<(u8, u8)>,
    /// `set queue`: the queue, and the one of acknowledgements and low-delay packets.
    pub queue: Option<(QueueId, QueueId)>,
    /// `set tos`.
    pub tos: Option<u8>,
    /// `set delay`, in milliseconds.
    pub delay_ms: Option<u16>,
    /// `rtable`.
    pub rtable: Option<u8>,
    /// `scrub (min-ttl)`; 0 is not given.
    pub min_ttl: u8,
    /// `scrub (max-mss)`; 0 is not given.
    pub max_mss: u16,
    /// `max-pkt-size`; 0 is not given.
    pub max_pkt_size: u16,
    /// `scrub (no-df)`.
    pub no_df: bool,
    /// `scrub (random-id)`.
    pub random_id: bool,
    /// `scrub (reassemble tcp)`.
    pub reassemble_tcp: bool,
    /// `log (all)`: every packet of the state is logged.
    pub log_all: bool,
    /// `log (user)`.
    pub log_user: bool,
    /// `tag`: what the packets of a state carry.
    pub tag: Option<Tag>,
}

impl Actions {
    /// Writes onto a packet what rules ask for; `is_fast` says whether the second priority and queue
    /// are for it.
    pub fn mark(&self, marks: &mut Marks, is_fast: impl FnOnce() -> bool) {
        marks.tag = self.tag.or(marks.tag);
        if self.prio.is_some() || self.queue.is_some() {
            let is_fast = is_fast();
            if let Some((prio, fast)) = self.prio {
                marks.prio = if is_fast { fast } else { prio };
            }
            if let Some((queue, fast)) = self.queue {
                marks.queue = Some(if is_fast { fast } else { queue });
            }
        }
        // Unlike the queue: what the last rules say counts, also when they say nothing.
        marks.delay_ms = self.delay_ms.unwrap_or(0);
    }

    /// What one rule asks for, its tag excepted: tags stick by rules of their own.
    pub fn of(rule: &Rule, names: &Tags) -> Self {
        let log = rule.log.unwrap_or_default();
        let queue = rule.set.queue.as_ref().and_then(|(queue, fast)| {
            let queue = *names.queues.get(queue)?;
            let fast = fast.as_ref().and_then(|fast| names.queues.get(fast).copied());
            Some((queue, fast.unwrap_or(queue)))
        });
        Self {
            prio: rule.set.prio,
            queue,
            tos: rule.set.tos.or(rule.scrub.set_tos),
            delay_ms: rule.set.delay,
            rtable: rule.rare.rtable.and_then(|id| u8::try_from(id).ok()),
            min_ttl: rule.scrub.min_ttl,
            max_mss: rule.scrub.max_mss,
            max_pkt_size: rule.freebsd.max_pkt_size.unwrap_or(0),
            no_df: rule.scrub.no_df,
            random_id: rule.scrub.random_id,
            reassemble_tcp: rule.scrub.reassemble_tcp,
            log_all: log.all,
            log_user: log.user,
            tag: None,
        }
    }

    /// Whether a packet of so many octets may pass.
    ///
    /// # Errors
    /// [`Reason::Normalize`] when `max-pkt-size` is smaller.
    pub const fn check_size(&self, octets: usize) -> Result<(), Reason> {
        if self.max_pkt_size != 0 && octets > self.max_pkt_size as usize {
            return Err(Reason::Normalize);
        }
        Ok(())
    }

    /// Adds what the next rule asks for.
    pub fn merge(&mut self, next: &Self) {
        let Self {
            prio,
            queue,
            tos,
            delay_ms,
            rtable,
            min_ttl,
            max_mss,
            max_pkt_size,
            no_df,
            random_id,
            reassemble_tcp,
            log_all,
            log_user,
            tag,
        } = *next;
        self.prio = prio.or(self.prio);
        self.queue = queue.or(self.queue);
        self.tos = tos.or(self.tos);
        self.delay_ms = delay_ms.or(self.delay_ms);
        self.rtable = rtable.or(self.rtable);
        if min_ttl != 0 {
            self.min_ttl = min_ttl;
        }
        if max_mss != 0 {
            self.max_mss = max_mss;
        }
        if max_pkt_size != 0 {
            self.max_pkt_size = max_pkt_size;
        }
        self.no_df |= no_df;
        self.random_id |= random_id;
        self.reassemble_tcp |= reassemble_tcp;
        self.log_all |= log_all;
        self.log_user |= log_user;
        self.tag = tag.or(self.tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_values_replace_and_switches_add_up() {
        let mut sum = Actions {
            tos: Some(8),
            min_ttl: 9,
            max_mss: 1400,
            no_df: true,
            prio: Some((1, 2)),
            ..Actions::default()
        };
        sum.merge(&Actions { tos: Some(16), max_mss: 1200, random_id: true, ..Actions::default() });
        let expected = Actions {
            tos: Some(16),
            min_ttl: 9,
            max_mss: 1200,
            no_df: true,
            random_id: true,
            prio: Some((1, 2)),
            ..Actions::default()
        };
        assert_eq!(sum, expected);
    }
}
