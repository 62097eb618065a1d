//! Two daemons beside each other that share a secret: the SYN goes through one, everything that
//! the client sends afterwards through the other.
//!
//! ```text
//!          ┌─ SYN ──────── ca ─ A ─ sa ───┐
//! client ──┤                              ├── server
//!          └─ the rest ─── cb ─ B ─ sb ───┘  answers by way of B
//! ```

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use pf_load::info::Info;
use pf_load::lab::{
    Background, CLIENT, SERVER, checked, prepare_namespaces, program, run, start_daemon,
};

use rustix::process::Signal;

use crate::pair::{Call, Pair, connect, connect_to, listen};
use crate::place::{self, command, named};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// Gets SYNs.
    A,
    /// Gets everything else.
    B,
}

impl Member {
    const fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
        }
    }

    fn folder(self) -> PathBuf {
        Path::new("/run/lab").join(self.letter().to_string())
    }
}

/// Both daemons, running.
#[derive(Debug)]
pub struct Cluster {
    a: Option<Background>,
    b: Option<Background>,
}

/// Nothing passes that is not part of a connection.
const RULES: &str =
    "set syncookies always (no-probe)\nblock\npass proto tcp to port 80 flags S/SA\n";

/// A secret for tests; the number tells it from others.
#[must_use]
pub fn secret(number: u8) -> String {
    let half = u128::MAX / 7 * u128::from(number.max(1));
    format!("{half:032x}{:032x}", half.rotate_left(17) ^ 0x5eed)
}

impl Cluster {
    /// Starts both, each with these secrets, the first of which makes cookies; none is none.
    ///
    /// # Errors
    ///
    /// When a daemon does not come up.
    pub fn start(secrets: [&[String]; 2]) -> Result<Self, String> {
        prepare_namespaces()?;
        for (place, address) in [(CLIENT, CLIENT.v4()), (SERVER, SERVER.v4())] {
            ip(&format!("-n {} addr replace {address}/32 dev lo", place.namespace))?;
            place::set(place, &[("ipv4/conf/all/rp_filter", "0")])?;
        }
        let mut cluster = Self { a: None, b: None };
        for (member, secrets) in [Member::A, Member::B].into_iter().zip(secrets) {
            cluster.restart(member, secrets)?;
        }
        let client = CLIENT.namespace;
        ip(&format!("-n {client} rule add fwmark 1 lookup 2"))?;
        nft("table ip way { chain out { type route hook output priority mangle;\n\
             tcp flags & (syn | ack) == ack meta mark set 1\n}\n}\n")?;
        Ok(cluster)
    }

    /// Starts one of them, again if it runs.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn restart(&mut self, member: Member, secrets: &[String]) -> Result<(), String> {
        let slot = match member {
            Member::A => &mut self.a,
            Member::B => &mut self.b,
        };
        *slot = None;
        let folder = member.folder();
        configure(member, &folder, secrets)?;
        let mut daemon = start_daemon(&folder, &[])?;
        let start = Instant::now();
        while info(member).is_err() {
            if daemon.ended().is_some() || start.elapsed() > Duration::from_secs(10) {
                return Err(format!("pfd {member:?} is not ready:\n{}", daemon.log()));
            }
            thread::sleep(Duration::from_millis(50));
        }
        *slot = Some(daemon);
        // Routes go when the devices go.
        let (client, server, letter) = (CLIENT.namespace, SERVER.namespace, member.letter());
        let (near, far) = (CLIENT.v4(), SERVER.v4());
        match member {
            Member::A => ip(&format!("-n {client} route replace default dev c{letter} src {near}")),
            Member::B => {
                ip(&format!("-n {client} route replace default dev c{letter} src {near} table 2"))?;
                ip(&format!("-n {server} route replace default dev s{letter} src {far}"))
            }
        }
    }

    /// Changes the file with the secrets of a running daemon and tells it to read it again.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn change_secrets(&mut self, member: Member, secrets: &[String]) -> Result<(), String> {
        write_secrets(&member.folder(), secrets)?;
        self.signal(member, Signal::HUP);
        thread::sleep(Duration::from_millis(300));
        Ok(())
    }

    fn signal(&self, member: Member, signal: Signal) {
        let daemon = match member {
            Member::A => &self.a,
            Member::B => &self.b,
        };
        if let Some(daemon) = daemon {
            daemon.signal(signal);
        }
    }

    /// What `pfctl -vsi` says of one of them.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn info(&self, member: Member) -> Result<Info, String> {
        info(member)
    }

    /// Lets A see a whole connection: it gives cookies for ports that it knows to be open.
    ///
    /// # Errors
    ///
    /// When that connection does not come about.
    pub fn acquaint_a(&mut self) -> Result<(), String> {
        let (client, server) = (CLIENT.namespace, SERVER.namespace);
        ip(&format!("-n {client} rule del fwmark 1 lookup 2"))?;
        ip(&format!("-n {server} route replace default dev sa src {}", SERVER.v4()))?;
        let call = Call::to(([10, 77, 3, 2], 80).into());
        let seen = connect(&call).map(drop);
        ip(&format!("-n {server} route replace default dev sb src {}", SERVER.v4()))?;
        ip(&format!("-n {client} rule add fwmark 1 lookup 2"))?;
        seen
    }

    /// Connects through both, says something and gets it back. Between the SYN and what follows,
    /// `between` is done; B sees nothing until then.
    ///
    /// # Errors
    ///
    /// When that does not come about.
    pub fn talk(
        &mut self,
        between: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let address = ([10, 77, 3, 2], 80).into();
        let listener = listen(address)?;
        // What the client sends next waits in the device of B.
        self.signal(Member::B, Signal::STOP);
        let connecting = thread::spawn(move || {
            let call =
                Call { patience: Duration::from_secs(3), greeting: b"hello", ..Call::to(address) };
            connect_to(&listener, &call).and_then(|pair| {
                let Pair { mut client, mut server, .. } = pair;
                let mut said = [0; 5];
                server.read_exact(&mut said).map_err(named("server"))?;
                server.write_all(&said).map_err(named("server"))?;
                client.read_exact(&mut said).map_err(named("client"))?;
                if &said == b"hello" { Ok(()) } else { Err(format!("{said:?} came back")) }
            })
        });
        // Time for the SYN and the answer to it.
        thread::sleep(Duration::from_millis(200));
        let done = between(self);
        self.signal(Member::B, Signal::CONT);
        let talked = connecting.join().map_err(|_| "the client panicked")?;
        done.and(talked)
    }
}

fn info(member: Member) -> Result<Info, String> {
    let folder = member.folder();
    let mut pfctl = std::process::Command::new(folder.join("bin/pfctl"));
    pfctl.arg("-p").arg(folder.join("control/pfd.sock")).args(["-vsi"]);
    let output = run(&mut pfctl, Duration::from_secs(5))?;
    if output.status.success() {
        Ok(Info::parse(&String::from_utf8_lossy(&output.stdout)))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn configure(member: Member, folder: &Path, secrets: &[String]) -> Result<(), String> {
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).map_err(named("folder"))?;
    for name in ["pfd", "pfctl"] {
        if !bin.join(name).exists() {
            let path = program(name).ok_or_else(|| format!("{name} is not built"))?;
            fs::copy(path, bin.join(name)).map_err(named(name))?;
        }
    }
    fs::write(folder.join("pf.conf"), RULES).map_err(named("pf.conf"))?;
    let (shown, letter) = (folder.display(), member.letter());
    // Different addresses of the router in the same networks.
    let host = if member == Member::A { 1 } else { 3 };
    let key = if secrets.is_empty() {
        String::new()
    } else {
        write_secrets(folder, secrets)?;
        format!("cluster_secret_file = \"{shown}/secrets\"\n")
    };
    let toml = format!(
        "ruleset = \"{shown}/pf.conf\"\nsocket = \"{shown}/control/pfd.sock\"\n{key}\n\
         [[interface]]\nname = \"c{letter}\"\naddress = [\"10.77.1.{host}/24\"]\nnetns = \"{}\"\n\n\
         [[interface]]\nname = \"s{letter}\"\naddress = [\"10.77.3.{host}/24\"]\nnetns = \"{}\"\n",
        CLIENT.namespace, SERVER.namespace,
    );
    fs::write(folder.join("pfd.toml"), toml).map_err(named("pfd.toml"))
}

fn write_secrets(folder: &Path, secrets: &[String]) -> Result<(), String> {
    let path = folder.join("secrets");
    fs::write(&path, secrets.join("\n") + "\n").map_err(named("secrets"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(named("secrets"))?;
    // The daemon reads the file again when it is root no more.
    let owner = user_id("_pfd").or_else(|| user_id("nobody"));
    std::os::unix::fs::chown(&path, owner, None).map_err(named("secrets"))
}

fn user_id(name: &str) -> Option<u32> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

fn nft(text: &str) -> Result<(), String> {
    let path = "/run/lab/way.nft";
    fs::write(path, text).map_err(named(path))?;
    nsenter_nft(&["-f", path])
}

fn nsenter_nft(arguments: &[&str]) -> Result<(), String> {
    let mut nft = command(CLIENT, "nft");
    let output = run(nft.args(arguments), Duration::from_secs(5))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("nft: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    checked("ip", arguments.split_whitespace()).map(drop)
}
