//! The router: which way a packet goes, and what its sender hears when it goes no way.
//!
//! Between the two passes of the filter a packet is routed and its time to live is counted down.
//! After the second it is routed once more where rules have changed its destination, and its size
//! is compared with the link. Errors and echo replies are written into the buffer of the packet that
//! they answer; as packets of this host they go through the outbound pass.
//! Sources: RFC 1812 (routers), RFC 8200, RFC 4443; OpenBSD sys/netinet/ip_input.c `ip_forward`.

mod counters;
mod depart;
mod forward;
mod fragment;
mod header;
mod table;

pub use counters::{Counters, Event};
pub use depart::{Before, Original};
pub use forward::{Onward, Router, RouterOptions};
pub(crate) use fragment::{FragmentError, fragment, refragment};
pub(crate) use header::is_v6;
pub use table::{Table, Target};

#[cfg(test)]
mod tests;
