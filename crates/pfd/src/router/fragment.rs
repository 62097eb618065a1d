//! Cutting a packet: an IPv4 packet that is too long for the next link, or an IPv6 packet that was
//! put together from fragments.
//!
//! Source: RFC 791 section 3.2 "An Example Fragmentation Procedure"; RFC 8200 section 4.5.

use pfengine::wire::checksum::Sum;
use pfengine::wire::ip::IPV4_HEADER;
use pfengine::{Checksum, Packet, Refragment, reply};

use crate::ports::Ports;

/// "More fragments" in the word of flags and offset.
const MORE: u16 = 0x2000;
/// The offset in the word of flags and offset, in units of 8 octets.
const OFFSET: u16 = 0x1fff;
/// Bit of an option's type that says that every fragment carries it.
const COPIED: u8 = 0x80;

/// Why a packet could not be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FragmentError {
    /// It is no IPv4 packet that may be cut.
    NotAllowed,
    /// No buffer was left; the fragments made so far go out, the datagram is lost.
    NoBuffer,
}

/// Cuts `packet` into fragments of at most `mtu` octets, and sends them on the packet's interface.
///
/// The packet itself is only read, but for its checksum, which must be complete before the cut.
/// Options that need not be copied stay with the first fragment.
pub(crate) fn fragment(
    packet: &mut Packet,
    mtu: usize,
    ports: &mut impl Ports,
) -> Result<(), FragmentError> {
    let data = packet.data();
    let header = data.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    let is_v4 = data.first().is_some_and(|first| first >> 4 == 4);
    if !is_v4 || header < IPV4_HEADER || header > data.len() || mtu < header + 8 {
        return Err(FragmentError::NotAllowed);
    }
    if packet.meta.offload.checksum != Checksum::Complete && !reply::complete_checksum(packet) {
        return Err(FragmentError::NotAllowed);
    }
    let total = usize::from(word(packet.data(), 2)).min(packet.len());
    let old = word(packet.data(), 6);
    let mut at = header;
    while at < total {
        let mut piece = ports.buffer().ok_or(FragmentError::NoBuffer)?;
        piece.meta = packet.meta;
        let data = packet.data();
        let first = at == header;
        let mut head = [0; 60];
        head[..header].copy_from_slice(&data[..header]);
        let head_len = if first { header } else { later_header(&data[..header], &mut head) };
        let room = (mtu - head_len) & !7;
        let end = total.min(at + room);
        let offset = (old & OFFSET) + u16::try_from((at - header) / 8).unwrap_or(OFFSET);
        let more = if end < total { MORE } else { old & MORE };
        let len = head_len + end - at;
        put_word(&mut head, 2, u16::try_from(len).unwrap_or(u16::MAX));
        put_word(&mut head, 6, (offset & OFFSET) | more);
        put_word(&mut head, 10, 0);
        let sum = Sum::of(&head[..head_len]).checksum();
        put_word(&mut head, 10, sum);
        if !piece.resize(len) {
            ports.recycle(piece);
            return Err(FragmentError::NoBuffer);
        }
        piece.data_mut()[..head_len].copy_from_slice(&head[..head_len]);
        piece.data_mut()[head_len..].copy_from_slice(&data[at..end]);
        ports.send(packet.meta.interface, piece);
        at = end;
    }
    Ok(())
}

/// Cuts an IPv6 packet as `cut` says and sends the fragments on the packet's interface.
pub(crate) fn refragment(
    packet: &mut Packet,
    cut: Refragment,
    ports: &mut impl Ports,
) -> Result<(), FragmentError> {
    if packet.meta.offload.checksum != Checksum::Complete && !reply::complete_checksum(packet) {
        return Err(FragmentError::NotAllowed);
    }
    let mut done = 0;
    while !cut.is_done(packet.data(), done) {
        let mut piece = ports.buffer().ok_or(FragmentError::NoBuffer)?;
        piece.meta = packet.meta;
        let Some(next) = cut.write(packet.data(), done, &mut piece) else {
            ports.recycle(piece);
            return Err(FragmentError::NotAllowed);
        };
        ports.send(packet.meta.interface, piece);
        done = next;
    }
    Ok(())
}

/// Writes the header of a later fragment: fixed part and copied options, padded to words.
fn later_header(old: &[u8], new: &mut [u8; 60]) -> usize {
    let mut len = IPV4_HEADER;
    let mut at = IPV4_HEADER;
    while at < old.len() {
        let size = match old[at] {
            0 => break,
            1 => 1,
            _ => usize::from(*old.get(at + 1).unwrap_or(&0)),
        };
        // A length that makes no sense ends the options.
        if size == 0 || (old[at] != 1 && size < 2) || at + size > old.len() {
            break;
        }
        if old[at] & COPIED != 0 {
            new[len..len + size].copy_from_slice(&old[at..at + size]);
            len += size;
        }
        at += size;
    }
    let padded = len.next_multiple_of(4);
    new[len..padded].fill(0);
    new[0] = 0x40 | u8::try_from(padded / 4).unwrap_or(0x0f);
    padded
}

fn word(data: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([data[at], data[at + 1]])
}

fn put_word(data: &mut [u8], at: usize, word: u16) {
    data[at..at + 2].copy_from_slice(&word.to_be_bytes());
}
