//! The pcap format, as far as the packet log needs it.
//!
//! Source: draft-ietf-opsawg-pcap; libpcap pcap/dlt.h (`DLT_PFLOG`).

/// Octets of the header of a file, and of that of a record.
pub(super) const FILE_HEADER: usize = 24;
pub(super) const RECORD_HEADER: usize = 16;
/// Longest record: pf's header and any IP packet.
pub(super) const SNAP_MAX: u32 = 100 + 65_575;
/// Microseconds, in the byte order of this file.
const MAGIC: u32 = 0xa1b2_c3d4;
const VERSION: [u16; 2] = [2, 4];
/// Records begin with pf's header. Source: `DLT_PFLOG`.
const LINK_TYPE: u32 = 117;

/// The header of a file, little-endian.
#[must_use]
pub fn pcap_header() -> [u8; FILE_HEADER] {
    let mut header = [0; FILE_HEADER];
    header[..4].copy_from_slice(&MAGIC.to_le_bytes());
    header[4..6].copy_from_slice(&VERSION[0].to_le_bytes());
    header[6..8].copy_from_slice(&VERSION[1].to_le_bytes());
    header[16..20].copy_from_slice(&SNAP_MAX.to_le_bytes());
    header[20..].copy_from_slice(&LINK_TYPE.to_le_bytes());
    header
}

/// The header of a record of `kept` octets of `len`, made at `time_us` microseconds of the epoch.
pub(super) fn record_header(time_us: u64, kept: usize, len: usize) -> [u8; RECORD_HEADER] {
    let word = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    let mut header = [0; RECORD_HEADER];
    header[..4].copy_from_slice(&word(time_us / 1_000_000));
    header[4..8].copy_from_slice(&word(time_us % 1_000_000));
    header[8..12].copy_from_slice(&word(kept as u64));
    header[12..].copy_from_slice(&word(len as u64));
    header
}
