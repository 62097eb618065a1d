//! IPv4 addresses inside IPv6 addresses.
//!
//! Source: RFC 6052 section 2.2; OpenBSD sys/netinet6 `inet_nat64`, `inet_nat46`.

use crate::addr::Addr;

/// Lengths of prefixes that an address can be embedded behind, in bits.
const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];
/// Bits 64 to 71 are always zero. RFC 6052 section 2.2.
const RESERVED: u128 = 0xff << 56;
/// What lies behind them.
const BEHIND: u128 = (1 << 56) - 1;

/// Prefix length that is used for one that RFC 6052 does not know: the longest below it, or 96.
const fn usable(prefix_len: u8) -> u32 {
    let mut best = 96;
    let mut at = 0;
    while at < LENGTHS.len() {
        if LENGTHS[at] <= prefix_len {
            best = LENGTHS[at];
        }
        at += 1;
    }
    best as u32
}

/// The IPv6 address that stands for `v4` behind the first `prefix_len` bits of `prefix`.
///
/// Behind more than 96 bits only the end of the address has room; a prefix of 128 bits is the
/// address itself.
pub fn embed(prefix: Addr, prefix_len: u8, v4: Addr) -> Addr {
    if prefix_len > 96 {
        let host = u128::MAX.checked_shr(u32::from(prefix_len)).unwrap_or(0);
        return Addr(prefix.0 & !host | v4.0 & host);
    }
    let len = usable(prefix_len);
    if len == 96 {
        return Addr(prefix.0 & !0xffff_ffff | v4.0);
    }
    let kept = prefix.0 & (u128::MAX << (128 - len));
    // The address in one piece, then parted around the reserved octet.
    let joined = v4.0 << (120 - len - 32);
    Addr(kept & !RESERVED | joined >> 56 << 64 | joined & BEHIND)
}

/// The IPv4 address that stands in an IPv6 address behind a prefix of `prefix_len` bits.
pub fn extract(v6: Addr, prefix_len: u8) -> Addr {
    let len = usable(prefix_len);
    if len == 96 {
        return Addr(v6.0 & 0xffff_ffff);
    }
    let joined = v6.0 >> 64 << 56 | v6.0 & BEHIND;
    Addr(joined >> (120 - len - 32) & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;
    use pfapi::addr::Af;
    use proptest::prelude::*;

    fn addr(text: &str) -> Addr {
        Addr::from(text.parse::<IpAddr>().unwrap())
    }

    /// The table of RFC 6052 section 2.4.
    #[test]
    fn examples_of_rfc_6052() {
        for (prefix, len, wanted) in [
            ("2001:db8::", 32, "2001:db8:c000:221::"),
            ("2001:db8:100::", 40, "2001:db8:1c0:2:21::"),
            ("2001:db8:122::", 48, "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::", 56, "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::", 64, "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::", 96, "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::", 96, "64:ff9b::192.0.2.33"),
        ] {
            let found = embed(addr(prefix), len, addr("192.0.2.33"));
            assert_eq!(found.to_ip(Af::Inet6), wanted.parse::<IpAddr>().unwrap(), "/{len}");
            assert_eq!(extract(found, len), addr("192.0.2.33"), "/{len}");
        }
    }

    #[test]
    fn other_lengths_become_ones_that_are_known() {
        for (given, used) in [(0, 96), (31, 96), (33, 32), (63, 56), (65, 64), (97, 96), (128, 96)]
        {
            assert_eq!(usable(given), used);
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(prefix: u128, v4: u32, len in 0u8..=96) {
            let v4 = Addr(u128::from(v4));
            prop_assert_eq!(extract(embed(Addr(prefix), len, v4), len), v4);
        }
    }
}
