//! Checksums, computed word by word and not with the engine's code, so that the two check each
//! other.

use pfapi::ruleset::proto;

/// RFC 1071 section 1: the inverted sum in one's complement of all 16-bit words.
pub(super) fn internet(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

/// Checksum of a transport segment; `addresses` are source and destination as in the header.
///
/// Source: RFC 9293 section 3.1, RFC 768, RFC 4443 section 2.3, RFC 792.
pub(super) fn transport(addresses: &[u8], number: u8, segment: &[u8]) -> u16 {
    if number == proto::ICMP {
        return internet(&[segment]);
    }
    let len = u32::try_from(segment.len()).unwrap_or(u32::MAX).to_be_bytes();
    internet(&[addresses, &len, &[0, 0, 0, number], segment])
}

/// Where the checksum of a protocol lies in its header.
pub(super) const fn offset(number: u8) -> Option<usize> {
    match number {
        proto::TCP => Some(16),
        proto::UDP => Some(6),
        proto::ICMP | proto::ICMPV6 => Some(2),
        _ => None,
    }
}

/// Whether every checksum of a whole packet is right; true for what has none that can be checked,
/// such as fragments.
#[must_use]
pub fn checksums_are_right(octets: &[u8]) -> bool {
    let Some(layout) = super::dissect::Layout::of(octets) else { return false };
    if layout.version == 4 && internet(&[&octets[..layout.network_len]]) != 0 {
        return false;
    }
    if layout.fragment.is_some() {
        return true;
    }
    let segment = &octets[layout.transport..layout.end];
    let Some(at) = offset(layout.proto) else { return true };
    if segment.len() < at + 2 {
        return true;
    }
    if layout.proto == proto::UDP && segment[at..at + 2] == [0, 0] {
        return layout.version == 4;
    }
    transport(layout.addresses(octets), layout.proto, segment) == 0
}
