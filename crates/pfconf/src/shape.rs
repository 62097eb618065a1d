//! Recognizes statements that are alike, so that the grammar reads each kind of line once.
//!
//! Whether a statement fits the grammar, and what its nodes are, depends on its keywords and signs,
//! and on what is a name, a number or a quoted string, but not on which name or number it is. The
//! *outline* of a statement keeps the former and has marks in the place of the latter. Files of
//! many rules have few outlines: all but the first of an outline cost a walk over their octets.
//!
//! Invariants: words that the grammar names in quotes are kept (they are taken from its text, so
//! that a new one cannot be forgotten); words that are not plain names or numbers are kept; a
//! statement with a mistake is never remembered. Debug builds parse every statement both ways.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::LazyLock;

use crate::parser::Rule;
use crate::scan::{is_word_octet, quoted_len};
use crate::tree::{Shape, Tree};
use crate::wordset::WordSet;

/// Most outlines that are remembered.
const OUTLINES_MAX: usize = 1_000;
/// Longest outline that is remembered, in octets.
const OUTLINE_MAX: usize = 1_000;

/// Marks in outlines; no octets of UTF-8.
const NAME: u8 = 0xff;
const NUMBER: u8 = 0xfe;
const QUOTED: u8 = 0xfd;
const BLANK: u8 = 0xfc;

const GRAMMARS: [&str; 5] = [
    include_str!("pf.pest"),
    include_str!("freebsd.pest"),
    include_str!("altq.pest"),
    include_str!("ether.pest"),
    include_str!("limiters.pest"),
];

/// Words that the grammar names.
static NAMED: LazyLock<WordSet> =
    LazyLock::new(|| WordSet::new(GRAMMARS.into_iter().flat_map(literals).map(|(word, _)| word)));

/// Everything between quotation marks in a grammar, and what stands behind it on its line.
fn literals(grammar: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    grammar.lines().flat_map(|line| {
        let mut rest = line;
        std::iter::from_fn(move || {
            let start = rest.find(['"', '/'])?;
            if rest[start..].starts_with("//") {
                return None;
            }
            let word = &rest[start + 1..];
            let len = quoted_len(&rest[start..], '"').map_or(word.len(), |len| len - 2);
            rest = word.get(len + 1..).unwrap_or_default();
            Some((&word[..len], rest))
        })
    })
}

/// Outlines that were seen, and what the grammar made of them.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    known: HashMap<Box<[u8]>, Rc<Shape>>,
    /// Outline of the statement at hand, and where its words are.
    outline: Vec<u8>,
    bounds: Vec<usize>,
}

impl Shapes {
    /// The tree of a statement like one that was seen before. Without one, what the grammar makes
    /// of this statement is to be told to [`Shapes::learn`].
    pub(crate) fn find<'s>(&mut self, entry: Rule, text: &'s str) -> Option<Tree<'s>> {
        self.outline.clear();
        self.bounds.clear();
        // Entries are few; the cast keeps them apart.
        self.outline.extend((entry as usize).to_le_bytes());
        if outline(text, &mut self.outline, &mut self.bounds).is_none() {
            self.outline.clear();
            return None;
        }
        let shape = self.known.get(self.outline.as_slice())?;
        Some(Tree::new(text, Rc::clone(shape), self.bounds.clone()))
    }

    /// Remembers what the grammar made of the statement that [`Shapes::find`] was just asked for.
    pub(crate) fn learn(&mut self, pairs: pest::iterators::Pairs<'_, Rule>) {
        if self.outline.is_empty() {
            return;
        }
        let bounds = &self.bounds;
        let shape = Shape::new(pairs, |offset| {
            let at = bounds.binary_search(&offset).ok()?;
            u32::try_from(at).ok()
        });
        if let Some(shape) = shape {
            if self.known.len() >= OUTLINES_MAX {
                self.known.clear();
            }
            self.known.insert(self.outline.as_slice().into(), Rc::new(shape));
        }
    }
}

/// Appends the outline of a text and the bounds of its words; `None` where it is too long, or has
/// a quoted string that is not closed.
fn outline(text: &str, outline: &mut Vec<u8>, bounds: &mut Vec<usize>) -> Option<()> {
    let octets = text.as_bytes();
    let mut at = 0;
    bounds.push(0);
    while let Some(&octet) = octets.get(at) {
        if outline.len() > OUTLINE_MAX {
            return None;
        }
        if matches!(octet, b' ' | b'\t' | b'\r') {
            if outline.last() != Some(&BLANK) {
                outline.push(BLANK);
            }
            at += 1;
            continue;
        }
        let end = if matches!(octet, b'"' | b'\'') {
            outline.push(QUOTED);
            at + quoted_len(&text[at..], char::from(octet))?
        } else if is_word_octet(octet) {
            let len = octets[at..].iter().position(|&octet| !is_word_octet(octet));
            let end = len.map_or(octets.len(), |len| at + len);
            word(&text[at..end], outline);
            end
        } else {
            outline.push(octet);
            at + 1
        };
        bounds.extend([at, end]);
        at = end;
    }
    bounds.push(octets.len());
    Some(())
}

fn word(word: &str, outline: &mut Vec<u8>) {
    let octets = word.as_bytes();
    let first = octets[0];
    if octets.iter().all(u8::is_ascii_digit) {
        outline.push(NUMBER);
    } else if (first.is_ascii_alphanumeric() || matches!(first, b':' | b'_'))
        && !NAMED.contains(word)
    {
        outline.push(NAME);
    } else {
        outline.extend(octets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Vec<u8>> {
        let mut found = Vec::new();
        outline(text, &mut found, &mut Vec::new()).map(|()| found)
    }

    #[test]
    fn names_and_numbers_do_not_count() {
        assert_eq!(of("pass on em0 to 10.0.0.1/8"), of("pass  on re1 to\t10.9.9.9/24"));
        assert_eq!(of("label \"a b\""), of("label 'c'"));
        for (one, other) in [
            ("pass on em0", "pass on any"),
            ("port 80", "port www"),
            ("port 80", "port -1"),
            ("a - b", "a -b"),
            ("< 1>", "< 1 >"),
            ("a", "a "),
            ("label \"a\"", "label a"),
        ] {
            assert_ne!(of(one), of(other), "{one} | {other}");
        }
        assert_eq!(of("label \"a"), None);
    }

    #[test]
    fn literals_of_the_grammar_are_found() {
        let grammar = "a = { \"x\" ~ \"\\\"\" ~ b } // \"z\"\n";
        let found: Vec<_> = literals(grammar).map(|(word, _)| word).collect();
        assert_eq!(found, ["x", "\\\""]);
        assert!(NAMED.contains("pass"));
    }

    /// A name that is only the front of a word must not decide anything: names are marks here.
    #[test]
    fn named_words_of_the_grammar_end_where_words_end() {
        for (word, behind) in GRAMMARS.into_iter().flat_map(literals) {
            let behind = behind.trim_start();
            let alternative = behind.is_empty() || behind.starts_with('|');
            let is_word = word.starts_with(|first: char| first.is_ascii_alphabetic());
            assert!(!is_word || alternative || behind.starts_with("~ !word_char"), "{word}");
        }
    }
}
