//! The indexed walk against the plain one, on random rules and packets.
//!
//! `PFENGINE_PAIRS=10000000 cargo test --release -p pfengine walks_agree -- --nocapture` compares
//! ten million pairs; without the variable there are as many as an ordinary test run can take.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use pfapi::addr::{Af, Prefix};
use pfapi::facts::{Facts, InterfaceAddress, InterfaceFacts};
use pfapi::port::PortMatch;
use pfapi::reason::Reason;
use pfapi::ruleset::{
    Action, AddrMatch, Anchor, BlockAnswer, DynamicAddr, DynamicPart, Endpoint, IcmpMatch, Id,
    IdMatch, InterfaceMatch, Log, Pool, Rate, Rule, RuleKind, StatePolicy, TableEntry, TagMatch,
    TcpFlagsMatch,
};
use pfapi::units::{Direction, IfIndex, Uptime};

use crate::addr::Addr;
use crate::engine::Loader;
use crate::environment::{Routes, Way};
use crate::packet_desc::{PacketDesc, TcpDesc, Transport};
use crate::rng::Rng;
use crate::rules::actions::Actions;
use crate::rules::load::{LoadedRules, Parts, skipped};
use crate::rules::matcher::{PacketView, Surroundings};
use crate::rules::program::Rulesets;
use crate::rules::rule::{Live, LoadedRule};
use crate::rules::ruleset::Ruleset;
use crate::rules::tag::{Tag, Tags};
use crate::rules::translate::{Addresses, Translate};
use crate::rules::walk::{LogCall, Scratch};
use crate::table::{Table, Tables};

const TAGS: [&str; 3] = ["red", "green", "blue"];
const TABLES: [&str; 3] = ["t0", "t1", "t2"];
/// Packets that one random ruleset sees.
const PACKETS: u32 = 500;

/// What is drawn: all choices come from here, so that a seed says it all.
struct Draw(Rng);

impl Draw {
    fn new(seed: u32) -> Self {
        let mut octets = [7; 32];
        octets[..4].copy_from_slice(&seed.to_le_bytes());
        Self(Rng::new(octets))
    }

    /// A number below `end`.
    fn below(&mut self, end: u16) -> u16 {
        self.0.next_u16() % end
    }

    /// True once in so many times.
    fn once_in(&mut self, times: u16) -> bool {
        self.below(times) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.below(u16::try_from(all.len()).expect("few choices")))]
    }

    fn some<T>(&mut self, times: u16, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.once_in(times).then(|| value(self))
    }

    fn af(&mut self) -> Af {
        if self.once_in(4) { Af::Inet6 } else { Af::Inet }
    }

    /// Addresses are few and lie close together, so that networks nest and rules match.
    fn addr(&mut self, af: Af) -> IpAddr {
        match af {
            Af::Inet => {
                let net = self.of(&[0x0a00_0000_u32, 0x0a01_0000, 0xc000_0200, 0xc633_6400]);
                let host = self.of(&[0_u32, 1, 2, 7, 8, 128, 255, 256, 0xffff]);
                Ipv4Addr::from_bits(net | host).into()
            }
            Af::Inet6 => {
                let net =
                    self.of(&[0_u128, 0x2001_0db8 << 96, 0x2001_0db8_0001 << 80, 0xfe80 << 112]);
                let host = self.of(&[0_u128, 1, 2, 0x8000, 1 << 63, u128::from(u64::MAX)]);
                Ipv6Addr::from_bits(net | host).into()
            }
        }
    }

    fn net(&mut self) -> Prefix {
        let af = self.af();
        let len = match af {
            Af::Inet => self.of(&[0, 8, 15, 16, 23, 24, 28, 31, 32, 32]),
            Af::Inet6 => self.of(&[0, 16, 32, 48, 64, 127, 128, 128]),
        };
        Prefix::new(self.addr(af), len)
    }

    fn port(&mut self) -> u16 {
        self.of(&[0, 1, 22, 25, 53, 80, 443, 1_024, 5_353, 8_080, 40_000, 65_534, 65_535])
    }

    fn port_match(&mut self) -> PortMatch {
        let (a, b) = (self.port(), self.port());
        match self.below(14) {
            0 => PortMatch::NotEqual(a),
            1 => PortMatch::Less(a),
            2 => PortMatch::LessOrEqual(a),
            3 => PortMatch::Greater(a),
            4 => PortMatch::GreaterOrEqual(a),
            5 | 6 => PortMatch::Range(a.min(b), a.max(b)),
            7 => PortMatch::Range(a, b),
            8 => PortMatch::Inside(a, b),
            9 => PortMatch::Outside(a, b),
            _ => PortMatch::Equal(a),
        }
    }

    fn dynamic(&mut self) -> DynamicAddr {
        let parts =
            [DynamicPart::Address, DynamicPart::Network, DynamicPart::Broadcast, DynamicPart::Peer];
        DynamicAddr {
            interface: self.of(&["tun0", "tun1", "lan", "gone"]).to_owned(),
            part: self.of(&parts),
            no_aliases: self.once_in(3),
            prefix_len: self.some(4, |draw| draw.of(&[8, 24, 30])),
        }
    }

    fn endpoint(&mut self, is_source: bool) -> Endpoint {
        let addr = match self.below(20) {
            0..=7 => AddrMatch::Any,
            8..=14 => AddrMatch::Net(self.net()),
            15 => {
                let af = self.af();
                let (a, b) = (self.addr(af), self.addr(af));
                AddrMatch::range(a.min(b), a.max(b))
            }
            16 => AddrMatch::Table(self.of(&TABLES).into()),
            17 | 18 => AddrMatch::Dynamic(self.dynamic().into()),
            _ if is_source && self.once_in(2) => AddrMatch::UrpfFailed,
            _ => AddrMatch::NoRoute,
        };
        Endpoint { negated: self.once_in(6), addr, port: None }
    }

    fn interface(&mut self) -> InterfaceMatch {
        let name = self.of(&["tun0", "tun1", "tun2", "lan", "any", "all", "gone"]).to_owned();
        InterfaceMatch { negated: self.once_in(4), name }
    }

    /// A rule with any conditions; `kinds` are those that may be drawn.
    fn rule(&mut self, kinds: &[RuleKind], anchors: &[&str]) -> Rule {
        let kind = self.of(kinds);
        let action = match self.below(6) {
            _ if kind != RuleKind::Filter => Action::Pass,
            0 | 1 => Action::Match,
            2 | 3 => Action::Pass,
            _ => Action::Block(BlockAnswer::Drop),
        };
        let mut rule = Rule::new(action);
        rule.kind = kind;
        rule.direction = self.some(2, |draw| draw.of(&[Direction::In, Direction::Out]));
        rule.interface = self.some(5, Self::interface).map(Into::into);
        rule.rare.received_on = self.some(20, Self::interface);
        rule.af = self.some(3, Self::af);
        rule.proto = self.some(2, |draw| draw.of(&[1, 6, 6, 6, 17, 17, 47, 58]));
        rule.from = self.endpoint(true);
        rule.to = self.endpoint(false);
        if matches!(rule.proto, Some(6 | 17)) {
            rule.from.port = self.some(6, Self::port_match);
            rule.to.port = self.some(2, Self::port_match);
            rule.rare.user = self.some(30, |draw| {
                let id = draw.of(&[Id::Unknown, Id::Number(7)]);
                if draw.once_in(2) { IdMatch::Equal(id) } else { IdMatch::NotEqual(id) }
            });
        }
        rule.flags =
            self.some(6, |draw| TcpFlagsMatch { want: 2, mask: draw.of(&[2, 0x12, 0xff]) });
        rule.icmp = self
            .some(20, |draw| IcmpMatch { icmp_type: draw.of(&[0, 8]), code: draw.some(2, |_| 0) });
        rule.tos = self.some(40, |draw| u8::try_from(4 * (draw.below(2) + 1)).expect("small"));
        rule.prio = self.some(40, |draw| u8::try_from(draw.below(8)).expect("small"));
        rule.fragment = self.once_in(60);
        rule.rare.probability = self.some(30, |draw| draw.0.next_u32().max(1));
        rule.rare.max_pkt_rate =
            self.some(40, |draw| Rate { limit: 1 + u32::from(draw.below(40)), seconds: 10 });
        rule.tagged = self.some(12, |draw| {
            TagMatch { negated: draw.once_in(3), name: draw.of(&TAGS).to_owned() }.into()
        });
        rule.tag = self.some(8, |draw| draw.of(&TAGS).into());
        rule.once = self.once_in(60);
        rule.log = self.some(20, |draw| Log { matches: draw.once_in(2), ..Log::default() });
        rule.set.tos = self.some(10, |draw| u8::try_from(draw.below(64) * 4).expect("small"));
        rule.scrub.max_mss = if self.once_in(10) { 1_000 + self.below(400) } else { 0 };
        if action == Action::Pass && self.once_in(2) {
            rule.state = StatePolicy::Keep;
        }
        let pool = |draw: &mut Self| Pool::new(AddrMatch::Net(draw.net())).into();
        match kind {
            RuleKind::Filter => {
                rule.quick = self.once_in(30);
                if !matches!(action, Action::Block(_)) {
                    rule.nat = self.some(8, pool);
                    rule.rdr = self.some(8, pool);
                }
                if let Some(path) = self.some(14, |draw| draw.of(anchors)) {
                    rule.action = Action::Pass;
                    (rule.nat, rule.rdr) = (None, None);
                    let anchor = Anchor { path: path.to_owned(), rules: None };
                    rule.anchor = Some(Box::new(anchor));
                }
            }
            RuleKind::Rdr => rule.rdr = Some(pool(self)),
            _ => rule.nat = Some(pool(self)),
        }
        if kind != RuleKind::Filter {
            rule.freebsd.except = self.once_in(8);
            rule.freebsd.translate_pass = self.once_in(4);
        }
        rule
    }

    /// Rules of the main ruleset and of anchors, some long and some short.
    fn rulesets(&mut self) -> Vec<(&'static str, Vec<Rule>)> {
        let kinds: &[RuleKind] = if self.once_in(3) {
            &[RuleKind::Nat, RuleKind::Rdr, RuleKind::Binat, RuleKind::Filter, RuleKind::Filter]
        } else {
            &[RuleKind::Filter]
        };
        let sets: [(&'static str, &[&str]); 5] = [
            ("", &["a", "b", "b/*", "/b/c", "nowhere"]),
            ("a", &["/b", "deeper"]),
            ("a/deeper", &["/b/c"]),
            ("b", &["c", "c"]),
            ("b/c", &["/a/deeper/nowhere"]),
        ];
        let mut all = Vec::new();
        for (path, anchors) in sets {
            let count = match (path, self.below(4)) {
                ("", 0) => self.below(66),
                ("", 1) => 65 + self.below(600),
                ("", _) => 65 + self.below(100),
                (_, 0) => 65 + self.below(80),
                _ => self.below(20),
            };
            all.push((path, (0..count).map(|_| self.rule(kinds, anchors)).collect()));
        }
        all
    }

    fn desc(&mut self) -> PacketDesc {
        let af = self.af();
        let tcp = TcpDesc {
            sport: self.port(),
            dport: self.port(),
            seq: 1,
            ack: 0,
            flags: self.of(&[2, 0x12, 0x10]),
            window: 1_000,
            header: 20,
            payload: 0,
        };
        let (proto, transport) = match self.below(10) {
            0..=4 => (6, Transport::Tcp(tcp)),
            5 | 6 => (17, Transport::Udp { sport: tcp.sport, dport: tcp.dport }),
            7 => {
                let icmp_type = self.of(&[0, 8, 128, 129]);
                (if af == Af::Inet { 1 } else { 58 }, Transport::Icmp { icmp_type, code: 0, id: 9 })
            }
            8 => (47, Transport::Other),
            _ => (self.of(&[6, 17]), Transport::Fragment),
        };
        PacketDesc {
            af,
            src: self.addr(af).into(),
            dst: self.addr(af).into(),
            proto,
            tos: u8::try_from(self.below(3) * 4).expect("small"),
            total: 64,
            l4: 20,
            has_options: false,
            transport,
        }
    }
}

fn facts() -> Facts {
    let interface = |name: &str, groups: &[&str], addresses: &[(&str, u8)]| InterfaceFacts {
        groups: groups.iter().map(|&group| group.to_owned()).collect(),
        addresses: addresses
            .iter()
            .map(|&(addr, prefix_len)| InterfaceAddress {
                addr: addr.parse().expect("an address"),
                prefix_len,
                peer: Some("10.1.0.2".parse().expect("an address")),
            })
            .collect(),
        ..InterfaceFacts::new(name)
    };
    let interfaces = vec![
        interface("tun0", &["lan"], &[("10.0.0.1", 24), ("10.0.0.2", 16), ("2001:db8::1", 64)]),
        interface("tun1", &["wan"], &[("192.0.2.1", 28)]),
        interface("tun2", &["lan"], &[("2001:db8:1::1", 48)]),
    ];
    Facts { interfaces }
}

fn table_entry(draw: &mut Draw) -> TableEntry {
    TableEntry { prefix: draw.net(), negated: draw.once_in(3) }
}

/// The rulesets, loaded; two loads of the same are alike and share nothing.
fn load(sets: &[(&str, Vec<Rule>)], seed: u32) -> LoadedRules {
    let mut tags = Tags::default();
    tags.add(TAGS).expect("there are numbers left");
    let mut draw = Draw::new(seed);
    let mut tables = Tables::default();
    for name in TABLES {
        let table = Table::created(name, Uptime::ZERO);
        let entries: Vec<_> = (0..4).map(|_| table_entry(&mut draw)).collect();
        table.add(&entries, Uptime::ZERO);
        tables.insert("", name, Arc::new(table));
    }
    let rulesets: Rulesets = (1..)
        .zip(sets)
        .map(|(epoch, (path, rules))| {
            let set = Ruleset::new(path, rules, epoch, Loader::default(), &tags);
            ((*path).to_owned(), Arc::new(set))
        })
        .collect();
    let facts = facts();
    let skip = skipped(&[], &facts);
    let fingerprints = Arc::default();
    LoadedRules::new(
        Parts {
            rulesets,
            tables,
            tags,
            fingerprints,
            skip,
            limiters: crate::limiter::Limiters::default(),
        },
        &facts,
        9,
    )
}

/// Moves packets to other addresses and ports, the same for the same rule and packet.
struct Shift;

impl Translate for Shift {
    fn translate(
        &mut self,
        rule: &Arc<LoadedRule>,
        addresses: &mut Addresses,
        rng: &mut Rng,
    ) -> Result<(), Reason> {
        let mut draw = Draw(rng.clone());
        rng.next_u64();
        if draw.once_in(50) {
            return Err(Reason::Translate);
        }
        if rule.rule.nat.is_some() {
            addresses.src = Addr::from(draw.addr(addresses.af));
            addresses.sport = draw.port();
        }
        if rule.rule.rdr.is_some() {
            addresses.dst = Addr::from(draw.addr(addresses.af));
            addresses.dport = draw.port();
        }
        Ok(())
    }
}

/// Some addresses have no route, the others lead out by some interface.
#[derive(Debug)]
struct SomeRoutes;

impl Routes for SomeRoutes {
    fn way_to(&self, addr: IpAddr) -> Way {
        let low = Addr::from(addr).0 % 5;
        match u16::try_from(low).expect("small") {
            0 => Way::None,
            number => Way::Interface(IfIndex(number - 1)),
        }
    }
}

/// All that an evaluation says and does but for counters.
#[derive(Debug, PartialEq)]
struct Outcome {
    decided: Result<Decided, Reason>,
    matches: Vec<u32>,
    logs: Vec<LogCall>,
    /// What the generator gives next: the same when it was asked as often.
    random: u64,
}

#[derive(Debug, PartialEq)]
struct Decided {
    steps: Option<(u32, Option<u32>)>,
    actions: Actions,
    addresses: Addresses,
    tag: Option<Tag>,
    translated: bool,
}

fn outcome(rules: &LoadedRules, view: &PacketView<'_>, plainly: bool, seed: [u8; 32]) -> Outcome {
    let mut scratch = Scratch::default();
    scratch.plainly = plainly;
    let mut rng = Rng::new(seed);
    let surroundings = Surroundings {
        rng: &mut rng,
        now: Uptime::from_secs(1_000),
        routes: Some(&SomeRoutes),
        sockets: None,
    };
    let found = rules.evaluate(view, surroundings, &mut scratch, &mut Shift);
    let decided = found.map(|found| Decided {
        steps: found.steps,
        actions: found.actions,
        addresses: found.addresses,
        tag: found.tag,
        translated: found.translated,
    });
    Outcome { decided, matches: scratch.matches, logs: scratch.logs, random: rng.next_u64() }
}

/// Evaluations, and whether `once` has used it up, of every rule.
fn counters(rules: &LoadedRules) -> Vec<(u64, bool)> {
    let reports = rules.rulesets.values().flat_map(|set| set.report(0, 1_000, |_| Live::default()));
    reports.map(|report| (report.evaluations, report.expired)).collect()
}

/// Some rules and packets; gives how many evaluations found a rule and how many passed a
/// translation in the middle of the walk.
fn compare(seed: u32, packets: u32) -> [u32; 2] {
    let mut draw = Draw::new(seed);
    let sets = draw.rulesets();
    let (plain, indexed) = (load(&sets, seed), load(&sets, seed));
    let tags: Vec<Option<Tag>> =
        TAGS.iter().map(|name| plain.tags.get(name)).chain([None]).collect();
    let mut seen = [0; 2];
    for number in 0..packets {
        if draw.once_in(100) {
            let (name, entry) = (draw.of(&TABLES), table_entry(&mut draw));
            for rules in [&plain, &indexed] {
                let table = rules.tables.get("", name).expect("it was made");
                if table.add(&[entry], Uptime::ZERO).is_empty() {
                    table.delete(&[entry]);
                }
            }
        }
        let desc = draw.desc();
        let view = PacketView {
            desc: &desc,
            data: &[],
            interface: IfIndex(draw.below(4)),
            direction: draw.of(&[Direction::In, Direction::Out]),
            received_on: draw.of(&[None, Some(IfIndex(0)), Some(IfIndex(2))]),
            tag: draw.of(&tags),
            prio: u8::try_from(draw.below(8)).expect("small"),
        };
        let random = draw.0.seed();
        let wanted = outcome(&plain, &view, true, random);
        let found = outcome(&indexed, &view, false, random);
        assert_eq!(found, wanted, "seed {seed}, packet {number}: {view:?}");
        if let Ok(decided) = &wanted.decided {
            seen[0] += u32::from(decided.steps.is_some());
            seen[1] +=
                u32::from(!wanted.matches.is_empty() && decided.addresses != Addresses::of(&desc));
        }
    }
    assert_eq!(counters(&indexed), counters(&plain), "seed {seed}");
    seen
}

#[test]
fn indexed_and_plain_walks_agree() {
    let pairs = std::env::var("PFENGINE_PAIRS").ok().and_then(|text| text.parse().ok());
    let pairs: u32 = pairs.unwrap_or(20_000);
    let first = std::env::var("PFENGINE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut seen = [0_u32; 2];
    for round in 0..pairs.div_ceil(PACKETS) {
        let more = compare(first + round, PACKETS);
        seen = [seen[0] + more[0], seen[1] + more[1]];
    }
    println!("{pairs} pairs: a rule decided {}, translated in mid-walk {}", seen[0], seen[1]);
    // The comparison is worth something only while packets meet rules and translations.
    assert!(seen[0] > pairs / 4 && seen[1] > pairs / 20, "{seen:?} of {pairs}");
}

/// Long rulesets where few packets meet a rule: several chunks of words, and none in most.
#[test]
fn long_rulesets_agree_too() {
    let mut draw = Draw::new(1);
    let rules: Vec<Rule> = (0..9_000_u32)
        .map(|number| {
            let mut rule = Rule::new(if number % 3 == 0 { Action::Match } else { Action::Pass });
            let net = Ipv4Addr::from_bits(0x0a00_0000 + number / 4 * 256);
            rule.from.addr = AddrMatch::Net(Prefix::new(net.into(), 24));
            rule.proto = Some(draw.of(&[6, 17]));
            rule.to.port = draw.some(2, Draw::port_match);
            rule
        })
        .collect();
    let sets = [("", rules)];
    let (plain, indexed) = (load(&sets, 1), load(&sets, 1));
    let mut met = 0;
    for number in 0..300_u32 {
        let src = Ipv4Addr::from_bits(0x0a00_0000 + number * 0x811);
        let desc = PacketDesc { af: Af::Inet, src: IpAddr::from(src).into(), ..draw.desc() };
        let view = PacketView {
            desc: &desc,
            data: &[],
            interface: IfIndex(0),
            direction: Direction::In,
            received_on: None,
            tag: None,
            prio: 3,
        };
        let wanted = outcome(&plain, &view, true, [3; 32]);
        assert_eq!(outcome(&indexed, &view, false, [3; 32]), wanted, "{view:?}");
        met += u32::from(!wanted.matches.is_empty());
    }
    assert!(met > 20, "{met} of 300 met a match rule");
}
