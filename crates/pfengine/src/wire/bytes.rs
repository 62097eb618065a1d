//! Reads and writes of big-endian fields at offsets that a packet may have chosen.
//!
//! Every function answers `None` or `false` outside the slice, so hostile lengths cannot panic.

/// The `N` octets at `at`.
#[inline]
#[must_use]
pub fn array<const N: usize>(octets: &[u8], at: usize) -> Option<[u8; N]> {
    octets.get(at..)?.first_chunk::<N>().copied()
}

/// The 16-bit big-endian number at `at`.
#[inline]
#[must_use]
pub fn be16(octets: &[u8], at: usize) -> Option<u16> {
    array(octets, at).map(u16::from_be_bytes)
}

/// The 32-bit big-endian number at `at`.
#[inline]
#[must_use]
pub fn be32(octets: &[u8], at: usize) -> Option<u32> {
    array(octets, at).map(u32::from_be_bytes)
}

/// Copies `value` to `at`; false, and nothing written, when it does not fit.
#[inline]
pub fn put<const N: usize>(octets: &mut [u8], at: usize, value: [u8; N]) -> bool {
    let Some(place) = octets.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<N>()) else {
        return false;
    };
    *place = value;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_outside_the_slice_are_none() {
        let octets = [1, 2, 3, 4, 5];
        assert_eq!(be16(&octets, 3), Some(0x0405));
        assert_eq!(be16(&octets, 4), None);
        assert_eq!(be32(&octets, 1), Some(0x0203_0405));
        assert_eq!(be32(&octets, 2), None);
        assert_eq!(be32(&octets, usize::MAX), None);
    }

    #[test]
    fn writes_outside_the_slice_change_nothing() {
        let mut octets = [0; 3];
        assert!(put(&mut octets, 1, [7, 8]));
        assert!(!put(&mut octets, 2, [9, 9]));
        assert!(!put(&mut octets, usize::MAX, [9, 9]));
        assert_eq!(octets, [0, 7, 8]);
    }
}
