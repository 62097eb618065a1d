//! Loads of a part of a file: what is printed, and what the daemon gets.

use pfapi::control::{Request, Response};
use pfapi::dialect::Dialect;
use pfapi::facts::Facts;
use pfapi::limit::Limit;
use pfapi::load::{Part, Parts};
use pfapi::timeout::Timeout;

use crate::common::{Daemon, Reply, pfctl, unused};

/// Something of every part.
const FREEBSD: &str = "\
name = \"em0\"
set limit states 5000
set block-policy return
set skip on lo0
table <bad> persist { 192.0.2.1 }
scrub in all
altq on em0 priq bandwidth 10Mb queue { slow }
queue slow priq(default)
nat on $name from 10.0.0.0/8 to any -> 198.51.100.1
rdr on $name proto tcp to port 80 -> 10.0.0.2
block in from <bad>
pass out
";

fn listed(flags: &[&str]) -> String {
    let always = ["-p", "/nonexistent/pfd.sock", "--dialect", "freebsd", "-nv", "-f", "-"];
    let outcome = pfctl(&[&always[..], flags].concat(), FREEBSD);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{flags:?}");
    outcome.out
}

#[test]
fn only_what_is_loaded_is_listed() {
    // Macros and settings for the rules themselves are always shown.
    let always = "name = \"em0\"\nset block-policy return\n";
    let options = "name = \"em0\"\nset limit states 5000\nset block-policy return\n\
                   set skip on { lo0 }\n";
    let table = "table <bad> persist { 192.0.2.1 }\n";
    let translation = "nat on em0 inet from 10.0.0.0/8 to any -> 198.51.100.1\n\
                       rdr on em0 inet proto tcp from any to any port = http -> 10.0.0.2\n";
    let scrub = "scrub in all fragment reassemble\n";
    let filter = "block return in from <bad> to any\npass out all flags S/SA keep state\n";
    for (flags, wanted) in [
        (vec!["-O"], options.to_owned()),
        (vec!["-N"], format!("{always}{translation}")),
        (vec!["-R"], format!("{always}{scrub}{filter}")),
        (vec!["-Tload"], format!("{always}{table}")),
        (vec!["-RN"], format!("{always}{scrub}{translation}{filter}")),
        (vec!["-O", "-T", "l", "-R"], format!("{options}{table}{scrub}{filter}")),
    ] {
        assert_eq!(listed(&flags), wanted, "{flags:?}");
    }
    let queues = listed(&["-A"]);
    assert!(queues.starts_with(always) && queues.contains("altq on em0 priq"), "{queues}");
    assert!(!queues.contains("pass out") && !queues.contains("table"), "{queues}");
    let whole = listed(&[]);
    for part in [translation, scrub, filter, table, "set skip on { lo0 }\n", "altq on em0"] {
        assert!(whole.contains(part), "{part} in {whole}");
    }
}

#[test]
fn mistakes_count_in_parts_that_are_not_loaded() {
    let args = ["-p", "/nonexistent/pfd.sock", "--dialect", "freebsd", "-nNf", "-"];
    let outcome = pfctl(&args, "pass in to port 80\n");
    assert_eq!(outcome.code, 1);
    assert!(outcome.err.contains("port only applies to tcp/udp/sctp"), "{}", outcome.err);
}

/// Answers what a load asks.
fn good(request: &Request) -> Reply {
    match request {
        Request::Begin { .. } => Response::Ticket { ticket: 5 },
        Request::Facts => Response::Facts { facts: Facts::default() },
        _ => Response::Done,
    }
    .into()
}

fn requests(args: &[&str], text: &str) -> Vec<Request> {
    let (outcome, requests) = Daemon::start(good).run(&[args, &["-f", "-"]].concat(), text);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{args:?}");
    requests.into_iter().filter(|request| *request != Request::Facts).collect()
}

/// The parts that a load says it brings.
fn parts(requests: &[Request]) -> (Dialect, Parts) {
    match requests.first() {
        Some(Request::Begin { dialect, parts, .. }) => (*dialect, *parts),
        other => panic!("{other:?}"),
    }
}

#[test]
fn daemon_hears_what_a_load_brings() {
    let text = "set limit states 5000\ntable <t> { 10.0.0.1 }\nrdr on em0 proto tcp to port 80 -> \
                10.0.0.2\npass from <t>\n";
    let found = requests(&["--dialect", "freebsd", "-R"], text);
    assert_eq!(parts(&found), (Dialect::FreeBsd, Parts::from_iter([Part::Filter])));
    assert!(!found.iter().any(|request| matches!(request, Request::AddTables { .. })));
    let rules = found.iter().filter_map(|request| match request {
        Request::AddRules { rules, .. } => Some(rules.len()),
        _ => None,
    });
    assert_eq!(rules.collect::<Vec<_>>(), [1]);
    let found = requests(&["--dialect", "freebsd"], text);
    assert_eq!(parts(&found), (Dialect::FreeBsd, Parts::ALL));
    assert_eq!(parts(&requests(&[], "pass\n")), (Dialect::OpenBsd, Parts::ALL));
}

#[test]
fn rules_are_shown_in_the_form_of_their_own_system() {
    let text = "nat on em0 inet from 10.0.0.0/8 to any -> 192.0.2.1\n\
                block in\npass out proto tcp to port 22\n";
    let loaded = requests(&["--dialect", "freebsd"], text);
    let mut reports = Vec::new();
    for request in loaded {
        if let Request::AddRules { rules, .. } = request {
            reports.extend((0..).zip(rules).map(|(number, rule)| unused(number, rule)));
        }
    }
    let show = |flags: &str, dialect: Dialect| {
        let rules = reports.clone();
        let daemon = Daemon::start(move |request| match request {
            Request::Rules { .. } => Reply::Frames(vec![
                Response::Rules { dialect, rules: rules.clone() },
                Response::End,
            ]),
            Request::Tables => Response::End.into(),
            other => good(other),
        });
        daemon.run(&flags.split(' ').collect::<Vec<_>>(), "").0.out
    };
    let nat = "nat on em0 inet from 10.0.0.0/8 to any -> 192.0.2.1\n";
    let pass = "pass out proto tcp from any to any port = ssh flags S/SA keep state\n";
    let block = "block drop in all\n";
    assert_eq!(show("-sn", Dialect::FreeBsd), nat);
    assert_eq!(show("-sr", Dialect::FreeBsd), format!("{block}{pass}"));
    assert_eq!(show("-Psr", Dialect::FreeBsd), format!("{block}{}", pass.replace("ssh", "22")));
    // Numbers count within a list of rules.
    assert!(show("-vvsn", Dialect::FreeBsd).starts_with("@0 nat on em0"));
    assert!(show("-vvsr", Dialect::FreeBsd).starts_with("@0 block drop in all\n"));
    let openbsd = "pass out proto tcp from any to any port = 22 flags S/SA\n";
    assert_eq!(show("-sr", Dialect::OpenBsd), format!("{block}{openbsd}"));
    assert_eq!(show("-Psr", Dialect::OpenBsd), format!("{block}{}", openbsd.replace("22", "ssh")));
}

#[test]
fn merged_settings_are_named() {
    let text = "set limit states 5000\nset timeout tcp.first 60\n";
    let found = requests(&["-m"], text);
    // Settings alone do not take the rules away.
    assert_eq!(parts(&found).1, Parts::from_iter([Part::Options]));
    let given = found.iter().find_map(|request| match request {
        Request::AddOptions { given, options, .. } => Some((given.clone(), options.limits)),
        _ => None,
    });
    let (given, limits) = given.unwrap();
    let given = given.unwrap();
    assert_eq!(limits.get(Limit::States), 5000);
    assert_eq!(given.limits, [Limit::States]);
    // A limit of states brings the adaptive timeouts with it.
    let timeouts = [Timeout::TcpFirst, Timeout::AdaptiveStart, Timeout::AdaptiveEnd];
    assert_eq!(given.timeouts, timeouts);
    assert!(!given.skip);
    let with_rules = requests(&["-m"], "set timeout tcp.first 60\npass\n");
    assert_eq!(parts(&with_rules).1, Parts::ALL);
    assert!(
        requests(&[], text)
            .iter()
            .any(|request| { matches!(request, Request::AddOptions { given: None, .. }) })
    );
}

#[test]
fn strict_refuses_words_of_ours() {
    let text = "set syncookies adaptive (start 20%, end 10%, classic)\npass\n";
    let check = |flag: &str, text: &str| {
        pfctl(&["-p", "/nonexistent/pfd.sock", flag, "--errors", "classic", "-nf", "-"], text)
    };
    let outcome = check("--strict", text);
    let told = "stdin:1: 'classic' is no part of pf.conf on any BSD\n";
    assert_eq!((outcome.code, outcome.err.as_str()), (1, told));
    assert_eq!(check("-N", text).code, 0);
    assert_eq!(check("--strict", &text.replace(", classic", "")).code, 0);
}

#[test]
fn what_means_less_here_is_told() {
    let text = "pass out dnpipe 1\n";
    let check = |flags: &[&str]| {
        let always = ["-p", "/nonexistent/pfd.sock", "-nf", "-"];
        let outcome = pfctl(&[flags, &always[..]].concat(), text);
        (outcome.code, outcome.err)
    };
    let told = "stdin:1: warning: dnpipe 1 is not used: the packets pass without its limit\n";
    assert_eq!(check(&["--errors", "classic"]), (0, String::new()), "the lines of pfctl(8)");
    assert_eq!(check(&["--errors", "classic", "--strict"]), (1, told.to_owned()));
    let (code, pretty) = check(&["--errors", "pretty"]);
    assert_eq!(code, 0);
    assert!(pretty.contains("dnpipe 1 is not used"), "{pretty}");

    let (outcome, _) = Daemon::start(good).run(&["--errors", "classic", "-qf", "-"], text);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, told), "a load always tells");
}
