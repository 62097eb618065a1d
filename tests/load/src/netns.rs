//! Entering network namespaces.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Moves the calling thread, and no other, into a network namespace: a name below `/run/netns`
/// or an absolute path, as in `pfd.toml`.
///
/// # Errors
///
/// When there is no such namespace, or the caller may not enter it.
pub fn enter(name: &str) -> io::Result<()> {
    let path = path(name);
    let file = File::open(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Where the namespace of this name is.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name) // An absolute name replaces the folder.
}

/// Interface counters of the calling thread's namespace, as `ip -s link` shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Packets the device handed to the kernel.
    pub rx_packets: u64,
    /// Octets of these.
    pub rx_octets: u64,
    /// Packets the kernel handed to the device.
    pub tx_packets: u64,
    /// Packets the device refused.
    pub tx_dropped: u64,
}

/// Reads the counters of one interface.
///
/// # Errors
///
/// When the calling thread's namespace has no such interface.
pub fn link_counters(interface: &str) -> io::Result<LinkCounters> {
    parse_counters(&std::fs::read_to_string("/proc/thread-self/net/dev")?, interface)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no interface {interface}")))
}

fn parse_counters(table: &str, interface: &str) -> Option<LinkCounters> {
    let line = table.lines().find_map(|line| {
        let (name, values) = line.split_once(':')?;
        (name.trim() == interface).then_some(values)
    })?;
    let values: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    Some(LinkCounters {
        rx_octets: *values.first()?,
        rx_packets: *values.get(1)?,
        tx_packets: *values.get(9)?,
        tx_dropped: *values.get(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_column() {
        let table = "Inter-|   Receive\n face |bytes\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13\n";
        let wanted = LinkCounters { rx_octets: 1, rx_packets: 2, tx_packets: 10, tx_dropped: 12 };
        assert_eq!(parse_counters(table, "lo"), Some(wanted));
        assert_eq!(parse_counters(table, "tun0"), None);
    }

    #[test]
    fn names_and_paths() {
        assert_eq!(path("client"), Path::new("/run/netns/client"));
        assert_eq!(path("/proc/1/ns/net"), Path::new("/proc/1/ns/net"));
    }
}
