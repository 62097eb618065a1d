//! What stands between client and server, and how it is made.

use std::fs;
use std::path::Path;

use pf_load::lab::{
    ATTACKER, CLIENT, Lab, Place, SERVER, Setup, add_routes, checked, prepare_namespaces,
};
use pf_load::netns;
use serde::Serialize;

use crate::place::{self, at};

/// The namespace in which the kernel forwards.
const ROUTER: Place = Place { namespace: "router", interface: "r0", number: 0 };
/// Half-open connections at which the adaptive mode of [`Middle::Flood`] begins, see its rules.
pub const FLOOD_MARK: u64 = 10_000;

/// What stands in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Middle {
    /// The kernel forwards, without any rule.
    Plain,
    /// `pfd`; syncookies are off.
    Calm,
    /// `pfd` answers every SYN with a cookie, those to ports that it does not know included.
    Always,
    /// `pfd` with cookies always on, which asks ports that it does not know, as it does unless
    /// told otherwise. Every connection to a known port is one of [`Middle::Always`].
    Probing,
    /// `pfd` with adaptive syncookies, to be flooded.
    Flood,
    /// `pfd` answers every SYN with a cookie, in everything as OpenBSD does.
    Classic,
    /// Linux SYNPROXY with timestamps, which lets it keep window scale and SACK.
    Synproxy,
    /// Linux SYNPROXY without timestamps.
    SynproxyBare,
}

impl Middle {
    /// All that connections differ behind, the reference first.
    pub const ALL: [Self; 7] = [
        Self::Plain,
        Self::Calm,
        Self::Always,
        Self::Flood,
        Self::Classic,
        Self::Synproxy,
        Self::SynproxyBare,
    ];

    /// For the head of a column.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Calm => "pf calm",
            Self::Always => "pf always",
            Self::Probing => "pf probing",
            Self::Flood => "pf flood",
            Self::Classic => "pf classic",
            Self::Synproxy => "SYNPROXY ts",
            Self::SynproxyBare => "SYNPROXY",
        }
    }

    /// Whether it is `pfd`.
    #[must_use]
    pub const fn is_pf(self) -> bool {
        matches!(self, Self::Calm | Self::Always | Self::Probing | Self::Flood | Self::Classic)
    }

    /// Whether it answers SYNs in the server's place.
    #[must_use]
    pub const fn answers(self) -> bool {
        !matches!(self, Self::Plain | Self::Calm)
    }

    /// Options of pf.conf; rules come behind them.
    #[must_use]
    pub fn pf_options(self) -> String {
        let cookies = match self {
            Self::Always => "set syncookies always (no-probe)\n",
            Self::Probing => "set syncookies always\n",
            Self::Flood => "set syncookies adaptive (start 2%, end 1%)\n",
            Self::Classic => "set syncookies always (classic)\n",
            Self::Plain | Self::Calm | Self::Synproxy | Self::SynproxyBare => "",
        };
        // 2 % of it are FLOOD_MARK; and 50,000 finished connections are to fit in.
        format!("set limit states 500000\n{cookies}")
    }

    /// nftables of the router.
    fn nft(self) -> Option<String> {
        let options = match self {
            // What has to be said by hand fits the server as it usually is here.
            Self::Synproxy => "mss 1460 wscale 7 timestamp sack-perm",
            Self::SynproxyBare => "mss 1460 wscale 7 sack-perm",
            _ => return None,
        };
        Some(format!(
            "table inet guard {{\n\
             chain before {{ type filter hook prerouting priority raw; policy accept;\n\
             iifname != \"r3\" tcp flags & (fin|syn|rst|ack) == syn notrack\n}}\n\
             chain forward {{ type filter hook forward priority filter; policy accept;\n\
             iifname != \"r3\" ct state invalid,untracked meta l4proto tcp synproxy {options}\n\
             ct state invalid drop\n}}\n}}\n"
        ))
    }
}

/// Something in the middle, running.
#[derive(Debug)]
pub struct Stand {
    /// What it is.
    pub middle: Middle,
    lab: Option<Lab>,
}

/// How to make a [`Stand`].
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// What is to stand in the middle.
    pub middle: Middle,
    /// Rules of `pfd`, behind its options.
    pub rules: &'a str,
    /// How `pfd` drives its devices: `auto` or `plain`.
    pub backend: &'a str,
    /// More lines for the head of pfd.toml.
    pub extra: &'a str,
}

impl Plan<'_> {
    /// The usual one.
    #[must_use]
    pub const fn new(middle: Middle) -> Self {
        Self { middle, rules: "pass\n", backend: "auto", extra: "" }
    }

    /// Makes it; the one before must be gone. Needs a settled [sandbox](pf_load::lab::sandbox).
    ///
    /// # Errors
    ///
    /// When a program is missing, rules do not load or the kernel lacks a module.
    pub fn start(&self) -> Result<Stand, String> {
        let mut stand = Stand { middle: self.middle, lab: None };
        if self.middle.is_pf() {
            let rules = format!("{}{}", self.middle.pf_options(), self.rules);
            let setup = Setup {
                rules: &rules,
                backend: self.backend,
                extra: self.extra,
                ..Setup::default()
            };
            stand.lab = Some(Lab::start(&setup)?);
        } else {
            prepare_namespaces()?;
            start_router(self.middle)?;
        }
        // A second address of the server, to see whom a flood on the first one concerns; and
        // packets that the server itself has sent show it by their TTL.
        checked("ip", ["-n", SERVER.namespace, "addr", "replace", "10.77.3.3/32", "dev", "lo"])?;
        place::set(SERVER, &[("ipv4/ip_default_ttl", "99"), ("ipv4/tcp_rmem", SHIFT_7)])?;
        // Ends that differ: what is mixed up shows.
        place::set(CLIENT, &[("ipv4/tcp_rmem", SHIFT_10)])?;
        Ok(stand)
    }
}

/// Receive buffers (`net.ipv4.tcp_rmem`) for which the kernel announces a window scale of 7.
pub const SHIFT_7: &str = "4096 131072 6291456";
/// As [`SHIFT_7`], of 10.
pub const SHIFT_10: &str = "4096 131072 33554432";

/// TTL of what the server has sent, when the client sees it: one router is in between.
pub const TTL_OF_SERVER: u8 = 98;
/// The server's second address.
pub const SECOND_ADDRESS: &str = "10.77.3.3";

impl Stand {
    /// The lab, where `pfd` stands in the middle.
    #[must_use]
    pub const fn lab(&self) -> Option<&Lab> {
        self.lab.as_ref()
    }

    /// As [`Stand::lab`], for those who can change it.
    pub const fn lab_mut(&mut self) -> Option<&mut Lab> {
        self.lab.as_mut()
    }

    /// Where packets of the attacker go on Ethernet; TUN devices need nothing.
    #[must_use]
    pub const fn next_hop(&self) -> Option<[u8; 6]> {
        if self.lab.is_some() { None } else { Some([2, 0, 0, 0, 0, ATTACKER.number]) }
    }

    /// Cookies sent and accepted so far.
    ///
    /// # Errors
    ///
    /// When the daemon does not answer.
    pub fn cookies(&self) -> Result<(u64, u64), String> {
        match &self.lab {
            Some(lab) => {
                let info = lab.info()?;
                Ok((info.cookies_sent(), info.cookies_validated()))
            }
            None if self.middle == Middle::Plain => Ok((0, 0)),
            None => Ok((synproxy("syn_received")?, synproxy("cookie_valid")?)),
        }
    }

    /// Answers to cookies that were counted as wrong so far.
    ///
    /// # Errors
    ///
    /// When the daemon does not answer.
    pub fn refused(&self) -> Result<u64, String> {
        match &self.lab {
            Some(lab) => Ok(lab.info()?.get("Syncookies", "cookie_invalid")),
            None => synproxy("cookie_invalid"),
        }
    }
}

/// A number of SYNPROXY since its namespace was made.
fn synproxy(name: &str) -> Result<u64, String> {
    at(ROUTER, || {
        let path = "/proc/thread-self/net/stat/synproxy";
        let text = fs::read_to_string(path).map_err(place::named(path))?;
        Ok(column(&text, name))
    })
}

impl Drop for Stand {
    fn drop(&mut self) {
        drop(self.lab.take());
        // The next one begins with nothing: a server would otherwise remember connections for a
        // minute, and what it remembers of a connection is what the firewall made of it.
        for place in [CLIENT, ATTACKER, SERVER, ROUTER] {
            if netns::path(place.namespace).exists() {
                // One end of a pair takes the other with it at once, a namespace some time later.
                let _ = checked("ip", ["-n", place.namespace, "link", "del", place.interface]);
                let _ = checked("ip", ["netns", "del", place.namespace]);
            }
        }
    }
}

/// Sum of a column over all processors; the table is hexadecimal.
fn column(table: &str, name: &str) -> u64 {
    let mut lines = table.lines();
    let at = lines.next().and_then(|head| head.split_whitespace().position(|word| word == name));
    let Some(at) = at else { return 0 };
    lines.filter_map(|line| u64::from_str_radix(line.split_whitespace().nth(at)?, 16).ok()).sum()
}

/// A namespace that forwards, with a pair of devices to each place; the ends there have the names
/// that the devices of `pfd` have.
fn start_router(middle: Middle) -> Result<(), String> {
    let router = ROUTER.namespace;
    checked("ip", ["netns", "add", router])?;
    checked("ip", ["-n", router, "link", "set", "lo", "up"])?;
    place::set(ROUTER, &[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
    for place in [CLIENT, ATTACKER, SERVER] {
        let Place { namespace, interface, number } = place;
        let near = format!("r{number}");
        let mac = format!("02:00:00:00:00:{number:02x}");
        ip(&format!(
            "link add {near} netns {router} address {mac} type veth peer name {interface} netns {namespace}"
        ))?;
        ip(&format!("-n {router} addr add {}/24 dev {near}", place.router_v4()))?;
        ip(&format!("-n {router} addr add {}/64 dev {near} nodad", place.router_v6()))?;
        ip(&format!("-n {namespace} addr add {}/24 dev {interface}", place.v4()))?;
        ip(&format!("-n {namespace} addr add {}/64 dev {interface} nodad", place.v6()))?;
        ip(&format!("-n {router} link set {near} up"))?;
        ip(&format!("-n {namespace} link set {interface} up"))?;
        // Addresses behind the place's own one, as `add_routes` makes them local there.
        ip(&format!("-n {router} route add 10.77.{number}.64/26 via {}", place.v4()))?;
        ip(&format!("-n {router} route add 10.77.{number}.128/25 via {}", place.v4()))?;
        ip(&format!("-n {router} route add fd77:{number}::1:0/112 via {}", place.v6()))?;
        ip(&format!("-n {router} route add fd77:{number}::2:0/112 via {}", place.v6()))?;
    }
    add_routes(&[CLIENT, ATTACKER, SERVER])?;
    for place in [CLIENT, ATTACKER, SERVER] {
        let Place { namespace, interface, .. } = place;
        let v4 = place.router_v4();
        ip(&format!("-n {namespace} route replace default via {v4} dev {interface}"))?;
        let v6 = place.router_v6();
        ip(&format!("-n {namespace} -6 route replace default via {v6} dev {interface}"))?;
    }
    ip(&format!("-n {router} route add default via {}", ATTACKER.v4()))?;
    ip(&format!("-n {router} -6 route add default via {}", ATTACKER.v6()))?;
    ip(&format!("-n {router} route add {SECOND_ADDRESS} via {}", SERVER.v4()))?;
    let Some(nft) = middle.nft() else { return Ok(()) };
    let file = Path::new("/run/lab/router.nft");
    fs::write(file, nft).map_err(place::named("router.nft"))?;
    let net = format!("--net={}", netns::path(router).display());
    checked("nsenter", [net.as_str(), "nft", "-f", "/run/lab/router.nft"])?;
    // A stray ACK must count as invalid, not as a connection that began unseen.
    place::set(ROUTER, &[("netfilter/nf_conntrack_tcp_loose", "0")])
}

fn ip(arguments: &str) -> Result<(), String> {
    checked("ip", arguments.split_whitespace()).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_added_up() {
        let table = "entries\t\tsyn_received\tcookie_invalid\tcookie_valid\n\
                     00000000\t0000000a\t00000001\t00000002\n\
                     00000000\t00000010\t00000000\t00000003\n";
        assert_eq!((column(table, "syn_received"), column(table, "cookie_valid")), (26, 5));
        assert_eq!(column(table, "conn_reopened"), 0);
    }
}
