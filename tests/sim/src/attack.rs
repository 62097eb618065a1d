//! Attackers: packets with forged sources at a steady rate.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pfapi::units::{IfIndex, Uptime};

use crate::rng::Rng;
use crate::router::{CLIENTS, OUTSIDE, SERVERS};
use crate::segment::{End, Segment, flags};

/// What the packets of an attack are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SYNs from addresses that do not exist.
    Syn,
    /// ACKs from addresses that do not exist, as answers to cookies that nobody sent.
    Ack,
    /// Anything, from addresses that do not exist and into connections that do.
    Noise,
}

/// An attack.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// What is sent.
    pub kind: Kind,
    /// Server that is attacked.
    pub target: End,
    /// When the next packets come.
    pub next: Uptime,
    /// When it ends.
    pub until: Uptime,
    /// Packets at once.
    pub burst: u64,
    /// Nanoseconds between bursts.
    pub every: u64,
}

fn stranger(rng: &mut Rng, like: IpAddr) -> End {
    let port = rng.next_u16() | 1024;
    let addr = match like {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::from_bits(0xc633_0000 | u32::from(rng.next_u16()))),
        IpAddr::V6(_) => {
            let host = u128::from(rng.next());
            IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8_0003_0000 << 64 | host))
        }
    };
    (addr, port)
}

impl Attack {
    /// The packets of one burst; `victim` is a connection that exists.
    pub fn burst(
        &mut self,
        now: Uptime,
        rng: &mut Rng,
        victims: &[(End, End)],
    ) -> Vec<(IfIndex, Vec<u8>)> {
        self.next = now.plus_nanos(self.every);
        (0..self.burst).map(|_| self.packet(rng, victims)).collect()
    }

    fn packet(&self, rng: &mut Rng, victims: &[(End, End)]) -> (IfIndex, Vec<u8>) {
        let mut segment = Segment {
            src: stranger(rng, self.target.0),
            dst: self.target,
            seq: rng.next_u32(),
            ack: rng.next_u32(),
            flags: flags::SYN,
            window: rng.next_u16(),
            payload: 0,
        };
        let mut interface = OUTSIDE;
        match self.kind {
            Kind::Syn => segment.ack = 0,
            Kind::Ack => segment.flags = flags::ACK,
            Kind::Noise => {
                segment.flags = rng.next_u32().to_le_bytes()[0];
                if !victims.is_empty() && rng.chance(700) {
                    let (client, server) = rng.pick(victims);
                    if rng.chance(500) {
                        (segment.src, segment.dst, interface) = (client, server, CLIENTS);
                    } else {
                        (segment.src, segment.dst, interface) = (server, client, SERVERS);
                    }
                }
            }
        }
        (interface, segment.write())
    }
}
