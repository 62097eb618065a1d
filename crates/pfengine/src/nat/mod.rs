//! Translation of addresses and ports.
//!
//! `pool` and `port` choose, `embed` puts addresses of one family into those of the other, and
//! `rewrite` carries out. Which rules ask for it, and in which order, is the business of the rule
//! evaluation.

mod embed;
mod family;
mod family_icmp;
mod foresee;
mod mapping;
mod pool;
mod port;
mod quote;
mod rewrite;
mod translate;

pub use family::{change_family, check_family};
pub use family_icmp::change_error_family;
pub use foresee::Foresight;
pub use mapping::Mappings;
pub use pool::{Asked, Named, Pool, Via};
pub use quote::rewrite_error;
pub use rewrite::{FieldKind, Rewrite, low32, rewrite};
pub use translate::{PoolOf, Shares, Translator};
