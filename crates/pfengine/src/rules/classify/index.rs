//! The rules of one long ruleset by all fields together.

use pfapi::addr::Af;
use pfapi::ruleset::RuleKind;
use pfapi::units::{Direction, IfIndex};

use super::axis::{Axis, Dense, Row, WORD};
use super::spans;
use crate::rules::compile::CompiledEndpoint;
use crate::rules::program::Step;
use crate::rules::translate::Addresses;

/// Words of sets that one axis may take, and all axes of all rulesets together: 12 octets each.
///
/// Ten thousand rules with nested networks need 1.5 million; ordinary ones far less. Beyond it
/// sets become coarser, and the walk looks at more rules.
const AXIS_WORDS_MAX: usize = 1 << 21;
const ALL_WORDS_MAX: usize = 1 << 22;
/// Interfaces that are told apart, and different sets of rules for them.
const INTERFACES_MAX: u16 = 1_024;
const INTERFACE_SETS_MAX: usize = 64;

/// Memory that is left for sets.
#[derive(Debug)]
pub struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(ALL_WORDS_MAX)
    }
}

impl Budget {
    /// The axis for rules that accept these values.
    fn axis<V: spans::Value>(&mut self, accepted: &[spans::Spans<V>]) -> Axis<V> {
        let share = self.0.min(AXIS_WORDS_MAX);
        let mut left = share;
        let axis = Axis::new(accepted, &mut left);
        self.0 -= share - left;
        axis
    }
}

/// What the rules of a walk see of a packet, but for addresses and ports.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub kind: RuleKind,
    pub direction: Direction,
    pub interface: IfIndex,
    pub proto: u8,
    /// Whether the packet shows ports. Of others rules with ports may match nevertheless.
    pub has_ports: bool,
}

/// Both addresses of one family.
#[derive(Debug)]
struct Ends<V> {
    src: Axis<V>,
    dst: Axis<V>,
}

/// The rules of one ruleset by their fields.
#[derive(Debug)]
pub struct RuleIndex {
    /// By kind of rule, direction and family: see [`class`].
    classes: Vec<Dense>,
    /// The empty set.
    none: Dense,
    /// Position in `proto_sets` for each protocol.
    protos: Vec<u8>,
    proto_sets: Vec<Dense>,
    /// Position in `interface_sets` for each interface; the first set is for all others.
    interfaces: Vec<u8>,
    interface_sets: Vec<Dense>,
    inet: Ends<u32>,
    inet6: Ends<u128>,
    ports: Ends<u16>,
}

/// Kinds of rules that are walked.
const KINDS: [RuleKind; 4] = [RuleKind::Nat, RuleKind::Rdr, RuleKind::Binat, RuleKind::Filter];

/// The set of rules of this kind, in this direction, of this family; `None` for kinds that are
/// never walked.
fn class(kind: RuleKind, direction: Direction, af: Af) -> Option<usize> {
    let kind = KINDS.iter().position(|&known| known == kind)?;
    let (out, inet6) = (direction == Direction::Out, af == Af::Inet6);
    Some(kind * 4 + usize::from(out) * 2 + usize::from(inet6))
}

impl RuleIndex {
    /// The index of these rules.
    pub fn new(steps: &[Step], budget: &mut Budget) -> Self {
        let rules = steps.len();
        let mut classes = Vec::with_capacity(KINDS.len() * 4);
        // Gathered once: the steps themselves lie far apart.
        let asked: Vec<_> =
            steps.iter().map(|step| (step.kind, step.test.direction, step.test.af)).collect();
        for kind in KINDS {
            for direction in [Direction::In, Direction::Out] {
                for af in [Af::Inet, Af::Inet6] {
                    debug_assert_eq!(Some(classes.len()), class(kind, direction, af));
                    classes.push(Dense::of(rules, |rule| {
                        let (of_kind, wanted, family) = asked[rule];
                        of_kind == kind
                            && wanted.is_none_or(|wanted| wanted == direction)
                            && family.is_none_or(|wanted| wanted == af)
                    }));
                }
            }
        }
        let (protos, proto_sets) = proto_sets(steps);
        let (interfaces, interface_sets) = interface_sets(steps);
        Self {
            classes,
            none: Dense::new(rules),
            protos,
            proto_sets,
            interfaces,
            interface_sets,
            inet: ends(steps, budget, spans::inet),
            inet6: ends(steps, budget, spans::inet6),
            ports: ends(steps, budget, |end| spans::ports(end.port)),
        }
    }

    /// Rules from position `from` on that may match a packet.
    pub fn candidates(&self, place: Place, now: &Addresses, from: usize) -> Candidates<'_> {
        let proto = self.protos[usize::from(place.proto)];
        let interface = self.interfaces.get(usize::from(place.interface.0)).copied().unwrap_or(0);
        let dense = [
            class(place.kind, place.direction, now.af)
                .and_then(|class| self.classes.get(class))
                .unwrap_or(&self.none),
            &self.proto_sets[usize::from(proto)],
            &self.interface_sets[usize::from(interface)],
        ];
        let [src, dst] = match now.af {
            Af::Inet => self.inet.find(low32(now.src.0), low32(now.dst.0)),
            Af::Inet6 => self.inet6.find(now.src.0, now.dst.0),
        };
        let [sport, dport] =
            if place.has_ports { self.ports.find(now.sport, now.dport) } else { [None, None] };
        let mut candidates = Candidates {
            dense,
            sparse: [src, dst, sport, dport],
            chunk: from / (WORD * WORD),
            mask: 0,
            word: from / WORD,
            bits: 0,
        };
        candidates.begin(from);
        candidates
    }
}

fn low32(addr: u128) -> u32 {
    u32::try_from(addr & u128::from(u32::MAX)).unwrap_or(0)
}

impl<V: spans::Value> Ends<V> {
    fn find(&self, src: V, dst: V) -> [Option<Sparse<'_>>; 2] {
        [axis_set(&self.src, src), axis_set(&self.dst, dst)]
    }
}

fn axis_set<V: spans::Value>(axis: &Axis<V>, value: V) -> Option<Sparse<'_>> {
    (!axis.is_idle()).then(|| Sparse { any: &axis.any, row: axis.find(value) })
}

fn ends<V: spans::Value>(
    steps: &[Step],
    budget: &mut Budget,
    spans: impl Fn(&CompiledEndpoint) -> spans::Spans<V>,
) -> Ends<V> {
    let mut axis = |end: fn(&Step) -> &CompiledEndpoint| {
        let accepted: Vec<_> = steps
            .iter()
            // What `binat` says depends on the direction.
            .map(|step| if step.inbound.is_some() { None } else { spans(end(step)) })
            .collect();
        budget.axis(&accepted)
    };
    Ends { src: axis(|step| &step.test.from), dst: axis(|step| &step.test.to) }
}

fn proto_sets(steps: &[Step]) -> (Vec<u8>, Vec<Dense>) {
    let wanted: Vec<Option<u8>> = steps.iter().map(|step| step.test.proto).collect();
    let set = |proto: Option<u8>| {
        Dense::of(wanted.len(), |rule| wanted[rule].is_none() || wanted[rule] == proto)
    };
    let mut named = [false; 256];
    wanted.iter().flatten().for_each(|&proto| named[usize::from(proto)] = true);
    let mut sets = vec![set(None)];
    let mut protos = vec![0; 256];
    for proto in 0..=u8::MAX {
        if named[usize::from(proto)] {
            // When every protocol is named, the first set is for none and one too many.
            protos[usize::from(proto)] = u8::try_from(sets.len()).unwrap_or(0);
            sets.push(set(Some(proto)));
        }
    }
    if sets.len() > protos.len() {
        // No room for the last one among 256 numbers: protocols are left to the rules.
        return (vec![0; 256], vec![Dense::of(steps.len(), |_| true)]);
    }
    (protos, sets)
}

fn interface_sets(steps: &[Step]) -> (Vec<u8>, Vec<Dense>) {
    let rules = steps.len();
    let sets = steps.iter().filter_map(|step| step.test.interfaces.as_ref());
    let bound = sets.map(crate::rules::compile::InterfaceSet::bound).max().unwrap_or(0);
    let all = || (Vec::new(), vec![Dense::of(rules, |_| true)]);
    if bound > INTERFACES_MAX {
        return all();
    }
    let mut sets = vec![Dense::of(rules, |rule| steps[rule].test.interfaces.is_none())];
    let mut interfaces = Vec::new();
    for index in 0..bound {
        let set = Dense::of(rules, |rule| {
            steps[rule].test.interfaces.as_ref().is_none_or(|set| set.contains(index))
        });
        let known = sets.iter().position(|known| *known == set).unwrap_or_else(|| {
            sets.push(set);
            sets.len() - 1
        });
        if sets.len() > INTERFACE_SETS_MAX {
            return all();
        }
        interfaces.push(u8::try_from(known).unwrap_or(0));
    }
    (interfaces, sets)
}

/// The set of one field: rules that take any value, and those that accept this one.
#[derive(Clone, Copy, Debug)]
struct Sparse<'a> {
    any: &'a Dense,
    row: Row<'a>,
}

impl Sparse<'_> {
    /// Forgets the words before this one.
    fn skip_to(&mut self, word: usize) {
        let passed = self.row.words.partition_point(|&at| (at as usize) < word);
        self.row = Row { words: &self.row.words[passed..], bits: &self.row.bits[passed..] };
    }

    /// Words of a chunk with a bit.
    fn summary(&self, chunk: usize) -> u64 {
        let own = self.row.words.iter().take_while(|&&at| (at as usize) < (chunk + 1) * WORD);
        own.fold(self.any.summary[chunk], |summary, &at| summary | 1 << (at as usize % WORD))
    }

    /// One word, not before the ones asked for earlier.
    fn word(&mut self, word: usize) -> u64 {
        while let Some(&at) = self.row.words.first()
            && (at as usize) < word
        {
            self.row = Row { words: &self.row.words[1..], bits: &self.row.bits[1..] };
        }
        let own = match self.row.words.first() {
            Some(&at) if at as usize == word => self.row.bits[0],
            _ => 0,
        };
        self.any.words[word] | own
    }
}

/// Rules that may match a packet, one after the other, in rule order.
#[derive(Clone, Debug)]
pub struct Candidates<'a> {
    dense: [&'a Dense; 3],
    sparse: [Option<Sparse<'a>>; 4],
    chunk: usize,
    /// Words of the chunk that are still to be read.
    mask: u64,
    word: usize,
    /// Rules of the word that are still to be given.
    bits: u64,
}

impl Candidates<'_> {
    /// Comes to the chunk and word of the first rule.
    fn begin(&mut self, from: usize) {
        let (word, chunk) = (self.word, self.chunk);
        if chunk >= self.dense[0].summary.len() {
            return;
        }
        self.sparse.iter_mut().flatten().for_each(|set| set.skip_to(word));
        let own = 1 << (word % WORD);
        let mask = self.summary();
        if mask & own != 0 {
            self.bits = self.read() & (u64::MAX << (from % WORD));
        }
        self.mask = mask & !(own | (own - 1));
    }

    fn summary(&self) -> u64 {
        let chunk = self.chunk;
        let dense = self.dense.iter().fold(u64::MAX, |all, set| all & set.summary[chunk]);
        if dense == 0 {
            return 0;
        }
        self.sparse.iter().flatten().fold(dense, |all, set| all & set.summary(chunk))
    }

    fn read(&mut self) -> u64 {
        let word = self.word;
        let dense = self.dense.iter().fold(u64::MAX, |all, set| all & set.words[word]);
        self.sparse.iter_mut().flatten().fold(dense, |all, set| all & set.word(word))
    }
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        loop {
            if self.bits != 0 {
                let bit = self.bits.trailing_zeros() as usize;
                self.bits &= self.bits - 1;
                return Some(self.word * WORD + bit);
            }
            if self.mask != 0 {
                self.word = self.chunk * WORD + self.mask.trailing_zeros() as usize;
                self.mask &= self.mask - 1;
                self.bits = self.read();
                continue;
            }
            self.chunk += 1;
            if self.chunk >= self.dense[0].summary.len() {
                // Stays at the end when asked again.
                self.chunk -= 1;
                return None;
            }
            let start = self.chunk * WORD;
            self.sparse.iter_mut().flatten().for_each(|set| set.skip_to(start));
            self.mask = self.summary();
        }
    }
}
