//! Keys under which states are found.
//!
//! Index 0 of a key is the far side of the interface, index 1 the own side, so an inbound
//! connection and its outbound replies build the same key. A state has two keys, which differ
//! when it translates. Source: OpenBSD sys/net/pf.c `pf_state_key_setup`, `pf_find_state`.

use core::hash::Hasher;

use pfapi::addr::Af;
use pfapi::units::Direction;
use siphasher::sip::SipHasher13;

use crate::addr::Addr;

/// Addresses, ports and protocol of a state as seen from one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Far side, own side.
    pub addr: [Addr; 2],
    /// Likewise; ICMP queries have their id and their virtual type here.
    pub port: [u16; 2],
    /// Family.
    pub af: Af,
    /// Protocol number.
    pub proto: u8,
}

impl Key {
    /// Key of a packet that crosses the interface in `direction`.
    pub fn of_packet(
        direction: Direction,
        (af, proto): (Af, u8),
        (src, sport): (Addr, u16),
        (dst, dport): (Addr, u16),
    ) -> Self {
        let (addr, port) = match direction {
            Direction::In => ([src, dst], [sport, dport]),
            Direction::Out => ([dst, src], [dport, sport]),
        };
        Self { addr, port, af, proto }
    }
}

/// Where a key belongs: outside of the translation or inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// As packets are on the interface.
    Wire,
    /// As the router and the rest of the host see them.
    Stack,
}

impl Side {
    /// The side on which a packet that crosses in `direction` is before it is translated.
    pub const fn of(direction: Direction) -> Self {
        match direction {
            Direction::In => Self::Wire,
            Direction::Out => Self::Stack,
        }
    }

    /// The other side.
    pub const fn other(self) -> Self {
        match self {
            Self::Wire => Self::Stack,
            Self::Stack => Self::Wire,
        }
    }
}

/// A key with its hash.
pub type Hashed = (Key, u64);

/// Both keys of a state with their hashes.
///
/// With `af-to` the keys have two families, and the stack key is built as if its packets came in,
/// since the translated side is met by inbound packets too.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    wire: Key,
    wire_hash: u64,
    translated: bool,
    stack: Key,
    stack_hash: u64,
}

impl Keys {
    /// The wire key and the stack key, which are one without translation.
    pub fn new((wire, wire_hash): Hashed, (stack, stack_hash): Hashed) -> Self {
        Self { wire, wire_hash, translated: wire != stack, stack, stack_hash }
    }

    /// The key of one side.
    pub const fn get(&self, side: Side) -> &Key {
        match side {
            Side::Wire => &self.wire,
            Side::Stack => &self.stack,
        }
    }

    /// Hashes of the index entries, which are one without translation.
    pub const fn hashes(&self) -> [u64; 2] {
        [self.wire_hash, self.stack_hash]
    }

    /// Whether the keys differ.
    pub const fn is_translated(&self) -> bool {
        self.translated
    }

    /// Whether the keys have two families (`af-to`).
    pub fn changes_family(&self) -> bool {
        self.wire.af != self.stack.af
    }

    /// The side on which a packet of this state is, before it is translated.
    pub fn side(&self, direction: Direction, af: Af) -> Side {
        match (self.changes_family(), af == self.wire.af) {
            (false, _) => Side::of(direction),
            (true, true) => Side::Wire,
            (true, false) => Side::Stack,
        }
    }

    /// The key that a packet of this state builds once it is translated, and the direction in
    /// which it does.
    pub fn beyond(&self, direction: Direction, af: Af) -> (&Key, Direction) {
        let key = self.get(self.side(direction, af).other());
        (key, if self.changes_family() { direction.reversed() } else { direction })
    }

    /// Whether a packet that crosses in `direction` and builds `key` belongs to the state.
    pub fn meet(&self, direction: Direction, key: &Key) -> bool {
        match direction {
            Direction::In => self.wire == *key || self.changes_family() && self.stack == *key,
            Direction::Out => self.stack == *key && !self.changes_family(),
        }
    }
}

/// Secret that keeps hostile senders from choosing colliding keys.
#[derive(Clone, Copy, Debug)]
pub struct HashSecret(pub [u8; 16]);

impl HashSecret {
    /// SipHash-1-3 of the key: enough against flooding, as the hash itself is never seen.
    pub fn hash(&self, key: &Key) -> u64 {
        let mut octets = [0; 38];
        octets[..16].copy_from_slice(&key.addr[0].0.to_le_bytes());
        octets[16..32].copy_from_slice(&key.addr[1].0.to_le_bytes());
        octets[32..34].copy_from_slice(&key.port[0].to_le_bytes());
        octets[34..36].copy_from_slice(&key.port[1].to_le_bytes());
        octets[36] = key.proto;
        octets[37] = key.af.bits();
        let mut hasher = SipHasher13::new_with_key(&self.0);
        // The family decides where the addresses lie, so IPv4 hashes fewer octets.
        match key.af {
            Af::Inet6 => hasher.write(&octets),
            Af::Inet => {
                let mut short = [0; 14];
                short[..4].copy_from_slice(&octets[..4]);
                short[4..8].copy_from_slice(&octets[16..20]);
                short[8..].copy_from_slice(&octets[32..]);
                hasher.write(&short);
            }
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_build_the_key_of_the_request() {
        let client = (Addr::from_ipv4([198, 51, 100, 1]), 40_000);
        let server = (Addr::from_ipv4([192, 0, 2, 1]), 80);
        let inbound = Key::of_packet(Direction::In, (Af::Inet, 6), client, server);
        let reply = Key::of_packet(Direction::Out, (Af::Inet, 6), server, client);
        assert_eq!(inbound, reply);
        let onward = Key::of_packet(Direction::Out, (Af::Inet, 6), client, server);
        assert_eq!((onward.addr[0], onward.port[1]), (inbound.addr[1], inbound.port[0]));
        let secret = HashSecret([7; 16]);
        assert_eq!(secret.hash(&inbound), secret.hash(&reply));
        assert_ne!(secret.hash(&inbound), secret.hash(&onward));
    }
}
