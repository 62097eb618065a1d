//! What a client sees of rules that say `block`.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use pf_load::lab::{CLIENT, SERVER};
use pf_load::serve::Role;
use pf_netns::{at, connect, in_lab, test_path};

use crate::world::{Web, ask, lab, requests, server_hosts};

/// "At once" for a person, with room for a busy machine.
const AT_ONCE: Duration = Duration::from_millis(700);

#[test]
fn block_return_answers_at_once() {
    in_lab(test_path!(), &[], || {
        let _lab = lab("block return\npass proto tcp to port 80\n");
        let _web = Web::start(Role::Web { body: 100 });
        for host in server_hosts() {
            assert_eq!(ask(&requests(&host, None, 20)).ok, 20, "{host}");
            let (outcome, took) = connect(CLIENT, &format!("{host}:81"), Duration::from_secs(5));
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{host}");
            assert!(took < AT_ONCE, "{host}: {took:?}");
        }
    });
}

#[test]
fn block_return_tells_udp_senders_at_once() {
    in_lab(test_path!(), &[], || {
        let _lab = lab("block return\n");
        for (own, host) in ["0.0.0.0:0", "[::]:0"].into_iter().zip(server_hosts()) {
            let (error, took) = at(CLIENT, || {
                let socket = UdpSocket::bind(own).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                socket.connect(format!("{host}:53")).unwrap();
                let start = Instant::now();
                socket.send(b"anybody there?").unwrap();
                (socket.recv(&mut [0; 64]).unwrap_err(), start.elapsed())
            });
            let told = [
                ErrorKind::ConnectionRefused,
                ErrorKind::HostUnreachable,
                ErrorKind::PermissionDenied,
            ];
            assert!(told.contains(&error.kind()), "{host}: {error}");
            assert!(took < AT_ONCE, "{host}: {took:?}");
        }
    });
}

#[test]
fn block_drop_says_nothing() {
    in_lab(test_path!(), &[], || {
        let lab = lab("block drop\npass proto tcp to port 80\n");
        let _web = Web::start(Role::Web { body: 100 });
        for host in server_hosts() {
            let (outcome, _) = connect(CLIENT, &format!("{host}:81"), Duration::from_millis(1500));
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::TimedOut, "{host}");
            assert_eq!(ask(&requests(&host, None, 5)).ok, 5, "{host}");
        }
        assert!(lab.pfctl_ok(["-v", "-s", "rules"]).unwrap().contains("block drop"));
    });
}

#[test]
fn server_cannot_open_connections_that_only_clients_may() {
    in_lab(test_path!(), &[], || {
        let _lab = lab("block return\npass in on tun0\npass out on tun2\n");
        let (outcome, _) = connect(SERVER, &format!("{}:80", CLIENT.v4()), Duration::from_secs(2));
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        // The same port the other way is refused by the server's kernel, not by the firewall.
        let (outcome, _) = connect(CLIENT, &format!("{}:80", SERVER.v4()), Duration::from_secs(2));
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}
