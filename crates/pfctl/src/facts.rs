//! Interfaces for the expansion of rules when no daemon can be asked: from the daemon's
//! configuration file, else from this machine.

use std::fs;
use std::io;
use std::path::Path;

use pfapi::facts::{Facts, InterfaceAddress, InterfaceFacts};
use serde::Deserialize;

use crate::console::{os_text, printable};

/// Configuration of the daemon when nobody says otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/pfd.toml";
/// Group that every interface of the daemon is in.
const TUN_GROUP: &str = "tun";
/// Largest packet of an interface that does not say, in octets.
const DEFAULT_MTU: u32 = 1500;

/// Why a configuration file gave no interfaces.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{}", os_text(.0))]
    Read(#[from] io::Error),
    /// It is no TOML, or a key has the wrong kind of value.
    #[error("{0}")]
    Syntax(String),
    /// An address is none.
    #[error("interface {interface}: address {address:?} is not of the form address/length")]
    Address {
        /// Interface it stands at.
        interface: String,
        /// As written.
        address: String,
    },
}

/// The part of pfd.toml that rules depend on; the daemon checks the rest.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    interface: Vec<ConfigInterface>,
}

#[derive(Deserialize)]
struct ConfigInterface {
    name: String,
    #[serde(default)]
    address: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    mtu: Option<u32>,
}

/// Interfaces of a configuration file of the daemon.
///
/// # Errors
/// See [`ConfigError`].
pub fn from_config(path: &Path) -> Result<Facts, ConfigError> {
    parse_config(&fs::read_to_string(path)?)
}

fn parse_config(text: &str) -> Result<Facts, ConfigError> {
    let config: Config = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.get(..start).unwrap_or_default().matches('\n').count() + 1;
        ConfigError::Syntax(format!("line {line}: {}", printable(error.message())))
    })?;
    let interfaces = config.interface.into_iter().map(config_interface);
    Ok(Facts { interfaces: interfaces.collect::<Result<_, _>>()? })
}

fn config_interface(config: ConfigInterface) -> Result<InterfaceFacts, ConfigError> {
    let mut addresses = Vec::new();
    for text in config.address {
        let Some(address) = parse_address(&text) else {
            return Err(ConfigError::Address { interface: config.name, address: text });
        };
        addresses.push(address);
    }
    let mut groups = config.groups;
    if !groups.iter().any(|group| group == TUN_GROUP) {
        groups.push(TUN_GROUP.to_owned());
    }
    let mtu = config.mtu.unwrap_or(DEFAULT_MTU);
    Ok(InterfaceFacts { name: config.name, groups, addresses, mtu, loopback: false })
}

/// `address/length`; the host bits stay, as this is an interface's own address.
fn parse_address(text: &str) -> Option<InterfaceAddress> {
    let (addr, len) = text.split_once('/')?;
    let addr = addr.parse().ok()?;
    let prefix_len = len.parse().ok()?;
    (prefix_len <= pfapi::addr::Af::of(addr).bits())
        .then_some(InterfaceAddress { addr, prefix_len })
}

/// Interfaces of this machine, in the system's order.
///
/// The group of an interface is its name without the number, as on OpenBSD.
///
/// # Errors
/// Those of getifaddrs(3).
pub fn from_machine() -> io::Result<Facts> {
    let mut interfaces: Vec<InterfaceFacts> = Vec::new();
    for found in if_addrs::get_if_addrs()? {
        let position = interfaces.iter().position(|known| known.name == found.name);
        let position = position.unwrap_or_else(|| {
            interfaces.push(machine_interface(&found.name));
            interfaces.len() - 1
        });
        let (addr, prefix_len) = match &found.addr {
            if_addrs::IfAddr::V4(v4) => (v4.ip.into(), v4.prefixlen),
            if_addrs::IfAddr::V6(v6) => (v6.ip.into(), v6.prefixlen),
        };
        if let Some(interface) = interfaces.get_mut(position) {
            interface.loopback = found.is_loopback();
            interface.addresses.push(InterfaceAddress { addr, prefix_len });
        }
    }
    add_without_addresses(&mut interfaces);
    Ok(Facts { interfaces })
}

fn machine_interface(name: &str) -> InterfaceFacts {
    let driver = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let group = (!driver.is_empty() && driver != name).then(|| driver.to_owned());
    let mtu = fs::read_to_string(format!("/sys/class/net/{name}/mtu"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DEFAULT_MTU);
    InterfaceFacts {
        name: name.to_owned(),
        groups: group.into_iter().collect(),
        addresses: Vec::new(),
        mtu,
        loopback: name == "lo",
    }
}

/// getifaddrs(3) leaves interfaces without addresses out; rules may still name them.
fn add_without_addresses(interfaces: &mut Vec<InterfaceFacts>) {
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    for name in names {
        if !interfaces.iter().any(|known| known.name == name) {
            interfaces.push(machine_interface(&name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_interfaces_keep_their_own_addresses() {
        let facts = parse_config(
            "workers = 1\n[[interface]]\nname = \"tun0\"\naddress = [\"10.0.1.1/24\"]\n\
             peer = [\"10.0.1.2/24\"]\ngroups = [\"lan\"]\n[[interface]]\nname = \"tun1\"\nmtu = 9000\n",
        )
        .unwrap();
        let [tun0, tun1] = facts.interfaces.as_slice() else { panic!("{facts:?}") };
        assert_eq!(tun0.addresses[0].addr.to_string(), "10.0.1.1");
        assert_eq!(tun0.addresses[0].prefix_len, 24);
        assert_eq!(tun0.groups, ["lan", "tun"]);
        assert_eq!((tun1.mtu, tun1.addresses.len()), (9000, 0));
    }

    #[test]
    fn mistakes_name_their_place() {
        let text = |config: &str| parse_config(config).unwrap_err().to_string();
        assert_eq!(
            text("[[interface]]\nname = \"tun0\"\naddress = [\"10.0.1.1\"]\n"),
            "interface tun0: address \"10.0.1.1\" is not of the form address/length"
        );
        assert!(text("\n[[interface]]\nname = 7\n").starts_with("line 3: "));
    }

    #[test]
    fn this_machine_has_a_loopback_interface() {
        let facts = from_machine().unwrap();
        assert!(facts.interface("lo").is_none_or(|lo| lo.loopback));
    }
}
