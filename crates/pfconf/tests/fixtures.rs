//! Fixtures that nobody wrote: whatever the lines are, reading them ends, with values or with a
//! mistake that names an existing line.

use pfconf::env::{Environment, Protocols, Services, Texts};
use pfconf::{Dialect, Fingerprints};
use proptest::prelude::*;

/// Words of all fixtures, and what could upset their readers.
const WORDS: &[&str] = &[
    "em0",
    "index",
    "flags",
    "UP,LOOPBACK",
    "groups",
    "a,,b",
    "mtu",
    "1500",
    "baud",
    "inet",
    "192.0.2.1/24",
    "192.0.2.1/33",
    "peer",
    "192.0.2.2",
    "inet6",
    "::1/128",
    "/",
    "80/tcp",
    "%",
    "65536",
    "-1",
    "99999999999999999999",
    "openbsd",
    "rtables",
    "freebsd",
    "fibs",
    "0",
    "#",
    "ü",
    "\u{0}",
    "5840:64:1:60:M*,S,T,N,W7:Linux:2.0-99:0-99:x",
    "S:T:*:%8:M%,W:",
    ":::::::::",
    "*:1:1:*:.:nomatch:::ab",
];

fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        4 => prop::sample::select(WORDS).prop_map(str::to_owned),
        1 => ".{0,8}",
    ];
    let line = prop::collection::vec(word, 0..10).prop_map(|words| words.join(" "));
    prop::collection::vec(line, 0..6).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn readers_end_and_name_existing_lines(text in text(), which in 0_usize..7) {
        let lines = text.lines().count();
        let mut texts = Texts::default();
        let place = [
            &mut texts.interfaces,
            &mut texts.hosts,
            &mut texts.users,
            &mut texts.services,
            &mut texts.protocols,
            &mut texts.settings,
            &mut texts.fingerprints,
        ];
        for (index, file) in place.into_iter().enumerate() {
            if index == which {
                file.clone_from(&text);
            }
        }
        for dialect in [Dialect::OpenBsd, Dialect::FreeBsd] {
            match Environment::parse(&texts, dialect) {
                Err(error) => prop_assert!((1..=lines).contains(&error.line)),
                Ok((_, mistakes)) => {
                    prop_assert!(mistakes.iter().all(|found| (1..=lines).contains(&found.line)));
                }
            }
        }
    }

    #[test]
    fn lists_of_a_system_are_never_refused(text in text(), name in ".{0,6}") {
        let _ = Services::lenient(&text).port(&name, None);
        let _ = Protocols::lenient(&text).number(&name);
    }

    #[test]
    fn any_name_may_be_looked_up(text in text(), name in ".{0,20}") {
        let (database, _) = Fingerprints::parse(&format!("*:1:1:*:.:Linux:2.ü:x y:ab\n{text}"));
        let found = database.find(&name);
        // A name that is found is found again as it is shown.
        let shown = found.to_string();
        prop_assert_eq!(database.find(&shown).to_string(), shown);
        let _ = database.find(&format!("linux {name}"));
    }
}
