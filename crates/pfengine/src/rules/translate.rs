//! Where translation joins the evaluation of rules.

use std::sync::Arc;

use pfapi::addr::Af;
use pfapi::reason::Reason;
use pfapi::units::Direction;

use super::rule::LoadedRule;
use crate::addr::Addr;
use crate::packet_desc::PacketDesc;
use crate::rng::Rng;
use crate::state::key::Key;

/// Addresses and ports of a packet as the rules walked so far have left them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Family of the packet as it came; `af-to` never changes it inside an evaluation.
    pub af: Af,
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Source port; 0 where the protocol has none.
    pub sport: u16,
    /// Destination port; 0 where the protocol has none.
    pub dport: u16,
}

impl Addresses {
    /// Those of the packet itself.
    pub const fn of(desc: &PacketDesc) -> Self {
        let (sport, dport) = desc.ports();
        Self { af: desc.af, src: desc.src, dst: desc.dst, sport, dport }
    }

    /// Those of a packet that crosses in `direction` and builds this key.
    pub const fn of_key(key: &Key, direction: Direction) -> Self {
        let (from, to) = match direction {
            Direction::In => (0, 1),
            Direction::Out => (1, 0),
        };
        Self {
            af: key.af,
            src: key.addr[from],
            dst: key.addr[to],
            sport: key.port[from],
            dport: key.port[to],
        }
    }
}

/// The hook of translation: called for each rule whose `nat-to`, `rdr-to` or `af-to` takes
/// effect, in the order in which they do. Match rules take effect when they match, so later
/// rules see the new addresses; the deciding rule does at the end of the walk. Source: OpenBSD
/// sys/net/pf.c `pf_match_rule`, `pf_test_rule`; sys/net/pf_lb.c `pf_get_transaddr`.
pub trait Translate {
    /// Chooses new addresses and ports, writes them into `addresses` and remembers what the
    /// state will need.
    ///
    /// # Errors
    /// [`Reason::Translate`] when no address or port is left; the packet is dropped.
    fn translate(
        &mut self,
        rule: &Arc<LoadedRule>,
        addresses: &mut Addresses,
        rng: &mut Rng,
    ) -> Result<(), Reason>;
}

/// Leaves all addresses as they are.
#[derive(Clone, Copy, Debug)]
pub struct NoTranslation;

impl Translate for NoTranslation {
    fn translate(
        &mut self,
        _: &Arc<LoadedRule>,
        _: &mut Addresses,
        _: &mut Rng,
    ) -> Result<(), Reason> {
        Ok(())
    }
}
