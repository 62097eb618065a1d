//! FreeBSD's ALTQ: `altq` lines and the queues below them.

mod bandwidth;
mod curves;
mod given;
mod plan;
mod read;
pub(crate) mod remark;
mod show;

pub(crate) use plan::{Plan, Trouble};
pub(crate) use read::{altq as read_altq, queue as read_queue};
pub use show::{altq, altq_queue};
