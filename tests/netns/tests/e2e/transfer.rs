//! Data goes through unharmed and whole.

use pf_load::lab::{CLIENT, Lab, SERVER, Setup};
use pf_netns::{in_lab, output_of, test_path};

use crate::world::{COOKIES, Nginx, PASS, fetch, iperf, lab, lab_with, server_hosts};

fn large_file_arrives(lab: &Lab) {
    let nginx = Nginx::start(lab, 100);
    for host in server_hosts() {
        assert_eq!(fetch(lab, &host, ""), nginx.sha256, "{host}");
    }
}

#[test]
fn large_file_arrives_whole_through_plain_state() {
    in_lab(test_path!(), &["nginx", "curl"], || {
        let lab = lab(PASS);
        large_file_arrives(&lab);
        assert_eq!(lab.info().unwrap().cookies_sent(), 0);
    });
}

#[test]
fn large_file_arrives_whole_through_a_cookie_connection() {
    in_lab(test_path!(), &["nginx", "curl"], || {
        let lab = lab(COOKIES);
        large_file_arrives(&lab);
        let info = lab.info().unwrap();
        assert!(info.cookies_sent() >= 2, "{info:?}");
        assert!(info.cookies_validated() >= 2, "{info:?}");
    });
}

#[test]
fn large_file_arrives_whole_with_the_plain_backend() {
    in_lab(test_path!(), &["nginx", "curl"], || {
        let setup = Setup { rules: COOKIES, backend: "plain", ..Setup::default() };
        large_file_arrives(&lab_with(&setup));
    });
}

#[test]
fn four_parallel_streams_make_progress() {
    in_lab(test_path!(), &["iperf3"], || {
        let lab = lab(PASS);
        for host in [SERVER.v4(), SERVER.v6()] {
            let result = iperf(&lab, &host, &["-t", "3", "-P", "4"]);
            for stream in result["end"]["streams"].as_array().unwrap() {
                let octets = stream["receiver"]["bytes"].as_u64().unwrap();
                assert!(octets > 1 << 20, "{host}: one stream got {octets} octets only");
            }
        }
    });
}

#[test]
fn upload_goes_through() {
    in_lab(test_path!(), &["iperf3"], || {
        let lab = lab(COOKIES);
        for host in [SERVER.v4(), SERVER.v6()] {
            let result = iperf(&lab, &host, &["-n", "50M", "-R"]);
            assert!(result["end"]["sum_received"]["bytes"].as_u64().unwrap() >= 50 << 20);
            let result = iperf(&lab, &host, &["-n", "50M"]);
            assert!(result["end"]["sum_sent"]["bytes"].as_u64().unwrap() >= 50 << 20);
        }
    });
}

#[test]
fn udp_loses_next_to_nothing() {
    in_lab(test_path!(), &["iperf3"], || {
        let lab = lab(PASS);
        for host in [SERVER.v4(), SERVER.v6()] {
            let result = iperf(&lab, &host, &["-u", "-b", "20M", "-l", "1200", "-t", "2"]);
            let sum = &result["end"]["sum"];
            assert!(sum["packets"].as_u64().unwrap() > 1000, "{host}: {sum}");
            assert!(sum["lost_percent"].as_f64().unwrap() < 1.0, "{host}: {sum}");
        }
    });
}

/// What arrives is what left, in both directions, with every size around the MTU.
#[test]
fn odd_sizes_come_back_unchanged() {
    in_lab(test_path!(), &["ping"], || {
        let lab = lab(PASS);
        for host in [SERVER.v4(), SERVER.v6()] {
            for size in ["0", "1", "511", "1452", "1453", "1472", "1473", "4000"] {
                let mut ping = lab.command(CLIENT, "ping");
                ping.args(["-n", "-c", "2", "-i", "0.1", "-W", "2", "-s", size, &host]);
                let text = output_of(&mut ping, 10);
                assert!(text.contains(" 0% packet loss"), "{size} octets to {host}: {text}");
                assert!(!text.contains("wrong data"), "{text}");
            }
        }
    });
}
