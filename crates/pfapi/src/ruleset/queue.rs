//! Queue definitions.
//!
//! Source: pf.conf(5) "QUEUEING".

use serde::{Deserialize, Serialize};

/// One `queue` line on one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueDef {
    /// Name.
    pub name: String,
    /// `parent`; `None` for the root queue of an interface.
    pub parent: Option<String>,
    /// `on`; a child without it belongs to every root that has its parent.
    pub interface: Option<String>,
    /// `flows` and `quantum`.
    pub flows: Option<FlowQueue>,
    /// `bandwidth`
    pub bandwidth: Option<ServiceCurve>,
    /// `min`
    pub min: Option<ServiceCurve>,
    /// `max`
    pub max: Option<ServiceCurve>,
    /// `default`: for packets without a queue.
    pub default: bool,
    /// `qlimit`: packets that wait at most; 0 is not given.
    pub qlimit: u16,
}

/// Fair queueing of flows within a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowQueue {
    /// Flows at most.
    pub flows: u16,
    /// Octets that a flow may send at once; 0 is not given.
    pub quantum: u16,
}

/// A bandwidth, and another one for the first moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceCurve {
    /// Bits per second.
    pub rate: u64,
    /// `burst`: bits per second in the beginning, and how many milliseconds it lasts.
    pub burst: Option<(u64, u32)>,
}
