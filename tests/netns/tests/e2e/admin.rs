//! `pfctl` against a live daemon.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use pf_load::lab::{CLIENT, Lab, SERVER};
use pf_load::serve::Role;
use pf_netns::{connect, in_lab, test_path};

use crate::world::{Web, ask, lab, requests, server_hosts};

fn said(lab: &Lab, arguments: &[&str]) -> String {
    let output = lab.pfctl(arguments.iter().copied()).unwrap();
    assert!(output.status.success(), "pfctl {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn killed_state_is_gone_and_its_connection_dead() {
    in_lab(test_path!(), &[], || {
        let lab = lab("pass\n");
        let _web = Web::start(Role::Sink);
        let web = format!("{}:80", SERVER.v4());
        let mut stream = connect(CLIENT, &web, Duration::from_secs(2)).0.unwrap();
        stream.write_all(b"one").unwrap();
        let states = lab.pfctl_ok(["-s", "states"]).unwrap();
        assert!(states.contains("ESTABLISHED:ESTABLISHED"), "{states}");
        assert!(states.contains(&web), "{states}");
        let text = said(&lab, &["-k", &CLIENT.v4()]);
        assert!(text.starts_with("killed ") && !text.starts_with("killed 0"), "{text}");
        let states = lab.pfctl_ok(["-s", "states"]).unwrap();
        assert!(!states.contains(&web), "{states}");
        // Nothing of it comes back: a segment without state matches no `flags S/SA` rule as a
        // connection, so the server's answer cannot come either.
        stream.write_all(b"two").unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        assert!(matches!(
            stream.read(&mut [0; 8]).unwrap_err().kind(),
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionReset
        ));
        assert!(!lab.pfctl_ok(["-s", "states"]).unwrap().contains("ESTABLISHED:ESTABLISHED"));
    });
}

#[test]
fn flushes_do_what_they_say() {
    in_lab(test_path!(), &[], || {
        let lab = lab("table <bad> persist { 192.0.2.1 }\nblock in quick from <bad>\npass\n");
        let _web = Web::start(Role::Web { body: 100 });
        assert_eq!(ask(&requests(&server_hosts()[0], None, 10)).ok, 10);
        assert!(lab.info().unwrap().states() > 0);
        let text = said(&lab, &["-F", "states"]);
        assert!(text.contains("states cleared"), "{text}");
        assert_eq!(lab.info().unwrap().states(), 0);
        said(&lab, &["-F", "info"]);
        let text = said(&lab, &["-F", "rules"]);
        assert!(text.contains("rules cleared"), "{text}");
        assert_eq!(lab.pfctl_ok(["-s", "rules"]).unwrap(), "");
    });
}

#[test]
fn table_changes_take_effect_at_once() {
    in_lab(test_path!(), &[], || {
        let lab = lab("table <bad> persist\nblock return in quick from <bad>\npass\n");
        let _web = Web::start(Role::Web { body: 100 });
        let web = format!("{}:80", SERVER.v4());
        let refused = || {
            let (outcome, _) = connect(CLIENT, &web, Duration::from_secs(2));
            outcome.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        };
        assert!(!refused());
        let text = said(&lab, &["-t", "bad", "-T", "add", &CLIENT.v4(), "203.0.113.0/24"]);
        assert!(text.contains("2/2 addresses added."), "{text}");
        assert!(refused());
        let shown = lab.pfctl_ok(["-t", "bad", "-T", "show"]).unwrap();
        assert_eq!(shown, format!("   {}\n   203.0.113.0/24\n", CLIENT.v4()));
        let text = said(&lab, &["-t", "bad", "-T", "test", "203.0.113.7"]);
        assert!(text.contains("1/1 addresses match."), "{text}");
        let output = lab.pfctl(["-t", "bad", "-T", "test", "198.51.100.7"]).unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = said(&lab, &["-t", "bad", "-T", "delete", &CLIENT.v4()]);
        assert!(text.contains("1/1 addresses deleted."), "{text}");
        assert!(!refused());
    });
}

#[test]
fn switched_off_filter_passes_everything() {
    in_lab(test_path!(), &[], || {
        let lab = lab("block return\n");
        let _web = Web::start(Role::Web { body: 100 });
        let web = format!("{}:80", SERVER.v4());
        assert!(connect(CLIENT, &web, Duration::from_secs(2)).0.is_err());
        assert!(said(&lab, &["-d"]).contains("pf disabled"));
        assert!(connect(CLIENT, &web, Duration::from_secs(2)).0.is_ok());
        assert!(said(&lab, &["-e"]).contains("pf enabled"));
        assert!(connect(CLIENT, &web, Duration::from_secs(2)).0.is_err());
        assert_eq!(lab.pfctl(["-e"]).unwrap().status.code(), Some(1));
    });
}
