//! What the rules' author may name and this machine knows: files, hosts, users, services,
//! protocols, fingerprints.
//!
//! Services and protocols come from /etc/services and /etc/protocols, then from the parser's own
//! list, so that a minimal system without these files understands the usual names.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

use nix::unistd::{Group, User};
use pfconf::env::{Protocols, Services};
use pfconf::{BuiltinSources, Dialect, FingerprintMistake, Fingerprints, Sources, names};

/// The fingerprints of this machine.
pub const FINGERPRINTS: &str = "/etc/pf.os";

/// Look-ups on this machine.
pub struct SystemSources {
    /// Whether hosts may be looked up; `-N` forbids it.
    pub hosts: bool,
    /// Whose order addresses have.
    pub dialect: Dialect,
    /// Lines of [`FINGERPRINTS`] that were left out.
    pub fingerprint_mistakes: Vec<FingerprintMistake>,
    services: Services,
    protocols: Protocols,
    fingerprints: Fingerprints,
}

impl SystemSources {
    /// Reads the lists of the machine; a missing one is empty.
    #[must_use]
    pub fn new(hosts: bool, dialect: Dialect) -> Self {
        let text = |path: &str| read_lossy(Path::new(path)).unwrap_or_default();
        let (fingerprints, fingerprint_mistakes) = Fingerprints::parse(&text(FINGERPRINTS));
        Self {
            hosts,
            dialect,
            fingerprint_mistakes,
            services: Services::lenient(&text("/etc/services")),
            protocols: Protocols::lenient(&text("/etc/protocols")),
            fingerprints,
        }
    }
}

impl Sources for SystemSources {
    fn read(&self, path: &str) -> io::Result<String> {
        read_lossy(Path::new(path))
    }

    fn lookup_host(&self, name: &str) -> Vec<IpAddr> {
        if self.hosts { self.dialect.order(lookup_host(name)) } else { Vec::new() }
    }

    fn service(&self, name: &str, proto: Option<&str>) -> Option<u16> {
        self.services.port(name, proto).or_else(|| BuiltinSources.service(name, proto))
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        self.protocols.number(name).or_else(|| BuiltinSources.protocol(name))
    }

    fn service_name(&self, port: u16, proto: &str) -> Option<String> {
        self.services.name(port, proto).or_else(|| names::service_name(port)).map(str::to_owned)
    }

    fn protocol_name(&self, number: u8) -> Option<String> {
        // The parser's own names are OpenBSD's; the machine's differ in a few, as in `ipencap`.
        names::protocol_name(number).or_else(|| self.protocols.name(number)).map(str::to_owned)
    }

    fn user(&self, name: &str) -> Option<u32> {
        User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
    }

    fn group(&self, name: &str) -> Option<u32> {
        Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
    }

    fn fingerprints(&self) -> Option<&Fingerprints> {
        Some(&self.fingerprints)
    }
}

/// Text of a file; octets that are no UTF-8, as in old comments, become replacement characters.
///
/// # Errors
/// Those of the file system.
pub fn read_lossy(path: &Path) -> io::Result<String> {
    std::fs::read(path).map(lossy)
}

/// Octets as text, without a copy of what is UTF-8 already.
#[must_use]
pub fn lossy(octets: Vec<u8>) -> String {
    String::from_utf8(octets)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Addresses of a host in the resolver's order, each once.
///
/// The resolver is not asked about numbers: it reads `10.1` as 10.0.0.1, which nobody means who
/// fills a table.
#[must_use]
pub fn lookup_host(name: &str) -> Vec<IpAddr> {
    if let Ok(addr) = name.parse() {
        return vec![addr];
    }
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    if !last.bytes().any(|octet| octet.is_ascii_alphabetic()) {
        return Vec::new();
    }
    let mut found: Vec<IpAddr> = Vec::new();
    for socket in (name, 0).to_socket_addrs().into_iter().flatten() {
        if !found.contains(&socket.ip()) {
            found.push(socket.ip());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_no_resolver() {
        assert_eq!(lookup_host("192.0.2.1"), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        for number in ["10", "10.1", "192.0.2", "127.1", "192.0.2.256", ""] {
            assert_eq!(lookup_host(number), [] as [IpAddr; 0], "{number}");
        }
        assert!(SystemSources::new(false, Dialect::OpenBsd).lookup_host("192.0.2.1").is_empty());
    }

    #[test]
    fn usual_names_are_known_everywhere() {
        let sources = SystemSources::new(false, Dialect::OpenBsd);
        assert_eq!(sources.service("http", None), Some(80));
        assert_eq!(sources.protocol("tcp"), Some(6));
        assert_eq!(sources.user("root"), Some(0));
        assert_eq!(sources.user("no such user"), None);
        assert_eq!(sources.group("root"), Some(0));
    }
}
