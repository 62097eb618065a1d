//! Rules for Ethernet frames, as FreeBSD has them.
//!
//! They are evaluated before the rules for packets. Source: FreeBSD pf.conf(5) "ETHERNET
//! FILTERING"; sys/netpfil/pf/pf.c `pf_test_eth_rule`.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::{Endpoint, InterfaceMatch, TagMatch};
use crate::units::Direction;

/// One expanded `ether` rule, or the call of an anchor for frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtherRule {
    /// What happens to a frame that this rule decides; `Pass` for anchors.
    pub action: EtherAction,
    /// `ether anchor`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<EtherAnchor>,
    /// Direction; `None` is both.
    pub direction: Option<Direction>,
    /// Ends the evaluation when the rule matches.
    pub quick: bool,
    /// `on`
    pub interface: Option<InterfaceMatch>,
    /// `bridge-to`: the interface that frames go out of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge_to: Option<String>,
    /// `EtherType`; never zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proto: Option<u16>,
    /// Sender's hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<MacMatch>,
    /// Receiver's hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<MacMatch>,
    /// `l3 from`: an address, a network or a table; no port.
    #[serde(default)]
    pub l3_from: Endpoint,
    /// `l3 to`, likewise.
    #[serde(default)]
    pub l3_to: Endpoint,
    /// `label`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// `ridentifier`: a number that other programs know the rule by; never zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ridentifier: Option<u32>,
    /// `queue`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// `tag`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// `tagged`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tagged: Option<TagMatch>,
    /// `dnpipe`, `dnqueue`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dummynet: Option<Dummynet>,
}

impl EtherRule {
    /// A rule that matches every frame.
    #[must_use]
    pub fn new(action: EtherAction) -> Self {
        Self {
            action,
            anchor: None,
            direction: None,
            quick: false,
            interface: None,
            bridge_to: None,
            proto: None,
            from: None,
            to: None,
            l3_from: Endpoint::default(),
            l3_to: Endpoint::default(),
            labels: Vec::new(),
            ridentifier: None,
            queue: None,
            tag: None,
            tagged: None,
            dummynet: None,
        }
    }
}

/// What happens to a frame that a rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EtherAction {
    /// `ether pass`
    Pass,
    /// `ether block`
    Block,
    /// `ether match`: never decides.
    Match,
}

/// `ether anchor`: a place for rules about frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtherAnchor {
    /// Path as written. Inline anchors without a name have one that starts with `_`.
    pub path: String,
    /// Rules between the braces of an inline anchor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<EtherRule>>,
}

/// A hardware address with a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MacMatch {
    /// `!`
    pub negated: bool,
    /// Address.
    pub addr: [u8; 6],
    /// Bits that count.
    pub mask: [u8; 6],
}

impl MacMatch {
    /// The mask of the first `len` bits; as in pf, a byte's lowest bit is its first.
    #[must_use]
    pub fn mask_of(len: u8) -> [u8; 6] {
        let mut mask = [0; 6];
        for bit in 0..usize::from(len.min(48)) {
            mask[bit / 8] |= 1 << (bit % 8);
        }
        mask
    }

    /// The length whose mask this is, if there is one.
    #[must_use]
    pub fn mask_len(&self) -> Option<u8> {
        (0..=48).find(|&len| Self::mask_of(len) == self.mask)
    }
}

/// As pf prints it.
impl fmt::Display for MacMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets = |f: &mut fmt::Formatter<'_>, [a, b, c, d, e, g]: [u8; 6]| {
            write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
        };
        if self.negated {
            f.write_str("! ")?;
        }
        octets(f, self.addr)?;
        match self.mask_len() {
            Some(48) => Ok(()),
            Some(len) => write!(f, "/{len}"),
            None => {
                f.write_str("&")?;
                octets(f, self.mask)
            }
        }
    }
}

/// `dnpipe` and `dnqueue`: packets are handed to dummynet(4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dummynet {
    /// Pipes or queues.
    pub kind: DummynetKind,
    /// Number for packets in the direction of the rule; 0 is none.
    pub number: u16,
    /// Number for packets of the state in the other direction; 0 is none.
    #[serde(default)]
    pub back: u16,
}

/// What of dummynet(4) the numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DummynetKind {
    /// `dnpipe`
    Pipe,
    /// `dnqueue`
    Queue,
}

/// As pf prints it.
impl fmt::Display for Dummynet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.kind {
            DummynetKind::Pipe => "dnpipe",
            DummynetKind::Queue => "dnqueue",
        };
        match self.back {
            0 => write!(f, "{word} {}", self.number),
            back => write!(f, "{word}({}, {back})", self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_print_with_their_mask() {
        let mut mac = MacMatch { negated: false, addr: [0, 1, 2, 3, 4, 5], mask: [0xff; 6] };
        assert_eq!(mac.to_string(), "00:01:02:03:04:05");
        mac.mask = MacMatch::mask_of(24);
        assert_eq!(mac.to_string(), "00:01:02:03:04:05/24");
        mac.mask = MacMatch::mask_of(20);
        assert_eq!(mac.mask, [0xff, 0xff, 0x0f, 0, 0, 0]);
        mac.mask = [0xff, 0xff, 0xff, 0, 0, 0xff];
        mac.negated = true;
        assert_eq!(mac.to_string(), "! 00:01:02:03:04:05&ff:ff:ff:00:00:ff");
    }

    #[test]
    fn dummynet_prints_both_numbers_when_there_are_two() {
        let mut pipe = Dummynet { kind: DummynetKind::Pipe, number: 1, back: 0 };
        assert_eq!(pipe.to_string(), "dnpipe 1");
        pipe = Dummynet { kind: DummynetKind::Queue, number: 0, back: 42 };
        assert_eq!(pipe.to_string(), "dnqueue(0, 42)");
    }
}
