//! One field of the rules, cut into parts in which the same rules match.

use std::collections::HashMap;

use super::spans::{Spans, Value};

/// Bits in a word, and words in a chunk: one word of a summary.
pub const WORD: usize = 64;

/// A set of rules with a summary: one bit for each word that is not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dense {
    pub words: Vec<u64>,
    pub summary: Vec<u64>,
}

impl Dense {
    /// An empty set with room for `rules`.
    pub fn new(rules: usize) -> Self {
        let words = rules.div_ceil(WORD);
        Self { words: vec![0; words], summary: vec![0; words.div_ceil(WORD)] }
    }

    /// The rules for which `holds` says so.
    pub fn of(rules: usize, holds: impl Fn(usize) -> bool) -> Self {
        let mut set = Self::new(rules);
        (0..rules).filter(|&rule| holds(rule)).for_each(|rule| set.insert(rule));
        set
    }

    pub fn insert(&mut self, rule: usize) {
        let word = rule / WORD;
        self.words[word] |= 1 << (rule % WORD);
        self.summary[word / WORD] |= 1 << (word % WORD);
    }

    fn remove(&mut self, rule: usize) {
        let word = rule / WORD;
        self.words[word] &= !(1 << (rule % WORD));
        if self.words[word] == 0 {
            self.summary[word / WORD] &= !(1 << (word % WORD));
        }
    }

    /// Becomes a copy of `other`.
    fn copy(&mut self, other: &Self) {
        self.words.copy_from_slice(&other.words);
        self.summary.copy_from_slice(&other.summary);
    }

    /// Words that are not zero, with their positions.
    fn entries(&self) -> impl Iterator<Item = (u32, u64)> {
        let positions = self.summary.iter().enumerate().flat_map(|(chunk, &summary)| {
            let bits =
                core::iter::successors(Some(summary), |left| Some(left & left.wrapping_sub(1)));
            bits.take_while(|&left| left != 0)
                .map(move |left| chunk * WORD + left.trailing_zeros() as usize)
        });
        positions.map(|word| (u32::try_from(word).unwrap_or(u32::MAX), self.words[word]))
    }
}

/// The words of a set that are not zero, in ascending order.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    pub words: &'a [u32],
    pub bits: &'a [u64],
}

/// Sets of rules: each is a part of two lists.
#[derive(Debug, Default)]
struct Rows {
    /// Where each set begins; one more than there are sets.
    offsets: Vec<u32>,
    words: Vec<u32>,
    bits: Vec<u64>,
    /// Sets by a digest, so that equal ones are kept once.
    known: HashMap<u64, u32>,
}

impl Rows {
    /// The number of this set, which is added unless it is there.
    fn add(&mut self, set: &Dense) -> u32 {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        let start = self.words.len();
        let mut digest = 0_u64;
        for (word, bits) in set.entries() {
            self.words.push(word);
            self.bits.push(bits);
            digest = (digest ^ bits ^ u64::from(word) << 40)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29);
        }
        let next = position(self.offsets.len() - 1);
        let known = *self.known.entry(digest).or_insert(next);
        if known != next {
            let (from, to) = self.range(known);
            if self.words[from..to] == self.words[start..]
                && self.bits[from..to] == self.bits[start..]
            {
                self.words.truncate(start);
                self.bits.truncate(start);
                return known;
            }
        }
        self.offsets.push(position(self.words.len()));
        next
    }

    fn range(&self, row: u32) -> (usize, usize) {
        let row = row as usize;
        (self.offsets[row] as usize, self.offsets[row + 1] as usize)
    }
}

/// A position in a list; lists are bounded far below 2^32.
fn position(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// One field, cut into parts.
#[derive(Debug)]
pub struct Axis<V> {
    /// Rules that take any value.
    pub any: Dense,
    /// First value of each part, ascending, the lowest value first.
    starts: Vec<V>,
    /// The set of each part, without the rules that take any value.
    sets: Vec<u32>,
    rows: Rows,
    /// For each number of 16 bits, how many parts begin with lower ones; empty for few parts.
    root: Vec<u32>,
}

/// Parts from which on the search begins in a table of 16 bits.
const ROOT_FROM: usize = 256;

impl<V: Value> Axis<V> {
    /// The parts for rules that accept these values. Uses up some of `budget`, which counts words
    /// of sets: when it does not suffice, neighbouring parts are joined.
    pub fn new(accepted: &[Spans<V>], budget: &mut usize) -> Self {
        let rules = accepted.len();
        let any = Dense::of(rules, |rule| accepted[rule].is_none());
        let mut events: Vec<(V, bool, usize)> = Vec::new();
        for (rule, spans) in accepted.iter().enumerate() {
            for &(low, high) in spans.iter().flatten() {
                events.push((low, true, rule));
                events.extend(high.next().map(|end| (end, false, rule)));
            }
        }
        events.sort_unstable();
        // One set for all values always has room.
        let room = (*budget).max(rules.div_ceil(WORD));
        let mut group = 1;
        let (starts, sets, rows) = loop {
            if let Some(parts) = cut(&events, rules, group, room) {
                break parts;
            }
            group *= 4;
        };
        *budget = budget.saturating_sub(rows.words.len());
        let root = if starts.len() < ROOT_FROM { Vec::new() } else { root(&starts) };
        Self { any, starts, sets, rows, root }
    }

    /// Whether every rule takes any value, so that the field says nothing.
    pub fn is_idle(&self) -> bool {
        self.rows.words.is_empty() && self.any.words.iter().all(|&word| word == u64::MAX)
    }

    /// Rules that accept this value and not any other.
    pub fn find(&self, value: V) -> Row<'_> {
        let (low, high) = match self.root.get(value.top()..) {
            Some([low, high, ..]) => (*low as usize, *high as usize),
            _ => (0, self.starts.len()),
        };
        let part = low + self.starts[low..high].partition_point(|&start| start <= value);
        let (from, to) = self.rows.range(self.sets[part - 1]);
        Row { words: &self.rows.words[from..to], bits: &self.rows.bits[from..to] }
    }

    /// Octets that the parts and sets take.
    #[cfg(test)]
    pub fn octets(&self) -> usize {
        size_of::<V>() * self.starts.len()
            + 4 * (self.sets.len() + self.rows.offsets.len() + self.root.len())
            + 12 * self.rows.words.len()
    }
}

fn root<V: Value>(starts: &[V]) -> Vec<u32> {
    let numbers = 0..=usize::from(u16::MAX) + 1;
    numbers.map(|top| position(starts.partition_point(|start| start.top() < top))).collect()
}

/// Walks over the ends of all spans in order and keeps the set of rules that are open. A part ends
/// with each `group`-th value and has every rule that is open anywhere in it. `None` when the sets
/// take more than `room` words.
fn cut<V: Value>(
    events: &[(V, bool, usize)],
    rules: usize,
    group: usize,
    room: usize,
) -> Option<(Vec<V>, Vec<u32>, Rows)> {
    let (mut open, mut part) = (Dense::new(rules), Dense::new(rules));
    let (mut starts, mut sets, mut rows) = (vec![V::MIN], Vec::new(), Rows::default());
    let mut values = 0_usize;
    for at_once in events.chunk_by(|(one, ..), (other, ..)| one == other) {
        let value = at_once[0].0;
        let ends = value != V::MIN && (values + 1).is_multiple_of(group);
        values += usize::from(value != V::MIN);
        if ends {
            sets.push(rows.add(if group == 1 { &open } else { &part }));
            starts.push(value);
            if rows.words.len() > room {
                return None;
            }
        }
        for &(_, opens, rule) in at_once {
            if opens {
                open.insert(rule);
                part.insert(rule);
            } else {
                open.remove(rule);
            }
        }
        if ends && group > 1 {
            part.copy(&open);
        }
    }
    sets.push(rows.add(if group == 1 { &open } else { &part }));
    rows.known = HashMap::new();
    (rows.words.len() <= room).then_some((starts, sets, rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(axis: &Axis<u16>, value: u16) -> Vec<usize> {
        let row = axis.find(value);
        let mut all = axis.any.clone();
        for (&word, &bits) in row.words.iter().zip(row.bits) {
            all.words[word as usize] |= bits;
        }
        (0..all.words.len() * WORD)
            .filter(|rule| all.words[rule / WORD] >> (rule % WORD) & 1 == 1)
            .collect()
    }

    fn rules() -> impl Strategy<Value = Vec<Spans<u16>>> {
        let span = (0..400_u16, 0..60_u16).prop_map(|(low, more)| {
            // Some spans reach both ends of the field.
            if low > 380 { (u16::MAX - more, u16::MAX) } else { (low, low + more) }
        });
        let rule = prop_oneof![
            1 => Just(None),
            9 => prop::collection::vec(span, 0..3).prop_map(|mut spans| {
                spans.sort_unstable();
                spans.dedup_by(|next, last| next.0 <= last.1.saturating_add(1));
                Some(spans)
            }),
        ];
        prop::collection::vec(rule, 0..300)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn finds_the_rules_that_accept_a_value(rules in rules()) {
            let exact = Axis::new(&rules, &mut usize::MAX.clone());
            // With hardly any room the sets are too large, never too small.
            let coarse = Axis::new(&rules, &mut 0);
            prop_assert!(coarse.rows.words.len() <= rules.len().div_ceil(WORD));
            for value in (0..470).chain(65_400..=65_535) {
                let wanted: Vec<usize> = (0..rules.len())
                    .filter(|&rule| rules[rule].as_ref().is_none_or(|spans| {
                        spans.iter().any(|&(low, high)| low <= value && value <= high)
                    }))
                    .collect();
                prop_assert_eq!(&set(&exact, value), &wanted, "{}", value);
                let found = set(&coarse, value);
                prop_assert!(wanted.iter().all(|rule| found.contains(rule)));
            }
        }
    }

    #[test]
    fn a_large_axis_searches_from_a_table() {
        let rules: Vec<Spans<u16>> =
            (0..1_000).map(|rule| Some(vec![(rule * 60, rule * 60 + 9)])).collect();
        let axis = Axis::new(&rules, &mut usize::MAX.clone());
        assert!(!axis.root.is_empty());
        for value in [0, 9, 10, 59, 60, 59_940, 59_949, 59_950, u16::MAX] {
            let wanted: Vec<usize> = (0..1_000)
                .filter(|rule| (rule * 60..rule * 60 + 10).contains(&usize::from(value)))
                .collect();
            assert_eq!(set(&axis, value), wanted, "{value}");
        }
    }

    /// Nested spans are the worst case: every part has another set of many rules.
    #[test]
    fn memory_stays_within_the_budget() {
        let rules: Vec<Spans<u32>> =
            (0..20_000).map(|rule| Some(vec![(rule, u32::MAX - rule)])).collect();
        let mut budget = 1 << 16;
        let axis = Axis::new(&rules, &mut budget);
        assert!(axis.octets() < 12 * (1 << 16) + (1 << 20), "{} octets", axis.octets());
        assert!(axis.starts.len() > 100, "{} parts", axis.starts.len());
        assert!(budget < 1 << 16);
    }
}
