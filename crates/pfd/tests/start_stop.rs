//! The program from outside: exit codes, start, reload and stop.
//!
//! Devices need root and /dev/net/tun; without them the tests say so and pass.
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A folder with the program, a `pfctl` of our own and the files of a daemon.
struct Place(PathBuf);

impl Place {
    /// `device` is part of its name, so that tests do not meet.
    fn new(device: &str, more: &str) -> Self {
        let place = Self(std::env::temp_dir().join(format!("pfd-{}-{device}", std::process::id())));
        fs::create_dir_all(&place.0).unwrap();
        fs::set_permissions(&place.0, fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_pfd"), place.file("pfd")).unwrap();
        // Refuses what says "block", which stands for a mistake here.
        place.write_script("if grep -q block; then echo 'pf.conf:1: syntax error' >&2; exit 1; fi");
        fs::write(place.file("pf.conf"), "pass\n").unwrap();
        let (ruleset, socket) = (place.file("pf.conf"), place.file("run/pfd.sock"));
        let text = format!(
            "ruleset = \"{}\"\nsocket = \"{}\"\n{more}\n[[interface]]\n\
             name = \"{device}\"\naddress = [\"10.177.66.1/24\"]\npeer = [\"10.177.66.2/24\"]\n",
            ruleset.display(),
            socket.display()
        );
        fs::write(place.file("pfd.toml"), text).unwrap();
        place
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write_script(&self, script: &str) {
        fs::write(self.file("pfctl"), format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n"))
            .unwrap();
        fs::set_permissions(self.file("pfctl"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.file("pfd"));
        command.arg("-c").arg(self.file("pfd.toml")).env_remove("NOTIFY_SOCKET");
        command
    }

    fn run(&self, more: &[&str]) -> Output {
        self.command().args(more).output().unwrap()
    }

    /// Starts the daemon and waits until it says that it is ready.
    fn start(&self) -> Running {
        let mut child = self.command().stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut running = Running { child, log };
        running.wait_for("ready: 1 interfaces");
        running
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

struct Running {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
}

impl Running {
    fn wait_for(&mut self, text: &str) {
        let mut all = String::new();
        while self.log.read_line(&mut all).unwrap() > 0 {
            if all.lines().last().unwrap().contains(text) {
                return;
            }
        }
        panic!("no {text:?} in {all}");
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    fn stop(mut self) {
        let begin = Instant::now();
        self.signal(Signal::SIGTERM);
        self.wait_for("stopped");
        assert!(self.child.wait().unwrap().success());
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    }
}

/// Whether devices can be made here; says so when not.
fn can_make_devices() -> bool {
    let possible = nix::unistd::geteuid().is_root() && Path::new("/dev/net/tun").exists();
    if !possible {
        eprintln!("skipped: needs root and /dev/net/tun");
    }
    possible
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn device_exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

#[test]
fn check_says_what_is_wrong() {
    let place = Place::new("tpfcheck", "");
    let output = place.run(&["-n"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("pfd.toml: OK\n"));

    fs::write(place.file("pfd.toml"), "state_file = \"x\"\nspeed = 1\n").unwrap();
    let output = place.run(&["-n"]);
    assert_eq!(output.status.code(), Some(1));
    let file = place.file("pfd.toml");
    let file = file.display();
    assert_eq!(
        text(&output),
        format!(
            "pfd: error: {file}:1: state_file: not supported by this version; remove the line\n\
             pfd: error: {file}:1: interface: there is no interface; add a section [[interface]] \
             with name and address\n\
             pfd: error: {file}:2: speed: unknown key; the keys here are ruleset, socket, fail, \
             user, workers, pflog, metrics, cluster_secret_file, interface, route\n"
        )
    );
    assert_eq!(place.run(&[]).status.code(), Some(78));
}

#[test]
fn wrong_use_and_missing_files_have_their_codes() {
    let place = Place::new("tpfusage", "");
    assert_eq!(place.run(&["--colour"]).status.code(), Some(2));
    assert_eq!(place.run(&["--help"]).status.code(), Some(0));
    assert_eq!(place.run(&["--version"]).stdout, b"pfd 0.1.0\n");
    fs::remove_file(place.file("pfd.toml")).unwrap();
    assert_eq!(place.run(&[]).status.code(), Some(78));
}

#[test]
fn daemon_starts_reloads_and_stops() {
    if !can_make_devices() {
        return;
    }
    let place = Place::new("tpfstart", "");
    let mut running = place.start();
    assert!(device_exists("tpfstart"));

    let mut stream = UnixStream::connect(place.file("run/pfd.sock")).unwrap();
    stream.write_all(b"{\"request\":\"facts\"}\n").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    assert!(answer.contains("10.177.66.1"), "{answer}");

    let second = place.run(&[]);
    assert_eq!(second.status.code(), Some(71));
    assert!(text(&second).contains("already running"), "{}", text(&second));

    running.signal(Signal::SIGHUP);
    running.wait_for("loaded again");
    fs::write(place.file("pf.conf"), "block\n").unwrap();
    running.signal(Signal::SIGHUP);
    running.wait_for("pf.conf:1: syntax error");
    running.wait_for("the old one stays in force");
    running.signal(Signal::SIGUSR1);
    running.wait_for("router: forwarded 0");

    running.stop();
    assert!(!device_exists("tpfstart"));
    assert!(!place.file("run/pfd.sock").exists());
    assert!(!place.file("run/pfd-ro.sock").exists());
}

#[test]
fn killed_daemon_leaves_nothing_that_hinders() {
    if !can_make_devices() {
        return;
    }
    let place = Place::new("tpfkill", "");
    let mut running = place.start();
    running.signal(Signal::SIGKILL);
    running.child.wait().unwrap();
    assert!(place.file("run/pfd.sock").exists());
    place.start().stop();
}

/// A folder that was there stays whose it was, so that the daemon's own user may not remove the
/// sockets from it. That is told, without a complaint, and does not hinder the next start.
#[test]
fn sockets_in_a_folder_of_root_stay_behind() {
    if !can_make_devices() {
        return;
    }
    let place = Place::new("tpffolder", "");
    fs::create_dir(place.file("run")).unwrap();
    for _ in 0..2 {
        let mut running = place.start();
        running.signal(Signal::SIGTERM);
        let left = format!(
            "pfd: {}: the socket stays behind: the user that pfd has become may not remove it from {}; \
             the next start takes it over",
            place.file("run/pfd.sock").display(),
            place.file("run").display()
        );
        running.wait_for(&left);
        running.wait_for("stopped");
        assert!(running.child.wait().unwrap().success());
        assert!(place.file("run/pfd.sock").exists());
    }
}

#[test]
fn broken_ruleset_keeps_the_daemon_from_starting() {
    if !can_make_devices() {
        return;
    }
    let place = Place::new("tpfbroken", "");
    fs::write(place.file("pf.conf"), "block\n").unwrap();
    let output = place.run(&[]);
    assert_eq!(output.status.code(), Some(65));
    assert!(text(&output).contains("pf.conf:1: syntax error"), "{}", text(&output));
    assert!(!place.file("run/pfd.sock").exists());
    fs::remove_file(place.file("pf.conf")).unwrap();
    assert_eq!(place.run(&[]).status.code(), Some(65));
}

#[test]
fn fail_open_starts_without_a_ruleset_and_says_so() {
    if !can_make_devices() {
        return;
    }
    let place = Place::new("tpfopen", "fail = \"open\"");
    fs::remove_file(place.file("pf.conf")).unwrap();
    let mut child = place.command().stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let mut running = Running { child, log };
    running.wait_for("PASSES EVERYTHING");
    running.wait_for("ready");
    running.stop();
}

#[test]
fn device_that_is_taken_has_its_code() {
    if !can_make_devices() {
        return;
    }
    let place = Place::new("tpftaken", "");
    let config = fs::read_to_string(place.file("pfd.toml")).unwrap();
    fs::write(place.file("second.toml"), config.replace("run/pfd.sock", "other/pfd.sock")).unwrap();
    let running = place.start();
    let mut second = Command::new(place.file("pfd"));
    let output = second.arg("-c").arg(place.file("second.toml")).output().unwrap();
    assert_eq!(output.status.code(), Some(71), "{}", text(&output));
    assert!(text(&output).contains("tpftaken: the name is taken"), "{}", text(&output));
    assert!(!place.file("other/pfd.sock").exists());
    running.stop();
}
