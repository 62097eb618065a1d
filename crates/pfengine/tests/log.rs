//! The packet log: which packets get records, and what the records say.

mod common;

use common::{Rig, Tcp, V4, V6, flags, ip, ipv4, proto, udp};
use pfapi::addr::Af;
use pfapi::reason::Reason;
use pfapi::ruleset::{Action, AddrMatch, BlockAnswer, Log, Options, Pool, Rule, RuleKind};
use pfapi::units::Direction;
use pfengine::PFLOG_HEADER;

/// What a record says, as far as tests ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    interface: u8,
    rule: u32,
    subrule: u32,
    action: u8,
    reason: u8,
    direction: u8,
}

const fn record(rule: u32, action: u8, direction: u8) -> Record {
    Record { interface: 0, rule, subrule: u32::MAX, action, reason: 0, direction }
}

const PASS: u8 = 0;
const BLOCK: u8 = 1;
const RDR: u8 = 8;
const MATCH: u8 = 12;
const IN: u8 = 1;
const OUT: u8 = 2;

fn drained(rig: &mut Rig) -> Vec<Record> {
    let mut records = Vec::new();
    let lost = rig.worker.drain_log(|record| {
        let octets = record.octets;
        assert_eq!(usize::from(octets[0]), PFLOG_HEADER);
        let number =
            |at: usize| u32::from_be_bytes(octets[at..at + 4].try_into().expect("four octets"));
        records.push(Record {
            interface: record.interface,
            rule: number(36),
            subrule: number(40),
            action: octets[2],
            reason: octets[3],
            direction: octets[60],
        });
    });
    assert_eq!(lost, 0);
    assert!(!rig.worker.has_log());
    records
}

fn logging(action: Action, log: Log) -> Rule {
    let mut rule = Rule::new(action);
    rule.log = Some(log);
    rule
}

fn rig(rules: Vec<Rule>) -> Rig {
    Rig::new(Options::default(), rules)
}

fn query() -> Vec<u8> {
    ip(V4, proto::UDP, &udp(V4, 4_000, 53, b"query"))
}

#[test]
fn first_packet_of_a_state_is_logged_alone() {
    let mut rig = rig(vec![logging(Action::Pass, Log::default())]);
    rig.send(Direction::In, &query());
    assert_eq!(drained(&mut rig), [record(0, PASS, IN)]);
    rig.send(Direction::In, &query());
    assert_eq!(drained(&mut rig), []);
}

#[test]
fn log_all_logs_both_directions() {
    let all = Log { all: true, interface: 3, ..Log::default() };
    let mut rig = rig(vec![logging(Action::Pass, all)]);
    rig.send(Direction::In, &query());
    rig.send(Direction::Out, &ip(V4.turned(), proto::UDP, &udp(V4.turned(), 53, 4_000, b"x")));
    let expected = |direction| Record { interface: 3, ..record(0, PASS, direction) };
    assert_eq!(drained(&mut rig), [expected(IN), expected(OUT)]);
}

#[test]
fn match_rules_log_at_once_and_log_all_of_the_state() {
    let rules = vec![
        logging(Action::Match, Log { all: true, ..Log::default() }),
        logging(Action::Match, Log::default()),
        Rule::new(Action::Pass),
    ];
    let mut rig = rig(rules);
    rig.send(Direction::In, &query());
    assert_eq!(drained(&mut rig), [record(0, MATCH, IN), record(1, MATCH, IN)]);
    rig.send(Direction::In, &query());
    assert_eq!(drained(&mut rig), [record(0, MATCH, IN)]);
}

#[test]
fn log_matches_names_every_later_rule() {
    let rules = vec![
        logging(Action::Match, Log { matches: true, interface: 2, ..Log::default() }),
        Rule::new(Action::Match),
        Rule::new(Action::Pass),
    ];
    let mut rig = rig(rules);
    rig.send(Direction::In, &query());
    let to_2 = |rule, action| Record { interface: 2, ..record(rule, action, IN) };
    assert_eq!(drained(&mut rig), [to_2(0, MATCH), to_2(1, MATCH), to_2(2, PASS)]);
}

#[test]
fn addresses_of_the_other_family_are_told() {
    let mut rule = logging(Action::Pass, Log::default());
    (rule.direction, rule.af, rule.af_to) = (Some(Direction::In), Some(Af::Inet6), Some(Af::Inet));
    let pool = |addr: &str| Pool::new(AddrMatch::Net(addr.parse().unwrap())).into();
    (rule.nat, rule.rdr) = (Some(pool("198.51.100.254")), Some(pool("198.51.100.9")));
    let mut rig = rig(vec![rule]);
    rig.send(Direction::In, &ip(V6, proto::UDP, &udp(V6, 4_000, 53, b"query")));
    let mut seen = Vec::new();
    rig.worker.drain_log(|record| seen = record.octets.to_vec());
    // Families of OpenBSD's numbering, then the new source and destination.
    assert_eq!((seen[1], seen[60], seen[61], seen[62]), (24, IN, 1, 2));
    assert_eq!(seen[64..68], [198, 51, 100, 254]);
    assert_eq!(seen[80..84], [198, 51, 100, 9]);
    assert_eq!(seen[98..100], [0, 53]);
}

#[test]
fn a_rule_has_one_record_in_a_log() {
    let matches = || logging(Action::Match, Log { matches: true, ..Log::default() });
    let mut rig = rig(vec![matches(), matches(), logging(Action::Pass, Log::default())]);
    rig.send(Direction::In, &query());
    assert_eq!(
        drained(&mut rig),
        [record(0, MATCH, IN), record(1, MATCH, IN), record(2, PASS, IN)]
    );
}

#[test]
fn every_blocked_packet_is_logged_as_it_came() {
    let mut rig = rig(vec![logging(Action::Block(BlockAnswer::Return), Log::default())]);
    for (ends, family) in [(V4, 2), (V6, 24)] {
        let syn = Tcp::with_all().packet(ends);
        for _ in 0..2 {
            rig.send(Direction::In, &syn);
            let mut seen = Vec::new();
            rig.worker.drain_log(|record| {
                assert_eq!(record.len, PFLOG_HEADER + syn.len());
                seen = record.octets.to_vec();
            });
            assert_eq!(seen[1..4], [family, BLOCK, 0]);
            assert_eq!(seen[4..9], *b"tun0\0");
            assert_eq!(seen[20..36], [0; 16], "the main ruleset has no name");
            // No user and no process of a socket are known; uid and pid of who loaded follow.
            assert_eq!(seen[44..52], [0xff, 0xff, 0xff, 0xff, 0xa0, 0x86, 1, 0]);
            assert_eq!(seen[PFLOG_HEADER..], syn);
        }
    }
}

#[test]
fn malformed_packets_and_options_are_logged_without_a_rule_that_says_so() {
    let mut rig = rig(vec![Rule::new(Action::Pass)]);
    let mut short = query();
    short.truncate(21);
    rig.send(Direction::In, &short);
    let default = Record { reason: Reason::Short as u8, ..record(u32::MAX, BLOCK, IN) };
    assert_eq!(drained(&mut rig), [default]);
    // Refused by the rule that would pass it.
    let optional = ipv4(V4, proto::UDP, &[7, 7, 4, 0, 0, 0, 0, 0], &udp(V4, 4_000, 53, b"query"));
    rig.send(Direction::In, &optional);
    let refused = Record { reason: Reason::IpOption as u8, ..record(0, BLOCK, IN) };
    assert_eq!(drained(&mut rig), [refused]);
    // Refused though a state knows it.
    rig.send(Direction::In, &query());
    rig.send(Direction::In, &optional);
    assert_eq!(drained(&mut rig), [refused]);
    // Flags that no honest stack sends are dropped without a record.
    let odd = Tcp { flags: flags::SYN | flags::RST, ..Tcp::default() };
    rig.send(Direction::In, &odd.packet(V4));
    assert_eq!(drained(&mut rig), []);
}

/// FreeBSD's tests/sys/netpfil/pf/pflog.sh: what is dropped is not logged as passing.
#[test]
fn records_of_passing_rules_tell_what_became_of_the_packet() {
    let mut rule = logging(Action::Pass, Log::default());
    rule.state_options.max = Some(1);
    let mut rig = rig(vec![rule]);
    let optional = ipv4(V4, proto::UDP, &[7, 7, 4, 0, 0, 0, 0, 0], &udp(V4, 4_000, 53, b"query"));
    rig.send(Direction::In, &optional);
    let dropped = |reason| Record { reason: reason as u8, ..record(0, BLOCK, IN) };
    assert_eq!(drained(&mut rig), [dropped(Reason::IpOption)]);
    rig.send(Direction::In, &query());
    rig.send(Direction::In, &ip(V4, proto::UDP, &udp(V4, 4_001, 53, b"query")));
    assert_eq!(drained(&mut rig), [record(0, PASS, IN), dropped(Reason::StateLimit)]);
}

#[test]
fn rules_that_translate_log_beside_those_that_filter() {
    let mut rdr = logging(Action::Pass, Log { interface: 1, ..Log::default() });
    (rdr.kind, rdr.direction) = (RuleKind::Rdr, Some(Direction::In));
    rdr.rdr = Some(Pool::new(AddrMatch::Net("192.0.2.77".parse().unwrap())).into());
    let mut rig = rig(vec![rdr, logging(Action::Pass, Log::default())]);
    rig.send(Direction::In, &query());
    let rdr = Record { interface: 1, ..record(0, RDR, IN) };
    assert_eq!(drained(&mut rig), [rdr, record(1, PASS, IN)]);
    let rules = rig.engine.rules(0, 10);
    assert_eq!((rules[0].packets, rules[0].states), ([1, 0], 1), "it counts beside the other");
    assert_eq!((rules[1].packets, rules[1].states), ([1, 0], 1));
}

/// Nobody drains: the buffer keeps the first records and counts the rest.
#[test]
fn full_buffer_loses_records_and_passes_packets() {
    let mut rig = rig(vec![logging(Action::Block(BlockAnswer::Drop), Log::default())]);
    let long = ip(V4, proto::UDP, &udp(V4, 4_000, 53, &[7; 1_400]));
    for _ in 0..200 {
        rig.send(Direction::In, &long);
    }
    let mut kept = 0;
    let lost = rig.worker.drain_log(|_| kept += 1);
    assert!(kept >= 64, "{kept}");
    assert_eq!(kept + lost, 200);
    rig.send(Direction::In, &long);
    assert_eq!(drained(&mut rig).len(), 1);
}
