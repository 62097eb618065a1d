//! What the optimizer compares of rules, in few words: rules with the same key are the same to it.
//!
//! Names, and what rules of a superblock seldom differ in, have numbers that count within one
//! superblock. A key takes 72 octets and borrows nothing.

use std::collections::HashMap;

use pfapi::addr::Af;
use pfapi::port::PortMatch;
use pfapi::ruleset::Rule;
use pfapi::units::Direction;

use super::address::Addr;
use super::class::{Equal, Fields, Scope};
use super::hash::{Index, hash, hash_text, small};

/// An address: a network, or a number for what is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The octets of the network from the left.
    high: u64,
    low: u64,
    /// Prefix length, or one of the constants below.
    len: u8,
}

/// A table, an interface and so on: evaluation can skip by it.
const NAMED: u8 = 254;
/// A range or the label of a route: evaluation cannot.
const UNSKIPPED: u8 = 255;
/// Longest prefix.
const BITS: u8 = 128;

impl Place {
    /// Every address.
    pub(super) const ANY: Self = Self { high: 0, low: 0, len: 0 };

    /// Prefix length; `None` for what is no network.
    pub(super) const fn len(self) -> Option<u8> {
        if self.len <= BITS { Some(self.len) } else { None }
    }

    /// The network of this length, not longer than its own, that holds it.
    pub(super) fn widened(self, len: u8) -> Self {
        let mask = |bits: u8| u64::MAX.checked_shl(64 - u32::from(bits.min(64))).unwrap_or(0);
        Self { high: self.high & mask(len), low: self.low & mask(len.saturating_sub(64)), len }
    }

    pub(super) const fn words(self) -> [u64; 3] {
        [self.high, self.low, self.len as u64]
    }
}

/// What a rule of a superblock says, but for what all of them say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Which rules are equal in what cannot be left open.
    group: u32,
    /// Number of the interface; 0 is none.
    interface: u32,
    /// [`DIRECTION`] and so on.
    words: u64,
    /// First and second port of the source, then of the destination.
    ports: u64,
    pub(super) from: Place,
    pub(super) to: Place,
}

/// A field in [`Key::words`]: zero says nothing.
#[derive(Clone, Copy)]
struct Bits {
    shift: u32,
    width: u32,
}

impl Bits {
    const fn mask(self) -> u64 {
        ((1 << self.width) - 1) << self.shift
    }
}

const DIRECTION: Bits = Bits { shift: 0, width: 2 };
const AF: Bits = Bits { shift: 2, width: 2 };
const PROTO: Bits = Bits { shift: 4, width: 9 };
const FLAGS: Bits = Bits { shift: 13, width: 17 };
/// Operators.
const FROM_PORT: Bits = Bits { shift: 30, width: 4 };
const TO_PORT: Bits = Bits { shift: 34, width: 4 };
const NOT_FROM: Bits = Bits { shift: 38, width: 1 };
const NOT_TO: Bits = Bits { shift: 39, width: 1 };

/// Fields that a rule may leave open, and the bits that they have in [`Open`].
const OPEN: [Bits; 6] = [DIRECTION, AF, PROTO, FLAGS, FROM_PORT, TO_PORT];

/// Which fields are left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open(u8);

impl Open {
    const INTERFACE: u8 = 1 << OPEN.len();

    /// As an index below [`Open::ALL`].
    pub(super) const fn number(self) -> usize {
        self.0 as usize
    }

    /// How many there can be.
    pub(super) const ALL: usize = 1 << (OPEN.len() + 1);

    pub(super) const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether everything that the other leaves open is open here.
    pub(super) const fn includes(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }
}

impl Key {
    pub(super) fn open(&self) -> Open {
        let fields = OPEN.iter().enumerate();
        let open = fields.map(|(bit, &field)| u8::from(self.words & field.mask() == 0) << bit);
        Open(open.sum::<u8>() | if self.interface == 0 { Open::INTERFACE } else { 0 })
    }

    /// Leaves these fields open, too.
    pub(super) fn opened(mut self, open: Open) -> Self {
        for (bit, field) in OPEN.iter().enumerate() {
            if open.0 & (1 << bit) != 0 {
                self.words &= !field.mask();
            }
        }
        if open.0 & Open::INTERFACE != 0 {
            self.interface = 0;
        }
        if self.words & FROM_PORT.mask() == 0 {
            self.ports &= !0xffff_ffff;
        }
        if self.words & TO_PORT.mask() == 0 {
            self.ports &= 0xffff_ffff;
        }
        self
    }

    pub(super) const fn has_af(&self) -> bool {
        self.words & AF.mask() != 0
    }

    pub(super) const fn not_from(&self) -> bool {
        self.words & NOT_FROM.mask() != 0
    }

    pub(super) const fn not_to(&self) -> bool {
        self.words & NOT_TO.mask() != 0
    }

    pub(super) fn hash(&self) -> u64 {
        let Self { group, interface, words, ports, from, to } = *self;
        let numbers = u64::from(group) << 32 | u64::from(interface);
        // What the lengths of networks take is free above the bits.
        let words = words ^ u64::from(from.len) << 40 ^ u64::from(to.len) << 48;
        hash([numbers, words, ports, from.high, from.low, to.high, to.low])
    }
}

/// A field that evaluation can skip by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Interface,
    Direction,
    Rdomain,
    Af,
    Proto,
    From,
    FromPort,
    To,
    ToPort,
}

/// What the rules of a group have in common and evaluation can skip by.
#[derive(Clone, Copy, Debug)]
struct Group {
    not_on: bool,
    rdomain: Option<u32>,
}

/// The keys of the rules of a superblock.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) list: Vec<Key>,
    groups: Vec<Group>,
    /// How many addresses are no networks.
    named: u32,
}

impl Keys {
    pub(super) fn of(rules: &[Rule]) -> Self {
        let mut found = Self { list: Vec::with_capacity(rules.len()), ..Self::default() };
        let mut numbers = Numbers::default();
        for rule in rules {
            let Fields { equal, scope, .. } = Fields::of(rule);
            let key = found.key(equal, scope, &mut numbers);
            found.list.push(key);
        }
        found.named = small(numbers.named.len());
        found
    }

    fn key<'r>(&mut self, equal: Equal<'r>, scope: Scope<'r>, numbers: &mut Numbers<'r>) -> Key {
        let new = Group { not_on: equal.not_on(), rdomain: equal.rdomain() };
        let group = numbers.group(equal);
        if group as usize == self.groups.len() {
            self.groups.push(new);
        }
        let Scope {
            interface,
            direction,
            af,
            proto,
            flags,
            from_port,
            to_port,
            not_from,
            not_to,
            from,
            to,
        } = scope;
        let direction = direction.map_or(0, |direction| match direction {
            Direction::In => 1,
            Direction::Out => 2,
        });
        let af = af.map_or(0, |af| match af {
            Af::Inet => 1,
            Af::Inet6 => 2,
        });
        let proto = proto.map_or(0, |proto| u64::from(proto) + 1);
        let flags =
            flags.map_or(0, |flags| 1 << 16 | u64::from(flags.want) << 8 | u64::from(flags.mask));
        let (from_operator, from_ports) = port(from_port);
        let (to_operator, to_ports) = port(to_port);
        let words = direction << DIRECTION.shift
            | af << AF.shift
            | proto << PROTO.shift
            | flags << FLAGS.shift
            | from_operator << FROM_PORT.shift
            | to_operator << TO_PORT.shift
            | u64::from(not_from) << NOT_FROM.shift
            | u64::from(not_to) << NOT_TO.shift;
        Key {
            group,
            interface: interface.map_or(0, |name| numbers.name(name)),
            words,
            ports: from_ports | to_ports << 32,
            from: numbers.place(from),
            to: numbers.place(to),
        }
    }

    /// An address that is no other: that of a new table.
    pub(super) const fn new_table(&mut self) -> Place {
        self.named += 1;
        Place { high: 0, low: (self.named - 1) as u64, len: NAMED }
    }

    /// The value of a field; `None` where it says nothing, which no two rules have in common.
    pub(super) fn value(&self, rule: usize, step: Step) -> Option<[u64; 3]> {
        let key = self.list.get(rule)?;
        let group = self.groups.get(key.group as usize)?;
        let one = |value: u64| (value != 0).then_some([value, 0, 0]);
        let bits = |field: Bits| one(key.words & field.mask());
        let port = |operator: Bits, shift: u32| {
            let ports = key.ports >> shift & 0xffff_ffff;
            bits(operator).map(|[operator, ..]| [operator, ports, 0])
        };
        let addr = |addr: Place, negated: bool| match addr {
            Place { len: UNSKIPPED, .. } | Place { high: 0, low: 0, len: 0..=BITS } => None,
            Place { high, low, len } => Some([high, low, u64::from(len) << 1 | u64::from(negated)]),
        };
        match step {
            Step::Interface => {
                let value = one(u64::from(key.interface) << 1);
                value.map(|[name, ..]| [name | u64::from(group.not_on), 0, 0])
            }
            Step::Direction => bits(DIRECTION),
            Step::Rdomain => {
                group.rdomain.map(|id| [u64::from(id) << 1 | u64::from(group.not_on), 0, 0])
            }
            Step::Af => bits(AF),
            Step::Proto => bits(PROTO),
            Step::From => addr(key.from, key.not_from()),
            Step::FromPort => port(FROM_PORT, 0),
            Step::To => addr(key.to, key.not_to()),
            Step::ToPort => port(TO_PORT, 32),
        }
    }
}

/// A number for the operator, never zero, and the ports.
fn port(port: Option<PortMatch>) -> (u64, u64) {
    let Some(port) = port else { return (0, 0) };
    let (operator, first, second) = match port {
        PortMatch::Equal(a) => (1, a, 0),
        PortMatch::NotEqual(a) => (2, a, 0),
        PortMatch::Less(a) => (3, a, 0),
        PortMatch::LessOrEqual(a) => (4, a, 0),
        PortMatch::Greater(a) => (5, a, 0),
        PortMatch::GreaterOrEqual(a) => (6, a, 0),
        PortMatch::Range(a, b) => (7, a, b),
        PortMatch::Inside(a, b) => (8, a, b),
        PortMatch::Outside(a, b) => (9, a, b),
    };
    (operator, u64::from(first) | u64::from(second) << 16)
}

/// Numbers that were given to names and other things.
#[derive(Default)]
struct Numbers<'r> {
    /// Groups but the usual one, which is 0.
    groups: HashMap<Equal<'r>, u32>,
    usual: Option<u32>,
    names: Vec<&'r str>,
    by_name: Index,
    /// For how many names the index is.
    room: usize,
    named: HashMap<Addr<'r>, u64>,
}

impl<'r> Numbers<'r> {
    fn group(&mut self, equal: Equal<'r>) -> u32 {
        let next = small(self.groups.len()) + u32::from(self.usual.is_some());
        if equal.is_usual() {
            *self.usual.get_or_insert(next)
        } else {
            *self.groups.entry(equal).or_insert(next)
        }
    }

    fn name(&mut self, name: &'r str) -> u32 {
        // Most rules are on the interface of the rule before them.
        if self.names.last() == Some(&name) {
            return small(self.names.len());
        }
        if self.names.len() >= self.room {
            self.room = 2 * self.names.len() + 8;
            self.by_name.reset(self.room);
            for (at, name) in self.names.iter().enumerate() {
                self.by_name.enter(hash_text(name), at, |_| false);
            }
        }
        let names = &self.names;
        let at = self.by_name.enter(hash_text(name), names.len(), |at| names[at] == name);
        if at == self.names.len() {
            self.names.push(name);
        }
        small(at + 1)
    }

    fn place(&mut self, addr: Addr<'r>) -> Place {
        let len = match addr {
            Addr::Net { bits, len } => {
                let octets = bits.to_be_bytes();
                let ([high, low], _) = octets.as_chunks::<8>() else { return Place::ANY };
                return Place {
                    high: u64::from_be_bytes(*high),
                    low: u64::from_be_bytes(*low),
                    len,
                };
            }
            Addr::Range(..) | Addr::RouteLabel(_) => UNSKIPPED,
            Addr::Table(_) | Addr::Dynamic { .. } | Addr::NoRoute | Addr::UrpfFailed => NAMED,
        };
        let next = u64::from(small(self.named.len()));
        Place { high: 0, low: *self.named.entry(addr).or_insert(next), len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_widen_to_what_holds_them() {
        let mut numbers = Numbers::default();
        let mut place = |text: &str| {
            let net = pfapi::ruleset::AddrMatch::Net(text.parse().unwrap());
            let Addr::Net { bits, len } = Addr::of(&net, None) else { panic!("{text}") };
            numbers.place(Addr::Net { bits, len })
        };
        let (wide, narrow) = (place("192.0.2.0/24"), place("192.0.2.128/25"));
        assert_eq!(narrow.widened(24), wide);
        assert_eq!(narrow.widened(25), narrow);
        assert_eq!(narrow.widened(0), Place::ANY);
        let (host, net) = (place("2001:db8::ff/128"), place("2001:db8::f0/124"));
        assert_eq!((host.widened(128), host.widened(124)), (host, net));
        assert_eq!(host.widened(64), place("2001:db8::/64"));
        assert_eq!(host.widened(65), place("2001:db8::/65"));
    }

    #[test]
    fn names_keep_their_numbers() {
        let mut numbers = Numbers::default();
        let names: Vec<String> = (0..100).map(|n| format!("em{n}")).collect();
        for (at, name) in names.iter().enumerate() {
            assert_eq!(numbers.name(name), small(at + 1));
        }
        for (at, name) in names.iter().enumerate() {
            assert_eq!(numbers.name(name), small(at + 1));
        }
    }
}
