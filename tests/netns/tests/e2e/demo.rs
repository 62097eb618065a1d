//! The demo shows what it is to show, and leaves nothing behind, however it ends.

use std::fs;
use std::process::Command;
use std::time::Duration;

use pf_load::lab::{Background, checked, program, run};
use pf_netns::{in_lab, test_path, wait_until};
use rustix::process::Signal;

/// Names of all processes that this sandbox can see, those of inner sandboxes included.
fn processes() -> Vec<String> {
    let folders = fs::read_dir("/proc").unwrap().flatten();
    folders.filter_map(|folder| fs::read_to_string(folder.path().join("comm")).ok()).collect()
}

fn demo_runs() -> bool {
    processes().iter().any(|name| name.trim() == "pfd")
}

fn demo() -> Command {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/pf.conf");
    let mut command = Command::new(program("pf-demo").unwrap());
    command.args(["--rules", rules]);
    command
}

/// Plays the demo to its end.
fn shows(arguments: &[&str], conclusion: &str) {
    let mut command = demo();
    command.args(["--calm", "2"]).args(arguments);
    let output = run(&mut command, Duration::from_secs(100)).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(conclusion), "{text}");
}

#[test]
fn demo_shows_users_who_notice_nothing() {
    in_lab(test_path!(), &["pf-demo"], || {
        let short = ["--flood", "6", "--flood-rate", "10000"];
        shows(&short, "syncookies switched on and off");
    });
}

#[test]
fn demo_shows_users_who_starve_without_syncookies() {
    in_lab(test_path!(), &["pf-demo"], || {
        shows(&["--without-syncookies"], "as expected: without syncookies");
    });
}

fn ended_by(signal: Signal) {
    let demo = Background::start(demo(), "/run/lab/demo.log".as_ref()).unwrap();
    wait_until("the demo runs", Duration::from_secs(20), demo_runs);
    std::thread::sleep(Duration::from_secs(2));
    assert!(demo_runs(), "{}", demo.log());
    demo.signal(signal);
    wait_until("everything of it gone", Duration::from_secs(10), || {
        !processes().iter().any(|name| name.starts_with("pf") && !name.starts_with("pf-demo"))
            && !demo_runs()
    });
    assert_eq!(checked("ip", ["netns", "list"]).unwrap(), "");
    let links = checked("ip", ["-br", "link"]).unwrap();
    assert_eq!(links.lines().count(), 1, "only the loopback: {links}");
}

#[test]
fn killed_demo_leaves_nothing() {
    in_lab(test_path!(), &["pf-demo"], || ended_by(Signal::KILL));
}

#[test]
fn interrupted_demo_leaves_nothing() {
    in_lab(test_path!(), &["pf-demo"], || ended_by(Signal::INT));
}
