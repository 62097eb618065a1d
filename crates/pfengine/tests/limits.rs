//! State options: limits of rules, source tracking, timeouts, and how states are made.

mod common;

use common::{Ends, Rig, Tcp, V4, flags, icmp, ip, proto, udp};
use pfapi::addr::Af;
use pfapi::check::check;
use pfapi::control::Flush as Clear;
use pfapi::limit::Limit;
use pfapi::reason::{LimitCounter, Reason};
use pfapi::ruleset::{
    Action, AddrMatch, Draft, Flush, Options, Overload, Pool, PoolPorts, Rate, Rule, SourceTrack,
    StateOptions, StatePolicy, TableDef,
};
use pfapi::timeout::Timeout;
use pfapi::units::Direction;
use pfengine::{Loader, Verdict};

fn rule(options: StateOptions) -> Rule {
    let mut rule = Rule::new(Action::Pass);
    rule.proto = Some(proto::TCP);
    rule.state_options = options.into();
    rule
}

fn tracking(options: StateOptions) -> StateOptions {
    StateOptions { source_track: Some(SourceTrack::Rule), ..options }
}

fn syn(rig: &mut Rig, client: u32, sport: u16) -> Verdict {
    let tcp = Tcp { sport, ..Tcp::default() };
    rig.send(Direction::In, &tcp.packet(V4.client(client))).verdict
}

/// The rest of the handshake of [`syn`]; gives the verdict on the client's ACK.
fn complete(rig: &mut Rig, client: u32, sport: u16) -> Verdict {
    let ends = V4.client(client);
    let answer = Tcp {
        sport: 80,
        dport: sport,
        seq: 5_000,
        ack: 1_001,
        flags: flags::SYN | flags::ACK,
        ..Tcp::default()
    };
    assert_eq!(rig.send(Direction::Out, &answer.packet(ends.turned())).verdict, Verdict::Pass);
    let ack = Tcp { sport, seq: 1_001, ack: 5_001, flags: flags::ACK, ..Tcp::default() };
    rig.send(Direction::In, &ack.packet(ends)).verdict
}

fn limit_counter(rig: &Rig, counter: LimitCounter) -> u64 {
    let counters = rig.engine.info(rig.now).limit_counters;
    counters.into_iter().find(|(which, _)| *which == counter).expect("every counter is listed").1
}

/// Lets `seconds` pass, with the purge at work.
fn wait(rig: &mut Rig, seconds: u64) {
    for _ in 0..seconds * 50 {
        rig.now = rig.now.plus_nanos(20_000_000);
        rig.worker.handle_timeout(rig.now);
    }
}

const STATE_LIMIT: Verdict = Verdict::Drop(Reason::StateLimit);
const SRC_LIMIT: Verdict = Verdict::Drop(Reason::SrcLimit);

#[test]
fn a_rule_makes_no_more_states_than_max() {
    let options = StateOptions { max: Some(2), ..StateOptions::default() };
    let mut rig = Rig::new(Options::default(), vec![rule(options)]);
    assert_eq!(syn(&mut rig, 1, 1_000), Verdict::Pass);
    assert_eq!(syn(&mut rig, 2, 1_000), Verdict::Pass);
    assert_eq!(syn(&mut rig, 3, 1_000), STATE_LIMIT);
    assert_eq!(limit_counter(&rig, LimitCounter::MaxStates), 1);
    // Room again when a state ends.
    assert_eq!(rig.engine.flush(&Clear::States { interface: None }, rig.now), 2);
    assert_eq!(syn(&mut rig, 3, 1_000), Verdict::Pass);
}

#[test]
fn threads_together_make_no_more_states_than_max() {
    const THREADS: u16 = 4;
    let options = StateOptions { max: Some(100), ..StateOptions::default() };
    let mut udp_rule = rule(options);
    udp_rule.proto = Some(proto::UDP);
    let rig = Rig::new(Options::default(), vec![udp_rule]);
    // Rounds, so that the threads meet at the limit more than once.
    for round in 0..20 {
        let passed: usize = std::thread::scope(|scope| {
            let thread = |thread: u16| {
                let (engine, now) = (&rig.engine, rig.now);
                scope.spawn(move || {
                    let (mut worker, mut batch) = (engine.worker(), pfengine::Batch::new());
                    for number in 0..64 {
                        let payload = udp(V4, thread * 1_000 + number + 1, 53, b"?");
                        let octets = ip(V4, proto::UDP, &payload);
                        batch.packets.push(common::packet(Direction::In, &octets));
                    }
                    worker.process(now, &mut batch);
                    let passes = |packet: &&pfengine::Packet| packet.meta.verdict == Verdict::Pass;
                    batch.packets.iter().filter(passes).count()
                })
            };
            let threads: Vec<_> = (0..THREADS).map(thread).collect();
            threads.into_iter().map(|thread| thread.join().expect("it ends")).sum()
        });
        assert_eq!((passed, rig.engine.info(rig.now).states), (100, 100), "round {round}");
        assert_eq!(rig.engine.flush(&Clear::States { interface: None }, rig.now), 100);
    }
}

#[test]
fn sources_are_limited_in_states_and_number() {
    let options =
        StateOptions { max_src_states: Some(2), max_src_nodes: Some(2), ..StateOptions::default() };
    let mut rig = Rig::new(Options::default(), vec![rule(tracking(options))]);
    assert_eq!(syn(&mut rig, 1, 1_000), Verdict::Pass);
    assert_eq!(syn(&mut rig, 1, 1_001), Verdict::Pass);
    assert_eq!(syn(&mut rig, 1, 1_002), SRC_LIMIT);
    assert_eq!(limit_counter(&rig, LimitCounter::MaxSrcStates), 1);
    assert_eq!(syn(&mut rig, 2, 1_000), Verdict::Pass);
    assert_eq!(syn(&mut rig, 3, 1_000), SRC_LIMIT);
    assert_eq!(limit_counter(&rig, LimitCounter::MaxSrcNodes), 1);
    let nodes = rig.engine.sources(rig.now);
    let counts: Vec<_> = nodes.iter().map(|node| (node.states, node.packets, node.rule)).collect();
    assert_eq!(counts, [(2, 2, Some(0)), (1, 1, Some(0))]);
    assert_eq!(rig.engine.info(rig.now).source_nodes, 2);
    // With its states gone, and no time to stay, a node goes at the next sweep.
    assert_eq!(rig.engine.flush(&Clear::States { interface: None }, rig.now), 3);
    wait(&mut rig, 1);
    assert_eq!(rig.engine.info(rig.now).source_nodes, 0);
    let table = rig.engine.info(rig.now).source_table;
    assert_eq!(table.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [5, 2, 2]);
    assert_eq!(syn(&mut rig, 3, 1_000), Verdict::Pass);
}

#[test]
fn source_nodes_stay_for_src_track_seconds() {
    let options = StateOptions {
        max_src_states: Some(9),
        timeouts: vec![(Timeout::SrcTrack, 30)],
        ..StateOptions::default()
    };
    let mut rig = Rig::new(Options::default(), vec![rule(tracking(options))]);
    assert_eq!(syn(&mut rig, 1, 1_000), Verdict::Pass);
    assert_eq!(rig.engine.sources(rig.now)[0].expires_s, None);
    assert_eq!(rig.engine.flush(&Clear::States { interface: None }, rig.now), 1);
    wait(&mut rig, 10);
    let left = rig.engine.sources(rig.now)[0].expires_s.unwrap();
    assert!((19..=21).contains(&left), "{left}");
    wait(&mut rig, 21);
    assert!(rig.engine.sources(rig.now).is_empty());
}

#[test]
fn global_tracking_shares_nodes_between_rules() {
    for (track, expected) in [(SourceTrack::Global, SRC_LIMIT), (SourceTrack::Rule, Verdict::Pass)]
    {
        let options = StateOptions {
            max_src_states: Some(1),
            source_track: Some(track),
            ..StateOptions::default()
        };
        let mut to_ssh = rule(options.clone());
        to_ssh.to.port = Some(pfapi::port::PortMatch::Equal(22));
        let mut rig = Rig::new(Options::default(), vec![rule(options), to_ssh]);
        assert_eq!(syn(&mut rig, 1, 1_000), Verdict::Pass);
        let ssh = Tcp { dport: 22, ..Tcp::default() };
        let verdict = rig.send(Direction::In, &ssh.packet(V4.client(1))).verdict;
        assert_eq!(verdict, expected, "{track:?}");
    }
}

#[test]
fn the_number_of_source_nodes_is_bounded() {
    let mut settings = Options::default();
    settings.limits.set(Limit::SrcNodes, 3);
    let options = StateOptions { max_src_states: Some(9), ..StateOptions::default() };
    let mut rig = Rig::new(settings, vec![rule(tracking(options))]);
    for client in 1..=3 {
        assert_eq!(syn(&mut rig, client, 1_000), Verdict::Pass);
    }
    assert_eq!(syn(&mut rig, 4, 1_000), SRC_LIMIT);
    // A limit below what is in use is refused.
    let mut settings = Options::default();
    settings.limits.set(Limit::SrcNodes, 2);
    let draft = Draft::<()> { options: settings, ..Draft::default() };
    let error = rig.engine.load(&check(draft).unwrap(), Loader::default(), rig.now).unwrap_err();
    assert_eq!(error.to_string(), "current pool size 3 exceeds requested src-nodes limit 2");
    // `pfctl -F Sources`: states stay, and count for nothing.
    assert_eq!(rig.engine.flush(&Clear::Sources, rig.now), 3);
    assert_eq!(rig.engine.info(rig.now).states, 3);
    assert_eq!(syn(&mut rig, 4, 1_000), Verdict::Pass);
    let net = "10.0.0.4/32".parse().unwrap();
    assert_eq!(rig.engine.kill_sources(&[net], &[]), 1);
}

#[test]
fn connections_count_when_the_handshake_is_complete() {
    let options = StateOptions { max_src_conn: Some(1), ..StateOptions::default() };
    let mut rig = Rig::new(Options::default(), vec![rule(tracking(options))]);
    // SYNs alone are no connections.
    for sport in 1_000..1_003 {
        assert_eq!(syn(&mut rig, 1, sport), Verdict::Pass);
    }
    assert_eq!(complete(&mut rig, 1, 1_000), Verdict::Pass);
    assert_eq!(rig.engine.sources(rig.now)[0].connections, 1);
    assert_eq!(complete(&mut rig, 1, 1_001), SRC_LIMIT);
    assert_eq!(limit_counter(&rig, LimitCounter::MaxSrcConn), 1);
    // The connection that was too much is gone, the others are there.
    let node = &rig.engine.sources(rig.now)[0];
    assert_eq!((node.states, node.connections), (2, 1));
    rig.engine.check_invariants().unwrap();
}

fn overload(flush: Flush) -> (Rig, Rule) {
    let options = StateOptions {
        max_src_conn_rate: Some(Rate { limit: 2, seconds: 10 }),
        overload: Some(Overload { table: "bad".to_owned(), flush }),
        ..StateOptions::default()
    };
    let limited = rule(tracking(options));
    let mut rig = Rig::new(Options::default(), vec![]);
    let other = Rule { proto: Some(proto::UDP), ..Rule::new(Action::Pass) };
    let table = TableDef { name: "bad".to_owned(), persist: true, ..TableDef::default() };
    let draft = Draft {
        tables: vec![((), table)],
        rules: vec![limited.clone(), other],
        ..Draft::default()
    };
    rig.engine
        .load(&check(draft).expect("a valid ruleset"), Loader::default(), rig.now)
        .expect("it loads");
    let ends = V4.client(1);
    let datagram = ip(ends, proto::UDP, &udp(ends, 9, 53, b"query"));
    assert_eq!(rig.send(Direction::In, &datagram).verdict, Verdict::Pass);
    for sport in 1_000..1_002 {
        assert_eq!(syn(&mut rig, 1, sport), Verdict::Pass);
        assert_eq!(complete(&mut rig, 1, sport), Verdict::Pass);
    }
    assert_eq!(syn(&mut rig, 2, 1_000), Verdict::Pass);
    assert_eq!(syn(&mut rig, 1, 1_002), Verdict::Pass);
    assert_eq!(complete(&mut rig, 1, 1_002), SRC_LIMIT);
    (rig, limited)
}

#[test]
fn offenders_go_into_the_overload_table_and_lose_their_states() {
    // Without flush only the connection that was too much ends; the datagram, two connections
    // and the other client stay.
    for (flush, left) in [(Flush::No, 4), (Flush::Rule, 2), (Flush::Global, 1)] {
        let (mut rig, _) = overload(flush);
        assert_eq!(limit_counter(&rig, LimitCounter::MaxSrcConnRate), 1);
        assert_eq!(limit_counter(&rig, LimitCounter::OverloadTable), 1);
        assert_eq!(limit_counter(&rig, LimitCounter::OverloadFlush), u64::from(flush != Flush::No));
        let entries = rig.engine.table_entries(("", "bad")).unwrap();
        assert_eq!(entries.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1"]);
        wait(&mut rig, 1);
        assert_eq!(rig.engine.info(rig.now).states, left, "{flush:?}");
        rig.engine.check_invariants().unwrap();
    }
}

#[test]
fn every_offender_is_flushed_however_many_there_are() {
    let (mut rig, _) = overload(Flush::Global);
    let clients = 10..1_310;
    for client in clients.clone() {
        let ends = V4.client(client);
        rig.send(Direction::In, &ip(ends, proto::UDP, &udp(ends, 9, 53, b"query")));
        for sport in 1_000..1_002 {
            syn(&mut rig, client, sport);
            assert_eq!(complete(&mut rig, client, sport), Verdict::Pass);
        }
        syn(&mut rig, client, 1_002);
        assert_eq!(complete(&mut rig, client, 1_002), SRC_LIMIT);
    }
    assert_eq!(limit_counter(&rig, LimitCounter::OverloadFlush), 1_301);
    assert!(rig.engine.info(rig.now).states > 3_000);
    wait(&mut rig, 1);
    // The client that did nothing wrong has its state.
    assert_eq!(rig.engine.info(rig.now).states, 1);
    rig.engine.check_invariants().unwrap();
}

#[test]
fn timeouts_of_a_rule_hold_for_its_states() {
    let options =
        StateOptions { timeouts: vec![(Timeout::TcpFirst, 5)], ..StateOptions::default() };
    let mut settings = Options::default();
    settings.timeouts.set(Timeout::Interval, 1);
    let mut rig = Rig::new(settings, vec![rule(options)]);
    assert_eq!(syn(&mut rig, 1, 1_000), Verdict::Pass);
    wait(&mut rig, 4);
    assert_eq!(rig.engine.info(rig.now).states, 1);
    wait(&mut rig, 3);
    assert_eq!(rig.engine.info(rig.now).states, 0);
}

#[test]
fn sloppy_states_take_any_sequence_number() {
    for (sloppy, expected) in [(true, Verdict::Pass), (false, Verdict::Drop(Reason::StateMismatch))]
    {
        let options = StateOptions { sloppy, ..StateOptions::default() };
        let mut rig = Rig::new(Options::default(), vec![rule(options)]);
        assert_eq!(syn(&mut rig, 1, 1_000), Verdict::Pass);
        assert_eq!(complete(&mut rig, 1, 1_000), Verdict::Pass);
        let far = Tcp {
            sport: 1_000,
            seq: 900_000_000,
            ack: 77,
            flags: flags::ACK,
            payload: b"x".to_vec(),
            ..Tcp::default()
        };
        let verdict = rig.send(Direction::In, &far.packet(V4.client(1))).verdict;
        assert_eq!(verdict, expected);
    }
    // Half of a connection is enough, and both directions of ICMP begin one.
    let options = StateOptions { sloppy: true, ..StateOptions::default() };
    let mut any = Rule::new(Action::Pass);
    any.state_options = options.into();
    let mut rig = Rig::new(Options::default(), vec![any]);
    assert_eq!(syn(&mut rig, 1, 1_000), Verdict::Pass);
    let ack = Tcp { sport: 1_000, seq: 1_001, ack: 9, flags: flags::ACK, ..Tcp::default() };
    assert_eq!(rig.send(Direction::In, &ack.packet(V4.client(1))).verdict, Verdict::Pass);
    let state = &rig.engine.states(&mut 0, 10, rig.now)[0];
    assert_eq!((state.src.level, state.dst.level), (4, 4));
    let reply = ip(V4, proto::ICMP, &icmp(V4, 0, 0, [0, 1, 0, 1], b"data"));
    assert_eq!(rig.send(Direction::In, &reply).verdict, Verdict::Pass);
}

fn numbers(octets: &[u8]) -> (u32, u32) {
    let at = |at: usize| u32::from_be_bytes(octets[at..at + 4].try_into().expect("four octets"));
    (at(24), at(28))
}

/// Checks IPv4 and TCP checksums.
fn is_intact(octets: &[u8]) -> bool {
    let ends = |at: usize| {
        std::net::Ipv4Addr::from_bits(u32::from_be_bytes(
            octets[at..at + 4].try_into().expect("four octets"),
        ))
    };
    let ends = Ends { src: ends(12).into(), dst: ends(16).into() };
    common::checksum(&octets[..20]) == 0
        && common::transport_checksum(ends, proto::TCP, &octets[20..]) == 0
}

#[test]
fn modulated_connections_show_numbers_of_the_filter() {
    let modulate =
        Rule { state: StatePolicy::Modulate, proto: Some(proto::TCP), ..Rule::new(Action::Pass) };
    let mut rig = Rig::new(Options::default(), vec![modulate]);
    let (client, server) = (V4, V4.turned());
    let sent = rig.send(Direction::In, &Tcp { sport: 1_000, ..Tcp::default() }.packet(client));
    assert_eq!(sent.verdict, Verdict::Pass);
    let (shown, _) = numbers(&sent.octets);
    assert_ne!(shown, 1_000);
    assert!(is_intact(&sent.octets));
    // The server answers what it sees; the client must see its own number acknowledged.
    let answer = Tcp {
        sport: 80,
        dport: 1_000,
        seq: 5_000,
        ack: shown.wrapping_add(1),
        flags: flags::SYN | flags::ACK,
        ..Tcp::default()
    };
    let answer = rig.send(Direction::Out, &answer.packet(server));
    let (server_shown, acked) = numbers(&answer.octets);
    assert_eq!((answer.verdict, acked), (Verdict::Pass, 1_001));
    assert_ne!(server_shown, 5_000);
    assert!(is_intact(&answer.octets));
    let data = Tcp {
        sport: 1_000,
        seq: 1_001,
        ack: server_shown.wrapping_add(1),
        flags: flags::ACK,
        payload: b"hello".to_vec(),
        ..Tcp::default()
    };
    let data = rig.send(Direction::In, &data.packet(client));
    assert_eq!(data.verdict, Verdict::Pass);
    assert_eq!(numbers(&data.octets), (shown.wrapping_add(1), 5_001));
    assert!(is_intact(&data.octets));
    let state = &rig.engine.states(&mut 0, 10, rig.now)[0];
    assert_eq!(state.src.seqdiff, shown.wrapping_sub(1_000));
    assert_eq!(state.dst.seqdiff, server_shown.wrapping_sub(5_000));
    assert_eq!((state.src.level, state.dst.level), (4, 4));
}

#[test]
fn the_proxy_shakes_hands_with_the_client_before_the_server_hears_of_it() {
    let synproxy = Rule {
        state: StatePolicy::Synproxy,
        af: Some(Af::Inet),
        proto: Some(proto::TCP),
        ..Rule::new(Action::Pass)
    };
    let mut rig = Rig::new(Options::default(), vec![synproxy]);
    let options = vec![2, 4, 5, 0xb4];
    let first = Tcp { sport: 1_000, options, ..Tcp::default() };
    let offer = rig.send(Direction::In, &first.packet(V4));
    assert_eq!(offer.verdict, Verdict::Answer);
    let (isn, acked) = numbers(&offer.octets);
    assert_eq!((acked, offer.octets[33]), (1_001, flags::SYN | flags::ACK));
    assert_eq!(&offer.octets[34..36], 5_840_u16.to_be_bytes(), "room for the first data");
    assert_eq!(&offer.octets[40..44], [2, 4, 5, 0xb4], "MSS 1460 and no other option");
    assert!(is_intact(&offer.octets));
    let level = |rig: &Rig| rig.engine.states(&mut 0, 10, rig.now)[0].src.level;
    assert_eq!((level(&rig), rig.engine.info(rig.now).half_open), (11, 1));
    // The SYN again: the same answer. Anything else is dropped.
    let again = rig.send(Direction::In, &first.packet(V4));
    assert_eq!((again.verdict, numbers(&again.octets).0), (Verdict::Answer, isn));
    let wrong = Tcp { sport: 1_000, seq: 1_001, ack: isn, flags: flags::ACK, ..Tcp::default() };
    let dropped = Verdict::Drop(Reason::Synproxy);
    assert_eq!(rig.send(Direction::In, &wrong.packet(V4)).verdict, dropped);
    // The right ACK opens the connection to the server.
    let ack = Tcp { ack: isn.wrapping_add(1), ..wrong };
    let connect = rig.send(Direction::In, &ack.packet(V4));
    assert_eq!((connect.verdict, connect.octets[33]), (Verdict::Pass, flags::SYN));
    assert_eq!((numbers(&connect.octets).0, level(&rig)), (1_000, 12));
    assert_eq!(rig.engine.info(rig.now).half_open, 0);
    let answer = Tcp {
        sport: 80,
        dport: 1_000,
        seq: 7_000,
        ack: 1_001,
        flags: flags::SYN | flags::ACK,
        ..Tcp::default()
    };
    let joined = rig.send(Direction::Out, &answer.packet(V4.turned()));
    assert_eq!((joined.verdict, joined.octets[33]), (Verdict::Answer, flags::ACK));
    assert_eq!(level(&rig), 4);
    // The server waits for the client's word; from then on the numbers are translated.
    let word = Tcp { sport: 1_000, seq: 1_001, ..ack };
    assert_eq!(rig.send(Direction::In, &word.packet(V4)).verdict, Verdict::Pass);
    let data = Tcp {
        sport: 1_000,
        seq: 1_001,
        ack: isn.wrapping_add(1),
        flags: flags::ACK,
        payload: b"hello".to_vec(),
        ..Tcp::default()
    };
    let data = rig.send(Direction::In, &data.packet(V4));
    assert_eq!(data.verdict, Verdict::Pass);
    assert_eq!(numbers(&data.octets), (1_001, 7_001));
    assert!(is_intact(&data.octets));
    rig.engine.check_invariants().unwrap();
}

#[test]
fn the_proxy_counts_connections_at_the_clients_ack() {
    let mut synproxy =
        rule(tracking(StateOptions { max_src_conn: Some(1), ..StateOptions::default() }));
    synproxy.state = StatePolicy::Synproxy;
    let mut rig = Rig::new(Options::default(), vec![synproxy]);
    let mut verdicts = Vec::new();
    for sport in [1_000, 1_001] {
        let tcp = Tcp { sport, ..Tcp::default() };
        let (isn, _) = numbers(&rig.send(Direction::In, &tcp.packet(V4)).octets);
        let ack = Tcp { seq: 1_001, ack: isn.wrapping_add(1), flags: flags::ACK, ..tcp };
        verdicts.push(rig.send(Direction::In, &ack.packet(V4)).verdict);
    }
    assert_eq!(verdicts, [Verdict::Pass, SRC_LIMIT]);
    assert_eq!(rig.engine.info(rig.now).states, 1);
}

/// Every translated state has two entries in the index, which must all find room.
#[test]
fn translated_states_fit_up_to_the_limit() {
    // So many that their entries fill seven eighths of the index.
    let limit = 3_132;
    let mut nat = Rule::new(Action::Pass);
    (nat.direction, nat.af) = (Some(Direction::Out), Some(Af::Inet));
    let mut pool = Pool::new(AddrMatch::Net("203.0.113.1".parse().expect("an address")));
    pool.ports = Some(PoolPorts::Range(1_024, 65_535));
    nat.nat = Some(pool.into());
    let mut options = Options::default();
    options.limits.set(Limit::States, limit);
    let mut rig = Rig::new(options, vec![nat]);
    let mut send = |client: u32| {
        let ends = V4.client(client);
        rig.send(Direction::Out, &ip(ends, proto::UDP, &udp(ends, 5_000, 53, b"query"))).verdict
    };
    for client in 0..limit {
        assert_eq!(send(client), Verdict::Pass, "state {client} of {limit}");
    }
    assert_eq!(send(limit), Verdict::Drop(Reason::Memory));
    // All are found again.
    for client in 0..limit {
        assert_eq!(send(client), Verdict::Pass, "state {client}");
    }
    let info = rig.engine.info(rig.now);
    assert_eq!(info.states, u64::from(limit));
}
