//! TCP sequence numbers.

/// TCP sequence number: a point on a circle of 2^32 (RFC 9293 section 3.4).
///
/// No `Ord` on purpose: "before" is not transitive on a circle, so sorting would lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// Octets forward from `self` to `later`; negative when `later` lies behind.
    pub const fn distance_to(self, later: Self) -> i32 {
        later.0.wrapping_sub(self.0).cast_signed()
    }

    /// Whether `self` lies at `other` or in the half circle behind it.
    pub const fn is_at_or_after(self, other: Self) -> bool {
        other.distance_to(self) >= 0
    }

    /// This many octets forward.
    pub const fn advance(self, octets: u32) -> Self {
        Self(self.0.wrapping_add(octets))
    }

    /// This many octets back.
    pub const fn retreat(self, octets: u32) -> Self {
        Self(self.0.wrapping_sub(octets))
    }
}

#[cfg(test)]
mod tests {
    use super::SeqNum;

    #[test]
    fn order_wraps() {
        let high = SeqNum(0xffff_fff0);
        let low = high.advance(0x20);
        assert_eq!(low, SeqNum(0x10));
        assert!(low.is_at_or_after(high));
        assert!(!high.is_at_or_after(low));
        assert_eq!(low.distance_to(high), -0x20);
        assert_eq!(low.retreat(0x20), high);
        assert!(low.is_at_or_after(low));
    }
}
