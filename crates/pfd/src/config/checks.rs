//! Checks that need more than one value of the file.

use core::net::IpAddr;
use core::ops::Range;
use std::collections::BTreeMap;

use pfapi::addr::{Af, Prefix};
use pfapi::facts::InterfaceAddress;

use super::{Config, Interface, MTU_MIN_V6, Report};

/// Where values stand in the file, parallel to the lists of [`Config`].
#[derive(Default)]
pub(super) struct Located {
    pub interfaces: Vec<InterfacePlaces>,
    pub routes: Vec<RoutePlaces>,
}

#[derive(Default)]
pub(super) struct InterfacePlaces {
    pub name: Range<usize>,
    pub mtu: Range<usize>,
    pub addresses: Vec<Range<usize>>,
    pub peers: Vec<Range<usize>>,
}

pub(super) struct RoutePlaces {
    pub to: Range<usize>,
    pub via: Range<usize>,
}

/// Whether an interface may have this address in this network.
pub(super) fn host_address(addr: IpAddr, network: Prefix) -> Result<(), String> {
    let unusable = match addr {
        IpAddr::V4(v4) => {
            v4.is_multicast() || v4.is_loopback() || v4.octets()[0] == 0 || v4.octets()[0] >= 240
        }
        IpAddr::V6(v6) => v6.is_multicast() || v6.is_loopback() || v6.is_unspecified(),
    };
    if unusable {
        return Err(format!("{addr} is no unicast address; choose one of a host"));
    }
    // A /31 and a /32 have neither a network nor a broadcast address (RFC 3021).
    if network.af() == Af::Inet && network.len() < 31 {
        if addr == network.addr() {
            return Err(format!("{addr} is the network {network} itself; choose an address in it"));
        }
        if Some(addr) == broadcast(network) {
            return Err(format!("{addr} is the broadcast address of {network}; choose another"));
        }
    }
    Ok(())
}

/// The broadcast address of an IPv4 network that has one.
pub(crate) fn broadcast(network: Prefix) -> Option<IpAddr> {
    match network.addr() {
        IpAddr::V4(v4) if network.len() < 31 => {
            Some(IpAddr::V4((v4.to_bits() | (u32::MAX >> network.len())).into()))
        }
        _ => None,
    }
}

/// Reports what is wrong between values.
pub(super) fn cross_check(config: &Config, located: &Located, report: &mut Report<'_>) {
    if config.interfaces.len() > usize::from(u16::MAX) {
        report.add(&(0..0), "interface", "there are too many interfaces");
    }
    check_names(config, located, report);
    check_addresses(config, located, report);
    for (interface, places) in config.interfaces.iter().zip(&located.interfaces) {
        check_mtu(interface, places, report);
        check_peers(interface, places, report);
    }
    check_routes(config, located, report);
}

fn check_names(config: &Config, located: &Located, report: &mut Report<'_>) {
    for (at, interface) in config.interfaces.iter().enumerate() {
        let name = &interface.name;
        let place = &located.interfaces[at].name;
        if !name.is_empty() && config.interfaces[..at].iter().any(|other| other.name == *name) {
            report.add(place, "interface.name", format!("{name:?} is used twice; choose another"));
        }
        if config.interfaces.iter().any(|other| other.groups.contains(name)) {
            report.add(place, "interface.name", format!("{name:?} is also a group; rename one"));
        }
    }
}

fn check_mtu(interface: &Interface, places: &InterfacePlaces, report: &mut Report<'_>) {
    let has_v6 = interface.addresses.iter().any(|own| own.addr.is_ipv6());
    if has_v6 && interface.mtu < MTU_MIN_V6 {
        report.add(
            &places.mtu,
            "interface.mtu",
            format!("{} is below {MTU_MIN_V6}, which IPv6 needs; raise it", interface.mtu),
        );
    }
}

fn check_peers(interface: &Interface, places: &InterfacePlaces, report: &mut Report<'_>) {
    for (peer, place) in interface.peers.iter().zip(&places.peers) {
        let addr = peer.addr;
        if interface.addresses.iter().any(|own| own.addr == addr) {
            let text = format!("{addr} is the router's own address; give the other end another");
            report.add(place, "interface.peer", text);
        } else if !interface.addresses.iter().any(|own| own.network().contains(addr)) {
            let text = format!("{addr} is in no network of this interface; choose one that is");
            report.add(place, "interface.peer", text);
        }
    }
}

/// Own addresses are unique, and networks of different interfaces do not overlap.
fn check_addresses(config: &Config, located: &Located, report: &mut Report<'_>) {
    let mut seen: Vec<(usize, InterfaceAddress)> = Vec::new();
    for (at, interface) in config.interfaces.iter().enumerate() {
        for (own, place) in interface.addresses.iter().zip(&located.interfaces[at].addresses) {
            let network = own.network();
            for &(other_at, other) in &seen {
                let name = &config.interfaces[other_at].name;
                if other.addr == own.addr {
                    let text = format!("{} is already an address of {name}; remove one", own.addr);
                    report.add(place, "interface.address", text);
                    break;
                }
                if other_at != at && overlap(network, other.network()) {
                    let text = format!(
                        "{network} overlaps {} of {name}; give each interface a network of its own",
                        other.network()
                    );
                    report.add(place, "interface.address", text);
                    break;
                }
            }
            seen.push((at, *own));
        }
    }
}

fn overlap(a: Prefix, b: Prefix) -> bool {
    a.contains(b.addr()) || b.contains(a.addr())
}

fn check_routes(config: &Config, located: &Located, report: &mut Report<'_>) {
    let mut taken: BTreeMap<Prefix, String> = BTreeMap::new();
    for interface in &config.interfaces {
        for own in &interface.addresses {
            taken.insert(own.network(), format!("a network of {}", interface.name));
        }
    }
    for (route, places) in config.routes.iter().zip(&located.routes) {
        let interface = &config.interfaces[usize::from(route.dev.0)];
        if let Some(what) = taken.get(&route.to) {
            let text = format!("{} is already {what}; remove one", route.to);
            report.add(&places.to, "route.to", text);
        }
        taken.insert(route.to, format!("routed to {}", interface.name));
        let Some(via) = route.via else { continue };
        let name = &interface.name;
        let text = if Af::of(via) != route.to.af() {
            format!("{via} and {} are of different families; use one family", route.to)
        } else if config.interfaces.iter().any(|i| i.addresses.iter().any(|own| own.addr == via)) {
            format!("{via} is the router's own address; name the other end or remove the key")
        } else if !interface.addresses.iter().any(|own| own.network().contains(via)) {
            format!("{via} cannot be reached: it is in no network of {name}; use one that is")
        } else {
            continue;
        };
        report.add(&places.via, "route.via", text);
    }
}
