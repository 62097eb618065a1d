use super::*;
use crate::packet_desc::Transport;
use crate::wire::build::TcpSegment;
use crate::wire::build::flags::{ACK, PSH};
use crate::wire::checksum::{Sum, packet_is_intact};
use crate::wire::tcp_options::SynOptions;

const START: Uptime = Uptime::from_secs(1_000);

/// A connection with the record of one filter.
struct Rig {
    record: Timestamps,
    rng: Rng,
    now: Uptime,
    connection: Connection,
}

/// What a test sends.
#[derive(Clone, Copy)]
struct Sent {
    forward: bool,
    flags: u8,
    stamp: Option<(u32, u32)>,
    payload: usize,
    ttl: u8,
}

const DATA: Sent = Sent { forward: true, flags: ACK | PSH, stamp: None, payload: 10, ttl: 64 };

fn packet(sent: Sent) -> Packet {
    let mut octets = [0; 200];
    let segment = TcpSegment {
        src: "192.0.2.1".parse().unwrap(),
        dst: "192.0.2.2".parse().unwrap(),
        sport: 1,
        dport: 2,
        seq: 3,
        ack: 4,
        flags: sent.flags,
        window: 5,
        options: SynOptions::default(),
        ttl: sent.ttl,
        tos: 0,
        dont_fragment: true,
        id: 0,
    };
    let mut len = segment.write(&mut octets);
    if let Some((tsval, tsecr)) = sent.stamp {
        // Behind one no-operation, so that the numbers lie across words.
        octets[len] = 1;
        octets[len + 1..len + 3].copy_from_slice(&[8, 10]);
        octets[len + 3..len + 7].copy_from_slice(&tsval.to_be_bytes());
        octets[len + 7..len + 11].copy_from_slice(&tsecr.to_be_bytes());
        len += 12;
        octets[32] = 8 << 4;
    }
    len += sent.payload;
    octets[3] = u8::try_from(len).unwrap();
    let mut packet = Packet::new(0, 200);
    for (at, range) in [(10, 0..20), (36, 20..len)] {
        octets[at..at + 2].fill(0);
        let pseudo = if at == 36 {
            let len = u32::try_from(len - 20).unwrap();
            Sum::pseudo(segment.src, segment.dst, 6, len)
        } else {
            Sum::ZERO
        };
        let sum = pseudo.plus(Sum::of(&octets[range])).checksum();
        octets[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    packet.fill(&octets[..len]);
    packet
}

impl Rig {
    fn new() -> Self {
        Self {
            record: Timestamps::default(),
            rng: Rng::new([9; 32]),
            now: START,
            connection: Connection {
                forward: true,
                established: false,
                created: START,
                tsdiff_s: 30,
            },
        }
    }

    /// Sends a packet; gives it as it leaves.
    fn send(&mut self, sent: Sent) -> Result<Packet, Reason> {
        let mut packet = packet(sent);
        let desc = PacketDesc::parse(packet.data()).unwrap();
        let Transport::Tcp(tcp) = desc.transport else { panic!("a TCP packet") };
        let end = if sent.forward { &mut self.record.src } else { &mut self.record.dst };
        if end.is_none() {
            *end = Some(End::new(&packet, &desc, &tcp, self.now, &mut self.rng));
        }
        let connection = Connection { forward: sent.forward, ..self.connection };
        self.record.normalize(&mut packet, &desc, &tcp, &connection, self.now)?;
        assert!(packet_is_intact(packet.data()));
        Ok(packet)
    }

    /// Timestamps as the other end sees them.
    fn stamp(&mut self, sent: Sent) -> Option<(u32, u32)> {
        let packet = self.send(sent).unwrap();
        find(&packet.data()[20..20 + usize::from(packet.data()[32] >> 4) * 4])
            .0
            .map(|stamp| (stamp.tsval.0, stamp.tsecr.0))
    }

    /// Both SYNs and the third packet, with clocks at 1000 and 5000; gives the shifts.
    fn handshake(&mut self) -> (u32, u32) {
        let syn = Sent { flags: SYN, stamp: Some((1_000, 0)), payload: 0, ..DATA };
        let (client, zero) = self.stamp(syn).unwrap();
        assert_eq!(zero, 0, "no echo is not shifted");
        let both = Sent {
            forward: false,
            flags: SYN | ACK,
            stamp: Some((5_000, client)),
            payload: 0,
            ..DATA
        };
        let (server, echo) = self.stamp(both).unwrap();
        assert_eq!(echo, 1_000, "the client sees its own number");
        let third = Sent { flags: ACK, stamp: Some((1_001, server)), payload: 0, ..DATA };
        assert_eq!(self.stamp(third).unwrap(), (client.wrapping_add(1), 5_000));
        self.connection.established = true;
        (client.wrapping_sub(1_000), server.wrapping_sub(5_000))
    }
}

#[test]
fn timestamps_are_shifted_and_echoes_shifted_back() {
    let (client, server) = Rig::new().handshake();
    assert_ne!(client, 0);
    assert_ne!(server, 0);
    assert_ne!(client, server);
}

#[test]
fn time_to_live_never_falls() {
    let mut rig = Rig::new();
    rig.handshake();
    for (ttl, seen) in [(64, 64), (1, 64), (70, 70), (64, 70)] {
        let stamp = Some((1_002, 0));
        let packet = rig.send(Sent { stamp, ttl, ..DATA }).unwrap();
        assert_eq!(packet.data()[8], seen);
    }
    // The other end has its own.
    let packet = rig.send(Sent { forward: false, flags: RST, ttl: 64, payload: 0, ..DATA });
    assert_eq!(packet.unwrap().data()[8], 64);
}

#[test]
fn timestamps_outside_the_connection_are_dropped() {
    let bad = Some(Reason::BadTimestamp);
    // 30 s of tolerance at 1100 ticks a second.
    let ahead = 30 * 1_100;
    for (tsval, echo, expected) in [
        (1_002, 5_000, None),
        (1_002, 0, None),
        (1_001 + ahead, 5_000, None),
        (1_002 + ahead, 5_000, bad),
        // The server has echoed 1000.
        (1_000, 5_000, None),
        (999, 5_000, bad),
        // The server has sent 5000 and nothing else.
        (1_002, 5_001, bad),
        (1_002, 4_999, bad),
    ] {
        let mut rig = Rig::new();
        let (_, server) = rig.handshake();
        let echo = if echo == 0 { 0 } else { server.wrapping_add(echo) };
        let sent = Sent { stamp: Some((tsval, echo)), ..DATA };
        assert_eq!(rig.send(sent).err(), expected, "{tsval} {echo}");
        // Half a second allows 500,000 / 909 = 550 ticks more.
        rig.now = START.plus_nanos(500_000_000);
    }
}

#[test]
fn tolerance_grows_with_the_silence() {
    for (tsval, expected) in [(1_001 + 33_550, None), (1_001 + 33_551, Some(Reason::BadTimestamp))]
    {
        let mut rig = Rig::new();
        rig.handshake();
        rig.now = START.plus_nanos(500_000_000);
        assert_eq!(rig.send(Sent { stamp: Some((tsval, 0)), ..DATA }).err(), expected);
    }
}

#[test]
fn check_begins_when_both_ends_are_established() {
    let mut rig = Rig::new();
    rig.handshake();
    rig.connection.established = false;
    assert!(rig.send(Sent { stamp: Some((1, 1)), ..DATA }).is_ok());
}

#[test]
fn two_timestamps_are_one_too_many() {
    let mut rig = Rig::new();
    rig.handshake();
    let mut twice = packet(Sent { stamp: Some((1_002, 0)), payload: 12, ..DATA });
    // The payload becomes a second option.
    let data = twice.data_mut();
    data[32] = 11 << 4;
    data[52..55].copy_from_slice(&[1, 8, 10]);
    let desc = PacketDesc::parse(twice.data()).unwrap();
    let Transport::Tcp(tcp) = desc.transport else { panic!("a TCP packet") };
    let outcome = rig.record.normalize(&mut twice, &desc, &tcp, &rig.connection, rig.now);
    assert_eq!(outcome, Err(Reason::BadTimestamp));
}

#[test]
fn data_needs_the_timestamp_that_earlier_data_had() {
    let mut rig = Rig::new();
    rig.handshake();
    assert!(rig.send(Sent { stamp: Some((1_002, 0)), ..DATA }).is_ok());
    assert_eq!(rig.send(DATA).err(), Some(Reason::BadTimestamp));
    assert!(rig.send(Sent { payload: 0, flags: ACK, ..DATA }).is_ok(), "no data");
    assert!(rig.send(Sent { flags: RST | ACK, ..DATA }).is_ok(), "a reset");
    // Whose first data came without one need none, whatever comes later.
    let mut rig = Rig::new();
    rig.handshake();
    assert!(rig.send(DATA).is_ok());
    assert!(rig.send(Sent { stamp: Some((1_002, 0)), ..DATA }).is_ok());
    assert!(rig.send(DATA).is_ok());
}

#[test]
fn checks_end_when_the_clock_may_be_round() {
    // The own record: a connection of more than 12 days.
    let mut rig = Rig::new();
    rig.handshake();
    rig.now = START.plus_secs(AGE_MAX_S + 1);
    assert!(rig.send(Sent { stamp: Some((900, 0)), ..DATA }).is_ok());
    // The other's record: silence of more than 24 days, in a young connection.
    let mut rig = Rig::new();
    rig.handshake();
    rig.now = START.plus_secs(IDLE_MAX_S + 1);
    rig.connection.created = rig.now;
    assert!(rig.send(Sent { stamp: Some((900, 0)), ..DATA }).is_ok());
    // For good.
    rig.now = rig.now.plus_secs(1);
    assert!(rig.send(Sent { stamp: Some((900, 0)), ..DATA }).is_ok());
}

#[test]
fn connection_without_its_syns_is_left_alone() {
    let mut rig = Rig::new();
    rig.connection.established = true;
    let sent = Sent { stamp: Some((77, 88)), ..DATA };
    assert_eq!(rig.stamp(sent), Some((77, 88)));
    assert_eq!(rig.stamp(Sent { forward: false, ..sent }), Some((77, 88)));
    assert!(rig.send(DATA).is_ok());
}
