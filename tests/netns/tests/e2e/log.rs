//! The packet log, read by the tcpdump that Debian has.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pf_load::lab::{Background, CLIENT, SERVER, Setup};
use pf_netns::{finished, in_lab, output_of, test_path, wait_until};

use crate::world::lab_with;

/// Rules with logs of every kind. Echo requests to the server pass, TCP is blocked in an anchor.
const RULES: &str = "block drop log\n\
    pass log inet proto icmp icmp-type echoreq\n\
    anchor \"guard\" {\n  block return log proto tcp\n}\n\
    pass in log (to pflog3) proto udp\n";

/// The daemon keeps root's rights, so that it may open its files again.
const LOG: &str = "pflog = \"/run/pf-log-test\"\nuser = \"root\"\n";

fn tcpdump(file: &str, filter: &[&str]) -> String {
    let mut command = Command::new("tcpdump");
    command.args(["-n", "-e", "-ttt", "-r", file]).args(filter);
    output_of(&mut command, 10)
}

fn wait_for(file: &str, text: &str) {
    wait_until(text, Duration::from_secs(5), || {
        let mut command = Command::new("tcpdump");
        command.args(["-n", "-e", "-ttt", "-r", file]);
        let output = finished(&mut command, 10);
        String::from_utf8_lossy(&output.stdout).contains(text)
    });
}

#[test]
fn tcpdump_reads_the_packet_log() {
    in_lab(test_path!(), &["tcpdump", "ping", "curl"], || {
        let file = "/run/pf-log-test";
        let mut lab = lab_with(&Setup { rules: RULES, extra: LOG, ..Setup::default() });
        // Who follows sees the header at once and each record when it comes.
        let followed = lab.folder().join("followed");
        let script = format!(
            "pfctl log -p {} | tcpdump -l -n -e -ttt -r - > {}",
            lab.socket().display(),
            followed.display()
        );
        let mut follow = Command::new("bash");
        follow.args(["-c", &script]);
        follow.env("PATH", format!("{}/bin:/usr/bin:/bin", lab.folder().display()));
        let follower = Background::start(follow, &lab.folder().join("follow.log")).unwrap();
        wait_until("tcpdump has the header", Duration::from_secs(5), || {
            follower.log().contains("link-type PFLOG")
        });

        let mut ping = lab.command(CLIENT, "ping");
        ping.args(["-n", "-c", "1", "-W", "2", &SERVER.v4()]);
        let text = output_of(&mut ping, 10);
        assert!(text.contains("1 received"), "{text}");
        let mut curl = lab.command(CLIENT, "curl");
        curl.args(["-s", "-m", "5", &format!("http://{}/", SERVER.v4())]);
        assert!(!finished(&mut curl, 10).status.success());
        let mut datagram = lab.command(CLIENT, "bash");
        datagram.args(["-c", &format!("echo x > /dev/udp/{}/7", SERVER.v4())]);
        let _ = output_of(&mut datagram, 10);

        wait_for(file, "rule 2");
        let all = tcpdump(file, &[]);
        assert!(
            all.contains("rule 1/0(match): pass in on tun0: 10.77.1.2 > 10.77.3.2: ICMP"),
            "{all}"
        );
        assert!(
            all.contains("rule 1/0(match): pass out on tun2: 10.77.1.2 > 10.77.3.2: ICMP"),
            "{all}"
        );
        assert!(all.contains("rule 2.guard.0/0(match): block in on tun0: 10.77.1.2."), "{all}");
        for (filter, lines) in [
            (&["action", "block", "and", "tcp"][..], 1),
            (&["action", "pass"], 2),
            (&["rnr", "1", "and", "ifname", "tun2"], 1),
            (&["rulenum", "2"], 1),
            (&["ruleset", "guard"], 1),
            (&["reason", "match", "and", "icmp"], 2),
            (&["reason", "fragment"], 0),
        ] {
            let found = tcpdump(file, filter);
            assert_eq!(found.lines().count(), lines, "{filter:?}: {found}\nof\n{all}");
        }
        wait_for("/run/pf-log-test3", "rule 3/0(match): pass in on tun0");
        wait_until("the follower", Duration::from_secs(5), || {
            std::fs::read_to_string(&followed).unwrap_or_default().contains("rule 2.guard.0/")
        });

        // Rotation: the old file keeps what it has, the new one gets what comes.
        let records = tcpdump(file, &[]).lines().count();
        std::fs::rename(file, "/run/pf-log-test.old").unwrap();
        lab.daemon().signal(rustix::process::Signal::HUP);
        wait_until("a new file", Duration::from_secs(5), || Path::new(file).exists());
        let mut ping = lab.command(CLIENT, "ping");
        ping.args(["-n", "-c", "1", "-W", "2", &SERVER.v4()]);
        let _ = output_of(&mut ping, 10);
        wait_for(file, "pass in on tun0");
        assert_eq!(tcpdump("/run/pf-log-test.old", &[]).lines().count(), records);
    });
}
