//! `-s timeouts` and `-s memory`.
//!
//! Source: OpenBSD sbin/pfctl/pfctl.c `pfctl_show_timeouts`, `pfctl_show_limits`.

use std::io::{self, Write};

use pfapi::limit::{Limit, Limits};
use pfapi::timeout::{Timeout, Timeouts};

/// Prints every timeout that counts here.
///
/// # Errors
/// Failures of `out`.
pub fn print_timeouts(out: &mut dyn Write, timeouts: &Timeouts) -> io::Result<()> {
    for timeout in Timeout::ALL.into_iter().filter(|timeout| !timeout.is_sctp()) {
        let value = timeouts.get(timeout);
        writeln!(out, "{:<20} {value:>10}{}", timeout.name(), timeout.unit())?;
    }
    Ok(())
}

/// Prints every hard limit.
///
/// # Errors
/// Failures of `out`.
pub fn print_limits(out: &mut dyn Write, limits: &Limits) -> io::Result<()> {
    for limit in Limit::ALL {
        match limits.get(limit) {
            u32::MAX => writeln!(out, "{:<13} unlimited", limit.name())?,
            value => writeln!(out, "{:<13} hard limit {value:>8}", limit.name())?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_their_units() {
        let mut out = Vec::new();
        print_timeouts(&mut out, &Timeouts::default()).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 20);
        assert!(text.starts_with("tcp.first                   120s\n"), "{text}");
        assert!(text.contains("\nadaptive.start            60000 states\n"), "{text}");
        assert!(text.ends_with("\nsrc.track                     0s\n"), "{text}");
    }

    #[test]
    fn limits_may_be_unlimited() {
        let mut limits = Limits::default();
        limits.set(Limit::Frags, u32::MAX);
        let mut out = Vec::new();
        print_limits(&mut out, &limits).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                "states        hard limit   100000\n",
                "src-nodes     hard limit    10000\n",
                "frags         unlimited\n",
                "tables        hard limit     1000\n",
                "table-entries hard limit   200000\n",
                "pktdelay-pkts hard limit    10000\n",
                "anchors       hard limit      512\n",
            )
        );
    }
}
