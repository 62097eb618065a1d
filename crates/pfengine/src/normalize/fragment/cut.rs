//! Cutting an IPv6 datagram that was put together here, so that its receiver sees fragments of the
//! size that the sender chose.
//!
//! Source: OpenBSD sys/net/pf_norm.c `pf_refragment6`; RFC 8200 section 4.5.

use crate::packet::{Offload, Packet};
use crate::wire::bytes::be16;
use crate::wire::ip::{FRAGMENT_HEADER, IPV6_HEADER};

/// Next-header number of the fragment header.
const FRAGMENT: u8 = 44;
/// The flag "more fragments".
const MORE: u16 = 0x0001;

/// How an IPv6 packet is cut before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refragment {
    /// Octets of the headers that every fragment has, without the fragment header.
    header: u16,
    /// Where the next-header field lies that names the fragment header.
    next_at: u16,
    /// Octets of data in each fragment but the last, a multiple of 8.
    step: u16,
    id: u32,
}

impl Refragment {
    /// Cuts behind `header` octets into fragments with at most `data` octets each; `None` when
    /// that makes no sense.
    #[must_use]
    pub fn new(header: usize, next_at: usize, data: usize, id: u32) -> Option<Self> {
        let step = u16::try_from(data & !7).ok().filter(|&step| step > 0)?;
        let (header, next_at) = (u16::try_from(header).ok()?, u16::try_from(next_at).ok()?);
        let sane = usize::from(header) >= IPV6_HEADER && next_at < header;
        sane.then_some(Self { header, next_at, step, id })
    }

    /// For a packet of this host without extension headers, sent over a link with this MTU.
    #[must_use]
    pub fn for_link(mtu: usize, id: u32) -> Option<Self> {
        Self::new(IPV6_HEADER, 6, mtu.checked_sub(IPV6_HEADER + FRAGMENT_HEADER)?, id)
    }

    /// Identification of the fragments.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Octets of the longest fragment of a packet of `len` octets.
    #[must_use]
    pub fn longest(&self, len: usize) -> usize {
        let header = usize::from(self.header);
        header + FRAGMENT_HEADER + usize::from(self.step).min(len.saturating_sub(header))
    }

    /// Writes the fragment whose data begins at octet `done` of the datagram; gives where the next
    /// one begins. `None` when there is none, when `packet` is no IPv6 packet any more, or when
    /// the buffer of `fragment` is too small; [`Self::is_done`] tells the first from the others.
    pub fn write(&self, packet: &[u8], done: usize, fragment: &mut Packet) -> Option<usize> {
        let header = usize::from(self.header);
        let total = IPV6_HEADER + usize::from(be16(packet, 4)?);
        let is_v6 = packet.first()? >> 4 == 6;
        let data = packet.get(header..total).filter(|_| is_v6)?;
        let rest = data.get(done..).filter(|rest| !rest.is_empty())?;
        let len = rest.len().min(usize::from(self.step));
        if !fragment.resize(header + FRAGMENT_HEADER + len) {
            return None;
        }
        let next = packet[usize::from(self.next_at)];
        let end = done + len;
        let more = if end < data.len() { MORE } else { 0 };
        let word = u16::try_from(done).ok()? | more;
        let out = fragment.data_mut();
        out[..header].copy_from_slice(&packet[..header]);
        let payload = u16::try_from(header + FRAGMENT_HEADER + len - IPV6_HEADER).ok()?;
        out[4..6].copy_from_slice(&payload.to_be_bytes());
        out[usize::from(self.next_at)] = FRAGMENT;
        out[header] = next;
        out[header + 1] = 0;
        out[header + 2..header + 4].copy_from_slice(&word.to_be_bytes());
        out[header + 4..header + 8].copy_from_slice(&self.id.to_be_bytes());
        out[header + FRAGMENT_HEADER..].copy_from_slice(&rest[..len]);
        fragment.meta.offload = Offload::default();
        fragment.meta.refragment = None;
        Some(end)
    }

    /// Whether `done` octets are all that has to be cut.
    #[must_use]
    pub fn is_done(&self, packet: &[u8], done: usize) -> bool {
        packet.len() <= usize::from(self.header) + done
    }
}
