//! TCP options, read with pf's tolerance for the senders of the world.
//!
//! The end-of-list option is skipped like padding, because some systems leave zeros between
//! options; a length below two counts as two, so that the walk ends; an option may claim more
//! than is left, then only what is there is seen. The walk takes at most one step per octet.
//!
//! Sources: RFC 9293 section 3.2; RFC 7323; RFC 2018; OpenBSD sys/net/pf.c `pf_find_tcpopt`,
//! `pf_get_mss`, `pf_get_wscale`, `pf_modulate_sack`.

use super::bytes::{be16, be32};

/// Kinds of options that the filter knows.
pub mod kind {
    /// Maximum segment size, 4 octets.
    pub const MSS: u8 = 2;
    /// Window scale, 3 octets.
    pub const WSCALE: u8 = 3;
    /// SACK permitted, 2 octets.
    pub const SACK_PERMITTED: u8 = 4;
    /// SACK blocks, 2 octets and 8 per block.
    pub const SACK: u8 = 5;
    /// Timestamps, 10 octets.
    pub const TIMESTAMPS: u8 = 8;
}

/// The largest shift count that counts; larger ones mean this one. RFC 7323 section 2.3.
pub const WSCALE_MAX: u8 = 14;

/// One option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOption<'a> {
    /// Kind, see [`kind`].
    pub kind: u8,
    /// Length that the option claims, kind and length octets included.
    pub length: u8,
    /// Where the option begins, in octets from the first option.
    pub offset: usize,
    /// What lies behind the length octet, as far as it is there.
    pub data: &'a [u8],
}

impl<'a> TcpOption<'a> {
    /// Maximum segment size.
    #[must_use]
    pub fn mss(&self) -> Option<u16> {
        if self.kind == kind::MSS && self.length >= 4 { be16(self.data, 0) } else { None }
    }

    /// Shift count, at most [`WSCALE_MAX`].
    #[must_use]
    pub fn wscale(&self) -> Option<u8> {
        if self.kind == kind::WSCALE && self.length >= 3 {
            self.data.first().map(|&shift| shift.min(WSCALE_MAX))
        } else {
            None
        }
    }

    /// Whether this is SACK permitted.
    #[must_use]
    pub const fn is_sack_permitted(&self) -> bool {
        self.kind == kind::SACK_PERMITTED && self.length >= 2
    }

    /// Timestamp value and echo reply.
    #[must_use]
    pub fn timestamps(&self) -> Option<(u32, u32)> {
        if self.kind == kind::TIMESTAMPS && self.length >= 10 {
            Some((be32(self.data, 0)?, be32(self.data, 4)?))
        } else {
            None
        }
    }

    /// SACK blocks; none when this is another option.
    pub fn sack_blocks(&self) -> impl Iterator<Item = SackBlock> + use<'a> {
        let data = if self.kind == kind::SACK { self.data } else { &[] };
        let first = self.offset + 2;
        let (blocks, _) = data.as_chunks::<8>();
        blocks.iter().enumerate().map(move |(index, &[a, b, c, d, e, f, g, h])| SackBlock {
            offset: first + index * 8,
            left: u32::from_be_bytes([a, b, c, d]),
            right: u32::from_be_bytes([e, f, g, h]),
        })
    }
}

/// A block of received octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SackBlock {
    /// Where `left` lies, in octets from the first option; `right` follows it.
    pub offset: usize,
    /// First sequence number of the block.
    pub left: u32,
    /// The sequence number behind the block.
    pub right: u32,
}

/// Walks the options in `options`, the octets between the fixed TCP header and the payload.
#[must_use]
pub const fn options(options: &[u8]) -> TcpOptions<'_> {
    TcpOptions { options, at: 0 }
}

/// Octets of timestamps that stand in front of all other options behind two no-operations, as common
/// stacks send them in every segment (RFC 7323 appendix A); 0 when none do.
#[must_use]
pub const fn stamps_in_front(options: &[u8]) -> usize {
    match *options {
        [1, 1, kind::TIMESTAMPS, 10, _, _, _, _, _, _, _, _, ..] => 12,
        _ => 0,
    }
}

/// See [`options`].
#[derive(Clone, Debug)]
pub struct TcpOptions<'a> {
    options: &'a [u8],
    at: usize,
}

impl<'a> Iterator for TcpOptions<'a> {
    type Item = TcpOption<'a>;

    fn next(&mut self) -> Option<TcpOption<'a>> {
        loop {
            let offset = self.at;
            match *self.options.get(offset..)? {
                // End of list or no operation.
                [0 | 1, ..] => self.at += 1,
                [kind, length, ref rest @ ..] => {
                    let step = usize::from(length).max(2);
                    self.at += step;
                    let data = rest.get(..step - 2).unwrap_or(rest);
                    return Some(TcpOption { kind, length, offset, data });
                }
                [_] | [] => return None,
            }
        }
    }
}

impl core::iter::FusedIterator for TcpOptions<'_> {}

/// What the options of a SYN say; of several of one kind the last one counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynOptions {
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Shift count, at most [`WSCALE_MAX`].
    pub wscale: Option<u8>,
    /// SACK permitted.
    pub sack_permitted: bool,
    /// Timestamp value and echo reply.
    pub timestamps: Option<(u32, u32)>,
}

impl SynOptions {
    /// No option, or the MSS alone.
    #[must_use]
    pub const fn of_mss(mss: Option<u16>) -> Self {
        Self { mss, wscale: None, sack_permitted: false, timestamps: None }
    }
}

/// Reads the options of a SYN from the octets between the fixed TCP header and the payload.
#[must_use]
pub fn scan(octets: &[u8]) -> SynOptions {
    let mut seen = SynOptions::default();
    let mut left = octets;
    // What common stacks send, in one step each; anything else takes the long way.
    loop {
        left = match *left {
            [0 | 1, ref rest @ ..] => rest,
            [kind::MSS, 4, a, b, ref rest @ ..] => {
                seen.mss = Some(u16::from_be_bytes([a, b]));
                rest
            }
            [kind::WSCALE, 3, shift, ref rest @ ..] => {
                seen.wscale = Some(shift.min(WSCALE_MAX));
                rest
            }
            [kind::SACK_PERMITTED, 2, ref rest @ ..] => {
                seen.sack_permitted = true;
                rest
            }
            [kind::TIMESTAMPS, 10, ref stamps @ ..] => {
                let Some((&both, rest)) = stamps.split_first_chunk::<8>() else {
                    return scan_odd(left, seen);
                };
                let both = u64::from_be_bytes(both);
                #[expect(clippy::cast_possible_truncation, reason = "two halves")]
                let both = ((both >> 32) as u32, both as u32);
                seen.timestamps = Some(both);
                rest
            }
            [] => return seen,
            _ => return scan_odd(left, seen),
        };
    }
}

/// Reads on where an option has an unusual length, or is another one.
fn scan_odd(octets: &[u8], seen: SynOptions) -> SynOptions {
    options(octets).fold(seen, |seen, option| SynOptions {
        mss: option.mss().or(seen.mss),
        wscale: option.wscale().or(seen.wscale),
        sack_permitted: option.is_sack_permitted() || seen.sack_permitted,
        timestamps: option.timestamps().or(seen.timestamps),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn options_of_a_common_syn() {
        let octets = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 0, 1, 3, 3, 7];
        let expected = SynOptions {
            mss: Some(1460),
            wscale: Some(7),
            sack_permitted: true,
            timestamps: Some((7, 0)),
        };
        assert_eq!(scan(&octets), expected);
    }

    #[test]
    fn last_of_several_counts_and_scale_is_capped() {
        let seen = scan(&[2, 4, 5, 0xb4, 3, 3, 99, 2, 4, 2, 0]);
        assert_eq!((seen.mss, seen.wscale), (Some(512), Some(14)));
    }

    #[test]
    fn end_of_list_is_padding() {
        assert_eq!(scan(&[0, 0, 2, 4, 5, 0xb4]).mss, Some(1460));
    }

    #[test]
    fn lengths_below_two_count_as_two() {
        assert_eq!(scan(&[99, 0, 2, 4, 5, 0xb4]).mss, Some(1460));
        assert_eq!(scan(&[2, 1, 4, 2]).mss, None);
        assert!(scan(&[2, 1, 4, 2]).sack_permitted);
    }

    #[test]
    fn option_that_claims_too_much_is_read_as_far_as_it_is_there() {
        assert_eq!(scan(&[2, 40, 5, 0xb4]).mss, Some(1460));
        assert_eq!(scan(&[2, 4, 5]).mss, None);
        assert_eq!(scan(&[1, 2]), SynOptions::default());
    }

    #[test]
    fn sack_blocks_come_with_their_offsets() {
        let mut octets = [0; 20];
        octets[..4].copy_from_slice(&[1, 1, 5, 18]);
        octets[7] = 1;
        octets[11] = 2;
        octets[15] = 3;
        octets[19] = 4;
        let blocks: Vec<_> = options(&octets).flat_map(|option| option.sack_blocks()).collect();
        assert_eq!(
            blocks,
            [
                SackBlock { offset: 4, left: 1, right: 2 },
                SackBlock { offset: 12, left: 3, right: 4 },
            ]
        );
        let cut: Vec<_> = options(&octets[..19]).flat_map(|option| option.sack_blocks()).collect();
        assert_eq!(cut.len(), 1, "a block that is not whole is not seen");
    }

    proptest! {
        /// The short way reads what the long one does.
        #[test]
        fn both_ways_agree(octets in prop::collection::vec(
            prop_oneof![3 => 0..11_u8, 1 => any::<u8>()], 0..41,
        )) {
            prop_assert_eq!(scan(&octets), scan_odd(&octets, SynOptions::default()));
        }

        #[test]
        fn any_octets_are_walked_in_bounds(octets in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut steps = 0;
            for option in options(&octets) {
                steps += 1;
                prop_assert!(option.offset + 2 + option.data.len() <= octets.len());
                for block in option.sack_blocks() {
                    prop_assert_eq!(be32(&octets, block.offset), Some(block.left));
                    prop_assert_eq!(be32(&octets, block.offset + 4), Some(block.right));
                }
            }
            prop_assert!(steps <= octets.len());
        }
    }
}
