//! What the rules' author may name and this machine knows: files, hosts, services, protocols.
//!
//! Services and protocols come from /etc/services and /etc/protocols, then from the parser's own
//! list, so that a minimal system without these files understands the usual names.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};

use pfconf::{BuiltinSources, Sources};

/// Look-ups on this machine.
pub struct SystemSources {
    /// Whether hosts may be looked up; `-N` forbids it.
    pub hosts: bool,
    services: String,
    protocols: String,
}

impl SystemSources {
    /// Reads the lists of the machine; a missing one is empty.
    #[must_use]
    pub fn new(hosts: bool) -> Self {
        Self {
            hosts,
            services: read_lossy("/etc/services").unwrap_or_default(),
            protocols: read_lossy("/etc/protocols").unwrap_or_default(),
        }
    }
}

impl Sources for SystemSources {
    fn read(&self, path: &str) -> io::Result<String> {
        read_lossy(path)
    }

    fn lookup_host(&self, name: &str) -> Vec<IpAddr> {
        if self.hosts { lookup_host(name) } else { Vec::new() }
    }

    fn service(&self, name: &str, proto: Option<&str>) -> Option<u16> {
        find_service(&self.services, name, proto).or_else(|| BuiltinSources.service(name, proto))
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        find_protocol(&self.protocols, name).or_else(|| BuiltinSources.protocol(name))
    }
}

/// Text of a file; octets that are no UTF-8, as in old comments, become replacement characters.
///
/// # Errors
/// Those of the file system.
pub fn read_lossy(path: &str) -> io::Result<String> {
    std::fs::read(path).map(|octets| String::from_utf8_lossy(&octets).into_owned())
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

/// Lines of a list in /etc: words up to a `#`.
fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split('#').next().unwrap_or_default().split_whitespace().collect())
}

fn find_service(text: &str, name: &str, proto: Option<&str>) -> Option<u16> {
    entries(text).find_map(|words| {
        let (official, rest) = words.split_first()?;
        let (port, aliases) = rest.split_first()?;
        let (port, of) = port.split_once('/')?;
        let named = *official == name || aliases.contains(&name);
        let fits = proto.is_none_or(|proto| proto == of);
        if named && fits { port.parse().ok() } else { None }
    })
}

fn find_protocol(text: &str, name: &str) -> Option<u8> {
    entries(text).find_map(|words| {
        let (official, rest) = words.split_first()?;
        let (number, aliases) = rest.split_first()?;
        if *official == name || aliases.contains(&name) { number.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_aliases_and_comments() {
        let services = "# none\nhttp 80/tcp www # World\n\ndomain 53/udp\ndomain 53/tcp\nodd\n";
        assert_eq!(find_service(services, "www", Some("tcp")), Some(80));
        assert_eq!(find_service(services, "http", Some("udp")), None);
        assert_eq!(find_service(services, "domain", None), Some(53));
        assert_eq!(find_service(services, "World", None), None);
        assert_eq!(find_protocol("tcp 6 TCP\nudp 999\n", "TCP"), Some(6));
        assert_eq!(find_protocol("tcp 6 TCP\nudp 999\n", "udp"), None);
    }

    #[test]
    fn addresses_need_no_resolver() {
        assert_eq!(lookup_host("192.0.2.1"), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        for number in ["10", "10.1", "192.0.2", "127.1", "192.0.2.256", ""] {
            assert_eq!(lookup_host(number), [] as [IpAddr; 0], "{number}");
        }
        assert!(SystemSources::new(false).lookup_host("192.0.2.1").is_empty());
    }
}
