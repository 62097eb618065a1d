//! Bandwidths as ALTQ writes them.
//!
//! Source: FreeBSD sbin/pfctl/parse.y `bandwidth`; sbin/pfctl/pfctl_altq.c `eval_bwspec`,
//! `rate2str`.

/// A bandwidth as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bandwidth {
    /// Bits per second.
    Absolute(u64),
    /// Share of the parent, 0 to 100.
    Percent(u8),
}

/// Why a text is no bandwidth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BandwidthError {
    /// Below nothing or above all.
    OutOfRange,
    /// Not one of b, Kb, Mb, Gb and %.
    Unit(String),
}

impl Bandwidth {
    /// All of the parent: what is meant when nothing is said.
    pub(crate) const ALL: Self = Self::Percent(100);

    /// Reads `14.8Mb`, `10%`, `2Gb`; plain numbers of bits have no unit and come as numbers.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, BandwidthError> {
        let end = number_len(text);
        let number: f64 = text[..end].parse().unwrap_or(0.0);
        let mut unit = &text[end..];
        let first = unit.chars().next().map_or(0, char::len_utf8);
        if ["Bit", "B", "bit", "b"].contains(&&unit[first..]) {
            unit = &unit[..first];
        }
        let factor = match unit {
            "b" => 1.0,
            "K" => 1e3,
            "M" => 1e6,
            "G" => 1e9,
            "%" if number > 100.0 => return Err(BandwidthError::OutOfRange),
            "%" => return Ok(Self::Percent(saturated(number).try_into().unwrap_or(100))),
            _ => return Err(BandwidthError::Unit(unit.to_owned())),
        };
        Ok(Self::Absolute(saturated(number * factor)))
    }

    /// Bits per second below something that has `reference` of them, which is never exceeded.
    pub(crate) fn of(self, reference: u64) -> u64 {
        match self {
            Self::Absolute(0) => 0,
            Self::Absolute(rate) => rate.min(reference),
            Self::Percent(percent) => reference / 100 * u64::from(percent),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "too large ones saturate, and the text has no sign"
)]
const fn saturated(number: f64) -> u64 {
    number as u64
}

/// Octets of the decimal number at the start of `text`.
fn number_len(text: &str) -> usize {
    let digits = |from: usize| {
        let rest = &text[from..];
        from + rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())
    };
    let mut end = digits(0);
    if text[end..].starts_with('.') {
        end = digits(end + 1);
    }
    let exponent = text[end..].strip_prefix(['e', 'E']);
    if let Some(exponent) = exponent {
        let sign = usize::from(exponent.starts_with(['+', '-']));
        let from = end + 1 + sign;
        if digits(from) > from {
            end = digits(from);
        }
    }
    end
}

/// Bits per second in the largest unit that leaves 1 to 999 of it, with two decimals where they
/// are not zero. Below 1000 there is a blank in place of the unit's letter, as in pfctl.
pub(crate) fn rate(rate: u64) -> String {
    const UNITS: [&str; 4] = [" ", "K", "M", "G"];
    #[expect(clippy::cast_precision_loss, reason = "two decimals are printed")]
    let mut shown = rate as f64;
    let mut unit = 0;
    while shown >= 1000.0 && unit + 1 < UNITS.len() {
        shown /= 1000.0;
        unit += 1;
    }
    if saturated(shown * 100.0).is_multiple_of(100) {
        format!("{}{}b", saturated(shown), UNITS[unit])
    } else {
        format!("{shown:.2}{}b", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_decimal() {
        let read = |text| Bandwidth::parse(text).unwrap();
        assert_eq!(read("14.8Mb"), Bandwidth::Absolute(14_800_000));
        assert_eq!(read("1Gb"), Bandwidth::Absolute(1_000_000_000));
        assert_eq!(read("64Kbit"), Bandwidth::Absolute(64_000));
        assert_eq!(read("64K"), Bandwidth::Absolute(64_000));
        assert_eq!(read("800b"), Bandwidth::Absolute(800));
        assert_eq!(read("1.5e3Kb"), Bandwidth::Absolute(1_500_000));
        assert_eq!(read("12.9%"), Bandwidth::Percent(12));
        assert_eq!(Bandwidth::parse("101%"), Err(BandwidthError::OutOfRange));
        assert_eq!(Bandwidth::parse("3Tb"), Err(BandwidthError::Unit("T".into())));
        assert_eq!(Bandwidth::parse("fast"), Err(BandwidthError::Unit("fast".into())));
        assert_eq!(Bandwidth::parse("10e"), Err(BandwidthError::Unit("e".into())));
    }

    #[test]
    fn shares_are_of_the_parent() {
        assert_eq!(Bandwidth::Percent(15).of(14_800_000), 2_220_000);
        assert_eq!(Bandwidth::Absolute(9).of(5), 5);
        assert_eq!(Bandwidth::ALL.of(250), 200);
    }

    #[test]
    fn rates_have_a_short_form() {
        assert_eq!(rate(14_800_000), "14.80Mb");
        assert_eq!(rate(1_000_000_000), "1Gb");
        assert_eq!(rate(999), "999 b");
        assert_eq!(rate(5_588), "5.59Kb");
        assert_eq!(rate(2_500_000_000_000), "2500Gb");
    }
}
