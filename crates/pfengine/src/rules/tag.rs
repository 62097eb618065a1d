//! Tags: names that rules write onto packets and test later, and names of queues.
//!
//! A packet carries one tag as a small number, and its queue likewise. Names keep their numbers
//! over reloads, because states that outlive a load go on marking. Source: OpenBSD sys/net/pf.c
//! `pf_tagname2tag`; sys/net/pf_ioctl.c `pf_qname2qid`.

use core::num::NonZeroU16;
use std::collections::BTreeMap;

use crate::queue::QueueId;

/// A tag on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(NonZeroU16);

impl Tag {
    /// Its number; small, and the same over reloads.
    pub const fn number(self) -> u16 {
        self.0.get()
    }
}

/// Numbers of all tags that rules name or that states still carry.
#[derive(Clone, Debug, Default)]
pub struct Tags {
    numbers: BTreeMap<String, Tag>,
    /// Numbers of the names of queues.
    pub queues: BTreeMap<String, QueueId>,
}

impl Tags {
    /// The number of a tag that some rule names.
    pub fn get(&self, name: &str) -> Option<Tag> {
        self.numbers.get(name).copied()
    }

    /// Gives every name a number.
    ///
    /// # Errors
    /// The name for which no number is left: there are 65535.
    pub fn add<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
        let mut next = self.numbers.values().max().map_or(1, |tag| u32::from(tag.0.get()) + 1);
        for name in names {
            if self.numbers.contains_key(name) {
                continue;
            }
            let tag = self.unused(&mut next).ok_or_else(|| name.to_owned())?;
            self.numbers.insert(name.to_owned(), tag);
        }
        Ok(())
    }

    /// Drops the names whose tag nothing carries or names any more.
    pub fn retain(&mut self, in_use: impl Fn(&str, Tag) -> bool) {
        self.numbers.retain(|name, tag| in_use(name, *tag));
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The next number above all others, or, when those are used up, a gap.
    fn unused(&self, next: &mut u32) -> Option<Tag> {
        if let Some(number) = u16::try_from(*next).ok().and_then(NonZeroU16::new) {
            *next += 1;
            return Some(Tag(number));
        }
        let mut numbers: Vec<Tag> = self.numbers.values().copied().collect();
        numbers.sort_unstable();
        let gap = (1..=u16::MAX).zip(numbers.iter().map(|tag| tag.0.get()).chain([0]));
        let free = gap.into_iter().find(|(wanted, used)| wanted != used)?.0;
        NonZeroU16::new(free).map(Tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_numbers_and_gaps_are_used() {
        let mut tags = Tags::default();
        let names: Vec<String> = (0..65_535).map(|n| format!("t{n}")).collect();
        tags.add(names.iter().map(String::as_str)).unwrap();
        let kept = tags.get("t7").unwrap();
        assert_eq!(tags.add(["more"]), Err("more".to_owned()));
        tags.retain(|name, _| name != "t100");
        tags.add(["more", "t7"]).unwrap();
        assert_eq!(tags.get("t7"), Some(kept));
        assert_eq!(tags.len(), 65_535);
        assert!(tags.get("t100").is_none());
    }
}
