//! Words that the crates of this packet filter share.
//!
//! Nothing here knows text syntax, packets on the wire or sockets. `pfconf` turns pf.conf into a
//! [`ruleset::Draft`], [`check::check`] turns a draft into a [`check::CheckedRuleset`], and the
//! engine evaluates only checked rulesets. The messages of [`control`] carry drafts and reports
//! between `pfctl` and `pfd`.
#![forbid(unsafe_code)]

pub mod addr;
pub mod anchor;
pub mod check;
pub mod control;
pub mod dialect;
pub mod facts;
pub mod limit;
pub mod load;
pub mod osfp;
pub mod port;
pub mod rare;
pub mod reason;
pub mod ruleset;
pub mod shared;
pub mod timeout;
pub mod units;
