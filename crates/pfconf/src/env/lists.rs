//! Lists of names: hosts, users, groups, services, protocols and settings.

use std::net::IpAddr;

use super::line::{FixtureError, for_each_line, number, quoted, words};
use crate::dialect::Dialect;

/// `hosts.txt`: lines `ADDRESS NAME...`; a name may stand on several lines.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<(IpAddr, String)>);

impl Hosts {
    /// Reads a list.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn parse(file: &str, text: &str) -> Result<Self, FixtureError> {
        let mut hosts = Vec::new();
        for_each_line(file, text, |words| {
            let addr: IpAddr =
                words[0].parse().map_err(|_| format!("{} is no address", quoted(words[0])))?;
            if words.len() == 1 {
                return Err(format!("no name for {addr}"));
            }
            hosts.extend(words[1..].iter().map(|name| (addr, (*name).to_owned())));
            Ok(())
        })?;
        Ok(Self(hosts))
    }

    /// Addresses of a name in the order of the system: see [`Dialect::order`].
    #[must_use]
    pub fn lookup(&self, name: &str, dialect: Dialect) -> Vec<IpAddr> {
        let named = self.0.iter().filter(|(_, known)| known.eq_ignore_ascii_case(name));
        dialect.order(named.map(|&(addr, _)| addr))
    }
}

/// `users.txt` and `groups.txt`: lines `NAME ID`.
#[derive(Clone, Debug, Default)]
pub struct Ids(Vec<(String, u32)>);

impl Ids {
    /// Reads a list.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn parse(file: &str, text: &str) -> Result<Self, FixtureError> {
        let mut ids = Vec::new();
        for_each_line(file, text, |words| match words {
            [name, id] => {
                ids.push(((*name).to_owned(), number(id, "id")?));
                Ok(())
            }
            _ => Err("a line is NAME ID".to_owned()),
        })?;
        Ok(Self(ids))
    }

    /// Number of a name.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<u32> {
        self.0.iter().find(|(known, _)| known == name).map(|&(_, id)| id)
    }
}

/// services(5): lines `NAME PORT/PROTOCOL [OTHER NAMES]`. The first line that fits wins.
#[derive(Clone, Debug, Default)]
pub struct Services(Vec<Service>);

#[derive(Clone, Debug)]
struct Service {
    port: u16,
    proto: String,
    /// The official name is the first.
    names: Vec<String>,
}

impl Services {
    /// Reads a list.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn parse(file: &str, text: &str) -> Result<Self, FixtureError> {
        let mut services = Vec::new();
        for_each_line(file, text, |words| {
            services.push(service(words)?);
            Ok(())
        })?;
        Ok(Self(services))
    }

    /// Reads a list of a system: lines that are not understood are left out.
    #[must_use]
    pub fn lenient(text: &str) -> Self {
        Self(text.lines().filter_map(|line| service(&words(line)).ok()).collect())
    }

    /// Port of a name for a protocol; without one, that for TCP, else UDP, else any.
    #[must_use]
    pub fn port(&self, name: &str, proto: Option<&str>) -> Option<u16> {
        let find = |proto: Option<&str>| {
            let fits = |service: &&Service| {
                proto.is_none_or(|proto| proto == service.proto)
                    && service.names.iter().any(|known| known == name)
            };
            self.0.iter().find(fits).map(|service| service.port)
        };
        if proto.is_some() {
            return find(proto);
        }
        find(Some("tcp")).or_else(|| find(Some("udp"))).or_else(|| find(None))
    }

    /// Name of a port of a protocol.
    #[must_use]
    pub fn name(&self, port: u16, proto: &str) -> Option<&str> {
        let found = self.0.iter().find(|service| service.port == port && service.proto == proto);
        found.and_then(|service| service.names.first()).map(String::as_str)
    }
}

fn service(words: &[&str]) -> Result<Service, String> {
    let [name, port, others @ ..] = words else {
        return Err("a line is NAME PORT/PROTOCOL [OTHER NAMES]".to_owned());
    };
    let Some((port, proto)) = port.split_once('/') else {
        return Err(format!("{} is not of the form PORT/PROTOCOL", quoted(port)));
    };
    Ok(Service {
        port: number(port, "port")?,
        proto: proto.to_owned(),
        names: std::iter::once(name).chain(others).map(|&name| name.to_owned()).collect(),
    })
}

/// protocols(5): lines `NAME NUMBER [OTHER NAMES]`. The first line that fits wins.
#[derive(Clone, Debug, Default)]
pub struct Protocols(Vec<(u8, Vec<String>)>);

impl Protocols {
    /// Reads a list. Numbers that no packet can have, such as OpenBSD's `divert 258`, are left out.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn parse(file: &str, text: &str) -> Result<Self, FixtureError> {
        let mut protocols = Vec::new();
        for_each_line(file, text, |words| {
            protocols.extend(protocol(words)?);
            Ok(())
        })?;
        Ok(Self(protocols))
    }

    /// Reads a list of a system: lines that are not understood are left out.
    #[must_use]
    pub fn lenient(text: &str) -> Self {
        let line = |line: &str| protocol(&words(line)).ok().flatten();
        Self(text.lines().filter_map(line).collect())
    }

    /// Number of a name. Systems write the other names of a protocol in small and capital letters
    /// as they like, so that these do not count where the name as it stands is not known.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u8> {
        let find = |same: fn(&str, &str) -> bool| {
            self.0.iter().find(|(_, names)| names.iter().any(|known| same(known, name)))
        };
        let found = find(|known, name| known == name).or_else(|| find(str::eq_ignore_ascii_case));
        found.map(|&(number, _)| number)
    }

    /// Name of a number.
    #[must_use]
    pub fn name(&self, number: u8) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| *known == number);
        found.and_then(|(_, names)| names.first()).map(String::as_str)
    }
}

fn protocol(words: &[&str]) -> Result<Option<(u8, Vec<String>)>, String> {
    let [name, id, others @ ..] = words else {
        return Err("a line is NAME NUMBER [OTHER NAMES]".to_owned());
    };
    let id: u32 = number(id, "number")?;
    let names = std::iter::once(name).chain(others).map(|&name| name.to_owned()).collect();
    Ok(u8::try_from(id).ok().map(|id| (id, names)))
}

/// `settings.txt`: lines `SYSTEM KEY VALUE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Number of the last routing table; the first is 0.
    pub last_rtable: u32,
}

impl Settings {
    /// Reads the lines of one system: `openbsd rtables LAST` and `freebsd fibs COUNT`.
    ///
    /// # Errors
    /// The first line that is not understood, of whichever system.
    pub fn parse(file: &str, text: &str, dialect: Dialect) -> Result<Self, FixtureError> {
        let mut settings = Self::default();
        for_each_line(file, text, |words| {
            let [system, key, value] = words else {
                return Err("a line is SYSTEM KEY VALUE".to_owned());
            };
            let (of, last) = match (*system, *key) {
                ("openbsd", "rtables") => (Dialect::OpenBsd, number(value, key)?),
                ("freebsd", "fibs") => match number(value, key)? {
                    0 => return Err("there is at least one of the fibs".to_owned()),
                    count => (Dialect::FreeBsd, count - 1),
                },
                _ => {
                    return Err(format!(
                        "{} is neither openbsd rtables nor freebsd fibs",
                        quoted(&format!("{system} {key}"))
                    ));
                }
            };
            if of == dialect {
                settings.last_rtable = last;
            }
            Ok(())
        })?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_come_in_the_order_of_the_system() {
        let text = "2001:db8::1 www web\n192.0.2.1 www\n192.0.2.2 www # last\n2001:db8::2 www\n";
        let hosts = Hosts::parse("hosts.txt", text).unwrap();
        let shown = |dialect| {
            let addrs = hosts.lookup("WWW", dialect);
            addrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(Dialect::OpenBsd), "192.0.2.1 192.0.2.2 2001:db8::1 2001:db8::2");
        assert_eq!(shown(Dialect::FreeBsd), "2001:db8::1 2001:db8::2 192.0.2.1 192.0.2.2");
        assert_eq!(hosts.lookup("web", Dialect::OpenBsd).len(), 1);
        assert!(hosts.lookup("ww", Dialect::OpenBsd).is_empty());
    }

    #[test]
    fn first_line_that_fits_wins() {
        let text = "domain 53/udp\ndomain 53/tcp nameserver\nalt 53/tcp\nhttp 80/tcp www\n\
                    syslog 514/udp\nshell 514/tcp syslog\nodd 7/sctp\n";
        let services = Services::parse("services", text).unwrap();
        assert_eq!(services.port("www", None), Some(80));
        assert_eq!(services.port("www", Some("udp")), None);
        assert_eq!(services.port("odd", None), Some(7));
        assert_eq!(services.port("syslog", None), Some(514));
        assert_eq!(services.port("none", None), None);
        assert_eq!(services.name(53, "tcp"), Some("domain"));
        assert_eq!(services.name(514, "udp"), Some("syslog"));
        assert_eq!(services.name(514, "sctp"), None);
        let protocols = Protocols::parse("protocols", "tcp 6 TCP\nx 6\ndivert 258\n").unwrap();
        assert_eq!(protocols.number("TCP"), Some(6));
        assert_eq!(protocols.number("tCp"), Some(6));
        assert_eq!(protocols.number("divert"), None);
        assert_eq!(protocols.name(6), Some("tcp"));
    }

    #[test]
    fn lists_of_a_system_may_have_odd_lines() {
        assert_eq!(Services::lenient("odd\nhttp 80/tcp # x\n").port("http", None), Some(80));
        assert_eq!(Protocols::lenient("udp 999\ntcp 6\n").number("tcp"), Some(6));
    }

    #[test]
    fn settings_are_per_system() {
        let text = "openbsd rtables 0\nfreebsd fibs 2\n";
        let last = |dialect| Settings::parse("settings.txt", text, dialect).unwrap().last_rtable;
        assert_eq!((last(Dialect::OpenBsd), last(Dialect::FreeBsd)), (0, 1));
    }

    #[test]
    fn mistakes_name_their_line() {
        let ids = |text: &str| Ids::parse("users.txt", text).unwrap_err().to_string();
        assert_eq!(ids("root 0\nbin\n"), "users.txt:2: a line is NAME ID");
        assert_eq!(ids("root -1\n"), "users.txt:1: id '-1' is no number in range");
        let hosts = |text: &str| Hosts::parse("hosts.txt", text).unwrap_err().to_string();
        assert_eq!(hosts("www 192.0.2.1\n"), "hosts.txt:1: 'www' is no address");
        assert_eq!(hosts("\n192.0.2.1 # www\n"), "hosts.txt:2: no name for 192.0.2.1");
        let services = |text: &str| Services::parse("services", text).unwrap_err().to_string();
        assert_eq!(services("http 80\n"), "services:1: '80' is not of the form PORT/PROTOCOL");
        assert_eq!(services("http 65536/tcp\n"), "services:1: port '65536' is no number in range");
        let settings = |text: &str| {
            Settings::parse("settings.txt", text, Dialect::OpenBsd).unwrap_err().to_string()
        };
        assert_eq!(
            settings("freebsd fibs 0\n"),
            "settings.txt:1: there is at least one of the fibs"
        );
        assert_eq!(
            settings("netbsd fibs 1\n"),
            "settings.txt:1: 'netbsd fibs' is neither openbsd rtables nor freebsd fibs"
        );
    }
}
