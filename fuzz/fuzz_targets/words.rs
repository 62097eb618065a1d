//! Changes rulesets as their authors do, by words and signs: octets alone seldom make another
//! statement out of one. Half of the changes are the fuzzer's own.

use std::sync::LazyLock;

use libfuzzer_sys::fuzzer_mutate;

const SIGNS: [&str; 26] = [
    "{", "}", "(", ")", ",", "!", "=", "<", ">", "/", "-", "$", "\"", "'", "#", ":", "\\", "\\\\",
    "\\\n", "\n", "><", "<>", "!=", ">=", " ", "\t",
];

/// The words of the grammars that stand in quotes there.
static KEYWORDS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let grammars = [
        include_str!("../../crates/pfconf/src/pf.pest"),
        include_str!("../../crates/pfconf/src/freebsd.pest"),
    ];
    let quoted = grammars.into_iter().flat_map(|grammar| grammar.split('"').skip(1).step_by(2));
    quoted.filter(|word| word.starts_with(char::is_alphabetic)).collect()
});

/// Numbers that follow from a seed (xorshift).
struct Random(u32);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 as usize % end.max(1)
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words.get(self.below(words.len())).copied().unwrap_or_default()
    }
}

/// Words, runs of blanks, and signs: all of the text.
fn split(text: &str) -> Vec<&str> {
    let kind = |c: char| match c {
        ' ' | '\t' => 0,
        c if c.is_alphanumeric() || "_.:*%@-".contains(c) => 1,
        _ => 2,
    };
    let mut words = Vec::new();
    let mut start = 0;
    for (at, c) in text.char_indices() {
        let before = text[start..at].chars().next();
        if before.is_some_and(|before| kind(before) != kind(c) || kind(c) == 2) {
            words.push(&text[start..at]);
            start = at;
        }
    }
    words.push(&text[start..]);
    words
}

fn change<'a>(words: &mut Vec<&'a str>, random: &mut Random) {
    let at = random.below(words.len());
    let word = match random.below(3) {
        0 => random.of(&SIGNS),
        1 => random.of(&KEYWORDS),
        _ => random.of(words),
    };
    match random.below(6) {
        0 if !words.is_empty() => drop(words.remove(at)),
        1 if !words.is_empty() => words[at] = word,
        2 => words.splice(at..at, [word, " "]).for_each(drop),
        3 => {
            let other = random.below(words.len());
            if other.max(at) < words.len() {
                words.swap(at, other);
            }
        }
        4 => {
            let end = (at + 1 + random.below(8)).min(words.len());
            let again: Vec<&str> = words.get(at..end).unwrap_or_default().to_vec();
            words.splice(at..at, again).for_each(drop);
        }
        _ => words.insert(at, word),
    }
}

/// The body of a mutator of libFuzzer for inputs that are text behind `head` other octets.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32, head: usize) -> usize {
    let mut random = Random(seed | 1);
    let text = data.get(head..size).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default();
    if random.below(2) == 0 || text.is_empty() {
        return fuzzer_mutate(data, size, max_size);
    }
    let mut words = split(text);
    for _ in 0..=random.below(4) {
        change(&mut words, &mut random);
    }
    let text = words.concat();
    let length = text.floor_char_boundary(max_size.saturating_sub(head));
    data[head..head + length].copy_from_slice(&text.as_bytes()[..length]);
    head + length
}
