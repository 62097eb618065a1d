//! Translation between the kernel's TCP on both sides: addresses, families, routes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use pf_load::lab::{CLIENT, Lab, Place, SERVER, Setup, checked};
use pf_netns::{at, finished, in_lab, output_of, test_path, wait_until};

use crate::world::{Nginx, fetch, lab, lab_with};

/// The client's network behind one address, and the server behind one of the router.
const RULES: &str = "
match out on tun2 inet from 10.77.1.0/24 nat-to 10.77.3.1
match out on tun2 inet6 from fd77:1::/64 nat-to fd77:3::1
match in on tun0 inet proto tcp to 10.77.1.1 port 8080 rdr-to 10.77.3.2 port 80
match in on tun0 inet6 proto tcp to fd77:1::1 port 8080 rdr-to fd77:3::2 port 80
match in on tun0 inet proto tcp to 10.77.1.1 port 21 rdr-to 10.77.3.2
match in on tun0 inet proto tcp to 10.77.1.1 port 31000:31010 rdr-to 10.77.3.2 port 32000:*
pass
";

fn ip(arguments: &[&str]) {
    checked("ip", arguments.iter().copied()).unwrap();
}

fn sysctl(lab: &Lab, place: Place, key: &str, value: &str) {
    let script = format!("echo {value} > /proc/sys/net/{key}");
    let _ = output_of(lab.command(place, "sh").args(["-c", &script]), 10);
}

fn states(lab: &Lab) -> String {
    lab.pfctl_ok(["-s", "states"]).unwrap()
}

fn download(rules: &str) {
    let lab = lab(rules);
    let nginx = Nginx::start(&lab, 30);
    for host in ["10.77.3.2", "10.77.1.1:8080", "[fd77:3::2]", "[fd77:1::1]:8080"] {
        assert_eq!(fetch(&lab, host, ""), nginx.sha256, "{host}");
    }
    let states = states(&lab);
    assert!(states.contains("(10.77.1.2:"), "a source was translated:\n{states}");
    assert!(states.contains("10.77.3.2:80 (10.77.1.1:8080) <- 10.77.1.2:"), "{states}");
    assert!(states.contains("fd77:3::2[80] (fd77:1::1[8080]) <- fd77:1::2["), "{states}");
}

#[test]
fn large_files_arrive_whole_through_nat_and_redirection() {
    in_lab(test_path!(), &["nginx", "curl"], || download(RULES));
}

#[test]
fn large_files_arrive_whole_through_nat_redirection_and_cookies() {
    in_lab(test_path!(), &["nginx", "curl"], || {
        download(&format!("set syncookies always (no-probe)\n{RULES}"));
    });
}

/// A control connection names a port, and the file comes from there, as with FTP in passive mode.
#[test]
fn a_second_connection_to_a_range_of_ports_carries_the_file() {
    in_lab(test_path!(), &[], || {
        let _lab = lab(RULES);
        let file: Vec<u8> =
            (0..3_000_000_u32).map(|at| (at.wrapping_mul(31) >> 3).to_le_bytes()[0]).collect();
        let (control, data) = at(SERVER, || {
            (TcpListener::bind("0.0.0.0:21").unwrap(), TcpListener::bind("0.0.0.0:32007").unwrap())
        });
        let sent = file.clone();
        let server = thread::spawn(move || {
            let (mut control, _) = control.accept().unwrap();
            control.write_all(b"31007\n").unwrap();
            let (mut data, from) = data.accept().unwrap();
            data.write_all(&sent).unwrap();
            from.ip().to_string()
        });
        let received = at(CLIENT, || {
            let mut control = TcpStream::connect("10.77.1.1:21").unwrap();
            let mut port = [0; 6];
            control.read_exact(&mut port).unwrap();
            let port = String::from_utf8_lossy(&port).trim().to_owned();
            let mut data = TcpStream::connect(format!("10.77.1.1:{port}")).unwrap();
            let mut received = Vec::new();
            data.read_to_end(&mut received).unwrap();
            received
        });
        assert!(received == file, "{} octets of {}", received.len(), file.len());
        assert_eq!(server.join().unwrap(), "10.77.3.1", "the server sees the router");
    });
}

#[test]
fn traceroute_goes_through_nat() {
    in_lab(test_path!(), &["traceroute"], || {
        let lab = lab(RULES);
        for (family, router, server) in
            [("-4", CLIENT.router_v4(), SERVER.v4()), ("-6", CLIENT.router_v6(), SERVER.v6())]
        {
            for probes in [&[][..], &["-I"][..], &["-T", "-p", "9"][..]] {
                let mut command = lab.command(CLIENT, "traceroute");
                command.args([family, "-n", "-q", "1", "-w", "2", "-m", "3"]).args(probes);
                let text = output_of(command.arg(&server), 30);
                let hops: Vec<_> = text
                    .lines()
                    .skip(1)
                    .filter_map(|line| line.split_whitespace().nth(1))
                    .collect();
                assert_eq!(hops, [&router, &server], "{text}");
            }
        }
    });
}

/// Behind the server lies a link that is narrower than what everybody believes; the server says
/// so to the address that it knows.
#[test]
fn path_mtu_is_told_through_nat() {
    in_lab(test_path!(), &["ping"], || {
        let routes = "[[route]]\nto = \"10.99.0.0/24\"\ndev = \"tun2\"\n\
                      [[route]]\nto = \"fd99::/64\"\ndev = \"tun2\"\n";
        let lab = lab_with(&Setup { rules: RULES, extra: routes, ..Setup::default() });
        let space = SERVER.namespace;
        let narrow = ["dev", SERVER.interface, "mtu", "lock", "1300"];
        for (family, network) in [("-4", "10.99.0.0/24"), ("-6", "fd99::/64")] {
            ip(&[&["-n", space, family, "route", "add", network][..], &narrow].concat());
        }
        sysctl(&lab, SERVER, "ipv4/ip_forward", "1");
        sysctl(&lab, SERVER, "ipv6/conf/all/forwarding", "1");
        for (host, router) in [("10.99.0.9", SERVER.v4()), ("fd99::9", SERVER.v6())] {
            let mut ping = lab.command(CLIENT, "ping");
            ping.args(["-n", "-c", "2", "-i", "0.3", "-W", "1", "-M", "do", "-s", "1400", host]);
            let text = String::from_utf8_lossy(&finished(&mut ping, 20).stdout).into_owned();
            assert!(text.to_lowercase().replace(' ', "").contains("mtu=1300"), "{host}: {text}");
            assert!(text.contains(&format!("From {router}")), "{host}: {text}");
        }
    });
}

/// The route leads over a wide link, the rules over a narrow one, and only after a translation. The
/// kernel takes the error for its own when the quote is the packet that it has sent.
#[test]
fn mtu_of_a_chosen_interface_is_told_through_nat() {
    const RULES: &str = "
pass
pass out on tun1 inet from 10.77.1.0/24 nat-to 10.77.2.1 route-to 10.77.3.2
pass out on tun1 inet6 from fd77:1::/64 nat-to fd77:2::1 route-to fd77:3::2
";
    in_lab(test_path!(), &["ping"], || {
        let lab = lab_with(&Setup { rules: RULES, mtu: [1500, 1500, 1280], ..Setup::default() });
        for (any, [host, other], router) in [
            ("0.0.0.0:0", ["203.0.113.8", "203.0.113.9"], CLIENT.router_v4()),
            ("[::]:0", ["2001:db8::8", "2001:db8::9"], CLIENT.router_v6()),
        ] {
            let learned = || {
                let mut route = lab.command(CLIENT, "ip");
                output_of(route.args(["route", "get", host]), 10).contains("mtu 1280")
            };
            assert!(!learned(), "{host}: nothing is known yet");
            at(CLIENT, || {
                let socket = UdpSocket::bind(any).unwrap();
                socket.connect((host, 9)).unwrap();
                socket.send(&[0; 1400]).unwrap();
                wait_until("the MTU is known", Duration::from_secs(5), learned);
            });
            let mut ping = lab.command(CLIENT, "ping");
            ping.args(["-n", "-c", "2", "-i", "0.3", "-W", "1", "-M", "do", "-s", "1400", other]);
            let text = String::from_utf8_lossy(&finished(&mut ping, 20).stdout).into_owned();
            assert!(text.to_lowercase().replace(' ', "").contains("mtu=1280"), "{other}: {text}");
            assert!(text.contains(&format!("From {router} ")), "{other}: {text}");
        }
    });
}

/// One address is in the attacker's network but stands for the server, which is behind another
/// interface; the other translates the client on its way in to an address of that network.
#[test]
fn destinations_that_outbound_rules_change_are_routed_again() {
    const RULES: &str = "
pass
pass out on tun1 inet proto tcp to 10.77.2.9 port 80 rdr-to 10.77.3.2
pass out on tun1 inet6 proto tcp to fd77:2::9 port 80 rdr-to fd77:3::2
pass in on tun0 inet proto tcp to 10.77.3.2 port 80 nat-to 10.77.2.77
pass in on tun0 inet6 proto tcp to fd77:3::2 port 80 nat-to fd77:2::77
";
    in_lab(test_path!(), &["nginx", "curl"], || {
        let lab = lab(RULES);
        let nginx = Nginx::start(&lab, 10);
        for host in ["10.77.2.9", "[fd77:2::9]", "10.77.3.2", "[fd77:3::2]"] {
            assert_eq!(fetch(&lab, host, ""), nginx.sha256, "{host}");
        }
        let states = states(&lab);
        assert!(states.contains("10.77.2.77:"), "a source was translated:\n{states}");
    });
}

/// NAT64 and NAT46 on the same router.
const FAMILIES: &str = "
pass
pass in on tun0 inet6 to 64:ff9b::/96 af-to inet from 10.77.3.1
pass in on tun0 inet to 10.77.9.9 af-to inet6 from fd77:3::1 to fd77:3::2
";

#[test]
fn files_and_pings_cross_from_one_family_to_the_other() {
    in_lab(test_path!(), &["nginx", "curl", "ping"], || {
        let lab = lab(FAMILIES);
        let nginx = Nginx::start(&lab, 30);
        for host in ["[64:ff9b::10.77.3.2]", "10.77.9.9"] {
            assert_eq!(fetch(&lab, host, ""), nginx.sha256, "{host}");
        }
        for host in ["64:ff9b::10.77.3.2", "10.77.9.9"] {
            for size in ["56", "1400", "3000"] {
                let mut ping = lab.command(CLIENT, "ping");
                ping.args(["-n", "-c", "2", "-i", "0.2", "-W", "2", "-s", size, host]);
                let text = output_of(&mut ping, 10);
                assert!(text.contains(" 0% packet loss"), "{size} octets to {host}: {text}");
                assert!(!text.contains("wrong data"), "{text}");
            }
        }
        let states = states(&lab);
        assert!(states.contains("64:ff9b::a4d:302"), "{states}");
    });
}

#[test]
fn files_cross_families_behind_syn_cookies() {
    in_lab(test_path!(), &["nginx", "curl"], || {
        let lab = lab(&format!("set syncookies always (no-probe)\n{FAMILIES}"));
        let nginx = Nginx::start(&lab, 10);
        for host in ["[64:ff9b::10.77.3.2]", "10.77.9.9"] {
            assert_eq!(fetch(&lab, host, ""), nginx.sha256, "{host}");
        }
        assert!(lab.info().unwrap().cookies_validated() >= 2);
    });
}

/// Towards the client the link is narrower than the client believes: only the router's own
/// errors, about packets of the other family, tell the server.
#[test]
fn path_mtu_is_told_to_the_other_family() {
    in_lab(test_path!(), &["nginx", "curl"], || {
        let setup = Setup { rules: FAMILIES, mtu: [1300, 1500, 1500], ..Setup::default() };
        let lab = lab_with(&setup);
        ip(&["-n", CLIENT.namespace, "link", "set", CLIENT.interface, "mtu", "1500"]);
        let nginx = Nginx::start(&lab, 5);
        for host in ["[64:ff9b::10.77.3.2]", "10.77.9.9"] {
            assert_eq!(fetch(&lab, host, ""), nginx.sha256, "{host}");
        }
    });
}

/// Three servers that say their address to whoever connects.
const SERVERS: [&str; 3] = ["10.77.3.11", "10.77.3.12", "10.77.3.13"];

fn start_three_servers() {
    for server in SERVERS {
        let address = format!("{server}/32");
        ip(&["-n", SERVER.namespace, "address", "add", &address, "dev", "lo"]);
    }
    let listeners = at(SERVER, || SERVERS.map(|server| TcpListener::bind((server, 80)).unwrap()));
    for (listener, name) in listeners.into_iter().zip(SERVERS) {
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                // Unread octets would turn the end of the connection into a reset.
                let _ = stream.read(&mut [0; 1_024]);
                let _ = stream.write_all(name.as_bytes());
            }
        });
    }
}

/// The server that a client reaches from this address.
fn server_of(lab: &Lab, source: &str) -> String {
    let mut curl = lab.command(CLIENT, "curl");
    curl.args(["-sS", "-m", "5", "--http0.9", "--interface", source, "http://10.77.1.1/"]);
    output_of(&mut curl, 10)
}

#[test]
fn a_source_stays_with_its_server_and_others_take_turns() {
    in_lab(test_path!(), &["curl"], || {
        let lab = lab("pass in on tun0 inet proto tcp to 10.77.1.1 port 80 \
                       rdr-to { 10.77.3.11, 10.77.3.12, 10.77.3.13 } round-robin sticky-address\n\
                       pass out\n");
        start_three_servers();
        let mut chosen = Vec::new();
        for source in ["10.77.1.129", "10.77.1.130", "10.77.1.131"] {
            let first = server_of(&lab, source);
            for _ in 0..4 {
                assert_eq!(server_of(&lab, source), first, "{source} keeps its server");
            }
            let nodes = lab.pfctl_ok(["-s", "Sources"]).unwrap();
            assert!(nodes.contains(&format!("{source} rdr-to {first} ")), "{nodes}");
            chosen.push(first);
        }
        chosen.sort();
        assert_eq!(chosen, SERVERS);
    });
}

#[test]
fn connections_are_spread_over_three_servers() {
    in_lab(test_path!(), &["curl"], || {
        let lab = lab("pass in on tun0 inet proto tcp to 10.77.1.1 port 80 \
                       rdr-to { 10.77.3.11, 10.77.3.12, 10.77.3.13 } round-robin\npass out\n");
        start_three_servers();
        let mut names: Vec<String> = (0..9).map(|_| server_of(&lab, "10.77.1.2")).collect();
        names.sort();
        for server in SERVERS {
            assert_eq!(names.iter().filter(|name| *name == server).count(), 3, "{names:?}");
        }
    });
}

/// The default route leads to another uplink than the one that the connection came in by.
#[test]
fn answers_leave_by_the_uplink_of_the_connection() {
    in_lab(test_path!(), &["nginx", "curl"], || {
        let lab = lab("pass\npass in on tun0 inet reply-to 10.77.1.2\n");
        ip(&["-n", CLIENT.namespace, "address", "add", "198.18.9.9/32", "dev", "lo"]);
        let nginx = Nginx::start(&lab, 5);
        assert_eq!(fetch(&lab, "10.77.3.2", "--interface 198.18.9.9"), nginx.sha256);
        lab.load("pass\n").unwrap();
        lab.pfctl_ok(["-F", "states"]).unwrap();
        let mut curl = lab.command(CLIENT, "curl");
        curl.args(["-sS", "-m", "2", "--interface", "198.18.9.9", "http://10.77.3.2/small"]);
        assert!(!finished(&mut curl, 10).status.success(), "there is no other way back");
    });
}

/// What the router itself says of such a connection leaves by its uplink, too: a hop is shown, and a
/// narrow link on either side is known to the sender.
#[test]
fn errors_leave_by_the_uplink_of_the_connection() {
    const RULES: &str = "
pass
pass in on tun0 inet reply-to 10.77.1.2
pass in on tun0 inet6 reply-to fd77:1::2
";
    in_lab(test_path!(), &["nginx", "curl", "ping", "traceroute"], || {
        let setup = Setup { rules: RULES, mtu: [1400, 1500, 1300], ..Setup::default() };
        let lab = lab_with(&setup);
        for host in [CLIENT, SERVER] {
            ip(&["-n", host.namespace, "link", "set", host.interface, "mtu", "1500"]);
        }
        let nginx = Nginx::start(&lab, 5);
        for (source, router, server, shown) in [
            ("198.18.9.9", CLIENT.router_v4(), SERVER.v4(), SERVER.v4()),
            ("2001:db8:9::9", CLIENT.router_v6(), SERVER.v6(), format!("[{}]", SERVER.v6())),
        ] {
            ip(&["-n", CLIENT.namespace, "address", "add", source, "dev", "lo"]);
            let mut trace = lab.command(CLIENT, "traceroute");
            trace.args(["-n", "-q", "1", "-w", "2", "-m", "3", "-s", source, &server]);
            let text = output_of(&mut trace, 20);
            let hops = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
            assert_eq!(hops.collect::<Vec<_>>(), [&router, &server], "{text}");
            let mut ping = lab.command(CLIENT, "ping");
            ping.args(["-n", "-c", "2", "-i", "0.3", "-W", "1", "-M", "do", "-s", "1340"]);
            let output = finished(ping.args(["-I", source, &server]), 20);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.to_lowercase().replace(' ', "").contains("mtu=1300"), "{text}");
            assert!(text.contains(&format!("From {router} ")), "{text}");
            let options = format!("--interface {source}");
            assert_eq!(fetch(&lab, &shown, &options), nginx.sha256, "{server}");
        }
    });
}

/// The fragments came over a wide link, and the route leads over one, but the rules choose a narrow
/// one: what the sender is told lets the next datagram through.
#[test]
fn fragments_fit_the_interface_that_rules_choose() {
    const RULES: &str = "
pass
pass out on tun1 inet to 203.0.113.0/24 route-to 10.77.3.2
pass out on tun1 inet6 to 2001:db8::/64 route-to fd77:3::2
";
    in_lab(test_path!(), &["ping"], || {
        let lab = lab_with(&Setup { rules: RULES, mtu: [1500, 1500, 1300], ..Setup::default() });
        for (address, host) in
            [("203.0.113.8/32", "203.0.113.8"), ("2001:db8::8/128", "2001:db8::8")]
        {
            ip(&["-n", SERVER.namespace, "address", "add", address, "dev", "lo"]);
            let mut ping = lab.command(CLIENT, "ping");
            ping.args(["-n", "-c", "4", "-i", "0.3", "-W", "1", "-s", "5000", host]);
            let text = String::from_utf8_lossy(&finished(&mut ping, 20).stdout).into_owned();
            let received =
                text.split(" received").next().and_then(|text| text.split(' ').next_back());
            let received: u32 = received.unwrap().parse().unwrap();
            assert!(received >= 3, "the first may be lost: {text}");
        }
    });
}
