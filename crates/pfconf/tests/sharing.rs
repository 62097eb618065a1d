//! What the rules of a list share.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use pfapi::facts::Facts;
use pfapi::ruleset::Rule;
use pfconf::{
    BuiltinSources, CompileOptions, Dialect, Input, Level, Listing, Optimization, Parts, compile,
};

fn rules(text: &str) -> Vec<Rule> {
    let facts = Facts { interfaces: Vec::new() };
    let options = CompileOptions {
        facts: &facts,
        sources: &BuiltinSources,
        defines: &[],
        numeric_only: true,
        dialect: Dialect::OpenBsd,
        listing: Listing::Rules,
        optimize: Optimization { level: Some(Level::None), ..Optimization::default() },
        parts: Parts::ALL,
    };
    let compiled = compile(&Input { name: "pf.conf", text }, &options);
    compiled.ruleset.unwrap().rules().cloned().collect()
}

fn is_shared(one: &Rule, other: &Rule) -> bool {
    core::ptr::eq(&raw const **one, &raw const **other)
}

#[test]
fn rules_of_a_list_share_what_they_have_in_common() {
    let rules = rules(
        "pass out on em0 inet from { 10.0.0.1 10.0.0.2 } to any label \"a\" tag T nat-to 192.0.2.1",
    );
    let [first, second] = rules.as_slice() else { panic!("{rules:?}") };
    assert!(is_shared(first, second));
    let names = [first, second].map(|rule| &raw const **rule.interface.as_ref().unwrap());
    assert_eq!(names[0], names[1]);
}

#[test]
fn names_with_macros_in_them_are_of_each_rule() {
    let rules = rules("pass proto tcp to port { 80 443 } label \"$nr\" tag T$dstport");
    let names = rules
        .iter()
        .map(|rule| (rule.label.as_ref().unwrap().as_str(), rule.tag.as_ref().unwrap().as_str()));
    assert_eq!(names.collect::<Vec<_>>(), [("0", "T80"), ("1", "T443")]);
}
