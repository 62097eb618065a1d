//! Ping, hops, and what the path says about packet sizes.

use std::process::Command;

use pf_load::lab::{CLIENT, Lab, SERVER, Setup, checked};
use pf_netns::{finished, in_lab, output_of, test_path};

use crate::world::{PASS, iperf, lab, lab_with};

fn ping(lab: &Lab, options: &[&str], host: &str) -> String {
    let mut ping = lab.command(CLIENT, "ping");
    ping.args(["-n", "-W", "2"]).args(options).arg(host);
    String::from_utf8_lossy(&finished(&mut ping, 20).stdout).into_owned()
}

#[test]
fn every_ping_is_answered() {
    in_lab(test_path!(), &["ping"], || {
        let lab = lab(PASS);
        for host in [SERVER.v4(), SERVER.v6()] {
            let text = ping(&lab, &["-c", "20", "-i", "0.02"], &host);
            assert!(text.contains("20 received, 0% packet loss"), "{text}");
        }
        // A state shows the type at the end that is asked, and the id at the other one.
        let states = lab.pfctl_ok(["-s", "states"]).unwrap();
        let (v4, v6) = (SERVER.v4(), SERVER.v6());
        for start in [format!("all icmp {v4}:8 <- "), format!("all ipv6-icmp {v6}[128] <- ")] {
            assert!(states.contains(&start), "{states}");
        }
    });
}

#[test]
fn router_answers_on_all_its_addresses() {
    in_lab(test_path!(), &["ping"], || {
        let lab = lab(PASS);
        for place in [CLIENT, SERVER] {
            for host in [place.router_v4(), place.router_v6()] {
                let text = ping(&lab, &["-c", "3", "-i", "0.1"], &host);
                assert!(text.contains("3 received, 0% packet loss"), "{text}");
            }
        }
    });
}

#[test]
fn traceroute_shows_the_router_and_the_server() {
    in_lab(test_path!(), &["traceroute"], || {
        let lab = lab(PASS);
        for (family, router, server) in
            [("-4", CLIENT.router_v4(), SERVER.v4()), ("-6", CLIENT.router_v6(), SERVER.v6())]
        {
            let mut command: Command = lab.command(CLIENT, "traceroute");
            command.args([family, "-n", "-q", "1", "-w", "2", "-m", "3", &server]);
            let text = output_of(&mut command, 20);
            let hops: Vec<_> =
                text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
            assert_eq!(hops, [&router, &server], "{text}");
        }
    });
}

#[test]
fn last_hop_is_told_to_the_sender() {
    in_lab(test_path!(), &["ping"], || {
        let lab = lab(PASS);
        let text = ping(&lab, &["-c", "1", "-t", "1"], &SERVER.v4());
        assert!(text.contains(&format!("From {} ", CLIENT.router_v4())), "{text}");
        assert!(text.contains("Time to live exceeded"), "{text}");
        let text = ping(&lab, &["-c", "1", "-t", "1"], &SERVER.v6());
        assert!(text.contains(&format!("From {} ", CLIENT.router_v6())), "{text}");
        assert!(text.contains("Hop limit"), "{text}");
    });
}

#[test]
fn answers_of_the_router_do_not_fail_urpf() {
    in_lab(test_path!(), &["ping"], || {
        // With states the answers would pass by those of the questions.
        let lab = lab("block quick from urpf-failed\npass no state\n");
        for router in [CLIENT.router_v4(), CLIENT.router_v6()] {
            let text = ping(&lab, &["-c", "3", "-i", "0.1"], &router);
            assert!(text.contains("3 received, 0% packet loss"), "{text}");
        }
        for (host, said) in [(SERVER.v4(), "Time to live exceeded"), (SERVER.v6(), "Hop limit")] {
            let text = ping(&lab, &["-c", "1", "-t", "1"], &host);
            assert!(text.contains(said), "{text}");
        }
    });
}

/// The daemon's MTU towards the server is smaller than what the ends believe, so that only its
/// own messages can tell them.
fn narrow_lab() -> Lab {
    let lab = lab_with(&Setup { rules: PASS, mtu: [1500, 1500, 1280], ..Setup::default() });
    let arguments = ["-n", SERVER.namespace, "link", "set", SERVER.interface, "mtu", "1500"];
    checked("ip", arguments).unwrap();
    lab
}

#[test]
fn too_large_packets_are_told_the_mtu() {
    in_lab(test_path!(), &["ping"], || {
        let lab = narrow_lab();
        for host in [SERVER.v4(), SERVER.v6()] {
            let text = ping(&lab, &["-c", "2", "-i", "0.2", "-M", "do", "-s", "1400"], &host);
            let told = text.to_lowercase().replace(' ', "");
            assert!(told.contains("mtu=1280"), "{host}: {text}");
        }
    });
}

#[test]
fn tcp_finds_the_path_mtu() {
    in_lab(test_path!(), &["iperf3"], || {
        let lab = narrow_lab();
        for host in [SERVER.v4(), SERVER.v6()] {
            let result = iperf(&lab, &host, &["-n", "10M"]);
            assert!(result["end"]["sum_sent"]["bytes"].as_u64().unwrap() >= 10 << 20);
        }
    });
}

/// Fragments of 60 KB are put together for the rules and cut again for the other end, which the
/// ends' own counters and the daemon's show.
#[test]
fn pings_of_60_kilobytes_pass_in_fragments() {
    in_lab(test_path!(), &["ping"], || {
        let lab = lab(PASS);
        for host in [SERVER.v4(), SERVER.v6(), CLIENT.router_v4(), CLIENT.router_v6()] {
            let text = ping(&lab, &["-c", "5", "-i", "0.1", "-s", "60000"], &host);
            assert!(text.contains("5 received, 0% packet loss"), "{text}");
        }
        let info = lab.pfctl_ok(["-vsi"]).unwrap();
        let block = info.split("Fragments\n").nth(1).unwrap();
        let count = |name: &str| -> u64 {
            let line = block.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
            line.trim_start()[name.len()..].split_whitespace().next().unwrap().parse().unwrap()
        };
        assert_eq!(count("current entries"), 0, "{info}");
        // 60,008 octets in steps of 1480 or 1448: 41 and 42 fragments. Requests and replies to the
        // server, requests to the router.
        let fragments = 5 * (41 + 42) * 3;
        assert_eq!(count("inserts"), fragments, "{info}");
        assert_eq!(count("removals"), fragments, "{info}");
    });
}
