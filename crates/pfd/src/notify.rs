//! Telling the service manager how far the start is.
//!
//! Source: sd_notify(3), the protocol only: a datagram to the socket in NOTIFY_SOCKET.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::log;

/// The daemon forwards packets and answers its control socket.
pub const READY: &str = "READY=1";
/// The daemon is about to end.
pub const STOPPING: &str = "STOPPING=1";

/// Sends a state, when there is a service manager.
pub fn notify(state: &str) {
    if let Some(socket) = env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(socket.as_bytes(), state)
    {
        log::warn(&format!("cannot tell the service manager {state}: {error}"));
    }
}

fn send(socket: &[u8], state: &str) -> io::Result<()> {
    let addr = match socket.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(socket))?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &addr)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abstract_socket_hears_the_state() {
        let name = format!("pfd-notify-{}", std::process::id());
        let addr = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&addr).unwrap();
        send(format!("@{name}").as_bytes(), READY).unwrap();
        let mut octets = [0; 32];
        let len = socket.recv(&mut octets).unwrap();
        assert_eq!(&octets[..len], b"READY=1");
    }
}
