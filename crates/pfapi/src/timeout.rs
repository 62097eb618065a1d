//! Timeouts of states, their defaults, and the presets of `set optimization`.
//!
//! Source: OpenBSD sys/net/pfvar.h, sbin/pfctl/pfctl_parser.c `pf_timeouts`, sbin/pfctl/pfctl.c
//! `pf_hint_*`.

use core::fmt;

use serde::{Deserialize, Serialize};

macro_rules! timeouts {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $default:literal;)+) => {
        /// Name of a timeout, in the order in which `pfctl -s timeouts` prints them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Timeout {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)+
        }

        impl Timeout {
            /// Every timeout, in print order.
            pub const ALL: [Self; [$($default),+].len()] = [$(Self::$variant),+];

            /// The name in pf.conf(5), such as `tcp.first`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Value where no ruleset says otherwise: seconds, or states for `adaptive.*`.
            #[must_use]
            pub const fn default_value(self) -> u32 {
                match self { $(Self::$variant => $default,)+ }
            }
        }
    };
}

timeouts! {
    /// After the first packet of a TCP connection.
    TcpFirst = "tcp.first", 120;
    /// Before both ends are established.
    TcpOpening = "tcp.opening", 30;
    /// Both ends established.
    TcpEstablished = "tcp.established", 86_400;
    /// One FIN seen.
    TcpClosing = "tcp.closing", 900;
    /// Both FINs seen, not both acknowledged.
    TcpFinwait = "tcp.finwait", 45;
    /// RST seen, or both FINs acknowledged.
    TcpClosed = "tcp.closed", 90;
    /// Allowed drift of TCP timestamps.
    TcpTsdiff = "tcp.tsdiff", 30;
    /// After the first UDP packet.
    UdpFirst = "udp.first", 60;
    /// Only one end has sent UDP.
    UdpSingle = "udp.single", 30;
    /// Both ends have sent UDP.
    UdpMultiple = "udp.multiple", 60;
    /// After the first ICMP packet.
    IcmpFirst = "icmp.first", 20;
    /// After any further ICMP packet.
    IcmpError = "icmp.error", 10;
    /// As the UDP ones, for other protocols.
    OtherFirst = "other.first", 60;
    /// Only one end has sent.
    OtherSingle = "other.single", 30;
    /// Both ends have sent.
    OtherMultiple = "other.multiple", 60;
    /// Life of an incomplete datagram.
    Frag = "frag", 60;
    /// Time in which the purge looks at each state once.
    Interval = "interval", 10;
    /// States above which timeouts shrink.
    AdaptiveStart = "adaptive.start", 60_000;
    /// States at which every timeout is zero.
    AdaptiveEnd = "adaptive.end", 120_000;
    /// Life of a source node without states.
    SrcTrack = "src.track", 0;
    /// FreeBSD only: after the first packet of an SCTP association.
    SctpFirst = "sctp.first", 120;
    /// FreeBSD only: before both ends of an association are there.
    SctpOpening = "sctp.opening", 30;
    /// FreeBSD only: both ends there.
    SctpEstablished = "sctp.established", 86_400;
    /// FreeBSD only: one end is shutting down.
    SctpClosing = "sctp.closing", 900;
    /// FreeBSD only: the association has ended.
    SctpClosed = "sctp.closed", 90;
}

impl Timeout {
    /// The timeout with this pf.conf(5) name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|timeout| timeout.name() == name)
    }

    /// Whether it is of SCTP, which only FreeBSD follows.
    #[must_use]
    pub const fn is_sctp(self) -> bool {
        matches!(
            self,
            Self::SctpFirst
                | Self::SctpOpening
                | Self::SctpEstablished
                | Self::SctpClosing
                | Self::SctpClosed
        )
    }

    /// Unit in which `pfctl -s timeouts` prints the value: `s` or ` states`.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::AdaptiveStart | Self::AdaptiveEnd => " states",
            _ => "s",
        }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The complete set of timeouts that is in force.
///
/// ```
/// use pfapi::timeout::{Optimization, Timeout, Timeouts};
///
/// let mut timeouts = Timeouts::default();
/// timeouts.optimize(Optimization::Aggressive);
/// timeouts.set(Timeout::Interval, 5);
/// assert_eq!((timeouts.get(Timeout::TcpFirst), timeouts.get(Timeout::Interval)), (30, 5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts([u32; Timeout::ALL.len()]);

impl Default for Timeouts {
    fn default() -> Self {
        Self(Timeout::ALL.map(Timeout::default_value))
    }
}

impl Timeouts {
    /// Value of one timeout: seconds, or states for `adaptive.*`.
    #[must_use]
    pub const fn get(&self, timeout: Timeout) -> u32 {
        self.0[timeout as usize]
    }

    /// Sets one timeout.
    pub const fn set(&mut self, timeout: Timeout, value: u32) {
        self.0[timeout as usize] = value;
    }

    /// Applies a preset; later `set timeout` lines win over it, earlier ones lose.
    pub fn optimize(&mut self, optimization: Optimization) {
        for (timeout, value) in Optimization::TIMEOUTS.into_iter().zip(optimization.tcp_timeouts())
        {
            self.set(timeout, value);
        }
    }
}

/// Argument of `set optimization`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimization {
    /// Suits nearly all networks.
    #[default]
    Normal,
    /// High latency, such as satellite links; also written `high-latency`.
    Satellite,
    /// Drops idle connections early.
    Aggressive,
    /// Keeps idle connections long.
    Conservative,
}

impl Optimization {
    /// The timeouts that a preset sets.
    pub const TIMEOUTS: [Timeout; 7] = [
        Timeout::TcpFirst,
        Timeout::TcpOpening,
        Timeout::TcpEstablished,
        Timeout::TcpClosing,
        Timeout::TcpFinwait,
        Timeout::TcpClosed,
        Timeout::TcpTsdiff,
    ];

    /// first, opening, established, closing, finwait, closed, tsdiff; in seconds.
    const fn tcp_timeouts(self) -> [u32; 7] {
        match self {
            Self::Normal => [120, 30, 86_400, 900, 45, 90, 30],
            Self::Satellite => [180, 35, 86_400, 905, 50, 95, 60],
            Self::Conservative => [3_600, 900, 432_000, 3_600, 600, 180, 60],
            Self::Aggressive => [30, 5, 18_000, 60, 30, 30, 10],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preset_normal_equals_the_defaults() {
        let mut timeouts = Timeouts::default();
        timeouts.optimize(Optimization::Aggressive);
        assert_eq!(timeouts.get(Timeout::TcpFirst), 30);
        timeouts.optimize(Optimization::Normal);
        assert_eq!(timeouts, Timeouts::default());
    }

    #[test]
    fn every_name_finds_its_timeout() {
        for timeout in Timeout::ALL {
            assert_eq!(Timeout::from_name(timeout.name()), Some(timeout));
        }
        assert_eq!(Timeout::from_name("tcp.second"), None);
    }
}
