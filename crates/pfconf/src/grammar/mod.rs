//! Parses statements by the grammar's own text, word by word.
//!
//! The parser that pest makes of `pf.pest` tries each alternative octet by octet, and each of a
//! hundred keywords for each name. Here the same files are read at run time (`text`), once for each
//! dialect, into expressions over *words* (`compile`): a keyword or a sign is a number, and of each
//! expression is known which words it can start with. A statement is cut into words (`symbols`), and
//! what cannot start with the word at hand is not tried (`matching`).
//!
//! The meaning is that of pest, blanks between words included, and debug builds parse every
//! statement both ways. What is written so oddly that its words depend on what is expected (`a -b`),
//! and every mistake, is left to pest, which knows what was expected.

mod compile;
mod matching;
mod symbols;
mod text;

use std::sync::LazyLock;

use crate::parser::Rule;
use crate::tree::Node;
use compile::Compiled;
use symbols::{Symbols, Token};
use text::Definitions;

const TEXTS: [&str; 5] = [
    include_str!("../pf.pest"),
    include_str!("../freebsd.pest"),
    include_str!("../altq.pest"),
    include_str!("../ether.pest"),
    include_str!("../limiters.pest"),
];

/// What both dialects share.
static WORDS: LazyLock<(Definitions, Symbols)> = LazyLock::new(|| {
    let definitions = Definitions::read(&TEXTS);
    let symbols = Symbols::new(definitions.literals());
    (definitions, symbols)
});
static OPENBSD: LazyLock<Compiled> = LazyLock::new(|| compile(false));
static FREEBSD: LazyLock<Compiled> = LazyLock::new(|| compile(true));

fn compile(is_freebsd: bool) -> Compiled {
    Compiled::new(&WORDS.0, &WORDS.1, is_freebsd)
}

/// The nodes of a statement, in the order of the text; `None` if pest has to look at it.
pub(crate) fn parse(entry: Rule, is_freebsd: bool, text: &str) -> Option<Vec<Node>> {
    let tokens: Vec<Token> = WORDS.1.tokens(text)?;
    let grammar = if is_freebsd { &*FREEBSD } else { &*OPENBSD };
    matching::nodes(grammar, entry, &tokens)
}

#[cfg(test)]
mod tests;
