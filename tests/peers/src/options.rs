//! Which options of TCP a connection ends up with.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use pf_load::lab::{CLIENT, Place, SERVER};
use serde::Serialize;

use crate::middle::{Middle, Plan, SHIFT_10, Stand};
use crate::pair::{Call, Seen, listen, listen_as, observe_at};
use crate::place;
use crate::requests::Flood;

/// A client and a server that differ from what is usual.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// In words.
    pub name: &'static str,
    v6: bool,
    client: &'static [(&'static str, &'static str)],
    server: &'static [(&'static str, &'static str)],
    client_mss: Option<u16>,
    server_mss: Option<u16>,
    client_clamp: Option<u16>,
    server_clamp: Option<u16>,
    translated: Option<Translation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Translation {
    Rdr,
    Nat,
}

const USUAL: Case = Case {
    name: "usual",
    v6: false,
    client: &[],
    server: &[],
    client_mss: None,
    server_mss: None,
    client_clamp: None,
    server_clamp: None,
    translated: None,
};

const TIMESTAMPS: &str = "ipv4/tcp_timestamps";
const SACK: &str = "ipv4/tcp_sack";
const WSCALE: &str = "ipv4/tcp_window_scaling";
const ECN: &str = "ipv4/tcp_ecn";
const RMEM: &str = "ipv4/tcp_rmem";
/// Settings that cases change.
const SETTINGS: [&str; 5] = [TIMESTAMPS, SACK, WSCALE, ECN, RMEM];

/// All cases.
pub const CASES: &[Case] = &[
    USUAL,
    Case { name: "IPv6", v6: true, ..USUAL },
    Case { name: "client without timestamps", client: &[(TIMESTAMPS, "0")], ..USUAL },
    Case { name: "client without SACK", client: &[(SACK, "0")], ..USUAL },
    Case { name: "client without window scale", client: &[(WSCALE, "0")], ..USUAL },
    Case {
        name: "client without any of the three",
        client: &[(TIMESTAMPS, "0"), (SACK, "0"), (WSCALE, "0")],
        ..USUAL
    },
    Case { name: "client's shift 0", client_clamp: Some(60_000), ..USUAL },
    Case {
        name: "client's shift 14, no timestamps",
        client: &[(RMEM, "4096 131072 1073741824"), (TIMESTAMPS, "0")],
        ..USUAL
    },
    Case { name: "ECN", client: &[(ECN, "1")], server: &[(ECN, "1")], ..USUAL },
    Case {
        name: "ECN, client without timestamps",
        client: &[(ECN, "1"), (TIMESTAMPS, "0")],
        server: &[(ECN, "1")],
        ..USUAL
    },
    Case { name: "ECN, server refuses", client: &[(ECN, "1")], server: &[(ECN, "0")], ..USUAL },
    Case { name: "client's MSS 1380", client_mss: Some(1380), ..USUAL },
    Case { name: "client's MSS 1220", client_mss: Some(1220), ..USUAL },
    Case { name: "client's MSS 1333", client_mss: Some(1333), ..USUAL },
    Case { name: "client's MSS 536", client_mss: Some(536), ..USUAL },
    Case { name: "client's MSS 300", client_mss: Some(300), ..USUAL },
    Case { name: "IPv6, client's MSS 1220", v6: true, client_mss: Some(1220), ..USUAL },
    Case { name: "IPv6, client's MSS 1333", v6: true, client_mss: Some(1333), ..USUAL },
    Case {
        name: "client's MSS 1333, no timestamps",
        client_mss: Some(1333),
        client: &[(TIMESTAMPS, "0")],
        ..USUAL
    },
    Case { name: "server without timestamps", server: &[(TIMESTAMPS, "0")], ..USUAL },
    Case { name: "server without SACK", server: &[(SACK, "0")], ..USUAL },
    Case { name: "server without window scale", server: &[(WSCALE, "0")], ..USUAL },
    Case { name: "server's shift 0", server_clamp: Some(60_000), ..USUAL },
    Case { name: "server's shift 10", server: &[(RMEM, SHIFT_10)], ..USUAL },
    Case { name: "server's MSS 1300", server_mss: Some(1300), ..USUAL },
    Case { name: "rdr-to", translated: Some(Translation::Rdr), ..USUAL },
    Case { name: "nat-to", translated: Some(Translation::Nat), ..USUAL },
];

/// SYNs per second of the flood that keeps adaptive cookies on.
const RATE: u64 = 20_000;
/// Rules of `pfd` for all cases.
const RULES: &str = "\
pass
pass in on tun0 proto tcp to 10.77.3.9 port 81 rdr-to 10.77.3.2 port 80
pass out on tun2 proto tcp from 10.77.1.200 nat-to 10.77.3.1
";

/// What was seen of one case with one thing in the middle.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// In the middle.
    pub middle: Middle,
    /// The case.
    pub case: &'static str,
    /// The first connection that this server saw with these settings.
    pub first: Result<Seen, String>,
    /// One after others.
    pub later: Result<Seen, String>,
}

/// Measures all cases with one thing in the middle.
///
/// # Errors
///
/// When the middle cannot be made.
pub fn measure(middle: Middle, cases: &[Case]) -> Result<Vec<Cell>, String> {
    let mut cells = Vec::new();
    let mut running: Option<Scene> = None;
    for &case in cases {
        if case.translated.is_some() && !middle.is_pf() {
            continue;
        }
        // A server that has just become another one is what a firewall that remembers servers has
        // not met yet.
        let scene = match running.take() {
            Some(scene) if !case.changes_server() => scene,
            earlier => {
                drop(earlier);
                Scene::start(middle)?
            }
        };
        cells.push(cell(&scene.stand, case)?);
        running = Some(scene).filter(|_| !case.changes_server());
    }
    Ok(cells)
}

/// What stands in the middle, and its flood; the flood ends first.
struct Scene {
    _flood: Option<Flood>,
    stand: Stand,
}

impl Scene {
    fn start(middle: Middle) -> Result<Self, String> {
        let stand = Plan { rules: RULES, ..Plan::new(middle) }.start()?;
        // Somebody must listen until cookies are on: a server that refuses leaves nothing half open.
        let _listener = listen(USUAL.call().listen)?;
        let flood = (middle == Middle::Flood).then(|| Flood::start(&stand, RATE)).transpose()?;
        Ok(Self { _flood: flood, stand })
    }
}

fn cell(stand: &Stand, case: Case) -> Result<Cell, String> {
    let before = [CLIENT, SERVER].map(|place| {
        let values = SETTINGS.map(|name| Ok((name, place::get(place, name)?)));
        values.into_iter().collect::<Result<Vec<_>, String>>()
    });
    place::set(CLIENT, case.client)?;
    place::set(SERVER, case.server)?;
    let call = case.call();
    let listener = listen_as(&call)?;
    let first = observe_at(&listener, &call);
    let _ = observe_at(&listener, &call);
    thread::sleep(Duration::from_millis(20));
    let later = observe_at(&listener, &call);
    for (place, values) in [CLIENT, SERVER].into_iter().zip(before) {
        restore(place, &values?)?;
    }
    Ok(Cell { middle: stand.middle, case: case.name, first, later })
}

fn restore(place: Place, values: &[(&str, String)]) -> Result<(), String> {
    values.iter().try_for_each(|(name, value)| place::set(place, &[(name, value)]))
}

impl Case {
    /// Whether the firewall is to change addresses, so that plain forwarding cannot do the same.
    #[must_use]
    pub const fn is_translated(&self) -> bool {
        self.translated.is_some()
    }

    const fn changes_server(&self) -> bool {
        !self.server.is_empty() || self.server_mss.is_some() || self.server_clamp.is_some()
    }

    fn call(&self) -> Call {
        let server = if self.v6 { format!("[{}]:80", SERVER.v6()) } else { SERVER.v4() + ":80" };
        let listen: SocketAddr = server.parse().expect("an address of the lab");
        let mut call = Call::to(listen);
        call.client_mss = self.client_mss;
        call.server_mss = self.server_mss;
        (call.client_clamp, call.server_clamp) = (self.client_clamp, self.server_clamp);
        match self.translated {
            Some(Translation::Rdr) => call.to = ([10, 77, 3, 9], 81).into(),
            Some(Translation::Nat) => call.source = Some([10, 77, 1, 200].into()),
            None => {}
        }
        call
    }
}

/// How a connection differs from the one without a firewall, in a few words; empty when in
/// nothing. `c` is what the client holds, `s` the server.
#[must_use]
pub fn difference(reference: &Seen, seen: &Seen) -> String {
    let mut text = String::new();
    for (end, wanted, got) in
        [("c", reference.client, seen.client), ("s", reference.server, seen.server)]
    {
        let mut words = Vec::new();
        if wanted.snd_mss != got.snd_mss {
            words.push(format!("mss {}→{}", wanted.snd_mss, got.snd_mss));
        }
        if scale(&wanted) != scale(&got) {
            words.push(format!("wscale {}→{}", scale(&wanted), scale(&got)));
        }
        for (name, wanted, got) in [
            ("sack", wanted.sack, got.sack),
            ("ts", wanted.timestamps, got.timestamps),
            ("ecn", wanted.ecn, got.ecn),
        ] {
            if wanted != got {
                words.push(format!("{}{name}", if got { '+' } else { '-' }));
            }
        }
        if !words.is_empty() {
            let _ = write!(
                text,
                "{}{end}: {}",
                if text.is_empty() { "" } else { "; " },
                words.join(" ")
            );
        }
    }
    text
}

/// Shifts of the windows that one end receives and sends.
fn scale(end: &pf_load::tcp::End) -> String {
    if end.wscale { format!("{}/{}", end.snd_wscale, end.rcv_wscale) } else { "none".to_owned() }
}

/// One end in a few words, as a table shows it.
#[must_use]
pub fn in_words(seen: &Seen) -> String {
    let mut text = format!(
        "mss {}/{} wscale {}",
        seen.client.snd_mss,
        seen.server.snd_mss,
        scale(&seen.client)
    );
    for (name, has) in
        [("sack", seen.client.sack), ("ts", seen.client.timestamps), ("ecn", seen.client.ecn)]
    {
        if has {
            let _ = write!(text, " {name}");
        }
    }
    text
}
