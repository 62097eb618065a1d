//! Segments that a stranger forges into connections that exist.
//!
//! Each of them breaks one rule of the window test, so none may ever leave the router. Its payload
//! is a mark that no host sends.

use core::net::IpAddr;
use std::collections::BTreeMap;

use pfapi::ruleset::proto;
use pfapi::units::Uptime;

use crate::rng::Rng;
use crate::segment::{End, Segment, flags};

/// Payload of forged segments.
const MARK: [u8; 64] = [0xee; 64];

/// How far one end of each connection has come, as the router has seen it arrive.
#[derive(Debug, Default)]
pub struct Progress(BTreeMap<(End, End), Seen>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    next: u32,
    closing: bool,
}

impl Progress {
    /// A segment of a host arrives at the router.
    pub fn arrives(&mut self, segment: &Segment) {
        let syn_fin = segment.flags & (flags::SYN | flags::FIN);
        let payload = u32::try_from(segment.payload).unwrap_or(0);
        let next = segment.seq.wrapping_add(payload).wrapping_add(syn_fin.count_ones());
        let closes = segment.has(flags::FIN | flags::RST);
        let seen =
            self.0.entry((segment.src, segment.dst)).or_insert(Seen { next, closing: false });
        if next.wrapping_sub(seen.next).cast_signed() > 0 {
            seen.next = next;
        }
        seen.closing |= closes;
    }

    /// Both directions of a connection that both ends have spoken in and none has closed.
    fn pick(&self, rng: &mut Rng, flows: &[(End, End)]) -> Option<(End, End, u32, u32)> {
        let open: Vec<_> = flows
            .iter()
            .filter_map(|&(client, server)| {
                let there = self.0.get(&(client, server))?;
                let back = self.0.get(&(server, client))?;
                let open = !there.closing && !back.closing;
                open.then_some((client, server, there.next, back.next))
            })
            .collect();
        (!open.is_empty()).then(|| rng.pick(&open))
    }

    /// A forged segment of one of the connections, and whether the client is said to send it.
    pub fn forge(&self, rng: &mut Rng, flows: &[(End, End)]) -> Option<(bool, Vec<u8>)> {
        let (client, server, client_next, server_next) = self.pick(rng, flows)?;
        let by_client = rng.chance(500);
        let (src, dst, seq, ack) = if by_client {
            (client, server, client_next, server_next)
        } else {
            (server, client, server_next, client_next)
        };
        let noise = rng.next_u32() & 0xf_ffff;
        let far = (1 << 30) + noise;
        let mut segment =
            Segment { src, dst, seq, ack, flags: flags::ACK, window: 1_000, payload: 0 };
        match rng.below(4) {
            0 => segment.seq = seq.wrapping_add(far),
            1 => segment.seq = seq.wrapping_sub(far),
            2 => segment.ack = ack.wrapping_add(far),
            _ => {
                // Within the window, but not where a RST must be.
                segment.seq = seq.wrapping_add(100 + noise % 200);
                segment.flags = flags::RST | flags::ACK;
            }
        }
        Some((by_client, with_mark(&segment)))
    }
}

/// Forgeries at a steady rate.
#[derive(Clone, Copy, Debug)]
pub struct Forger {
    /// When the next one comes.
    pub next: Uptime,
    /// When the last one has come.
    pub until: Uptime,
    /// Nanoseconds between two.
    pub every: u64,
}

/// Whether a packet carries the mark.
#[must_use]
pub fn is_forged(packet: &[u8]) -> bool {
    packet.ends_with(&MARK)
}

fn sum(octets: &[u8]) -> u32 {
    octets
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum()
}

fn folded(mut sum: u32) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap_or(0)).to_be_bytes()
}

/// The segment with the mark as its payload.
fn with_mark(segment: &Segment) -> Vec<u8> {
    let mut packet = segment.write();
    packet.extend(MARK);
    let len = u16::try_from(packet.len()).unwrap_or(0);
    let (l4, pseudo) = match (segment.src.0, segment.dst.0) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            packet[2..4].copy_from_slice(&len.to_be_bytes());
            packet[10..12].fill(0);
            let header = folded(sum(&packet[..20]));
            packet[10..12].copy_from_slice(&header);
            (20, sum(&src.octets()) + sum(&dst.octets()))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            packet[4..6].copy_from_slice(&(len - 40).to_be_bytes());
            (40, sum(&src.octets()) + sum(&dst.octets()))
        }
        _ => return packet,
    };
    packet[l4 + 16..l4 + 18].fill(0);
    let octets = u32::try_from(packet.len() - l4).unwrap_or(0);
    let total = pseudo + u32::from(proto::TCP) + octets + sum(&packet[l4..]);
    packet[l4 + 16..l4 + 18].copy_from_slice(&folded(total));
    packet
}
