//! Random sentences of the grammar, whole and broken, mean the same for both parsers.

use super::text::{Ast, OCTETS};
use super::*;
use crate::parser::by_pest;
use crate::tree::Tree;

/// Whether both parsers say the same; also that this one takes what pest takes.
fn agree(entry: Rule, is_freebsd: bool, text: &str) {
    let slow = by_pest(entry, text).ok();
    let fast = parse(entry, is_freebsd, text).map(|nodes| Tree::new(text, nodes));
    let same = match (&fast, &slow) {
        (Some(fast), Some(slow)) => fast.is_like(slow),
        (None, None) => true,
        _ => false,
    };
    assert!(same, "{entry:?} {text:?}\nby words: {fast:#?}\nby pest: {slow:#?}");
}

/// Numbers that look random (Marsaglia's xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or_default() % end
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const NAMES: [&str; 10] =
    ["em0", "10.0.0.1", "10.0.0.0", "A-b", "_x", ":network", "80%", "fe80::1%em0", "www", "1:5"];
const QUOTED: [&str; 4] = ["\"\"", "\"a b\"", "'c'", "\"q\\\" {\""];
/// Deepest nesting of definitions in a sentence.
const DEPTH_MAX: usize = 30;

/// Writes sentences of the grammar.
struct Writer {
    random: Random,
    words: Vec<String>,
}

impl Writer {
    fn write(&mut self, ast: &Ast, depth: usize) {
        match ast {
            Ast::Literal(literal) => self.words.push(literal.to_string()),
            Ast::Name(name) => self.name(name, depth),
            Ast::Seq(parts) => parts.iter().for_each(|part| self.write(part, depth)),
            Ast::Choice(parts) => {
                let deep = depth > DEPTH_MAX;
                let at = if deep { parts.len() - 1 } else { self.random.below(parts.len()) };
                self.write(&parts[at], depth);
            }
            Ast::Opt(part) | Ast::Rep(part) => {
                let most = if matches!(ast, Ast::Opt(_)) { 2 } else { 3 };
                let times = if depth > DEPTH_MAX { 0 } else { self.random.below(most) };
                (0..times).for_each(|_| self.write(part, depth));
            }
            Ast::Ahead(_) | Ast::NotAhead(_) | Ast::Other => {}
        }
    }

    fn name(&mut self, name: &str, depth: usize) {
        let word = match name {
            "word" => self.random.pick(&NAMES),
            "quoted" => self.random.pick(&QUOTED),
            "number" => self.random.pick(&["0", "7", "65535", "-1"]),
            "table_number" => "12",
            name if OCTETS.contains(&name) => return,
            _ => {
                let definition = WORDS.0.0.iter().find(|definition| definition.name == name);
                if let Some(definition) = definition {
                    self.write(&definition.body, depth + 1);
                }
                return;
            }
        };
        self.words.push(word.to_owned());
    }

    /// Takes a word away, writes one twice, swaps two, or puts another in its place.
    fn mutate(&mut self) {
        let at = self.random.below(self.words.len());
        let other = self.random.below(self.words.len());
        match self.random.below(5) {
            0 => drop(self.words.remove(at)),
            1 => self.words.insert(at, self.words[other].clone()),
            2 => self.words.swap(at, other),
            3 => {
                let signs = ["{", "}", "(", ")", ",", "!", "=", "<", ">", "/", "-", "\n", "$", "é"];
                self.words[at] = self.random.pick(&signs).to_owned();
            }
            _ => {
                let literals = WORDS.0.literals();
                self.words[at] = literals[self.random.below(literals.len())].to_string();
            }
        }
    }

    /// The words with blanks between them; signs may do without.
    fn joined(&mut self) -> String {
        let is_bracket = |word: &str| matches!(word, "{" | "}" | "(" | ")" | "," | "\n");
        let mut text = self.random.pick(&["", " "]).to_owned();
        for word in &self.words {
            text.push_str(word);
            let blank = self.random.pick(&[" ", " ", "\t", "  \r"]);
            text.push_str(if is_bracket(word) { self.random.pick(&["", blank]) } else { blank });
        }
        if self.random.below(2) == 0 {
            text.truncate(text.trim_end_matches([' ', '\t', '\r']).len());
        }
        text
    }
}

/// Entries of the grammar for whole statements, whether FreeBSD has them, and what they say.
fn entries() -> Vec<(Rule, bool, &'static Ast)> {
    let name_of = |rule: &Rule| format!("{rule:?}");
    let found = WORDS.0.0.iter().filter_map(|definition| {
        let Ast::Seq(parts) = &definition.body else { return None };
        let is_entry =
            [parts.first(), parts.last()] == [Some(&Ast::Name("SOI")), Some(&Ast::Name("EOI"))];
        let is_freebsd = parts.get(1) == Some(&Ast::Name("freebsd"));
        let rule = Rule::all_rules().iter().find(|rule| name_of(rule) == definition.name)?;
        is_entry.then_some((*rule, is_freebsd, &definition.body))
    });
    found.collect()
}

#[test]
fn random_sentences_are_the_same_for_both_parsers() {
    let mut taken = 0;
    for (number, (entry, is_freebsd, body)) in entries().into_iter().enumerate() {
        let times = if matches!(entry, Rule::filter | Rule::freebsd_filter) { 600 } else { 60 };
        for seed in 1..=times {
            let random = Random(seed * 1_000_003 + number as u64);
            let mut writer = Writer { random, words: Vec::new() };
            writer.write(body, 0);
            let text = writer.joined();
            agree(entry, is_freebsd, &text);
            taken += usize::from(parse(entry, is_freebsd, &text).is_some());
            for _ in 0..2 {
                writer.mutate();
                agree(entry, is_freebsd, &writer.joined());
                if writer.words.is_empty() {
                    break;
                }
            }
        }
    }
    assert!(taken > 1_500, "only {taken} of the sentences were right");
}

#[test]
fn all_of_the_grammar_is_understood() {
    let literals = WORDS.0.literals();
    for literal in &literals {
        assert!(WORDS.1.of(literal).is_some(), "{literal:?} has no number");
    }
    // A definition that was not read to its end would hide those behind it.
    for rule in Rule::all_rules() {
        let name = format!("{rule:?}");
        let is_known = WORDS.0.0.iter().any(|definition| definition.name == name);
        assert!(is_known || *rule == Rule::EOI, "{name} is not defined");
    }
    let only_marks = |ast: &Ast| matches!(ast, Ast::Other);
    let others: Vec<&str> =
        WORDS.0.0.iter().filter(|d| only_marks(&d.body)).map(|d| d.name).collect();
    assert_eq!(others, ["freebsd", "is_freebsd"]);
}

#[test]
fn what_is_written_oddly_is_left_to_pest() {
    for (text, is_left) in [
        ("pass from 10.0.0.1 - 10.0.0.2", false),
        ("pass from 10.0.0.1 -10.0.0.2", true),
        ("pass from { <a> <b> }", false),
        ("pass from { <a><b> }", true),
        ("pass from <12>", false),
        ("pass label x.y", false),
    ] {
        assert_eq!(parse(Rule::filter, false, text).is_none(), is_left, "{text}");
        assert!(by_pest(Rule::filter, text).is_ok(), "{text}");
    }
}
