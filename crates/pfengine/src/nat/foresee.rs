//! Translation of a packet that is only thought of: what rules would make of its addresses, as far
//! as that is known without choosing.
//!
//! Ports of `nat-to` stay as they are, and pools that take turns give their first address: rules
//! that come behind see an address of the right pool. The choice itself is made when the packet
//! comes.

use std::sync::Arc;

use pfapi::reason::Reason;
use pfapi::ruleset::{PoolPorts, RuleKind};
use pfapi::units::Direction;

use super::pool::Asked;
use super::port;
use super::translate::first_port;
use crate::rng::Rng;
use crate::rules::{Addresses, LoadedRule, Translate};

/// Translation without choices.
#[derive(Clone, Copy, Debug)]
pub struct Foresight {
    direction: Direction,
    /// Whether the packet would get addresses of the other family, and no outbound rules with them.
    pub changes_family: bool,
}

impl Foresight {
    /// For a packet that crosses in `direction`.
    pub const fn new(direction: Direction) -> Self {
        Self { direction, changes_family: false }
    }
}

impl Translate for Foresight {
    fn translate(
        &mut self,
        rule: &Arc<LoadedRule>,
        addresses: &mut Addresses,
        _: &mut Rng,
    ) -> Result<(), Reason> {
        if rule.rule.af_to.is_some() {
            self.changes_family = true;
            return Ok(());
        }
        let (source, target) = match (rule.rule.kind, self.direction) {
            (RuleKind::Binat, Direction::In) => (None, rule.pools.rdr.as_ref()),
            (RuleKind::Binat, Direction::Out) => (rule.pools.nat.as_ref(), None),
            _ => (rule.pools.nat.as_ref(), rule.pools.rdr.as_ref()),
        };
        let Addresses { af, src, dst, .. } = *addresses;
        let asked = |host| Asked { af, source: src, host, before: None };
        if let Some(pool) = source {
            addresses.src = pool.foresee(&asked(src)).ok_or(Reason::Translate)?;
        }
        if let Some(pool) = target {
            addresses.dst = pool.foresee(&asked(dst)).ok_or(Reason::Translate)?;
            if let Some(PoolPorts::Range(low, high)) = pool.ports {
                let first = first_port(rule.rule.to.port);
                addresses.dport = port::redirect(addresses.dport, first, low, high);
            }
        }
        Ok(())
    }
}
