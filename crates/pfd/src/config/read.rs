//! From TOML to typed values: every key has one reader, unknown keys are mistakes.

use core::net::{IpAddr, SocketAddr};
use core::ops::Range;
use core::str::FromStr;
use std::path::PathBuf;

use pfapi::addr::Prefix;
use pfapi::check::INTERFACE_NAME_MAX;
use pfapi::control::DEFAULT_SOCKET;
use pfapi::facts::InterfaceAddress;
use pfapi::units::IfIndex;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::tun::Backend;

use super::checks::{self, Located};
use super::{Config, Fail, Interface, MTU_DEFAULT, MTU_MIN, Report, Route, SOCKET_PATH_MAX};

type Value<'a, 'i> = &'a Spanned<DeValue<'i>>;

const TOP_KEYS: &str = "ruleset, socket, fail, user, workers, pflog, metrics, \
                        cluster_secret_file, interface, route";
const INTERFACE_KEYS: &str = "name, address, peer, netns, groups, mtu, backend, queues";
const ROUTE_KEYS: &str = "to, dev, via";

/// Reads the whole file. What it gives is only of use when nothing was reported.
pub(super) fn file(text: &str, report: &mut Report<'_>) -> Config {
    let mut config = Config {
        ruleset: PathBuf::from("/etc/pf.conf"),
        socket: PathBuf::from(DEFAULT_SOCKET),
        fail: Fail::default(),
        user: None,
        pflog: None,
        metrics: None,
        cluster_secret_file: None,
        interfaces: Vec::new(),
        routes: Vec::new(),
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let words = error.message().replace('\n', ", ");
        report.add(&error.span().unwrap_or(0..0), "", format!("this is not TOML: {words}"));
    }
    if !errors.is_empty() {
        return config;
    }
    let mut located = Located::default();
    let mut routes = None;
    for (key, value) in table.get_ref() {
        match key.get_ref().as_ref() {
            "ruleset" => read_into(report, "ruleset", value, path, &mut config.ruleset),
            "socket" => read_into(report, "socket", value, socket, &mut config.socket),
            "fail" => read_into(report, "fail", value, fail, &mut config.fail),
            "user" => config.user = read(report, "user", value, user),
            "workers" => {
                read(report, "workers", value, one);
            }
            "interface" => {
                for table in tables(report, "interface", value) {
                    config.interfaces.push(interface(report, table, &mut located));
                }
            }
            "route" => routes = Some(value),
            "pflog" => config.pflog = read(report, "pflog", value, log_file),
            "metrics" => config.metrics = read(report, "metrics", value, socket_address),
            "cluster_secret_file" => {
                config.cluster_secret_file = read(report, "cluster_secret_file", value, path);
            }
            later @ "state_file" => {
                report.add(&key.span(), later, "not supported by this version; remove the line");
            }
            unknown => unknown_key(report, &key.span(), unknown, TOP_KEYS),
        }
    }
    // Routes name interfaces, so they are read last.
    if let Some(value) = routes {
        for table in tables(report, "route", value) {
            if let Some(found) = route(report, table, &config.interfaces, &mut located) {
                config.routes.push(found);
            }
        }
    }
    if config.interfaces.is_empty() {
        report.add(
            &(0..0),
            "interface",
            "there is no interface; add a section [[interface]] with name and address",
        );
    }
    checks::cross_check(&config, &located, report);
    config
}

fn unknown_key(report: &mut Report<'_>, span: &Range<usize>, key: &str, known: &str) {
    report.add(span, key, format!("unknown key; the keys here are {known}"));
}

/// Reads one value; a mistake is reported under `key`.
fn read<T>(
    report: &mut Report<'_>,
    key: &str,
    value: Value<'_, '_>,
    reader: impl Fn(&DeValue<'_>) -> Result<T, String>,
) -> Option<T> {
    reader(value.get_ref()).map_err(|text| report.add(&value.span(), key, text)).ok()
}

fn read_into<T>(
    report: &mut Report<'_>,
    key: &str,
    value: Value<'_, '_>,
    reader: impl Fn(&DeValue<'_>) -> Result<T, String>,
    target: &mut T,
) {
    if let Some(found) = read(report, key, value, reader) {
        *target = found;
    }
}

/// Reads every member of a list, each with its own place.
fn read_list<T>(
    report: &mut Report<'_>,
    key: &str,
    value: Value<'_, '_>,
    reader: impl Fn(&DeValue<'_>) -> Result<T, String>,
) -> Vec<(Range<usize>, T)> {
    let Some(list) = value.get_ref().as_array() else {
        let kind = value.get_ref().type_str();
        report.add(&value.span(), key, format!("expected a list, found {kind}; write [\"…\"]"));
        return Vec::new();
    };
    list.iter().filter_map(|item| Some((item.span(), read(report, key, item, &reader)?))).collect()
}

/// The tables of `[[key]]`.
fn tables<'a, 'i>(
    report: &mut Report<'_>,
    key: &str,
    value: Value<'a, 'i>,
) -> Vec<(Range<usize>, &'a DeTable<'i>)> {
    let Some(list) = value.get_ref().as_array() else {
        report.add(&value.span(), key, format!("expected a section; write [[{key}]]"));
        return Vec::new();
    };
    list.iter()
        .filter_map(|item| {
            let table = item.get_ref().as_table();
            if table.is_none() {
                report.add(&item.span(), key, format!("expected a section; write [[{key}]]"));
            }
            Some((item.span(), table?))
        })
        .collect()
}

fn interface(
    report: &mut Report<'_>,
    (span, table): (Range<usize>, &DeTable<'_>),
    located: &mut Located,
) -> Interface {
    let mut found = Interface {
        name: String::new(),
        addresses: Vec::new(),
        peers: Vec::new(),
        netns: None,
        groups: Vec::new(),
        mtu: MTU_DEFAULT,
        backend: Backend::default(),
    };
    let mut places =
        checks::InterfacePlaces { name: span.clone(), mtu: span.clone(), ..Default::default() };
    let mut named = false;
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "name" => {
                named = true;
                places.name = value.span();
                read_into(report, "interface.name", value, interface_name, &mut found.name);
            }
            "address" => {
                (places.addresses, found.addresses) =
                    read_list(report, "interface.address", value, address).into_iter().unzip();
            }
            "peer" => {
                (places.peers, found.peers) =
                    read_list(report, "interface.peer", value, address).into_iter().unzip();
            }
            "netns" => found.netns = read(report, "interface.netns", value, netns),
            "groups" => {
                let groups = read_list(report, "interface.groups", value, group);
                found.groups = groups.into_iter().map(|(_, group)| group).collect();
            }
            "mtu" => {
                places.mtu = value.span();
                read_into(report, "interface.mtu", value, mtu, &mut found.mtu);
            }
            "backend" => read_into(report, "interface.backend", value, backend, &mut found.backend),
            "queues" => {
                read(report, "interface.queues", value, one);
            }
            unknown => {
                unknown_key(report, &key.span(), &format!("interface.{unknown}"), INTERFACE_KEYS);
            }
        }
    }
    if !named {
        report.add(&span, "interface.name", "missing; add name = \"tun0\"");
    }
    located.interfaces.push(places);
    found
}

fn route(
    report: &mut Report<'_>,
    (span, table): (Range<usize>, &DeTable<'_>),
    interfaces: &[Interface],
    located: &mut Located,
) -> Option<Route> {
    let (mut to, mut dev, mut via) = (None, None, None);
    let mut places = checks::RoutePlaces { to: span.clone(), via: span.clone() };
    let (mut has_to, mut has_dev) = (false, false);
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "to" => {
                has_to = true;
                places.to = value.span();
                to = read(report, "route.to", value, prefix);
            }
            "dev" => {
                has_dev = true;
                dev = read(report, "route.dev", value, |value| device(value, interfaces));
            }
            "via" => {
                places.via = value.span();
                via = read(report, "route.via", value, gateway);
            }
            unknown => unknown_key(report, &key.span(), &format!("route.{unknown}"), ROUTE_KEYS),
        }
    }
    if !has_to {
        report.add(&span, "route.to", "missing; add to = \"0.0.0.0/0\"");
    }
    if !has_dev {
        report.add(&span, "route.dev", "missing; add dev = with the name of an interface");
    }
    let found = Route { to: to?, dev: dev?, via };
    located.routes.push(places);
    Some(found)
}

fn text<'a>(value: &'a DeValue<'_>) -> Result<&'a str, String> {
    value
        .as_str()
        .ok_or_else(|| format!("expected a string, found {}; put it in quotes", value.type_str()))
}

fn number(value: &DeValue<'_>) -> Result<u64, String> {
    let integer = value
        .as_integer()
        .ok_or_else(|| format!("expected a number, found {}", value.type_str()))?;
    u64::from_str_radix(integer.as_str(), integer.radix())
        .map_err(|_| format!("{integer} is no number that fits here"))
}

fn path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    let path = PathBuf::from(text(value)?);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!("{:?} is no absolute path; begin it with /", path.display().to_string()))
    }
}

fn socket_address(value: &DeValue<'_>) -> Result<SocketAddr, String> {
    let written = text(value)?;
    written
        .parse()
        .map_err(|_| format!("{written:?} is no address with a port, such as 127.0.0.1:9617"))
}

fn log_file(value: &DeValue<'_>) -> Result<PathBuf, String> {
    let path = path(value)?;
    if path.file_name().is_none() {
        return Err("the path names no file; write one such as /var/log/pfd/pflog".to_owned());
    }
    Ok(path)
}

fn socket(value: &DeValue<'_>) -> Result<PathBuf, String> {
    let path = path(value)?;
    if path.file_name().is_none() {
        return Err("the path names no file; write one such as /run/pfd/pfd.sock".to_owned());
    }
    let len = path.as_os_str().len();
    if len > SOCKET_PATH_MAX {
        return Err(format!("the path has {len} octets; a socket may have {SOCKET_PATH_MAX}"));
    }
    Ok(path)
}

fn fail(value: &DeValue<'_>) -> Result<Fail, String> {
    match text(value)? {
        "closed" => Ok(Fail::Closed),
        "open" => Ok(Fail::Open),
        other => Err(format!("{other:?} is neither \"closed\" nor \"open\"")),
    }
}

fn user(value: &DeValue<'_>) -> Result<String, String> {
    let name = text(value)?;
    if name.is_empty() || name.contains(['\0', ':', '/']) {
        return Err(format!("{name:?} is no user name"));
    }
    Ok(name.to_owned())
}

/// A number of workers or queues: this version has one of each.
fn one(value: &DeValue<'_>) -> Result<(), String> {
    match number(value)? {
        0 | 1 => Ok(()),
        more => Err(format!("{more} is not supported by this version; write 0 or 1")),
    }
}

fn mtu(value: &DeValue<'_>) -> Result<u16, String> {
    let number = number(value)?;
    u16::try_from(number)
        .ok()
        .filter(|&mtu| mtu >= MTU_MIN)
        .ok_or_else(|| format!("{number} is outside {MTU_MIN} to {}", u16::MAX))
}

fn backend(value: &DeValue<'_>) -> Result<Backend, String> {
    match text(value)? {
        "auto" => Ok(Backend::Auto),
        "offload" => Ok(Backend::Offload),
        "plain" => Ok(Backend::Plain),
        other => Err(format!("{other:?} is none of \"auto\", \"offload\", \"plain\"")),
    }
}

fn interface_name(value: &DeValue<'_>) -> Result<String, String> {
    let name = text(value)?;
    // `lo` is in every namespace already; the others mean something in rules or file names.
    if matches!(name, "all" | "any" | "lo" | "self" | "tun" | "." | "..") {
        return Err(format!("{name:?} has a meaning of its own; choose another, such as tun0"));
    }
    device_name(name)
}

fn group(value: &DeValue<'_>) -> Result<String, String> {
    let name = text(value)?;
    if name.ends_with(|last: char| last.is_ascii_digit()) {
        return Err(format!("group {name:?} must not end in a digit, as interfaces do"));
    }
    device_name(name)
}

fn device_name(name: &str) -> Result<String, String> {
    let printable = |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b'/' | b':' | b'%');
    if name.is_empty() || name.len() > INTERFACE_NAME_MAX || !name.bytes().all(printable) {
        return Err(format!(
            "{name:?} must have 1 to {INTERFACE_NAME_MAX} letters, digits, '_', '-' or '.'"
        ));
    }
    Ok(name.to_owned())
}

fn netns(value: &DeValue<'_>) -> Result<String, String> {
    let name = text(value)?;
    if name.starts_with('/') {
        return Ok(name.to_owned());
    }
    if name.is_empty() || matches!(name, "." | "..") || name.contains(['/', '\0']) {
        return Err(format!("{name:?} is neither a name below /run/netns nor an absolute path"));
    }
    Ok(name.to_owned())
}

/// An address with the length of its network's prefix.
fn address(value: &DeValue<'_>) -> Result<InterfaceAddress, String> {
    let written = text(value)?;
    let Some((addr, len)) = written.split_once('/') else {
        return Err(format!("{written:?} lacks its prefix length; write it as {written}/24"));
    };
    let prefix = Prefix::from_str(written).map_err(|error| error.to_string())?;
    let prefix_len = prefix.len();
    let addr: IpAddr = addr.parse().map_err(|_| format!("{addr:?} is no address"))?;
    debug_assert_eq!(len.parse(), Ok(prefix_len));
    checks::host_address(addr, prefix)?;
    Ok(InterfaceAddress::new(addr, prefix_len))
}

fn prefix(value: &DeValue<'_>) -> Result<Prefix, String> {
    let written = text(value)?;
    let prefix = Prefix::from_str(written).map_err(|error| error.to_string())?;
    let addr = written.split('/').next().unwrap_or_default();
    if addr.parse() != Ok(prefix.addr()) {
        return Err(format!("{written} has bits behind its prefix; write {prefix}"));
    }
    Ok(prefix)
}

fn device(value: &DeValue<'_>, interfaces: &[Interface]) -> Result<IfIndex, String> {
    let name = text(value)?;
    let position = interfaces.iter().position(|interface| interface.name == name);
    position.and_then(|position| u16::try_from(position).ok()).map(IfIndex).ok_or_else(|| {
        let mut known: Vec<_> =
            interfaces.iter().map(|other| other.name.as_str()).filter(|n| !n.is_empty()).collect();
        known.dedup();
        format!("there is no interface {name:?}; there are {}", known.join(", "))
    })
}

fn gateway(value: &DeValue<'_>) -> Result<IpAddr, String> {
    let written = text(value)?;
    written.parse().map_err(|_| format!("{written:?} is no address"))
}
