//! The configuration file: what the daemon is told before it touches the system.
//!
//! The file is checked as a whole: every mistake is reported with its line, its key and a way out,
//! and nothing is done before all of them are gone. Source of the format: pfd.toml(5).

mod checks;
mod read;

pub(crate) use checks::broadcast;

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::ops::Range;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use pfapi::addr::Prefix;
use pfapi::facts::{Facts, InterfaceAddress, InterfaceFacts, InterfaceFlag};
use pfapi::units::IfIndex;

use crate::tun::Backend;

/// Smallest MTU of an interface, in octets: what every IPv4 host must be able to reassemble.
/// Source: RFC 791 section 3.1.
pub const MTU_MIN: u16 = 576;
/// Smallest MTU of an interface with IPv6 addresses, in octets. Source: RFC 8200 section 5.
pub const MTU_MIN_V6: u16 = 1280;
/// MTU where the file does not say, in octets.
pub const MTU_DEFAULT: u16 = 1500;
/// Longest path of a socket in octets: `sun_path` less the terminator and less what the name of
/// the read-only twin adds. Source: Linux include/uapi/linux/un.h.
pub const SOCKET_PATH_MAX: usize = 107 - 3;

/// A configuration without mistakes. Only [`parse`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// File with the rules.
    pub ruleset: PathBuf,
    /// Control socket.
    pub socket: PathBuf,
    /// What to do without a ruleset.
    pub fail: Fail,
    /// User whose rights the daemon keeps; `None` is `_pfd`, else `nobody`.
    pub user: Option<String>,
    /// File of the packet log, that of pflog0; `None` writes none.
    pub pflog: Option<PathBuf>,
    /// Address where a monitoring system reads; `None` is nowhere.
    pub metrics: Option<SocketAddr>,
    /// File with the secrets that several firewalls share; `None` keeps one of this start.
    pub cluster_secret_file: Option<PathBuf>,
    /// In the order of the file: an [`IfIndex`] is a position in this list.
    pub interfaces: Vec<Interface>,
    /// Configured routes, without the connected ones.
    pub routes: Vec<Route>,
}

/// What a start without a usable ruleset does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fail {
    /// It refuses.
    #[default]
    Closed,
    /// It passes everything.
    Open,
}

/// A TUN device and the router's end of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name of the device and in pf.conf.
    pub name: String,
    /// The router's own addresses.
    pub addresses: Vec<InterfaceAddress>,
    /// Addresses for the kernel's side of the device.
    pub peers: Vec<InterfaceAddress>,
    /// Namespace to which the device is moved: a name below /run/netns or an absolute path.
    pub netns: Option<String>,
    /// Groups besides `tun`.
    pub groups: Vec<String>,
    /// Largest packet in octets.
    pub mtu: u16,
    /// How the device is driven.
    pub backend: Backend,
}

/// A route of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destinations.
    pub to: Prefix,
    /// Interface by which they are reached.
    pub dev: IfIndex,
    /// Next hop; a TUN needs none, so it is only checked to lie in a network of `dev`.
    pub via: Option<IpAddr>,
}

/// Group of the interfaces that default routes lead to, as in ifconfig(8).
const EGRESS_GROUP: &str = "egress";

/// What a TUN is to rules: its networks have room for many hosts, so it has a broadcast address.
const TUN_FLAGS: [InterfaceFlag; 4] =
    [InterfaceFlag::Up, InterfaceFlag::Broadcast, InterfaceFlag::Running, InterfaceFlag::Multicast];

impl Config {
    /// What rules may know of this router.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let is_egress = |at: usize| {
            let leads_here = |route: &&Route| usize::from(route.dev.0) == at;
            self.routes.iter().filter(leads_here).any(|route| route.to.len() == 0)
        };
        let interfaces = self.interfaces.iter().enumerate().map(|(at, interface)| {
            let mut groups = vec!["tun".to_owned()];
            if is_egress(at) {
                groups.push(EGRESS_GROUP.to_owned());
            }
            for group in &interface.groups {
                if !groups.contains(group) {
                    groups.push(group.clone());
                }
            }
            InterfaceFacts {
                groups,
                addresses: interface.addresses.clone(),
                mtu: u32::from(interface.mtu),
                flags: TUN_FLAGS.into_iter().collect(),
                ..InterfaceFacts::new(&interface.name)
            }
        });
        Facts { interfaces: interfaces.collect() }
    }

    /// Path of the socket that answers only questions: `pfd.sock` has the twin `pfd-ro.sock`.
    #[must_use]
    pub fn socket_read_only(&self) -> PathBuf {
        let stem = self.socket.file_stem().unwrap_or_default().to_string_lossy();
        let extension = self
            .socket
            .extension()
            .map(|extension| format!(".{}", extension.to_string_lossy()))
            .unwrap_or_default();
        self.socket.with_file_name(format!("{stem}-ro{extension}"))
    }
}

/// A mistake in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Line, counted from 1.
    pub line: usize,
    /// Key as a path, such as `interface.mtu`; empty for mistakes of TOML itself.
    pub key: String,
    /// What is wrong and how to put it right.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {}", read_failure(.source), path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file has mistakes.
    #[error("{}", mistakes.iter().map(|mistake| format!("{}:{mistake}", path.display()))
        .collect::<Vec<_>>().join("\n"))]
    Mistakes {
        /// Which file.
        path: PathBuf,
        /// In the order of the file.
        mistakes: Vec<Mistake>,
    },
}

fn read_failure(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file; name another one with -c".to_owned(),
        ErrorKind::InvalidData => "this is no text file".to_owned(),
        _ => error.to_string(),
    }
}

/// Reads and checks a file.
///
/// # Errors
/// When it cannot be read, or with every mistake in it.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(&text).map_err(|mistakes| ConfigError::Mistakes { path: path.to_owned(), mistakes })
}

/// Checks the text of a configuration file.
///
/// # Errors
/// Every mistake, in the order of the file.
pub fn parse(text: &str) -> Result<Config, Vec<Mistake>> {
    let mut report = Report { text, mistakes: Vec::new() };
    let config = read::file(text, &mut report);
    if report.mistakes.is_empty() {
        return Ok(config);
    }
    report.mistakes.sort_by_key(|mistake| mistake.line);
    Err(report.mistakes)
}

/// Collects mistakes and knows in which line an octet lies.
struct Report<'a> {
    text: &'a str,
    mistakes: Vec<Mistake>,
}

impl Report<'_> {
    fn add(&mut self, span: &Range<usize>, key: &str, text: impl Into<String>) {
        let before = self.text.as_bytes().get(..span.start).unwrap_or(self.text.as_bytes());
        let line = before.split(|&octet| octet == b'\n').count();
        self.mistakes.push(Mistake { line, key: key.to_owned(), text: text.into() });
    }
}

#[cfg(test)]
mod tests;
