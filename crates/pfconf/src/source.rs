//! Where the parser gets what lies outside of its text: table files and name databases.
//!
//! The crate knows no file system and no resolver; the caller passes a [`Sources`].

use std::io;
use std::net::IpAddr;

use crate::fingerprint::Fingerprints;
use crate::names;

/// Files and names that a ruleset may refer to.
///
/// ```
/// use std::io;
/// use std::net::IpAddr;
///
/// use pfconf::{BuiltinSources, Sources};
///
/// /// One table file, and the names of ports that everybody knows.
/// struct Files;
///
/// impl Sources for Files {
///     fn read(&self, path: &str) -> io::Result<String> {
///         match path {
///             "/etc/bad" => Ok("192.0.2.0/24\n".to_owned()),
///             _ => Err(io::ErrorKind::NotFound.into()),
///         }
///     }
///
///     fn lookup_host(&self, _: &str) -> Vec<IpAddr> {
///         Vec::new()
///     }
///
///     fn service(&self, name: &str, proto: Option<&str>) -> Option<u16> {
///         BuiltinSources.service(name, proto)
///     }
///
///     fn protocol(&self, name: &str) -> Option<u8> {
///         BuiltinSources.protocol(name)
///     }
/// }
///
/// assert_eq!(Files.service("https", Some("tcp")), Some(443));
/// ```
pub trait Sources {
    /// Text of a file named in `table <x> file "..."`, `include` or `load anchor`.
    ///
    /// # Errors
    /// What the system said; it is shown to the author of the file.
    fn read(&self, path: &str) -> io::Result<String>;
    /// Addresses of a host name in the order in which rules expand; empty when there are none.
    fn lookup_host(&self, name: &str) -> Vec<IpAddr>;
    /// Port of a service name; `proto` narrows the search.
    fn service(&self, name: &str, proto: Option<&str>) -> Option<u16>;
    /// Number of a protocol name.
    fn protocol(&self, name: &str) -> Option<u8>;

    /// Name of a port of a protocol, for listings with names.
    fn service_name(&self, _port: u16, _proto: &str) -> Option<String> {
        None
    }

    /// Name of a protocol, for listings.
    fn protocol_name(&self, number: u8) -> Option<String> {
        names::protocol_name(number).map(str::to_owned)
    }

    /// Number of a user.
    fn user(&self, _name: &str) -> Option<u32> {
        None
    }

    /// Number of a group of users.
    fn group(&self, _name: &str) -> Option<u32> {
        None
    }

    /// Database for `os`; without one no name matches.
    fn fingerprints(&self) -> Option<&Fingerprints> {
        None
    }

    /// Whether the machine has this routing table.
    fn has_rtable(&self, rtable: u32) -> bool {
        rtable == 0
    }
}

/// No files and no names at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSources;

impl Sources for NoSources {
    fn read(&self, _path: &str) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn lookup_host(&self, _name: &str) -> Vec<IpAddr> {
        Vec::new()
    }

    fn service(&self, _name: &str, _proto: Option<&str>) -> Option<u16> {
        None
    }

    fn protocol(&self, _name: &str) -> Option<u8> {
        None
    }
}

/// No files and hosts, but the common services and protocols of [`names`].
#[derive(Clone, Copy, Debug, Default)]
pub struct BuiltinSources;

impl Sources for BuiltinSources {
    fn read(&self, path: &str) -> io::Result<String> {
        NoSources.read(path)
    }

    fn lookup_host(&self, _name: &str) -> Vec<IpAddr> {
        Vec::new()
    }

    fn service(&self, name: &str, _proto: Option<&str>) -> Option<u16> {
        names::service_port(name)
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        names::protocol_number(name)
    }
}
