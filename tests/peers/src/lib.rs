//! Connections through the firewall against plain forwarding and Linux SYNPROXY, in one run.
//!
//! ```text
//! far ─ relay ─ client ─ tun0 ─┐
//!             attacker ─ tun1 ─┼─ what stands in the middle
//!               server ─ tun2 ─┘
//! ```
//!
//! The networks are those of [`pf_load::lab`]. What stands in the [`middle`] is `pfd` with one of
//! several settings of syncookies, or a network namespace in which the kernel forwards, with or
//! without SYNPROXY. Client and server are the kernel's TCP; what they think of a connection is
//! asked of the kernel at both ends. The [`relay`] loses, delays and reorders packets.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "rates and shares are for people to read"
)]

pub mod capture;
pub mod cluster;
pub mod forgery;
pub mod middle;
pub mod options;
pub mod pair;
pub mod place;
pub mod relay;
pub mod requests;
pub mod scan;
pub mod speed;
pub mod transfer;
