//! Anchors: loaded one by one, called from rules, flushed.

mod common;

use common::{Rig, V4, ip, proto, udp};
use pfapi::check::check;
use pfapi::control::Flush;
use pfapi::limit::Limit;
use pfapi::reason::Reason;
use pfapi::ruleset::{Action, Anchor, AnchorRuleset, BlockAnswer, Draft, Options, Rule};
use pfapi::units::Direction;
use pfengine::{Loader, Verdict};

fn anchor(path: &str) -> Rule {
    let anchor = Anchor { path: path.to_owned(), rules: None };
    Rule { anchor: Some(Box::new(anchor)), ..Rule::new(Action::Pass) }
}

fn inline(path: &str, rules: Vec<Rule>) -> Rule {
    let anchor = Anchor { path: path.to_owned(), rules: Some(rules) };
    Rule { anchor: Some(Box::new(anchor)), ..Rule::new(Action::Pass) }
}

fn block() -> Rule {
    Rule::new(Action::Block(BlockAnswer::Drop))
}

fn draft(rules: Vec<Rule>) -> Draft<()> {
    Draft { rules, ..Draft::default() }
}

fn load(rig: &Rig, root: &str, draft: Draft<()>) -> Result<(), String> {
    let ruleset = check(draft).expect("a valid ruleset");
    let loaded = rig.engine.load_at(root, &ruleset, Loader::default(), rig.now);
    loaded.map_err(|error| error.to_string())
}

fn is_blocked(rig: &mut Rig) -> bool {
    let datagram = ip(V4, proto::UDP, &udp(V4, 1_000, 53, b"query"));
    match rig.send(Direction::In, &datagram).verdict {
        Verdict::Pass => {
            // The default rule makes no state, others do.
            assert!(rig.engine.flush(&Flush::States { interface: None }, rig.now) <= 1);
            false
        }
        Verdict::Drop(Reason::Match) => true,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_anchor_is_loaded_and_flushed_on_its_own() {
    let mut rig = Rig::new(Options::default(), vec![Rule::new(Action::Pass), anchor("foo")]);
    // The call makes it, empty.
    assert_eq!(rig.engine.anchors(), ["foo"]);
    assert!(!is_blocked(&mut rig));
    load(&rig, "foo", draft(vec![block()])).unwrap();
    assert!(is_blocked(&mut rig));
    let rules = rig.engine.rules_of("foo", 0, 10);
    assert_eq!((rules.len(), rules[0].evaluations, rules[0].packets), (1, 1, [1, 0]));
    // The main ruleset and its counters are as they were; the anchor rule counts what it decides.
    let main = rig.engine.rules(0, 10);
    assert_eq!((main[0].evaluations, main[1].packets), (2, [1, 0]));
    // A load of the main ruleset leaves it alone.
    load(&rig, "", draft(vec![anchor("foo")])).unwrap();
    assert!(is_blocked(&mut rig));
    let _ = rig.engine.flush(&Flush::Rules { anchor: "foo".to_owned() }, rig.now);
    assert!(!is_blocked(&mut rig));
    assert_eq!(rig.engine.anchors(), ["foo"]);
    // Without a call and without rules there is no anchor.
    load(&rig, "", draft(vec![])).unwrap();
    assert!(rig.engine.anchors().is_empty());
}

#[test]
fn inline_anchors_go_with_the_ruleset_that_holds_them() {
    let mut rig = Rig::new(Options::default(), vec![inline("_1", vec![block()])]);
    assert!(is_blocked(&mut rig));
    load(&rig, "", draft(vec![Rule::new(Action::Pass)])).unwrap();
    assert!(rig.engine.anchors().is_empty() && !is_blocked(&mut rig));
    // In an anchor likewise.
    load(&rig, "", draft(vec![anchor("x")])).unwrap();
    load(&rig, "x", draft(vec![inline("_1", vec![inline("_2", vec![block()])])])).unwrap();
    assert_eq!(rig.engine.anchors(), ["x", "x/_1", "x/_1/_2"]);
    assert!(is_blocked(&mut rig));
    load(&rig, "x", draft(vec![])).unwrap();
    assert_eq!(rig.engine.anchors(), ["x"]);
}

#[test]
fn load_anchor_comes_in_one_step_with_the_main_rules() {
    let mut rig = Rig::new(Options::default(), vec![]);
    let inside =
        AnchorRuleset { path: "a/b".to_owned(), rules: vec![block()], ..AnchorRuleset::default() };
    load(&rig, "", Draft { anchors: vec![inside], ..draft(vec![anchor("a/*")]) }).unwrap();
    assert!(is_blocked(&mut rig));
    assert_eq!(rig.engine.rules_of("a/b", 0, 10).len(), 1);
}

#[test]
fn anchors_hold_those_that_they_lie_in() {
    let rig = Rig::new(Options::default(), vec![anchor("b-c"), anchor("b/*"), anchor("x/y")]);
    assert_eq!(rig.engine.anchors(), ["b", "b-c", "x", "x/y"]);
    load(&rig, "b/one/two", draft(vec![block()])).unwrap();
    assert_eq!(rig.engine.anchors(), ["b", "b/one", "b/one/two", "b-c", "x", "x/y"]);
    load(&rig, "b/one/two", draft(vec![])).unwrap();
    assert_eq!(rig.engine.anchors(), ["b", "b-c", "x", "x/y"]);
}

#[test]
fn states_of_an_anchor_show_its_rule_while_it_is_in_force() {
    let mut rig = Rig::new(Options::default(), vec![anchor("foo")]);
    load(&rig, "foo", draft(vec![block(), Rule::new(Action::Pass)])).unwrap();
    let datagram = ip(V4, proto::UDP, &udp(V4, 1_000, 53, b"query"));
    assert_eq!(rig.send(Direction::In, &datagram).verdict, Verdict::Pass);
    let shown = |rig: &Rig| rig.engine.states(&mut 0, 10, rig.now)[0].rule;
    assert_eq!(shown(&rig), Some(1));
    assert_eq!(rig.engine.rules_of("foo", 0, 10)[1].states, 1);
    assert_eq!(rig.engine.rules(0, 10)[0].states, 1, "the anchor rule holds it too");
    load(&rig, "foo", draft(vec![block()])).unwrap();
    assert_eq!(shown(&rig), None);
    assert_eq!(rig.send(Direction::In, &datagram).verdict, Verdict::Pass, "states outlive a load");
}

#[test]
fn the_number_of_anchors_is_bounded() {
    let mut options = Options::default();
    options.limits.set(Limit::Anchors, 2);
    let rig = Rig::new(options, vec![anchor("a"), anchor("b")]);
    let error = load(&rig, "c", draft(vec![block()])).unwrap_err();
    assert_eq!(error, "3 anchors exceed the anchors limit 2");
    assert_eq!(rig.engine.anchors(), ["a", "b"]);
    load(&rig, "a", draft(vec![block()])).unwrap();
}
