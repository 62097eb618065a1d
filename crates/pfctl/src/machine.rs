//! Interfaces of the machine that pfctl runs on.

use std::fs;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags as KernelFlags;
use nix::sys::socket::SockaddrStorage;
use pfapi::facts::{DEFAULT_MTU, Facts, InterfaceAddress, InterfaceFacts, InterfaceFlag};

/// Group of the interfaces that a default route leads to.
const EGRESS_GROUP: &str = "egress";

/// Interfaces of this machine, in the system's order.
///
/// The group of an interface is its name without the number, as on OpenBSD; interfaces with a
/// default route are in `egress` too.
///
/// # Errors
/// Those of getifaddrs(3).
pub fn facts() -> io::Result<Facts> {
    let mut interfaces: Vec<InterfaceFacts> = Vec::new();
    // The list begins with one entry per interface, so those without addresses are there too.
    for found in getifaddrs()? {
        let name = found.interface_name.as_str();
        let position = interfaces.iter().position(|known| known.name == name);
        let position = position.unwrap_or_else(|| {
            interfaces.push(interface(name, found.flags));
            interfaces.len() - 1
        });
        let addr = found.address.as_ref().and_then(ip);
        if let (Some(interface), Some(addr)) = (interfaces.get_mut(position), addr) {
            let prefix_len = found.netmask.as_ref().and_then(ip).map_or(0, prefix_len);
            let peer = found.destination.as_ref().and_then(ip).filter(|peer| *peer != addr);
            interface.addresses.push(InterfaceAddress { addr, prefix_len, peer });
        }
    }
    let routes = read_or_empty("/proc/net/route");
    let routes6 = read_or_empty("/proc/net/ipv6_route");
    for name in default_routes(&routes, &routes6) {
        if let Some(interface) = interfaces.iter_mut().find(|interface| interface.name == name) {
            interface.groups.push(EGRESS_GROUP.to_owned());
        }
    }
    Ok(Facts { interfaces })
}

fn interface(name: &str, flags: KernelFlags) -> InterfaceFacts {
    let driver = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let group = (!driver.is_empty() && driver != name).then(|| driver.to_owned());
    let attribute = |key: &str| read_or_empty(&format!("/sys/class/net/{name}/{key}"));
    InterfaceFacts {
        groups: group.into_iter().collect(),
        mtu: attribute("mtu").trim().parse().unwrap_or(DEFAULT_MTU),
        flags: [
            (KernelFlags::IFF_UP, InterfaceFlag::Up),
            (KernelFlags::IFF_BROADCAST, InterfaceFlag::Broadcast),
            (KernelFlags::IFF_LOOPBACK, InterfaceFlag::Loopback),
            (KernelFlags::IFF_POINTOPOINT, InterfaceFlag::PointToPoint),
            (KernelFlags::IFF_RUNNING, InterfaceFlag::Running),
            (KernelFlags::IFF_MULTICAST, InterfaceFlag::Multicast),
        ]
        .into_iter()
        .filter_map(|(kernel, flag)| flags.contains(kernel).then_some(flag))
        .collect(),
        // In Mbit/s; an unknown speed is -1.
        baud: attribute("speed").trim().parse::<u32>().ok().map(|mega| u64::from(mega) * 1_000_000),
        ..InterfaceFacts::new(name)
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
}

fn prefix_len(mask: IpAddr) -> u8 {
    let ones = match mask {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    u8::try_from(ones).unwrap_or(u8::MAX)
}

fn read_or_empty(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Interfaces of the default routes, each once, from the tables of /proc/net. Formats: Linux
/// net/ipv4/fib_trie.c `fib_route_seq_show`, net/ipv6/route.c `rt6_info_route`.
fn default_routes<'a>(ipv4: &'a str, ipv6: &'a str) -> Vec<&'a str> {
    const NOWHERE: &str = "00000000000000000000000000000000";
    const REJECT: u32 = 0x200;
    let v4 = ipv4.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [name, "00000000", _, _, _, _, _, "00000000", ..] => Some(*name),
            _ => None,
        }
    });
    let v6 = ipv6.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [NOWHERE, "00", _, _, _, _, _, _, flags, name] => {
                let flags = u32::from_str_radix(flags, 16).unwrap_or(REJECT);
                (flags & REJECT == 0).then_some(*name)
            }
            _ => None,
        }
    });
    let mut names: Vec<&str> = Vec::new();
    for name in v4.chain(v6) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_loopback_interface() {
        let facts = facts().unwrap();
        assert!(facts.interface("lo").is_none_or(InterfaceFacts::is_loopback));
    }

    #[test]
    fn interfaces_of_default_routes_are_found() {
        let ipv4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n\
                    eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    eth1\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let zero = "0".repeat(32);
        let ipv6 = format!(
            "{zero} 00 {zero} 00 {zero} 00000400 00000001 00000000 00000003 wg0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n"
        );
        assert_eq!(default_routes(ipv4, &ipv6), ["eth0", "wg0"]);
        assert_eq!(default_routes("", "odd"), [""; 0]);
    }
}
