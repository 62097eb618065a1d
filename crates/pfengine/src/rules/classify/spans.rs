//! The values of a field that a condition accepts, as spans with both ends included.

use pfapi::addr::Af;
use pfapi::port::PortMatch;

use crate::rules::compile::{CompiledAddr, CompiledEndpoint};

/// Spans in ascending order, with a gap between each two; `None` stands for every value, and for
/// conditions that are not known here.
pub type Spans<V> = Option<Vec<(V, V)>>;

/// A field that can be cut into spans.
pub trait Value: Copy + Ord {
    /// The lowest value.
    const MIN: Self;
    /// The highest value.
    const MAX: Self;

    /// The value behind this one.
    fn next(self) -> Option<Self>;

    /// The value before this one.
    fn before(self) -> Option<Self>;

    /// The highest 16 bits.
    fn top(self) -> usize;
}

macro_rules! value {
    ($type:ty) => {
        impl Value for $type {
            const MIN: Self = <$type>::MIN;
            const MAX: Self = <$type>::MAX;

            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn before(self) -> Option<Self> {
                self.checked_sub(1)
            }

            fn top(self) -> usize {
                // Sixteen bits fit every `usize`.
                usize::try_from(self >> (<$type>::BITS - 16)).unwrap_or(0)
            }
        }
    };
}

value!(u16);
value!(u32);
value!(u128);

/// Sorts spans and joins those that touch.
fn joined<V: Value>(mut spans: Vec<(V, V)>) -> Vec<(V, V)> {
    spans.retain(|(low, high)| low <= high);
    spans.sort_unstable();
    let mut all: Vec<(V, V)> = Vec::with_capacity(spans.len());
    for (low, high) in spans {
        match all.last_mut() {
            Some((_, end)) if end.next().is_none_or(|next| low <= next) => *end = high.max(*end),
            _ => all.push((low, high)),
        }
    }
    all
}

/// What lies between joined spans.
fn complement<V: Value>(spans: &[(V, V)]) -> Vec<(V, V)> {
    let mut all = Vec::with_capacity(spans.len() + 1);
    let mut from = Some(V::MIN);
    for &(low, high) in spans {
        if let (Some(from), Some(end)) = (from, low.before())
            && from <= end
        {
            all.push((from, end));
        }
        from = high.next();
    }
    all.extend(from.map(|from| (from, V::MAX)));
    all
}

/// Ports that a condition accepts.
pub fn ports(condition: Option<PortMatch>) -> Spans<u16> {
    let below = |a: u16| a.before().map(|end| (0, end));
    let above = |a: u16| a.next().map(|start| (start, u16::MAX));
    let spans = match condition? {
        PortMatch::Equal(a) => vec![Some((a, a))],
        PortMatch::NotEqual(a) => vec![below(a), above(a)],
        PortMatch::Less(a) => vec![below(a)],
        PortMatch::LessOrEqual(a) => vec![Some((0, a))],
        PortMatch::Greater(a) => vec![above(a)],
        PortMatch::GreaterOrEqual(a) => vec![Some((a, u16::MAX))],
        PortMatch::Range(a, b) => vec![Some((a, b))],
        PortMatch::Inside(a, b) => vec![a.next().zip(b.before())],
        PortMatch::Outside(a, b) => vec![below(a), above(b)],
    };
    Some(joined(spans.into_iter().flatten().collect()))
}

/// IPv4 addresses that a condition accepts.
pub fn inet(end: &CompiledEndpoint) -> Spans<u32> {
    let low32 = |value: u128| u32::try_from(value).unwrap_or(u32::MAX);
    let spans = addresses(end, Af::Inet)?;
    let spans = joined(spans.iter().map(|&(low, high)| (low32(low), low32(high))).collect());
    Some(if end.negated { complement(&spans) } else { spans })
}

/// IPv6 addresses that a condition accepts.
pub fn inet6(end: &CompiledEndpoint) -> Spans<u128> {
    let spans = joined(addresses(end, Af::Inet6)?);
    Some(if end.negated { complement(&spans) } else { spans })
}

/// Addresses that a condition names, whether or not it is negated.
fn addresses(end: &CompiledEndpoint, af: Af) -> Spans<u128> {
    Some(match &end.addr {
        CompiledAddr::Net(net) => net.span(af).into_iter().collect(),
        CompiledAddr::Nets(nets) => nets.iter().filter_map(|net| net.span(af)).collect(),
        CompiledAddr::Range(family, low, high) if *family == af => vec![(low.0, high.0)],
        CompiledAddr::Range(..) => Vec::new(),
        // Tables and routes change while rules stay.
        CompiledAddr::Any
        | CompiledAddr::Table(_)
        | CompiledAddr::NoRoute
        | CompiledAddr::UrpfFailed => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Addr, Masked};
    use proptest::prelude::*;

    fn accepts<V: Value>(spans: Option<&Vec<(V, V)>>, value: V) -> bool {
        spans.is_none_or(|spans| spans.iter().any(|&(low, high)| low <= value && value <= high))
    }

    fn condition() -> impl Strategy<Value = PortMatch> {
        let port = || prop_oneof![Just(0_u16), Just(1), 0..20_u16, Just(65_534), Just(65_535)];
        (0..9, port(), port()).prop_map(|(kind, a, b)| match kind {
            0 => PortMatch::Equal(a),
            1 => PortMatch::NotEqual(a),
            2 => PortMatch::Less(a),
            3 => PortMatch::LessOrEqual(a),
            4 => PortMatch::Greater(a),
            5 => PortMatch::GreaterOrEqual(a),
            6 => PortMatch::Range(a, b),
            7 => PortMatch::Inside(a, b),
            _ => PortMatch::Outside(a, b),
        })
    }

    proptest! {
        #[test]
        fn port_spans_agree_with_the_condition(condition in condition()) {
            let spans = ports(Some(condition));
            for port in (0..30).chain(65_500..=65_535) {
                prop_assert_eq!(accepts(spans.as_ref(), port), condition.matches(port), "{} {}", condition, port);
            }
        }

        #[test]
        fn address_spans_agree_with_the_networks(
            nets in prop::collection::vec((any::<bool>(), 0u8..=255, 24u8..=32), 0..6),
            negated in any::<bool>(),
            low in any::<u8>(),
        ) {
            let nets: Vec<Masked> = nets
                .into_iter()
                .map(|(inet, low, len)| {
                    let text = if inet {
                        format!("192.0.2.{low}/{len}")
                    } else {
                        format!("2001:db8::{low:x}/{}", len + 96)
                    };
                    Masked::from(text.parse::<pfapi::addr::Prefix>().unwrap())
                })
                .collect();
            let end = CompiledEndpoint { negated, addr: CompiledAddr::Nets(nets.clone()), port: None };
            let v4 = Addr::from_ipv4([192, 0, 2, low]);
            let inside = nets.iter().any(|net| net.contains(Af::Inet, v4));
            prop_assert_eq!(accepts(inet(&end).as_ref(), u32::try_from(v4.0).unwrap()), inside != negated);
            let v6 = Addr(0x2001_0db8 << 96 | u128::from(low));
            let inside = nets.iter().any(|net| net.contains(Af::Inet6, v6));
            prop_assert_eq!(accepts(inet6(&end).as_ref(), v6.0), inside != negated);
        }
    }

    #[test]
    fn what_changes_while_rules_stay_takes_any_value() {
        let end = |addr| CompiledEndpoint { negated: true, addr, port: None };
        assert_eq!(inet(&end(CompiledAddr::Any)), None);
        assert_eq!(inet6(&end(CompiledAddr::NoRoute)), None);
        assert_eq!(inet(&end(CompiledAddr::Nets(Vec::new()))), Some(vec![(0, u32::MAX)]));
    }
}
