//! A network to try `pfd` in: client, attacker and server, each behind a TUN interface of `pfd`.
//!
//! ```text
//! client ── tun0 ──┐                10.77.1.2, fd77:1::2   router .1 / ::1
//! attacker ─ tun1 ─┼─ pfd           10.77.2.2, fd77:2::2
//! server ── tun2 ──┘                10.77.3.2, fd77:3::2
//! ```
//!
//! Everything lives in a [`sandbox`]: process, mount and network namespaces of its own. When its
//! first process ends, for whatever reason, the kernel ends all others and takes namespaces,
//! devices and files with them.

mod network;
mod process;
pub mod sandbox;

pub use network::{
    ATTACKER, CLIENT, Lab, Place, SERVER, Setup, add_routes, prepare, prepare_namespaces,
    start_daemon,
};
pub use process::{Background, checked, nsenter, program, run};
