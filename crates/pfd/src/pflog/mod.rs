//! The packet log: what rules log goes to files and to whoever follows with `pfctl log`.
//!
//! The engine thread copies records into a [`Spool`] and never waits: a thread of its own swaps the
//! spool and does the rest. What does not fit is lost and counted.

mod file;
mod record;
mod ring;
mod spool;

pub use file::{LogFileError, LogFiles};
pub use record::pcap_header;
pub use ring::Ring;
pub use spool::{PacketLog, Recorder};
