//! Time and memory of reading pf.conf, beside what bare parsing of the same text costs.
//!
//! A line per case: octets in, milliseconds (the least of several runs: what else runs on the
//! machine only adds), the same as a multiple of reading the octets once and of scanning and
//! parsing alone, and the peak of the heap as a multiple of the octets. `cargo bench -p pfconf`;
//! `--short` takes 5 runs in the place of 15, `--json` writes one object per case, and a word takes
//! the cases that have it in their name.
#![allow(missing_docs, reason = "benchmarks are named after what they measure")]

mod heap;
mod random;
mod texts;

use std::hint::black_box;
use std::io;
use std::net::IpAddr;
use std::time::Instant;

use pfapi::facts::{Facts, InterfaceFacts};
use pfconf::measure::{Parser, parse_alone};
use pfconf::{
    BuiltinSources, CompileOptions, Compiled, Dialect, Input, Level, Listing, Optimization,
    Sources, compile, print,
};

/// One thing that is measured.
struct Case {
    name: &'static str,
    dialect: Dialect,
    text: String,
    /// What `file "list"` holds.
    file: String,
    work: Work,
}

enum Work {
    /// Everything that `pfctl -nv` does but writing.
    Everything,
    /// Without the listing, as `pfctl -n`.
    WithoutListing,
    /// As `pfctl -nv -o none`.
    Unoptimized,
    /// Scanning and parsing.
    Parsing(Parser),
    /// Printing the rules that come out.
    Printing,
}

struct Files<'a>(&'a str);

impl Sources for Files<'_> {
    fn read(&self, _: &str) -> io::Result<String> {
        Ok(self.0.to_owned())
    }

    fn lookup_host(&self, _: &str) -> Vec<IpAddr> {
        vec![IpAddr::from([192, 0, 2, 1])]
    }

    fn service(&self, name: &str, proto: Option<&str>) -> Option<u16> {
        BuiltinSources.service(name, proto)
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        BuiltinSources.protocol(name)
    }
}

impl Case {
    fn compile(&self, listing: Listing, level: Level) -> Compiled {
        let interfaces = ["em0", "em1", "lo0"].map(InterfaceFacts::new).to_vec();
        let options = CompileOptions {
            facts: &Facts { interfaces },
            sources: &Files(&self.file),
            defines: &[],
            numeric_only: false,
            dialect: self.dialect,
            listing,
            optimize: Optimization { level: Some(level), ..Optimization::default() },
            parts: pfconf::Parts::ALL,
        };
        let compiled = compile(&Input { name: "bench", text: &self.text }, &options);
        let first = compiled.diagnostics.first().map(pfconf::Diagnostic::classic);
        assert!(compiled.ruleset.is_some(), "{}: {first:?}", self.name);
        compiled
    }

    fn run(&self) {
        match self.work {
            Work::Everything => drop(black_box(self.compile(Listing::Rules, Level::Basic))),
            Work::WithoutListing => drop(black_box(self.compile(Listing::Short, Level::Basic))),
            Work::Unoptimized => drop(black_box(self.compile(Listing::Rules, Level::None))),
            Work::Parsing(parser) => {
                assert!(black_box(parse_alone(&self.text, self.dialect, parser)) > 0);
            }
            Work::Printing => {}
        }
    }

    /// Octets that are read.
    fn octets(&self) -> usize {
        self.text.len() + self.file.len()
    }

    fn measure(&self, runs: usize) -> Outcome {
        let printing = matches!(self.work, Work::Printing);
        let compiled = printing.then(|| self.compile(Listing::Short, Level::Basic));
        let rules = compiled.as_ref().and_then(|compiled| compiled.ruleset.as_ref());
        let work = || match rules {
            Some(rules) => rules.rules().for_each(|rule| drop(black_box(print::rule(rule)))),
            None => self.run(),
        };
        let peak = heap::peak_of(work);
        let seconds = least(runs, work);
        let bare = least(runs, || {
            let lines = |text: &str| text.bytes().filter(|&octet| octet == b'\n').count();
            black_box(lines(black_box(&self.text)) + lines(black_box(&self.file)));
        });
        let parsing = least(runs, || {
            black_box(parse_alone(&self.text, self.dialect, Parser::Words));
        });
        Outcome { seconds, bare, parsing, peak }
    }
}

struct Outcome {
    seconds: f64,
    bare: f64,
    parsing: f64,
    peak: usize,
}

fn least(runs: usize, mut work: impl FnMut()) -> f64 {
    let mut least = f64::MAX;
    for _ in 0..runs {
        #[expect(clippy::disallowed_methods, reason = "a bench measures time")]
        let start = Instant::now();
        work();
        least = least.min(start.elapsed().as_secs_f64());
    }
    least
}

fn cases() -> Vec<Case> {
    const MB: usize = 1_000_000;
    let case = |name, text: String, work| Case {
        name,
        dialect: Dialect::OpenBsd,
        text,
        file: String::new(),
        work,
    };
    let everything = |name, text| case(name, text, Work::Everything);
    vec![
        everything("rules, 0.1 MB", texts::rules(MB / 10)),
        everything("rules, 1 MB", texts::rules(MB)),
        everything("rules, 10 MB", texts::rules(10 * MB)),
        case("rules, 1 MB, not optimized", texts::rules(MB), Work::Unoptimized),
        case("rules, 1 MB, not listed", texts::rules(MB), Work::WithoutListing),
        case("rules, 1 MB, parsing", texts::rules(MB), Work::Parsing(Parser::Words)),
        case("rules, 1 MB, parsing by pest", texts::rules(MB), Work::Parsing(Parser::Pest)),
        case("rules, 1 MB, printing", texts::rules(MB), Work::Printing),
        everything("rules of many kinds, 1 MB", texts::varied(MB)),
        everything("random rules, 0.1 MB", random::filter(MB / 10)),
        everything("random rules, 1 MB", random::filter(MB)),
        everything("random rules, 10 MB", random::filter(10 * MB)),
        case("random rules, 1 MB, parsing", random::filter(MB), Work::Parsing(Parser::Words)),
        everything("random rules in anchors, 1 MB", random::anchors(MB)),
        Case {
            dialect: Dialect::FreeBsd,
            ..everything("random rules of FreeBSD, 1 MB", random::freebsd(MB))
        },
        everything("comments, 1 MB", texts::comments(MB)),
        everything("lists: 100,000 rules of 50 KB", texts::lists()),
        everything("lists: 432,000 rules of 18 KB", texts::products()),
        everything("networks of all lengths, 2 KB", texts::lengths()),
        everything("networks in networks, 10 KB", texts::nested()),
        everything("one list of 10,000 addresses", texts::one_list(10_000)),
        everything("one list of 100,000 addresses", texts::one_list(100_000)),
        everything("table, 100,000 inline", texts::table(100_000)),
        everything("anchors, 0.1 MB", texts::anchors(MB / 10)),
        everything("anchors, 1 MB", texts::anchors(MB)),
        everything("anchors, 10 MB", texts::anchors(10 * MB)),
        Case { dialect: Dialect::FreeBsd, ..everything("FreeBSD, 1 MB", texts::freebsd(MB)) },
        Case {
            file: texts::list_file(1_000_000),
            ..everything(
                "table file, 1,000,000 lines",
                "set limit table-entries 2000000\ntable <t> file \"list\"\n".to_owned(),
            )
        },
    ]
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn main() {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    let (short, json) = (has("--short"), has("--json"));
    let words: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted =
        |case: &Case| words.is_empty() || words.iter().any(|word| case.name.contains(word));
    if !json {
        println!(
            "{:<32} {:>10} {:>9} {:>9} {:>10} {:>10} {:>9}",
            "reading pf.conf", "octets", "ms", "x reading", "x parsing", "peak MB", "x octets"
        );
    }
    for case in cases().into_iter().filter(is_wanted) {
        let Outcome { seconds, bare, parsing, peak } = case.measure(if short { 5 } else { 15 });
        let (octets, ms) = (case.octets(), seconds * 1e3);
        let (by_bare, by_parsing) = (seconds / bare, seconds / parsing);
        let (megabytes, by_octets) = (peak as f64 / 1e6, peak as f64 / octets as f64);
        if json {
            println!(
                "{{\"case\":{:?},\"octets\":{octets},\"ms\":{ms:.3},\"by_reading\":{by_bare:.1},\
                 \"by_parsing\":{by_parsing:.2},\"peak\":{peak}}}",
                case.name
            );
        } else {
            println!(
                "{:<32} {octets:>10} {ms:>9.2} {by_bare:>9.1} {by_parsing:>10.2} \
                 {megabytes:>10.2} {by_octets:>9.1}",
                case.name
            );
        }
    }
}
