//! Small hostile texts end in an error that names the number, before they cost much.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write;
use std::io;
use std::net::IpAddr;

use pfapi::check::RULES_MAX;
use pfapi::facts::Facts;
use pfconf::{
    CompileOptions, Compiled, Dialect, Input, Listing, NoSources, Optimization, Sources, compile,
};

/// A folder with one file, whatever it is called.
struct OneFile<'a>(&'a str);

impl Sources for OneFile<'_> {
    fn read(&self, _: &str) -> io::Result<String> {
        Ok(self.0.to_owned())
    }

    fn lookup_host(&self, name: &str) -> Vec<IpAddr> {
        NoSources.lookup_host(name)
    }

    fn service(&self, name: &str, proto: Option<&str>) -> Option<u16> {
        NoSources.service(name, proto)
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        (name == "tcp").then_some(6)
    }
}

fn read(text: &str, file: &str) -> Compiled {
    let options = CompileOptions {
        facts: &Facts::default(),
        sources: &OneFile(file),
        defines: &[],
        numeric_only: true,
        dialect: Dialect::OpenBsd,
        listing: Listing::Rules,
        optimize: Optimization::default(),
        parts: pfconf::Parts::ALL,
    };
    compile(&Input { name: "stdin", text }, &options)
}

fn messages(compiled: &Compiled) -> Vec<String> {
    compiled.diagnostics.iter().map(pfconf::Diagnostic::classic).collect()
}

fn addresses(count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        write!(text, " 10.0.{}.{}", number / 250, number % 250).unwrap();
    }
    text
}

#[test]
fn combinations_of_all_anchors_count_together() {
    let ports: Vec<String> = (1..=500).map(|port| port.to_string()).collect();
    let ports = ports.join(" ");
    let large = format!("pass proto tcp from {{{} }} port {{{ports} }}\n", addresses(1_000));
    let compiled = read(&format!("anchor a {{\npass\n}}\nanchor b {{\n{large}}}\n"), "");
    let wanted = format!(
        "stdin:5: rule expands to 500000 rules, with 2 before it more than the limit of {RULES_MAX}"
    );
    assert_eq!(messages(&compiled).first(), Some(&wanted));
}

/// A small file that includes a larger one many times must not be read to its end for nothing.
#[test]
fn reading_ends_where_there_are_too_many_combinations() {
    let large = format!("pass from {{{} }} to {{{} }}\n", addresses(1_000), addresses(250));
    let compiled = read(&"include \"x\"\n".repeat(1_000), &large);
    let wanted = format!(
        "x:1: rule expands to 250000 rules, with 500000 before it more than the limit of {RULES_MAX}"
    );
    assert_eq!(messages(&compiled), [wanted]);
}

#[test]
fn files_that_include_themselves_end() {
    let file = "include \"x\"\n".repeat(100);
    let compiled = read(&file, &file);
    assert_eq!(
        messages(&compiled).last().map(String::as_str),
        Some("pfctl: more than 1000 files are included")
    );
    assert!(compiled.diagnostics.len() < 2_000, "{}", compiled.diagnostics.len());
}

#[test]
fn macros_grow_with_the_length_of_the_file() {
    let text = format!("m = \"{}\"\npass from {{ {} }}\n", addresses(3_000), "$m ".repeat(300));
    let compiled = read(&text, "");
    let max = 2 * 1024 * 1024 + 32 * text.len();
    assert_eq!(messages(&compiled), [format!("stdin:2: macros expand to more than {max} octets")]);
}

#[test]
fn pools_of_many_combinations_are_bounded() {
    let text = format!(
        "match out proto tcp from {{{} }} to any port {{ 1 2 3 4 }} nat-to {{{} }}\n",
        addresses(250),
        addresses(2_001)
    );
    let wanted = "pools of several addresses have more than 2000000 in all combinations";
    let compiled = read(&text, "");
    assert!(messages(&compiled).join("\n").contains(wanted), "{:?}", messages(&compiled));
}

#[test]
fn newlines_behind_a_brace_cost_nothing() {
    let compiled = read(&format!("pass from {{{}", "\n".repeat(200_000)), "");
    assert!(compiled.ruleset.is_none());
}
