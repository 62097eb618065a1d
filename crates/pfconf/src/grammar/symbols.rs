//! Cuts a statement into words and signs, each of which is a number.

use std::borrow::Cow;

use crate::scan::{is_word_octet, quoted_len};

/// A word or sign: one that the grammar names, or what kind of other it is.
pub(super) type Symbol = u8;

/// A name, or a value such as `80%`, that the grammar does not know.
pub(super) const NAME: Symbol = 0;
/// Digits.
pub(super) const NUMBER: Symbol = 1;
/// Digits behind a minus.
pub(super) const NEGATIVE: Symbol = 2;
/// Text between quotation marks.
pub(super) const QUOTED: Symbol = 3;
/// The end of the statement.
pub(super) const END: Symbol = 4;
/// The first that stands for a word or sign of the grammar.
const FIRST: Symbol = 5;

/// How many symbols there can be.
pub(super) const SYMBOLS: usize = 256;

/// A set of symbols.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Set([u64; 4]);

impl Set {
    pub(super) const fn has(&self, symbol: Symbol) -> bool {
        self.0[(symbol >> 6) as usize] >> (symbol & 63) & 1 != 0
    }

    pub(super) const fn add(&mut self, symbol: Symbol) {
        self.0[(symbol >> 6) as usize] |= 1 << (symbol & 63);
    }

    pub(super) fn symbols(&self) -> impl Iterator<Item = Symbol> {
        let all = *self;
        (0..=Symbol::MAX).filter(move |&symbol| all.has(symbol))
    }

    pub(super) fn join(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, more)| *mine |= more);
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).any(|(mine, more)| mine & more != 0)
    }

    pub(super) fn without(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] & !other.0[at]))
    }
}

/// A word or sign of a statement, and where it is, in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) symbol: Symbol,
}

impl Token {
    #[expect(clippy::cast_possible_truncation, reason = "longer statements have no tokens")]
    const fn new(start: usize, end: usize, symbol: Symbol) -> Self {
        Self { start: start as u32, end: end as u32, symbol }
    }
}

/// The words and signs that the grammar names.
#[derive(Debug)]
pub(super) struct Symbols {
    /// In the order of their numbers, from [`FIRST`] on.
    all: Vec<Cow<'static, str>>,
    /// Words and their numbers, by [`slot`].
    words: Vec<Vec<(Cow<'static, str>, Symbol)>>,
    /// Signs of one octet, by it.
    signs: [Option<Symbol>; 128],
    /// Signs of two octets.
    pairs: Vec<([u8; 2], Symbol)>,
}

/// Slots that words are looked up in.
const SLOTS: usize = 1024;

/// Where a word is looked up: few share a slot.
fn slot(word: &[u8]) -> usize {
    let octet = |at: usize| usize::from(word.get(at).copied().unwrap_or_default());
    let len = word.len();
    let last = octet(len.wrapping_sub(1));
    let hash =
        octet(0) * 31 + octet(len / 2) * 7 + last * 131 + octet(len.wrapping_sub(3)) + len * 17;
    hash % SLOTS
}

impl Symbols {
    pub(super) fn new(literals: Vec<Cow<'static, str>>) -> Self {
        let mut symbols = Self {
            all: Vec::new(),
            words: vec![Vec::new(); SLOTS],
            signs: [None; 128],
            pairs: Vec::new(),
        };
        for (literal, symbol) in literals.into_iter().zip(FIRST..=Symbol::MAX) {
            match literal.as_bytes() {
                [first, ..] if first.is_ascii_alphabetic() => {
                    symbols.words[slot(literal.as_bytes())].push((literal.clone(), symbol));
                }
                &[sign @ 0..128] => symbols.signs[usize::from(sign)] = Some(symbol),
                &[first, second] => symbols.pairs.push(([first, second], symbol)),
                _ => {}
            }
            symbols.all.push(literal);
        }
        symbols
    }

    /// The number of a literal of the grammar.
    pub(super) fn of(&self, literal: &str) -> Option<Symbol> {
        let at = self.all.iter().position(|known| known == literal)?;
        Some(Symbol::try_from(at).ok()? + FIRST)
    }

    /// All words that a name could be, if it were no keyword.
    pub(super) fn names(&self) -> Set {
        let mut names = Set::default();
        names.add(NAME);
        self.words.iter().flatten().for_each(|&(_, symbol)| names.add(symbol));
        names
    }

    /// The words and signs of a text, and its end; `None` if there is something that is neither.
    pub(super) fn tokens(&self, text: &str) -> Option<Vec<Token>> {
        // Offsets have 32 bits.
        u32::try_from(text.len()).ok()?;
        let octets = text.as_bytes();
        let mut tokens = Vec::with_capacity(octets.len() / 5 + 4);
        let mut at = 0;
        while let Some(&octet) = octets.get(at) {
            if matches!(octet, b' ' | b'\t' | b'\r') {
                at += 1;
                continue;
            }
            let (symbol, len) = if matches!(octet, b'"' | b'\'') {
                (QUOTED, quoted_len(&text[at..], char::from(octet))?)
            } else if is_word_octet(octet) {
                self.word(&octets[at..])?
            } else {
                self.sign(&octets[at..])?
            };
            tokens.push(Token::new(at, at + len, symbol));
            at += len;
        }
        tokens.push(Token::new(at, at, END));
        Some(tokens)
    }

    /// The word at the start, and its octets.
    fn word(&self, rest: &[u8]) -> Option<(Symbol, usize)> {
        let len = rest.iter().position(|&octet| !is_word_octet(octet)).unwrap_or(rest.len());
        let word = &rest[..len];
        let symbol = match word[0] {
            b'a'..=b'z' => {
                let known = &self.words[slot(word)];
                let known = known.iter().find(|(known, _)| known.as_bytes() == word);
                known.map_or(NAME, |&(_, symbol)| symbol)
            }
            b'0'..=b'9' if word.iter().all(u8::is_ascii_digit) => NUMBER,
            b'0'..=b'9' | b'A'..=b'Z' | b':' | b'_' => NAME,
            // What begins with a minus is one word or two, as the grammar wants it.
            b'-' if len == 1 => return self.sign(rest),
            b'-' if word[1..].iter().all(u8::is_ascii_digit) => NEGATIVE,
            _ => return None,
        };
        Some((symbol, len))
    }

    /// The sign at the start, the longer of two, and its octets.
    fn sign(&self, rest: &[u8]) -> Option<(Symbol, usize)> {
        let pair = self.pairs.iter().find(|(pair, _)| rest.starts_with(pair));
        if let Some(&(_, symbol)) = pair {
            return Some((symbol, 2));
        }
        let symbol = self.signs.get(usize::from(rest[0])).copied().flatten()?;
        Some((symbol, 1))
    }
}
