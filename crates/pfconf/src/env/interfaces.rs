//! `interfaces.txt`: one interface per line,
//! `NAME index N flags F,F [groups G,G] mtu N [baud N]`, then in the system's order
//! `inet A/LEN [peer B]` and `inet6 A/LEN`.

use std::net::IpAddr;

use pfapi::addr::Af;
use pfapi::check::INTERFACE_NAME_MAX;
use pfapi::facts::{Facts, InterfaceAddress, InterfaceFacts, InterfaceFlag, InterfaceFlags};

use super::line::{FixtureError, for_each_line, number, quoted};

/// Interfaces in the order of their lines.
///
/// # Errors
/// The first line that is not understood.
pub fn interfaces(file: &str, text: &str) -> Result<Facts, FixtureError> {
    let mut facts = Facts::default();
    for_each_line(file, text, |words| {
        let interface = interface(words)?;
        if facts.interface(&interface.name).is_some() {
            return Err(format!("interface {} stands here a second time", quoted(words[0])));
        }
        facts.interfaces.push(interface);
        Ok(())
    })?;
    Ok(facts)
}

fn interface(words: &[&str]) -> Result<InterfaceFacts, String> {
    let (name, mut rest) = words.split_first().ok_or("empty line")?;
    if name.len() > INTERFACE_NAME_MAX || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(format!("{} is no name of an interface", quoted(name)));
    }
    let mut found = InterfaceFacts::new(name);
    let mut missing = vec!["index", "flags", "mtu"];
    while let [key, after @ ..] = rest {
        let Some((value, after)) = after.split_first() else {
            return Err(format!("nothing behind {}", quoted(key)));
        };
        rest = after;
        match *key {
            "index" => drop(number::<u32>(value, "index")?),
            "mtu" => found.mtu = number(value, "mtu")?,
            "baud" => found.baud = Some(number(value, "baud")?),
            "flags" => found.flags = flags(value)?,
            "groups" => found.groups = value.split(',').map(str::to_owned).collect(),
            "inet" => found.addresses.push(address(value, Af::Inet)?),
            "inet6" => found.addresses.push(address(value, Af::Inet6)?),
            "peer" => peer(value, found.addresses.last_mut())?,
            _ => {
                return Err(format!(
                    "{} is none of index, flags, groups, mtu, baud, inet, inet6, peer",
                    quoted(key)
                ));
            }
        }
        missing.retain(|wanted| wanted != key);
    }
    match missing.first() {
        Some(key) => Err(format!("interface {} has no {key}", quoted(name))),
        None => Ok(found),
    }
}

fn flags(words: &str) -> Result<InterfaceFlags, String> {
    let flag = |word: &str| {
        let known = InterfaceFlag::ALL.into_iter().find(|flag| flag.word() == word);
        known.ok_or_else(|| {
            let all = InterfaceFlag::ALL.map(InterfaceFlag::word).join(", ");
            format!("flag {} is none of {all}", quoted(word))
        })
    };
    words.split(',').map(flag).collect()
}

fn address(word: &str, af: Af) -> Result<InterfaceAddress, String> {
    let parsed = word.split_once('/').and_then(|(addr, len)| {
        let addr: IpAddr = addr.parse().ok()?;
        let len: u8 = len.parse().ok()?;
        (Af::of(addr) == af && len <= af.bits()).then(|| InterfaceAddress::new(addr, len))
    });
    parsed.ok_or_else(|| {
        let family = if af == Af::Inet { "IPv4" } else { "IPv6" };
        format!("{} is no {family} address with its length, as in A/LEN", quoted(word))
    })
}

fn peer(word: &str, of: Option<&mut InterfaceAddress>) -> Result<(), String> {
    let own = of.ok_or("peer stands in front of every address")?;
    let peer: IpAddr = word.parse().map_err(|_| format!("peer {} is no address", quoted(word)))?;
    if Af::of(peer) != Af::of(own.addr) {
        return Err(format!("peer {} is not of the family of its address", quoted(word)));
    }
    own.peer = Some(peer);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_interfaces_in_their_order() {
        let text = "# machine\n\
            lo0 index 1 flags UP,LOOPBACK groups lo mtu 32768 inet6 ::1/128 inet 127.0.0.1/8\n\
            \n\
            tun0 index 2 flags UP,POINTOPOINT mtu 1400 baud 1000 inet 192.0.2.1/32 peer 192.0.2.2\n";
        let facts = interfaces("interfaces.txt", text).unwrap();
        let [lo0, tun0] = facts.interfaces.as_slice() else { panic!("{facts:?}") };
        assert!(lo0.is_loopback());
        assert_eq!(lo0.groups, ["lo"]);
        assert_eq!((lo0.mtu, lo0.baud), (32768, None));
        let addresses: Vec<_> = lo0.addresses.iter().map(|own| own.addr.to_string()).collect();
        assert_eq!(addresses, ["::1", "127.0.0.1"]);
        assert_eq!((tun0.mtu, tun0.baud), (1400, Some(1000)));
        assert!(tun0.flags.has(InterfaceFlag::PointToPoint));
        assert_eq!(tun0.addresses[0].peer, Some("192.0.2.2".parse().unwrap()));
    }

    #[test]
    fn mistakes_name_their_line() {
        for (line, text) in [
            ("7up index 1 flags UP mtu 1500", "'7up' is no name of an interface"),
            ("em0 flags UP mtu 1500", "interface 'em0' has no index"),
            ("em0 index 1 mtu 1500", "interface 'em0' has no flags"),
            ("em0 index 1 flags UP", "interface 'em0' has no mtu"),
            ("em0 index x flags UP mtu 1500", "index 'x' is no number in range"),
            ("em0 index 1 flags UP mtu -1", "mtu '-1' is no number in range"),
            ("em0 index 1 flags UP mtu", "nothing behind 'mtu'"),
            (
                "em0 index 1 flags up mtu 1",
                "flag 'up' is none of UP, BROADCAST, LOOPBACK, \
              POINTOPOINT, RUNNING, MULTICAST, LINK1",
            ),
            (
                "em0 index 1 flags UP mtu 1 colour red",
                "'colour' is none of index, flags, groups, \
              mtu, baud, inet, inet6, peer",
            ),
            (
                "em0 index 1 flags UP mtu 1 inet 192.0.2.1",
                "'192.0.2.1' is no IPv4 address with \
              its length, as in A/LEN",
            ),
            (
                "em0 index 1 flags UP mtu 1 inet6 ::1/129",
                "'::1/129' is no IPv6 address with its \
              length, as in A/LEN",
            ),
            ("em0 index 1 flags UP mtu 1 peer 192.0.2.1", "peer stands in front of every address"),
            ("em0 index 1 flags UP mtu 1 inet 192.0.2.1/32 peer x", "peer 'x' is no address"),
            (
                "em0 index 1 flags UP mtu 1 inet 192.0.2.1/32 peer ::1",
                "peer '::1' is not of the \
              family of its address",
            ),
            ("lo0 index 1 flags UP mtu 1", "interface 'lo0' stands here a second time"),
        ] {
            let file = format!("lo0 index 1 flags UP mtu 1\n# next\n{line}\n");
            let error = interfaces("interfaces.txt", &file).unwrap_err();
            assert_eq!(error.to_string(), format!("interfaces.txt:3: {text}"));
        }
    }
}
