//! A scenario that says what is not so must fail, with words that help.

use pftest::{NoFiles, Scenario};

const RULES: &str = "\
# a test
config block all; pass in on em0 proto tcp to port 80; pass out on em1
";

/// What comes of a scenario with these lines behind the rules.
fn play(lines: &str) -> Result<(), String> {
    let text = format!("{RULES}{lines}");
    let scenario = Scenario::parse("x.pft", &text).map_err(|error| error.to_string())?;
    pftest::run(&scenario, &NoFiles).map_err(|failure| failure.to_string())
}

fn fault(lines: &str) -> String {
    play(lines).expect_err("the scenario is wrong")
}

#[test]
fn an_expectation_that_does_not_hold_fails() {
    let syn = "in em0 tcp 198.51.100.1:4000 > 192.0.2.1:80 S";
    let cases = [
        (format!("{syn} -> drop match"), "x.pft:3: expected a drop for match, but: out em1 tcp"),
        (format!("{syn} -> em2"), "expected the packet out by em2"),
        (format!("{syn} -> host"), "expected the packet at the host, got out em1"),
        (format!("{syn} -> consumed"), "keeps 1 packets, but: out em1"),
        (format!("{syn}\n"), "x.pft:3: unexpected: out em1 tcp 198.51.100.1:4000"),
        (format!("{syn} -> em1\nexpect states 1"), "x.pft:4: states: expected 1, got 2"),
        (format!("{syn} -> em1\nexpect half-open 0"), "half-open: expected 0, got 1"),
        (
            format!("{syn}\nexpect out em1 udp 198.51.100.1:1 > 192.0.2.1:2"),
            "protocol: expected udp",
        ),
        (
            format!("{syn}\nexpect out em1 tcp 198.51.100.1:4000 > 192.0.2.1:81 S"),
            "destination port: expected 81, got 80",
        ),
        (
            format!("{syn}\nexpect out em1 tcp 198.51.100.1:4000 > 192.0.2.1:80 S ttl 64"),
            "ttl: expected 64, got 63",
        ),
        (
            format!("{syn} -> em1\nexpect state tcp 198.51.100.1:4000 > 192.0.2.1:80 rule 2 in"),
            "rule of the state: expected 2, got 1",
        ),
        (
            format!("{syn} -> em1\nexpect no state tcp 198.51.100.1:4000 > 192.0.2.1:80"),
            "there is such a state",
        ),
        (
            format!("{syn} -> em1\nexpect state udp 198.51.100.1:4000 > 192.0.2.1:80"),
            "there is no such state, but:\ntcp 198.51.100.1:4000 > 192.0.2.1:80 in",
        ),
        (format!("{syn} -> em1\nexpect counters inserts +1"), "counter inserts: expected 1, got 2"),
        (format!("{syn} -> em1\nexpect rule 1 packets 2"), "rule 1, packets: expected 2, got 1"),
        ("expect table t has 192.0.2.1".to_owned(), "Table does not exist"),
        ("expect syncookies on".to_owned(), "syncookies: expected on, got off"),
        ("expect event \"x\"".to_owned(), "expected the message \"x\", got none"),
        (
            "in em0 tcp 198.51.100.1:4000 > 192.0.2.1:22 S".to_owned(),
            "x.pft:3: unexpected: dropped in em0, reason match",
        ),
        (
            "in em0 tcp 198.51.100.1:4000 > 192.0.2.1:80 S ack $later".to_owned(),
            "`$later` has no value yet",
        ),
        ("at 5s\nat 4s".to_owned(), "x.pft:4: the clock does not run backwards"),
        ("config pass from <t\n".to_owned(), "the ruleset was refused"),
        ("refused \"x\" config pass".to_owned(), "was loaded, but must be refused"),
        ("refused \"zzz\" config pas".to_owned(), "not with \"zzz\" in the message"),
        ("in em0 udp 198.51.100.1:1 > [2001:db8::1]:2".to_owned(), "not of one family"),
    ];
    for (lines, wanted) in cases {
        let got = fault(&lines);
        assert!(got.contains(wanted), "{lines}\n  wanted: {wanted}\n  got: {got}");
    }
}

#[test]
fn mistakes_in_the_text_have_a_place() {
    let cases = [
        ("on em0", "x.pft:3:1: `on` is no statement"),
        ("in em9 tcp", "x.pft:3:4: there is no interface `em9`"),
        ("in em0 tpc 1.2.3.4:5", "x.pft:3:8: `tpc` is no packet"),
        ("in em0 tcp 1.2.3.4 > 1.2.3.5:6 S", "both ends need a port"),
        ("in em0 tcp 1.2.3.4:5 > 1.2.3.5:6 X", "x.pft:3:34: `X` are no TCP flags"),
        ("in em0 tcp 1.2.3.4:5 > 1.2.3.5:6 S colour 3", "`colour` is no field"),
        ("in em0 udp 1.2.3.4:5 > 1.2.3.5:6 win 3", "`win` does not go with udp"),
        ("in em0 tcp 1.2.3.4:5 > 1.2.3.5:6 S ttl 3 ttl 4", "`ttl` is given twice"),
        ("in em0 tcp 1.2.3.4:5 > 1.2.3.5:6 S -> drop tired", "`tired` is no reason"),
        ("in em0 tcp 1.2.3.{9..4}:5 > 1.2.3.5:6 S", "runs backwards"),
        ("in em0 999999 x udp 1.2.3.4:5 > 1.2.3.5:6", "more than 100000 packets"),
        ("at 5", "x.pft:3:4: a time needs a unit"),
        ("expect blue", "`blue` cannot be expected"),
        ("expect states 5 6", "nothing may follow here, found `6`"),
        ("expect states -1", "out of range"),
        ("do dance", "`dance` is no command"),
        ("interface em0 10.0.0.1", "`10.0.0.1` is none of"),
        ("in em0 raw abc", "odd number of hex digits"),
    ];
    for (lines, wanted) in cases {
        let got = fault(lines);
        assert!(got.contains(wanted), "{lines}\n  wanted: {wanted}\n  got: {got}");
    }
}
