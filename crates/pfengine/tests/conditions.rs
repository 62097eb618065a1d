//! Conditions of rules, one by one, from a loaded ruleset to verdicts.

mod common;

use core::net::{IpAddr, Ipv4Addr};

use common::{Ends, Rig, Tcp, V4, V6, facts, flags, fragment, icmp, ip, ipv4, packet, proto, udp};
use pfapi::addr::Af;
use pfapi::facts::{InterfaceAddress, InterfaceFacts};
use pfapi::reason::Reason;
use pfapi::ruleset::{
    Action, AddrMatch, BlockAnswer, Common, DynamicAddr, DynamicPart, Endpoint, Id, IdMatch,
    InterfaceMatch, Options, RareWords, Rate, RdomainMatch, Reassemble, Rule, StatePolicy,
    TagMatch,
};
use pfapi::units::{Direction, IfIndex};
use pfengine::{Batch, Owner, Packet, Routes, Sockets, Verdict, Way};

const BLOCKED: Verdict = Verdict::Drop(Reason::Match);

/// Blocks everything that the rule does not pass; the rule keeps no state.
fn only(rule: Rule) -> Rig {
    let block = Rule::new(Action::Block(BlockAnswer::Drop));
    Rig::new(Options::default(), vec![block, rule])
}

/// A rule that passes everything but for what few rules say.
fn rare(say: impl FnOnce(&mut RareWords)) -> Rule {
    let mut rule = pass();
    say(&mut rule.rare);
    rule
}

/// A rule that passes without states, and says this of what rules mostly share.
fn with(say: impl FnOnce(&mut Common)) -> Rule {
    let mut rule = pass();
    say(&mut rule.common);
    rule
}

fn pass() -> Rule {
    Rule { state: StatePolicy::None, ..Rule::new(Action::Pass) }
}

fn from(addr: AddrMatch) -> Rule {
    Rule { from: Endpoint { addr, ..Endpoint::default() }, ..pass() }
}

fn not_from(addr: AddrMatch) -> Rule {
    Rule { from: Endpoint { addr, negated: true, ..Endpoint::default() }, ..pass() }
}

fn passes(rig: &mut Rig, octets: &[u8]) -> bool {
    match rig.send(Direction::In, octets).verdict {
        Verdict::Pass => true,
        BLOCKED => false,
        other => panic!("{other:?}"),
    }
}

fn datagram() -> Vec<u8> {
    ip(V4, proto::UDP, &udp(V4, 1_000, 53, b"query"))
}

/// Sends one packet in by the first interface and out by the second, and gives the last verdict.
fn through(rig: &mut Rig, octets: &[u8]) -> Verdict {
    let mut batch = Batch::new();
    batch.packets.push(packet(Direction::In, octets));
    rig.worker.process(rig.now, &mut batch);
    if batch.packets[0].meta.verdict != Verdict::Pass {
        return batch.packets[0].meta.verdict;
    }
    batch.packets[0].meta.direction = Direction::Out;
    batch.packets[0].meta.interface = IfIndex(1);
    rig.worker.process(rig.now, &mut batch);
    batch.packets[0].meta.verdict
}

fn on(name: &str) -> InterfaceMatch {
    InterfaceMatch { negated: false, name: name.to_owned() }
}

#[test]
fn tos_is_compared_without_the_ecn_bits() {
    let mut rig = only(with(|rule| rule.tos = Some(0x10)));
    for (tos, expected) in [(0x10, true), (0x13, true), (0x11, true), (0x14, false), (0, false)] {
        let mut octets = datagram();
        octets[1] = tos;
        common::fix_ipv4(&mut octets);
        assert_eq!(passes(&mut rig, &octets), expected, "{tos:#x}");
        let mut octets = ip(V6, proto::UDP, &udp(V6, 1_000, 53, b"query"));
        octets[0] |= tos >> 4;
        octets[1] |= tos << 4;
        assert_eq!(passes(&mut rig, &octets), expected, "IPv6 {tos:#x}");
    }
}

#[test]
fn probability_passes_its_share() {
    // Half of all packets.
    let mut rig = only(rare(|rare| rare.probability = Some(u32::MAX / 2)));
    let passed = (0..4_000).filter(|_| passes(&mut rig, &datagram())).count();
    assert!((1_850..2_150).contains(&passed), "{passed}");
    let mut rig = only(rare(|rare| rare.probability = Some(u32::MAX)));
    assert!((0..200).all(|_| passes(&mut rig, &datagram())));
    let mut rig = only(rare(|rare| rare.probability = Some(1)));
    assert!((0..200).all(|_| !passes(&mut rig, &datagram())));
}

#[test]
fn a_once_rule_is_used_up_by_its_first_match() {
    let mut rig = only(Rule { once: true, proto: Some(proto::UDP), ..pass() });
    assert!(!passes(&mut rig, &Tcp::default().packet(V4)));
    assert!(passes(&mut rig, &datagram()));
    for _ in 0..3 {
        assert!(!passes(&mut rig, &datagram()));
    }
    let rule = &rig.engine.rules(0, 10)[1];
    assert!(rule.expired);
    // Looked at by the first two packets, then no more.
    assert_eq!((rule.evaluations, rule.packets), (2, [1, 0]));
}

#[test]
fn max_pkt_rate_lets_so_many_packets_match() {
    let rate = Rate { limit: 3, seconds: 10 };
    let mut rig = only(rare(|rare| rare.max_pkt_rate = Some(rate)));
    for expected in [true, true, true, false, false] {
        assert_eq!(passes(&mut rig, &datagram()), expected);
    }
    rig.now = rig.now.plus_secs(10);
    assert!(passes(&mut rig, &datagram()));
    // Packets of a state count too, in the direction of the state alone.
    let mut rig =
        only(Rule { state: StatePolicy::Keep, ..rare(|rare| rare.max_pkt_rate = Some(rate)) });
    let answer = ip(V4.turned(), proto::UDP, &udp(V4.turned(), 53, 1_000, b"answer"));
    for expected in [Verdict::Pass, Verdict::Pass, Verdict::Pass, BLOCKED] {
        assert_eq!(rig.send(Direction::In, &datagram()).verdict, expected);
        assert_eq!(rig.send(Direction::Out, &answer).verdict, Verdict::Pass);
    }
}

#[test]
fn tags_go_with_the_packet_and_with_its_state() {
    let tagged = |negated| Rule {
        direction: Some(Direction::Out),
        ..with(|rule| rule.tagged = Some(TagMatch { negated, name: "lan".to_owned() }.into()))
    };
    for state in [StatePolicy::None, StatePolicy::Keep] {
        let tag = with(|rule| rule.tag = Some("lan".into()));
        let tagging = Rule { direction: Some(Direction::In), state, ..tag };
        let block = Rule::new(Action::Block(BlockAnswer::Drop));
        let rules = vec![block.clone(), tagging.clone(), tagged(false)];
        let mut rig = Rig::new(Options::default(), rules);
        for _ in 0..2 {
            assert_eq!(through(&mut rig, &datagram()), Verdict::Pass, "{state:?}");
        }
        let mut rig = Rig::new(Options::default(), vec![block, tagging, tagged(true)]);
        assert_eq!(through(&mut rig, &datagram()), BLOCKED);
        // A packet of this host carries no tag, whatever the buffer held before.
        assert_eq!(rig.send(Direction::Out, &datagram()).verdict, Verdict::Pass);
    }
}

#[test]
fn received_on_looks_at_the_way_in() {
    let rule = |negated, name: &str| Rule {
        direction: Some(Direction::Out),
        ..rare(|rare| rare.received_on = Some(InterfaceMatch { negated, ..on(name) }))
    };
    let inbound = Rule { direction: Some(Direction::In), ..pass() };
    for (negated, name, forwarded, own) in [
        (false, "tun0", true, false),
        (false, "tun1", false, false),
        (false, "tun", true, false),
        (true, "tun0", false, true),
        (true, "tun1", true, true),
    ] {
        let block = Rule::new(Action::Block(BlockAnswer::Drop));
        let rules = vec![block, inbound.clone(), rule(negated, name)];
        let mut rig = Rig::new(Options::default(), rules);
        let verdict = |holds| if holds { Verdict::Pass } else { BLOCKED };
        assert_eq!(through(&mut rig, &datagram()), verdict(forwarded), "{negated} {name}");
        assert_eq!(rig.send(Direction::Out, &datagram()).verdict, verdict(own), "{negated} {name}");
    }
}

#[test]
fn priorities_are_set_on_the_way_in_and_matched_on_the_way_out() {
    let mut setting = Rule { direction: Some(Direction::In), ..pass() };
    setting.set.prio = Some((5, 6));
    let wanting =
        |prio| Rule { direction: Some(Direction::Out), ..with(|rule| rule.prio = Some(prio)) };
    let block = || Rule::new(Action::Block(BlockAnswer::Drop));
    let mut rig = Rig::new(Options::default(), vec![block(), setting.clone(), wanting(5)]);
    assert_eq!(through(&mut rig, &datagram()), Verdict::Pass);
    // Acknowledgements without payload get the second one.
    let ack = Tcp { flags: flags::ACK, ..Tcp::default() }.packet(V4);
    assert_eq!(through(&mut rig, &ack), BLOCKED);
    let mut rig = Rig::new(Options::default(), vec![block(), setting, wanting(6)]);
    assert_eq!(through(&mut rig, &ack), Verdict::Pass);
    // Without `set prio` it is 3; priority 0 can be asked for.
    let inbound = Rule { direction: Some(Direction::In), ..pass() };
    let mut rig = Rig::new(Options::default(), vec![block(), inbound.clone(), wanting(3)]);
    assert_eq!(through(&mut rig, &datagram()), Verdict::Pass);
    let mut rig = Rig::new(Options::default(), vec![block(), inbound, wanting(0)]);
    assert_eq!(through(&mut rig, &datagram()), BLOCKED);
}

#[test]
fn fragment_rules_match_fragments_alone() {
    let options = Options { reassemble: Some(Reassemble::No), ..Options::default() };
    let block = Rule::new(Action::Block(BlockAnswer::Drop));
    let mut rig = Rig::new(options, vec![block, Rule { fragment: true, ..pass() }]);
    let first = fragment(datagram(), 0x2000);
    let later = fragment(datagram(), 0x0010);
    assert!(!passes(&mut rig, &datagram()));
    assert!(passes(&mut rig, &first) && passes(&mut rig, &later));
}

#[test]
fn packets_with_options_need_allow_opts() {
    let rule = |allow_opts, state| Rule { allow_opts, state, ..pass() };
    // A record-route option of 8 octets.
    let octets = ipv4(V4, proto::UDP, &[7, 7, 4, 0, 0, 0, 0, 0], &udp(V4, 1_000, 53, b"query"));
    for state in [StatePolicy::None, StatePolicy::Keep] {
        let mut rig = only(rule(false, state));
        assert_eq!(rig.send(Direction::In, &octets).verdict, Verdict::Drop(Reason::IpOption));
        // Nor do packets of a state whose rule lacks it.
        assert_eq!(rig.send(Direction::In, &datagram()).verdict, Verdict::Pass);
        assert_eq!(rig.send(Direction::In, &octets).verdict, Verdict::Drop(Reason::IpOption));
        let mut rig = only(rule(true, state));
        for _ in 0..2 {
            assert_eq!(rig.send(Direction::In, &octets).verdict, Verdict::Pass);
        }
    }
    // The default rule does not allow them either.
    let mut rig = Rig::new(Options::default(), vec![]);
    assert_eq!(rig.send(Direction::In, &octets).verdict, Verdict::Drop(Reason::IpOption));
}

/// 10/8 behind the first interface, 192.0.2/24 behind the second, nothing else.
#[derive(Debug)]
struct Ways;

impl Routes for Ways {
    fn way_to(&self, addr: IpAddr) -> Way {
        match addr {
            IpAddr::V4(v4) if v4.octets()[0] == 10 => Way::Interface(IfIndex(0)),
            IpAddr::V4(v4) if v4.octets()[..3] == [192, 0, 2] => Way::Interface(IfIndex(1)),
            IpAddr::V4(v4) if v4.octets()[0] == 198 => Way::Here,
            _ => Way::None,
        }
    }
}

fn from_address(src: [u8; 4]) -> Vec<u8> {
    let ends = Ends { src: Ipv4Addr::from(src).into(), ..V4 };
    ip(ends, proto::UDP, &udp(ends, 1_000, 53, b"query"))
}

#[test]
fn no_route_and_urpf_failed_ask_the_routing_table() {
    let near = from_address([10, 0, 0, 1]);
    let wrong_side = from_address([192, 0, 2, 77]);
    let own = from_address([198, 51, 100, 1]);
    let nowhere = from_address([203, 0, 113, 1]);
    for (rule, matching) in [
        (from(AddrMatch::NoRoute), [false, false, false, true]),
        (not_from(AddrMatch::NoRoute), [true, true, true, false]),
        (from(AddrMatch::UrpfFailed), [false, true, true, true]),
        (not_from(AddrMatch::UrpfFailed), [true, false, false, false]),
    ] {
        let mut rig = only(rule.clone());
        rig.engine.use_routes(Box::new(Ways));
        let found = [&near, &wrong_side, &own, &nowhere].map(|octets| passes(&mut rig, octets));
        assert_eq!(found, matching, "{rule:?}");
    }
}

/// One socket of user 1000, group 100, at port 53.
#[derive(Debug)]
struct OneSocket;

impl Sockets for OneSocket {
    fn owner(&self, proto: u8, local: (IpAddr, u16), _: (IpAddr, u16)) -> Option<Owner> {
        (proto == 17 && local.1 == 53).then_some(Owner { uid: 1_000, gid: 100 })
    }
}

#[test]
fn users_and_groups_own_local_sockets() {
    let user = |user| Rule { proto: Some(proto::UDP), ..rare(|rare| rare.user = Some(user)) };
    let group = |group| Rule { proto: Some(proto::UDP), ..rare(|rare| rare.group = Some(group)) };
    let number = |id| IdMatch::Equal(Id::Number(id));
    let known = datagram();
    let unknown = ip(V4, proto::UDP, &udp(V4, 1_000, 54, b"query"));
    for (rule, matching) in [
        (user(number(1_000)), (true, false)),
        (user(number(1_001)), (false, false)),
        (user(IdMatch::NotEqual(Id::Number(1_000))), (false, true)),
        (user(IdMatch::Equal(Id::Unknown)), (false, true)),
        (user(IdMatch::NotEqual(Id::Unknown)), (true, false)),
        (user(IdMatch::GreaterOrEqual(1_000)), (true, false)),
        (user(IdMatch::Greater(1_000)), (false, false)),
        (user(IdMatch::Less(1_001)), (true, false)),
        (user(IdMatch::LessOrEqual(999)), (false, false)),
        (user(IdMatch::Inside(999, 1_001)), (true, false)),
        (user(IdMatch::Outside(1_000, 2_000)), (false, false)),
        (group(number(100)), (true, false)),
        (group(number(1_000)), (false, false)),
    ] {
        let mut rig = only(rule.clone());
        rig.engine.use_sockets(Box::new(OneSocket));
        assert_eq!(passes(&mut rig, &known), matching.0, "{rule:?}");
        assert_eq!(passes(&mut rig, &unknown), matching.1, "{rule:?}");
    }
    // A packet that came in and goes out belongs to no socket of this host.
    let block = Rule::new(Action::Block(BlockAnswer::Drop));
    let inbound = Rule { direction: Some(Direction::In), ..pass() };
    let outbound = Rule { direction: Some(Direction::Out), ..user(number(1_000)) };
    let mut rig = Rig::new(Options::default(), vec![block, inbound, outbound]);
    rig.engine.use_sockets(Box::new(OneSocket));
    let answer = ip(V4.turned(), proto::UDP, &udp(V4.turned(), 53, 1_000, b"answer"));
    assert_eq!(through(&mut rig, &answer), BLOCKED);
    assert_eq!(rig.send(Direction::Out, &answer).verdict, Verdict::Pass);
}

fn dynamic(part: DynamicPart, prefix_len: Option<u8>, no_aliases: bool) -> AddrMatch {
    let addr = DynamicAddr { interface: "tun0".to_owned(), part, no_aliases, prefix_len };
    AddrMatch::Dynamic(addr.into())
}

#[test]
fn dynamic_addresses_follow_the_interface() {
    let cases = [
        (dynamic(DynamicPart::Address, None, false), [true, false, true]),
        (dynamic(DynamicPart::Address, None, true), [true, false, false]),
        (dynamic(DynamicPart::Address, Some(24), false), [true, true, true]),
        (dynamic(DynamicPart::Network, None, false), [true, true, true]),
        (dynamic(DynamicPart::Network, Some(32), true), [true, true, false]),
    ];
    for (addr, matching) in cases {
        let mut rig = only(from(addr.clone()));
        let mut now = facts();
        let add = |now: &mut pfapi::facts::Facts, addr: &str| {
            let address = InterfaceAddress::new(addr.parse().unwrap(), 24);
            now.interfaces[0].addresses.push(address);
        };
        add(&mut now, "172.16.0.1");
        rig.engine.set_facts(now.clone()).unwrap();
        let found = [[198, 51, 100, 254], [198, 51, 100, 7], [172, 16, 0, 1]]
            .map(|src| passes(&mut rig, &from_address(src)));
        assert_eq!(found, matching, "{addr:?}");
        // The addresses go, and with them the matches.
        now.interfaces[0].addresses.clear();
        rig.engine.set_facts(now).unwrap();
        assert!(!passes(&mut rig, &from_address([198, 51, 100, 254])), "{addr:?}");
    }
    let mut rig = only(from(dynamic(DynamicPart::Broadcast, None, false)));
    assert!(!passes(&mut rig, &from_address([198, 51, 100, 254])));
    // No host may send from a broadcast address, but a rule may name it as a destination.
    let mut rule = pass();
    rule.to.addr = dynamic(DynamicPart::Broadcast, None, false);
    let mut rig = only(rule);
    let ends = Ends { dst: Ipv4Addr::new(198, 51, 100, 255).into(), ..V4 };
    assert!(passes(&mut rig, &ip(ends, proto::UDP, &udp(ends, 1, 2, b""))));
    // A peer.
    let mut now = facts();
    now.interfaces[0].addresses[0].peer = Some(Ipv4Addr::new(172, 16, 9, 9).into());
    let mut rig = only(from(dynamic(DynamicPart::Peer, None, false)));
    assert!(!passes(&mut rig, &from_address([172, 16, 9, 9])));
    rig.engine.set_facts(now).unwrap();
    assert!(passes(&mut rig, &from_address([172, 16, 9, 9])));
}

#[test]
fn interfaces_keep_their_places() {
    let rig = only(pass());
    let mut now = facts();
    now.interfaces.push(InterfaceFacts::new("tun2"));
    rig.engine.set_facts(now.clone()).unwrap();
    now.interfaces.swap(0, 1);
    assert_eq!(rig.engine.set_facts(now), Err("tun0".to_owned()));
    assert_eq!(rig.engine.facts().interfaces.len(), 3);
}

#[test]
fn interfaces_and_groups_can_be_negated() {
    for (name, negated, expected) in [
        ("tun0", false, true),
        ("tun0", true, false),
        ("tun1", false, false),
        ("tun1", true, true),
        ("tun", false, true),
        ("tun", true, false),
        ("any", false, true),
        ("nowhere", false, false),
        ("nowhere", true, true),
    ] {
        let interface = Some(InterfaceMatch { negated, ..on(name) }.into());
        let mut rig = only(Rule { interface, ..pass() });
        assert_eq!(passes(&mut rig, &datagram()), expected, "{name} {negated}");
    }
    let loopback = InterfaceFacts {
        flags: [pfapi::facts::InterfaceFlag::Loopback].into_iter().collect(),
        ..InterfaceFacts::new("lo0")
    };
    let mut rig = only(Rule { interface: Some(on("any").into()), ..pass() });
    let mut now = facts();
    now.interfaces.push(loopback);
    rig.engine.set_facts(now).unwrap();
    let mut batch = Batch::new();
    let mut local: Packet = packet(Direction::In, &datagram());
    local.meta.interface = IfIndex(2);
    batch.packets.push(local);
    rig.worker.process(rig.now, &mut batch);
    assert_eq!(batch.packets[0].meta.verdict, BLOCKED, "`on any` leaves loopbacks out");
}

#[test]
fn there_is_one_routing_domain() {
    let rdomain = |negated| rare(|rare| rare.rdomain = Some(RdomainMatch { negated, id: 0 }));
    assert!(passes(&mut only(rdomain(false)), &datagram()));
    assert!(!passes(&mut only(rdomain(true)), &datagram()));
}

#[test]
fn replies_begin_no_state_but_pass_without_one() {
    let echo = |kind| ip(V4, proto::ICMP, &icmp(V4, kind, 0, [0, 1, 0, 1], b"data"));
    let rule = |state| Rule { af: Some(Af::Inet), proto: Some(proto::ICMP), state, ..pass() };
    let mut rig = only(rule(StatePolicy::Keep));
    assert!(!passes(&mut rig, &echo(0)) && passes(&mut rig, &echo(8)));
    let mut rig = only(rule(StatePolicy::None));
    assert!(passes(&mut rig, &echo(0)) && passes(&mut rig, &echo(8)));
}
