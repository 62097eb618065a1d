//! Time to compile large rulesets without and with the optimizer; the difference is its own.
//!
//! Each kind of ruleset is hard for another step: `mixed` for all of them, `hosts` for combining
//! (all rules become one table), `unlike` for reordering (hardly two rules have anything in
//! common), `nested` for the search for rules that include others (networks of many lengths).
//! `cargo bench -p pfconf --bench optimize`
#![allow(missing_docs, reason = "benchmarks are named after what they measure")]

use std::fmt::Write;

use divan::Bencher;
use divan::counter::ItemsCount;
use pfapi::facts::Facts;
use pfconf::{BuiltinSources, CompileOptions, Dialect, Input, Level, Listing, Optimization};

const SIZES: [u32; 2] = [10_000, 50_000];

fn main() {
    divan::Divan::default().sample_count(5).sample_size(1).config_with_args().main();
}

/// Octets of an address, the low bits last.
fn host(n: u32) -> String {
    let [_, b, c, d] = n.to_be_bytes();
    format!("10.{b}.{c}.{d}")
}

/// Numbers that look random, the same in every run.
const fn spread(n: u32) -> u32 {
    n.wrapping_mul(0x9e37_79b1) >> 7
}

/// A rule for each number.
fn lines(count: u32, line: impl Fn(u32) -> String) -> String {
    let mut text = String::new();
    for n in 0..count {
        writeln!(text, "{}", line(n)).expect("a string takes everything");
    }
    text
}

fn mixed(count: u32) -> String {
    let mut text = String::new();
    for n in 0..count {
        let quick = if (n / 500).is_multiple_of(2) { " quick" } else { "" };
        let proto = if spread(n).is_multiple_of(3) { "udp" } else { "tcp" };
        let (em, port) =
            (spread(n + 7) % 4, [22, 25, 53, 80, 443, 8080][(spread(n + 3) % 6) as usize]);
        let (from, to) = (host(spread(n) % 0x0100_0000), spread(n + 1) % 250);
        writeln!(
            text,
            "pass in{quick} on em{em} proto {proto} from {from} to 192.0.2.{to} port {port}"
        )
        .expect("a string takes everything");
    }
    text
}

fn hosts(count: u32) -> String {
    lines(count, |n| format!("block in quick from {}", host(n)))
}

fn unlike(count: u32) -> String {
    lines(count, |n| format!("pass proto udp to {} port {}", host(n), n % 60_000 + 1))
}

fn nested(count: u32) -> String {
    lines(count, |n| {
        let net = host(spread(n) % 0x0100_0000);
        format!("block from {net}/{} to {}/{}", 20 + n % 13, host(n), 24 + n % 9)
    })
}

fn compile(bencher: Bencher, ruleset: fn(u32) -> String, count: u32, level: Level) {
    let text = ruleset(count);
    let facts = Facts::default();
    let options = CompileOptions {
        facts: &facts,
        sources: &BuiltinSources,
        defines: &[],
        numeric_only: true,
        dialect: Dialect::OpenBsd,
        listing: Listing::Short,
        optimize: Optimization { level: Some(level), ..Optimization::default() },
        parts: pfconf::Parts::ALL,
    };
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        let compiled = pfconf::compile(&Input { name: "bench", text: &text }, &options);
        compiled.ruleset.expect("the ruleset is sound").rules().len()
    });
}

macro_rules! rulesets {
    ($($name:ident)+) => {$(
        mod $name {
            use super::{Bencher, Level, SIZES};

            #[divan::bench(args = SIZES)]
            fn none(bencher: Bencher, count: u32) {
                super::compile(bencher, super::$name, count, Level::None);
            }

            #[divan::bench(args = SIZES)]
            fn basic(bencher: Bencher, count: u32) {
                super::compile(bencher, super::$name, count, Level::Basic);
            }
        }
    )+};
}

rulesets!(mixed hosts unlike nested);
