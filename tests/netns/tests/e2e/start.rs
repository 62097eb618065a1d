//! Every bad start ends at once, with a sentence and an exit code, and leaves no device.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pf_load::lab::{Background, Setup, checked, nsenter, prepare, run, start_daemon};
use pf_netns::{in_lab, test_path, wait_until};

use crate::world::lab;

/// Starts the daemon with what lies in `folder`; it must fail and say one of `words`.
fn fails_and_says(folder: &Path, words: &[&str]) {
    let mut daemon = start_daemon(folder, &[]).unwrap();
    expect_failure(&mut daemon, words);
}

fn expect_failure(daemon: &mut Background, words: &[&str]) {
    let status = daemon.wait(Duration::from_secs(15));
    let log = daemon.log();
    let status = status.unwrap_or_else(|| panic!("the daemon runs, wanted {words:?}: {log}"));
    assert!(status.code().is_some_and(|code| code != 0), "{status}: {log}");
    let low = log.to_lowercase();
    assert!(words.iter().any(|word| low.contains(word)), "wanted one of {words:?}: {log}");
    assert!(!log.contains("panicked"), "{log}");
    let links = checked("ip", ["-br", "link"]).unwrap();
    assert!(!links.contains("tun0"), "a device is left: {links}");
}

fn edit(folder: &Path, from: &str, to: &str) {
    let path = folder.join("pfd.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn prepared() -> std::path::PathBuf {
    prepare(&Setup::default()).unwrap()
}

#[test]
fn unknown_key_is_named_with_its_line() {
    in_lab(test_path!(), &[], || {
        let folder = prepared();
        edit(&folder, "ruleset =", "rulesets = \"/x\"\nruleset =");
        fails_and_says(&folder, &["pfd.toml:1: rulesets"]);
    });
}

#[test]
fn bad_route_is_named() {
    in_lab(test_path!(), &[], || {
        let folder = prepared();
        edit(&folder, "to = \"0.0.0.0/0\"\ndev = \"tun1\"", "to = \"0.0.0.0/0\"\ndev = \"tun9\"");
        fails_and_says(&folder, &["tun9"]);
        let folder = prepared();
        edit(&folder, "to = \"0.0.0.0/0\"", "to = \"0.0.0.0/99\"");
        fails_and_says(&folder, &["route.to: prefix length \"99\""]);
    });
}

#[test]
fn ruleset_that_does_not_load_stops_the_start() {
    in_lab(test_path!(), &[], || {
        let folder = prepared();
        fs::write(folder.join("pf.conf"), "pass\npass from nowhere in particular\n").unwrap();
        fails_and_says(&folder, &["pf.conf:2"]);
        fs::remove_file(folder.join("pf.conf")).unwrap();
        fails_and_says(&folder, &["pf.conf"]);
    });
}

#[test]
fn taken_device_name_is_told() {
    in_lab(test_path!(), &[], || {
        let folder = prepared();
        let link = ["link", "add", "tun0", "type", "veth", "peer", "name", "other"];
        checked("ip", ["-n", "client"].into_iter().chain(link)).unwrap();
        fails_and_says(&folder, &["tun0"]);
    });
}

#[test]
fn missing_namespace_is_told() {
    in_lab(test_path!(), &[], || {
        let folder = prepared();
        edit(&folder, "netns = \"server\"", "netns = \"nowhere\"");
        fails_and_says(&folder, &["nowhere"]);
    });
}

#[test]
fn without_permission_it_says_what_is_missing() {
    in_lab(test_path!(), &["setpriv"], || {
        let folder = prepared();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(folder.join("bin/pfd")).arg("-c").arg(folder.join("pfd.toml"));
        let mut daemon = Background::start(command, &folder.join("pfd.log")).unwrap();
        let words = ["permission", "not permitted", "root", "cap_net_admin", "privilege"];
        expect_failure(&mut daemon, &words);
    });
}

#[test]
fn second_daemon_on_the_same_socket_is_refused() {
    in_lab(test_path!(), &[], || {
        let lab = lab("pass\n");
        let mut command = Command::new(lab.folder().join("bin/pfd"));
        command.arg("-c").arg(lab.folder().join("pfd.toml"));
        let output = run(&mut command, Duration::from_secs(15)).unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_some_and(|code| code != 0), "{text}");
        assert!(text.contains("pfd.sock") || text.contains("tun0"), "{text}");
        assert!(lab.pfctl(["-s", "info"]).unwrap().status.success(), "the first one lives on");
    });
}

#[test]
fn check_only_touches_nothing() {
    in_lab(test_path!(), &[], || {
        let folder = prepared();
        let mut command = Command::new(folder.join("bin/pfd"));
        command.args(["-n", "-c"]).arg(folder.join("pfd.toml"));
        let output = run(&mut command, Duration::from_secs(15)).unwrap();
        assert!(output.status.success(), "{output:?}");
        edit(&folder, "mtu = 1500", "mtu = 15");
        let output = run(&mut command, Duration::from_secs(15)).unwrap();
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("mtu"), "{output:?}");
        assert!(!folder.join("control").exists());
    });
}

#[test]
fn dead_daemons_socket_is_taken_over() {
    in_lab(test_path!(), &[], || {
        let mut first = lab("pass\n");
        first.daemon().signal(rustix::process::Signal::KILL);
        first.daemon().wait(Duration::from_secs(5)).expect("SIGKILL ends everything");
        wait_until("the devices of the dead daemon gone", Duration::from_secs(5), || {
            let mut links = nsenter("client", "ip");
            let output = run(links.args(["-br", "link"]), Duration::from_secs(5)).unwrap();
            !String::from_utf8_lossy(&output.stdout).contains("tun0")
        });
        let mut second = lab("pass\n");
        let ended = second.stop().expect("SIGTERM ends the daemon within seconds");
        assert!(ended.success(), "{ended}");
        let links = checked("ip", ["-n", "client", "-br", "link"]).unwrap();
        assert!(!links.contains("tun0"), "{links}");
    });
}
