//! Loading rules while packets flow.

use std::fs;
use std::thread;

use pf_load::info::Info;
use pf_load::lab::SERVER;
use pf_netns::{in_lab, test_path};

use crate::world::{Nginx, ask, fetch, lab, requests};

/// Counters of packets that were dropped for another reason than a rule.
fn losses(info: &Info) -> Vec<(&'static str, u64)> {
    let reasons = [
        "bad-offset",
        "fragment",
        "short",
        "normalize",
        "memory",
        "bad-timestamp",
        "congestion",
        "ip-option",
        "proto-cksum",
        "state-mismatch",
        "state-insert",
        "state-limit",
        "src-limit",
        "synproxy",
        "translate",
        "no-route",
    ];
    reasons.into_iter().map(|name| (name, info.get("Counters", name))).collect()
}

#[test]
fn two_hundred_loads_break_nothing() {
    in_lab(test_path!(), &["nginx", "curl"], || {
        let rules = |turn: usize| {
            (0..turn % 20).map(|port| format!("pass proto tcp to port {}\n", 1000 + port)).fold(
                "block return\npass quick proto { tcp udp icmp icmp6 }\n".to_owned(),
                |text, line| text + &line,
            )
        };
        let lab = lab(&rules(0));
        let nginx = Nginx::start(&lab, 60);
        let before = losses(&lab.info().unwrap());
        thread::scope(|scope| {
            let transfer = scope.spawn(|| fetch(&lab, &SERVER.v4(), "--limit-rate 12M"));
            let short = scope.spawn(|| {
                let mut options = requests(&SERVER.v4(), Some(200.0), 1000);
                options.path = "/small".to_owned();
                ask(&options)
            });
            for turn in 1..=200 {
                lab.load(&rules(turn)).unwrap();
            }
            let report = short.join().unwrap();
            assert_eq!((report.ok, report.failures.total()), (1000, 0), "{:?}", report.failures);
            assert_eq!(transfer.join().unwrap(), nginx.sha256);
        });
        assert_eq!(losses(&lab.info().unwrap()), before);
    });
}

#[test]
fn broken_files_are_refused_and_change_nothing() {
    in_lab(test_path!(), &[], || {
        let lab = lab("block return\npass proto tcp to port 80\n");
        let rules = lab.pfctl_ok(["-s", "rules"]).unwrap();
        let broken = [
            ("pass in on\n", 1),
            ("pass\npass proto tcp to port 99999\n", 2),
            ("pass port 80\n", 1),
            ("pass from 300.1.2.3\n", 1),
            ("pass from 10.0.0.0/33\n", 1),
            ("\n\nwall { }\n", 3),
            ("pass to $nowhere\n", 1),
            ("set limit states many\n", 1),
            ("pass proto tcp flags X/Y\n", 1),
            ("table <bad> { 10.0.0.1, }}\n", 1),
        ];
        let path = lab.folder().join("broken.conf");
        let shown = path.display().to_string();
        for (text, line) in broken {
            fs::write(&path, text).unwrap();
            let output = lab.pfctl(["-f", &shown]).unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{text}: {said}");
            assert!(said.contains(&format!("{shown}:{line}: ")), "{text}: {said}");
            assert!(said.contains("pf rules not loaded"), "{text}: {said}");
            assert_eq!(lab.pfctl_ok(["-s", "rules"]).unwrap(), rules, "{text}");
        }
    });
}
