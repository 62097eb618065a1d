//! Rules: from a checked ruleset to the decision on a packet that no state knows.

mod load;
mod matcher;

pub use load::{Live, LoadedRule, LoadedRules, Tables};
pub use matcher::PacketView;
