//! What `pfctl -nv` warns of where a ruleset and SYN cookies do not go well together.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use pfconf::cookies::surprises;

/// Each ruleset, and words of the only warning that it gets; none where `None`.
const CASES: &[(&str, Option<&str>)] = &[
    ("set syncookies always\nblock\npass in proto tcp to port 80\n", None),
    ("pass in proto tcp no state\n", None),
    ("set syncookies always (classic)\nblock in\n", Some("ports that the rules block look open")),
    ("set syncookies adaptive (start 1%)\n", Some("cookies that began never end")),
    ("set syncookies adaptive (start 2%)\n", None),
    ("set syncookies always\npass in proto tcp no state\n", Some("rule 0: passes SYNs without")),
    (
        "set syncookies always (classic)\npass in proto tcp no state\n",
        Some("no connection opens while cookies are sent"),
    ),
    ("set syncookies always\npass in proto tcp keep state (sloppy)\n", Some("never get cookies")),
    (
        "set syncookies always (classic)\npass in proto tcp keep state (sloppy)\n",
        Some("connections through cookies break"),
    ),
    ("set syncookies always\npass in proto udp no state\npass out no state\n", None),
    (
        "set syncookies always (classic)\npass in proto tcp synproxy state\n",
        Some("answers a second time"),
    ),
    ("set syncookies always\npass in proto tcp os Linux\n", Some("then matches no system")),
    ("set syncookies always\npass in proto tcp probability 50%\n", Some("a client that loses")),
    ("pass out proto tcp keep state (syncookies always)\n", Some("no inbound SYN meets this rule")),
    (
        "set syncookies always (classic)\npass in proto tcp keep state (syncookies always)\n",
        Some("`classic` asks no rules"),
    ),
    ("pass in proto tcp keep state (syncookies (wscale 7))\n", Some("is never announced here")),
    ("pass in proto tcp synproxy state (syncookies (wscale 7))\n", None),
    ("pass out proto tcp keep state (syncookies (wscale 7))\n", Some("no inbound SYN meets this")),
    (
        "set syncookies adaptive\npass in proto tcp keep state (syncookies (mss 1400))\n",
        Some("leave out `wscale`, `sack-perm` and `timestamp`"),
    ),
    ("set syncookies always (mss 1400)\npass\n", Some("leave out `wscale`")),
    ("set syncookies always (mss 1400, sack-perm)\npass\n", None),
    (
        "set syncookies always\nanchor a {\npass in proto tcp no state\n}\n",
        Some("anchor a rule 0: passes SYNs without state"),
    ),
];

#[test]
fn each_surprise_is_told_once_and_nothing_else() {
    for (text, words) in CASES {
        let compiled = common::compile_text(text);
        let ruleset = compiled.ruleset.as_ref().expect(text);
        let found = surprises(ruleset);
        match words {
            None => assert_eq!(found, Vec::<String>::new(), "{text}"),
            Some(words) => {
                assert_eq!(found.len(), 1, "{text}{found:?}");
                assert!(found[0].contains(words), "{text}{found:?}");
            }
        }
    }
}
