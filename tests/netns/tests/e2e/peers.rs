//! What a connection that began with a cookie is like, beside one through a kernel that forwards,
//! and what somebody gets who only pretends to answer cookies. `make peers` measures the same at
//! length.

use std::time::Duration;

use pf_load::lab::CLIENT;
use pf_netns::{in_lab, test_path};
use pf_peers::capture::{Capture, SYN_ACK, Segment};
use pf_peers::cluster::{Cluster, Member, secret};
use pf_peers::middle::{Middle, Plan, SECOND_ADDRESS, TTL_OF_SERVER};
use pf_peers::options::{self, CASES, Case, difference};
use pf_peers::pair::{Call, connect};
use pf_peers::relay::Line;
use pf_peers::requests::{Flood, Load, Web};
use pf_peers::scan::{Manner, differences};
use pf_peers::transfer::{Job, Way};
use pf_peers::{forgery, requests, scan, transfer};

fn case(name: &str) -> &'static Case {
    CASES.iter().find(|case| case.name == name).expect("a case of the table")
}

/// Differences between connections through something and the same ones through plain forwarding,
/// once the firewall has seen a connection to this server.
fn differences_to_plain(middle: Middle, cases: &[Case]) -> Vec<String> {
    let plain = options::measure(Middle::Plain, cases).unwrap();
    let cells = options::measure(middle, cases).unwrap();
    assert_eq!((plain.len(), cells.len()), (cases.len(), cases.len()));
    plain
        .iter()
        .zip(&cells)
        .map(|(plain, cell)| match (&plain.later, &cell.later) {
            (Ok(plain), Ok(seen)) => difference(plain, seen),
            (plain, seen) => panic!("{}: {plain:?}, {seen:?}", cell.case),
        })
        .collect()
}

#[test]
fn calm_connections_are_those_of_plain_forwarding() {
    in_lab(test_path!(), &["ip"], || {
        let cases =
            ["usual", "IPv6", "ECN", "client's MSS 1333", "client's shift 14, no timestamps"]
                .map(|name| *case(name));
        assert_eq!(differences_to_plain(Middle::Calm, &cases), [""; 5]);
    });
}

/// What `classic` promises is OpenBSD's handshake, with what is lost by it. It also shows that the
/// comparison sees a loss.
#[test]
fn classic_cookies_lose_the_options_that_they_lose_in_openbsd() {
    in_lab(test_path!(), &["ip"], || {
        let cases = [*case("usual"), *case("client without any of the three")];
        let seen = differences_to_plain(Middle::Classic, &cases);
        assert_eq!(
            seen,
            [
                "c: mss 1448→1460 wscale 7/10→none -sack -ts; \
                 s: mss 1448→536 wscale 10/7→none -sack -ts",
                "s: mss 1460→536"
            ]
        );
    });
}

/// The client's ports are few, so that connections use the ports of others again while the server
/// still remembers those.
#[test]
fn everybody_is_served_during_a_flood_that_the_server_answers() {
    in_lab(test_path!(), &["ip"], || {
        let load = Load { connections: 2000, rate: 500.0, flood: 10_000, ports: 50 };
        let outcome = requests::measure(Middle::Flood, &load).unwrap();
        assert_eq!((outcome.served, outcome.failed), (2000, 0), "{outcome:?}");
        assert!(outcome.cookies_accepted > 1000, "{outcome:?}");
    });
}

#[test]
fn guessed_acknowledgements_are_not_taken_for_answers() {
    in_lab(test_path!(), &["ip"], || {
        // 2^18 guesses against one chance in 2^24 at most.
        for stamped in [false, true] {
            let guesses = forgery::guess(Middle::Always, stamped, 1 << 18).unwrap();
            assert!(guesses.sent >= 1 << 18 && guesses.accepted <= 1, "{guesses:?}");
        }
    });
}

#[test]
fn large_transfers_arrive_whole_over_a_bad_line() {
    in_lab(test_path!(), &["ip"], || {
        let line = Line { lost_per_mille: 10, late_per_mille: 10, delay: Duration::ZERO };
        let jobs = [Way::Up, Way::Down].map(|way| Job {
            way,
            octets: 25_000_000,
            wrap: true,
            limit: Duration::from_secs(40),
            line,
        });
        let setting = transfer::Setting { middle: Middle::Always, congestion: None };
        for transfer in transfer::measure(&setting, &jobs).unwrap() {
            assert!(transfer.line.lost > 100 && transfer.line.late > 100, "{transfer:?}");
            assert!(transfer.wrapped, "{transfer:?}");
        }
    });
}

/// Exceptions are told: without timestamps a cookie has room for fewer values, so the client's shift
/// and its segment are rounded down, and windows are translated from one shift to the other.
#[test]
fn cookie_connections_are_those_of_plain_forwarding_with_named_exceptions() {
    in_lab(test_path!(), &["ip"], || {
        let wanted = [
            ("usual", ""),
            ("IPv6", ""),
            ("client without SACK", ""),
            ("client without window scale", ""),
            ("client without any of the three", ""),
            ("client's shift 0", ""),
            ("client's MSS 1380", ""),
            ("client's MSS 536", ""),
            ("ECN", ""),
            ("ECN, server refuses", ""),
            ("client without timestamps", "c: wscale 7/10→8/10; s: wscale 10/7→8/7"),
            ("client's MSS 1333", "s: mss 1321→1320"),
            ("server without SACK", ""),
            ("server without window scale", ""),
            ("server's shift 10", ""),
            ("server's MSS 1300", ""),
        ];
        let cases = wanted.map(|(name, _)| *case(name));
        assert_eq!(differences_to_plain(Middle::Always, &cases), wanted.map(|(_, text)| text));
    });
}

/// With what the server has sent, the TTL says so: a cookie has that of the firewall.
#[test]
fn flood_on_one_address_leaves_handshakes_with_another_alone() {
    in_lab(test_path!(), &["ip"], || {
        let stand = Plan::new(Middle::Flood).start().unwrap();
        let _web = Web::start(100).unwrap();
        let flood = Flood::start(&stand, 10_000).unwrap();
        let capture = Capture::start(CLIENT).unwrap();
        let ttl_of_answer = |call: &Call, connect: &dyn Fn(&Call)| {
            connect(call);
            let from = (call.to.ip(), call.to.port());
            let answer =
                |segment: &Segment| segment.from == from && segment.flags & SYN_ACK == SYN_ACK;
            capture.find(Duration::from_secs(5), answer).unwrap().expect("an answer").ttl
        };
        let flooded = Call::to(([10, 77, 3, 2], 80).into());
        let other = Call::to(format!("{SECOND_ADDRESS}:80").parse().unwrap());
        for _ in 0..20 {
            let ttl = ttl_of_answer(&other, &|call| drop(connect(call).unwrap()));
            assert_eq!(ttl, TTL_OF_SERVER, "the other address is not flooded");
        }
        let ttl = ttl_of_answer(&flooded, &|call| {
            let address = call.to;
            pf_netns::at(CLIENT, || {
                std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap()
            });
        });
        assert_ne!(ttl, TTL_OF_SERVER, "the flooded address gets cookies");
        drop(flood);
    });
}

#[test]
fn port_scan_sees_the_same_ports_behind_cookies() {
    in_lab(test_path!(), &["ip", "nmap"], || {
        for manner in [Manner::Syn, Manner::Connect] {
            let scans = [Middle::Calm, Middle::Probing]
                .map(|middle| scan::measure(middle, manner, 3100).unwrap());
            assert_eq!(differences(&scans[0], &scans[1]), (0, Vec::new()), "{manner:?}");
            assert_eq!(scans[0].states.len(), 3, "{:?}", scans[0].states);
        }
    });
}

#[test]
fn acknowledgement_cannot_be_used_twice() {
    in_lab(test_path!(), &["ip"], || {
        let replays = forgery::replay(Middle::Always, 5).unwrap();
        assert_eq!((replays.sent, replays.accepted), (5, 0));
    });
}

#[test]
fn daemons_with_one_secret_accept_each_others_cookies() {
    in_lab(test_path!(), &["ip", "nft"], || {
        let (old, new, foreign) = ([secret(1)], [secret(2)], [secret(3)]);
        let both = [secret(2), secret(1)];
        let mut cluster = Cluster::start([&old, &old]).unwrap();
        cluster.acquaint_a().unwrap();
        cluster.talk(|_| Ok(())).unwrap();
        // The one that made the cookie is started again in between.
        cluster.talk(|cluster| cluster.restart(Member::A, &old)).unwrap();
        cluster.acquaint_a().unwrap();
        // The secret changes: first where cookies are accepted, then where they are made.
        cluster.talk(|cluster| cluster.change_secrets(Member::B, &both)).unwrap();
        cluster.change_secrets(Member::A, &both).unwrap();
        cluster.talk(|_| Ok(())).unwrap();
        cluster.talk(|cluster| cluster.change_secrets(Member::A, &new)).unwrap();
        cluster.talk(|cluster| cluster.change_secrets(Member::B, &new)).unwrap();
        assert!(cluster.info(Member::A).unwrap().cookies_sent() >= 1);
        assert!(cluster.info(Member::B).unwrap().cookies_validated() >= 6);
        // With another secret they do not know each other's cookies.
        cluster.change_secrets(Member::B, &foreign).unwrap();
        assert!(cluster.talk(|_| Ok(())).is_err());
        assert_eq!(cluster.info(Member::B).unwrap().cookies_validated(), 6);
    });
}
