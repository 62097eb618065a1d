//! Queues limit, share, guarantee and keep delay low, measured by iperf3 and ping.
//!
//! The client sends to the server, so the queues are those of tun2. What iperf3 counts is payload;
//! queues count whole packets, so that every figure is put on the scale of packets first.

use std::time::Duration;

use pf_load::lab::{Background, CLIENT, Lab, SERVER};
use pf_netns::{Processors, in_lab, output_of, test_path};
use serde_json::Value;

use crate::world::{iperf, lab, wait_for_port};

/// Octets of headers of a full TCP segment with timestamps, and of its payload.
const TCP_V4: (f64, f64) = (52.0, 1448.0);
const TCP_V6: (f64, f64) = (72.0, 1428.0);
/// Likewise for the datagrams of these tests.
const UDP_PAYLOAD: f64 = 1400.0;
const UDP_HEADERS: f64 = 28.0;

/// Bits per second of packets that carry so many of payload.
fn with_headers(payload_bps: f64, (headers, payload): (f64, f64)) -> f64 {
    payload_bps * (headers + payload) / payload
}

fn received_bps(result: &Value) -> f64 {
    result["end"]["sum_received"]["bits_per_second"].as_f64().unwrap()
}

/// Bits per second of the datagrams that arrived, with their headers.
fn udp_bps(result: &Value) -> f64 {
    let sum = &result["end"]["sum"];
    let arrived = sum["packets"].as_f64().unwrap() - sum["lost_packets"].as_f64().unwrap();
    arrived * (UDP_PAYLOAD + UDP_HEADERS) * 8.0 / sum["seconds"].as_f64().unwrap()
}

#[track_caller]
fn within(measured: f64, wanted: f64, percent: f64, what: &str) {
    let off = (measured / wanted - 1.0) * 100.0;
    println!("{what}: {:.3} Mbit/s, {off:+.2} % of {:.3}", measured / 1e6, wanted / 1e6);
    assert!(
        off.abs() <= percent,
        "{what}: {measured:.0} bit/s instead of {wanted:.0}: {off:+.2} %"
    );
}

/// Measurements before a machine whose processors are taken away is given up.
const ATTEMPTS: usize = 4;

/// As [`within`] for what one or several flows get. Too little is measured again only where others
/// had the processors meanwhile: then it says nothing. Too much is a failure anywhere.
fn reaches<const N: usize>(wanted: [(f64, f64, &str); N], mut measure: impl FnMut() -> [f64; N]) {
    for attempt in 1..=ATTEMPTS {
        let processors = Processors::watch();
        let measured = measure();
        let off = |(bps, (wanted, percent, _)): (f64, (f64, f64, _))| {
            (bps / wanted - 1.0) * 100.0 / percent
        };
        let offs: Vec<f64> = measured.into_iter().zip(wanted).map(off).collect();
        let is_too_little = offs.iter().any(|off| *off < -1.0);
        let is_too_much = offs.iter().any(|off| *off > 1.0);
        if !is_too_little || is_too_much || processors.are_own() {
            for (bps, (wanted, percent, what)) in measured.into_iter().zip(wanted) {
                within(bps, wanted, percent, what);
            }
            return;
        }
        println!("attempt {attempt}: {measured:.0?} bit/s");
        if attempt == ATTEMPTS {
            processors.give_up();
        }
    }
}

/// iperf3 from the client to one port of the server, in the background.
struct Stream {
    server: Background,
    client: Background,
}

impl Stream {
    fn start(lab: &Lab, port: u16, options: &[&str]) -> Self {
        let port_text = port.to_string();
        let mut server = lab.command(SERVER, "iperf3");
        server.args(["-s", "-1", "-p", &port_text]);
        let log = |side: &str| lab.folder().join(format!("iperf3-{side}-{port}.log"));
        let server = Background::start(server, &log("server")).unwrap();
        wait_for_port(port);
        let mut client = lab.command(CLIENT, "iperf3");
        client.args(["-J", "-c", &SERVER.v4(), "-p", &port_text]).args(options);
        Self { client: Background::start(client, &log("client")).unwrap(), server }
    }

    fn finish(mut self) -> Value {
        self.client.wait(Duration::from_mins(1));
        self.server.wait(Duration::from_secs(5));
        let text = self.client.log();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// Average and longest round trip in milliseconds.
fn ping(lab: &Lab, count: &str) -> (f64, f64) {
    let mut ping = lab.command(CLIENT, "ping");
    ping.args(["-n", "-q", "-c", count, "-i", "0.1", "-W", "2", &SERVER.v4()]);
    let text = output_of(&mut ping, 40);
    // rtt min/avg/max/mdev = 0.1/0.2/0.3/0.0 ms
    let figures = text.rsplit(" = ").next().unwrap_or_default();
    let mut figures = figures.split('/').skip(1).map(|figure| figure.parse().unwrap());
    (figures.next().unwrap(), figures.next().unwrap())
}

#[test]
fn tcp_gets_the_bandwidth_of_the_queue() {
    in_lab(test_path!(), &["iperf3"], || {
        // A queue of 50 packets is 6 ms long at 100 Mbit/s; a busy machine pauses for longer.
        for (rate, words) in [(10e6, "10M"), (100e6, "100M qlimit 400")] {
            let lab = lab(&format!("queue root on tun2 bandwidth {words} default\npass\n"));
            for (host, headers) in [(SERVER.v4(), TCP_V4), (SERVER.v6(), TCP_V6)] {
                reaches([(rate, 5.0, &format!("TCP to {host} through {words}"))], || {
                    let result = iperf(&lab, &host, &["-t", "5", "-O", "1"]);
                    [with_headers(received_bps(&result), headers)]
                });
            }
        }
    });
}

#[test]
fn udp_gets_the_bandwidth_of_the_queue() {
    in_lab(test_path!(), &["iperf3"], || {
        for (rate, words, sent) in [(10e6, "10M", "15M"), (100e6, "100M", "150M")] {
            let lab = lab(&format!("queue root on tun2 bandwidth {words} default\npass\n"));
            let options = ["-u", "-b", sent, "-l", "1400", "-t", "5"];
            reaches([(rate, 5.0, &format!("UDP through {words}"))], || {
                [udp_bps(&iperf(&lab, &SERVER.v4(), &options))]
            });
            let shown = lab.pfctl_ok(["-v", "-s", "queue"]).unwrap();
            assert!(shown.starts_with("queue root on tun2 bandwidth "), "{shown}");
            assert!(shown.contains("dropped pkts:") && shown.contains("/ 50 ]"), "{shown}");
            assert!(!shown.contains("dropped pkts:      0"), "{shown}");
        }
    });
}

#[test]
fn two_queues_share_by_bandwidth() {
    in_lab(test_path!(), &["iperf3"], || {
        let lab = lab("queue root on tun2 bandwidth 20M\n\
             queue a parent root bandwidth 5M\n\
             queue b parent root bandwidth 15M default\n\
             pass\n\
             pass out on tun2 proto udp to port 5202 set queue a\n");
        let wanted = [
            (5e6, 10.0, "share of 5 in 20 Mbit/s"),
            (15e6, 10.0, "share of 15 in 20 Mbit/s"),
            (20e6, 5.0, "both"),
        ];
        reaches(wanted, || {
            let a = Stream::start(&lab, 5202, &["-u", "-b", "12M", "-l", "1400", "-t", "8"]);
            let b = Stream::start(&lab, 5201, &["-u", "-b", "25M", "-l", "1400", "-t", "8"]);
            let (a, b) = (udp_bps(&a.finish()), udp_bps(&b.finish()));
            [a, b, a + b]
        });
    });
}

#[test]
fn min_is_kept_under_load() {
    in_lab(test_path!(), &["iperf3"], || {
        let lab = lab("queue root on tun2 bandwidth 20M\n\
             queue voice parent root bandwidth 100K min 5M\n\
             queue bulk parent root bandwidth 19M default\n\
             pass\n\
             pass out on tun2 proto { tcp udp } to port 5202 set queue voice\n");
        let options = ["-u", "-b", "4800K", "-l", "1400", "-t", "6"];
        let mut lost = 0.0;
        reaches([(4.8e6 * 1428.0 / 1400.0, 5.0, "min 5M under load")], || {
            let bulk = Stream::start(&lab, 5201, &["-t", "9", "-P", "4"]);
            let voice = Stream::start(&lab, 5202, &options).finish();
            let _ = bulk.finish();
            lost = voice["end"]["sum"]["lost_percent"].as_f64().unwrap();
            [udp_bps(&voice)]
        });
        assert!(lost < 2.0, "{lost} % lost");
    });
}

#[test]
fn flows_and_queues_of_their_own_keep_delay_low() {
    in_lab(test_path!(), &["iperf3", "ping"], || {
        // A long queue for all: this is the delay that the others avoid.
        let measure = |rules: &str| {
            let lab = lab(rules);
            let bulk = Stream::start(&lab, 5201, &["-u", "-b", "14M", "-l", "1400", "-t", "6"]);
            std::thread::sleep(Duration::from_secs(2));
            let delay = ping(&lab, "30");
            let _ = bulk.finish();
            delay
        };
        let long = measure("queue root on tun2 bandwidth 10M qlimit 200 default\npass\n");
        let flows = measure("queue root on tun2 bandwidth 10M flows 1024 default\npass\n");
        let own = measure(
            "queue root on tun2 bandwidth 10M\n\
             queue icmp parent root bandwidth 1M\n\
             queue bulk parent root bandwidth 9M qlimit 200 default\n\
             pass\npass out on tun2 inet proto icmp set queue icmp\n",
        );
        println!("average and longest ms: long {long:?}, flows {flows:?}, own queue {own:?}");
        assert!(long.0 > 100.0, "a queue of 200 packets is 240 ms long: {long:?}");
        assert!(flows.0 < 20.0, "{flows:?}");
        assert!(own.0 < 20.0, "{own:?}");
    });
}

#[test]
fn delay_and_new_queues_take_effect_at_once() {
    in_lab(test_path!(), &["iperf3", "ping"], || {
        let lab = lab("pass\n");
        let download = || {
            let result = iperf(&lab, &SERVER.v4(), &["-t", "4", "-O", "1"]);
            [with_headers(received_bps(&result), TCP_V4)]
        };
        assert!(ping(&lab, "5").0 < 20.0);
        let load = |rules: &str| {
            lab.load(rules).unwrap();
            lab.pfctl_ok(["-F", "states"]).unwrap();
        };
        load("pass\npass out on tun2 inet proto icmp set delay 100\n");
        let (average, _) = ping(&lab, "10");
        assert!((100.0..130.0).contains(&average), "{average} ms");
        load("queue root on tun2 bandwidth 5M default\npass\n");
        reaches([(5e6, 5.0, "TCP through 5M")], download);
        load("queue root on tun2 bandwidth 20M default\npass\n");
        reaches([(20e6, 5.0, "TCP through 20M")], download);
        load("pass\n");
        assert_eq!(lab.pfctl_ok(["-s", "queue"]).unwrap(), "");
        let result = iperf(&lab, &SERVER.v4(), &["-t", "2"]);
        assert!(received_bps(&result) > 100e6, "{}", received_bps(&result));
    });
}
