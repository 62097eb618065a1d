//! One logical statement after macro expansion, with a map back to the file.

use crate::span::Span;

/// A place in the file, and the macro whose value holds the text in question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) span: Span,
    pub(crate) macro_name: Option<String>,
    pub(crate) macro_definition: Option<Span>,
}

/// Octets that a statement gets room for when it starts.
const TYPICAL: usize = 120;

/// One logical statement after macro expansion.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statement {
    /// What the grammar reads.
    pub(crate) text: String,
    segments: Vec<Segment>,
    /// Offset of the newline that ends the statement.
    pub(crate) end: usize,
    /// Not closed: offset of the brace in the file.
    pub(crate) open_brace: Option<usize>,
    /// The file ends with it.
    pub(crate) last: bool,
    /// A mistake has been reported; the statement is not to be looked at.
    pub(crate) failed: bool,
    /// Where in the text that was.
    pub(crate) failed_at: usize,
    /// The mistake is a macro without a definition, with which pfctl loses the newline.
    pub(crate) undefined: bool,
}

/// Where a stretch of a statement's text comes from.
#[derive(Clone, Debug)]
struct Segment {
    /// Offset in the statement's text.
    at: usize,
    /// Offset in the file: of the text itself, or of the `$`.
    source: usize,
    /// For text from a macro.
    origin: Option<Origin>,
}

#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) name: String,
    pub(crate) use_end: usize,
    /// A comment sign in the value takes the rest of the line.
    pub(crate) comments: bool,
    pub(crate) definition: Option<Span>,
}

/// How a line goes on behind the use of a macro.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The value ends within a word.
    InWord,
    /// The value ends behind a word or sign.
    Apart,
    /// A comment sign in the value makes a comment of the rest of the line.
    Comment,
}

impl Statement {
    /// A statement whose text is from nowhere in the file.
    pub(crate) fn placeless(text: String, end: usize) -> Self {
        Self { text, end, ..Self::default() }
    }

    /// Where a range of the text comes from.
    pub(crate) fn locate(&self, start: usize, end: usize) -> Place {
        let first = self.one(start, start == end || start >= self.text.len());
        let last = self.text.floor_char_boundary(end.saturating_sub(1));
        if last <= start {
            return first;
        }
        let last = self.one(last, false);
        let same = first.macro_name == last.macro_name;
        Place {
            span: first.span.join(last.span),
            macro_name: first.macro_name.filter(|_| same),
            macro_definition: first.macro_definition.filter(|_| same),
        }
    }

    fn one(&self, at: usize, empty: bool) -> Place {
        let index = self.segments.partition_point(|segment| segment.at <= at);
        let Some(segment) = index.checked_sub(1).and_then(|index| self.segments.get(index)) else {
            let span = Span::new(self.end, self.end);
            return Place { span, macro_name: None, macro_definition: None };
        };
        if let Some(origin) = &segment.origin {
            return Place {
                span: Span::new(segment.source, origin.use_end),
                macro_name: Some(origin.name.clone()),
                macro_definition: origin.definition,
            };
        }
        let source = segment.source + (at - segment.at);
        let character = self.text[at..].chars().next().filter(|_| !empty);
        let end = source + character.map_or(0, char::len_utf8);
        Place { span: Span::new(source, end), macro_name: None, macro_definition: None }
    }

    pub(crate) fn push(&mut self, character: char, source: usize) {
        self.push_str(character.encode_utf8(&mut [0; 4]), source);
    }

    /// Appends text that stands in the file as it is.
    pub(crate) fn push_str(&mut self, text: &str, source: usize) {
        if self.text.capacity() == 0 {
            self.text.reserve(TYPICAL);
        }
        let at = self.text.len();
        let goes_on = self.segments.last().is_some_and(|segment| {
            segment.origin.is_none() && segment.source + (at - segment.at) == source
        });
        if !goes_on {
            self.segments.push(Segment { at, source, origin: None });
        }
        self.text.push_str(text);
    }

    pub(crate) fn push_macro(&mut self, value: &str, span: Span, origin: Origin) {
        let at = self.text.len();
        self.segments.push(Segment { at, source: span.start, origin: Some(origin) });
        self.text.push_str(value);
    }

    /// The statement without a stretch of its text; what is left comes from where it came from.
    pub(crate) fn without(&self, cut: std::ops::Range<usize>) -> Self {
        let (front, back) = (self.text.get(..cut.start), self.text.get(cut.end..));
        let shift = cut.len();
        let behind = self.segments.partition_point(|segment| segment.at <= cut.end);
        let kept = self.segments.iter().take_while(|segment| segment.at < cut.start).cloned();
        // The segment that the stretch ends in goes on behind it.
        let rest = behind.checked_sub(1).and_then(|last| self.segments.get(last)).cloned();
        let rest = rest.map(|mut segment| {
            if segment.origin.is_none() {
                segment.source += cut.end - segment.at;
            }
            segment.at = cut.end;
            segment
        });
        let moved = rest.into_iter().chain(self.segments.iter().skip(behind).cloned());
        let moved = moved.map(|segment| Segment { at: segment.at - shift, ..segment });
        Self {
            text: [front, back].map(Option::unwrap_or_default).concat(),
            segments: kept.chain(moved).collect(),
            ..*self
        }
    }

    /// What stands in front of `end`, with `rest` behind it, which is from nowhere.
    pub(crate) fn front(&self, end: usize, rest: &str) -> Self {
        let segments = self.segments.iter().filter(|segment| segment.at < end).cloned();
        let mut front = Self {
            text: self.text.get(..end).unwrap_or_default().to_owned(),
            segments: segments.collect(),
            end: self.next_token(end),
            ..Self::default()
        };
        let source = front.end;
        for character in rest.chars() {
            front.push(character, source);
        }
        front
    }

    /// The uses of macros: offsets of their `$`, and how the text goes on behind them.
    pub(crate) fn uses(&self) -> impl Iterator<Item = (usize, Use)> {
        let ends = self.segments.iter().skip(1).map(|next| next.at);
        self.segments.iter().zip(ends.chain([self.text.len()])).filter_map(|(segment, end)| {
            let origin = segment.origin.as_ref()?;
            let last = self.text[segment.at..end].chars().last();
            let behind = match last {
                _ if origin.comments => Use::Comment,
                Some(last) if is_word_char(last) => Use::InWord,
                _ => Use::Apart,
            };
            Some((segment.source, behind))
        })
    }

    /// Offset in the file of the first word or sign at or behind `at`.
    pub(crate) fn next_token(&self, at: usize) -> usize {
        let blank =
            self.text.get(at..).and_then(|rest| rest.find(|c| !matches!(c, ' ' | '\t' | '\r')));
        blank.map_or(self.end, |blank| self.locate(at + blank, at + blank + 1).span.start)
    }
}

/// Characters that a word may go on with; the grammar's `word_char`.
pub(crate) fn is_word_char(character: char) -> bool {
    u8::try_from(character).is_ok_and(is_word_octet)
}

/// The same for an octet of UTF-8.
pub(crate) fn is_word_octet(octet: u8) -> bool {
    static IS_WORD: [bool; 256] = {
        let mut table = [false; 256];
        let mut octet = 0_u8;
        while octet < 0x80 {
            table[octet as usize] = octet.is_ascii_alphanumeric();
            octet += 1;
        }
        let signs = b":.-_%@*+$&|~^?;[]`'\"\\";
        let mut at = 0;
        while at < signs.len() {
            table[signs[at] as usize] = true;
            at += 1;
        }
        table
    };
    IS_WORD[usize::from(octet)]
}

/// Octets of the quoted string at the start of `text`, both marks included.
pub(crate) fn quoted_len(text: &str, quote: char) -> Option<usize> {
    let mut before = None;
    for (at, character) in text.char_indices().skip(1) {
        // As in pfctl's lexer, two backslashes do not cancel each other.
        if character == quote && before != Some('\\') {
            return Some(at + 1);
        }
        before = Some(character);
    }
    None
}

/// The word that a statement starts with; empty for a sign.
pub(crate) fn first_word(text: &str) -> &str {
    let text = text.trim_start();
    &text[..text.find(|c| !is_word_char(c)).unwrap_or(text.len())]
}

/// Offsets of the words and signs of a statement, as pfctl counts them; newlines are signs.
pub(crate) fn tokens(text: &str) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += text[at..].find(|c| !matches!(c, ' ' | '\t' | '\r'))?;
        let rest = &text[at..];
        let first = rest.chars().next()?;
        let len = match first {
            '"' | '\'' => quoted_len(rest, first).unwrap_or(rest.len()),
            _ if is_word_char(first) => rest.find(|c| !is_word_char(c)).unwrap_or(rest.len()),
            _ if ["!=", "<=", ">=", "<>", "><"].iter().any(|sign| rest.starts_with(sign)) => 2,
            _ => first.len_utf8(),
        };
        at += len;
        Some(at - len..at)
    })
}

/// Where a number stands that is too large for pfctl's lexer.
pub(crate) fn overlong_number(text: &str) -> Option<std::ops::Range<usize>> {
    /// Digits of the largest number there is.
    const DIGITS: usize = 19;
    let mut run = 0;
    let long = text.bytes().any(|octet| {
        run = if octet.is_ascii_digit() { run + 1 } else { 0 };
        run >= DIGITS
    });
    if !long {
        return None;
    }
    tokens(text).find(|token| {
        let word = &text[token.clone()];
        let digits = word.strip_prefix('-').unwrap_or(word);
        let is_number = !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit());
        let ends = text[token.end..].chars().next();
        let ends = ends.is_none_or(|next| next.is_ascii_whitespace() || "),/}=".contains(next));
        is_number && ends && word.parse::<i64>().is_err()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_an_end() {
        let word = |text: &str| overlong_number(text).map(|found| text[found].to_owned());
        let long = "99999999999999999999";
        assert_eq!(word(&format!("pass rtable {long}")).as_deref(), Some(long));
        assert_eq!(word(&format!("a = -{long}")), Some(format!("-{long}")));
        for kept in ["9223372036854775807", "-9223372036854775808"] {
            assert_eq!(word(&format!("pass rtable {kept}, 5")), None);
        }
        for word_of in [format!("pass on {long}x"), format!("\"{long}\""), format!("<{long}>")] {
            assert_eq!(word(&word_of), None);
        }
    }

    #[test]
    fn tokens_are_words_and_signs() {
        let text = "pass <a> != \"x y\"\n{";
        let found: Vec<&str> = tokens(text).map(|token| &text[token]).collect();
        assert_eq!(found, ["pass", "<", "a", ">", "!=", "\"x y\"", "\n", "{"]);
    }
}
