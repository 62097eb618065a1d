//! Queues in virtual time: rates over the long run, and random traffic against a ledger.

use std::collections::BTreeMap;
use std::sync::Arc;

use pfapi::facts::{Facts, InterfaceFacts};
use pfapi::ruleset::{FlowQueue, QueueDef, ServiceCurve};
use pfapi::units::{IfIndex, Uptime};
use proptest::prelude::*;

use super::plan::{Source, number};
use super::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn rate(bps: u64) -> ServiceCurve {
    ServiceCurve { rate: bps, burst: None }
}

fn root(bps: u64) -> QueueDef {
    let interface = Some("tun0".to_owned());
    QueueDef {
        name: "root".to_owned(),
        interface,
        bandwidth: Some(rate(bps)),
        ..QueueDef::default()
    }
}

fn child(name: &str, parent: &str, bps: u64) -> QueueDef {
    let parent = Some(parent.to_owned());
    QueueDef { name: name.to_owned(), parent, bandwidth: Some(rate(bps)), ..QueueDef::default() }
}

fn default(queue: QueueDef) -> QueueDef {
    QueueDef { default: true, ..queue }
}

/// Queues of two interfaces, and the numbers of their names.
struct Bench {
    ids: BTreeMap<String, QueueId>,
    egress: Egress<u64>,
    facts: Facts,
    now: u64,
    next_item: u64,
}

fn plan(queues: &[QueueDef], ids: &mut BTreeMap<String, QueueId>, old: &QueuePlan) -> QueuePlan {
    let facts =
        Facts { interfaces: vec![InterfaceFacts::new("tun0"), InterfaceFacts::new("tun1")] };
    assert!(number(ids, queues.iter().map(|queue| queue.name.as_str())));
    let source = Source { queues, altq: &[], facts: &facts, ids };
    QueuePlan::new(&source, old).unwrap().with(false, 100)
}

impl Bench {
    fn new(queues: &[QueueDef]) -> Self {
        let mut ids = BTreeMap::new();
        let plan = plan(queues, &mut ids, &QueuePlan::default());
        let facts =
            Facts { interfaces: vec![InterfaceFacts::new("tun0"), InterfaceFacts::new("tun1")] };
        let egress = Egress::new(Arc::new(plan));
        Self { ids, egress, facts, now: SECOND, next_item: 0 }
    }

    fn at(&self) -> Uptime {
        Uptime::from_nanos(self.now)
    }

    /// Sends a packet of a flow to a queue of `tun0`.
    fn send(&mut self, queue: &str, flow: u32, octets: u32) {
        let queue = self.ids.get(queue).copied();
        let key = queue.map_or(0, |queue| u64::from(queue.0.get())) << 32 | u64::from(flow);
        self.next_item += 1;
        let item = key << 16 | self.next_item & 0xffff;
        let packet = Leaving {
            interface: IfIndex(0),
            queue,
            prio: 3,
            delay_ms: 0,
            flow,
            charge: Charge::one(octets),
            item,
        };
        let at = self.at();
        self.egress.send(at, packet);
    }

    /// Keeps the queues filled and sends for so long; octets by name. Every packet of a queue has
    /// its size, and the thread wakes late by up to `late` ns.
    fn saturate(&mut self, queues: &[(&str, u32)], ns: u64, late: u64) -> Vec<u64> {
        let end = self.now + ns;
        let mut octets = vec![0_u64; queues.len()];
        let keys: Vec<u64> =
            queues.iter().map(|(name, _)| u64::from(self.ids[*name].0.get())).collect();
        let mut jitter = 1_u64;
        while self.now < end {
            for (name, size) in queues {
                let class = self.length(name);
                for _ in class..20 {
                    self.send(name, 0, *size);
                }
            }
            while let Some((_, item)) = self.egress.next(self.at()) {
                // Others may have something left from before.
                let Some(at) = keys.iter().position(|&key| key == item >> 48) else { continue };
                octets[at] += u64::from(queues[at].1);
                if self.length(queues[at].0) < 5 {
                    for _ in 0..15 {
                        self.send(queues[at].0, 0, queues[at].1);
                    }
                }
            }
            let wake = self.egress.poll_timeout().unwrap().as_nanos();
            assert!(wake > self.now, "a wake in the past is a busy loop");
            jitter = jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            self.now = wake + if late == 0 { 0 } else { (jitter >> 33) % late };
        }
        octets
    }

    fn report(&self, name: &str) -> pfapi::control::QueueReport {
        let reports = self.egress.plan().report(&self.facts);
        let mut reports = reports.into_iter();
        let is_it = |report: &pfapi::control::QueueReport| match &report.definition {
            pfapi::control::QueueDefinition::Queue(queue) => queue.name == name,
            _ => false,
        };
        reports.find(is_it).unwrap()
    }

    fn length(&self, name: &str) -> u64 {
        self.report(name).qlength
    }
}

/// Bits per second of octets sent in a time.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn bps(octets: u64, ns: u64) -> f64 {
    octets as f64 * 8e9 / ns as f64
}

fn close(measured: f64, wanted: f64, percent: f64) {
    let off = (measured / wanted - 1.0).abs() * 100.0;
    assert!(off <= percent, "{measured:.0} bit/s instead of {wanted:.0}: {off:.2} %");
}

#[test]
fn root_limits_the_whole_also_when_the_thread_is_late() {
    for late in [0, MS, 8 * MS] {
        let mut bench = Bench::new(&[default(root(10_000_000))]);
        let octets = bench.saturate(&[("root", 1_500)], 10 * SECOND, late);
        close(bps(octets[0], 10 * SECOND), 10e6, 0.5);
    }
}

#[test]
fn shares_follow_bandwidth_whatever_the_sizes() {
    let queues = [
        root(8_000_000),
        child("a", "root", 1_000_000),
        child("b", "root", 2_000_000),
        default(child("c", "root", 5_000_000)),
    ];
    let mut bench = Bench::new(&queues);
    let octets = bench.saturate(&[("a", 1_500), ("b", 90), ("c", 700)], 20 * SECOND, MS);
    for (octets, wanted) in octets.into_iter().zip([1e6, 2e6, 5e6]) {
        close(bps(octets, 20 * SECOND), wanted, 1.0);
    }
}

#[test]
fn what_one_queue_leaves_the_others_share() {
    let queues = [
        root(8_000_000),
        child("a", "root", 1_000_000),
        child("b", "root", 3_000_000),
        default(child("c", "root", 4_000_000)),
    ];
    let mut bench = Bench::new(&queues);
    let octets = bench.saturate(&[("a", 1_000), ("b", 1_000)], 20 * SECOND, 0);
    close(bps(octets[0], 20 * SECOND), 2e6, 1.0);
    close(bps(octets[1], 20 * SECOND), 6e6, 1.0);
    // Alone it has everything, and nothing of what others had is held against it.
    let octets = bench.saturate(&[("a", 1_000)], 5 * SECOND, 0);
    close(bps(octets[0], 5 * SECOND), 8e6, 2.0);
    let octets = bench.saturate(&[("a", 1_000), ("c", 1_000)], 20 * SECOND, 0);
    close(bps(octets[0], 20 * SECOND), 1.6e6, 2.0);
    close(bps(octets[1], 20 * SECOND), 6.4e6, 2.0);
}

#[test]
fn hierarchy_shares_within_the_share_of_the_parent() {
    let queues = [
        root(12_000_000),
        child("left", "root", 4_000_000),
        child("right", "root", 8_000_000),
        child("l1", "left", 1_000_000),
        child("l2", "left", 3_000_000),
        default(child("r1", "right", 1_000_000)),
        child("r2", "right", 1_000_000),
    ];
    let mut bench = Bench::new(&queues);
    let all = [("l1", 800), ("l2", 800), ("r1", 800), ("r2", 800)];
    let octets = bench.saturate(&all, 20 * SECOND, MS);
    for (octets, wanted) in octets.into_iter().zip([1e6, 3e6, 4e6, 4e6]) {
        close(bps(octets, 20 * SECOND), wanted, 1.0);
    }
}

#[test]
fn max_bounds_and_its_rest_goes_to_others() {
    let queues = [
        root(10_000_000),
        QueueDef { max: Some(rate(1_000_000)), ..child("slow", "root", 9_000_000) },
        default(child("rest", "root", 1_000_000)),
    ];
    let mut bench = Bench::new(&queues);
    let octets = bench.saturate(&[("slow", 1_500), ("rest", 1_500)], 20 * SECOND, MS);
    close(bps(octets[0], 20 * SECOND), 1e6, 1.0);
    close(bps(octets[1], 20 * SECOND), 9e6, 1.0);
}

#[test]
fn min_is_kept_under_load() {
    let queues = [
        root(10_000_000),
        QueueDef { min: Some(rate(3_000_000)), ..child("voice", "root", 100_000) },
        default(child("bulk", "root", 9_900_000)),
    ];
    let mut bench = Bench::new(&queues);
    let octets = bench.saturate(&[("voice", 200), ("bulk", 1_500)], 20 * SECOND, MS);
    let voice = bps(octets[0], 20 * SECOND);
    assert!(voice >= 2.97e6, "{voice}");
    close(voice + bps(octets[1], 20 * SECOND), 10e6, 1.0);
}

#[test]
fn limits_hold_where_min_asks_for_more() {
    let queues = [
        root(4_000_000),
        QueueDef { min: Some(rate(9_000_000)), ..child("greedy", "root", 1_000_000) },
        default(QueueDef { min: Some(rate(9_000_000)), ..child("other", "root", 1_000_000) }),
    ];
    let mut bench = Bench::new(&queues);
    let octets = bench.saturate(&[("greedy", 1_500), ("other", 1_500)], 20 * SECOND, 0);
    close(bps(octets[0] + octets[1], 20 * SECOND), 4e6, 1.0);
    close(bps(octets[0], 20 * SECOND), 2e6, 2.0);
}

#[test]
fn burst_lets_the_beginning_go_faster() {
    let burst = Some(ServiceCurve { rate: 1_000_000, burst: Some((10_000_000, 500)) });
    let mut bench = Bench::new(&[default(QueueDef { max: burst, ..root(1_000_000) })]);
    let first = bench.saturate(&[("root", 1_000)], 500 * MS, 0)[0];
    close(bps(first, 500 * MS), 10e6, 2.0);
    let then = bench.saturate(&[("root", 1_000)], 10 * SECOND, 0)[0];
    close(bps(then, 10 * SECOND), 1e6, 2.0);
}

#[test]
fn priority_decides_within_the_bandwidth_of_priq() {
    use pfapi::ruleset::{Altq, AltqQueue, QueueFlag, Scheduler, SchedulerOptions};
    let queue = |name: &str, priority, flags: &[QueueFlag]| AltqQueue {
        name: name.to_owned(),
        parent: None,
        priority,
        qlimit: 50,
        bandwidth: 0,
        options: SchedulerOptions {
            flags: flags.iter().copied().collect(),
            ..SchedulerOptions::default()
        },
    };
    let altq = Altq {
        interface: "tun0".to_owned(),
        scheduler: Scheduler::Priq,
        options: SchedulerOptions::default(),
        bandwidth: 1_000_000,
        bucket: 1_500,
        qlimit: 50,
        queues: vec![queue("low", 1, &[QueueFlag::Default]), queue("high", 7, &[])],
    };
    let mut bench = Bench::new(&[]);
    assert!(number(&mut bench.ids, ["low", "high"].into_iter()));
    let source = Source { queues: &[], altq: &[altq], facts: &bench.facts, ids: &bench.ids };
    let plan = QueuePlan::new(&source, &QueuePlan::default()).unwrap();
    bench.egress.reload(Uptime::ZERO, Arc::new(plan));
    for _ in 0..3 {
        bench.send("low", 0, 1_250);
    }
    bench.send("high", 0, 1_250);
    let (high, mut order, mut times) = (bench.ids["high"].0.get(), Vec::new(), Vec::new());
    while let Some(at) = bench.egress.poll_timeout() {
        bench.now = bench.now.max(at.as_nanos());
        if let Some((_, item)) = bench.egress.next(bench.at()) {
            order.push(item >> 48 == u64::from(high));
            times.push(bench.now - SECOND);
        }
    }
    assert_eq!(order, [true, false, false, false]);
    assert_eq!(times, [0, 10 * MS, 20 * MS, 30 * MS]);
}

#[test]
fn flows_share_and_a_sparse_one_hardly_waits() {
    let flows = Some(FlowQueue { flows: 1024, quantum: 0 });
    let mut bench = Bench::new(&[default(QueueDef { flows, ..root(10_000_000) })]);
    let mut octets = [0_u64; 4];
    let mut waiting = [0; 4];
    let mut longest = 0;
    let mut asked = None;
    let end = bench.now + 20 * SECOND;
    let mut next_sparse = bench.now;
    while bench.now < end {
        // Three flows that never have enough, with packets of different sizes.
        for (flow, size) in [(1, 1_500), (2, 500), (3, 1_000)] {
            for _ in waiting[flow as usize]..50 {
                bench.send("root", flow, size);
                waiting[flow as usize] += 1;
            }
        }
        if bench.now >= next_sparse && asked.is_none() {
            bench.send("root", 0, 100);
            waiting[0] += 1;
            asked = Some(bench.now);
            next_sparse = bench.now + 100 * MS;
        }
        while let Some((_, item)) = bench.egress.next(bench.at()) {
            let flow = usize::try_from(item >> 16 & 0xffff).unwrap();
            waiting[flow] -= 1;
            octets[flow] += [100, 1_500, 500, 1_000][flow];
            if flow == 0 {
                longest = longest.max(bench.now - asked.take().unwrap());
            }
        }
        while let Some(item) = bench.egress.poll_dropped() {
            waiting[usize::try_from(item >> 16 & 0xffff).unwrap()] -= 1;
        }
        bench.now = bench.egress.poll_timeout().unwrap().as_nanos();
    }
    for &sent in &octets[1..4] {
        close(bps(sent, 20 * SECOND), 10e6 / 3.0, 8.0);
    }
    assert!(longest <= 5 * MS, "a sparse flow waited {} us", longest / 1_000);
    assert!(octets[0] > 100 * 190, "its packets come through: {}", octets[0]);
}

#[test]
fn delay_keeps_packets_for_their_time_and_no_more_than_there_is_room() {
    let mut bench = Bench::new(&[]);
    let packet = |item, delay_ms| Leaving {
        interface: IfIndex(1),
        queue: None,
        prio: 3,
        delay_ms,
        flow: 0,
        charge: Charge::one(100),
        item,
    };
    let start = bench.at();
    bench.egress.send(start, packet(1, 20));
    bench.egress.send(start, packet(2, 10));
    assert_eq!(bench.egress.poll_timeout(), Some(start.plus_nanos(10 * MS)));
    assert_eq!(bench.egress.next(start.plus_nanos(9 * MS)), None);
    assert_eq!(bench.egress.next(start.plus_nanos(10 * MS)), Some((IfIndex(1), 2)));
    assert_eq!(bench.egress.next(start.plus_nanos(20 * MS)), Some((IfIndex(1), 1)));
    assert_eq!(bench.egress.next(start.plus_nanos(20 * MS)), None);
    assert_eq!(bench.egress.poll_timeout(), None);
    for item in 0..101 {
        bench.egress.send(start, packet(item, 5));
    }
    assert_eq!((bench.egress.poll_dropped(), bench.egress.take_drops()), (Some(100), 1));
    assert_eq!(bench.egress.waiting(), 100);
}

#[test]
fn priorities_order_what_waits_on_open_interfaces() {
    let mut bench = Bench::new(&[]);
    bench.egress.reload(bench.at(), Arc::new(QueuePlan::default().with(true, 10)));
    assert!(!bench.egress.lets_by(IfIndex(0), 0));
    for (item, prio) in [(1, 3), (2, 0), (3, 7), (4, 3), (5, 7)] {
        let charge = Charge::one(100);
        let packet = Leaving {
            interface: IfIndex(0),
            queue: None,
            prio,
            delay_ms: 0,
            flow: 0,
            charge,
            item,
        };
        bench.egress.send(bench.at(), packet);
    }
    let order: Vec<u64> =
        core::iter::from_fn(|| bench.egress.next(bench.at())).map(|(_, item)| item).collect();
    assert_eq!(order, [3, 5, 1, 4, 2]);
}

#[test]
fn reload_keeps_what_waits() {
    let before = [root(1_000_000), default(child("a", "root", 100)), child("b", "root", 100)];
    let mut bench = Bench::new(&before);
    for _ in 0..5 {
        bench.send("a", 0, 1_000);
        bench.send("b", 0, 1_000);
    }
    // The same queues once more: nothing changes.
    let old = Arc::clone(bench.egress.plan());
    let same = plan(&before, &mut bench.ids, &old);
    bench.egress.reload(bench.at(), Arc::new(same));
    assert_eq!((bench.length("a"), bench.length("b")), (5, 5));
    // Without b its packets go to the default queue, behind those that are there.
    let old = Arc::clone(bench.egress.plan());
    let fewer = plan(&[root(1_000_000), default(child("a", "root", 99))], &mut bench.ids, &old);
    bench.egress.reload(bench.at(), Arc::new(fewer));
    assert_eq!((bench.length("a"), bench.egress.waiting()), (10, 10));
    // Without queues everything goes out at once.
    let old = Arc::clone(bench.egress.plan());
    let none = plan(&[], &mut bench.ids, &old);
    bench.egress.reload(bench.at(), Arc::new(none));
    let count = core::iter::from_fn(|| bench.egress.next(bench.at())).count();
    assert_eq!((count, bench.egress.waiting(), bench.egress.poll_timeout()), (10, 0, None));
}

#[test]
fn broken_trees_are_refused() {
    let refused = |queues: &[QueueDef]| {
        let mut ids = BTreeMap::new();
        assert!(number(&mut ids, queues.iter().map(|queue| queue.name.as_str())));
        let facts = Facts { interfaces: vec![InterfaceFacts::new("tun0")] };
        let source = Source { queues, altq: &[], facts: &facts, ids: &ids };
        QueuePlan::new(&source, &QueuePlan::default()).unwrap_err().to_string()
    };
    let a = || default(child("a", "root", 1));
    assert_eq!(refused(&[root(1)]), "no default queue specified on tun0");
    assert_eq!(refused(&[root(1), default(root(1))]), "no default queue specified on tun0");
    assert_eq!(
        refused(&[default(root(1)), default(root(1))]),
        "a root queue is already defined on tun0"
    );
    assert_eq!(refused(&[a()]), "queue a: parent root not found");
    assert_eq!(refused(&[root(1), a(), a()]), "queue a respecified");
    assert_eq!(refused(&[root(1), a(), child("b", "a", 1)]), "queue a is not a leaf queue");
    assert_eq!(
        refused(&[root(1), a(), child("b", "root", 0)]),
        "queue b: no bandwidth was specified"
    );
    assert_eq!(refused(&[default(root(1)), child("b", "b", 1)]), "queue b: parent b not found");
    let circle = [root(1), a(), child("root", "root", 1)];
    assert_eq!(refused(&circle), "queue a respecified");
    let elsewhere = QueueDef { interface: Some("em9".to_owned()), ..root(1) };
    assert_eq!(refused(&[elsewhere]), "queue root: there is no interface em9");
    let flows = Some(FlowQueue { flows: 32_767, quantum: 0 });
    let mut many = vec![root(1), a()];
    many.extend((0..5).map(|n| QueueDef { flows, ..child(&format!("f{n}"), "root", 1) }));
    assert!(refused(&many).contains("163835 flows"), "{}", refused(&many));
}

const NAMES: [&str; 5] = ["root", "a", "b", "c", "d"];

/// A queue that fits to others now and then.
fn any_queue() -> impl Strategy<Value = QueueDef> {
    let name = || (0..NAMES.len()).prop_map(|at| NAMES[at].to_owned());
    let bps = prop_oneof![1 => Just(0_u64), 4 => 1..10_000_000_u64, 1 => Just(u64::MAX)];
    let burst = prop::option::weighted(
        0.3,
        (any::<u64>(), prop_oneof![Just(0), 1..500_u32, Just(u32::MAX)]),
    );
    let curve = (bps, burst).prop_map(|(rate, burst)| ServiceCurve { rate, burst });
    let curve = move || prop::option::weighted(0.6, curve.clone());
    let parent = prop_oneof![1 => Just(None), 3 => name().prop_map(Some)];
    let flows = prop::option::weighted(0.3, (any::<u16>(), any::<u16>()));
    let flows = flows
        .prop_map(|flows| flows.map(|(flows, quantum)| FlowQueue { flows: flows % 500, quantum }));
    (
        name(),
        parent,
        prop::bool::weighted(0.7),
        curve(),
        curve(),
        curve(),
        flows,
        any::<bool>(),
        0..40_u16,
    )
        .prop_map(|(name, parent, on, bandwidth, min, max, flows, default, qlimit)| {
            let interface = (parent.is_none() && on).then(|| "tun0".to_owned());
            QueueDef { name, parent, interface, flows, bandwidth, min, max, default, qlimit }
        })
}

/// Random queues, traffic, sleeps and reloads.
#[derive(Clone, Debug)]
enum Step {
    Send { queue: usize, flow: u32, octets: u32, packets: u32, delay_ms: u16 },
    Sleep(u64),
    Serve(usize),
    Reload(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6_usize, 0..5_u32, 40..2_000_u32, prop_oneof![9 => Just(1_u32), 1 => Just(40)], prop_oneof![9 => Just(0_u16), 1 => 1..50_u16])
            .prop_map(|(queue, flow, octets, packets, delay_ms)| Step::Send { queue, flow, octets, packets, delay_ms }),
        3 => (0..30 * MS).prop_map(Step::Sleep),
        4 => (1..10_usize).prop_map(Step::Serve),
        1 => (0..3_usize).prop_map(Step::Reload),
    ]
}

fn layouts() -> [Vec<QueueDef>; 3] {
    let flows = Some(FlowQueue { flows: 3, quantum: 300 });
    [
        vec![
            root(2_000_000),
            QueueDef { min: Some(rate(500_000)), ..child("a", "root", 100_000) },
            QueueDef { max: Some(rate(300_000)), qlimit: 7, ..child("b", "root", 1_000_000) },
            default(QueueDef { flows, qlimit: 9, ..child("c", "root", 500_000) }),
        ],
        vec![
            root(500_000),
            child("left", "root", 100_000),
            QueueDef { max: Some(rate(200_000)), ..child("a", "left", 100_000) },
            default(child("d", "left", 1)),
            QueueDef { flows, ..child("c", "root", 300_000) },
        ],
        vec![],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Every packet that comes in goes out once, is dropped once and counted, or still waits;
    /// packets of one queue and flow keep their order; gauges are right.
    #[test]
    fn nothing_is_lost_doubled_or_reordered(steps in prop::collection::vec(step(), 1..400)) {
        let names = ["a", "b", "c", "d", "left", "nowhere"];
        let mut bench = Bench::new(&layouts()[0]);
        let mut state = BTreeMap::new();
        let mut last_out: BTreeMap<(usize, u32), u64> = BTreeMap::new();
        let mut reloads = 0;
        let mut next = 0_u64;
        for step in steps {
            match step {
                Step::Send { queue, flow, octets, packets, delay_ms } => {
                    next += 1;
                    let item = next;
                    state.insert(item, (queue, flow, delay_ms, reloads));
                    let queue = bench.ids.get(names[queue]).copied();
                    let charge = Charge { packets, octets: octets * packets };
                    let packet = Leaving { interface: IfIndex(0), queue, prio: 3, delay_ms, flow, charge, item };
                    bench.egress.send(bench.at(), packet);
                }
                Step::Sleep(ns) => bench.now += ns,
                Step::Serve(most) => {
                    for _ in 0..most {
                        let Some((_, item)) = bench.egress.next(bench.at()) else { break };
                        let (queue, flow, delay_ms, then) = state.remove(&item).expect("once");
                        // Delay and a change of queues may put packets behind later ones.
                        if delay_ms == 0 && then == reloads && reloads == 0 {
                            let last = last_out.insert((queue, flow), item).unwrap_or(0);
                            prop_assert!(last < item, "{last} left before {item}");
                        }
                    }
                }
                Step::Reload(layout) => {
                    reloads += 1;
                    let old = Arc::clone(bench.egress.plan());
                    let new = plan(&layouts()[layout], &mut bench.ids, &old);
                    bench.egress.reload(bench.at(), Arc::new(new));
                }
            }
            while let Some(item) = bench.egress.poll_dropped() {
                prop_assert!(state.remove(&item).is_some(), "{item} dropped, but gone before");
            }
            prop_assert_eq!(state.len(), bench.egress.waiting());
        }
        // In the end everything comes out.
        for _ in 0..100_000 {
            while let Some((_, item)) = bench.egress.next(bench.at()) {
                prop_assert!(state.remove(&item).is_some());
            }
            while let Some(item) = bench.egress.poll_dropped() {
                prop_assert!(state.remove(&item).is_some());
            }
            let Some(wake) = bench.egress.poll_timeout() else { break };
            prop_assert!(wake.as_nanos() > bench.now, "a wake in the past is a busy loop");
            bench.now = wake.as_nanos();
        }
        prop_assert!(state.is_empty(), "{} never came out", state.len());
        let lengths: u64 = bench.egress.plan().report(&bench.facts).iter().map(|r| r.qlength).sum();
        prop_assert_eq!(lengths, 0);
    }

    /// Whatever a hostile load says: it is refused, or packets come through.
    #[test]
    fn any_queues_are_refused_or_work(
        queues in prop::collection::vec(any_queue(), 1..12),
        sizes in prop::collection::vec((0..8_usize, 1..70_000_u32), 1..60),
    ) {
        let mut bench = Bench::new(&[]);
        prop_assert!(number(&mut bench.ids, queues.iter().map(|queue| queue.name.as_str())));
        let source =
            Source { queues: &queues, altq: &[], facts: &bench.facts, ids: &bench.ids };
        let Ok(plan) = QueuePlan::new(&source, &QueuePlan::default()) else { return Ok(()) };
        bench.egress.reload(Uptime::ZERO, Arc::new(plan));
        for &(name, octets) in &sizes {
            bench.send(NAMES[name % NAMES.len()], octets, octets);
        }
        let mut count = 0;
        for _ in 0..1_000 {
            while bench.egress.next(bench.at()).is_some() {
                count += 1;
            }
            while bench.egress.poll_dropped().is_some() {
                count += 1;
            }
            let Some(wake) = bench.egress.poll_timeout() else { break };
            prop_assert!(wake.as_nanos() > bench.now);
            bench.now = wake.as_nanos();
        }
        prop_assert_eq!(count, sizes.len());
    }

    /// In any stretch of time no more leaves than the limit gives in it, plus what may be caught
    /// up and one packet.
    #[test]
    fn max_is_never_exceeded(
        arrivals in prop::collection::vec((0..40 * MS, 0..3_usize, 40..1_500_u32), 50..400),
        late in 0..30 * MS,
    ) {
        let queues = [
            root(3_000_000),
            QueueDef { min: Some(rate(2_000_000)), ..child("a", "root", 100_000) },
            QueueDef { max: Some(rate(400_000)), ..child("b", "root", 2_900_000) },
            default(QueueDef { min: Some(rate(2_000_000)), ..child("c", "root", 10) }),
        ];
        let mut bench = Bench::new(&queues);
        let mut log: Vec<(u64, bool, u64)> = Vec::new();
        let mut sizes = BTreeMap::new();
        let mut clock = bench.now;
        for (number, (pause, queue, octets)) in (1_u64..).zip(arrivals) {
            // Bursts: most packets come together with the one before.
            clock += if pause % 3 == 0 { pause } else { 0 };
            loop {
                while let Some((_, item)) = bench.egress.next(bench.at()) {
                    let (queue, octets) = sizes[&item];
                    log.push((bench.now, queue == 1, octets));
                }
                let wake = bench.egress.poll_timeout().map_or(u64::MAX, |at| at.as_nanos() + late);
                if wake > clock {
                    break;
                }
                bench.now = wake;
            }
            bench.now = bench.now.max(clock);
            sizes.insert(number, (queue, u64::from(octets)));
            let charge = Charge::one(octets);
            let id = bench.ids.get(["a", "b", "c"][queue]).copied();
            let packet = Leaving { interface: IfIndex(0), queue: id, prio: 3, delay_ms: 0, flow: 0, charge, item: number };
            bench.egress.send(bench.at(), packet);
        }
        for (limited, bps) in [(false, 3_000_000_u64), (true, 400_000)] {
            let counted: Vec<_> = log.iter().filter(|entry| !limited || entry.1).collect();
            for first in 0..counted.len() {
                let mut octets = 0;
                for last in &counted[first..] {
                    octets += last.2;
                    let span = last.0 - counted[first].0 + super::tree::CATCH_UP_NS;
                    prop_assert!(octets <= bps * span / 8_000_000_000 + 1_500 + 1, "{octets} in {span} ns");
                }
            }
        }
    }
}
