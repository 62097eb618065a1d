//! Checks for described machines, and checks whose outcome another program reads.

use std::fs;
use std::path::Path;

use crate::common::{Outcome, pfctl};

/// A socket where nobody listens.
const NOWHERE: &str = "/nonexistent/pfd.sock";

fn machine() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "interfaces.txt",
        "lo0 index 1 flags UP,LOOPBACK groups lo mtu 32768 inet6 ::1/128 inet 127.0.0.1/8\n\
         em0 index 2 flags UP,BROADCAST groups egress mtu 1500 inet 192.0.2.9/29\n\
         tun0 index 3 flags UP,POINTOPOINT mtu 1500 inet 192.0.2.17/32 peer 192.0.2.18\n",
    );
    write("hosts.txt", "2001:db8::80 www\n192.0.2.80 www\n");
    write("services.openbsd", "odd-port 4711/tcp\n");
    write("protocols.openbsd", "tcp 6 TCP\nudp 17 UDP\n");
    write("files/etc/pf.bad", "203.0.113.0/24\n");
    folder
}

fn check(folder: &Path, flags: &[&str], rules: &str) -> Outcome {
    let folder = folder.to_str().unwrap();
    let args = [&["-p", NOWHERE, "--env", folder, "-nf", "-"], flags].concat();
    pfctl(&args, rules)
}

#[test]
fn names_are_those_of_the_described_machine() {
    let machine = machine();
    let rules = "pass in quick proto tcp to www port odd-port no state\n\
                 pass from egress to em0:broadcast no state\n\
                 pass from tun0 to tun0:peer no state\n\
                 table <bad> file \"/etc/pf.bad\"\n";
    let outcome = check(machine.path(), &["-v"], rules);
    assert_eq!(
        (outcome.code, outcome.err.as_str(), outcome.out.as_str()),
        (
            0,
            "",
            "table <bad> file \"/etc/pf.bad\"\n\
             pass in quick inet proto tcp from any to 192.0.2.80 port = 4711 no state\n\
             pass in quick inet6 proto tcp from any to 2001:db8::80 port = 4711 no state\n\
             pass inet from 192.0.2.9 to 192.0.2.15 no state\n\
             pass inet from 192.0.2.17 to 192.0.2.18 no state\n"
        )
    );
    for rules in ["pass from localhost\n", "table <t> file \"/etc/hosts\"\n", "pass proto icmp\n"] {
        assert_eq!(check(machine.path(), &[], rules).code, 1, "{rules}");
    }
}

#[test]
fn wrong_folders_are_refused_with_file_and_line() {
    let machine = machine();
    fs::write(machine.path().join("users.txt"), "root 0\nbin\n").unwrap();
    let outcome = check(machine.path(), &[], "pass\n");
    let folder = machine.path().display();
    assert_eq!(outcome.err, format!("pfctl: {folder}/users.txt:2: a line is NAME ID\n"));
    assert_eq!((outcome.code, outcome.out.as_str()), (1, ""));
    let outcome = check(Path::new("/nonexistent"), &[], "pass\n");
    assert_eq!(outcome.err, "pfctl: /nonexistent: No such file or directory\n");
}

#[test]
fn wrong_fingerprints_are_only_left_out() {
    let machine = machine();
    fs::write(machine.path().join("pf.os"), "odd\n").unwrap();
    let outcome = check(machine.path(), &[], "pass\n");
    let file = machine.path().join("pf.os");
    let wanted = format!("{}:1 non-digit character in window size\n", file.display());
    assert_eq!((outcome.code, outcome.err), (0, wanted));
}

#[test]
fn json_replaces_messages_and_listing() {
    let machine = machine();
    let outcome = check(machine.path(), &["--format", "json", "-v"], "block\npass frm any\n");
    assert_eq!((outcome.code, outcome.err.as_str()), (1, ""));
    assert_eq!(outcome.out.lines().count(), 1);
    let report: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(report["accepted"], false);
    assert_eq!(report["file"], "stdin");
    assert_eq!(report["diagnostics"][0]["classic"], "stdin:2: syntax error");
    let outcome = check(machine.path(), &["--format", "json", "-v"], "block\n");
    let report: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!((outcome.code, &report["listing"][0]), (0, &"block drop all".into()));
}

#[test]
fn ports_get_names_on_demand() {
    let machine = machine();
    let rules = "pass proto tcp to port 4711 no state\n";
    let outcome = check(machine.path(), &["-vP"], rules);
    assert_eq!(outcome.out, "pass proto tcp from any to any port = odd-port no state\n");
}

#[test]
fn checks_may_name_an_anchor() {
    let machine = machine();
    let outcome = check(machine.path(), &["-a", "regress/x", "-Fa", "--strict"], "pass\n");
    assert_eq!(outcome, Outcome { code: 0, out: String::new(), err: String::new() });
}

const EXTENDED: &str = "set syncookies adaptive (destination 5%, wscale 7, mss 1460)\n\
    pass in proto tcp to port 80 keep state (syncookies always)\n\
    pass in proto tcp to port 81 keep state (syncookies (sack-perm))\n";

#[test]
fn words_of_ours_alone_are_refused_when_that_is_asked_for() {
    let machine = machine();
    assert_eq!(check(machine.path(), &[], EXTENDED).code, 0);
    let outcome = check(machine.path(), &["--strict"], EXTENDED);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.err.starts_with(
            "`set syncookies ... (destination)` is an extension\n\
             `set syncookies ... (mss 1460, wscale 7)` is an extension\n\
             rule 0: the state option `syncookies` is an extension\n\
             rule 1: the state option `syncookies` is an extension\n"
        ),
        "{}",
        outcome.err
    );
}

#[test]
fn rules_that_do_not_go_well_with_cookies_are_told() {
    let machine = machine();
    for (setting, rule, words) in [
        (
            "always",
            "pass in proto tcp no state",
            "rule 0: passes SYNs without state, so they never",
        ),
        ("always", "pass in proto tcp keep state (sloppy)", "rule 0: `sloppy` states cannot stand"),
        ("always", "pass in proto tcp probability 5%", "rule 0: `probability` is decided when"),
        ("always (classic)", "block in proto tcp", "with `classic` cookies come before the rules"),
        (
            "always (classic)",
            "pass in proto tcp synproxy state",
            "rule 0: `synproxy state` answers",
        ),
        (
            "never",
            "pass in proto udp keep state (syncookies always)",
            "rule 0: `syncookies` says nothing",
        ),
        (
            "always (classic)",
            "pass in proto tcp keep state (syncookies never)",
            "rule 0: `syncookies` says nothing",
        ),
    ] {
        let rules = format!("set syncookies {setting}\n{rule}\n");
        let outcome = check(machine.path(), &["-v"], &rules);
        let wanted = format!("warning: {words}");
        assert!(outcome.code == 0 && outcome.err.starts_with(&wanted), "{rule}: {}", outcome.err);
        assert_eq!(check(machine.path(), &[], &rules).err, "", "only with -v");
    }
    for rules in
        ["set syncookies never\npass in proto tcp no state\n", "set syncookies always\npass\n"]
    {
        assert_eq!(check(machine.path(), &["-v"], rules).err, "", "{rules}");
    }
}
