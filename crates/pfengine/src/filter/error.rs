//! ICMP errors belong to the state of the packet that they quote.
//!
//! Source: OpenBSD sys/net/pf.c `pf_test_state_icmp`.

use pfapi::addr::Af;
use pfapi::reason::{Reason, TableCounter};
use pfapi::ruleset::proto;

use super::{Filter, Place};
use crate::addr::Addr;
use crate::packet::{Packet, Verdict};
use crate::packet_desc::{PacketDesc, u16_at, u32_at};
use crate::seq::SeqNum;
use crate::state::entry::Body;
use crate::state::icmp::{self, IcmpClass};
use crate::state::key::Key;
use crate::wire::checksum::Delta;
use crate::wire::ip::{IPV4_HEADER, IPV6_HEADER};

/// Octets of an ICMP header before the quoted packet.
const ICMP_HEADER: usize = 8;
/// Octets of the quoted transport header that an error must carry. RFC 792.
const QUOTED_TRANSPORT: usize = 8;
/// Extension headers of a quoted packet that are walked at most; as many as of a packet itself.
const EXTENSIONS_MAX: usize = 20;

/// The start of the packet that an error quotes.
#[derive(Clone, Copy, Debug)]
struct Quoted {
    src: Addr,
    dst: Addr,
    proto: u8,
    /// Where its transport header starts in the whole packet.
    l4: usize,
}

impl Quoted {
    fn parse(data: &[u8], af: Af, at: usize) -> Result<Self, Reason> {
        match af {
            Af::Inet => Self::parse_ipv4(data, at),
            Af::Inet6 => Self::parse_ipv6(data, at),
        }
    }

    fn parse_ipv4(data: &[u8], at: usize) -> Result<Self, Reason> {
        let header: &[u8; IPV4_HEADER] =
            data.get(at..).and_then(<[u8]>::first_chunk).ok_or(Reason::Short)?;
        let length = usize::from(header[0] & 0x0f) * 4;
        if header[0] >> 4 != 4 || length < IPV4_HEADER {
            return Err(Reason::Short);
        }
        if u16_at(header, 6) & 0x1fff != 0 {
            return Err(Reason::Fragment);
        }
        let quoted = Self {
            src: Addr::from_ipv4([header[12], header[13], header[14], header[15]]),
            dst: Addr::from_ipv4([header[16], header[17], header[18], header[19]]),
            proto: header[9],
            l4: at + length,
        };
        quoted.walk(data, Af::Inet)
    }

    fn parse_ipv6(data: &[u8], at: usize) -> Result<Self, Reason> {
        let header: &[u8; IPV6_HEADER] =
            data.get(at..).and_then(<[u8]>::first_chunk).ok_or(Reason::Short)?;
        if header[0] >> 4 != 6 {
            return Err(Reason::Short);
        }
        let addr = |at: usize| {
            Addr(
                u128::from(u32_at(header, at)) << 96
                    | u128::from(u32_at(header, at + 4)) << 64
                    | u128::from(u32_at(header, at + 8)) << 32
                    | u128::from(u32_at(header, at + 12)),
            )
        };
        let quoted = Self { src: addr(8), dst: addr(24), proto: header[6], l4: at + IPV6_HEADER };
        quoted.walk(data, Af::Inet6)
    }

    /// Walks to the transport header.
    fn walk(mut self, data: &[u8], af: Af) -> Result<Self, Reason> {
        for _ in 0..EXTENSIONS_MAX {
            let unit = match (af, self.proto) {
                (_, 51) => 4,
                (Af::Inet6, 0 | 43 | 60) => 8,
                (Af::Inet6, 44) => 0,
                _ => return Ok(self),
            };
            let rest = data.get(self.l4..).unwrap_or_default();
            let [next, units, offset, flags] = *rest.first_chunk().ok_or(Reason::Short)?;
            if self.proto == 44 && (offset != 0 || flags & 0xf8 != 0) {
                return Err(Reason::Fragment);
            }
            self.l4 += 8 + unit * usize::from(units);
            self.proto = next;
        }
        Err(Reason::IpOption)
    }
}

impl Filter<'_> {
    /// Finds the state of the packet that an ICMP error quotes. `None` when there is none: rules
    /// decide then.
    pub(super) fn match_icmp_error(
        &mut self,
        packet: &mut Packet,
        desc: &PacketDesc,
    ) -> Result<Option<Verdict>, Reason> {
        let data = packet.data();
        let quoted = Quoted::parse(data, desc.af, desc.l4 + ICMP_HEADER)?;
        if desc.dst != quoted.src {
            return Err(Reason::StateMismatch);
        }
        let transport = data.get(quoted.l4..).and_then(<[u8]>::first_chunk::<QUOTED_TRANSPORT>);
        let mut ports = (0, 0);
        match (quoted.proto, desc.af) {
            (proto::TCP | proto::UDP, _) => {
                let transport = transport.ok_or(Reason::Short)?;
                ports = (u16_at(transport, 0), u16_at(transport, 2));
            }
            (proto::ICMP, Af::Inet) | (proto::ICMPV6, Af::Inet6) => {
                let transport = transport.ok_or(Reason::Short)?;
                let IcmpClass::Query { virtual_type, has_id, reply } =
                    icmp::classify(desc.af, transport[0])
                else {
                    return Ok(None);
                };
                let id = if has_id { u16_at(transport, 4) } else { 0 };
                ports = if reply { (virtual_type, id) } else { (id, virtual_type) };
            }
            (proto::ICMP, Af::Inet6) => return Err(Reason::Normalize),
            _ => {}
        }
        // The quoted packet crossed this interface the other way.
        let direction = packet.meta.direction.reversed();
        let key = Key::of_packet(
            direction,
            (desc.af, quoted.proto),
            (quoted.src, ports.0),
            (quoted.dst, ports.1),
        );
        let hash = self.engine.store.hash(&key);
        self.parts.stats.state_table(TableCounter::Searches, 1);
        let Place { direction: crossing, interface } = Self::place(packet);
        let Some(mut state) = self.view.find(&(key, hash), crossing, interface) else {
            return Ok(None);
        };
        let forward = !state.is_forward(crossing, desc.af);
        if let (Body::Tcp(tcp), Some(transport)) = (&mut state.body, transport) {
            let (sender, receiver) = tcp.peers(forward);
            let shift = match (sender.wscale, receiver.wscale) {
                (Some(_), Some(shift)) => shift,
                _ => 0,
            };
            let seq = SeqNum(u32_at(transport, 4)).retreat(sender.seqdiff);
            let oldest = sender.seqlo.retreat(receiver.max_win << shift);
            let newest = sender.seqhi.unwrap_or(sender.seqlo);
            if !newest.is_at_or_after(seq) || !seq.is_at_or_after(oldest) {
                return Err(Reason::StateMismatch);
            }
            write_quoted_seq(packet, desc, quoted.l4 + 4, seq);
        }
        if desc.has_options {
            self.log_known(packet, desc, &state, Some(Reason::IpOption));
            return Err(Reason::IpOption);
        }
        self.log_known(packet, desc, &state, None);
        state.count(!forward, desc.total);
        Ok(Some(Verdict::Pass))
    }
}

/// Puts the sequence number that the other end knows into the quote.
fn write_quoted_seq(packet: &mut Packet, desc: &PacketDesc, at: usize, seq: SeqNum) {
    let checksum_at = desc.l4 + 2;
    let data = packet.data_mut();
    let old = u32_at(data, at);
    if old == seq.0 {
        return;
    }
    data[at..at + 4].copy_from_slice(&seq.0.to_be_bytes());
    let sum = Delta::u32(old, seq.0).complete(u16_at(data, checksum_at));
    data[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
}
