//! Which flow a packet belongs to: a keyed hash, so that nobody can aim at the queue of others.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::wire::ip::{Fragment, Layout};
use pfapi::ruleset::proto;

/// Secret of the hash.
#[derive(Clone, Copy, Debug)]
pub struct FlowKey(pub [u8; 16]);

impl FlowKey {
    /// Number of the flow of an IP packet: by addresses, protocol and ports; fragments by
    /// addresses and protocol alone. What is no IP packet is one flow.
    #[must_use]
    pub fn flow_of(&self, data: &[u8]) -> u32 {
        let Some(layout) = Layout::of(data) else { return 0 };
        let mut hasher = SipHasher13::new_with_key(&self.0);
        match (layout.src, layout.dst) {
            (core::net::IpAddr::V4(src), core::net::IpAddr::V4(dst)) => {
                hasher.write(&src.octets());
                hasher.write(&dst.octets());
            }
            (core::net::IpAddr::V6(src), core::net::IpAddr::V6(dst)) => {
                hasher.write(&src.octets());
                hasher.write(&dst.octets());
            }
            _ => {}
        }
        hasher.write_u8(layout.protocol);
        let has_ports = matches!(layout.protocol, proto::TCP | proto::UDP | proto::SCTP);
        if layout.fragment == Fragment::Whole
            && has_ports
            && let Some(ports) = data.get(layout.transport..layout.transport + 4)
        {
            hasher.write(ports);
        }
        let hash = hasher.finish();
        #[expect(clippy::cast_possible_truncation, reason = "half of a hash is a hash")]
        let half = hash as u32;
        half
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_tell_flows_apart_and_bad_packets_are_one() {
        let key = FlowKey([7; 16]);
        let mut packet = [0_u8; 28];
        packet[..4].copy_from_slice(&[0x45, 0, 0, 28]);
        packet[9] = proto::UDP;
        let first = key.flow_of(&packet);
        packet[4] = 9;
        assert_eq!(key.flow_of(&packet), first, "an identification is no flow");
        packet[21] = 1;
        assert_ne!(key.flow_of(&packet), first);
        assert_ne!(FlowKey([8; 16]).flow_of(&packet), key.flow_of(&packet));
        assert_eq!(key.flow_of(&packet[..10]), 0);
        assert_eq!(key.flow_of(&[]), 0);
    }
}
