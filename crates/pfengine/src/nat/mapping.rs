//! `endpoint-independent`: a source of UDP keeps its outer address and port towards every target.
//!
//! A mapping lives as long as a state that uses it. Two sources never share an outer end, so
//! that a peer which learned it from another one means the same host (RFC 4787 REQ-1). Source:
//! FreeBSD sys/netpfil/pf/pf.c `pf_udp_mapping_find`, `pf_udp_mapping_insert`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pfapi::addr::Af;

use crate::addr::Addr;

/// Address and port of one side.
pub type End = (Af, Addr, u16);

/// An end as a key: whether it is of IPv6, address, port.
type Key = (bool, u128, u16);

const fn key((af, addr, port): End) -> Key {
    (matches!(af, Af::Inet6), addr.0, port)
}

/// All mappings.
#[derive(Clone, Debug, Default)]
pub struct Mappings(Arc<Mutex<Ends>>);

#[derive(Debug, Default)]
struct Ends {
    /// Outer address and port of an inner end, and the states that use them.
    by_inner: BTreeMap<Key, Mapping>,
    /// Outer ends in use.
    outer: BTreeSet<Key>,
}

#[derive(Clone, Copy, Debug)]
struct Mapping {
    outer: (Addr, u16),
    states: u64,
}

/// One state's part in a mapping, for as long as it lives.
#[derive(Debug)]
pub struct MappingHold {
    mappings: Mappings,
    inner: Key,
}

impl Mappings {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outer address and port of a source that has some.
    pub fn find(&self, inner: End) -> Option<((Addr, u16), MappingHold)> {
        let inner = key(inner);
        let mut ends = self.ends();
        let mapping = ends.by_inner.get_mut(&inner)?;
        mapping.states += 1;
        Some((mapping.outer, MappingHold { mappings: self.clone(), inner }))
    }

    /// Whether an outer end is in use.
    pub fn is_taken(&self, outer: End) -> bool {
        self.ends().outer.contains(&key(outer))
    }

    /// Keeps an outer address and port for a source; `None` when another packet was faster.
    pub fn insert(&self, inner: End, outer: End) -> Option<MappingHold> {
        let mut ends = self.ends();
        if ends.by_inner.contains_key(&key(inner)) || ends.outer.contains(&key(outer)) {
            return None;
        }
        ends.outer.insert(key(outer));
        ends.by_inner.insert(key(inner), Mapping { outer: (outer.1, outer.2), states: 1 });
        Some(MappingHold { mappings: self.clone(), inner: key(inner) })
    }
}

impl Drop for MappingHold {
    fn drop(&mut self) {
        let mut ends = self.mappings.ends();
        let Some(mapping) = ends.by_inner.get_mut(&self.inner) else { return };
        mapping.states -= 1;
        if mapping.states == 0 {
            let (addr, port) = mapping.outer;
            ends.by_inner.remove(&self.inner);
            ends.outer.remove(&(self.inner.0, addr.0, port));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_lives_with_its_states_and_has_its_outer_end_alone() {
        let mappings = Mappings::default();
        let end = |host: u128, port| (Af::Inet, Addr(host), port);
        assert!(mappings.find(end(1, 1)).is_none());
        let first = mappings.insert(end(1, 1), end(9, 500)).unwrap();
        assert!(mappings.insert(end(2, 1), end(9, 500)).is_none(), "the outer end is taken");
        assert!(mappings.insert(end(1, 1), end(9, 501)).is_none(), "the source has one");
        let (outer, second) = mappings.find(end(1, 1)).unwrap();
        assert_eq!(outer, (Addr(9), 500));
        drop(first);
        assert!(mappings.is_taken(end(9, 500)));
        drop(second);
        assert!(!mappings.is_taken(end(9, 500)) && mappings.find(end(1, 1)).is_none());
    }
}
