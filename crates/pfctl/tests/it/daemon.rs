//! pfctl against a scripted daemon: loads, switches, shows, kills, and broken answers.

use crate::common::{Daemon, Reply, unused};
use pfapi::control::{
    FRAME_MAX, FailureKind, Flush, ITEMS_PER_FRAME, KillFilter, LimiterEntries, LimiterReport,
    LimiterSourceReport, QueueDefinition, QueueReport, Request, Response, RuleReport,
};
use pfapi::dialect::Dialect;
use pfapi::facts::Facts;
use pfapi::limit::Limits;
use pfapi::load::{Part, Parts};
use pfapi::port::PortMatch;
use pfapi::ruleset::{Action, QueueDef, Rule, TcpFlagsMatch};
use pfapi::timeout::Timeouts;

fn failed(kind: FailureKind, message: &str) -> Reply {
    Response::Failed { kind, message: message.to_owned() }.into()
}

/// Answers loads and everything else that needs no contents.
fn good(request: &Request) -> Reply {
    match request {
        Request::Begin { .. } => Response::Ticket { ticket: 5 },
        Request::Facts => Response::Facts { facts: Facts::default() },
        Request::Flush { .. } | Request::KillStates { .. } => Response::Count { count: 3 },
        Request::Rules { .. } | Request::Queues | Request::States { .. } | Request::Sources => {
            Response::End
        }
        Request::Limiters => Response::Limiters { states: Vec::new(), sources: Vec::new() },
        Request::Anchors => {
            Response::Anchors { paths: vec!["a".into(), "a/b".into(), "c/_1".into()] }
        }
        _ => Response::Done,
    }
    .into()
}

#[test]
fn load_is_one_transaction() {
    let rules = "pass\n".repeat(ITEMS_PER_FRAME + 1);
    let (outcome, requests) = Daemon::start(good).run(&["-o", "none", "-f", "-"], &rules);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
    assert!(matches!(
        requests.as_slice(),
        [
            Request::Facts,
            Request::Begin { .. },
            Request::AddOptions { ticket: 5, .. },
            Request::AddRules { ticket: 5, rules: first, .. },
            Request::AddRules { ticket: 5, rules: second, .. },
            Request::Commit { ticket: 5 },
        ] if first.len() == ITEMS_PER_FRAME && second.len() == 1
    ));
}

/// What a load prints, and the tables and rules that it sends as one text.
fn loaded(args: &[&str], rules: &str) -> (String, String) {
    let (outcome, requests) = Daemon::start(good).run(&[args, &["-f", "-"]].concat(), rules);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
    let mut text = String::new();
    for request in requests {
        match request {
            Request::AddTables { tables, .. } => {
                text.extend(tables.iter().map(|table| pfconf::print::table(table) + "\n"));
            }
            Request::AddRules { rules, .. } => {
                text.extend(rules.iter().map(|rule| pfconf::print::rule(rule) + "\n"));
            }
            _ => {}
        }
    }
    (outcome.out, text)
}

#[test]
fn load_optimizes_unless_told_otherwise() {
    let rules = "pass out\npass out inet\nblock in from 192.0.2.1 label \"$nr\"\n";
    let one = "pass out all flags S/SA\n\
               block drop in inet from 192.0.2.1 to any label \"1\"\n";
    let two = "pass out all flags S/SA\npass out inet all flags S/SA\n\
               block drop in inet from 192.0.2.1 to any label \"2\"\n";
    let quiet = "set ruleset-optimization none\n";
    assert_eq!(loaded(&[], rules).1, one);
    assert_eq!(loaded(&["-o", "none"], rules).1, two);
    assert_eq!(loaded(&[], &format!("{quiet}{rules}")).1, two);
    assert_eq!(loaded(&["-ob"], &format!("{quiet}{rules}")).1, one);
    // The first line counts, as in pfctl.
    let later = format!("set ruleset-optimization basic\n{quiet}{rules}");
    assert_eq!(loaded(&[], &later).1, one);
}

#[test]
fn tables_of_a_load_have_names_of_their_own() {
    let rules = "block in from { 192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4 192.0.2.5 192.0.2.6 }\n";
    let (shown, text) = loaded(&["-v"], rules);
    assert_eq!(shown, text);
    let name = text.split(['<', '>']).nth(1).unwrap();
    let (head, number) = name.rsplit_once('_').unwrap();
    let identifier = head.strip_prefix("__automatic_").unwrap();
    assert!(u32::from_str_radix(identifier, 16).is_ok(), "{name}");
    assert_eq!(number, "0");
    // The same rules have the same names, others have others.
    assert_eq!(loaded(&["-v"], rules).1, text);
    let other = loaded(&["-v"], &rules.replace('6', "7")).1;
    assert_ne!(other.split(['<', '>']).nth(1), Some(name));
}

#[test]
fn profile_puts_busy_rules_first() {
    let rules = "pass quick proto tcp to port 1\npass quick proto tcp to port 2\n";
    let report = |number, port: u16, packets| {
        let mut rule = Rule::new(Action::Pass);
        rule.quick = true;
        rule.proto = Some(6);
        rule.flags = Some(TcpFlagsMatch::S_SA);
        rule.to.port = Some(PortMatch::Equal(port));
        RuleReport {
            number,
            rule,
            evaluations: 0,
            packets: [packets, 1],
            bytes: [0; 2],
            states: 0,
            states_total: 0,
            uid: 0,
            pid: 0,
            expired: false,
        }
    };
    let answer = move |request: &Request| match request {
        Request::Rules { .. } => Reply::Frames(vec![
            Response::Rules {
                dialect: Dialect::OpenBsd,
                rules: vec![report(0, 1, 5), report(1, 2, 50)],
            },
            Response::End,
        ]),
        other => good(other),
    };
    let run = |args: &[&str]| {
        let args = [args, &["-vf", "-"]].concat();
        let (outcome, requests) = Daemon::start(answer).run(&args, rules);
        assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
        (outcome.out, requests.contains(&Request::Rules { anchor: String::new() }))
    };
    let one = "pass quick proto tcp from any to any port = 1 flags S/SA\n";
    let two = "pass quick proto tcp from any to any port = 2 flags S/SA\n";
    assert_eq!(run(&["-o", "profile"]), ([two, one].concat(), true));
    assert_eq!(run(&[]), ([one, two].concat(), false));
}

#[test]
fn wrong_rules_never_reach_the_daemon() {
    let (outcome, requests) = Daemon::start(good).run(&["-f", "-"], "nonsense here\n");
    assert_eq!(outcome.code, 1);
    assert!(outcome.err.starts_with("stdin:1: "), "{}", outcome.err);
    assert!(outcome.err.ends_with("\npfctl: Syntax error in config file: pf rules not loaded\n"));
    assert_eq!(requests, [Request::Facts]);
}

#[test]
fn overtaken_load_is_busy() {
    let answer = |request: &Request| match request {
        Request::Commit { .. } => failed(FailureKind::Busy, "ticket 5 is stale"),
        other => good(other),
    };
    let (outcome, _) = Daemon::start(answer).run(&["-f", "-"], "pass\n");
    assert_eq!(outcome.err, "pfctl: DIOCXCOMMIT: Device busy\n");
    assert_eq!(outcome.code, 1);
}

#[test]
fn refused_part_rolls_back() {
    let answer = |request: &Request| match request {
        Request::AddRules { .. } => failed(FailureKind::Invalid, "rule 0: port\u{1b} without"),
        other => good(other),
    };
    let (outcome, requests) = Daemon::start(answer).run(&["-f", "-"], "pass\n");
    assert_eq!(outcome.err, "pfctl: rule 0: port\\u{1b} without\n");
    assert_eq!(requests.last(), Some(&Request::Rollback { ticket: 5 }));
}

#[test]
fn actions_have_a_fixed_order() {
    let args = ["-e", "-f", "-", "-F", "all", "-k", "192.0.2.1", "-z", "-s", "rules", "-d"];
    let (outcome, requests) = Daemon::start(good).run(&args, "pass\n");
    let names: Vec<String> = requests
        .iter()
        .map(|request| {
            let json = serde_json::to_value(request).unwrap();
            json["request"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        names.join(" "),
        "disable rules clear-rule-counters flush flush flush flush flush flush flush kill-states facts \
         begin add-options add-rules commit enable"
    );
    assert_eq!(
        outcome.err,
        "pf disabled\n3 tables deleted.\nrules cleared\n3 states cleared\nsource tracking entries cleared\n\
         pf: statistics cleared\npf: interface flags reset\n\
         killed 3 states from 1 sources and 0 destinations\npf enabled\n"
    );
    assert_eq!(requests[3], Request::Flush { what: Flush::Tables { anchor: String::new() } });
}

#[test]
fn quiet_is_quiet() {
    let (outcome, _) = Daemon::start(good).run(&["-q", "-e", "-F", "states"], "");
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
}

#[test]
fn switching_twice_fails_but_the_rest_is_done() {
    let answer = |request: &Request| match request {
        Request::Enable | Request::Disable => failed(FailureKind::Unchanged, "so it is"),
        other => good(other),
    };
    let (outcome, requests) = Daemon::start(answer).run(&["-d", "-F", "info", "-e"], "");
    assert_eq!(
        outcome.err,
        "pfctl: pf not enabled\npf: statistics cleared\npfctl: pf already enabled\n"
    );
    assert_eq!((outcome.code, requests.len()), (1, 3));
}

#[test]
fn parse_only_changes_nothing() {
    let args = ["-n", "-d", "-e", "-F", "all", "-s", "all", "-z", "-k", "192.0.2.1", "-f", "-"];
    let (outcome, requests) = Daemon::start(good).run(&args, "pass\n");
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
    assert_eq!(requests, [Request::Facts]);
}

#[test]
fn kill_by_label_id_and_interface() {
    let (outcome, requests) = Daemon::start(good).run(&["-k", "label", "-k", "web"], "");
    assert_eq!(outcome.err, "killed 3 states\n");
    let filter = KillFilter::Label { label: "web".to_owned() };
    assert_eq!(requests, [Request::KillStates { filter }]);
    let args = ["-i", "tun0", "-k", "0.0.0.0/0", "-k", "192.0.2.1"];
    let (outcome, requests) = Daemon::start(good).run(&args, "");
    assert_eq!(outcome.err, "killed 3 states from 1 sources and 1 destinations\n");
    let Request::KillStates { filter: KillFilter::Hosts { interface, .. } } = &requests[0] else {
        panic!("{requests:?}");
    };
    assert_eq!(interface.as_deref(), Some("tun0"));
    let (outcome, requests) = Daemon::start(good).run(&["-k", "label"], "");
    assert!(outcome.err.starts_with("pfctl: no label specified\nusage: "), "{}", outcome.err);
    assert!(requests.is_empty());
}

#[test]
fn lists_come_in_parts() {
    let report =
        |number| unused(number, Rule::new(Action::Block(pfapi::ruleset::BlockAnswer::Drop)));
    let answer = move |request: &Request| match request {
        Request::Rules { .. } => Reply::Frames(vec![
            Response::Rules { dialect: Dialect::OpenBsd, rules: vec![report(0), report(1)] },
            Response::Rules { dialect: Dialect::OpenBsd, rules: vec![report(2)] },
            Response::End,
        ]),
        Request::Tables | Request::Fingerprints => Response::End.into(),
        other => good(other),
    };
    let (outcome, _) = Daemon::start(answer).run(&["-sr"], "");
    assert_eq!(outcome.out, "block drop all\n".repeat(3));
    let (outcome, _) = Daemon::start(answer).run(&["-vvsr", "-R2"], "");
    assert_eq!(
        outcome.out,
        "@2 block drop all\n  \
         [ Evaluations: 0         Packets: 0         Bytes: 0           States: 0     ]\n  \
         [ Inserted: uid 0 pid 1 State Creations: 0     ]\n"
    );
}

#[test]
fn anchors_are_shown_loaded_and_flushed() {
    let inner = |path: &str| pfapi::ruleset::Anchor { path: path.to_owned(), rules: None };
    let block = || Rule::new(Action::Block(pfapi::ruleset::BlockAnswer::Drop));
    let anchor =
        move |path: &str| Rule { anchor: Some(Box::new(inner(path))), ..Rule::new(Action::Pass) };
    let answer = move |request: &Request| match request {
        Request::Rules { anchor: path } => {
            let rules = match path.as_str() {
                "" => vec![unused(0, anchor("_1")), unused(1, anchor("a"))],
                "_1" | "a/b" => vec![unused(0, block())],
                "a" => vec![unused(0, anchor("*"))],
                _ => return failed(FailureKind::NotFound, "Anchor does not exist"),
            };
            Reply::Frames(vec![Response::Rules { dialect: Dialect::OpenBsd, rules }, Response::End])
        }
        other => good(other),
    };
    let shown = |args: &[&str]| Daemon::start(answer).run(args, "").0.out;
    // Bodies without a name are shown where they stand, others only when asked for.
    assert_eq!(shown(&["-sr"]), "anchor all {\n  block drop all\n}\nanchor \"a\" all\n");
    assert_eq!(shown(&["-a", "a/b", "-sr"]), "block drop all\n");
    assert_eq!(
        shown(&["-a", "*", "-sr"]),
        "anchor all {\n  block drop all\n}\nanchor \"a\" all {\n  anchor \"*\" all\n  \
         anchor \"b\" all {\n    block drop all\n  }\n}\n"
    );
    assert_eq!(shown(&["-sA"]), "  a\n  a/b\n");
    assert_eq!(shown(&["-vsA"]), "  a\n  a/b\n  c/_1\n");
    assert_eq!(shown(&["-a", "a", "-sA"]), "  a/b\n");
    let (outcome, _) = Daemon::start(answer).run(&["-a", "none", "-sr"], "");
    assert_eq!((outcome.code, outcome.err.as_str()), (1, "pfctl: Anchor does not exist\n"));
    let rules = "anchor in {\n block\n}\n";
    let (outcome, requests) = Daemon::start(answer).run(&["-a", "x/y", "-f", "-"], rules);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
    assert!(
        requests.contains(&Request::Begin {
            anchor: "x/y".into(),
            dialect: Dialect::OpenBsd,
            parts: Parts::ALL,
        }),
        "{requests:?}"
    );
    let paths: Vec<_> = requests
        .iter()
        .filter_map(|request| match request {
            Request::AddRules { anchor, rules, .. } => Some((anchor.as_str(), rules.len())),
            _ => None,
        })
        .collect();
    assert_eq!(paths, [("", 1), ("_1", 1)]);
    let (_, requests) = Daemon::start(answer).run(&["-a", "x", "-F", "rules"], "");
    assert_eq!(requests, [Request::Flush { what: Flush::Rules { anchor: "x".into() } }]);
}

#[test]
fn anchors_are_flushed_from_the_inside_out() {
    let paths = ["a", "a/b", "a/b/_1", "a/c", "ab"];
    let answer = move |request: &Request| match request {
        Request::Anchors => {
            Reply::Frames(vec![Response::Anchors { paths: paths.map(str::to_owned).to_vec() }])
        }
        Request::Flush { what: Flush::Rules { anchor } } if anchor == "a/c" => {
            failed(FailureKind::NotFound, "Anchor does not exist")
        }
        other => good(other),
    };
    let flushed = |args: &[&str]| {
        let (outcome, requests) = Daemon::start(answer).run(args, "");
        let flushed = requests.into_iter().filter_map(|request| match request {
            Request::Flush { what: Flush::Rules { anchor } } => Some(format!("rules {anchor}")),
            Request::Flush { what: Flush::Tables { anchor } } => Some(format!("tables {anchor}")),
            _ => None,
        });
        (outcome, flushed.collect::<Vec<_>>().join(", "))
    };
    // What is wrong with one keeps no other from it.
    let (outcome, list) = flushed(&["-a", "a/*", "-Fr"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (1, "Removing:\n  a/c\n  a/b\n  a\n"));
    assert_eq!(list, "rules a/c, rules a/b, rules a");
    let (outcome, list) = flushed(&["-a", "a/b/*", "-Fa"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "Removing:\n  a/b\n"));
    assert_eq!(list, "tables a/b, rules a/b");
    let (outcome, list) = flushed(&["-a", "*", "-FT"]);
    assert_eq!((outcome.code, list.split(", ").count()), (0, 5));
    assert!(outcome.out.ends_with("\n  /\n"), "{}", outcome.out);
    let (outcome, _) = flushed(&["-a", "none/*", "-Fr"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (1, "pfctl: Anchor does not exist\n"));
}

#[test]
fn the_lists_of_freebsd_are_flushed_one_by_one() {
    for (word, part, told) in [
        ("nat", Part::Translation, "nat cleared\n"),
        ("queue", Part::Queues, "altq cleared\n"),
        ("rules", Part::Filter, "rules cleared\n"),
    ] {
        let args = ["--dialect", "freebsd", "-a", "x", "-F", word];
        let (outcome, requests) = Daemon::start(good).run(&args, "");
        assert_eq!((outcome.code, outcome.err.as_str()), (0, told));
        let parts = [part].into_iter().collect();
        let begin = Request::Begin { anchor: "x".into(), dialect: Dialect::FreeBsd, parts };
        assert_eq!(requests, [begin, Request::Commit { ticket: 5 }]);
    }
}

#[test]
fn queues_are_loaded_and_shown() {
    let rules = "queue root on tun0 bandwidth 10M\nqueue a parent root bandwidth 1M default\n\
                 pass set queue a\n";
    let facts = Facts { interfaces: vec![pfapi::facts::InterfaceFacts::new("tun0")] };
    let answer = move |request: &Request| match request {
        Request::Facts => Response::Facts { facts: facts.clone() }.into(),
        other => good(other),
    };
    let (outcome, requests) = Daemon::start(answer).run(&["-f", "-"], rules);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
    let queues = requests.iter().find_map(|request| match request {
        Request::AddQueues { ticket: 5, queues, .. } => Some(queues.clone()),
        _ => None,
    });
    let queues = queues.unwrap();
    assert_eq!(queues.len(), 2);
    let answer = move |request: &Request| match request {
        Request::Queues => {
            let report = |(queue, interface): (&QueueDef, &str)| QueueReport {
                interface: interface.to_owned(),
                definition: QueueDefinition::Queue(queue.clone()),
                packets: 7,
                bytes: 7000,
                dropped_packets: 1,
                dropped_bytes: 1500,
                qlength: 2,
                qlimit: 50,
            };
            let queues = queues.iter().zip(["tun0", "tun1"]).map(report).collect();
            Reply::Frames(vec![Response::Queues { set: 1, queues }, Response::End])
        }
        other => good(other),
    };
    let shown = |args: &[&str]| Daemon::start(answer.clone()).run(args, "").0.out;
    assert_eq!(
        shown(&["-s", "queue"]),
        "queue root on tun0 bandwidth 10M\nqueue a parent root bandwidth 1M default\n"
    );
    assert_eq!(
        shown(&["-v", "-i", "tun1", "-s", "queue"]),
        "queue a parent root bandwidth 1M default\n  \
         [ pkts:          7  bytes:       7000  dropped pkts:      1 bytes:   1500 ]\n  \
         [ qlength:   2/ 50 ]\n"
    );
}

#[test]
fn limiters_are_loaded_and_shown() {
    let rules = "state limiter \"dns\" id 3 limit 9 rate 1/5\n\
                 source limiter \"clients\" id 4 entries 7 limit 2 inet mask 24\n\
                 pass in proto udp state limiter \"dns\" (no-match)\n";
    let (outcome, requests) = Daemon::start(good).run(&["-f", "-"], rules);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
    let sent = requests.iter().find_map(|request| match request {
        Request::AddLimiters { ticket: 5, states, sources } => Some((states, sources)),
        _ => None,
    });
    let (states, sources) = sent.expect("they are sent");
    assert_eq!((states[0].id, states[0].limit, sources[0].entries), (3, 9, 7));
    let report = |entries| LimiterReport {
        id: 3,
        name: "dns".to_owned(),
        limit: 9,
        rate: None,
        states: 2,
        entries,
        admitted: 4,
        hard_limited: 5,
        rate_limited: 6,
    };
    let answer = move |request: &Request| match request {
        Request::Limiters => {
            let entries = LimiterEntries { count: 1, limit: 7, refused: 8 };
            let (states, sources) = (vec![report(None)], vec![report(Some(entries))]);
            Response::Limiters { states, sources }.into()
        }
        Request::LimiterSources { id: 3 } => Reply::Frames(vec![
            Response::LimiterSources {
                sources: vec![LimiterSourceReport {
                    prefix: "192.0.2.0/24".parse().unwrap(),
                    states: 2,
                    admitted: 4,
                    hard_limited: 5,
                    rate_limited: 6,
                }],
            },
            Response::End,
        ]),
        other => good(other),
    };
    let words = |args: &[&str]| {
        let (outcome, _) = Daemon::start(answer).run(args, "");
        assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
        outcome.out.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        words(&["-sLimiterStates"]),
        "ID STATES/LIMIT RATE ADMITTED HARDLIM RATELIM NAME 3 2/9 - 4 5 6 dns"
    );
    assert_eq!(
        words(&["-vsLimiterSrcs"]),
        "ID SOURCES/ENTRIES RATE ADMITTED HARDLIM RATELIM ADDRLIM STATES/LIMIT NAME \
         3 1/7 - 4 5 6 8 2/9 dns \
         192.0.2.0/24 states 2 admitted 4 hardlim 5 ratelim 6"
    );
}

#[test]
fn everything_has_titles() {
    let answer = |request: &Request| match request {
        Request::Timeouts => Response::Timeouts { timeouts: Timeouts::default() }.into(),
        Request::Limits => Response::Limits { limits: Limits::default() }.into(),
        Request::Tables | Request::Fingerprints => Response::End.into(),
        Request::Info => failed(FailureKind::Permission, ""),
        other => good(other),
    };
    let (outcome, _) = Daemon::start(answer).run(&["-sa"], "");
    assert_eq!(outcome.out, "FILTER RULES:\n\nINFO:\n");
    assert_eq!((outcome.code, outcome.err.as_str()), (1, "pfctl: Operation not permitted\n"));
}

#[test]
fn broken_answers_are_errors() {
    let closed = "pfctl: the daemon closed the connection before its answer was complete\n";
    let mut too_long = vec![b' '; FRAME_MAX + 10];
    too_long.push(b'\n');
    for (raw, message) in [
        (Vec::new(), closed.to_owned()),
        (br#"{"response":"done""#.to_vec(), closed.to_owned()),
        (b"\xff\xfe\n".to_vec(), "pfctl: the daemon sent a frame that is no answer: ".to_owned()),
        (b"{\"response\":\"odd\"}\n".to_vec(), "pfctl: the daemon sent a frame that".to_owned()),
        (
            [vec![b'['; 100_000], b"\n".to_vec()].concat(),
            "pfctl: the daemon sent a frame that".to_owned(),
        ),
        (too_long, format!("pfctl: the daemon sent a frame of more than {FRAME_MAX} octets\n")),
        (
            b"{\"response\":\"ticket\",\"ticket\":1}\n".to_vec(),
            "pfctl: the daemon gave an answer of the wrong kind to enable\n".to_owned(),
        ),
    ] {
        let (outcome, _) = Daemon::start(move |_| Reply::Raw(raw.clone())).run(&["-e"], "");
        assert_eq!(outcome.code, 1);
        assert!(outcome.err.starts_with(&message), "{}\n{message}", outcome.err);
    }
}

#[test]
fn wrong_kind_of_list_is_an_error() {
    let answer =
        |_: &Request| Reply::Frames(vec![Response::States { states: vec![] }, Response::End]);
    let (outcome, _) = Daemon::start(answer).run(&["-sr"], "");
    assert_eq!(outcome.err, "pfctl: the daemon gave an answer of the wrong kind to rules\n");
}
