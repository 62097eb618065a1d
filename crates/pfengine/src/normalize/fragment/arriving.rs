//! A fragment as it comes: which datagram it belongs to, and which part of it.
//!
//! Source: OpenBSD sys/net/pf_norm.c `pf_reassemble`, `pf_reassemble6`.

use pfapi::addr::Af;

use super::cache::Key;
use crate::packet_desc::{PacketDesc, u16_at, u32_at};
use crate::wire::ip::{FRAGMENT_HEADER, IPV6_HEADER};

/// Longest datagram behind its header.
const DATAGRAM_MAX: usize = 65_535;
/// "More fragments" in the word of flags and offset.
const MORE_V4: u16 = 0x2000;
const MORE_V6: u16 = 0x0001;

/// A fragment.
#[derive(Clone, Copy, Debug)]
pub struct Arriving<'a> {
    /// Its datagram.
    pub key: Key,
    /// First octet in the datagram.
    pub start: usize,
    /// Whether more fragments follow.
    pub more: bool,
    /// Its part of the datagram, never empty.
    pub data: &'a [u8],
    /// Of the first fragment: the headers in front of the data, without the fragment header.
    pub head: Option<&'a [u8]>,
    /// IPv6: where the next-header field that names the fragment header lies.
    pub next_at: usize,
    /// IPv6: what the fragment header names.
    pub next: u8,
}

impl<'a> Arriving<'a> {
    /// Reads a packet whose transport is [`crate::packet_desc::Transport::Fragment`].
    ///
    /// `None` for a part that no datagram has: nothing, a part with more behind it that does not
    /// end at 8 octets, or one beyond the longest datagram.
    pub fn of(data: &'a [u8], desc: &PacketDesc) -> Option<Self> {
        let data = data.get(..desc.total)?;
        let fragment = match desc.af {
            Af::Inet => {
                let header = usize::from(data[0] & 0x0f) * 4;
                let word = u16_at(data, 6);
                let start = usize::from(word & 0x1fff) * 8;
                Self {
                    key: Key::new(desc, desc.proto, u32::from(u16_at(data, 4))),
                    start,
                    more: word & MORE_V4 != 0,
                    data: &data[header..],
                    head: (start == 0).then_some(&data[..header]),
                    next_at: 0,
                    next: 0,
                }
            }
            Af::Inet6 => {
                let header = data.get(desc.l4..desc.l4 + FRAGMENT_HEADER)?;
                let word = u16_at(header, 2);
                let start = usize::from(word & 0xfff8);
                Self {
                    // The next header of later fragments means nothing, so it is not in the key.
                    key: Key::new(desc, 0, u32_at(header, 4)),
                    start,
                    more: word & MORE_V6 != 0,
                    data: &data[desc.l4 + FRAGMENT_HEADER..],
                    head: (start == 0).then_some(&data[..desc.l4]),
                    next_at: next_header_at(data, desc.l4)?,
                    next: header[0],
                }
            }
        };
        let len = fragment.data.len();
        let odd = fragment.more && !len.is_multiple_of(8);
        (len > 0 && !odd && fragment.end() <= DATAGRAM_MAX).then_some(fragment)
    }

    /// First octet of the datagram behind it.
    pub const fn end(&self) -> usize {
        self.start + self.data.len()
    }
}

/// Where the next-header field lies that names the header at `target`.
fn next_header_at(data: &[u8], target: usize) -> Option<usize> {
    let (mut field, mut at) = (6, IPV6_HEADER);
    while at < target {
        let [next_unit, units] = [*data.get(field)?, *data.get(at + 1)?];
        field = at;
        at += match next_unit {
            51 => (usize::from(units) + 2) * 4,
            _ => (usize::from(units) + 1) * 8,
        };
    }
    (at == target).then_some(field)
}
