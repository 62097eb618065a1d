use super::*;
use crate::engine::Loader;
use crate::packet_desc::{PacketDesc, Transport};
use crate::rng::Rng;
use crate::rules::load::{Parts, skipped};
use crate::rules::program::Rulesets;
use crate::rules::ruleset::Ruleset;
use crate::rules::tag::Tags;
use crate::rules::translate::NoTranslation;
use crate::table::Tables;
use pfapi::addr::Af;
use pfapi::facts::Facts;
use pfapi::ruleset::{Anchor, BlockAnswer, Log, Rule, TagMatch};
use pfapi::units::{Direction, IfIndex, Uptime};

const BLOCK: Action = Action::Block(BlockAnswer::Drop);

fn desc() -> PacketDesc {
    PacketDesc {
        af: Af::Inet,
        src: crate::addr::Addr::from_ipv4([198, 51, 100, 1]),
        dst: crate::addr::Addr::from_ipv4([192, 0, 2, 1]),
        proto: 17,
        tos: 0,
        total: 64,
        l4: 20,
        has_options: false,
        transport: Transport::Udp { sport: 1_000, dport: 53 },
    }
}

/// Rulesets by path; the first is the main one.
fn rules(sets: &[(&str, Vec<Rule>)]) -> LoadedRules {
    let mut tags = Tags::default();
    let all = sets.iter().flat_map(|(_, rules)| rules);
    tags.add(all.filter_map(|rule| rule.tag.as_ref().map(|tag| tag.as_str()))).unwrap();
    let rulesets: Rulesets = (1..)
        .zip(sets)
        .map(|(epoch, (path, rules))| {
            let set = Ruleset::new(path, rules, epoch, Loader::default(), &tags);
            ((*path).to_owned(), Arc::new(set))
        })
        .collect();
    let facts = Facts::default();
    let skip = skipped(&[], &facts);
    let fingerprints = Arc::default();
    LoadedRules::new(
        Parts {
            rulesets,
            tables: Tables::default(),
            tags,
            fingerprints,
            skip,
            limiters: crate::limiter::Limiters::default(),
        },
        &facts,
        9,
    )
}

fn rule(action: Action, label: &str) -> Rule {
    let mut rule = Rule::new(action);
    rule.label = Some(label.into());
    rule
}

fn quick(action: Action, label: &str) -> Rule {
    Rule { quick: true, ..rule(action, label) }
}

fn anchor(path: &str) -> Rule {
    let anchor = Anchor { path: path.to_owned(), rules: None };
    Rule { anchor: Some(Box::new(anchor)), ..rule(Action::Pass, path) }
}

fn quick_anchor(path: &str) -> Rule {
    Rule { quick: true, ..anchor(path) }
}

fn view(desc: &PacketDesc) -> PacketView<'_> {
    PacketView {
        desc,
        data: &[],
        interface: IfIndex(0),
        direction: Direction::In,
        received_on: Some(IfIndex(0)),
        tag: None,
        prio: 3,
    }
}

fn evaluate<'a>(
    rules: &'a LoadedRules,
    view: &PacketView<'_>,
    scratch: &mut Scratch,
    translate: &mut impl Translate,
) -> Result<Evaluation<'a>, Reason> {
    let mut rng = Rng::new([1; 32]);
    let now = Uptime::from_secs(1_000);
    let surroundings = Surroundings { rng: &mut rng, now, routes: None, sockets: None };
    rules.evaluate(view, surroundings, scratch, translate)
}

/// Labels of the deciding rule and of the anchor rule around it.
fn decide(rules: &LoadedRules) -> Result<(String, String), Reason> {
    let desc = desc();
    let view = view(&desc);
    let found = evaluate(rules, &view, &mut Scratch::default(), &mut NoTranslation)?;
    let label = |rule: &Rule| rule.label.as_deref().cloned().unwrap_or_default();
    let anchor = found.anchor.map(|rule| label(&rule.rule)).unwrap_or_default();
    Ok((label(&found.rule.rule), anchor))
}

fn decided(sets: &[(&str, Vec<Rule>)]) -> String {
    let (rule, anchor) = decide(&rules(sets)).unwrap();
    if anchor.is_empty() { rule } else { format!("{rule} in {anchor}") }
}

fn evaluations(rules: &LoadedRules, path: &str) -> Vec<u64> {
    let reports = rules.rulesets[path].report(0, 100, |_| crate::rules::Live::default());
    reports.iter().map(|report| report.evaluations).collect()
}

#[test]
fn last_match_decides_and_quick_ends_the_walk() {
    let (pass, block) = (|l| rule(Action::Pass, l), |l| rule(BLOCK, l));
    assert_eq!(decided(&[("", vec![])]), "");
    assert_eq!(decided(&[("", vec![block("a"), pass("b")])]), "b");
    assert_eq!(decided(&[("", vec![quick(BLOCK, "a"), pass("b")])]), "a");
    // A quick match rule ends the walk; the last rule before it decides.
    let sets = [("", vec![block("a"), quick(Action::Match, "m"), pass("b")])];
    assert_eq!(decided(&sets), "a");
}

#[test]
fn anchors_are_walked_where_they_stand() {
    let inner = ("x", vec![rule(BLOCK, "inner")]);
    assert_eq!(
        decided(&[("", vec![rule(Action::Pass, "a"), anchor("x")]), inner.clone()]),
        "inner in x"
    );
    assert_eq!(decided(&[("", vec![anchor("x"), rule(Action::Pass, "a")]), inner.clone()]), "a");
    // An anchor whose rule does not match is not entered.
    let other = Rule { proto: Some(6), ..anchor("x") };
    assert_eq!(decided(&[("", vec![other]), inner.clone()]), "");
    // An empty or missing one changes nothing.
    assert_eq!(
        decided(&[("", vec![rule(BLOCK, "a"), anchor("y"), anchor("z")]), ("y", vec![])]),
        "a"
    );
    // Paths: relative to the ruleset of the rule, absolute, and one up.
    for path in ["y", "/x/y", "../x/y"] {
        let sets = [
            ("", vec![anchor("x")]),
            ("x", vec![anchor(path)]),
            ("x/y", vec![rule(BLOCK, "deep")]),
        ];
        assert_eq!(decided(&sets), format!("deep in {path}"));
    }
}

#[test]
fn quick_inside_an_anchor_ends_everything() {
    let sets =
        [("", vec![anchor("x"), rule(Action::Pass, "after")]), ("x", vec![quick(BLOCK, "inner")])];
    assert_eq!(decided(&sets), "inner in x");
}

#[test]
fn quick_anchors_end_the_walk_when_a_rule_directly_in_them_matched_last() {
    let after = rule(Action::Pass, "after");
    let sets = [("", vec![quick_anchor("x"), after.clone()]), ("x", vec![rule(BLOCK, "inner")])];
    assert_eq!(decided(&sets), "inner in x");
    // Nothing inside matched: the walk goes on.
    let miss = Rule { proto: Some(6), ..rule(BLOCK, "inner") };
    assert_eq!(
        decided(&[("", vec![quick_anchor("x"), after.clone()]), ("x", vec![miss])]),
        "after"
    );
    // A match rule alone does not count.
    let only_match = ("x", vec![rule(Action::Match, "m")]);
    assert_eq!(decided(&[("", vec![quick_anchor("x"), after.clone()]), only_match]), "after");
    // The last match was in a nested anchor, which is recorded instead.
    let nested = ("x", vec![anchor("y")]);
    let deep = ("x/y", vec![rule(BLOCK, "deep")]);
    assert_eq!(
        decided(&[("", vec![quick_anchor("x"), after.clone()]), nested, deep.clone()]),
        "after"
    );
    let nested = ("x", vec![quick_anchor("y")]);
    assert_eq!(decided(&[("", vec![quick_anchor("x"), after]), nested, deep]), "deep in y");
}

#[test]
fn wildcard_anchors_walk_their_children_in_name_order() {
    let child = |name: &'static str| (name, vec![rule(BLOCK, name)]);
    let sets = [
        ("", vec![anchor("x/*")]),
        child("x/b"),
        child("x/a"),
        ("x/b/deep", vec![quick(BLOCK, "deep")]),
        ("x", vec![quick(BLOCK, "x itself")]),
    ];
    assert_eq!(decided(&sets), "x/b in x/*");
    // A quick one ends after the first child whose rule matched.
    let sets = [("", vec![quick_anchor("x/*")]), child("x/b"), child("x/a")];
    assert_eq!(decided(&sets), "x/a in x/*");
}

#[test]
fn anchors_nest_64_deep_and_no_deeper() {
    let chain = |depth: usize| {
        let mut sets = vec![(String::new(), vec![anchor("a")])];
        for level in 1..=depth {
            let path = vec!["a"; level].join("/");
            let inner = if level == depth { rule(BLOCK, "deep") } else { anchor("a") };
            sets.push((path, vec![inner]));
        }
        let sets: Vec<_> =
            sets.iter().map(|(path, rules)| (path.as_str(), rules.clone())).collect();
        decide(&rules(&sets)).map(|found| found.0)
    };
    assert_eq!(chain(64), Ok("deep".to_owned()));
    assert_eq!(chain(65), Err(Reason::Memory));
    // A ruleset that calls itself ends there too.
    assert_eq!(
        decide(&rules(&[("", vec![anchor("/x")]), ("x", vec![anchor("/x")])])),
        Err(Reason::Memory)
    );
}

#[test]
fn tags_stick_from_every_matching_rule() {
    let tag = |action, name: &str| {
        let mut rule = rule(action, name);
        rule.tag = Some(name.into());
        rule
    };
    let tagged = |name: &str, negated| {
        let mut rule = rule(Action::Pass, "tagged");
        rule.tagged = Some(TagMatch { negated, name: name.to_owned() }.into());
        rule
    };
    let yes = |sets: &[(&str, Vec<Rule>)]| decided(sets) == "tagged";
    // Match rules, rules that do not decide, and anchor rules tag.
    assert!(yes(&[("", vec![tag(Action::Match, "t"), tagged("t", false)])]));
    assert!(yes(&[("", vec![tag(BLOCK, "t"), tagged("t", false)])]));
    let mut tagging = anchor("x");
    tagging.tag = Some("t".into());
    assert!(yes(&[("", vec![tagging, tagged("t", false)])]));
    // The last one wins.
    let both = vec![tag(Action::Match, "t"), tag(Action::Match, "u")];
    assert!(!yes(&[("", [both.clone(), vec![tagged("t", false)]].concat())]));
    assert!(yes(&[("", [both.clone(), vec![tagged("t", true)]].concat())]));
    assert!(yes(&[("", vec![tagged("never set", true)])]));
    assert!(!yes(&[("", vec![tagged("never set", false)])]));
    // The tag stays when a rule without one decides.
    let rules = rules(&[("", vec![tag(Action::Pass, "t"), rule(Action::Pass, "end")])]);
    let desc = desc();
    let view = view(&desc);
    let found = evaluate(&rules, &view, &mut Scratch::default(), &mut NoTranslation).unwrap();
    assert_eq!(found.tag, rules.tags.get("t"));
    assert!(found.tag.is_some() && found.actions.tag == found.tag);
}

#[test]
fn match_rules_add_up_and_the_decider_comes_last() {
    let with = |action, tos, ttl| {
        let mut rule = rule(action, "r");
        rule.set.tos = tos;
        rule.scrub.min_ttl = ttl;
        rule
    };
    let rules = rules(&[(
        "",
        vec![
            with(Action::Match, Some(8), 10),
            with(BLOCK, Some(99), 99),
            with(Action::Match, None, 20),
            with(Action::Pass, Some(16), 0),
        ],
    )]);
    let desc = desc();
    let view = view(&desc);
    let mut scratch = Scratch::default();
    let found = evaluate(&rules, &view, &mut scratch, &mut NoTranslation).unwrap();
    assert_eq!((found.actions.tos, found.actions.min_ttl), (Some(16), 20));
    assert_eq!(scratch.matches, [0, 2]);
    // Without a state only the deciding rule's words count.
    assert_eq!(found.stateless_actions().min_ttl, 0);
}

#[test]
fn log_matches_records_every_later_rule() {
    let log = |action, matches, interface| Rule {
        log: Some(Log { matches, interface, ..Log::default() }),
        ..rule(action, "r")
    };
    let rules = rules(&[
        (
            "",
            vec![
                log(Action::Match, false, 1),
                log(Action::Match, true, 2),
                rule(BLOCK, "r"),
                anchor("x"),
            ],
        ),
        ("x", vec![rule(Action::Pass, "r")]),
    ]);
    let desc = desc();
    let view = view(&desc);
    let mut scratch = Scratch::default();
    evaluate(&rules, &view, &mut scratch, &mut NoTranslation).unwrap();
    let calls: Vec<_> =
        scratch.logs.iter().map(|log| (log.step, log.anchor, log.interface)).collect();
    assert_eq!(calls, [(0, None, 1), (1, None, 2), (2, None, 2), (4, Some(3), 2)]);
}

#[test]
fn evaluations_count_the_rules_that_were_looked_at() {
    let rules = rules(&[
        ("", vec![rule(BLOCK, "a"), anchor("x"), rule(Action::Pass, "b")]),
        ("x", vec![rule(Action::Match, "m"), quick(BLOCK, "q"), rule(BLOCK, "n")]),
    ]);
    for _ in 0..3 {
        decide(&rules).unwrap();
    }
    assert_eq!(evaluations(&rules, ""), [3, 3, 0]);
    assert_eq!(evaluations(&rules, "x"), [3, 3, 0]);
}

/// Moves every packet to another destination port.
struct Shift;

impl Translate for Shift {
    fn translate(
        &mut self,
        rule: &Arc<LoadedRule>,
        addresses: &mut Addresses,
        _: &mut Rng,
    ) -> Result<(), Reason> {
        if addresses.dport == 1 {
            return Err(Reason::Translate);
        }
        assert!(rule.rule.rdr.is_some());
        addresses.dport = if addresses.dport == 53 { 5_353 } else { 1 };
        Ok(())
    }
}

#[test]
fn later_rules_see_translated_addresses() {
    use pfapi::port::PortMatch;
    use pfapi::ruleset::{AddrMatch, Pool};
    let rdr = |action| {
        let mut rule = rule(action, "rdr");
        rule.proto = Some(17);
        rule.rdr = Some(Pool::new(AddrMatch::Any).into());
        rule
    };
    let to = |port| {
        let mut rule = rule(Action::Pass, "seen");
        rule.proto = Some(17);
        rule.to.port = Some(PortMatch::Equal(port));
        rule
    };
    let desc = desc();
    let view = view(&desc);
    let run = |sets: Vec<Rule>| {
        let rules = rules(&[("", sets)]);
        let found = evaluate(&rules, &view, &mut Scratch::default(), &mut Shift)?;
        Ok((found.rule.rule.label.as_deref().cloned().unwrap_or_default(), found.addresses.dport))
    };
    assert_eq!(run(vec![rdr(Action::Match), to(5_353)]), Ok(("seen".to_owned(), 5_353)));
    assert_eq!(run(vec![rdr(Action::Match), to(53)]), Ok((String::new(), 5_353)));
    // The deciding rule translates at the end of the walk only.
    assert_eq!(run(vec![rdr(Action::Pass), to(53)]), Ok(("seen".to_owned(), 53)));
    assert_eq!(run(vec![to(53), rdr(Action::Pass)]), Ok(("rdr".to_owned(), 5_353)));
    assert_eq!(
        run(vec![rdr(Action::Match), rdr(Action::Match), rdr(Action::Match)]),
        Err(Reason::Translate)
    );
}
