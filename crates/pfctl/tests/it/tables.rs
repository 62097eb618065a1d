//! `-T` against a scripted daemon.

use crate::common::{Daemon, Outcome, Reply};
use pfapi::control::{FailureKind, Request, Response};
use pfapi::facts::Facts;
use pfapi::ruleset::TableEntry;

fn entry(text: &str) -> TableEntry {
    let prefix = text.trim_start_matches('!');
    TableEntry { prefix: prefix.parse().unwrap(), negated: prefix != text }
}

/// A daemon with the table `bad` that holds these entries; others are missing.
fn table(contents: &[&str]) -> impl FnMut(&Request) -> Reply + use<> {
    let mut held: Vec<TableEntry> = contents.iter().map(|text| entry(text)).collect();
    move |request| match request {
        Request::Facts => Response::Facts { facts: Facts::default() }.into(),
        Request::TableShow { table, .. } | Request::TableDelete { table, .. } if table != "bad" => {
            failed(FailureKind::NotFound)
        }
        Request::TableShow { .. } => {
            let parts = held.chunks(2);
            let parts = parts.map(|part| Response::TableEntries { entries: part.to_vec() });
            Reply::Frames(parts.chain([Response::End]).collect())
        }
        Request::TableAdd { table, entries, .. } => {
            let fresh = |entry: &&TableEntry| !held.iter().any(|old| old.prefix == entry.prefix);
            let changed: Vec<TableEntry> = entries.iter().filter(fresh).copied().collect();
            held.extend(&changed);
            Response::TableChanged { changed, created: table != "bad" }.into()
        }
        Request::TableDelete { entries, .. } => {
            let known = |entry: &&TableEntry| held.contains(entry);
            let changed: Vec<TableEntry> = entries.iter().filter(known).copied().collect();
            held.retain(|old| !changed.contains(old));
            Response::TableChanged { changed, created: false }.into()
        }
        Request::TableTest { addrs, .. } => {
            let longest = |addr: &std::net::IpAddr| {
                let hits = held.iter().filter(|entry| entry.prefix.contains(*addr));
                hits.max_by_key(|entry| entry.prefix.len()).copied()
            };
            Response::TableMatches { matches: addrs.iter().map(longest).collect() }.into()
        }
        other => panic!("{other:?}"),
    }
}

fn failed(kind: FailureKind) -> Reply {
    Response::Failed { kind, message: "no".to_owned() }.into()
}

fn run(contents: &[&str], args: &str, input: &str) -> Outcome {
    let args: Vec<&str> = args.split_whitespace().collect();
    Daemon::start(table(contents)).run(&args, input).0
}

fn outcome(code: i32, out: &str, err: &str) -> Outcome {
    Outcome { code, out: out.to_owned(), err: err.to_owned() }
}

#[test]
fn show_lists_the_contents() {
    let contents = ["192.0.2.1", "!198.51.100.0/24", "2001:db8::/32"];
    assert_eq!(
        run(&contents, "-t bad -T show", ""),
        outcome(0, "   192.0.2.1\n  !198.51.100.0/24\n   2001:db8::/32\n", "")
    );
    assert_eq!(run(&[], "-t gone -T show", ""), outcome(255, "", "pfctl: Table does not exist.\n"));
}

#[test]
fn add_counts_and_lists() {
    assert_eq!(
        run(&["192.0.2.1"], "-t bad -T add 192.0.2.1 192.0.2.2", ""),
        outcome(0, "", "1/2 addresses added.\n")
    );
    assert_eq!(
        run(&["192.0.2.1"], "-v -t bad -T add 192.0.2.2 192.0.2.2 192.0.2.1", ""),
        outcome(0, "A  192.0.2.2\nX  192.0.2.2\n", "1/3 addresses added.\n")
    );
    assert_eq!(
        run(&["192.0.2.1"], "-vv -t bad -T add 192.0.2.1 !192.0.2.1", ""),
        outcome(0, "   192.0.2.1\nY !192.0.2.1\n", "0/2 addresses added.\n")
    );
    assert_eq!(
        run(&[], "-t fresh -T add 10/8", ""),
        outcome(0, "", "1 table created.\n1/1 addresses added.\n")
    );
    assert_eq!(
        run(&[], "-t bad -T add -f -", "192.0.2.1 # one\n\n# none\n192.0.2.2 !10.0.0.0/8\n"),
        outcome(0, "", "3/3 addresses added.\n")
    );
    assert_eq!(run(&[], "-q -t bad -T add 192.0.2.9", ""), outcome(0, "", ""));
}

#[test]
fn large_adds_come_in_frames() {
    use std::fmt::Write;
    let mut input = String::new();
    for number in 0..1200 {
        writeln!(input, "10.0.{}.{}", number / 256, number % 256).unwrap();
    }
    let daemon = Daemon::start(table(&[]));
    let (outcome, requests) = daemon.run(&["-t", "bad", "-T", "add", "-f", "-"], &input);
    assert_eq!(outcome.err, "1200/1200 addresses added.\n");
    assert_eq!(requests.len(), 3);
}

#[test]
fn delete_and_flush() {
    let contents = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
    assert_eq!(
        run(&contents, "-v -t bad -T delete 192.0.2.2 192.0.2.9", ""),
        outcome(0, "D  192.0.2.2\n", "1/2 addresses deleted.\n")
    );
    assert_eq!(run(&contents, "-t bad -T flush", ""), outcome(0, "", "3 addresses deleted.\n"));
    assert_eq!(
        run(&[], "-t gone -T delete 192.0.2.2", ""),
        outcome(255, "", "pfctl: Table does not exist.\n")
    );
}

#[test]
fn replace_says_what_changed() {
    let contents = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
    assert_eq!(
        run(&contents, "-v -t bad -T replace 192.0.2.1 !192.0.2.2 192.0.2.4", ""),
        outcome(
            0,
            "C !192.0.2.2\nA  192.0.2.4\nD  192.0.2.3\n",
            "1 addresses added.\n1 addresses deleted.\n1 addresses changed.\n"
        )
    );
    assert_eq!(
        run(&["192.0.2.1"], "-t bad -T replace 192.0.2.1", ""),
        outcome(0, "", "no changes.\n")
    );
    assert_eq!(
        run(&[], "-t fresh -T replace 192.0.2.1", ""),
        outcome(0, "", "1 table created.\n1 addresses added.\n")
    );
}

#[test]
fn test_exits_with_two() {
    let contents = ["192.0.2.0/24", "!192.0.2.9"];
    assert_eq!(
        run(&contents, "-t bad -T test 192.0.2.1", ""),
        outcome(0, "", "1/1 addresses match.\n")
    );
    assert_eq!(
        run(&contents, "-v -t bad -T test 192.0.2.1 192.0.2.9 10.0.0.1", ""),
        outcome(2, "M  192.0.2.1\n", "1/3 addresses match.\n")
    );
    assert_eq!(
        run(&contents, "-vv -t bad -T test 192.0.2.1 192.0.2.9 10.0.0.1", ""),
        outcome(
            2,
            "M  192.0.2.1\t 192.0.2.0/24\n   192.0.2.9\t!192.0.2.9\n   10.0.0.1\t nomatch\n",
            "1/3 addresses match.\n"
        )
    );
    assert_eq!(
        run(&contents, "-t bad -T test 192.0.2.0/24", ""),
        outcome(255, "", "pfctl: cannot decode 192.0.2.0/24: Invalid argument\n")
    );
}

#[test]
fn refusals_have_the_texts_of_pfctl() {
    for (kind, text) in [
        (FailureKind::Constant, "Operation not permitted"),
        (FailureKind::Limit, "Cannot allocate memory"),
        (FailureKind::NotFound, "Table does not exist"),
        (FailureKind::Permission, "no"),
    ] {
        let daemon = Daemon::start(move |_| failed(kind));
        let (outcome, _) = daemon.run(&["-t", "bad", "-T", "add", "192.0.2.1"], "");
        assert_eq!((outcome.code, outcome.err), (255, format!("pfctl: {text}.\n")));
    }
    assert_eq!(
        run(&[], "-N -t bad -T add host.example", ""),
        outcome(255, "", "no IP address found for host.example\n")
    );
}

#[test]
fn dry_runs_compute() {
    let daemon = Daemon::start(table(&["192.0.2.1"]));
    let args = ["-n", "-v", "-t", "bad", "-T", "add", "192.0.2.1", "192.0.2.2"];
    let (dry, requests) = daemon.run(&args, "");
    assert_eq!(dry, outcome(0, "A  192.0.2.2\n", "1/2 addresses added (dummy).\n"));
    assert!(requests.iter().all(|request| matches!(request, Request::TableShow { .. })));
    let nowhere = ["-p", "/nonexistent/s", "-n", "-t", "bad", "-T", "add", "192.0.2.1"];
    assert_eq!(
        crate::common::pfctl(&nowhere, ""),
        outcome(0, "", "0/1 addresses added (syntax only).\n")
    );
}
