//! `-k`.
//!
//! Source: OpenBSD sbin/pfctl/pfctl.c `pfctl_net_kill_states`, `pfctl_label_kill_states`,
//! `pfctl_id_kill_states`, `pfctl_key_kill_states`.

use std::net::{IpAddr, SocketAddr};

use pfapi::addr::Prefix;
use pfapi::control::{KillFilter, Request, Response};
use pfapi::facts::Facts;

use crate::error::Error;
use crate::flags::classic::Names;
use crate::hosts::{self, Context};
use crate::session::Session;
use crate::show::names::protocol_number;

/// Kills the states that the one or two `-k` choose.
///
/// # Errors
/// Wrong arguments, the connection's and the daemon's refusals.
pub fn kill(session: &mut Session<'_, '_>) -> Result<(), Error> {
    let flags = session.flags;
    let (first, second) = match flags.kill.as_slice() {
        [first, second] => (first.as_str(), Some(second.as_str())),
        [first, ..] => (first.as_str(), None),
        [] => return Ok(()),
    };
    let lookup = flags.names != Names::Never;
    let filter = filter(first, second, flags.interface.as_deref(), lookup)?;
    let hosts = match &filter {
        KillFilter::Hosts { sources, destinations, .. } => {
            Some((sources.len(), destinations.len()))
        }
        _ => None,
    };
    let count = match session.call(&Request::KillStates { filter })? {
        Response::Count { count } => count,
        other => return Err(Error::from_answer(other, "kill")),
    };
    match hosts {
        Some((sources, destinations)) => session.tell(format_args!(
            "killed {count} states from {sources} sources and {destinations} destinations"
        )),
        None => session.tell(format_args!("killed {count} states")),
    }
    Ok(())
}

/// Removes the source nodes that the one or two `-K` choose: by source, and by the address that
/// translation gave them. Source: OpenBSD sbin/pfctl/pfctl.c `pfctl_kill_src_nodes`.
///
/// # Errors
/// Wrong arguments, the connection's and the daemon's refusals.
pub fn kill_sources(session: &mut Session<'_, '_>) -> Result<(), Error> {
    let flags = session.flags;
    let lookup = flags.names != Names::Never;
    let mut hosts = flags.kill_sources.iter().map(|host| networks(host, lookup));
    let sources = hosts.next().transpose()?.unwrap_or_default();
    let destinations = hosts.next().transpose()?.unwrap_or_default();
    let (from, to) = (sources.len(), destinations.len());
    let count = match session.call(&Request::KillSources { sources, destinations })? {
        Response::Count { count } => count,
        other => return Err(Error::from_answer(other, "kill")),
    };
    session
        .tell(format_args!("killed {count} src nodes from {from} sources and {to} destinations"));
    Ok(())
}

fn filter(
    first: &str,
    second: Option<&str>,
    interface: Option<&str>,
    lookup: bool,
) -> Result<KillFilter, Error> {
    let missing = |what: &str| Error::Usage(format!("no {what} specified"));
    let second = second.filter(|text| !text.is_empty());
    match first {
        "label" => {
            Ok(KillFilter::Label { label: second.ok_or_else(|| missing("label"))?.to_owned() })
        }
        "id" => state_id(second.ok_or_else(|| missing("id"))?),
        "key" => state_key(second.ok_or_else(|| missing("key"))?),
        host => Ok(KillFilter::Hosts {
            sources: networks(host, lookup)?,
            destinations: second.map_or(Ok(Vec::new()), |host| networks(host, lookup))?,
            interface: interface.map(str::to_owned),
        }),
    }
}

fn networks(host: &str, lookup: bool) -> Result<Vec<Prefix>, Error> {
    // Interface names mean nothing here: pfctl asks the resolver alone.
    hosts::prefixes(host, &Context { facts: &Facts::default(), lookup })
        .map_err(|error| Error::Plain(error.to_string()))
}

/// `ID` or `ID/CREATOR`, both in hex.
fn state_id(text: &str) -> Result<KillFilter, Error> {
    let wrong = || Error::Usage("wrong id format specified".to_owned());
    let (id, creator) =
        text.split_once('/').map_or((text, None), |(id, creator)| (id, Some(creator)));
    let hex = |text: &str| {
        let text = text.strip_prefix("0x").unwrap_or(text);
        u64::from_str_radix(text, 16).map_err(|_| wrong())
    };
    let id = hex(id)?;
    let creator = creator.map(hex).transpose()?;
    let creator = creator.map(u32::try_from).transpose().map_err(|_| wrong())?;
    if id == 0 {
        return Err(Error::Usage("cannot kill id 0".to_owned()));
    }
    Ok(KillFilter::Id { id, creator })
}

/// `PROTO A:PORT -> B:PORT`, or the other way round with `<-`.
fn state_key(text: &str) -> Result<KillFilter, Error> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [proto, left, arrow, right] = words.as_slice() else {
        return Err(Error::Usage("key must be \"protocol host:port -> host:port\"".to_owned()));
    };
    let number =
        protocol_number(proto).ok_or_else(|| Error::Usage(format!("invalid protocol: {proto}")))?;
    let end = |text: &str| {
        parse_end(text).ok_or_else(|| Error::Usage(format!("invalid host and port: {text}")))
    };
    let (source, destination) = match *arrow {
        "->" => (end(left)?, end(right)?),
        "<-" => (end(right)?, end(left)?),
        _ => return Err(Error::Usage(format!("invalid direction: {arrow}"))),
    };
    if source.0.is_ipv4() != destination.0.is_ipv4() {
        return Err(Error::Usage("hosts of a key must be of one address family".to_owned()));
    }
    Ok(KillFilter::Key { proto: number, source, destination })
}

/// `192.0.2.1:80`, `2001:db8::1[80]`, or an address alone for port 0.
fn parse_end(text: &str) -> Option<(IpAddr, u16)> {
    if let Ok(addr) = text.parse::<IpAddr>() {
        return Some((addr, 0));
    }
    if let Some((addr, port)) = text.strip_suffix(']').and_then(|text| text.split_once('[')) {
        return Some((addr.parse().ok()?, port.parse().ok()?));
    }
    let socket: SocketAddr = text.parse().ok()?;
    socket.is_ipv4().then(|| (socket.ip(), socket.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(first: &str, second: Option<&str>) -> Result<KillFilter, String> {
        filter(first, second, None, false).map_err(|error| error.to_string())
    }

    #[test]
    fn forms_of_kill() {
        let net = |text: &str| vec![text.parse::<Prefix>().unwrap()];
        assert_eq!(
            of("192.0.2.1", None),
            Ok(KillFilter::Hosts {
                sources: net("192.0.2.1"),
                destinations: vec![],
                interface: None
            })
        );
        assert_eq!(
            of("0.0.0.0/0", Some("2001:db8::/32")),
            Ok(KillFilter::Hosts {
                sources: net("0.0.0.0/0"),
                destinations: net("2001:db8::/32"),
                interface: None
            })
        );
        assert_eq!(of("label", Some("web")), Ok(KillFilter::Label { label: "web".to_owned() }));
        assert_eq!(
            of("id", Some("65a1b2c300000001/9f8e7d6c")),
            Ok(KillFilter::Id { id: 0x65a1_b2c3_0000_0001, creator: Some(0x9f8e_7d6c) })
        );
        let key = KillFilter::Key {
            proto: 6,
            source: ("192.0.2.1".parse().unwrap(), 4000),
            destination: ("192.0.2.2".parse().unwrap(), 80),
        };
        assert_eq!(of("key", Some("tcp 192.0.2.1:4000 -> 192.0.2.2:80")), Ok(key.clone()));
        assert_eq!(of("key", Some("tcp 192.0.2.2:80 <- 192.0.2.1:4000")), Ok(key));
        assert!(matches!(
            of("key", Some("udp ::1[53] -> 2001:db8::1[5353]")),
            Ok(KillFilter::Key { proto: 17, source: (_, 53), .. })
        ));
    }

    #[test]
    fn wrong_forms_say_what_is_wrong() {
        for (first, second, text) in [
            ("label", None, "no label specified"),
            ("id", Some(""), "no id specified"),
            ("id", Some("xyz"), "wrong id format specified"),
            ("id", Some("1/fffffffff"), "wrong id format specified"),
            ("id", Some("0"), "cannot kill id 0"),
            ("key", None, "no key specified"),
            ("key", Some("tcp a"), "key must be \"protocol host:port -> host:port\""),
            ("key", Some("nope 192.0.2.1:1 -> 192.0.2.2:2"), "invalid protocol: nope"),
            ("key", Some("tcp 192.0.2.1:1 - 192.0.2.2:2"), "invalid direction: -"),
            ("key", Some("tcp 192.0.2.1:x -> 192.0.2.2:2"), "invalid host and port: 192.0.2.1:x"),
            (
                "key",
                Some("tcp 192.0.2.1:1 -> ::1[2]"),
                "hosts of a key must be of one address family",
            ),
            ("192.0.2.1/40", None, "invalid network mask 192.0.2.1/40"),
            ("host.example", None, "no IP address found for host.example"),
        ] {
            assert_eq!(of(first, second), Err(text.to_owned()), "{first} {second:?}");
        }
    }
}
