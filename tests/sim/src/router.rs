//! The router: the filter on the way in, a look at the destination, the filter on the way out.

use core::net::IpAddr;
use std::sync::Arc;

use pfapi::facts::{Facts, InterfaceAddress, InterfaceFacts};
use pfapi::reason::{Reason, TableCounter};
use pfapi::units::{Direction, IfIndex, Uptime};
use pfengine::wire::checksum::packet_is_intact;
use pfengine::{
    Batch, Engine, EngineConfig, Event, Loader, Offload, Output, Packet, Verdict, Worker,
};

use crate::forgery::is_forged;
use crate::log::Log;
use crate::model::{Model, Translation};
use crate::rng::Rng;
use crate::rules::Policy;
use crate::segment::{Segment, cut, destination};

/// Interface towards the clients.
pub const CLIENTS: IfIndex = IfIndex(0);
/// Interface towards the servers.
pub const SERVERS: IfIndex = IfIndex(1);
/// Interface towards everybody else.
pub const OUTSIDE: IfIndex = IfIndex(2);
/// Name of [`SERVERS`] in rules.
pub const SERVER_SIDE: &str = "tun1";
/// Name of [`CLIENTS`] in rules.
pub const CLIENT_SIDE: &str = "tun0";

/// The router and what watches it.
#[derive(Debug)]
pub struct Router {
    /// The filter.
    pub engine: Arc<Engine>,
    /// The thread of the filter.
    pub worker: Worker,
    /// What it may let through.
    pub model: Model,
    /// What the filter wanted the operator to know, and when.
    pub events: Vec<(Uptime, Event)>,
    /// Packets that the filter's own answers were.
    pub answers: u64,
    /// Packets that went through.
    pub forwarded: u64,
    /// Packets that were dropped, by reason in print order.
    drops: [u64; Reason::ALL.len()],
    /// Packets out of the window that nobody forged.
    pub mismatches: u64,
    /// Most states that the rules in force allow.
    limit: u32,
    /// Packets of this round as they arrived; a packet's mark is its place, from 1.
    origins: Vec<Option<Segment>>,
    batch: Batch,
    pool: Vec<Packet>,
}

/// Port of the router's own addresses that `rdr-to` sends to the first server.
pub const REDIRECTED_PORT: u16 = 8_080;
/// Port there.
pub const TARGET_PORT: u16 = 80;

/// What rules may translate: sources to the router's address on the side of the servers, a port
/// of its address on the side of the clients to the first server. IPv4 and IPv6.
///
/// # Panics
/// Never: the addresses are constants.
#[must_use]
pub fn translation() -> Translation {
    let addr = |text: &str| text.parse().expect("an address");
    Translation {
        outer: [addr("192.0.2.254"), addr("2001:db8:2::ffff")],
        redirected: [
            (addr("10.255.255.254"), REDIRECTED_PORT),
            (addr("fd00:1::ffff"), REDIRECTED_PORT),
        ],
        targets: [(addr("192.0.2.1"), TARGET_PORT), (addr("2001:db8:2::1"), TARGET_PORT)],
    }
}

/// Packets that leave the router.
pub type Departures = Vec<(IfIndex, Vec<u8>)>;

fn interface(name: &str, addresses: &[&str], prefix_len: [u8; 2]) -> InterfaceFacts {
    let addresses = addresses
        .iter()
        .zip(prefix_len)
        .map(|(addr, prefix_len)| {
            InterfaceAddress::new(addr.parse().expect("an address"), prefix_len)
        })
        .collect();
    let groups = vec!["tun".to_owned()];
    InterfaceFacts { groups, addresses, ..InterfaceFacts::new(name) }
}

/// The interface behind which an address lies.
fn route(dst: IpAddr) -> IfIndex {
    match dst {
        IpAddr::V4(v4) if v4.octets()[0] == 10 => CLIENTS,
        IpAddr::V4(v4) if v4.octets()[..3] == [192, 0, 2] => SERVERS,
        IpAddr::V6(v6) if v6.segments()[0] == 0xfd00 => CLIENTS,
        IpAddr::V6(v6) if v6.segments()[..3] == [0x2001, 0xdb8, 2] => SERVERS,
        _ => OUTSIDE,
    }
}

/// Takes one hop off the packet's life; false when it ends here.
fn take_hop(packet: &mut [u8]) -> bool {
    if packet[0] >> 4 == 6 {
        packet[7] = packet[7].saturating_sub(1);
        return packet[7] > 0;
    }
    packet[8] = packet[8].saturating_sub(1);
    let sum = u32::from(u16::from_be_bytes([packet[10], packet[11]])) + 0x100;
    let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(0);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet[8] > 0
}

/// Puts a packet on its way to the next hop. Panics when its checksums are wrong.
fn depart(packet: &[u8], departures: &mut Departures) {
    assert!(packet_is_intact(packet), "a packet leaves with a wrong checksum");
    if let Some(dst) = destination(packet) {
        departures.push((route(dst), packet.to_vec()));
    }
}

impl Router {
    /// A router with a policy in force.
    ///
    /// # Panics
    /// When the policy cannot be loaded.
    #[must_use]
    pub fn new(policy: &Policy, rng: &mut Rng, now: Uptime) -> Self {
        let mut seed = [0; 32];
        for part in seed.chunks_mut(8) {
            part.copy_from_slice(&rng.next().to_le_bytes());
        }
        let facts = Facts {
            interfaces: vec![
                interface(CLIENT_SIDE, &["10.255.255.254", "fd00:1::ffff"], [8, 64]),
                interface(SERVER_SIDE, &["192.0.2.254", "2001:db8:2::ffff"], [24, 64]),
                interface("tun2", &["198.51.100.254", "2001:db8:3::ffff"], [24, 64]),
            ],
        };
        let engine = Engine::new(EngineConfig { facts, seed, hostid: 1 }, now);
        assert!(engine.set_enabled(true, now));
        let mut router = Self {
            worker: engine.worker(),
            engine,
            model: Model::new(translation()),
            events: Vec::new(),
            answers: 0,
            forwarded: 0,
            drops: [0; Reason::ALL.len()],
            mismatches: 0,
            limit: policy.states,
            origins: Vec::new(),
            batch: Batch::new(),
            pool: Vec::new(),
        };
        router.load(policy, rng, now).expect("the policy can be loaded");
        router
    }

    /// Puts a policy in force.
    ///
    /// # Errors
    /// Those of the engine; nothing changes then.
    pub fn load(
        &mut self,
        policy: &Policy,
        rng: &mut Rng,
        now: Uptime,
    ) -> Result<(), pfengine::LoadError> {
        self.engine.load(&policy.ruleset(rng), Loader::default(), now)?;
        self.model.load(&policy.open, policy.redirect);
        self.limit = policy.states;
        Ok(())
    }

    /// Does what the filter has to do now.
    pub fn handle_timeout(&mut self, now: Uptime, log: &mut Log) -> Departures {
        self.worker.handle_timeout(now);
        let mut departures = Departures::new();
        let own = self.outputs(now, log, &mut departures);
        self.send_out(now, log, own, &mut departures);
        departures
    }

    /// Takes packets that arrive at one moment.
    ///
    /// # Panics
    /// When something leaves that must not.
    pub fn forward(
        &mut self,
        now: Uptime,
        log: &mut Log,
        arrivals: impl IntoIterator<Item = (IfIndex, Vec<u8>)>,
    ) -> Departures {
        let mut departures = Departures::new();
        self.origins.clear();
        for (interface, octets) in arrivals {
            log.packet(now, "in", &octets);
            let segment = Segment::parse(&octets);
            if let Some(segment) = &segment {
                self.model.arrives(now, segment);
            }
            self.origins.push(segment);
            let mut packet = self.buffer();
            packet.meta.mark = u32::try_from(self.origins.len()).expect("few packets");
            packet.fill(&octets);
            packet.meta.interface = interface;
            packet.meta.direction = Direction::In;
            self.batch.packets.push(packet);
        }
        self.worker.process(now, &mut self.batch);
        let decided: Vec<_> = self.batch.packets.drain(..).collect();
        let mut outbound = self.outputs(now, log, &mut departures);
        let mut through = Vec::new();
        for mut packet in decided {
            match packet.meta.verdict {
                Verdict::Pass => {
                    if take_hop(packet.data_mut()) {
                        through.push(packet);
                    } else {
                        self.pool.push(packet);
                    }
                }
                verdict => self.settle(now, log, packet, verdict, &mut departures),
            }
        }
        // What the filter made while it looked at the batch follows what was in the batch.
        through.append(&mut outbound);
        self.send_out(now, log, through, &mut departures);
        departures
    }

    fn send_out(
        &mut self,
        now: Uptime,
        log: &mut Log,
        packets: Vec<Packet>,
        departures: &mut Departures,
    ) {
        let mut packets = packets;
        // Each round may make packets of the filter's own that must be filtered too.
        for _ in 0..4 {
            if packets.is_empty() {
                return;
            }
            for mut packet in packets.drain(..) {
                let Some(dst) = destination(packet.data()) else { continue };
                packet.meta.interface = route(dst);
                packet.meta.direction = Direction::Out;
                self.batch.packets.push(packet);
            }
            self.worker.process(now, &mut self.batch);
            let decided: Vec<_> = self.batch.packets.drain(..).collect();
            for packet in decided {
                let verdict = packet.meta.verdict;
                self.settle(now, log, packet, verdict, departures);
            }
            packets = self.outputs(now, log, departures);
        }
        panic!("the filter makes packets of its own packets without end");
    }

    /// Carries out a verdict that ends the packet's way.
    fn settle(
        &mut self,
        now: Uptime,
        log: &mut Log,
        packet: Packet,
        verdict: Verdict,
        departures: &mut Departures,
    ) {
        match verdict {
            Verdict::Pass => {
                let segment = Segment::parse(packet.data());
                let origin = (packet.meta.mark as usize).checked_sub(1);
                let origin = origin.and_then(|at| self.origins[at]);
                log.packet(now, "out", packet.data());
                let segment = segment.expect("no rule lets through what is not TCP");
                if let Err(why) = self.model.leaves(origin.as_ref(), &segment) {
                    panic!("a packet leaves that must not: {why}: {segment:?}");
                }
                self.forwarded += 1;
                for cut in cut(packet.data(), packet.meta.offload) {
                    depart(&cut, departures);
                }
            }
            Verdict::Answer => {
                log.packet(now, "answer", packet.data());
                if let Some(answer) = Segment::parse(packet.data()) {
                    self.model.answers(now, &answer);
                }
                self.answers += 1;
                depart(packet.data(), departures);
            }
            Verdict::Drop(reason) => {
                self.drops[reason as usize] += 1;
                let honest = !is_forged(packet.data());
                self.mismatches += u64::from(honest && reason == Reason::StateMismatch);
                log.note(now, format!("dropped: {}", reason.name()));
            }
            Verdict::Held => log.note(now, "held"),
        }
        self.pool.push(packet);
    }

    /// Drains what the filter wants done; gives the packets that must be filtered outbound.
    fn outputs(&mut self, now: Uptime, log: &mut Log, departures: &mut Departures) -> Vec<Packet> {
        let mut filtered = Vec::new();
        while let Some(output) = self.worker.poll_output() {
            match output {
                Output::Send { packet, filtered: true, marks, .. } => {
                    let mut buffer = self.buffer();
                    buffer.fill(packet.data());
                    buffer.meta.offload = packet.offload();
                    buffer.meta.start();
                    buffer.meta.put_marks(marks);
                    filtered.push(buffer);
                }
                Output::Send { packet, filtered: false, .. } => {
                    log.packet(now, "own", packet.data());
                    for cut in cut(packet.data(), packet.offload()) {
                        depart(&cut, departures);
                    }
                }
                Output::Event(event) => {
                    log.note(now, event.to_string());
                    self.events.push((now, event));
                }
            }
        }
        filtered
    }

    /// Compares the counters of the filter with what became of packets.
    ///
    /// # Panics
    /// When they differ.
    pub fn check_counters(&self, now: Uptime) {
        let info = self.engine.info(now);
        for (reason, counted) in info.reasons {
            // `match` counts what passes, too; the proxy counts what it answers.
            if matches!(reason, Reason::Match | Reason::Synproxy) {
                continue;
            }
            let dropped = self.drops[reason as usize];
            let answered = if reason == Reason::StateMismatch { self.answers } else { 0 };
            let name = reason.name();
            assert!(
                (dropped..=dropped + answered).contains(&counted),
                "{dropped} packets were dropped for {name}, {counted} were counted"
            );
        }
        let of = |wanted| {
            let found = info.state_table.iter().find(|(name, _)| *name == wanted);
            found.map_or(0, |(_, count)| *count)
        };
        let (began, ended) = (of(TableCounter::Inserts), of(TableCounter::Removals));
        assert_eq!(began, ended + info.states, "states that began, and ended or are there");
        assert!(info.states <= u64::from(self.limit), "{} states above the limit", info.states);
    }

    fn buffer(&mut self) -> Packet {
        let mut packet = self.pool.pop().unwrap_or_else(|| Packet::new(128, 2_048));
        packet.set_span(128, 0);
        packet.meta.link = None;
        packet.meta.mark = 0;
        packet.meta.offload = Offload::default();
        packet
    }
}
