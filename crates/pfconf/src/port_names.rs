//! `pfctl -P`: names of ports in rules.
//!
//! Rules print ports as numbers; only on demand, and only where a rule compares with one port,
//! the number gives way to its name. So this works on printed lines, not on rules.
//! Source: OpenBSD sbin/pfctl/pfctl_parser.c `print_port`.

use crate::source::Sources;

/// A printed line with names in the place of ports that have one. Quoted text stays as it is.
///
/// ```
/// use std::{io, net::IpAddr};
///
/// use pfconf::{Sources, name_ports};
///
/// struct Ssh;
///
/// impl Sources for Ssh {
///     fn read(&self, _: &str) -> io::Result<String> {
///         Err(io::ErrorKind::NotFound.into())
///     }
///     fn lookup_host(&self, _: &str) -> Vec<IpAddr> {
///         Vec::new()
///     }
///     fn service(&self, _: &str, _: Option<&str>) -> Option<u16> {
///         None
///     }
///     fn protocol(&self, _: &str) -> Option<u8> {
///         None
///     }
///     fn service_name(&self, port: u16, _: &str) -> Option<String> {
///         (port == 22).then(|| "ssh".to_owned())
///     }
/// }
///
/// let line = "pass proto tcp from any to any port = 22";
/// assert_eq!(name_ports(line, &Ssh), "pass proto tcp from any to any port = ssh");
/// ```
#[must_use]
pub fn name_ports(line: &str, sources: &dyn Sources) -> String {
    let mut named = String::with_capacity(line.len());
    // pf asks for TCP's name in rules for TCP, else for UDP's.
    let mut proto = "udp";
    let (mut before, mut last) = ("", "");
    let mut quoted = false;
    for word in line.split_inclusive(' ') {
        let bare = word.trim_end_matches(' ');
        let name = if !quoted && before == "port" && matches!(last, "=" | "!=") {
            bare.parse().ok().and_then(|port| sources.service_name(port, proto))
        } else {
            None
        };
        match name {
            Some(name) => {
                named.push_str(&name);
                named.push_str(&word[bare.len()..]);
            }
            None => named.push_str(word),
        }
        if !quoted && last == "proto" {
            proto = if bare == "tcp" { "tcp" } else { "udp" };
        }
        quoted ^= bare.matches('"').count() % 2 == 1;
        (before, last) = (last, bare);
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{Environment, Texts};

    struct Names(Environment);

    impl Sources for Names {
        fn read(&self, _path: &str) -> std::io::Result<String> {
            Err(std::io::ErrorKind::NotFound.into())
        }

        fn lookup_host(&self, _name: &str) -> Vec<std::net::IpAddr> {
            Vec::new()
        }

        fn service(&self, _name: &str, _proto: Option<&str>) -> Option<u16> {
            None
        }

        fn protocol(&self, _name: &str) -> Option<u8> {
            None
        }

        fn service_name(&self, port: u16, proto: &str) -> Option<String> {
            self.0.service_name(port, proto)
        }
    }

    #[test]
    fn only_single_ports_of_rules_get_names() {
        let services = "ssh 22/tcp\nwww 80/tcp http\nsyslog 514/udp\nshell 514/tcp\n";
        let texts = Texts { services: services.to_owned(), ..Texts::default() };
        let names = Names(Environment::parse(&texts, crate::Dialect::OpenBsd).unwrap().0);
        for (line, named) in [
            (
                "pass in proto tcp from any port = 22 to any port != 80 flags S/SA",
                "pass in proto tcp from any port = ssh to any port != www flags S/SA",
            ),
            (
                "pass proto udp from any to any port = 514",
                "pass proto udp from any to any port = syslog",
            ),
            (
                "pass proto tcp from any to any port = 514",
                "pass proto tcp from any to any port = shell",
            ),
            (
                "pass proto tcp to any port 22:80 label \"proto tcp port = 22\"",
                "pass proto tcp to any port 22:80 label \"proto tcp port = 22\"",
            ),
            (
                "pass proto tcp from any to any port > 22 rdr-to 192.0.2.1 port 80",
                "pass proto tcp from any to any port > 22 rdr-to 192.0.2.1 port 80",
            ),
            ("web = \"port = 80\"", "web = \"port = 80\""),
            (
                "pass proto tcp from any to any port = 81",
                "pass proto tcp from any to any port = 81",
            ),
            ("", ""),
        ] {
            assert_eq!(name_ports(line, &names), named);
        }
    }
}
