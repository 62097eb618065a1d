//! Finds rules that another rule of their superblock includes, or repeats.
//!
//! Whichever rule of a superblock matches, the same happens; so a rule that matches only packets
//! that another one matches, too, can go. Of rules that are the same the first stays. pfctl
//! compares every two rules; as "includes" is transitive, looking for each rule up whether a wider
//! one exists comes to the same. Only what the superblock has is tried: fields that some rule
//! leaves open, and networks that hold the rule's own. Source: OpenBSD
//! sbin/pfctl/pfctl_optimize.c `remove_identical_rules`, `exclude_supersets`.

use super::hash::{Index, hash, small};
use super::key::{Key, Open, Place};

/// For each rule of a superblock whether it stays.
pub(super) fn kept(keys: &[Key]) -> Vec<bool> {
    let mut known = Index::default();
    known.reset(keys.len());
    let mut keep: Vec<bool> = Vec::with_capacity(keys.len());
    for (at, key) in keys.iter().enumerate() {
        keep.push(known.enter(key.hash(), at, |other| keys[other] == *key) == at);
    }
    let search = Search {
        keys,
        known,
        open: open(keys),
        from: Nets::new(keys, |key| key.from, |key| key.to),
        to: Nets::new(keys, |key| key.to, |key| key.from),
    };
    if search.is_vain() {
        return keep;
    }
    for (at, keep) in keep.iter_mut().enumerate() {
        *keep = *keep && !search.is_included(at);
    }
    keep
}

/// What the rules of a superblock leave open, each once, and most of it first.
fn open(keys: &[Key]) -> Vec<Open> {
    let mut seen = [false; Open::ALL];
    let mut found: Vec<Open> = Vec::new();
    for open in keys.iter().map(Key::open) {
        if !std::mem::replace(&mut seen[open.number()], true) {
            found.push(open);
        }
    }
    found.sort_by_key(|open| std::cmp::Reverse(open.count()));
    found
}

/// The addresses of one side.
struct Nets {
    /// For each rule the number of its address; empty where no address holds another.
    numbers: Vec<u32>,
    /// For each address the lengths of the shorter networks that hold it, a bit for each.
    wider: Vec<u128>,
    /// For each address the lengths of networks on the other side, in rules that have it or one
    /// that holds it on this side.
    across: Vec<u128>,
}

impl Nets {
    fn new(keys: &[Key], side: impl Fn(&Key) -> Place, other_side: impl Fn(&Key) -> Place) -> Self {
        let mut used = [false; 129];
        let mut named = false;
        for key in keys {
            match side(key).len() {
                Some(len) => used[usize::from(len)] = true,
                None => named = true,
            }
        }
        let lengths: Vec<u8> = (0..=128).filter(|&len| used[usize::from(len)]).collect();
        let mut found = Self { numbers: Vec::new(), wider: Vec::new(), across: Vec::new() };
        if lengths.len() + usize::from(named && used[0]) <= 1 {
            return found;
        }
        // Of each address the first rule that has it.
        let mut firsts: Vec<u32> = Vec::new();
        let mut own_across: Vec<u128> = Vec::new();
        let mut index = Index::default();
        index.reset(keys.len());
        let at = |firsts: &[u32], number: usize| side(&keys[firsts[number] as usize]);
        for (rule, key) in keys.iter().enumerate() {
            let addr = side(key);
            let new = firsts.len();
            let is = |number| at(&firsts, number) == addr;
            let number = index.enter(hash(addr.words()), new, is);
            if number == new {
                firsts.push(small(rule));
                own_across.push(0);
            }
            // Nothing holds a network of 128 bits but itself.
            let len = other_side(key).len().filter(|&len| len < 128);
            own_across[number] |= len.map_or(0, |len| 1_u128 << len);
            found.numbers.push(small(number));
        }
        for number in 0..firsts.len() {
            let addr = at(&firsts, number);
            let own = addr.len().unwrap_or(1);
            let (mut wider, mut across) = (0, own_across[number]);
            for &len in lengths.iter().take_while(|&&len| len < own) {
                let net = if addr.len().is_some() { addr.widened(len) } else { Place::ANY };
                let is = |number: usize| at(&firsts, number) == net;
                if let Some(holder) = index.get(hash(net.words()), is) {
                    wider |= 1 << len;
                    across |= own_across[holder];
                }
            }
            found.wider.push(wider);
            found.across.push(across);
        }
        found
    }

    /// The lengths of networks that a wider rule can have on the other side.
    fn across(&self, rule: usize) -> u128 {
        let number = self.numbers.get(rule);
        number.map_or(u128::MAX, |&number| self.across[number as usize])
    }

    /// The addresses that hold that of a rule, the widest first, and itself. `any` without `!`
    /// holds whatever there is, a larger network only those of its own family. Other lengths than
    /// those `of` are left out.
    fn holding(
        &self,
        rule: usize,
        own: Place,
        (negated, same_family): (bool, bool),
        of: u128,
    ) -> impl Iterator<Item = Place> + use<> {
        let number = self.numbers.get(rule);
        let mut wider = number.map_or(0, |&number| self.wider[number as usize] & of);
        let is_net = own.len().is_some();
        if negated && (!is_net || !same_family) {
            wider &= !1;
        }
        if !same_family {
            wider &= 1;
        }
        let wider = std::iter::from_fn(move || {
            let len = u8::try_from(wider.trailing_zeros()).ok().filter(|_| wider != 0)?;
            wider &= wider - 1;
            Some(if len == 0 { Place::ANY } else { own.widened(len) })
        });
        wider.chain([own])
    }
}

struct Search<'k> {
    keys: &'k [Key],
    /// Places in `keys`.
    known: Index,
    open: Vec<Open>,
    from: Nets,
    to: Nets,
}

impl Search<'_> {
    /// Whether no rule can include another.
    const fn is_vain(&self) -> bool {
        self.open.len() <= 1 && self.from.wider.is_empty() && self.to.wider.is_empty()
    }

    fn is_included(&self, rule: usize) -> bool {
        let key = self.keys[rule];
        let own = key.open();
        self.open.iter().filter(|open| open.includes(own)).any(|&open| {
            let opened = key.opened(open);
            let same_family = opened.has_af() || !key.has_af();
            let (not_from, not_to) = ((key.not_from(), same_family), (key.not_to(), same_family));
            let (of_from, of_to) = (self.to.across(rule), self.from.across(rule));
            self.from.holding(rule, key.from, not_from, of_from).any(|from| {
                self.to.holding(rule, key.to, not_to, of_to).any(|to| {
                    let mut wider = opened;
                    (wider.from, wider.to) = (from, to);
                    wider != key
                        && self.known.get(wider.hash(), |at| self.keys[at] == wider).is_some()
                })
            })
        })
    }
}
