//! SYN floods: the half-open gauge, and adaptive syncookies that follow it.

use std::thread;
use std::time::Duration;

use pf_load::serve::Role;
use pf_netns::{in_lab, test_path, wait_until};

use crate::world::{Web, ask, flood, lab, requests, server_hosts};

#[test]
fn half_open_counts_what_nobody_completes() {
    in_lab(test_path!(), &[], || {
        let lab = lab("set timeout { tcp.first 4, tcp.opening 4, interval 1 }\npass\n");
        let _web = Web::start(Role::Web { body: 100 });
        let sent = thread::spawn(|| flood(500, Duration::from_secs(1), false).sent);
        let sent = sent.join().unwrap();
        let info = lab.info().unwrap();
        assert!(
            info.half_open() + 5 >= sent && info.half_open() <= sent,
            "{sent} sent, {} half-open",
            info.half_open()
        );
        // Honest connections come and go and leave the gauge alone.
        assert_eq!(ask(&requests(&server_hosts()[0], None, 50)).ok, 50);
        assert!(lab.info().unwrap().half_open() <= sent);
        wait_until("all half-open states gone", Duration::from_secs(15), || {
            lab.info().unwrap().half_open() == 0
        });
        assert_eq!(lab.info().unwrap().cookies_sent(), 0);
    });
}

#[test]
fn adaptive_syncookies_switch_on_and_off() {
    in_lab(test_path!(), &[], || {
        let lab =
            lab("set limit states 10000\nset timeout { tcp.first 5, tcp.opening 5, interval 1 }\n\
             set syncookies adaptive (start 10%, end 5%)\npass\n");
        let _web = Web::start(Role::Web { body: 100 });
        let active = || lab.info().unwrap().cookies_active.unwrap();
        assert!(!active());
        let floods =
            [false, true].map(|v6| thread::spawn(move || flood(5000, Duration::from_secs(5), v6)));
        wait_until("syncookies on", Duration::from_secs(4), active);
        for host in server_hosts() {
            let report = ask(&requests(&host, Some(100.0), 150));
            assert_eq!((report.ok, report.failures.total()), (150, 0), "{:?}", report.failures);
        }
        for flood in floods {
            flood.join().unwrap();
        }
        let info = lab.info().unwrap();
        // One for each family: the server alone gets cookies.
        assert_eq!(info.synfloods(), 2, "{info:?}");
        assert!(info.cookies_sent() > 1000 && info.cookies_validated() > 0, "{info:?}");
        assert!(info.states() < 10_000, "{info:?}");
        // Honest users go on all the while; their cookies are no flood.
        let crowd = server_hosts()
            .map(|host| thread::spawn(move || ask(&requests(&host, Some(100.0), 2200))));
        wait_until("syncookies off", Duration::from_secs(20), || !active());
        for report in crowd.map(|crowd| crowd.join().unwrap()) {
            assert_eq!((report.ok, report.failures.total()), (2200, 0), "{:?}", report.failures);
        }
        let report = ask(&requests(&server_hosts()[0], None, 100));
        assert_eq!(report.ok, 100, "{:?}", report.failures);
    });
}

#[test]
fn cookie_for_every_syn_serves_everybody() {
    in_lab(test_path!(), &[], || {
        let lab = lab("set syncookies always\npass\n");
        let _web = Web::start(Role::Web { body: 20_000 });
        for host in server_hosts() {
            let report = ask(&requests(&host, None, 2000));
            assert_eq!((report.ok, report.failures.total()), (2000, 0), "{:?}", report.failures);
        }
        // The first connection of each family asks whether the port is open; those that come with it
        // wait for its answer.
        assert!(lab.info().unwrap().cookies_validated() >= 3990);
    });
}
