//! What rules are asked before a SYN gets a cookie, and what they must not notice of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use common::{Rig, Tcp, V4, V6, proto, returning};
use pfapi::addr::Prefix;
use pfapi::check::check;
use pfapi::control::Info;
use pfapi::ruleset::{
    Action, AddrMatch, BlockAnswer, Draft, Endpoint, Options, Pool, PoolKind, Rate, Rule,
    SyncookieMode, Syncookies, TableDef, TableEntry, Watermarks,
};
use pfapi::units::{Direction, Uptime};
use pfengine::{CookieSecret, Engine, EngineConfig, Loader, Verdict};

fn cookies(mode: SyncookieMode) -> Options {
    let setting = Syncookies { mode, ..Syncookies::default() };
    Options { syncookies: Some(setting), ..Options::default() }
}

fn tcp_rule(action: Action) -> Rule {
    Rule { proto: Some(proto::TCP), ..Rule::new(action) }
}

/// Rules that remember what they meet, in every way that there is.
fn rules_with_memory() -> Vec<Rule> {
    let table = || AddrMatch::Table("known".into());
    let mut rate = tcp_rule(Action::Match);
    rate.rare.max_pkt_rate = Some(Rate { limit: 3, seconds: 60 });
    let mut chance = tcp_rule(Action::Block(BlockAnswer::Drop));
    chance.rare.probability = Some(u32::MAX / 2);
    let mut listed = tcp_rule(Action::Match);
    listed.from = Endpoint { addr: table(), ..Endpoint::default() };
    let mut turned = tcp_rule(Action::Match);
    turned.direction = Some(Direction::In);
    let net: Prefix = "192.0.2.64/29".parse().unwrap();
    let pool = Pool { kind: PoolKind::RoundRobin, ..Pool::new(AddrMatch::Net(net)) };
    turned.rdr = Some(pool.into());
    let mut once = tcp_rule(Action::Pass);
    once.once = true;
    vec![rate, chance, listed, turned, once]
}

fn rig(options: Options, rules: Vec<Rule>) -> Rig {
    let mut rig = Rig::new(Options::default(), Vec::new());
    let entries = vec![TableEntry { prefix: "10.0.0.0/8".parse().unwrap(), negated: false }];
    let table =
        TableDef { name: "known".to_owned(), entries: Some(entries), ..TableDef::default() };
    let draft = Draft::<()> { options, rules, tables: vec![((), table)], ..Draft::default() };
    let ruleset = check(draft).unwrap();
    rig.engine.load(&ruleset, Loader::default(), rig.now).unwrap();
    rig.worker = rig.engine.worker();
    rig
}

/// Everything that shows what rules and tables have met.
fn memory(rig: &Rig) -> String {
    let Info { source_nodes, source_table, states, .. } = rig.engine.info(rig.now);
    let (rules, tables) = (rig.engine.rules(0, 100), rig.engine.tables(rig.now));
    format!("{rules:?} {tables:?} {source_nodes} {source_table:?} {states}")
}

#[test]
fn rules_notice_nothing_of_syns_that_get_cookies() {
    let mut rig = rig(cookies(SyncookieMode::Always), rules_with_memory());
    let before = memory(&rig);
    for n in 0..50 {
        let syn = Tcp::with_all().packet(V4.client(n));
        assert_eq!(rig.send(Direction::In, &syn).verdict, Verdict::Answer, "{n}");
    }
    assert_eq!(memory(&rig), before);
    assert!(rig.outputs().is_empty());
    rig.engine.check_invariants().unwrap();
}

/// Two engines as two firewalls: what one has sent the other accepts.
#[test]
fn firewalls_with_one_secret_accept_each_others_cookies_and_open_one_connection() {
    let secret = [CookieSecret::new(core::array::from_fn(|at| at.try_into().unwrap()))];
    let firewall = |seed: u8, uptime_s: u64| {
        let options = cookies(SyncookieMode::Always);
        let now = Uptime::from_secs(uptime_s);
        let config = EngineConfig { facts: common::facts(), seed: [seed; 32], hostid: 1 };
        let engine = Engine::new(config, now);
        let draft =
            Draft::<()> { options, rules: vec![Rule::new(Action::Pass)], ..Draft::default() };
        engine.load(&check(draft).unwrap(), Loader::default(), now).unwrap();
        assert!(engine.set_enabled(true, now));
        engine.set_unix_time(1_800_000_007_000_000_000, now);
        engine.share_cookies(&secret, now);
        let worker = engine.worker();
        let mut rig = Rig::new(Options::default(), Vec::new());
        (rig.engine, rig.worker, rig.now) = (engine, worker, now);
        rig
    };
    for ends in [V4, V6] {
        let (mut first, mut second) = (firewall(1, 10), firewall(2, 5_000));
        let answer = first.send(Direction::In, &Tcp::with_all().packet(ends));
        assert_eq!(answer.verdict, Verdict::Answer);
        let third = returning(&answer.octets, ends);
        assert_eq!(second.send(Direction::In, &third).verdict, Verdict::Pass);
        assert_eq!(second.engine.info(second.now).states, 1);
        let all = pfapi::control::Flush::States { interface: None };
        let _ = second.engine.flush(&all, second.now);
        second.send(Direction::In, &third);
        let info = second.engine.info(second.now);
        let replayed = info.syncookies.counters.iter().find(|(name, _)| name.name() == "replayed");
        assert_eq!(replayed.map(|(_, count)| *count), Some(1));
        assert!(info.syncookies.shared_secret);
    }
}

#[test]
fn a_destination_alone_is_put_behind_cookies_and_others_are_not() {
    let mut options = cookies(SyncookieMode::Adaptive);
    let marks = |start, end| Some(Watermarks { start, end });
    options.syncookies = options.syncookies.map(|setting| Syncookies {
        watermarks: marks(10_000, 5_000),
        destination: marks(500, 250),
        ..setting
    });
    for ends in [V4, V6] {
        let mut rig = rig(options.clone(), vec![Rule::new(Action::Pass)]);
        let answered = (0..2_000)
            .filter(|&n| {
                let syn = Tcp::with_all().packet(ends.client(n));
                rig.send(Direction::In, &syn).verdict == Verdict::Answer
            })
            .count();
        assert_eq!(answered, 2_000 - 501, "the 502nd SYN gets the first cookie");
        let other = Tcp { dport: 443, ..Tcp::with_all() }.packet(ends);
        assert_eq!(rig.send(Direction::In, &other).verdict, Verdict::Pass);
        rig.engine.check_invariants().unwrap();
        let info = rig.engine.info(rig.now).syncookies;
        assert!(info.active && !info.active_for_all);
        let counts = |rig: &Rig| {
            let info = rig.engine.info(rig.now).syncookies;
            (info.destinations[0].sent, info.destinations[0].validated)
        };
        assert_eq!(counts(&rig), (1_499, 0));
        let ends = ends.client(3_000);
        let cookie = rig.send(Direction::In, &Tcp::with_all().packet(ends));
        assert_eq!((cookie.verdict, counts(&rig)), (Verdict::Answer, (1_500, 0)));
        let _ = rig.send(Direction::In, &returning(&cookie.octets, ends));
        assert_eq!(counts(&rig), (1_500, 1));
    }
}
