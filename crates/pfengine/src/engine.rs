//! The engine that all threads share, and the worker of each.

use core::net::IpAddr;
use std::sync::Arc;

use pfapi::check::CheckedRuleset;
use pfapi::control::{Flush, Info, KillFilter, RuleReport, StateReport, TableReport};
use pfapi::facts::Facts;
use pfapi::limit::{Limit, Limits};
use pfapi::ruleset::TableEntry;
use pfapi::timeout::Timeouts;
use pfapi::units::Uptime;

use crate::packet::Batch;

/// What an engine must know when it is made.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Interfaces; an [`pfapi::units::IfIndex`] is a position in this list.
    pub facts: Facts,
    /// Seed of everything random: cookie keys, sequence numbers, hash secrets.
    pub seed: [u8; 32],
    /// This filter's id, not zero.
    pub hostid: u32,
}

/// Who loads a ruleset; shown by `pfctl -vsr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loader {
    /// User id.
    pub uid: u32,
    /// Process id.
    pub pid: u32,
}

/// Why a ruleset could not be put in force; the old one stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A limit would fall below what is in use.
    #[error("current pool size {in_use} exceeds requested {limit} limit {requested}")]
    LimitInUse {
        /// Which limit.
        limit: Limit,
        /// What the ruleset asked for.
        requested: u32,
        /// What is in use.
        in_use: u64,
    },
}

/// Why a table could not be changed or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// No such table.
    #[error("Table does not exist")]
    NotFound,
    /// The table is `const`.
    #[error("Operation not permitted")]
    Constant,
    /// `set limit tables` or `table-entries` would be exceeded.
    #[error("Cannot allocate memory")]
    Limit,
}

/// Something the caller must do, drained by [`Worker::poll_output`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a packet that the filter made, routed by its destination.
    Send {
        /// The packet.
        packet: SmallPacket,
        /// Whether it must pass the outbound rules first, as a packet of this host.
        filtered: bool,
    },
}

/// A short packet by value: every packet that the filter makes besides answers in place fits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SmallPacket {
    octets: [u8; Self::CAPACITY],
    len: u8,
}

impl SmallPacket {
    /// Octets that fit: an IPv6 header, a TCP header and all TCP options.
    pub const CAPACITY: usize = 100;

    /// Takes a copy; `None` when `octets` is longer than [`Self::CAPACITY`].
    #[must_use]
    pub fn new(octets: &[u8]) -> Option<Self> {
        let len =
            u8::try_from(octets.len()).ok().filter(|&len| usize::from(len) <= Self::CAPACITY)?;
        let mut copy = Self { octets: [0; Self::CAPACITY], len };
        copy.octets[..octets.len()].copy_from_slice(octets);
        Some(copy)
    }

    /// The octets, from the IP header on.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }
}

impl core::fmt::Debug for SmallPacket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SmallPacket({:02x?})", self.data())
    }
}

/// The filter that all threads share.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
}

impl Engine {
    /// A disabled engine with an empty ruleset.
    #[must_use]
    pub fn new(config: EngineConfig, _now: Uptime) -> Arc<Self> {
        Arc::new(Self { config })
    }

    /// A worker for one thread.
    #[must_use]
    pub fn worker(self: &Arc<Self>) -> Worker {
        Worker { engine: Arc::clone(self) }
    }

    /// Interfaces and their addresses.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.config.facts
    }

    /// Puts a ruleset in force as one step; states stay.
    ///
    /// # Errors
    /// When a limit falls below what is in use; nothing changes then.
    pub fn load(
        &self,
        _ruleset: CheckedRuleset,
        _loader: Loader,
        _now: Uptime,
    ) -> Result<(), LoadError> {
        Ok(())
    }

    /// Enables or disables filtering; false when that was so already.
    #[must_use]
    pub fn set_enabled(&self, _enabled: bool, _now: Uptime) -> bool {
        false
    }

    /// Everything that `pfctl -vsi` prints.
    #[must_use]
    pub fn info(&self, _now: Uptime) -> Info {
        unreachable!()
    }

    /// Rules `first..` with their counters, at most `most`.
    #[must_use]
    pub fn rules(&self, _first: usize, _most: usize) -> Vec<RuleReport> {
        Vec::new()
    }

    /// States from slab position `*cursor` on, at most `most`; moves the cursor. An empty answer
    /// ends the list.
    #[must_use]
    pub fn states(&self, _cursor: &mut u32, _most: usize, _now: Uptime) -> Vec<StateReport> {
        Vec::new()
    }

    /// Timeouts in force.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        Timeouts::default()
    }

    /// Limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits::default()
    }

    /// All tables by name.
    #[must_use]
    pub fn tables(&self, _now: Uptime) -> Vec<TableReport> {
        Vec::new()
    }

    /// Entries of a table in address order.
    ///
    /// # Errors
    /// [`TableError::NotFound`].
    pub fn table_entries(&self, _table: &str) -> Result<Vec<TableEntry>, TableError> {
        Ok(Vec::new())
    }

    /// Adds entries, making the table when it is missing. Gives the entries that were new, and
    /// whether the table was made.
    ///
    /// # Errors
    /// [`TableError::Constant`], [`TableError::Limit`]; nothing changes then.
    pub fn table_add(
        &self,
        _table: &str,
        _entries: &[TableEntry],
        _now: Uptime,
    ) -> Result<(Vec<TableEntry>, bool), TableError> {
        Ok((Vec::new(), false))
    }

    /// Deletes entries; gives those that were there.
    ///
    /// # Errors
    /// [`TableError::NotFound`], [`TableError::Constant`].
    pub fn table_delete(
        &self,
        _table: &str,
        _entries: &[TableEntry],
    ) -> Result<Vec<TableEntry>, TableError> {
        Ok(Vec::new())
    }

    /// Longest match of each address, negated entries included.
    ///
    /// # Errors
    /// [`TableError::NotFound`].
    pub fn table_test(
        &self,
        _table: &str,
        _addrs: &[IpAddr],
    ) -> Result<Vec<Option<TableEntry>>, TableError> {
        Ok(Vec::new())
    }

    /// Flushes; gives the number of items that ended where pfctl prints one (states, tables).
    #[must_use]
    pub fn flush(&self, _what: &Flush, _now: Uptime) -> u64 {
        0
    }

    /// Ends states; gives how many.
    #[must_use]
    pub fn kill_states(&self, _filter: &KillFilter, _now: Uptime) -> u64 {
        0
    }

    /// Zeroes the counters of all rules.
    pub fn clear_rule_counters(&self) {}
}

/// One thread's hand on the engine.
#[derive(Debug)]
pub struct Worker {
    engine: Arc<Engine>,
}

impl Worker {
    /// Decides every packet of the batch: its `meta.verdict` says what becomes of it. Packets of
    /// several interfaces and both directions may be mixed. Drain [`Self::poll_output`] afterwards.
    pub fn process(&mut self, _now: Uptime, _batch: &mut Batch) {}

    /// Does what is due: purge of states, key rotation, switching of adaptive modes. Each call is
    /// bounded. Drain [`Self::poll_output`] afterwards.
    pub fn handle_timeout(&mut self, _now: Uptime) {}

    /// When [`Self::handle_timeout`] is due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Uptime> {
        None
    }

    /// The next thing the caller must do; `None` when all is done.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }

    /// The engine this worker works for.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}
