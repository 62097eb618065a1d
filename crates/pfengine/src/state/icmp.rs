//! ICMP queries and errors.
//!
//! Source: OpenBSD sys/net/pf.c `pf_icmp_mapping`.

use pfapi::addr::Af;

/// What an ICMP message is to the state table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpClass {
    /// It quotes the packet that it is about, and belongs to that packet's state.
    Error,
    /// A query or its answer.
    Query {
        /// Type of the query; stands in the key in place of a port.
        virtual_type: u16,
        /// Whether the message carries an identifier.
        has_id: bool,
        /// Whether it is the answer.
        reply: bool,
    },
}

/// Sorts an ICMP message.
pub const fn classify(af: Af, icmp_type: u8) -> IcmpClass {
    let (virtual_type, has_id, reply) = match (af, icmp_type) {
        (Af::Inet, 3 | 4 | 5 | 11 | 12) | (Af::Inet6, 1..=4) => return IcmpClass::Error,
        (Af::Inet, 0) => (8, true, true),
        (Af::Inet, 8 | 13 | 15 | 17) | (Af::Inet6, 128) => (icmp_type, true, false),
        (Af::Inet, 14 | 16 | 18) | (Af::Inet6, 129) => (icmp_type - 1, true, true),
        (Af::Inet, 34 | 36) | (Af::Inet6, 140) => (icmp_type - 1, false, true),
        (Af::Inet, 9) => (10, false, true),
        (Af::Inet6, 200) => (201, false, true),
        (Af::Inet6, 136) => (135, false, true),
        _ => (icmp_type, false, false),
    };
    IcmpClass::Query { virtual_type: virtual_type as u16, has_id, reply }
}

/// Whether the message answers a query, so that it cannot begin an exchange.
///
/// Neighbour advertisements are exempt: they come unasked too.
pub const fn is_reply(af: Af, icmp_type: u8) -> bool {
    if matches!((af, icmp_type), (Af::Inet6, 136)) {
        return false;
    }
    matches!(classify(af, icmp_type), IcmpClass::Query { reply: true, .. })
}

/// Whether an ICMPv4 message asks or answers rather than reports an error; only such messages
/// are answered by ICMP. Source: RFC 1122 section 3.2.2.
pub const fn is_informational(af: Af, icmp_type: u8) -> bool {
    match af {
        Af::Inet => matches!(icmp_type, 0 | 8 | 9 | 10 | 13..=18),
        Af::Inet6 => icmp_type >= 128 && icmp_type != 137,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_share_the_virtual_type_of_their_query() {
        for (af, query, answer) in [
            (Af::Inet, 8, 0),
            (Af::Inet, 13, 14),
            (Af::Inet, 15, 16),
            (Af::Inet, 17, 18),
            (Af::Inet, 33, 34),
            (Af::Inet, 10, 9),
            (Af::Inet6, 128, 129),
            (Af::Inet6, 139, 140),
            (Af::Inet6, 201, 200),
        ] {
            let IcmpClass::Query { virtual_type: a, reply: false, .. } = classify(af, query) else {
                panic!("{query} is a query")
            };
            let IcmpClass::Query { virtual_type: b, reply: true, .. } = classify(af, answer) else {
                panic!("{answer} is an answer")
            };
            assert_eq!(a, b);
            assert!(is_reply(af, answer) && !is_reply(af, query));
        }
        assert!(!is_reply(Af::Inet6, 136));
        assert_eq!(classify(Af::Inet, 3), IcmpClass::Error);
        assert_eq!(classify(Af::Inet6, 3), IcmpClass::Error);
        assert_ne!(classify(Af::Inet6, 5), IcmpClass::Error);
    }
}
