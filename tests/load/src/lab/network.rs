//! The three networks and the daemon between them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use super::process::{Background, checked, nsenter, program, run};
use crate::info::Info;

/// One end of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of its namespace.
    pub namespace: &'static str,
    /// Its TUN interface.
    pub interface: &'static str,
    /// Third octet of its IPv4 network, second group of its IPv6 network.
    pub number: u8,
}

/// Honest users.
pub const CLIENT: Place = Place { namespace: "client", interface: "tun0", number: 1 };
/// Where floods come from and where forged addresses are routed to.
pub const ATTACKER: Place = Place { namespace: "attacker", interface: "tun1", number: 2 };
/// The web server.
pub const SERVER: Place = Place { namespace: "server", interface: "tun2", number: 3 };
/// All of them.
const PLACES: [Place; 3] = [CLIENT, ATTACKER, SERVER];

impl Place {
    /// Its IPv4 address.
    #[must_use]
    pub fn v4(&self) -> String {
        format!("10.77.{}.2", self.number)
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn v6(&self) -> String {
        format!("fd77:{}::2", self.number)
    }

    /// The router's IPv4 address towards it.
    #[must_use]
    pub fn router_v4(&self) -> String {
        format!("10.77.{}.1", self.number)
    }

    /// The router's IPv6 address towards it.
    #[must_use]
    pub fn router_v6(&self) -> String {
        format!("fd77:{}::1", self.number)
    }
}

/// How to set the daemon up.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// Text of pf.conf.
    pub rules: &'a str,
    /// `backend` of every interface.
    pub backend: &'a str,
    /// MTU towards client, attacker, server.
    pub mtu: [u16; 3],
    /// More lines for the head of pfd.toml.
    pub extra: &'a str,
    /// Program and arguments that start the daemon, such as `taskset -c 1`.
    pub wrapper: &'a [&'a str],
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { rules: "pass\n", backend: "auto", mtu: [1500; 3], extra: "", wrapper: &[] }
    }
}

/// A running daemon with its networks. Needs a settled [sandbox](super::sandbox).
#[derive(Debug)]
pub struct Lab {
    folder: PathBuf,
    daemon: Background,
}

impl Lab {
    /// Makes the namespaces, if they are not there yet, starts `pfd` and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When a program is missing or the daemon does not come up within ten seconds.
    pub fn start(setup: &Setup<'_>) -> Result<Self, String> {
        let folder = prepare(setup)?;
        let daemon = start_daemon(&folder, setup.wrapper)?;

        let mut lab = Self { folder, daemon };
        lab.wait_until_ready()?;
        add_routes(&PLACES)?;
        Ok(lab)
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.daemon.ended() {
                return Err(format!("pfd ended with {status}:\n{}", self.daemon.log()));
            }
            let answer = self.pfctl(["-s", "info"])?;
            if answer.status.success() {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(10) {
                let why = String::from_utf8_lossy(&answer.stderr).into_owned();
                return Err(format!("pfd is not ready after 10 s: {why}\n{}", self.daemon.log()));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Path of the control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("control/pfd.sock")
    }

    /// Folder for files of a test; on the sandbox's own memory file system.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The daemon's process.
    #[must_use]
    pub const fn daemon(&mut self) -> &mut Background {
        &mut self.daemon
    }

    /// Runs `pfctl -p SOCKET` with these arguments.
    ///
    /// # Errors
    ///
    /// When it cannot be started or hangs.
    pub fn pfctl<'a>(
        &self,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Output, String> {
        let mut command = Command::new(self.folder.join("bin/pfctl"));
        command.arg("-p").arg(self.socket()).args(arguments);
        run(&mut command, Duration::from_secs(20))
    }

    /// As [`Lab::pfctl`], but it must succeed; returns its standard output.
    ///
    /// # Errors
    ///
    /// With its standard error when it fails.
    pub fn pfctl_ok<'a>(
        &self,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<String, String> {
        let arguments: Vec<_> = arguments.into_iter().collect();
        let output = self.pfctl(arguments.iter().copied())?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        let said = self.daemon.log();
        Err(format!("pfctl {}: {}: {why}\npfd said: {said}", arguments.join(" "), output.status))
    }

    /// Loads other rules with `pfctl -f`.
    ///
    /// # Errors
    ///
    /// When they do not load.
    pub fn load(&self, rules: &str) -> Result<(), String> {
        let path = self.folder.join("pf.conf");
        write(&path, rules)?;
        self.pfctl_ok(["-f", &path.to_string_lossy()]).map(|_| ())
    }

    /// What `pfctl -vsi` says now.
    ///
    /// # Errors
    ///
    /// When the daemon does not answer.
    pub fn info(&self) -> Result<Info, String> {
        Ok(Info::parse(&self.pfctl_ok(["-v", "-s", "info"])?))
    }

    /// A command in the namespace of a place.
    #[must_use]
    pub fn command(&self, place: Place, program_name: &str) -> Command {
        nsenter(place.namespace, program(program_name).unwrap_or_else(|| program_name.into()))
    }

    /// Ends the daemon gently; returns how it ended by itself.
    pub fn stop(&mut self) -> Option<std::process::ExitStatus> {
        self.daemon.end()
    }
}

/// Everything but the start of the daemon: namespaces, programs, configuration. Returns the
/// folder with `pfd.toml` and `pf.conf`.
///
/// # Errors
///
/// When a program is missing or namespaces cannot be made.
pub fn prepare(setup: &Setup<'_>) -> Result<PathBuf, String> {
    let folder = PathBuf::from("/run/lab");
    prepare_namespaces()?;
    prepare_programs(&folder)?;
    write(&folder.join("pf.conf"), setup.rules)?;
    write(&folder.join("pfd.toml"), &toml(&folder, setup))?;
    Ok(folder)
}

/// Starts `pfd` with the configuration in a folder, and does not wait for anything. The program
/// and arguments in `wrapper`, if any, are to run it.
///
/// # Errors
///
/// When it cannot be started.
pub fn start_daemon(folder: &Path, wrapper: &[&str]) -> Result<Background, String> {
    let pfd = folder.join("bin/pfd");
    let mut command = match wrapper.split_first() {
        None => Command::new(pfd),
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(pfd);
            command
        }
    };
    command.arg("-c").arg(folder.join("pfd.toml"));
    Background::start(command, &folder.join("pfd.log"))
}

/// Routes everything from these places through their interfaces, and makes half of each network
/// local there, for clients with many addresses.
///
/// # Errors
///
/// When an interface is not there or not up.
pub fn add_routes(places: &[Place]) -> Result<(), String> {
    for Place { namespace, interface, number } in places {
        checked("ip", ["-n", namespace, "route", "replace", "default", "dev", interface])?;
        checked("ip", ["-n", namespace, "-6", "route", "replace", "default", "dev", interface])?;
        let v4 = format!("10.77.{number}.128/25");
        checked("ip", ["-n", namespace, "route", "replace", "local", &v4, "dev", "lo"])?;
        let v6 = format!("fd77:{number}::1:0/112");
        checked("ip", ["-n", namespace, "-6", "route", "replace", "local", &v6, "dev", "lo"])?;
    }
    Ok(())
}

/// The daemon and its child give up root, so they must be able to reach their own programs:
/// copies outside of anybody's home.
fn prepare_programs(folder: &Path) -> Result<(), String> {
    for name in ["pfd", "pfctl"] {
        let copy = folder.join("bin").join(name);
        if !copy.exists() {
            let path = program(name)
                .ok_or_else(|| format!("{name} is not built; try `cargo build --release`"))?;
            fs::copy(&path, &copy).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}

/// Makes the namespaces that are not there yet.
///
/// # Errors
///
/// When that is not permitted.
pub fn prepare_namespaces() -> Result<(), String> {
    for Place { namespace, .. } in PLACES {
        if crate::netns::path(namespace).exists() {
            continue;
        }
        checked("ip", ["netns", "add", namespace])?;
        checked("ip", ["-n", namespace, "link", "set", "lo", "up"])?;
    }
    // What protects the server is to be the firewall, not the server's own cookies; so its queue
    // must hold what comes through before syncookies switch on. Nobody gets a bonus for having been
    // seen before.
    for (place, setting, value) in [
        (SERVER, "ipv4/tcp_syncookies", 0),
        (SERVER, "ipv4/tcp_max_syn_backlog", 65_535),
        (SERVER, "core/somaxconn", 65_535),
        (SERVER, "ipv4/tcp_no_metrics_save", 1),
        (CLIENT, "ipv4/tcp_no_metrics_save", 1),
        // IPv6 takes a local route for the way in only, not for `bind`.
        (CLIENT, "ipv6/ip_nonlocal_bind", 1),
    ] {
        let script = format!("echo {value} > /proc/sys/net/{setting}");
        let output =
            run(nsenter(place.namespace, "sh").args(["-c", &script]), Duration::from_secs(5))?;
        if !output.status.success() {
            return Err(format!("{setting}: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
    }
    Ok(())
}

/// The configuration of the daemon.
fn toml(folder: &Path, setup: &Setup<'_>) -> String {
    let folder = folder.display();
    let mut text = format!(
        "ruleset = \"{folder}/pf.conf\"\nsocket = \"{folder}/control/pfd.sock\"\n{}\n",
        setup.extra
    );
    for (place, mtu) in PLACES.iter().zip(setup.mtu) {
        let Place { namespace, interface, .. } = place;
        let _ = write!(
            text,
            "\n[[interface]]\nname = \"{interface}\"\naddress = [\"{}/24\", \"{}/64\"]\n\
             peer = [\"{}/24\", \"{}/64\"]\nnetns = \"{namespace}\"\nmtu = {mtu}\n\
             backend = \"{}\"\n",
            place.router_v4(),
            place.router_v6(),
            place.v4(),
            place.v6(),
            setup.backend,
        );
    }
    for network in ["0.0.0.0/0", "::/0"] {
        let _ = write!(text, "\n[[route]]\nto = \"{network}\"\ndev = \"{}\"\n", ATTACKER.interface);
    }
    text
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
