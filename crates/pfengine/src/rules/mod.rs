//! Rules: from a checked ruleset to the decision on a packet that no state knows.
//!
//! `ruleset` is what one load brings, `program` all rulesets as one list with anchors resolved,
//! `compile` and `matcher` the conditions of one rule, `walk` the evaluation, `classify` what
//! spares it most rules of long rulesets, `translate` the hook where addresses change on the way.

mod actions;
mod classify;
mod compile;
mod decision;
mod fingerprint;
mod load;
mod matcher;
mod program;
mod rule;
mod ruleset;
mod tag;
mod threshold;
mod translate;
mod walk;

pub use actions::Actions;
pub(crate) use compile::is_named;
pub use decision::{Decision, Decisions};
pub use fingerprint::Fingerprints;
pub use load::{LoadedRules, Parts, settle_tables, skipped};
pub use matcher::{PacketView, Surroundings};
pub use program::{Rulesets, settle_anchors};
pub use rule::{Kept, Live, LoadedRule};
pub use ruleset::Ruleset;
pub use tag::{Tag, Tags};
pub use threshold::Threshold;
pub use translate::{Addresses, Translate};
pub use walk::{Evaluation, LogCall, Scratch};
