//! Keys under which states are found.
//!
//! Index 0 of a key is the far side of the interface, index 1 the own side, so an inbound
//! connection and its outbound replies build the same key. A state has two keys, which differ
//! when it translates. Source: OpenBSD sys/net/pf.c `pf_state_key_setup`, `pf_find_state`.

use pfapi::addr::Af;
use pfapi::units::Direction;

use crate::addr::Addr;
use crate::siphash::{sip13, words};

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

/// How the two keys of a state differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// They are one: nothing is translated.
    Same,
    /// Addresses or ports differ.
    Translated,
    /// The families differ too (`af-to`).
    OtherFamily,
}

impl Form {
    /// The side on which a packet is before it is translated; `of_wire` says whether it has the
    /// family of the wire key.
    pub fn side(self, direction: Direction, of_wire: bool) -> Side {
        match (self == Self::OtherFamily, of_wire) {
            (false, _) => Side::of(direction),
            (true, true) => Side::Wire,
            (true, false) => Side::Stack,
        }
    }
}

/// Both keys of a state.
///
/// With `af-to` the keys have two families, and the stack key is built as if its packets came in,
/// since the translated side is met by inbound packets too.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// Outside of the translation.
    pub wire: Key,
    /// Inside of it.
    pub stack: Key,
    /// How they differ.
    pub form: Form,
}

impl Keys {
    /// The wire key and the stack key, which are one without translation.
    pub fn new(wire: Key, stack: Key) -> Self {
        let form = match (wire == stack, wire.af == stack.af) {
            (true, _) => Form::Same,
            (false, true) => Form::Translated,
            (false, false) => Form::OtherFamily,
        };
        Self { wire, stack, form }
    }

    /// The key of one side.
    pub const fn get(&self, side: Side) -> &Key {
        match side {
            Side::Wire => &self.wire,
            Side::Stack => &self.stack,
        }
    }

    /// Whether the keys differ.
    pub fn is_translated(&self) -> bool {
        self.form != Form::Same
    }

    /// Whether the keys have two families (`af-to`).
    pub fn changes_family(&self) -> bool {
        self.form == Form::OtherFamily
    }

    /// The side on which a packet of this state is, before it is translated.
    pub fn side(&self, direction: Direction, af: Af) -> Side {
        self.form.side(direction, af == self.wire.af)
    }

    /// The key that a packet of this state builds once it is translated, and the direction in
    /// which it does.
    pub fn beyond(&self, direction: Direction, af: Af) -> (&Key, Direction) {
        let key = self.get(self.side(direction, af).other());
        (key, if self.changes_family() { direction.reversed() } else { direction })
    }
}

/// Secret that keeps hostile senders from choosing colliding keys.
#[derive(Clone, Copy, Debug)]
pub struct HashSecret(pub [u8; 16]);

impl HashSecret {
    /// SipHash-1-3 of the key: enough against flooding, as the hash itself is never seen.
    pub fn hash(&self, key: &Key) -> u64 {
        let [far, own] = [key.addr[0].0, key.addr[1].0];
        let ports = u64::from(key.port[0]) | u64::from(key.port[1]) << 16;
        let rest = ports | u64::from(key.proto) << 32 | u64::from(key.af.bits()) << 40;
        // The family decides how much of the addresses there is, so IPv4 hashes fewer octets.
        match key.af {
            Af::Inet => sip13(&self.0, &[words(far & LOW | (own & LOW) << 32)[0]], rest, 14),
            Af::Inet6 => {
                let ([a, b], [c, d]) = (words(far), words(own));
                sip13(&self.0, &[a, b, c, d], rest, 38)
            }
        }
    }
}

/// The bits of an IPv4 address.
const LOW: u128 = u32::MAX as u128;

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
