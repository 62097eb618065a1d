//! Malformed packets: each is dropped with exactly the right counter, or passes where the
//! notes on header checks say so; nothing else changes, and nothing panics.

mod common;

use common::{
    Ends, Rig, Tcp, V4, V6, chain, cut, fix_ipv4, flags, fragment, icmp, ip, ipv4, ipv6,
    ipv6_chain, len16, proto, udp,
};
use pfapi::reason::Reason;
use pfapi::ruleset::{Action, BlockAnswer, Options, Reassemble, Rule, StatePolicy};
use pfapi::units::Direction;
use pfengine::{Checksum, Gso, Offload, Verdict};

/// What becomes of a packet where a stateless rule passes everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// It reaches the rules and passes.
    Pass,
    /// It is dropped before any rule sees it.
    Drop(Reason),
    /// It reaches the rules, which have no `allow-opts`.
    Options,
}

use Expect::{Drop, Pass};

const SHORT: Expect = Drop(Reason::Short);
const IP_OPTION: Expect = Drop(Reason::IpOption);
const NORMALIZE: Expect = Drop(Reason::Normalize);
const FRAGMENT: Expect = Drop(Reason::Fragment);

/// Metadata of a hostile or broken device: fields outside the packet, sizes that are none.
const OFFLOADS: [Offload; 7] = [
    Offload { gso: Gso::None, gso_size: 0, checksum: Checksum::Complete },
    partial(0xffff, 0xffff),
    partial(0, 0xffff),
    partial(20, 17),
    partial(0xffff, 0),
    Offload {
        gso: Gso::Tcp { ecn: true },
        gso_size: 0,
        checksum: Checksum::Partial { start: 0xfffe, offset: 0xfffe },
    },
    Offload { gso: Gso::Udp, gso_size: 0xffff, checksum: Checksum::Complete },
];

const fn partial(start: u16, offset: u16) -> Offload {
    Offload { gso: Gso::None, gso_size: 0, checksum: Checksum::Partial { start, offset } }
}

/// Two filters: one passes everything without state, one answers everything.
struct Filters {
    pass: Rig,
    block: Rig,
}

impl Filters {
    fn new() -> Self {
        let mut pass = Rule::new(Action::Pass);
        pass.state = StatePolicy::None;
        let block = Rule::new(Action::Block(BlockAnswer::Return));
        // Fragments go to the rules one by one; `fragments.rs` is about those put together.
        let options = || Options { reassemble: Some(Reassemble::No), ..Options::default() };
        Self { pass: Rig::new(options(), vec![pass]), block: Rig::new(options(), vec![block]) }
    }

    fn expect(&mut self, what: &str, octets: &[u8], expected: Expect) {
        for direction in [Direction::In, Direction::Out] {
            for offload in OFFLOADS {
                let context = format!("{what}, {direction:?}, {offload:?}, {octets:02x?}");
                let (outcome, moved) = self.pass.moved_by(direction, octets, offload);
                let (verdict, counted) = match expected {
                    Pass => (Verdict::Pass, vec![(Reason::Match, 1)]),
                    Drop(reason) => (Verdict::Drop(reason), vec![(reason, 1)]),
                    Expect::Options => (
                        Verdict::Drop(Reason::IpOption),
                        vec![(Reason::Match, 1), (Reason::IpOption, 1)],
                    ),
                };
                assert_eq!((outcome.verdict, moved), (verdict, counted), "{context}");
                let (outcome, moved) = self.block.moved_by(direction, octets, offload);
                match expected {
                    Drop(reason) => {
                        assert_eq!(outcome.verdict, Verdict::Drop(reason), "{context}");
                        assert_eq!(moved, [(reason, 1)], "{context}");
                    }
                    Pass | Expect::Options => {
                        assert!(
                            is_block(outcome.verdict, &moved),
                            "{outcome:?} {moved:?} {context}"
                        );
                    }
                }
            }
        }
    }

    /// Nothing but counters has changed.
    fn finish(mut self) {
        for rig in [&mut self.pass, &mut self.block] {
            rig.engine.check_invariants().expect("the gauges agree");
            let info = rig.engine.info(rig.now);
            assert_eq!((info.states, info.half_open, info.half_open_pf), (0, 0, Some(0)));
            assert_eq!(rig.outputs(), []);
        }
    }
}

/// Whether a verdict and the counters are those of `block return`.
fn is_block(verdict: Verdict, moved: &[(Reason, u64)]) -> bool {
    match verdict {
        Verdict::Answer | Verdict::Drop(Reason::Match) => moved == [(Reason::Match, 1)],
        Verdict::Drop(reason @ (Reason::ProtoCksum | Reason::Fragment)) => {
            moved == [(Reason::Match, 1), (reason, 1)] || moved == [(reason, 1), (Reason::Match, 1)]
        }
        _ => false,
    }
}

/// A valid packet, what becomes of it, and the length below which it is short.
struct Valid {
    name: &'static str,
    octets: Vec<u8>,
    expected: Expect,
    least: usize,
}

const LINK_LOCAL: Ends = Ends {
    src: core::net::IpAddr::V6(core::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
    dst: core::net::IpAddr::V6(core::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)),
};

fn mld() -> (u8, Vec<u8>) {
    let message = icmp(LINK_LOCAL, 131, 0, [0; 4], &[0xff; 16]);
    chain(&[(proto::HOP_BY_HOP, vec![0, 0, 5, 2, 0, 0, 1, 0])], proto::ICMPV6, &message)
}

fn ah(body: usize) -> Vec<u8> {
    let mut header = vec![0; 12 + body];
    header[1] = u8::try_from(header.len() / 4 - 2).expect("short");
    header
}

fn valid_v4() -> Vec<Valid> {
    let valid = |name, number, payload: &[u8], least| Valid {
        name,
        octets: ip(V4, number, payload),
        expected: Pass,
        least: 20 + least,
    };
    let quote = &Tcp::default().packet(V4.turned())[..28];
    let (first, behind_ah) = chain(&[(proto::AH, ah(12))], proto::UDP, &udp(V4, 1, 2, b"abc"));
    let mut all = vec![
        valid("tcp", proto::TCP, &Tcp::with_all().octets(V4), 32),
        valid("udp", proto::UDP, &udp(V4, 53, 53, b"query"), 13),
        valid("echo", proto::ICMP, &icmp(V4, 8, 0, [0, 1, 0, 2], b"data"), 8),
        valid("icmp error", proto::ICMP, &icmp(V4, 3, 1, [0; 4], quote), 36),
        valid("igmp", proto::IGMP, &[0x11, 0, 0xee, 0xff, 0, 0, 0, 0], 0),
        valid("gre", proto::GRE, &[0, 0, 8, 0, 1, 2, 3, 4], 0),
        valid("ah", first, &behind_ah, behind_ah.len()),
        valid("nothing", 253, &[], 0),
    ];
    all.push(Valid {
        name: "tcp behind options",
        octets: ipv4(V4, proto::TCP, &[7, 7, 4, 0, 0, 0, 0, 0], &Tcp::default().octets(V4)),
        expected: Expect::Options,
        least: 48,
    });
    all.push(Valid {
        name: "igmp with router alert",
        octets: ipv4(V4, proto::IGMP, &[148, 4, 0, 0], &[0x16, 0, 0, 0, 224, 0, 0, 9]),
        expected: Pass,
        least: 24,
    });
    all
}

fn valid_v6() -> Vec<Valid> {
    let valid = |name, number, payload: &[u8], least| Valid {
        name,
        octets: ip(V6, number, payload),
        expected: Pass,
        least: 40 + least,
    };
    let quote = &Tcp::default().packet(V6.turned())[..48];
    let (ah_first, behind_ah) = chain(&[(proto::AH, ah(12))], proto::UDP, &udp(V6, 1, 2, b"abc"));
    let mut all = vec![
        valid("tcp", proto::TCP, &Tcp::with_all().octets(V6), 32),
        valid("udp", proto::UDP, &udp(V6, 53, 53, b"query"), 13),
        valid("echo", proto::ICMPV6, &icmp(V6, 128, 0, [0, 1, 0, 2], b"data"), 8),
        valid("icmp error", proto::ICMPV6, &icmp(V6, 1, 4, [0; 4], quote), 56),
        valid("gre", proto::GRE, &[0, 0, 8, 0, 1, 2, 3, 4], 0),
        valid("ah", ah_first, &behind_ah, behind_ah.len()),
        valid("no next header", 59, &[], 0),
    ];
    let solicitation = icmp(V6, 135, 0, [0; 4], &[0x20; 24]);
    all.push(Valid {
        name: "neighbour solicitation",
        octets: ipv6(V6, 255, proto::ICMPV6, &solicitation),
        expected: Pass,
        least: 64,
    });
    let (next, payload) = mld();
    all.push(Valid {
        name: "mld report",
        octets: ipv6(LINK_LOCAL, 1, next, &payload),
        expected: Pass,
        least: 72,
    });
    let padding = vec![0, 0, 1, 4, 0, 0, 0, 0];
    let routing = vec![0, 0, 4, 0, 0, 0, 0, 0];
    let tcp = Tcp::default().octets(V6);
    for (name, kind, header, expected) in [
        ("hop-by-hop", proto::HOP_BY_HOP, padding.clone(), Expect::Options),
        ("routing", proto::ROUTING, routing, Expect::Options),
        ("destination options", proto::DESTINATION, padding, Expect::Options),
        ("atomic fragment", proto::FRAGMENT, vec![0; 8], Pass),
    ] {
        let octets = ipv6_chain(V6, &[(kind, header)], proto::TCP, &tcp);
        all.push(Valid { name, octets, expected, least: 68 });
    }
    all
}

#[test]
fn valid_packets_reach_the_rules() {
    let mut filters = Filters::new();
    for valid in valid_v4().into_iter().chain(valid_v6()) {
        filters.expect(valid.name, &valid.octets, valid.expected);
        let mut padded = valid.octets.clone();
        padded.extend([0xa5; 9]);
        filters.expect("padded", &padded, valid.expected);
    }
    filters.finish();
}

#[test]
fn a_buffer_that_ends_early_is_short() {
    let mut filters = Filters::new();
    for valid in valid_v4().into_iter().chain(valid_v6()) {
        for len in 0..valid.octets.len() {
            filters.expect(valid.name, &valid.octets[..len], SHORT);
        }
    }
    filters.finish();
}

#[test]
fn a_packet_that_ends_inside_a_header_is_short() {
    let mut filters = Filters::new();
    for valid in valid_v4() {
        let header = usize::from(valid.octets[0] & 0x0f) * 4;
        for total in header..valid.octets.len() {
            let expected = if total < valid.least { SHORT } else { valid.expected };
            let name = format!("{} cut to {total}", valid.name);
            filters.expect(&name, &cut(&valid.octets, total), expected);
        }
        for total in 0..header {
            let mut octets = valid.octets.clone();
            octets[2..4].copy_from_slice(&len16(total));
            fix_ipv4(&mut octets);
            filters.expect("total inside the header", &octets, SHORT);
        }
    }
    for valid in valid_v6() {
        for total in 40..valid.octets.len() {
            let expected = match total {
                // Without payload it looks like a jumbogram.
                40 if valid.octets[6] == proto::HOP_BY_HOP => IP_OPTION,
                _ if total < valid.least => SHORT,
                _ => valid.expected,
            };
            let name = format!("{} cut to {total}", valid.name);
            filters.expect(&name, &cut(&valid.octets, total), expected);
        }
    }
    filters.finish();
}

#[test]
fn versions_other_than_4_and_6_are_short() {
    let mut filters = Filters::new();
    for (packet, own) in [(Tcp::default().packet(V4), 4), (Tcp::default().packet(V6), 6)] {
        for version in (0..16).filter(|&version| version != own) {
            let mut octets = packet.clone();
            octets[0] = version << 4 | octets[0] & 0x0f;
            // An IPv4 header as IPv6 has a payload length of its own, and the other way round.
            filters.expect(&format!("version {version}"), &octets, SHORT);
        }
    }
    filters.finish();
}

#[test]
fn ipv4_header_lengths_and_checksums() {
    let mut filters = Filters::new();
    let packet = Tcp::with_all().packet(V4);
    for ihl in 0..16 {
        let mut octets = packet.clone();
        octets[0] = 0x40 | ihl;
        fix_ipv4(&mut octets);
        let expected = match ihl {
            5 => Pass,
            // Fifteen words do not fit in the packet.
            0..=4 | 15 => SHORT,
            // The TCP header is read as options now; its first octet says what comes out.
            _ => IP_OPTION,
        };
        filters.expect(&format!("header length {ihl}"), &octets, expected);
    }
    for bit in 0..160 {
        let mut octets = packet.clone();
        octets[bit / 8] ^= 1 << (bit % 8);
        filters.expect(&format!("bit {bit} flipped"), &octets, SHORT);
    }
    for len in [0, 19, 20, 39, packet.len() + 1, 0xffff] {
        let mut octets = packet.clone();
        octets[2..4].copy_from_slice(&len16(len));
        fix_ipv4(&mut octets);
        filters.expect(&format!("total length {len}"), &octets, SHORT);
    }
    filters.finish();
}

#[test]
fn ipv6_payload_lengths() {
    let mut filters = Filters::new();
    let packet = Tcp::with_all().packet(V6);
    for payload in [0, 1, 19, 20, 31, packet.len() - 40 + 1, 0xffff] {
        let mut octets = packet.clone();
        octets[4..6].copy_from_slice(&len16(payload));
        filters.expect(&format!("payload length {payload}"), &octets, SHORT);
    }
    filters.finish();
}

#[test]
fn tcp_data_offsets_and_ports() {
    let mut filters = Filters::new();
    for ends in [V4, V6] {
        for words in 0..16_u8 {
            let mut segment = Tcp::with_all().octets(ends);
            segment[12] = words << 4;
            let fits = (5..=9).contains(&words);
            let expected = if fits { Pass } else { SHORT };
            let octets = ip(ends, proto::TCP, &segment);
            filters.expect(&format!("data offset {words}"), &octets, expected);
        }
        let octets = Tcp { dport: 0, ..Tcp::default() }.packet(ends);
        filters.expect("destination port 0", &octets, SHORT);
        let octets = Tcp { sport: 0, ..Tcp::default() }.packet(ends);
        filters.expect("source port 0", &octets, Pass);
    }
    filters.finish();
}

#[test]
fn tcp_options_of_every_shape_pass() {
    let mut filters = Filters::new();
    for ends in [V4, V6] {
        for kind in 0..=u8::MAX {
            for len in [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 40, 41, 255] {
                let options = vec![kind, len, 0xff, 0xff];
                let octets = Tcp { options, ..Tcp::default() }.packet(ends);
                filters.expect("one option", &octets, Pass);
            }
        }
        for option in [[2, 4, 0, 0], [3, 3, 255, 3], [5, 2, 5, 2], [8, 8, 8, 8], [1, 1, 1, 2]] {
            let options = option.repeat(10);
            let octets = Tcp { options, ..Tcp::default() }.packet(ends);
            filters.expect("the same option again and again", &octets, Pass);
        }
    }
    filters.finish();
}

#[test]
fn tcp_flags_of_every_combination() {
    use flags::{ACK, FIN, PSH, RST, SYN, URG};
    let mut filters = Filters::new();
    for ends in [V4, V6] {
        for combination in 0..=u8::MAX {
            let has = |flag| combination & flag != 0;
            let stray = has(PSH) || has(URG) || has(FIN) && !has(SYN);
            let refused =
                has(SYN) && has(RST) || !has(SYN) && !has(ACK) && !has(RST) || !has(ACK) && stray;
            let octets = Tcp { flags: combination, ..Tcp::with_all() }.packet(ends);
            let expected = if refused { NORMALIZE } else { Pass };
            filters.expect(&format!("flags {combination:#010b}"), &octets, expected);
        }
    }
    filters.finish();
}

#[test]
fn udp_lengths_and_ports() {
    let mut filters = Filters::new();
    for ends in [V4, V6] {
        for len in 0..=30 {
            let mut datagram = udp(ends, 53, 53, b"query");
            datagram[4..6].copy_from_slice(&len16(len));
            let expected = if (8..=13).contains(&len) { Pass } else { SHORT };
            let octets = ip(ends, proto::UDP, &datagram);
            filters.expect(&format!("udp length {len}"), &octets, expected);
        }
        let mut datagram = udp(ends, 53, 53, b"query");
        datagram[4..6].fill(0xff);
        filters.expect("udp length 65535", &ip(ends, proto::UDP, &datagram), SHORT);
        filters.expect("port 0", &ip(ends, proto::UDP, &udp(ends, 1, 0, b"")), SHORT);
    }
    filters.finish();
}

#[test]
fn ipv4_options() {
    let mut filters = Filters::new();
    for (what, options, expected) in [
        ("padding alone", vec![0, 0, 0, 0], Expect::Options),
        ("no-operations", vec![1, 1, 1, 1], Expect::Options),
        ("rubbish behind the end", vec![1, 0, 7, 0], Expect::Options),
        ("record route", vec![7, 7, 4, 0, 0, 0, 0, 0], Expect::Options),
        ("router alert", vec![148, 4, 0, 0], Expect::Options),
        ("length missing", vec![1, 1, 1, 7], IP_OPTION),
        ("length 0, a loop", vec![7, 0, 0, 0], IP_OPTION),
        ("length 1", vec![7, 1, 0, 0], IP_OPTION),
        ("one octet too long", vec![7, 5, 4, 0], IP_OPTION),
        ("far too long", vec![7, 255, 4, 0], IP_OPTION),
        ("second one too long", vec![7, 3, 4, 7, 6, 4, 0, 0], IP_OPTION),
    ] {
        let octets = ipv4(V4, proto::UDP, &options, &udp(V4, 1, 2, b"abc"));
        filters.expect(what, &octets, expected);
    }
    let octets = ipv4(V4, proto::UDP, &[7, 3, 4].repeat(13)[..36], &udp(V4, 1, 2, b"abc"));
    filters.expect("many", &octets, Expect::Options);
    filters.finish();
}

#[test]
fn igmp_keeps_to_its_rules() {
    let mut filters = Filters::new();
    let all_hosts = Ends { dst: "224.0.0.1".parse().unwrap(), ..V4 };
    let query = [0x11, 0, 0xee, 0xff, 0, 0, 0, 0];
    for ttl in [0, 1, 2, 64, 255] {
        let mut octets = ipv4(all_hosts, proto::IGMP, &[148, 4, 0, 0], &query);
        octets[8] = ttl;
        fix_ipv4(&mut octets);
        let expected = if ttl == 1 { Pass } else { IP_OPTION };
        filters.expect(&format!("query to all hosts, ttl {ttl}"), &octets, expected);
    }
    for (what, options) in [("padding alone", [1, 1, 1, 0]), ("record route", [7, 4, 4, 0])] {
        let octets = ipv4(V4, proto::IGMP, &options, &query);
        filters.expect(what, &octets, Expect::Options);
    }
    let octets = ipv4(V4, proto::IGMP, &[148, 4, 0, 0, 7, 4, 4, 0], &query);
    filters.expect("router alert and another", &octets, Expect::Options);
    filters.finish();
}

#[test]
fn ipv4_fragment_words() {
    let mut filters = Filters::new();
    let packet = Tcp::with_all().packet(V4);
    for reserved in [0, 0x8000] {
        for (word, expected) in [
            (0, Pass),
            (0x4000, Pass),
            (0x2000, Pass),
            (1, Pass),
            (0x2001, Pass),
            (0x1fff, Pass),
            (0x3fff, Pass),
            (0x6000, FRAGMENT),
            (0x4001, FRAGMENT),
            (0x6001, FRAGMENT),
            (0x5fff, FRAGMENT),
            (0x7fff, FRAGMENT),
        ] {
            let octets = fragment(packet.clone(), word | reserved);
            filters.expect(&format!("fragment word {word:#06x}"), &octets, expected);
        }
    }
    // Nobody looks at the transport header of a fragment, so a short one is none.
    for total in 20..packet.len() {
        filters.expect("short fragment", &fragment(cut(&packet, total), 0x2000), Pass);
        filters.expect("short fragment", &fragment(cut(&packet, total), 5), Pass);
    }
    filters.finish();
}

#[test]
fn ipv6_fragment_headers() {
    let mut filters = Filters::new();
    let tcp = Tcp::with_all().octets(V6);
    for word in [0_u16, 1, 2, 6, 7, 8, 9, 0xfff8, 0xffff] {
        let mut header = vec![0; 8];
        header[2..4].copy_from_slice(&word.to_be_bytes());
        let octets = ipv6_chain(V6, &[(proto::FRAGMENT, header.clone())], proto::TCP, &tcp);
        filters.expect(&format!("fragment word {word:#06x}"), &octets, Pass);
        let short = ipv6_chain(V6, &[(proto::FRAGMENT, header)], proto::TCP, &tcp[..3]);
        // Only an atomic fragment has its transport header looked at.
        let expected = if word & 0xfff9 == 0 { SHORT } else { Pass };
        filters.expect(&format!("short, fragment word {word:#06x}"), &short, expected);
    }
    filters.finish();
}

#[test]
fn ipv6_extension_headers() {
    let mut filters = Filters::new();
    let padding = || vec![0, 0, 1, 4, 0, 0, 0, 0];
    let routing = |kind| vec![0, 0, kind, 0, 0, 0, 0, 0];
    let tcp = Tcp::default().octets(V6);
    let hop = |options: [u8; 6]| vec![(proto::HOP_BY_HOP, [&[0, 0][..], &options].concat())];
    let too_long = |kind: u8| vec![(kind, vec![0, 255, 1, 4, 0, 0, 0, 0])];
    for (what, headers, expected) in [
        ("hop-by-hop twice", [hop([1, 4, 0, 0, 0, 0]), hop([0; 6])].concat(), IP_OPTION),
        (
            "hop-by-hop behind destination options",
            [vec![(proto::DESTINATION, padding())], hop([0; 6])].concat(),
            IP_OPTION,
        ),
        ("routing type 0", vec![(proto::ROUTING, routing(0))], IP_OPTION),
        (
            "two routing headers",
            vec![(proto::ROUTING, routing(4)), (proto::ROUTING, routing(4))],
            IP_OPTION,
        ),
        ("option length missing", hop([1, 3, 0, 0, 0, 7]), IP_OPTION),
        ("option beyond the header", hop([7, 5, 0, 0, 0, 0]), IP_OPTION),
        ("option far beyond the header", hop([7, 255, 0, 0, 0, 0]), IP_OPTION),
        ("jumbo with a payload length", hop([0xc2, 4, 0, 1, 0, 0]), IP_OPTION),
        ("padding alone", hop([0; 6]), Expect::Options),
        ("router alert on tcp", hop([5, 2, 0, 0, 1, 0]), Expect::Options),
        ("header beyond the packet", too_long(proto::HOP_BY_HOP), SHORT),
        ("header beyond the packet", too_long(proto::DESTINATION), SHORT),
        ("header beyond the packet", too_long(proto::ROUTING), SHORT),
        ("header beyond the packet", too_long(proto::AH), SHORT),
        ("19 headers", vec![(proto::DESTINATION, padding()); 19], Expect::Options),
        ("20 headers", vec![(proto::DESTINATION, padding()); 20], IP_OPTION),
        ("19 authentication headers", vec![(proto::AH, ah(0)); 19], Pass),
        ("20 authentication headers", vec![(proto::AH, ah(0)); 20], IP_OPTION),
    ] {
        let octets = ipv6_chain(V6, &headers, proto::TCP, &tcp);
        filters.expect(what, &octets, expected);
    }
    for (count, expected) in [(19, Pass), (20, IP_OPTION), (100, IP_OPTION)] {
        let (next, payload) = chain(&vec![(proto::AH, ah(0)); count], proto::TCP, &tcp);
        filters.expect("authentication headers", &ip(V4, next, &payload), expected);
    }
    let mut jumbo = ipv6_chain(V6, &hop([0xc2, 4, 0, 1, 0, 0]), proto::TCP, &tcp);
    jumbo[4..6].fill(0);
    filters.expect("jumbogram", &jumbo, IP_OPTION);
    filters.finish();
}

#[test]
fn icmpv6_hop_limits_sources_and_lengths() {
    let mut filters = Filters::new();
    for icmp_type in 0..=u8::MAX {
        for (ends, hop_limit) in
            [(V6, 255), (V6, 64), (V6, 1), (LINK_LOCAL, 255), (LINK_LOCAL, 1), (LINK_LOCAL, 0)]
        {
            let local = ends.src == LINK_LOCAL.src;
            let body = [0; 16];
            let expected = match icmp_type {
                // An error whose quote is no IPv6 packet.
                1..=4 => SHORT,
                130..=132 | 143 if hop_limit != 1 || !local => IP_OPTION,
                133..=137 if hop_limit != 255 => NORMALIZE,
                _ => Pass,
            };
            let message = icmp(ends, icmp_type, 0, [0; 4], &body);
            let what = format!("type {icmp_type}, hop limit {hop_limit}");
            filters.expect(&what, &ipv6(ends, hop_limit, proto::ICMPV6, &message), expected);
            if matches!(icmp_type, 130..=132 | 135 | 136) {
                let short = ipv6(ends, hop_limit, proto::ICMPV6, &message[..23]);
                filters.expect(&format!("short {what}"), &short, SHORT);
            }
        }
    }
    filters.finish();
}

#[test]
fn icmp_of_the_other_family_is_refused() {
    let mut filters = Filters::new();
    for body in [&[0; 0][..], &[0; 7], &[8; 64]] {
        filters.expect("icmp6 in ipv4", &ip(V4, proto::ICMPV6, body), NORMALIZE);
        filters.expect("icmp in ipv6", &ip(V6, proto::ICMP, body), NORMALIZE);
    }
    filters.finish();
}

#[test]
fn quotes_of_icmp_errors() {
    let mut filters = Filters::new();
    let error = |ends: Ends, quote: &[u8]| {
        let (icmp_type, number) =
            if ends.src.is_ipv4() { (3, proto::ICMP) } else { (1, proto::ICMPV6) };
        ip(ends, number, &icmp(ends, icmp_type, 1, [0; 4], quote))
    };
    for ends in [V4, V6] {
        let other = if ends.src.is_ipv4() { V6 } else { V4 };
        let quote = Tcp::with_all().packet(ends.turned());
        let header = quote.len() - 37;
        for len in 0..quote.len() {
            let expected = if len < header + 8 { SHORT } else { Pass };
            filters.expect(&format!("quote of {len}"), &error(ends, &quote[..len]), expected);
        }
        for version in (0..16).filter(|&version| version != quote[0] >> 4) {
            let mut octets = quote.clone();
            octets[0] = version << 4 | octets[0] & 0x0f;
            filters.expect("quoted version", &error(ends, &octets), SHORT);
        }
        filters.expect("other family", &error(ends, &Tcp::default().packet(other)), SHORT);
        let mismatch = Drop(Reason::StateMismatch);
        filters.expect("own packet", &error(ends, &Tcp::default().packet(ends)), mismatch);
        let quoted_error = error(ends.turned(), &Tcp::default().packet(ends));
        filters.expect("error about an error", &error(ends, &quoted_error), Pass);
    }
    let mut quote = Tcp::default().packet(V4.turned());
    for ihl in [0, 1, 4] {
        quote[0] = 0x40 | ihl;
        filters.expect("quoted header length", &error(V4, &quote), SHORT);
    }
    quote[0] = 0x4f;
    filters.expect("quoted header beyond the quote", &error(V4, &quote), SHORT);
    // Of other protocols nothing behind the headers is looked at; all of these are there.
    let mut quote = ip(V4.turned(), 47, &[0; 8]);
    for (ihl, expected) in [(5, Pass), (7, Pass), (8, SHORT), (15, SHORT)] {
        quote[0] = 0x40 | ihl;
        filters.expect("quoted header without ports", &error(V4, &quote), expected);
    }
    for (units, expected) in [(0, Pass), (1, SHORT), (255, SHORT)] {
        let quote = ip(V6.turned(), proto::DESTINATION, &[47, units, 1, 4, 0, 0, 0, 0]);
        filters.expect("quoted options without ports", &error(V6, &quote), expected);
    }
    for (word, expected) in [(0x2000, Pass), (1, FRAGMENT), (0x3fff, FRAGMENT)] {
        let quote = fragment(Tcp::default().packet(V4.turned()), word);
        filters.expect("quoted fragment", &error(V4, &quote), expected);
    }
    let loop_of_headers = vec![(proto::DESTINATION, vec![0, 0, 1, 4, 0, 0, 0, 0]); 30];
    let quote = ipv6_chain(V6.turned(), &loop_of_headers, proto::TCP, &Tcp::default().octets(V6));
    filters.expect("quoted chain too long", &error(V6, &quote), IP_OPTION);
    let quote = ip(V6.turned(), proto::ICMP, &[0; 8]);
    filters.expect("quoted icmp in ipv6", &error(V6, &quote), NORMALIZE);
    filters.finish();
}
