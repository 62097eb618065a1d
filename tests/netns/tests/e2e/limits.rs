//! Limits of sources, systems and tables, with real connections.

use std::time::Duration;

use pf_load::client::Options;
use pf_load::lab::{CLIENT, SERVER};
use pf_load::serve::Role;
use pf_netns::{connect, in_lab, test_path};

use crate::world::{Web, ask, lab, requests, server_hosts};

/// Requests of one client alone.
fn of_one(host: &str, source: &str, count: u64) -> Options {
    Options {
        sources: vec![source.parse().unwrap()],
        concurrent: 16,
        timeout: Duration::from_secs(1),
        duration: Duration::from_secs(6),
        ..requests(host, None, count)
    }
}

/// Whoever connects too often is put into a table, loses its connections and is shut out.
#[test]
fn storm_of_connections_ends_in_the_overload_table() {
    in_lab(test_path!(), &[], || {
        let lab = lab("table <bad> persist counters\nblock in quick from <bad>\n\
                       pass in proto tcp to port 80 keep state \
                       (max-src-conn-rate 20/10, overload <bad> flush global)\npass out\n");
        let _web = Web::start(Role::Web { body: 100 });
        for (host, storm, honest) in [
            (&server_hosts()[0], "10.77.1.129", "10.77.1.140"),
            (&server_hosts()[1], "fd77:1::1:1", "fd77:1::1:12"),
        ] {
            let stormed = ask(&of_one(host, storm, 200));
            assert!(stormed.ok <= 40, "{host}: {} requests of the storm got through", stormed.ok);
            let bad = lab.pfctl_ok(["-t", "bad", "-T", "show"]).unwrap();
            assert!(bad.lines().any(|line| line.trim() == storm), "{bad}");
            assert!(!bad.contains(honest), "{bad}");
            // Its states are ended, and nobody else notices.
            assert!(!lab.pfctl_ok(["-s", "states"]).unwrap().contains(&format!("<- {storm}")));
            assert_eq!(ask(&of_one(host, honest, 10)).ok, 10, "{host}");
        }
        let counted = lab.pfctl_ok(["-t", "bad", "-vT", "show"]).unwrap();
        assert!(counted.contains("In/Block:    [ Packets: "), "{counted}");
        assert!(!counted.contains("In/Block:    [ Packets: 0 "), "{counted}");
        // Pardoned, it may come again.
        lab.pfctl_ok(["-t", "bad", "-T", "flush"]).unwrap();
        assert_eq!(ask(&of_one(&server_hosts()[0], "10.77.1.129", 5)).ok, 5);
    });
}

/// The system of this machine's kernel is known by its SYN.
#[test]
fn the_kernel_is_known_by_its_syn() {
    in_lab(test_path!(), &[], || {
        let lab = lab("block in\npass out\n");
        let _web = Web::start(Role::Web { body: 100 });
        let database = lab.folder().join("pf.os");
        std::fs::write(&database, include_str!("../../../../examples/pf.os")).unwrap();
        let rules = |system: &str| {
            let shown = database.display();
            format!(
                "set fingerprints \"{shown}\"\nblock in\npass out\n\
                 pass in proto tcp from any os \"{system}\" to port 80\n"
            )
        };
        for host in server_hosts() {
            let web = format!("{host}:80");
            lab.load(&rules("Windows")).unwrap();
            let wrong = connect(CLIENT, &web, Duration::from_millis(700)).0;
            assert!(wrong.is_err(), "{host}: this is no Windows");
            lab.load(&rules("Linux")).unwrap();
            connect(CLIENT, &web, Duration::from_secs(3)).0.unwrap();
        }
        let systems = lab.pfctl_ok(["-s", "osfp"]).unwrap();
        assert!(systems.lines().any(|line| line.trim_end() == "Linux"), "{systems}");
    });
}

/// Tables of anchors are filled by `pfctl` while packets flow.
#[test]
fn a_table_in_an_anchor_is_filled_from_the_command_line() {
    in_lab(test_path!(), &[], || {
        let lab = lab("pass\nanchor \"guard\"\n");
        let _web = Web::start(Role::Web { body: 100 });
        let inside = lab.folder().join("guard.conf");
        std::fs::write(&inside, "table <shut> persist\nblock in quick from <shut>\n").unwrap();
        let file = inside.to_str().unwrap();
        lab.pfctl_ok(["-a", "guard", "-f", file]).unwrap();
        assert_eq!(lab.pfctl_ok(["-a", "guard", "-s", "Tables"]).unwrap(), "shut@guard\n");
        assert_eq!(lab.pfctl_ok(["-s", "Tables"]).unwrap(), "");
        assert_eq!(lab.pfctl_ok(["-a", "*", "-s", "Tables"]).unwrap(), "shut@guard\n");
        let web = format!("{}:80", SERVER.v4());
        connect(CLIENT, &web, Duration::from_secs(3)).0.unwrap();
        let add = ["-a", "guard", "-t", "shut", "-T", "add", &CLIENT.v4()];
        lab.pfctl_ok(add).unwrap();
        assert!(connect(CLIENT, &web, Duration::from_millis(700)).0.is_err());
        lab.pfctl_ok(["-a", "guard", "-t", "shut", "-T", "expire", "1"]).unwrap();
        std::thread::sleep(Duration::from_millis(2_100));
        lab.pfctl_ok(["-a", "guard", "-t", "shut", "-T", "expire", "1"]).unwrap();
        connect(CLIENT, &web, Duration::from_secs(3)).0.unwrap();
    });
}
